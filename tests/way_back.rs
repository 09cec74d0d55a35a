//! Whatever is wrong with a new version, the old one serves on: with its state, and on the
//! connections that were open.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use neurath_cli::cargo::build_libraries;
use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Record, Verdict};
use support::{
    Lines, assert_all_ended, assert_no_orphans, book_with_library, catalog, full_status, journal,
    neurath, stderr,
};

/// The appup's `timeout`: a good upgrade is to do with it as well.
const TIMEOUT: Duration = Duration::from_secs(8);

/// A library, and what must be said about it.
const BROKEN: [(&str, &[&str]); 10] = [
    (
        "code_change_panics",
        &[
            "code_change",
            "notebook",
            "1.1.0",
            "a conversion that panics",
        ],
    ),
    (
        "code_change_errors",
        &[
            "code_change",
            "notebook",
            "1.1.0",
            "a conversion that refuses",
        ],
    ),
    (
        "code_change_loops",
        &["code_change", "notebook", "1.1.0", "did not end within"],
    ),
    (
        "init_panics",
        &["init", "notebook", "1.1.0", "an init that panics"],
    ),
    (
        "init_errors",
        &["init", "notebook", "1.1.0", "an init that refuses"],
    ),
    (
        "init_loops",
        &["init", "notebook", "1.1.0", "did not end within"],
    ),
    (
        "check_state_errors",
        &[
            "check_state",
            "notebook",
            "1.1.0",
            "a state that makes no sense",
        ],
    ),
    ("wrong_version", &["notebook 1.1.0", "9.9.9"]),
    (
        "no_symbol",
        &["notebook 1.1.0", "does not load", "NEURATH_COMPONENT"],
    ),
    (
        "other_abi",
        &[
            "notebook 1.1.0",
            "speaks version 2 of the component ABI",
            "build it with the SDK of that node",
        ],
    ),
];

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

fn stage(old: &str) -> Stage {
    support::book_edited(old, "notebook_2", |folder| {
        let path = folder.join("manifests/notebook/1.1.0.appup.toml");
        let text = std::fs::read_to_string(&path).expect("the appup");
        let timed = text.replace(
            "change = { advanced = {} }",
            &format!(
                "change = {{ advanced = {{}} }}, timeout = \"{}ms\"",
                TIMEOUT.as_millis()
            ),
        );
        assert_ne!(timed, text);
        std::fs::write(&path, timed).expect("the appup is written");
    })
}

/// What is wrong is found by the planner: nothing is begun, and the missing code is shown.
#[test]
fn a_state_that_no_code_change_covers_is_refused_before_anything_happens() {
    let stage = stage("notebook_1");
    let name = String::from("neurath-test-components/code_change_missing");
    let wanted = BTreeSet::from([name.clone()]);
    let libraries = build_libraries(Path::new("."), &wanted).expect("the broken library");
    let folder = tempfile::tempdir().expect("a folder");
    let library = std::path::absolute(&libraries[&name]).expect("a path");
    book_with_library(stage.built(), folder.path(), library);
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add note 0"), "0");
    let before = journal(node.directory()).len();
    let failed = apply(&node, folder.path());
    let said = stderr(&failed);
    assert_eq!(failed.status.code(), Some(20), "{said}");
    for word in [
        "error[P015]",
        "no code_change from the state of 1.0.0",
        "`written` was added",
        "pub mod v1_0",
        "fn note_from_1_0(old: v1_0::Note) -> Note",
        "notes: old.notes.carry_over(),",
    ] {
        assert!(said.contains(word), "{word} is not in {said}");
    }
    // That the release came in is recorded; no upgrade is begun.
    let since = journal(node.directory()).split_off(before);
    let begun = |record: &Record| matches!(&record.kind, Kind::Started { operation, .. } if operation == "apply");
    assert!(!since.iter().any(begun), "{since:#?}");
    assert_old(&mut client, 1);
}

fn apply(node: &NodeProcess, from: &Path) -> std::process::Output {
    let directory = node.directory().display().to_string();
    let from = from.display().to_string();
    neurath(&[
        "relup",
        "apply",
        "book-1.1.0",
        "--dir",
        &directory,
        "--from",
        &from,
        "--execute",
    ])
}

/// The old release serves, with these notes, on a connection.
#[track_caller]
fn assert_old(client: &mut Lines, notes: usize) {
    assert_eq!(client.ask("version"), "1.0.0");
    assert_eq!(client.ask("count"), notes.to_string());
    for number in 0..notes {
        assert_eq!(
            client.ask(&format!("get {number}")),
            format!("note {number}")
        );
    }
}

