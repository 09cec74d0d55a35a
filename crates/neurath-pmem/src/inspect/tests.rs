//! The check finds what is wrong, and nothing where nothing is.

use std::path::{Path, PathBuf};

use neurath_abi::Ref;
use proptest::prelude::*;

use super::files::repair;
use super::{
    CheckOptions, Code, Data, DataLimits, Done, InspectError, Level, PowerLossError, Report,
    Severity, check, check_file, checked, has_lost_power, inspect_file, open_after_power_loss,
    repair_file, restore_file, schema_text, snapshot_file, sums,
};
use crate::region::applied::APPLIED_AT;
use crate::region::format::{
    BITMAP_LEN, CHUNK_LEN, DIRECTORY_AT, ENTRY_LEN, HEADER_AT, HEADER_COPY_AT, HEAP_AT, Header,
    LOG_AT, LOG_LEN, PAGE, ROOT_AT, SCHEMA_AT, SUPERBLOCK_AT, Superblock, newest_records,
};
use crate::region::{Media, OpenError, Region, RegionError, RegionOptions};
use crate::schema::{encode, encoded_len};
use crate::{Bytes, Handle, Map, P, Pmem, Tx, TxError};

#[derive(Debug)]
#[expect(dead_code, reason = "printed")]
enum Failure {
    Tx(TxError),
    Region(RegionError),
}

