//! Why a node does not start, ended, or did not answer.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::catalog::{CatalogError, ReleaseId};
use crate::control::ControlError;
use crate::directory::DirectoryError;
use crate::handover::ProgramError;
use crate::journal::JournalError;
use crate::upgrade::UpgradeError;

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The catalog cannot be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The release has a node program of its own, which cannot be run.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The control socket cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A new node, and no release for it.
    #[error("the node has no release yet; start it with one, such as `--release kv-1.0.0`")]
    NoRelease,
    /// The release is not where it should be.
    #[error(
        "release {release} is not in {}; build it (`neurath release build`), or name the folder with built releases that has \
         it by `--from`", place.display()
    )]
    Missing {
        /// Which.
        release: ReleaseId,
        /// Where it was looked for.
        place: PathBuf,
    },
    /// It could not be brought to an older release.
    #[error("it cannot be rebooted into {release}: {text}")]
    Reboot {
        /// Which.
        release: ReleaseId,
        /// Why not.
        text: String,
    },
    /// A component or its state cannot be brought up.
    #[error(transparent)]
    Component(Box<UpgradeError>),
    /// What the node before in this process has handed over cannot be gone on with.
    #[error("what was handed over cannot be used: {0}")]
    HandOver(String),
    /// States of durability `process` that were open when the machine went down.
    #[error("{}", power_lost(components, files, directory))]
    PowerLost {
        /// Whose, all of them.
        components: Vec<String>,
        /// Their files.
        files: Vec<PathBuf>,
        /// The node's directory.
        directory: PathBuf,
    },
    /// A state that does not open any more.
    #[error(
        "the state of {component} is lost: {text}; put a snapshot in its place (neurath state restore \
         SNAPSHOT {} --execute), or begin with an empty one, which keeps what is there beside it (neurath node start \
         --dir {} --reset-state {component})", file.display(), directory.display()
    )]
    Damaged {
        /// Whose.
        component: String,
        /// What is wrong with it.
        text: String,
        /// Its file.
        file: PathBuf,
        /// The node's directory.
        directory: PathBuf,
    },
    /// Too many starts that were to leave a release have crashed.
    #[error(transparent)]
    Crashes(Box<Crashes>),
    /// A component was named whose state is to be accepted or reset, and that has none.
    #[error(
        "{component} has no state here that could be accepted or reset; there is the state of: {known}"
    )]
    NoState {
        /// Which.
        component: String,
        /// Those that have one.
        known: String,
    },
    /// There is no event loop to be had.
    #[error("the event loop cannot be made: {0}")]
    EventLoop(std::io::Error),
}

impl StartError {
    /// What is wrong, without a line of what a manifest says: for logs and the journal.
    pub(super) fn brief(&self) -> String {
        match self {
            Self::Component(error) => error.brief(),
            other => other.to_string(),
        }
    }
}

/// Starts that were to leave a release, and of which none came up.
#[derive(Debug, thiserror::Error)]
#[error(
    "{release} was not confirmed, and {starts} starts of the node that were to go back to {before} have crashed, or were \
     killed: nothing is tried again by itself, and nothing is lost. To try once more: neurath node start --dir {} \
     --try-again. To go back without the writes made since, by the state that {before} had: neurath relup rollback \
     --lose-writes --execute --dir {}, then start the node", directory.display(), directory.display()
)]
pub struct Crashes {
    /// The release that is to be left.
    pub release: ReleaseId,
    /// The release before.
    pub before: ReleaseId,
    /// How many starts.
    pub starts: u32,
    /// The node's directory.
    pub directory: PathBuf,
}

/// Says what was lost, and each command that leads on.
fn power_lost(components: &[String], files: &[PathBuf], directory: &Path) -> String {
    let dir = directory.display();
    let flags = |flag: &str| -> String {
        let flags = components.iter().map(|name| format!(" {flag} {name}"));
        flags.collect()
    };
    let files: Vec<String> = files
        .iter()
        .map(|file| file.display().to_string())
        .collect();
    format!(
        "the state of {} was open with durability `process` when the machine went down: its last changes may be there \
         in any mixture. To serve it if a check of all levels finds no error: neurath node start --dir {dir}{}. To put a \
         snapshot in its place: neurath state restore SNAPSHOT {} --execute. To begin with an empty state, which keeps \
         what is there beside it: neurath node start --dir {dir}{}",
        components.join(", "),
        flags("--accept-power-loss"),
        files.join(" or "),
        flags("--reset-state"),
    )
}

impl From<UpgradeError> for StartError {
    fn from(error: UpgradeError) -> Self {
        StartError::Component(Box::new(error))
    }
}

/// Why a node ended.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The supervisor gave up, as in OTP.
    #[error("the node gave up: {0}")]
    GaveUp(String),
    /// It could not be stopped in order; its state is as after a kill.
    #[error("the node did not stop in order: {0}")]
    Stop(String),
}

/// Why a request to a component was not answered.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CallError {
    /// The component refused it, or failed.
    #[error("{0}")]
    Refused(String),
    /// No answer came in time.
    #[error("no answer came within {0:?}, the `timeout` of this call")]
    TimedOut(Duration),
    /// Too many messages wait: the component serves none of them, or not fast enough.
    #[error(
        "the mailbox of {component} is full: {limit} messages wait; ask again later, or raise `mailbox` in its \
         manifest"
    )]
    Full {
        /// The component.
        component: String,
        /// So many may wait.
        limit: usize,
    },
    /// The node has ended.
    #[error("the node has ended")]
    Ended,
}
