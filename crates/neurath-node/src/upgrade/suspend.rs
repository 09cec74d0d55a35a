//! The suspension: no message from here on, and the old versions stop their work.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::{PAUSE, SUSPEND, Upgrade, UpgradeError, outside};
use crate::fault;
use crate::loader::Function;
use crate::mapping::Gate;
use crate::node::instances_of;
use crate::shard::supervisor::Supervisor;
use crate::shard::{Instance, Seat, Shard, ShardThread};
use crate::waiting::AWAKE;
use crate::worker::Worker;
use neurath_manifest::Step;

/// Views of a region that are copied between two messages, at most: some microseconds.
const VIEWS: usize = 2048;

/// Instances that are told to stop their work at the same time, or are converted so, at most.
pub(super) const AT_ONCE: usize = 16;

impl Upgrade<'_> {
    /// Makes the threads that the pause will need.
    pub(super) fn make_threads(&mut self) -> Result<(), UpgradeError> {
        let none = |error: String| UpgradeError::Suspend(format!("no thread for it: {error}"));
        self.worker.ready().map_err(|e| none(e.to_string()))?;
        let package = &self.core.package;
        let most = self.goal.steps.iter().map(|step| match step {
            Step::Suspend { components, .. } | Step::Stop { components } => {
                let instances = components.iter().map(|name| instances_of(package, name));
                instances.sum::<u32>() as usize
            }
            _ => 0,
        });
        let most = most.max().unwrap_or(0).min(AT_ONCE);
        while self.crew.len() + 1 < most {
            self.crew.push(Worker::default());
        }
        for worker in &mut self.crew {
            worker.ready().map_err(|e| none(e.to_string()))?;
        }
        if self.seat.is_none() && !self.core.hold {
            self.seat = Some(Seat::new().map_err(|e| none(e.to_string()))?);
        }
        Ok(())
    }

    /// From here on, messages wait.
    pub(super) fn stand_still(&mut self, timeout: Option<Duration>) -> Result<(), UpgradeError> {
        self.pause = match (self.stopped, timeout) {
            (Some(_), Some(longer)) => self.pause.max(longer),
            (Some(_), None) => self.pause,
            (None, timeout) => timeout.unwrap_or(PAUSE),
        };
        if self.taken.is_none() {
            self.taken = self.core.standing.take();
        }
        if self.taken.is_none() {
            let running = self.core.running.take();
            let mut running =
                running.ok_or_else(|| UpgradeError::Suspend("nothing runs".into()))?;
            self.anticipate(&mut running);
            let asked = Instant::now();
            match running.take(timeout.unwrap_or(SUSPEND)) {
                Ok(taken) => self.taken = Some(taken),
                Err(not) => {
                    self.core.running = not.thread.map(|thread| *thread);
                    return Err(not.error.into());
                }
            }
            self.stopped = Some(asked);
        }
        self.stopped.get_or_insert_with(Instant::now);
        fault::point("upgrade.suspended");
        Ok(())
    }

    /// Does all of the pause's work that can be done while messages are served, and wakes those who have a part in it.
    fn anticipate(&mut self, running: &mut ShardThread) {
        // The end of a thread that was left earlier would fall into the pause.
        running.before.join();
        prepare_views(running);
        if !self.flipped {
            self.supervisor = Some(Supervisor::of_release(&self.goal.package));
            self.foresee();
        }
        // They stay awake for a moment only: once more if one of them took its time.
        for _ in 0..3 {
            let began = Instant::now();
            if let Some(seat) = &self.seat {
                seat.wake();
            }
            running.keep_awake();
            for worker in std::iter::once(&self.worker).chain(&self.crew) {
                worker.wake();
            }
            if began.elapsed() < AWAKE / 4 {
                break;
            }
        }
    }

    /// Step 2: no message from here on; the old versions stop their work. Those that do not depend on each
    /// other do so at the same time.
    pub(super) fn suspend(
        &mut self,
        components: &[String],
        timeout: Option<Duration>,
    ) -> Result<(), UpgradeError> {
        let packages = [&self.core.package, &self.goal.package];
        let needs = |name: &str| {
            let manifests = packages
                .iter()
                .filter_map(|package| package.component(name));
            let all = manifests.flat_map(|manifest| &manifest.depends_on);
            all.map(|one| one.component.clone()).collect()
        };
        let rounds = rounds(components, &needs);
        self.stand_still(timeout)?;
        if self.core.untrusted {
            return Ok(());
        }
        for round in rounds {
            let shard = self.taken.as_ref().map(|taken| &taken.shard);
            let of = |component: &&str| shard.map_or_else(Vec::new, |one| one.places_of(component));
            let places: Vec<usize> = round.iter().flat_map(of).collect();
            for some in places.chunks(AT_ONCE) {
                self.quiesce(some)?;
            }
        }
        Ok(())
    }

    /// Lets these instances stop their work, all at the same time. What each wrote is committed.
    fn quiesce(&mut self, places: &[usize]) -> Result<(), UpgradeError> {
        let until = Instant::now() + self.left()?;
        let Some(taken) = &mut self.taken else {
            unreachable!("just taken")
        };
        let shard = &mut taken.shard;
        while self.crew.len() + 1 < places.len() {
            self.crew.push(Worker::default());
        }
        let workers = std::iter::once(&mut self.worker).chain(&mut self.crew);
        let mut begun = Vec::new();
        let mut result = Ok(());
        for (&at, worker) in places.iter().zip(workers) {
            let called = outside(shard, at);
            let instance = &mut shard.instances[at];
            let gate = Gate::open(instance.attached.handle(), &mut instance.region);
            match called.begin(worker, Function::Quiesce, None, &gate) {
                Ok(call) => begun.push((at, gate, worker, call)),
                Err(error) => {
                    gate.end(&mut shard.instances[at].region);
                    result = result.and(Err(error.into()));
                }
            }
        }
        for (at, gate, worker, call) in begun {
            let called = call.end(worker, until.saturating_duration_since(Instant::now()));
            let instance = &mut shard.instances[at];
            gate.end(&mut instance.region);
            let done = match called {
                Ok((_, mut effects)) => match instance.region.commit() {
                    Ok(_) => {
                        shard.carry_out(at, &mut effects);
                        Ok(())
                    }
                    Err(error) => {
                        let component = &instance.component;
                        let text = format!("quiesce of {component}: {error}");
                        Err(UpgradeError::Suspend(text))
                    }
                },
                Err(error) => {
                    instance.region.abort();
                    Err(error.into())
                }
            };
            result = result.and(done);
        }
        result
    }
}

