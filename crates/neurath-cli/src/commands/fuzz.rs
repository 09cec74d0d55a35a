//! `neurath fuzz …`: inputs that nobody would write.

use crate::cli::{FuzzManifests, FuzzRegions};
use crate::exit::CommandError;
use crate::fuzz::manifests::{self, case, input};
use crate::fuzz::{self, Outcome, Until, Verdict};
use crate::numbers::{as_micros, bytes, count, micros};
use crate::output::Output;
use crate::processes::TemporaryFolder;
use crate::table::Table;
use anyhow::{Context as _, bail};
use neurath_pmem::fuzz::{Corpus, case as region_case};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// `neurath fuzz manifests`
pub fn manifests(command: &FuzzManifests, output: &Output) -> anyhow::Result<()> {
    let corpus = manifests::Corpus::read(&command.corpus)?;
    if let Some((seed, number)) = command.replay {
        output.text(&input(&corpus, seed, number));
        let outcome = fuzz::run_one(number, |number| case(&corpus, seed, number));
        return replayed(&outcome, seed, number, output);
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

/// `neurath fuzz regions`
pub fn regions(command: &FuzzRegions, output: &Output) -> anyhow::Result<()> {
    if command.valgrind {
        return under_valgrind(output);
    }
    let folder = TemporaryFolder::new()?;
    let corpus = Corpus::new(folder.path()).map_err(anyhow::Error::msg)?;
    let case = |seed, number| {
        region_case(&corpus, seed, number).map(|taken| match taken {
            true => Verdict::Accepted,
            false => Verdict::Refused,
        })
    };
    if let Some((seed, number)) = command.replay {
        let outcome = fuzz::run_one(number, |number| case(seed, number));
        return replayed(&outcome, seed, number, output);
    }
    let until = command.cases.map_or(
        Until::Time(Duration::from_secs_f64(command.seconds)),
        Until::Cases,
    );
    let (seed, begun) = (command.seed, Instant::now());
    let outcome = fuzz::run(seed, until, |number| case(seed, number), &|text| {
        output.progress(text);
    });
    told(&outcome, "fuzz_regions", seed, begun.elapsed(), output)
}

/// Runs this very command under valgrind, without the option that says so.
fn under_valgrind(output: &Output) -> anyhow::Result<()> {
    let mut command = std::process::Command::new("valgrind");
    command
        .args(["--quiet", "--error-exitcode=99", "--leak-check=no"])
        .arg(std::env::current_exe()?)
        .args(
            std::env::args_os()
                .skip(1)
                .filter(|word| word != "--valgrind"),
        );
    let status = match command.status() {
        Ok(status) => status,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            bail!("valgrind is not installed: apt-get install valgrind")
        }
        Err(error) => return Err(error).context("cannot run valgrind"),
    };
    match status.code() {
        Some(0) => Ok(()),
        Some(99) => {
            output.progress("valgrind saw an access that must not be");
            ended(1)
        }
        _ => ended(1),
    }
}

fn replayed(
    outcome: &Result<Verdict, String>,
    seed: u64,
    number: u64,
    output: &Output,
) -> anyhow::Result<()> {
    let why = outcome.as_ref().err().cloned();
    let said = match outcome {
        Ok(Verdict::Accepted) => "accepted",
        Ok(Verdict::Refused) => "refused",
        Err(why) => why,
    };
    output.progress(said);
    output.json(&json!({
        "kind": "fuzz_replay", "seed": seed, "case": number, "failure": why,
    }));
    ended(u64::from(why.is_some()))
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
