//! Collections that a version drops, and its way back brings again, while the region is used: whatever is turned
//! round when, and whoever dies, nothing is left in the end that nothing refers to.

mod versions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use neurath_abi::Ref;
use proptest::prelude::*;

use super::{Durability, Region, RegionOptions, Swept};
use crate::failure::Failure;
use crate::inspect::{Level, Report, check_file};
use crate::migrate::{MigrationPlan, Row};
use crate::schema::SchemaDesc;
use crate::{Handle, Pmem, Vector};
use versions::{
    Choice, EMPTY, Model, Op, change_new, change_old, convert, note, old, plan, seen_new, seen_old,
    way,
};

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

    /// Converts all at once, into a file of its own.
    fn rebuild(&mut self) {
        self.is_new = !self.is_new;
        let is_new = self.is_new;
        let source = self.region().source();
        let (_, schema, plan) = plan(is_new);
        let path = self.path.with_extension(format!("{}", u8::from(is_new)));
        drop(std::fs::remove_file(&path));
        let building = plan.prepare(&source, &path, &self.options, schema);
        let mut building = building.expect("prepared");
        let convert = |index: usize, row: Row<'_>| convert(is_new, index, row);
        building.fill(&source, "{}", 1, &convert).expect("filled");
        let mut region = building.finish().expect("finished");
        region.attach(&Handle::new());
        self.region = Some(region);
        self.path = path;
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
fn a_new_generation_keeps_nothing_of_what_its_conversion_drops() {
    let mut play = Play::filled(Durability::Process, 60);
    play.rebuild();
    let report = play.end();
    assert!(report.is_clean(), "{report:#?}");
}

/// The file does not tell that there is something to look for: the way back looks for it anyway.
#[test]
fn a_way_back_finds_what_was_left_by_one_that_died() {
    for steps in [0, 3] {
        let mut play = Play::filled(Durability::Process, 60);
        play.rebuild();
        assert!(!play.sweep(steps), "there is something to look for");
        play.die();
        assert!(!play.region().may_have_left());
        (0..20).for_each(|n| play.act(Op::Own(n)));
        play.rebuild();
        let report = play.end();
        assert!(report.is_clean(), "{steps}: {report:#?}");
    }
}

/// The next conversion does not wait: what the one before has left is looked for after it.
#[test]
fn what_a_conversion_left_is_found_after_the_next_one() {
    for (steps, stepwise) in [(0, false), (3, false), (0, true), (3, true)] {
        let mut play = Play::filled(Durability::Process, 60);
        play.rebuild();
        assert!(!play.sweep(steps), "there is something to look for");
        (0..60).for_each(|n| play.act(Op::Own(n)));
        match stepwise {
            true => play.turn(),
            false => play.rebuild(),
        }
        let report = play.end();
        assert!(report.is_clean(), "{steps} {stepwise}: {report:#?}");
    }
}

/// It is taken back before the header says anything of it: the search begins again.
#[test]
fn a_conversion_that_is_taken_back_does_not_end_the_search() {
    let mut play = Play::filled(Durability::Process, 60);
    play.rebuild();
    assert!(!play.sweep(3), "there is something to look for");
    play.region().begin_conversion(way(false)).expect("begun");
    play.region().cancel_conversion();
    (0..20).for_each(|n| play.act(Op::Keep(n + 500)));
    let report = play.end();
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn nothing_is_looked_for_where_a_conversion_drops_nothing() {
    let mut play = Play::filled(Durability::Process, 60);
    play.rebuild();
    assert!(play.region().may_have_left());
    assert!(play.sweep(100_000), "it ends");
    assert!(!play.region().may_have_left());
    // What is there alone in the newer version: none of it.
    let source = play.region().source();
    let (schema, path) = (play.region().schema(), play.path.with_extension("same"));
    let described = SchemaDesc::decode(&schema).expect("a schema");
    let same = MigrationPlan::new(&described, &described, &[]).expect("a plan");
    let building = same.prepare(&source, &path, &play.options, &schema);
    let mut building = building.expect("prepared");
    building
        .fill(&source, "{}", 1, &|_, _| Ok(()))
        .expect("filled");
    let region = building.finish().expect("finished");
    assert!(!region.may_have_left());
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

/// The sweep ends under any load, and what could not be found is told.
#[test]
fn what_was_left_stays_if_too_much_changes_while_it_is_looked_for() {
    let mut play = Play::filled(Durability::Process, 700);
    play.turn();
    while !play.searches() {
        assert!(!play.sweep(1), "there is something to look for");
    }
    // Each new one stands where another one stood.
    for n in 0..700 {
        play.act(Op::Unhold(n));
        play.act(Op::Hold(n));
    }
    assert!(play.sweep(1), "it has given up");
    let report = play.end();
    assert!(report.is_sound() && !report.leaks.is_empty(), "{report:#?}");
}

#[test]
fn of_a_damaged_state_nothing_is_freed() {
    let mut play = Play::filled(Durability::Process, 60);
    play.turn();
    while !play.searches() {
        assert!(!play.sweep(1), "there is something to look for");
    }
    play.turn();
    // No map has so many levels.
    let depth_at = std::mem::offset_of!(old::State, kept) as u64 + 24;
    let done = play.region().transact(|tx| {
        let root = tx.root::<old::State>().to_ref();
        tx.write_at(root, old::State::TYPE_ID, depth_at, &99u64)?;
        Ok::<_, Failure>(())
    });
    done.expect("written");
    while !play.searches() {
        assert!(!play.sweep(1), "there is something to look for");
    }
    let before = play.region().stats().live_objects;
    assert!(play.sweep(100_000), "it ends");
    assert_eq!(play.region().stats().live_objects, before);
}

/// What does not lead to the root's objects says nothing of them.
#[test]
fn nothing_is_freed_if_the_root_is_not_found() {
    let mut play = Play::filled(Durability::Process, 60);
    let root = play
        .region()
        .transact(|tx| Ok::<_, Failure>(tx.root::<old::State>().to_ref()));
    let root = root.expect("a root");
    play.turn();
    play.region()
        .set_root(Ref::new(root.segment() as u32, root.index() + 1));
    play.region().commit().expect("committed");
    assert!(play.sweep(100_000), "it ends");
    play.region().set_root(root);
    play.region().commit().expect("committed");
    let report = play.end();
    assert!(report.is_sound(), "{report:#?}");
}

/// Where a value's tag is of no variant, what it leads to cannot be told.
#[test]
fn nothing_is_freed_if_a_tag_is_unknown() {
    let mut play = Play::filled(Durability::Process, 60);
    let made = play.region().transact(|tx| {
        let mut list = Vector::EMPTY;
        for n in 0..500u64 {
            list.push(tx, &n)?;
        }
        tx.update(tx.root(), |state: &mut old::State| {
            state.choice = Choice::List(list);
        })?;
        Ok::<_, Failure>(())
    });
    made.expect("made");
    play.turn();
    while !play.searches() {
        assert!(!play.sweep(1), "there is something to look for");
    }
    play.turn();
    let tag_at = std::mem::offset_of!(old::State, choice) as u64;
    let write_tag = |play: &mut Play, tag: u64| {
        let done = play.region().transact(|tx| {
            let root = tx.root::<old::State>().to_ref();
            tx.write_at(root, old::State::TYPE_ID, tag_at, &tag)?;
            Ok::<_, Failure>(())
        });
        done.expect("written");
    };
    write_tag(&mut play, 77);
    assert!(play.sweep(100_000), "it ends");
    write_tag(&mut play, 1);
    let report = play.end();
    assert!(report.is_sound(), "{report:#?}");
}

/// Blocks lead to nothing, so what they held is not kept.
#[test]
fn blocks_that_change_while_it_is_searched_do_not_end_it() {
    let mut play = Play::filled(Durability::Process, 60);
    let write = |play: &mut Play| {
        let done = play.region().transact(|tx| {
            let mut state: old::State = tx.read(tx.root())?;
            for n in 0..8 {
                let bytes = crate::Bytes::new(tx, &[7; 100_000])?;
                if state.notes.len() <= n {
                    state.notes.push(tx, &bytes)?;
                } else if let Some(before) = state.notes.set(tx, n, &bytes)? {
                    before.free_owned(tx)?;
                }
            }
            tx.write(tx.root(), &state)?;
            Ok::<_, Failure>(())
        });
        done.expect("written");
    };
    play.turn();
    play.turn();
    write(&mut play);
    while !play.searches() {
        assert!(!play.sweep(1), "there is something to look for");
    }
    for _ in 0..4 {
        write(&mut play);
    }
    assert!(play.searches());
    assert!(!play.sweep(1), "it goes on");
}

#[derive(Clone, Debug)]
enum Event {
    Ops(Vec<Op>),
    Sweep(u32),
    Die,
    Close,
    Turn,
    Rebuild,
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
        2 => Just(Event::Rebuild),
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
                // Whoever dies in a search after a conversion that made a file does not know of it any more.
                Event::Die | Event::Close if play.region().may_have_left() => {
                    prop_assert!(play.sweep(100_000));
                }
                Event::Die => play.die(),
                Event::Close => {
                    play.region.take().expect("open").close().expect("closed");
                    play.open();
                }
                // In the midst of one, only back; and so it is always.
                Event::Turn => play.turn(),
                Event::Rebuild if play.region().is_swept() => {}
                Event::Rebuild => play.rebuild(),
            }
            play.look();
        }
        let report = play.end();
        prop_assert!(report.is_clean(), "{report:#?}");
    }
}
