//! What the catalog says: releases, regions, and what is under way.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Mark, Migrated, ReleaseEntry, ResetEntry, SnapshotEntry};
use crate::trust::Seen;

/// Name and version of a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReleaseId {
    /// Name of the release, as in its manifest.
    pub name: String,
    /// Version of the release, as in its manifest.
    pub version: String,
}

impl ReleaseId {
    /// A release by name and version.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
        }
    }
}

impl std::fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.name, self.version)
    }
}

/// One region file of a release: which instance's state lies where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionEntry {
    /// The component whose state it is.
    pub component: String,
    /// Number of the instance, from 0.
    pub instance: u32,
    /// Generation of the region: a conversion writes a new one beside the old one.
    pub generation: u64,
    /// File name inside `regions/`.
    pub file: String,
    /// Fingerprint of the schema that the region holds.
    pub fingerprint: String,
    /// Version of the component that the region belongs to.
    pub version: String,
}

impl RegionEntry {
    /// Whether it is the region of this instance of this component.
    pub(crate) fn is_of(&self, component: &str, instance: u32) -> bool {
        self.instance == instance && self.component == component
    }
}

/// A region that is being converted segment by segment: what a node that starts again needs to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepEntry {
    /// The component whose state it is.
    pub component: String,
    /// Number of the instance.
    pub instance: u32,
    /// Fingerprint of the schema before; that of the present one is the region's.
    pub from: String,
    /// The conversions, one after the other.
    pub links: Vec<SweepLink>,
    /// When they began (milliseconds since 1970): what each of them is told.
    pub now_ms: u64,
}

/// One conversion of all objects of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepLink {
    /// Fingerprint of the schema that it leads to.
    pub to: String,
    /// The libraries of the component whose conversions it uses, the first that has one first.
    pub libraries: Vec<SweepLibrary>,
    /// The instruction's table, JSON.
    pub extra: String,
}

/// A library of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepLibrary {
    /// A release that has it.
    pub release: ReleaseId,
    /// The component's version.
    pub version: String,
}

/// What the node goes back to while the current release is unconfirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// The release before the current one.
    pub release: ReleaseId,
    /// The regions of that release.
    pub regions: Vec<RegionEntry>,
    /// The plan that led to the current release.
    pub plan_id: String,
    /// Whose state the upgrade has thrown away. Since format 6.
    #[serde(default)]
    pub reset: Vec<ResetEntry>,
}

/// Everything that one commit changes at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The release that runs.
    pub current: Option<ReleaseId>,
    /// The release that a restart comes back to: confirmed, or the first one.
    pub permanent: Option<ReleaseId>,
    /// The regions of the current release.
    pub regions: Vec<RegionEntry>,
    /// The way back, kept while the current release is unconfirmed.
    pub previous: Option<Previous>,
    /// Since when the current release waits for confirmation (milliseconds since 1970).
    pub unconfirmed_since_ms: Option<u64>,
    /// The number that the next new region generation gets; never reused.
    pub next_generation: u64,
    /// Running number of the last operation that committed.
    pub sequence: u64,
    /// The releases that are unpacked. Since format 2.
    #[serde(default)]
    pub releases: Vec<ReleaseEntry>,
    /// What was seen of the packages of each release name. Since format 2.
    #[serde(default)]
    pub seen: BTreeMap<String, Seen>,
    /// Where the journal was. Since format 2.
    #[serde(default)]
    pub journal: Option<Mark>,
    /// What undoes the hooks and commands that the upgrade in flight has called, in the order of the calls:
    /// `apply` steps as in a relup. Since format 3.
    #[serde(default)]
    pub undo: Vec<serde_json::Value>,
    /// The regions that are converted segment by segment. Since format 4.
    #[serde(default)]
    pub sweeps: Vec<SweepEntry>,
    /// The program that ran the release which another node has taken over from, while there is a way back to it.
    /// Since format 5.
    #[serde(default)]
    pub program_before: Option<ProgramBefore>,
    /// What is kept of states that upgrades have thrown away. Since format 6.
    #[serde(default)]
    pub snapshots: Vec<SnapshotEntry>,
    /// How many starts of the node have begun to go back from the current release, and of which none has come up yet.
    /// Since format 6.
    #[serde(default)]
    pub starts: u32,
    /// The migrations that this state committed and that stand in no region's file yet, or did not when it was
    /// written: a node that starts records them. Since format 6.
    #[serde(default)]
    pub migrations: Vec<Migrated>,
}

/// A node's program that is kept in `libraries/` for the way back to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramBefore {
    /// The release that it ran.
    pub release: ReleaseId,
    /// Its BLAKE3 hash, 64 lower-case hex digits.
    pub blake3: String,
}

impl State {
    /// The entry of an instance in the current release.
    pub fn region(&self, component: &str, instance: u32) -> Option<&RegionEntry> {
        self.regions
            .iter()
            .find(|region| region.is_of(component, instance))
    }

    /// Whether a state of the release before has been converted in its file, segment by segment.
    pub fn before_is_converted(&self) -> bool {
        let before = self.previous.iter().flat_map(|previous| &previous.regions);
        let mut before = before.map(|entry| (&entry.file, &entry.fingerprint));
        before.any(|(file, fingerprint)| {
            let mut now = self.regions.iter();
            now.any(|entry| entry.file == *file && entry.fingerprint != *fingerprint)
        })
    }

    /// Whether a region file is named by the current release, by the way back, or as a snapshot; any other file is an
    /// orphan.
    pub fn names_region_file(&self, file: &str) -> bool {
        let of_release = self.regions.iter().any(|region| region.file == file);
        of_release || self.goes_back_to(file) || self.snapshot(file).is_some()
    }
}
