//! Regions that are converted segment by segment while they are used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::{Durability, Media, Region, RegionError, RegionOptions, Swept};
use crate::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseError, StepwiseLink};
use crate::schema::{SchemaDesc, encode, encoded_len};
use crate::{Bytes, Handle, Map, OrderedMap, P, Pmem, Tx, TxError, Vector};

pub(crate) mod old {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(C)]
    pub(crate) struct Item {
        pub(crate) a: u32,
        pub(crate) b: u32,
        /// So that there are several segments of few objects.
        pub(crate) more: [u64; 40],
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(crate) struct State {
        pub(crate) items: Map<u32, Item>,
        pub(crate) blobs: Map<Bytes, Bytes>,
        pub(crate) gone: Map<u64, u64>,
        pub(crate) ordered: OrderedMap<u32, Item>,
        pub(crate) list: Vector<Item>,
        pub(crate) count: u64,
    }
    pub(crate) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

pub(crate) mod new {
    use super::*;

    /// Larger, with a field of another type, and one more.
    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(C)]
    pub(crate) struct Item {
        pub(crate) a: u64,
        pub(crate) b: u32,
        pub(crate) c: u32,
        pub(crate) more: [u64; 40],
    }

    /// One field is gone, one is new, and the others have moved.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(crate) struct State {
        pub(crate) count: u64,
        pub(crate) added: u64,
        pub(crate) items: Map<u32, Item>,
        pub(crate) blobs: Map<Bytes, Bytes>,
        pub(crate) ordered: OrderedMap<u32, Item>,
        pub(crate) list: Vector<Item>,
    }
    pub(crate) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Tx(#[from] TxError),
    #[error(transparent)]
    Region(#[from] RegionError),
    #[error("asked for")]
    AskedFor,
}

fn read<T: Pmem>(bytes: &[u8]) -> T {
    crate::from_bytes(&bytes[..size_of::<T>()]).unwrap()
}

fn each<A: Pmem, B: Pmem>(row: Row<'_>, convert: impl Fn(A) -> B) {
    for place in (0..row.count).filter(|place| row.live[place / 64] >> (place % 64) & 1 == 1) {
        let made = convert(read(&row.old[place * row.old_stride..]));
        let bytes = crate::as_bytes(&made);
        row.new[place * row.new_stride..][..bytes.len()].copy_from_slice(bytes);
    }
}

pub(crate) fn item_up(old: old::Item) -> new::Item {
    new::Item {
        a: old.a.into(),
        b: old.b,
        c: old.a ^ old.b,
        more: old.more,
    }
}

fn item_down(new: new::Item) -> old::Item {
    old::Item {
        a: new.a as u32,
        b: new.b,
        more: new.more,
    }
}

/// When the conversions began, in all tests.
const NOW: u64 = 99;

fn state_up(old: old::State, now_ms: u64) -> new::State {
    new::State {
        count: old.count,
        added: now_ms,
        items: old.items.carry_over(),
        blobs: old.blobs,
        ordered: old.ordered.carry_over(),
        list: old.list.carry_over(),
    }
}

fn state_down(new: new::State) -> old::State {
    old::State {
        items: new.items.carry_over(),
        blobs: new.blobs,
        gone: Map::EMPTY,
        ordered: new.ordered.carry_over(),
        list: new.list.carry_over(),
        count: new.count,
    }
}

fn plan(from: &[u8], to: &[u8], pairs: [(&Fp, &Fp); 2]) -> MigrationPlan {
    let conversions = pairs.map(|(from, to)| Conversion {
        from: *from,
        to: *to,
    });
    let decode = |bytes| SchemaDesc::decode(bytes).unwrap();
    MigrationPlan::new(&decode(from), &decode(to), &conversions).unwrap()
}

type Fp = crate::schema::Fingerprint;

fn plan_up() -> MigrationPlan {
    let pairs = [
        (&old::Item::FINGERPRINT, &new::Item::FINGERPRINT),
        (&old::State::FINGERPRINT, &new::State::FINGERPRINT),
    ];
    plan(&old::SCHEMA, &new::SCHEMA, pairs)
}

fn plan_down() -> MigrationPlan {
    let pairs = [
        (&new::Item::FINGERPRINT, &old::Item::FINGERPRINT),
        (&new::State::FINGERPRINT, &old::State::FINGERPRINT),
    ];
    plan(&new::SCHEMA, &old::SCHEMA, pairs)
}

fn convert_up(_: usize, index: usize, row: Row<'_>) -> Result<(), String> {
    let now_ms = row.now_ms;
    match index {
        0 => each(row, item_up),
        _ => each(row, |old| state_up(old, now_ms)),
    }
    Ok(())
}

fn convert_down(_: usize, index: usize, row: Row<'_>) -> Result<(), String> {
    match index {
        0 => each(row, item_down),
        _ => each(row, state_down),
    }
    Ok(())
}

fn link(plan: MigrationPlan) -> StepwiseLink {
    let extra = "{}".into();
    StepwiseLink { plan, extra }
}

pub(crate) fn up() -> Stepwise {
    let links = vec![link(plan_up())];
    Stepwise::new(&old::SCHEMA, &new::SCHEMA, links, NOW, Box::new(convert_up)).unwrap()
}

pub(crate) fn down() -> Stepwise {
    let links = vec![link(plan_down())];
    Stepwise::new(
        &new::SCHEMA,
        &old::SCHEMA,
        links,
        NOW,
        Box::new(convert_down),
    )
    .unwrap()
}

const LIMIT: u64 = 64 << 20;

fn options(durability: Durability) -> RegionOptions {
    RegionOptions {
        durability,
        ..RegionOptions::new("test", 0, LIMIT)
    }
}

/// A version's way to the state, so that the same operations run on both.
pub(crate) trait Version: Pmem {
    type Item: Pmem + PartialEq + std::fmt::Debug;
    fn item(n: u32) -> Self::Item;
    /// What of an item is the same in both versions.
    fn same(item: Self::Item) -> (u32, u32);
    fn items(&mut self) -> &mut Map<u32, Self::Item>;
    fn blobs(&mut self) -> &mut Map<Bytes, Bytes>;
    fn ordered(&mut self) -> &mut OrderedMap<u32, Self::Item>;
    fn list(&mut self) -> &mut Vector<Self::Item>;
    fn count(&mut self) -> &mut u64;
}

macro_rules! version {
    ($module:ident, $item:expr, $same:expr) => {
        impl Version for $module::State {
            type Item = $module::Item;
            fn item(n: u32) -> Self::Item {
                $item(old::Item {
                    a: n,
                    b: n * 7,
                    more: [n.into(); 40],
                })
            }
            fn same(item: Self::Item) -> (u32, u32) {
                $same(item)
            }
            fn items(&mut self) -> &mut Map<u32, Self::Item> {
                &mut self.items
            }
            fn blobs(&mut self) -> &mut Map<Bytes, Bytes> {
                &mut self.blobs
            }
            fn ordered(&mut self) -> &mut OrderedMap<u32, Self::Item> {
                &mut self.ordered
            }
            fn list(&mut self) -> &mut Vector<Self::Item> {
                &mut self.list
            }
            fn count(&mut self) -> &mut u64 {
                &mut self.count
            }
        }
    };
}

version!(old, |item| item, |item: old::Item| {
    assert_eq!(item.more, [item.a.into(); 40]);
    (item.a, item.b)
});
version!(new, item_up, |item: new::Item| {
    assert_eq!(item.c, item.a as u32 ^ item.b, "as it is converted or made");
    assert_eq!(item.more, [item.a; 40]);
    (item.a as u32, item.b)
});

fn blob(n: u32) -> Vec<u8> {
    (0..n % 90).map(|i| (i * 3 + n) as u8).collect()
}

/// What is in a region, in both versions.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    items: BTreeMap<u32, (u32, u32)>,
    blobs: BTreeMap<u32, Vec<u8>>,
    ordered: BTreeMap<u32, (u32, u32)>,
    list: Vec<(u32, u32)>,
    count: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Op {
    Insert(u32),
    Remove(u32),
    Blob(u32),
    Unblob(u32),
    Order(u32),
    Unorder(u32),
    Push(u32),
    Pop,
    Count,
}

impl Model {
    pub(crate) fn apply(&mut self, op: Op) {
        let pair = |n: u32| (n, n * 7);
        match op {
            Op::Insert(n) => drop(self.items.insert(n % 500, pair(n))),
            Op::Remove(n) => drop(self.items.remove(&(n % 500))),
            Op::Blob(n) => drop(self.blobs.insert(n % 100, blob(n))),
            Op::Unblob(n) => drop(self.blobs.remove(&(n % 100))),
            Op::Order(n) => drop(self.ordered.insert(n % 300, pair(n))),
            Op::Unorder(n) => drop(self.ordered.remove(&(n % 300))),
            Op::Push(n) => self.list.push(pair(n)),
            Op::Pop => drop(self.list.pop()),
            Op::Count => self.count += 1,
        }
    }
}

fn change<S: Version>(tx: &mut Tx<'_>, op: Op) -> Result<(), TxError> {
    let root: P<S> = tx.root();
    let mut state = tx.read(root)?;
    match op {
        Op::Insert(n) => drop(state.items().insert(tx, &(n % 500), &S::item(n))?),
        Op::Remove(n) => drop(state.items().remove(tx, &(n % 500))?),
        Op::Blob(n) => {
            let bytes = Bytes::new(tx, &blob(n))?;
            let key = (n % 100).to_le_bytes();
            if let Some(old) = state.blobs().insert(tx, &key, &bytes)? {
                old.free_owned(tx)?;
            }
        }
        Op::Unblob(n) => {
            if let Some(old) = state.blobs().remove(tx, &(n % 100).to_le_bytes())? {
                old.free_owned(tx)?;
            }
        }
        Op::Order(n) => drop(state.ordered().insert(tx, &(n % 300), &S::item(n))?),
        Op::Unorder(n) => drop(state.ordered().remove(tx, &(n % 300))?),
        Op::Push(n) => state.list().push(tx, &S::item(n))?,
        Op::Pop => drop(state.list().pop(tx)?),
        Op::Count => *state.count() += 1,
    }
    tx.write(root, &state)
}

fn seen<S: Version>(tx: &mut Tx<'_>) -> Result<Model, TxError> {
    let mut state: S = tx.read(tx.root())?;
    let mut model = Model {
        count: *state.count(),
        ..Model::default()
    };
    let mut cursor = 0;
    loop {
        cursor = state.items().scan(tx, cursor, 50, |tx, slot| {
            model.items.insert(slot.key(tx)?, S::same(slot.value(tx)?));
            Ok::<_, TxError>(())
        })?;
        if cursor == 0 {
            break;
        }
    }
    for n in 0..100u32 {
        if let Some(bytes) = state.blobs().get(tx, &n.to_le_bytes())? {
            model.blobs.insert(n, bytes.get(tx)?.to_vec());
        }
    }
    for n in 0..300 {
        if let Some(item) = state.ordered().get(tx, &n)? {
            model.ordered.insert(n, S::same(item));
        }
    }
    for n in 0..state.list().len() {
        let item = state.list().get(tx, n)?.ok_or(TxError::BadRef)?;
        model.list.push(S::same(item));
    }
    Ok(model)
}

/// Gives a new region of the old version its root, with a map that the new version has not.
pub(crate) fn empty_state<M: Media>(region: &mut Region<M>, gone_entries: u64) {
    region.attach(&Handle::new());
    let root = region.transact(|tx| {
        let mut gone = Map::EMPTY;
        for n in 0..gone_entries {
            gone.insert(tx, &n, &n)?;
        }
        Ok::<_, Failure>(tx.alloc(&old::State {
            items: Map::EMPTY,
            blobs: Map::EMPTY,
            gone,
            ordered: OrderedMap::EMPTY,
            list: Vector::EMPTY,
            count: 0,
        })?)
    });
    region.set_root(root.unwrap().to_ref());
    region.commit().unwrap();
}

fn filled(path: &Path, durability: Durability, count: u32) -> (Region, Model) {
    let mut region = Region::create(path, &options(durability), &old::SCHEMA).unwrap();
    empty_state(&mut region, 300);
    let mut model = Model::default();
    for n in 0..count {
        for op in [Op::Insert(n), Op::Blob(n), Op::Order(n), Op::Push(n)] {
            act::<old::State>(&mut region, &mut model, op);
        }
    }
    (region, model)
}

/// One operation, in a transaction of its own.
pub(crate) fn transact<S: Version, M: Media>(
    region: &mut Region<M>,
    model: &mut Model,
    op: Op,
) -> Result<(), Failure> {
    region.transact(|tx| Ok::<_, Failure>(change::<S>(tx, op)?))?;
    model.apply(op);
    Ok(())
}

fn act<S: Version>(region: &mut Region, model: &mut Model, op: Op) {
    transact::<S, _>(region, model, op).unwrap_or_else(|error| panic!("{op:?}: {error}"));
}

/// What a region holds.
pub(crate) fn look<S: Version, M: Media>(region: &mut Region<M>) -> Result<Model, Failure> {
    region.transact(|tx| Ok::<_, Failure>(seen::<S>(tx)?))
}

fn sweep_out(region: &mut Region) {
    let mut steps = 0;
    while region.sweep(Duration::ZERO).unwrap() != Swept::Done {
        steps += 1;
        assert!(steps < 10_000, "{:?}", region.sweep_status());
    }
}

#[test]
fn a_region_is_converted_while_it_is_used_and_back() {
    for durability in [Durability::Process, Durability::Power] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let (mut region, mut model) = filled(&path, durability, 3000);
        region.begin_conversion(up()).unwrap();
        // Before it is entered, all is seen in the new form.
        assert!(look::<new::State, _>(&mut region).unwrap() == model);
        region.enter_conversion().unwrap();
        assert_eq!(region.fingerprint(), new::State::FINGERPRINT);
        assert!(look::<new::State, _>(&mut region).unwrap() == model);
        for n in 0..5 {
            act::<new::State>(&mut region, &mut model, Op::Insert(n * 11));
            act::<new::State>(&mut region, &mut model, Op::Unorder(n * 3));
            assert_eq!(region.sweep(Duration::ZERO).unwrap(), Swept::More);
        }
        assert!(look::<new::State, _>(&mut region).unwrap() == model);
        // Opened again in the midst of it.
        region.make_durable().unwrap();
        drop(region);
        let mut region =
            Region::open(&path, &options(durability), Some(new::State::FINGERPRINT)).unwrap();
        assert!(region.is_swept());
        assert!(matches!(
            region.resume_conversion(down()),
            Err(StepwiseError::Begin)
        ));
        region.resume_conversion(up()).unwrap();
        assert!(look::<new::State, _>(&mut region).unwrap() == model);
        sweep_out(&mut region);
        assert!(!region.is_swept());
        assert!(look::<new::State, _>(&mut region).unwrap() == model);
        region.close().unwrap();
        let checked = crate::inspect::check_file(&path, crate::inspect::Level::L3);
        let report = checked.unwrap();
        assert_eq!(report.errors, 0, "{report:?}");
        // Back, and closed in the midst of it.
        let mut region =
            Region::open(&path, &options(durability), Some(new::State::FINGERPRINT)).unwrap();
        let before = std::fs::metadata(&path).unwrap().len();
        region.begin_conversion(down()).unwrap();
        region.enter_conversion().unwrap();
        region.sweep(Duration::ZERO).unwrap();
        region.close().unwrap();
        let mut region =
            Region::open(&path, &options(durability), Some(old::State::FINGERPRINT)).unwrap();
        region.resume_conversion(down()).unwrap();
        act::<old::State>(&mut region, &mut model, Op::Insert(4));
        sweep_out(&mut region);
        assert!(look::<old::State, _>(&mut region).unwrap() == model);
        // What shrinks finds its place in what was freed.
        let after = std::fs::metadata(&path).unwrap().len();
        assert!(after <= before + (1 << 20), "{before} {after}");
    }
}

