//! A release with another node: the upgrade restarts into it in its midst, and the way back restarts into the one before.
//! No connection is closed or refused, nothing is lost, and no answer is wrong.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use neurath_cli::build::describe_node;
use neurath_cli::control;
use neurath_cli::stage::{Stage, release};
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::Catalog;
use neurath_node::handover::NodeDescription;
use neurath_node::journal::{Kind, Verdict};
use neurath_node::protocol::Status;
use neurath_node::release::{ComponentSources, NodeSources, ReleasePackage, Sources};
use support::load::{Client, Newcomers, assert_clean, load, served};
use support::{
    ask, assert_all_ended, assert_no_orphans, catalog, full_status, journal, ok, stderr, wait_until,
};

/// kv 1.1.0, 1.3.0, and beside them a 2.0.0 with this node program.
fn stage(program: NodeSources, edit: impl Fn(&str, String) -> String) -> Stage {
    let stage = neurath_suite::kv(&["1.1.0", "1.3.0"]);
    let newest = ReleasePackage::open(&stage.built().join("kv-1.3.0")).expect("kv 1.3.0");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("releases/kv");
    let listen = newest.text("release.toml").expect("its release");
    let listen = listen
        .split("listen = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let text = |name: &str| {
        let text = std::fs::read_to_string(root.join(name)).expect("the demo's file");
        let text = text.replace("127.0.0.1:7379", listen.expect("its address"));
        (name.to_owned(), edit(name, text))
    };
    let component = |name: &str| {
        let manifest = newest.component(name).expect("a component");
        let stem = format!("{name}-{}", manifest.version);
        let text = |path: String| {
            newest
                .text(&path)
                .map(|text| (path.clone(), text.to_owned()))
        };
        ComponentSources {
            manifest: text(format!("components/{stem}.toml")).expect("a manifest"),
            appup: text(format!("appups/{stem}.appup.toml")),
            library: newest.dir().join(format!("lib/{stem}.so")),
        }
    };
    let sources = Sources {
        release: text("2.0.0.toml"),
        relup: Some(text("2.0.0.relup.toml")),
        components: vec![component("gateway"), component("store")],
        node: Some(program),
    };
    ReleasePackage::assemble(stage.built(), &sources).expect("kv 2.0.0");
    stage
}

/// The node of kv 2.0.0, as these tests run it.
fn second() -> NodeSources {
    describe_node(&neurath_suite::second_program()).expect("a node program")
}

fn as_it_is(_: &str, text: String) -> String {
    text
}

fn start(stage: &Stage, environment: &[(&str, &str)]) -> (NodeCommand, NodeProcess) {
    start_within(stage, environment, "60s")
}

/// A program that takes over has so much time for it.
fn start_within(
    stage: &Stage,
    environment: &[(&str, &str)],
    within: &str,
) -> (NodeCommand, NodeProcess) {
    let mut command = stage.command("1.1.0");
    let pairs = environment.iter();
    command.environment = pairs
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    command.more = vec!["--take-over-within".into(), within.into()];
    let node = NodeProcess::start(&command).expect("a node");
    for version in ["1.3.0", "2.0.0"] {
        control::install(node.directory(), &release(version), stage.built()).expect("installed");
    }
    (command, node)
}

fn status(directory: &Path) -> Status {
    full_status(directory)
}

#[track_caller]
fn assert_runs(directory: &Path, version: &str, node: &str) -> Status {
    let status = status(directory);
    assert_eq!(status.release, Some(release(version)));
    assert_eq!(status.node, node);
    status
}

const APPLY: [&str; 4] = ["relup", "apply", "kv-2.0.0", "--execute"];
const BACK: [&str; 3] = ["relup", "rollback", "--execute"];

/// The times of an upgrade or a way back that was asked for in these words.
#[track_caller]
fn times(directory: &Path, words: &[&str], restart: &str) -> Times {
    let asked = ask(directory, &[words, &["--json"]].concat());
    assert!(asked.status.success(), "{}", stderr(&asked));
    let told = String::from_utf8_lossy(&asked.stdout).into_owned();
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let told = &told["upgraded"];
    let of = |value: &serde_json::Value| value.as_u64().expect("microseconds");
    let steps = told["steps"].as_array().expect("steps");
    let step = steps.iter().find(|one| one["name"] == restart);
    Times {
        stop: of(&told["stop_us"]),
        total: of(&told["total_us"]),
        restart: of(&step.expect("the restart")["micros"]),
    }
}

#[derive(Debug)]
struct Times {
    stop: u64,
    total: u64,
    restart: u64,
}

