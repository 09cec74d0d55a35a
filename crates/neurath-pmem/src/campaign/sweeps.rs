//! Crashes in the midst of a conversion that goes on while the region is used: at every store of
//! it, in every model of what survives.

use std::time::Duration;

use super::images::{Effort, cuts, images, put, put_growth, put_prefix};
use super::models::{Pending, Survives, carry_out};
use super::sim::{Event, LIMIT, Random, Sim, Trace, mix};
use super::workloads::acknowledge;
use crate::region::format::{CHUNK_LEN, JOURNAL_LENS, LOG_AT, Log};
use crate::region::sweep_tests::{Model, Op, down, empty_state, look, new, old, transact, up};
use crate::region::{Backend, Durability, Region, RegionOptions, Swept};
use crate::schema::Fingerprint;

/// A region of the old version, with a few items, as it was closed.
fn begin(backend: Backend) -> (Region<Sim>, Model) {
    crate::collections::FIXED_KEY.set(Some([1, 2]));
    let log = match backend {
        Backend::Page => Log::Journal(*JOURNAL_LENS.start()),
        _ => Log::Ring,
    };
    let media = Sim::new(LOG_AT + log.len() + CHUNK_LEN, backend);
    let options = RegionOptions {
        durability: Durability::Process,
        ..RegionOptions::new("test", 0, LIMIT)
    };
    let mut region = Region::format(media, &options, log, &old::SCHEMA).expect("formats");
    empty_state(&mut region, 20);
    let mut model = Model::default();
    for n in 0..60 {
        for op in [Op::Insert(n), Op::Push(n), Op::Order(n), Op::Blob(n)] {
            transact::<old::State, _>(&mut region, &mut model, op).expect("runs");
        }
    }
    region.close_in_order().expect("simulated media sync");
    let mut region = Region::recover_media(region.into_media()).expect("opens");
    region.media_mut().forget();
    (region, model)
}

/// What is known of the region at some event.
#[derive(Clone)]
struct Known {
    /// After so many events.
    from: usize,
    /// Transactions that may be there.
    acknowledged: usize,
    applied: usize,
    /// Whether the region may be of the old version, and of the new one.
    may_be_old: bool,
    may_be_new: bool,
}

struct Run {
    region: Region<Sim>,
    models: Vec<Model>,
    known: Vec<Known>,
}

impl Run {
    fn note(&mut self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.last().expect("one").clone();
        known.from = self.region.media().mark();
        change(&mut known);
        self.known.push(known);
    }

    fn ops<S: crate::region::sweep_tests::Version>(&mut self, ops: &[Op]) {
        for op in ops {
            let mut model = self.models.last().expect("one").clone();
            // It may be there from its first store on.
            self.note(|known| known.applied += 1);
            transact::<S, _>(&mut self.region, &mut model, *op).expect("runs");
            self.models.push(model);
            acknowledge(&mut self.region).expect("simulated media sync");
            self.note(|known| known.acknowledged = known.applied);
        }
    }

    fn turn(&mut self, to_new: bool) {
        let way = if to_new { up() } else { down() };
        self.region.begin_conversion(way).expect("it can begin");
        // Here the catalog would be flipped. From now on whoever opens the region enters.
        self.note(|known| (known.may_be_old, known.may_be_new) = (true, true));
        self.region.enter_conversion().expect("it is entered");
        self.note(|known| (known.may_be_old, known.may_be_new) = (!to_new, to_new));
    }

    fn sweep(&mut self, steps: usize) -> bool {
        (0..steps).any(|_| self.region.sweep(Duration::ZERO).expect("sweeps") == Swept::Done)
    }
}

/// There, back in the midst of it, there again to the end, all while it is used.
fn record(survives: Survives) -> (Sim, Trace, Vec<Model>, Vec<Known>) {
    let (region, model) = begin(survives.backend());
    let known = Known {
        from: 0,
        acknowledged: 0,
        applied: 0,
        may_be_old: true,
        may_be_new: false,
    };
    let mut run = Run {
        region,
        models: vec![model],
        known: vec![known],
    };
    run.ops::<old::State>(&[Op::Insert(7), Op::Remove(3)]);
    run.turn(true);
    run.ops::<new::State>(&[Op::Insert(100), Op::Blob(77), Op::Unorder(2)]);
    run.sweep(3);
    run.ops::<new::State>(&[Op::Push(5), Op::Remove(8)]);
    run.turn(false);
    run.ops::<old::State>(&[Op::Insert(101), Op::Pop]);
    assert!(run.sweep(1000), "back");
    run.ops::<old::State>(&[Op::Order(250)]);
    run.turn(true);
    run.sweep(2);
    run.ops::<new::State>(&[Op::Count, Op::Unblob(5)]);
    assert!(run.sweep(1000), "there");
    run.ops::<new::State>(&[Op::Insert(102)]);
    let mut media = run.region.into_media();
    let trace = media.take_back(0);
    (media, trace, run.models, run.known)
}