impl From<TxError> for Failure {
    fn from(error: TxError) -> Failure {
        Failure::Tx(error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(error)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
#[repr(u32)]
enum Kind {
    Short = 1,
    Long = 2,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Pmem)]
#[repr(C)]
struct Entry {
    number: u64,
    kind: Kind,
    parts: [i16; 2],
}

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    names: Map<Bytes, Bytes>,
    entries: Map<u32, Entry>,
    first: P<Entry>,
    title: Bytes,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
const LIMIT: u64 = 64 << 20;

fn new(path: &Path) -> Region {
    let options = RegionOptions::new("test", 7, LIMIT);
    let mut region = Region::create(path, &options, &SCHEMA).unwrap();
    region.attach(&Handle::new());
    let root = region.transact(|tx| {
        let first = tx.alloc(&Entry {
            number: 5,
            kind: Kind::Long,
            parts: [1, -2],
        })?;
        let state = State {
            names: Map::EMPTY,
            entries: Map::EMPTY,
            first,
            title: Bytes::new(tx, b"A title that is longer than twenty bytes.")?,
        };
        Ok::<_, Failure>(tx.alloc(&state)?)
    });
    region.set_root(root.unwrap().to_ref());
    region.commit().unwrap();
    region
}

fn with<R>(
    region: &mut Region,
    change: impl FnOnce(&mut State, &mut Tx<'_>) -> Result<R, TxError>,
) -> R {
    let done = region.transact(|tx| {
        let root = tx.root::<State>();
        let mut state = tx.read(root)?;
        let result = change(&mut state, tx)?;
        tx.write(root, &state)?;
        Ok::<_, Failure>(result)
    });
    done.unwrap()
}

fn put(region: &mut Region, key: &[u8], value: &[u8]) {
    with(region, |state, tx| {
        let value = Bytes::new(tx, value)?;
        if let Some(old) = state.names.insert(tx, key, &value)? {
            old.free_owned(tx)?;
        }
        Ok(())
    });
}

fn fill(region: &mut Region, count: u32) {
    for n in 0..count {
        let text = format!("{n} {}", "long ".repeat(n as usize % 16));
        put(region, text.as_bytes(), text.as_bytes());
        with(region, |state, tx| {
            let entry = Entry {
                number: n.into(),
                kind: Kind::Short,
                parts: [n as i16, 0],
            };
            state.entries.insert(tx, &n, &entry)
        });
    }
}

/// A small region: its folder, its file, its bytes.
fn small(count: u32, close: bool) -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = new(&path);
    fill(&mut region, count);
    if close {
        region.close().unwrap();
    } else {
        drop(region);
    }
    let bytes = std::fs::read(&path).unwrap();
    (dir, path, bytes)
}

fn here(bytes: &[u8]) -> Report {
    check(bytes.to_vec(), CheckOptions::here())
}

#[track_caller]
fn assert_clean(report: &Report) {
    assert!(report.is_clean(), "{report:#?}");
    assert!(report.findings.is_empty(), "{report:#?}");
    for level in &report.levels {
        assert!(level.checked.iter().any(|(_, count)| *count > 0));
    }
    let traced = &report.levels[Level::L2 as usize].checked;
    let count = |what: &str| traced.iter().find(|(known, _)| *known == what).unwrap().1;
    assert_eq!(count("objects reached"), count("objects that live"));
}

#[test]
fn sound_regions_are_clean() {
    for close in [true, false] {
        let (_dir, path, bytes) = small(40, close);
        assert_clean(&here(&bytes));
        assert_clean(&check_file(&path, Level::L3).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing changes");
        assert_eq!(here(&bytes).replayed, if close { 0 } else { 2 });
    }
}

#[test]
fn what_is_no_region_is_not_sound() {
    let mut zeros = vec![0; (HEAP_AT + CHUNK_LEN) as usize];
    for bytes in [Vec::new(), vec![1; 100], zeros.clone()] {
        let report = here(&bytes);
        assert!(!report.is_sound() && report.errors > 0, "{report:?}");
    }
    zeros[0] = b'N';
    assert!(!here(&zeros).is_sound());
    assert!(
        !Report::default().is_sound(),
        "nothing checked is no success"
    );
}

/// Flips bits one by one; gives those that change nothing in the report.
fn unseen(bytes: &[u8], ranges: &[(&str, u64, u64, bool)]) -> Vec<String> {
    let baseline = here(bytes);
    assert_clean(&baseline);
    let bits: Vec<(&str, u64, u8)> = ranges
        .iter()
        .flat_map(|&(what, from, to, all)| {
            (from..to).flat_map(move |at| {
                let bits = if all {
                    0..8
                } else {
                    (at % 8) as u8..(at % 8) as u8 + 1
                };
                bits.map(move |bit| (what, at, bit))
            })
        })
        .collect();
    let half = bits.len().div_ceil(2);
    std::thread::scope(|scope| {
        let work: Vec<_> = bits
            .chunks(half)
            .map(|bits| {
                scope.spawn(move || {
                    let mut unseen = Vec::new();
                    for (what, at, bit) in bits {
                        let mut bytes = bytes.to_vec();
                        bytes[*at as usize] ^= 1 << bit;
                        if check(bytes, CheckOptions::here()).findings.is_empty() {
                            unseen.push(format!("{what}: byte {at}, bit {bit}"));
                        }
                    }
                    unseen
                })
            })
            .collect();
        work.into_iter()
            .flat_map(|work| work.join().unwrap())
            .collect()
    })
}

/// The parts of a region that every bit of is flipped in; of what must be zero, one bit of
/// each byte where there is much of it.
fn metadata(bytes: &[u8]) -> Vec<(&'static str, u64, u64, bool)> {
    let image = checked(bytes.to_vec(), CheckOptions::here()).1.unwrap();
    let tables = image.tables.as_ref().unwrap();
    let schema_end = SCHEMA_AT + u64::from(image.header.schema_len);
    let directory_end = DIRECTORY_AT + 8 * tables.chunks.len() as u64;
    let mut ranges = vec![
        ("header", HEADER_AT, HEADER_AT + 512, true),
        ("after the header", HEADER_AT + 512, PAGE, false),
        ("copy", HEADER_COPY_AT, HEADER_COPY_AT + 512, true),
        ("after the copy", HEADER_COPY_AT + 512, APPLIED_AT, false),
        ("applied", APPLIED_AT, APPLIED_AT + 8, true),
        ("after that", APPLIED_AT + 8, HEADER_COPY_AT + PAGE, false),
        ("root", ROOT_AT, ROOT_AT + 8, true),
        ("directory", DIRECTORY_AT, directory_end + 8, true),
        ("rest of the directory", directory_end + 8, SCHEMA_AT, false),
        ("schema", SCHEMA_AT, schema_end, true),
        ("after the schema", schema_end, schema_end + 64, true),
        ("schema's last", LOG_AT - 64, LOG_AT, true),
    ];
    for at in SUPERBLOCK_AT {
        ranges.push(("superblock", at, at + 256, true));
        ranges.push(("after a superblock", at + 256, at + PAGE, false));
    }
    for (_, segment) in tables.all() {
        let entry = segment.entry_at;
        ranges.push(("entry", entry, entry + ENTRY_LEN, true));
        let used = u64::from(segment.entry.capacity).div_ceil(8);
        let bitmap = segment.bitmap_at;
        ranges.push(("bitmap", bitmap, bitmap + used, true));
        ranges.push(("bitmap's rest", bitmap + used, bitmap + BITMAP_LEN, false));
    }
    let chunk = tables.chunks[0];
    let next = tables.segments.len() as u64;
    ranges.push(("entry 0", chunk, chunk + ENTRY_LEN, true));
    let entry = chunk + next * ENTRY_LEN;
    ranges.push(("entry after the last", entry, entry + ENTRY_LEN, true));
    let bitmaps = chunk + 256 * ENTRY_LEN;
    ranges.push(("bitmap 0", bitmaps, bitmaps + BITMAP_LEN, false));
    let bitmap = bitmaps + next * BITMAP_LEN;
    ranges.push(("bitmap after the last", bitmap, bitmap + BITMAP_LEN, false));
    ranges
}

#[test]
fn every_flipped_bit_of_the_metadata_is_found() {
    let (_dir, _, bytes) = small(12, true);
    let unseen = unseen(&bytes, &metadata(&bytes));
    assert!(unseen.is_empty(), "{}: {unseen:#?}", unseen.len());
}

/// Where live objects stand in the file.
fn live(bytes: &[u8]) -> Vec<(u64, u64)> {
    let image = checked(bytes.to_vec(), CheckOptions::here()).1.unwrap();
    let tables = image.tables.as_ref().unwrap();
    let mut ranges = Vec::new();
    for (_, segment) in tables.all() {
        for index in 0..segment.entry.capacity as u16 {
            if segment.is_live(index) {
                let at = segment.place(index);
                ranges.push((at, at + u64::from(segment.entry.object_size)));
            }
        }
    }
    ranges
}

#[test]
fn every_flipped_bit_of_the_data_is_found() {
    let (_dir, _, bytes) = small(12, true);
    let live = live(&bytes);
    let objects = live.len();
    assert!(objects > 40, "{objects} objects");
    // The level alone finds each bit.
    let mut image = checked(bytes.clone(), CheckOptions::here()).1.unwrap();
    let tables = image.tables.take().unwrap();
    for at in live.iter().flat_map(|&(from, to)| from..to) {
        let old = bytes[at as usize];
        for bit in 0..8 {
            image.bytes.store(at, &[old ^ 1 << bit]);
            let mut report = Report::default();
            let verification = sums::Verification::new(&image, &tables);
            verification.work();
            sums::level3(&image, &tables, &verification.end(), &mut report);
            assert_eq!(report.errors, 1, "byte {at}, bit {bit}");
        }
        image.bytes.store(at, &[old]);
    }
    // A whole check does, of some bits of each object.
    let ranges: Vec<_> = live
        .iter()
        .map(|&(from, to)| ("data", from, to.min(from + 24), false))
        .collect();
    let unseen = unseen(&bytes, &ranges);
    assert!(unseen.is_empty(), "{}: {unseen:#?}", unseen.len());
}

#[test]
fn what_a_killed_process_had_not_changed_is_verified() {
    let (_dir, path, _) = small(40, true);
    let open = || Region::open(&path, &RegionOptions::new("test", 7, LIMIT), None).unwrap();
    let level3 = |report: &Report, what: &str| {
        let level = &report.levels[Level::L3 as usize];
        let found = level.checked.iter().find(|(known, _)| *known == what);
        (level.done, found.unwrap().1)
    };
    let unknown = "segments without a checksum yet";
    drop(open());
    let report = check_file(&path, Level::L3).unwrap();
    assert_eq!(level3(&report, unknown), (Done::Complete, 0));
    let (_, all) = level3(&report, "segments verified");
    // What was aborted has changed nothing.
    let mut region = open();
    region.attach(&Handle::new());
    let aborted = region.transact(|tx| {
        tx.alloc_bytes(&[1; 100])?;
        Err::<(), _>(Failure::Tx(TxError::Invalid))
    });
    assert!(aborted.is_err());
    drop(region);
    let report = check_file(&path, Level::L3).unwrap();
    assert_eq!(level3(&report, unknown), (Done::Complete, 0));
    // One entry: its segment, the root's, and perhaps the block of its bytes.
    let mut region = open();
    region.attach(&Handle::new());
    with(&mut region, |state, tx| {
        let entry = Entry {
            number: 1,
            kind: Kind::Long,
            parts: [0, 0],
        };
        state.entries.insert(tx, &3, &entry)
    });
    drop(region);
    let report = check_file(&path, Level::L3).unwrap();
    assert!(report.is_clean(), "{report:#?}");
    let (done, few) = level3(&report, unknown);
    assert!(done == Done::Partial && (1..=3).contains(&few), "{few}");
    assert_eq!(level3(&report, "segments verified").1, all - few);
    // An orderly close knows them all again.
    open().close().unwrap();
    assert_clean(&check_file(&path, Level::L3).unwrap());
}

#[test]
fn no_more_is_checked_than_was_asked_for() {
    let (_dir, path, bytes) = small(12, true);
    let (at, _) = live(&bytes)[3];
    let mut damaged = bytes;
    damaged[at as usize + 3] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    for level in Level::ALL {
        let report = check_file(&path, level).unwrap();
        for one in &report.levels {
            assert_eq!(one.done == Done::NotAsked, one.level > level, "{report:#?}");
        }
        assert!(level >= Level::L2 || report.is_clean(), "{report:#?}");
        assert_eq!(report.find(Code::SegmentSum).is_some(), level == Level::L3);
    }
}

#[test]
fn every_flipped_bit_of_an_open_region_s_log_is_found() {
    let (_dir, _, bytes) = small(12, false);
    let image = checked(bytes.clone(), CheckOptions::here()).1.unwrap();
    let log = &bytes[LOG_AT as usize..(LOG_AT + LOG_LEN) as usize];
    let mut ranges = Vec::new();
    for (found, what) in newest_records(log, image.header.seed(), 2)
        .into_iter()
        .zip(["newest record", "the record before"])
    {
        let at = LOG_AT + found.at;
        ranges.push((what, at, at + found.len, true));
    }
    ranges.push(("applied", APPLIED_AT, APPLIED_AT + 8, true));
    // Superblocks count here, too: an open region is told by one.
    for at in SUPERBLOCK_AT {
        ranges.push(("superblock", at, at + 256, true));
    }
    let unseen = unseen(&bytes, &ranges);
    assert!(unseen.is_empty(), "{}: {unseen:#?}", unseen.len());
}

#[test]
fn the_damaged_newest_record_of_an_open_region_is_named() {
    let (_dir, path, mut bytes) = small(12, false);
    let image = checked(bytes.clone(), CheckOptions::here()).1.unwrap();
    let log = &bytes[LOG_AT as usize..(LOG_AT + LOG_LEN) as usize];
    let newest = newest_records(log, image.header.seed(), 1).remove(0);
    bytes[(LOG_AT + newest.at + newest.len - 1) as usize] ^= 1;
    let report = here(&bytes);
    let finding = report.find(Code::LogDamaged).unwrap();
    let named = format!("record {} was committed", newest.header.sequence);
    assert!(finding.message.contains(&named), "{finding:?}");
    std::fs::write(&path, &bytes).unwrap();
    let refused = Region::open(&path, &RegionOptions::new("test", 7, LIMIT), None);
    assert!(refused.unwrap_err().to_string().contains(&named));
    assert_eq!(std::fs::read(&path).unwrap(), bytes, "nothing has changed");
    // Of a program that did not know the word, nothing tells it from one that never was whole.
    set(&mut bytes, APPLIED_AT as usize, 0);
    let report = here(&bytes);
    assert!(report.find(Code::LogDamaged).is_none());
    assert!(report.find(Code::TornRecord).is_some());
}

#[test]
fn a_leak_is_found_and_freed() {
    for close in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region");
        let mut region = new(&path);
        fill(&mut region, 5);
        with(&mut region, |_, tx| {
            tx.alloc_bytes(&[1; 100])?;
            tx.alloc_bytes(&[1; 100])?;
            tx.alloc(&Entry {
                number: 0,
                kind: Kind::Long,
                parts: [0; 2],
            })
        });
        if close {
            region.close().unwrap();
        } else {
            drop(region);
        }
        let report = check_file(&path, Level::L3).unwrap();
        assert!(report.is_sound() && !report.is_clean());
        let leaks: Vec<_> = report
            .leaks
            .iter()
            .map(|leak| (leak.type_name.as_str(), leak.objects, leak.bytes))
            .collect();
        assert_eq!(leaks.len(), 2, "{leaks:?}");
        assert!(leaks.contains(&("raw bytes", 2, 224)), "{leaks:?}");
        assert!(leaks.contains(&("Entry", 1, 16)), "{leaks:?}");

        let before = std::fs::read(&path).unwrap();
        let target = dir.path().join("mended");
        let dry = repair_file(&path, &target, false).unwrap();
        assert!(!dry.written && !target.exists());
        assert!(dry.after.is_clean(), "{dry:#?}");
        let done = repair_file(&path, &target, true).unwrap();
        assert!(done.written && done.actions[0].kind == "leaks", "{done:#?}");
        assert_clean(&check_file(&target, Level::L3).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), before);
        let stats = |path: &Path| {
            let region = Region::open(
                path,
                &RegionOptions::new("test", 7, LIMIT),
                Some(State::FINGERPRINT),
            )
            .unwrap();
            region.stats().live_objects
        };
        assert_eq!(stats(&target) + 3, stats(&path));
    }
}

/// Where an object of a clean image stands.
fn place_of(bytes: &[u8], object: u64) -> usize {
    let image = checked(bytes.to_vec(), CheckOptions::here()).1.unwrap();
    let object = Ref(object);
    let tables = image.tables.unwrap();
    tables.get(object.segment()).unwrap().place(object.index()) as usize
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

fn set(bytes: &mut [u8], at: usize, word: u64) {
    bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
}

#[track_caller]
fn found(bytes: &[u8], code: Code) {
    let report = here(bytes);
    let finding = report.find(code).unwrap_or_else(|| panic!("{report:#?}"));
    assert_eq!(finding.level, Level::L2);
    assert_eq!(finding.severity, Severity::Error);
    assert!(!report.is_sound());
    let (repair, _) = repair(bytes.to_vec(), CheckOptions::here());
    assert!(!repair.after.is_sound(), "this cannot be mended");
}

#[test]
fn what_objects_hold_is_checked() {
    let (_dir, _, good) = small(30, true);
    let root = place_of(&good, word(&good, ROOT_AT as usize));
    let change = |offset: usize, value: u64| {
        let mut bytes = good.clone();
        set(&mut bytes, root + offset, value);
        bytes
    };
    // `names` is at 0, `entries` at 48, `first` at 96, `title` at 104.
    found(&change(96, 0x7777_0000), Code::BadReference);
    found(&change(96, word(&good, root + 96) + 1), Code::BadReference);
    found(&change(96, word(&good, root + 16)), Code::BadReference);
    found(&change(0, 3), Code::MapLength);
    found(&change(8, 1 << 40), Code::MapHeader);
    found(&change(16, 0), Code::BadReference);
    found(&change(24, 7), Code::MapHeader);
    found(&change(32, 7), Code::MapHash);
    found(&change(104, 5), Code::BadValue);
    found(&change(120, 0), Code::BadReference);

    // A chain that comes back to its begin, and one that leads to another's.
    let page = place_of(&good, word(&good, root + 16));
    let buckets: Vec<u64> = (0..30)
        .map(|i| word(&good, page + i * 8))
        .filter(|&node| node != 0)
        .collect();
    for target in [buckets[0], buckets[1]] {
        let mut bytes = good.clone();
        let node = place_of(&good, buckets[0]);
        set(&mut bytes, node + 8, target);
        found(&bytes, Code::TwoOwners);
    }
    // An enum that is none of its values.
    let mut bytes = good.clone();
    let first = place_of(&good, word(&good, root + 96));
    bytes[first + 8] = 9;
    found(&bytes, Code::BadValue);
}

#[test]
fn a_dangling_reference_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = new(&path);
    with(&mut region, |state, tx| tx.free(state.first));
    region.close().unwrap();
    found(&std::fs::read(&path).unwrap(), Code::BadReference);
}

#[test]
fn repair_mends_what_it_claims() {
    for close in [true, false] {
        let (_dir, _, good) = small(10, close);
        let newest = checked(good.clone(), CheckOptions::here()).1.unwrap().slot;
        let damages: [(&str, u64, u64); 5] = [
            ("applied", APPLIED_AT, 8),
            ("header", HEADER_AT + 20, 300),
            ("header", HEADER_COPY_AT + 20, 300),
            ("superblock", SUPERBLOCK_AT[1 - newest] + 8, 100),
            ("padding", SUPERBLOCK_AT[newest] + 1000, 1000),
        ];
        for (kind, at, len) in damages {
            let mut bytes = good.clone();
            bytes[at as usize..(at + len) as usize].fill(0x5a);
            assert!(!here(&bytes).is_sound());
            let (repair, mended) = repair(bytes, CheckOptions::here());
            assert_eq!(repair.actions[0].kind, kind);
            assert!(repair.after.is_clean(), "{repair:#?}");
            assert_clean(&here(&mended));
        }
        // The newer superblock is damaged: the older one counts, and says what may be lost.
        let mut bytes = good.clone();
        bytes[SUPERBLOCK_AT[newest] as usize + 8] ^= 1;
        let (repair, mended) = repair(bytes, CheckOptions::here());
        assert!(repair.actions[0].message.contains("falls back"));
        assert_eq!(repair.after, here(&mended));
        // Nothing to do is nothing done.
        let (nothing, same) = super::files::repair(good.clone(), CheckOptions::here());
        assert!(nothing.actions.is_empty() && same == good);
    }
}

#[test]
fn other_machines_and_unfinished_regions_are_told() {
    let (_dir, _, bytes) = small(3, false);
    let elsewhere = CheckOptions {
        boot_id: Some([7; 16]),
        ..CheckOptions::default()
    };
    let report = check(bytes.clone(), elsewhere);
    assert!(report.find(Code::PowerLost).is_some() && !report.is_sound());
    assert_clean(&check(bytes, CheckOptions::default()));
    let (_dir, _, bytes) = small(3, true);
    assert_clean(&check(bytes, elsewhere));
}

/// Makes a region's file look as if the machine had been started again since it was opened.
fn on_another_boot(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let header = Header::parse(&bytes).unwrap();
    for at in SUPERBLOCK_AT {
        let slot = &mut bytes[at as usize..(at + PAGE) as usize];
        if let Ok(mut superblock) = Superblock::parse(slot, &header) {
            superblock.boot_id = [7; 16];
            let encoded = superblock.encode(&header);
            slot[..encoded.len()].copy_from_slice(&encoded);
        }
    }
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_loss_of_power_is_accepted_once_and_only_for_what_is_sound() {
    let options = RegionOptions::new("test", 7, LIMIT);
    let (_dir, path, _) = small(20, false);
    assert!(!has_lost_power(&path).unwrap());
    on_another_boot(&path);
    assert!(has_lost_power(&path).unwrap());
    let lost = std::fs::read(&path).unwrap();
    let refused = Region::open(&path, &options, None);
    assert!(matches!(refused, Err(OpenError::PowerLost { .. })));

    // A damaged entry of the segment table, and one of the last transactions: nothing is changed.
    let mut damaged = lost.clone();
    damaged[(HEAP_AT + ENTRY_LEN + 8) as usize] ^= 1;
    std::fs::write(&path, &damaged).unwrap();
    let error = open_after_power_loss(&path, &options, None).unwrap_err();
    assert!(matches!(error, PowerLossError::Damaged { .. }), "{error}");
    assert!(error.to_string().contains("when the machine went down"));
    assert_eq!(std::fs::read(&path).unwrap(), damaged);
    assert!(has_lost_power(&path).unwrap());

    std::fs::write(&path, &lost).unwrap();
    let another = RegionOptions::new("another", 7, LIMIT);
    let error = open_after_power_loss(&path, &another, None).unwrap_err();
    let owner = matches!(error, PowerLossError::Open(OpenError::Owner { .. }));
    assert!(owner, "{error}");
    assert!(has_lost_power(&path).unwrap());
    let (mut region, report) = open_after_power_loss(&path, &options, None).unwrap();
    assert!(report.is_clean() && report.replayed > 0);
    region.attach(&Handle::new());
    put(&mut region, b"key", b"value");
    // As by SIGKILL: from here on it is a region of this boot.
    drop(region);
    assert!(!has_lost_power(&path).unwrap());
    Region::open(&path, &options, None)
        .unwrap()
        .close()
        .unwrap();
    assert_clean(&check_file(&path, Level::L3).unwrap());

    std::fs::write(&path, b"no region").unwrap();
    assert!(!has_lost_power(&path).unwrap());
    assert!(has_lost_power(&path.with_extension("none")).is_err());
}

#[test]
fn snapshots_and_restores() {
    for close in [true, false] {
        let (dir, path, bytes) = small(20, close);
        let snapshot = dir.path().join("snapshot");
        let made = snapshot_file(&path, &snapshot).unwrap();
        assert_eq!(made.owner, "test.7");
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "the region stays");
        let copy = std::fs::read(&snapshot).unwrap();
        assert!(!close || copy == bytes);
        // It is closed: it opens on any machine.
        let elsewhere = CheckOptions {
            boot_id: Some([7; 16]),
            ..CheckOptions::default()
        };
        assert_clean(&check(copy.clone(), elsewhere));
        let again = snapshot_file(&path, &snapshot);
        assert!(matches!(again, Err(InspectError::Exists { .. })));

        // Beside, where nothing is.
        let fresh = dir.path().join("fresh");
        assert!(!restore_file(&snapshot, &fresh, false).unwrap().executed);
        assert!(!fresh.exists());
        let done = restore_file(&snapshot, &fresh, true).unwrap();
        assert!(done.executed && done.kept.is_none());
        assert_eq!(std::fs::read(&fresh).unwrap(), copy);

        // Over another state, which is kept; also over a damaged one.
        let mut damaged = bytes.clone();
        damaged[SUPERBLOCK_AT[0] as usize..(SUPERBLOCK_AT[1] + PAGE) as usize].fill(0);
        std::fs::write(&path, &damaged).unwrap();
        assert!(!restore_file(&snapshot, &path, false).unwrap().executed);
        assert_eq!(std::fs::read(&path).unwrap(), damaged);
        let done = restore_file(&snapshot, &path, true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), copy);
        assert_eq!(std::fs::read(done.kept.unwrap()).unwrap(), damaged);
        let mut region = Region::open(&path, &RegionOptions::new("test", 7, LIMIT), None).unwrap();
        region.attach(&Handle::new());
        assert_eq!(with(&mut region, |state, _| Ok(state.entries.len())), 20);

        // A node has it open: all refuse.
        for refused in [
            check_file(&path, Level::L3).err(),
            inspect_file(&path, None).err(),
            snapshot_file(&path, &dir.path().join("other")).err(),
            restore_file(&snapshot, &path, true).err(),
            repair_file(&path, &dir.path().join("other"), true).err(),
        ] {
            assert!(matches!(refused, Some(InspectError::Busy { .. })));
        }
        drop(region);
        let names: Vec<_> = std::fs::read_dir(dir.path()).unwrap().flatten().collect();
        assert_eq!(names.len(), 4, "nothing is left beside: {names:?}");
    }
}

