//! What must hold of every image.

use super::explore::Explorer;
use super::images::Effort;
use super::models::Survives;
use super::sim::{Event, Random, Sim};
use super::workloads::{Model, Op, acknowledge, contents, random_transaction, run, tx};
use crate::region::Region;
use crate::region::format::{PAGE, SUPERBLOCK_AT};

/// What is right after a crash.
pub(crate) struct Expected<'a> {
    pub(crate) models: &'a [Model],
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

fn recover(media: Sim) -> Result<Region<Sim>, String> {
    Region::recover_media(media).map_err(|error| format!("no recovery: {error}"))
}

/// A checksum that is there holds.
fn sums(region: &Region<Sim>) -> Result<(), String> {
    match region.wrong_sum() {
        None => Ok(()),
        Some(number) => Err(format!("the checksum of segment {number} does not hold")),
    }
}

/// Recovers what is on the medium, looks at it, uses it, and puts it back. On an error
/// the medium is lost.
pub(crate) fn check(
    sim: &mut Option<Sim>,
    expected: &Expected<'_>,
    survives: Survives,
    depth: u32,
    effort: &Effort,
    seed: u64,
) -> Result<(), String> {
    let mut random = Random(seed);
    let media = sim.take().expect("a medium");
    let models = expected.models;
    let mut allowed = expected.acknowledged..(expected.applied + 2).min(models.len());
    if survives == Survives::Closing {
        let clean = crate::region::Found::is_clean(&media);
        match clean {
            Ok(true) => allowed = models.len() - 1..models.len(),
            _ if expected.closed => {
                return Err(format!("closed, and not clean afterwards: {clean:?}"));
            }
            // Such a region is refused, or does not open: the machine went down while it was
            // open, and pages may be any mixture.
            Ok(false) | Err(_) if !expected.just_synced => {
                *sim = Some(media);
                return Ok(());
            }
            Ok(false) => allowed = expected.synced..expected.synced + 1,
            Err(error) => return Err(format!("synced, and does not open: {error}")),
        }
    }
    let mark = media.events.len();
    let mut region = recover(media)?;
    sums(&region)?;
    let found = contents(&mut region)?;
    if !models[allowed].contains(&found) {
        let at = models.iter().position(|model| *model == found);
        return Err(format!(
            "{} commits, but the state after {at:?}: {found:?}",
            expected.acknowledged
        ));
    }
    // A second recovery changes nothing but the superblocks.
    let mut media = region.into_media();
    media.lose_memory(mark);
    let again = media.events.len();
    let mut region = recover(media)?;
    let stable = |event: &Event| match event {
        Event::Store { at, old, new } => {
            old == new || (SUPERBLOCK_AT[0]..SUPERBLOCK_AT[1] + PAGE).contains(at)
        }
        Event::Write { at, .. } => (SUPERBLOCK_AT[0]..SUPERBLOCK_AT[1] + PAGE).contains(at),
        _ => true,
    };
    if !region.media_mut().events[again..].iter().all(stable) {
        return Err("a second recovery changed something".into());
    }
    // The new life.
    let mut lives = vec![found.clone()];
    let mut model = found;
    for _ in 0..10 {
        let transaction = random_transaction(&mut random, &model);
        run(&mut region, &transaction).map_err(|error| format!("in use: {error}"))?;
        if transaction.commit {
            model.apply(&transaction.ops);
            lives.push(model.clone());
            region.media_mut().events.push(Event::Applied);
        }
        if survives != Survives::Pages || random.chance(2) {
            acknowledge(&mut region).map_err(|error| format!("in use: {error}"))?;
        }
    }
    sums(&region)?;
    if contents(&mut region)? != model {
        return Err("the recovered region lost something in use".into());
    }
    let used = region.media_mut().events.len();
    let held = |k: &u8| model.map.contains_key(&super::workloads::key(*k));
    let everything = (0..=u8::MAX).filter(held).map(Op::Remove);
    let everything: Vec<Op> = everything.chain([Op::Clear]).collect();
    run(&mut region, &tx(&everything)).map_err(|error| format!("emptying: {error}"))?;
    let left = region.stats().live_objects;
    if left > 3 {
        return Err(format!("{left} objects are left in an empty region"));
    }
    let mut media = region.into_media();
    media.take_back(used);
    let events = media.take_back(mark);
    let before = media.len;
    *sim = Some(media);
    if depth > 0 && survives != Survives::Closing && random.chance(effort.again) {
        let mut explorer = Explorer::again(survives, random.next());
        if effort.deep {
            explorer.effort = Effort::FULL;
        }
        // What a recovery has left unsure shows in the first transactions after it.
        let commits = |(_, event): &(usize, &Event)| matches!(event, Event::Commit);
        let second = events.iter().enumerate().filter(commits).nth(1);
        let end = match second {
            Some((at, _)) if effort.deep => at + 1,
            _ => events.len(),
        };
        explorer
            .explore(sim, &events[..end], &lives, depth - 1)
            .map_err(|error| format!("{error}; in a second life"))?;
        // Back to where the second life began.
        let disk = sim.as_mut().expect("a medium");
        disk.events.truncate(mark);
        for event in events.iter().rev() {
            if let Event::Store { at, old, .. } = event {
                disk.raw(*at, old);
            }
        }
        disk.len = before;
    }
    Ok(())
}
