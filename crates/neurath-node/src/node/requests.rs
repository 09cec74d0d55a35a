//! What a node does when it is asked to.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use neurath_manifest::{Confirm, PurgeKind, Step};
use neurath_plan::{Lints, Plan};
use semver::Version;

use super::core::Core;
use super::planning::{Found, plan};
use super::resets::{self, Asked};
use super::restarts;
use super::supervision;
use crate::catalog::{ReleaseId, ReleaseStatus, State};
use crate::fault;
use crate::handover::errand::Answer;
use crate::health::{Prober, Sample, Window};
use crate::journal::{Interrupted, Kind, Verdict};
use crate::lifecycle::{Command, Phase};
use crate::protocol::{Failure, Outcome, Planned, Progress, Response, Upgraded, code};
use crate::release::ReleasePackage;
use crate::release_handler::{HandlerError, open_built};
use crate::shard::{ShardThread, Taken, now_ms};
use crate::upgrade::{Goal, Upgrade, UpgradeError, Way, stepwise};
use crate::waiting::CalledOff;

/// Why a request cannot be met, with the exit code for it.
pub(super) struct Refusal {
    code: u8,
    text: String,
    /// What is said in a log, where `text` has lines of files that may hold what is secret.
    brief: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: u8, text: impl Into<String>) -> Refusal {
        Refusal {
            code,
            text: text.into(),
            brief: None,
        }
    }

    /// With what may be in a log in place of the text.
    pub(super) fn with_brief(code: u8, text: String, brief: String) -> Refusal {
        Refusal {
            code,
            text,
            brief: Some(brief),
        }
    }

    /// What may be in a log.
    pub(super) fn brief(&self) -> &str {
        self.brief.as_deref().unwrap_or(&self.text)
    }

    pub(super) fn response(self) -> Response {
        Response::failed(self.code, self.text)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<HandlerError> for Refusal {
    fn from(error: HandlerError) -> Refusal {
        Refusal::with_brief(error.code(), error.to_string(), error.brief())
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Refusal {
        let code = match &error {
            UpgradeError::Lost { .. } | UpgradeError::Later(_) => code::OPERATOR,
            UpgradeError::Handler(error) => error.code(),
            _ => code::UPGRADE_FAILED,
        };
        Refusal::new(code, error.to_string())
    }
}

/// A plan as the client is shown it.
fn shown(core: &Core, plan: &Plan, to: &ReleasePackage) -> Planned {
    Planned {
        plan_id: plan.id(),
        from: core.current(),
        to: core.id_of(to),
        steps: plan.steps.iter().map(ToString::to_string).collect(),
        plan: plan.to_json(),
        reset: resets::thrown_away(&plan.steps),
    }
}

/// The package of a release that can be gone to.
fn target(core: &Core, release: &ReleaseId) -> Result<Arc<ReleasePackage>, Refusal> {
    if *release == core.current() {
        let text = format!("{release} is the current release already");
        return Err(Refusal::new(code::USAGE, text));
    }
    Ok(core.open_package(release)?)
}

/// Says what an upgrade would do; to what lies in a folder, if the node does not have the release.
pub(super) fn planned(
    core: &Core,
    release: &ReleaseId,
    folder: Option<&Path>,
) -> Result<Outcome, Refusal> {
    let known = core.catalog.state().entry(release).is_some();
    let to = match folder.filter(|_| !known) {
        Some(folder) => {
            let built = open_built(&core.directory, core.catalog.state(), folder)?;
            if built.id() != *release {
                let text = format!("{} holds {}, not {release}", folder.display(), built.id());
                return Err(Refusal::new(code::USAGE, text));
            }
            built
        }
        None => target(core, release)?,
    };
    let state = core.catalog.state();
    let is_back = (state.previous.as_ref()).is_some_and(|previous| previous.release == *release);
    let Found { plan, .. } = match is_back {
        true => plan_back(core, &to)?,
        false => plan(core, &to, Lints::Enforce)?,
    };
    if !is_back {
        changes_something(core, &plan, release)?;
    }
    in_use(core, &plan.steps)?;
    Ok(Outcome::Planned(shown(core, &plan, &to)))
}

/// Refuses a plan after which nothing would be otherwise: whatever was said of it would be said of nothing.
fn changes_something(core: &Core, plan: &Plan, release: &ReleaseId) -> Result<(), Refusal> {
    if !plan.changes_nothing() {
        return Ok(());
    }
    let text = format!(
        "{release} is the same as {}, which runs: components, configuration and settings; nothing was done. Change what \
         it was meant to change, and build it again",
        core.current()
    );
    Err(Refusal::new(code::INCONCLUSIVE, text))
}

/// The plan of the way back that keeps the writes made since.
fn plan_back(core: &Core, to: &ReleasePackage) -> Result<Found, Refusal> {
    plan(core, to, Lints::Report).map_err(|refusal| {
        let told = |why: &str| {
            format!(
                "there is no way back to {} that keeps the writes made since:\n{why}\n\
                 Add the way down, or go back without them by `--lose-writes`.",
                to.id()
            )
        };
        Refusal::with_brief(refusal.code, told(&refusal.text), told(refusal.brief()))
    })
}

/// How somebody wants an upgrade.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted<'a> {
    /// The plan that was reviewed.
    pub(super) plan_id: Option<&'a str>,
    /// The components whose state may be thrown away.
    pub(super) reset: &'a [String],
    /// Whether no snapshot of it is to be kept.
    pub(super) no_snapshot: bool,
}

/// Goes to another release.
pub(super) fn apply(
    core: &mut Core,
    release: &ReleaseId,
    wanted: Wanted<'_>,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Upgraded, Refusal> {
    let package = target(core, release)?;
    supervision::record_failures_first(core);
    stepwise::settle_sweeps(core, who);
    if let Some(why) = stepwise::waits_for_sweep(core) {
        return Err(Refusal::new(code::BUSY, why));
    }
    let Found { mut plan, between } = plan(core, &package, Lints::Enforce)?;
    let id = plan.id();
    if let Some(reviewed) = wanted.plan_id.filter(|reviewed| *reviewed != id) {
        return Err(Refusal::new(
            code::STALE,
            format!(
                "plan {reviewed} was made for another state of the node; the plan is {id} now: \
                 review it again"
            ),
        ));
    }
    changes_something(core, &plan, release)?;
    core.purge();
    in_use(core, &plan.steps)?;
    if !core.rehearsal {
        resets::are_named(&plan.steps, wanted.reset, &format!("the plan to {release}"))?;
    }
    if wanted.no_snapshot {
        resets::keep_none(&mut plan.steps);
    }
    resets::have_room(core, &plan.steps)?;
    let goal = Goal {
        package,
        between,
        steps: plan.steps,
        plan_id: id,
        operation: core.journal.next_operation("apply"),
        who: who.to_owned(),
        way: Way::Forward,
        begun: None,
    };
    if core.rehearsal {
        let upgraded = Upgrade::new(core, &goal, progress).run()?;
        sweep_at_once(core)?;
        return Ok(upgraded);
    }
    restarts::check_opens(core, &goal)?;
    let confirm = goal.package.release().confirm.clone();
    // What the checks say of the release that runs is what those of the new one are held against.
    let before = match core.hold {
        true => vec![Err("the node was starting".into()); confirm.checks.len()],
        false => said_before(core, &confirm)?,
    };
    if goal.steps.first() == Some(&Step::RestartNewNode) {
        return Err(restarts::restart_new_node(core, &goal, before));
    }
    carry_out(core, &goal, before, progress)
}

/// Converts, in a rehearsal, all that is left of the states that are converted while they are served, and looks for what
/// conversions have left behind. Says beforehand whose they are: a conversion that never comes back is known by that.
fn sweep_at_once(core: &mut Core) -> Result<(), Refusal> {
    let sweeps = core.catalog.state().sweeps.iter();
    let whose: Vec<_> = sweeps
        .map(|one| format!("{}.{}", one.component, one.instance))
        .collect();
    let step = match whose.is_empty() {
        true => "the search for what was left behind".into(),
        false => format!("code_change {}, segment by segment", whose.join(", ")),
    };
    if !whose.is_empty() {
        core.is_at(&step, 0, 1);
    }
    stepwise::sweep_at_once(core).map_err(|error| match error {
        // Nobody would have been served meanwhile.
        UpgradeError::Suspend(why) => Refusal::new(code::UPGRADE_FAILED, format!("{step}: {why}")),
        other => other.into(),
    })
}

/// What the checks of the next release say of the one that runs. Whoever gives the upgrade up, or stops the node, does
/// not wait for them.
fn said_before(core: &Core, confirm: &Confirm) -> Result<Vec<Sample>, Refusal> {
    let (abort, ending) = (&*core.abort, &*core.ending);
    let over = || abort.load(Ordering::Relaxed) || ending.load(Ordering::Relaxed);
    let before = prober(core, confirm)?.round(CalledOff(&over));
    if ending.load(Ordering::Relaxed) {
        return Err(Refusal::new(
            code::BUSY,
            "the node is ending; start it again",
        ));
    }
    match over() {
        true => Err(UpgradeError::Aborted.into()),
        false => Ok(before),
    }
}

/// Goes forward by a script, and begins the time in which the release has to hold. `before`: what its checks said of
/// the release before.
pub(super) fn carry_out(
    core: &mut Core,
    goal: &Goal,
    before: Vec<Sample>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Upgraded, Refusal> {
    let upgraded = match Upgrade::new(core, goal, progress).run() {
        // An upgrade is done when all of its script is.
        Err(UpgradeError::Later(cause)) => return Err(go_back(core, &cause, &goal.who, progress)),
        done => done?,
    };
    count_stop(core, &upgraded);
    if goal.steps.last() == Some(&Step::RestartNode) {
        let answer = Answer::Upgraded(upgraded.clone());
        let left = restarts::restart_node(core, &goal.steps, false, answer, Some(before.clone()));
        if let Some(error) = left {
            let cause = UpgradeError::Restart(error.to_string());
            return Err(go_back(core, &cause, &goal.who, progress));
        }
    }
    begin_window(core, before);
    Ok(upgraded)
}

/// Begins the time in which the current release has to hold.
pub(super) fn begin_window(core: &mut Core, before: Vec<Sample>) {
    let confirm = core.package.release().confirm.clone();
    let begun = prober(core, &confirm).map(|prober| Window::begin(&confirm, prober, before));
    match begun {
        Ok(Ok(window)) => core.window = Some(window),
        // Nothing is checked then: the release goes back when its time is over.
        Ok(Err(error)) => tracing::error!(%error, "the health checks cannot be made"),
        Err(refusal) => tracing::error!(why = refusal.brief(), "the health checks cannot be made"),
    }
}

/// Begins that time anew, in a program that has taken over: of the checks that were made nothing is known any more.
pub(super) fn go_on_with_window(core: &mut Core, before: Vec<Sample>) {
    let mut state = core.catalog.state().clone();
    if state.previous.is_none() || state.unconfirmed_since_ms.is_none() {
        return;
    }
    state.unconfirmed_since_ms = Some(now_ms());
    if let Err(error) = core.catalog.commit(state) {
        tracing::error!(%error, "the catalog cannot be written");
    }
    begin_window(core, before);
}

/// Refuses a plan that wants nothing left of earlier upgrades (`pre_purge = "soft"`), where something is.
fn in_use(core: &Core, steps: &[Step]) -> Result<(), Refusal> {
    let wanted = |name: &str| {
        steps.iter().any(|step| {
            let soft = Some(PurgeKind::Soft);
            matches!(step, Step::LoadObjectCode { component, pre_purge, .. }
                if *pre_purge == soft && component == name)
        })
    };
    let lingering = core.retained().into_iter();
    let lines: Vec<String> = lingering
        .filter(|one| wanted(&one.component))
        .map(|one| one.to_string())
        .collect();
    if lines.is_empty() {
        return Ok(());
    }
    let text = format!(
        "code of an earlier upgrade is still in use, and `pre_purge = \"soft\"` waits for it; nothing was done:\n\
         {}\nAsk again when `neurath node status` names it no more, or write `pre_purge = \"brutal\"`, which goes \
         on beside it.",
        lines.join("\n")
    );
    Err(Refusal::new(code::BUSY, text))
}

/// Makes the checks of a release, on the shard that runs, or will.
fn prober(core: &Core, confirm: &Confirm) -> Result<Prober, Refusal> {
    let running = core.running.as_ref().map(ShardThread::mailbox);
    let mailbox = running.or_else(|| core.standing.as_ref().map(Taken::mailbox));
    let nothing = || UpgradeError::Suspend("nothing runs".into());
    let mailbox = mailbox.ok_or_else(nothing)?;
    Ok(Prober::new(confirm, core.directory.path(), mailbox))
}

/// Goes back from a release that serves, since its script has failed.
pub(super) fn go_back(
    core: &mut Core,
    cause: &UpgradeError,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Refusal {
    let went = |back: &Upgraded| format!("{cause}; the node went back to {}", back.to);
    let answer = |back: Upgraded| {
        Answer::Failed(Failure {
            code: code::UPGRADE_FAILED,
            message: went(&back),
            step: None,
        })
    };
    match rollback_answered(core, false, Asked::ByItself, who, progress, answer) {
        Ok(back) => Refusal::new(code::UPGRADE_FAILED, went(&back)),
        Err(refusal) => Refusal::new(
            code::OPERATOR,
            format!("{cause}; and the node could not go back: {refusal}"),
        ),
    }
}

/// Goes back to the release before.
pub(super) fn rollback(
    core: &mut Core,
    lose_writes: bool,
    asked: Asked<'_>,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Upgraded, Refusal> {
    rollback_answered(core, lose_writes, asked, who, progress, Answer::Upgraded)
}

/// The same; `answer` is what another program that takes over at the end says of it.
fn rollback_answered(
    core: &mut Core,
    lose_writes: bool,
    asked: Asked<'_>,
    who: &str,
    progress: &mut dyn FnMut(Progress),
    answer: impl FnOnce(Upgraded) -> Answer,
) -> Result<Upgraded, Refusal> {
    let Some(previous) = core.catalog.state().previous.clone() else {
        return Err(illegal(Phase::Idle, Command::Rollback));
    };
    let package = core.open_package(&previous.release)?;
    supervision::record_failures_first(core);
    let operation = core.journal.next_operation("rollback");
    let (steps, plan_id, way, between) = if lose_writes {
        let steps = steps_back(core, &package);
        (
            steps,
            format!("back-with-loss-{}", previous.plan_id),
            Way::BackWithLoss(previous.regions),
            Vec::new(),
        )
    } else {
        let found = plan_back(core, &package)?;
        let id = found.plan.id();
        let mut steps = found.plan.steps;
        let back = format!("the way back to {}", previous.release);
        match asked {
            _ if core.rehearsal => {}
            Asked::Naming(names) => resets::are_named(&steps, names, &back)?,
            Asked::NamingNothing => resets::throws_nothing_away(&steps, &back)?,
            Asked::ByItself => {}
        }
        resets::make_room(core, &mut steps);
        (steps, id, Way::Back, found.between)
    };
    let goal = Goal {
        package,
        between,
        steps,
        plan_id,
        operation,
        who: who.to_owned(),
        way,
        begun: None,
    };
    restarts::check_opens(core, &goal)?;
    let other_node = core.package.release().node != goal.package.release().node;
    let went = Upgrade::new(core, &goal, progress).run();
    let is_there = other_node && restarts::other_program(core).is_none();
    if went.is_err() {
        // A person must say what else: the window does not ask for the same again.
        stop_window(core);
    }
    let went = went?;
    count_stop(core, &went);
    if core.rehearsal {
        sweep_at_once(core)?;
    }
    match restarts::restart_node(core, &goal.steps, is_there, answer(went.clone()), None) {
        None => Ok(went),
        Some(error) => {
            let text = format!(
                "{} serves, and its node could not be brought back: {error}",
                went.to
            );
            Err(Refusal::new(code::OPERATOR, text))
        }
    }
}

/// For the figures: how long messages waited.
pub(super) fn count_stop(core: &Core, upgraded: &Upgraded) {
    let figure = &core.figures.last_stop_us;
    figure.store(upgraded.stop_us, Ordering::Relaxed);
}

/// Lets no window end for the current release: its way back was tried.
pub(super) fn stop_window(core: &mut Core) {
    let mut state = core.catalog.state().clone();
    if state.previous.is_some()
        && state.unconfirmed_since_ms.take().is_some()
        && let Err(error) = core.catalog.commit(state)
    {
        tracing::error!(%error, "the catalog cannot be written");
    }
}

/// Refuses a command that is not legal in a phase.
pub(super) fn illegal(phase: Phase, command: Command) -> Refusal {
    let code = match command {
        Command::Apply | Command::RebootOld | Command::Restart | Command::Handle => code::BUSY,
        _ => code::USAGE,
    };
    let text = phase.refusal(command).unwrap_or_default();
    Refusal::new(code, text)
}

/// Goes on with what was interrupted: an upgrade that the end of the node cut off, or a way back that has
/// failed.
pub(super) fn resume(
    core: &mut Core,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Upgraded, Refusal> {
    if core.catalog.state().previous.is_some() {
        return rollback(core, false, Asked::NamingNothing, who, progress);
    }
    let Some(interrupted) = core.journal.interrupted().cloned() else {
        let text = format!("nothing was interrupted: {} serves", core.current());
        return Err(Refusal::new(code::USAGE, text));
    };
    let Interrupted { release, plan_id } = interrupted;
    let wanted = Wanted {
        plan_id: plan_id.as_deref(),
        ..Wanted::default()
    };
    apply(core, &release, wanted, who, progress)
}

/// Goes to a release that ran before, and makes it the permanent one, while the node starts.
pub(super) fn reboot_old(core: &mut Core, release: &ReleaseId, who: &str) -> Result<(), Refusal> {
    let state = core.catalog.state();
    if state.status(release) != Some(ReleaseStatus::Old) {
        let status = state
            .status(release)
            .map_or_else(|| "not unpacked".to_owned(), |status| status.to_string());
        let text = format!("{release} is {status}, and only an old release can be rebooted into");
        return Err(Refusal::new(code::USAGE, text));
    }
    apply(core, release, Wanted::default(), who, &mut |_| {})?;
    confirm(core, who)?;
    Ok(())
}

/// A script that only exchanges code, for a way back to the old regions.
fn steps_back(core: &Core, to: &Arc<ReleasePackage>) -> Vec<Step> {
    let changed: Vec<(String, Version, Version)> = to
        .release()
        .components
        .iter()
        .filter_map(|component| {
            let now = core.package.release().component(&component.name)?;
            (now.version != component.version).then(|| {
                (
                    component.name.clone(),
                    component.version.clone(),
                    now.version.clone(),
                )
            })
        })
        .collect();
    let names: Vec<String> = changed.iter().map(|(name, ..)| name.clone()).collect();
    let runs = |of: &ReleasePackage, name: &str| {
        let component = of.release().component(name);
        component.is_some_and(|component| component.start.runs())
    };
    let only_in = |of: &ReleasePackage, other: &ReleasePackage| -> Vec<(String, Version)> {
        let components = of.release().components.iter();
        components
            .filter(|one| runs(of, &one.name) && !runs(other, &one.name))
            .map(|one| (one.name.clone(), one.version.clone()))
            .collect()
    };
    let (come, go) = (only_in(to, &core.package), only_in(&core.package, to));
    let mut steps = Vec::new();
    let back = changed.iter().map(|(name, version, _)| (name, version));
    for (component, version) in back.chain(come.iter().map(|(name, version)| (name, version))) {
        steps.push(Step::LoadObjectCode {
            component: component.clone(),
            version: version.clone(),
            pre_purge: None,
        });
    }
    steps.push(Step::PointOfNoReturn);
    steps.push(Step::Suspend {
        components: names.clone(),
        timeout: None,
    });
    for (component, version) in go {
        let components = vec![component.clone()];
        steps.push(Step::Stop { components });
        steps.push(Step::Remove { component, version });
    }
    for (component, version, _) in &changed {
        let (component, version) = (component.clone(), version.clone());
        steps.push(Step::Load { component, version });
    }
    if !come.is_empty() {
        let components = come.into_iter().map(|(name, _)| name).collect();
        steps.push(Step::Start { components });
    }
    steps.push(Step::Resume { components: names });
    for (component, _, version) in changed {
        steps.push(Step::Purge {
            component,
            version,
            kind: PurgeKind::Soft,
        });
    }
    steps
}

/// Makes the current release the permanent one.
pub(super) fn confirm(core: &mut Core, who: &str) -> Result<Outcome, Refusal> {
    let state = core.catalog.state().clone();
    let release = core.current();
    let deleted = deleted_by_confirm(&state);
    resets::make_durable(core)?;
    let operation = core.journal.next_operation("confirm");
    let started = Kind::Started {
        operation: "confirm".into(),
        plan_id: None,
        from: state.permanent.clone(),
        to: Some(release.clone()),
    };
    core.journal
        .append(&operation, who, started)
        .map_err(UpgradeError::from)?;
    let next = State {
        permanent: Some(release.clone()),
        previous: None,
        unconfirmed_since_ms: None,
        starts: 0,
        // They stand in the regions' files since the upgrade's end.
        migrations: Vec::new(),
        sequence: state.sequence + 1,
        journal: core.journal.mark(),
        ..state
    };
    core.catalog.commit(next).map_err(UpgradeError::from)?;
    fault::point("confirm.committed");
    let warm = std::mem::take(&mut core.warm);
    let unloaded = core.close_libraries(warm);
    core.remove_orphans();
    restarts::forget_program(core);
    fault::point("confirm.settled");
    let mut text = format!("{release} is permanent");
    if !deleted.is_empty() {
        text.push_str(&format!("; deleted: the state of {}", deleted.join(", ")));
    }
    core.end(&operation, who, Verdict::Done, text);
    Ok(Outcome::Confirmed {
        release,
        unloaded,
        retained: core.retained(),
        deleted,
    })
}

/// Instances whose state is kept for the way back alone, as the current release does not have them: their
/// state is deleted by the confirmation.
pub(super) fn deleted_by_confirm(state: &State) -> Vec<String> {
    let kept = state.previous.iter().flat_map(|previous| &previous.regions);
    kept.filter(|one| state.region(&one.component, one.instance).is_none())
        .map(|one| format!("{}.{}", one.component, one.instance))
        .chain(resets::deleted_by_confirm(state))
        .collect()
}