/// What both programs have taken is in the totals, wherever in the script the one takes over from the other.
#[test]
fn the_times_are_those_of_both_programs() {
    let stage = stage(second(), as_it_is);
    let (_, node) = start(&stage, &[]);
    let directory = node.directory();
    let there = times(directory, &APPLY, "restart_new_node");
    assert_eq!(last_stop(directory), there.stop);
    let back = times(directory, &BACK, "restart_node");
    assert_eq!(last_stop(directory), back.stop);
    for times in [there, back] {
        // Another program starts, loads all libraries and opens all states: no machine does that in a millisecond.
        assert!(times.restart > 1000 && times.stop > 1000, "{times:?}");
        assert!(times.stop <= times.total, "{times:?}");
        assert!(times.restart <= times.total, "{times:?}");
    }
}

fn last_stop(directory: &Path) -> u64 {
    let asked = ask(directory, &["node", "metrics"]);
    let text = String::from_utf8_lossy(&asked.stdout).into_owned();
    let figure = text
        .lines()
        .find_map(|line| line.strip_prefix("neurath_last_stop_microseconds "));
    figure
        .and_then(|figure| figure.trim().parse().ok())
        .expect("the figure")
}

#[test]
fn forward_and_back_under_load_nothing_is_lost_closed_or_refused() {
    let stage = stage(second(), as_it_is);
    let (command, node) = start(&stage, &[]);
    let (directory, address) = (node.directory(), node.address());
    let loads = [load(address, 1, 1), load(address, 16, 2)];
    let newcomers = Newcomers::start(address);
    let serve = || loads.iter().for_each(|load| served(load, 300));
    serve();
    ok(directory, &APPLY);
    let there = assert_runs(directory, "2.0.0", "0.2.0");
    assert!(there.unconfirmed);
    assert_eq!(there.pid, node.pid(), "the process is the same");
    let store = there.components.iter().find(|one| one.component == "store");
    assert_eq!(
        store.map(|one| one.version.as_str()),
        Some("1.3.0"),
        "the rest of the script ran"
    );
    serve();
    ok(directory, &BACK);
    let back = assert_runs(directory, "1.1.0", "0.1.0");
    assert!(!back.unconfirmed);
    assert_eq!(back.pid, node.pid());
    serve();
    assert_eq!(catalog(directory).program_before, None);
    ok(directory, &APPLY);
    serve();
    ok(directory, &["relup", "confirm"]);
    serve();
    newcomers.finish();
    loads.into_iter().for_each(assert_clean);
    assert_all_ended(&journal(directory));
    assert_no_orphans(directory);
    node.check().expect("the node lives");
    // The release's own node is started, whichever program was asked to start one.
    node.kill();
    drop(node);
    let again = NodeProcess::start(&command).expect("it starts again");
    assert_runs(again.directory(), "2.0.0", "0.2.0");
    again.stop().expect("an orderly stop");
    let status = command.start_in_background().expect("it starts again");
    assert_eq!(status.node, "0.2.0");
    ok(&command.directory, &["node", "stop"]);
}

/// Stops the node of a directory that runs in the background.
struct Background<'a>(&'a Path);

impl Drop for Background<'_> {
    fn drop(&mut self) {
        let _ = ask(self.0, &["node", "stop"]);
    }
}

/// The release that is rebooted into has no program of its own: the node that it names is the installed one.
#[test]
fn a_reboot_into_a_release_before_brings_its_node_back() {
    let stage = stage(second(), as_it_is);
    let (_, node) = start(&stage, &[]);
    let directory = node.directory().to_owned();
    ok(&directory, &APPLY);
    ok(&directory, &["relup", "confirm"]);
    assert_runs(&directory, "2.0.0", "0.2.0");
    let mut client = Client::open(node.address());
    assert_eq!(client.ask("SET key value"), "+OK");
    let _background = Background(&directory);
    ok(&directory, &["node", "reboot-old", "kv-1.1.0", "--execute"]);
    let status = assert_runs(&directory, "1.1.0", "0.1.0");
    assert_eq!(status.permanent, Some(release("1.1.0")));
    assert!(!status.unconfirmed);
    let mut client = Client::open(&status.listen[0]);
    assert_eq!(client.ask("GET key"), "$5");
    assert_eq!(client.line(), "value");
    assert_all_ended(&journal(&directory));
    assert_no_orphans(&directory);
}

