//! `neurath bench serve`: requests a second, beside Redis.

use crate::cli::{Folders, Survives};
use crate::numbers::{count, median};
use crate::output::Output;
use crate::processes;
use crate::redis::{self, Load, Persistence, RedisServer};
use crate::stage::Stage;
use crate::table::Table;
use anyhow::Context as _;
use serde_json::json;

const CLIENTS: u32 = 50;
const RUNS: usize = 3;
const KEYS: u32 = 100_000;
const TESTS: &str = "set,get";

/// One kind of request, measured.
struct Measured {
    test: String,
    pipeline: u32,
    ours: Vec<f64>,
    theirs: Vec<f64>,
}

impl Measured {
    fn ratio(&self) -> f64 {
        let theirs = median(&self.theirs);
        if theirs > 0.0 {
            median(&self.ours) / theirs
        } else {
            0.0
        }
    }
}

pub fn run(
    seconds: f64,
    survives: Survives,
    folders: &Folders,
    output: &Output,
) -> anyhow::Result<()> {
    if let Some(reason) = redis::missing() {
        output.text(&format!("skipped: {reason}"));
        output.json(&json!({ "kind": "bench_serve", "skipped": reason }));
        return Ok(());
    }
    processes::end_all_when_interrupted()?;
    let durability = survives.name();
    let stage = Stage::surviving(folders, &["store"], &[("1.0.0", durability)], None, output)?;
    let node = stage.start("1.0.0").context(
        "the node does not start; `power` needs a folder for temporary files on a disk: TMPDIR",
    )?;
    let server = RedisServer::start(match survives {
        Survives::Process => Persistence::None,
        Survives::Power => Persistence::Always,
    })?;
    let mut all: Vec<Measured> = Vec::new();
    for pipeline in [1, 16] {
        let load = |address| Load {
            address,
            clients: CLIENTS,
            pipeline,
            tests: TESTS,
            key_space: Some(KEYS),
        };
        let (ours, theirs) = (load(node.address()), load(server.address()));
        let warm = 20_000 * u64::from(pipeline);
        ours.measure(warm)?;
        let rates: Vec<f64> = theirs
            .measure(warm)?
            .into_iter()
            .map(|(_, rate)| rate)
            .collect();
        let requests = ((median(&rates) * seconds / rates.len() as f64) as u64).max(1_000);
        for run in 0..RUNS {
            output.progress(&format!("pipeline {pipeline}, run {} of {RUNS}", run + 1));
            // Whoever is first meets a machine in another state: they take turns.
            for turn in 0..2 {
                let is_ours = turn == run % 2;
                let found = if is_ours { &ours } else { &theirs }.measure(requests)?;
                node.check()?;
                for (test, rate) in found {
                    let at = all
                        .iter()
                        .position(|one| one.test == test && one.pipeline == pipeline);
                    let at = at.unwrap_or_else(|| {
                        all.push(Measured {
                            test,
                            pipeline,
                            ours: Vec::new(),
                            theirs: Vec::new(),
                        });
                        all.len() - 1
                    });
                    let one = &mut all[at];
                    if is_ours {
                        &mut one.ours
                    } else {
                        &mut one.theirs
                    }
                    .push(rate);
                }
            }
        }
    }
    node.stop()?;
    let mut table = Table::new(&["request", "pipeline>", "neurath/s>", "redis/s>", "ratio>"]);
    for one in &all {
        table.row([
            one.test.clone(),
            one.pipeline.to_string(),
            count(median(&one.ours) as u64),
            count(median(&one.theirs) as u64),
            format!("{:.2}", one.ratio()),
        ]);
    }
    output.text(&format!(
        "{CLIENTS} connections, {KEYS} keys, durability `{durability}`, medians of {RUNS}\n\n{}",
        table.render()
    ));
    let results: Vec<_> = all
        .iter()
        .map(|one| {
            json!({
                "test": one.test,
                "pipeline": one.pipeline,
                "neurath_per_s": median(&one.ours),
                "redis_per_s": median(&one.theirs),
                "ratio": one.ratio(),
            })
        })
        .collect();
    output.json(
        &json!({ "kind": "bench_serve", "durability": durability, "clients": CLIENTS,
            "runs": RUNS, "results": results }),
    );
    Ok(())
}
