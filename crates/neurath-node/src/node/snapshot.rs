//! A copy of an instance's state, made while the instance serves.
//!
//! The event loop only begins to note what it commits, between two messages. The copying and
//! the check are done by a thread of their own, which has less right to the processor.

use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use neurath_pmem::inspect::{InspectError, snapshot_live};
use neurath_pmem::region::{SnapshotError, SnapshotSource};

use super::requests::Refusal;
use crate::protocol::{SnapshotMade, code};
use crate::shard::{Command, Look, Mailbox, Shard};

/// How long the event loop may take to come to the end of a message.
pub(super) const BEGIN: Duration = Duration::from_secs(10);
/// A conversion may begin or end meanwhile; then the copy is begun again, so often.
pub(super) const TRIES: u32 = 3;
/// How much less right the copying has, as `nice` counts.
const NICE: i32 = 10;

/// Makes the copy.
pub(super) fn make(
    mailbox: &Mailbox,
    component: &str,
    instance: Option<u32>,
    out: &str,
) -> Result<SnapshotMade, Refusal> {
    let started = Instant::now();
    let path = Path::new(out);
    if !path.is_absolute() {
        let text = format!("{out} is not an absolute path; name the file from the root on");
        return Err(Refusal::new(code::USAGE, text));
    }
    if path.symlink_metadata().is_ok() {
        let path = path.into();
        return Err(refused(&InspectError::Exists { path }));
    }
    let mut attempt = 1;
    let made = loop {
        let source = begin(mailbox, component, instance)?;
        match beside("neurath-copy", || snapshot_live(source, path))? {
            Ok(made) => break made,
            Err(InspectError::Snapshot(SnapshotError::Overtaken { .. })) if attempt < TRIES => {
                attempt += 1;
            }
            Err(error) => return Err(refused(&error)),
        }
    };
    Ok(SnapshotMade {
        owner: made.owner,
        out: out.into(),
        bytes: made.bytes,
        sequence: made.sequence,
        leaked: made.report.leaks.iter().map(|leak| leak.objects).sum(),
        micros: u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX),
    })
}

/// Does something on a thread of its own, which has less right to the processor.
pub(super) fn beside<R: Send>(name: &str, work: impl FnOnce() -> R + Send) -> Result<R, Refusal> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name(name.into())
            .spawn_scoped(scope, || {
                if let Err(error) = rustix::process::nice(NICE) {
                    tracing::warn!(%error, "the copying has the same right as the serving");
                }
                work()
            });
        match thread {
            Ok(thread) => thread.join().map_err(|_| {
                let text = "the thread that copies panicked; see the log".to_owned();
                Refusal::new(code::OPERATOR, text)
            }),
            Err(error) => {
                let text = format!("no thread can be made: {error}; try again with less load");
                Err(Refusal::new(code::BUSY, text))
            }
        }
    })
}

/// Lets the event loop begin it, between two messages.
fn begin(
    mailbox: &Mailbox,
    component: &str,
    instance: Option<u32>,
) -> Result<SnapshotSource, Refusal> {
    let name = component.to_owned();
    look(mailbox, BEGIN, move |shard| {
        begin_in(shard, &name, instance)
    })?
}

/// Lets the event loop do something between two messages, and waits for it.
pub(super) fn look<R: Send + 'static>(
    mailbox: &Mailbox,
    timeout: Duration,
    what: impl FnOnce(&mut Shard) -> R + Send + 'static,
) -> Result<R, Refusal> {
    let (send, receive) = mpsc::sync_channel(1);
    let look = Look(Box::new(move |shard: &mut Shard| {
        // Whoever asked may have gone; then it is over at once.
        let _ = send.send(what(shard));
    }));
    let ended = || Refusal::new(code::BUSY, "the node is ending; start it again");
    if !mailbox.send(Command::Look(look)) {
        return Err(ended());
    }
    match receive.recv_timeout(timeout) {
        Ok(seen) => Ok(seen),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(ended()),
        Err(mpsc::RecvTimeoutError::Timeout) => {
            let text = format!("the event loop did not come to a message boundary in {timeout:?}");
            Err(Refusal::new(code::BUSY, text))
        }
    }
}

fn begin_in(
    shard: &mut Shard,
    component: &str,
    instance: Option<u32>,
) -> Result<SnapshotSource, Refusal> {
    let mut found: Vec<_> = shard
        .instances
        .iter_mut()
        .filter(|one| one.component == component)
        .filter(|one| instance.is_none_or(|number| one.number == number))
        .collect();
    match &mut found[..] {
        [one] => one.region.begin_snapshot().map_err(|error| match error {
            SnapshotError::Busy => Refusal::new(code::BUSY, error.to_string()),
            error => Refusal::new(code::OPERATOR, error.to_string()),
        }),
        [] => {
            let number = instance.map_or(String::new(), |number| format!(".{number}"));
            let text = format!(
                "nothing runs that is called {component}{number}; `node status` lists what does"
            );
            Err(Refusal::new(code::USAGE, text))
        }
        several => {
            let text = format!(
                "{component} has {} instances; say which: {component}.0",
                several.len()
            );
            Err(Refusal::new(code::USAGE, text))
        }
    }
}

fn refused(error: &InspectError) -> Refusal {
    let code = match error {
        InspectError::Exists { .. } => code::USAGE,
        InspectError::Damaged { .. } => code::LINT,
        InspectError::Snapshot(
            SnapshotError::TooFast { .. } | SnapshotError::Overtaken { .. } | SnapshotError::Busy,
        ) => code::BUSY,
        _ => code::OPERATOR,
    };
    Refusal::new(code, error.to_string())
}
