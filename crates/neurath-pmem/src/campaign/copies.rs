//! Copies of a region in use that a crash cuts off: none looks whole that is not.

use super::fresh::fresh;
use super::images::{Effort, Image, images, put};
use super::memory::LIMIT;
use super::models::{Pending, Survives};
use super::sim::{Random, Sim, mix};
use super::state::{Model, contents, run};
use super::trace::Trace;
use super::workloads::random_workload;
use crate::region::format::ROOT_AT;
use crate::region::{Backend, Copy, Media, Region};

/// What happened to the copy's medium, and what the copy holds.
struct Made {
    trace: Trace,
    model: Model,
    len: u64,
}

/// Makes a copy while transactions run.
fn made(seed: u64) -> Result<Made, String> {
    let mut region = fresh(Backend::Process);
    let mut model = Model::default();
    let mut transactions = random_workload(seed, 24).into_iter();
    let mut go_on = |region: &mut Region<Sim>, count| {
        for transaction in transactions.by_ref().take(count) {
            run(region, &transaction)?;
            if transaction.commit {
                model.apply(&transaction.ops);
            }
        }
        Ok::<(), String>(())
    };
    go_on(&mut region, 8)?;
    let begun = region.begin_copy(LIMIT).ok_or("it is being copied")?;
    let mut copy = Copy::new(begun, Sim::new(region.media().len(), Backend::Process));
    loop {
        let media = region.media();
        let step = copy.step(|target, at, len| {
            target.store(at, media.bytes(at, len));
            Ok(())
        });
        let more = step.map_err(|error| format!("the copying: {error:?}"))?;
        go_on(&mut region, 6)?;
        if !more {
            break;
        }
    }
    let ended = copy.finish();
    let (mut target, _) = ended.map_err(|error| format!("the copying: {error:?}"))?;
    let (trace, len) = (std::mem::take(&mut target.trace), target.len());
    Ok(Made { trace, model, len })
}

/// Begins the copy of a region in use.
pub(super) fn begin(region: &mut Region<Sim>) -> Copy<Sim> {
    let begun = region.begin_copy(LIMIT).expect("it is not being copied");
    let len = region.media().len();
    let mut copy = Copy::new(begun, Sim::new(len, region.media().backend()));
    step(&mut copy, region);
    copy
}

fn step(copy: &mut Copy<Sim>, region: &Region<Sim>) -> bool {
    let media = region.media();
    let step = copy.step(|target, at, len| {
        target.store(at, media.bytes(at, len.min(media.len() - at)));
        Ok(())
    });
    step.expect("simulated media take copies")
}

/// Ends it: the copy holds what is there now.
pub(super) fn end(mut copy: Copy<Sim>, region: &Region<Sim>, model: &Model) {
    while step(&mut copy, region) {}
    let (copy, _) = copy.finish().expect("simulated media take copies");
    assert_eq!(look(copy, model), Ok(true), "the copy");
}

/// Looks at what a crash has left of a copy; whether it looks whole.
fn look(disk: Sim, model: &Model) -> Result<bool, String> {
    let Ok(mut region) = Region::recover_media(disk) else {
        return Ok(false);
    };
    if let Some(number) = region.wrong_sum() {
        return Err(format!("the checksum of segment {number} does not hold"));
    }
    if contents(&mut region)? == *model {
        return Ok(true);
    }
    Err("it looks whole, and holds something else".into())
}

/// What says that it is a region survives, and of the rest some: that must not look whole.
pub(super) fn headers_first(pending: &Pending, survives: Survives, random: &mut Random) -> Image {
    let counts = pending.units.iter().map(|(unit, stores)| {
        if unit * survives.unit() < ROOT_AT || random.chance(2) {
            stores.len()
        } else {
            0
        }
    });
    Image {
        counts: counts.collect(),
        len: pending.grown,
    }
}

/// Crashes of the copying, where only a sync orders what is stored.
pub(crate) fn cut_off(seed: u64) -> Result<(), String> {
    for number in 0..3 {
        let seed = mix(seed, number);
        let made = made(seed)?;
        let survives = Survives::Closing;
        let mut random = Random(mix(seed, 1));
        let (mut pending, mut whole) = (Pending::default(), Sim::new(made.len, Backend::Process));
        let mut looked_whole = 0;
        for (at, event) in made.trace.events.iter().enumerate() {
            pending.note(event, &made.trace, survives, &whole);
            let settles = survives.settles(event);
            if !settles {
                continue;
            }
            let mut list = images(&pending, survives, made.len, &Effort::QUICK, &mut random);
            list.extend((0..8).map(|_| headers_first(&pending, survives, &mut random)));
            for image in list {
                let mut disk = whole.copy();
                put(&image, &pending, &mut disk);
                let looks = look(disk, &made.model);
                looked_whole += u32::from(looks.map_err(|error| format!("{error}; event {at}"))?);
            }
            pending.settle(event, survives, &mut whole);
        }
        if looked_whole == 0 || !look(whole, &made.model)? {
            return Err("a copy that was ended is not whole".into());
        }
    }
    Ok(())
}
