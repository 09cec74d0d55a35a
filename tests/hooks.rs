//! An upgrade calls functions of its components by name. One that fails before the commit undoes the
//! upgrade, and what the old code has done at its bidding, by its inverse, also if the node is killed.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::Kind;
use neurath_node::protocol::code;
use support::play::Play;
use support::{Lines, assert_all_ended, assert_no_orphans, book_edited, catalog, journal, quiet};

const UPDATE: &str = "{ update = \"notebook\", change = { advanced = {} } }";

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// A hook that adds a note.
fn note(text: &str, fail: bool) -> String {
    format!(
        "{{ component = \"notebook\", hook = \"note\", args = {{ text = \"{text}\", fail = {fail} }} }}"
    )
}

fn edit(folder: &Path, path: &str, from: &str, to: &str) {
    let path = folder.join(path);
    let text = std::fs::read_to_string(&path).expect("the file");
    let edited = text.replacen(from, to, 1);
    assert_ne!(edited, text, "{from} is in {}", path.display());
    std::fs::write(&path, edited).expect("it is written");
}

/// The notebook, whose way up from 1.0.0 has these instructions.
fn stage(instructions: &str) -> Stage {
    book_edited("hooks_1", "hooks_2", |folder| {
        let appup = "manifests/notebook/1.1.0.appup.toml";
        edit(folder, appup, UPDATE, instructions);
        // The inverse of an `apply` on the way down is not what is looked at here.
        let allow = "[lints]\nR102 = { level = \"allow\", reason = \"the notes stay\" }\n";
        let path = folder.join(appup);
        let text = std::fs::read_to_string(&path).expect("the file") + allow;
        std::fs::write(path, text).expect("it is written");
    })
}

/// The update in low-level steps, with these steps between the new code and the commit.
fn update_around(steps: &str) -> String {
    update_within(steps, "60s")
}

/// The same, with a limit for the pause.
fn update_within(steps: &str, timeout: &str) -> String {
    format!(
        "{{ load_object_code = \"notebook\", version = \"1.1.0\" }}, {{ suspend = [\"notebook\"], timeout = \"{timeout}\" }}, \
         {{ load = \"notebook\", version = \"1.1.0\" }}, \
         {{ code_change = \"notebook\", from = \"1.0.0\", to = \"1.1.0\" }}, {steps}, {{ resume = [\"notebook\"] }}"
    )
}

fn notes(address: &str) -> Vec<String> {
    let mut client = Lines::open(address);
    let count: u64 = client.ask("count").parse().expect("a number");
    let note = |number| client.ask(&format!("get {number}"));
    (0..count).map(note).collect()
}

/// Upgrades, which must fail and leave the old release as it serves; what is said.
#[track_caller]
fn refused(node: &NodeProcess) -> String {
    let refused = control::apply(node.directory(), &release("1.1.0"), None, &quiet());
    let refused = refused.expect_err("it cannot be carried out");
    assert_eq!(code_of(&refused), code::UPGRADE_FAILED, "{refused:#}");
    assert_eq!(Lines::open(node.address()).ask("version"), "1.0.0");
    let state = catalog(node.directory());
    assert_eq!(state.current, Some(release("1.0.0")));
    assert!(state.undo.is_empty(), "{:?}", state.undo);
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
    format!("{refused:#}")
}

#[test]
fn hooks_run_in_the_code_that_is_there() {
    let before = format!("{{ apply = {} }}", note("before", false));
    let between = format!("{{ apply = {} }}", note("between", false));
    let after = format!("{{ apply = {} }}", note("after", false));
    let whole = update_around(&between);
    let stage = stage(&format!("{before}, {whole}, {after}"));
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add first"), "0");
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("upgraded");
    let expected = ["first", "1.0.0 before", "1.1.0 between", "1.1.0 after"];
    assert_eq!(notes(node.address()), expected);
    assert_eq!(client.ask("version"), "1.1.0", "the connection stays");
    control::rollback(node.directory(), false, &quiet()).expect("and back");
    assert_eq!(
        notes(node.address()),
        expected,
        "the notes are carried over"
    );
    assert_all_ended(&journal(node.directory()));
}

/// The window for the confirmation counts from there, however long the pause was.
#[test]
fn the_time_of_an_upgrade_is_that_of_its_commit() {
    let words = r#"["sh", "-c", "sleep 0.2; date +%s%3N > slept"]"#;
    let stage = stage(&update_around(&format!(
        "{{ apply = {{ command = {words} }} }}"
    )));
    let node = stage.start("1.0.0").expect("a node");
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("upgraded");
    let slept = std::fs::read_to_string(node.directory().join("slept")).expect("it was run");
    let slept: u64 = slept.trim().parse().expect("milliseconds");
    let since = catalog(node.directory()).unconfirmed_since_ms;
    assert!(since >= Some(slept), "{since:?}, slept until {slept}");
}

/// It serves already: the node goes back by the down script, which keeps what was written since.
#[test]
fn a_hook_that_fails_after_the_commit_leads_back() {
    let stage = stage(&format!("{UPDATE}, {{ apply = {} }}", note("worse", true)));
    let node = stage.start("1.0.0").expect("a node");
    assert_eq!(Lines::open(node.address()).ask("add first"), "0");
    let said = refused(&node);
    assert!(said.contains("the node went back to book-1.0.0"), "{said}");
    assert_eq!(
        notes(node.address()),
        ["first"],
        "its own transaction is dropped"
    );
}

