//! `neurath bench upgrade`: how long clients wait for an upgrade, and what it takes of memory, beside a
//! `gen_server` of Erlang with the same state and the same change, and beside Redis that is saved, restarted and
//! loaded.

mod figures;
mod plot;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use neurath_node::memory;
use neurath_verify::{Options, Running, Verifier, Window};

use crate::cli::{BenchUpgrade, Strategy};
use crate::control;
use crate::erlang;
use crate::numbers::{count, median};
use crate::output::Output;
use crate::processes;
use crate::redis::{self, Persistence, RedisServer};
use crate::stage::{Stage, fill, release};
use crate::testing::NodeProcess;
use figures::{Measured, Peer, Row};

/// The names of the peers in results.
const ERLANG: &str = "erlang gen_server";
const REDIS: &str = "redis save, restart, load";
/// How long the peer may take, with the making of its state.
const PATIENCE: Duration = Duration::from_secs(300);
/// The peers are measured with so many entries at most: beyond, one of them needs more memory than most machines
/// have, and minutes for each run.
const PEERS_UP_TO: u64 = 5_000_000;
/// How long the load runs before an upgrade, and after it.
const AROUND: Duration = Duration::from_millis(500);
/// Requests a second of the load: enough to notice, and not so many that it is what is measured.
const RATE: u64 = 4_000;

pub fn run(command: &BenchUpgrade, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    let stage = Stage::new(&command.folders, &["1.0.0", "1.1.0", "1.1.1"], output)?;
    let incremental = Stage::incremental(&command.folders, &["1.0.0", "1.1.0"], output)?;
    let mut skipped = Vec::new();
    for reason in [redis::missing(), erlang::missing()].into_iter().flatten() {
        output.progress(&format!("{reason}: without that peer"));
        skipped.push(reason);
    }
    let mut rows: Vec<Row> = Vec::new();
    for &entries in &command.entries {
        let measured = own(command, (&stage, &incremental), entries, output)?;
        let with_peers = entries <= PEERS_UP_TO;
        let redis = if with_peers {
            of_redis(entries, command.runs)?
        } else {
            skipped.push(format!(
                "peers are not measured with {} entries",
                count(entries)
            ));
            None
        };
        let all = [Strategy::Eager, Strategy::Keep, Strategy::Incremental];
        for (strategy, measured) in all.into_iter().zip(&measured) {
            if command.strategy.is_none_or(|wanted| wanted == strategy) {
                let erlang = match with_peers {
                    true => of_erlang(entries, strategy, command.runs, output)?,
                    false => None,
                };
                rows.push(Row {
                    entries,
                    strategy: strategy.name(),
                    measured: Measured::median(measured),
                    peers: erlang.into_iter().chain(redis.clone()).collect(),
                });
            }
        }
    }
    output.text(&format!(
        "medians of {}, under {} requests a second\n\n{}",
        command.runs,
        count(RATE),
        figures::table(&rows)
    ));
    for reason in &skipped {
        output.text(&format!("skipped: {reason}"));
    }
    output.json(&figures::json(&rows));
    if let Some(folder) = &command.docs {
        let note = command.note.as_deref().unwrap_or("nothing was said of it");
        write(folder, &rows, command.runs, note)?;
    }
    Ok(())
}

