//! `neurath bench regions`: what regions cost, beside other heaps and maps.

use crate::cargo;
use crate::cli::BenchRegions;
use crate::output::Output;
use crate::processes::{self, Process, TemporaryFolder};
use crate::table::Table;
use anyhow::{Context as _, bail};
use serde_json::Value;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

const PACKAGE: &str = "neurath-region-bench";

/// The peers that are crates: each a feature of the package.
const PEERS: [&str; 2] = ["redb", "heed"];

pub fn run(options: &BenchRegions, output: &Output) -> anyhow::Result<()> {
    processes::end_all_when_interrupted()?;
    let program = build(output)?;
    // Memory is measured, not a disk: unless another folder is asked for.
    let folder = TemporaryFolder::within(&options.dir).with_context(|| {
        format!(
            "cannot use {}: name a folder with --dir",
            options.dir.display()
        )
    })?;
    let disk = TemporaryFolder::within(&options.disk).with_context(|| {
        format!(
            "cannot use {}: name a folder on a disk with --disk",
            options.disk.display()
        )
    })?;
    let mut command = Command::new(program);
    command.arg("--dir").arg(folder.path());
    command.arg("--disk").arg(disk.path());
    command.args(["--runs", &options.runs.to_string()]);
    command.args(options.quick.then_some("--quick"));
    if let Some(only) = &options.only {
        command.args(["--only", only]);
    }
    let process = Process::start(PACKAGE, command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let stdout = process.stdout().context("its standard output")?;
    let mut rows = Vec::new();
    for line in BufReader::new(stdout).lines() {
        let line = line?;
        let row: Value = serde_json::from_str(&line)
            .with_context(|| format!("{PACKAGE} wrote what is no row: {line}"))?;
        output.progress(&cells(&row).join("  "));
        rows.push(row);
    }
    let ended = process.wait_for(Duration::from_secs(60))?;
    if !ended.is_some_and(|status| status.success()) {
        bail!("{PACKAGE} failed: what is above says why");
    }
    output.text(&shown(&rows));
    output.json(&Value::Array(rows));
    Ok(())
}

/// Builds the program with all peers, or with those that there are.
fn build(output: &Output) -> anyhow::Result<PathBuf> {
    let build =
        |features: &[&str]| cargo::build_program(Path::new("."), PACKAGE, PACKAGE, features);
    build(&PEERS).or_else(|_| {
        output.progress("not all peers could be built: trying each");
        let there: Vec<&str> = PEERS
            .into_iter()
            .filter(|peer| build(&[peer]).is_ok())
            .collect();
        build(&there)
    })
}

fn shown(rows: &[Value]) -> String {
    let mut table = Table::new(&["work", "neurath>", "peer", "its>", "ratio>"]);
    for row in rows {
        table.row(cells(row));
    }
    table.render()
}

/// A row's cells.
fn cells(row: &Value) -> [String; 5] {
    let text = |field: &str| row[field].as_str().unwrap_or("-").to_owned();
    let number = |whose: &str| {
        let time = row[format!("{whose}_ns")].as_f64().map(time);
        let space = || row[format!("{whose}_bytes")].as_f64().map(space);
        time.or_else(space).unwrap_or_else(|| String::from("-"))
    };
    let ratio = match row["ratio"].as_f64() {
        Some(ratio) => format!("{ratio:.2}"),
        None => text("skipped"),
    };
    [
        text("work"),
        number("ours"),
        text("peer"),
        number("peer"),
        ratio,
    ]
}

/// Nanoseconds in the unit that suits them.
fn time(ns: f64) -> String {
    match ns {
        ..10e3 => format!("{ns:.0} ns"),
        10e3..10e6 => format!("{:.1} µs", ns / 1e3),
        _ => format!("{:.1} ms", ns / 1e6),
    }
}

/// Bytes, of which a part may be meant.
fn space(bytes: f64) -> String {
    if bytes < 1024.0 {
        format!("{bytes:.2} B")
    } else {
        crate::numbers::bytes(bytes as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn rows_are_shown() {
        let rows = [
            json!({ "work": "1 update", "ours_ns": 52.4, "peer": "pmdk", "peer_ns": 410.0,
                "ratio": 7.82 }),
            json!({ "work": "check", "ours_ns": 1.5e8, "peer": "pmdk", "peer_ns": null,
                "ratio": null, "skipped": "needs libpmemobj-dev" }),
            json!({ "work": "space", "ours_ns": null, "peer": null, "peer_ns": null,
                "ratio": null, "ours_bytes": 64.5, "peer_bytes": null }),
        ];
        assert_eq!(
            cells(&rows[0]),
            ["1 update", "52 ns", "pmdk", "410 ns", "7.82"]
        );
        assert_eq!(
            cells(&rows[1]),
            ["check", "150.0 ms", "pmdk", "-", "needs libpmemobj-dev"]
        );
        assert_eq!(cells(&rows[2]), ["space", "64.50 B", "-", "-", "-"]);
    }
}
