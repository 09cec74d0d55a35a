//! `neurath state …`: regions' files, whose libraries need not be there.

use crate::cli::State;
use crate::control;
use crate::exit::CommandError;
use crate::numbers;
use crate::output::Output;
use crate::state_json;
use crate::table::Table;
use anyhow::bail;
use neurath_pmem::history::History;
use neurath_pmem::inspect::{
    self, DataLimits, Done, InspectError, Inspection, Level, Report, Severity,
};
use neurath_pmem::region::format::Log;
use serde_json::json;
use std::path::{Path, PathBuf};

pub fn run(command: &State, output: &Output) -> anyhow::Result<()> {
    match command {
        State::Check { file, level } => check(file, Level::ALL[usize::from(*level)], output),
        State::Inspect {
            file,
            data,
            limit,
            bytes,
            depth,
        } => {
            let limits = data.then_some(DataLimits {
                entries: *limit,
                bytes: *bytes,
                depth: *depth,
            });
            show(file, limits, output)
        }
        State::Snapshot {
            region,
            out,
            dir: None,
        } => snapshot(region, out, output),
        State::Snapshot {
            region,
            out,
            dir: Some(dir),
        } => live_snapshot(dir, region, out, output),
        State::Restore {
            snapshot,
            file,
            execute,
        } => restore(snapshot, file, *execute, output),
        State::RemoveSnapshot {
            name,
            node,
            execute,
        } => remove_snapshot(&node.dir, name, *execute, output),
        State::Repair { file, out, execute } => {
            let mut beside = file.clone().into_os_string();
            beside.push(".repaired");
            let out = out.clone().unwrap_or_else(|| PathBuf::from(beside));
            repair(file, &out, *execute, output)
        }
    }
}

/// Errors of files; of damage, what was found as well.
fn refused(error: InspectError, output: &Output) -> anyhow::Error {
    match error {
        InspectError::Damaged {
            ref path,
            ref report,
        } => {
            output.json(&state_json::check(path, report));
            output.text(&report_text(path, report));
            CommandError::Damaged(error.to_string()).into()
        }
        InspectError::Format { .. } => CommandError::Damaged(error.to_string()).into(),
        error => error.into(),
    }
}

fn check(file: &Path, level: Level, output: &Output) -> anyhow::Result<()> {
    let report = inspect::check_file(file, level)?;
    output.json(&state_json::check(file, &report));
    output.text(&report_text(file, &report));
    if report.is_clean() {
        return Ok(());
    }
    let text = format!("{} is not clean: {}", file.display(), summary(&report));
    Err(CommandError::Damaged(text).into())
}

fn summary(report: &Report) -> String {
    let leaked: u64 = report.leaks.iter().map(|leak| leak.objects).sum();
    let errors = numbers::of(report.errors, "error", "errors");
    let leaked = numbers::of(leaked, "leaked object", "leaked objects");
    format!("{errors}, {leaked}")
}

fn report_text(file: &Path, report: &Report) -> String {
    let mut table = Table::new(&["level", "looked at", "result"]);
    for level in &report.levels {
        let checked: Vec<String> = level
            .checked
            .iter()
            .map(|(what, count)| format!("{} {what}", numbers::count(*count)))
            .collect();
        let of_level = |severity: Severity| {
            let findings = report.findings.iter();
            findings
                .filter(|one| one.level == level.level && one.severity == severity)
                .count()
        };
        let result = match (level.done, of_level(Severity::Error)) {
            (Done::Unavailable(why) | Done::Skipped(why), 0) => why.to_owned(),
            (Done::NotAsked, _) => "not asked for".into(),
            (Done::Complete, 0) if level.level == Level::L2 && !report.leaks.is_empty() => {
                "leaks".into()
            }
            (Done::Complete, 0) => "no error".into(),
            (_, 0) => "no error in what could be checked".into(),
            (_, errors) => numbers::of(errors as u64, "error", "errors"),
        };
        // One line for each, as there are many.
        let mut lines = checked.into_iter();
        let first = lines.next().unwrap_or_default();
        table.row([level.level.as_str().to_owned(), first, result]);
        for line in lines {
            table.row([String::new(), line, String::new()]);
        }
    }
    let mut text = table.render();
    for finding in &report.findings {
        text.push_str(&format!(
            "{} {} {} at byte {}: {}\n",
            finding.severity.as_str(),
            finding.level.as_str(),
            finding.code.as_str(),
            finding.place,
            finding.message
        ));
    }
    if report.more > 0 {
        text.push_str(&format!("and {} more\n", report.more));
    }
    if report.replayed > 0 {
        text.push_str(&format!(
            "{} log records were replayed before that, in a copy\n",
            report.replayed
        ));
    }
    text.push_str(&migrations_text(&report.history));
    let verdict = if report.is_clean() {
        "clean"
    } else if report.is_sound() {
        "sound, but room is lost to leaks"
    } else {
        "DAMAGED"
    };
    text.push_str(&format!("{}: {verdict}\n", file.display()));
    text
}