/// Writes the documentation's files.
fn write(folder: &Path, rows: &[Row], runs: u32, note: &str) -> anyhow::Result<()> {
    let files = [
        ("upgrade.csv", figures::csv(rows)),
        ("upgrade.svg", plot::svg(rows)),
        ("upgrade-figures.md", figures::page(rows, runs, RATE, note)),
    ];
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// What each strategy took in each run: eager, keep, incremental.
fn own(
    command: &BenchUpgrade,
    (stage, incremental): (&Stage, &Stage),
    entries: u64,
    output: &Output,
) -> anyhow::Result<[Vec<Measured>; 3]> {
    let mut measured: [Vec<Measured>; 3] = Default::default();
    for run in 1..=command.runs {
        let of = command.runs;
        output.progress(&format!("{} entries, run {run} of {of}", count(entries)));
        let wanted = |strategy| command.strategy.is_none_or(|wanted| wanted == strategy);
        if wanted(Strategy::Eager) {
            let upgrades = one_run(stage, entries, &["1.0.0", "1.1.0", "1.1.1"], output)?;
            measured[0].push(upgrades[0]);
            measured[1].push(upgrades[1]);
        } else if wanted(Strategy::Keep) {
            let upgrades = one_run(stage, entries, &["1.1.0", "1.1.1"], output)?;
            measured[1].push(upgrades[0]);
        }
        if wanted(Strategy::Incremental) {
            let upgrades = one_run(incremental, entries, &["1.0.0", "1.1.0"], output)?;
            measured[2].push(upgrades[0]);
        }
    }
    Ok(measured)
}

/// Fills a new node of the first of these versions, and upgrades it to one after the other.
fn one_run(
    stage: &Stage,
    entries: u64,
    versions: &[&str],
    output: &Output,
) -> anyhow::Result<Vec<Measured>> {
    let [first, later @ ..] = versions else {
        bail!("no version to begin with");
    };
    let node = stage.start(first)?;
    fill(node.address(), entries)?;
    let load = start_load(node.address());
    let mut measured = Vec::new();
    for version in later {
        measured.push(upgrade(&node, &load, version, output)?);
    }
    let report = load.finish();
    if !report.is_clean() {
        bail!("the load found something: {report}");
    }
    node.stop()?;
    Ok(measured)
}

fn upgrade(
    node: &NodeProcess,
    load: &Running,
    version: &str,
    output: &Output,
) -> anyhow::Result<Measured> {
    std::thread::sleep(AROUND);
    memory::reset_peak(node.pid())?;
    let held = memory::resident(node.pid())?;
    let _before = load.live().take_window();
    let upgraded = control::apply(node.directory(), &release(version), None, output)?;
    std::thread::sleep(AROUND);
    while is_converted(node)? {
        std::thread::sleep(Duration::from_millis(20));
    }
    let window = load.live().take_window();
    let peak = memory::peak(node.pid())?;
    control::confirm(node.directory(), output)?;
    // What was closed and removed is gone by then.
    std::thread::sleep(AROUND);
    let _confirmed = load.live().take_window();
    // For as long, so that what the machine does by itself has the same chance to be seen.
    std::thread::sleep(window.length);
    let after = load.live().take_window();
    Ok(Measured {
        stop: upgraded.stop_us as f64,
        worst: window.worst.as_secs_f64() * 1e6,
        worst_without: after.worst.as_secs_f64() * 1e6,
        p999: window.p999.as_secs_f64() * 1e6,
        peak: peak as f64,
        held: held as f64,
        during: rate(&window),
        after: rate(&after),
        took: window.length.as_secs_f64() * 1e6,
    })
}

/// Requests answered a second.
fn rate(window: &Window) -> f64 {
    window.requests as f64 / window.length.as_secs_f64().max(1e-9)
}

/// Whether a state of the node is still converted, segment by segment.
fn is_converted(node: &NodeProcess) -> anyhow::Result<bool> {
    let status = control::status(node.directory())?;
    Ok(status.components.iter().any(|one| one.sweep.is_some()))
}

/// A client that checks every answer, at a steady rate.
fn start_load(address: &str) -> Running {
    let options = Options {
        address: address.to_owned(),
        connections: 2,
        pipeline: 1,
        rate: Some(RATE),
        ..Options::default()
    };
    Verifier::new(options).start()
}

/// Medians of what Erlang takes: its stop, and its memory. None without it, or if it takes too long.
fn of_erlang(
    entries: u64,
    strategy: Strategy,
    runs: u32,
    output: &Output,
) -> anyhow::Result<Option<Peer>> {
    if erlang::missing().is_some() {
        return Ok(None);
    }
    let (mut stops, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let changed = erlang::change_code(entries, strategy != Strategy::Keep, PATIENCE)?;
        let Some(changed) = changed else {
            output.progress(&format!("{ERLANG}: more than {PATIENCE:?}"));
            return Ok(None);
        };
        stops.push(changed.stop_us);
        peaks.push(changed.peak_bytes);
    }
    Ok(Some(Peer {
        name: ERLANG,
        stop: median(&stops),
        peak: Some(median(&peaks)),
    }))
}

/// What Redis takes to get all its keys into another process. None without it.
fn of_redis(keys: u64, runs: u32) -> anyhow::Result<Option<Peer>> {
    if redis::missing().is_some() {
        return Ok(None);
    }
    let mut server = RedisServer::start(Persistence::Dump)?;
    fill(server.address(), keys)?;
    let mut stops = Vec::new();
    for _ in 0..runs {
        let (started, saved) = server.start_again(&["PING"])?;
        stops.push((started + saved).as_secs_f64() * 1e6);
    }
    Ok(Some(Peer {
        name: REDIS,
        stop: median(&stops),
        peak: None,
    }))
}