/// Lets all regions copy the views that the calls in the pause will need, between messages and a few at a time, so
/// that none is copied then.
fn prepare_views(running: &ShardThread) {
    let prepare = |shard: &mut Shard| {
        let prepared = |one: &mut Instance| one.region.prepare_views(VIEWS);
        shard.instances.iter_mut().all(prepared)
    };
    // If the loop does not answer, the pause will say so.
    while running.look(SUSPEND, prepare) == Some(false) {}
}

/// Groups components so that those of one round have nothing to do with each other, and of two that depend on
/// each other, if only by way of a third, the one that stands first comes in an earlier round.
fn rounds<'a>(components: &'a [String], needs: &dyn Fn(&str) -> Vec<String>) -> Vec<Vec<&'a str>> {
    let reach = |name: &str| {
        let mut reached = BTreeSet::new();
        let mut next = needs(name);
        while let Some(one) = next.pop() {
            if reached.insert(one.clone()) {
                next.extend(needs(&one));
            }
        }
        reached
    };
    let reached: Vec<BTreeSet<String>> = components.iter().map(|name| reach(name)).collect();
    let mut levels: Vec<usize> = Vec::with_capacity(components.len());
    let mut rounds: Vec<Vec<&str>> = Vec::new();
    for (number, name) in components.iter().enumerate() {
        let related = |other: &usize| {
            reached[number].contains(&components[*other]) || reached[*other].contains(name)
        };
        let before = (0..number).filter(related).map(|other| levels[other] + 1);
        let level = before.max().unwrap_or(0);
        levels.push(level);
        if rounds.len() <= level {
            rounds.push(Vec::new());
        }
        rounds[level].push(name);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grouped(components: &str, edges: &[(&str, &str)]) -> String {
        let components: Vec<String> = components.split(' ').map(str::to_owned).collect();
        let needs = |name: &str| {
            let mine = edges.iter().filter(|(from, _)| *from == name);
            mine.map(|(_, to)| (*to).to_owned()).collect()
        };
        let rounds = rounds(&components, &needs);
        let rounds: Vec<String> = rounds.iter().map(|round| round.join(" ")).collect();
        rounds.join(" | ")
    }

    #[test]
    fn only_what_is_related_waits_for_each_other() {
        assert_eq!(grouped("a b c", &[]), "a b c");
        assert_eq!(grouped("a b c", &[("a", "b"), ("b", "c")]), "a | b | c");
        assert_eq!(grouped("a x b y", &[("a", "b"), ("x", "y")]), "a x | b y");
        // By way of one that is not suspended.
        assert_eq!(grouped("a b", &[("a", "m"), ("m", "b")]), "a | b");
        // Whoever stands first goes first, whichever way the arrow points.
        assert_eq!(grouped("b a", &[("a", "b")]), "b | a");
        assert_eq!(grouped("a b", &[("a", "b"), ("b", "a")]), "a | b");
    }
}