fn show(file: &Path, limits: Option<DataLimits>, output: &Output) -> anyhow::Result<()> {
    let shown = inspect::inspect_file(file, limits).map_err(|error| refused(error, output))?;
    output.json(&state_json::inspection(file, &shown));
    output.text(&inspection_text(&shown));
    Ok(())
}

fn inspection_text(shown: &Inspection) -> String {
    let header = &shown.header;
    let mut table = Table::new(&["", ""]);
    table
        .row([
            "region of".into(),
            format!("{}.{}", header.component, header.instance),
        ])
        .row(["uuid".to_owned(), state_json::hex(&header.uuid)])
        .row(["schema".to_owned(), state_json::hex(&header.fingerprint)])
        .row(["file".to_owned(), numbers::bytes(shown.file_bytes)])
        .row(["transactions".to_owned(), numbers::count(shown.sequence)]);
    for (number, slot) in shown.slots.iter().enumerate() {
        let text = match &slot.superblock {
            Ok(superblock) => format!(
                "{}, generation {}, {}, checkpoint {}{}",
                state_json::state(superblock.state),
                superblock.generation,
                numbers::bytes(superblock.length),
                superblock.checkpoint,
                if slot.current { ", counts" } else { "" }
            ),
            Err(error) => error.clone(),
        };
        table.row([format!("superblock {number}"), text]);
    }
    for (what, text) in durability_rows(shown) {
        table.row([what.to_owned(), text]);
    }
    let mut uses = Table::new(&["type", "segments>", "room>", "objects>", "bytes>"]);
    for one in &shown.types {
        uses.row([
            one.type_name.clone(),
            numbers::count(one.segments),
            numbers::bytes(one.segment_bytes),
            numbers::count(one.objects),
            numbers::bytes(one.bytes),
        ]);
    }
    let mut text = format!("{}\n{}\n", table.render(), uses.render());
    text.push_str(&inspect::schema_text(&shown.schema));
    text.push_str(&migrations_text(&shown.history));
    for problem in &shown.problems {
        text.push_str(&format!("problem: {problem}\n"));
    }
    if let Some(data) = &shown.data {
        let json = state_json::data(data);
        text.push_str(&format!("\n{json:#}\n"));
    }
    text
}

/// The migrations that a region tells of; nothing if there are none.
fn migrations_text(history: &History) -> String {
    let mut text = String::new();
    if !history.migrations.is_empty() {
        let columns = [
            "migrations",
            "how",
            "what",
            "by",
            "release",
            "generation>",
            "when",
        ];
        let mut table = Table::new(&columns);
        for one in &history.migrations {
            let from = match &*one.from_version {
                "" => "new",
                version => version,
            };
            table.row([
                format!("{from} -> {}", one.to_version),
                one.strategy.as_str().to_owned(),
                one.name.clone(),
                one.library.clone(),
                one.release.clone(),
                one.generation.to_string(),
                numbers::utc(one.at_ms),
            ]);
        }
        text = table.render();
    }
    if history.folded > 0 {
        let folded = numbers::count(history.folded);
        text.push_str(&format!(
            "{folded} migrations before these are only counted\n"
        ));
    }
    if history.lost {
        text.push_str("some of what was recorded could not be read any more\n");
    }
    text
}

/// What the region asks of its medium, and what that gives.
fn durability_rows(shown: &Inspection) -> Vec<(&'static str, String)> {
    let journal = matches!(shown.header.log, Log::Journal(_));
    let log = if journal { "a journal" } else { "a ring" };
    let mut rows = vec![(
        "durability",
        format!("`{}` is demanded; the log is {log}", shown.durability),
    )];
    let Some(medium) = &shown.medium else {
        return rows;
    };
    let opens = match medium.opens(shown.durability, journal) {
        Ok(backend) => format!("backend `{backend}`"),
        Err(reason) => format!("refused: {reason}"),
    };
    rows.push(("opened here", opens));
    let yes = |yes| if yes { "yes" } else { "no" };
    rows.push((
        "medium",
        format!(
            "{}, DAX {}, MAP_SYNC {}",
            medium.file_system,
            medium.dax.map_or("unknown", yes),
            yes(medium.map_sync)
        ),
    ));
    let survive = match (medium.domains.is_empty(), medium.caches_survive) {
        (true, _) => "no persistent memory is told of",
        (false, true) => "they survive a loss of power (eADR)",
        (false, false) => "they do not survive a loss of power",
    };
    let flush = medium.line_flush.unwrap_or("no instruction");
    rows.push(("caches", format!("{survive}; lines are written by {flush}")));
    let power = match &medium.power.outcome {
        Ok(backend) => format!("could be had by backend `{backend}`"),
        Err(reason) => format!("cannot be had: {reason}"),
    };
    rows.push(("`power` here", power));
    rows
}

