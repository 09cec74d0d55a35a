//! `neurath fuzz …`: inputs that nobody would write.

use crate::cli::FuzzManifests;
use crate::exit::CommandError;
use crate::fuzz::manifests::{Corpus, case, input};
use crate::fuzz::{self, Outcome, Until, Verdict};
use crate::numbers::{as_micros, bytes, count, micros};
use crate::output::Output;
use crate::table::Table;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `neurath fuzz manifests`
pub fn manifests(command: &FuzzManifests, output: &Output) -> anyhow::Result<()> {
    let corpus = Corpus::read(&command.corpus)?;
    if let Some((seed, number)) = command.replay {
        output.text(&input(&corpus, seed, number));
        let outcome = fuzz::run_one(number, |number| case(&corpus, seed, number));
        let why = outcome.as_ref().err().cloned();
        let said = match &outcome {
            Ok(Verdict::Accepted) => "accepted",
            Ok(Verdict::Refused) => "refused",
            Err(why) => why,
        };
        output.progress(said);
        output.json(&json!({
            "kind": "fuzz_replay", "seed": seed, "case": number, "failure": why,
        }));
        return ended(u64::from(why.is_some()));
    }
    let until = command.cases.map_or(
        Until::Time(Duration::from_secs_f64(command.seconds)),
        Until::Cases,
    );
    let (seed, begun) = (command.seed, Instant::now());
    let outcome = fuzz::run(seed, until, |number| case(&corpus, seed, number), &|text| {
        output.progress(text)
    });
    told(&outcome, "fuzz_manifests", seed, begun.elapsed(), output)
}

/// Says what came of it, and fails if any case did.
fn told(
    outcome: &Outcome,
    kind: &str,
    seed: u64,
    took: Duration,
    output: &Output,
) -> anyhow::Result<()> {
    for failure in &outcome.first_failures {
        output.progress(failure);
    }
    let mut table = Table::new(&["", ">"]);
    table
        .row(["cases".to_owned(), count(outcome.cases)])
        .row(["accepted".to_owned(), count(outcome.accepted)])
        .row(["refused".to_owned(), count(outcome.refused)])
        .row(["failures".to_owned(), count(outcome.failures)])
        .row(["slowest".to_owned(), micros(as_micros(outcome.slowest))])
        .row(["most memory".to_owned(), bytes(outcome.peak_kib << 10)])
        .row(["seed".to_owned(), format!("{seed:#x}")]);
    output.text(&table.render());
    let failures: Vec<Value> = outcome
        .first_failures
        .iter()
        .map(|one| json!(one))
        .collect();
    output.json(&json!({
        "kind": kind,
        "cases": outcome.cases,
        "accepted": outcome.accepted,
        "refused": outcome.refused,
        "failures": outcome.failures,
        "first_failures": failures,
        "slowest_us": as_micros(outcome.slowest),
        "peak_kib": outcome.peak_kib,
        "seed": seed,
        "seconds": took.as_secs_f64(),
    }));
    ended(outcome.failures)
}

fn ended(failures: u64) -> anyhow::Result<()> {
    if failures == 0 {
        return Ok(());
    }
    Err(CommandError::Found(format!("{failures} cases failed")).into())
}
