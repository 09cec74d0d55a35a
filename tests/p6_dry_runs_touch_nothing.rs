//! P6: a dry run touches nothing. Each command that would change a node says what it would do, and leaves
//! every file of the node as it was, until it is given `--execute`. For rehearsals see
//! `tests/rehearsal.rs`.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use support::{Lines, ask, at_rest, everything, neurath, ok, quiet, stderr};

/// Files that commands are given.
struct Given {
    _folder: tempfile::TempDir,
    built: String,
    package: String,
    key: String,
}

impl Given {
    fn new(built: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name).display().to_string();
        let (built, package, key) = (
            built.display().to_string(),
            path("book-1.1.0.neurath.tar.gz"),
            path("key"),
        );
        for words in [
            &["release", "keygen", &key, "--no-password"][..],
            &[
                "release",
                "pack",
                "book-1.1.0",
                "--from",
                &built,
                "--sequence",
                "1",
                "--key",
                &key,
                "--out",
                &package,
            ],
        ] {
            let made = neurath(words);
            assert!(made.status.success(), "{}", stderr(&made));
        }
        Self {
            _folder: folder,
            built,
            package,
            key: key + ".pub",
        }
    }

    /// Every dry command, and each that only looks.
    fn commands(&self) -> Vec<Vec<&str>> {
        let mut all = vec![
            vec!["relup", "apply", "book-1.1.0", "--from", &self.built],
            vec!["relup", "apply", &self.package],
            vec!["relup", "rollback"],
            vec!["relup", "rollback", "--lose-writes"],
            vec!["relup", "resume"],
            vec!["relup", "abort"],
            vec!["relup", "log", "--steps"],
            vec!["relup", "log", "--set-aside"],
            vec!["release", "unpack", &self.package],
            vec!["release", "which"],
            vec!["release", "check", "book-1.1.0"],
            vec!["release", "remove", "book-1.1.0"],
            vec!["release", "set-unpacked", "book-1.1.0"],
            vec!["node", "trust", &self.key],
            vec!["node", "distrust", "key"],
            vec!["node", "reboot-old", "book-1.0.0"],
            vec!["node", "status"],
            vec!["node", "metrics"],
        ];
        for words in all.clone() {
            let json = [words, vec!["--json"]].concat();
            all.push(json);
        }
        all
    }

    /// None of them changes anything; how many of them would have done something.
    #[track_caller]
    fn touch_nothing(&self, directory: &Path, when: &str) -> usize {
        at_rest(directory);
        let mut would = 0;
        for words in self.commands() {
            let before = everything(directory);
            let output = ask(directory, &words);
            let after = everything(directory);
            let changed: Vec<&String> = (before.iter())
                .filter(|(path, hash)| after.get(*path) != Some(hash))
                .map(|(path, _)| path)
                .chain(after.keys().filter(|path| !before.contains_key(*path)))
                .collect();
            assert!(changed.is_empty(), "{when}, {words:?} changed {changed:?}");
            // Done, or refused for a reason: never a failure of its own.
            let code = output.status.code().expect("an exit code");
            let said = stderr(&output) + &String::from_utf8_lossy(&output.stdout);
            assert!(
                [0, 2, 20, 23, 30, 50].contains(&code),
                "{when}, {words:?}: {code}, {said}"
            );
            assert!(
                code == 0 || said.len() > 20,
                "{when}, {words:?}: {code}, {said}"
            );
            would += usize::from(said.contains("--execute"));
        }
        would
    }
}

#[test]
fn without_execute_nothing_of_a_node_changes() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let given = Given::new(stage.built());
    // Nothing is installed beside the release that runs.
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory().to_owned();
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add one"), "0");
    let would = given.touch_nothing(&directory, "the release is not there");
    assert!(would >= 4, "{would}");

    // The plan is the same as when the release is there.
    let apply = [
        "relup",
        "apply",
        "book-1.1.0",
        "--from",
        &given.built,
        "--json",
    ];
    let planned = |when: &str| -> serde_json::Value {
        let output = ask(&directory, &apply);
        assert!(output.status.success(), "{when}: {}", stderr(&output));
        serde_json::from_slice(&output.stdout).expect("JSON")
    };
    let before = planned("not installed");
    stage.install(&directory).expect("installed");
    assert_eq!(planned("installed"), before);
    given.touch_nothing(&directory, "the release is unpacked");

    control::apply(&directory, &ReleaseId::new("book", "1.1.0"), None, &quiet()).expect("up");
    given.touch_nothing(&directory, "it is not confirmed");
    ok(&directory, &["relup", "confirm"]);
    let would = given.touch_nothing(&directory, "it is confirmed");
    assert!(would >= 3, "{would}");
    assert_eq!(client.ask("count"), "1");
    drop(client);
    node.stop().expect("stopped");
    given.touch_nothing(&directory, "the node does not run");
}
