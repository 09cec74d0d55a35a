//! Packages: a built release as one compressed file, with a signed statement of what is in it.
//! `docs/package-format.md` describes the file.
//!
//! A package is hostile until its last byte is checked. Nothing in it chooses where it is written:
//! the reader knows before each entry which one must follow, from the manifest whose hash the
//! statement has, and stops at the first difference.

mod read;
mod statement;
#[cfg(test)]
mod tests;
mod write;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::release::ReleaseError;
use crate::trust::TrustError;

pub use read::{Unpacked, unpack, unpack_if};
pub use statement::{Seal, Statement};
pub use write::{SignError, pack};

/// The ending of a package's file name.
pub const EXTENSION: &str = "neurath.tar.gz";
/// The format of packages that this code writes and reads.
pub const FORMAT: u32 = 1;
/// The largest release that is packed or unpacked, in bytes.
pub const MAX_BYTES: u64 = 8 << 30;
/// The statement's entry in a package.
pub const STATEMENT: &str = "PACKAGE.json";
/// The entry with the statement's signature.
pub const SIGNATURE: &str = "PACKAGE.json.minisig";
/// The largest statement, and the largest signature, in bytes.
const MAX_STATEMENT: u64 = 64 << 10;

/// Why a file is no package that can be used. Nothing of it stays.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum PackageError {
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no package at all.
    #[error("{path} is no package: {problem}; make one by `neurath release pack`", path = path.display())]
    NotAPackage {
        /// The file.
        path: PathBuf,
        /// How that is seen.
        problem: String,
    },
    /// The file ends before the package does.
    #[error("{path} is cut off{}: copy it again as a whole", at(entry), path = path.display())]
    Cut {
        /// The file.
        path: PathBuf,
        /// The entry that it ends in, or before.
        entry: Option<String>,
    },
    /// The bytes cannot be decompressed, or are no archive.
    #[error("{path} is damaged{}: {problem}; copy it again as a whole", at(entry), path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The entry.
        entry: Option<String>,
        /// What is wrong.
        problem: String,
    },
    /// It was packed in a format of another time.
    #[error(
        "{path} is a package in format {found}, and this version of Neurath reads format {FORMAT}: \
         use the `neurath` command that it was packed with",
        path = path.display()
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The statement cannot be believed.
    #[error("{path}: {STATEMENT}: {problem}; do not use this package", path = path.display())]
    Statement {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// An entry that would be written outside of the release's folder.
    #[error("{path}: the entry {entry:?} leads out of the release; do not use this package", path = path.display())]
    Escapes {
        /// The file.
        path: PathBuf,
        /// The entry's path.
        entry: String,
    },
    /// An entry that is no regular file.
    #[error("{path}: the entry {entry:?} is a {kind}, and a package has regular files alone; do not use it", path = path.display())]
    Kind {
        /// The file.
        path: PathBuf,
        /// The entry's path.
        entry: String,
        /// What it is.
        kind: &'static str,
    },
    /// An entry twice.
    #[error("{path}: the entry {entry:?} is there twice; do not use this package", path = path.display())]
    Duplicate {
        /// The file.
        path: PathBuf,
        /// The entry's path.
        entry: String,
    },
    /// Another entry than the manifest names at this place.
    #[error("{path}: {entry:?} where {expected} belongs; do not use this package", path = path.display())]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The entry's path.
        entry: String,
        /// What should be there.
        expected: String,
    },
    /// More than is allowed or was declared.
    #[error("{path}: {what} is larger than {limit} bytes; do not use this package", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// What is too large.
        what: String,
        /// Its limit, in bytes.
        limit: u64,
    },
    /// An entry of another size than declared.
    #[error("{path}: {entry} has {found} bytes, not {expected} as declared; do not use this package", path = path.display())]
    Size {
        /// The file.
        path: PathBuf,
        /// The entry's path.
        entry: String,
        /// What its head says, in bytes.
        found: u64,
        /// What was declared, in bytes.
        expected: u64,
    },
    /// An entry with other contents than declared.
    #[error("{path}: {entry} has the hash {found}, not {expected} as declared; do not use this package", path = path.display())]
    Hash {
        /// The file.
        path: PathBuf,
        /// The entry's path.
        entry: String,
        /// The hash of what is there.
        found: String,
        /// What was declared.
        expected: String,
    },
    /// Bytes after the end.
    #[error("{path}: something follows after the end of the package; copy it again as it was made", path = path.display())]
    Trailing {
        /// The file.
        path: PathBuf,
    },
    /// A signature, a sequence number or an epoch is refused.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// What is in it is no release that can be used.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

fn at(entry: &Option<String>) -> String {
    entry
        .as_ref()
        .map(|entry| format!(" in {entry}"))
        .unwrap_or_default()
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> PackageError {
    let path = path.to_owned();
    move |source| PackageError::Io { path, source }
}
