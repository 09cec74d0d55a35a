//! What a node says of releases that are not what they seem, and of starts that fail.

mod support;

use std::net::TcpListener;
use std::path::Path;

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Verdict};
use neurath_node::protocol::code;
use support::{Lines, ask, assert_all_ended, catalog, copy, journal, ok, quiet, stderr};

#[track_caller]
fn refused(directory: &Path, words: &[&str], with: u8, says: &str) {
    let output = ask(directory, words);
    assert_eq!(output.status.code(), Some(i32::from(with)), "{words:?}");
    let text = stderr(&output);
    assert!(text.contains(says), "{words:?}: {text}");
}

#[test]
fn a_folder_with_the_name_of_another_release_is_not_taken_in() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    let releases = directory.join("releases");
    copy(
        &stage.built().join("book-1.1.0"),
        &releases.join("book-5.0.0"),
    );
    let words = ["release", "set-unpacked", "book-5.0.0", "--execute"];
    refused(
        directory,
        &words,
        code::LINT,
        "the folder book-5.0.0 holds book-1.1.0",
    );
    assert!(catalog(directory).releases.len() == 1);
    let shown = ask(directory, &["release", "which"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("holds book-1.1.0"), "{shown}");
    // Under its own name it is one.
    std::fs::rename(releases.join("book-5.0.0"), releases.join("book-1.1.0")).expect("renamed");
    ok(
        directory,
        &["release", "set-unpacked", "book-1.1.0", "--execute"],
    );
    assert_eq!(catalog(directory).releases.len(), 2);
    node.stop().expect("stopped");
}

#[test]
fn the_current_release_is_checked_as_any_other() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    ok(directory, &["release", "check", "book-1.0.0"]);
    let file = directory.join("releases/book-1.0.0/release.toml");
    let text = std::fs::read_to_string(&file).expect("its release");
    std::fs::write(&file, format!("{text}#")).expect("written");
    let words = ["release", "check", "book-1.0.0"];
    refused(directory, &words, code::LINT, "release.toml");
    // It serves on: what runs was read before.
    assert_eq!(Lines::open(node.address()).ask("version"), "1.0.0");
}

#[test]
fn a_release_that_the_way_back_leads_through_stays_until_the_confirmation() {
    let stage = support::book_of_three("notebook_2");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    let release = |version| ReleaseId::new("book", version);
    for version in ["1.1.0", "1.2.0"] {
        control::install(directory, &release(version), stage.built()).expect("installed");
    }
    control::apply(directory, &release("1.2.0"), None, &quiet()).expect("upgraded");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add since"), "0");
    let remove = ["release", "remove", "book-1.1.0", "--execute"];
    refused(
        directory,
        &remove,
        code::BUSY,
        "may lead through book-1.1.0",
    );
    ok(directory, &["relup", "rollback", "--execute"]);
    assert_eq!(client.ask("get 0"), "since");
    ok(directory, &remove);
    node.stop().expect("stopped");
}

#[test]
fn a_start_that_fails_says_why_in_the_history() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let mut command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    command.directory = node.directory().to_owned();
    let address = node.address().to_owned();
    node.stop().expect("stopped");
    let taken = TcpListener::bind(&address).expect("the port is free");
    NodeProcess::start(&command).expect_err("its port is taken");
    let records = journal(&command.directory);
    let Some(Kind::Ended { verdict, text }) = records.last().map(|last| &last.kind) else {
        panic!("{records:?}");
    };
    assert_eq!(*verdict, Verdict::Failed);
    assert!(text.contains(&address), "{text}");
    assert_all_ended(&records);
    drop(taken);
    let node = NodeProcess::start(&command).expect("it starts");
    let interrupted = |record: &neurath_node::journal::Record| {
        matches!(
            &record.kind,
            Kind::Ended {
                verdict: Verdict::Interrupted,
                ..
            }
        )
    };
    assert!(!journal(node.directory()).iter().any(interrupted));
    node.stop().expect("stopped");
}