/// What a crash has left is one of the states that it may be; it can be swept to its end, and used.
fn check(media: Sim, known: &Known, models: &[Model], seed: u64) -> Result<Sim, String> {
    let mark = media.mark();
    let error = |what: &str, error: &dyn std::fmt::Display| format!("{what}: {error}");
    let recovered = Region::recover_media(media);
    let mut region = recovered.map_err(|e| error("no recovery", &e))?;
    let is = |fingerprint: Fingerprint| region.fingerprint() == fingerprint;
    let is_new = is(<new::State as crate::Pmem>::FINGERPRINT);
    let may_be = if is_new {
        known.may_be_new
    } else {
        known.may_be_old
    };
    if !may_be {
        return Err(format!("of the wrong version (new: {is_new})"));
    }
    if region.is_swept() {
        let way = if is_new { up() } else { down() };
        let resumed = region.resume_conversion(way);
        resumed.map_err(|e| error("its conversions do not fit", &e))?;
    }
    let seen = |region: &mut Region<Sim>| match is_new {
        true => look::<new::State, _>(region),
        false => look::<old::State, _>(region),
    };
    let found = seen(&mut region).map_err(|e| error("cannot be read", &e))?;
    let allowed = &models[known.acknowledged..(known.applied + 1).min(models.len())];
    if !allowed.contains(&found) {
        return Err("it holds what was never committed".into());
    }
    if let Some(number) = region.wrong_sum() {
        return Err(format!("the checksum of segment {number} does not hold"));
    }
    // Now and then it goes on from there.
    if Random(seed).chance(4) {
        let mut model = found;
        for op in [Op::Insert(400), Op::Push(9), Op::Blob(50), Op::Remove(12)] {
            let done = match is_new {
                true => transact::<new::State, _>(&mut region, &mut model, op),
                false => transact::<old::State, _>(&mut region, &mut model, op),
            };
            done.map_err(|e| error("cannot be used", &e))?;
        }
        let mut steps = 0;
        while region.is_swept() {
            region
                .sweep(Duration::ZERO)
                .map_err(|e| error("cannot be swept", &e))?;
            steps += 1;
            if steps > 1000 {
                return Err("the sweep does not end".into());
            }
        }
        let found = seen(&mut region).map_err(|e| error("swept, cannot be read", &e))?;
        if found != model {
            return Err("swept, it holds something else".into());
        }
        // What has ended is a region as any other.
        let mut media = region.into_media();
        media.lose_memory(mark);
        region = Region::recover_media(media).map_err(|e| error("no second recovery", &e))?;
    }
    let mut media = region.into_media();
    media.rewind(mark);
    Ok(media)
}

/// Makes an image of a medium.
type Make<'a> = Box<dyn Fn(&mut Sim) + 'a>;

fn explore(survives: Survives, seed: u64) -> u64 {
    let effort = Effort {
        one_in: (1, 6),
        samples: 3,
        units: 6,
        ..Effort::QUICK
    };
    let (mut disk, trace, models, known) = record(survives);
    let trace = &trace;
    let mut pending = Pending::default();
    let (mut count, mut at) = (0, 0);
    for (number, event) in trace.events.iter().enumerate() {
        while known.get(at + 1).is_some_and(|next| next.from <= number) {
            at += 1;
        }
        let mut random = Random(mix(seed, number as u64));
        let mut made: Vec<Make<'_>> = Vec::new();
        if survives == Survives::Prefix {
            let words = match event {
                Event::Store(span) => span.len / 8,
                _ => 0,
            };
            for words in cuts(words, &effort, &mut random) {
                made.push(Box::new(move |disk| {
                    if let Event::Grow { .. } = event {
                        put_growth(event, disk);
                    }
                    put_prefix(event, trace, words, disk);
                }));
            }
        } else {
            pending.note(event, trace, survives, &disk);
            let marked = matches!(event, Event::Commit | Event::Synced | Event::Fence);
            if survives.settles(event) || marked {
                for image in images(&pending, survives, disk.len, &effort, &mut random) {
                    let pending = &pending;
                    made.push(Box::new(move |disk| put(&image, pending, disk)));
                }
            }
        }
        for (image, make) in made.into_iter().enumerate() {
            count += 1;
            let mark = disk.mark();
            make(&mut disk);
            let seed = mix(mix(seed, number as u64), image as u64);
            // The crash happens before what comes next is known.
            let checked = check(disk, &known[at], &models, seed);
            disk = checked.unwrap_or_else(|error| {
                panic!("{error}; {survives:?}, event {number} ({event:?}), image {image}")
            });
            disk.rewind(mark);
        }
        if survives == Survives::Prefix {
            carry_out(event, trace, &mut disk);
        } else if survives.settles(event) {
            pending.settle(event, survives, &mut disk);
        }
    }
    count
}

#[test]
fn a_crash_in_the_midst_of_a_sweep_loses_nothing() {
    let mut images = 0;
    for survives in [
        Survives::Prefix,
        Survives::Lines,
        Survives::Chunks,
        Survives::Pages,
    ] {
        let count = explore(survives, 3);
        println!("{survives:?}: {count} images");
        images += count;
    }
    assert!(images > 1000, "{images}");
}
