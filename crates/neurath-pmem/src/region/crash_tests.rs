//! Crashes at every place, on media that remember each store.
//!
//! A workload runs once on [`Sim`], which records what it stores. Then every state that a
//! crash could leave is made from the record, under three models of what survives:
//!
//! * prefix: the stores up to some word (a process dies);
//! * lines: of each 64-byte line, some prefix of its stores since the last fence;
//! * chunks: of each 8-byte chunk, some prefix of its stores since the last fence.
//!
//! Each is recovered, compared with the model of what was committed, recovered again,
//! used, and some of them are made to crash again: in the recovery and in the new life.

use std::collections::{BTreeMap, BTreeSet};

use super::ablation::{Without, leave_out, without};
use super::format::{PAGE, SUPERBLOCK_AT};
use super::tests::{self, Failure, SCHEMA, key, value};
use super::{Media, Region, RegionOptions};

/// The simulated medium's limit.
const LIMIT: u64 = 16 << 20;

#[derive(Clone, Debug)]
pub(super) enum Event {
    Store {
        at: u64,
        old: Vec<u8>,
        new: Vec<u8>,
    },
    Fence,
    Grow {
        from: u64,
        to: u64,
    },
    /// A transaction was acknowledged.
    Commit,
}

/// Media in memory that record what is done to them.
pub(super) struct Sim {
    memory: *mut u64,
    words: usize,
    pub(super) len: u64,
    pub(super) events: Vec<Event>,
}

// SAFETY: the memory is the `Sim`'s own.
unsafe impl Send for Sim {}

impl Drop for Sim {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.memory, self.words);
        // SAFETY: made by `Box::leak` in `new`.
        drop(unsafe { Box::from_raw(slice) });
    }
}

impl Sim {
    pub(super) fn new(len: u64) -> Sim {
        let words = LIMIT as usize / 8;
        let memory = Box::leak(vec![0u64; words].into_boxed_slice()).as_mut_ptr();
        Sim {
            memory,
            words,
            len,
            events: Vec::new(),
        }
    }

    pub(super) fn raw(&mut self, at: u64, bytes: &[u8]) {
        assert!(at + bytes.len() as u64 <= LIMIT, "in bounds");
        // SAFETY: within the memory, which `bytes` is no part of.
        unsafe {
            let target = self.memory.cast::<u8>().add(at as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    /// Takes back everything since the `mark`-th event.
    pub(super) fn take_back(&mut self, mark: usize) -> Vec<Event> {
        let events = self.events.split_off(mark);
        for event in events.iter().rev() {
            match event {
                Event::Store { at, old, .. } => self.raw(*at, old),
                Event::Grow { from, .. } => self.len = *from,
                _ => {}
            }
        }
        events
    }
}

impl Media for Sim {
    fn base(&self) -> *const u8 {
        self.memory.cast()
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn limit(&self) -> u64 {
        LIMIT
    }
    fn store_word(&mut self, offset: u64, value: u64) {
        assert!(offset.is_multiple_of(8), "aligned");
        self.store(offset, &value.to_le_bytes());
    }
    fn store(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(8), "aligned");
        // The schema alone is not made of whole words.
        let old = self
            .bytes(offset, bytes.len().next_multiple_of(8) as u64)
            .to_vec();
        let mut new = old.clone();
        new[..bytes.len()].copy_from_slice(bytes);
        self.events.push(Event::Store {
            at: offset,
            old,
            new,
        });
        self.raw(offset, bytes);
    }
    fn zero(&mut self, offset: u64, len: u64) {
        self.store(offset, &vec![0; len as usize]);
    }
    fn fence(&mut self) {
        self.events.push(Event::Fence);
    }
    fn grow(&mut self, len: u64) -> std::io::Result<()> {
        assert!(len >= self.len && len <= LIMIT, "within the limit");
        self.events.push(Event::Grow {
            from: self.len,
            to: len,
        });
        self.len = len;
        Ok(())
    }
    fn base_mut(&mut self) -> *mut u8 {
        self.memory.cast()
    }
    fn populate(&mut self, _: u64, _: u64) {}
}

/// Numbers that look random and are the same in every run.
#[derive(Clone)]
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
    pub(super) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
    pub(super) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Set(u8, u16),
    Remove(u8),
    Number(u32, u32),
    /// Keys from one to before another, into the tree.
    Order(u32, u32),
    Unorder(u32, u32),
    /// So many elements.
    Push(u32),
    Pop(u32),
    Clear,
}

#[derive(Clone, Debug)]
pub(super) struct Transaction {
    ops: Vec<Op>,
    commit: bool,
}

fn tx(ops: &[Op]) -> Transaction {
    Transaction {
        ops: ops.to_vec(),
        commit: true,
    }
}

/// What a region should hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Model {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    numbers: BTreeMap<u32, u32>,
    ordered: BTreeMap<u32, u32>,
    list: Vec<u32>,
}

impl Model {
    fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::Set(k, len) => drop(self.map.insert(key(k), value(k, len))),
                Op::Remove(k) => drop(self.map.remove(&key(k))),
                Op::Number(k, v) => drop(self.numbers.insert(k, v)),
                Op::Order(from, to) => self.ordered.extend((from..to).map(|k| (k, k * 3))),
                Op::Unorder(from, to) => self.ordered.retain(|k, _| !(from..to).contains(k)),
                Op::Push(count) => self.list.extend(0..count),
                Op::Pop(count) => {
                    let len = self.list.len().saturating_sub(count as usize);
                    self.list.truncate(len);
                }
                Op::Clear => {
                    self.numbers.clear();
                    self.ordered.clear();
                    self.list.clear();
                }
            }
        }
    }
}

