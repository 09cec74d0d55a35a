//! Two versions of a state, each with collections that the other has not, the conversions between them, and what is
//! done to either.

use std::collections::{BTreeMap, BTreeSet};

use crate::failure::Failure;
use crate::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseLink};
use crate::schema::{SchemaDesc, encode, encoded_len};
use crate::{Bytes, Map, OrderedMap, P, Pmem, Tx, TxError, Vector};

/// What it leads to depends on its tag.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(u64)]
pub(super) enum Choice {
    Numbers([u64; 3]),
    List(Vector<u64>),
}

pub(super) mod old {
    use super::*;

    /// Many of them own something, in several segments: at any time some are converted and others not.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(crate) struct Holder {
        pub(crate) number: u64,
        pub(crate) more: [u64; 100],
        pub(crate) list: Vector<u64>,
        pub(crate) note: Bytes,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(crate) struct State {
        pub(crate) kept: Map<u32, u64>,
        pub(crate) choice: Choice,
        pub(crate) notes: Vector<Bytes>,
        pub(crate) holders: Map<u32, Holder>,
        /// Its nodes are of the same type as those of `kept`.
        pub(crate) same: Map<u32, u64>,
        pub(crate) alone: Map<u32, u32>,
        pub(crate) sorted: OrderedMap<u32, Bytes>,
        pub(crate) texts: Vector<Bytes>,
        pub(crate) text: Bytes,
        pub(crate) pair: P<[u64; 2]>,
    }
    pub(crate) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

pub(super) mod new {
    use super::*;

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(crate) struct Holder {
        pub(crate) more: [u64; 100],
        pub(crate) number: u64,
        pub(crate) marks: OrderedMap<u32, u32>,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(crate) struct State {
        pub(crate) added: Map<u32, Bytes>,
        pub(crate) holders: Map<u32, Holder>,
        pub(crate) kept: Map<u32, u64>,
        pub(crate) notes: Vector<Bytes>,
        pub(crate) choice: Choice,
    }
    pub(crate) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

fn state_up(old: old::State) -> new::State {
    new::State {
        added: Map::EMPTY,
        holders: old.holders.carry_over(),
        kept: old.kept,
        notes: old.notes,
        choice: old.choice,
    }
}

fn state_down(new: new::State) -> old::State {
    old::State {
        kept: new.kept,
        notes: new.notes,
        choice: new.choice,
        holders: new.holders.carry_over(),
        ..EMPTY
    }
}

fn holder_up(old: old::Holder) -> new::Holder {
    new::Holder {
        more: old.more,
        number: old.number,
        marks: OrderedMap::EMPTY,
    }
}

fn holder_down(new: new::Holder) -> old::Holder {
    old::Holder {
        number: new.number,
        more: new.more,
        list: Vector::EMPTY,
        note: Bytes::EMPTY,
    }
}

pub(super) const EMPTY: old::State = old::State {
    kept: Map::EMPTY,
    choice: Choice::Numbers([0; 3]),
    notes: Vector::EMPTY,
    holders: Map::EMPTY,
    same: Map::EMPTY,
    alone: Map::EMPTY,
    sorted: OrderedMap::EMPTY,
    texts: Vector::EMPTY,
    text: Bytes::EMPTY,
    pair: P::NULL,
};

fn each<A: Pmem, B: Pmem>(row: Row<'_>, convert: impl Fn(A) -> B) {
    for place in (0..row.count).filter(|place| row.live[place / 64] >> (place % 64) & 1 == 1) {
        let old = &row.old[place * row.old_stride..][..size_of::<A>()];
        let made = convert(crate::from_bytes(old).expect("a valid object"));
        let bytes = crate::as_bytes(&made);
        row.new[place * row.new_stride..][..bytes.len()].copy_from_slice(bytes);
    }
}

/// The two schemas, and how objects get from the one to the other.
pub(super) fn plan(is_up: bool) -> (&'static [u8], &'static [u8], MigrationPlan) {
    let holder = (old::Holder::FINGERPRINT, new::Holder::FINGERPRINT);
    let state = (old::State::FINGERPRINT, new::State::FINGERPRINT);
    let conversions = [holder, state].map(|(old, new)| match is_up {
        true => Conversion { from: old, to: new },
        false => Conversion { from: new, to: old },
    });
    let (from, to): (&[u8], &[u8]) = match is_up {
        true => (&old::SCHEMA, &new::SCHEMA),
        false => (&new::SCHEMA, &old::SCHEMA),
    };
    let decode = |bytes| SchemaDesc::decode(bytes).expect("an encoded schema");
    let (old, new) = (decode(from), decode(to));
    let plan = MigrationPlan::new(&old, &new, &conversions).expect("a plan");
    let plan = match is_up {
        true => plan,
        false => plan.back(&old, &new),
    };
    (from, to, plan)
}

/// Runs a conversion of the plan.
pub(super) fn convert(is_up: bool, index: usize, row: Row<'_>) -> Result<(), String> {
    match (is_up, index) {
        (true, 0) => each(row, holder_up),
        (true, _) => each(row, state_up),
        (false, 0) => each(row, holder_down),
        (false, _) => each(row, state_down),
    }
    Ok(())
}

pub(super) fn way(is_up: bool) -> Stepwise {
    let (from, to, plan) = plan(is_up);
    let extra = "{}".into();
    let links = vec![StepwiseLink { plan, extra }];
    let convert = move |_: usize, index: usize, row: Row<'_>| convert(is_up, index, row);
    Stepwise::new(from, to, links, 1, Box::new(convert)).expect("types tell")
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Op {
    Keep(u32),
    Unkeep(u32),
    Note(u32),
    Hold(u32),
    Unhold(u32),
    /// Something goes to, or from, what one version alone has: of the root, of a holder.
    Own(u32),
    Disown(u32),
    OwnHeld(u32),
}

/// What both versions have.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Model {
    pub(super) kept: BTreeMap<u32, u64>,
    pub(super) notes: Vec<Vec<u8>>,
    pub(super) holders: BTreeSet<u32>,
}

pub(super) fn note(n: u32) -> Vec<u8> {
    vec![n as u8; 10 + n as usize % 400]
}

fn own_old(tx: &mut Tx<'_>, state: &mut old::State, n: u32) -> Result<(), TxError> {
    let bytes = Bytes::new(tx, &note(n))?;
    match n % 6 {
        0 => drop(state.same.insert(tx, &n, &n.into())?),
        1 => drop(state.alone.insert(tx, &n, &n)?),
        2 => {
            if let Some(before) = state.sorted.insert(tx, &n, &bytes)? {
                before.free_owned(tx)?;
            }
            return Ok(());
        }
        3 => return state.texts.push(tx, &bytes),
        4 => {
            state.text.free_owned(tx)?;
            state.text = bytes;
            return Ok(());
        }
        _ if state.pair.is_null() => state.pair = tx.alloc(&[n.into(), 7])?,
        _ => {}
    }
    bytes.free_owned(tx)
}

fn disown_old(tx: &mut Tx<'_>, state: &mut old::State, n: u32) -> Result<(), TxError> {
    match n % 6 {
        0 => drop(state.same.remove(tx, &n)?),
        1 => drop(state.alone.remove(tx, &n)?),
        2 => {
            if let Some((_, bytes)) = state.sorted.pop_first(tx)? {
                bytes.free_owned(tx)?;
            }
        }
        3 => {
            if let Some(bytes) = state.texts.pop(tx)? {
                bytes.free_owned(tx)?;
            }
        }
        4 => {
            state.text.free_owned(tx)?;
            state.text = Bytes::EMPTY;
        }
        _ => {
            if !state.pair.is_null() {
                tx.free(std::mem::replace(&mut state.pair, P::NULL))?;
            }
        }
    }
    Ok(())
}

fn own_held_old(tx: &mut Tx<'_>, holder: &mut old::Holder, n: u32) -> Result<(), TxError> {
    holder.list.push(tx, &n.into())?;
    holder.note.free_owned(tx)?;
    holder.note = Bytes::new(tx, &note(n))?;
    Ok(())
}

fn own_new(tx: &mut Tx<'_>, state: &mut new::State, n: u32) -> Result<(), TxError> {
    let bytes = Bytes::new(tx, &note(n))?;
    if let Some(before) = state.added.insert(tx, &n, &bytes)? {
        before.free_owned(tx)?;
    }
    Ok(())
}

fn disown_new(tx: &mut Tx<'_>, state: &mut new::State, n: u32) -> Result<(), TxError> {
    if let Some(before) = state.added.remove(tx, &n)? {
        before.free_owned(tx)?;
    }
    Ok(())
}

fn own_held_new(tx: &mut Tx<'_>, holder: &mut new::Holder, n: u32) -> Result<(), TxError> {
    for n in n..n + 20 {
        holder.marks.insert(tx, &n, &n)?;
    }
    Ok(())
}

/// What the two versions do in the same way.
macro_rules! shared {
    ($name:ident, $module:ident, $made:expr, $own:ident, $disown:ident, $own_held:ident) => {
        pub(super) fn $name(tx: &mut Tx<'_>, op: Op) -> Result<(), TxError> {
            let root: P<$module::State> = tx.root();
            let mut state = tx.read(root)?;
            match op {
                Op::Keep(n) => drop(state.kept.insert(tx, &n, &(u64::from(n) * 3))?),
                Op::Unkeep(n) => drop(state.kept.remove(tx, &n)?),
                Op::Note(n) => {
                    let bytes = Bytes::new(tx, &note(n))?;
                    state.notes.push(tx, &bytes)?;
                }
                Op::Hold(n) => {
                    let made = $made(old::Holder {
                        number: n.into(),
                        more: [n.into(); 100],
                        list: Vector::EMPTY,
                        note: Bytes::EMPTY,
                    });
                    if let Some(before) = state.holders.insert(tx, &n, &made)? {
                        before.free_owned(tx)?;
                    }
                }
                Op::Unhold(n) => {
                    if let Some(before) = state.holders.remove(tx, &n)? {
                        before.free_owned(tx)?;
                    }
                }
                Op::Own(n) => $own(tx, &mut state, n)?,
                Op::Disown(n) => $disown(tx, &mut state, n)?,
                Op::OwnHeld(n) => {
                    if let Some(slot) = state.holders.find(tx, &n)? {
                        let mut holder = slot.value(tx)?;
                        $own_held(tx, &mut holder, n)?;
                        slot.set_value(tx, &holder)?;
                    }
                }
            }
            tx.write(root, &state)
        }
    };
}
shared!(
    change_old,
    old,
    |made| made,
    own_old,
    disown_old,
    own_held_old
);
shared!(
    change_new,
    new,
    holder_up,
    own_new,
    disown_new,
    own_held_new
);

macro_rules! seen {
    ($name:ident, $module:ident) => {
        pub(super) fn $name(tx: &mut Tx<'_>) -> Result<Model, Failure> {
            let state: $module::State = tx.read(tx.root())?;
            let mut model = Model::default();
            let mut cursor = 0;
            loop {
                cursor = state.kept.scan(tx, cursor, 50, |tx, slot| {
                    model.kept.insert(slot.key(tx)?, slot.value(tx)?);
                    Ok::<_, TxError>(())
                })?;
                if cursor == 0 {
                    break;
                }
            }
            loop {
                cursor = state.holders.scan(tx, cursor, 50, |tx, slot| {
                    let (key, value) = (slot.key(tx)?, slot.value(tx)?);
                    assert_eq!((value.number, value.more), (key.into(), [key.into(); 100]));
                    model.holders.insert(key);
                    Ok::<_, TxError>(())
                })?;
                if cursor == 0 {
                    break;
                }
            }
            for n in 0..state.notes.len() {
                let bytes = state.notes.get(tx, n)?.ok_or(TxError::BadRef)?;
                model.notes.push(bytes.get(tx)?.to_vec());
            }
            Ok(model)
        }
    };
}
seen!(seen_old, old);
seen!(seen_new, new);
