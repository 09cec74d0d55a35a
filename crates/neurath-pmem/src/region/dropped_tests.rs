//! Collections that a version drops, and its way back brings again, while the region is used: whatever is turned
//! round when, and whoever dies, nothing is left in the end that nothing refers to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use proptest::prelude::*;

use super::{Durability, Region, RegionOptions, Swept};
use crate::failure::Failure;
use crate::inspect::{Level, Report, check_file};
use crate::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseLink};
use crate::schema::{SchemaDesc, encode, encoded_len};
use crate::{Bytes, Handle, Map, OrderedMap, P, Pmem, Tx, TxError, Vector};

mod old {
    use super::*;

    /// Many of them own something, in several segments: at any time some are converted and others not.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct Holder {
        pub(super) number: u64,
        pub(super) more: [u64; 100],
        pub(super) list: Vector<u64>,
        pub(super) note: Bytes,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct State {
        pub(super) kept: Map<u32, u64>,
        pub(super) notes: Vector<Bytes>,
        pub(super) holders: Map<u32, Holder>,
        /// Its nodes are of the same type as those of `kept`.
        pub(super) same: Map<u32, u64>,
        pub(super) alone: Map<u32, u32>,
        pub(super) sorted: OrderedMap<u32, Bytes>,
        pub(super) texts: Vector<Bytes>,
        pub(super) text: Bytes,
        pub(super) pair: P<[u64; 2]>,
    }
    pub(super) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

mod new {
    use super::*;

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct Holder {
        pub(super) more: [u64; 100],
        pub(super) number: u64,
        pub(super) marks: OrderedMap<u32, u32>,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct State {
        pub(super) added: Map<u32, Bytes>,
        pub(super) holders: Map<u32, Holder>,
        pub(super) kept: Map<u32, u64>,
        pub(super) notes: Vector<Bytes>,
    }
    pub(super) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

fn state_up(old: old::State) -> new::State {
    new::State {
        added: Map::EMPTY,
        holders: old.holders.carry_over(),
        kept: old.kept,
        notes: old.notes,
    }
}

fn state_down(new: new::State) -> old::State {
    old::State {
        kept: new.kept,
        notes: new.notes,
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

const EMPTY: old::State = old::State {
    kept: Map::EMPTY,
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

fn way(is_up: bool) -> Stepwise {
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
    let plan = MigrationPlan::new(&decode(from), &decode(to), &conversions).expect("a plan");
    let convert = move |_: usize, index: usize, row: Row<'_>| {
        match (is_up, index) {
            (true, 0) => each(row, holder_up),
            (true, _) => each(row, state_up),
            (false, 0) => each(row, holder_down),
            (false, _) => each(row, state_down),
        }
        Ok(())
    };
    let extra = "{}".into();
    let links = vec![StepwiseLink { plan, extra }];
    Stepwise::new(from, to, links, 1, Box::new(convert)).expect("types tell")
}

#[derive(Clone, Copy, Debug)]
enum Op {
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
struct Model {
    kept: BTreeMap<u32, u64>,
    notes: Vec<Vec<u8>>,
    holders: BTreeSet<u32>,
}

fn note(n: u32) -> Vec<u8> {
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
        fn $name(tx: &mut Tx<'_>, op: Op) -> Result<(), TxError> {
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
        fn $name(tx: &mut Tx<'_>) -> Result<Model, Failure> {
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

struct Play {
    _dir: tempfile::TempDir,
    path: PathBuf,
    options: RegionOptions,
    region: Option<Region>,
    is_new: bool,
    model: Model,
}

impl Play {
    fn new(durability: Durability) -> Play {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("r");
        let options = RegionOptions {
            durability,
            ..RegionOptions::new("test", 0, 64 << 20)
        };
        let mut region = Region::create(&path, &options, &old::SCHEMA).expect("made");
        region.attach(&Handle::new());
        let root = region.transact(|tx| Ok::<_, Failure>(tx.alloc(&EMPTY)?));
        region.set_root(root.expect("a root").to_ref());
        region.commit().expect("committed");
        Play {
            _dir: dir,
            path,
            options,
            region: Some(region),
            is_new: false,
            model: Model::default(),
        }
    }

    /// With so many entries in each collection, and in some of the holders.
    fn filled(durability: Durability, count: u32) -> Play {
        let mut play = Play::new(durability);
        for n in 0..count {
            for op in [Op::Keep(n), Op::Note(n), Op::Hold(n), Op::OwnHeld(n)] {
                play.act(op);
            }
        }
        (0..count * 6).for_each(|n| play.act(Op::Own(n)));
        play
    }

    fn region(&mut self) -> &mut Region {
        self.region.as_mut().expect("open")
    }

    fn act(&mut self, op: Op) {
        let is_new = self.is_new;
        let done = self.region().transact(|tx| {
            match is_new {
                true => change_new(tx, op)?,
                false => change_old(tx, op)?,
            }
            Ok::<_, Failure>(())
        });
        done.unwrap_or_else(|error| panic!("{op:?}: {error}"));
        match op {
            Op::Keep(n) => drop(self.model.kept.insert(n, u64::from(n) * 3)),
            Op::Unkeep(n) => drop(self.model.kept.remove(&n)),
            Op::Note(n) => self.model.notes.push(note(n)),
            Op::Hold(n) => drop(self.model.holders.insert(n)),
            Op::Unhold(n) => drop(self.model.holders.remove(&n)),
            Op::Own(_) | Op::Disown(_) | Op::OwnHeld(_) => {}
        }
    }

    fn look(&mut self) {
        let is_new = self.is_new;
        let seen = self.region().transact(|tx| match is_new {
            true => seen_new(tx),
            false => seen_old(tx),
        });
        assert_eq!(seen.expect("readable"), self.model);
    }

    fn turn(&mut self) {
        self.is_new = !self.is_new;
        let way = way(self.is_new);
        self.region().begin_conversion(way).expect("it can begin");
        self.region().enter_conversion().expect("entered");
    }

    fn die(&mut self) {
        self.region().make_durable().expect("durable");
        self.region = None;
        self.open();
    }

    fn open(&mut self) {
        let mut region = Region::open(&self.path, &self.options, None).expect("opens");
        region.attach(&Handle::new());
        if region.is_swept() {
            let way = way(self.is_new);
            region.resume_conversion(way).expect("the same way");
        }
        self.region = Some(region);
    }

    /// Whether what was left behind is looked for.
    fn searches(&mut self) -> bool {
        self.region().is_collecting()
    }

    /// So many steps, or until it is done; whether it is.
    fn sweep(&mut self, steps: u32) -> bool {
        let mut left = steps;
        while left > 0 {
            match self.region().sweep(Duration::ZERO).expect("sweeps") {
                Swept::Done => return true,
                Swept::Waits => std::thread::yield_now(),
                Swept::More => left -= 1,
                Swept::Stuck => panic!("nothing fails"),
            }
        }
        false
    }

    /// Ends the sweep and looks for what was left.
    fn end(mut self) -> Report {
        assert!(self.sweep(100_000), "it ends");
        self.look();
        let live = self.region().stats();
        self.region.take().expect("open").close().expect("closed");
        let report = check(&self.path);
        self.open();
        assert_eq!(self.region().stats().live_objects, live.live_objects);
        assert_eq!(self.region().stats().live_bytes, live.live_bytes);
        report
    }
}

fn check(path: &Path) -> Report {
    check_file(path, Level::L3).expect("a region")
}

/// Each number of steps is another place of the way there to be turned round at.
#[test]
fn a_way_back_leaves_nothing_behind_wherever_it_is_begun() {
    for steps in (0..60).step_by(5) {
        let mut play = Play::filled(Durability::Process, 60);
        play.turn();
        play.sweep(steps);
        (0..9).for_each(|n| play.act(Op::Own(n)));
        play.turn();
        let report = play.end();
        assert!(report.is_clean(), "after {steps} steps: {report:#?}");
    }
}

#[test]
fn a_conversion_leaves_nothing_of_what_it_drops() {
    let mut play = Play::filled(Durability::Process, 60);
    play.turn();
    let report = play.end();
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn what_is_used_stays_while_what_was_left_behind_is_looked_for() {
    for there in [0, 12, 40] {
        let mut play = Play::filled(Durability::Process, 60);
        play.turn();
        play.sweep(there);
        play.turn();
        for n in 0..2000u32 {
            for op in [
                Op::Own(n * 7 % 360),
                Op::Disown(n * 5 % 360),
                Op::Unhold(n * 3 % 60),
                Op::Hold(n * 11 % 60),
                Op::OwnHeld(n % 60),
                Op::Keep(1000 + n % 50),
            ] {
                play.act(op);
            }
            if play.sweep(1) {
                break;
            }
        }
        let report = play.end();
        assert!(report.is_clean(), "{report:#?}");
    }
}

/// Objects that were there when the search began lead to others, after they have been freed and their places, or
/// their segments, have something else.
#[test]
fn what_was_freed_meanwhile_is_seen_as_it_was() {
    for is_emptied in [false, true] {
        let mut play = Play::filled(Durability::Process, 30);
        (0..4000).for_each(|n| play.act(Op::Keep(n)));
        play.turn();
        while !play.searches() {
            assert!(!play.sweep(1), "there is something to look for");
        }
        for n in (0..4000).filter(|n| is_emptied || n % 2 == 0) {
            play.act(Op::Unkeep(n));
        }
        match is_emptied {
            true => (100..2500).for_each(|n| play.act(Op::Hold(n))),
            false => (5000..7000).for_each(|n| play.act(Op::Keep(n))),
        }
        assert!(play.searches());
        let report = play.end();
        assert!(report.is_clean(), "{is_emptied}: {report:#?}");
    }
}

#[derive(Clone, Debug)]
enum Event {
    Ops(Vec<Op>),
    Sweep(u32),
    Die,
    Close,
    Turn,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (0u32..300).prop_map(Op::Keep),
        1 => (0u32..300).prop_map(Op::Unkeep),
        1 => (0u32..300).prop_map(Op::Note),
        3 => (0u32..60).prop_map(Op::Hold),
        1 => (0u32..60).prop_map(Op::Unhold),
        6 => (0u32..300).prop_map(Op::Own),
        3 => (0u32..300).prop_map(Op::Disown),
        3 => (0u32..60).prop_map(Op::OwnHeld),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => prop::collection::vec(op(), 1..30).prop_map(Event::Ops),
        5 => (1u32..40).prop_map(Event::Sweep),
        2 => Just(Event::Die),
        1 => Just(Event::Close),
        3 => Just(Event::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Turns at any time, also several in one sweep.
    #[test]
    fn whatever_is_turned_when_nothing_leaks(
        power in prop::bool::weighted(0.3),
        count in 0u32..40,
        events in prop::collection::vec(event(), 1..30),
    ) {
        let durability = if power { Durability::Power } else { Durability::Process };
        let mut play = Play::filled(durability, count);
        for event in &events {
            match event {
                Event::Ops(ops) => ops.iter().for_each(|op| play.act(*op)),
                Event::Sweep(steps) => drop(play.sweep(*steps)),
                Event::Die => play.die(),
                Event::Close => {
                    play.region.take().expect("open").close().expect("closed");
                    play.open();
                }
                // In the midst of one, only back; and so it is always.
                Event::Turn => play.turn(),
            }
            play.look();
        }
        let report = play.end();
        prop_assert!(report.is_clean(), "{report:#?}");
    }
}
