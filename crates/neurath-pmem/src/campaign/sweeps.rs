//! Crashes in the midst of a conversion that goes on while the region is used: at every store of
//! it, in every model of what survives, and again in the life after it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::explore::said;
use super::fresh::acknowledge;
use super::images::{Effort, cuts, images, put, put_growth, put_prefix};
use super::memory::LIMIT;
use super::models::{Pending, Survives, carry_out};
use super::sim::{Random, Sim, mix};
use super::trace::{Event, Trace};
use super::two_versions::{Model, Op, down, empty_state, look, new, old, transact, up};
use crate::history::{LEN, nth};
use crate::inspect::{CheckOptions, Level, check};
use crate::region::format::{
    CHUNK_LEN, HEADER_AT, HEADER_COPY_AT, HEADER_LEN, JOURNAL_LENS, LOG_AT, Log, SCHEMA_AT,
};
use crate::region::history::HISTORY_AT;
use crate::region::{Backend, Durability, Found, Media, Region, RegionOptions, Swept};

/// What survives in turn. A region that was not closed is refused under the last model.
pub(crate) const MODELS: [Survives; 4] = [
    Survives::Lines,
    Survives::Pages,
    Survives::Chunks,
    Survives::Prefix,
];

/// How much is tried.
#[derive(Clone, Copy)]
struct Thoroughness {
    first: Effort,
    second: Effort,
    /// One of so many events at which a process dies, and later the machine; beside those that store
    /// headers or histories.
    killed_one_in: usize,
}

const FULL: Thoroughness = Thoroughness {
    first: Effort {
        again: 400,
        samples: 2,
        units: 4,
        one_in: (1, 24),
        ..Effort::QUICK
    },
    second: Effort {
        samples: 1,
        units: 2,
        one_in: (2, 40),
        ..Effort::QUICK
    },
    killed_one_in: 300,
};

const QUICK: Thoroughness = Thoroughness {
    first: Effort {
        again: 1000,
        one_in: (6, 80),
        ..FULL.first
    },
    second: Effort {
        one_in: (8, 80),
        ..FULL.second
    },
    killed_one_in: 2000,
};

/// Steps after which a sweep must have ended.
const STEPS: usize = 1000;

/// What is known of the region at some event.
#[derive(Clone)]
struct Known {
    /// After so many events.
    from: usize,
    /// Transactions that may be there.
    acknowledged: usize,
    applied: usize,
    /// Migrations that are recorded, and that may be.
    recorded: (u64, u64),
    /// Whether the region may be of the old version, and of the new one.
    may_be_old: bool,
    may_be_new: bool,
}

/// What happened to a region, and what it may hold after a crash.
struct Walk {
    trace: Trace,
    models: Vec<Model>,
    known: Vec<Known>,
}

/// A region while what happens to it is recorded.
struct Run {
    region: Region<Sim>,
    is_new: bool,
    models: Vec<Model>,
    known: Vec<Known>,
    /// The number of the first event.
    begin: usize,
}

impl Run {
    fn note(&mut self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.last().expect("one").clone();
        known.from = self.region.media().mark() - self.begin;
        change(&mut known);
        self.known.push(known);
    }

    fn ops(&mut self, ops: &[Op]) -> Result<(), String> {
        for op in ops {
            let mut model = self.models.last().expect("one").clone();
            // It may be there from its first store on.
            self.note(|known| known.applied += 1);
            act(&mut self.region, self.is_new, &mut model, *op)?;
            self.models.push(model);
            acknowledge(&mut self.region).map_err(|error| format!("in use: {error}"))?;
            self.note(|known| known.acknowledged = known.applied);
        }
        Ok(())
    }

    /// Begins the conversion to the other version, and enters it.
    fn turn(&mut self) -> Result<(), String> {
        let to_new = !self.is_new;
        let way = if to_new { up() } else { down() };
        let begun = self.region.begin_conversion(way);
        begun.map_err(|error| format!("no conversion: {error}"))?;
        // Here the catalog would be flipped. From now on whoever opens the region enters.
        self.note(|known| (known.may_be_old, known.may_be_new) = (true, true));
        let entered = self.region.enter_conversion();
        entered.map_err(|error| format!("not entered: {error}"))?;
        self.note(|known| (known.may_be_old, known.may_be_new) = (!to_new, to_new));
        self.is_new = to_new;
        self.note(|known| known.recorded.1 += 1);
        let number = self.known.last().expect("one").recorded.1;
        let recorded = self.region.record_migrations(&[nth(number)]);
        recorded.map_err(|error| format!("not recorded: {error}"))?;
        self.note(|known| known.recorded.0 = known.recorded.1);
        Ok(())
    }

