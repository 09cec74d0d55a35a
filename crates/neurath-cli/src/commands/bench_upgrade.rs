//! `neurath bench upgrade`: how long messages wait, and what a key takes.

use crate::cli::Folders;
use crate::control;
use crate::numbers::{count, median, micros};
use crate::output::Output;
use crate::processes;
use crate::redis::{self, RedisServer};
use crate::stage::{Stage, fill, release};
use crate::table::Table;
use crate::testing::{NodeProcess, memory_of};
use serde_json::{Value, json};

#[derive(Default)]
struct Measured {
    layout: Vec<f64>,
    code: Vec<f64>,
    memory: Vec<f64>,
}

pub fn run(keys: &[u64], runs: u32, folders: &Folders, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    let stage = Stage::new(folders, &["1.0.0", "1.1.0", "1.1.1"], output)?;
    let without_redis = redis::missing();
    if let Some(reason) = &without_redis {
        output.progress(&format!("{reason}: no memory beside Redis"));
    }
    let mut table = Table::new(&[
        "keys>",
        "stop, layout changed>",
        "stop, code only>",
        "bytes/key>",
        "redis bytes/key>",
    ]);
    let mut results = Vec::new();
    for &keys in keys {
        let mut measured = Measured::default();
        for run in 0..runs {
            output.progress(&format!("{} keys, run {} of {runs}", count(keys), run + 1));
            one_run(&stage, keys, &mut measured, output)?;
        }
        let redis = match &without_redis {
            None => Some(of_redis(keys)?),
            Some(_) => None,
        };
        let shown = |values: &[f64]| micros(median(values).round() as u64);
        table.row([
            count(keys),
            shown(&measured.layout),
            shown(&measured.code),
            format!("{:.0}", median(&measured.memory)),
            redis.map_or_else(|| String::from("-"), |bytes| format!("{bytes:.0}")),
        ]);
        results.push(json!({
            "keys": keys,
            "layout_stop_us": median(&measured.layout),
            "code_stop_us": median(&measured.code),
            "bytes_per_key": median(&measured.memory),
            "redis_bytes_per_key": redis,
        }));
    }
    output.text(&format!("medians of {runs}\n\n{}", table.render()));
    output.json(&json!({
        "kind": "bench_upgrade",
        "runs": runs,
        "results": results,
        "without_redis": without_redis.map_or(Value::Null, Value::from),
    }));
    Ok(())
}

/// Fills a new node, and upgrades it twice.
fn one_run(
    stage: &Stage,
    keys: u64,
    measured: &mut Measured,
    output: &Output,
) -> anyhow::Result<()> {
    let node = stage.start("1.0.0")?;
    let before = node.memory()?;
    fill(node.address(), keys)?;
    measured
        .memory
        .push(node.memory()?.saturating_sub(before) as f64 / keys as f64);
    measured.layout.push(stop_of(&node, "1.1.0", output)?);
    measured.code.push(stop_of(&node, "1.1.1", output)?);
    node.stop()
}

fn stop_of(node: &NodeProcess, version: &str, output: &Output) -> anyhow::Result<f64> {
    let upgraded = control::apply(node.directory(), &release(version), None, output)?;
    control::confirm(node.directory(), output)?;
    Ok(upgraded.stop_us as f64)
}

/// What a key takes in Redis, in bytes.
fn of_redis(keys: u64) -> anyhow::Result<f64> {
    let server = RedisServer::start()?;
    let before = memory_of(server.pid())?;
    fill(server.address(), keys)?;
    Ok(memory_of(server.pid())?.saturating_sub(before) as f64 / keys as f64)
}
