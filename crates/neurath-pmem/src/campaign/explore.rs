//! A walk along what happened to a medium, crashing everywhere.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::images::{Effort, cuts, images, put, put_prefix};
use super::killed::{KILLED, is_killed};
use super::models::{Pending, Survives, carry_out};
use super::oracle::{Check, Expected, Seen};
use super::record::History;
use super::sim::{Random, Sim, mix};
use super::trace::{Event, Trace};

/// An image that is not as it must be.
#[derive(Clone, Debug)]
pub(crate) struct Violation {
    pub(crate) event: usize,
    pub(crate) image: usize,
    pub(crate) error: String,
}

/// Makes a medium as it was before the first event.
type Rebuild<'a> = &'a dyn Fn() -> Sim;

/// Where a walk begins.
#[derive(Default)]
pub(crate) struct Start {
    /// What the medium may or may not have.
    pub(crate) pending: Pending,
    pub(crate) acknowledged: usize,
    pub(crate) applied: usize,
}

/// How a walk is made.
pub(crate) struct Explorer<'a> {
    pub(crate) survives: Survives,
    pub(crate) effort: Effort,
    pub(crate) seed: u64,
    /// This image of this event, and no other.
    pub(crate) only: Option<(usize, usize)>,
    /// Go on after a violation, with another medium.
    pub(crate) rebuild: Option<Rebuild<'a>>,
    /// Ends at the first violation.
    pub(crate) stop: bool,
    pub(crate) images: u64,
    pub(crate) violations: Vec<Violation>,
    pub(crate) seen: Seen,
    pub(crate) start: Start,
}

impl Explorer<'_> {
    /// For a second life.
    pub(crate) fn again(survives: Survives, seed: u64) -> Explorer<'static> {
        Explorer {
            survives,
            effort: Effort::AGAIN,
            seed,
            only: None,
            rebuild: None,
            stop: true,
            images: 0,
            violations: Vec::new(),
            seen: Seen::default(),
            start: Start::default(),
        }
    }

    /// Makes the crashes of the first `end` events, which follow what is in `sim`.
    pub(crate) fn explore(
        &mut self,
        sim: &mut Option<Sim>,
        (trace, end): (&Trace, usize),
        history: &History,
        depth: u32,
    ) -> Result<(), String> {
        let survives = self.survives;
        let events = &trace.events[..end];
        let Start {
            mut pending,
            acknowledged,
            applied,
        } = std::mem::take(&mut self.start);
        let mut expected = Expected {
            history,
            acknowledged,
            applied,
            synced: 0,
            just_synced: false,
            closed: false,
        };
        for (number, event) in events.iter().enumerate() {
            let last = number + 1 == events.len();
            expected.just_synced = matches!(event, Event::Synced);
            match event {
                Event::Applied => expected.applied += 1,
                Event::Commit => expected.acknowledged += 1,
                Event::Synced => {
                    expected.synced = expected.acknowledged;
                    expected.closed = last;
                }
                _ => {}
            }
            let mut random = Random(mix(self.seed, number as u64));
            if survives == Survives::Prefix {
                if !matches!(event, Event::Fence | Event::Sync | Event::Flush { .. })
                    && random.chance(self.effort.one_in.0)
                {
                    let words = match event {
                        Event::Store(span) => span.len / 8,
                        _ => 0,
                    };
                    for (image, words) in cuts(words, &self.effort, &mut random)
                        .into_iter()
                        .enumerate()
                    {
                        let make = |disk: &mut Sim| {
                            if let Event::Grow { .. } = event {
                                super::images::put_growth(event, disk);
                            }
                            put_prefix(event, trace, words, disk);
                        };
                        self.one(sim, (number, image), &make, &expected, depth, None)?;
                        self.restore(sim, (trace, number));
                    }
                }
                carry_out(event, trace, sim.as_mut().expect("a medium"));
                continue;
            }
            pending.note(event, trace, survives, sim.as_ref().expect("a medium"));
            let len = sim.as_ref().expect("a medium").len;
            if is_killed(survives, depth, len, &mut random) {
                let place = (number, KILLED);
                self.one(sim, place, &|_| (), &expected, depth, Some(&pending))?;
                self.restore(sim, (trace, number));
            }
            let settles = survives.settles(event);
            let marked = matches!(event, Event::Commit | Event::Synced | Event::Fence);
            if (settles || marked || last) && random.chance(self.effort.one_in.0) {
                let len = sim.as_ref().expect("a medium").len;
                let list = images(&pending, survives, len, &self.effort, &mut random);
                for (number_of, image) in list.into_iter().enumerate() {
                    let make = |disk: &mut Sim| put(&image, &pending, disk);
                    self.one(sim, (number, number_of), &make, &expected, depth, None)?;
                    self.restore(sim, (trace, number));
                }
            }
            if settles {
                pending.settle(event, survives, sim.as_mut().expect("a medium"));
            }
        }
        Ok(())
    }

    fn one(
        &mut self,
        sim: &mut Option<Sim>,
        place: (usize, usize),
        make: &dyn Fn(&mut Sim),
        expected: &Expected<'_>,
        depth: u32,
        killed: Option<&Pending>,
    ) -> Result<(), String> {
        if self.only.is_some_and(|only| only != place) {
            return Ok(());
        }
        self.images += 1;
        let disk = sim.as_mut().expect("a medium");
        let mark = disk.mark();
        make(disk);
        let seed = mix(mix(self.seed, place.0 as u64), !(place.1 as u64));
        let (survives, effort) = (self.survives, self.effort);
        let check = Check {
            expected,
            survives,
            depth,
            effort: &effort,
            seed,
            seen: &mut self.seen,
        };
        let checked = || match killed {
            Some(pending) => check.run_killed(sim, pending),
            None => check.run(sim),
        };
        // What a mutant corrupts may well make the region's code panic.
        let result = match self.rebuild {
            Some(_) => {
                catch_unwind(AssertUnwindSafe(checked)).unwrap_or_else(|panic| Err(said(&*panic)))
            }
            None => checked(),
        };
        let (event, image) = place;
        match result {
            Ok(images) => {
                self.images += images;
                sim.as_mut().expect("a medium").rewind(mark);
                Ok(())
            }
            Err(error) if self.rebuild.is_some() => {
                *sim = None;
                let violation = Violation {
                    event,
                    image,
                    error,
                };
                self.violations.push(violation);
                if self.stop {
                    return Err("the first violation".into());
                }
                Ok(())
            }
            Err(error) => Err(format!(
                "{error}; {survives:?}, event {event}, image {image}"
            )),
        }
    }

    /// Another medium in the place of one that a violation took.
    fn restore(&self, sim: &mut Option<Sim>, (trace, before): (&Trace, usize)) {
        let (None, Some(rebuild)) = (&sim, self.rebuild) else {
            return;
        };
        let mut disk = rebuild();
        let mut pending = Pending::default();
        for event in &trace.events[..before] {
            if self.survives == Survives::Prefix {
                carry_out(event, trace, &mut disk);
                continue;
            }
            pending.note(event, trace, self.survives, &disk);
            if self.survives.settles(event) {
                pending.settle(event, self.survives, &mut disk);
            }
        }
        *sim = Some(disk);
    }
}

/// What a panic said.
pub(crate) fn said(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied());
    format!("a panic: {}", text.unwrap_or("of an unknown kind"))
}
