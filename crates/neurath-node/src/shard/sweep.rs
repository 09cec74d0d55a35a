//! States that are converted segment by segment, and what a conversion has left behind: the event loop does it between
//! messages.
//!
//! It converts for a fraction of a millisecond at a time, so that a message that comes meanwhile hardly
//! waits. In between it sleeps, or serves: with nothing else to do for most of the time, with messages to
//! serve for nine tenths of it at least. A loop that would not sleep would take its turn on a processor from
//! its clients, where these run on the same machine, and the system gives such a turn for milliseconds. So
//! a conversion disturbs nobody, and ends under any load.

use std::time::{Duration, Instant};

use neurath_pmem::region::Swept;

use super::{Instance, Shard};

/// How long the loop converts at a time; one segment at least.
const SLICE: Duration = Duration::from_micros(150);
/// Of its time, a loop converts one part in so many if it has nothing else to do.
const IDLE_SHARE: u32 = 5;
/// The same if it has messages to serve.
const SHARE: u32 = 10;
/// How long it waits for room that is being made ready.
const MOMENT: Duration = Duration::from_micros(200);
/// How long it waits before it tries again what could not be converted.
const REST: Duration = Duration::from_secs(2);

/// When the loop may convert next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Not before.
    until: Option<Instant>,
}

fn has_work(instance: &Instance) -> bool {
    instance.region.is_swept() || instance.region.may_have_left()
}

impl Shard {
    /// How long the loop may wait for something else to do, if there is something to convert.
    pub(super) fn until_sweep(&self) -> Option<Duration> {
        if self.rehearsed {
            return None;
        }
        let swept = self.instances.iter().filter(|one| has_work(one));
        let due = |one: &Instance| one.rests_until.max(self.pace.until);
        let next = swept.map(due).min()?;
        let left = |until: Instant| until.saturating_duration_since(Instant::now());
        Some(next.map_or(Duration::ZERO, left))
    }

    /// Converts for a while; `busy` if there were messages in this turn. A rehearsal asks for it itself, when it has said
    /// that it is at it.
    pub(super) fn sweep(&mut self, busy: bool) {
        if self.rehearsed {
            return;
        }
        let began = Instant::now();
        if self.pace.until.is_some_and(|until| began < until) {
            return;
        }
        for instance in &mut self.instances {
            let rests = instance.rests_until.is_some_and(|until| began < until);
            if !has_work(instance) || rests {
                continue;
            }
            let is_swept = instance.region.is_swept();
            instance.rests_until = None;
            let (component, number) = (&instance.component, instance.number);
            match instance.region.sweep(SLICE) {
                Ok(Swept::More) => {}
                Ok(Swept::Waits) => instance.rests_until = Some(Instant::now() + MOMENT),
                Ok(Swept::Done) if is_swept => {
                    tracing::info!(component, number, "the state is converted");
                }
                Ok(Swept::Done) => {
                    tracing::debug!(
                        component,
                        number,
                        "the search for what a conversion left has ended"
                    );
                }
                Ok(Swept::Stuck) => {
                    let status = instance.region.sweep_status();
                    let failure = status.and_then(|status| status.failure);
                    tracing::error!(
                        component,
                        number,
                        ?failure,
                        "a part of the state cannot be converted; go back, or it is tried again"
                    );
                    instance.rests_until = Some(began + REST);
                }
                Err(error) => {
                    self.failed = Some(format!("the state of {component}.{number}: {error}"));
                    return;
                }
            }
            let share = if busy { SHARE } else { IDLE_SHARE };
            let now = Instant::now();
            self.pace.until = Some(now + (now - began) * (share - 1));
            // One at a time: the others have their turn.
            return;
        }
    }
}