pub(super) fn run(region: &mut Region<Sim>, transaction: &Transaction) -> Result<(), String> {
    let done = tests::with(region, |state, tx| {
        for op in &transaction.ops {
            match *op {
                Op::Set(k, len) => tests::set(state, tx, &key(k), &value(k, len))?,
                Op::Remove(k) => drop(tests::remove(state, tx, &key(k))?),
                Op::Number(k, v) => drop(state.numbers.insert(tx, &k, &v)?),
                Op::Clear => {
                    crate::Pmem::free_owned(&state.numbers, tx)?;
                    state.numbers = crate::Map::EMPTY;
                    crate::Pmem::free_owned(&state.ordered, tx)?;
                    state.ordered = crate::OrderedMap::EMPTY;
                    crate::Pmem::free_owned(&state.list, tx)?;
                    state.list = crate::Vector::EMPTY;
                }
                Op::Order(from, to) => {
                    for k in from..to {
                        state.ordered.insert(tx, &k, &(k * 3))?;
                    }
                }
                Op::Unorder(from, to) => {
                    for k in from..to {
                        state.ordered.remove(tx, &k)?;
                    }
                }
                Op::Push(count) => (0..count).try_for_each(|n| state.list.push(tx, &n))?,
                Op::Pop(count) => {
                    for _ in 0..count {
                        state.list.pop(tx)?;
                    }
                }
            }
        }
        if transaction.commit {
            Ok(())
        } else {
            Err(Failure::AskedFor)
        }
    });
    match done {
        Ok(()) if transaction.commit => Ok(()),
        Err(Failure::AskedFor) if !transaction.commit => Ok(()),
        other => Err(format!("{other:?} instead of what was asked for")),
    }
}

