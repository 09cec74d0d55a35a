//! P2: a release that nobody confirms is left again, with what was written meanwhile.

mod support;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Verdict};
use std::path::Path;
use support::{Lines, assert_all_ended, assert_no_orphans, catalog, journal, quiet, wait_until};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

fn stage(edit: impl FnOnce(&Path)) -> Stage {
    support::book_edited("notebook_1", "notebook_2", edit)
}

/// A node that was upgraded with the note `before` in it, and then got the note `since`.
fn upgraded(stage: &Stage) -> (NodeProcess, NodeCommand, Lines) {
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    stage.install(node.directory()).expect("installed");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add before"), "0");
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("the upgrade");
    let status = control::status(node.directory()).expect("status");
    assert_eq!(status.release, Some(release("1.1.0")));
    assert_eq!(status.permanent, Some(release("1.0.0")));
    assert!(status.unconfirmed);
    assert_eq!(client.ask("version"), "1.1.0");
    assert_eq!(client.ask("add since"), "1");
    (node, command, client)
}

#[track_caller]
fn assert_serves(address: &str, version: &str) {
    let mut client = Lines::open(address);
    assert_eq!(client.ask("version"), version);
    assert_eq!(client.ask("count"), "2");
    assert_eq!(client.ask("get 0"), "before");
    assert_eq!(client.ask("get 1"), "since");
}

#[track_caller]
fn assert_settled(directory: &Path, version: &str) {
    let status = control::status(directory).expect("status");
    assert_eq!(status.release, Some(release(version)));
    assert_eq!(status.permanent, Some(release(version)));
    assert!(!status.unconfirmed);
    assert_no_orphans(directory);
    assert_all_ended(&journal(directory));
}

/// Who has asked for a way back that was gone.
fn gone_back(directory: &Path) -> Vec<String> {
    let records = journal(directory);
    let done = |id: &str| {
        records.iter().any(|record| {
            let end = matches!(
                &record.kind,
                Kind::Ended {
                    verdict: Verdict::Done,
                    ..
                }
            );
            record.operation_id == id && end
        })
    };
    records
        .iter()
        .filter(|record| matches!(&record.kind, Kind::Started { operation, .. } if operation == "rollback"))
        .filter(|record| done(&record.operation_id))
        .map(|record| record.who.clone())
        .collect()
}

#[test]
fn a_restart_before_confirmation_goes_back() {
    let stage = stage(|_| ());
    for orderly in [true, false] {
        let (node, command, client) = upgraded(&stage);
        drop(client);
        if orderly {
            node.stop().expect("an orderly stop");
        } else {
            node.kill();
            drop(node);
        }
        assert!(catalog(&command.directory).previous.is_some());
        let node = NodeProcess::start(&command).expect("the node starts again");
        assert_serves(node.address(), "1.0.0");
        assert_settled(&command.directory, "1.0.0");
        assert_eq!(gone_back(&command.directory), ["the start of the node"]);
        // Once, and not again.
        node.stop().expect("an orderly stop");
        let node = NodeProcess::start(&command).expect("the node starts again");
        assert_serves(node.address(), "1.0.0");
        assert_eq!(gone_back(&command.directory).len(), 1);
    }
}

#[test]
fn a_window_that_ends_goes_back() {
    let stage = stage(|folder| {
        let path = folder.join("releases/book/1.1.0.toml");
        let text = std::fs::read_to_string(&path).expect("the release");
        let short = text.replace("window = \"60s\"", "window = \"15s\"");
        assert_ne!(short, text);
        std::fs::write(&path, short).expect("the release is written");
    });
    let (node, command, mut client) = upgraded(&stage);
    let directory = &command.directory;
    wait_until("the way back", || {
        let status = control::status(directory).expect("status");
        status.release == Some(release("1.0.0"))
    });
    // The connection that was open all the time, and a new one.
    assert_eq!(client.ask("version"), "1.0.0");
    assert_eq!(client.ask("get 1"), "since");
    assert_serves(node.address(), "1.0.0");
    wait_until("the record of it", || {
        gone_back(directory) == ["the confirmation window"]
    });
    assert_settled(directory, "1.0.0");
    node.check().expect("the node lives");
}

#[test]
fn a_confirmed_release_stays() {
    let stage = stage(|folder| {
        let path = folder.join("releases/book/1.1.0.toml");
        let text = std::fs::read_to_string(&path).expect("the release");
        std::fs::write(&path, text.replace("window = \"60s\"", "window = \"15s\""))
            .expect("written");
    });
    let (node, command, mut client) = upgraded(&stage);
    let since = std::time::Instant::now();
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    assert_settled(node.directory(), "1.1.0");
    // There is no way back any more, and a second confirmation confirms nothing.
    let back = control::rollback(node.directory(), false, &quiet()).expect_err("confirmed");
    assert!(back.to_string().contains("no way back"), "{back}");
    let again = control::confirm(node.directory(), &quiet()).expect_err("confirmed");
    assert!(again.to_string().contains("confirmed already"), "{again}");
    // Past the end of the window nothing has changed.
    wait_until("the window's end", || {
        since.elapsed() > std::time::Duration::from_millis(15_500)
    });
    assert_eq!(client.ask("version"), "1.1.0");
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("the node starts again");
    assert_serves(node.address(), "1.1.0");
    assert_settled(node.directory(), "1.1.0");
    assert!(gone_back(node.directory()).is_empty());
}