    fn sweep(&mut self, steps: usize) -> Result<bool, String> {
        sweep(&mut self.region, steps)
    }

    /// Begins the conversion to the other version, and forgets it.
    fn cancel(&mut self) -> Result<(), String> {
        let way = if self.is_new { down() } else { up() };
        let begun = self.region.begin_conversion(way);
        begun.map_err(|error| format!("no conversion: {error}"))?;
        self.region.cancel_conversion();
        Ok(())
    }

    fn into_walk(self) -> (Sim, Walk) {
        let mut media = self.region.into_media();
        let trace = media.take_back(self.begin);
        let walk = Walk {
            trace,
            models: self.models,
            known: self.known,
        };
        (media, walk)
    }
}

fn act(region: &mut Region<Sim>, is_new: bool, model: &mut Model, op: Op) -> Result<(), String> {
    let done = match is_new {
        true => transact::<new::State, _>(region, model, op),
        false => transact::<old::State, _>(region, model, op),
    };
    done.map_err(|error| format!("in use: {error}"))
}

fn seen(region: &mut Region<Sim>, is_new: bool) -> Result<Model, String> {
    let seen = match is_new {
        true => look::<new::State, _>(region),
        false => look::<old::State, _>(region),
    };
    seen.map_err(|error| format!("cannot be read: {error}"))
}