#[test]
fn a_release_that_changes_the_node_alone() {
    let stage = stage(second(), as_it_is);
    let mut command = stage.command("1.3.0");
    command.more = vec!["--take-over-within".into(), "60s".into()];
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory();
    control::install(directory, &release("2.0.0"), stage.built()).expect("installed");
    let load = load(node.address(), 4, 3);
    served(&load, 300);
    ok(directory, &APPLY);
    assert_runs(directory, "2.0.0", "0.2.0");
    served(&load, 300);
    ok(directory, &BACK);
    assert_runs(directory, "1.3.0", "0.1.0");
    served(&load, 300);
    assert_clean(load);
}

/// The node serves before it has cleaned up.
#[track_caller]
fn forgets_the_program(directory: &Path) {
    wait_until("no program is kept", || {
        catalog(directory).program_before.is_none() && status(directory).in_flight.is_none()
    });
}

#[test]
fn a_kill_before_confirmation_goes_back_to_the_node_before() {
    let stage = stage(second(), as_it_is);
    let (mut command, node) = start(&stage, &[]);
    ok(node.directory(), &APPLY);
    assert_runs(node.directory(), "2.0.0", "0.2.0");
    node.kill();
    drop(node);
    command.release = None;
    let again = NodeProcess::start(&command).expect("it starts again");
    let back = assert_runs(again.directory(), "1.1.0", "0.1.0");
    assert!(!back.unconfirmed);
    assert_eq!(
        back.pid,
        again.pid(),
        "twice another program, and the same process"
    );
    forgets_the_program(again.directory());
    assert_all_ended(&journal(again.directory()));
    again.stop().expect("an orderly stop");
}

