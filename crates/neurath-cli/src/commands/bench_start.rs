//! `neurath bench start`: how long it takes from the start of a node's process until its state is served, after a
//! kill and after an orderly stop, and how long clients wait for `node restart`; beside Redis, which saves and loads.

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use kv_resp::Value as Reply;
use neurath_verify::{fill_key, fill_value};
use serde_json::{Value, json};

use crate::cli::BenchStart;
use crate::control;
use crate::numbers::{bytes, count, median, micros};
use crate::output::Output;
use crate::processes;
use crate::redis::{self, Persistence, RedisServer};
use crate::resp::Connection;
use crate::stage::{Stage, VALUE_LEN, fill};
use crate::table::Table;
use crate::testing::{NodeCommand, NodeProcess, Starting};

/// The version that is started.
const VERSION: &str = "1.1.0";
/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(60);

pub fn run(command: &BenchStart, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    let stage = Stage::new(&command.folders, &[VERSION], output)?;
    let missing = redis::missing();
    if let Some(reason) = &missing {
        output.progress(&format!("{reason}: without that peer"));
    }
    let mut rows = Vec::new();
    for &keys in &command.entries {
        let ours = of_a_node(&stage, keys, command.runs, output)?;
        let peer = match missing {
            None => Some(of_redis(keys, command.runs, output)?),
            Some(_) => None,
        };
        rows.push(row(keys, &ours, peer.as_deref()));
    }
    output.text(&format!("medians of {}\n\n{}", command.runs, shown(&rows)));
    if let Some(reason) = &missing {
        output.text(&format!("skipped: {reason}"));
    }
    output.json(&Value::Array(rows));
    Ok(())
}

/// What the starts of a node took, in microseconds.
#[derive(Debug, Default)]
struct Measured {
    killed: Vec<f64>,
    stopped: Vec<f64>,
    restarted: Vec<f64>,
    region_bytes: u64,
}

fn of_a_node(stage: &Stage, keys: u64, runs: u32, output: &Output) -> anyhow::Result<Measured> {
    let command = stage.command(VERSION);
    let mut node = NodeProcess::start(&command)?;
    fill(node.address(), keys)?;
    let mut measured = Measured::default();
    for run in 1..=runs {
        output.progress(&format!("{} keys, run {run} of {runs}", count(keys)));
        let address = node.address().to_owned();
        let last = u64::from(run) * 7919 % keys;
        // A kill in the midst of work: something was written just before.
        let written = Connection::open(&address)?.ask(&["SET", "written", &run.to_string()])?;
        if written != Reply::Simple(b"OK".to_vec()) {
            bail!("SET was answered by {written:?}");
        }
        node.kill();
        let took;
        (node, took) = start(&command, &address, last)?;
        measured.killed.push(took);
        if Connection::open(&address)?.ask(&["GET", "written"])?
            != Reply::Bulk(run.to_string().into_bytes())
        {
            bail!("what was acknowledged before the kill is not there");
        }
        node.stop()?;
        let took;
        (node, took) = start(&command, &address, last)?;
        measured.stopped.push(took);
        let stop_us = control::restart(node.directory(), output)?;
        measured.restarted.push(stop_us as f64);
    }
    let status = control::status(node.directory())?;
    measured.region_bytes = status.components.iter().map(|one| one.region_bytes).sum();
    node.stop()?;
    Ok(measured)
}

/// Starts a node; how long it took until it answered a client that had asked for this key all the time.
fn start(command: &NodeCommand, address: &str, key: u64) -> anyhow::Result<(NodeProcess, f64)> {
    let name = fill_key(key);
    let expected = Reply::Bulk(fill_value(key, VALUE_LEN));
    let began = Instant::now();
    let starting = Starting::new(command)?;
    let took = loop {
        // Nobody listens at first.
        if let Ok(answer) = Connection::open(address).and_then(|mut one| one.ask(&["GET", &name])) {
            if answer != expected {
                bail!("{name} was answered by {answer:?}");
            }
            break began.elapsed();
        }
        if began.elapsed() > PATIENCE {
            bail!("the node does not serve within {PATIENCE:?}");
        }
        std::thread::sleep(Duration::from_micros(200));
    };
    Ok((starting.up(command)?, took.as_secs_f64() * 1e6))
}

/// What the starts of Redis took, in microseconds.
fn of_redis(keys: u64, runs: u32, output: &Output) -> anyhow::Result<Vec<f64>> {
    let mut server = RedisServer::start(Persistence::Dump)?;
    fill(server.address(), keys).context("filling Redis")?;
    let key = fill_key(keys - 1);
    let mut took = Vec::new();
    for run in 1..=runs {
        output.progress(&format!("Redis, run {run} of {runs}"));
        let (started, _saved) = server.start_again(&["GET", &key])?;
        took.push(started.as_secs_f64() * 1e6);
    }
    Ok(took)
}

fn row(keys: u64, ours: &Measured, redis: Option<&[f64]>) -> Value {
    let killed = median(&ours.killed);
    let peer = redis.map(median);
    json!({
        "entries": keys,
        "region_bytes": ours.region_bytes,
        "killed_us": killed,
        "stopped_us": median(&ours.stopped),
        "restart_us": median(&ours.restarted),
        "peer": "redis, from its dump",
        "peer_us": peer,
        "ratio": peer.map(|peer| peer / killed.max(1.0)),
    })
}

fn shown(rows: &[Value]) -> String {
    let mut table = Table::new(&[
        "entries>",
        "state>",
        "after a kill>",
        "after a stop>",
        "node restart>",
        "redis>",
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
            number("region_bytes", bytes),
            number("killed_us", micros),
            number("stopped_us", micros),
            number("restart_us", micros),
            number("peer_us", micros),
            ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.1}")),
        ]);
    }
    table.render()
}
