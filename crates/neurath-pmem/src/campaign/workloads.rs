//! What regions are used for before they crash.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::copies;
use super::memory::LIMIT;
use super::models::Survives;
use super::sim::{Random, Sim, suppressing, undisturbed};
use super::trace::{Event, Trace};
use crate::collections::Direction;
use crate::region::ablation::Without;
use crate::region::format::{CHUNK_LEN, JOURNAL_LENS, LOG_AT, Log};
use crate::region::{
    Backend, Durability, Media, Region, RegionError, RegionOptions, make_length_last,
};
use crate::schema::{encode, encoded_len};
use crate::{Bytes, Map, OrderedMap, P, Pmem, Tx, TxError, Vector};

/// What is kept in a region.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub(crate) struct State {
    pub(crate) map: Map<Bytes, Bytes>,
    pub(crate) numbers: Map<u32, u32>,
    pub(crate) ordered: OrderedMap<u32, u32>,
    pub(crate) list: Vector<u32>,
    pub(crate) count: u64,
}

const LEN: usize = encoded_len(State::SCHEMA);
pub(crate) const SCHEMA: [u8; LEN] = encode(State::SCHEMA);

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Tx(#[from] TxError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error("asked for")]
    AskedFor,
}

/// Gives a new region its root.
pub(crate) fn init<M: Media>(region: &mut Region<M>) {
    let state = State {
        map: Map::EMPTY,
        numbers: Map::EMPTY,
        ordered: OrderedMap::EMPTY,
        list: Vector::EMPTY,
        count: 0,
    };
    let handle = crate::Handle::new();
    region.attach(&handle);
    // SAFETY: attached just above.
    let root = unsafe { Tx::new(handle.slot()) }.alloc(&state);
    region.set_root(root.map_or(P::NULL, |made| made).to_ref());
    region.commit().expect("a new region takes its root");
}

pub(crate) fn with<M: Media, R>(
    region: &mut Region<M>,
    change: impl FnOnce(&mut State, &mut Tx<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    region.transact(|tx| {
        let root = tx.root::<State>();
        let mut state = tx.read(root)?;
        let result = change(&mut state, tx)?;
        tx.write(root, &state)?;
        Ok(result)
    })
}

pub(crate) fn set(
    state: &mut State,
    tx: &mut Tx<'_>,
    key: &[u8],
    value: &[u8],
) -> Result<(), Failure> {
    let value = Bytes::new(tx, value)?;
    if let Some(old) = state.map.insert(tx, key, &value)? {
        old.free_owned(tx)?;
    }
    Ok(())
}

pub(crate) fn remove(state: &mut State, tx: &mut Tx<'_>, key: &[u8]) -> Result<bool, Failure> {
    let old = state.map.remove(tx, key)?;
    if let Some(old) = old {
        old.free_owned(tx)?;
    }
    Ok(old.is_some())
}

pub(crate) fn key(number: u8) -> &'static [u8] {
    static KEYS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
        let long = |number| "x".repeat(usize::from(number) / 8);
        let key = |number| format!("key:{number}:{}", long(number)).into_bytes();
        (0..=u8::MAX).map(key).collect()
    });
    &KEYS[usize::from(number)]
}

pub(crate) fn value(number: u8, len: u16) -> Vec<u8> {
    (0..len)
        .map(|i| (i as u8).wrapping_mul(31).wrapping_add(number))
        .collect()
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
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
pub(crate) struct Transaction {
    pub(crate) ops: Vec<Op>,
    pub(crate) commit: bool,
    pub(crate) around: Around,
}

/// What is done with the region while the workload runs, beside a transaction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Around {
    Nothing,
    /// It is closed in order afterwards, and opened again.
    Close,
    /// It is copied meanwhile.
    Copy,
}

pub(crate) fn tx(ops: &[Op]) -> Transaction {
    Transaction {
        ops: ops.to_vec(),
        commit: true,
        around: Around::Nothing,
    }
}

