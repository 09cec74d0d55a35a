//! A state of two versions, the conversions between them, and operations that run on both: for
//! regions that are converted segment by segment while they are used.

use std::collections::BTreeMap;

use crate::failure::Failure;
use crate::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseLink};
use crate::region::{Media, Region};
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

fn read<T: Pmem>(bytes: &[u8]) -> T {
    crate::from_bytes(&bytes[..size_of::<T>()]).expect("a row holds valid objects")
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
pub(crate) const NOW: u64 = 99;

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
    let decode = |bytes| SchemaDesc::decode(bytes).expect("an encoded schema");
    MigrationPlan::new(&decode(from), &decode(to), &conversions).expect("a plan")
}

type Fp = crate::schema::Fingerprint;

pub(crate) fn plan_up() -> MigrationPlan {
    let pairs = [
        (&old::Item::FINGERPRINT, &new::Item::FINGERPRINT),
        (&old::State::FINGERPRINT, &new::State::FINGERPRINT),
    ];
    plan(&old::SCHEMA, &new::SCHEMA, pairs)
}

pub(crate) fn plan_down() -> MigrationPlan {
    let pairs = [
        (&new::Item::FINGERPRINT, &old::Item::FINGERPRINT),
        (&new::State::FINGERPRINT, &old::State::FINGERPRINT),
    ];
    plan(&new::SCHEMA, &old::SCHEMA, pairs)
}

pub(crate) fn convert_up(_: usize, index: usize, row: Row<'_>) -> Result<(), String> {
    let now_ms = row.now_ms;
    match index {
        0 => each(row, item_up),
        _ => each(row, |old| state_up(old, now_ms)),
    }
    Ok(())
}

pub(crate) fn convert_down(_: usize, index: usize, row: Row<'_>) -> Result<(), String> {
    match index {
        0 => each(row, item_down),
        _ => each(row, state_down),
    }
    Ok(())
}

pub(crate) fn link(plan: MigrationPlan) -> StepwiseLink {
    let extra = "{}".into();
    StepwiseLink { plan, extra }
}

pub(crate) fn up() -> Stepwise {
    let links = vec![link(plan_up())];
    Stepwise::new(&old::SCHEMA, &new::SCHEMA, links, NOW, Box::new(convert_up))
        .expect("all have conversions")
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
    .expect("all have conversions")
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
    assert_eq!(item.more, [u64::from(item.a); 40]);
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
    pub(crate) count: u64,
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

pub(crate) fn change<S: Version>(tx: &mut Tx<'_>, op: Op) -> Result<(), TxError> {
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
    region.set_root(root.expect("there is room").to_ref());
    region.commit().expect("there is room");
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

/// What a region holds.
pub(crate) fn look<S: Version, M: Media>(region: &mut Region<M>) -> Result<Model, Failure> {
    region.transact(|tx| Ok::<_, Failure>(seen::<S>(tx)?))
}
