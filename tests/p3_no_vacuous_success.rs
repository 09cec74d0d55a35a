//! P3: nothing that was not looked at counts as a success. A release becomes permanent by itself
//! only if its health checks were made, and held; else the node goes back, with the writes made
//! since.

mod support;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::Kind;
use neurath_node::protocol::{Outcome, Request};
use support::{Lines, assert_all_ended, assert_no_orphans, catalog, journal, quiet, wait_until};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// The notebook, whose 1.1.0 has this in its `[confirm]`.
fn stage(confirm: &str) -> Stage {
    support::book_edited("notebook_1", "notebook_2", |folder| {
        let path = folder.join("releases/book/1.1.0.toml");
        let text = std::fs::read_to_string(&path).expect("the release");
        let edited = text.replace("window = \"60s\"", confirm);
        assert_ne!(edited, text);
        std::fs::write(&path, edited).expect("the release is written");
    })
}

/// A node that was upgraded, with a note written before and one after.
fn upgraded(confirm: &str, prepare: impl FnOnce(&NodeProcess)) -> (Stage, NodeProcess, Lines) {
    let stage = stage(confirm);
    let node = stage.start("1.0.0").expect("a node");
    prepare(&node);
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add before"), "0");
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("upgraded");
    assert_eq!(client.ask("add after"), "1");
    (stage, node, client)
}

/// Whether the last operation in the journal has ended, and was somebody's whom the journal names so.
fn ended(node: &NodeProcess, who: &str) -> bool {
    let records = journal(node.directory());
    let last = records.last().expect("a record");
    matches!(last.kind, Kind::Ended { .. }) && last.who.contains(who)
}

#[track_caller]
fn assert_goes_back(node: &NodeProcess, client: &mut Lines, why: &str) {
    wait_until("the node goes back", || {
        catalog(node.directory()).current == Some(release("1.0.0"))
            && catalog(node.directory()).previous.is_none()
    });
    wait_until("the way back has ended", || ended(node, why));
    assert_eq!(client.ask("version"), "1.0.0");
    assert_eq!(client.ask("get 0"), "before");
    assert_eq!(client.ask("get 1"), "after");
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
}

const GOOD: &str = r#"window = "10s"
interval = "50ms"
checks = [{ component = "notebook", timeout = "60s" }, { command = ["true"], timeout = "60s" }]"#;

#[test]
fn checks_that_hold_for_the_window_make_a_release_permanent() {
    let (_stage, node, mut client) = upgraded(GOOD, |_| ());
    wait_until("it is confirmed", || {
        catalog(node.directory()).permanent == Some(release("1.1.0"))
    });
    wait_until("the confirmation is recorded", || {
        ended(&node, "the health checks, which held")
    });
    let state = catalog(node.directory());
    assert!(state.previous.is_none() && state.current == state.permanent);
    assert_eq!(client.ask("version"), "1.1.0");
    assert_eq!(client.ask("get 1"), "after");
}

#[test]
fn a_check_that_fails_sends_the_node_back_before_the_window_is_over() {
    // It holds before the upgrade: the file is there until then.
    let confirm = r#"window = "600s"
interval = "20ms"
failures = 3
checks = [{ command = ["test", "-e", "well"], timeout = "60s" }]"#;
    let (_stage, node, mut client) = upgraded(confirm, |node| {
        std::fs::write(node.directory().join("well"), "").expect("a file");
    });
    wait_until("the check is told", || {
        let status = control::status(node.directory()).expect("a status");
        status.health.iter().any(|line| line.contains("holds"))
    });
    std::fs::remove_file(node.directory().join("well")).expect("the file goes");
    assert_goes_back(&node, &mut client, "times in a row");
}

/// A check before the upgrade that takes its time: what it has started ends with it.
#[test]
fn nobody_waits_for_a_check_that_is_not_wanted_any_more() {
    let stage = stage(
        r#"window = "60s"
checks = [{ command = ["sh", "-c", "touch begun; sleep 301; true"], timeout = "300s" }]"#,
    );
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory().to_owned();
    let begin = || {
        let at = directory.clone();
        let applied =
            std::thread::spawn(move || control::apply(&at, &release("1.1.0"), None, &quiet()));
        let begun = directory.join("begun");
        wait_until("the check has begun", || begun.exists());
        std::fs::remove_file(begun).expect("removed");
        applied
    };
    let applied = begin();
    let given_up = control::ask(&directory, &Request::Abort, &mut |_| ()).expect("an answer");
    assert!(matches!(given_up, Outcome::Aborted { .. }), "{given_up:?}");
    let refused = applied.join().expect("a thread").unwrap_err().to_string();
    assert!(refused.contains("was given up"), "{refused}");
    assert_eq!(catalog(&directory).current, Some(release("1.0.0")));

    let applied = begin();
    node.stop().expect("an orderly stop");
    let refused = applied.join().expect("a thread").unwrap_err().to_string();
    assert!(refused.contains("the node is ending"), "{refused}");
    assert_all_ended(&journal(&directory));
}

#[test]
fn a_check_that_failed_before_as_well_is_inconclusive() {
    let confirm = r#"window = "300ms"
interval = "20ms"
checks = [{ command = ["false"], timeout = "60s" }]"#;
    let (_stage, node, mut client) = upgraded(confirm, |_| ());
    assert_goes_back(&node, &mut client, "inconclusive");
}

#[test]
fn a_window_without_checks_confirms_nothing() {
    let (_stage, node, mut client) = upgraded("window = \"200ms\"", |_| ());
    assert_goes_back(&node, &mut client, "the confirmation window");
}
