//! P7: what destroys is named before it runs. A plan that throws state away is refused until the
//! release allows it with a reason, and says what would be lost. One that throws a state away to begin anew is carried out
//! only by whoever names the component; so is its way back. A way back that loses writes has to be asked for by
//! name: `tests/p4_way_back_keeps_writes.rs`. What `reset_node` does besides: `tests/reset_node.rs`.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use support::{Lines, ask, at_rest, everything, ok, stderr};

/// The notebook, which goes in 1.1.0: a counter has its place. `lints` is the end of that release.
fn without_the_notebook(lints: &str) -> (Stage, String) {
    let counter = format!(
        "127.0.0.1:{}",
        neurath_cli::testing::free_port().expect("a port")
    );
    let stage = support::try_book_edited("notebook_1", "notebook_2", |folder| {
        let write = |path: &str, text: String| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
            std::fs::write(path, text).expect("it is written");
        };
        write(
            "manifests/counter/1.0.0.toml",
            "name = \"counter\"\nversion = \"1.0.0\"\nlibrary = \"neurath/counter_1\"\n\
             [region]\ninitial_size = \"1MiB\"\nlimit = \"64MiB\"\ndurability = \"process\"\n"
                .into(),
        );
        write(
            "releases/book/1.1.0.toml",
            format!(
                "name = \"book\"\nversion = \"1.1.0\"\nnode = \"0.1.0\"\n[components]\n\
                 counter = {{ version = \"1.0.0\", config = {{ listen = \"{counter}\" }} }}\n\
                 [confirm]\nwindow = \"60s\"\n{lints}"
            ),
        );
    });
    (stage.expect("it is built"), counter)
}

fn up(stage: &Stage, directory: &Path, more: &[&str]) -> std::process::Output {
    let built = stage.built().display().to_string();
    let words = ["relup", "apply", "book-1.1.0", "--from", &built];
    ask(directory, &[&words[..], more].concat())
}

const ALLOWED: &str =
    "[lints]\nD101 = { level = \"allow\", reason = \"the notes are kept elsewhere\" }\n";

/// The build of a release that removes a component refuses it, and names what would be lost.
#[test]
fn a_release_that_throws_a_component_away_is_refused_until_it_says_why() {
    let counter = "counter = { version = \"1.0.0\" }";
    let refused = support::try_book_edited("notebook_1", "notebook_2", |folder| {
        let manifest = folder.join("manifests/counter/1.0.0.toml");
        std::fs::create_dir_all(manifest.parent().expect("a folder")).expect("made");
        let text = "name = \"counter\"\nversion = \"1.0.0\"\nlibrary = \"neurath/counter_1\"\n\
                    [region]\ninitial_size = \"1MiB\"\nlimit = \"64MiB\"\n\
                    durability = \"process\"\n";
        std::fs::write(manifest, text).expect("written");
        let release = folder.join("releases/book/1.1.0.toml");
        let text = std::fs::read_to_string(&release).expect("the release");
        let line = text
            .lines()
            .find(|line| line.starts_with("notebook"))
            .expect("it");
        std::fs::write(&release, text.replace(line, counter)).expect("written");
    });
    let error = format!("{:#}", refused.expect_err("it removes the notebook"));
    for word in ["D101", "notebook", "1.1.0.toml"] {
        assert!(error.contains(word), "{word}: {error}");
    }
}

