//! `neurath soak`: upgrades, ways back, restarts and kills at random, under a load that checks every
//! answer. First on a node whose states are converted while they are served, then on one whose upgrades are of every
//! other kind.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use neurath_node::catalog::ReleaseId;
use neurath_node::directory::NodeDirectory;
use neurath_verify::{Finding, FindingKind, Options, Report, Running, Verifier};
use serde_json::json;

use crate::cli::Soak;
use crate::control;
use crate::exit::{BUSY, CommandError, UPGRADE_FAILED, code_of};
use crate::numbers::{bytes, count};
use crate::output::{MessageFormat, Output};
use crate::processes;
use crate::stage::{Stage, release};
use crate::table::Table;
use crate::testing::{NodeCommand, NodeProcess};

/// The releases that are gone between. The last one has another node, whose program takes over.
const VERSIONS: [&str; 6] = ["1.0.0", "1.1.0", "1.1.1", "1.2.0", "1.3.0", NODE];
/// It is never confirmed: the releases before have no node program of their own to be left for.
const NODE: &str = "2.0.0";
/// Those between which a state is converted while it is served.
const INCREMENTAL: [&str; 2] = ["1.0.0", "1.1.0"];
/// The part of the time that they get.
const SHARE: u32 = 4;
/// Between these there is no way: it would be composed of one that moves state.
const APART: [[&str; 2]; 3] = [["1.0.0", "1.2.0"], ["1.0.0", NODE], ["1.2.0", NODE]];
/// Keys of the load.
const KEYS: u64 = 20_000;
/// Requests that are answered after each change before the next one.
const SERVED: u64 = 500;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The latest moment of a kill, after a change was asked for.
const KILL_WITHIN: Duration = Duration::from_millis(80);
/// How long a process that was killed may hold what it had, and a conversion may go on.
const SETTLED: Duration = Duration::from_secs(60);
/// The part of the time, at the beginning and at the end, in which it is seen what the node takes at most. One look
/// would say little: an upgraded node has two versions of the code in memory, one that was just started has one.
const PART: u32 = 4;

pub fn run(args: &Soak, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    output.progress(&format!("seed {}", args.seed));
    let time = Duration::from_secs(args.seconds);
    let mut tally = Tally::default();
    let stage = Stage::incremental(&args.folders, &INCREMENTAL, output)?;
    let short = time / SHARE;
    let (first, told) = course(&stage, &INCREMENTAL, short, args.seed, &mut tally, output)?;
    let stage = Stage::new(&args.folders, &VERSIONS, output)?;
    let (report, told) = match told {
        Err(_) => (None, told),
        Ok(()) => {
            let (report, told) = course(
                &stage,
                &VERSIONS,
                time - short,
                args.seed,
                &mut tally,
                output,
            )?;
            (Some(report), told)
        }
    };
    // What the load has seen is told whatever else went wrong.
    let reports: Vec<&Report> = std::iter::once(&first).chain(&report).collect();
    tell(args, &tally, &reports, output);
    told.with_context(|| format!("after {} changes, with seed {}", tally.changes(), args.seed))?;
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|one| of(one)).sum::<u64>();
    let (lost, wrong) = (sum(|one| one.lost), sum(|one| one.wrong));
    if lost == 0 && wrong == 0 {
        return Ok(());
    }
    let message = format!("{lost} lost, {wrong} wrong");
    Err(CommandError::Found(message).into())
}

/// Changes one node for so long; what its load has seen, and how it ended.
fn course(
    stage: &Stage,
    versions: &'static [&'static str],
    time: Duration,
    seed: u64,
    tally: &mut Tally,
    output: &Output,
) -> anyhow::Result<(Report, anyhow::Result<()>)> {
    let command = stage.command(versions[0]);
    let node = NodeProcess::start(&command)?;
    stage.install(node.directory())?;
    let load = Load::start(&node, seed);
    let mut soak = Run {
        command,
        load,
        random: fastrand::Rng::with_seed(seed),
        tally,
        versions,
        current: release(versions[0]),
    };
    let told = soak.run(node, time, output);
    Ok((soak.load.0.finish(), told))
}

/// What was done, and what the node took at most, at first and at last.
#[derive(Debug, Default)]
struct Tally {
    upgrades: u64,
    rollbacks: u64,
    restarts: u64,
    kills: u64,
    rss: [u64; 2],
    fds: [u64; 2],
}

impl Tally {
    fn changes(&self) -> u64 {
        self.upgrades + self.rollbacks + self.restarts + self.kills
    }
}

struct Load(Running);

impl Load {
    fn start(node: &NodeProcess, seed: u64) -> Load {
        let options = Options {
            address: node.address().to_owned(),
            connections: 4,
            keys: KEYS,
            seed,
            timeout: PATIENCE,
            ..Options::default()
        };
        Load(Verifier::new(options).start())
    }

