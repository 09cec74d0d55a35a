//! P11: every state has a way out, and the node says which. The graph of the states is walked in
//! `crates/neurath-node/src/lifecycle/tests.rs`; here a real node is brought into them, and out again.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::{ReleaseId, ReleaseStatus};
use neurath_node::lifecycle::Phase;
use neurath_node::protocol::Status;
use support::{
    Lines, ask, assert_all_ended, assert_no_orphans, catalog, journal, ok, quiet, stderr,
    wait_until,
};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

fn status(directory: &Path) -> Status {
    control::status(directory).expect("status")
}

/// What a node is in, and that it says what can be done.
#[track_caller]
fn assert_in(directory: &Path, phase: Phase) {
    let status = status(directory);
    assert_eq!(status.phase, Some(phase), "{status:#?}");
    let mut legal: Vec<String> = phase
        .commands()
        .iter()
        .map(|one| one.line().into())
        .collect();
    if status.interrupted.is_none() && phase == Phase::Idle {
        legal.retain(|one| !one.ends_with("resume"));
    }
    assert_eq!(status.next, legal);
    // What is not legal is refused, with what is.
    for words in [
        ["relup", "resume", "--execute"],
        ["relup", "abort", "--execute"],
    ] {
        let line = format!("neurath {} {}", words[0], words[1]);
        if status.next.contains(&line) {
            continue;
        }
        let output = ask(directory, &words);
        assert_eq!(
            output.status.code(),
            Some(2),
            "{words:?}: {}",
            stderr(&output)
        );
    }
}

#[track_caller]
fn assert_serves(node: &NodeProcess, version: &str, notes: usize) {
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("version"), version);
    assert_eq!(client.ask("count"), notes.to_string());
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
}

/// A release whose window is short.
fn short_window(folder: &Path) {
    let path = folder.join("releases/book/1.1.0.toml");
    let text = std::fs::read_to_string(&path).expect("the release");
    let short = text.replace("window = \"60s\"", "window = \"1s\"");
    assert_ne!(short, text);
    std::fs::write(&path, short).expect("the release is written");
}

/// Starts a node that is killed when it passes a point of this name for the first time after its start.
fn killed_at(stage: &Stage, command: &NodeCommand, point: &str, doing: impl Fn(&Path)) {
    let folder = support::folder_in_memory();
    let rehearsal = folder.path().join("node");
    support::copy(&command.directory, &rehearsal);
    let log = folder.path().join("points");
    let mut logged = stage.command("1.0.0");
    logged.directory.clone_from(&rehearsal);
    logged
        .environment
        .push(("NEURATH_FAULT_LOG".into(), log.clone().into()));
    let node = NodeProcess::start(&logged).expect("a node");
    let lines = || std::fs::read_to_string(&log).unwrap_or_default();
    let start = lines().lines().count();
    doing(&rehearsal);
    let text = lines();
    let at = text
        .lines()
        .skip(start)
        .position(|line| line.ends_with(point));
    let at = at.unwrap_or_else(|| panic!("{point} is not passed: {text}"));
    drop(node);
    let mut killed = command.clone();
    let number = (start + at + 1).to_string();
    killed
        .environment
        .push(("NEURATH_FAULT_KILL".into(), number.into()));
    let node = NodeProcess::start(&killed).expect("a node");
    doing(&killed.directory);
    wait_until("its death", || node.check().is_err());
}

/// Upgrades, or tries to.
fn try_upgrade(directory: &Path) {
    let _ = control::apply(directory, &release("1.1.0"), None, &quiet());
}

/// Ends a node that runs in the background, however the test ends.
struct Background<'a>(&'a Path);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        ask(self.0, &["node", "stop"]);
    }
}