/// Goes on with a sweep; whether it has ended.
fn sweep(region: &mut Region<Sim>, steps: usize) -> Result<bool, String> {
    for _ in 0..steps {
        let swept = region.sweep(Duration::ZERO);
        if swept.map_err(|error| format!("cannot be swept: {error}"))? == Swept::Done {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A region of the old version, with a few items, as it was closed.
fn begin(backend: Backend) -> Result<(Region<Sim>, Model), String> {
    let text = |error: &dyn std::fmt::Display| format!("the begin: {error}");
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
    let region = Region::format(media, &options, log, &old::SCHEMA);
    let mut region = region.map_err(|error| text(&error))?;
    empty_state(&mut region, 20);
    let mut model = Model::default();
    for n in 0..60 {
        for op in [Op::Insert(n), Op::Push(n), Op::Order(n), Op::Blob(n)] {
            act(&mut region, false, &mut model, op)?;
        }
    }
    region.close_in_order().map_err(|error| text(&error))?;
    let region = Region::recover_media(region.into_media());
    let mut region = region.map_err(|error| text(&error))?;
    region.media_mut().forget();
    Ok((region, model))
}

/// There, back in the midst of it, there again to the end, all while it is used, and closed.
fn record(survives: Survives) -> Result<(Sim, Walk), String> {
    let (region, model) = begin(survives.backend())?;
    let mut run = Run {
        region,
        is_new: false,
        models: vec![model],
        known: vec![Known {
            from: 0,
            acknowledged: 0,
            applied: 0,
            recorded: (0, 0),
            may_be_old: true,
            may_be_new: false,
        }],
        begin: 0,
    };
    run.ops(&[Op::Insert(7), Op::Remove(3)])?;
    run.cancel()?;
    run.turn()?;
    run.ops(&[Op::Insert(100), Op::Blob(77), Op::Unorder(2)])?;
    run.sweep(3)?;
    run.ops(&[Op::Push(5), Op::Remove(8)])?;
    run.turn()?;
    run.ops(&[Op::Insert(101), Op::Pop])?;
    let back = run.sweep(STEPS)?;
    run.ops(&[Op::Order(250)])?;
    run.turn()?;
    run.sweep(2)?;
    run.ops(&[Op::Count, Op::Unblob(5)])?;
    let there = run.sweep(STEPS)?;
    if !(back && there) {
        return Err("the sweep does not end".into());
    }
    run.ops(&[Op::Insert(102)])?;
    Ok(run.into_walk())
}

/// What is recovered from an image: a region that holds one of the states that it may.
struct Recovered {
    region: Region<Sim>,
    is_new: bool,
    model: Model,
    /// The number of that state.
    at: usize,
}

/// States that were looked at, by the bytes of the heap, the place in the log and the version; each
/// with its number.
type Seen = HashMap<u64, usize>;

fn recover(
    media: Sim,
    known: &Known,
    models: &[Model],
    looked_at: &mut Seen,
) -> Result<Recovered, String> {
    let recovered = Region::recover_media(media);
    let mut region = recovered.map_err(|error| format!("no recovery: {error}"))?;
    let is_new = region.fingerprint() == <new::State as crate::Pmem>::FINGERPRINT;
    let may_be = if is_new {
        known.may_be_new
    } else {
        known.may_be_old
    };
    if !may_be {
        return Err(format!("of the wrong version (new: {is_new})"));
    }
    let history = region.history();
    let count = history.migrations.len() as u64;
    let whole = history.migrations == (1..=count).map(nth).collect::<Vec<_>>();
    let (least, most) = known.recorded;
    if !(least..=most).contains(&count) || !whole || history.lost {
        return Err(format!("it tells of other migrations: {history:?}"));
    }
    if region.is_swept() {
        let way = if is_new { up() } else { down() };
        let resumed = region.resume_conversion(way);
        resumed.map_err(|error| format!("its conversions do not fit: {error}"))?;
    }
    let version = u64::from(is_new) | u64::from(region.is_swept()) << 1;
    let place = region.position().into_iter().chain([version]);
    let key = place.fold(region.media().state(), mix);
    let mut allowed = known.acknowledged..(known.applied + 1).min(models.len());
    let at = match looked_at
        .get(&key)
        .copied()
        .filter(|at| allowed.contains(at))
    {
        Some(at) => at,
        None => {
            let found = seen(&mut region, is_new)?;
            let at = allowed.find(|&at| models[at] == found);
            let at = at.ok_or("it holds what was never committed")?;
            if let Some(number) = region.wrong_sum() {
                return Err(format!("the checksum of segment {number} does not hold"));
            }
            looked_at.insert(key, at);
            at
        }
    };
    Ok(Recovered {
        region,
        is_new,
        model: models[at].clone(),
        at,
    })
}

/// Whether there is a sweep, or nothing is left of one.
fn is_tidy(media: &Sim) -> Result<bool, String> {
    let found = Found::read(media).map_err(|error| format!("cannot be found: {error}"))?;
    let header = found.header();
    let from = u64::from(header.schema_len).next_multiple_of(8);
    let rest = media.bytes(SCHEMA_AT + from, LOG_AT - SCHEMA_AT - from);
    Ok(header.sweep.is_some() || rest.iter().all(|&byte| byte == 0))
}

/// Goes on with what was recovered, sweeps it to its end, closes it, and looks at what is there.
/// The medium has all that happened since the `mark`-th event.
fn use_and_close(recovered: Recovered, mark: usize) -> Result<Sim, String> {
    let Recovered {
        mut region,
        is_new,
        mut model,
        ..
    } = recovered;
    for op in [Op::Insert(400), Op::Push(9), Op::Blob(50), Op::Remove(12)] {
        act(&mut region, is_new, &mut model, op)?;
    }
    if !sweep(&mut region, STEPS)? {
        return Err("the sweep does not end".into());
    }
    if seen(&mut region, is_new)? != model {
        return Err("swept, it holds something else".into());
    }
    let closed = region.close_in_order();
    closed.map_err(|error| format!("cannot be closed: {error}"))?;
    // What has ended is a region as any other.
    let mut media = region.into_media();
    media.lose_memory(mark);
    if !is_tidy(&media)? {
        return Err("swept and closed, something is left of the conversion".into());
    }
    let bytes = media.bytes(0, media.len()).to_vec();
    let options = CheckOptions {
        level: Level::L2,
        ..CheckOptions::default()
    };
    if let Some(leak) = check(bytes, options).leaks.first() {
        return Err(format!("swept and closed, nothing refers to {leak:?}"));
    }
    let again = Region::recover_media(media);
    let mut region = again.map_err(|error| format!("no second recovery: {error}"))?;
    match seen(&mut region, is_new)? == model {
        true => Ok(region.into_media()),
        false => Err("closed, it holds something else".into()),
    }
}

/// What happens to a recovered region from the `begin`-th event on, its recovery included. Before
/// that has ended, all may be found that might have been before.
fn second_life(
    recovered: Recovered,
    before: (&Known, &[Model]),
    begin: usize,
) -> Result<(Sim, Walk), String> {
    let Recovered {
        region, is_new, at, ..
    } = recovered;
    let (known, models) = before;
    let first = known.acknowledged;
    let mut run = Run {
        region,
        is_new,
        models: models[first..=at].to_vec(),
        known: vec![Known {
            from: 0,
            acknowledged: 0,
            applied: at - first,
            ..known.clone()
        }],
        begin,
    };
    let recorded = run.region.history().migrations.len() as u64;
    run.note(|known| {
        known.acknowledged = known.applied;
        known.recorded = (recorded, recorded);
        (known.may_be_old, known.may_be_new) = (!is_new, is_new);
    });
    run.ops(&[Op::Insert(300), Op::Push(7)])?;
    run.turn()?;
    run.ops(&[Op::Remove(20)])?;
    run.sweep(2)?;
    run.ops(&[Op::Order(120)])?;
    Ok(run.into_walk())
}

/// Whether the header and its copy are the same.
fn headers_differ(media: &Sim) -> bool {
    media.bytes(HEADER_AT, HEADER_LEN) != media.bytes(HEADER_COPY_AT, HEADER_LEN)
}

fn stores_header(event: &Event) -> bool {
    let headers = [HEADER_AT, HEADER_COPY_AT];
    matches!(event, Event::Store(span) if headers.contains(&span.at))
}

fn stores_history(event: &Event) -> bool {
    let within = |at: u64| {
        HISTORY_AT
            .iter()
            .any(|&begin| (begin..begin + LEN).contains(&at))
    };
    matches!(event, Event::Store(span) if within(span.at))
}

/// Makes an image of a medium.
type Make<'a> = Box<dyn Fn(&mut Sim) + 'a>;

/// A walk along what happened, crashing everywhere.
struct Explorer<'a> {
    survives: Survives,
    thoroughness: Thoroughness,
    seed: u64,
    walk: &'a Walk,
    pending: Pending,
    /// Whether what is recovered may crash again.
    again: bool,
    images: u64,
    seen: Seen,
    /// Whether something was promised for which no image has been made yet.
    promised: bool,
}

impl Explorer<'_> {
    fn explore(&mut self, mut disk: Sim) -> Result<(), String> {
        let Walk { trace, known, .. } = self.walk;
        let mut at = 0;
        for (number, event) in trace.events.iter().enumerate() {
            while known.get(at + 1).is_some_and(|next| next.from <= number) {
                at += 1;
                // A second life begins with a recovery, and what that found is promised at its end.
                self.promised |= !self.again && at == 1;
            }
            // The crash happens before what comes next is known.
            disk = self.event(number, event, &known[at], disk)?;
        }
        Ok(())
    }

    /// All crashes at one event, which then has happened.
    fn event(
        &mut self,
        number: usize,
        event: &Event,
        known: &Known,
        mut disk: Sim,
    ) -> Result<Sim, String> {
        let (survives, effort, trace) = (self.survives, self.effort(), &self.walk.trace);
        let mut random = Random(mix(self.seed, number as u64));
        let mut looked_at = random.chance(effort.one_in.0) || self.concerns_header(number);
        looked_at |= self.promised;
        let mut pending = std::mem::take(&mut self.pending);
        let mut made: Vec<Make<'_>> = Vec::new();
        if survives == Survives::Prefix {
            let words = match event {
                Event::Store(span) => span.len / 8,
                _ => 0,
            };
            let cuts = cuts(words, &effort, &mut random);
            for words in cuts.into_iter().filter(|_| looked_at) {
                made.push(Box::new(move |disk| {
                    if let Event::Grow { .. } = event {
                        put_growth(event, disk);
                    }
                    put_prefix(event, trace, words, disk);
                }));
            }
        } else {
            pending.note(event, trace, survives, &disk);
            if self.again && self.is_killed(event, &mut random) {
                self.killed(&pending, known, &disk, random.next())?;
            }
            let marked = matches!(event, Event::Commit | Event::Synced | Event::Fence);
            if looked_at && (survives.settles(event) || marked) {
                for image in images(&pending, survives, disk.len, &effort, &mut random) {
                    let pending = &pending;
                    made.push(Box::new(move |disk| put(&image, pending, disk)));
                }
            }
        }
        self.promised &= made.is_empty();
        for (image, make) in made.iter().enumerate() {
            let mark = disk.mark();
            make(&mut disk);
            let seed = mix(mix(self.seed, number as u64), image as u64);
            let checked = catch_unwind(AssertUnwindSafe(|| self.image(disk, known, seed)));
            let checked = checked.unwrap_or_else(|panic| Err(said(&*panic)));
            disk = checked.map_err(|error| {
                format!("{error}; {survives:?}, event {number} ({event:?}), image {image}")
            })?;
            disk.rewind(mark);
        }
        drop(made);
        if survives == Survives::Prefix {
            carry_out(event, trace, &mut disk);
        } else if survives.settles(event) {
            pending.settle(event, survives, &mut disk);
        }
        self.pending = pending;
        Ok(disk)
    }

    fn effort(&self) -> Effort {
        match self.again {
            true => self.thoroughness.first,
            false => self.thoroughness.second,
        }
    }

    /// Whether a header was stored just now.
    fn concerns_header(&self, number: usize) -> bool {
        let events = &self.walk.trace.events[number.saturating_sub(3)..=number];
        events.iter().any(stores_header)
    }

    /// Looks at an image; the medium is as it was made.
    fn image(&mut self, media: Sim, known: &Known, seed: u64) -> Result<Sim, String> {
        self.images += 1;
        let mut random = Random(seed);
        let mark = media.mark();
        let again =
            self.again && (headers_differ(&media) || random.chance(self.thoroughness.first.again));
        let recovered = recover(media, known, &self.walk.models, &mut self.seen)?;
        let mut media = if again {
            let (media, walk) = second_life(recovered, (known, &self.walk.models), mark)?;
            self.deeper(media.copy(), &walk, Pending::default(), seed)
                .map_err(|error| format!("{error}; in a second life"))?;
            media
        } else if random.chance(4) {
            use_and_close(recovered, mark)?
        } else {
            recovered.region.into_media()
        };
        media.rewind(mark);
        Ok(media)
    }

    fn is_killed(&self, event: &Event, random: &mut Random) -> bool {
        matches!(
            self.survives,
            Survives::Lines | Survives::Chunks | Survives::Pages
        ) && (stores_header(event)
            || stores_history(event)
            || random.chance(self.thoroughness.killed_one_in))
    }

    /// A process dies, and what it has stored is in memory; later the machine goes down.
    fn killed(
        &mut self,
        pending: &Pending,
        known: &Known,
        disk: &Sim,
        seed: u64,
    ) -> Result<(), String> {
        let all = super::images::Image {
            counts: pending.units.values().map(Vec::len).collect(),
            len: pending.grown,
        };
        let mut memory = disk.copy();
        put(&all, pending, &mut memory);
        let mark = memory.mark();
        let recovered = recover(memory, known, &self.walk.models, &mut self.seen)?;
        let (_, walk) = second_life(recovered, (known, &self.walk.models), mark)?;
        self.deeper(disk.copy(), &walk, pending.forgotten(), seed)
            .map_err(|error| format!("{error}; after a process was killed"))
    }

    /// Crashes in a second life.
    fn deeper(
        &mut self,
        disk: Sim,
        walk: &Walk,
        pending: Pending,
        seed: u64,
    ) -> Result<(), String> {
        let mut explorer = Explorer {
            survives: self.survives,
            thoroughness: self.thoroughness,
            seed,
            walk,
            pending,
            again: false,
            images: 0,
            seen: Seen::new(),
            promised: false,
        };
        let done = explorer.explore(disk);
        self.images += explorer.images;
        done
    }
}

fn explore(survives: Survives, thoroughness: Thoroughness, seed: u64) -> Result<u64, String> {
    let (disk, walk) = record(survives)?;
    let mut explorer = Explorer {
        survives,
        thoroughness,
        seed,
        walk: &walk,
        pending: Pending::default(),
        again: true,
        images: 0,
        seen: Seen::new(),
        promised: false,
    };
    explorer.explore(disk)?;
    Ok(explorer.images)
}

/// Crashes of conversions segment by segment, in every model of what survives: a quick look.
pub(crate) fn cut_off(seed: u64) -> Result<(), String> {
    MODELS
        .iter()
        .try_for_each(|&survives| explore(survives, QUICK, seed).map(drop))
}

/// The same, thoroughly and in one model; the number of images.
pub(crate) fn cut_off_everywhere(model: usize, seed: u64) -> Result<u64, String> {
    explore(MODELS[model], FULL, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_in_the_midst_of_a_sweep_loses_nothing() {
        let mut images = 0;
        for survives in MODELS {
            let count = explore(survives, QUICK, 3).unwrap_or_else(|error| panic!("{error}"));
            println!("{survives:?}: {count} images");
            images += count;
        }
        assert!(images > 1000, "{images}");
    }
}