#[test]
fn what_was_begun_and_not_entered_leaves_the_region_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let (region, mut model) = filled(&path, Durability::Process, 2000);
    region.close().unwrap();
    let mut region = Region::open(&path, &options(Durability::Process), None).unwrap();
    let stats = region.stats();
    region.begin_conversion(up()).unwrap();
    let handle = Handle::new();
    region.attach(&handle);
    {
        // What an `init` changes stays in its open transaction.
        // SAFETY: attached just above.
        let mut tx = unsafe { Tx::new(handle.slot()) };
        for n in 0..300 {
            change::<new::State>(&mut tx, Op::Insert(n)).unwrap();
            change::<new::State>(&mut tx, Op::Push(n)).unwrap();
        }
    }
    region.cancel_conversion();
    // The file may have grown.
    let file_bytes = region.stats().file_bytes;
    assert_eq!(
        region.stats(),
        super::Stats {
            file_bytes,
            ..stats
        }
    );
    assert!(look::<old::State, _>(&mut region).unwrap() == model);
    act::<old::State>(&mut region, &mut model, Op::Insert(1));
    region.close().unwrap();
    let report = crate::inspect::check_file(&path, crate::inspect::Level::L3).unwrap();
    assert_eq!((report.errors, report.leaks.len()), (0, 0), "{report:?}");
    // A crash in place of it does, too.
    let mut region = Region::open(&path, &options(Durability::Process), None).unwrap();
    region.begin_conversion(up()).unwrap();
    drop(region);
    let mut region = Region::open(&path, &options(Durability::Process), None).unwrap();
    assert!(!region.is_swept());
    assert_eq!(region.fingerprint(), old::State::FINGERPRINT);
    assert!(look::<old::State, _>(&mut region).unwrap() == model);
}

