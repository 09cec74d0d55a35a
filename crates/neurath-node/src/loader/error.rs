use std::{io, path::PathBuf};

use neurath_abi::ABI_VERSION;
use thiserror::Error;

use super::elf::ElfError;

/// Why a library was not loaded. Each says what to do next.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is not there, or cannot be read.
    #[error("{path}: {source}. Build the release again, or check the permissions", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is not absolute, and so could mean another file to the system's loader.
    #[error("{path} is not an absolute path: pass one", path = .0.display())]
    Relative(PathBuf),
    /// The file is not a library for this node.
    #[error(
        "{path} cannot be loaded: {source}. Build the component as a `cdylib` for \
         x86_64-unknown-linux-gnu",
        path = path.display()
    )]
    Elf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// A library, but not a component.
    #[error(
        "{path} exports no symbol NEURATH_COMPONENT: invoke `neurath::component!` once in the \
         crate, and build it as a `cdylib`",
        path = .0.display()
    )]
    MissingSymbol(PathBuf),
    /// It would give the code that is loaded already.
    #[error("{path} is open already: place the library under a new name", path = .0.display())]
    AlreadyOpen(PathBuf),
    /// Every place for a library is taken.
    #[error(
        "{0} libraries are loaded, and this node has room for no more: restart it, and see \
         `neurath status` for why the old ones stay"
    )]
    TooMany(usize),
    /// The system's loader refused.
    #[error(
        "{path} was refused by the system's loader: {text}. Check with `ldd -r` that every \
         library and symbol it needs is there",
        path = path.display()
    )]
    System {
        /// The file.
        path: PathBuf,
        /// The loader's own words.
        text: String,
    },
    /// It was built with another version of the boundary.
    #[error(
        "{path} speaks version {found} of the component ABI, and this node version {expected}: \
         rebuild the component with the SDK of this node",
        path = path.display(),
        expected = ABI_VERSION
    )]
    Abi {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: u32,
    },
    /// A panic in it would end the node.
    #[error(
        "{path} was built with panic=abort, so that a panic in it would end the node: remove \
         `panic = \"abort\"` from the profile it is built with",
        path = .0.display()
    )]
    PanicAbort(PathBuf),
    /// The descriptor is not what the SDK writes.
    #[error(
        "{path} describes itself wrongly: {field} {problem}. Rebuild it with the SDK, and do not \
         write NEURATH_COMPONENT by hand",
        path = path.display()
    )]
    Descriptor {
        /// The file.
        path: PathBuf,
        /// Which part.
        field: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Its imports could not be redirected, so that it would leak thread keys.
    #[error("{path}: the thread keys it makes cannot be watched: {source}", path = path.display())]
    ThreadKeys {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