pub(super) fn contents(region: &mut Region<Sim>) -> Result<Model, String> {
    let found = tests::with(region, |state, tx| {
        let mut model = Model::default();
        let mut steps = 0;
        let mut bound = |_: &crate::Tx<'_>| {
            steps += 1;
            if steps > 100_000 {
                Err(Failure::AskedFor)
            } else {
                Ok(())
            }
        };
        let mut cursor = 0;
        loop {
            cursor = state.map.scan(tx, cursor, 9, |tx, slot| {
                bound(tx)?;
                let (key, value) = (slot.key(tx)?, slot.value(tx)?);
                model
                    .map
                    .insert(key.get(tx)?.to_vec(), value.get(tx)?.to_vec());
                Ok::<(), Failure>(())
            })?;
            if cursor == 0 {
                break;
            }
        }
        loop {
            cursor = state.numbers.scan(tx, cursor, 9, |tx, slot| {
                bound(tx)?;
                model.numbers.insert(slot.key(tx)?, slot.value(tx)?);
                Ok::<(), Failure>(())
            })?;
            if cursor == 0 {
                break;
            }
        }
        let up = crate::collections::Direction::Up;
        state
            .ordered
            .range(tx, .., up, u64::MAX, |tx, key, value| {
                bound(tx)?;
                model.ordered.insert(key, value);
                Ok::<(), Failure>(())
            })?;
        state.list.range(tx, 0..u64::MAX, |tx, _, value| {
            bound(tx)?;
            model.list.push(value);
            Ok::<(), Failure>(())
        })?;
        if state.ordered.len() != model.ordered.len() as u64 {
            return Err(Failure::Tx(crate::TxError::Invalid));
        }
        let lens = (state.map.len(), state.numbers.len());
        if lens != (model.map.len() as u64, model.numbers.len() as u64) {
            return Err(Failure::Tx(crate::TxError::Invalid));
        }
        Ok(model)
    });
    found.map_err(|error| format!("cannot be read: {error}"))
}

/// What survives of the stores since the last fence.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Survives {
    Prefix,
    Lines,
    Chunks,
}

/// A campaign: how much of everything.
struct Campaign {
    random: Random,
    /// One of so many images crashes again.
    again: usize,
    /// Random images for each set of pending stores.
    samples: usize,
    /// Units of pending stores that lead and lag in turn; of more, so many at random.
    units: usize,
    images: u64,
}

type Checked = Result<(), String>;

impl Campaign {
    fn new(seed: u64) -> Campaign {
        Campaign {
            random: Random(seed),
            again: 40,
            samples: 6,
            units: 24,
            images: 0,
        }
    }

    /// Makes every crash of `events`, which follow what is in `sim`.
    fn explore(
        &mut self,
        sim: &mut Option<Sim>,
        events: &[Event],
        models: &[Model],
        survives: Survives,
        depth: u32,
    ) -> Checked {
        match survives {
            Survives::Prefix => self.prefixes(sim, events, models, depth),
            Survives::Lines => self.pending(sim, events, models, 64, survives, depth),
            Survives::Chunks => self.pending(sim, events, models, 8, survives, depth),
        }
    }

    fn prefixes(
        &mut self,
        sim: &mut Option<Sim>,
        events: &[Event],
        models: &[Model],
        depth: u32,
    ) -> Checked {
        let mut acknowledged = 0;
        for (number, event) in events.iter().enumerate() {
            let disk = sim.as_mut().expect("a medium");
            match event {
                Event::Fence => continue,
                Event::Grow { to, .. } => disk.len = *to,
                Event::Commit => acknowledged += 1,
                Event::Store { at, new, .. } => {
                    let words = new.len() / 8;
                    for (word, bytes) in new.chunks_exact(8).enumerate() {
                        let disk = sim.as_mut().expect("a medium");
                        disk.raw(at + word as u64 * 8, bytes);
                        // Every word of what is small, some of what is large.
                        let cut = words <= 160
                            || word < 4
                            || word + 4 > words
                            || self.random.chance(words / 32);
                        let cut = cut && (depth > 0 || self.random.chance(16));
                        if cut && word + 1 < words {
                            self.check(sim, acknowledged, models, Survives::Prefix, depth)
                                .map_err(|error| format!("{error}; event {number}, word {word}"))?;
                        }
                    }
                }
            }
            if depth > 0 || self.random.chance(4) {
                self.check(sim, acknowledged, models, Survives::Prefix, depth)
                    .map_err(|error| format!("{error}; after event {number}"))?;
            }
        }
        Ok(())
    }

