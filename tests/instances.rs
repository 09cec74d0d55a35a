//! A component with several instances: each has its own region, every one is converted, and all of
//! them change as one, or none does.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::protocol::code;
use support::play::Play;
use support::{
    Lines, ask, assert_all_ended, assert_no_orphans, book_edited, catalog, journal, ok, quiet,
    stderr,
};

const INSTANCES: u32 = 4;

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// Four instances of the notebook, in both versions.
fn stage(new: &str) -> Stage {
    stage_of("notebook_1", new)
}

fn stage_of(old: &str, new: &str) -> Stage {
    book_edited(old, new, |folder| {
        for version in ["1.0.0", "1.1.0"] {
            let path = folder.join(format!("manifests/notebook/{version}.toml"));
            let text = std::fs::read_to_string(&path).expect("the manifest");
            let edited = text.replacen("instances = 1", "instances = 4", 1);
            assert_ne!(edited, text, "the manifest says how many there are");
            std::fs::write(&path, edited).expect("it is written");
        }
    })
}

fn start_again(stage: &Stage, directory: &Path) -> NodeProcess {
    let mut command = stage.command("1.0.0");
    command.directory = directory.to_owned();
    NodeProcess::start(&command).expect("it starts again")
}

/// Adds a note to each instance: `text` and its number.
fn add(client: &mut Lines, text: &str, number: u64) {
    for instance in 0..INSTANCES {
        let answer = client.ask(&format!("to {instance} add {text} {instance}"));
        assert_eq!(answer, number.to_string());
    }
}

/// Fails unless every instance serves this version, and has exactly these notes of its own.
#[track_caller]
fn assert_notes(client: &mut Lines, version: &str, notes: &[&str]) {
    for instance in 0..INSTANCES {
        let mut ask = |request: &str| client.ask(&format!("to {instance} {request}"));
        assert_eq!(ask("version"), version);
        assert_eq!(ask("instance"), format!("{instance} of {INSTANCES}"));
        assert_eq!(ask("count"), notes.len().to_string(), "of {instance}");
        for (number, text) in notes.iter().enumerate() {
            assert_eq!(ask(&format!("get {number}")), format!("{text} {instance}"));
        }
    }
}