#[test]
fn what_was_changed_before_it_is_entered_is_there_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let (mut region, mut model) = filled(&path, Durability::Process, 2000);
    region.begin_conversion(up()).unwrap();
    let handle = Handle::new();
    region.attach(&handle);
    {
        // SAFETY: attached just above.
        let mut tx = unsafe { Tx::new(handle.slot()) };
        for n in 0..300 {
            for op in [Op::Insert(n + 1000), Op::Push(n), Op::Unorder(n)] {
                change::<new::State>(&mut tx, op).unwrap();
                model.apply(op);
            }
        }
    }
    region.enter_conversion().unwrap();
    assert!(region.commit().unwrap());
    assert!(look::<new::State, _>(&mut region).unwrap() == model);
    drop(region);
    let mut region = Region::open(&path, &options(Durability::Process), None).unwrap();
    region.resume_conversion(up()).unwrap();
    assert!(look::<new::State, _>(&mut region).unwrap() == model);
    sweep_out(&mut region);
    assert!(look::<new::State, _>(&mut region).unwrap() == model);
}

#[test]
fn an_aborted_transaction_keeps_its_conversions_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let (mut region, mut model) = filled(&path, Durability::Process, 1500);
    region.begin_conversion(up()).unwrap();
    region.enter_conversion().unwrap();
    for round in 0..8u32 {
        let failed = region.transact(|tx| {
            for n in 0..40 {
                // New segments of its own, and conversions between them.
                change::<new::State>(tx, Op::Blob(n + 89 * round))?;
                change::<new::State>(tx, Op::Push(n))?;
                change::<new::State>(tx, Op::Insert(n + round * 60))?;
            }
            Err::<(), _>(Failure::AskedFor)
        });
        assert!(matches!(failed, Err(Failure::AskedFor)));
        assert!(look::<new::State, _>(&mut region).unwrap() == model);
        act::<new::State>(&mut region, &mut model, Op::Insert(round));
    }
    drop(region);
    let mut region = Region::open(&path, &options(Durability::Process), None).unwrap();
    region.resume_conversion(up()).unwrap();
    sweep_out(&mut region);
    assert!(look::<new::State, _>(&mut region).unwrap() == model);
    region.close().unwrap();
    let report = crate::inspect::check_file(&path, crate::inspect::Level::L3).unwrap();
    assert_eq!((report.errors, report.leaks.len()), (0, 0), "{report:?}");
}

