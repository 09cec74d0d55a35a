//! A library that ends its process, by an abort or a wild write, ends no more than that: the next start has the last
//! committed state, and leaves a release that was not confirmed, with what was written since. Starts that crash while
//! they do so are counted, and there are not endlessly many of them.

mod support;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseId;
use support::{Lines, assert_all_ended, assert_no_orphans, catalog, ended, journal, quiet};

const ABORT: i32 = 6;
const SEGMENTATION_FAULT: i32 = 11;

fn stage() -> Stage {
    neurath_suite::book("notebook_1", "dies")
}

/// A node that was upgraded with a note in it, and got another one since.
fn upgraded(stage: &Stage) -> (NodeProcess, NodeCommand) {
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    stage.install(node.directory()).expect("installed");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add before"), "0");
    let to = ReleaseId::new("book", "1.1.0");
    control::apply(node.directory(), &to, None, &quiet()).expect("the upgrade");
    assert_eq!(client.ask("version"), "1.1.0");
    assert_eq!(client.ask("add since"), "1");
    (node, command)
}

/// Sends a line that ends the node; the node ends by this signal.
#[track_caller]
fn ends_by(node: NodeProcess, line: &str, signal: i32) {
    let mut client = Lines::open(node.address());
    // The note before it is committed, the one behind it is not.
    assert_eq!(client.ask("add last"), "2");
    client.send(line);
    assert_eq!(client.receive(), None);
    let how = ended(&node);
    assert!(how.contains(&format!("signal: {signal}")), "{how}");
}

#[track_caller]
fn serves(command: &NodeCommand, version: &str) -> NodeProcess {
    let node = NodeProcess::start(command).expect("the node starts again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("version"), version);
    assert_eq!(client.ask("count"), "3");
    for (number, text) in ["before", "since", "last"].iter().enumerate() {
        assert_eq!(client.ask(&format!("get {number}")), *text);
    }
    node
}

#[test]
fn a_crash_of_a_confirmed_release_costs_the_message_only() {
    let stage = stage();
    let (node, command) = upgraded(&stage);
    support::ok(node.directory(), &["relup", "confirm"]);
    ends_by(node, "wild", SEGMENTATION_FAULT);
    let node = serves(&command, "1.1.0");
    drop(node);
    assert_eq!(catalog(&command.directory).starts, 0);
}

#[test]
fn a_release_that_crashes_before_it_is_confirmed_is_left() {
    let stage = stage();
    for (line, signal) in [("abort", ABORT), ("wild", SEGMENTATION_FAULT)] {
        let (node, mut command) = upgraded(&stage);
        ends_by(node, line, signal);
        // Neither its `init` nor its `quiesce` is called any more.
        for fault in ["init abort", "quiesce wild"] {
            command.environment = vec![("NEURATH_TEST_DIES".into(), fault.into())];
            let node = serves(&command, "1.0.0");
            node.stop().expect("an orderly stop");
        }
        let state = catalog(&command.directory);
        assert_eq!((state.previous, state.starts), (None, 0));
        assert_all_ended(&journal(&command.directory));
        assert_no_orphans(&command.directory);
    }
}

/// A node whose way back crashes, killed after `counted` starts that tried it.
fn crashing(stage: &Stage, starts: u32) -> NodeCommand {
    let (node, mut command) = upgraded(stage);
    ends_by(node, "abort", ABORT);
    let plain = command.clone();
    command.environment = vec![("NEURATH_TEST_DIES".into(), "code_change wild".into())];
    for start in 1..=starts {
        let error = NodeProcess::start(&command).expect_err("the way back crashes");
        let signal = format!("signal: {SEGMENTATION_FAULT}");
        assert!(error.to_string().contains(&signal), "{error:#}");
        // Counted before the library was loaded that has crashed.
        assert_eq!(catalog(&command.directory).starts, start);
    }
    plain
}

#[test]
fn a_way_back_that_crashes_is_tried_again_with_the_writes() {
    let stage = stage();
    let command = crashing(&stage, 2);
    let node = serves(&command, "1.0.0");
    assert_eq!(catalog(&command.directory).starts, 0);
    drop(node);
}

#[test]
fn a_way_back_that_crashes_too_often_waits_for_a_person() {
    let stage = stage();
    let mut command = crashing(&stage, 10);
    // Also where it would not crash any more.
    let error = NodeProcess::start(&command).expect_err("it is not tried again");
    let text = format!("{error:#}");
    for word in [
        "exit status: 50",
        "10 starts",
        "--try-again",
        "relup rollback --lose-writes --execute",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let copy = command.directory.with_file_name("copy");
    support::copy(&command.directory, &copy);
    // One way on keeps the writes.
    command.more = vec!["--try-again".into()];
    let node = serves(&command, "1.0.0");
    node.stop().expect("an orderly stop");
    command.more.clear();
    serves(&command, "1.0.0").stop().expect("an orderly stop");
    // The other one does without.
    command.directory = copy;
    let directory = command.directory.clone();
    support::ok(
        &directory,
        &["relup", "rollback", "--lose-writes", "--execute"],
    );
    assert_eq!(catalog(&directory).starts, 0);
    let node = NodeProcess::start(&command).expect("the node starts again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("version"), "1.0.0");
    assert_eq!(client.ask("count"), "1");
    assert_eq!(client.ask("get 0"), "before");
}
