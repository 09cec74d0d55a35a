//! `reset_node`: a state is thrown away on purpose, and begins anew, while connections and all other states live on. It has
//! to be named before; a snapshot is kept unless somebody says otherwise; until the release is confirmed, the way back
//! brings the state before back.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use neurath_cli::build::describe_node;
use neurath_cli::cli::{Folders, Resets};
use neurath_cli::control;
use neurath_cli::processes::TemporaryFolder;
use neurath_cli::stage::{self, Stage};
use neurath_cli::testing::{NodeCommand, NodeProcess, free_port};
use neurath_node::catalog::{Catalog, RegionEntry, ReleaseId, SNAPSHOT_LIMIT, SnapshotEntry};
use neurath_node::journal::Kind;
use neurath_node::protocol::{Status, code};
use neurath_node::release::{ComponentSources, ReleasePackage, Sources};
use neurath_verify::{Turns, check_fill};
use support::load::{Client, Newcomers, assert_clean, load_through, served};
use support::play::Play;
use support::schema::judge;
use support::{
    Lines, ask, assert_all_ended, assert_no_orphans, catalog, full_status, journal, ok, quiet,
    stderr, wait_until,
};

/// A notebook and a counter; 1.1.0 of the notebook throws its state away, in both directions.
struct Book {
    stage: Stage,
    notebook: String,
    counter: String,
}

const RESET: &str = "{ update = \"notebook\" }, { reset_node = [\"notebook\"] }";

fn appup(up: &str, down: &str) -> String {
    format!(
        "name = \"notebook\"\nversion = \"1.1.0\"\n\
         [[up]]\nfrom = \"~1.0\"\nirreversible = \"the test throws it away\"\ninstructions = [{up}]\n\
         [[down]]\nto = \"~1.0\"\ninstructions = [{down}]\n\
         [lints]\nD102 = {{ level = \"allow\", reason = \"the test throws it away\" }}\n"
    )
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
    fs::write(path, text).expect("it is written");
}

fn edit(folder: &Path, path: &str, edit: impl Fn(String) -> String) {
    let text = fs::read_to_string(folder.join(path)).expect(path);
    write(folder, path, &edit(text));
}

impl Book {
    fn new(change: impl FnOnce(&Path)) -> Book {
        let folder = TemporaryFolder::new().expect("a folder");
        let address = || format!("127.0.0.1:{}", free_port().expect("a port"));
        let (notebook, counter) = (address(), address());
        let path = folder.path();
        neurath_test_components::project(path, "notebook_1", "notebook_2", &notebook)
            .expect("manifests");
        write(
            path,
            "manifests/notebook/1.1.0.appup.toml",
            &appup(RESET, RESET),
        );
        write(
            path,
            "manifests/counter/1.0.0.toml",
            "name = \"counter\"\nversion = \"1.0.0\"\nlibrary = \"neurath/counter_1\"\n\
             [region]\ninitial_size = \"1MiB\"\nlimit = \"64MiB\"\ndurability = \"process\"\n",
        );
        for version in ["1.0.0", "1.1.0"] {
            edit(path, &format!("releases/book/{version}.toml"), |text| {
                let line = format!(
                    "[components]\ncounter = {{ version = \"1.0.0\", config = {{ listen = \"{counter}\" }} }}\n"
                );
                text.replace("[components]\n", &line)
            });
        }
        change(path);
        let folders = Folders {
            manifests: path.join("manifests"),
            releases: path.join("releases"),
        };
        let versions = ["1.0.0", "1.1.0"];
        let stage = Stage::of(folder, &folders, "book", &versions, &quiet());
        Book {
            stage: stage.expect("it is built").run_by(neurath_suite::program()),
            notebook,
            counter,
        }
    }

    /// A node with some notes, and some counted.
    fn start(&self) -> NodeProcess {
        let node = self.stage.start("1.0.0").expect("a node");
        self.fill();
        node
    }

    fn fill(&self) {
        let mut notes = Lines::open(&self.notebook);
        for number in 0..NOTES {
            assert_eq!(notes.ask(&format!("add note {number}")), number.to_string());
        }
        let mut counts = Lines::open(&self.counter);
        for number in 1..=COUNTED {
            assert_eq!(counts.ask("x"), number.to_string());
        }
    }

