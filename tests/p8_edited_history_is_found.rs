//! P8: a history that was edited is found, wherever it was edited: `relup log` and the start of a node say
//! so, with an exit code of its own, and there is a way on.

mod support;

use std::path::{Path, PathBuf};

use neurath_cli::control;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Journal, Kind, Verdict};
use support::{Lines, catalog, journal, neurath, quiet, stderr};

const EDITED: i32 = 22;

/// A stopped node that was upgraded and confirmed, and how it is started.
fn played() -> (neurath_cli::stage::Stage, NodeCommand) {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    stage.install(node.directory()).expect("installed");
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    let to = ReleaseId::new("book", "1.1.0");
    control::apply(node.directory(), &to, None, &quiet()).expect("the upgrade");
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    node.stop().expect("an orderly stop");
    (stage, command)
}

fn log(directory: &Path) -> std::process::Output {
    let directory = directory.display().to_string();
    neurath(&["relup", "log", "--dir", &directory, "--json"])
}

#[track_caller]
fn assert_found(directory: &Path, what: &str) {
    let output = log(directory);
    let said = format!(
        "{}{}",
        stderr(&output),
        String::from_utf8_lossy(&output.stdout)
    );
    assert_eq!(output.status.code(), Some(EDITED), "{what}: {said}");
    assert!(said.contains("journal"), "{what}: {said}");
    assert!(said.contains("--set-aside"), "{what}: {said}");
}

fn file(directory: &Path) -> PathBuf {
    directory.join("journal/00000001.jsonl")
}

/// A history that is sound by itself, and another one than was written.
fn written_anew(directory: &Path) {
    let records = journal(directory);
    std::fs::remove_file(file(directory)).expect("removed");
    let mut anew = Journal::open(directory.join("journal")).expect("a new journal");
    for record in records {
        let who = if record.sequence == 2 {
            "somebody else"
        } else {
            &record.who
        };
        anew.append_at(record.time_ms, &record.operation_id, who, record.kind)
            .expect("appended");
    }
}

#[test]
fn every_edit_is_found_and_there_is_a_way_on() {
    let (_stage, command) = played();
    let directory = &command.directory;
    assert_eq!(
        log(directory).status.code(),
        Some(0),
        "{}",
        stderr(&log(directory))
    );
    let whole = std::fs::read(file(directory)).expect("the journal");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert!(lines.len() > 15, "{} lines", lines.len());
    let mark = catalog(directory).journal.expect("a mark");
    let write = |lines: &[&[u8]]| {
        std::fs::write(file(directory), lines.concat()).expect("it is written");
    };
    for at in 0..lines.len() {
        // A byte of the record, and one of the hash.
        for place in [20, lines[at].len() - 5] {
            let mut edited = whole.clone();
            let start: usize = lines[..at].iter().map(|line| line.len()).sum();
            edited[start + place] ^= 1;
            std::fs::write(file(directory), edited).expect("it is written");
            assert_found(directory, &format!("byte {place} of line {at}"));
        }
        let mut without = lines.clone();
        without.remove(at);
        // The end behind the catalog's mark is not known to it.
        if (at as u64) < mark.sequence || at + 1 < lines.len() {
            write(&without);
            assert_found(directory, &format!("without line {at}"));
        }
        if (at as u64) < mark.sequence {
            write(&lines[..at]);
            assert_found(directory, &format!("only {at} lines"));
        }
        let mut twice = lines.clone();
        twice.insert(at, lines[at]);
        write(&twice);
        assert_found(directory, &format!("line {at} twice"));
        if at > 0 {
            let mut swapped = lines.clone();
            swapped.swap(at - 1, at);
            write(&swapped);
            assert_found(directory, &format!("lines {at} and the one before swapped"));
        }
    }
    std::fs::write(file(directory), &whole).expect("as it was");
    written_anew(directory);
    assert_found(directory, "written anew");

    // The node does not start on it either.
    let (place, built) = (
        directory.display().to_string(),
        command.from.display().to_string(),
    );
    let start = neurath(&[
        "node",
        "start",
        "--foreground",
        "--dir",
        &place,
        "--from",
        &built,
    ]);
    assert_eq!(start.status.code(), Some(EDITED), "{}", stderr(&start));

    // As it was, all is well: nothing else was touched.
    std::fs::write(file(directory), &whole).expect("as it was");
    let node = NodeProcess::start(&command).expect("it starts");
    assert_eq!(Lines::open(node.address()).ask("get 0"), "one");
    let aside = ["relup", "log", "--set-aside", "--dir", &place];
    let running = neurath(&[&aside[..], &["--execute"]].concat());
    assert_ne!(running.status.code(), Some(0), "not under a running node");
    node.stop().expect("an orderly stop");

    // The way on: set aside, by name, and recorded.
    std::fs::write(file(directory), lines[..4].concat()).expect("cut");
    assert_found(directory, "cut");
    let dry = neurath(&aside);
    assert_eq!(dry.status.code(), Some(0), "{}", stderr(&dry));
    assert_found(directory, "a dry run changes nothing");
    let done = neurath(&[&aside[..], &["--execute"]].concat());
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let kept = std::fs::read(directory.join("journal/set-aside-1/00000001.jsonl"));
    assert_eq!(kept.expect("it is kept"), lines[..4].concat());
    let first = journal(directory).remove(0);
    assert!(matches!(first.kind, Kind::Started { operation, .. } if operation == "set-aside"));
    let node = NodeProcess::start(&command).expect("it starts");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("get 0"), "one");
    assert_eq!(client.ask("version"), "1.1.0");
    assert_eq!(log(directory).status.code(), Some(0));
    let ended = journal(directory).into_iter().filter(|record| {
        matches!(
            record.kind,
            Kind::Ended {
                verdict: Verdict::Done,
                ..
            }
        )
    });
    assert_eq!(ended.count(), 2, "set aside, and started");
}
