//! P10: a node's directory and its regions have one writer, and the lock dies with it.

mod support;

use std::fs::File;

use neurath_cli::control;
use neurath_cli::exit;
use neurath_cli::testing::NodeProcess;
use neurath_node::journal::Verdict;
use support::{Lines, catalog, journal, neurath, stderr};

/// Starts another node in a directory, by the real command, and tells its exit code and its words.
fn another(directory: &str, from: &str) -> (Option<i32>, String) {
    let start = [
        "node",
        "start",
        "--foreground",
        "--dir",
        directory,
        "--from",
        from,
    ];
    let output = neurath(&start);
    (output.status.code(), stderr(&output))
}

#[test]
fn a_second_node_is_refused_and_a_lock_dies_with_its_owner() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add one"), "0");
    let directory = node.directory().display().to_string();
    let built = stage.built().display().to_string();
    let (before, records) = (catalog(node.directory()), journal(node.directory()));

    let (code, said) = another(&directory, &built);
    assert_eq!(code, Some(i32::from(exit::OPERATOR)), "{said}");
    assert!(said.contains("a node runs here"), "{said}");
    assert!(said.contains(&node.pid().to_string()), "{said}");
    assert!(said.contains(&directory), "{said}");
    // In the background, too.
    let output = neurath(&["node", "start", "--dir", &directory, "--from", &built]);
    assert_ne!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(
        stderr(&output).contains(&node.pid().to_string()),
        "{}",
        stderr(&output)
    );

    // The first one has noticed nothing.
    assert_eq!(catalog(node.directory()), before);
    assert_eq!(journal(node.directory()), records);
    assert_eq!(
        control::status(node.directory()).expect("status").pid,
        node.pid()
    );
    assert_eq!(client.ask("add two"), "1");
    node.check().expect("the node lives");

    let killed = node.pid();
    node.kill();
    drop(node);
    // Nothing is cleared by hand.
    let node = NodeProcess::start(&command).expect("the lock has died with its owner");
    assert_ne!(node.pid(), killed);
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("get 0"), "one");
    assert_eq!(client.ask("get 1"), "two");
}

#[test]
fn a_region_that_somebody_else_has_is_refused() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    let directory = node.directory().display().to_string();
    let built = stage.built().display().to_string();
    let file = catalog(node.directory()).regions[0].file.clone();
    let path = node.directory().join("regions").join(&file);

    let theirs = File::options()
        .read(true)
        .write(true)
        .open(&path)
        .expect("the region's file");
    let held = theirs.try_lock();
    assert!(
        matches!(held, Err(std::fs::TryLockError::WouldBlock)),
        "the node has it: {held:?}"
    );
    node.stop().expect("an orderly stop");
    theirs.try_lock().expect("nobody has it");
    let bytes = std::fs::read(&path).expect("the region");

    let (code, said) = another(&directory, &built);
    assert_eq!(code, Some(i32::from(exit::OPERATOR)), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    assert!(said.contains(&file), "{said}");
    assert!(
        bytes == std::fs::read(&path).expect("the region"),
        "it was not touched"
    );

    drop(theirs);
    let node = NodeProcess::start(&command).expect("the region is free");
    assert_eq!(Lines::open(node.address()).ask("get 0"), "one");
    let records = journal(node.directory());
    assert!(records.iter().all(|record| {
        !format!("{:?}", record.kind).contains(&format!("{:?}", Verdict::OperatorNeeded))
    }));
}