    /// The notes are those from before the reset, and nothing else.
    #[track_caller]
    fn assert_old(&self) {
        let mut notes = Lines::open(&self.notebook);
        assert_eq!(notes.ask("count"), NOTES.to_string());
        for number in 0..NOTES {
            let note = notes.ask(&format!("get {number}"));
            assert_eq!(note, format!("note {number}"));
        }
    }
}

const NOTES: u64 = 300;
const COUNTED: u64 = 5;
const APPLY: [&str; 4] = ["relup", "apply", "book-1.1.0", "--execute"];
const BACK: [&str; 3] = ["relup", "rollback", "--execute"];
const NAMED: [&str; 2] = ["--reset", "notebook"];

fn all<'a>(words: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [words, more].concat()
}

fn status(node: &NodeProcess) -> Status {
    full_status(node.directory())
}

/// What the last operation that has ended says of itself.
fn last_end(directory: &Path) -> String {
    let mut ends = journal(directory)
        .into_iter()
        .filter_map(|record| match record.kind {
            Kind::Ended { text, .. } => Some((record.operation_id, text)),
            _ => None,
        });
    let of_upgrades = |(id, _): &(String, String)| {
        ["apply", "rollback", "confirm"]
            .iter()
            .any(|one| id.starts_with(one))
    };
    ends.rfind(of_upgrades).expect("an end").1
}

fn snapshot_file(node: &NodeProcess) -> PathBuf {
    let snapshots = status(node).snapshots;
    assert_eq!(snapshots.len(), 1, "{snapshots:?}");
    PathBuf::from(&snapshots[0].file)
}

