//! Where an operation replaces the node's program, and how it goes on in the next one.

use std::time::Duration;

use neurath_manifest::Step;

use super::core::Core;
use super::requests::{self, Refusal};
use super::supervision;
use crate::catalog::ReleaseId;
use crate::handover::errand::{Answer, Errand, Script};
use crate::handover::program::{self, Program};
use crate::handover::{self, LeaveError, now_us};
use crate::health::{Sample, Window};
use crate::journal::{Kind, Verdict};
use crate::protocol::{Failure, Outcome, Progress, Response, Upgraded, code};
use crate::release::ReleasePackage;
use crate::upgrade::{Begun, Goal, UpgradeError, Way};

impl From<LeaveError> for Refusal {
    fn from(error: LeaveError) -> Refusal {
        Refusal::with_brief(error.code(), error.to_string(), error.brief())
    }
}

/// Replaces the program of this process by the one that the current release has, or by itself: whoever takes over
/// answers. Returns only if that failed.
pub(super) fn restart(core: &mut Core, who: &str) -> Result<Outcome, Refusal> {
    supervision::record_failures_first(core);
    let operation = core.begin("restart", who).map_err(UpgradeError::from)?;
    let window = core.window.as_ref().map(Window::before);
    let errand = |since_us| Errand::Restart {
        operation: operation.clone(),
        who: who.to_owned(),
        since_us,
        window,
    };
    let package = core.package.clone();
    let error = match program_of(core, &package) {
        Ok(program) => handover::leave(core, &program, errand),
        Err(error) => error,
    };
    core.end(&operation, who, Verdict::Failed, error.brief());
    Err(error.into())
}

/// Refuses a way on which the node's program is replaced, where the next program could not open a release of it. On the
/// way forward that is also the release before, which it may have to go back to.
pub(super) fn check_opens(core: &Core, goal: &Goal) -> Result<(), Refusal> {
    let replaces = |step: &Step| matches!(step, Step::RestartNewNode | Step::RestartNode);
    let other_node = core.package.release().node != goal.package.release().node;
    if core.rehearsal || core.hold || !(other_node || goal.steps.iter().any(replaces)) {
        return Ok(());
    }
    let mut releases = vec![goal.package.id()];
    if goal.way == Way::Forward {
        releases.push(core.current());
        releases.extend(goal.between.iter().map(|one| one.id()));
    }
    Ok(handover::check_opens(core, &releases).map_err(LeaveError::from)?)
}

/// The program that runs a release here.
fn program_of(core: &Core, package: &ReleasePackage) -> Result<Program, LeaveError> {
    let state = core.catalog.state();
    let found = program::of_release(&core.libraries, state, package, &core.version());
    Ok(found?)
}

/// `restart_new_node`: the rest of the script is another node's. Returns only if that node does not come up; all is as
/// it was then.
pub(super) fn restart_new_node(core: &mut Core, goal: &Goal, before: Vec<Sample>) -> Refusal {
    let (to, began_us) = (goal.package.id(), Some(now_us()));
    let started = Kind::Started {
        operation: "apply".into(),
        plan_id: Some(goal.plan_id.clone()),
        from: Some(core.current()),
        to: Some(to.clone()),
    };
    let appended = core.journal.append(&goal.operation, &goal.who, started);
    if let Err(error) = appended {
        return UpgradeError::from(error).into();
    }
    crate::fault::point("restart.started");
    let error = match ready(core, goal) {
        Ok(program) => handover::leave(core, &program, |since_us| {
            Errand::Script(Box::new(Script {
                operation: goal.operation.clone(),
                who: goal.who.clone(),
                plan_id: goal.plan_id.clone(),
                to,
                between: goal.between.iter().map(|one| one.id()).collect(),
                steps: goal.steps.iter().map(Step::to_json).collect(),
                before,
                since_us,
                began_us,
            }))
        }),
        Err(error) => error,
    };
    forget_program(core);
    core.end(&goal.operation, &goal.who, Verdict::Undone, error.brief());
    error.into()
}