#[test]
fn what_is_thrown_away_is_named_by_the_dry_run_and_lasts_until_the_confirmation() {
    let (stage, counter) = without_the_notebook(ALLOWED);
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    let mut notes = Lines::open(node.address());
    assert_eq!(notes.ask("add one"), "0");
    // Named before it runs, and nothing is done.
    let before = at_rest(directory);
    let dry = up(&stage, directory, &[]);
    assert!(dry.status.success(), "{}", stderr(&dry));
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    let named = "notebook: ALL of its regions are deleted once the release is confirmed";
    assert!(said.contains(named), "{said}");
    assert_eq!(everything(directory), before);
    assert_eq!(notes.ask("count"), "1");

    // Until it is confirmed, it can be brought back.
    let done = up(&stage, directory, &["--execute"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert_eq!(Lines::open(&counter).ask("x"), "1");
    let region = |name: &str| {
        let files = std::fs::read_dir(directory.join("regions")).expect("a folder");
        let names = files.map(|file| file.expect("a file").file_name());
        names
            .filter(|file| file.to_string_lossy().starts_with(name))
            .count()
    };
    let status = || control::status(directory).expect("a status");
    assert_eq!(status().deleted_by_confirm, ["notebook.0"]);
    let shown = ask(directory, &["node", "status"]);
    let named = "deleted when the release is confirmed: the state of notebook.0";
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(named), "{shown}");
    assert_eq!(region("notebook"), 1);
    ok(directory, &["relup", "rollback", "--execute"]);
    assert_eq!(Lines::open(node.address()).ask("get 0"), "one");
    assert_eq!(status().deleted_by_confirm, [""; 0]);

    // The confirmation does what was named, says so, and the history tells it.
    ok(directory, &["relup", "apply", "book-1.1.0", "--execute"]);
    let confirmed = control::confirm(directory, &support::quiet()).expect("confirmed");
    assert_eq!(confirmed.deleted, ["notebook.0"]);
    assert_eq!((region("notebook"), region("counter")), (0, 1));
    assert_eq!(status().deleted_by_confirm, [""; 0]);
    let log = ask(directory, &["relup", "log"]);
    let log = String::from_utf8_lossy(&log.stdout).into_owned();
    assert!(log.contains("deleted: the state of notebook.0"), "{log}");
}

/// The notebook, whose state 1.1.0 throws away; `more` is in its instruction, and `lints` the end of its appup.
fn with_a_reset(more: &str, lints: &str) -> anyhow::Result<Stage> {
    support::try_book_edited("notebook_1", "notebook_2", |folder| {
        let instructions =
            format!("[{{ update = \"notebook\" }}, {{ reset_node = [\"notebook\"]{more} }}]");
        let text = format!(
            "name = \"notebook\"\nversion = \"1.1.0\"\n\
             [[up]]\nfrom = \"~1.0\"\nirreversible = \"a test\"\ninstructions = {instructions}\n\
             [[down]]\nto = \"~1.0\"\ninstructions = {instructions}\n{lints}"
        );
        std::fs::write(folder.join("manifests/notebook/1.1.0.appup.toml"), text).expect("written");
    })
}

const RESETS: &str = "D102 = { level = \"allow\", reason = \"the notes are kept elsewhere\" }\n";
const KEEPS_NONE: &str = "D103 = { level = \"allow\", reason = \"twice even\" }\n";

/// The build of a release that throws a state away refuses it, and once more if no snapshot is kept.
#[test]
fn a_release_that_begins_anew_is_refused_until_it_says_why() {
    for (more, lints, code) in [
        ("", String::new(), "D102"),
        (
            ", keep_snapshot = false",
            format!("[lints]\n{RESETS}"),
            "D103",
        ),
    ] {
        let error = format!("{:#}", with_a_reset(more, &lints).expect_err(code));
        for word in [code, "notebook", "1.1.0.appup.toml"] {
            assert!(error.contains(word), "{word}: {error}");
        }
    }
}

#[test]
fn a_state_that_begins_anew_is_named_by_whoever_throws_it_away_there_and_back() {
    let lints = format!("[lints]\n{RESETS}{KEEPS_NONE}");
    let stage = with_a_reset(", keep_snapshot = false", &lints).expect("it is built");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    let mut notes = Lines::open(node.address());
    assert_eq!(notes.ask("add one"), "0");
    let said = |output: &std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    // Named before it runs, in the plan and in what is asked for.
    let dry = up(&stage, directory, &[]);
    for named in [
        "notebook: ALL of them are thrown away at step 5, and no snapshot is kept",
        "THROWS AWAY the state of notebook",
    ] {
        assert!(said(&dry).contains(named), "{named}: {}", said(&dry));
    }
    let refused = up(&stage, directory, &["--execute"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert!(
        stderr(&refused).contains("--reset notebook"),
        "{}",
        stderr(&refused)
    );
    assert_eq!(notes.ask("count"), "1");
    let done = up(&stage, directory, &["--execute", "--reset", "notebook"]);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(
        said(&done).contains("thrown away: the state of notebook.0"),
        "{}",
        said(&done)
    );
    assert_eq!(notes.ask("count"), "0");
    assert_eq!(notes.ask("add two"), "0");

    // What the way back throws away, and what the confirmation deletes.
    let shown = said(&ask(directory, &["node", "status"]));
    for named in [
        "the way back throws away the state of notebook.0 made since its reset: 1 transactions",
        "deleted when the release is confirmed: the state of notebook.0 before its reset",
    ] {
        assert!(shown.contains(named), "{named}: {shown}");
    }
    let refused = ask(directory, &["relup", "rollback", "--execute"]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert_eq!(notes.ask("count"), "1");
    ok(
        directory,
        &["relup", "rollback", "--execute", "--reset", "notebook"],
    );
    assert_eq!(notes.ask("get 0"), "one");
    let again = [
        "relup",
        "apply",
        "book-1.1.0",
        "--execute",
        "--reset",
        "notebook",
    ];
    ok(directory, &again);
    let confirmed = control::confirm(directory, &support::quiet()).expect("confirmed");
    assert_eq!(confirmed.deleted, ["notebook.0 before its reset"]);
    let log = said(&ask(directory, &["relup", "log"]));
    for named in [
        "thrown away: the state of notebook.0, 1 transactions since the reset",
        "deleted: the state of notebook.0 before its reset",
    ] {
        assert!(log.contains(named), "{named}: {log}");
    }
}
