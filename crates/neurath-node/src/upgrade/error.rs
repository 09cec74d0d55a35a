//! Why an upgrade was not carried out.

use std::time::Duration;

use neurath_pmem::migrate::{MigrateError, PlanError, StepwiseError};
use neurath_pmem::region::OpenError;

use super::outside::OutsideError;
use crate::catalog::{CatalogError, ReleaseId};
use crate::command::CommandError;
use crate::directory::DirectoryError;
use crate::journal::JournalError;
use crate::libraries::PlaceError;
use crate::loader::LoadError;
use crate::meeting::MeetingError;
use crate::release::ReleaseError;
use crate::release_handler::HandlerError;
use crate::shard::TakeError;
use crate::worker::WorkError;

/// Why an upgrade was not carried out. Unless said otherwise, the old release serves on.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// The library of the new version does not load.
    #[error("{component} {version} does not load: {source}")]
    Load {
        /// Which component.
        component: String,
        /// Which version of it.
        version: String,
        /// Why not.
        source: LoadError,
    },
    /// The library is not the one that the manifest names.
    #[error(
        "the library of {component} {version} says that it is {found}; build the release again"
    )]
    Identity {
        /// Which component.
        component: String,
        /// Which version of it.
        version: String,
        /// What it says.
        found: String,
    },
    /// The package is damaged, or lacks a file.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The release may not be loaded.
    #[error(transparent)]
    Handler(Box<HandlerError>),
    /// The configuration does not fit the component's schema.
    #[error(
        "the configuration of {component} {version} in {release}: {problems}; see `config_schema` in the \
         component's manifest"
    )]
    Configuration {
        /// Which component.
        component: String,
        /// Which version of it.
        version: String,
        /// The release that sets it.
        release: ReleaseId,
        /// What does not fit, by keys.
        problems: String,
    },
    /// The node's program could not be replaced.
    #[error("the node could not be restarted: {0}")]
    Restart(String),
    /// The nodes that were to meet do not go on.
    #[error(transparent)]
    Meeting(#[from] MeetingError),
    /// Somebody asked for it to be given up.
    #[error("it was given up before its point of no return, as was asked for")]
    Aborted,
    /// The library could not be put in its place.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The state cannot get to the new version's schema.
    #[error("{component} {version} cannot take the state over: {source}")]
    Uncovered {
        /// Which component.
        component: String,
        /// Which version of it.
        version: String,
        /// Why not.
        source: PlanError,
    },
    /// The state cannot be converted segment by segment.
    #[error("the state of {component} cannot be converted segment by segment: {source}")]
    Stepwise {
        /// Which component.
        component: String,
        /// Why not.
        source: StepwiseError,
    },
    /// The schema of a library or a region cannot be read.
    #[error("the schema of {component} cannot be read: {text}")]
    Schema {
        /// Which component.
        component: String,
        /// What is wrong.
        text: String,
    },
    /// The conversion failed.
    #[error("code_change of {component} to {version}: {source}")]
    Convert {
        /// Which component.
        component: String,
        /// Which version of it.
        version: String,
        /// Why not.
        source: MigrateError,
    },
    /// The conversion did not come back.
    #[error(
        "code_change of {component} to {version}: {source}; raise `timeout` in the appup, or make the conversion \
         faster"
    )]
    Overdue {
        /// Which component.
        component: String,
        /// Which version of it.
        version: String,
        /// Why not.
        source: WorkError,
    },
    /// A function that gives or takes state failed.
    #[error("move_state {name}: {end}: {text}")]
    Move {
        /// The name of the move.
        name: String,
        /// Which function of which component.
        end: String,
        /// What is wrong.
        text: String,
    },
    /// A function of a component failed.
    #[error(transparent)]
    Call(#[from] CallFailed),
    /// The event loop could not be suspended.
    #[error("suspend: {0}")]
    Suspend(String),
    /// The pause would have become too long.
    #[error(
        "the upgrade had not ended {0:?} after the suspension, which is its limit; raise \
         `timeout` in the appup, or make the conversion faster"
    )]
    Budget(Duration),
    /// A region could not be opened.
    #[error(transparent)]
    Region(#[from] OpenError),
    /// A command of the script failed.
    #[error("apply: {0}")]
    Command(#[from] CommandError),
    /// What the script asks for is not possible.
    #[error("the script cannot be carried out: {0}")]
    Script(String),
    /// The catalog could not be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A name or the directory is not as it must be.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A step failed that comes after the switch: the new release serves already.
    #[error("{0}; the new release serves already")]
    Later(Box<UpgradeError>),
    /// The old release could not go on either.
    #[error("{cause}; and the old release could not go on: {text}; restart the node")]
    Lost {
        /// What went wrong first.
        cause: Box<UpgradeError>,
        /// What is wrong.
        text: String,
    },
}

/// A component's own function failed.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct CallFailed(OutsideError);

impl From<OutsideError> for UpgradeError {
    fn from(error: OutsideError) -> Self {
        UpgradeError::Call(CallFailed(error))
    }
}

impl UpgradeError {
    /// What is wrong, without a line of what a manifest says: for logs.
    pub(crate) fn brief(&self) -> String {
        match self {
            UpgradeError::Handler(error) => error.brief(),
            other => other.to_string(),
        }
    }
}

impl From<HandlerError> for UpgradeError {
    fn from(error: HandlerError) -> Self {
        UpgradeError::Handler(Box::new(error))
    }
}

impl From<TakeError> for UpgradeError {
    fn from(error: TakeError) -> Self {
        UpgradeError::Suspend(error.to_string())
    }
}
