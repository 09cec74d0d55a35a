//! `strategy = "incremental"`: a state is converted segment by segment while it is served. Nothing is
//! lost, whenever the node goes back, is killed, or is asked for something else meanwhile.

mod support;

use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use neurath_cli::cli::Folders;
use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::stage::{Stage, fill};
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseId;
use neurath_node::protocol::Sweep;
use neurath_pmem::inspect::{Level, check_file};
use neurath_verify::{Options, Verifier};
use support::{
    Lines, PATIENCE, assert_all_ended, assert_no_orphans, book_edited, catalog, full_status,
    journal, neurath, quiet, stderr, wait_until,
};

fn book(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// Notes, enough for several segments.
const NOTES: usize = 6000;
/// The note whose conversion is held: behind those that `check_state` reads.
const HELD: usize = 3210;

fn text(number: usize) -> String {
    let len = if number == HELD { 77 } else { number % 19 + 8 };
    format!("{number:06}{}", "x".repeat(len - 6))
}

fn incremental(folder: &Path, table: &str) {
    let path = folder.join("manifests/notebook/1.1.0.appup.toml");
    let text = std::fs::read_to_string(&path).expect("the appup");
    let (up, down) = text.split_once("[[down]]").expect("both ways");
    let plain = "change = { advanced = {} }";
    let now = format!("change = {{ advanced = {table} }}, strategy = \"incremental\"");
    assert!(up.contains(plain), "{up}");
    // The way down says nothing of it.
    let text = format!("{}[[down]]{down}", up.replace(plain, &now));
    std::fs::write(&path, text).expect("written");
}

/// The notebook, and a node on 1.0.0 with all notes; the conversion is held while `hold` is there.
fn written(hold: &Path) -> (Stage, NodeProcess, Lines) {
    let table = format!("{{ hold = \"{}\" }}", hold.display());
    let stage = book_edited("notebook_1", "code_change_waits", |folder| {
        incremental(folder, &table);
    });
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    control::install(node.directory(), &book("1.1.0"), stage.built()).expect("installed");
    let mut client = Lines::open(node.address());
    for first in (0..NOTES).step_by(100) {
        for number in first..first + 100 {
            client.send(&format!("add {}", text(number)));
        }
        for number in first..first + 100 {
            assert_eq!(client.receive(), Some(number.to_string()));
        }
    }
    (stage, node, client)
}

#[track_caller]
fn assert_notes(client: &mut Lines, version: &str, but: Option<usize>) {
    assert_eq!(client.ask("version"), version);
    for number in (0..NOTES).filter(|number| Some(*number) != but) {
        assert_eq!(client.ask(&format!("get {number}")), text(number));
    }
}

fn sweep(directory: &Path) -> Option<Sweep> {
    let status = full_status(directory);
    status.components.into_iter().find_map(|one| one.sweep)
}

fn wait_for_the_end(directory: &Path) {
    wait_until("the conversion has ended", || {
        sweep(directory).is_none() && catalog(directory).sweeps.is_empty()
    });
}

/// Which step it was at, and whose state, before its deadline and at it.
#[test]
fn a_rehearsal_names_the_conversion_that_does_not_come_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "hang").expect("written");
    let (stage, node, mut client) = written(&hold);
    let directory = node.directory().display().to_string();
    let built = stage.built().display().to_string();
    let arguments = [
        "relup",
        "rehearse",
        "book-1.1.0",
        "--dir",
        &directory,
        "--from",
        &built,
    ];
    let step = "code_change notebook.0, segment by segment";
    let tried = |seconds: u32| {
        let limit = seconds.to_string();
        let failed = neurath(&[&arguments[..], &["--timeout", &limit]].concat());
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(40), "{said}");
        said
    };
    // Where it takes long to come there, the limit grows, by less than the ten seconds of a pause.
    let mut all = (4..=60).step_by(6);
    let early = all.any(|seconds| {
        let said = tried(seconds);
        said.contains(&format!("took longer than {seconds}s at")) && said.contains(step)
    });
    assert!(early, "no limit ends at the step");
    let said = tried(120);
    let how = "the event loop";
    assert!(said.contains(step) && said.contains(how), "{said}");
    assert_eq!(client.ask("count"), NOTES.to_string());
}

