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
mod error;
pub(crate) mod history;
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

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use neurath_manifest::{PurgeKind, StartType, Step};
use neurath_pmem::migrate::Source;
use neurath_pmem::region::{Durability, Region, RegionOptions};
use neurath_pmem::schema::hex;

pub(crate) use apply::undo_interrupted;
pub use error::{CallFailed, UpgradeError};
use outside::RAISE_TIMEOUT;
pub(crate) use outside::{FIXED, Outside};

use crate::catalog::{RegionEntry, ReleaseId};
use crate::directory::region_file_name;
use crate::fault;
use crate::journal::{JournalError, Kind, Verdict};
use crate::loader::{Function, Library};
use crate::mapping::Gate;
use crate::node::{Core, config_json, instances_of};
use crate::protocol::{Progress, StepTime, ThrownAway, Upgraded};
use crate::release::ReleasePackage;
use crate::shard::{Instance, Seat, Taken};
use crate::worker::Worker;
use chain::{Ends, Later};
use part::{Course, NewState, Part};
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

/// Where an upgrade leads.
#[derive(Debug)]
pub(crate) struct Goal {
    pub(crate) package: Arc<ReleasePackage>,
    /// Releases between, whose libraries have conversions that are needed.
    pub(crate) between: Vec<Arc<ReleasePackage>>,
    pub(crate) steps: Vec<Step>,
    pub(crate) plan_id: String,
    pub(crate) operation: String,
    pub(crate) who: String,
    pub(crate) way: Way,
    /// For a script that goes on in another node than it began in: how long its clients have waited for that.
    pub(crate) waited: Option<Duration>,
}

impl Goal {
    /// Whether the release it leads to has the component in another version.
    fn has_other(&self, component: &str, version: &str) -> bool {
        let named = self.package.component(component);
        named.is_some_and(|named| named.version.to_string() != version)
    }
}

/// Which way it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// To another release, to be confirmed.
    Forward,
    /// Back to the release before, with the writes made since.
    Back,
    /// Back to the release before as it was: the writes made since are lost.
    BackWithLoss(Vec<RegionEntry>),
}

/// An instance, as it is before an upgrade.
struct Seen {
    /// Its place on the shard.
    at: usize,
    number: u32,
    library: Arc<Library>,
    /// The encoded schema of its region.
    schema: Vec<u8>,
    /// None if it is converted segment by segment, or to be.
    source: Option<Source>,
    durability: Durability,
    /// The schema before, if it is still being converted.
    before: Option<Vec<u8>>,
}

impl Seen {
    fn new(at: usize, instance: &Instance, stepwise: bool) -> Seen {
        let region = &instance.region;
        let before = region.schema_before();
        // It lists all segments: not while messages wait for no reason.
        let source = (!stepwise && before.is_none()).then(|| region.source());
        Seen {
            at,
            number: instance.number,
            library: instance.library.clone(),
            schema: region.schema(),
            source,
            durability: region.durability(),
            before,
        }
    }
}

