//! P1: killed at any durable step, forward, back, or during recovery, a node is wholly in one
//! release or wholly in the other, and everything acknowledged is there.

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use kv_resp::Value;
use neurath_cli::control;
use neurath_cli::resp::Connection;
use neurath_cli::stage::{self, Stage, release};
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::State;
use neurath_node::journal::{Kind, Verdict};
use support::{assert_all_ended, assert_no_orphans, catalog, copy, journal, quiet};

const KEYS: u64 = 2000;
/// Keys that are written all the time.
const HOT: usize = 16;
/// At most so many points of a start that goes back are tried, as each needs a node of its own
/// that was killed before. Of an upgrade, a way back and a confirmation it is all of them.
const POINTS: usize = 24;

/// Something a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ask {
    Apply,
    Rollback,
    Confirm,
}

impl Ask {
    fn of(self, directory: &Path) -> anyhow::Result<()> {
        match self {
            Ask::Apply => control::apply(directory, &release("1.1.0"), None, &quiet()).map(drop),
            Ask::Rollback => control::rollback(directory, false, &quiet()).map(drop),
            Ask::Confirm => control::confirm(directory, &quiet()).map(drop),
        }
    }
}

/// What a writer has been told is written, and what it has sent, for each hot key.
#[derive(Clone, Debug, Default)]
struct Written {
    acknowledged: [u64; HOT],
    sent: [u64; HOT],
}

impl Written {
    /// Writes until the node is gone.
    fn until_the_end(&mut self, address: &str) {
        let Ok(mut connection) = Connection::open(address) else {
            return;
        };
        for number in 1.. {
            let key = number as usize % HOT;
            let number = number + self.sent[key];
            self.sent[key] = number;
            let set = ["SET", &format!("hot:{key}"), &number.to_string()];
            match connection.ask(&set) {
                Ok(answer) => assert!(answer.is_ok(), "{set:?}: {answer}"),
                Err(_) => return,
            }
            self.acknowledged[key] = number;
        }
    }

    fn check(&self, address: &str) {
        let mut connection = Connection::open(address).expect("the node is there again");
        for key in 0..HOT {
            let value = connection.ask(&["GET", &format!("hot:{key}")]);
            let found = match value.expect("an answer") {
                Value::Null => 0,
                Value::Bulk(bytes) => String::from_utf8(bytes.to_vec()).unwrap().parse().unwrap(),
                other => panic!("hot:{key} is {other}"),
            };
            let known = self.acknowledged[key]..=self.sent[key];
            assert!(
                known.contains(&found),
                "hot:{key} is {found}, not in {known:?}"
            );
        }
    }
}

/// The nodes' stage: a folder that is copied for each of them.
struct Play {
    stage: Stage,
    folder: tempfile::TempDir,
}

