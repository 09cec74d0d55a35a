//! What a client and a node say to each other over the control socket.
//!
//! A frame is a length (`u32`, little endian, at most [`FRAME_LIMIT`]) and so many bytes of JSON:
//! `{"version":1,"body":…}`. A client sends [`Request`]s one after the other; the node answers each with any number of
//! [`Progress`] frames and exactly one `done` or `failed`. Described in `docs/control-protocol.md`.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalog::{ReleaseId, ReleaseStatus};
use crate::journal::Interrupted;
use crate::lifecycle::Phase;
use crate::meeting::{Heard, Visit};
use crate::release_handler::ReleaseInfo;

/// The version of the protocol that this code speaks.
pub const VERSION: u32 = 1;
/// The longest frame, in bytes of JSON.
pub const FRAME_LIMIT: usize = 1024 * 1024;

/// The exit codes that a [`Failure`] carries: the same as the command line's.
pub mod code {
    /// The request was not understood.
    pub const USAGE: u8 = 2;
    /// A lint refused the plan.
    pub const LINT: u8 = 20;
    /// The plan is stale: it was made for another state of the node.
    pub const STALE: u8 = 21;
    /// The journal or catalog was edited.
    pub const HISTORY: u8 = 22;
    /// A signature or a sequence number was refused.
    pub const SIGNATURE: u8 = 23;
    /// Another operation, or too many clients.
    pub const BUSY: u8 = 30;
    /// The upgrade failed and the old release is healthy.
    pub const UPGRADE_FAILED: u8 = 40;
    /// It cannot be told; nothing was committed.
    pub const INCONCLUSIVE: u8 = 41;
    /// A person must look.
    pub const OPERATOR: u8 = 50;
}

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

/// Which packages a node takes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Trust {
    /// Whether only signed releases are taken. Else everything is: that is for development.
    pub signed_only: bool,
    /// The names of the trusted keys.
    pub keys: Vec<String>,
    /// Files in the place of keys that are none, and what is wrong with each.
    pub unreadable: BTreeMap<String, String>,
}

/// What is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct InFlight {
    /// What it is.
    pub phase: Phase,
    /// The release that it is about.
    pub release: Option<ReleaseId>,
    /// Who has asked for it.
    pub who: String,
    /// Since when (milliseconds since 1970).
    pub since_ms: u64,
    /// The last step that ended, and was told of: those of a short pause are told of after it.
    pub step: Option<Progress>,
    /// The step that is carried out now.
    #[serde(default)]
    pub now: Option<StepNow>,
}

/// The step that an upgrade is at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct StepNow {
    /// The step.
    pub step: String,
    /// Its place, from 0.
    pub index: u32,
    /// How many there are.
    pub of: u32,
    /// Since when (milliseconds since 1970).
    pub since_ms: u64,
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

/// What runs, and how it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Status {
    /// The current release.
    pub release: Option<ReleaseId>,
    /// The permanent release.
    pub permanent: Option<ReleaseId>,
    /// Whether the current release waits for confirmation.
    pub unconfirmed: bool,
    /// The instances of components.
    pub components: Vec<ComponentStatus>,
    /// Open client connections.
    pub connections: u64,
    /// How long the node has run, in milliseconds.
    pub uptime_ms: u64,
    /// Its process number.
    pub pid: u32,
    /// Where it listens.
    pub listen: Vec<String>,
    /// Old libraries that could not be unloaded.
    pub retained: Vec<Retained>,
    /// The version of the node's program, which releases name as `node`.
    #[serde(default)]
    pub node: String,
    /// The lowest and the highest version of the component ABI that it serves; nothing from a node that does not say so.
    #[serde(default)]
    pub abi: Option<(u32, u32)>,
    /// Where the node is.
    #[serde(default)]
    pub phase: Option<Phase>,
    /// What is under way.
    #[serde(default)]
    pub in_flight: Option<InFlight>,
    /// What can be asked for now: command lines, without what they are about.
    #[serde(default)]
    pub next: Vec<String>,
    /// When the way back begins by itself (milliseconds since 1970).
    #[serde(default)]
    pub confirm_by_ms: Option<u64>,
    /// The upgrade that the end of the node before has interrupted; `relup resume` asks for it again.
    #[serde(default)]
    pub interrupted: Option<Interrupted>,
    /// Which packages the node takes.
    #[serde(default)]
    pub trust: Trust,
    /// The releases that the node has.
    #[serde(default)]
    pub releases: Vec<KnownRelease>,
    /// Each health check of a release that is not confirmed, in a line.
    #[serde(default)]
    pub health: Vec<String>,
    /// Instances, as `COMPONENT.INSTANCE`, that the current release does not have any more: their state is deleted
    /// when it is confirmed; with ` before its reset` behind it one whose state was thrown away without a snapshot.
    #[serde(default)]
    pub deleted_by_confirm: Vec<String>,
    /// What keeps the journal from taking more, if anything does: then nothing new is begun.
    #[serde(default)]
    pub journal: Option<String>,
    /// What is kept of states that upgrades have thrown away, until it is removed by name.
    #[serde(default)]
    pub snapshots: Vec<KeptSnapshot>,
    /// The states that were made since the upgrade has thrown those before away. The way back loses them.
    #[serde(default)]
    pub reset: Vec<ResetState>,
    /// Why the way back was not taken that would have been taken by itself: a person must decide.
    #[serde(default)]
    pub stuck: Option<String>,
}

