//! The releases that a node has: part of the catalog's state, so that it changes with what runs.

use serde::{Deserialize, Serialize};

use super::{ReleaseId, State};
use crate::trust::Seen;

/// A release that is unpacked in `releases/`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseEntry {
    /// Which.
    pub release: ReleaseId,
    /// BLAKE3 hash of the `MANIFEST.json` that was verified. What is loaded later must have it still.
    pub manifest: String,
    /// The sequence number of its package; 0 for one that was built here.
    pub sequence: u64,
    /// The epoch of its package; 0 for one that was built here.
    pub epoch: u64,
    /// Whether it was the current release at some time.
    pub ran: bool,
}

/// What a release is to a node, as in OTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ReleaseStatus {
    /// It is here, and has never run.
    Unpacked,
    /// It runs, and waits for its confirmation.
    Current,
    /// It is what a restart comes back to.
    Permanent,
    /// It ran, and was left.
    Old,
}

impl std::fmt::Display for ReleaseStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unpacked => "unpacked",
            Self::Current => "current",
            Self::Permanent => "permanent",
            Self::Old => "old",
        })
    }
}

/// The record of the journal that was the last one when something was committed: a journal without
/// it has lost its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mark {
    /// The record's number.
    pub sequence: u64,
    /// The hash of its line.
    pub chain: String,
}

impl State {
    /// The entry of a release that is unpacked.
    pub fn entry(&self, release: &ReleaseId) -> Option<&ReleaseEntry> {
        self.releases.iter().find(|one| one.release == *release)
    }

    /// What a release is to the node; nothing if it is not unpacked.
    pub fn status(&self, release: &ReleaseId) -> Option<ReleaseStatus> {
        if self.permanent.as_ref() == Some(release) {
            return Some(ReleaseStatus::Permanent);
        }
        if self.current.as_ref() == Some(release) {
            return Some(ReleaseStatus::Current);
        }
        self.entry(release).map(|entry| match entry.ran {
            true => ReleaseStatus::Old,
            false => ReleaseStatus::Unpacked,
        })
    }

    /// Whether a release runs, or may have to at any time, or a way may lead through it that is taken without being asked
    /// for: it cannot be removed.
    pub fn needs(&self, release: &ReleaseId) -> bool {
        let libraries = self.sweeps.iter().flat_map(|sweep| &sweep.links);
        let mut converting = libraries.flat_map(|link| &link.libraries);
        self.may_run(release)
            || self.is_on_the_way_back(release)
            || converting.any(|library| library.release == *release)
    }

    /// Whether a release runs, or is what a start or a way back leads to.
    pub fn may_run(&self, release: &ReleaseId) -> bool {
        let previous = self.previous.as_ref().map(|previous| &previous.release);
        [self.current.as_ref(), self.permanent.as_ref(), previous].contains(&Some(release))
    }

    /// Whether the way back of the current release may lead through another one: its version is between the two.
    pub fn is_on_the_way_back(&self, release: &ReleaseId) -> bool {
        let (Some(current), Some(previous)) = (&self.current, &self.previous) else {
            return false;
        };
        let version = |one: &ReleaseId| semver::Version::parse(&one.version).ok();
        let (Some(here), Some(there)) = (version(current), version(&previous.release)) else {
            return false;
        };
        let between = here.clone().min(there.clone())..here.max(there);
        release.name == current.name
            && !self.may_run(release)
            && version(release).is_some_and(|version| between.contains(&version))
    }

    /// The conversion of an instance's region that goes on segment by segment.
    pub fn sweep(&self, component: &str, instance: u32) -> Option<&super::SweepEntry> {
        let mut sweeps = self.sweeps.iter();
        sweeps.find(|sweep| sweep.component == component && sweep.instance == instance)
    }

    /// Takes a release in, or in again.
    pub fn take_in(&mut self, mut entry: ReleaseEntry) {
        if entry.sequence > 0 {
            let seen = self.seen.entry(entry.release.name.clone()).or_default();
            if entry.sequence >= seen.sequence {
                seen.sequence = entry.sequence;
                seen.manifest.clone_from(&entry.manifest);
            }
        }
        match self
            .releases
            .iter_mut()
            .find(|one| one.release == entry.release)
        {
            Some(known) => {
                entry.ran |= known.ran;
                *known = entry;
            }
            None => self.releases.push(entry),
        }
    }

