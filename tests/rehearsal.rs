//! A rehearsal shows what an upgrade would do, on the state as it is, and touches nothing.

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use neurath_cli::cargo::build_libraries;
use neurath_cli::stage::{Stage, fill};
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_verify::{Options, Verifier};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use support::{Lines, PATIENCE, at_rest, book_with_library, catalog, everything, neurath, stderr};

fn rehearse(node: &NodeProcess, release: &str, from: &Path, more: &[&str]) -> Output {
    let directory = node.directory().display().to_string();
    let from = from.display().to_string();
    let mut arguments = vec!["relup", "rehearse", release, "--dir", &directory];
    arguments.extend(["--from", &from, "--json"]);
    arguments.extend(more);
    neurath(&arguments)
}

#[track_caller]
fn rehearsed(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{}", stderr(output));
    let text = String::from_utf8_lossy(&output.stdout);
    let mut told = text.lines().filter(|line| line.contains("\"rehearsed\""));
    let told = told
        .next_back()
        .unwrap_or_else(|| panic!("nothing was told: {text}"));
    serde_json::from_str(told).expect("JSON")
}

#[test]
fn it_shows_what_would_happen_and_touches_nothing() {
    let stage = neurath_suite::kv(&["1.0.0", "1.1.0"]);
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    assert!(fill(node.address(), 20_000).expect("filled").is_clean());
    let before = at_rest(node.directory());
    let told = rehearsed(&rehearse(&node, "kv-1.1.0", stage.built(), &[]));
    assert_eq!(everything(node.directory()), before, "something changed");

    let rehearsal = &told["rehearsal"];
    assert_eq!(rehearsal["from"]["version"], "1.0.0");
    assert_eq!(rehearsal["to"]["version"], "1.1.0");
    assert!(rehearsal["stop_us"].as_u64() > Some(0), "{told:#}");
    assert!(rehearsal["memory"]["peak"].as_u64() >= rehearsal["memory"]["before"].as_u64());
    assert!(told["copied"]["bytes"].as_u64() > Some(1 << 20), "{told:#}");
    assert!(told["copied"]["stop_us"].is_u64(), "{told:#}");
    let same = rehearsal["way_back"]["same"]["stop_us"].as_u64();
    assert!(same > Some(0), "{:#}", rehearsal["way_back"]);
    let states = rehearsal["states"].as_array().expect("states");
    let of = |name: &str| states.iter().find(|state| state["component"] == name);
    let store = of("store").expect("the store's state");
    assert_eq!(
        (&store["from"], &store["to"]),
        (&"1.0.0".into(), &"1.1.0".into())
    );
    assert_eq!(store["leaked"], 0);

    // It serves as before, and the real upgrade works.
    let client = &mut Lines::open(node.address());
    assert_eq!(client.ask("PING\r"), "+PONG");
    assert_eq!(
        catalog(node.directory()).current.map(|one| one.version),
        Some("1.0.0".into())
    );
    apply(&node, &stage);
    // From there on to a release that it is at already: refused as `apply` would.
    let again = rehearse(&node, "kv-1.1.0", stage.built(), &[]);
    assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
}

fn apply(node: &NodeProcess, stage: &Stage) {
    let directory = node.directory().display().to_string();
    let from = stage.built().display().to_string();
    let arguments = [
        "relup", "apply", "kv-1.1.0", "--dir", &directory, "--from", &from,
    ];
    let done = neurath(&[&arguments[..], &["--execute"]].concat());
    assert!(done.status.success(), "{}", stderr(&done));
}

/// As `apply` would: its folder is there, and nobody has taken it in. So it is in a copy that is made just then, too.
#[test]
fn a_release_that_is_not_taken_in_yet_is_taken_from_where_it_was_built() {
    let stage = support::book_edited("notebook_1", "notebook_2", |_| ());
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let there = node.directory().join("releases/book-1.1.0");
    support::copy(&stage.built().join("book-1.1.0"), &there);
    rehearsed(&rehearse(&node, "book-1.1.0", stage.built(), &[]));
}

/// Under load, and while the upgrade itself, a way back and another upgrade come between: the
/// load notices nothing, and the rehearsal either ends well or says that it was busy.
#[test]
fn it_runs_beside_load_and_beside_upgrades() {
    let stage = neurath_suite::kv(&["1.0.0", "1.1.0"]);
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    assert!(fill(node.address(), 20_000).expect("filled").is_clean());
    let options = Options {
        address: node.address().to_owned(),
        connections: 2,
        keys: 2_000,
        timeout: PATIENCE,
        ..Options::default()
    };
    let stop = Arc::clone(&options.stop);
    let verifier = Verifier::new(options).spawn();
    let directory = node.directory().display().to_string();
    let built = stage.built();
    let mut ended = Vec::new();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let rehearsing = scope.spawn(|| rehearse(&node, "kv-1.1.0", built, &[]));
            apply(&node, &stage);
            let back = ["relup", "rollback", "--dir", &directory, "--execute"];
            let back = neurath(&back);
            assert!(back.status.success(), "{}", stderr(&back));
            ended.push(rehearsing.join().expect("it ends"));
        }
    });
    ended.push(rehearse(&node, "kv-1.1.0", stage.built(), &[]));
    stop.store(true, Ordering::Relaxed);
    let report = verifier.join().expect("the client ends");
    assert!(report.is_clean(), "{report:?}");
    for output in &ended {
        // Where the node was at 1.1.0 just then, there was nothing to rehearse.
        let code = output.status.code();
        let told = String::from_utf8_lossy(&output.stdout);
        let said = stderr(output);
        assert!(matches!(code, Some(0 | 2 | 30)), "{code:?}: {said}{told}");
    }
    rehearsed(ended.last().expect("the last"));
    assert!(!node.directory().join("rehearsals").exists());
}

