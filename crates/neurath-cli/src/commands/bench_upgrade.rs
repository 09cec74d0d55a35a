//! `neurath bench upgrade`: how long clients wait for an upgrade, and what it takes of memory, beside a
//! `gen_server` of Erlang with the same state and the same change.

use std::time::Duration;

use anyhow::bail;
use neurath_node::memory;
use neurath_verify::{Options, Running, Verifier};
use serde_json::{Value, json};

use crate::cli::{BenchUpgrade, Strategy};
use crate::control;
use crate::erlang;
use crate::numbers::{bytes, count, median, micros};
use crate::output::Output;
use crate::processes;
use crate::redis::{self, Persistence, RedisServer};
use crate::stage::{Stage, fill, release};
use crate::table::Table;
use crate::testing::NodeProcess;

/// The name of the peer in results.
const PEER: &str = "erlang gen_server";
/// How long the peer may take, with the making of its state.
const PATIENCE: Duration = Duration::from_secs(300);
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
    let mut rows = Vec::new();
    for &entries in &command.entries {
        let mut measured: [Vec<Measured>; 3] = Default::default();
        let mut bytes_a_key = Vec::new();
        for run in 1..=command.runs {
            let of = command.runs;
            output.progress(&format!("{} entries, run {run} of {of}", count(entries)));
            let wanted = |strategy| command.strategy.is_none_or(|wanted| wanted == strategy);
            if wanted(Strategy::Eager) || wanted(Strategy::Keep) {
                let (own, upgrades) = one_run(&stage, entries, &["1.1.0", "1.1.1"], output)?;
                bytes_a_key.push(own);
                measured[0].push(upgrades[0]);
                measured[1].push(upgrades[1]);
            }
            if wanted(Strategy::Incremental) {
                let (own, upgrades) = one_run(&incremental, entries, &["1.1.0"], output)?;
                bytes_a_key.push(own);
                measured[2].push(upgrades[0]);
            }
        }
        let redis = redis::missing().is_none().then(|| of_redis(entries));
        let redis = redis.transpose()?;
        let all = [Strategy::Eager, Strategy::Keep, Strategy::Incremental];
        for (strategy, measured) in all.into_iter().zip(&measured) {
            if command.strategy.is_none_or(|wanted| wanted == strategy) {
                let peer = of_erlang(entries, strategy, command.runs, output)?;
                let row = row((entries, strategy), measured, peer, &bytes_a_key, redis);
                rows.push(row);
            }
        }
    }
    output.text(&format!(
        "medians of {}, under {} requests a second\n\n{}",
        command.runs,
        count(RATE),
        shown(&rows)
    ));
    for reason in &skipped {
        output.text(&format!("skipped: {reason}"));
    }
    output.json(&Value::Array(rows));
    Ok(())
}

/// What one upgrade took.
#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    /// How long messages waited, in microseconds.
    stop: f64,
    /// The longest that a request took around it, in microseconds.
    worst: f64,
    /// 999 of 1000 took at most this.
    p999: f64,
    /// What the process held at most, in bytes.
    peak: f64,
}

/// Fills a new node, and upgrades it to one version after the other. Also gives the bytes that an
/// entry takes.
fn one_run(
    stage: &Stage,
    entries: u64,
    versions: &[&str],
    output: &Output,
) -> anyhow::Result<(f64, Vec<Measured>)> {
    let node = stage.start("1.0.0")?;
    let before = node.memory()?;
    fill(node.address(), entries)?;
    let own = node.memory()?.saturating_sub(before) as f64 / entries as f64;
    let load = start_load(node.address());
    let mut measured = Vec::new();
    for version in versions {
        measured.push(upgrade(&node, &load, version, output)?);
    }
    let report = load.finish();
    if !report.is_clean() {
        bail!("the load found something: {report}");
    }
    node.stop()?;
    Ok((own, measured))
}