/// What is kept of a state that an upgrade has thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct KeptSnapshot {
    /// What it is called, to remove it.
    pub name: String,
    /// Whose state it is.
    pub component: String,
    /// The number of the instance.
    pub instance: u32,
    /// The version of the component.
    pub version: String,
    /// The release that it was the state of.
    pub release: ReleaseId,
    /// Its file: a region, which `neurath state` reads.
    pub file: String,
    /// Bytes of the file; 0 if it is not there.
    pub bytes: u64,
    /// When it was thrown away (milliseconds since 1970).
    pub made_ms: u64,
    /// Whether the way back of the current release needs it. It cannot be removed then.
    pub way_back: bool,
}

/// An instance whose state the upgrade to the current release has thrown away, while that is not confirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ResetState {
    /// The component.
    pub component: String,
    /// The number of the instance.
    pub instance: u32,
    /// Transactions since; `None` while the event loop does not say.
    pub transactions: Option<u64>,
    /// Bytes of the objects that live in the new state; `None` while the event loop does not say.
    pub live_bytes: Option<u64>,
    /// Whether a snapshot of the state before stays when the release is confirmed.
    pub snapshot: bool,
}

impl std::fmt::Display for KeptSnapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            name,
            component,
            version,
            release,
            bytes,
            file,
            ..
        } = self;
        write!(
            f,
            "{name}: {component} {version} of {release}, {bytes} bytes, {file}"
        )?;
        match self.way_back {
            true => f.write_str("; the way back needs it"),
            false => Ok(()),
        }
    }
}

impl std::fmt::Display for ResetState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            component,
            instance,
            ..
        } = self;
        write!(
            f,
            "the way back throws away the state of {component}.{instance} made since its reset"
        )?;
        if let (Some(transactions), Some(bytes)) = (self.transactions, self.live_bytes) {
            write!(f, ": {transactions} transactions, {bytes} bytes")?;
        }
        write!(f, "; it must be named, by --reset {component}")
    }
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

/// A release in a [`Status`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct KnownRelease {
    /// Which.
    pub release: ReleaseId,
    /// What it is to the node.
    pub status: ReleaseStatus,
}

/// One instance of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ComponentStatus {
    /// Name of the component.
    pub component: String,
    /// Number of the instance.
    pub instance: u32,
    /// Version of the code that serves it.
    pub version: String,
    /// `running`, `suspended`, `converting`, `failed`, …; [`ComponentStatus::SILENT`] if the event loop did
    /// not say in time, [`ComponentStatus::ENDED`] if it has failed and was not started again.
    pub state: String,
    /// Bytes of its region.
    pub region_bytes: u64,
    /// What its commits survive: `process` or `power`.
    #[serde(default)]
    pub durability: String,
    /// How that was decided: what was asked of the medium, and the answers, in order.
    #[serde(default)]
    pub detection: Vec<String>,
    /// Generation of its region.
    pub generation: u64,
    /// How far the conversion of its state is, while that goes on segment by segment.
    #[serde(default)]
    pub sweep: Option<Sweep>,
    /// How often it was started again after a failure, since the node's program has started.
    #[serde(default)]
    pub restarts: u64,
    /// What the last failure was, if there was one.
    #[serde(default)]
    pub last_failure: Option<String>,
}

