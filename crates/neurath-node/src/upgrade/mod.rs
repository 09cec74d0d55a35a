//! The executor: carries a plan out, or leaves everything as it was.
//!
//! Until the catalog's flip, all that is made can be forgotten: new libraries, new
//! generations of regions, the open transactions of the new versions' `init`. The old
//! version's library stays open and its region untouched. From the flip on, the new release
//! is the current one, whatever happens.

mod apply;
mod chain;
mod convert;
mod course;
mod ending;
mod error;
mod flip;
mod goal;
pub(crate) mod history;
mod load;
mod meet;
mod moves;
mod outside;
mod part;
mod reconfigure;
mod reset;
pub(crate) mod stepwise;
mod suspend;
mod switch;
mod via;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use neurath_manifest::{PurgeKind, Step};
use neurath_pmem::migrate::Source;
use neurath_pmem::region::Region;

pub(crate) use apply::undo_interrupted;
pub use error::{CallFailed, UpgradeError};
pub(crate) use goal::{Begun, Goal, Way};
pub(crate) use load::region_options;
use outside::RAISE_TIMEOUT;
pub(crate) use outside::{FIXED, Outside};

use crate::catalog::{ReleaseId, State};
use crate::fault;
use crate::journal::{JournalError, Kind, Verdict};
use crate::loader::Library;
use crate::node::Core;
use crate::protocol::{Progress, StepTime, ThrownAway, Upgraded};
use crate::release::ReleasePackage;
use crate::shard::peers::Peers;
use crate::shard::supervisor::Supervisor;
use crate::shard::{Instance, Seat, Taken};
use crate::worker::Worker;
use flip::Foreseen;
use part::{Course, Part};
use reconfigure::Reconfigured;

/// How long messages may wait if the appup does not say otherwise.
const PAUSE: Duration = neurath_plan::PAUSE;
/// How long the event loop has to come to a message boundary.
const SUSPEND: Duration = Duration::from_secs(5);
/// How long an old version may take over its clean-up.
const TERMINATE: Duration = Duration::from_secs(1);
/// Steps in a pause shorter than this are told of when it is over: clients would wait for each
/// line. A longer one is told as it goes.
const SHORT_PAUSE: Duration = Duration::from_millis(20);

/// The carrying out of one plan.
pub(crate) struct Upgrade<'a> {
    core: &'a mut Core,
    goal: &'a Goal,
    progress: &'a mut dyn FnMut(Progress),
    /// The package of the goal, to be the node's; after the flip the one before.
    package: Arc<ReleasePackage>,
    parts: Vec<Part>,
    /// Components that run on with another configuration.
    reconfigured: Vec<Reconfigured>,
    /// The configuration of each component of the goal, JSON, once somebody has asked.
    configs: Option<Arc<BTreeMap<String, String>>>,
    /// Whether there are some: telling them is a step beside those of the script.
    tells: bool,
    /// Libraries of versions between, which only convert.
    between: Vec<Arc<Library>>,
    /// Moves that the script has come to, and whose states are not all there.
    moves: moves::Waiting,
    /// The shard while it stands still.
    taken: Option<Taken>,
    /// Since when messages wait.
    stopped: Option<Instant>,
    pause: Duration,
    stop: Duration,
    times: Vec<StepTime>,
    /// Steps that are not recorded yet. Clients would wait for the journal, so that the steps of
    /// a pause are recorded after it, however long it is: which durable steps follow each other
    /// does not depend on time.
    unrecorded: Vec<Kind>,
    /// Steps that are not told of yet.
    untold: Vec<Progress>,
    /// Runs what is called of libraries outside of the event loop.
    worker: Worker,
    /// More of them, for what is suspended at the same time.
    crew: Vec<Worker>,
    /// The thread that the shard will run on.
    seat: Option<Seat>,
    /// Who can be sent to in the goal.
    peers: Arc<Peers>,
    /// Who supervises its components; made before the pause.
    supervisor: Option<Supervisor>,
    /// The flip, made ready before the pause.
    foreseen: Option<Foreseen>,
    /// What the catalog said before the flip.
    before: Option<State>,
    /// The old versions' libraries and regions, after the flip.
    replaced: Vec<(Arc<Library>, Option<Region>)>,
    /// The states that the flip has thrown away.
    thrown_away: Vec<ThrownAway>,
    flipped: bool,
}

