//! What regions hold while they crash: how it is changed, what it should be, and what it is.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::sim::Sim;
use crate::collections::Direction;
use crate::failure::Failure;
use crate::region::{Media, Region};
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
