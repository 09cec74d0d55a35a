//! What a script calls by name: hooks and commands, and what undoes them.
//!
//! A hook is called where it stands in the script, in the code that the component has there. Code that
//! was switched to is not started before the switch: its hooks are called then, right after its `init`
//! and in the transaction of that, which is dropped if the upgrade is undone. What the old code does is
//! committed at once, as clients may see it; only an inverse, if the script names one, can undo it. So
//! the catalog knows of the inverse before the call is made: it is called also if the node is killed.

use std::time::Duration;

use neurath_abi::MessageKind;
use neurath_manifest::{ApplyTarget, Step};

use super::part::Course;
use super::{PAUSE, Upgrade, UpgradeError, changes_what_runs, outside};
use crate::catalog::CatalogError;
use crate::command;
use crate::fault;
use crate::loader::{Function, Library};
use crate::mapping::Gate;
use crate::node::Core;
use crate::shard::effects::Effects;
use crate::shard::{Shard, Taken};
use crate::waiting::CalledOff;
use crate::worker::Worker;

impl Upgrade<'_> {
    /// Calls a hook or a command.
    pub(super) fn apply(
        &mut self,
        target: &ApplyTarget,
        undo: Option<&ApplyTarget>,
    ) -> Result<(), UpgradeError> {
        if let ApplyTarget::Hook {
            component,
            hook,
            args,
        } = target
            && !self.flipped
            && self.call_at_the_switch(component, hook, args)?
        {
            return Ok(());
        }
        if let Some(undo) = undo.filter(|_| !self.flipped) {
            owe(self.core, undo)?;
        }
        let called = match target {
            ApplyTarget::Hook { .. } => self.between_messages(target),
            ApplyTarget::Command(words) => {
                let deadline = if self.stopped.is_some() {
                    self.left()?
                } else {
                    PAUSE
                };
                run(self.core, words, deadline)
            }
        };
        fault::point("upgrade.applied");
        called
    }

    /// Whether a hook is one of new code, which is called when that has started.
    fn call_at_the_switch(
        &mut self,
        component: &str,
        hook: &str,
        args: &impl serde::Serialize,
    ) -> Result<bool, UpgradeError> {
        let mut later = false;
        for part in &mut self.parts {
            if part.component != component {
                continue;
            }
            match part.course {
                // The old code is there yet, and is what is meant.
                Course::Ready | Course::Stopped => {}
                Course::Switched | Course::Started => {
                    let function = hook_of(&part.library, hook)?;
                    part.hooks.push((function, json(args)?));
                    later = true;
                }
                Course::Removed => {
                    let what = format!("a hook of `{component}`, which goes");
                    return Err(UpgradeError::Script(what));
                }
            }
        }
        Ok(later)
    }

    /// Calls a hook while nothing else runs; lets the shard go on if it did before.
    fn between_messages(&mut self, target: &ApplyTarget) -> Result<(), UpgradeError> {
        let stood = self.taken.is_some();
        if !stood {
            self.make_threads()?;
            self.stand_still(None)?;
        }
        let deadline = self.left();
        let called = match (deadline, &mut self.taken) {
            (Ok(deadline), Some(taken)) => call(taken, &mut self.worker, target, deadline),
            (Ok(_), None) => Err(UpgradeError::Script("a hook, and nothing runs".into())),
            (Err(error), _) => Err(error),
        };
        if !stood {
            self.resume()?;
            if !self.flipped {
                self.make_threads()?;
            }
        }
        called
    }

    /// Looks whether every hook that the script will call is there.
    pub(super) fn check_hooks(&mut self) -> Result<(), UpgradeError> {
        let steps = &self.goal.steps;
        let is_hook = |step: &Step| {
            let Step::Apply { target, undo } = step else {
                return false;
            };
            let all = [Some(target), undo.as_ref()];
            all.into_iter()
                .flatten()
                .any(|one| one.component().is_some())
        };
        if !steps.iter().any(is_hook) {
            return Ok(());
        }
        let old = self.look(|instances| {
            let libraries = instances
                .iter()
                .map(|i| (i.component.clone(), i.library.clone()));
            libraries.collect::<Vec<_>>()
        })?;
        let last = steps.iter().rposition(changes_what_runs).unwrap_or(0);
        let mut switched: Vec<&str> = Vec::new();
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Load { component, .. } => switched.push(component),
                Step::Start { components } => {
                    switched.extend(components.iter().map(String::as_str))
                }
                Step::Apply { target, undo } => {
                    for (target, inverse) in [(Some(target), false), (undo.as_ref(), true)] {
                        let Some(ApplyTarget::Hook {
                            component, hook, ..
                        }) = target
                        else {
                            continue;
                        };
                        let new = index > last || switched.contains(&component.as_str());
                        let part = self.parts.iter().find(|part| part.component == *component);
                        let part = part.filter(|_| new && !inverse).map(|part| &part.library);
                        let old = || {
                            let mut known = old.iter();
                            known
                                .find(|(name, _)| name == component)
                                .map(|(_, library)| library)
                        };
                        let library = part.or_else(old).ok_or_else(|| {
                            UpgradeError::Script(format!(
                                "a hook of `{component}`, which does not run"
                            ))
                        })?;
                        hook_of(library, hook)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Calls what undoes the hooks and commands so far, the last one first; what went wrong.
    pub(super) fn undo_called(&mut self) -> Vec<String> {
        if self.core.catalog.state().undo.is_empty() {
            return Vec::new();
        }
        let stood = self.taken.is_some();
        let mut trouble = Vec::new();
        if !stood && let Err(error) = self.stand_still(None) {
            trouble.push(error.to_string());
        }
        match &mut self.taken {
            Some(taken) => trouble.extend(undo_all(self.core, taken, &mut self.worker)),
            None => trouble.push("what undoes its hooks and commands was not called".into()),
        }
        trouble
    }
}

/// The hook of a library by its name.
fn hook_of(library: &Library, hook: &str) -> Result<Function, UpgradeError> {
    let description = library.description();
    library.hook(hook).ok_or_else(|| {
        let known = match description.hooks.as_slice() {
            [] => "it has none".to_owned(),
            hooks => format!("it has {}", hooks.join(", ")),
        };
        UpgradeError::Script(format!(
            "{} {} has no hook `{hook}`: {known}",
            description.name, description.version
        ))
    })
}

/// The arguments as the component reads them.
fn json(args: &impl serde::Serialize) -> Result<String, UpgradeError> {
    serde_json::to_string(args).map_err(|error| UpgradeError::Script(error.to_string()))
}

/// Calls a hook of every instance of a component on a shard that stands still, each in a transaction
/// of its own; all are committed, or none.
fn call(
    taken: &mut Taken,
    worker: &mut Worker,
    target: &ApplyTarget,
    deadline: Duration,
) -> Result<(), UpgradeError> {
    let ApplyTarget::Hook {
        component,
        hook,
        args,
    } = target
    else {
        unreachable!("a command is no hook")
    };
    let shard = &mut taken.shard;
    let mine = shard.places_of(component);
    if mine.is_empty() {
        let what = format!("a hook of `{component}`, which does not run");
        return Err(UpgradeError::Script(what));
    }
    let mut all = Vec::new();
    for &at in &mine {
        match call_one(shard, at, worker, (hook, json(args)?), deadline) {
            Ok(effects) => all.push((at, effects)),
            Err(error) => {
                // What the others wrote is not committed yet.
                for &at in &mine {
                    shard.instances[at].region.abort();
                }
                return Err(error);
            }
        }
    }
    for (at, mut effects) in all {
        shard.instances[at].region.commit().map_err(|error| {
            UpgradeError::Script(format!("hook {hook} of {component}: {error}"))
        })?;
        shard.carry_out(at, &mut effects);
    }
    Ok(())
}

/// Calls a hook of one instance; its transaction stays open.
fn call_one(
    shard: &mut Shard,
    at: usize,
    worker: &mut Worker,
    (hook, arguments): (&str, String),
    deadline: Duration,
) -> Result<Effects, UpgradeError> {
    let outside = outside(shard, at);
    let instance = &mut shard.instances[at];
    let function = hook_of(&instance.library, hook)?;
    let message = Some((MessageKind::HOOK, arguments));
    let gate = Gate::open(instance.attached.handle(), &mut instance.region);
    let called = outside.call_with(worker, function, message, &gate, deadline);
    gate.end(&mut instance.region);
    Ok(called?.1)
}

/// Runs a command; not in a rehearsal, whose directory it would reach out of.
fn run(core: &Core, words: &[String], deadline: Duration) -> Result<(), UpgradeError> {
    match core.rehearsal {
        true => Ok(()),
        false => Ok(command::run(
            words,
            core.directory.path(),
            deadline,
            CalledOff::NEVER,
        )?),
    }
}

/// Lets the catalog know what undoes the call that is about to be made.
fn owe(core: &mut Core, undo: &ApplyTarget) -> Result<(), CatalogError> {
    let step = Step::Apply {
        target: undo.clone(),
        undo: None,
    };
    let mut state = core.catalog.state().clone();
    state.undo.push(step.to_json());
    core.catalog.commit(state)
}

/// Calls all that the catalog knows to undo, the last one first, and forgets it; what went wrong.
fn undo_all(core: &mut Core, taken: &mut Taken, worker: &mut Worker) -> Vec<String> {
    let mut state = core.catalog.state().clone();
    let mut trouble = Vec::new();
    for step in std::mem::take(&mut state.undo).iter().rev() {
        let read = Step::script_from_json(std::slice::from_ref(step));
        let undone = match read.as_deref() {
            Ok([Step::Apply { target, .. }]) => match target {
                ApplyTarget::Hook { .. } => call(taken, worker, target, PAUSE),
                ApplyTarget::Command(words) => run(core, words, PAUSE),
            },
            _ => Err(UpgradeError::Script(format!(
                "the catalog has no `apply`: {step}"
            ))),
        };
        fault::point("upgrade.undone");
        if let Err(error) = undone {
            trouble.push(format!("what undoes a call of the upgrade failed: {error}"));
        }
    }
    if let Err(error) = core.catalog.commit(state) {
        trouble.push(error.to_string());
    }
    trouble
}

/// At a start: calls what undoes the hooks and commands of an upgrade that the end of the process before
/// has cut off.
pub(crate) fn undo_interrupted(core: &mut Core, who: &str) -> Result<(), UpgradeError> {
    if core.catalog.state().undo.is_empty() {
        return Ok(());
    }
    let operation = core.begin("undo", who)?;
    let Some(mut taken) = core.standing.take() else {
        return Ok(());
    };
    let trouble = undo_all(core, &mut taken, &mut Worker::default());
    core.standing = Some(taken);
    let (verdict, text) = match trouble.as_slice() {
        [] => (
            crate::journal::Verdict::Done,
            "the calls of an interrupted upgrade".to_owned(),
        ),
        trouble => (crate::journal::Verdict::OperatorNeeded, trouble.join("; ")),
    };
    core.end(&operation, who, verdict, text);
    Ok(())
}
