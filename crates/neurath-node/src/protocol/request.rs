//! What a client asks of a node.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::catalog::ReleaseId;
use crate::meeting::Visit;

/// What a client asks of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// What runs, and how it is.
    Status,
    /// The plan that would lead to a release. Changes nothing.
    Plan {
        /// The release to go to.
        release: ReleaseId,
        /// A folder with it as it was built, for a node that does not have it: it is not taken in.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        folder: Option<PathBuf>,
    },
    /// Go to a release.
    Apply {
        /// The release to go to.
        release: ReleaseId,
        /// The plan that was reviewed; another one is refused as stale.
        plan_id: Option<String>,
        /// Act; else only say what would be done.
        execute: bool,
        /// The components whose state the plan throws away: all of them must be named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reset: Vec<String>,
        /// Keep no snapshot of what is thrown away, once the release is confirmed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        no_snapshot: bool,
    },
    /// Make the current release the permanent one.
    Confirm,
    /// Go back to the release before.
    Rollback {
        /// Also where the writes made since would be lost.
        lose_writes: bool,
        /// The components whose state is thrown away on the way back: all of them must be named.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        reset: Vec<String>,
    },
    /// Delete what was kept of a state that an upgrade has thrown away.
    RemoveSnapshot {
        /// Its name, as the status has it.
        name: String,
    },
    /// Copy an instance's state as it is at some commit from now on. Nothing stops for it.
    Snapshot {
        /// The component.
        component: String,
        /// The instance, where there are several.
        instance: Option<u32>,
        /// The copy's file, which must not be there: an absolute path on the node's machine.
        out: String,
    },
    /// End the node.
    Stop,
    /// Replace the node's program by itself, anew: connections and state are kept.
    Restart,
    /// Go on with what was interrupted, or has failed.
    Resume,
    /// Give up what is in flight: an upgrade before its commit point, or an unconfirmed release.
    Abort,
    /// The releases that the node has, and the keys that it trusts.
    Releases,
    /// Whether a release could be gone to: verified again, and planned. Changes nothing.
    Check {
        /// The release.
        release: ReleaseId,
    },
    /// Take a package in.
    Unpack {
        /// Its path, absolute.
        package: PathBuf,
        /// Also one that is older than what was seen.
        allow_older: bool,
    },
    /// Copy a built release in.
    Install {
        /// The path of its folder, absolute.
        folder: PathBuf,
    },
    /// Take a release in whose folder was put into `releases/`.
    SetUnpacked {
        /// The release.
        release: ReleaseId,
    },
    /// Remove a release that is not in use.
    Remove {
        /// The release.
        release: ReleaseId,
    },
    /// Trust a key, too.
    Trust {
        /// What it is called.
        name: String,
        /// The contents of the public key's file.
        key: String,
    },
    /// Trust a key no more.
    Distrust {
        /// What it is called.
        name: String,
    },
    /// Figures, as Prometheus reads them.
    Metrics,
    /// Copy the whole node: the state of all instances as it is at one moment, and the releases.
    /// Nothing stops for it.
    Copy {
        /// The copy's directory, which must not be there: an absolute path on the node's machine.
        out: String,
    },
    /// Another node is at a meeting point of its script.
    Meet(Visit),
}

impl Request {
    /// To go to a release, at once, where its plan throws no state away.
    pub fn apply(release: ReleaseId) -> Request {
        Request::Apply {
            release,
            plan_id: None,
            execute: true,
            reset: Vec::new(),
            no_snapshot: false,
        }
    }

    /// To go back to the release before, with the writes made since, where that throws no state away.
    pub fn rollback() -> Request {
        Request::Rollback {
            lose_writes: false,
            reset: Vec::new(),
        }
    }

    /// Whether the request changes nothing.
    pub fn is_read_only(&self) -> bool {
        matches!(
            self,
            Self::Status
                | Self::Plan { .. }
                | Self::Apply { execute: false, .. }
                | Self::Releases
                | Self::Check { .. }
                | Self::Metrics
        )
    }
}
