//! The end of an upgrade: what is not needed any more is closed, or all that was made is forgotten.

use std::sync::Arc;

use neurath_manifest::{PurgeKind, StartType, Step};

use super::part::{Course, NewState, Part};
use super::{PAUSE, Upgrade, UpgradeError, Way, outside};
use crate::fault;
use crate::journal::Verdict;
use crate::loader::{Function, Library};
use crate::mapping::Gate;
use crate::protocol::Retained;

impl Upgrade<'_> {
    /// Waits for the threads that have run the libraries' code: a library that is closed before
    /// would stay in memory.
    fn join_threads(&mut self) {
        self.worker.join();
        self.crew.clear();
        if let Some(running) = &mut self.core.running {
            running.before.join();
        }
        if let Some(standing) = &mut self.core.standing {
            standing.before.join();
        }
    }

    /// Closes what is not needed any more; keeps what the way back needs.
    pub(super) fn settle(&mut self) -> (Vec<String>, Vec<Retained>) {
        self.join_threads();
        let replaced: Vec<_> = self.replaced.drain(..).collect();
        // What serves now is not kept for the way back, and not closed. The parts hold the
        // last other references.
        let mut old = self.settle_loaded();
        let stays = |part: &Part| part.course != Course::Removed;
        let parts = self.parts.drain(..).filter(stays);
        let in_use: Vec<Arc<Library>> = parts.map(|part| part.library).collect();
        self.core
            .warm
            .retain(|warm| !in_use.iter().any(|used| Arc::ptr_eq(used, warm)));
        for (library, region) in replaced {
            drop(region);
            // A component that only started again has the same one, and several instances share
            // one.
            let mut known = in_use.iter().chain(&old);
            if !known.any(|known| Arc::ptr_eq(known, &library)) {
                old.push(library);
            }
        }
        drop(in_use);
        // The way back needs those of versions between as well.
        for library in self.between.drain(..) {
            if !self
                .core
                .warm
                .iter()
                .any(|warm| Arc::ptr_eq(warm, &library))
            {
                old.push(library);
            }
        }
        if self.goal.way == Way::Forward {
            // The way back finds it open, unless it is to go at once.
            let (now, mut kept): (Vec<_>, Vec<_>) = old
                .into_iter()
                .partition(|library| self.goes_at_once(library));
            self.core.warm.append(&mut kept);
            let unloaded = self.core.close_libraries(now);
            return (unloaded, self.core.retained());
        }
        // Back where it came from: nothing leads to the newer release any more.
        old.append(&mut self.core.warm);
        let unloaded = self.core.close_libraries(old);
        self.core.remove_orphans();
        (unloaded, self.core.retained())
    }

    /// Notes which libraries are open in the new release and run nothing; gives those that are not
    /// wanted any more.
    fn settle_loaded(&mut self) -> Vec<Arc<Library>> {
        let release = self.goal.package.release();
        let wanted = |library: &Arc<Library>| {
            let known = library.description();
            let found = release.component(&known.name);
            found.is_some_and(|one| {
                one.start == StartType::Load && one.version.to_string() == known.version
            })
        };
        let before = std::mem::take(&mut self.core.loaded);
        let (mut stay, old): (Vec<_>, Vec<_>) = before.into_iter().partition(wanted);
        let come = self.parts.iter().filter(|part| {
            let known = stay
                .iter()
                .any(|one| one.description().name == part.component);
            part.at.is_none() && part.course == Course::Switched && !known
        });
        let come: Vec<_> = come
            .map(|part| part.library.clone())
            .filter(wanted)
            .collect();
        stay.extend(come);
        self.core.loaded = stay;
        old
    }

    /// Whether the script purges a library brutally.
    fn goes_at_once(&self, library: &Library) -> bool {
        let known = library.description();
        self.goal.steps.iter().any(|step| {
            matches!(step, Step::Purge { component, version, kind: PurgeKind::Brutal }
                if *component == known.name && version.to_string() == known.version)
        })
    }

    /// Forgets all that was made, and lets the old release go on.
    pub(super) fn undo(mut self, cause: UpgradeError) -> UpgradeError {
        if self.flipped {
            let text = "the new release is the current one, and cannot run".to_owned();
            self.end(Verdict::OperatorNeeded, text.clone());
            return UpgradeError::Lost {
                cause: Box::new(cause),
                text,
            };
        }
        fault::point("upgrade.undoing");
        self.tell();
        if let Err(error) = self.record() {
            tracing::error!(%error, "a step could not be recorded");
        }
        let mut trouble = self.go_on_in_old();
        trouble.extend(self.undo_reconfigured());
        trouble.extend(self.undo_called());
        // What goes on in its old code is not closed.
        let mut serving: Vec<Arc<Library>> = self.core.loaded.clone();
        if let Some(taken) = &self.taken {
            let instances = taken.shard.instances.iter();
            serving.extend(instances.map(|instance| instance.library.clone()));
        }
        let parts = self.parts.drain(..).map(|part| part.library);
        let made = |library: &Arc<Library>| !serving.iter().any(|one| Arc::ptr_eq(one, library));
        let libraries: Vec<_> = parts.chain(self.between.drain(..)).filter(made).collect();
        drop(serving);
        if let Err(error) = self.resume() {
            trouble.push(error.to_string());
        }
        self.join_threads();
        let cause = if trouble.is_empty() {
            self.end(Verdict::Undone, cause.to_string());
            cause
        } else {
            let text = trouble.join("; ");
            self.end(Verdict::OperatorNeeded, text.clone());
            UpgradeError::Lost {
                cause: Box::new(cause),
                text,
            }
        };
        // Those of the way back stay; the others are nobody's.
        self.core.close_libraries(libraries);
        self.core.remove_orphans();
        cause
    }

    /// The old versions get their states back, and start again on them; what did not go well.
    fn go_on_in_old(&mut self) -> Vec<String> {
        let mut trouble = Vec::new();
        let Some(taken) = &mut self.taken else {
            return trouble;
        };
        for part in &mut self.parts {
            part.started = None;
            let shard = &mut taken.shard;
            if let (Some(place), NewState::Begun(..)) = (part.at, &part.state) {
                shard.instances[place].region.cancel_conversion();
            }
            if !part.terminated {
                continue;
            }
            // The old version gets its handle back, and starts again on its state.
            let Some(place) = part.at else { continue };
            let outside = outside(shard, place);
            let instance = &mut shard.instances[place];
            instance.region.abort();
            instance.region.attach(instance.attached.handle());
            let gate = Gate::open(instance.attached.handle(), &mut instance.region);
            let called = outside.call(&mut self.worker, Function::Init, &gate, PAUSE);
            gate.end(&mut instance.region);
            match called {
                Ok((_, mut effects)) => {
                    instance.ended = None;
                    if let Err(error) = instance.region.commit() {
                        trouble.push(error.to_string());
                    }
                    shard.carry_out(place, &mut effects);
                }
                Err(error) => {
                    instance.region.abort();
                    trouble.push(error.to_string());
                }
            }
        }
        trouble
    }
}