    /// What follows from which releases run: they have run, and the permanent one's epoch has begun.
    pub(crate) fn settle_releases(&mut self) {
        let State {
            current,
            permanent,
            releases,
            seen,
            ..
        } = self;
        for entry in releases {
            let release = Some(&entry.release);
            entry.ran |= current.as_ref() == release || permanent.as_ref() == release;
            if permanent.as_ref() == release && entry.epoch > 0 {
                let seen: &mut Seen = seen.entry(entry.release.name.clone()).or_default();
                seen.epoch = seen.epoch.max(entry.epoch);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Previous;
    use super::*;

    fn id(version: &str) -> ReleaseId {
        ReleaseId::new("kv", version)
    }

    fn entry(version: &str, sequence: u64, epoch: u64) -> ReleaseEntry {
        ReleaseEntry {
            release: id(version),
            manifest: format!("hash of {version}"),
            sequence,
            epoch,
            ran: false,
        }
    }

    #[test]
    fn a_release_goes_through_its_statuses() {
        let mut state = State::default();
        assert_eq!(state.status(&id("1.0.0")), None);
        state.take_in(entry("1.0.0", 1, 0));
        state.take_in(entry("1.1.0", 2, 3));
        assert_eq!(state.status(&id("1.0.0")), Some(ReleaseStatus::Unpacked));
        state.current = Some(id("1.0.0"));
        state.permanent = Some(id("1.0.0"));
        state.settle_releases();
        assert_eq!(state.status(&id("1.0.0")), Some(ReleaseStatus::Permanent));
        state.current = Some(id("1.1.0"));
        state.settle_releases();
        assert_eq!(state.status(&id("1.1.0")), Some(ReleaseStatus::Current));
        assert_eq!(state.status(&id("1.0.0")), Some(ReleaseStatus::Permanent));
        // Not confirmed: its epoch has not begun, so that the way back is open.
        assert_eq!(state.seen["kv"].epoch, 0);
        let back = State {
            current: Some(id("1.0.0")),
            ..state.clone()
        };
        assert_eq!(back.status(&id("1.1.0")), Some(ReleaseStatus::Old));
        state.permanent = Some(id("1.1.0"));
        state.settle_releases();
        assert_eq!(state.status(&id("1.0.0")), Some(ReleaseStatus::Old));
        assert_eq!(state.seen["kv"].epoch, 3);
        assert!(state.needs(&id("1.1.0")) && !state.needs(&id("1.0.0")));
    }

    #[test]
    fn what_the_way_back_may_lead_through_is_needed_until_the_confirmation() {
        let mut state = State {
            current: Some(id("1.10.0")),
            permanent: Some(id("1.9.0")),
            previous: Some(Previous {
                release: id("1.8.0"),
                regions: Vec::new(),
                plan_id: String::new(),
                reset: Vec::new(),
            }),
            ..State::default()
        };
        let needed = |state: &State| {
            let versions = [
                "1.7.0", "1.8.0", "1.8.1", "1.9.0", "1.9.9", "1.10.0", "1.11.0",
            ];
            let needed = versions.into_iter().filter(|one| state.needs(&id(one)));
            needed.collect::<Vec<_>>()
        };
        assert_eq!(
            needed(&state),
            ["1.8.0", "1.8.1", "1.9.0", "1.9.9", "1.10.0"]
        );
        assert!(!state.needs(&ReleaseId::new("other", "1.9.9")));
        // A way down leads through the same.
        state.previous.as_mut().expect("unconfirmed").release = id("1.11.0");
        state.current = Some(id("1.9.0"));
        assert_eq!(needed(&state), ["1.9.0", "1.9.9", "1.10.0", "1.11.0"]);
        state.previous = None;
        assert_eq!(needed(&state), ["1.9.0"]);
    }

    #[test]
    fn the_highest_number_is_kept_when_an_older_package_comes() {
        let mut state = State::default();
        state.take_in(entry("1.1.0", 9, 0));
        state.take_in(entry("1.0.0", 4, 0));
        assert_eq!(state.seen["kv"].sequence, 9);
        assert_eq!(state.seen["kv"].manifest, "hash of 1.1.0");
        state.releases.clear();
        assert_eq!(state.seen["kv"].sequence, 9, "it outlives the releases");
        // A build without a package says nothing.
        state.take_in(entry("1.2.0", 0, 0));
        assert_eq!(state.seen["kv"].sequence, 9);
    }
}
