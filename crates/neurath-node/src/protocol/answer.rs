//! What a node answers: the steps on the way, and what a request gave.

use serde::{Deserialize, Serialize};

use super::status::{Retained, Status, Trust};
#[cfg(doc)]
use super::{Request, code};
use crate::catalog::ReleaseId;
use crate::meeting::Heard;
use crate::release_handler::ReleaseInfo;

/// One step of a running request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Progress {
    /// The step that ended.
    pub step: String,
    /// Its place, from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
    /// How long it took.
    pub micros: u64,
}

/// The end of a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Response {
    /// It was carried out.
    Done(Box<Outcome>),
    /// It was not.
    Failed(Failure),
}

impl Response {
    /// A request carried out.
    pub fn done(outcome: Outcome) -> Self {
        Self::Done(Box::new(outcome))
    }

    /// A request that failed with one of the codes of [`code`].
    pub fn failed(code: u8, message: impl Into<String>) -> Self {
        Self::Failed(Failure {
            code,
            message: message.into(),
            step: None,
        })
    }
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The exit code for the command line, see [`code`].
    pub code: u8,
    /// What is wrong, where, and what to do next.
    pub message: String,
    /// The step at which it failed.
    pub step: Option<String>,
}

/// What a request gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// Of [`Request::Status`].
    Status(Box<Status>),
    /// Of [`Request::Plan`], and of [`Request::Apply`] without `execute`.
    Planned(Planned),
    /// Of [`Request::Apply`], and of [`Request::Rollback`].
    Upgraded(Upgraded),
    /// Of [`Request::Confirm`].
    Confirmed {
        /// The release that is permanent now.
        release: ReleaseId,
        /// Libraries that were kept for the way back, and are unloaded now.
        unloaded: Vec<String>,
        /// Those that are not, and why.
        retained: Vec<Retained>,
        /// Instances, as `COMPONENT.INSTANCE`, that the release does not have any more, and whose state is
        /// deleted now; with ` before its reset` behind it one whose state was thrown away without a snapshot.
        #[serde(default)]
        deleted: Vec<String>,
    },
    /// Of [`Request::Snapshot`].
    Snapshot(SnapshotMade),
    /// Of [`Request::Stop`]: the node ends after this answer.
    Stopping,
    /// Of [`Request::Restart`]: told by the program that took over.
    Restarted {
        /// How long clients waited, in microseconds.
        stop_us: u64,
    },
    /// Of [`Request::Abort`], where an upgrade was given up before its commit point.
    Aborted {
        /// The release that serves.
        release: ReleaseId,
    },
    /// Of [`Request::Rollback`] to a node that does not run.
    RolledBack {
        /// The release that the next start runs.
        release: ReleaseId,
    },
    /// Of [`Request::Releases`].
    Releases {
        /// The releases.
        releases: Vec<ReleaseInfo>,
        /// The keys.
        trust: Trust,
    },
    /// Of [`Request::Check`].
    Checked {
        /// The release.
        release: ReleaseInfo,
        /// How it would be gone to; nothing for the current release.
        planned: Option<Planned>,
    },
    /// Of [`Request::Unpack`], [`Request::Install`] and [`Request::SetUnpacked`].
    Unpacked(ReleaseInfo),
    /// Of [`Request::Remove`].
    Removed {
        /// The release.
        release: ReleaseId,
        /// Whether it was there.
        was_there: bool,
    },
    /// Of [`Request::RemoveSnapshot`].
    SnapshotRemoved {
        /// Its name.
        name: String,
        /// Bytes of its file.
        bytes: u64,
    },
    /// Of [`Request::Trust`] and [`Request::Distrust`].
    Trusted {
        /// The names of the keys that are trusted now.
        keys: Vec<String>,
    },
    /// Of [`Request::Metrics`].
    Metrics {
        /// The text.
        text: String,
    },
    /// Of [`Request::Copy`].
    Copied(Copied),
    /// Of [`Request::Meet`].
    Met(Heard),
}