/// The new program, tried, and this one kept for the way back.
fn ready(core: &mut Core, goal: &Goal) -> Result<Program, LeaveError> {
    let program = program_of(core, &goal.package)?;
    program.tried(core, &goal.package.release().node.to_string())?;
    crate::fault::point("restart.tried");
    let mut state = core.catalog.state().clone();
    state.program_before = Some(program::keep_own(&core.libraries, core.current())?);
    core.catalog.commit(state)?;
    crate::fault::point("restart.kept-program");
    Ok(program)
}

/// Forgets the program for a way back that is gone, and removes those that nobody needs.
pub(super) fn forget_program(core: &mut Core) {
    let mut state = core.catalog.state().clone();
    if state.program_before.take().is_some()
        && let Err(error) = core.catalog.commit(state)
    {
        return tracing::error!(%error, "the catalog cannot be written");
    }
    let current = core.package.program_bytes().ok().flatten();
    let kept: Vec<blake3::Hash> = current.map(|(_, hash)| hash).into_iter().collect();
    core.libraries.remove_programs(&kept);
}

/// Whether the current release is to be run by another program than this one.
pub(super) fn other_program(core: &Core) -> Option<Program> {
    let package = core.package.clone();
    match program_of(core, &package) {
        Ok(program @ Program::At(_)) => Some(program),
        Ok(Program::Same) => None,
        Err(error) => {
            tracing::error!(%error, "this node runs a release that wants another");
            None
        }
    }
}

/// Gives a release that the start of the node has gone back to its own program, and forgets one that is not needed.
/// Returns where this one goes on.
pub(super) fn settle_program(core: &mut Core) {
    if let Some(program) = other_program(core) {
        let error = handover::leave(core, &program, |_| Errand::Answer {
            answer: Answer::Nobody,
            window: None,
            times_us: None,
        });
        tracing::error!(%error, release = %core.current(), "it runs on a node that is not its own");
    } else if core.catalog.state().previous.is_none() {
        forget_program(core);
    }
}

/// Lets the program of the current release answer, if that is another one or the script says so (`restart_node`).
/// Returns the error if none took over; nothing if it is not needed, as where `is_there` says that a script wants it only for
/// a node that runs already.
pub(super) fn restart_node(
    core: &mut Core,
    steps: &[Step],
    is_there: bool,
    answer: Answer,
    window: Option<Vec<Sample>>,
) -> Option<LeaveError> {
    if core.rehearsal || core.hold {
        return None;
    }
    let program = match steps.last() {
        // On the way back from a node that never came up, the one that is wanted is there already.
        Some(Step::RestartNode) if !is_there => {
            let package = core.package.clone();
            match program_of(core, &package) {
                Ok(program) => program,
                Err(error) => return Some(error),
            }
        }
        _ => other_program(core)?,
    };
    let done_us = now_us();
    Some(handover::leave(core, &program, |since_us| Errand::Answer {
        answer,
        window,
        times_us: Some((done_us, since_us)),
    }))
}

/// Goes on with an errand, as the program that was to take over, or as the one before (`because`).
pub(super) fn go_on(
    core: &mut Core,
    errand: Errand,
    because: Option<&str>,
    progress: &mut dyn FnMut(Progress),
) -> Option<Response> {
    match (errand, because) {
        (
            Errand::Restart {
                operation,
                who,
                since_us,
                window,
            },
            because,
        ) => {
            if let Some(before) = window {
                requests::go_on_with_window(core, before);
            }
            Some(restarted(core, &operation, &who, since_us, because))
        }
        (Errand::Script(script), None) => {
            let who = script.who.clone();
            Some(match finish(core, *script, progress) {
                Ok(upgraded) => Response::done(Outcome::Upgraded(upgraded)),
                Err(refusal) => to_the_one_before(core, refusal, &who),
            })
        }
        (Errand::Script(script), Some(why)) => {
            forget_program(core);
            let text = serves_on(why);
            core.end(
                &script.operation,
                &script.who,
                Verdict::Undone,
                text.clone(),
            );
            Some(Response::failed(code::UPGRADE_FAILED, text))
        }
        (
            Errand::Answer {
                mut answer,
                window,
                times_us,
            },
            None,
        ) => {
            if let (Answer::Upgraded(upgraded), Some(times)) = (&mut answer, times_us) {
                add_restart(upgraded, times, now_us());
                requests::count_stop(core, upgraded);
            }
            if core.catalog.state().previous.is_none() {
                forget_program(core);
            }
            if let Some(before) = window {
                requests::begin_window(core, before);
            }
            answer.response()
        }
        (Errand::Answer { answer, window, .. }, Some(why)) => {
            let cause = UpgradeError::Restart(why.to_owned());
            Some(match (window, answer) {
                (Some(_), _) => {
                    let who = "the node that did not come up";
                    requests::go_back(core, &cause, who, progress).response()
                }
                (None, Answer::Failed(failure)) => {
                    Response::failed(code::OPERATOR, format!("{}; {cause}", failure.message))
                }
                (None, _) => Response::failed(code::OPERATOR, format!("it is done, and {cause}")),
            })
        }
    }
}

