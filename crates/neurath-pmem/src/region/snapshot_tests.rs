//! Copies of a region that goes on being used.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Region, RegionOptions, SnapshotError, Swept};
use crate::failure::Failure;
use crate::inspect::{self, CheckOptions, Done, InspectError, Level};
use crate::schema::{encode, encoded_len};
use crate::{Bytes, Map, Pmem, Tx};

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    values: Map<u32, Bytes>,
    count: u64,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
const LIMIT: u64 = 256 << 20;

fn new(path: &Path) -> Region {
    let options = RegionOptions::new("test", 2, LIMIT);
    let mut region = Region::create(path, &options, &SCHEMA).unwrap();
    let state = State {
        values: Map::EMPTY,
        count: 0,
    };
    region.attach(&crate::Handle::new());
    let root = region.transact(|tx| Ok::<_, Failure>(tx.alloc(&state)?));
    region.set_root(root.unwrap().to_ref());
    region.commit().unwrap();
    region
}

/// The `n`-th transaction: what is set, and what is removed.
fn nth(n: u64) -> ((u32, Vec<u8>), u32) {
    let random = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33;
    let len = if n.is_multiple_of(50) {
        40_000
    } else {
        random % 3000
    };
    let value = vec![n as u8; len as usize];
    (
        ((random % 4000) as u32, value),
        (random / 4000 % 4000) as u32,
    )
}

/// What there is after so many transactions.
fn model(count: u64) -> BTreeMap<u32, Vec<u8>> {
    let mut model = BTreeMap::new();
    for n in 0..count {
        let ((key, value), gone) = nth(n);
        model.insert(key, value);
        model.remove(&gone);
    }
    model
}

fn step(region: &mut Region) {
    let done = region.transact(|tx| {
        let root = tx.root::<State>();
        let mut state = tx.read(root)?;
        let ((key, value), gone) = nth(state.count);
        let value = Bytes::new(tx, &value)?;
        let old = [
            state.values.insert(tx, &key, &value)?,
            state.values.remove(tx, &gone)?,
        ];
        for old in old.into_iter().flatten() {
            old.free_owned(tx)?;
        }
        state.count += 1;
        Ok::<_, Failure>(tx.write(root, &state)?)
    });
    done.unwrap();
}

fn contents(tx: &mut Tx<'_>) -> Result<(u64, BTreeMap<u32, Vec<u8>>), Failure> {
    let state: State = tx.read(tx.root())?;
    let mut found = BTreeMap::new();
    let mut cursor = 0;
    loop {
        cursor = state.values.scan(tx, cursor, 100, |tx, slot| {
            let value = slot.value(tx)?.get(tx)?.to_vec();
            found.insert(slot.key(tx)?, value);
            Ok::<(), Failure>(())
        })?;
        if cursor == 0 {
            return Ok((state.count, found));
        }
    }
}

/// A copy is whole, has all checksums, and holds what there was after some transaction.
#[track_caller]
fn assert_copy(path: &Path, sequence: u64) -> u64 {
    let report = inspect::check(std::fs::read(path).unwrap(), CheckOptions::default());
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
    assert_eq!(report.levels[Level::L3 as usize].done, Done::Complete);
    let mut region = Region::open(path, &RegionOptions::new("test", 2, LIMIT), None).unwrap();
    assert_eq!(region.stats().sequence, sequence);
    let (count, found) = region.transact(contents).unwrap();
    assert!(
        found == model(count),
        "the state after {count} transactions"
    );
    count
}

