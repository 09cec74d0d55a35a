//! States that are converted segment by segment: the event loop does it between messages.
//!
//! With nothing to do, it converts for a fraction of a millisecond at a time, so that a message that
//! comes meanwhile hardly waits. With messages to serve it does so for a tenth of its time at
//! most: so a conversion ends under any load.

use std::time::{Duration, Instant};

use neurath_pmem::region::Swept;

use super::{Instance, Shard};

/// How long the loop converts at a time; one segment at least.
const SLICE: Duration = Duration::from_micros(150);
/// Of its time, a loop that has messages to serve converts one part in so many.
const SHARE: u32 = 10;
/// How long it waits before it tries again what could not be converted.
const REST: Duration = Duration::from_secs(2);

/// When the loop may convert next.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// Among messages, not before.
    busy_until: Option<Instant>,
}

impl Shard {
    /// How long the loop may wait for something else to do: not at all if there is something to convert.
    pub(super) fn until_sweep(&self) -> Option<Duration> {
        let swept = self.instances.iter().filter(|one| one.region.is_swept());
        let due = |one: &Instance| {
            let rest = one.rests_until;
            rest.map_or(Duration::ZERO, |until| {
                until.saturating_duration_since(Instant::now())
            })
        };
        swept.map(due).min()
    }

    /// Converts for a while; `busy` if there were messages in this turn.
    pub(super) fn sweep(&mut self, busy: bool) {
        let began = Instant::now();
        if busy && self.pace.busy_until.is_some_and(|until| began < until) {
            return;
        }
        for instance in &mut self.instances {
            let rests = instance.rests_until.is_some_and(|until| began < until);
            if !instance.region.is_swept() || rests {
                continue;
            }
            instance.rests_until = None;
            let (component, number) = (&instance.component, instance.number);
            match instance.region.sweep(SLICE) {
                Ok(Swept::More) => {}
                Ok(Swept::Done) => tracing::info!(component, number, "the state is converted"),
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
            self.pace.busy_until = Some(Instant::now() + began.elapsed() * (SHARE - 1));
            // One at a time: the others have their turn.
            return;
        }
    }
}