    fn pending(
        &mut self,
        sim: &mut Option<Sim>,
        events: &[Event],
        models: &[Model],
        unit: u64,
        survives: Survives,
        depth: u32,
    ) -> Checked {
        let mut acknowledged = 0;
        // The words stored since the last fence, in order, by their unit.
        let mut pending: BTreeMap<u64, Vec<(u64, [u8; 8])>> = BTreeMap::new();
        let mut grown: Option<u64> = None;
        let last = events.len() - 1;
        for (number, event) in events.iter().enumerate() {
            match event {
                Event::Store { at, new, .. } => {
                    for (word, bytes) in new.chunks_exact(8).enumerate() {
                        let at = at + word as u64 * 8;
                        let bytes = bytes.try_into().expect("8 bytes");
                        pending.entry(at / unit).or_default().push((at, bytes));
                    }
                }
                Event::Grow { to, .. } => grown = Some(*to),
                Event::Commit => acknowledged += 1,
                Event::Fence => {}
            }
            let fence = matches!(event, Event::Fence);
            let crash = fence || matches!(event, Event::Commit) || number == last;
            if crash && (depth > 0 || self.random.chance(3)) {
                self.images_of(sim, &pending, grown, acknowledged, models, survives, depth)
                    .map_err(|error| format!("{error}; {survives:?}, event {number}"))?;
            }
            if fence {
                let disk = sim.as_mut().expect("a medium");
                for (at, bytes) in std::mem::take(&mut pending).into_values().flatten() {
                    disk.raw(at, &bytes);
                }
                if let Some(len) = grown.take() {
                    disk.len = len;
                }
            }
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the state of a crash")]
    fn images_of(
        &mut self,
        sim: &mut Option<Sim>,
        pending: &BTreeMap<u64, Vec<(u64, [u8; 8])>>,
        grown: Option<u64>,
        acknowledged: usize,
        models: &[Model],
        survives: Survives,
        depth: u32,
    ) -> Checked {
        let units: Vec<&Vec<(u64, [u8; 8])>> = pending.values().collect();
        // Of each unit, how many of its stores survive.
        let all: Vec<usize> = units.iter().map(|stores| stores.len()).collect();
        let none = vec![0; units.len()];
        let mut images: BTreeSet<Vec<usize>> = [none.clone(), all.clone()].into();
        let mut chosen: Vec<usize> = (0..units.len()).collect();
        let most = if depth > 0 { self.units } else { 2 };
        while chosen.len() > most {
            let at = self.random.below(chosen.len());
            chosen.swap_remove(at);
        }
        for unit in chosen {
            let (mut lead, mut lag) = (none.clone(), all.clone());
            (lead[unit], lag[unit]) = (all[unit], 0);
            images.extend([lead, lag]);
        }
        for sample in 0..if depth > 0 { self.samples } else { 1 } {
            images.insert(
                all.iter()
                    .map(|&stores| match sample % 3 {
                        0 => self.random.below(stores + 1),
                        1 if self.random.chance(4) => 0,
                        2 if !self.random.chance(4) => 0,
                        _ => stores,
                    })
                    .collect(),
            );
        }
        for image in images {
            let disk = sim.as_mut().expect("a medium");
            let mark = disk.events.len();
            if let Some(to) = grown.filter(|_| self.random.chance(2)) {
                disk.grow(to).expect("grows");
            }
            for (stores, &count) in units.iter().zip(&image) {
                for (at, bytes) in &stores[..count] {
                    // Of a file that did not grow, nothing beyond the end survives.
                    if at + 8 <= disk.len {
                        disk.store(*at, bytes);
                    }
                }
            }
            self.check(sim, acknowledged, models, survives, depth)?;
            sim.as_mut().expect("a medium").take_back(mark);
        }
        Ok(())
    }

    /// Recovers what is in `sim`, looks at it, uses it, and puts it back.
    fn check(
        &mut self,
        sim: &mut Option<Sim>,
        acknowledged: usize,
        models: &[Model],
        survives: Survives,
        depth: u32,
    ) -> Checked {
        self.images += 1;
        let media = sim.take().expect("a medium");
        let mark = media.events.len();
        let recover =
            |media| Region::recover_media(media).map_err(|error| format!("no recovery: {error}"));
        let mut region = recover(media)?;
        let found = contents(&mut region)?;
        let allowed = &models[acknowledged..(acknowledged + 2).min(models.len())];
        if !allowed.contains(&found) {
            let at = models.iter().position(|model| *model == found);
            return Err(format!(
                "{acknowledged} commits, but the state after {at:?}: {found:?}"
            ));
        }
        // A second recovery changes nothing but the superblocks.
        let media = region.into_media();
        let again = media.events.len();
        let mut region = recover(media)?;
        let stable = |event: &Event| match event {
            Event::Store { at, old, new } => {
                old == new || (SUPERBLOCK_AT[0]..SUPERBLOCK_AT[1] + PAGE).contains(at)
            }
            _ => true,
        };
        if !region.inner().media.events[again..].iter().all(stable) {
            return Err("a second recovery changed something".into());
        }
        // The new life.
        let mut lives = vec![found.clone()];
        let mut model = found;
        for _ in 0..10 {
            let transaction = self.transaction(&model);
            run(&mut region, &transaction).map_err(|error| format!("in use: {error}"))?;
            if transaction.commit {
                model.apply(&transaction.ops);
                lives.push(model.clone());
                region.inner().media.events.push(Event::Commit);
            }
        }
        if contents(&mut region)? != model {
            return Err("the recovered region lost something in use".into());
        }
        let used = region.inner().media.events.len();
        let everything: Vec<Op> = (0..=u8::MAX).map(Op::Remove).chain([Op::Clear]).collect();
        run(&mut region, &tx(&everything)).map_err(|error| format!("emptying: {error}"))?;
        let left = region.stats().live_objects;
        if left > 3 {
            return Err(format!("{left} objects are left in an empty region"));
        }
        let mut media = region.into_media();
        media.take_back(used);
        let events = media.take_back(mark);
        *sim = Some(media);
        if depth > 0 && self.random.chance(self.again) {
            let before = sim.as_ref().map(|sim| sim.len);
            self.explore(sim, &events, &lives, survives, depth - 1)
                .map_err(|error| format!("{error}; in a second life"))?;
            // Back to where the second life began.
            let disk = sim.as_mut().expect("a medium");
            disk.events.truncate(mark);
            for event in events.iter().rev() {
                if let Event::Store { at, old, .. } = event {
                    disk.raw(*at, old);
                }
            }
            disk.len = before.expect("a medium");
        }
        Ok(())
    }

    /// A transaction of a new life: re-uses memory at once.
    fn transaction(&mut self, model: &Model) -> Transaction {
        let mut ops = Vec::new();
        for _ in 0..1 + self.random.below(3) {
            let k = self.random.below(12) as u8;
            let len = [0, 7, 24, 30, 100, 101, 500, 900][self.random.below(8)];
            match self.random.below(12) {
                0..6 => ops.push(Op::Set(k, len)),
                6..9 => ops.push(Op::Remove(k)),
                9 => ops.extend([Op::Set(k, len + 1), Op::Remove(k)]),
                10 => ops.push(Op::Number(k.into(), self.random.next() as u32)),
                _ if model.numbers.len() > 3 => ops.push(Op::Clear),
                _ => ops.push(Op::Number(k.into(), 1)),
            }
        }
        Transaction {
            ops,
            commit: !self.random.chance(8),
        }
    }
}

pub(super) fn fresh() -> Region<Sim> {
    crate::collections::FIXED_KEY.set(Some([1, 2]));
    let media = Sim::new(super::format::HEAP_AT + super::format::CHUNK_LEN);
    let options = RegionOptions {
        component: "test".into(),
        instance: 0,
        initial: 0,
        limit: LIMIT,
    };
    let mut region = Region::format(media, &options, &SCHEMA).expect("formats");
    tests::init(&mut region);
    region.inner().media.events.clear();
    region
}

/// Runs a workload; gives the medium as it was before, what happened to it, and the
/// states after each commit. Checks the number of fences on the way.
fn record(workload: &[Transaction]) -> (Sim, Vec<Event>, Vec<Model>) {
    let mut region = fresh();
    let mut models = vec![Model::default()];
    for transaction in workload {
        let before = region.inner().media.events.len();
        let (sequence, chunks) = (
            region.stats().sequence,
            region.inner().superblock.generation,
        );
        run(&mut region, transaction).expect("runs");
        let generation = region.inner().superblock.generation;
        let stats = region.stats();
        let events = &mut region.inner().media.events;
        let done = &events[before..];
        let fences = done
            .iter()
            .filter(|event| matches!(event, Event::Fence))
            .count();
        let stores = done
            .iter()
            .filter(|event| matches!(event, Event::Store { .. }))
            .count();
        // Growth and a new chunk come with fences of their own.
        let large = |event: &&Event| matches!(event, Event::Store { new, .. } if new.len() as u64 == super::format::CHUNK_LEN);
        let growths = (generation - chunks) as usize;
        let zeroed = done.iter().filter(large).count();
        if transaction.commit {
            let wanted = usize::from(stats.sequence > sequence) + 2 * growths + zeroed;
            assert!(
                fences == wanted || without(Without::CommitFence),
                "{fences} fences"
            );
            let mut model = models.last().expect("a model").clone();
            model.apply(&transaction.ops);
            if stats.sequence > sequence {
                events.push(Event::Commit);
                models.push(model);
            } else {
                assert_eq!(Some(&model), models.last());
            }
        } else {
            assert_eq!((fences, stores), (2 * growths + zeroed, growths + zeroed));
        }
    }
    assert_eq!(
        contents(&mut region).as_ref(),
        Ok(models.last().expect("a model"))
    );
    let mut media = region.into_media();
    let events = media.take_back(0);
    (media, events, models)
}

fn campaign(
    workload: &[Transaction],
    seed: u64,
    models: &[Survives],
    again: usize,
) -> Result<u64, String> {
    let mut images = 0;
    for &survives in models {
        let (media, events, models) = record(workload);
        let mut campaign = Campaign {
            again,
            ..Campaign::new(seed)
        };
        let place = |error| format!("{error}\nseed {seed:#x}, {survives:?}, {workload:?}");
        campaign
            .explore(&mut Some(media), &events, &models, survives, 1)
            .map_err(place)?;
        images += campaign.images;
    }
    Ok(images)
}

const ALL: [Survives; 3] = [Survives::Prefix, Survives::Lines, Survives::Chunks];

/// Small workloads, each for one way through the protocol.
fn workloads() -> Vec<(&'static str, Vec<Transaction>)> {
    use Op::{Clear, Number, Order, Pop, Push, Remove, Set, Unorder};
    let aborted = |ops: &[Op]| Transaction {
        ops: ops.to_vec(),
        commit: false,
    };
    [
        ("one insertion", vec![tx(&[Set(1, 5)])]),
        (
            "insert, update, delete",
            vec![tx(&[Set(1, 5)]), tx(&[Set(1, 9)]), tx(&[Remove(1)])],
        ),
        (
            "blocks",
            vec![
                tx(&[Set(1, 40)]),
                tx(&[Set(1, 300), Set(2, 40)]),
                tx(&[Remove(1)]),
            ],
        ),
        (
            "a big value",
            vec![tx(&[Set(1, 3000)]), tx(&[Set(1, 3001)]), tx(&[Remove(1)])],
        ),
        (
            "used again in the same class",
            vec![
                tx(&[Set(1, 40), Set(2, 40)]),
                tx(&[Set(1, 7), Remove(1)]),
                tx(&[Set(3, 41)]),
                tx(&[Set(2, 8), Remove(2)]),
                tx(&[Set(4, 42), Set(5, 3)]),
                tx(&[Set(6, 43)]),
            ],
        ),
        (
            "aborted between",
            vec![
                tx(&[Set(1, 40)]),
                aborted(&[Set(2, 40), Remove(1), Number(1, 1)]),
                tx(&[Set(2, 41), Number(2, 2)]),
                aborted(&[Remove(2), Clear]),
                tx(&[Remove(1)]),
            ],
        ),
        (
            "another type in an emptied segment",
            vec![
                tx(&[Set(1, 2000)]),
                tx(&[Remove(1)]),
                tx(&[Number(1, 1)]),
                tx(&[Set(2, 1001)]),
                tx(&[Set(2, 7), Number(2, 2)]),
                tx(&[Remove(2), Clear]),
                tx(&[Set(3, 45)]),
                tx(&[Set(4, 3000)]),
            ],
        ),
        (
            "growth",
            vec![
                tx(&[Set(1, 25), Set(2, 45)]),
                aborted(&[Set(3, 70), Set(4, 90), Set(5, 150)]),
                tx(&[Set(3, 70), Set(4, 90)]),
                tx(&[Set(5, 150), Set(6, 200), Set(7, 600)]),
            ],
        ),
        (
            "freed and crashed",
            vec![
                tx(&[Set(1, 40), Set(2, 40)]),
                tx(&[Set(1, 7), Set(2, 9), Remove(1), Remove(2)]),
            ],
        ),
        (
            "a tree and a vector: a split and a join, a page more and one fewer",
            vec![
                tx(&[Order(0, 15), Push(63)]),
                tx(&[Order(15, 16), Push(1)]),
                aborted(&[Unorder(0, 12), Pop(3)]),
                tx(&[Push(1)]),
                tx(&[Unorder(4, 6), Pop(2)]),
                tx(&[Order(20, 24), Push(4)]),
                tx(&[Clear]),
                tx(&[Order(1, 3), Push(1)]),
            ],
        ),
    ]
    .to_vec()
}

pub(super) fn random_workload(seed: u64, len: usize) -> Vec<Transaction> {
    let mut campaign = Campaign::new(seed);
    let mut model = Model::default();
    (0..len)
        .map(|_| {
            let transaction = campaign.transaction(&model);
            if transaction.commit {
                model.apply(&transaction.ops);
            }
            transaction
        })
        .collect()
}

#[test]
fn small_workloads_survive_every_crash() {
    let mut images = 0;
    for (name, workload) in workloads() {
        match campaign(&workload, 1, &ALL, 40) {
            Ok(count) => images += count,
            Err(error) => panic!("{name}: {error}"),
        }
    }
    println!("{images} images");
}

#[test]
fn random_workloads_survive_every_crash() {
    let mut images = 0;
    for seed in 0..6 {
        match campaign(&random_workload(seed, 12), seed, &ALL, 60) {
            Ok(count) => images += count,
            Err(error) => panic!("{error}"),
        }
    }
    println!("{images} images");
}

#[test]
fn every_part_of_the_protocol_is_needed() {
    let caught = |part, survives| {
        leave_out(Some(part));
        let found = workloads()
            .into_iter()
            .chain([("", random_workload(7, 12))])
            .find_map(|(_, workload)| {
                // What the mutant corrupts may well make the region's code panic.
                let run = std::panic::AssertUnwindSafe(|| campaign(&workload, 1, &[survives], 4));
                std::panic::catch_unwind(run)
                    .unwrap_or_else(|_| Err("a panic".into()))
                    .err()
            });
        leave_out(None);
        println!("{part:?}, {survives:?}: {found:.200?}");
        found.is_some()
    };
    assert!(caught(Without::Quarantine, Survives::Prefix));
    assert!(caught(Without::SecondQuarantine, Survives::Prefix));
    assert!(caught(Without::Checkpoint, Survives::Prefix));
    assert!(caught(Without::SecondRecord, Survives::Lines));
    assert!(caught(Without::CommitFence, Survives::Lines));
    assert!(caught(Without::FreshHash, Survives::Lines));
    assert!(caught(Without::SecondRecord, Survives::Chunks));
    assert!(caught(Without::CommitFence, Survives::Chunks));
    assert!(caught(Without::FreshHash, Survives::Chunks));
}
