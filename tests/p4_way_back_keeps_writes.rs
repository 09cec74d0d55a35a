//! P4: going back keeps the writes made since, or says beforehand that it cannot.

mod support;

use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Verdict};
use neurath_node::release::{ComponentSources, ReleasePackage, Sources};
use std::path::Path;
use support::{
    Lines, assert_all_ended, assert_no_orphans, catalog, journal, neurath, quiet, stderr,
};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

const BEFORE: usize = 300;
const SINCE: usize = 200;

fn text(number: usize) -> String {
    format!("note {number} {}", "x".repeat(number % 90 + 1))
}

/// A node whose first notes were written on 1.0.0, and the others on 1.1.0.
fn written(stage: &Stage, from: &Path) -> (NodeProcess, Lines) {
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    control::install(node.directory(), &release("1.1.0"), from).expect("installed");
    let mut client = Lines::open(node.address());
    for number in 0..BEFORE {
        assert_eq!(
            client.ask(&format!("add {}", text(number))),
            number.to_string()
        );
    }
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("the upgrade");
    for number in BEFORE..BEFORE + SINCE {
        assert_eq!(
            client.ask(&format!("add {}", text(number))),
            number.to_string()
        );
    }
    assert_eq!(client.ask("version"), "1.1.0");
    (node, client)
}

/// The same release 1.1.0, whose author has forgotten the way down. `release build` does not make
/// such a one.
fn without_a_way_down(built: &Path, to: &Path) {
    let good = ReleasePackage::open(&built.join("book-1.1.0")).expect("the good release");
    let text = |path: &str| {
        let text = good.text(path).expect("a file of the release");
        (path.to_owned(), text.to_owned())
    };
    let up_only = |path: &str| {
        let (path, text) = text(path);
        let (up, _) = text.split_once("[[down]]").expect("a way down");
        (path, up.to_owned())
    };
    let sources = Sources {
        release: text("release.toml"),
        relup: Some(up_only("relup.toml")),
        components: vec![ComponentSources {
            manifest: text("components/notebook-1.1.0.toml"),
            appup: Some(up_only("appups/notebook-1.1.0.appup.toml")),
            library: good.dir().join("lib/notebook-1.1.0.so"),
        }],
        node: None,
    };
    ReleasePackage::assemble(to, &sources).expect("a release with one way");
}

#[track_caller]
fn assert_notes(client: &mut Lines, count: usize, version: &str) {
    assert_eq!(client.ask("version"), version);
    assert_eq!(client.ask("count"), count.to_string());
    for number in 0..count {
        assert_eq!(client.ask(&format!("get {number}")), text(number));
    }
    assert_eq!(
        client.ask(&format!("get {count}")),
        "error: there is no such note"
    );
}

#[test]
fn writes_made_since_survive_the_way_back() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let (node, mut client) = written(&stage, stage.built());
    let back = control::rollback(node.directory(), false, &quiet()).expect("the way back");
    assert_eq!((back.from, back.to), (release("1.1.0"), release("1.0.0")));
    assert_notes(&mut client, BEFORE + SINCE, "1.0.0");
    assert_notes(&mut Lines::open(node.address()), BEFORE + SINCE, "1.0.0");
    assert!(catalog(node.directory()).previous.is_none());
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
    // They are in the file, too.
    let mut command = stage.command("1.0.0");
    command.directory = node.directory().to_owned();
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("the node starts again");
    assert_notes(&mut Lines::open(node.address()), BEFORE + SINCE, "1.0.0");
}

#[test]
fn what_would_lose_writes_is_refused_until_it_is_named() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let folder = tempfile::tempdir().expect("a folder");
    let one_way = folder.path().join("one-way");
    without_a_way_down(stage.built(), &one_way);
    let (node, mut client) = written(&stage, &one_way);
    let directory = node.directory().display().to_string();
    let back = ["relup", "rollback", "--dir", &directory, "--execute"];
    let state = catalog(node.directory());
    let refused = neurath(&back);
    let said = stderr(&refused);
    assert_ne!(refused.status.code(), Some(0), "{said}");
    assert!(
        said.contains("no way back to book-1.0.0 that keeps the writes made since"),
        "{said}"
    );
    assert!(said.contains("--lose-writes"), "{said}");
    let told = neurath(&back[..4]);
    assert_eq!(told.status.code(), refused.status.code());
    assert!(stderr(&told).contains("--lose-writes"), "a dry run says so");
    let error = control::rollback(node.directory(), false, &quiet()).expect_err("refused");
    assert_eq!(Some(i32::from(code_of(&error))), refused.status.code());
    assert_eq!(
        catalog(node.directory()),
        state,
        "a refusal changes nothing"
    );
    assert_notes(&mut client, BEFORE + SINCE, "1.1.0");

    // Without `--execute` it is only said.
    let told = neurath(&["relup", "rollback", "--dir", &directory, "--lose-writes"]);
    assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    assert_eq!(catalog(node.directory()), state, "saying changes nothing");
    assert_notes(&mut client, BEFORE + SINCE, "1.1.0");

    let mut by_name = back.to_vec();
    by_name.push("--lose-writes");
    let gone = neurath(&by_name);
    assert_eq!(gone.status.code(), Some(0), "{}", stderr(&gone));
    // What was written since is lost, and nothing else.
    assert_notes(&mut client, BEFORE, "1.0.0");
    assert!(catalog(node.directory()).previous.is_none());
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
    assert_eq!(client.ask("add again"), BEFORE.to_string());
    assert_eq!(client.ask(&format!("get {BEFORE}")), "again");
}

#[test]
fn a_way_back_that_nobody_can_take_is_told_with_its_reason() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let folder = tempfile::tempdir().expect("a folder");
    let one_way = folder.path().join("one-way");
    without_a_way_down(stage.built(), &one_way);
    let (node, client) = written(&stage, &one_way);
    let mut command = stage.command("1.0.0");
    command.directory = node.directory().to_owned();
    drop(client);
    node.kill();
    drop(node);
    // The start is to leave the release, and cannot.
    let node = NodeProcess::start(&command).expect("the node starts again");
    let status = control::status(node.directory()).expect("a status");
    let why = status.stuck.expect("the reason");
    assert!(why.contains("no way back to book-1.0.0"), "{why}");
    let shown = neurath(&[
        "node",
        "status",
        "--dir",
        &command.directory.display().to_string(),
    ]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("no way back to book-1.0.0"), "{shown}");
    let records = journal(node.directory());
    assert!(
        records.iter().any(|record| matches!(
            &record.kind,
            Kind::Ended { verdict: Verdict::Failed, text } if text.contains("no way back")
        )),
        "{records:?}"
    );
    assert_all_ended(&records);
    assert_notes(&mut Lines::open(node.address()), BEFORE + SINCE, "1.1.0");
}