fn upgrade(
    node: &NodeProcess,
    load: &Running,
    version: &str,
    output: &Output,
) -> anyhow::Result<Measured> {
    std::thread::sleep(AROUND);
    memory::reset_peak(node.pid())?;
    let _before = load.live().take_window();
    let upgraded = control::apply(node.directory(), &release(version), None, output)?;
    std::thread::sleep(AROUND);
    while is_converted(node)? {
        std::thread::sleep(Duration::from_millis(20));
    }
    let window = load.live().take_window();
    let peak = memory::peak(node.pid())?;
    control::confirm(node.directory(), output)?;
    Ok(Measured {
        stop: upgraded.stop_us as f64,
        worst: window.worst.as_secs_f64() * 1e6,
        p999: window.p999.as_secs_f64() * 1e6,
        peak: peak as f64,
    })
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

/// Medians of what the peer takes: its stop, and its memory. None without Erlang, or if it takes too
/// long.
fn of_erlang(
    entries: u64,
    strategy: Strategy,
    runs: u32,
    output: &Output,
) -> anyhow::Result<Option<(f64, f64)>> {
    if erlang::missing().is_some() {
        return Ok(None);
    }
    let (mut stops, mut peaks) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let changed = erlang::change_code(entries, strategy != Strategy::Keep, PATIENCE)?;
        let Some(changed) = changed else {
            output.progress(&format!("{PEER}: more than {PATIENCE:?}"));
            return Ok(None);
        };
        stops.push(changed.stop_us);
        peaks.push(changed.peak_bytes);
    }
    Ok(Some((median(&stops), median(&peaks))))
}

/// What a key takes in Redis, in bytes.
fn of_redis(keys: u64) -> anyhow::Result<f64> {
    let server = RedisServer::start(Persistence::None)?;
    let before = memory::resident(server.pid())?;
    fill(server.address(), keys)?;
    Ok(memory::resident(server.pid())?.saturating_sub(before) as f64 / keys as f64)
}

fn row(
    (entries, strategy): (u64, Strategy),
    measured: &[Measured],
    peer: Option<(f64, f64)>,
    bytes_a_key: &[f64],
    redis: Option<f64>,
) -> Value {
    let of = |figure: fn(&Measured) -> f64| {
        let figures: Vec<f64> = measured.iter().map(figure).collect();
        median(&figures)
    };
    let stop = of(|one| one.stop);
    json!({
        "entries": entries,
        "strategy": strategy.name(),
        "stop_us": stop,
        "worst_request_us": of(|one| one.worst),
        "p999_us": of(|one| one.p999),
        "peak_bytes": of(|one| one.peak),
        "peer": PEER,
        "peer_stop_us": peer.map(|(stop, _)| stop),
        "peer_peak_bytes": peer.map(|(_, peak)| peak),
        "ratio": peer.map(|(peer, _)| peer / stop.max(1.0)),
        "bytes_per_key": median(bytes_a_key),
        "redis_bytes_per_key": redis,
    })
}

fn shown(rows: &[Value]) -> String {
    let mut table = Table::new(&[
        "entries>",
        "strategy",
        "stop>",
        "worst request>",
        "p99.9>",
        "peak>",
        "gen_server>",
        "its peak>",
        "ratio>",
    ]);
    for row in rows {
        let number = |key: &str, shown: fn(u64) -> String| {
            let number = row[key].as_f64();
            number.map_or_else(|| "-".to_owned(), |number| shown(number.round() as u64))
        };
        let ratio = row["ratio"].as_f64();
        table.row([
            number("entries", count),
            row["strategy"].as_str().unwrap_or_default().to_owned(),
            number("stop_us", micros),
            number("worst_request_us", micros),
            number("p999_us", micros),
            number("peak_bytes", bytes),
            number("peer_stop_us", micros),
            number("peer_peak_bytes", bytes),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}")),
        ]);
    }
    table.render()
}