#[test]
fn the_way_back_is_open_in_the_midst_of_a_conversion() {
    let folder = tempfile::tempdir().expect("a folder");
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "").expect("written");
    let (stage, node, mut client) = written(&hold);
    let directory = node.directory().to_path_buf();
    let before = catalog(&directory);
    control::apply(&directory, &book("1.1.0"), None, &quiet()).expect("the upgrade");
    // It is the same file, of another schema.
    let after = catalog(&directory);
    assert_eq!(after.regions[0].file, before.regions[0].file);
    assert_ne!(after.regions[0].fingerprint, before.regions[0].fingerprint);
    assert_eq!(after.sweeps.len(), 1);
    let mut failure = String::new();
    wait_until("all but one segment is converted", || {
        let held = sweep(&directory).filter(|sweep| sweep.converted > 1);
        let held = held.and_then(|sweep| sweep.failure);
        held.map(|why| failure = why).is_some()
    });
    assert!(failure.contains("held on purpose"), "{failure}");
    // What is held fails by name, and everything else is there.
    assert_notes(&mut client, "1.1.0", Some(HELD));
    let answer = client.ask(&format!("get {HELD}"));
    assert!(answer.contains("held on purpose"), "{answer}");

    // Nothing else begins meanwhile.
    let mut other = Lines::open(node.address());
    control::confirm(&directory, &quiet()).expect("confirmed");
    let refused = control::apply(&directory, &book("1.0.0"), None, &quiet());
    let refused = refused.expect_err("it is still converted");
    assert_eq!(code_of(&refused), 30, "{refused:#}");
    let text_of = format!("{refused:#}");
    assert!(
        text_of.contains("the state of notebook is still being converted"),
        "{text_of}"
    );
    assert_eq!(other.ask("count"), NOTES.to_string());

    // Killed, it goes on where it was, with the conversions of before.
    let command = stage_command(&node, &stage);
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("again");
    let mut client = Lines::open(node.address());
    assert_notes(&mut client, "1.1.0", Some(HELD));
    assert!(sweep(&directory).is_some());
    std::fs::remove_file(&hold).expect("removed");
    wait_for_the_end(&directory);
    assert_notes(&mut client, "1.1.0", None);
    assert_eq!(client.ask("add one more"), NOTES.to_string());
    control::apply(&directory, &book("1.0.0"), None, &quiet()).expect("down, at once");
    assert_notes(&mut client, "1.0.0", None);
    assert_no_orphans(&directory);
    assert_all_ended(&journal(&directory));
    node.stop().expect("stopped");
}

/// How the same node is started again.
fn stage_command(node: &NodeProcess, stage: &Stage) -> NodeCommand {
    NodeCommand::new(
        &neurath_suite::program(),
        node.directory(),
        None,
        stage.built(),
    )
}

#[test]
fn a_node_that_is_killed_goes_back_in_the_midst_of_a_conversion() {
    let folder = tempfile::tempdir().expect("a folder");
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "").expect("written");
    let (stage, node, mut client) = written(&hold);
    let directory = node.directory().to_path_buf();
    // Back, while it serves.
    control::apply(&directory, &book("1.1.0"), None, &quiet()).expect("the upgrade");
    wait_until("it is held", || {
        sweep(&directory).is_some_and(|sweep| sweep.failure.is_some())
    });
    let back = control::rollback(&directory, false, &quiet()).expect("back");
    assert_eq!(back.to, book("1.0.0"));
    assert_notes(&mut client, "1.0.0", None);
    wait_for_the_end(&directory);
    assert_notes(&mut client, "1.0.0", None);
    assert_eq!(client.ask("add since"), NOTES.to_string());
    // There again, and killed before it is confirmed.
    control::apply(&directory, &book("1.1.0"), None, &quiet()).expect("the upgrade again");
    let command = stage_command(&node, &stage);
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("again");
    let mut client = Lines::open(node.address());
    assert_notes(&mut client, "1.0.0", None);
    assert_eq!(client.ask(&format!("get {NOTES}")), "since");
    wait_for_the_end(&directory);
    // The library that had only the way down is not needed any more.
    wait_until("it is closed", || support::mapped(&node) == 1);
    let file = directory
        .join("regions")
        .join(&catalog(&directory).regions[0].file);
    node.stop().expect("stopped");
    let report = check_file(&file, Level::L3).expect("a region");
    assert_eq!(report.errors, 0, "{report:?}");
}