/// What a region should hold.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Model {
    pub(crate) map: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(crate) numbers: BTreeMap<u32, u32>,
    pub(crate) ordered: BTreeMap<u32, u32>,
    pub(crate) list: Vec<u32>,
}

impl Model {
    pub(crate) fn apply(&mut self, ops: &[Op]) {
        for op in ops {
            match *op {
                Op::Set(k, len) => drop(self.map.insert(key(k).to_vec(), value(k, len))),
                Op::Remove(k) => drop(self.map.remove(key(k))),
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

pub(crate) fn run(region: &mut Region<Sim>, transaction: &Transaction) -> Result<(), String> {
    let done = with(region, |state, tx| {
        for op in &transaction.ops {
            match *op {
                Op::Set(k, len) => set(state, tx, key(k), &value(k, len))?,
                Op::Remove(k) => drop(remove(state, tx, key(k))?),
                Op::Number(k, v) => drop(state.numbers.insert(tx, &k, &v)?),
                Op::Clear => {
                    Pmem::free_owned(&state.numbers, tx)?;
                    state.numbers = Map::EMPTY;
                    Pmem::free_owned(&state.ordered, tx)?;
                    state.ordered = OrderedMap::EMPTY;
                    Pmem::free_owned(&state.list, tx)?;
                    state.list = Vector::EMPTY;
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

pub(crate) fn contents(region: &mut Region<Sim>) -> Result<Model, String> {
    let found = with(region, |state, tx| {
        let mut model = Model::default();
        let mut steps = 0;
        let mut bound = |_: &Tx<'_>| {
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
        let up = Direction::Up;
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
            return Err(Failure::Tx(TxError::Invalid));
        }
        let lens = (state.map.len(), state.numbers.len());
        if lens != (model.map.len() as u64, model.numbers.len() as u64) {
            return Err(Failure::Tx(TxError::Invalid));
        }
        Ok(model)
    });
    found.map_err(|error| format!("cannot be read: {error}"))
}

/// A transaction that re-uses memory at once.
pub(crate) fn random_transaction(random: &mut Random, model: &Model) -> Transaction {
    let mut ops = Vec::new();
    for _ in 0..1 + random.below(3) {
        let k = random.below(12) as u8;
        let len = [0, 7, 24, 30, 100, 101, 500, 900][random.below(8)];
        match random.below(12) {
            0..6 => ops.push(Op::Set(k, len)),
            6..9 => ops.push(Op::Remove(k)),
            9 => ops.extend([Op::Set(k, len + 1), Op::Remove(k)]),
            10 => ops.push(Op::Number(k.into(), random.next() as u32)),
            _ if model.numbers.len() > 3 => ops.push(Op::Clear),
            _ => ops.push(Op::Number(k.into(), 1)),
        }
    }
    Transaction {
        ops,
        commit: !random.chance(8),
        around: match random.below(24) {
            0 => Around::Close,
            1 => Around::Copy,
            _ => Around::Nothing,
        },
    }
}

/// A transaction as it is tried again: alike, with other numbers.
pub(crate) fn altered(transaction: &Transaction, random: &mut Random) -> Transaction {
    let ops = transaction.ops.iter().map(|op| match *op {
        Op::Number(k, _) => Op::Number(k, random.next() as u32),
        other => other,
    });
    Transaction {
        ops: ops.collect(),
        ..*transaction
    }
}

pub(crate) fn random_workload(seed: u64, len: usize) -> Vec<Transaction> {
    let mut random = Random(seed);
    let mut model = Model::default();
    (0..len)
        .map(|_| {
            let transaction = random_transaction(&mut random, &model);
            if transaction.commit {
                model.apply(&transaction.ops);
            }
            transaction
        })
        .collect()
}

/// The log of a region on such media. A journal is short, so that laps end.
pub(super) fn log_of(backend: Backend) -> Log {
    match backend {
        Backend::Page => Log::Journal(*JOURNAL_LENS.start()),
        _ => Log::Ring,
    }
}

/// A new region with a root.
pub(crate) fn fresh(backend: Backend) -> Region<Sim> {
    let mut region = made(backend, 0);
    init(&mut region);
    opened_again(region)
}

/// A new region with some room, and how its medium came to its length.
fn made(backend: Backend, room: u64) -> Region<Sim> {
    crate::collections::FIXED_KEY.set(Some([1, 2]));
    let log = log_of(backend);
    let mut media = Sim::new(0, backend);
    let len = LOG_AT + log.len() + CHUNK_LEN + room;
    new_file(&mut media, len, backend).expect("simulated media grow");
    let options = RegionOptions {
        component: "test".into(),
        instance: 0,
        initial: 0,
        limit: LIMIT,
        durability: Durability::Process,
    };
    Region::format(media, &options, log, &SCHEMA).expect("formats")
}

/// Makes a new file as long as a region needs it, as the making of a region does.
pub(super) fn new_file(media: &mut Sim, len: u64, backend: Backend) -> std::io::Result<()> {
    media.grow(len)?;
    match backend {
        Backend::Process => Ok(()),
        _ => make_length_last(media),
    }
}

/// The same region with nothing under way: memory and medium are alike.
fn opened_again(mut region: Region<Sim>) -> Region<Sim> {
    if region.media().holds_back() {
        region.close_in_order().expect("simulated media sync");
        region = Region::recover_media(region.into_media()).expect("opens");
    }
    region.media_mut().forget();
    region
}

/// Waits until everything is durable, and says so.
pub(crate) fn acknowledge(region: &mut Region<Sim>) -> Result<(), String> {
    region.make_durable().map_err(|error| error.to_string())?;
    let events = &mut region.media_mut().trace.events;
    let count = |events: &[Event], wanted: fn(&Event) -> bool| {
        events.iter().filter(|event| wanted(event)).count()
    };
    let applied = count(events, |event| matches!(event, Event::Applied));
    let acknowledged = count(events, |event| matches!(event, Event::Commit));
    events.extend((acknowledged..applied).map(|_| Event::Commit));
    Ok(())
}

/// A region whose first chunk is nearly full. It takes its time, and is made once a thread.
fn nearly_full(backend: Backend) -> Region<Sim> {
    thread_local! {
        static MADE: RefCell<BTreeMap<u8, Sim>> = const { RefCell::new(BTreeMap::new()) };
    }
    // A part that is left out has no part in it.
    let media = MADE.with_borrow_mut(|made| {
        let new = || undisturbed(|| filled(backend));
        made.entry(backend as u8).or_insert_with(new).copy()
    });
    let mut region = Region::recover_media(media).expect("opens");
    region.media_mut().forget();
    region
}

/// A region whose first chunk is nearly full, and in which a transaction that never was
/// committed has left its bytes behind the heap.
fn filled(backend: Backend) -> Sim {
    let mut region = fresh(backend);
    for n in 0..=u8::MAX {
        if region.segments().len() >= 255 {
            break;
        }
        run(&mut region, &tx(&[Op::Set(n, 33_000)])).expect("fills");
    }
    for n in (0..=u8::MAX).step_by(32) {
        let gone: Vec<Op> = (n..=n + 31).map(Op::Remove).collect();
        run(&mut region, &tx(&gone)).expect("empties");
    }
    // More than a chunk, so that all of the next one lies where something is.
    let lost = Transaction {
        commit: false,
        ..tx(&(0..3).map(|n| Op::Set(n, 65_000)).collect::<Vec<_>>())
    };
    run(&mut region, &lost).expect("is lost");
    let mut region = opened_again(region);
    let end = region
        .segments()
        .iter()
        .map(|(_, entry)| entry.offset + entry.length)
        .max()
        .expect("segments");
    let len = region.media().len();
    assert!(end + CHUNK_LEN <= len, "a chunk's length of what was lost");
    let media = region.media_mut();
    media.forget();
    media.raw(end, &vec![0xA5; (len - end) as usize]);
    region.into_media()
}

/// What a workload does, and where it begins.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) transactions: Vec<Transaction>,
    pub(crate) begin: Begin,
}

/// How a workload finds its region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Begin {
    /// Not there: it is made.
    Nothing,
    /// With nothing in it.
    Empty,
    /// With its first chunk nearly full.
    Full,
}

/// What happened to a medium.
pub(crate) struct Recording {
    /// As it was before.
    pub(crate) media: Sim,
    pub(crate) trace: Trace,
    pub(crate) history: History,
}

/// What was committed.
pub(crate) struct History {
    /// The states: before everything, and after each commit.
    pub(crate) models: Vec<Model>,
    /// Of each state, the first that is the same.
    pub(crate) first: Vec<usize>,
    /// What led from each state to the next.
    pub(crate) transactions: Vec<Transaction>,
    /// The first state is that there is no region, or none with a root.
    pub(crate) nothing: bool,
}

impl History {
    pub(crate) fn new(model: Model) -> History {
        History {
            models: vec![model],
            first: vec![0],
            transactions: Vec::new(),
            nothing: false,
        }
    }

    /// The same until a state, as if nothing had followed.
    pub(crate) fn up_to(&self, at: usize) -> History {
        History {
            models: self.models[..=at].to_vec(),
            first: self.first[..=at].to_vec(),
            transactions: self.transactions[..at].to_vec(),
            nothing: self.nothing,
        }
    }

    fn begins_with_nothing(&mut self, making: Transaction) {
        self.nothing = true;
        self.push(making);
    }

    pub(crate) fn push(&mut self, transaction: Transaction) {
        let mut model = self.models.last().expect("a model").clone();
        model.apply(&transaction.ops);
        let same = self.models.iter().position(|other| *other == model);
        self.first.push(same.unwrap_or(self.models.len()));
        self.models.push(model);
        self.transactions.push(transaction);
    }
}

/// Whether something waits for the medium.
fn is_wait(event: &Event) -> bool {
    let waits = [
        matches!(event, Event::Fence | Event::Sync | Event::EndSync),
        matches!(event, Event::Persisted { .. }),
    ];
    waits.contains(&true)
}

/// Checks what a transaction has waited for and stored: one fence for a commit, and none
/// where commits are waited for together; nothing at all for an abort; but for growth, which
/// is a superblock and two waits, and for a new chunk, which is zeros and one.
fn count_waits(done: &[Event], superblocks: usize, committed: bool, backend: Backend) {
    let waits = done.iter().filter(|event| is_wait(event)).count();
    let large =
        |event: &&Event| matches!(event, Event::Store(span) if span.len as u64 == CHUNK_LEN);
    let zeroed = done.iter().filter(large).count();
    let at_once = usize::from(committed && backend != Backend::Page);
    // A process that dies leaves the file as long as it was made.
    let each = if backend == Backend::Process { 1 } else { 2 };
    // An object too large for the journal's record is waited for in its place.
    let placed = if backend == Backend::Page && committed {
        done.iter()
            .filter(|event| matches!(event, Event::Fence))
            .count()
            .saturating_sub(zeroed)
    } else {
        0
    };
    assert!(
        waits == at_once + each * superblocks + zeroed + placed || placed > 0,
        "{waits} waits"
    );
    if !committed {
        let stores = done
            .iter()
            .filter(|event| matches!(event, Event::Store(_)))
            .count();
        assert_eq!(stores, superblocks + zeroed);
    }
}

/// Runs a workload. Checks the number of waits on the way.
pub(crate) fn record(
    workload: &Workload,
    without: Option<Without>,
    survives: Survives,
) -> Recording {
    let (backend, close) = (survives.backend(), survives == Survives::Closing);
    let mut history = History::new(Model::default());
    let mut region = match workload.begin {
        Begin::Empty => fresh(backend),
        Begin::Full => nearly_full(backend),
        Begin::Nothing => {
            // It does not grow, which would wait for its length once more.
            let mut region = made(backend, 1 << 20);
            init(&mut region);
            region.media_mut().trace.events.push(Event::Applied);
            acknowledge(&mut region).expect("simulated media sync");
            history.begins_with_nothing(tx(&[]));
            region
        }
    };
    let exact = without.is_none() && !suppressing();
    let mut batch = 0;
    for (number, transaction) in workload.transactions.iter().enumerate() {
        let before = region.media().mark();
        let (sequence, generation) = (region.stats().sequence, region.generation());
        let lap = region.lap();
        let copying = (transaction.around == Around::Copy).then(|| copies::begin(&mut region));
        run(&mut region, transaction).expect("runs");
        let superblocks = (region.generation() - generation) as usize;
        let (stats, went_on) = (region.stats(), region.lap() != lap);
        let events = &mut region.media_mut().trace.events;
        let committed = stats.sequence > sequence;
        assert!(!committed || transaction.commit);
        if exact && !went_on {
            count_waits(&events[before..], superblocks, committed, backend);
        }
        if committed {
            history.push(transaction.clone());
            events.push(Event::Applied);
        }
        // Of a journal's commits, up to four wait for the medium together.
        batch += 1;
        if backend != Backend::Page || matches!(batch % 6, 1 | 5) || !transaction.commit {
            let waits = events.iter().filter(|event| is_wait(event)).count();
            let lap = region.lap();
            acknowledge(&mut region).expect("simulated media sync");
            let superblocks = region.generation() - generation;
            let events = &region.media().trace.events;
            let waited = events.iter().filter(|event| is_wait(event)).count() - waits;
            assert!(!exact || region.lap() == lap && waited <= 2 + superblocks as usize);
        }
        if let Some(copy) = copying {
            copies::end(copy, &region, history.models.last().expect("a model"));
        }
        if transaction.around == Around::Close {
            acknowledge(&mut region).expect("simulated media sync");
            region = closed_and_opened(region, close);
            batch = 0;
        }
        if close && number % 3 == 1 {
            region.sync().expect("simulated media sync");
            region.media_mut().trace.events.push(Event::Synced);
        }
    }
    acknowledge(&mut region).expect("simulated media sync");
    assert_eq!(
        contents(&mut region).as_ref(),
        Ok(history.models.last().expect("a model"))
    );
    if close {
        region.close_in_order().expect("simulated media sync");
        region.media_mut().trace.events.push(Event::Synced);
    }
    let mut media = region.into_media();
    let trace = media.take_back(0);
    Recording {
        media,
        trace,
        history,
    }
}

/// Closes a region in order, and opens it again. Where a sync alone makes sure, that is noted.
fn closed_and_opened(mut region: Region<Sim>, synced: bool) -> Region<Sim> {
    region.close_in_order().expect("simulated media sync");
    let mut media = region.into_media();
    if synced {
        media.trace.events.push(Event::Synced);
    }
    let region = Region::recover_media(media).expect("a closed region opens");
    assert!(region.wrong_sum().is_none());
    region
}

/// The kinds of transactions that sequences are made of.
const KINDS: usize = 8;

/// Sequences of one, two and three transactions of all kinds.
pub(crate) const SEQUENCES: usize = KINDS + KINDS * KINDS + KINDS * KINDS * KINDS;

/// The `number`-th of all sequences of up to three transactions on a fresh region: an insertion,
/// an update, a removal, many types (which need room of their own), a big value, places that are
/// taken, freed, and taken again in the same class, an orderly close, and a copy.
pub(crate) fn sequence(mut number: usize) -> Workload {
    use Op::{Number, Order, Push, Remove, Set};
    let mut len = 1;
    while number >= KINDS.pow(len) {
        number -= KINDS.pow(len);
        len += 1;
    }
    let transactions = (0..len).map(|place| {
        let kind = number / KINDS.pow(place) % KINDS;
        // A second insertion is of another key, an update of a key that may be there.
        let key = place as u8 + 2;
        match kind {
            0 => tx(&[Set(key, 30)]),
            1 => tx(&[Set(2, 31 + u16::from(key))]),
            2 => tx(&[Remove(2)]),
            3 => tx(&[
                Set(key, 70),
                Set(key + 8, 150),
                Number(key.into(), 1),
                Order(0, 3),
                Push(2),
            ]),
            4 => tx(&[Set(key, 3000)]),
            5 => Transaction {
                around: Around::Close,
                ..tx(&[Set(key, 32)])
            },
            6 => Transaction {
                around: Around::Copy,
                ..tx(&[Set(key, 33)])
            },
            _ => tx(&[Set(key + 16, 45), Remove(key + 16), Set(key + 24, 46)]),
        }
    });
    Workload {
        name: "a sequence",
        transactions: transactions.collect(),
        begin: Begin::Empty,
    }
}

/// Small workloads, each for one way through the protocol.
pub(crate) fn small() -> Vec<Workload> {
    use Op::{Clear, Number, Order, Pop, Push, Remove, Set, Unorder};
    let aborted = |ops: &[Op]| Transaction {
        commit: false,
        ..tx(ops)
    };
    let closed = |ops: &[Op]| Transaction {
        around: Around::Close,
        ..tx(ops)
    };
    let workloads = [
        ("one insertion", vec![tx(&[Set(1, 5)])]),
        ("a new region", vec![tx(&[Set(1, 5)]), tx(&[Number(1, 1)])]),
        (
            "insert, update, delete",
            vec![tx(&[Set(1, 5)]), tx(&[Set(1, 9)]), tx(&[Remove(1)])],
        ),
        (
            "closed between",
            vec![
                tx(&[Set(1, 5), Set(2, 40)]),
                tx(&[Set(1, 9), Set(3, 300)]),
                closed(&[Set(1, 7), Remove(2)]),
                closed(&[Number(1, 1), Set(4, 41)]),
                tx(&[Remove(3)]),
                tx(&[Set(5, 42)]),
            ],
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
        (
            "a second chunk",
            vec![
                tx(&[Set(1, 500), Set(2, 3000)]),
                tx(&[Set(3, 5000), Set(4, 9000)]),
                tx(&[Set(5, 14_000), Set(6, 20_000), Set(7, 2000)]),
                tx(&[Remove(1), Remove(2), Remove(3)]),
            ],
        ),
        (
            "more than a journal's half, and what is too large for its record",
            vec![
                tx(&[Set(1, 14_000), Number(1, 1)]),
                tx(&[Set(2, 15_000), Remove(1)]),
                tx(&[Set(3, 15_500)]),
                tx(&[Set(1, 20_000)]),
                tx(&[Set(4, 15_600), Remove(1)]),
                tx(&[Set(5, 15_700)]),
                tx(&[Set(6, 15_800), Number(2, 2)]),
                tx(&[Set(2, 15_900), Remove(3)]),
                tx(&[Set(3, 16_000), Number(1, 3)]),
                tx(&[Remove(2), Number(4, 1)]),
            ],
        ),
        (
            "records of one size, with other contents",
            (1..12)
                .map(|n| tx(&[Set(n as u8 % 2, 430), Number(1, n)]))
                .collect(),
        ),
        (
            "records of one size into a journal's other half",
            (0..3)
                .map(|n| tx(&[Set(7 + n, 15_900)]))
                .chain((0..30).map(|n| tx(&[Set(n as u8 % 2, 430), Number(1, n)])))
                .collect(),
        ),
        (
            "a journal's half within one wait",
            (0..14)
                .map(|n| tx(&[Set(n % 3, 15_900 + u16::from(n)), Number(1, n.into())]))
                .collect(),
        ),
        (
            "a checkpoint beside the commits",
            (0..44)
                .map(|n| {
                    tx(&[
                        Set(n % 7, 3000 + u16::from(n)),
                        Number(u32::from(n % 5), n.into()),
                    ])
                })
                .collect(),
        ),
    ];
    workloads
        .into_iter()
        .map(|(name, transactions)| Workload {
            name,
            transactions,
            begin: match name {
                "a second chunk" => Begin::Full,
                "a new region" => Begin::Nothing,
                _ => Begin::Empty,
            },
        })
        .collect()
}
