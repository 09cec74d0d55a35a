//! The switch: what the script has prepared becomes what runs, all of it at once.

use std::time::Duration;

use neurath_abi::MessageKind;
use neurath_pmem::Handle;
use neurath_pmem::region::Durability;

use super::part::{Course, NewState, Part};
use super::{Outside, RAISE_TIMEOUT, TERMINATE, Upgrade, UpgradeError, outside};
use crate::fault;
use crate::loader::Function;
use crate::mapping::{Attached, Gate};
use crate::node::mailbox_of;
use crate::shard::effects::Effects;
use crate::shard::supervisor::Supervisor;
use crate::shard::{Instance, Seat};
use crate::waiting::AWAKE;

impl Upgrade<'_> {
    /// Steps 4 to 6 of every instance, the flip, and the first message to the new code.
    pub(super) fn switch(&mut self) -> Result<(), UpgradeError> {
        // Nothing may have been suspended: components only come.
        self.stand_still(None)?;
        self.carry_out_moves(true)?;
        for at in 0..self.parts.len() {
            let part = &self.parts[at];
            let component = &part.component;
            let prepared = matches!(part.state, NewState::Prepared(_) | NewState::Stepwise(_));
            if prepared && !part.same_schema {
                let what = format!(
                    "the state of `{component}` changes, and the script has no code_change for it"
                );
                return Err(UpgradeError::Script(what));
            }
            let goes_on = match part.course {
                Course::Ready => continue,
                Course::Switched => part.at.is_some(),
                Course::Started => true,
                Course::Removed => false,
                Course::Stopped => {
                    let what =
                        format!("`{component}` is stopped, and neither started again nor removed");
                    return Err(UpgradeError::Script(what));
                }
            };
            if prepared {
                // A new file of the same schema: the script has no step for it.
                self.convert(at, "{}".into())?;
            }
            self.end_old(at)?;
            if goes_on {
                self.start_new(at)?;
            } else if !self.parts[at].hooks.is_empty() {
                let component = &self.parts[at].component;
                let what = format!("a hook of `{component}`, which is not started");
                return Err(UpgradeError::Script(what));
            }
        }
        self.reconfigure()?;
        let budget = self.left();
        fault::point("upgrade.initialised");
        budget?;
        let durable = self.make_durable()?;
        if let Some(seat) = &self.seat
            && self.stopped.is_none_or(|since| since.elapsed() > AWAKE / 2)
        {
            // It may have gone to sleep again.
            seat.wake();
        }
        self.flip()?;
        self.flipped = true;
        if durable {
            // The new code's first answer must not outlive the flip.
            self.core.catalog.settle()?;
        }
        fault::point("upgrade.flipped");
        self.keep_reconfigured();
        self.hand_over();
        self.resume()
    }

    /// Steps 4 and 5: a dummy for the old version, which terminates.
    fn end_old(&mut self, at: usize) -> Result<(), UpgradeError> {
        let deadline = self.left()?;
        let part = &mut self.parts[at];
        let (Some(place), Some(taken)) = (part.at, &mut self.taken) else {
            return Ok(());
        };
        let shard = &mut taken.shard;
        let old = outside(shard, place);
        // The old version's handle leads to a dummy from here on.
        shard.instances[place].region.detach();
        part.terminated = true;
        if self.core.untrusted {
            return Ok(());
        }
        // It works on what it sees through the dummy; whatever it says changes nothing.
        let gate = Gate::to_dummy();
        let deadline = TERMINATE.min(deadline);
        let called = old.call(&mut self.worker, Function::Terminate, &gate, deadline);
        if let Err(error) = called {
            tracing::warn!(%error, "the old version did not terminate well");
        }
        fault::point("upgrade.terminated");
        Ok(())
    }

    /// Step 6: the new version gets its handle, looks at the state, and starts.
    fn start_new(&mut self, at: usize) -> Result<(), UpgradeError> {
        let deadline = self.left()?;
        let Some(taken) = &mut self.taken else {
            return Err(UpgradeError::Script("a start before any suspend".into()));
        };
        let part = &mut self.parts[at];
        let shard = &mut taken.shard;
        let listening = shard.listening(part.at);
        let running = part.at.map(|place| &mut shard.instances[place].region);
        let region = match (&mut part.state, running) {
            (NewState::Made(region), _) => region,
            (_, Some(region)) => region,
            (_, None) => {
                let what = format!("`{}` starts, and has no state", part.component);
                return Err(UpgradeError::Script(what));
            }
        };
        let stats = region.stats();
        let new = Outside {
            component: part.component.clone(),
            number: part.number,
            library: part.library.clone(),
            config: part.config.clone(),
            peers: self.peers.clone(),
            listening,
            inherited: shard.inherited.clone(),
            figures: self.core.figures.clone(),
            region: (stats.file_bytes, stats.live_bytes),
            setting: RAISE_TIMEOUT,
        };
        let worker = &mut self.worker;
        let handle = Handle::new();
        region.attach(&handle);
        let gate = Gate::open(&handle, region);
        let checked = new
            .clone()
            .call(worker, Function::CheckState, &gate, deadline);
        if checked.is_ok() {
            region.abort();
        }
        let started = checked.and_then(|_| {
            let init = new.clone().call(worker, Function::Init, &gate, deadline);
            let mut effects = vec![init?.1];
            for (hook, args) in part.hooks.drain(..) {
                let arguments = Some((MessageKind::HOOK, args));
                let called = new.clone();
                let called = called.call_with(worker, hook, arguments, &gate, deadline);
                effects.push(called?.1);
                fault::point("upgrade.hook-called");
            }
            Ok(effects)
        });
        gate.end(region);
        // What `init` and the hooks wrote stays in its open transaction until the flip.
        part.started = Some(started?);
        Ok(())
    }

    /// Makes what the flip refers to as durable as its regions are; whether any survives a
    /// loss of power.
    fn make_durable(&mut self) -> Result<bool, UpgradeError> {
        let Some(taken) = &mut self.taken else {
            unreachable!("still standing")
        };
        let kept = taken.shard.instances.iter_mut();
        let kept = kept.map(|instance| (instance.component.clone(), &mut instance.region));
        let made = self
            .parts
            .iter_mut()
            .filter_map(|part| match &mut part.state {
                NewState::Made(region) => Some((part.component.clone(), &mut **region)),
                _ => None,
            });
        let mut durable = false;
        for (component, region) in kept.chain(made) {
            region.make_durable().map_err(|error| {
                UpgradeError::Script(format!("the state of {component}: {error}"))
            })?;
            durable |= region.durability() == Durability::Power;
        }
        Ok(durable)
    }

    /// Puts the new code and state into the instances' places. Who is new comes last, and who
    /// goes leaves when all others have theirs.
    fn hand_over(&mut self) {
        let Some(taken) = &mut self.taken else {
            unreachable!("still standing")
        };
        let shard = &mut taken.shard;
        for part in &mut self.parts {
            let Some(mut effects) = part.started.take() else {
                continue;
            };
            let state = std::mem::replace(&mut part.state, NewState::Kept);
            let place = match (part.at, state) {
                (Some(place), state) => {
                    let instance = &mut shard.instances[place];
                    let before = match state {
                        NewState::Made(region) => {
                            self.core.end_of_sweep(&part.component, part.number);
                            Some(std::mem::replace(&mut instance.region, *region))
                        }
                        NewState::Begun(_, libraries) => {
                            // A node that starts again does the same.
                            if let Err(error) = instance.region.enter_conversion() {
                                let component = &part.component;
                                tracing::error!(component, %error, "the state takes no changes");
                            }
                            let of = (part.component.as_str(), part.number);
                            self.core.keep_for_sweep(of, libraries);
                            None
                        }
                        _ => None,
                    };
                    let old = std::mem::replace(&mut instance.library, part.library.clone());
                    self.replaced.push((old, before));
                    place
                }
                (None, NewState::Made(region)) => {
                    let (name, library) = (part.component.clone(), part.library.clone());
                    let generation = part.entry.as_ref().map_or(0, |entry| entry.generation);
                    let config = part.config.clone();
                    let number = part.number;
                    let new = Instance::new(name, number, library, *region, generation, config);
                    shard.add(new)
                }
                (None, _) => unreachable!("`start_new` refuses to start without a state"),
            };
            let instance = &mut shard.instances[place];
            // What `init` has written. It belongs to the release that is current now; without
            // it the state is as `code_change` left it, which a restart would start from too.
            if let Err(error) = instance.region.commit() {
                tracing::error!(component = part.component, %error, "what init wrote is lost");
            }
            instance.attached = Attached::new();
            instance.region.attach(instance.attached.handle());
            instance.config.clone_from(&part.config);
            instance.mailbox = mailbox_of(&self.goal.package, &part.component);
            instance.ended = None;
            instance.begun = true;
            if let Some(entry) = &part.entry {
                instance.generation = entry.generation;
            }
            // It listens where it would after a start: where its `init`, or a hook, has asked to.
            let asked: Vec<String> = effects
                .iter_mut()
                .flat_map(Effects::take_asked_for)
                .collect();
            for mut effects in effects {
                shard.carry_out(place, &mut effects);
            }
            shard.keep_listeners(place, |address| asked.iter().any(|one| one == address));
        }
        let gone = |part: &Part| {
            (part.course == Course::Removed)
                .then_some(part.at)
                .flatten()
        };
        let mut gone: Vec<usize> = self.parts.iter().filter_map(gone).collect();
        // From the end, so that places stay what they are until their turn.
        gone.sort_unstable_by(|a, b| b.cmp(a));
        for place in gone {
            let instance = shard.remove(place);
            self.replaced
                .push((instance.library, Some(instance.region)));
        }
        let supervisor = self.supervisor.take();
        let supervisor = supervisor.unwrap_or_else(|| Supervisor::of_release(&self.goal.package));
        shard.supervisor.succeed(supervisor);
    }

    /// Lets the shard run, on a thread that has seen nothing of the old code.
    pub(super) fn resume(&mut self) -> Result<(), UpgradeError> {
        let Some(taken) = self.taken.take() else {
            return Ok(());
        };
        if self.core.hold {
            // The node is starting: it serves when all is in place.
            self.core.standing = Some(taken);
        } else {
            let seat = self.seat.take().map_or_else(Seat::new, Ok);
            let running = seat
                .and_then(|seat| taken.run(seat))
                .map_err(|error| UpgradeError::Suspend(error.to_string()))?;
            self.core.running = Some(running);
        }
        self.stop += self
            .stopped
            .take()
            .map_or(Duration::ZERO, |since| since.elapsed());
        fault::point("upgrade.resumed");
        Ok(())
    }
}
