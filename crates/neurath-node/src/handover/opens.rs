//! Whether the next program would find what it has to open. Looked at before anything stops: once the old program has
//! left, what does not open has nobody left to serve it, as the old program and the keeper open the same files.

use crate::catalog::{Catalog, CatalogError, ReleaseId};
use crate::journal::{self, JournalError};
use crate::node::Core;
use crate::protocol::code;
use crate::release_handler::{HandlerError, open_for_use};

/// What another program could not open. Nothing was stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpensError {
    /// The catalog.
    #[error("{0}; nothing was stopped, and the node serves on")]
    Catalog(#[from] CatalogError),
    /// The journal.
    #[error("{0}; nothing was stopped, and the node serves on")]
    Journal(#[from] JournalError),
    /// A release: its files, or the keys that it is trusted by.
    #[error("the next program could not start: {0}; nothing was stopped, and the node serves on")]
    Release(#[from] HandlerError),
}

impl OpensError {
    /// The exit code of the command line, see [`code`].
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Release(error) => error.code(),
            Self::Journal(error) if error.is_edited() => code::HISTORY,
            Self::Catalog(_) | Self::Journal(_) => code::OPERATOR,
        }
    }

    /// What is wrong, without a line of what a manifest says.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Release(error) => error.brief(),
            other => other.to_string(),
        }
    }
}

/// Opens catalog, journal and these releases as the start of a program does, and changes nothing: each release as
/// [`open_for_use`] does, and every library and program of it against its hash.
pub(crate) fn check(core: &Core, releases: &[ReleaseId]) -> Result<(), OpensError> {
    let catalog = Catalog::open(core.directory.path())?;
    let mark = catalog.state().journal.as_ref();
    journal::read_marked(core.directory.journal(), mark)?;
    for release in releases {
        check_release(core, catalog.state(), release)?;
    }
    Ok(())
}

fn check_release(
    core: &Core,
    state: &crate::catalog::State,
    release: &ReleaseId,
) -> Result<(), HandlerError> {
    let package = open_for_use(&core.directory, state, release)?;
    for component in package.components().keys() {
        package.library_bytes(component)?;
    }
    package.program_bytes()?;
    Ok(())
}