#[test]
fn a_snapshot_under_load_is_the_state_at_one_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = new(&dir.path().join("region"));
    // Begun by the one thread, made by the other, while the first goes on.
    let (send, sources) = std::sync::mpsc::channel();
    let ended = AtomicBool::new(false);
    let (mut counts, mut begun) = (Vec::new(), Vec::new());
    std::thread::scope(|scope| {
        let (folder, ended) = (dir.path(), &ended);
        let copies = scope.spawn(move || {
            let mut counts = Vec::new();
            for (n, source) in sources.iter().enumerate() {
                let path = folder.join(format!("copy-{n}"));
                let made = inspect::snapshot_live(source, &path).unwrap();
                assert_eq!(made.owner, "test.2");
                counts.push((path, made.sequence));
                ended.store(true, Ordering::Release);
            }
            counts
        });
        for _ in 0..6 {
            ended.store(false, Ordering::Release);
            begun.push(region.stats().sequence);
            let source = region.begin_snapshot().unwrap();
            assert!(matches!(region.begin_snapshot(), Err(SnapshotError::Busy)));
            // So that there is something to carry out, even if the copy is made at one go.
            (0..20).for_each(|_| step(&mut region));
            send.send(source).unwrap();
            // No more than a copy keeps in memory, however slow it is.
            let over = || ended.load(Ordering::Acquire) || copies.is_finished();
            for _ in 0..5_000 {
                if over() {
                    break;
                }
                step(&mut region);
            }
            while !over() {
                std::thread::yield_now();
            }
            (0..500).for_each(|_| step(&mut region));
        }
        drop(send);
        counts = copies.join().unwrap();
    });
    let total = region.stats().sequence;
    assert_eq!(counts.len(), 6);
    for ((path, sequence), begun) in counts.iter().zip(begun) {
        assert!((begun + 20..=total).contains(sequence));
        assert_copy(path, *sequence);
    }
}

#[test]
fn a_closed_region_s_snapshot_ends_with_its_last_commit() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = new(&dir.path().join("region"));
    (0..300).for_each(|_| step(&mut region));
    let source = region.begin_snapshot().unwrap();
    (0..300).for_each(|_| step(&mut region));
    let sequence = region.stats().sequence;
    region.close().unwrap();
    let path = dir.path().join("copy");
    assert_eq!(
        inspect::snapshot_live(source, &path).unwrap().sequence,
        sequence
    );
    assert_eq!(assert_copy(&path, sequence), 600);
}

#[test]
fn a_snapshot_that_cannot_keep_up_is_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = new(&dir.path().join("region"));
    let mut source = region.begin_snapshot().unwrap();
    source.begun = {
        drop(source.begun);
        region.begin_copy(100_000).unwrap()
    };
    (0..300).for_each(|_| step(&mut region));
    let path = dir.path().join("copy");
    let failed = inspect::snapshot_live(source, &path);
    assert!(matches!(
        failed,
        Err(InspectError::Snapshot(SnapshotError::TooFast { .. }))
    ));
    // Nothing is left of it, and the next one works.
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    let source = region.begin_snapshot().unwrap();
    let made = inspect::snapshot_live(source, &path).unwrap();
    assert_eq!(assert_copy(&path, made.sequence), 300);
    let source = region.begin_snapshot().unwrap();
    let again = inspect::snapshot_live(source, &path);
    assert!(matches!(again, Err(InspectError::Exists { .. })));
}

#[test]
fn several_regions_are_copied_as_they_were_at_one_moment() {
    let dir = tempfile::tempdir().unwrap();
    let mut regions = ["a", "b"].map(|name| new(&dir.path().join(name)));
    let mut copies = Vec::new();
    for (n, region) in regions.iter_mut().enumerate() {
        let source = region.begin_snapshot().unwrap();
        copies.push(source.begin(&dir.path().join(format!("copy-{n}"))).unwrap());
    }
    // The first stays 100 transactions ahead of the second.
    let mut both = |first: u64, second: u64| {
        (0..first).for_each(|_| step(&mut regions[0]));
        (0..second).for_each(|_| step(&mut regions[1]));
        regions.iter().map(|one| one.stats().sequence).collect()
    };
    let _: Vec<u64> = both(400, 300);
    let mut more = true;
    while more {
        more = false;
        for copy in &mut copies {
            more |= copy.step().unwrap();
        }
    }
    let sequences: Vec<u64> = both(50, 50);
    for region in &mut regions {
        region.end_snapshot();
        (0..70).for_each(|_| step(region));
    }
    for (n, (copy, sequence)) in copies.into_iter().zip(sequences).enumerate() {
        assert_eq!(copy.finish().unwrap(), sequence);
        let path = dir.path().join(format!("copy-{n}"));
        assert_eq!(assert_copy(&path, sequence), [450, 350][n]);
    }
    // What follows is noted for nobody.
    assert!(regions[0].begin_snapshot().is_ok());
}