/// The program that was started counts for the one that cannot.
#[test]
fn a_program_that_crashes_before_it_counts_is_counted() {
    let stage = stage(second(), |name, text| match name {
        "2.0.0.toml" => text.replace("[confirm]\n", "[confirm]\nstarts = 3\n"),
        _ => text,
    });
    let (mut command, node) = start(&stage, &[]);
    ok(node.directory(), &APPLY);
    node.kill();
    drop(node);
    command.release = None;
    let plain = command.clone();
    // What the program does first in a start that was counted for it.
    let crash = ("NEURATH_FAULT_KILL_AT", "start.was-counted");
    command.environment.push((crash.0.into(), crash.1.into()));
    for counted in 1..=3 {
        let error = NodeProcess::start(&command).expect_err("the program ends");
        assert!(format!("{error:#}").contains("signal: 9"), "{error:#}");
        assert_eq!(catalog(&command.directory).starts, counted);
    }
    let error = NodeProcess::start(&plain).expect_err("it is not tried again");
    let text = format!("{error:#}");
    for words in ["exit status: 50", "3 starts", "--try-again"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let mut again = plain.clone();
    again.more.push("--try-again".into());
    let back = NodeProcess::start(&again).expect("it is tried once more");
    assert_runs(back.directory(), "1.1.0", "0.1.0");
    forgets_the_program(back.directory());
    assert_eq!(catalog(back.directory()).starts, 0);
    back.stop().expect("an orderly stop");
}

#[test]
fn killed_at_any_step_it_starts_as_the_one_or_the_other() {
    let stage = stage(second(), as_it_is);
    let points = [
        "restart.started",
        "restart.tried",
        "restart.kept-program",
        "handover.keeper",
        "handover.served",
        "upgrade.initialised",
        "upgrade.flipped",
        "upgrade.ended",
    ];
    for point in points {
        println!("{point}");
        let (mut command, node) = start(&stage, &[("NEURATH_FAULT_KILL_AT", point)]);
        let mut client = Client::open(node.address());
        assert_eq!(client.ask("SET key value"), "+OK");
        assert_ne!(
            ask(node.directory(), &APPLY).status.code(),
            Some(0),
            "{point}"
        );
        wait_until("its end", || node.check().is_err());
        drop(node);
        command.environment.clear();
        command.release = None;
        let again = NodeProcess::start(&command).expect("it starts again");
        // Not confirmed by then, it is the release before in any case, and its node.
        assert_runs(again.directory(), "1.1.0", "0.1.0");
        let mut client = Client::open(again.address());
        assert_eq!(client.ask("GET key"), "$5", "{point}");
        forgets_the_program(again.directory());
        assert_all_ended(&journal(again.directory()));
        assert_no_orphans(again.directory());
        let programs = std::fs::read_dir(again.directory().join("libraries"));
        let names = programs
            .expect("the store")
            .map(|one| one.expect("a file").file_name());
        let left: Vec<_> = names
            .filter(|name| name.to_string_lossy().starts_with("node-"))
            .collect();
        assert!(left.is_empty(), "{point}: {left:?}");
        again.stop().expect("an orderly stop");
    }
}

/// The verdict on the last upgrade that was asked for.
fn verdict(directory: &Path) -> Option<Verdict> {
    let records = journal(directory);
    let mut ends = records
        .iter()
        .rev()
        .filter(|one| one.operation_id.starts_with("apply"));
    ends.find_map(|one| match &one.kind {
        Kind::Ended { verdict, .. } => Some(*verdict),
        _ => None,
    })
}

/// An upgrade fails, the release and the node before serve, and no client has noticed anything but a pause.
#[track_caller]
fn assert_undone(stage: &Stage, environment: &[(&str, &str)], said: &str) {
    // Only what hangs needs an end soon.
    let hangs = said.ends_with("within 15s");
    let within = if hangs { "15s" } else { "60s" };
    let (command, node) = start_within(stage, environment, within);
    let directory = &command.directory;
    let load = load(node.address(), 4, 5);
    let newcomers = Newcomers::start(node.address());
    served(&load, 300);
    let asked = ask(directory, &APPLY);
    let told = stderr(&asked);
    assert_eq!(asked.status.code(), Some(40), "{told}");
    assert!(told.contains(said), "{told}");
    served(&load, 300);
    newcomers.finish();
    assert_clean(load);
    let status = assert_runs(directory, "1.1.0", "0.1.0");
    assert!(!status.unconfirmed);
    assert_eq!(verdict(directory), Some(Verdict::Undone));
    assert_eq!(catalog(directory).program_before, None);
    assert_all_ended(&journal(directory));
    assert_no_orphans(directory);
    ok(directory, &["node", "stop"]);
    let process = format!("/proc/{}/exe", status.pid);
    wait_until("its end", || {
        !Path::new(&process).exists() || node.check().is_err()
    });
}

#[test]
fn a_node_that_ends_or_hangs_leaves_the_one_before() {
    let stage = stage(second(), as_it_is);
    let kill = "NEURATH_FAULT_KILL_AT";
    assert_undone(
        &stage,
        &[(kill, "handover.taken")],
        "ended before it served",
    );
    assert_undone(&stage, &[(kill, "handover.up")], "ended before it served");
    assert_undone(
        &stage,
        &[("NEURATH_FAULT_HANG_AT", "handover.up")],
        "did not serve within 15s",
    );
}

/// A script in the place of a node program, and what it is said to be.
fn script(folder: &Path, text: &str) -> NodeSources {
    let program: PathBuf = folder.join("node");
    std::fs::write(&program, format!("#!/bin/sh\n{text}\n")).expect("written");
    let mode = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(&program, mode).expect("its mode");
    NodeSources {
        program,
        description: NodeDescription::of("0.2.0"),
    }
}

#[test]
fn a_program_that_fails_its_trial_is_never_let_near() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = |version: &str, problem: &str| {
        let node = NodeDescription::of(version).to_json().replace('\n', "");
        format!("echo '{{\"node\":{node},\"problem\":{problem}}}'")
    };
    let cases = [
        ("kill -ABRT $$".to_owned(), "ended its trial with signal: 6"),
        ("exit 0".into(), "said nothing"),
        ("sleep 100".into(), "did not end its trial within 15s"),
        (report("0.3.0", "null"), "says that it is 0.3.0"),
        (
            report("0.2.0", "\"regions: format 9\""),
            "cannot take over: regions: format 9",
        ),
        // It passes the trial, and is no node: it ends at once.
        (report("0.2.0", "null"), "ended at its start"),
    ];
    for (text, said) in cases {
        let stage = stage(script(folder.path(), &text), as_it_is);
        assert_undone(&stage, &[], said);
    }
}

/// The new program opens the release before, too: the script begins with it, and may have to go back to it.
#[test]
fn a_release_before_that_does_not_open_is_found_before_anything_stops() {
    let stage = stage(second(), as_it_is);
    let (_, node) = start(&stage, &[]);
    let directory = node.directory();
    let manifest = directory.join("releases/kv-1.1.0/release.toml");
    let whole = std::fs::read(&manifest).expect("the release");
    std::fs::write(&manifest, [whole.as_slice(), b"#"].concat()).expect("written");
    let asked = ask(directory, &APPLY);
    assert_eq!(asked.status.code(), Some(20), "{}", stderr(&asked));
    assert!(stderr(&asked).contains("nothing was stopped"));
    let status = assert_runs(directory, "1.1.0", "0.1.0");
    assert_eq!(status.pid, node.pid());
    std::fs::write(&manifest, whole).expect("written");
    ok(directory, &APPLY);
    assert_runs(directory, "2.0.0", "0.2.0");
}

