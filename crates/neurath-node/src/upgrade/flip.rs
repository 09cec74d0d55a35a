//! The flip: the one write that commits an upgrade.
//!
//! What it writes is known before the pause if the script goes as it is written. So it is made ready while the
//! old code serves, and clients wait for the write only; if anything has come otherwise, it is made anew.

use std::time::{Duration, Instant};

use neurath_manifest::Step;

use super::course::course_of;
use super::part::{Course, NewState, Part};
use super::reset::Thrown;
use super::{Upgrade, UpgradeError, Way};
use crate::catalog::{Draft, Previous, RegionEntry, State, SweepEntry};
use crate::shard::now_ms;

/// What becomes of an instance at the flip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) course: Course,
    pub(super) state: StateFate,
}

/// What becomes of its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StateFate {
    /// It stays as it is.
    Kept,
    /// It stays in its file, and is converted segment by segment.
    Swept,
    /// Another generation comes in its place.
    Made,
}

/// A flip that was made ready longer ago is made anew: the times in it are those of its making.
const FRESH: Duration = Duration::from_millis(50);

/// A flip that was made ready, and what it takes for granted.
#[derive(Debug)]
pub(super) struct Foreseen {
    made: Instant,
    fates: Vec<Fate>,
    next_generation: u64,
    draft: Draft,
}

impl Fate {
    fn of(part: &Part) -> Fate {
        let state = match &part.state {
            NewState::Kept => StateFate::Kept,
            NewState::Begun(..) => StateFate::Swept,
            NewState::Prepared(_) | NewState::Stepwise(_) | NewState::Made(_) | NewState::Lost => {
                StateFate::Made
            }
        };
        Fate {
            course: part.course,
            state,
        }
    }

    /// What the script will make of it.
    fn foreseen(part: &Part, steps: &[Step]) -> Fate {
        let mut courses = steps
            .iter()
            .filter_map(|step| course_of(step, &part.component));
        let now = Fate::of(part);
        Fate {
            course: courses.next_back().unwrap_or(now.course),
            state: match &part.state {
                NewState::Stepwise(_) => StateFate::Swept,
                _ => now.state,
            },
        }
    }
}

/// The conversion of a part that goes on after the flip.
fn sweep_of(part: &Part) -> Option<&SweepEntry> {
    match &part.state {
        NewState::Stepwise(prepared) => Some(&prepared.entry),
        NewState::Begun(entry, _) => Some(entry),
        _ => None,
    }
}

impl Upgrade<'_> {
    /// Makes the flip ready that the script leads to.
    pub(super) fn foresee(&mut self) {
        // How much is thrown away is known at the flip.
        if self.parts.iter().any(|part| part.renewed.is_some()) {
            return;
        }
        let parts = self.parts.iter();
        let fates: Vec<Fate> = parts
            .map(|part| Fate::foreseen(part, &self.goal.steps))
            .collect();
        let state = self.state_after(&fates, &Thrown::default(), now_ms());
        // What is wrong with it is told when it is made for the flip itself.
        let catalog = &self.core.catalog;
        self.foreseen = catalog.draft(state).ok().map(|draft| {
            catalog.touch(&draft);
            Foreseen {
                made: Instant::now(),
                fates,
                next_generation: self.core.next_generation,
                draft,
            }
        });
    }

    /// THE commit.
    pub(super) fn flip(&mut self) -> Result<(), UpgradeError> {
        let fates: Vec<Fate> = self.parts.iter().map(Fate::of).collect();
        let catalog = &self.core.catalog;
        let foreseen = self.foreseen.take().filter(|foreseen| {
            foreseen.fates == fates
                && foreseen.made.elapsed() < FRESH
                && foreseen.next_generation == self.core.next_generation
                && catalog.precedes(&foreseen.draft)
        });
        let (draft, told) = match foreseen {
            Some(Foreseen { draft, .. }) => {
                debug_assert_eq!(draft.state(), &self.as_of(&fates, &draft));
                (draft, Vec::new())
            }
            None => {
                tracing::debug!("the flip was not foreseen as it came");
                let thrown = self.thrown_away(catalog.state());
                let state = self.state_after(&fates, &thrown, now_ms());
                (catalog.draft(state)?, thrown.told)
            }
        };
        // Regions of durability `process` survive the death of the process, and so does the
        // flip; where all are so, the medium is waited for when messages are served again.
        self.before = Some(self.core.catalog.flip(draft)?);
        self.thrown_away = told;
        std::mem::swap(&mut self.core.package, &mut self.package);
        Ok(())
    }

    /// What the flip would write if it were made ready now, with the times of a draft.
    fn as_of(&self, fates: &[Fate], draft: &Draft) -> State {
        let times = draft.state().migrations.iter().map(|one| one.at_ms);
        let now = draft.state().unconfirmed_since_ms.or(times.max());
        let mut state = self.state_after(fates, &Thrown::default(), now.unwrap_or_default());
        state.settle_releases();
        state
    }

    /// The catalog's next state.
    fn state_after(&self, fates: &[Fate], thrown: &Thrown, now_ms: u64) -> State {
        let now = self.core.catalog.state().clone();
        let mut regions = now.regions.clone();
        let mut sweeps = now.sweeps.clone();
        for (part, fate) in self.parts.iter().zip(fates) {
            let mine = |entry: &RegionEntry| entry.is_of(&part.component, part.number);
            if fate.course == Course::Removed {
                regions.retain(|entry| !mine(entry));
            } else if part.at.is_none() {
                regions.extend(part.entry.clone());
            }
            for entry in regions.iter_mut().filter(|entry| mine(entry)) {
                match &part.entry {
                    Some(new) => *entry = new.clone(),
                    None => entry.version.clone_from(&part.version),
                }
            }
            let stays = fate.state == StateFate::Kept && fate.course != Course::Removed;
            if !stays {
                let of = |sweep: &SweepEntry| {
                    sweep.component == part.component && sweep.instance == part.number
                };
                sweeps.retain(|sweep| !of(sweep));
            }
            if fate.state == StateFate::Swept {
                sweeps.extend(sweep_of(part).cloned());
            }
        }
        let mut snapshots = now.snapshots.clone();
        snapshots.extend(thrown.snapshots.iter().cloned());
        // One that is brought back is a state again.
        snapshots.retain(|one| !regions.iter().any(|entry| entry.file == one.region.file));
        let forward = self.goal.way == Way::Forward;
        let previous = Previous {
            release: self.core.current(),
            regions: now.regions,
            plan_id: self.goal.plan_id.clone(),
            reset: thrown.reset.clone(),
        };
        State {
            current: Some(self.core.id_of(&self.goal.package)),
            permanent: now.permanent,
            regions,
            previous: forward.then_some(previous),
            unconfirmed_since_ms: forward.then_some(now_ms),
            next_generation: self.core.next_generation,
            sequence: now.sequence + 1,
            // From here on, what was called is undone by the way back.
            undo: Vec::new(),
            sweeps,
            snapshots,
            starts: 0,
            migrations: self.migrated(fates, now_ms),
            ..now
        }
    }
}
