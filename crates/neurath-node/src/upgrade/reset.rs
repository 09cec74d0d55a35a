//! States that are thrown away on purpose: `reset_node`.
//!
//! The new version makes its state anew in a region of its own, while the old one serves; nobody uses it before the
//! flip. The flip exchanges the two, so undoing it is forgetting the new file. Nothing is copied for the snapshot: it is
//! the old region itself, whose file no release runs on any more, and which the catalog names until somebody removes it.
//!
//! On the way back the same step brings the state back that was there before the upgrade, if that has left one behind;
//! what is thrown away then is the state that was made since.

use neurath_manifest::Step;

use super::part::{Course, NewState, Part};
use super::{Upgrade, UpgradeError, no_code_of};
use crate::catalog::{RegionEntry, ResetEntry, SnapshotEntry, State};
use crate::protocol::ThrownAway;
use crate::shard::now_ms;

/// What is known of an instance whose state is thrown away.
#[derive(Debug)]
pub(super) struct Renewed {
    /// Whether a snapshot of what is thrown away is kept.
    keep: bool,
    /// Transactions of the state that comes in its place.
    sequence: u64,
    /// Whether that is the one from before the upgrade.
    restored: bool,
}

/// What a flip says of the states that it throws away.
#[derive(Debug, Default)]
pub(super) struct Thrown {
    pub(super) reset: Vec<ResetEntry>,
    pub(super) snapshots: Vec<SnapshotEntry>,
    pub(super) told: Vec<ThrownAway>,
}

impl Upgrade<'_> {
    /// Whether the script throws the state of a component away, and keeps a snapshot of it.
    fn reset_of(&self, component: &str) -> Option<bool> {
        self.goal.steps.iter().find_map(|step| match step {
            Step::ResetNode {
                components,
                keep_snapshot,
            } if components.iter().any(|name| name == component) => Some(*keep_snapshot),
            _ => None,
        })
    }

    /// Gives an instance whose state is thrown away the one that comes in its place; whether it is such a one.
    pub(super) fn renew(&mut self, part: &mut Part) -> Result<bool, UpgradeError> {
        let Some(keep) = self.reset_of(&part.component) else {
            return Ok(false);
        };
        let now = self.core.catalog.state();
        let now = now.region(&part.component, part.number).cloned();
        let before = self.left_behind(&part.component, part.number);
        let before = before.filter(|one| now.is_none_or(|now| now.file != one.file));
        let restored = before.is_some();
        let entry = match before {
            Some(entry) => entry,
            None => self.make_region(part)?,
        };
        let fingerprint = part.library.description().fingerprint;
        let region = self
            .core
            .open_region(&self.goal.package, &entry, Some(fingerprint))?;
        part.renewed = Some(Renewed {
            keep,
            sequence: region.stats().sequence,
            restored,
        });
        part.same_schema = true;
        part.state = NewState::Made(Box::new(region));
        part.entry = Some(entry);
        Ok(true)
    }

    /// Makes new states for components whose code stays, while all serve.
    pub(super) fn prepare_resets(&mut self) -> Result<(), UpgradeError> {
        let goal = self.goal;
        for step in &goal.steps {
            let Step::ResetNode { components, .. } = step else {
                continue;
            };
            for component in components {
                if self.parts.iter().any(|part| part.component == *component) {
                    continue;
                }
                self.hold(component)?;
                self.take_course(component, Course::Switched)?;
                for at in self.parts_of(component) {
                    let mut part = self.parts.remove(at);
                    let renewed = self.renew(&mut part);
                    self.parts.insert(at, part);
                    renewed?;
                }
            }
        }
        Ok(())
    }

    /// The step itself: all is ready, and the flip carries it out.
    pub(super) fn reset_node(&mut self, components: &[String]) -> Result<(), UpgradeError> {
        if self.taken.is_none() {
            let what = "a reset_node before any suspend or stop";
            return Err(UpgradeError::Script(what.into()));
        }
        for component in components {
            let mine = self.parts_of(component);
            let ready = |at: &usize| self.parts[*at].renewed.is_some();
            if mine.is_empty() || !mine.iter().all(ready) {
                return Err(no_code_of(component));
            }
        }
        Ok(())
    }

    /// On the way back to the states before as they were: those of components whose code stays.
    pub(super) fn prepare_loss(&mut self, before: &[RegionEntry]) -> Result<(), UpgradeError> {
        for entry in before {
            let held = self.parts.iter();
            let mut held = held.filter(|part| part.component == entry.component);
            let now = self.core.catalog.state();
            let now = now.region(&entry.component, entry.instance);
            let Some(now) = now.filter(|now| now.file != entry.file) else {
                continue;
            };
            if held.any(|part| part.number == now.instance && part.entry.is_some()) {
                continue;
            }
            self.hold(&entry.component)?;
            self.take_course(&entry.component, Course::Switched)?;
            for at in self.parts_of(&entry.component) {
                let part = &self.parts[at];
                if part.number != entry.instance {
                    continue;
                }
                let fingerprint = part.library.description().fingerprint;
                let package = &self.goal.package;
                let region = self.core.open_region(package, entry, Some(fingerprint))?;
                let part = &mut self.parts[at];
                part.same_schema = true;
                part.state = NewState::Made(Box::new(region));
                part.entry = Some(entry.clone());
            }
        }
        Ok(())
    }

    /// What the flip is to say of the states that it throws away; `now` is what it leaves.
    pub(super) fn thrown_away(&self, now: &State) -> Thrown {
        let mut thrown = Thrown::default();
        for part in &self.parts {
            let (Some(renewed), Some(place)) = (&part.renewed, part.at) else {
                continue;
            };
            let Some(old) = now.region(&part.component, part.number) else {
                continue;
            };
            let instances = self.taken.iter().flat_map(|taken| &taken.shard.instances);
            let sequence = instances.map(|one| one.region.stats().sequence).nth(place);
            let since = now.previous.iter().flat_map(|previous| &previous.reset);
            let mut since =
                since.filter(|one| one.component == part.component && one.instance == part.number);
            let since = since.next().map(|one| one.sequence);
            thrown.reset.push(ResetEntry {
                component: part.component.clone(),
                instance: part.number,
                sequence: renewed.sequence,
            });
            if renewed.keep {
                thrown.snapshots.push(SnapshotEntry {
                    region: old.clone(),
                    release: self.core.current(),
                    made_ms: now_ms(),
                });
            }
            thrown.told.push(ThrownAway {
                component: part.component.clone(),
                instance: part.number,
                transactions: sequence.map(|now| now.saturating_sub(since.unwrap_or(0))),
                since_reset: since.is_some(),
                snapshot: renewed.keep.then(|| old.file.clone()),
                restored: (part.entry.as_ref())
                    .filter(|_| renewed.restored)
                    .map(|entry| entry.file.clone()),
            });
        }
        thrown
    }
}