/// The steps of a pause are told when it is over; of one that takes long, as they end.
const IN_THE_PAUSE: &str = "in the pause";
const TOLD: [&str; 3] = [
    "after `point_of_no_return`",
    "after `suspend notebook`",
    "after `load notebook`",
];

/// A limit that is over before that of the pause, ten seconds, is.
const SOON: [&str; 2] = ["--timeout", "6"];

/// What is wrong with a version, and what is said of it.
const BROKEN: [(&str, &[&str], &[&str]); 7] = [
    ("code_change_panics", &[], &["a conversion that panics"]),
    ("code_change_errors", &[], &["a conversion that refuses"]),
    (
        "code_change_loops",
        &SOON,
        &["--timeout", IN_THE_PAUSE, "forged"],
    ),
    (
        "code_change_aborts",
        &[],
        &["died", "signal: 6", IN_THE_PAUSE],
    ),
    ("code_change_eats_memory", &["--memory", "400000000"], &[]),
    ("init_panics", &[], &["an init that panics"]),
    ("check_state_errors", &[], &["a state that makes no sense"]),
];

#[test]
fn a_broken_version_hurts_only_the_copy() {
    let stage = support::book_edited("notebook_1", "notebook_2", |_| ());
    let wanted: BTreeSet<String> = BROKEN
        .iter()
        .map(|(name, ..)| format!("neurath-test-components/{name}"))
        .collect();
    let libraries = build_libraries(Path::new("."), &wanted).expect("the broken libraries");
    let folder = tempfile::tempdir().expect("a folder");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let mut client = Lines::open(node.address());
    for number in 0..50 {
        assert_eq!(
            client.ask(&format!("add note {number}")),
            number.to_string()
        );
    }
    let before = at_rest(node.directory());
    for (name, limits, words) in BROKEN {
        let from = folder.path().join(name);
        let library = &libraries[&format!("neurath-test-components/{name}")];
        book_with_library(
            stage.built(),
            &from,
            std::path::absolute(library).expect("a path"),
        );
        let tried = |limits: &[&str]| {
            let failed = rehearse(&node, "book-1.1.0", &from, limits);
            let told = String::from_utf8_lossy(&failed.stdout);
            let said = format!("{}{told}", stderr(&failed));
            assert_eq!(failed.status.code(), Some(40), "{name}: {said}");
            said
        };
        let missing = |said: &str| {
            let mut words = words.iter();
            words.find(|word| match **word {
                IN_THE_PAUSE => !TOLD.iter().any(|step| said.contains(step)),
                word => !said.contains(word),
            })
        };
        let mut said = tried(limits);
        // Where it takes long to come to the pause, the limit grows, by less than the pause may last.
        for seconds in (12..=60).step_by(6) {
            if limits != SOON || missing(&said).is_none() {
                break;
            }
            said = tried(&["--timeout", &seconds.to_string()]);
        }
        let missing = missing(&said);
        assert!(missing.is_none(), "{name}: {missing:?} is not in {said}");
        node.check().expect("the node lives");
        assert_eq!(
            everything(node.directory()),
            before,
            "{name} changed something"
        );
        assert_eq!(client.ask("count"), "50");
    }
    // The good one.
    let told = rehearsed(&rehearse(&node, "book-1.1.0", stage.built(), &[]));
    let same = &told["rehearsal"]["way_back"]["same"];
    assert!(same.is_object(), "{told:#}");
    assert_eq!(everything(node.directory()), before);
}

/// What the way down would lose, or cannot do, is said beforehand.
#[test]
fn a_way_back_that_fails_is_told() {
    let stage = support::book_edited("notebook_1", "way_down_errors", |_| ());
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    assert_eq!(Lines::open(node.address()).ask("add a note"), "0");
    let told = rehearsed(&rehearse(&node, "book-1.1.0", stage.built(), &[]));
    let missing = told["rehearsal"]["way_back"]["missing"]["why"].as_str();
    let missing = missing.unwrap_or_else(|| panic!("{told:#}"));
    assert!(
        missing.contains("a conversion back that refuses"),
        "{missing}"
    );
}

