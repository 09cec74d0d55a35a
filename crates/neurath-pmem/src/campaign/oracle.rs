//! What must hold of every image.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_64;

use super::explore::Explorer;
use super::fresh::acknowledge;
use super::images::Effort;
use super::models::Survives;
use super::newest;
use super::record::History;
use super::sim::{Random, Sim, mix};
use super::state::{Model, Op, contents, run, tx};
use super::trace::{Event, Trace};
use super::workloads::{altered, random_transaction};
use crate::region::format::{PAGE, SUPERBLOCK_AT};
use crate::region::{Media as _, Region};

/// What is right after a crash.
pub(crate) struct Expected<'a> {
    pub(crate) history: &'a History,
    /// So many commits were acknowledged.
    pub(crate) acknowledged: usize,
    /// So many were made.
    pub(crate) applied: usize,
    /// So many were when the region was last synced.
    pub(crate) synced: usize,
    /// Just now.
    pub(crate) just_synced: bool,
    /// The workload is at its end, and the region was closed.
    pub(crate) closed: bool,
}

/// Recovered regions that were looked at, each with the first state that is what it holds.
///
/// The same bytes of the heap at the same place in the log are the same state, and are used
/// by the next life in the same way. What remains of the log matters to the next crash only:
/// images that crash again are never passed over.
#[derive(Default)]
pub(crate) struct Seen {
    states: HashMap<u64, usize>,
    /// Recoveries that have crashed everywhere: by what they stored, over what, in which order, by
    /// the superblocks that they read, and by what came of them.
    recoveries: HashSet<u64>,
}

pub(super) fn recover(media: Sim) -> Result<Region<Sim>, String> {
    Region::recover_media(media).map_err(|error| format!("no recovery: {error}"))
}

/// A checksum that is there holds.
fn sums(region: &Region<Sim>) -> Result<(), String> {
    match region.wrong_sum() {
        None => Ok(()),
        Some(number) => Err(format!("the checksum of segment {number} does not hold")),
    }
}

/// How one image is looked at.
pub(crate) struct Check<'a> {
    pub(crate) expected: &'a Expected<'a>,
    pub(crate) survives: Survives,
    /// So many times more it may crash.
    pub(crate) depth: u32,
    pub(crate) effort: &'a Effort,
    pub(crate) seed: u64,
    pub(crate) seen: &'a mut Seen,
}

/// What is to be done with an image.
pub(super) enum Allowed {
    /// It must hold one of these states.
    States(std::ops::Range<usize>),
    /// Nothing: it is refused, or is no region yet.
    Refused,
}

