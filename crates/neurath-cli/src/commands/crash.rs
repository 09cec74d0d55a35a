//! `neurath crash …`: every crash that a region, or a node in an upgrade, could have.

use crate::cli::{CrashRegions, CrashUpgrade, Place};
use crate::crash;
use crate::exit::CommandError;
use crate::numbers::count;
use crate::output::Output;
use crate::table::Table;
use neurath_pmem::campaign::{self, Options, Report};
use serde_json::json;
use std::time::Instant;

pub fn regions(command: &CrashRegions, output: &Output) -> anyhow::Result<()> {
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

pub fn upgrade(command: &CrashUpgrade, output: &Output) -> anyhow::Result<()> {
    if !neurath_node::fault::enabled() {
        return Err(CommandError::Usage(String::from(
            "this build has no points that a node could be killed at: run `cargo xtask crash upgrade`, \
             or build the command with `--features fault-points`",
        ))
        .into());
    }
    let threads = match command.threads {
        Some(threads) => threads as usize,
        None => std::thread::available_parallelism()?.get(),
    };
    let options = crash::Options {
        seed: command.seed,
        kills: command.kills,
        most: command.points.map(|most| most as usize),
        every_start: command.every_start,
        only: command.replay.clone(),
        threads,
        folders: command.folders.clone(),
        program: std::env::current_exe()?,
    };
    output.progress(&format!("seed {}", command.seed));
    let begun = Instant::now();
    let report = crash::run(&options, &|text| output.progress(text))?;
    let seconds = begun.elapsed().as_secs_f64();
    for failure in &report.failures {
        output.progress(failure);
    }
    output.text(&shown_upgrade(&report, command.seed, seconds));
    output.json(&json!({
        "seed": command.seed,
        "points": report.points,
        "kills": report.kills,
        "old": report.old,
        "new": report.new,
        "violations": report.violations,
        "lost": report.lost,
        "wrong": report.wrong,
        "requests": report.requests,
        "courses": report.courses,
        "failures": report.failures,
        "seconds": seconds,
    }));
    if report.is_good() {
        return Ok(());
    }
    Err(CommandError::Found(format!(
        "not every kill was survived: {} violations, {} lost, {} wrong (seed {})",
        report.violations, report.lost, report.wrong, command.seed
    ))
    .into())
}

fn shown_upgrade(report: &crash::Report, seed: u64, seconds: f64) -> String {
    let mut table = Table::new(&["what", "how many>"]);
    for (what, number) in [
        ("places a node was killed at", report.points),
        ("kills", report.kills),
        ("  that left the old release", report.old),
        ("  that left the new release", report.new),
        ("courses of the start after it", report.courses),
        ("requests answered", report.requests),
        ("violations", report.violations),
        ("writes lost", report.lost),
        ("wrong answers", report.wrong),
    ] {
        table.row([what.into(), count(number)]);
    }
    format!("{}\nseed {seed}, {seconds:.1} s", table.render())
}