/// Adds what it took to replace the program when the script was done. `times`: when it was done, and when clients began to
/// wait, in microseconds since 1970 as `now` is.
fn add_restart(upgraded: &mut Upgraded, (done, since): (u64, u64), now: u64) {
    let (all, waited) = (now.saturating_sub(done), now.saturating_sub(since));
    upgraded.stop_us += waited;
    // Clocks may be set meanwhile: the parts are never more than the whole.
    upgraded.total_us += all.max(waited);
    let restart = upgraded.steps.last_mut();
    if let Some(step) = restart.filter(|step| step.name == Step::RestartNode.verb()) {
        step.micros += all.max(waited);
    }
}

fn serves_on(why: &str) -> String {
    format!("{why}; the node before serves on, with everything it had")
}

fn restarted(
    core: &mut Core,
    operation: &str,
    who: &str,
    since_us: u64,
    because: Option<&str>,
) -> Response {
    let stop_us = now_us().saturating_sub(since_us);
    let (verdict, text, response) = match because {
        None => {
            let text = format!("clients waited for {} ms", stop_us / 1000);
            let outcome = Outcome::Restarted { stop_us };
            (Verdict::Done, text, Response::done(outcome))
        }
        Some(why) => {
            let text = serves_on(why);
            let response = Response::failed(code::UPGRADE_FAILED, text.clone());
            (Verdict::Failed, text, response)
        }
    };
    core.end(operation, who, verdict, text);
    response
}

/// Carries out the rest of a script.
fn finish(
    core: &mut Core,
    script: Script,
    progress: &mut dyn FnMut(Progress),
) -> Result<Upgraded, Refusal> {
    let opened = |id: &ReleaseId| core.open_package(id);
    let package = opened(&script.to)?;
    let between = script
        .between
        .iter()
        .map(opened)
        .collect::<Result<_, _>>()?;
    let steps = Step::script_from_json(&script.steps);
    let steps = steps.map_err(|found| UpgradeError::Script(found.brief()))?;
    let now = now_us();
    let since = |then: u64| Duration::from_micros(now.saturating_sub(then));
    let waited = since(script.since_us);
    let begun = Begun {
        waited,
        // Clocks may be set meanwhile: the parts are never more than the whole.
        took: script.began_us.map_or(waited, since).max(waited),
    };
    let goal = Goal {
        package,
        between,
        steps,
        plan_id: script.plan_id,
        operation: script.operation,
        who: script.who,
        way: Way::Forward,
        begun: Some(begun),
    };
    requests::carry_out(core, &goal, script.before, progress)
}

/// The rest of a script has failed, and the release before serves: its program is to run it again.
fn to_the_one_before(core: &mut Core, refusal: Refusal, who: &str) -> Response {
    let state = core.catalog.state();
    let serves_before = state.previous.is_none()
        && (state.program_before.as_ref())
            .is_some_and(|one| Some(&one.release) == state.current.as_ref());
    if !serves_before {
        return refusal.response();
    }
    let Response::Failed(failure) = refusal.response() else {
        unreachable!("a refusal is a failure")
    };
    let message = failure.message.clone();
    let answer = Answer::Failed(Failure {
        code: code::UPGRADE_FAILED,
        ..failure
    });
    match restart_node(core, &[], false, answer, None) {
        None => Response::failed(code::UPGRADE_FAILED, message),
        Some(error) => {
            tracing::error!(who, %error, "the release before runs on this node");
            let text = format!("{message}; and the node before could not be brought back: {error}");
            Response::failed(code::OPERATOR, text)
        }
    }
}
