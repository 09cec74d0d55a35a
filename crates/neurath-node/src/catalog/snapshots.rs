//! The states that upgrades have thrown away, and what is kept of them: part of the catalog's state, so that it
//! changes with what runs.

use serde::{Deserialize, Serialize};

use super::{RegionEntry, ReleaseId, State};

/// So many snapshots are kept at most: the catalog has room for them, whatever else it holds.
pub const SNAPSHOT_LIMIT: usize = 64;

/// A state that was thrown away, and whose region is kept. It is called by the name of its file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotEntry {
    /// The region, which no release runs on.
    pub region: RegionEntry,
    /// The release that it was the state of.
    pub release: ReleaseId,
    /// When it was thrown away (milliseconds since 1970).
    pub made_ms: u64,
}

/// An instance whose state the upgrade to the current release has thrown away.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResetEntry {
    /// The component.
    pub component: String,
    /// Number of the instance.
    pub instance: u32,
    /// Transactions of the new state when it was made: what is more came since.
    pub sequence: u64,
}

impl State {
    /// The snapshot of this name.
    pub fn snapshot(&self, name: &str) -> Option<&SnapshotEntry> {
        self.snapshots.iter().find(|one| one.region.file == name)
    }

    /// Whether the way back of the current release needs this file of a region.
    pub fn goes_back_to(&self, file: &str) -> bool {
        let mut kept = self.previous.iter().flat_map(|one| &one.regions);
        kept.any(|region| region.file == file)
    }
}
