//! P14: every change is recorded: who asked for it, which plan, each step, how it ended. So much so that the
//! history alone tells what the catalog says, also after a kill.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Record, Verdict, replay};
use serde_json::Value;
use support::{Lines, ask, assert_all_ended, catalog, copy, journal, ok, quiet, stderr};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// The operations of a journal: what they were, who asked, and how they ended.
fn operations(records: &[Record]) -> Vec<(String, String, Option<Verdict>)> {
    let ended = |id: &str| {
        records.iter().find_map(|record| match &record.kind {
            Kind::Ended { verdict, .. } if record.operation_id == id => Some(*verdict),
            _ => None,
        })
    };
    records
        .iter()
        .filter_map(|record| match &record.kind {
            Kind::Started { operation, .. } => Some((
                operation.clone(),
                record.who.clone(),
                ended(&record.operation_id),
            )),
            _ => None,
        })
        .collect()
}

fn names(directory: &Path) -> Vec<String> {
    let all = operations(&journal(directory));
    all.into_iter().map(|(name, ..)| name).collect()
}

/// The history leads to what the catalog says.
#[track_caller]
fn assert_replays(directory: &Path, when: &str) {
    let (records, state) = (journal(directory), catalog(directory));
    let leads = replay(&records);
    assert!(
        leads.agrees_with(&state),
        "{when}: {leads:?}, and the catalog: {:?} {:?} {:?}\n{records:#?}",
        state.current,
        state.permanent,
        state.previous
    );
}