#[test]
fn out_of_every_state_of_a_node_that_works() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let directory = &command.directory;
    let node = NodeProcess::start(&command).expect("a node");
    stage.install(directory).expect("installed");
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    assert_in(directory, Phase::Idle);

    // Unconfirmed, and out of it in each way.
    let ways: [(&[&str], &str); 4] = [
        (&["relup", "abort", "--execute"], "1.0.0"),
        (&["relup", "rollback", "--execute"], "1.0.0"),
        (
            &["relup", "rollback", "--lose-writes", "--execute"],
            "1.0.0",
        ),
        (&["relup", "confirm"], "1.1.0"),
    ];
    for (way, ends_in) in ways {
        control::apply(directory, &release("1.1.0"), None, &quiet()).expect("the upgrade");
        assert_in(directory, Phase::Unconfirmed);
        let busy = ask(directory, &["relup", "apply", "book-1.0.0", "--execute"]);
        assert_eq!(busy.status.code(), Some(30), "{}", stderr(&busy));
        ok(directory, way);
        assert_in(directory, Phase::Idle);
        assert_serves(&node, ends_in, 1);
    }

    // An old release that is rebooted into, with the state.
    assert_eq!(Lines::open(node.address()).ask("add two"), "1");
    assert_eq!(
        catalog(directory).status(&release("1.0.0")),
        Some(ReleaseStatus::Old)
    );
    let wrong = ask(
        directory,
        &["node", "reboot-old", "book-1.1.0", "--execute"],
    );
    assert_eq!(wrong.status.code(), Some(2), "{}", stderr(&wrong));
    ok(directory, &["node", "reboot-old", "book-1.0.0"]);
    node.check().expect("a dry run stops nothing");
    let background = Background(directory);
    ok(
        directory,
        &["node", "reboot-old", "book-1.0.0", "--execute"],
    );
    let now = support::full_status(directory);
    assert_eq!(now.permanent, Some(release("1.0.0")));
    assert!(!now.unconfirmed);
    assert_ne!(now.pid, node.pid());
    let mut client = Lines::open(&now.listen[0]);
    assert_eq!(
        (client.ask("version"), client.ask("get 1")),
        ("1.0.0".into(), "two".into())
    );
    drop((client, node));

    // Stopped: releases can be handled, and nothing else.
    drop(background);
    ok(directory, &["release", "which"]);
    ok(directory, &["release", "remove", "book-1.1.0", "--execute"]);
    ok(directory, &["release", "remove", "book-1.1.0", "--execute"]);
    let used = ask(directory, &["release", "remove", "book-1.0.0", "--execute"]);
    assert_eq!(used.status.code(), Some(30), "{}", stderr(&used));
    let back = ask(
        directory,
        &["relup", "rollback", "--lose-writes", "--execute"],
    );
    assert_eq!(back.status.code(), Some(2), "{}", stderr(&back));
    let node = NodeProcess::start(&command).expect("it starts");
    assert_serves(&node, "1.0.0", 2);
}

#[test]
fn out_of_an_upgrade_that_was_interrupted() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let directory = &command.directory;
    let node = NodeProcess::start(&command).expect("a node");
    stage.install(directory).expect("installed");
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    node.stop().expect("an orderly stop");
    killed_at(&stage, &command, "upgrade.converted", try_upgrade);
    let node = NodeProcess::start(&command).expect("it comes up");
    assert_serves(&node, "1.0.0", 1);
    let interrupted = status(directory).interrupted.expect("it is known");
    assert_eq!(interrupted.release, release("1.1.0"));
    assert_in(directory, Phase::Idle);
    ok(directory, &["relup", "resume"]);
    assert_serves(&node, "1.0.0", 1);
    ok(directory, &["relup", "resume", "--execute"]);
    assert_in(directory, Phase::Unconfirmed);
    assert_serves(&node, "1.1.0", 1);
    assert_eq!(status(directory).interrupted, None);

    // Not confirmed, and gone: the next start goes back. Or, as is asked for by name, without the writes.
    assert_eq!(Lines::open(node.address()).ask("add two"), "1");
    node.kill();
    drop(node);
    let kept = ask(directory, &["relup", "rollback", "--execute"]);
    assert_eq!(kept.status.code(), Some(50), "{}", stderr(&kept));
    // A dry run says what would be done, and does not do it.
    let dry = ask(directory, &["relup", "rollback", "--lose-writes"]);
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(dry.status.success(), "{}", stderr(&dry));
    assert!(said.contains("the writes made since are lost"), "{said}");
    assert!(catalog(directory).previous.is_some());
    ok(
        directory,
        &["relup", "rollback", "--lose-writes", "--execute"],
    );
    assert!(catalog(directory).previous.is_none());
    let dry = ask(directory, &["relup", "rollback", "--lose-writes"]);
    assert_eq!(dry.status.code(), Some(2), "{}", stderr(&dry));
    let node = NodeProcess::start(&command).expect("it comes up");
    assert_serves(&node, "1.0.0", 1);
    assert_in(directory, Phase::Idle);
}