/// The key-value server, whose entries are converted segment by segment.
fn kv() -> Stage {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = Folders {
        manifests: root.join("manifests"),
        releases: root.join("releases"),
    };
    let stage = Stage::incremental(&folders, &["1.0.0", "1.1.0"], &quiet());
    let stage = stage.expect("the server is built");
    stage.run_by(neurath_suite::program())
}

#[test]
fn nothing_is_lost_under_load_there_and_back() {
    let stage = kv();
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory().to_path_buf();
    let kv = |version: &str| ReleaseId::new("kv", version);
    fill(node.address(), 100_000).expect("filled");
    let options = Options {
        address: node.address().to_owned(),
        connections: 3,
        pipeline: 4,
        keys: 20_000,
        seed: 6,
        timeout: PATIENCE,
        ..Options::default()
    };
    let load = Verifier::new(options).start();
    let until = Instant::now() + Duration::from_secs(6);
    let mut rounds = 0;
    while Instant::now() < until || rounds < 2 {
        control::apply(&directory, &kv("1.1.0"), None, &quiet()).expect("the upgrade");
        // Every other time at once, in the midst of it.
        if rounds % 2 == 1 {
            wait_for_the_end(&directory);
        }
        control::rollback(&directory, false, &quiet()).expect("back");
        wait_for_the_end(&directory);
        rounds += 1;
    }
    control::apply(&directory, &kv("1.1.0"), None, &quiet()).expect("the upgrade");
    control::confirm(&directory, &quiet()).expect("confirmed");
    wait_for_the_end(&directory);
    let report = load.finish();
    assert!(report.is_clean(), "{report}");
    node.check().expect("it runs");
    assert_no_orphans(&directory);
    let file = catalog(&directory);
    let file = file.regions.iter().find(|entry| entry.component == "store");
    let file = directory
        .join("regions")
        .join(&file.expect("the store").file);
    node.stop().expect("stopped");
    let report = check_file(&file, Level::L3).expect("a region");
    assert_eq!(report.errors, 0, "{report:?}");
}

/// Killed at each point from the conversion's beginning on, the node comes back in the release
/// before, with everything that was acknowledged.
#[test]
fn killed_around_the_flip_it_is_wholly_in_one_release() {
    let folder = tempfile::tempdir().expect("a folder");
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "").expect("written");
    let (stage, node, _) = written(&hold);
    let original = folder.path().join("node");
    let directory = node.directory().to_path_buf();
    node.stop().expect("stopped");
    support::copy(&directory, &original);
    let started = |name: &str, environment: Vec<(OsString, OsString)>| {
        let directory = folder.path().join(name);
        let program = neurath_suite::program();
        let mut command = NodeCommand::new(&program, &directory, None, stage.built());
        command.environment = environment;
        NodeProcess::start(&command).expect("a node")
    };
    let variable = |name: &str, value: String| vec![(name.into(), value.into())];
    support::copy(&original, &folder.path().join("counted"));
    let log = folder.path().join("log");
    let node = started(
        "counted",
        variable("NEURATH_FAULT_LOG", log.display().to_string()),
    );
    control::apply(node.directory(), &book("1.1.0"), None, &quiet()).expect("the upgrade");
    drop(node);
    let log = std::fs::read_to_string(&log).expect("the points");
    let points: Vec<&str> = log.lines().collect();
    let at = |name: &str| {
        let found = points.iter().position(|line| line.ends_with(name));
        found.unwrap_or_else(|| panic!("{name} is in {log}")) + 1
    };
    let points = at("upgrade.converted")..=at("upgrade.ended");
    assert!(points.clone().count() > 8, "{log}");
    let (flipped, mut committed) = (at("upgrade.flipped"), false);
    for point in points.step_by(2) {
        let name = format!("killed-{point}");
        support::copy(&original, &folder.path().join(&name));
        let node = started(&name, variable("NEURATH_FAULT_KILL", point.to_string()));
        let killed = control::apply(node.directory(), &book("1.1.0"), None, &quiet());
        assert!(killed.is_err(), "at {point}");
        drop(node);
        let node = started(&name, Vec::new());
        let mut client = Lines::open(node.address());
        assert_eq!(client.ask("version"), "1.0.0", "at {point}");
        assert_eq!(client.ask("count"), NOTES.to_string(), "at {point}");
        for number in (0..NOTES).step_by(7) {
            assert_eq!(client.ask(&format!("get {number}")), text(number));
        }
        assert_eq!(client.ask("add after all"), NOTES.to_string());
        node.stop().expect("stopped");
        let regions = catalog(&folder.path().join(&name)).regions;
        let file = folder
            .path()
            .join(&name)
            .join("regions")
            .join(&regions[0].file);
        let report = check_file(&file, Level::L3).expect("a region");
        assert_eq!(report.errors, 0, "at {point}: {report:?}");
        // Whatever was committed is recorded once, and nothing else: from the flip on, which is before its
        // own point, there and back.
        let all = report.history.migrations.iter();
        let told: Vec<&str> = all.map(|one| &*one.to_version).collect();
        assert!(
            told.is_empty() || told == ["1.1.0", "1.0.0"],
            "at {point}: {told:?}"
        );
        committed |= !told.is_empty();
        assert_eq!(committed, !told.is_empty(), "at {point}");
        assert!(committed || point < flipped, "at {point}");
    }
}