#[test]
fn contents_are_equal_wherever_they_lie() {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["a", "b"].map(|name| dir.path().join(name));
    let orders: [Vec<u32>; 2] = [(0..2000).collect(), (0..2000).rev().collect()];
    let fill = |region: &mut Region, key: u32, text: &[u8]| {
        let done = region.transact(|tx| {
            let root = tx.root::<State>();
            let mut state = tx.read(root)?;
            let value = Bytes::new(tx, text)?;
            if let Some(old) = state.values.insert(tx, &key, &value)? {
                old.free_owned(tx)?;
            }
            Ok::<_, Failure>(tx.write(root, &state)?)
        });
        done.unwrap();
    };
    for (path, order) in paths.iter().zip(orders) {
        let mut region = new(path);
        for key in order {
            // One in three is written twice, so that it lies elsewhere.
            for _ in 0..=u32::from(key % 3 == 0) {
                fill(&mut region, key, &vec![key as u8; key as usize % 90]);
            }
        }
        region.close().unwrap();
    }
    let [a, b] = [0, 1].map(|n| inspect::contents_file(&paths[n]).unwrap().unwrap());
    assert_eq!(a, b);
    assert_eq!(a.fields[0].name, "values");
    assert_eq!(a.fields[0].entries, 2000);
    assert_ne!(a.fields[0].digest, a.fields[1].digest);
    let mut region = Region::open(&paths[1], &RegionOptions::new("test", 2, LIMIT), None).unwrap();
    region.attach(&crate::Handle::new());
    fill(&mut region, 77, b"another");
    region.close().unwrap();
    let changed = inspect::contents_file(&paths[1]).unwrap().unwrap();
    assert_ne!(changed.fields[0], a.fields[0]);
    assert_eq!(changed.fields[1], a.fields[1]);
}

/// A copy that is begun in the midst of a conversion, or just before one, and not done when the conversion
/// ends or begins: it is no state at any moment, and says so.
#[test]
fn a_conversion_that_begins_or_ends_overtakes_a_copy() {
    use crate::campaign::two_versions::{Model, Op, empty_state, old, transact, up};
    for ends in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("region"), dir.path().join("copy"));
        let options = RegionOptions::new("test", 0, LIMIT);
        let mut region = Region::create(&path, &options, &old::SCHEMA).unwrap();
        empty_state(&mut region, 20);
        let mut model = Model::default();
        for n in 0..2000 {
            transact::<old::State, _>(&mut region, &mut model, Op::Insert(n)).unwrap();
        }
        region.begin_conversion(up()).unwrap();
        if ends {
            region.enter_conversion().unwrap();
        }
        let mut copying = region.begin_snapshot().unwrap().begin(&copy).unwrap();
        assert!(copying.step().unwrap(), "there is more");
        region.enter_conversion().unwrap();
        while region.sweep(Duration::ZERO).unwrap() != Swept::Done {}
        let copied = loop {
            match copying.step() {
                Ok(true) => {}
                Ok(false) => break copying.finish(),
                Err(error) => break Err(error),
            }
        };
        let Err(SnapshotError::Overtaken { .. }) = copied else {
            let report = inspect::check(std::fs::read(&copy).unwrap(), CheckOptions::default());
            panic!("{copied:?}: {report:#?}");
        };
        // The next one holds the state as it is now.
        std::fs::remove_file(&copy).unwrap();
        let source = region.begin_snapshot().unwrap();
        let made = inspect::snapshot_live(source, &copy).unwrap();
        assert!(made.report.is_clean() && !made.report.swept);
    }
}