/// The carrying out of one plan.
pub(crate) struct Upgrade<'a> {
    core: &'a mut Core,
    goal: &'a Goal,
    progress: &'a mut dyn FnMut(Progress),
    parts: Vec<Part>,
    /// Components that run on with another configuration.
    reconfigured: Vec<Reconfigured>,
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
            parts: Vec::new(),
            reconfigured: Vec::new(),
            between: Vec::new(),
            moves: moves::Waiting::new(),
            taken,
            stopped: None,
            pause: PAUSE,
            stop: goal.waited.unwrap_or_default(),
            times: Vec::new(),
            unrecorded: Vec::new(),
            untold: Vec::new(),
            worker: Worker::default(),
            crew: Vec::new(),
            seat: None,
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
        let began = Instant::now();
        let (from, to) = (self.core.current(), self.core.id_of(&self.goal.package));
        if self.goal.waited.is_none() {
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
        let steps: Vec<Step> = self.goal.steps.clone();
        let last = steps.iter().rposition(changes_what_runs);
        let done = steps.iter().enumerate().try_for_each(|(index, step)| {
            self.timed(
                step.verb(),
                step.components().join(", "),
                index as u32,
                |this| {
                    this.step(step)?;
                    if Some(index) == last {
                        this.switch()?;
                    }
                    Ok(())
                },
            )
        });
        // A release may change nothing but the node, or the configuration of what runs on.
        let restarts = steps.iter().any(restarts_node);
        let done =
            done.and_then(
                |()| match last.is_none() && (restarts || self.reconfigures()?) {
                    true => self.switch(),
                    false => Ok(()),
                },
            );
        let serves = self.core.running.is_some() || self.core.standing.is_some();
        let failed_later = match done {
            Err(cause) if self.flipped && serves => Some(cause),
            Err(cause) => return Err(self.undo(cause)),
            Ok(()) => None,
        };
        if !self.flipped {
            let cause = UpgradeError::Script("it changes nothing that runs".into());
            return Err(self.undo(cause));
        }
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
            total_us: micros(began.elapsed()),
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
        let mut began = Instant::now();
        if let (Some(waited), 0) = (self.goal.waited, index) {
            // The step that brought the script here.
            began = began.checked_sub(waited).unwrap_or(began);
        }
        let result = match self.core.abort.load(Ordering::Relaxed) && !self.flipped {
            true => Err(UpgradeError::Aborted),
            false => work(self),
        };
        let name = if what.is_empty() {
            verb.to_owned()
        } else {
            format!("{verb} {what}")
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
            of: self.goal.steps.len() as u32,
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

    /// Step 1: loads the new version beside the old one.
    fn load_object_code(&mut self, component: &str, version: &str) -> Result<(), UpgradeError> {
        let goal = self.goal;
        if goal.has_other(component, version) {
            return self.open_between(component, version);
        }
        if goal.package.component(component).is_none() {
            // On the way to a release without it only its conversions are called.
            return self.via(component).map(drop);
        }
        let library = self.open_once(component, version)?;
        fault::point("upgrade.library-open");
        let name = component.to_owned();
        let stepwise = stepwise::asked_for(&goal.steps, component);
        let seen: Vec<Seen> = self.look(move |instances| {
            let mine = instances.iter().enumerate();
            let mine = mine.filter(|(_, instance)| instance.component == name);
            mine.map(|(at, instance)| Seen::new(at, instance, stepwise))
                .collect()
        })?;
        if seen.is_empty() {
            for number in 0..instances_of(&goal.package, component) {
                let part = self.newcomer((component, number), library.clone())?;
                self.parts.push(part);
            }
        }
        for one in seen {
            let part = self.successor(component, library.clone(), one)?;
            self.parts.push(part);
        }
        Ok(())
    }

    /// Opens the library of a component in the release that is led to, unless a conversion has needed it before.
    fn open_once(&mut self, component: &str, version: &str) -> Result<Arc<Library>, UpgradeError> {
        let open = self.between.iter().position(|library| {
            let about = library.description();
            about.name == component && about.version == version
        });
        match open {
            Some(at) => Ok(self.between.remove(at)),
            None => self
                .core
                .open_library(&self.goal.package, component, version),
        }
    }

    /// What the new version of a component makes of one of its instances.
    fn successor(
        &mut self,
        component: &str,
        library: Arc<Library>,
        seen: Seen,
    ) -> Result<Part, UpgradeError> {
        let goal = self.goal;
        let number = seen.number;
        let config = config_json(&goal.package, component)?;
        let mut part = Part::new((component, number), Some(seen.at), library.clone(), config);
        if self.renew(&mut part)? {
            return Ok(part);
        }
        let options = self.core.region_options(&goal.package, component, number)?;
        let vias = self.vias(component)?;
        let ends = Ends {
            component,
            vias: &vias,
            whole: via::whole(&goal.steps, component),
            old: &seen.library,
            new: &library,
            between: &self.between,
            // Another durability needs another log, and so another file; and what a move writes is to
            // be forgotten if the upgrade is undone.
            again: options.durability != seen.durability || self.is_in_a_move(component),
        };
        let hops = chain::hops(&goal.steps, component);
        let again = ends.again;
        let links = match goal.way {
            // The state before comes back as it was, also where nothing converts the present one.
            Way::BackWithLoss(_) => Vec::new(),
            _ => ends.links(&seen.schema, hops)?,
        };
        let mut links = links.into_iter();
        let mut first = links.next();
        // In the midst of a conversion the way back is the same one turned round.
        let asked = stepwise::asked_for(&goal.steps, component);
        let turns = seen
            .before
            .as_ref()
            .is_some_and(|before| *before == library.description().schema);
        if seen.source.is_none() && !asked && !turns && first.is_some() {
            let what = stepwise::waits_for_sweep(self.core).unwrap_or_default();
            return Err(UpgradeError::Script(what));
        }
        let stepwise = (asked || turns) && first.is_some();
        if stepwise && again {
            return Err(UpgradeError::Script(format!(
                "the durability of `{component}` changes, or its state has a part in a `move_state`: both make \
                 another file, and a state is converted segment by segment in its own; write \
                 `strategy = \"eager\"`"
            )));
        }
        let fingerprint = library.description().fingerprint;
        part.same_schema = seen.library.description().fingerprint == fingerprint;
        if let Way::BackWithLoss(regions) = &goal.way {
            let mine = |entry: &&RegionEntry| entry.is_of(component, number);
            if let Some(before) = regions.iter().find(mine) {
                let now = self.core.catalog.state().region(component, number);
                if now.is_none_or(|now| now.file != before.file) {
                    let region = self
                        .core
                        .open_region(&goal.package, before, Some(fingerprint))?;
                    part.state = NewState::Made(Box::new(region));
                    part.entry = Some(before.clone());
                } else if seen.schema != part.library.description().schema {
                    let what = format!("the state of `{component}` before is not there any more");
                    return Err(UpgradeError::Script(what));
                }
            }
        } else if let (Some(first), Some(source)) = (first.take_if(|_| !stepwise), &seen.source) {
            let of = (component, number);
            let (mut entry, path) = self.new_generation(of, &part.library)?;
            part.prepare(first, source, &path, &options)?;
            for link in links {
                let path;
                (entry, path) = self.new_generation(of, &part.library)?;
                let options = options.clone();
                part.later.push(Later {
                    link,
                    path,
                    options,
                });
            }
            fault::point("upgrade.region-prepared");
            part.entry = Some(entry);
        } else if let Some(first) = first {
            let ends = [&seen.library, &part.library];
            let links = std::iter::once(first).chain(links).collect();
            let of = (seen.at, component, number);
            let prepared = self.prepare_stepwise(of, &seen.schema, ends, links)?;
            part.entry = self.same_file(&part);
            part.state = NewState::Stepwise(prepared);
        }
        Ok(part)
    }

    /// A place for a new generation of an instance's state: in the catalog, and of its file.
    fn new_generation(
        &mut self,
        (component, instance): (&str, u32),
        library: &Library,
    ) -> Result<(RegionEntry, PathBuf), UpgradeError> {
        let generation = self.core.next_generation();
        let file = region_file_name(component, instance, generation)?;
        let path = self.core.directory.region_file(&file)?;
        let about = library.description();
        let entry = RegionEntry {
            component: component.to_owned(),
            instance,
            generation,
            file,
            fingerprint: hex(about.fingerprint),
            version: about.version.clone(),
        };
        Ok((entry, path))
    }

    /// The place in the catalog of a state that stays in its file and gets another schema.
    fn same_file(&self, part: &Part) -> Option<RegionEntry> {
        let now = self
            .core
            .catalog
            .state()
            .region(&part.component, part.number)?;
        Some(RegionEntry {
            fingerprint: hex(part.library.description().fingerprint),
            version: part.version.clone(),
            ..now.clone()
        })
    }

    /// Opens the library of a version between: of it only the conversions are called.
    fn open_between(&mut self, component: &str, version: &str) -> Result<(), UpgradeError> {
        let goal = self.goal;
        let has = |package: &&Arc<ReleasePackage>| {
            let found = package.component(component);
            found.is_some_and(|found| found.version.to_string() == version)
        };
        let package = goal.between.iter().find(has).ok_or_else(|| {
            UpgradeError::Script(format!(
                "no release of this node has `{component} {version}`, whose code_change is needed: \
                 install one"
            ))
        })?;
        let library = self.core.open_library(package, component, version)?;
        fault::point("upgrade.library-open");
        self.between.push(library);
        Ok(())
    }

    /// Looks at the instances, wherever they are.
    fn look<R: Send + 'static>(
        &mut self,
        look: impl FnOnce(&[Instance]) -> R + Send + 'static,
    ) -> Result<R, UpgradeError> {
        if let Some(taken) = &self.taken {
            return Ok(look(&taken.shard.instances));
        }
        let running = self.core.running.as_ref();
        let seen = running.and_then(|running| running.look(SUSPEND, |s| look(&s.instances)));
        seen.ok_or_else(|| UpgradeError::Suspend("the event loop does not answer".into()))
    }

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
    fn settle(&mut self) -> (Vec<String>, Vec<crate::protocol::Retained>) {
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
    fn undo(mut self, cause: UpgradeError) -> UpgradeError {
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
        let mut trouble = Vec::new();
        if let Some(taken) = &mut self.taken {
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
                let gate = Gate::open(instance.attached.handle(), instance.region.mapping());
                let called = outside.call(&mut self.worker, Function::Init, &gate, PAUSE);
                gate.close();
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
        }
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

fn restarts_node(step: &Step) -> bool {
    matches!(step, Step::RestartNewNode | Step::RestartNode)
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

/// The region's options from a component's manifest.
pub(crate) fn region_options(
    component: &neurath_manifest::Component,
    instance: u32,
) -> RegionOptions {
    RegionOptions {
        component: component.name.clone(),
        instance,
        initial: component.region.initial_size,
        limit: component.region.limit,
        durability: match component.region.durability {
            neurath_manifest::Durability::Process => Durability::Process,
            neurath_manifest::Durability::Power => Durability::Power,
        },
    }
}
