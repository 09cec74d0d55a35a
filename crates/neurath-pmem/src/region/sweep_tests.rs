//! Regions that are converted segment by segment while they are used.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;

use super::format::{HEADER_COPY_AT, HEADER_LEN, SCHEMA_AT, SEGMENT_LEN};
use super::media::Asked;
use super::space::FAULTED;
use super::{Durability, Region, RegionOptions, Swept};
use crate::campaign::two_versions::{
    Model, NOW, Op, Version, change, convert_down, convert_up, down, empty_state, link, look, new,
    old, plan_down, plan_up, transact, up,
};
use crate::failure::Failure;
use crate::inspect::{CheckOptions, Code, check};
use crate::migrate::{Row, Stepwise, StepwiseError};
use crate::{Handle, Pmem, Tx};

const LIMIT: u64 = 64 << 20;

fn options(durability: Durability) -> RegionOptions {
    RegionOptions {
        durability,
        ..RegionOptions::new("test", 0, LIMIT)
    }
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

fn act<S: Version>(region: &mut Region, model: &mut Model, op: Op) {
    transact::<S, _>(region, model, op).unwrap_or_else(|error| panic!("{op:?}: {error}"));
}

/// One step of the sweep; the room for it may still be in the making.
fn sweep_once(region: &mut Region) -> Swept {
    loop {
        match region.sweep(Duration::ZERO).unwrap() {
            Swept::Waits => std::thread::yield_now(),
            swept => return swept,
        }
    }
}

fn sweep_out(region: &mut Region) {
    let mut steps = 0;
    while sweep_once(region) != Swept::Done {
        steps += 1;
        assert!(steps < 10_000, "{:?}", region.sweep_status());
    }
}

/// What one step may cost whoever waits for the event loop meanwhile: one segment is converted, its room is
/// there already, and no more pages are faulted in than it needs, however large the region is.
#[test]
fn a_step_of_a_sweep_does_no_more_in_a_larger_region() {
    for count in [2_000, 20_000] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r");
        let (mut region, model) = filled(&path, Durability::Process, count);
        region.begin_conversion(up()).unwrap();
        region.enter_conversion().unwrap();
        let (mut steps, mut grown) = (0, 0);
        loop {
            let (before, file) = (region.sweep_status().unwrap(), region.stats().file_bytes);
            let work = Asked::done(|| {
                if sweep_once(&mut region) == Swept::Done {
                    assert!(!region.is_swept());
                }
            });
            grown += region.stats().file_bytes - file;
            // No more than a place that was given back before.
            assert!(work.reserved <= SEGMENT_LEN * 3 / 2, "{work:?}");
            assert!(work.faulted <= 2 * SEGMENT_LEN + FAULTED, "{work:?}");
            let Some(after) = region.sweep_status() else {
                break;
            };
            assert!(after.converted <= before.converted + 1, "{after:?}");
            steps += 1;
        }
        assert!(steps > count as usize / 1_000, "{steps} steps");
        assert!(grown > 0, "it was to grow");
        assert!(look::<new::State, _>(&mut region).unwrap() == model);
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
            assert_eq!(sweep_once(&mut region), Swept::More);
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
        let before = region.stats().file_bytes;
        region.begin_conversion(down()).unwrap();
        region.enter_conversion().unwrap();
        sweep_once(&mut region);
        region.close().unwrap();
        let mut region =
            Region::open(&path, &options(durability), Some(old::State::FINGERPRINT)).unwrap();
        region.resume_conversion(down()).unwrap();
        act::<old::State>(&mut region, &mut model, Op::Insert(4));
        sweep_out(&mut region);
        assert!(look::<old::State, _>(&mut region).unwrap() == model);
        // What shrinks finds its place in what was freed.
        let after = region.stats().file_bytes;
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
        match sweep_once(&mut region) {
            Swept::More => {}
            Swept::Waits => unreachable!("waited for"),
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
fn what_a_crash_leaves_of_a_turn_is_no_damage_and_goes_at_the_next_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("r");
    let (mut region, model) = filled(&path, Durability::Process, 40);
    let plain = std::fs::read(&path).unwrap();
    region.begin_conversion(up()).unwrap();
    let begun = std::fs::read(&path).unwrap();
    region.enter_conversion().unwrap();
    let entered = std::fs::read(&path).unwrap();
    drop(region);

    // Half a record that no header names.
    let first = (SCHEMA_AT as usize..).find(|&at| begun[at] != plain[at]);
    let mut half = begun.clone();
    half[first.unwrap()..][..40].fill(0);
    // The header is of the new version, and its copy of the old one.
    let mut between = entered.clone();
    let copy = HEADER_COPY_AT as usize..(HEADER_COPY_AT + HEADER_LEN) as usize;
    between[copy.clone()].copy_from_slice(&plain[copy]);
    for (bytes, code, is_new) in [
        (half, Code::Swept, false),
        (between, Code::HeadersDiffer, true),
    ] {
        let report = check(bytes.clone(), CheckOptions::here());
        assert!(report.is_sound(), "{report:#?}");
        assert!(report.findings.iter().any(|found| found.code == code));
        std::fs::write(&path, &bytes).unwrap();
        let mut region = opened(&path, Durability::Process, is_new);
        let held = match is_new {
            true => look::<new::State, _>(&mut region),
            false => look::<old::State, _>(&mut region),
        };
        assert_eq!(held.unwrap(), model);
        sweep_out(&mut region);
        region.close().unwrap();
        let report = check(std::fs::read(&path).unwrap(), CheckOptions::here());
        assert!(
            report.is_clean() && report.findings.is_empty(),
            "{report:#?}"
        );
    }
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
    assert!(report.is_clean(), "{report:?}");
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
