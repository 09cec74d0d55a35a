//! Whoever takes a release in or removes one is killed at every durable step: nothing that runs is
//! touched, the same again works, and nothing stays behind.

mod support;

use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::{ReleaseId, ReleaseStatus};
use support::{Lines, assert_all_ended, catalog, copy, journal, stderr};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// A stopped node with 1.0.0, and packages of 1.1.0.
struct Play {
    stage: Stage,
    folder: tempfile::TempDir,
}

impl Play {
    fn new() -> Self {
        let stage = neurath_suite::book("notebook_1", "notebook_2");
        let folder = support::folder_in_memory();
        let play = Self { stage, folder };
        let mut command = play.stage.command("1.0.0");
        command.directory = play.path("prepared");
        NodeProcess::start(&command)
            .and_then(NodeProcess::stop)
            .expect("a node that was stopped");
        for sequence in ["1", "2"] {
            let from = play.stage.built().display().to_string();
            let out = play.package(sequence);
            let words = [
                "release",
                "pack",
                "book-1.1.0",
                "--unsigned",
                "--from",
                &from,
                "--out",
                &out,
                "--sequence",
                sequence,
            ];
            let packed = support::neurath(&words);
            assert!(packed.status.success(), "{}", stderr(&packed));
        }
        play
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn package(&self, sequence: &str) -> String {
        let path = self.path(&format!("{sequence}.neurath.tar.gz"));
        path.display().to_string()
    }

    /// Asks for this in the node's directory, where no node runs: it is the command itself that does it.
    fn run(&self, directory: &Path, words: &[&str], variable: Option<(&str, &str)>) -> Output {
        let mut command = Command::new(neurath_suite::program());
        command
            .args(words)
            .arg("--execute")
            .arg("--dir")
            .arg(directory);
        command.envs(variable);
        command.output().expect("the command is run")
    }

    #[track_caller]
    fn done(&self, directory: &Path, words: &[&str]) {
        let output = self.run(directory, words, None);
        assert!(output.status.success(), "{words:?}: {}", stderr(&output));
    }

    /// A copy of the prepared node in which this was done before.
    fn node(&self, before: &[&[&str]]) -> PathBuf {
        let ready = self.path("ready");
        copy(&self.path("prepared"), &ready);
        for words in before {
            self.done(&ready, words);
        }
        ready
    }

    /// Kills the last of these at each of its points, and does it again. Afterwards the node has
    /// the releases of these versions, and a node that does not do it again has the first alone.
    #[track_caller]
    fn killed(&self, before: &[&[&str]], words: &[&str], after: &[&str]) {
        let ready = self.node(before);
        let directory = self.path("node");
        let log = self.path("points");
        let _ = std::fs::remove_file(&log);
        copy(&ready, &directory);
        let log_variable = log.display().to_string();
        let whole = self.run(
            &directory,
            words,
            Some(("NEURATH_FAULT_LOG", &log_variable)),
        );
        assert!(whole.status.success(), "{}", stderr(&whole));
        self.assert_has(&directory, after);
        let text = std::fs::read_to_string(&log).expect("points");
        let points: Vec<&str> = text.lines().collect();
        assert!(points.len() >= 10, "{points:?}");
        for (at, point) in points.iter().enumerate() {
            println!("{words:?}: killed at {point}");
            copy(&ready, &directory);
            let number = (at + 1).to_string();
            let killed = self.run(&directory, words, Some(("NEURATH_FAULT_KILL", &number)));
            assert_eq!(killed.status.signal(), Some(9), "{}", stderr(&killed));
            let state = catalog(&directory);
            assert_eq!(state.current, Some(release("1.0.0")), "{point}");
            // Either the same again, or a start of the node: both leave what is whole alone.
            if at % 4 == 0 {
                self.assert_starts(&directory);
            }
            self.done(&directory, words);
            self.assert_has(&directory, after);
            assert_all_ended(&journal(&directory));
        }
        // What was done is of use.
        self.assert_starts(&directory);
    }

    /// These releases are known and whole, and nothing else lies there.
    #[track_caller]
    fn assert_has(&self, directory: &Path, versions: &[&str]) {
        let expected: BTreeSet<String> = versions
            .iter()
            .map(|version| release(version).to_string())
            .collect();
        let folders = std::fs::read_dir(directory.join("releases")).expect("the releases");
        let found: BTreeSet<String> = folders
            .map(|one| {
                one.expect("an entry")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        assert_eq!(found, expected, "the folders in releases/");
        let state = catalog(directory);
        let known: BTreeSet<String> = state
            .releases
            .iter()
            .map(|one| one.release.to_string())
            .collect();
        assert_eq!(known, expected, "the releases in the catalog");
        for version in versions {
            let folder = directory
                .join("releases")
                .join(release(version).to_string());
            let part = folder.join(".SEAL.part");
            assert!(!part.exists(), "{} stays", part.display());
            let folder = folder.display().to_string();
            let verified = support::neurath(&["release", "verify", &folder]);
            assert!(verified.status.success(), "{}", stderr(&verified));
            let status = state.status(&release(version)).expect("a status");
            let permanent = *version == "1.0.0";
            assert_eq!(status == ReleaseStatus::Permanent, permanent, "{version}");
        }
    }

    /// The node comes up and serves what it did.
    #[track_caller]
    fn assert_starts(&self, directory: &Path) {
        let mut command = self.stage.command("1.0.0");
        command.directory = directory.to_owned();
        let node = NodeProcess::start(&command).expect("the node starts");
        assert_eq!(Lines::open(node.address()).ask("version"), "1.0.0");
        // Its start has cleaned up what was half done.
        let folders = std::fs::read_dir(directory.join("releases")).expect("the releases");
        for one in folders {
            let name = one
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned();
            assert!(!name.starts_with('.'), "{name} stays");
        }
        node.stop().expect("it stops");
    }
}

#[test]
fn a_release_is_taken_in_wholly_or_not_at_all() {
    let play = Play::new();
    let first = play.package("1");
    play.killed(&[], &["release", "unpack", &first], &["1.0.0", "1.1.0"]);
}

#[test]
fn a_later_package_of_a_release_that_is_there_takes_its_place() {
    let play = Play::new();
    let (first, second) = (play.package("1"), play.package("2"));
    let before: [&[&str]; 1] = [&["release", "unpack", &first]];
    play.killed(
        &before,
        &["release", "unpack", &second],
        &["1.0.0", "1.1.0"],
    );
}

#[test]
fn a_release_is_removed_wholly() {
    let play = Play::new();
    let first = play.package("1");
    let before: [&[&str]; 1] = [&["release", "unpack", &first]];
    play.killed(&before, &["release", "remove", "book-1.1.0"], &["1.0.0"]);
}

#[test]
fn a_folder_that_was_put_there_is_taken_in() {
    let play = Play::new();
    let ready = play.path("prepared");
    let name = release("1.1.0").to_string();
    copy(
        &play.stage.built().join(&name),
        &ready.join("releases").join(&name),
    );
    let words = ["release", "set-unpacked", "book-1.1.0"];
    play.killed(&[], &words, &["1.0.0", "1.1.0"]);
}

/// A node that runs is killed while it unpacks and while it removes, and its start ends that.
#[test]
fn a_running_node_is_killed_while_it_takes_a_release_in() {
    let play = Play::new();
    let ready = play.node(&[]);
    let directory = play.path("node");
    let package = play.package("1");
    let log = play.path("points");
    let mut command = play.stage.command("1.0.0");
    command.directory.clone_from(&directory);
    let with = |name: &str, value: String| {
        let mut command = command.clone();
        command.environment.push((name.into(), value.into()));
        command
    };
    let both: [&[&str]; 2] = [
        &["release", "unpack", &package],
        &["release", "remove", "book-1.1.0"],
    ];
    copy(&ready, &directory);
    let logged = with("NEURATH_FAULT_LOG", log.display().to_string());
    let node = NodeProcess::start(&logged).expect("a node");
    let passed = || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        text.lines().count()
    };
    let begin = passed();
    for words in both {
        play.done(&directory, words);
    }
    let end = passed();
    drop(node);
    assert!(end > begin + 15, "{begin}..{end}");
    for kill in (begin + 1..=end).step_by(3) {
        copy(&ready, &directory);
        let node = NodeProcess::start(&with("NEURATH_FAULT_KILL", kill.to_string()));
        let node = node.expect("a node");
        for words in both {
            play.run(&directory, words, None);
        }
        support::wait_until("its death", || node.check().is_err());
        drop(node);
        let node = NodeProcess::start(&command).expect("the node again");
        play.done(&directory, both[0]);
        play.assert_has(&directory, &["1.0.0", "1.1.0"]);
        play.done(&directory, both[1]);
        play.assert_has(&directory, &["1.0.0"]);
        assert_all_ended(&journal(&directory));
        node.stop().expect("it stops");
    }
}