#[test]
fn a_conversion_that_fails_refuses_the_message_and_the_way_back_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let (mut region, model) = filled(&path, Durability::Process, 1500);
    let broken = Arc::new(AtomicBool::new(true));
    let asked = broken.clone();
    let convert = move |link: usize, index: usize, row: Row<'_>| {
        if index == 0 && asked.load(Ordering::Relaxed) {
            return Err("on purpose".to_owned());
        }
        convert_up(link, index, row)
    };
    let links = vec![link(plan_up())];
    let way = Stepwise::new(&old::SCHEMA, &new::SCHEMA, links, NOW, Box::new(convert)).unwrap();
    region.begin_conversion(way).unwrap();
    region.enter_conversion().unwrap();
    let failed = region.transact(|tx| {
        // Whoever does not look at the error is refused all the same.
        let _ = change::<new::State>(tx, Op::Insert(3));
        Ok::<_, Failure>(())
    });
    let text = failed.unwrap_err().to_string();
    assert!(
        text.contains("code_change of segment") && text.contains("on purpose"),
        "{text}"
    );
    // What needs no such conversion is served.
    let count = region.transact(|tx| {
        let state: new::State = tx.read(tx.root())?;
        Ok::<_, Failure>(state.count)
    });
    assert_eq!(count.unwrap(), model.count);
    loop {
        match region.sweep(Duration::ZERO).unwrap() {
            Swept::More => {}
            Swept::Stuck => break,
            Swept::Done => panic!("it cannot end"),
        }
    }
    let failure = region.sweep_status().unwrap().failure.unwrap();
    assert_eq!(failure.1, "on purpose");
    // Back, in the midst of it.
    region.begin_conversion(down()).unwrap();
    region.enter_conversion().unwrap();
    assert!(look::<old::State, _>(&mut region).unwrap() == model);
    sweep_out(&mut region);
    assert!(look::<old::State, _>(&mut region).unwrap() == model);
    // And there again, once it works.
    broken.store(false, Ordering::Relaxed);
    region.begin_conversion(up()).unwrap();
    region.enter_conversion().unwrap();
    sweep_out(&mut region);
    assert!(look::<new::State, _>(&mut region).unwrap() == model);
}