fn snapshot(file: &Path, out: &Path, output: &Output) -> anyhow::Result<()> {
    let made = inspect::snapshot_file(file, out).map_err(|error| refused(error, output))?;
    output.json(&state_json::snapshot(file, out, &made));
    output.text(&format!(
        "{}: {} of {}, as of transaction {}",
        out.display(),
        numbers::bytes(made.bytes),
        made.owner,
        made.sequence
    ));
    for leak in &made.report.leaks {
        output.progress(&format!(
            "it holds {} leaked objects of {}: see `state check`",
            leak.objects, leak.type_name
        ));
    }
    Ok(())
}

/// The component and the instance that a text names.
fn instance(text: &Path) -> anyhow::Result<(String, Option<u32>)> {
    let wrong = || {
        let text = format!(
            "{} is neither COMPONENT nor COMPONENT.INSTANCE",
            text.display()
        );
        CommandError::Usage(text)
    };
    let name = text.to_str().filter(|name| !name.contains('/'));
    let name = name.ok_or_else(wrong)?;
    match name.rsplit_once('.') {
        None => Ok((name.into(), None)),
        Some((component, number)) => {
            let number = number.parse().map_err(|_| wrong())?;
            Ok((component.into(), Some(number)))
        }
    }
}

fn live_snapshot(dir: &Path, region: &Path, out: &Path, output: &Output) -> anyhow::Result<()> {
    let (component, instance) = instance(region)?;
    let made = control::snapshot(dir, &component, instance, out)?;
    output.json(&state_json::live_snapshot(dir, &made));
    output.text(&format!(
        "{}: {} of {}, as of transaction {}; the node served on, and it took {}",
        made.out,
        numbers::bytes(made.bytes),
        made.owner,
        made.sequence,
        numbers::micros(made.micros)
    ));
    if made.leaked > 0 {
        let leaked = made.leaked;
        output.progress(&format!(
            "it holds {leaked} leaked objects: see `state check`"
        ));
    }
    Ok(())
}

fn restore(snapshot: &Path, file: &Path, execute: bool, output: &Output) -> anyhow::Result<()> {
    let done =
        inspect::restore_file(snapshot, file, execute).map_err(|error| refused(error, output))?;
    output.json(&state_json::restore(snapshot, file, &done));
    let will = if execute { "is" } else { "would be" };
    let mut text = format!(
        "{} {will} the state of {} in {}, {}",
        file.display(),
        done.owner,
        snapshot.display(),
        numbers::bytes(done.bytes)
    );
    if let Some(kept) = &done.kept {
        text.push_str(&format!(
            "\nthe region that was there {will} kept as {}",
            kept.display()
        ));
    }
    output.text(&text);
    if !execute {
        output.progress("nothing was changed; add --execute");
    }
    Ok(())
}

fn remove_snapshot(dir: &Path, name: &str, execute: bool, output: &Output) -> anyhow::Result<()> {
    if execute {
        let bytes = control::remove_snapshot(dir, name)?;
        output.text(&format!(
            "deleted: the snapshot {name}, {}",
            numbers::bytes(bytes)
        ));
        output.json(
            &json!({ "kind": "state-remove-snapshot", "name": name, "bytes": bytes, "done": true }),
        );
        return Ok(());
    }
    let snapshots = control::status(dir)?.snapshots;
    let Some(found) = snapshots.iter().find(|one| one.name == name) else {
        let known: Vec<&str> = snapshots.iter().map(|one| one.name.as_str()).collect();
        bail!(
            "no snapshot is called {name}; there are: {}",
            known.join(", ")
        );
    };
    output.text(&format!("would be deleted: {found}"));
    output.progress("nothing was changed; add --execute");
    output.json(&json!({ "kind": "state-remove-snapshot", "name": name, "bytes": found.bytes, "done": false }));
    Ok(())
}

fn repair(file: &Path, out: &Path, execute: bool, output: &Output) -> anyhow::Result<()> {
    let repair =
        inspect::repair_file(file, out, execute).map_err(|error| refused(error, output))?;
    output.json(&state_json::repair(file, out, &repair));
    let mut text = String::new();
    for action in &repair.actions {
        text.push_str(&format!("{}: {}\n", action.kind, action.message));
    }
    if repair.actions.is_empty() {
        text.push_str("there is nothing that could be mended\n");
    }
    text.push_str(&format!(
        "before: {}; after: {}\n",
        summary(&repair.before),
        summary(&repair.after)
    ));
    if repair.written {
        text.push_str(&format!(
            "the mended copy is {}; `state restore` puts it in place\n",
            out.display()
        ));
    }
    output.text(&text);
    if !repair.after.is_sound() {
        output.text(&report_text(file, &repair.after));
        let text = format!("{} cannot be mended: restore a snapshot", file.display());
        return Err(CommandError::Damaged(text).into());
    }
    if !execute && !repair.actions.is_empty() {
        output.progress("nothing was written; add --execute");
    }
    Ok(())
}
