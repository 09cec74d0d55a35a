//! A node in a program of one's own.

mod support;

use std::time::Duration;

use neurath_cli::control;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Record};
use neurath_node::node::{CallError, Node, NodeHandle, NodeOptions, StartError};
use neurath_node::protocol::{Outcome, Request, Response, code};
use support::{Lines, assert_all_ended, assert_no_orphans, journal};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

#[track_caller]
fn asked(handle: &NodeHandle, line: &str) -> String {
    let answer = handle.call("notebook", line.as_bytes(), Duration::from_secs(10));
    String::from_utf8(answer.expect("an answer")).expect("text")
}

#[track_caller]
fn panics(handle: &NodeHandle, why: &str) {
    let line = format!("panic {why}");
    let answer = handle.call("notebook", line.as_bytes(), Duration::from_secs(10));
    assert!(
        matches!(&answer, Err(CallError::Refused(text)) if text.contains("panicked")),
        "{answer:?}"
    );
}

/// The text of a record that is an operation's end.
fn ended(record: &Record) -> Option<&str> {
    match &record.kind {
        Kind::Ended { text, .. } => Some(text),
        _ => None,
    }
}

#[test]
fn a_node_in_this_process() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("node");
    let options = NodeOptions {
        directory: directory.clone(),
        release: Some(release("1.0.0")),
        release_source: Some(stage.built().to_owned()),
        ..NodeOptions::default()
    };
    let node = Node::start(options.clone()).expect("a node");
    let handle = node.handle();
    assert_eq!(asked(&handle, "version"), "1.0.0");
    assert_eq!(asked(&handle, "add one"), "0");
    // Served in order: the call after it finds the note.
    handle.cast("notebook", b"add two").expect("cast");
    assert_eq!(asked(&handle, "count"), "2");
    let mut status = handle.status();
    support::wait_until("it tells where it listens", || {
        status = handle.status();
        !status.listen.is_empty()
    });
    assert_eq!(status.release, Some(release("1.0.0")));
    assert_eq!(status.pid, std::process::id());
    // By its socket, too.
    let mut client = Lines::open(&status.listen[0]);
    assert_eq!(client.ask("get 1"), "two");
    assert_eq!(handle.status().connections, 1);

    // What goes wrong is an error, and no more.
    let nobody = handle.call("nobody", b"x", Duration::from_secs(10));
    assert!(
        matches!(&nobody, Err(CallError::Refused(text)) if text.contains("nobody")),
        "{nobody:?}"
    );
    panics(&handle, "first");
    let second = Node::start(options.clone());
    assert!(
        matches!(second, Err(StartError::Directory(_))),
        "{second:?}"
    );

    // An upgrade, with its steps, in this process.
    stage.install(&directory).expect("installed");
    let plan = Request::Plan {
        folder: None,
        release: release("1.1.0"),
    };
    let Response::Done(planned) = handle.request_control(plan, &mut |_| ()) else {
        panic!("no plan");
    };
    let Outcome::Planned(planned) = *planned else {
        panic!("{planned:?}");
    };
    let mut steps = Vec::new();
    let apply = Request::Apply {
        release: release("1.1.0"),
        plan_id: Some(planned.plan_id.clone()),
        execute: true,
        reset: Vec::new(),
        no_snapshot: false,
    };
    let done = handle.request_control(apply.clone(), &mut |step| steps.push(step));
    assert!(
        matches!(&done, Response::Done(outcome) if matches!(**outcome, Outcome::Upgraded(_))),
        "{done:?}"
    );
    assert_eq!(steps.len(), planned.steps.len());
    assert_eq!(asked(&handle, "version"), "1.1.0");
    assert_eq!(client.ask("version"), "1.1.0");
    assert_eq!(asked(&handle, "add three"), "2");
    assert!(handle.status().unconfirmed);
    let again = handle.request_control(apply, &mut |_| ());
    assert!(
        matches!(&again, Response::Failed(failure) if failure.code == code::USAGE),
        "{again:?}"
    );

    // The command line sees the same node.
    assert_eq!(
        control::status(&directory).expect("status").release,
        Some(release("1.1.0"))
    );
    let confirmed = handle.request_control(Request::Confirm, &mut |_| ());
    assert!(matches!(confirmed, Response::Done(_)), "{confirmed:?}");
    panics(&handle, "last");
    node.stop().expect("an orderly stop");
    let after = handle.call("notebook", b"count", Duration::from_secs(10));
    assert_eq!(after, Err(CallError::Ended));
    assert_eq!(handle.cast("notebook", b"count"), Err(CallError::Ended));
    // A handle that is kept can do no harm: another node may have the directory by now.
    let late = handle.request_control(Request::rollback(), &mut |_| ());
    assert!(matches!(late, Response::Failed(_)), "{late:?}");
    assert_no_orphans(&directory);
    let records = journal(&directory);
    assert_all_ended(&records);
    // What failed is recorded before the upgrade that came next, and by the end at the latest.
    let by_the_supervisor = |record: &Record| record.who == "the supervisor";
    let failures: Vec<&str> = records
        .iter()
        .filter(|record| by_the_supervisor(record))
        .filter_map(ended)
        .collect();
    assert_eq!(
        failures,
        [
            "notebook.0 failed: it panicked: asked to: first",
            "notebook.0 failed: it panicked: asked to: last"
        ]
    );
    let first = records.iter().position(by_the_supervisor);
    let upgrade = |record: &Record| record.operation_id.starts_with("apply-");
    assert!(first < records.iter().position(upgrade), "{records:#?}");
    // By its handle, by its start, and by the socket from this same process.
    let pid = std::process::id();
    let own = |who: &str| who == "this process" || who.ends_with(&format!(" {pid}"));
    assert!(
        records
            .iter()
            .all(|record| by_the_supervisor(record) || own(&record.who)),
        "{records:#?}"
    );

    // And once more, with what it held.
    let node = Node::start(options).expect("a node");
    let (kept, handle) = (handle, node.handle());
    assert_eq!(asked(&handle, "version"), "1.1.0");
    assert_eq!(asked(&handle, "get 0"), "one");
    assert_eq!(asked(&handle, "get 2"), "three");
    let stopping = handle.request_control(Request::Stop, &mut |_| ());
    assert!(matches!(stopping, Response::Done(_)), "{stopping:?}");
    node.run_until_stopped().expect("an orderly stop");
    drop(kept);
}