#[test]
fn another_conversion_waits_for_the_end_of_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let (mut region, _) = filled(&dir.path().join("r"), Durability::Process, 500);
    region.begin_conversion(up()).unwrap();
    assert!(matches!(
        region.begin_conversion(down()),
        Err(StepwiseError::Begin)
    ));
    region.enter_conversion().unwrap();
    assert!(matches!(
        region.begin_conversion(up()),
        Err(StepwiseError::Begin)
    ));
    // An eager one cannot begin with it either.
    let source = region.source();
    let path = dir.path().join("2");
    let mut building = plan_down()
        .prepare(&source, &path, &options(Durability::Process), &old::SCHEMA)
        .unwrap();
    let refused = building.fill(&source, "{}", 7, &|index, row| convert_down(0, index, row));
    assert!(
        refused
            .unwrap_err()
            .to_string()
            .contains("segment by segment")
    );
}

/// What happens to a region between two looks.
#[derive(Clone, Debug)]
enum Event {
    Ops(Vec<Op>),
    Sweep(u8),
    /// The process dies, and the region is opened again.
    Die,
    Close,
    /// To the other version, entered or taken back.
    Turn(bool),
}

fn op() -> impl Strategy<Value = Op> {
    let n = 0u32..4000;
    prop_oneof![
        4 => n.clone().prop_map(Op::Insert),
        2 => n.clone().prop_map(Op::Remove),
        2 => n.clone().prop_map(Op::Blob),
        1 => n.clone().prop_map(Op::Unblob),
        2 => n.clone().prop_map(Op::Order),
        2 => n.clone().prop_map(Op::Unorder),
        2 => n.prop_map(Op::Push),
        1 => Just(Op::Pop),
        1 => Just(Op::Count),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::collection::vec(op(), 1..20).prop_map(Event::Ops),
        4 => (1u8..12).prop_map(Event::Sweep),
        2 => Just(Event::Die),
        1 => Just(Event::Close),
        3 => prop::bool::weighted(0.8).prop_map(Event::Turn),
    ]
}