#[test]
fn what_fails_undoes_the_upgrade_and_what_was_called() {
    let before = format!(
        "{{ apply = {}, undo = {} }}",
        note("before", false),
        note("undone", false)
    );
    // The new code's hook.
    let between = format!(
        "{{ apply = {} }}, {{ apply = {} }}",
        note("between", false),
        note("worse", true)
    );
    let new = stage(&format!("{before}, {}", update_around(&between)));
    let node = new.start("1.0.0").expect("a node");
    let said = refused(&node);
    assert!(
        said.contains("hook note of notebook 1.1.0 failed"),
        "{said}"
    );
    assert!(said.contains("told to fail after `1.1.0 worse`"), "{said}");
    assert_eq!(notes(node.address()), ["1.0.0 before", "1.0.0 undone"]);

    // The old code's: its own inverse is called as well, as nobody knows how far it came.
    let old = stage(&format!(
        "{before}, {{ apply = {}, undo = {} }}, {UPDATE}",
        note("worse", true),
        note("mended", false)
    ));
    let node = old.start("1.0.0").expect("a node");
    let said = refused(&node);
    assert!(said.contains("told to fail after `1.0.0 worse`"), "{said}");
    let expected = ["1.0.0 before", "1.0.0 mended", "1.0.0 undone"];
    assert_eq!(notes(node.address()), expected, "the last one first");
}

#[test]
fn what_cannot_be_called_is_refused_by_name() {
    for (instructions, expected) in [
        (
            format!("{{ apply = {{ component = \"notebook\", hook = \"nothing\" }} }}, {UPDATE}"),
            "notebook 1.0.0 has no hook `nothing`: it has note, dawdle",
        ),
        (
            format!("{UPDATE}, {{ apply = {{ component = \"notebook\", hook = \"nothing\" }} }}"),
            "notebook 1.1.0 has no hook `nothing`: it has note, dawdle",
        ),
        (
            format!(
                "{UPDATE}, {{ apply = {{ component = \"notebook\", hook = \"note\", args = {{ }} }} }}"
            ),
            "the arguments do not fit: missing field `text`",
        ),
        // A hook that does not come back.
        (
            update_within(
                "{ apply = { component = \"notebook\", hook = \"dawdle\", args = { ms = 60000 } } }",
                "8s",
            ),
            "hook dawdle of notebook 1.1.0: it did not end within",
        ),
    ] {
        let stage = stage(&instructions);
        let node = stage.start("1.0.0").expect("a node");
        assert_eq!(Lines::open(node.address()).ask("add first"), "0");
        let said = refused(&node);
        assert!(said.contains(expected), "{said}");
        assert_eq!(notes(node.address()), ["first"]);
    }
}

/// At every durable step of an upgrade that calls a hook of the old code.
#[test]
fn a_kill_undoes_what_was_called() {
    let stage = stage(&format!(
        "{{ apply = {}, undo = {} }}, {UPDATE}",
        note("before", false),
        note("undone", false)
    ));
    let play = Play {
        stage,
        folder: support::folder_in_memory(),
    };
    play.keep(play.stage.start("1.0.0").expect("a node"), "prepared");
    let (begin, points) = play.points("prepared", "copy", |directory| {
        control::apply(directory, &release("1.1.0"), None, &quiet()).expect("upgraded");
    });
    let copy = play.path("copy");
    let flip = points
        .iter()
        .rposition(|name| name == "catalog.flip.before-write")
        .expect("a flip");
    let (mut undone, mut nothing) = (0, 0);
    // Up to the flip; after it the way back is another promise's.
    for kill in begin + 1..=flip + 1 {
        let at = kill.to_string();
        let node = play.started("prepared", "copy", "NEURATH_FAULT_KILL", &at);
        let died = control::apply(&copy, &release("1.1.0"), None, &quiet());
        died.expect_err("the node is killed");
        drop(node);
        let owed = !catalog(&copy).undo.is_empty();
        let node = NodeProcess::start(&play.command("copy")).expect("it starts again");
        let state = catalog(&copy);
        assert_eq!(state.current, Some(release("1.0.0")));
        assert!(state.undo.is_empty());
        let found = notes(node.address());
        let name = &points[kill - 1];
        match (owed, found.as_slice()) {
            (false, []) => nothing += 1,
            (true, [one]) if one == "1.0.0 undone" => undone += 1,
            (true, [one, two]) if one == "1.0.0 before" && two == "1.0.0 undone" => undone += 1,
            _ => panic!("killed at {kill}, {name}: owed {owed}, and the notes are {found:?}"),
        }
        let records = journal(&copy);
        assert_all_ended(&records);
        let began = |operation: &str| {
            records.iter().any(
                |one| matches!(&one.kind, Kind::Started { operation: began, .. } if began == operation),
            )
        };
        assert_eq!(began("undo"), owed, "{name}");
    }
    assert!(
        undone > 3 && nothing > 0,
        "{undone} undone, {nothing} without a call"
    );
}