/// A copy of a whole node that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Copied {
    /// The release that serves there.
    pub release: Option<ReleaseId>,
    /// The copy's directory.
    pub out: String,
    /// Bytes of all regions.
    pub bytes: u64,
    /// Whose state is in it.
    pub instances: Vec<CopiedInstance>,
    /// How long the event loop was held at most, in microseconds.
    pub stop_us: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// An instance in a [`Copied`] node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct CopiedInstance {
    /// The component.
    pub component: String,
    /// The number of the instance.
    pub instance: u32,
    /// The version that serves it.
    pub version: String,
    /// Bytes of its region.
    pub bytes: u64,
    /// The last transaction in it.
    pub sequence: u64,
}

/// A copy of an instance's state that was made, checked, and made durable.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct SnapshotMade {
    /// The component and the instance.
    pub owner: String,
    /// The copy's file.
    pub out: String,
    /// Its bytes.
    pub bytes: u64,
    /// The last transaction in it.
    pub sequence: u64,
    /// Objects in it that nothing refers to.
    pub leaked: u64,
    /// How long it took, in microseconds.
    pub micros: u64,
}

/// A plan, as a node would carry it out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Planned {
    /// Its identity, to be given to [`Request::Apply`].
    pub plan_id: String,
    /// The release that it leaves.
    pub from: ReleaseId,
    /// The release that it leads to.
    pub to: ReleaseId,
    /// Its steps, in order, in words.
    pub steps: Vec<String>,
    /// The plan itself.
    pub plan: serde_json::Value,
    /// The components whose state it throws away: whoever applies it must name them.
    #[serde(default)]
    pub reset: Vec<String>,
}

/// A state that an upgrade or a way back has thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ThrownAway {
    /// The component.
    pub component: String,
    /// The number of the instance.
    pub instance: u32,
    /// Transactions that it held: since it was made.
    pub transactions: Option<u64>,
    /// Whether an upgrade had made it in the place of one that it had thrown away.
    pub since_reset: bool,
    /// The snapshot that is kept of it.
    pub snapshot: Option<String>,
    /// The file of the state from before the upgrade, if that has come back.
    pub restored: Option<String>,
}

impl std::fmt::Display for ThrownAway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            component,
            instance,
            ..
        } = self;
        write!(f, "thrown away: the state of {component}.{instance}")?;
        if let Some(transactions) = self.transactions {
            let since = if self.since_reset {
                " since the reset"
            } else {
                ""
            };
            write!(f, ", {transactions} transactions{since}")?;
        }
        match &self.snapshot {
            Some(snapshot) => write!(f, ", kept as the snapshot {snapshot}")?,
            None => f.write_str(", and no snapshot is kept")?,
        }
        match &self.restored {
            Some(_) => f.write_str("; its state from before the upgrade is back"),
            None => Ok(()),
        }
    }
}

/// An upgrade (or the way back) that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Upgraded {
    /// The release before.
    pub from: ReleaseId,
    /// The release now.
    pub to: ReleaseId,
    /// How long messages waited, in microseconds.
    pub stop_us: u64,
    /// How long all of it took, in microseconds.
    pub total_us: u64,
    /// Each step.
    pub steps: Vec<StepTime>,
    /// Libraries that were unloaded.
    pub unloaded: Vec<String>,
    /// Libraries that were not, and why.
    pub retained: Vec<Retained>,
    /// The states that were thrown away.
    #[serde(default)]
    pub thrown_away: Vec<ThrownAway>,
}

/// How long a step took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct StepTime {
    /// Its name.
    pub name: String,
    /// Its time in microseconds.
    pub micros: u64,
}

/// A frame from the node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// A step ended; more frames follow.
    Progress(Progress),
    /// The end: carried out.
    Done(Box<Outcome>),
    /// The end: not carried out.
    Failed(Failure),
}

impl From<Response> for Answer {
    fn from(response: Response) -> Self {
        match response {
            Response::Done(outcome) => Self::Done(outcome),
            Response::Failed(failure) => Self::Failed(failure),
        }
    }
}
