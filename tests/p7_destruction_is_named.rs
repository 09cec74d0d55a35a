//! P7: what destroys is named before it runs. A plan that throws state away is refused until the
//! release allows it with a reason, and says what would be lost. A way back that loses writes has to be asked for by
//! name: `tests/p4_way_back_keeps_writes.rs`.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use support::{Lines, ask, everything, ok, stderr};

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
    let before = everything(directory);
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