#[test]
fn a_damaged_region_is_not_copied() {
    let (dir, path, mut bytes) = small(5, true);
    set(&mut bytes, ROOT_AT as usize, 0x0009_0000);
    std::fs::write(&path, &bytes).unwrap();
    let target = dir.path().join("copy");
    let refused = snapshot_file(&path, &target);
    assert!(matches!(refused, Err(InspectError::Damaged { .. })));
    let refused = restore_file(&path, &target, true);
    assert!(matches!(refused, Err(InspectError::Damaged { .. })));
    assert!(!target.exists());
}

fn field<'a>(data: &'a Data, name: &str) -> &'a Data {
    let Data::Fields(fields) = data else {
        panic!("no fields: {data:?}")
    };
    let found = fields.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("no {name}: {data:?}")).1
}

#[test]
fn the_state_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = new(&path);
    fill(&mut region, 3);
    put(&mut region, &[0xff, 0], b"x");
    drop(region);
    let shown = inspect_file(&path, Some(DataLimits::default())).unwrap();
    assert!(shown.problems.is_empty());
    assert_eq!(shown.header.component, "test");
    let text = schema_text(&shown.schema);
    let wanted = "struct State { // 128 bytes\n    names: Map<Bytes, Bytes>, // at 0\n    \
                  entries: Map<u32, Entry>, // at 48\n    first: P<Entry>, // at 96\n    \
                  title: Bytes, // at 104\n}\nstruct Entry { // 16 bytes\n    number: u64, // at 0\n    \
                  kind: Kind, // at 8\n    parts: [i16; 2], // at 12\n}\n";
    assert!(text.starts_with(wanted), "{text}");
    assert!(text.contains("enum Kind: u32 {"), "{text}");
    let data = shown.data.unwrap();
    let title = Data::Text("A title that is longer than twenty bytes.".into());
    assert_eq!(field(&data, "title"), &title);
    let first = field(&data, "first");
    assert_eq!(field(first, "kind"), &Data::Text("Long".into()));
    let parts = Data::List(vec![Data::Signed(1), Data::Signed(-2)]);
    let parts_shown = match field(first, "parts") {
        Data::List(list) => Data::List(
            list.iter()
                .map(|one| match one {
                    Data::Unsigned(n) => Data::Signed(*n as i128),
                    other => other.clone(),
                })
                .collect(),
        ),
        other => other.clone(),
    };
    assert_eq!(parts_shown, parts);
    let Data::List(names) = field(&data, "names") else {
        panic!("a map")
    };
    assert_eq!(names.len(), 4);
    let hex = Data::Fields(vec![("hex".into(), Data::Text("ff00".into()))]);
    assert!(names.iter().any(|entry| field(entry, "key") == &hex));

    let limits = DataLimits {
        entries: 1,
        ..DataLimits::default()
    };
    let data = inspect_file(&path, Some(limits)).unwrap().data.unwrap();
    let Data::List(names) = field(&data, "names") else {
        panic!("a map")
    };
    assert_eq!(field(&names[1], "more"), &Data::Unsigned(3));
    let uses = inspect_file(&path, None).unwrap().types;
    let entries = uses.iter().find(|one| one.type_name == "Entry").unwrap();
    assert_eq!((entries.objects, entries.bytes), (1, 16));
    assert!(
        uses.iter()
            .any(|one| one.type_name == "MapPage<u32, Entry>")
    );
}

