//! What a node says of itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::answer::Progress;
use crate::catalog::{ReleaseId, ReleaseStatus};
use crate::journal::Interrupted;
use crate::lifecycle::Phase;

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
