//! Migrations that are recorded in a region's file.

use std::path::Path;
use std::time::Duration;

use super::history::HISTORY_AT;
use super::{Region, RegionOptions, Swept};
use crate::campaign::two_versions::{Model, Op, empty_state, old, transact, up};
use crate::history::{History, LEN, Migration, nth};
use crate::inspect::{self, CheckOptions, Code, Report, check};

const LIMIT: u64 = 16 << 20;

fn options() -> RegionOptions {
    RegionOptions::new("test", 0, LIMIT)
}

fn new(path: &Path) -> Region {
    let mut region = Region::create(path, &options(), &old::SCHEMA).unwrap();
    empty_state(&mut region, 20);
    let mut model = Model::default();
    for n in 0..60 {
        transact::<old::State, _>(&mut region, &mut model, Op::Insert(n)).unwrap();
    }
    region
}

fn ones(count: u64) -> Vec<Migration> {
    (0..count).map(nth).collect()
}

fn here(bytes: &[u8]) -> Report {
    check(bytes.to_vec(), CheckOptions::here())
}

/// A closed region with three migrations, in two records.
fn recorded(path: &Path) -> Vec<u8> {
    let mut region = new(path);
    assert_eq!(region.history(), History::default());
    assert!(region.record_migrations(&ones(2)).unwrap());
    assert!(!region.record_migrations(&ones(2)).unwrap(), "not twice");
    assert!(region.record_migrations(&ones(3)).unwrap());
    region.close().unwrap();
    std::fs::read(path).unwrap()
}

#[test]
fn they_are_there_after_a_close_a_death_a_snapshot_and_a_restore() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let bytes = recorded(&path);
    let report = here(&bytes);
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
    assert_eq!(report.history.migrations, ones(3));

    // The process dies after the next one.
    let mut region = Region::open(&path, &options(), None).unwrap();
    region.record_migrations(&ones(4)).unwrap();
    drop(region);
    let mut region = Region::open(&path, &options(), None).unwrap();
    assert_eq!(region.history().migrations, ones(4));

    // A copy of the region in use has those of the moment that it was begun.
    let live = dir.path().join("live");
    let source = region.begin_snapshot().unwrap();
    region.record_migrations(&ones(5)).unwrap();
    let made = inspect::snapshot_live(source, &live).unwrap();
    assert_eq!(made.report.history.migrations, ones(4));
    region.end_snapshot();
    drop(region);

    let copy = dir.path().join("copy");
    inspect::snapshot_file(&path, &copy).unwrap();
    inspect::restore_file(&live, &path, true).unwrap();
    let seen = |path: &Path| {
        inspect::inspect_file(path, None)
            .unwrap()
            .history
            .migrations
    };
    assert_eq!((seen(&path), seen(&copy)), (ones(4), ones(5)));
}

#[test]
fn every_flipped_bit_of_a_history_is_found_and_mended() {
    let dir = tempfile::tempdir().unwrap();
    let good = recorded(&dir.path().join("region"));
    for (slot, at) in HISTORY_AT.into_iter().enumerate() {
        // Every bit of what is used, and one of each byte that must be zero.
        for byte in 0..LEN {
            let bits = if byte < 600 { 0..8 } else { 3..4 };
            for bit in bits {
                let mut bytes = good.clone();
                bytes[(at + byte) as usize] ^= 1 << bit;
                let report = here(&bytes);
                let found = report.find(Code::History);
                assert!(
                    found.is_some() && !report.is_sound(),
                    "{slot}: {byte}, {bit}"
                );
                if (byte, bit) == (200, 3) {
                    let (path, mended) = (dir.path().join("damaged"), dir.path().join("mended"));
                    std::fs::write(&path, &bytes).unwrap();
                    let _ = std::fs::remove_file(&mended);
                    let repair = inspect::repair_file(&path, &mended, true).unwrap();
                    assert_eq!(repair.actions[0].kind, "history");
                    assert!(repair.written && repair.after.is_clean(), "{repair:#?}");
                    let history = repair.after.history;
                    assert!(history.lost);
                    // The first record had two, the second all.
                    let count = if slot == 0 { 3 } else { 2 };
                    assert_eq!(history.migrations, ones(count));
                }
            }
        }
    }
}

/// A region whose history is damaged is served all the same, and says so from then on.
#[test]
fn a_damaged_history_keeps_no_region_from_opening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut bytes = recorded(&path);
    bytes[HISTORY_AT[1] as usize + 70] ^= 4;
    std::fs::write(&path, &bytes).unwrap();
    let mut region = Region::open(&path, &options(), None).unwrap();
    assert!(region.history().lost);
    region.record_migrations(&[nth(9)]).unwrap();
    region.close().unwrap();
    let report = here(&std::fs::read(&path).unwrap());
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.history.lost);
    let known: Vec<_> = ones(2).into_iter().chain([nth(9)]).collect();
    assert_eq!(report.history.migrations, known);
}

#[test]
fn a_conversion_segment_by_segment_leaves_it_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = new(&path);
    region.record_migrations(&ones(1)).unwrap();
    region.begin_conversion(up()).unwrap();
    region.enter_conversion().unwrap();
    region.record_migrations(&ones(2)).unwrap();
    while region.sweep(Duration::ZERO).unwrap() != Swept::Done {}
    region.close().unwrap();
    let report = here(&std::fs::read(&path).unwrap());
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
    assert_eq!(report.history.migrations, ones(2));
}