#[test]
fn out_of_a_way_back_that_fails() {
    let stage = support::book_edited("notebook_1", "way_down_errors", short_window);
    let ways: [(&[&str], &str, usize); 3] = [
        (&["relup", "confirm"], "1.1.0", 2),
        (
            &["relup", "rollback", "--lose-writes", "--execute"],
            "1.0.0",
            1,
        ),
        (&["relup", "confirm"], "1.1.0", 2),
    ];
    for (turn, (way, ends_in, notes)) in ways.into_iter().enumerate() {
        let command = stage.command("1.0.0");
        let directory = &command.directory;
        let node = NodeProcess::start(&command).expect("a node");
        stage.install(directory).expect("installed");
        assert_eq!(Lines::open(node.address()).ask("add one"), "0");
        control::apply(directory, &release("1.1.0"), None, &quiet()).expect("the upgrade");
        assert_eq!(Lines::open(node.address()).ask("add two"), "1");
        wait_until("the window's end", || {
            status(directory).phase == Some(Phase::Stuck)
        });
        assert_in(directory, Phase::Stuck);
        assert_serves(&node, "1.1.0", 2);
        // It can be tried again, and fails again.
        let again = ask(directory, &["relup", "resume", "--execute"]);
        assert_eq!(again.status.code(), Some(40), "{}", stderr(&again));
        assert_in(directory, Phase::Stuck);
        // A restart tries it, too, and comes up all the same.
        let node = if turn == 2 {
            node.kill();
            drop(node);
            NodeProcess::start(&command).expect("it comes up")
        } else {
            node
        };
        assert_in(directory, Phase::Stuck);
        ok(directory, way);
        assert_in(directory, Phase::Idle);
        assert_serves(&node, ends_in, notes);
    }
}

/// An upgrade that takes its time is given up from elsewhere.
#[test]
fn out_of_an_upgrade_that_runs() {
    let stage = support::book_edited("notebook_1", "code_change_loops", |folder| {
        let path = folder.join("manifests/notebook/1.1.0.appup.toml");
        let text = std::fs::read_to_string(&path).expect("the appup");
        let advanced = "change = { advanced = {} }";
        let timed = text.replace(advanced, &format!("{advanced}, timeout = \"50s\""));
        assert_ne!(timed, text);
        std::fs::write(&path, timed).expect("the appup is written");
    });
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory().to_owned();
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    let upgrade = std::thread::spawn({
        let directory = directory.clone();
        move || control::apply(&directory, &release("1.1.0"), None, &quiet()).map(drop)
    });
    wait_until("the upgrade", || status(&directory).in_flight.is_some());
    let seen = status(&directory);
    assert_eq!(seen.phase, Some(Phase::Applying), "{seen:#?}");
    let flight = seen.in_flight.expect("it runs");
    assert_eq!(flight.release, Some(release("1.1.0")));
    assert!(flight.who.contains(" pid "), "{}", flight.who);
    // The step that takes long is told while it does, and not only when it has ended.
    let converts = || {
        let now = status(&directory).in_flight.and_then(|one| one.now);
        now.is_some_and(|now| now.step == "code_change notebook" && now.since_ms > 0)
    };
    wait_until("the step", converts);
    assert_eq!(seen.next, ["neurath relup abort"]);
    let busy = ask(&directory, &["relup", "confirm"]);
    assert_eq!(busy.status.code(), Some(30), "{}", stderr(&busy));
    ok(&directory, &["relup", "abort", "--execute"]);
    upgrade
        .join()
        .expect("its thread")
        .expect_err("it was given up");
    assert_in(&directory, Phase::Idle);
    assert_serves(&node, "1.0.0", 1);
}
