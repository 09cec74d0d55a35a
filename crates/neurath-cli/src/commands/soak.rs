//! `neurath soak`: upgrades, ways back, restarts and kills at random, under a load that checks every
//! answer.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use neurath_node::catalog::ReleaseId;
use neurath_verify::{Finding, FindingKind, Options, Report, Running, Verifier};
use serde_json::json;

use crate::cli::Soak;
use crate::control;
use crate::exit::{CommandError, UPGRADE_FAILED, code_of};
use crate::numbers::{bytes, count};
use crate::output::{MessageFormat, Output};
use crate::processes;
use crate::stage::{Stage, release};
use crate::table::Table;
use crate::testing::{NodeCommand, NodeProcess};

/// The releases that are gone between.
const VERSIONS: [&str; 5] = ["1.0.0", "1.1.0", "1.1.1", "1.2.0", "1.3.0"];
/// Between these two there is no way: it would be composed of one that moves state.
const APART: [&str; 2] = ["1.0.0", "1.2.0"];
/// Keys of the load.
const KEYS: u64 = 20_000;
/// Requests that are answered after each change before the next one.
const SERVED: u64 = 500;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The latest moment of a kill, after a change was asked for.
const KILL_WITHIN: Duration = Duration::from_millis(80);
/// The part of the time after which memory and descriptors are looked at for the first time.
const WARM: u32 = 10;

pub fn run(args: &Soak, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    output.progress(&format!("seed {}", args.seed));
    let stage = Stage::new(&args.folders, &VERSIONS, output)?;
    let command = stage.command(VERSIONS[0]);
    let node = NodeProcess::start(&command)?;
    stage.install(node.directory())?;
    let load = Load::start(&node, args.seed);
    let mut soak = Run {
        command,
        load,
        random: fastrand::Rng::with_seed(args.seed),
        tally: Tally::default(),
        current: release(VERSIONS[0]),
    };
    let told = soak.run(node, Duration::from_secs(args.seconds), output);
    let Run { load, tally, .. } = soak;
    let report = load.0.finish();
    // What the load has seen is told whatever else went wrong.
    tell(args, &tally, &report, output);
    told.with_context(|| format!("after {} changes, with seed {}", tally.changes(), args.seed))?;
    if report.lost == 0 && report.wrong == 0 {
        return Ok(());
    }
    let message = format!("{} lost, {} wrong", report.lost, report.wrong);
    Err(CommandError::Found(message).into())
}

/// What was done, and what the node took at two moments.
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

struct Run {
    command: NodeCommand,
    load: Load,
    random: fastrand::Rng,
    tally: Tally,
    /// The permanent release.
    current: ReleaseId,
}

impl Run {
    fn run(
        &mut self,
        mut node: NodeProcess,
        time: Duration,
        output: &Output,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let mut warm = false;
        while begun.elapsed() < time {
            self.load.served(&node)?;
            if !warm && begun.elapsed() >= time / WARM {
                warm = true;
                self.look(&node, 0)?;
            }
            node = self.change(node)?;
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
        if !warm {
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
        self.tally.rss[at] = node.memory()?;
        let descriptors = std::fs::read_dir(format!("/proc/{}/fd", node.pid()))?;
        self.tally.fds[at] = descriptors.count() as u64;
        Ok(())
    }

    /// Does one thing to the node; gives the node that serves afterwards.
    fn change(&mut self, node: NodeProcess) -> anyhow::Result<NodeProcess> {
        match self.random.u32(0..100) {
            0..60 => self.upgrade(node),
            60..70 => {
                node.stop()?;
                self.tally.restarts += 1;
                self.start(None)
            }
            70..78 => {
                node.kill();
                self.tally.kills += 1;
                self.start(None)
            }
            _ => self.kill_in_an_upgrade(node),
        }
    }

    fn other(&mut self) -> ReleaseId {
        let apart = |one: &ReleaseId| APART.map(release).contains(one);
        let others: Vec<ReleaseId> = VERSIONS
            .iter()
            .map(|version| release(version))
            .filter(|one| *one != self.current && !(apart(one) && apart(&self.current)))
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
        match self.random.u32(0..10) {
            0..6 => {
                control::confirm(node.directory(), &quiet)?;
                self.current = to;
            }
            6..8 => {
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
                node.kill();
                self.tally.kills += 1;
                return self.start(None);
            }
        }
        self.expect(&node, None)?;
        Ok(node)
    }

    /// Kills the node while it goes to another release, or back, or confirms.
    fn kill_in_an_upgrade(&mut self, node: NodeProcess) -> anyhow::Result<NodeProcess> {
        let quiet = Output::new(MessageFormat::Json);
        let to = self.other();
        let directory = node.directory().to_owned();
        let what = self.random.u32(0..3);
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
        self.tally.kills += 1;
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
    const TRIES: u32 = 3;
    for attempt in 1.. {
        match control::apply(node.directory(), to, None, output) {
            Ok(_) => return Ok(()),
            Err(error) if attempt < TRIES && code_of(&error) == UPGRADE_FAILED => {
                output.progress(&format!("{to} was undone, and is tried again: {error:#}"));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn tell(args: &Soak, tally: &Tally, report: &Report, output: &Output) {
    let mut table = Table::new(&["what", "how many>"]);
    for (what, number) in [
        ("requests answered", report.requests),
        ("writes acknowledged", report.acknowledged_writes),
        ("upgrades", tally.upgrades),
        ("ways back", tally.rollbacks),
        ("restarts", tally.restarts),
        ("kills", tally.kills),
        ("lost", report.lost),
        ("wrong", report.wrong),
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
    for finding in report.samples.iter().filter(wrong) {
        output.progress(&finding.text);
    }
    output.json(&json!({
        "kind": "soak",
        "seed": args.seed,
        "seconds": args.seconds,
        "operations": report.requests,
        "upgrades": tally.upgrades,
        "rollbacks": tally.rollbacks,
        "restarts": tally.restarts,
        "kills": tally.kills,
        "lost": report.lost,
        "wrong": report.wrong,
        "errors": report.errors,
        "rss_first": tally.rss[0],
        "rss_last": tally.rss[1],
        "fds_first": tally.fds[0],
        "fds_last": tally.fds[1],
    }));
}
