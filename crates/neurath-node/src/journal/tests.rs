//! What is appended is read; what was edited, torn or cut is told apart.

use std::path::Path;

use super::files::{file_name, files};
use super::reading::{Reading, SECTOR};
use super::*;
use crate::catalog::ReleaseId;
use proptest::prelude::*;

/// Where a sync costs nothing, if the system has such a place.
fn folder_in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn started() -> Kind {
    Kind::Started {
        operation: "apply".to_owned(),
        plan_id: Some("3b1f".to_owned()),
        from: Some(ReleaseId::new("shop", "1.0.0")),
        to: Some(ReleaseId::new("shop", "1.1.0")),
    }
}

fn step(index: u32) -> Kind {
    Kind::Step {
        index,
        name: format!("suspend store/{index}\n"),
        micros: 12,
        verdict: Verdict::Done,
    }
}

fn ended(verdict: Verdict) -> Kind {
    Kind::Ended {
        verdict,
        text: "ein Schiff auf offener See – \u{2713}".to_owned(),
    }
}

fn fill(journal: &mut Journal) {
    let mut time = 1_700_000_000_000;
    let mut append = |operation: &str, kind| {
        time += 5;
        journal
            .append_at(time, operation, "uid 1000", kind)
            .unwrap();
    };
    append("op-1", started());
    append("op-1", step(0));
    append("op-1", step(1));
    append("op-1", ended(Verdict::Done));
    append("op-2", started());
    append("op-2", step(0));
}

#[test]
fn what_is_appended_is_read_and_the_unfinished_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    assert!(journal.read_all().unwrap().is_empty());
    fill(&mut journal);
    let before = journal.read_all().unwrap();
    drop(journal);
    let mut journal = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.torn(), None);
    assert_eq!(journal.read_all().unwrap(), before);
    assert_eq!(journal.sequence(), 6);
    let unfinished = journal.unfinished();
    assert_eq!(unfinished.len(), 1);
    assert_eq!(unfinished[0].operation_id, "op-2");
    assert_eq!(unfinished[0].last_step.as_ref().unwrap().sequence, 6);
    journal
        .end_interrupted(|_| "the node ended before the flip".to_owned())
        .unwrap();
    assert!(journal.unfinished().is_empty());
    drop(journal);
    let journal = Journal::open(folder.path()).unwrap();
    assert!(journal.unfinished().is_empty());
    assert!(matches!(
        journal.read_all().unwrap()[6].kind,
        Kind::Ended {
            verdict: Verdict::Interrupted,
            ..
        }
    ));
}

#[test]
fn a_full_file_is_followed_by_the_next_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    journal.file_limit = 300;
    for number in 0..10 {
        journal
            .append(&format!("op-{number}"), "root", started())
            .unwrap();
        journal
            .append(&format!("op-{number}"), "root", ended(Verdict::Undone))
            .unwrap();
    }
    drop(journal);
    let paths = files(folder.path()).unwrap();
    assert_eq!(paths.len(), 10);
    let journal = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.read_all().unwrap().len(), 20);
    // A crash directly after making the next file leaves it empty.
    std::fs::write(folder.path().join(file_name(11)), "").unwrap();
    Journal::open(folder.path())
        .unwrap()
        .append("op-11", "root", started())
        .unwrap();
    assert_eq!(read_all(folder.path()).unwrap().len(), 21);
    // A file in the middle is never torn.
    let middle = std::fs::read(&paths[4].1).unwrap();
    std::fs::write(&paths[4].1, &middle[..middle.len() - 9]).unwrap();
    assert!(matches!(
        Journal::open(folder.path()),
        Err(JournalError::Broken { line: 2, .. })
    ));
    std::fs::write(&paths[4].1, &middle[..middle.len() - 1]).unwrap();
    assert!(matches!(
        Journal::open(folder.path()),
        Err(JournalError::Broken { line: 2, .. })
    ));
    std::fs::remove_file(&paths[4].1).unwrap();
    match Journal::open(folder.path()) {
        Err(JournalError::MissingFile {
            expected: 5,
            found: 6,
            ..
        }) => {}
        other => panic!("{other:?}"),
    }
}

fn filled_bytes() -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    fill(&mut Journal::open(folder.path()).unwrap());
    std::fs::read(folder.path().join(file_name(1))).unwrap()
}

