//! P12: the pause is bounded and announced. The plan says how long messages wait at most; what takes longer is
//! given up before the commit point, whichever step it is in, and the old release serves on.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use neurath_cli::stage::Stage;
use neurath_node::catalog::ReleaseId;
use support::{Lines, ask, assert_all_ended, assert_no_orphans, catalog, journal, stderr};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// The notebook, whose upgrade may stop it for so long.
fn within(new: &str, budget: &str) -> Stage {
    support::book_edited("notebook_1", new, |folder| {
        let path = folder.join("manifests/notebook/1.1.0.appup.toml");
        let text = std::fs::read_to_string(&path).expect("the appup");
        let advanced = "change = { advanced = {} }";
        let timed = text.replace(advanced, &format!("{advanced}, timeout = \"{budget}\""));
        assert_ne!(timed, text);
        std::fs::write(&path, timed).expect("the appup is written");
    })
}

fn apply(stage: &Stage, directory: &Path, more: &[&str]) -> std::process::Output {
    let built = stage.built().display().to_string();
    let words = ["relup", "apply", "book-1.1.0", "--from", &built];
    ask(directory, &[&words[..], more].concat())
}

#[test]
fn the_bound_is_announced_and_kept() {
    let stage = within("notebook_2", "60s");
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add one"), "0");
    let dry = apply(&stage, node.directory(), &[]);
    let text = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(text.contains("at most 1m, or all is undone"), "{text}");
    let done = apply(&stage, node.directory(), &["--execute", "--json"]);
    assert!(done.status.success(), "{}", stderr(&done));
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    let told: serde_json::Value = serde_json::from_str(text.trim()).expect("JSON");
    let pause = told["upgraded"]["stop_us"].as_u64();
    assert!(
        pause.is_some_and(|us| us > 0 && us < 60_000_000),
        "{told:#}"
    );
    assert_eq!(client.ask("get 0"), "one");
}

/// Each of these takes a minute in another step of the pause.
#[test]
fn what_takes_longer_is_given_up_before_the_commit_point() {
    for (new, step) in [("code_change_loops", "code_change"), ("init_loops", "init")] {
        let stage = within(new, "8s");
        let node = stage.start("1.0.0").expect("a node");
        let mut client = Lines::open(node.address());
        assert_eq!(client.ask("add one"), "0");
        let began = Instant::now();
        let failed = apply(&stage, node.directory(), &["--execute"]);
        let took = began.elapsed();
        let said = stderr(&failed);
        assert_eq!(failed.status.code(), Some(40), "{said}");
        assert!(said.contains(step), "{step} is to be named: {said}");
        // Not when the loop was over by itself.
        assert!(took < Duration::from_secs(58), "{new}: {took:?}");
        // The same client, on the same connection.
        assert_eq!(client.ask("version"), "1.0.0");
        assert_eq!(client.ask("add two"), "1");
        assert_eq!(catalog(node.directory()).current, Some(release("1.0.0")));
        assert!(catalog(node.directory()).previous.is_none());
        assert_no_orphans(node.directory());
        assert_all_ended(&journal(node.directory()));
    }
}