/// The entries of a map of a region, by the schema in it.
#[track_caller]
fn inspected(file: &Path) -> String {
    let file = file.display().to_string();
    let output = support::neurath(&[
        "state", "inspect", &file, "--data", "--limit", "1000", "--json",
    ]);
    assert!(output.status.success(), "{}", stderr(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn it_is_refused_until_all_that_is_thrown_away_is_named() {
    let book = Book::new(|_| ());
    let node = book.start();
    let directory = node.directory();
    let records = journal(directory).len();
    for (words, says) in [
        (
            &[][..],
            "throws away the state of notebook, which was not named",
        ),
        (&["--reset", "counter,notebook"], "not that of counter"),
    ] {
        let refused = ask(directory, &all(&APPLY, words));
        assert_eq!(refused.status.code(), Some(i32::from(code::USAGE)));
        assert!(stderr(&refused).contains(says), "{}", stderr(&refused));
        assert!(
            stderr(&refused).contains("nothing was done"),
            "{}",
            stderr(&refused)
        );
    }
    assert_eq!(journal(directory).len(), records, "nothing was begun");
    let dry = ask(directory, &["relup", "apply", "book-1.1.0"]);
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    assert!(said.contains("ALL of them are thrown away"), "{said}");
    assert!(said.contains("by --reset notebook"), "{said}");
    book.assert_old();

    ok(directory, &all(&APPLY, &NAMED));
    let mut notes = Lines::open(&book.notebook);
    assert_eq!(notes.ask("count"), "0");
    assert_eq!(notes.ask("add anew"), "0");
    // The way back as well.
    let refused = ask(directory, &BACK);
    assert_eq!(refused.status.code(), Some(i32::from(code::USAGE)));
    assert!(
        stderr(&refused).contains("--reset notebook"),
        "{}",
        stderr(&refused)
    );
    let refused = ask(directory, &["relup", "abort", "--execute"]);
    assert_eq!(refused.status.code(), Some(i32::from(code::USAGE)));
    let dry = ask(directory, &["relup", "rollback"]);
    let said = String::from_utf8_lossy(&dry.stdout).into_owned();
    let lost = "throws away the state of notebook.0 made since its reset: ";
    assert!(said.contains(lost), "{said}");
    assert_eq!(notes.ask("count"), "1");
}

#[test]
fn a_state_begins_anew_and_comes_back_as_it_was() {
    let book = Book::new(|_| ());
    let node = book.start();
    let directory = node.directory();
    let mut notes = Lines::open(&book.notebook);
    let mut counts = Lines::open(&book.counter);
    assert_eq!(notes.ask("count"), NOTES.to_string());
    let before = catalog(directory).regions;

    ok(directory, &all(&APPLY, &NAMED));
    let anew = status(&node);
    assert_eq!(anew.snapshots.len(), 1);
    let kept = &anew.snapshots[0];
    let of_notebook = before.iter().find(|one| one.component == "notebook");
    assert_eq!(
        Some(&kept.name),
        of_notebook.map(|one| &one.file),
        "nothing is copied"
    );
    assert_eq!(
        (kept.component.as_str(), kept.version.as_str()),
        ("notebook", "1.0.0")
    );
    assert!(kept.way_back && kept.bytes > 0, "{kept:?}");
    assert!(last_end(directory).contains("thrown away: the state of notebook.0, "));
    assert!(last_end(directory).contains(&format!("kept as the snapshot {}", kept.name)));
    // The same connections; the other state goes on.
    assert_eq!(notes.ask("count"), "0");
    assert_eq!(counts.ask("x"), (COUNTED + 1).to_string());
    for number in 0..7 {
        assert_eq!(notes.ask(&format!("add anew {number}")), number.to_string());
    }
    let at_stake = &status(&node).reset;
    assert_eq!(
        (at_stake.len(), at_stake[0].transactions),
        (1, Some(7)),
        "{at_stake:?}"
    );
    assert_no_orphans(directory);

    ok(directory, &all(&BACK, &NAMED));
    assert_eq!(notes.ask("count"), NOTES.to_string());
    book.assert_old();
    assert_eq!(counts.ask("x"), (COUNTED + 2).to_string());
    let said = last_end(directory);
    assert!(
        said.contains("the state of notebook.0, 7 transactions since the reset"),
        "{said}"
    );
    assert!(
        said.contains("its state from before the upgrade is back"),
        "{said}"
    );
    // What was written since is a snapshot now, and the one that came back is none any more.
    let file = snapshot_file(&node);
    assert!(inspected(&file).contains("anew 6"));
    assert_eq!(status(&node).reset, []);
    assert_eq!(
        catalog(directory)
            .region("notebook", 0)
            .map(|one| &one.file),
        of_notebook.map(|one| &one.file)
    );
    assert_no_orphans(directory);
    assert_all_ended(&journal(directory));
    // It is written again, and lasts.
    assert_eq!(notes.ask("add last"), NOTES.to_string());
    let directory = directory.to_owned();
    node.kill();
    drop(node);
    let again = NodeProcess::start(&NodeCommand {
        directory,
        ..book.stage.command("1.0.0")
    });
    let again = again.expect("it starts again");
    assert_eq!(
        Lines::open(&book.notebook).ask("count"),
        (NOTES + 1).to_string()
    );
    assert_eq!(snapshot_file(&again), file);
}

#[test]
fn a_snapshot_outlives_the_confirmation_until_it_is_removed_by_name() {
    let book = Book::new(|_| ());
    let node = book.start();
    let directory = node.directory();
    ok(directory, &all(&APPLY, &NAMED));
    let name = status(&node).snapshots[0].name.clone();
    let remove = ["state", "remove-snapshot", name.as_str(), "--execute"];
    let refused = ask(directory, &remove);
    assert_eq!(refused.status.code(), Some(i32::from(code::BUSY)));
    assert!(
        stderr(&refused).contains("the way back"),
        "{}",
        stderr(&refused)
    );
    let confirmed = control::confirm(directory, &quiet()).expect("confirmed");
    assert_eq!(confirmed.deleted, [""; 0]);

    let file = snapshot_file(&node);
    assert!(!status(&node).snapshots[0].way_back);
    let held = inspected(&file);
    assert!(held.contains("note 42"), "{held}");
    let shown = ask(directory, &["node", "status"]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(
        shown.contains("snapshots of states that were thrown away: 1, "),
        "{shown}"
    );
    assert!(
        shown.contains(&format!("  {name}: notebook 1.0.0 of book-1.0.0")),
        "{shown}"
    );
    let figures = ask(directory, &["node", "metrics"]);
    let figures = String::from_utf8_lossy(&figures.stdout).into_owned();
    assert!(figures.contains("neurath_snapshots 1\n"), "{figures}");
    // Neither a start nor a stop takes it away.
    let directory = directory.to_owned();
    node.stop().expect("it stops");
    let command = NodeCommand {
        directory: directory.clone(),
        ..book.stage.command("1.0.0")
    };
    let node = NodeProcess::start(&command).expect("it starts");
    assert_eq!(inspected(&file), held);

    let removed = |words: &[&str]| {
        let said = ask(&directory, &[words, &["--json"]].concat());
        assert!(said.status.success(), "{}", stderr(&said));
        let said: serde_json::Value = serde_json::from_slice(&said.stdout).expect("an object");
        judge("state-remove-snapshot", &said);
        said["done"] == true
    };
    assert!(!removed(&remove[..3]));
    assert!(file.exists(), "a dry run");
    assert!(removed(&remove));
    assert!(!file.exists());
    assert_eq!(status(&node).snapshots, []);
    let unknown = ask(&directory, &remove);
    assert_eq!(unknown.status.code(), Some(i32::from(code::USAGE)));
    assert_no_orphans(&directory);
    assert_all_ended(&journal(&directory));
}

#[test]
fn without_a_snapshot_the_confirmation_deletes_what_it_names() {
    let book = Book::new(|_| ());
    let node = book.start();
    let directory = node.directory();
    let none = all(&all(&APPLY, &NAMED), &["--no-snapshot"]);
    ok(directory, &none);
    assert_eq!(status(&node).snapshots, []);
    assert_eq!(
        status(&node).deleted_by_confirm,
        ["notebook.0 before its reset"]
    );
    assert!(last_end(directory).contains("no snapshot is kept"));
    // Until then the way back has it.
    ok(directory, &all(&BACK, &NAMED));
    book.assert_old();
    ok(directory, &none);
    let file = catalog(directory).previous.expect("unconfirmed").regions;
    let file = file.iter().find(|one| one.component == "notebook");
    let file = directory.join("regions").join(&file.expect("it").file);
    assert!(file.exists());
    let confirmed = control::confirm(directory, &quiet()).expect("confirmed");
    assert_eq!(confirmed.deleted, ["notebook.0 before its reset"]);
    assert!(!file.exists());
    assert!(last_end(directory).contains("deleted: the state of notebook.0 before its reset"));
    // That of the way back was kept, as nobody said otherwise.
    assert_eq!(status(&node).snapshots.len(), 1);
    assert_no_orphans(directory);
}

#[test]
fn what_is_not_confirmed_comes_back_by_itself() {
    let book = Book::new(|folder| {
        edit(folder, "releases/book/1.1.0.toml", |text| {
            let (head, _) = text.split_once("[confirm]").expect("a policy");
            format!("{head}[confirm]\nwindow = \"15s\"\n")
        });
    });
    let node = book.start();
    let directory = node.directory();
    ok(directory, &all(&APPLY, &NAMED));
    assert_eq!(Lines::open(&book.notebook).ask("add anew"), "0");
    wait_until("the window is over", || !status(&node).unconfirmed);
    book.assert_old();
    let said = last_end(directory);
    assert!(
        said.contains("thrown away: the state of notebook.0, 1 transactions since"),
        "{said}"
    );
    // Killed before the window is over.
    ok(directory, &all(&APPLY, &NAMED));
    assert_eq!(Lines::open(&book.notebook).ask("add anew"), "0");
    let directory = directory.to_owned();
    node.kill();
    drop(node);
    let command = NodeCommand {
        directory: directory.clone(),
        ..book.stage.command("1.0.0")
    };
    let node = NodeProcess::start(&command).expect("it starts again");
    book.assert_old();
    assert!(last_end(&directory).contains("its state from before the upgrade is back"));
    assert_eq!(
        status(&node).snapshots.len(),
        2,
        "each time of what was written since"
    );
    assert_no_orphans(&directory);
}

/// Where nothing changes but the state.
const RESTARTS: &str = "{ update = \"notebook\", change = { advanced = {} } }, \
                        { restart_component = \"counter\" }, { reset_node = [\"counter\"] }";

#[test]
fn the_state_of_a_component_whose_code_stays_begins_anew() {
    let book = Book::new(|folder| {
        let back = "{ update = \"notebook\", change = { advanced = {} } }";
        write(
            folder,
            "manifests/notebook/1.1.0.appup.toml",
            &appup(RESTARTS, back),
        );
        edit(folder, "releases/book/1.1.0.toml", |text| {
            text + "[lints]\nD102 = { level = \"allow\", reason = \"a test\" }\n"
        });
    });
    let node = book.start();
    let directory = node.directory();
    let apply = all(&APPLY, &["--reset", "counter"]);
    ok(directory, &apply);
    book.assert_old();
    assert_eq!(Lines::open(&book.counter).ask("x"), "1");
    // This way back does not throw it away: it keeps the new one, and the snapshot stays.
    ok(directory, &BACK);
    book.assert_old();
    assert_eq!(Lines::open(&book.counter).ask("x"), "2");
    assert!(snapshot_file(&node).exists());
    assert_no_orphans(directory);
    // The one that is asked for by name brings all back as it was.
    ok(directory, &apply);
    assert_eq!(Lines::open(&book.counter).ask("x"), "1");
    assert_eq!(
        Lines::open(&book.notebook).ask("add lost"),
        NOTES.to_string()
    );
    ok(
        directory,
        &["relup", "rollback", "--lose-writes", "--execute"],
    );
    book.assert_old();
    assert_eq!(Lines::open(&book.counter).ask("x"), "3");
    assert_eq!(status(&node).snapshots.len(), 1);
    assert_no_orphans(directory);
}

#[test]
fn a_node_that_does_not_run_is_brought_back_without_the_writes() {
    let book = Book::new(|_| ());
    let node = book.start();
    let directory = node.directory().to_owned();
    ok(&directory, &all(&APPLY, &NAMED));
    node.kill();
    drop(node);
    ok(
        &directory,
        &["relup", "rollback", "--lose-writes", "--execute"],
    );
    assert_eq!(catalog(&directory).snapshots, []);
    let command = NodeCommand {
        directory: directory.clone(),
        ..book.stage.command("1.0.0")
    };
    let _node = NodeProcess::start(&command).expect("it starts again");
    book.assert_old();
    assert_no_orphans(&directory);
}

/// A limit on the size of files stands for the full disk.
#[test]
fn where_there_is_no_room_for_the_new_state_the_old_one_stays() {
    let book = Book::new(|folder| {
        edit(folder, "manifests/notebook/1.1.0.toml", |text| {
            let region = text.lines().map(|line| match line.split_once(" = ") {
                Some(("initial_size", _)) => "initial_size = \"32MiB\"".to_owned(),
                Some(("limit", _)) => "limit = \"64MiB\"".to_owned(),
                _ => line.to_owned(),
            });
            region.collect::<Vec<_>>().join("\n")
        });
    });
    let command = book.stage.command("1.0.0");
    let program = command.program.clone().into_os_string();
    let limited = NodeCommand {
        program: "sh".into(),
        arguments: vec![
            "-c".into(),
            format!("ulimit -f {} && exec \"$0\" \"$@\"", (16 << 20) / 512).into(),
            program,
        ],
        ..command.clone()
    };
    let node = NodeProcess::start(&limited).expect("a node");
    let directory = node.directory().to_owned();
    book.fill();
    // By whoever has no such limit: a library may be larger.
    node.stop().expect("it stops");
    let node = NodeProcess::start(&command).expect("a node");
    book.stage.install(&directory).expect("installed");
    node.stop().expect("it stops");
    let node = NodeProcess::start(&limited).expect("a node");
    let failed = ask(&directory, &all(&APPLY, &NAMED));
    assert_eq!(
        failed.status.code(),
        Some(i32::from(code::UPGRADE_FAILED)),
        "{}",
        stderr(&failed)
    );
    book.assert_old();
    assert_eq!(catalog(&directory).snapshots, []);
    assert_eq!(status(&node).release, Some(ReleaseId::new("book", "1.0.0")));
    assert_no_orphans(&directory);
    assert_all_ended(&journal(&directory));
    node.stop().expect("it stops");
    let _node = NodeProcess::start(&command).expect("a node");
    ok(&directory, &all(&APPLY, &NAMED));
    assert_eq!(Lines::open(&book.notebook).ask("count"), "0");
}

/// At a part of the durable steps; `cargo xtask crash upgrade` has the same at all of them, under load.
#[test]
fn killed_at_a_durable_step_there_is_one_state_or_the_other() {
    let book = Book::new(|_| ());
    let node = book.start();
    let play = Play {
        folder: support::folder_in_memory(),
        stage: book.stage,
    };
    play.keep(node, "prepared");
    let book = Book {
        stage: play.stage,
        ..book
    };
    let play = Play {
        stage: book.stage,
        ..play
    };
    let resets = Resets {
        reset: vec!["notebook".into()],
        no_snapshot: false,
    };
    let apply = |directory: &Path| {
        control::apply_resetting(directory, &new_book(), None, &resets, &quiet())
    };
    let back = |directory: &Path| {
        apply(directory)?;
        control::rollback_resetting(directory, &resets.reset, &quiet()).map(drop)
    };
    let confirm = |directory: &Path| {
        apply(directory)?;
        control::confirm(directory, &quiet()).map(drop)
    };
    type Run<'a> = &'a dyn Fn(&Path) -> anyhow::Result<()>;
    let runs: [Run<'_>; 3] = [&|directory| apply(directory).map(drop), &back, &confirm];
    let mut found = [0, 0];
    for (seed, run) in runs.into_iter().enumerate() {
        // The points of this alone.
        drop(fs::remove_file(play.path("log")));
        let (before, points) = play.points("prepared", "learned", |directory| {
            run(directory).expect("it is done");
        });
        let commits = |name: &str| name.starts_with("catalog.");
        let near = points.iter().rposition(|name| commits(name));
        let (near, last) = (near.expect("a commit"), points.len());
        let spread = (before + 1..=last)
            .skip(seed)
            .step_by(((last - before) / 3).max(1));
        let mut chosen: Vec<usize> = spread.chain([near, near + 1, near + 2, last]).collect();
        chosen.retain(|point| (1..=last).contains(point));
        chosen.sort_unstable();
        chosen.dedup();
        for point in chosen {
            let number = point.to_string();
            let node = play.started("prepared", "killed", "NEURATH_FAULT_KILL", &number);
            drop(run(node.directory()));
            wait_until("it dies", || node.check().is_err());
            drop(node);
            let dead = catalog(&play.path("killed"));
            let node = NodeProcess::start(&play.command("killed")).expect("it starts again");
            let place = format!("killed at {point}, {}: {dead:?}", points[point - 1]);
            let new = dead.previous.is_none() && dead.current == Some(new_book());
            found[usize::from(new)] += 1;
            let mut notes = Lines::open(&book.notebook);
            if new {
                assert_eq!(notes.ask("count"), "0", "{place}");
                assert!(
                    inspected(&snapshot_file(&node)).contains("note 42"),
                    "{place}"
                );
            } else {
                assert_eq!(notes.ask("count"), NOTES.to_string(), "{place}");
                assert_eq!(notes.ask("get 299"), "note 299", "{place}");
            }
            let mut counts = Lines::open(&book.counter);
            assert_eq!(counts.ask("x"), (COUNTED + 1).to_string(), "{place}");
            assert_no_orphans(node.directory());
            assert_all_ended(&journal(node.directory()));
        }
    }
    assert!(
        found.iter().all(|some| *some > 0),
        "on both sides: {found:?}"
    );
}

fn new_book() -> ReleaseId {
    ReleaseId::new("book", "1.1.0")
}

#[test]
fn a_rehearsal_goes_there_and_back_without_being_named_anything() {
    let book = Book::new(|_| ());
    let node = book.start();
    let records = journal(node.directory()).len();
    let told = ask(
        node.directory(),
        &["relup", "rehearse", "book-1.1.0", "--json"],
    );
    assert!(told.status.success(), "{}", stderr(&told));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("\"way_back\":{\"same\""), "{told}");
    book.assert_old();
    assert_eq!(
        journal(node.directory()).len(),
        records,
        "the node knows nothing of it"
    );
    assert_eq!(status(&node).snapshots, []);
}

#[test]
fn more_snapshots_than_there_may_be_are_refused_and_a_way_back_keeps_none() {
    let book = Book::new(|_| ());
    let node = book.start();
    let directory = node.directory().to_owned();
    node.stop().expect("it stops");
    let mut catalog = Catalog::open(&directory).expect("the catalog");
    let mut state = catalog.state().clone();
    let region = state.region("notebook", 0).expect("a region").clone();
    for number in 0..SNAPSHOT_LIMIT as u64 {
        state.snapshots.push(SnapshotEntry {
            region: RegionEntry {
                generation: 1000 + number,
                file: format!("notebook.0.{}", 1000 + number),
                ..region.clone()
            },
            release: ReleaseId::new("book", "1.0.0"),
            made_ms: 1,
        });
    }
    catalog.commit(state).expect("committed");
    drop(catalog);
    let command = NodeCommand {
        directory: directory.clone(),
        ..book.stage.command("1.0.0")
    };
    let node = NodeProcess::start(&command).expect("it starts");
    let refused = ask(&directory, &all(&APPLY, &NAMED));
    assert_eq!(refused.status.code(), Some(i32::from(code::BUSY)));
    let says = "remove some by `neurath state remove-snapshot`";
    assert!(stderr(&refused).contains(says), "{}", stderr(&refused));
    book.assert_old();
    ok(&directory, &all(&all(&APPLY, &NAMED), &["--no-snapshot"]));
    assert_eq!(Lines::open(&book.notebook).ask("count"), "0");
    ok(&directory, &all(&BACK, &NAMED));
    book.assert_old();
    assert!(last_end(&directory).contains("no snapshot is kept"));
    // One whose file is gone can be removed, and then there is room.
    let remove = ["state", "remove-snapshot", "notebook.0.1000", "--execute"];
    ok(&directory, &remove);
    ok(&directory, &all(&APPLY, &NAMED));
    assert_eq!(status(&node).snapshots.len(), SNAPSHOT_LIMIT);
}

/// kv 3.0.0 as it is, with another node.
fn kv_with_its_node() -> Stage {
    let stage = kv();
    let folder = stage.built().join("kv-3.0.0");
    let package = ReleasePackage::open(&folder).expect("kv 3.0.0");
    let aside = stage.built().join("aside");
    let text = |path: &str| {
        package
            .text(path)
            .map(|text| (path.to_owned(), text.to_owned()))
    };
    let component = |name: &str| {
        let manifest = package.component(name).expect("a component");
        let stem = format!("{name}-{}", manifest.version);
        ComponentSources {
            manifest: text(&format!("components/{stem}.toml")).expect("a manifest"),
            appup: text(&format!("appups/{stem}.appup.toml")),
            library: aside.join(format!("lib/{stem}.so")),
        }
    };
    let (name, release) = text("release.toml").expect("a release");
    let node = "node = \"0.2.0\"\nnode_program = \"kv-node\"\n";
    let relup = Path::new(env!("CARGO_MANIFEST_DIR")).join("releases/kv/3.0.0.relup.toml");
    let relup = fs::read_to_string(relup).expect("the relup");
    let sources = Sources {
        release: (name, release.replace("node = \"0.1.0\"\n", node)),
        relup: Some(("3.0.0.relup.toml".into(), relup)),
        components: vec![component("gateway"), component("store")],
        node: Some(describe_node(&neurath_suite::second_program()).expect("a node program")),
    };
    fs::rename(&folder, &aside).expect("it is set aside");
    ReleasePackage::assemble(stage.built(), &sources).expect("kv 3.0.0");
    stage
}

/// The script restarts into the new node first, and throws the state away there; the way back brings state and node back.
#[test]
fn a_state_is_thrown_away_in_another_node_under_the_same_connections() {
    let stage = kv_with_its_node();
    let node = NodeProcess::start(&stage.command("1.3.0")).expect("a node");
    let (directory, address) = (node.directory(), node.address());
    control::install(directory, &stage::release("3.0.0"), stage.built()).expect("installed");
    stage::fill(address, 200).expect("filled");
    let turns = Turns::default();
    let load = load_through(address, 4, 5, &turns);
    served(&load, 300);
    turns.to_nothing();
    let reset = ["--execute", "--reset", "store"];
    ok(directory, &all(&["relup", "apply", "kv-3.0.0"], &reset));
    turns.end();
    served(&load, 300);
    let there = status(&node);
    assert_eq!(there.node, "0.2.0");
    assert_eq!((there.snapshots.len(), there.reset.len()), (1, 1));
    turns.back();
    ok(directory, &all(&["relup", "rollback"], &reset));
    turns.end();
    served(&load, 300);
    assert_eq!(status(&node).node, "0.1.0");
    let report = check_fill(address, 200, stage::VALUE_LEN, 1);
    assert!(report.is_clean() && report.checked_keys == 200, "{report}");
    assert_clean(load);
    assert_all_ended(&journal(directory));
}

/// kv 1.3.0, and a 3.0.0 for the same node.
fn kv() -> Stage {
    let folder = TemporaryFolder::new().expect("a folder");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("releases/kv");
    for version in ["1.3.0", "3.0.0"] {
        let text = fs::read_to_string(root.join(format!("{version}.toml"))).expect("a release");
        let text = text.replace(
            "node = \"0.2.0\"\nnode_program = \"kv-node\"\n",
            "node = \"0.1.0\"\n",
        );
        assert!(text.contains("node = \"0.1.0\""), "{text}");
        write(folder.path(), &format!("kv/{version}.toml"), &text);
    }
    let folders = Folders {
        releases: folder.path().to_owned(),
        ..Folders::default()
    };
    let stage = Stage::new(&folders, &["1.3.0", "3.0.0"], &quiet());
    stage.expect("kv is built").run_by(neurath_suite::program())
}

#[test]
fn under_load_no_connection_is_lost_and_no_answer_is_wrong() {
    let stage = kv();
    let node = stage.start("1.3.0").expect("a node");
    let (directory, address) = (node.directory(), node.address());
    stage::fill(address, 500).expect("filled");
    let turns = Turns::default();
    let loads = [
        load_through(address, 1, 1, &turns),
        load_through(address, 16, 2, &turns),
    ];
    let newcomers = Newcomers::start(address);
    let serve = || loads.iter().for_each(|load| served(load, 300));
    let mut client = Client::open(address);
    serve();
    let reset = ["--execute", "--reset", "store"];
    let apply = all(&["relup", "apply", "kv-3.0.0"], &reset);
    let back = all(&["relup", "rollback"], &reset);
    for round in 0..2 {
        turns.to_nothing();
        ok(directory, &apply);
        turns.end();
        serve();
        assert_eq!(client.ask("GET fill:0"), "$-1", "{round}");
        assert!(
            status(&node)
                .components
                .iter()
                .any(|one| one.version == "2.0.0")
        );
        turns.back();
        ok(directory, &back);
        turns.end();
        serve();
        let report = check_fill(address, 500, stage::VALUE_LEN, 1);
        assert!(report.is_clean() && report.checked_keys == 500, "{report}");
    }
    turns.to_nothing();
    ok(directory, &apply);
    turns.end();
    ok(directory, &["relup", "confirm"]);
    serve();
    newcomers.finish();
    loads.into_iter().for_each(assert_clean);
    assert_eq!(status(&node).snapshots.len(), 3);
    assert_all_ended(&journal(directory));
    assert_no_orphans(directory);
}

/// A reboot throws no state away, and has no option for it: it says what leads there.
#[test]
fn a_reboot_that_would_throw_a_state_away_is_refused_before_anything_stops() {
    let book = Book::new(|_| ());
    let node = book.start();
    ok(node.directory(), &all(&APPLY, &NAMED));
    ok(node.directory(), &["relup", "confirm"]);
    for execute in [&["--execute"][..], &[]] {
        let words = all(&["node", "reboot-old", "book-1.0.0"], execute);
        let asked = ask(node.directory(), &words);
        let told = stderr(&asked);
        assert_eq!(asked.status.code(), Some(2), "{told}");
        let way = "neurath relup apply book-1.0.0 --reset notebook --execute";
        assert!(told.contains(way), "{told}");
    }
    node.check().expect("the node lives");
}