impl Play {
    fn new() -> (Self, PathBuf) {
        let play = Self {
            stage: neurath_suite::kv(&["1.0.0", "1.1.0"]),
            folder: support::folder_in_memory(),
        };
        let node = play.stage.start("1.0.0").unwrap();
        stage::fill(node.address(), KEYS).unwrap();
        let prepared = node.directory().to_owned();
        node.stop().unwrap();
        (play, prepared)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How a node in this folder is started; killed at a point, if one is given.
    fn command(&self, directory: &Path, kill: Option<usize>) -> NodeCommand {
        let mut command = self.stage.command("1.0.0");
        command.directory = directory.to_owned();
        if let Some(kill) = kill {
            set(&mut command, "NEURATH_FAULT_KILL", kill.to_string());
        }
        command
    }

    /// Does all this with a copy of a node, and tells which points were passed up to the start's
    /// end and up to each answer.
    fn points(&self, from: &Path, asks: &[Ask]) -> (Vec<String>, Vec<usize>) {
        let directory = self.path("logged");
        copy(from, &directory);
        let log = self.path("points");
        let _ = std::fs::remove_file(&log);
        let mut command = self.command(&directory, None);
        set(&mut command, "NEURATH_FAULT_LOG", &log);
        let node = NodeProcess::start(&command).unwrap();
        let passed = || -> Vec<String> {
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            let name = |line: &str| line.split_once(' ').unwrap().1.to_owned();
            text.lines().map(name).collect()
        };
        let mut ends = vec![passed().len()];
        for ask in asks {
            ask.of(node.directory()).unwrap();
            ends.push(passed().len());
        }
        (passed(), ends)
    }

    /// Starts a node without faults, and fails unless it is wholly in the release and has all.
    /// Returns it.
    fn checked(&self, directory: &Path, version: &str, written: &Written) -> NodeProcess {
        let node = NodeProcess::start(&self.command(directory, None)).unwrap();
        let status = control::status(directory).unwrap();
        assert_eq!(status.release, Some(release(version)));
        assert_eq!(status.permanent, Some(release(version)));
        assert!(!status.unconfirmed);
        let components: Vec<_> = status
            .components
            .iter()
            .map(|one| (&*one.component, &*one.version))
            .collect();
        assert_eq!(components, [("gateway", version), ("store", version)]);
        let state = catalog(directory);
        assert!(state.previous.is_none());
        assert_all_of(&state, version);
        for component in &status.components {
            let entry = state.region(&component.component, 0).unwrap();
            assert_eq!(entry.generation, component.generation);
        }
        let report = neurath_verify::check_fill(node.address(), KEYS, stage::VALUE_LEN, 1);
        assert!(report.is_clean() && report.checked_keys == KEYS, "{report}");
        written.check(node.address());
        assert_no_orphans(directory);
        assert_all_ended(&journal(directory));
        node
    }

    /// And the node can be upgraded again, with all it holds.
    fn upgraded_again(&self, node: NodeProcess, written: &Written) {
        Ask::Apply.of(node.directory()).unwrap();
        assert_all_of(&catalog(node.directory()), "1.1.0");
        let report = neurath_verify::check_fill(node.address(), KEYS, stage::VALUE_LEN, 1);
        assert!(report.is_clean() && report.checked_keys == KEYS, "{report}");
        written.check(node.address());
        assert_all_ended(&journal(node.directory()));
    }

    /// Starts a copy with a kill, asks it all this in turn while somebody writes, and sees it die
    /// in the last. Tells what was written.
    fn killed(&self, from: &Path, to: &Path, asks: &[Ask], kill: usize) -> Written {
        copy(from, to);
        let node = NodeProcess::start(&self.command(to, Some(kill))).unwrap();
        let address = node.address().to_owned();
        let mut written = Written::default();
        thread::scope(|scope| {
            scope.spawn(|| written.until_the_end(&address));
            let (last, before) = asks.split_last().unwrap();
            for ask in before {
                ask.of(to).unwrap();
            }
            let answer = last.of(to);
            let died = death(&node);
            // The writer ends with the node, however this goes.
            node.kill();
            let died =
                died.unwrap_or_else(|| panic!("{last:?}: {answer:?}, and the node lives on"));
            assert!(died.contains("signal: 9"), "{last:?}: {answer:?}, {died}");
            assert!(answer.is_err(), "{last:?} was answered");
        });
        written
    }
}

fn set(command: &mut NodeCommand, name: &str, value: impl Into<OsString>) {
    command.environment.push((name.into(), value.into()));
}

/// The catalog's current release, with each component's region, is of this version.
#[track_caller]
fn assert_all_of(state: &State, version: &str) {
    assert_eq!(state.current, Some(release(version)));
    let versions: Vec<_> = state
        .regions
        .iter()
        .map(|one| (&*one.component, &*one.version))
        .collect();
    assert_eq!(versions, [("gateway", version), ("store", version)]);
}

/// How a node ended, if it does in time.
fn death(node: &NodeProcess) -> Option<String> {
    let until = Instant::now() + support::PATIENCE;
    loop {
        match node.check() {
            Err(error) => return Some(format!("{error:#}")),
            Ok(()) if Instant::now() > until => return None,
            Ok(()) => thread::sleep(Duration::from_millis(2)),
        }
    }
}

/// At most so many of the points `begin..end` (counted from 1, the first one excluded): each name at
/// its first and last place, and of the others a spread.
fn spread(names: &[String], begin: usize, end: usize, most: usize) -> Vec<usize> {
    let mut first = BTreeMap::new();
    let mut last = BTreeMap::new();
    for number in begin + 1..=end {
        first.entry(&names[number - 1]).or_insert(number);
        last.insert(&names[number - 1], number);
    }
    let mut chosen: BTreeSet<usize> = first.into_values().collect();
    let missing: Vec<usize> = last
        .into_values()
        .chain(begin + 1..=end)
        .filter(|number| !chosen.contains(number))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let room = most.saturating_sub(chosen.len()).min(missing.len());
    chosen.extend((0..room).map(|index| missing[index * missing.len() / room]));
    chosen.into_iter().collect()
}

/// Whether the flip that lies between these points has been written when the node is killed at this
/// one. A killed process leaves what it has written, synced or not.
fn flipped(names: &[String], begin: usize, end: usize, kill: usize) -> bool {
    // A start that has done its work notes in the catalog how far the journal is.
    let work = |number: &usize| names[number - 1] != "control.bind.before-rename";
    let flips: Vec<usize> = (begin + 1..=end)
        .take_while(work)
        .filter(|&number| names[number - 1] == "catalog.flip.before-write")
        .collect();
    assert_eq!(flips.len(), 1, "one flip in {:?}", &names[begin..end]);
    kill > flips[0]
}

/// Kills at the points of the last of these requests; `before` and `after` are the releases that the
/// catalog names then, and `ends` those that serve after a restart, without and with the flip.
fn phase(play: &Play, prepared: &Path, asks: &[Ask], before: &str, after: &str, ends: [&str; 2]) {
    let (names, answers) = play.points(prepared, asks);
    let (begin, end) = (answers[asks.len() - 1], answers[asks.len()]);
    assert!(
        end - begin > 5,
        "points of {asks:?}: {:?}",
        &names[begin..end]
    );
    let directory = play.path("killed");
    let (mut old, mut new) = (0, 0);
    for kill in begin + 1..=end {
        let name = &names[kill - 1];
        println!("{asks:?}: killed at {kill} of {end}, {name}");
        let written = play.killed(prepared, &directory, asks, kill);
        let flipped = flipped(&names, begin, end, kill);
        *if flipped { &mut new } else { &mut old } += 1;
        assert_all_of(&catalog(&directory), if flipped { after } else { before });
        let node = play.checked(&directory, ends[usize::from(flipped)], &written);
        let went_back = went_back(&directory);
        let unconfirmed = catalog_was_unconfirmed(asks, flipped);
        assert_eq!(
            went_back, unconfirmed,
            "whether the node went back at its start"
        );
        if ends[usize::from(flipped)] == "1.0.0" {
            play.upgraded_again(node, &written);
        }
    }
    assert!(
        old > 0 && new > 0,
        "{old} kills before the flip, {new} after it"
    );
    println!("{asks:?}: {} points, {old} before the flip", end - begin);
}

/// Whether a restart finds a release that nobody has confirmed.
fn catalog_was_unconfirmed(asks: &[Ask], flipped: bool) -> bool {
    match asks.last() {
        Some(Ask::Apply) => flipped,
        _ => !flipped,
    }
}

/// Whether the last thing a node did was a way back of its own accord.
fn went_back(directory: &Path) -> bool {
    journal(directory).iter().any(|record| {
        record.who == "the start of the node"
            && matches!(
                &record.kind,
                Kind::Ended {
                    verdict: Verdict::Done,
                    ..
                }
            )
    })
}

#[test]
fn killed_during_an_upgrade() {
    let (play, prepared) = Play::new();
    phase(
        &play,
        &prepared,
        &[Ask::Apply],
        "1.0.0",
        "1.1.0",
        ["1.0.0", "1.0.0"],
    );
}

#[test]
fn killed_during_the_way_back() {
    let (play, prepared) = Play::new();
    let asks = [Ask::Apply, Ask::Rollback];
    phase(
        &play,
        &prepared,
        &asks,
        "1.1.0",
        "1.0.0",
        ["1.0.0", "1.0.0"],
    );
}

#[test]
fn killed_during_the_confirmation() {
    let (play, prepared) = Play::new();
    let asks = [Ask::Apply, Ask::Confirm];
    phase(
        &play,
        &prepared,
        &asks,
        "1.1.0",
        "1.1.0",
        ["1.0.0", "1.1.0"],
    );
}

/// The start of a node that was killed in the midst of an upgrade is killed as well, and the start
/// after that one too.
#[test]
fn killed_during_the_recovery() {
    let (play, prepared) = Play::new();
    let (names, answers) = play.points(&prepared, &[Ask::Apply]);
    let (begin, end) = (answers[0], answers[1]);
    let at = |name: &str| (begin + 1..=end).find(|&n| names[n - 1] == name).unwrap();
    // Before the flip, and after it, where the start goes back.
    for name in ["upgrade.converted", "upgrade.resumed"] {
        let crashed = play.path("crashed");
        let written = play.killed(&prepared, &crashed, &[Ask::Apply], at(name));
        let unconfirmed = catalog(&crashed).previous.is_some();
        assert_eq!(unconfirmed, name == "upgrade.resumed");
        let (names, starts) = play.points(&crashed, &[]);
        let chosen = spread(&names, 0, starts[0], POINTS);
        println!("killed at {name}; the start passes {names:?}");
        assert!(chosen.len() >= 5, "points of the start: {names:?}");
        let directory = play.path("killed");
        for &kill in &chosen {
            println!(
                "killed at {name}, and in the start at {kill}, {}",
                names[kill - 1]
            );
            copy(&crashed, &directory);
            assert_dies(&play, &directory, kill);
            let state = catalog(&directory);
            let now = if state.previous.is_some() {
                "1.1.0"
            } else {
                "1.0.0"
            };
            assert_all_of(&state, now);
            if unconfirmed {
                assert_eq!(now == "1.0.0", flipped(&names, 0, starts[0], kill));
            }
            // A third time, in a start that may pass fewer points.
            if kill % 3 == 0 {
                let third = play.command(&directory, Some(kill / 2));
                if let Ok(node) = NodeProcess::start(&third) {
                    node.kill();
                }
            }
            let node = play.checked(&directory, "1.0.0", &written);
            play.upgraded_again(node, &written);
        }
    }
}

/// A node is killed in its start.
#[track_caller]
fn assert_dies(play: &Play, directory: &Path, kill: usize) {
    match NodeProcess::start(&play.command(directory, Some(kill))) {
        Ok(node) => assert!(death(&node).is_some_and(|how| how.contains("signal: 9"))),
        Err(error) => assert!(format!("{error:#}").contains("signal: 9"), "{error:#}"),
    }
}
