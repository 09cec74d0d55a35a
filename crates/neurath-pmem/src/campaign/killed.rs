//! A process that dies on persistent memory, and later the machine does, in the recovery or after
//! it. The recovery sees all that was stored, and the medium has what was sure: the rest is in the
//! processor's caches, and nobody waits for it any more.

use super::explore::{Explorer, Start};
use super::fresh::acknowledge;
use super::images::{Effort, Image, put};
use super::models::{Pending, Survives};
use super::oracle::{Allowed, Check, recover};
use super::sim::{Random, Sim};
use super::state::{contents, run};
use super::trace::Event;
use super::workloads::random_transaction;

/// The number of such an image, beyond all others of its event.
pub(crate) const KILLED: usize = 1_000_000;

/// One of so many events of a workload, on a medium of up to 2 MiB; of larger ones, which take
/// longer to copy, fewer.
const ONE_IN: usize = 12;

/// Whether the process is to be killed at an event.
pub(crate) fn is_killed(survives: Survives, depth: u32, len: u64, random: &mut Random) -> bool {
    let concerned = depth > 0 && matches!(survives, Survives::Lines | Survives::Chunks);
    concerned && random.chance(ONE_IN * (1 + (len >> 21) as usize))
}

impl Check<'_> {
    /// Recovers what memory held, goes on for a while, and makes the machine go down everywhere
    /// meanwhile. `pending` is what the medium may not have. Gives the number of images.
    pub(crate) fn run_killed(
        self,
        sim: &mut Option<Sim>,
        pending: &Pending,
    ) -> Result<u64, String> {
        let mut random = Random(self.seed);
        let mut media = sim.take().expect("a medium");
        let history = self.expected.history;
        if self.expected.acknowledged == 0 && history.nothing {
            *sim = Some(media);
            return Ok(0);
        }
        let Allowed::States(allowed) = self.allowed(&media)? else {
            unreachable!("no such model refuses a region")
        };
        let begin = media.mark();
        let mut medium = Some(media.copy());
        let everything = Image {
            counts: pending.units.values().map(Vec::len).collect(),
            len: pending.grown,
        };
        put(&everything, pending, &mut media);
        let recovery = media.mark();
        let mut region = recover(media)?;
        let found = contents(&mut region)?;
        let at = allowed
            .clone()
            .find(|&at| history.models[at] == found)
            .ok_or("killed: it holds something else")?;
        // What was found is promised once the recovery has ended, and not before.
        let events = &mut region.media_mut().trace.events;
        let made = |event, before: usize| (before..at).map(move |_| event);
        events.extend(made(Event::Applied, self.expected.applied));
        events.extend(made(Event::Commit, self.expected.acknowledged));
        let mut history = history.up_to(at);
        for _ in 0..2 {
            let transaction = random_transaction(&mut random, &history.models[at]);
            run(&mut region, &transaction).map_err(|error| format!("in use: {error}"))?;
            if transaction.commit {
                history.push(transaction);
                region.media_mut().trace.events.push(Event::Applied);
            }
            acknowledge(&mut region).map_err(|error| format!("in use: {error}"))?;
        }
        media = region.into_media();
        let trace = media.take_back(recovery);
        media.rewind(begin);
        *sim = Some(media);
        let mut explorer = Explorer::again(self.survives, random.next());
        explorer.effort = Effort::KILLED;
        explorer.start = Start {
            pending: pending.forgotten(),
            acknowledged: self.expected.acknowledged,
            applied: self.expected.applied.min(at),
        };
        explorer
            .explore(&mut medium, (&trace, trace.events.len()), &history, 0)
            .map_err(|error| format!("{error}; after a process was killed"))?;
        Ok(explorer.images)
    }
}