#[test]
fn the_history_tells_all_and_leads_to_the_catalog() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let directory = &command.directory;
    let node = NodeProcess::start(&command).expect("a node");
    assert_replays(directory, "after the first start");
    stage.install(directory).expect("installed");
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    let built = stage.built().display().to_string();
    let apply = [
        "relup",
        "apply",
        "book-1.1.0",
        "--from",
        &built,
        "--execute",
    ];
    for (words, when) in [
        (&apply[..], "after the upgrade"),
        (&["relup", "rollback", "--execute"], "after the way back"),
        (&apply, "after the second upgrade"),
        (&["relup", "abort", "--execute"], "after it was given up"),
        (&apply, "after the third upgrade"),
        (&["relup", "confirm"], "after the confirmation"),
        (
            &["release", "remove", "book-1.0.0", "--execute"],
            "after a removal",
        ),
    ] {
        ok(directory, words);
        assert_replays(directory, when);
        assert!(!replay(&journal(directory)).agrees_with(&Default::default()));
    }
    node.kill();
    drop(node);
    assert!(replay(&journal(directory)).running, "nobody stopped it");
    let node = NodeProcess::start(&command).expect("it starts again");
    assert_replays(directory, "after a kill");
    let old = ReleaseId::new("book", "1.0.0");
    control::install(directory, &old, stage.built()).expect("installed again");
    node.stop().expect("an orderly stop");
    assert!(!replay(&journal(directory)).running);
    ok(directory, &["release", "remove", "book-1.0.0", "--execute"]);

    let records = journal(directory);
    assert_all_ended(&records);
    let expected = [
        "start", "install", "install", "apply", "rollback", "apply", "rollback", "apply",
        "confirm", "remove", "start", "install", "stop", "remove",
    ];
    assert_eq!(names(directory), expected);
    for (name, who, verdict) in operations(&records) {
        assert_eq!(verdict, Some(Verdict::Done), "{name} by {who}");
        let process = who.starts_with("process ") || who.contains(" pid ");
        assert!(process, "{name} was asked for by {who:?}");
    }
    // Each step of each plan, in its order and with its time.
    let plans: Vec<&Record> = records
        .iter()
        .filter(|record| {
            matches!(
                &record.kind,
                Kind::Started {
                    plan_id: Some(_),
                    ..
                }
            )
        })
        .collect();
    assert_eq!(plans.len(), 5);
    for plan in plans {
        let steps = records.iter().filter_map(|record| match &record.kind {
            Kind::Step { index, verdict, .. } if record.operation_id == plan.operation_id => {
                assert_eq!(*verdict, Verdict::Done);
                Some(*index)
            }
            _ => None,
        });
        let steps: Vec<u32> = steps.collect();
        assert!(steps.len() >= 6, "{plan:?}: {steps:?}");
        assert_eq!(steps, (0..steps.len() as u32).collect::<Vec<_>>());
    }

    // The command tells the same, to people and to programs.
    let text = ask(directory, &["relup", "log", "--steps"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for word in [
        "confirm",
        "rollback",
        "code_change",
        "book-1.1.0 is permanent",
        "chain is sound",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let trace = directory.join("../trace.json");
    let trace_path = trace.display().to_string();
    let json = ask(
        directory,
        &["relup", "log", "--json", "--trace", &trace_path],
    );
    let lines: Vec<Value> = String::from_utf8_lossy(&json.stdout)
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line of JSON"))
        .collect();
    assert_eq!(lines.len(), records.len() + 1);
    let last = lines.last().expect("the last line");
    assert_eq!(
        (&last["kind"], &last["agrees"]),
        (&Value::from("log"), &Value::from(true))
    );
    let trace: Value =
        serde_json::from_slice(&std::fs::read(trace).expect("the trace")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let of = |cat: &str| events.iter().filter(|event| event["cat"] == cat).count();
    assert_eq!(of("operation"), expected.len());
    assert!(of("step") >= 30, "{}", of("step"));
}

/// What is refused changes nothing, and what fails is recorded as failed.
#[test]
fn failures_are_recorded_as_such() {
    let stage = neurath_suite::book("notebook_1", "code_change_errors");
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory();
    let before = names(directory);
    for words in [
        &["relup", "confirm"][..],
        &["relup", "rollback", "--execute"],
        &["relup", "abort", "--execute"],
        &["relup", "resume", "--execute"],
        &["release", "remove", "book-1.0.0", "--execute"],
        &["relup", "apply", "book-1.1.0"],
        &["release", "which"],
    ] {
        ask(directory, words);
        assert_eq!(names(directory), before, "{words:?}");
    }
    control::apply(directory, &release("1.1.0"), None, &quiet()).expect_err("it is broken");
    let package = directory.join("node.log").display().to_string();
    let output = ask(directory, &["release", "unpack", &package, "--execute"]);
    assert_eq!(output.status.code(), Some(20), "{}", stderr(&output));
    let all = operations(&journal(directory));
    let last: Vec<_> = all[before.len()..]
        .iter()
        .map(|(name, _, verdict)| (name.as_str(), *verdict))
        .collect();
    assert_eq!(
        last,
        [
            ("apply", Some(Verdict::Undone)),
            ("unpack", Some(Verdict::Failed))
        ]
    );
    assert_replays(directory, "after failures");
}

/// Killed at points all over an upgrade, a confirmation and a way back: the history of the node that
/// comes up leads to what it runs.
#[test]
fn after_a_kill_the_history_still_leads_to_the_catalog() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    let prepared = node.directory().to_owned();
    node.stop().expect("an orderly stop");
    let folder = support::folder_in_memory();
    let (directory, log) = (folder.path().join("node"), folder.path().join("points"));
    type Ask = fn(&Path) -> anyhow::Result<()>;
    let apply: Ask = |dir| control::apply(dir, &release("1.1.0"), None, &quiet()).map(drop);
    let rollback: Ask = |dir| control::rollback(dir, false, &quiet()).map(drop);
    let confirm: Ask = |dir| control::confirm(dir, &quiet()).map(drop);
    for asks in [&[apply, rollback][..], &[apply, confirm]] {
        copy(&prepared, &directory);
        let mut command = stage.command("1.0.0");
        command.directory.clone_from(&directory);
        let mut logged = command.clone();
        let _ = std::fs::remove_file(&log);
        logged
            .environment
            .push(("NEURATH_FAULT_LOG".into(), log.clone().into()));
        let node = NodeProcess::start(&logged).expect("a node");
        let passed = || {
            std::fs::read_to_string(&log)
                .unwrap_or_default()
                .lines()
                .count()
        };
        let begin = passed();
        for ask in asks {
            ask(&directory).expect("it is done");
        }
        let end = passed();
        drop(node);
        for kill in (begin + 1..=end).step_by(((end - begin) / 14).max(1)) {
            copy(&prepared, &directory);
            let mut killed = command.clone();
            let variable = "NEURATH_FAULT_KILL".into();
            killed.environment.push((variable, kill.to_string().into()));
            let node = NodeProcess::start(&killed).expect("a node");
            for ask in asks {
                let _ = ask(&directory);
            }
            drop(node);
            let node = NodeProcess::start(&command).expect("it comes up");
            assert_replays(&directory, &format!("killed at {kill} of {begin}..{end}"));
            assert_all_ended(&journal(&directory));
            drop(node);
        }
    }
}