fn opened(path: &Path, durability: Durability, is_new: bool) -> Region {
    let mut region = Region::open(path, &options(durability), None).unwrap();
    if region.is_swept() {
        let way = if is_new { up() } else { down() };
        region.resume_conversion(way).unwrap();
    }
    region
}

fn play(durability: Durability, count: u32, events: &[Event]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let (mut region, mut model) = filled(&path, durability, count);
    let mut is_new = false;
    for event in events {
        match event {
            Event::Ops(ops) => {
                for op in ops {
                    match is_new {
                        true => act::<new::State>(&mut region, &mut model, *op),
                        false => act::<old::State>(&mut region, &mut model, *op),
                    }
                }
            }
            Event::Sweep(steps) => {
                for _ in 0..*steps {
                    region.sweep(Duration::ZERO).unwrap();
                }
            }
            Event::Die => {
                region.make_durable().unwrap();
                drop(region);
                region = opened(&path, durability, is_new);
            }
            Event::Close => {
                region.close().unwrap();
                region = opened(&path, durability, is_new);
            }
            Event::Turn(enter) => {
                let way = if is_new { down() } else { up() };
                region.begin_conversion(way).unwrap();
                if *enter {
                    region.enter_conversion().unwrap();
                    is_new = !is_new;
                } else {
                    let seen = match is_new {
                        true => look::<old::State, _>(&mut region).unwrap(),
                        false => look::<new::State, _>(&mut region).unwrap(),
                    };
                    assert!(seen == model);
                    region.cancel_conversion();
                }
            }
        }
        let seen = match is_new {
            true => look::<new::State, _>(&mut region).unwrap(),
            false => look::<old::State, _>(&mut region).unwrap(),
        };
        assert!(seen == model, "after {event:?}");
    }
    sweep_out(&mut region);
    region.close().unwrap();
    let report = crate::inspect::check_file(&path, crate::inspect::Level::L3).unwrap();
    // A map that the new version has not may be left behind on the way back.
    assert_eq!(report.errors, 0, "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Random operations, sweeps, deaths and turns, against a model.
    #[test]
    fn a_swept_region_is_as_the_model_says(
        power in prop::bool::weighted(0.3),
        count in 0u32..800,
        events in prop::collection::vec(event(), 1..25),
    ) {
        let durability = if power { Durability::Power } else { Durability::Process };
        play(durability, count, &events);
    }
}