#[test]
fn the_old_release_serves_on_and_a_good_upgrade_succeeds() {
    let stage = stage("notebook_1");
    let wanted: BTreeSet<String> = BROKEN
        .iter()
        .map(|(name, _)| format!("neurath-test-components/{name}"))
        .collect();
    let libraries = build_libraries(Path::new("."), &wanted).expect("the broken libraries");
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for (name, words) in BROKEN {
        let from = folder.path().join(name);
        let library = &libraries[&format!("neurath-test-components/{name}")];
        book_with_library(
            stage.built(),
            &from,
            std::path::absolute(library).expect("a path"),
        );
        let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
        let mut clients: Vec<Lines> = (0..4).map(|_| Lines::open(node.address())).collect();
        for number in 0..50 {
            let client = &mut clients[number % 4];
            assert_eq!(
                client.ask(&format!("add note {number}")),
                number.to_string()
            );
        }
        let before = catalog(node.directory());
        let began = Instant::now();
        let failed = apply(&node, &from);
        let took = began.elapsed();
        let said = stderr(&failed);
        println!("{name}: {:?} after {took:?}: {said}", failed.status.code());
        // Another ABI is found by the planner, which begins nothing.
        let planned = name != "other_abi";
        let code = if planned { 40 } else { 20 };
        if failed.status.code() != Some(code) {
            wrong.push(format!(
                "{name}: exit code {:?}: {said}",
                failed.status.code()
            ));
        }
        let missing: Vec<_> = words.iter().filter(|word| !said.contains(**word)).collect();
        if !missing.is_empty() {
            wrong.push(format!("{name}: {missing:?} not in: {said}"));
        }
        // Not when a loop was over by itself.
        assert!(took < Duration::from_secs(58), "{name} took {took:?}");
        node.check().expect("the node lives");
        let after = catalog(node.directory());
        assert_eq!(after.current, Some(release("1.0.0")), "{name}");
        assert_eq!(
            (after.regions, after.previous),
            (before.regions, None),
            "{name}"
        );
        for client in &mut clients {
            assert_old(client, 50);
        }
        assert_old(&mut Lines::open(node.address()), 50);
        let records = journal(node.directory());
        assert_all_ended(&records);
        let ended = records.last().map(|record| &record.kind);
        let undone = matches!(
            ended,
            Some(Kind::Ended {
                verdict: Verdict::Undone | Verdict::Failed,
                ..
            })
        );
        let applied = |one: &Record| matches!(&one.kind, Kind::Started { operation, .. } if operation == "apply");
        let began = records.iter().any(applied);
        assert_eq!((began, undone), (planned, planned), "{name}: {ended:?}");
        assert_no_orphans(node.directory());
        let status = full_status(node.directory());
        assert_eq!(status.components[0].version, "1.0.0", "{name}");
        assert_eq!(status.components[0].state, "running", "{name}");

        // Built again, without the fault.
        let installed = node.directory().join("releases/book-1.1.0");
        std::fs::remove_dir_all(installed).expect("the broken release is removed");
        let good = apply(&node, stage.built());
        assert_eq!(good.status.code(), Some(0), "{name}: {}", stderr(&good));
        for client in &mut clients {
            assert_eq!(client.ask("version"), "1.1.0", "{name}");
            assert_eq!(client.ask("get 49"), "note 49", "{name}");
        }
        assert_eq!(clients[0].ask("add more"), "50", "{name}");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// A version that leaves a thread behind is no broken one: it is upgraded to. But its code can
/// never be unloaded, and the node says so, and lives.
#[test]
fn a_version_that_leaves_a_thread_behind_stays_in_memory() {
    let stage = support::book_edited("notebook_1", "leaks_a_thread", |_| ());
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add note 0"), "0");
    let went = apply(&node, stage.built());
    assert_eq!(went.status.code(), Some(0), "{}", stderr(&went));
    assert_eq!(client.ask("version"), "1.1.0");
    let status = control::status(node.directory()).expect("status");
    assert!(status.retained.is_empty(), "{:?}", status.retained);
    let back = control::rollback(node.directory(), false, &support::quiet());
    let back = back.expect("the way back");
    assert!(back.unloaded.is_empty(), "{:?}", back.unloaded);
    assert_eq!(back.retained.len(), 1, "{:?}", back.retained);
    assert!(
        back.retained[0].library.contains("notebook"),
        "{:?}",
        back.retained
    );
    let status = control::status(node.directory()).expect("status");
    assert_eq!(status.retained, back.retained);
    assert_old(&mut client, 1);
    // And again: each time another copy stays, and all is well.
    let again = apply(&node, stage.built());
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(client.ask("get 0"), "note 0");
    node.check().expect("the node lives");
}

#[test]
fn an_old_version_that_does_not_want_to_go() {
    let stage = stage("notebook_1_stubborn");
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add note 0"), "0");
    for _ in 0..2 {
        let failed = apply(&node, stage.built());
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(40), "{said}");
        for word in ["quiesce", "notebook", "1.0.0", "I would rather not"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_old(&mut client, 1);
        assert_no_orphans(node.directory());
        assert_all_ended(&journal(node.directory()));
    }
}