impl<'a> Upgrade<'a> {
    pub(crate) fn new(
        core: &'a mut Core,
        goal: &'a Goal,
        progress: &'a mut dyn FnMut(Progress),
    ) -> Upgrade<'a> {
        let taken = core.standing.take();
        Upgrade {
            core,
            goal,
            progress,
            package: goal.package.clone(),
            parts: Vec::new(),
            reconfigured: Vec::new(),
            configs: None,
            tells: false,
            between: Vec::new(),
            moves: moves::Waiting::new(),
            taken,
            stopped: None,
            pause: PAUSE,
            stop: goal.begun.map_or(Duration::ZERO, |begun| begun.waited),
            times: Vec::new(),
            unrecorded: Vec::new(),
            untold: Vec::new(),
            worker: Worker::default(),
            crew: Vec::new(),
            seat: None,
            peers: Arc::new(Peers::of_release(&goal.package)),
            supervisor: None,
            foreseen: None,
            before: None,
            replaced: Vec::new(),
            thrown_away: Vec::new(),
            flipped: false,
        }
    }

    /// Carries the plan out.
    ///
    /// # Errors
    ///
    /// [`UpgradeError`]. The old release serves again, unless it is [`UpgradeError::Lost`].
    pub(crate) fn run(mut self) -> Result<Upgraded, UpgradeError> {
        let (began, before) = (Instant::now(), self.goal.begun.map(|begun| begun.took));
        let (from, to) = (self.core.current(), self.core.id_of(&self.goal.package));
        if self.goal.begun.is_none() {
            self.core.journal.append(
                &self.goal.operation,
                &self.goal.who,
                Kind::Started {
                    operation: if self.goal.way == Way::Forward {
                        "apply"
                    } else {
                        "rollback"
                    }
                    .into(),
                    plan_id: Some(self.goal.plan_id.clone()),
                    from: Some(from.clone()),
                    to: Some(to.clone()),
                },
            )?;
        }
        fault::point("upgrade.started");
        self.tells = self.finds_some_to_tell();
        let steps: Vec<Step> = self.goal.steps.clone();
        let last = steps.iter().rposition(changes_what_runs);
        let done = steps.iter().enumerate().try_for_each(|(index, step)| {
            self.timed(
                step.verb(),
                step.components().join(", "),
                self.place_of(index),
                |this| {
                    this.step(step)?;
                    if Some(index) == last {
                        this.switch()?;
                    }
                    Ok(())
                },
            )
        });
        // A release may change nothing but the node, the configuration of what runs on, or settings of its own.
        let done = done.and_then(|()| match last {
            None => self.switch(),
            Some(_) => Ok(()),
        });
        let serves = self.core.running.is_some() || self.core.standing.is_some();
        let failed_later = match done {
            Err(cause) if self.flipped && serves => Some(cause),
            Err(cause) => return Err(self.undo(cause)),
            Ok(()) => None,
        };
        // Unmapping what is not used any more takes its time, and nobody waits for it.
        if let Err(error) = self.core.catalog.settle() {
            let text = error.to_string();
            self.end(Verdict::OperatorNeeded, text.clone());
            return Err(UpgradeError::Lost {
                cause: Box::new(error.into()),
                text,
            });
        }
        history::record(self.core);
        fault::point("upgrade.recorded");
        // The last step may have ended within the pause.
        self.tell();
        if let Err(error) = self.record() {
            tracing::error!(%error, "a step could not be recorded");
        }
        let (unloaded, retained) = self.settle();
        fault::point("upgrade.settled");
        if let Some(cause) = failed_later {
            self.end(Verdict::Failed, cause.to_string());
            return Err(UpgradeError::Later(Box::new(cause)));
        }
        let mut text = format!("{to} serves");
        for one in &self.thrown_away {
            text.push_str(&format!("; {one}"));
        }
        self.end(Verdict::Done, text);
        fault::point("upgrade.ended");
        Ok(Upgraded {
            from,
            to,
            stop_us: micros(self.stop),
            total_us: micros(began.elapsed() + before.unwrap_or_default()),
            steps: self.times,
            unloaded,
            retained,
            thrown_away: self.thrown_away,
        })
    }

    /// Records the end of the operation.
    fn end(&mut self, verdict: Verdict, text: String) {
        let (operation, who) = (&self.goal.operation, &self.goal.who);
        self.core.end(operation, who, verdict, text);
    }

    fn timed(
        &mut self,
        verb: &str,
        what: String,
        index: u32,
        work: impl FnOnce(&mut Self) -> Result<(), UpgradeError>,
    ) -> Result<(), UpgradeError> {
        let name = match what.as_str() {
            "" => verb.to_owned(),
            what => format!("{verb} {what}"),
        };
        let of = self.count();
        self.core.is_at(&name, index, of);
        let mut began = Instant::now();
        if let (Some(begun), 0) = (self.goal.begun, index) {
            // The step that brought the script here.
            began = began.checked_sub(begun.took).unwrap_or(began);
        }
        let result = match self.core.abort.load(Ordering::Relaxed) && !self.flipped {
            true => Err(UpgradeError::Aborted),
            false => work(self),
        };
        let time = StepTime {
            name,
            micros: micros(began.elapsed()),
        };
        let verdict = if result.is_ok() {
            Verdict::Done
        } else {
            Verdict::Failed
        };
        self.times.push(time.clone());
        let StepTime { name, micros } = time;
        self.untold.push(Progress {
            step: name.clone(),
            index,
            of,
            micros,
        });
        self.unrecorded.push(Kind::Step {
            index,
            name,
            micros,
            verdict,
        });
        fault::point("upgrade.step");
        if result.is_err() || self.stopped.is_none_or(|at| at.elapsed() >= SHORT_PAUSE) {
            self.tell();
        }
        if result.is_ok() && self.stopped.is_some() {
            return Ok(());
        }
        let written = self.record();
        if self.flipped {
            if let Err(error) = written {
                tracing::error!(%error, "a step could not be recorded");
            }
            return result;
        }
        result.and(written.map_err(UpgradeError::from))
    }

    /// How many steps there are in all.
    fn count(&self) -> u32 {
        (self.goal.steps.len() + usize::from(self.tells)) as u32
    }

    /// Where a step of the script stands among all that is done. `config_change` comes right before the end of the last
    /// one that changes what runs.
    fn place_of(&self, index: usize) -> u32 {
        let last = self.goal.steps.iter().rposition(changes_what_runs);
        let after = self.tells && last.is_some_and(|last| index >= last);
        (index + usize::from(after)) as u32
    }

    /// Tells of the steps that wait for it.
    fn tell(&mut self) {
        for step in self.untold.drain(..) {
            (self.progress)(step);
        }
    }

    /// Records the steps that wait for it.
    fn record(&mut self) -> Result<(), JournalError> {
        let mut written = Ok(());
        for step in self.unrecorded.drain(..) {
            let (operation, who) = (&self.goal.operation, &self.goal.who);
            let appended = self.core.journal.append(operation, who, step);
            written = written.and(appended.map(drop));
        }
        written
    }

    fn step(&mut self, step: &Step) -> Result<(), UpgradeError> {
        match step {
            Step::LoadObjectCode {
                component, version, ..
            } => self.load_object_code(component, &version.to_string()),
            Step::PointOfNoReturn => {
                self.check_hooks()?;
                self.prepare_resets()?;
                let goal = self.goal;
                if let Way::BackWithLoss(before) = &goal.way {
                    self.prepare_loss(before)?;
                }
                self.prepare_moves()?;
                self.make_threads()?;
                Ok(self.core.journal.sync()?)
            }
            Step::Suspend {
                components,
                timeout,
            } => self.suspend(components, *timeout),
            Step::CodeChange {
                component, extra, ..
            } => {
                self.code_change(component, json_of(extra.as_ref())?)?;
                self.carry_out_moves(false)
            }
            Step::MoveState { .. } => self.move_state(step),
            Step::ResetNode { components, .. } => self.reset_node(components),
            Step::Load { component, .. } => self.take_course(component, Course::Switched),
            Step::Stop { components } => self.stop(components),
            Step::Start { components } => {
                let mut all = components.iter();
                all.try_for_each(|component| self.take_course(component, Course::Started))
            }
            Step::Remove { component, .. } => self.remove(component),
            Step::SyncNodes { .. } => self.sync_nodes(step),
            Step::Apply { target, undo } => self.apply(target, undo.as_ref()),
            // Done by whoever carries the script out, before it and after it.
            Step::RestartNewNode | Step::RestartNode => Ok(()),
            // They go on together, when the last of the script's changes is made.
            Step::Resume { .. } => Ok(()),
            // The old code goes in the end: see `settle`.
            Step::Purge {
                kind: PurgeKind::Soft | PurgeKind::Brutal,
                ..
            } => Ok(()),
        }
    }

    /// Decides on all instances of a component.
    fn take_course(&mut self, component: &str, course: Course) -> Result<(), UpgradeError> {
        let mut known = false;
        for part in &mut self.parts {
            if part.component == component {
                (part.course, known) = (course, true);
            }
        }
        known.then_some(()).ok_or_else(|| no_code_of(component))
    }

    /// What is left of the pause.
    fn left(&self) -> Result<Duration, UpgradeError> {
        let used = self.stopped.map_or(Duration::ZERO, |since| since.elapsed());
        let left = self.pause.saturating_sub(used);
        if left.is_zero() {
            Err(UpgradeError::Budget(self.pause))
        } else {
            Ok(left)
        }
    }

    /// Looks at the instances, wherever they are.
    fn look<R: Send + 'static>(
        &mut self,
        look: impl FnOnce(&mut [Instance]) -> R + Send + 'static,
    ) -> Result<R, UpgradeError> {
        if let Some(taken) = &mut self.taken {
            return Ok(look(&mut taken.shard.instances));
        }
        let running = self.core.running.as_ref();
        let seen = running.and_then(|running| running.look(SUSPEND, |s| look(&mut s.instances)));
        seen.ok_or_else(|| UpgradeError::Suspend("the event loop does not answer".into()))
    }

    /// How a region is to be seen by the conversion that is prepared for it: as one in use, or where messages wait
    /// already, as one that nothing changes. A rehearsal does as the upgrade will.
    fn source(&self) -> fn(&mut Region) -> Source {
        let waits = self.stopped.is_some() || (self.core.hold && !self.core.rehearsal);
        match waits {
            true => |region| region.source(),
            false => Region::source_in_use,
        }
    }
}