    /// Waits until more requests were answered.
    fn served(&self, node: &NodeProcess) -> anyhow::Result<()> {
        let goal = self.0.live().totals().requests + SERVED;
        let until = Instant::now() + PATIENCE;
        while self.0.live().totals().requests < goal {
            node.check()?;
            if Instant::now() > until {
                bail!("the load stands still: {:?}", self.0.live().totals());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

struct Run<'a> {
    command: NodeCommand,
    load: Load,
    random: fastrand::Rng,
    tally: &'a mut Tally,
    versions: &'static [&'static str],
    /// The permanent release.
    current: ReleaseId,
}

impl Run<'_> {
    fn run(
        &mut self,
        mut node: NodeProcess,
        time: Duration,
        output: &Output,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.load.served(&node)?;
            node = self.change(node)?;
            let elapsed = begun.elapsed();
            if elapsed < time / PART {
                self.look(&node, 0)?;
            } else if elapsed >= time - time / PART {
                self.look(&node, 1)?;
            }
            output.progress(&format!(
                "{} s: {} upgrades, {} ways back, {} restarts, {} kills; {} runs",
                begun.elapsed().as_secs(),
                self.tally.upgrades,
                self.tally.rollbacks,
                self.tally.restarts,
                self.tally.kills,
                self.current,
            ));
        }
        self.load.served(&node)?;
        self.look(&node, 1)?;
        if self.tally.fds[0] == 0 {
            // A single change took longer.
            self.tally.rss[0] = self.tally.rss[1];
            self.tally.fds[0] = self.tally.fds[1];
        }
        // The load reads everything back from it.
        self.load.0.stop();
        while !self.load.0.is_finished() {
            node.check()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        node.stop()
    }

    fn look(&mut self, node: &NodeProcess, at: usize) -> anyhow::Result<()> {
        let (rss, fds) = (&mut self.tally.rss[at], &mut self.tally.fds[at]);
        *rss = node.memory()?.max(*rss);
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", node.pid()))?;
        *fds = (descriptors.count() as u64).max(*fds);
        Ok(())
    }

    /// Does one thing to the node; gives the node that serves afterwards.
    fn change(&mut self, node: NodeProcess) -> anyhow::Result<NodeProcess> {
        match self.random.u32(0..100) {
            0..56 => self.upgrade(node),
            56..64 => {
                node.stop()?;
                self.tally.restarts += 1;
                self.start(None)
            }
            64..71 => {
                self.end_at_once(node)?;
                self.start(None)
            }
            71..78 => {
                self.replace_program(&node)?;
                self.expect(&node, None)?;
                Ok(node)
            }
            _ => self.kill_in_an_upgrade(node),
        }
    }

    fn other(&mut self) -> ReleaseId {
        let apart = |one: &ReleaseId| {
            let mut pairs = APART.iter().map(|pair| pair.map(release));
            pairs.any(|pair| pair.contains(one) && pair.contains(&self.current))
        };
        let others: Vec<ReleaseId> = self
            .versions
            .iter()
            .map(|version| release(version))
            .filter(|one| *one != self.current && !apart(one))
            .collect();
        others[self.random.usize(0..others.len())].clone()
    }

    /// Goes to another release, and on from there: it is confirmed, or left again in one of the ways.
    fn upgrade(&mut self, node: NodeProcess) -> anyhow::Result<NodeProcess> {
        let quiet = Output::new(MessageFormat::Json);
        let to = self.other();
        apply(&node, &to, &quiet)?;
        self.tally.upgrades += 1;
        self.load.served(&node)?;
        if self.random.u32(0..10) < 2 {
            self.replace_program(&node)?;
        }
        match self.random.u32(0..10) {
            0..6 if to != release(NODE) => {
                control::confirm(node.directory(), &quiet)?;
                self.current = to;
            }
            0..8 => {
                control::rollback(node.directory(), false, &quiet)?;
                self.tally.rollbacks += 1;
            }
            // What is not confirmed is left at the next start.
            8 => {
                node.stop()?;
                self.tally.restarts += 1;
                return self.start(None);
            }
            _ => {
                self.end_at_once(node)?;
                return self.start(None);
            }
        }
        self.expect(&node, None)?;
        Ok(node)
    }

    /// `node restart`: the same process, and the same connections.
    fn replace_program(&mut self, node: &NodeProcess) -> anyhow::Result<()> {
        let quiet = Output::new(MessageFormat::Json);
        when_idle(|| control::restart(node.directory(), &quiet))?;
        self.tally.restarts += 1;
        self.load.served(node)
    }

    /// Kills the node, and whoever would go on in its place.
    fn end_at_once(&mut self, node: NodeProcess) -> anyhow::Result<()> {
        node.kill();
        self.tally.kills += 1;
        let directory = node.directory().to_owned();
        // A keeper ends with this.
        drop(node);
        let until = Instant::now() + SETTLED;
        while let Err(error) = NodeDirectory::open(&directory) {
            if Instant::now() >= until {
                return Err(error).context("a node that was killed is still there");
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Kills the node while it goes to another release, or back, or confirms.
    fn kill_in_an_upgrade(&mut self, node: NodeProcess) -> anyhow::Result<NodeProcess> {
        let quiet = Output::new(MessageFormat::Json);
        let to = self.other();
        let directory = node.directory().to_owned();
        let what = match to == release(NODE) {
            true => self.random.u32(0..2),
            false => self.random.u32(0..3),
        };
        if what > 0 {
            apply(&node, &to, &quiet)?;
            self.tally.upgrades += 1;
        }
        let after = self.random.u64(0..KILL_WITHIN.as_micros() as u64);
        std::thread::scope(|scope| {
            // It fails, or not, as the kill comes.
            let asked = scope.spawn(|| match what {
                0 => control::apply(&directory, &to, None, &quiet).map(drop),
                1 => control::rollback(&directory, false, &quiet).map(drop),
                _ => control::confirm(&directory, &quiet).map(drop),
            });
            std::thread::sleep(Duration::from_micros(after));
            node.kill();
            let _ = asked.join();
        });
        self.end_at_once(node)?;
        // Only a confirmation can have been in time.
        self.start((what == 2).then_some(to))
    }

    /// Starts the node again; it must come back in the permanent release, or in `perhaps`, confirmed.
    fn start(&mut self, perhaps: Option<ReleaseId>) -> anyhow::Result<NodeProcess> {
        let node = NodeProcess::start(&self.command)?;
        self.expect(&node, perhaps)?;
        Ok(node)
    }

    fn expect(&mut self, node: &NodeProcess, perhaps: Option<ReleaseId>) -> anyhow::Result<()> {
        let status = control::status(node.directory())?;
        let is = |one: &ReleaseId| status.release.as_ref() == Some(one) && !status.unconfirmed;
        if is(&self.current) {
            return Ok(());
        }
        if let Some(perhaps) = perhaps.filter(is) {
            self.current = perhaps;
            return Ok(());
        }
        let (release, unconfirmed) = (&status.release, status.unconfirmed);
        let current = &self.current;
        bail!("the node runs {release:?} (unconfirmed: {unconfirmed}), and not {current}")
    }
}

/// Goes to a release. On a busy machine an upgrade may overrun its pause, and is undone: then again.
fn apply(node: &NodeProcess, to: &ReleaseId, output: &Output) -> anyhow::Result<()> {
    const TRIES: u32 = 2;
    let mut undone = 0;
    loop {
        match when_idle(|| control::apply(node.directory(), to, None, output)) {
            Ok(_) => return Ok(()),
            Err(error) if undone < TRIES && code_of(&error) == UPGRADE_FAILED => {
                undone += 1;
                output.progress(&format!("{to} was undone, and is tried again: {error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
}

/// Asks again while the node is busy: with converting a state, or with the end of what it has begun at its start.
fn when_idle<T>(mut ask: impl FnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let until = Instant::now() + SETTLED;
    loop {
        match ask() {
            Err(error) if code_of(&error) == BUSY && Instant::now() < until => {
                std::thread::sleep(Duration::from_millis(5));
            }
            done => return done,
        }
    }
}

fn tell(args: &Soak, tally: &Tally, reports: &[&Report], output: &Output) {
    let sum = |of: fn(&Report) -> u64| reports.iter().map(|one| of(one)).sum::<u64>();
    let mut table = Table::new(&["what", "how many>"]);
    for (what, number) in [
        ("requests answered", sum(|one| one.requests)),
        ("writes acknowledged", sum(|one| one.acknowledged_writes)),
        ("upgrades", tally.upgrades),
        ("ways back", tally.rollbacks),
        ("restarts", tally.restarts),
        ("kills", tally.kills),
        ("lost", sum(|one| one.lost)),
        ("wrong", sum(|one| one.wrong)),
    ] {
        table.row([what.to_owned(), count(number)]);
    }
    let [first, last] = tally.rss;
    table.row(["memory, first".to_owned(), bytes(first)]);
    table.row(["memory, last".to_owned(), bytes(last)]);
    let [first, last] = tally.fds;
    table.row(["descriptors, first".to_owned(), count(first)]);
    table.row(["descriptors, last".to_owned(), count(last)]);
    output.text(&table.render());
    // That it could not be reached while it was started again says nothing.
    let wrong = |finding: &&Finding| !matches!(finding.kind, FindingKind::Error);
    let samples = reports.iter().flat_map(|one| &one.samples);
    for finding in samples.filter(wrong) {
        output.progress(&finding.text);
    }
    output.json(&json!({
        "kind": "soak",
        "seed": args.seed,
        "seconds": args.seconds,
        "operations": sum(|one| one.requests),
        "upgrades": tally.upgrades,
        "rollbacks": tally.rollbacks,
        "restarts": tally.restarts,
        "kills": tally.kills,
        "lost": sum(|one| one.lost),
        "wrong": sum(|one| one.wrong),
        "errors": sum(|one| one.errors),
        "rss_first": tally.rss[0],
        "rss_last": tally.rss[1],
        "fds_first": tally.fds[0],
        "fds_last": tally.fds[1],
    }));
}