impl Check<'_> {
    /// Recovers what is on the medium, looks at it, uses it, and puts it back; gives the number
    /// of images that the second lives had. On an error the medium is lost.
    pub(crate) fn run(mut self, sim: &mut Option<Sim>) -> Result<u64, String> {
        let mut random = Random(self.seed);
        let mut media = sim.take().expect("a medium");
        let allowed = match self.allowed(&media)? {
            Allowed::States(allowed) => allowed,
            Allowed::Refused => {
                *sim = Some(media);
                return Ok(0);
            }
        };
        let mark = media.mark();
        let again = self.depth > 0
            && self.survives != Survives::Closing
            && random.chance(self.effort.again);
        // Drawn whatever was seen: so that the image alone is looked at in the same way.
        let used = random.chance(self.effort.lives);
        self.look_at_newest(&mut media, &allowed, &mut random)?;
        let mut region = recover(media)?;
        if allowed.contains(&0) && self.expected.history.nothing && region.root().is_null() {
            media = region.into_media();
            media.rewind(mark);
            *sim = Some(media);
            return Ok(0);
        }
        let (at, new) = self.look(&mut region, allowed)?;
        let position = region.position();
        media = region.into_media();
        media.lose_memory(mark);
        let mut images = 0;
        if self.is_new_recovery(&media, mark, position) {
            let trace = media.take_back(mark);
            *sim = Some(media);
            images = self.crash_in_recovery(sim, &trace, at)?;
            media = recover(sim.take().expect("a medium"))?.into_media();
            media.lose_memory(mark);
        }
        let mut region = second_recovery(media)?;
        if !(again || new || used) {
            media = region.into_media();
            media.rewind(mark);
            *sim = Some(media);
            return Ok(images);
        }
        let lives = self.live(&mut region, at, &mut random)?;
        media = empty(region, lives.models.last().expect("a model"))?;
        if !again {
            media.rewind(mark);
            *sim = Some(media);
            return Ok(images);
        }
        let trace = media.take_back(mark);
        *sim = Some(media);
        Ok(images + self.crash_again(sim, &trace, &lives, random.next())?)
    }

    /// Whether no recovery like this one, which is what happened since the `mark`-th event, has
    /// crashed.
    fn is_new_recovery(&mut self, media: &Sim, mark: usize, position: [u64; 3]) -> bool {
        if !self.effort.recoveries || self.depth == 0 || self.survives == Survives::Closing {
            return false;
        }
        let superblocks = SUPERBLOCK_AT.map(|at| xxh3_64(media.bytes(at, PAGE)));
        let read = [media.trace.digest(mark), media.state()];
        let key = position.into_iter().chain(superblocks).chain(read);
        self.seen.recoveries.insert(key.fold(0, mix))
    }

    /// Crashes everywhere in a recovery that came to state `at`. It comes to it again.
    fn crash_in_recovery(
        &self,
        sim: &mut Option<Sim>,
        trace: &Trace,
        at: usize,
    ) -> Result<u64, String> {
        let lives = History::new(self.expected.history.models[at].clone());
        let mut explorer = Explorer::again(self.survives, mix(self.seed, 2));
        explorer.effort = Effort::IN_RECOVERY;
        explore_from(&mut explorer, sim, (trace, trace.events.len()), (&lives, 0))
            .map_err(|error| format!("{error}; in the recovery"))?;
        Ok(explorer.images)
    }

    /// Looks at a ring's newest record in some of the images.
    fn look_at_newest(
        &self,
        media: &mut Sim,
        allowed: &std::ops::Range<usize>,
        random: &mut Random,
    ) -> Result<(), String> {
        let ring = !matches!(self.survives, Survives::Pages | Survives::Closing);
        if ring && random.chance(4) {
            newest::keeps_up(media, self.survives)?;
        }
        // Of what a lost machine's memory held, the word that names a record may be a part.
        if self.survives != Survives::Prefix || !random.chance(32) {
            return Ok(());
        }
        let Some(damaged) = newest::damaged(media, random)? else {
            return Ok(());
        };
        let Ok(mut region) = Region::recover_media(damaged) else {
            return Ok(());
        };
        if region.root().is_null() && self.expected.history.nothing {
            return Ok(());
        }
        let found = contents(&mut region).map_err(|error| format!("damaged: {error}"))?;
        let models = &self.expected.history.models[allowed.clone()];
        match models.contains(&found) {
            true => Ok(()),
            false => Err(format!("damaged: it holds something else: {found:?}")),
        }
    }

    /// The states that the image may hold.
    pub(super) fn allowed(&self, media: &Sim) -> Result<Allowed, String> {
        let expected = self.expected;
        let models = expected.history.models.len();
        let made = expected.acknowledged > 0 || !expected.history.nothing;
        if self.survives != Survives::Closing {
            if !made && !crate::region::Found::is_there(media) {
                return Ok(Allowed::Refused);
            }
            let end = (expected.applied + 2).min(models);
            return Ok(Allowed::States(expected.acknowledged..end));
        }
        let clean = crate::region::Found::is_clean(media);
        match clean {
            // No commit follows a close before the region says that it is open.
            Ok(true) => Ok(Allowed::States(
                expected.acknowledged..expected.acknowledged + 1,
            )),
            _ if expected.closed => Err(format!("closed, and not clean afterwards: {clean:?}")),
            // Such a region is refused, or does not open: the machine went down while it was
            // open, and pages may be any mixture.
            Ok(false) | Err(_) if !expected.just_synced => Ok(Allowed::Refused),
            Ok(false) => Ok(Allowed::States(expected.synced..expected.synced + 1)),
            Err(error) => Err(format!("synced, and does not open: {error}")),
        }
    }

    /// Looks at what was recovered: the state that it holds, and whether it was never seen.
    fn look(
        &mut self,
        region: &mut Region<Sim>,
        allowed: std::ops::Range<usize>,
    ) -> Result<(usize, bool), String> {
        let history = self.expected.history;
        let place = region.position().into_iter();
        let key = place.fold(region.media().state(), mix);
        let known = self.seen.states.get(&key).copied();
        let is = |first: usize| {
            let mut allowed = allowed.clone();
            allowed.find(|&at| history.first[at] == first)
        };
        if let Some(at) = known.and_then(is) {
            return Ok((at, false));
        }
        sums(region)?;
        let found = contents(region)?;
        let first = history.models.iter().position(|model| *model == found);
        match first.and_then(is) {
            Some(at) => {
                self.seen.states.insert(key, history.first[at]);
                Ok((at, true))
            }
            None => Err(format!(
                "{} commits, but the state after {first:?}: {found:?}",
                self.expected.acknowledged
            )),
        }
    }

    /// The new life: memory is used again. Half of the lives try again what was lost.
    fn live(
        &self,
        region: &mut Region<Sim>,
        at: usize,
        random: &mut Random,
    ) -> Result<History, String> {
        let history = self.expected.history;
        let mut lives = History::new(history.models[at].clone());
        let lost = match random.chance(2) {
            true => &history.transactions[at..],
            false => &[],
        };
        let mut lost = lost.iter();
        for _ in 0..10 {
            let model = lives.models.last().expect("a model");
            let transaction = match lost.next() {
                Some(lost) => altered(lost, random),
                None => random_transaction(random, model),
            };
            run(region, &transaction).map_err(|error| format!("in use: {error}"))?;
            if transaction.commit {
                lives.push(transaction);
                region.media_mut().trace.events.push(Event::Applied);
            }
            if self.survives != Survives::Pages || random.chance(2) {
                acknowledge(region).map_err(|error| format!("in use: {error}"))?;
            }
        }
        sums(region)?;
        if contents(region)? != *lives.models.last().expect("a model") {
            return Err("the recovered region lost something in use".into());
        }
        Ok(lives)
    }

    /// Crashes everywhere in the recovery and in the new life.
    fn crash_again(
        &self,
        sim: &mut Option<Sim>,
        trace: &Trace,
        lives: &History,
        seed: u64,
    ) -> Result<u64, String> {
        let mut explorer = Explorer::again(self.survives, seed);
        if self.effort.deep {
            explorer.effort = Effort::FULL;
        }
        // What a recovery has left unsure shows in the first transactions after it.
        let commits = |(_, event): &(usize, &Event)| matches!(event, Event::Commit);
        let second = trace.events.iter().enumerate().filter(commits).nth(1);
        let end = match second {
            Some((at, _)) if self.effort.deep => at + 1,
            _ => trace.events.len(),
        };
        explore_from(&mut explorer, sim, (trace, end), (lives, self.depth - 1))
            .map_err(|error| format!("{error}; in a second life"))?;
        Ok(explorer.images)
    }
}