#[test]
fn the_rest_of_a_script_that_fails_leads_back_to_the_node_before() {
    let stage = stage(second(), |name, text| match name {
        "2.0.0.relup.toml" => text.replace(
            "    { point_of_no_return = true },",
            "    { point_of_no_return = true },\n    { apply = { command = [\"false\"] } },",
        ),
        _ => text,
    });
    assert_undone(&stage, &[], "false");
}

/// kv 2.0.0 with a script that restarts the node when all else is done.
fn at_the_end(name: &str, text: String) -> String {
    if name != "2.0.0.relup.toml" {
        return text;
    }
    let text = text.replace("    { restart_new_node = true },\n", "");
    let purge = "    { purge = \"store\", version = \"1.1.0\", kind = \"soft\" },\n";
    text.replacen(
        purge,
        &format!("{purge}    {{ restart_node = true }},\n"),
        1,
    )
    .replacen("version = ", "handwritten = true\nversion = ", 1)
}

#[test]
fn a_script_may_restart_the_node_at_its_end() {
    let stage = stage(second(), at_the_end);
    let (_, node) = start(&stage, &[]);
    let directory = node.directory();
    let load = load(node.address(), 4, 6);
    served(&load, 300);
    ok(directory, &APPLY);
    let there = assert_runs(directory, "2.0.0", "0.2.0");
    assert!(there.unconfirmed);
    served(&load, 300);
    ok(directory, &["relup", "confirm"]);
    assert_clean(load);
    assert_all_ended(&journal(directory));
}

#[test]
fn a_restart_at_the_end_that_fails_leads_all_the_way_back() {
    let stage = stage(second(), at_the_end);
    let (command, node) = start(&stage, &[("NEURATH_FAULT_KILL_AT", "handover.up")]);
    let directory = &command.directory;
    let load = load(node.address(), 4, 7);
    served(&load, 300);
    let asked = ask(directory, &APPLY);
    let told = stderr(&asked);
    assert_eq!(asked.status.code(), Some(40), "{told}");
    assert!(told.contains("went back to kv-1.1.0"), "{told}");
    served(&load, 300);
    assert_clean(load);
    let status = assert_runs(directory, "1.1.0", "0.1.0");
    assert!(!status.unconfirmed);
    assert_all_ended(&journal(directory));
    assert_no_orphans(directory);
    ok(directory, &["node", "stop"]);
}

#[test]
fn a_node_that_nobody_has_is_refused_before_anything_happens() {
    let stage = stage(second(), as_it_is);
    let (_, node) = start(&stage, &[]);
    // The same release without the program.
    let other = tempfile::tempdir().expect("a folder");
    let good = ReleasePackage::open(&stage.built().join("kv-2.0.0")).expect("kv 2.0.0");
    let text = |path: &str| (path.to_owned(), good.text(path).expect("a file").to_owned());
    let (name, release_text) = text("release.toml");
    let without = release_text.replace("node_program = \"kv-node\"\n", "");
    let without = without.replace("2.0.0", "2.0.1");
    let relup = text("relup.toml")
        .1
        .replace("version = \"2.0.0\"", "version = \"2.0.1\"");
    let component = |name: &str, version: &str| ComponentSources {
        manifest: text(&format!("components/{name}-{version}.toml")),
        appup: Some(text(&format!("appups/{name}-{version}.appup.toml"))),
        library: good.dir().join(format!("lib/{name}-{version}.so")),
    };
    let sources = Sources {
        release: (name, without),
        relup: Some(("relup.toml".into(), relup)),
        components: vec![component("gateway", "1.1.0"), component("store", "1.3.0")],
        node: None,
    };
    ReleasePackage::assemble(other.path(), &sources).expect("kv 2.0.1");
    control::install(node.directory(), &release("2.0.1"), other.path()).expect("installed");
    let before = support::at_rest(node.directory());
    let asked = ask(
        node.directory(),
        &["relup", "apply", "kv-2.0.1", "--execute"],
    );
    assert_eq!(asked.status.code(), Some(20), "{}", stderr(&asked));
    assert!(stderr(&asked).contains("wants node 0.2.0, and this one is 0.1.0"));
    assert_eq!(support::everything(node.directory()), before);
    assert!(Catalog::open(node.directory()).is_ok());
    node.stop().expect("an orderly stop");
}