/// How far the conversion of a state is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Sweep {
    /// Segments of the state.
    pub segments: u64,
    /// Segments that need nothing more, counted from the first one.
    pub passed: u64,
    /// Segments converted since it began, or since the node has started.
    pub converted: u64,
    /// The last conversion that has failed: its segment, and why.
    pub failure: Option<String>,
}

impl From<neurath_pmem::region::SweepStatus> for Sweep {
    fn from(status: neurath_pmem::region::SweepStatus) -> Sweep {
        Sweep {
            segments: status.segments,
            passed: status.passed,
            converted: status.converted,
            failure: status
                .failure
                .map(|(segment, text)| format!("segment {segment}: {text}")),
        }
    }
}

impl std::fmt::Display for Sweep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = self.passed * 100 / self.segments.max(1);
        write!(
            f,
            "its state is converted, {} of {} segments ({percent} %)",
            self.passed, self.segments
        )?;
        match &self.failure {
            Some(failure) => write!(f, "; code_change failed, {failure}"),
            None => Ok(()),
        }
    }
}

impl ComponentStatus {
    /// The state of an instance whose event loop was at work for so long that it did not say how it is.
    pub const SILENT: &str = "silent";
    /// The state of an instance that has failed and was not started again.
    pub const ENDED: &str = "ended";
}

/// A library that stays mapped although nothing calls it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Retained {
    /// Its component; empty for a file that was refused before that was known.
    #[serde(default)]
    pub component: String,
    /// The component's version.
    #[serde(default)]
    pub version: String,
    /// The library.
    pub library: String,
    /// What holds it.
    pub reason: String,
}

impl std::fmt::Display for Retained {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (component, version) = (&self.component, &self.version);
        if !component.is_empty() {
            write!(f, "{component} {version}, ")?;
        }
        write!(f, "{}: {}", self.library, self.reason)
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

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side closed the connection between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The connection ended inside a frame.
    #[error("the connection ended inside a frame; ask again")]
    Truncated,
    /// Nothing came, or nothing could be sent, in time.
    #[error("the other side did not answer in time; ask again, or look whether it hangs")]
    TimedOut,
    /// The frame is longer than the limit.
    #[error(
        "a frame of {bytes} bytes is longer than the {FRAME_LIMIT} allowed; is this the control socket, and its protocol?"
    )]
    TooLong {
        /// Bytes of the frame.
        bytes: usize,
    },
    /// The frame speaks another version of the protocol.
    #[error(
        "the frame speaks version {found} of the protocol, this side {VERSION}; use the `neurath` that belongs to the node"
    )]
    Version {
        /// The version found.
        found: u64,
    },
    /// The frame is not what belongs here.
    #[error("the frame cannot be understood: {0}; use the `neurath` that belongs to the node")]
    Garbage(String),
    /// The operating system refused.
    #[error("the connection failed: {0}; ask again")]
    Io(io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    version: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Incoming<T> {
    body: T,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
    #[serde(rename = "body")]
    _body: Option<IgnoredAny>,
}

/// The bytes of a frame.
pub fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(
        &mut bytes,
        &Outgoing {
            version: VERSION,
            body,
        },
    )
    .map_err(|error| FrameError::Garbage(error.to_string()))?;
    let length = bytes.len() - 4;
    if length > FRAME_LIMIT {
        return Err(FrameError::TooLong { bytes: length });
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// The body of a frame, out of its JSON (without the length).
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, FrameError> {
    let garbage = |error: serde_json::Error| FrameError::Garbage(error.to_string());
    let head: Head = serde_json::from_slice(json).map_err(garbage)?;
    if head.version != u64::from(VERSION) {
        return Err(FrameError::Version {
            found: head.version,
        });
    }
    serde_json::from_slice::<Incoming<T>>(json)
        .map(|frame| frame.body)
        .map_err(garbage)
}

/// Writes one frame.
pub fn write_frame<T: Serialize>(to: &mut impl Write, body: &T) -> Result<(), FrameError> {
    let bytes = encode(body)?;
    to.write_all(&bytes)?;
    Ok(to.flush()?)
}

/// Reads one frame. Memory grows with what arrives, not with what the length promises.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match from.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_LIMIT {
        return Err(FrameError::TooLong { bytes: length });
    }
    let mut json = Vec::new();
    from.by_ref().take(length as u64).read_to_end(&mut json)?;
    if json.len() < length {
        return Err(FrameError::Truncated);
    }
    decode(&json)
}

#[cfg(test)]
mod tests;