#[test]
fn edited_history_is_found_by_its_line() {
    let bytes = filled_bytes();
    let path = Path::new("00000001.jsonl");
    let mut line = 1;
    for at in 0..bytes.len() {
        // All but the last line, whose damage may be a torn write.
        if line == 6 {
            break;
        }
        if bytes[at] == b'\n' {
            line += 1;
            continue;
        }
        for mask in [1, 4, 0x20] {
            let mut edited = bytes.clone();
            edited[at] ^= mask;
            match Reading::new(None).file(path, &edited, true, |_| ()) {
                // A byte that became a line's end shifts the lines, not the place.
                Err(JournalError::Broken { line: found, .. }) => {
                    assert_eq!(found, line, "byte {at}")
                }
                other => panic!("byte {at} mask {mask}: {other:?}"),
            }
        }
    }
    let lines: Vec<_> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
    let mut removed = lines.clone();
    removed.remove(2);
    let mut swapped = lines.clone();
    swapped.swap(1, 2);
    let mut doubled = lines.clone();
    doubled.insert(2, lines[2]);
    for (edited, found) in [(removed, 3), (swapped, 2), (doubled, 4)] {
        match Reading::new(None).file(path, &edited.concat(), true, |_| ()) {
            Err(JournalError::Broken { line, .. }) => assert_eq!(line, found),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_torn_end_is_cut_off_and_writing_goes_on() {
    let bytes = filled_bytes();
    for length in 0..bytes.len() {
        check_torn(&bytes, length, &[]);
    }
}

/// Cuts `bytes` at `length`, puts `junk` behind, and checks that opening gives exactly the whole lines.
fn check_torn(bytes: &[u8], length: usize, junk: &[u8]) {
    let folder = folder_in_memory();
    let path = folder.path().join(file_name(1));
    let mut torn = bytes[..length].to_vec();
    torn.extend_from_slice(junk);
    std::fs::write(&path, &torn).unwrap();
    // A whole record whose line end alone is missing counts.
    let ends_whole = junk.is_empty() && bytes[length] == b'\n';
    let whole = bytes[..length]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
        + usize::from(ends_whole);
    let mut journal = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.read_all().unwrap().len(), whole);
    let on_boundary = length == 0 || bytes[length - 1] == b'\n' || ends_whole;
    assert_eq!(
        journal.torn().is_none(),
        on_boundary && junk.is_empty(),
        "{length}"
    );
    journal
        .append("op-9", "root", ended(Verdict::Done))
        .unwrap();
    drop(journal);
    let journal = Journal::open(folder.path()).unwrap();
    assert_eq!(journal.torn(), None);
    assert_eq!(journal.read_all().unwrap().len(), whole + 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn torn_tails_with_unwritten_blocks_are_cut_off(length in 0usize..2000, zeros in 1usize..600, ends in any::<bool>()) {
        let bytes = filled_bytes();
        let length = length % bytes.len();
        let mut junk = vec![0; zeros];
        if ends {
            // Sectors that were not written before some that were.
            junk.resize((length + zeros).next_multiple_of(SECTOR) - length, 0);
            junk.extend_from_slice(b"seconds\":7}}}\n{\"chain\":");
        }
        check_torn(&bytes, length, &junk);
    }

    #[test]
    fn arbitrary_bytes_never_panic(junk in proptest::collection::vec(any::<u8>(), 0..400), at in 0usize..2000) {
        let mut bytes = filled_bytes();
        let at = at % bytes.len();
        let end = bytes.len().min(at + junk.len());
        bytes.splice(at..end, junk);
        let _ = Reading::new(None).file(Path::new("x"), &bytes, true, |_| ());
        let _ = Reading::new(None).file(Path::new("x"), &bytes, false, |_| ());
    }
}

#[test]
fn zeros_before_a_synced_record_are_damage_and_no_torn_end() {
    let mut bytes = filled_bytes();
    // In line 2, before the synced end of the first operation in line 4.
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap() + 20;
    bytes[at..at + 10].fill(0);
    assert!(matches!(
        Reading::new(None).file(Path::new("x"), &bytes, true, |_| ()),
        Err(JournalError::Broken { line: 2, .. })
    ));
}

#[test]
fn a_record_too_long_is_refused_and_nothing_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    let kind = Kind::Ended {
        verdict: Verdict::Failed,
        text: "x".repeat(LINE_LIMIT),
    };
    assert!(matches!(
        journal.append("op", "root", kind),
        Err(JournalError::TooLong { .. })
    ));
    assert!(journal.read_all().unwrap().is_empty());
}

/// Format 1 as committed: it must be read for ever. `NEURATH_WRITE_FIXTURES=1` made it, once.
#[test]
fn the_fixture_of_format_1_is_read() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/journal-1");
    if std::env::var_os("NEURATH_WRITE_FIXTURES").is_some() && !fixture.exists() {
        std::fs::create_dir_all(&fixture).unwrap();
        std::fs::write(fixture.join(file_name(1)), filled_bytes()).unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    fill(&mut journal);
    assert_eq!(read_all(&fixture).unwrap(), journal.read_all().unwrap());
    assert_eq!(
        std::fs::read(fixture.join(file_name(1))).unwrap(),
        filled_bytes(),
        "format 1 changed"
    );
}

/// A record of a kind that only a newer node writes, in its place in the chain.
#[test]
fn a_record_of_a_newer_node_is_refused_by_name() {
    let json =
        br#"{"sequence":1,"time_ms":1,"operation_id":"x-1","who":"root","kind":{"dreamt":{}}}"#;
    let chain = super::reading::link(&blake3::hash(super::ROOT), json);
    let mut bytes = super::BEFORE_CHAIN.to_vec();
    bytes.extend_from_slice(chain.to_hex().as_bytes());
    bytes.extend_from_slice(super::BEFORE_RECORD);
    bytes.extend_from_slice(json);
    bytes.extend_from_slice(b"}\n");
    let read = Reading::new(None).file(Path::new("x"), &bytes, false, |_| ());
    let error = read.expect_err("it is newer").to_string();
    assert!(
        error.contains("a newer node may have written it"),
        "{error}"
    );
    assert!(error.contains("dreamt"), "{error}");
}

/// A file that takes nothing stands for a file system that refuses to write.
#[test]
fn an_end_that_cannot_be_recorded_is_recorded_later_and_nothing_begins_before() {
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    journal.append("op-1", "root", started()).unwrap();
    assert_eq!(journal.trouble(), None);
    let deaf = File::open(&journal.path).unwrap();
    let good = std::mem::replace(&mut journal.file, deaf);
    let end = |journal: &mut Journal, operation: &str| {
        journal.end(operation, "root", Verdict::Done, "it is done".to_owned())
    };
    assert!(end(&mut journal, "op-1").is_err());
    // What a later write would leave under it was to be cut off, which was refused as well.
    assert!(journal.poisoned);
    journal.poisoned = false;
    let said = journal.trouble().unwrap();
    assert!(
        said.contains("the end of op-1 is not recorded yet"),
        "{said}"
    );
    assert!(journal.catch_up().is_err());
    journal.poisoned = false;
    assert!(journal.append("op-2", "root", started()).is_err());
    journal.poisoned = false;
    assert_eq!(journal.owed.len(), 1);
    journal.file = good;
    journal.append("op-2", "root", started()).unwrap();
    assert_eq!(journal.trouble(), None);
    end(&mut journal, "op-2").unwrap();
    let operations: Vec<_> = journal
        .read_all()
        .unwrap()
        .into_iter()
        .map(|record| record.operation_id)
        .collect();
    assert_eq!(operations, ["op-1", "op-1", "op-2", "op-2"]);
    assert!(journal.unfinished().is_empty());
}

#[test]
fn room_is_kept_behind_the_end_and_is_no_part_of_the_file() {
    use std::os::unix::fs::MetadataExt as _;
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    fill(&mut journal);
    let about = std::fs::metadata(&journal.path).unwrap();
    assert_eq!(about.len(), journal.length);
    if about.blocks() == about.len().div_ceil(4096) * 8 {
        eprintln!("skipped: this file system keeps no room");
        return;
    }
    assert!(about.blocks() * 512 >= journal.length + room::RESERVE);
    // Also in the next file, and after an end that was cut off.
    journal.file_limit = 1;
    journal.append("op-3", "root", started()).unwrap();
    let next = std::fs::metadata(&journal.path).unwrap();
    assert!(next.len() < about.len() && next.blocks() * 512 >= room::RESERVE);
    drop(journal);
    let path = folder.path().join(file_name(2));
    let torn = OpenOptions::new().append(true).open(&path).unwrap();
    std::io::Write::write_all(&mut &torn, b"{\"chain").unwrap();
    drop(Journal::open(folder.path()).unwrap());
    assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= room::RESERVE);
}
