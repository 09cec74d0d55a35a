//! Steps across nodes (`sync_nodes`): all nodes go on from a meeting point, or none does.
//!
//! The node whose name comes first decides. It says yes when all others are there, and no at its deadline, when one
//! of them leaves, or when it is given up; whatever it says, it says to all. A yes is on its disk before anyone hears
//! of it. A node that has said to wait there has given its vote: it does not leave by itself before it has heard the
//! decision, from whoever knows it. Until then it serves in its old release, and nothing of it stands still.
//!
//! This is two-phase commit with one coordinator (Gray 1978), where those who took part tell each other the outcome.
//! It decides on the meeting alone: a node that dies after it comes back in its old release, as from anywhere before the
//! commit point. Carried out again, its script joins those who went on. `docs/several-nodes.md` has the rules.

mod attend;
mod neighbours;
mod record;
mod table;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

pub(crate) use attend::{Arrived, meet};
pub use neighbours::{FILE_NAME as NEIGHBOURS, NeighboursError};
pub use record::RecordError;
pub(crate) use record::{FILE_NAME as RECORD, PART_NAME as RECORD_PART};

use crate::catalog::ReleaseId;
use neighbours::Neighbours;
use table::Table;

/// Where a node goes by the script that has brought it to a meeting point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trip {
    /// The release that it runs.
    pub from: ReleaseId,
    /// The release that it goes to.
    pub to: ReleaseId,
}

/// What a node at a meeting point says to another one, again and again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Visit {
    /// The name of the node that is meant.
    pub host: String,
    /// The name of the node that asks.
    pub guest: String,
    /// The name of the meeting point.
    pub point: String,
    /// The names of all nodes that meet there, in order.
    pub nodes: Vec<String>,
    /// Where the guest goes.
    pub trip: Trip,
    /// The meeting that the guest waits in: with it, this is a vote.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meeting: Option<String>,
    /// The guest's time is over: if nothing is decided yet, it is no.
    #[serde(default)]
    pub leaves: bool,
}

/// What is answered to a [`Visit`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// Nothing is decided that this node knows of.
    Wait {
        /// The meeting that can be waited in, once the node that decides is there itself.
        meeting: Option<String>,
    },
    /// They go on.
    Go(Went),
    /// They do not.
    No {
        /// Why.
        why: String,
    },
}

/// A meeting whose nodes went on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Went {
    /// Its own name, which no other meeting has.
    pub meeting: String,
    /// The name of the meeting point.
    pub point: String,
    /// Where each node went.
    pub trips: BTreeMap<String, Trip>,
}

/// Why a node does not go on from a meeting point. None of the others does either, unless it says so.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeetingError {
    /// It cannot be told who is meant.
    #[error(transparent)]
    Neighbours(#[from] NeighboursError),
    /// Its own record of an earlier meeting.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The meeting could not be named.
    #[error("the system gives no random numbers: {0}")]
    Name(std::io::Error),
    /// The node that decides did not come.
    #[error("sync_nodes {point}: {host}, which decides, was not there within {deadline}: {last}")]
    NoHost {
        /// The meeting point.
        point: String,
        /// The node that decides.
        host: String,
        /// How long this node waited.
        deadline: String,
        /// How it was the last time.
        last: String,
    },
    /// Others did not come.
    #[error("sync_nodes {point}: {why}")]
    No {
        /// The meeting point.
        point: String,
        /// Why not.
        why: String,
    },
    /// This node was told to give it up, and the one that decides could not be told.
    #[error(
        "sync_nodes {point}: given up here, as was asked for, without {host}, which decides: {last}"
    )]
    GivenUp {
        /// The meeting point.
        point: String,
        /// The node that decides.
        host: String,
        /// How it was the last time.
        last: String,
    },
    /// This node was told to give it up, and the others went on.
    #[error("sync_nodes {point}: given up here, as was asked for; the others go on: {others}")]
    Deserted {
        /// The meeting point.
        point: String,
        /// Their names.
        others: String,
    },
}

/// The meetings of a node.
#[derive(Debug, Clone)]
pub(crate) struct Meetings {
    directory: PathBuf,
    table: Arc<Mutex<Table>>,
}

impl Meetings {
    /// Those of the node in a directory. A record that cannot be read is kept, and nothing is denied that may be in it.
    pub(crate) fn of(directory: PathBuf) -> Meetings {
        let table = match record::read(&directory) {
            Ok(went) => Table::new(went),
            Err(error) => {
                tracing::error!(%error, "what was decided with other nodes is not known");
                Table::forgetful()
            }
        };
        Meetings {
            directory,
            table: Arc::new(Mutex::new(table)),
        }
    }

    /// Answers another node. `current` is the release that this one runs.
    ///
    /// # Errors
    ///
    /// This node does not know its own name.
    pub(crate) fn hear(
        &self,
        visit: &Visit,
        current: Option<&ReleaseId>,
    ) -> Result<Heard, NeighboursError> {
        let name = Neighbours::read(&self.directory)?.name;
        Ok(self
            .table()
            .hear(&name, current, visit, std::time::Instant::now()))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
