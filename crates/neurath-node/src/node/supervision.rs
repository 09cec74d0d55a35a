//! What the node does about components that fail: the event loop starts them again (`shard/supervise.rs`); here it
//! is recorded, and here a node ends, or leaves a release, whose components fail too often.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::core::Core;
use super::{STOP, lock, restarts};
use crate::journal::Verdict;
use crate::loader::Function;
use crate::mapping::Gate;
use crate::shard::effects::Listening;
use crate::shard::{Seat, Shard, Taken};
use crate::upgrade::{FIXED, Outside};
use crate::worker::Worker;

/// Who acts.
const WHO: &str = "the supervisor";
/// The operation that failures are in the history.
const FAILURES: &str = "supervise";
/// No more than one record of failures in this time: whoever makes a component fail must not fill a disk.
const BETWEEN: Duration = Duration::from_secs(1);
/// How long the event loop may take to say what has failed.
const LOOK: Duration = Duration::from_millis(500);
/// How long it may take before an operation, which needs it next.
const LOOK_FIRST: Duration = Duration::from_secs(2);

/// What was recorded last.
#[derive(Debug, Default)]
pub(super) struct Told {
    failures: u64,
    at: Option<Instant>,
}

/// Records what has failed since, at most once in a while.
pub(super) fn record_failures(core: &mut Core, told: &mut Told) {
    let failures = core.figures.failures.load(Ordering::Relaxed);
    if failures == told.failures || told.at.is_some_and(|at| at.elapsed() < BETWEEN) {
        return;
    }
    if hear(core, LOOK) {
        *told = Told {
            failures,
            at: Some(Instant::now()),
        };
        record(core);
    }
}

/// Records what has failed since, before something else is: nothing that comes later takes it along, or stands before it
/// as if the release that follows had failed.
pub(super) fn record_failures_first(core: &mut Core) {
    if hear(core, LOOK_FIRST) {
        record(core);
    }
}

/// Records what has failed in a shard that stands still.
pub(super) fn record_failures_of(core: &mut Core, shard: &mut Shard) {
    lock(&core.unrecorded).extend(told_by(shard));
    record(core);
}

/// Lets the event loop say what has failed; whether it has in time. What it says later waits for the next record.
fn hear(core: &Core, within: Duration) -> bool {
    let unrecorded = core.unrecorded.clone();
    let tell = move |shard: &mut Shard| lock(&unrecorded).extend(told_by(shard));
    let running = core.running.as_ref();
    running.is_some_and(|running| running.look(within, tell).is_some())
}

/// What has failed, a line for each instance.
fn told_by(shard: &mut Shard) -> Vec<String> {
    let news = shard.supervisor.take_news().into_iter();
    let line = |(instance, (times, why)): (String, (u64, String))| match times {
        1 => format!("{instance} failed: {why}"),
        _ => format!("{instance} failed {times} times, the last time: {why}"),
    };
    news.map(line).collect()
}

fn record(core: &mut Core) {
    let news = std::mem::take(&mut *lock(&core.unrecorded));
    if news.is_empty() {
        return;
    }
    match core.begin(FAILURES, WHO) {
        Ok(operation) => core.end(&operation, WHO, Verdict::Done, news.join("; ")),
        Err(error) => tracing::error!(%error, "a failure could not be recorded"),
    }
}

/// What comes after an event loop that has ended by itself.
pub(super) enum After {
    /// The release before serves.
    WentBack,
    /// The node ends, for this reason.
    Ends(String),
}

/// Leaves a release that is not confirmed, if its components fail too often; otherwise ends the node in order.
pub(super) fn event_loop_ended(core: &mut Core) -> After {
    let taken = core.running.take().map(|running| running.take(STOP));
    let Some(Ok(mut taken)) = taken else {
        let reason = "nothing runs".to_owned();
        gave_up(core, &reason);
        return After::Ends(reason);
    };
    let reason = taken.shard.failed.take();
    let reason = reason.unwrap_or_else(|| "the event loop has ended".into());
    record_failures_of(core, &mut taken.shard);
    // Once: where the way back has failed, a person decides.
    let state = core.catalog.state();
    let mut taken = match state.previous.is_some() && state.unconfirmed_since_ms.is_some() {
        true => match go_back(core, taken, &reason) {
            Ok(()) => return After::WentBack,
            Err(taken) => taken,
        },
        false => Some(taken),
    };
    gave_up(core, &reason);
    if let Some(taken) = &mut taken {
        for trouble in end_all(taken) {
            tracing::error!(trouble, "a component did not end well");
        }
    }
    After::Ends(reason)
}

/// A failed health check: the release before goes on where this one stands.
fn go_back(core: &mut Core, taken: Taken, reason: &str) -> Result<(), Option<Taken>> {
    core.standing = Some(taken);
    (core.hold, core.untrusted) = (true, true);
    super::watch::go_back(core, &format!("{WHO}: {reason}"));
    (core.hold, core.untrusted) = (false, false);
    if core.catalog.state().previous.is_some() {
        return Err(core.standing.take());
    }
    restarts::settle_program(core);
    let Some(standing) = core.standing.take() else {
        return Err(None);
    };
    match Seat::new().and_then(|seat| standing.run(seat)) {
        Ok(running) => {
            core.running = Some(running);
            Ok(())
        }
        Err(error) => {
            tracing::error!(%error, "no thread for the event loop");
            Err(None)
        }
    }
}

/// Lets every component terminate, and closes its region; what went wrong.
pub(super) fn end_all(taken: &mut Taken) -> Vec<String> {
    let mut trouble = Vec::new();
    let mut worker = Worker::default();
    for at in 0..taken.shard.instances.len() {
        let outside = Outside::of(&taken.shard, at, Listening::Nowhere, FIXED);
        let instance = &mut taken.shard.instances[at];
        let gate = Gate::open(instance.attached.handle(), &mut instance.region);
        let called = outside.call(&mut worker, Function::Terminate, &gate, STOP);
        gate.end(&mut instance.region);
        if let Err(error) = called {
            trouble.push(error.to_string());
            instance.region.abort();
        } else if let Err(error) = instance.region.commit() {
            trouble.push(error.to_string());
        }
    }
    for instance in taken.shard.instances.drain(..) {
        if let Err(error) = instance.region.close() {
            trouble.push(error.to_string());
        }
    }
    trouble
}

/// Records that the supervisor has ended the node.
fn gave_up(core: &mut Core, reason: &str) {
    match core.begin(crate::journal::STOP, WHO) {
        Ok(operation) => core.end(&operation, WHO, Verdict::OperatorNeeded, reason.to_owned()),
        Err(error) => tracing::error!(%error, "the end could not be recorded"),
    }
}
