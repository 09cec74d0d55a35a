//! `neurath crash regions`: every crash that a region could have.

use crate::cli::{CrashRegions, Place};
use crate::exit::CommandError;
use crate::numbers::count;
use crate::output::Output;
use crate::table::Table;
use neurath_pmem::campaign::{self, Options, Report};
use serde_json::json;
use std::time::Instant;

pub fn run(command: &CrashRegions, output: &Output) -> anyhow::Result<()> {
    if let Some(place) = command.replay {
        return replay(place, output);
    }
    let options = Options {
        images: command.images,
        seed: command.seed,
        threads: std::thread::available_parallelism()?.get(),
    };
    let begun = Instant::now();
    let report = campaign::run(&options, &|text| output.progress(text));
    let seconds = begun.elapsed().as_secs_f64();
    for failure in &report.first_failures {
        output.progress(failure);
    }
    for uncaught in &report.uncaught {
        output.progress(&format!("not noticed: {uncaught}"));
    }
    output.text(&shown(&report, seconds));
    output.json(&json!({
        "images": report.images,
        "violations": report.violations,
        "sites": report.sites,
        "sites_caught": report.sites_caught,
        "mutants": report.mutants,
        "mutants_caught": report.mutants_caught,
        "seed": command.seed,
        "seconds": seconds,
    }));
    if report.is_good() {
        return Ok(());
    }
    Err(CommandError::Found(String::from(
        "not every crash was survived, or not everything wrong noticed",
    ))
    .into())
}

fn shown(report: &Report, seconds: f64) -> String {
    let mut table = Table::new(&["what", "how many>", "as it must be>"]);
    let survived = report.images.saturating_sub(report.violations);
    for (what, all, good) in [
        ("images survived", report.images, survived),
        ("sites noticed", report.sites, report.sites_caught),
        ("mutants noticed", report.mutants, report.mutants_caught),
    ] {
        table.row([what.into(), count(all), count(good)]);
    }
    format!(
        "{}\n{} violations, {seconds:.1} s",
        table.render(),
        count(report.violations)
    )
}

fn replay(place: Place, output: &Output) -> anyhow::Result<()> {
    let replayed = campaign::replay(place.seed, place.event, place.image);
    output.progress(&replayed.what);
    if !replayed.found && replayed.violation.is_none() {
        return Err(CommandError::Usage(String::from("there is no such image")).into());
    }
    output.text(replayed.violation.as_deref().unwrap_or("survived"));
    output.json(&json!({
        "seed": place.seed,
        "event": place.event,
        "image": place.image,
        "violation": replayed.violation,
    }));
    match replayed.violation {
        None => Ok(()),
        Some(_) => Err(CommandError::Found(String::from("the crash was not survived")).into()),
    }
}