/// However the command ends, the version that loops ends with it, and nothing stays of the copy.
#[test]
fn a_rehearsal_ends_with_its_command() {
    let stage = support::book_edited("notebook_1", "code_change_loops", |_| ());
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    assert_eq!(Lines::open(node.address()).ask("add a note"), "0");
    let folder = node.directory().join("rehearsals");
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let mut command = Command::new(neurath_suite::program());
        command.args(["relup", "rehearse", "book-1.1.0", "--dir"]);
        command
            .arg(node.directory())
            .arg("--from")
            .arg(stage.built());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut command = command.spawn().expect("a command");
        let mut told = BufReader::new(command.stderr.take().expect("its progress")).lines();
        let at_it = told.any(|line| line.is_ok_and(|line| line.contains("point_of_no_return")));
        assert!(at_it, "it rehearses");
        let pid = Pid::from_child(&command);
        let child = children(pid);
        assert_eq!(child.len(), 1, "it has a process for it");
        rustix::process::kill_process(pid, signal).expect("sent");
        let ended = command.wait().expect("it ends");
        assert_eq!(
            ended.code(),
            (signal != Signal::KILL).then_some(130),
            "{signal:?}"
        );
        support::wait_until("the version has ended", || {
            !Path::new(&format!("/proc/{}", child[0])).exists()
        });
        assert!(!folder.exists(), "{signal:?}");
    }
    node.check().expect("the node lives");
    // What they leave where all of them are killed at once.
    std::fs::create_dir_all(folder.join("neurath-left")).expect("a folder");
    let directory = node.directory().to_owned();
    node.stop().expect("stopped");
    let again = NodeCommand::new(&neurath_suite::program(), &directory, None, stage.built());
    let node = NodeProcess::start(&again).expect("again");
    assert!(!folder.exists(), "the copy of the killed command is gone");
    node.stop().expect("stopped");
}

/// A version may start processes in sessions of their own, which have no parent any more: they end with the
/// rehearsal as well, however that ends.
#[test]
fn what_a_version_starts_ends_with_the_rehearsal() {
    let stage = support::book_edited("notebook_1", "leaves_a_process", |_| ());
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    assert_eq!(Lines::open(node.address()).ask("add a note"), "0");
    let before = at_rest(node.directory());
    let folder = tempfile::tempdir().expect("a folder");
    for (number, (then, mut limit, signal, code)) in [
        ("", None, None, Some(0)),
        ("abort", None, None, Some(40)),
        ("loop", Some(6), None, Some(40)),
        ("loop", None, Some(Signal::TERM), Some(130)),
        ("loop", None, Some(Signal::KILL), None),
    ]
    .into_iter()
    .enumerate()
    {
        let left = folder.path().join(number.to_string());
        let number = || {
            let text = std::fs::read_to_string(&left).ok();
            text.filter(|text| text.ends_with('\n'))
        };
        let said = loop {
            let mut command = Command::new(neurath_suite::program());
            command.args(["relup", "rehearse", "book-1.1.0", "--dir"]);
            command.arg(node.directory());
            command.arg("--from").arg(stage.built());
            if let Some(seconds) = limit {
                command.arg("--timeout").arg(seconds.to_string());
            }
            command.env("NEURATH_TEST_LEFT", &left);
            command.env("NEURATH_TEST_THEN", then);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            let mut command = command.spawn().expect("a command");
            if let Some(signal) = signal {
                support::wait_until("the version has started it", || number().is_some());
                let pid = Pid::from_child(&command);
                rustix::process::kill_process(pid, signal).expect("sent");
            }
            let mut said = String::new();
            let told = command.stderr.as_mut().expect("its progress");
            told.read_to_string(&mut said).expect("text");
            let ended = command.wait().expect("it ends").code();
            assert_eq!(ended, code, "{then} {limit:?} {signal:?}: {said}");
            match limit {
                // The limit was over before the version was at it.
                Some(seconds) if seconds < 60 && number().is_none() => limit = Some(seconds + 6),
                _ => break said,
            }
        };
        if then == "abort" {
            assert!(said.contains("died (signal: 6"), "{said}");
        }
        let pid = number().expect("it was started");
        let process = Path::new("/proc").join(pid.trim());
        if signal == Some(Signal::KILL) {
            // Nobody has waited for it.
            support::wait_until("what was started has ended", || !process.exists());
        }
        assert!(!process.exists(), "{then} {limit:?} {signal:?}: {pid}");
    }
    node.check().expect("the node lives");
    support::wait_until("the copy is gone", || {
        !node.directory().join("rehearsals").exists()
    });
    assert_eq!(everything(node.directory()), before);
}

/// The processes that another one has started.
fn children(of: Pid) -> Vec<String> {
    let of = of.as_raw_nonzero();
    let path = format!("/proc/{of}/task/{of}/children");
    let text = std::fs::read_to_string(path).expect("the kernel tells");
    text.split_whitespace().map(str::to_owned).collect()
}