/// Explores what happened to a medium, and leaves it as it was before.
fn explore_from(
    explorer: &mut Explorer<'_>,
    sim: &mut Option<Sim>,
    (trace, end): (&Trace, usize),
    (lives, depth): (&History, u32),
) -> Result<(), String> {
    let disk = sim.as_mut().expect("a medium");
    let (mark, len) = (disk.mark(), disk.len);
    explorer.explore(sim, (trace, end), lives, depth)?;
    let disk = sim.as_mut().expect("a medium");
    disk.rewind(mark);
    for event in trace.events.iter().rev() {
        if let Event::Store(span) = event {
            disk.raw(span.at, trace.before(span));
        }
    }
    disk.len = len;
    Ok(())
}

/// Recovers what was recovered: that changes nothing but the superblocks.
fn second_recovery(media: Sim) -> Result<Region<Sim>, String> {
    let again = media.mark();
    let region = recover(media)?;
    let superblocks = SUPERBLOCK_AT[0]..SUPERBLOCK_AT[1] + PAGE;
    let trace = &region.media().trace;
    let stable = |event: &Event| match event {
        Event::Store(span) => {
            trace.before(span) == trace.stored(span) || superblocks.contains(&span.at)
        }
        Event::Write(span) => superblocks.contains(&span.at),
        _ => true,
    };
    if trace.events[again..].iter().all(stable) {
        Ok(region)
    } else {
        Err("a second recovery changed something".into())
    }
}

/// Takes everything out of a region: nothing is left. The medium is as before then.
fn empty(mut region: Region<Sim>, model: &Model) -> Result<Sim, String> {
    let used = region.media().mark();
    let held = |k: &u8| model.map.contains_key(super::state::key(*k));
    let everything = (0..=u8::MAX).filter(held).map(Op::Remove);
    let everything: Vec<Op> = everything.chain([Op::Clear]).collect();
    run(&mut region, &tx(&everything)).map_err(|error| format!("emptying: {error}"))?;
    let left = region.stats().live_objects;
    if left > 3 {
        return Err(format!("{left} objects are left in an empty region"));
    }
    let mut media = region.into_media();
    media.rewind(used);
    Ok(media)
}