/// Whether a step belongs to what happens at the switch, all at once.
fn changes_what_runs(step: &Step) -> bool {
    matches!(
        step,
        Step::Suspend { .. }
            | Step::Load { .. }
            | Step::CodeChange { .. }
            | Step::MoveState { .. }
            | Step::ResetNode { .. }
            | Step::Stop { .. }
            | Step::Remove { .. }
            | Step::Start { .. }
            | Step::Resume { .. }
    )
}

/// What a call for an instance needs to know.
fn outside(shard: &crate::shard::Shard, at: usize) -> Outside {
    Outside::of(shard, at, shard.listening(Some(at)), RAISE_TIMEOUT)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// The identity of a package's release.
pub(crate) fn release_id(package: &ReleasePackage) -> ReleaseId {
    ReleaseId::new(package.name(), package.version())
}

/// The table of an instruction as JSON: an empty one if it has none.
fn json_of(table: Option<&impl serde::Serialize>) -> Result<String, UpgradeError> {
    let json = table.map(serde_json::to_string).transpose();
    let json = json.map_err(|error| UpgradeError::Script(error.to_string()))?;
    Ok(json.unwrap_or_else(|| "{}".into()))
}

/// The error of a step on a component that the script has not made ready.
fn no_code_of(component: &str) -> UpgradeError {
    UpgradeError::Script(format!("`{component}` has no code loaded yet"))
}