/// A new version that refuses the state is forgotten, with what was converted for it.
#[test]
fn an_upgrade_that_is_undone_leaves_the_state_as_it_was() {
    let stage = book_edited("notebook_1", "check_state_errors", |folder| {
        incremental(folder, "{}");
    });
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory().to_path_buf();
    control::install(&directory, &book("1.1.0"), stage.built()).expect("installed");
    let mut client = Lines::open(node.address());
    for number in 0..500 {
        let asked = format!("add {}", text(number));
        assert_eq!(client.ask(&asked), number.to_string());
    }
    let before = catalog(&directory);
    let refused = control::apply(&directory, &book("1.1.0"), None, &quiet());
    assert_eq!(code_of(&refused.expect_err("it refuses the state")), 40);
    let after = catalog(&directory);
    assert_eq!((after.regions, after.sweeps), (before.regions, Vec::new()));
    assert_eq!(client.ask("version"), "1.0.0");
    assert_eq!(client.ask("add 500"), "500");
    for number in 0..500 {
        assert_eq!(client.ask(&format!("get {number}")), text(number));
    }
    let file = directory
        .join("regions")
        .join(&catalog(&directory).regions[0].file);
    node.stop().expect("stopped");
    let report = check_file(&file, Level::L3).expect("a region");
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:?}"
    );
}

/// The program that takes over goes on with what is half converted, before the confirmation and after it.
#[test]
fn a_conversion_goes_on_in_another_program() {
    let folder = tempfile::tempdir().expect("a folder");
    let hold = folder.path().join("hold");
    std::fs::write(&hold, "").expect("written");
    let (_stage, node, mut client) = written(&hold);
    let directory = node.directory().to_path_buf();
    control::apply(&directory, &book("1.1.0"), None, &quiet()).expect("the upgrade");
    let held = || {
        wait_until("all but one segment is converted", || {
            sweep(&directory).is_some_and(|sweep| sweep.failure.is_some())
        });
    };
    held();
    support::ok(&directory, &["node", "restart"]);
    let status = control::status(&directory).expect("a status");
    assert_eq!(status.pid, node.pid());
    assert!(status.unconfirmed);
    assert_eq!(catalog(&directory).sweeps.len(), 1);
    // The same connection, what was converted, and what is not yet.
    assert_notes(&mut client, "1.1.0", Some(HELD));
    let answer = client.ask(&format!("get {HELD}"));
    assert!(answer.contains("held on purpose"), "{answer}");
    let mut client = Lines::open(node.address());
    held();
    control::confirm(&directory, &quiet()).expect("confirmed");
    support::ok(&directory, &["node", "restart"]);
    assert_eq!(catalog(&directory).sweeps.len(), 1);
    std::fs::remove_file(&hold).expect("removed");
    wait_for_the_end(&directory);
    assert_notes(&mut client, "1.1.0", None);
    assert_eq!(client.ask("add since"), NOTES.to_string());
    assert_all_ended(&journal(&directory));
    assert_no_orphans(&directory);
}
