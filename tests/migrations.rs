//! Every migration that a state went through is recorded in its region: by name, once, each hop of a chain, with the
//! way back; and `state inspect` and `state check` show it.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::stage::release;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::Kind;
use neurath_pmem::history::{History, Migration};
use neurath_pmem::inspect::inspect_file;
use serde_json::Value;
use support::schema::judge;
use support::{Lines, book_edited, catalog, journal, neurath, quiet, stderr};

fn book(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// What an instance's region tells, by way of a snapshot of the node that serves.
fn history(directory: &Path, component: &str, instance: u32) -> History {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("snapshot");
    control::snapshot(directory, component, Some(instance), &out).expect("a snapshot");
    inspect_file(&out, None).expect("a region").history
}

fn short(one: &Migration) -> String {
    let way = if one.back { "back" } else { "on" };
    format!(
        "{} {}>{} {} by {} in {}",
        one.strategy.as_str(),
        one.from_version,
        one.to_version,
        one.name,
        one.library,
        way
    )
}

#[track_caller]
fn assert_tells(directory: &Path, (component, instance): (&str, u32), expected: &[&str]) {
    let history = history(directory, component, instance);
    let found: Vec<String> = history.migrations.iter().map(short).collect();
    assert_eq!(found, expected, "{component}.{instance}");
    assert!(!history.lost && history.folded == 0);
    // Each schema is the one that the next begins with; each is of an operation that the journal has; the last
    // leads to what is there.
    for pair in history.migrations.windows(2) {
        let new = pair[1].from_version.is_empty();
        assert!(new || pair[0].to_schema == pair[1].from_schema, "{pair:?}");
        assert!(pair[0].at_ms <= pair[1].at_ms, "{pair:?}");
    }
    let records = journal(directory);
    for one in &history.migrations {
        let mut begun = records
            .iter()
            .filter(|record| record.operation_id == one.operation);
        assert!(
            begun.any(|record| matches!(&record.kind, Kind::Started { .. })),
            "{one:?}"
        );
    }
    let state = catalog(directory);
    let entry = state.region(component, instance).expect("a region");
    if let Some(last) = history.migrations.last() {
        assert_eq!(neurath_pmem::schema::hex(last.to_schema), entry.fingerprint);
        assert_eq!(
            (&last.to_version, last.generation),
            (&entry.version, entry.generation)
        );
    }
}

const UP: [&str; 2] = [
    "eager 1.0.0>1.1.0 code_change by notebook 1.1.0 in on",
    "eager 1.1.0>1.2.0 code_change by notebook 1.2.0 in on",
];
const BACK: [&str; 2] = [
    "eager 1.2.0>1.1.0 code_change by notebook 1.2.0 in back",
    "eager 1.1.0>1.0.0 code_change by notebook 1.1.0 in back",
];

#[test]
fn each_hop_of_a_chain_there_back_and_down() {
    let stage = support::book_of_three("notebook_2");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_path_buf();
    for version in ["1.1.0", "1.2.0"] {
        control::install(&directory, &book(version), stage.built()).expect("installed");
    }
    let of = ("notebook", 0);
    assert_tells(&directory, of, &[]);
    control::apply(&directory, &book("1.2.0"), None, &quiet()).expect("upgraded");
    assert_tells(&directory, of, &UP);
    // The way back with the writes since is a way that the state goes.
    control::rollback(&directory, false, &quiet()).expect("back");
    let there_and_back = [UP, BACK].concat();
    assert_tells(&directory, of, &there_and_back);
    // A state that comes back as it was has never left.
    control::apply(&directory, &book("1.2.0"), None, &quiet()).expect("again");
    control::rollback(&directory, true, &quiet()).expect("back, with loss");
    assert_tells(&directory, of, &there_and_back);
    // Killed before it was confirmed, the node goes back by itself.
    control::apply(&directory, &book("1.2.0"), None, &quiet()).expect("again");
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("again");
    let twice = [&there_and_back[..], &there_and_back].concat();
    assert_tells(&directory, of, &twice);

    // What people and programs see of it.
    let region = catalog(&directory).regions[0].file.clone();
    let region = directory.join("regions").join(region);
    node.stop().expect("stopped");
    let path = region.display().to_string();
    for command in ["inspect", "check"] {
        let output = neurath(&["state", command, &path]);
        assert!(output.status.success(), "{}", stderr(&output));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(text.matches("1.1.0 -> 1.2.0").count(), 2, "{text}");
        assert!(
            text.contains("book-1.2.0") && text.contains("eager"),
            "{text}"
        );
        let output = neurath(&["--message-format", "json", "state", command, &path]);
        let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let recorded = value["migrations"]["recorded"].as_array().expect("a list");
        assert_eq!(recorded.len(), twice.len());
        assert_eq!(recorded[1]["library"], "notebook 1.2.0");
        judge(&format!("state-{command}"), &value);
    }
}

/// Several instances, each converted in its file: each tells the same, of its own generation.
#[test]
fn instances_that_are_converted_in_their_files() {
    let stage = book_edited("notebook_1", "notebook_2", |folder| {
        for version in ["1.0.0", "1.1.0"] {
            let path = folder.join(format!("manifests/notebook/{version}.toml"));
            let text = std::fs::read_to_string(&path).expect("the manifest");
            let edited = text.replacen("instances = 1", "instances = 3", 1);
            std::fs::write(&path, edited).expect("written");
        }
        let path = folder.join("manifests/notebook/1.1.0.appup.toml");
        let text = std::fs::read_to_string(&path).expect("the appup");
        let plain = "change = { advanced = {} }";
        let asked = format!("{plain}, strategy = \"incremental\"");
        std::fs::write(&path, text.replace(plain, &asked)).expect("written");
    });
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory().to_owned();
    let mut client = Lines::open(node.address());
    for number in 0..300 {
        for instance in 0..3 {
            let answer = client.ask(&format!("to {instance} add note {number}"));
            assert_eq!(answer, number.to_string());
        }
    }
    control::apply(&directory, &book("1.1.0"), None, &quiet()).expect("upgraded");
    control::rollback(&directory, false, &quiet()).expect("back");
    let told = [
        "incremental 1.0.0>1.1.0 code_change by notebook 1.1.0 in on",
        "incremental 1.1.0>1.0.0 code_change by notebook 1.1.0 in back",
    ];
    for instance in 0..3 {
        assert_tells(&directory, ("notebook", instance), &told);
        for number in (0..300).step_by(7) {
            let answer = client.ask(&format!("to {instance} get {number}"));
            assert_eq!(answer, format!("note {number}"));
        }
    }
    // The catalog names the last ones once, for all of them.
    let state = catalog(&directory);
    assert_eq!(state.migrations.len(), 1);
    assert_eq!(state.migrations[0].instances.len(), 3);
    node.stop().expect("stopped");
}

/// Code that is exchanged over a state that stays, and state that goes from one component to another.
#[test]
fn states_that_are_kept_and_that_move() {
    let stage = neurath_suite::kv(&["1.0.0", "1.1.0", "1.1.1", "1.2.0", "1.3.0"]);
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory();
    let go = |version: &str| {
        control::apply(directory, &release(version), None, &quiet()).expect(version);
        control::confirm(directory, &quiet()).expect("confirmed");
    };
    let seen = |component: &str| {
        let all = history(directory, component, 0).migrations;
        all.iter().map(short).collect::<Vec<_>>()
    };
    go("1.1.0");
    go("1.1.1");
    go("1.2.0");
    let stats = seen("stats");
    assert_eq!(stats.len(), 1, "{stats:?}");
    assert!(stats[0].starts_with("move >1.0.0 move_state"), "{stats:?}");
    let store = seen("store");
    let moved = store.iter().filter(|one| one.starts_with("move ")).count();
    assert_eq!(moved, 1, "{store:?}");
    assert!(
        store[0].starts_with("eager 1.0.0>1.1.0 code_change by store 1.1.0"),
        "{store:?}"
    );
    let gateway = seen("gateway");
    assert!(!gateway.is_empty(), "its code was exchanged");
    assert!(
        gateway.iter().all(|one| one.starts_with("keep ")),
        "{gateway:?}"
    );
    assert!(
        gateway.iter().all(|one| one.contains(" load by  in on")),
        "{gateway:?}"
    );

    // There and back: the stats go, and come again with what they had.
    control::apply(directory, &release("1.3.0"), None, &quiet()).expect("1.3.0");
    let merged = seen("store");
    assert_eq!(merged[..store.len()], store);
    let moved = merged.iter().filter(|one| one.starts_with("move ")).count();
    assert_eq!(moved, 2, "{merged:?}");
    control::rollback(directory, false, &quiet()).expect("back");
    let back = seen("stats");
    assert_eq!(back[..1], stats);
    assert_eq!(back.len(), 2, "{back:?}");
    assert!(
        back[1].starts_with("move ") && back[1].ends_with("in back"),
        "{back:?}"
    );
    node.stop().expect("stopped");
}