#[test]
fn each_has_its_state_and_all_change_as_one() {
    let stage = stage("notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory().to_owned();
    let mut client = Lines::open(node.address());
    add(&mut client, "first", 0);
    assert_notes(&mut client, "1.0.0", &["first"]);
    let unknown = client.ask("to 4 count");
    assert!(unknown.starts_with("error: "), "{unknown}");
    let status = support::full_status(&directory);
    let listed = status.components.iter().map(|one| one.instance);
    assert_eq!(listed.collect::<Vec<_>>(), [0, 1, 2, 3]);

    control::apply(&directory, &release("1.1.0"), None, &quiet()).expect("upgraded");
    assert_notes(&mut client, "1.1.0", &["first"]);
    add(&mut client, "second", 1);
    let state = catalog(&directory);
    assert_eq!(state.regions.len(), INSTANCES as usize);
    assert!(state.regions.iter().all(|one| one.version == "1.1.0"));

    control::rollback(&directory, false, &quiet()).expect("and back");
    assert_notes(&mut client, "1.0.0", &["first", "second"]);
    assert_eq!(support::mapped(&node), 1, "the newer library is closed");
    assert_no_orphans(&directory);

    control::apply(&directory, &release("1.1.0"), None, &quiet()).expect("again");
    add(&mut client, "lost", 2);
    control::rollback(&directory, true, &quiet()).expect("back to what was before");
    assert_notes(&mut client, "1.0.0", &["first", "second"]);

    control::apply(&directory, &release("1.1.0"), None, &quiet()).expect("and for good");
    control::confirm(&directory, &quiet()).expect("confirmed");
    assert_eq!(support::mapped(&node), 1, "the older library is closed");
    add(&mut client, "third", 2);
    node.kill();
    drop(node);
    let node = start_again(&stage, &directory);
    let mut client = Lines::open(node.address());
    assert_notes(&mut client, "1.1.0", &["first", "second", "third"]);
    assert_no_orphans(&directory);
    assert_all_ended(&journal(&directory));
}

#[test]
fn what_fails_in_one_leaves_all_as_they_were() {
    let stage = stage("init_errors_in_the_third");
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    add(&mut client, "first", 0);
    let before = catalog(node.directory()).regions;
    let refused = control::apply(node.directory(), &release("1.1.0"), None, &quiet());
    let refused = refused.expect_err("the third instance does not start");
    assert_eq!(code_of(&refused), code::UPGRADE_FAILED, "{refused:#}");
    let said = format!("{refused:#}");
    assert!(said.contains("refuses the third time"), "{said}");
    assert_notes(&mut client, "1.0.0", &["first"]);
    add(&mut client, "second", 1);
    assert_eq!(catalog(node.directory()).regions, before);
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
    assert_eq!(support::mapped(&node), 1, "the newer library is closed");
}

/// At every kind of durable step of an upgrade all instances are in the older version afterwards, or all in
/// the newer one, which goes back at the start.
#[test]
fn a_kill_leaves_all_in_one_version() {
    let play = Play {
        stage: stage("notebook_2"),
        folder: support::folder_in_memory(),
    };
    let node = play.stage.start("1.0.0").expect("a node");
    add(&mut Lines::open(node.address()), "first", 0);
    play.keep(node, "prepared");
    let (begin, points) = play.points("prepared", "copy", |directory| {
        control::apply(directory, &release("1.1.0"), None, &quiet()).expect("upgraded");
    });
    let copy = play.path("copy");
    // Of the steps that each instance has its own of, the last one: the others are behind it.
    let last = |at: &usize| !points[at + 1..].contains(&points[*at]);
    let mut newer = Vec::new();
    for at in (begin..points.len()).filter(last) {
        let kill = (at + 1).to_string();
        let node = play.started("prepared", "copy", "NEURATH_FAULT_KILL", &kill);
        // The last points are passed when the answer is on its way.
        let _ = control::apply(&copy, &release("1.1.0"), None, &quiet());
        drop(node);
        let regions = catalog(&copy).regions;
        let versions: Vec<&str> = regions.iter().map(|one| &*one.version).collect();
        let name = &points[at];
        assert!(
            versions.windows(2).all(|two| two[0] == two[1]),
            "{name}: {versions:?}"
        );
        newer.push(versions[0] == "1.1.0");
        let node = start_again(&play.stage, &copy);
        assert_notes(&mut Lines::open(node.address()), "1.0.0", &["first"]);
        assert_no_orphans(&copy);
    }
    assert!(newer.contains(&true) && newer.contains(&false), "{newer:?}");
}

#[test]
fn tools_know_the_instances() {
    let stage = stage("notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    add(&mut client, "first", 0);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("snapshot").display().to_string();
    let several = ask(node.directory(), &["state", "snapshot", "notebook", &out]);
    assert_eq!(several.status.code(), Some(i32::from(code::USAGE)));
    let said = stderr(&several);
    assert!(
        said.contains("notebook has 4 instances; say which: notebook.0"),
        "{said}"
    );
    ok(node.directory(), &["state", "snapshot", "notebook.3", &out]);
    ok(node.directory(), &["relup", "rehearse", "book-1.1.0"]);
    assert_notes(&mut client, "1.0.0", &["first"]);
}

/// None of them goes before the others are at it: one after the other, they would wait in vain.
#[test]
fn they_stop_their_work_at_the_same_time() {
    let stage = stage_of("notebook_1_meets", "notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("they meet");
    assert_notes(&mut Lines::open(node.address()), "1.1.0", &[]);
}