#[test]
fn random_damage_never_panics() {
    let (_dir, _, good) = small(25, false);
    let len = good.len() as u64;
    let mut state = 0x1234_5678_u64;
    let mut random = |end: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % end
    };
    let heap = HEAP_AT + CHUNK_LEN;
    for round in 0..1500 {
        let mut bytes = good.clone();
        for _ in 0..1 + random(4) {
            let at = match random(4) {
                0 => random(SCHEMA_AT),
                1 => HEAP_AT + random(CHUNK_LEN),
                _ => heap + random(len - heap),
            } & !7;
            let value = match random(4) {
                0 => 0,
                1 => u64::MAX,
                2 => random(1 << 20),
                _ => random(u64::MAX),
            };
            set(&mut bytes, at as usize, value);
        }
        if random(10) == 0 {
            bytes.truncate(random(len) as usize);
        }
        check(bytes.clone(), CheckOptions::here());
        if round % 3 == 0 {
            let _ = super::inspect(bytes.clone(), Some(DataLimits::default()));
            repair(bytes, CheckOptions::here());
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, usize),
    Remove(u8),
    Entry(u32),
    RemoveEntry(u32),
    Clear(u64),
    Abort(u8),
    Reopen(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), 0..9000usize).prop_map(|(key, len)| Step::Put(key, len % 300 * (len / 300))),
        3 => any::<u8>().prop_map(Step::Remove),
        6 => (0..2000u32).prop_map(Step::Entry),
        3 => (0..2000u32).prop_map(Step::RemoveEntry),
        1 => (1..40u64).prop_map(Step::Clear),
        1 => any::<u8>().prop_map(Step::Abort),
        1 => any::<bool>().prop_map(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn regions_that_maps_were_used_in_are_clean(
        steps in prop::collection::vec(step(), 0..200),
        many in 0..700u32,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region");
        let mut region = new(&path);
        with(&mut region, |state, tx| {
            for n in 0..many {
                let entry = Entry { number: 0, kind: Kind::Long, parts: [0; 2] };
                state.entries.insert(tx, &(n * 7), &entry)?;
            }
            Ok(())
        });
        for step in steps {
            match step {
                Step::Put(key, len) => put(&mut region, &vec![key; usize::from(key) % 60], &vec![key; len]),
                Step::Remove(key) => with(&mut region, |state, tx| {
                    match state.names.remove(tx, &vec![key; usize::from(key) % 60])? {
                        Some(old) => old.free_owned(tx),
                        None => Ok(()),
                    }
                }),
                Step::Entry(n) => {
                    let entry = Entry { number: 0, kind: Kind::Short, parts: [0; 2] };
                    with(&mut region, |state, tx| state.entries.insert(tx, &n, &entry));
                }
                Step::RemoveEntry(n) => {
                    with(&mut region, |state, tx| state.entries.remove(tx, &n));
                }
                Step::Clear(buckets) => {
                    with(&mut region, |state, tx| state.names.clear_some(tx, buckets));
                }
                Step::Abort(key) => {
                    let aborted = region.transact(|tx| {
                        tx.alloc_bytes(&vec![key; 3000])?;
                        Err::<(), _>(Failure::Tx(TxError::Refused))
                    });
                    assert!(aborted.is_err());
                }
                Step::Reopen(close) => {
                    if close {
                        region.close().unwrap();
                    } else {
                        drop(region);
                    }
                    assert_clean(&check_file(&path, Level::L3).unwrap());
                    region = Region::open(&path, &RegionOptions::new("test", 7, LIMIT), None).unwrap();
                    region.attach(&Handle::new());
                }
            }
        }
        drop(region);
        assert_clean(&check_file(&path, Level::L3).unwrap());
    }
}
