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
    if let Some(folder) = &options.docs {
        let note = options.note.as_deref();
        let page = page(
            &rows,
            options.runs,
            note.unwrap_or("nothing was said of it"),
        );
        let path = folder.join("regions-figures.md");
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&path, page))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    output.json(&Value::Array(rows));
    Ok(())
}

/// The page of the documentation.
fn page(rows: &[Value], runs: u32, note: &str) -> String {
    format!(
        "# Regions: figures\n\n\
         Written by `cargo xtask bench regions --docs docs/benchmarks`; [regions.md](regions.md) says what is \
         measured. Medians of {runs}; of what takes long, of fewer. The machine: {note}.\n\n\
         {}\n\
         ## Against the aims\n\n\
         An aim is a figure of Neurath's own, a ratio to a peer, or both.\n\n\
         {}",
        markdown(&COLUMNS, rows.iter().map(|row| cells(row).to_vec())),
        markdown(
            &["work", "neurath>", "aim>", "peer", "ratio>", "aim>", "met"],
            AIMS.iter().map(|aim| aim.cells(rows)),
        ),
    )
}

/// A table; columns whose names end in `>` are of numbers.
fn markdown(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names: Vec<String> = columns
        .iter()
        .map(|name| name.trim_end_matches('>').to_owned())
        .collect();
    let rule = vec!["---".to_owned(); columns.len()];
    let body: String = rows.map(|row| line(&row)).collect();
    format!("{}{}{body}", line(&names), line(&rule))
}

/// What is aimed at: no more than so many nanoseconds or bytes, and at least such a ratio to a peer.
struct Aim {
    work: &'static str,
    most: f64,
    peer: Option<(&'static str, f64)>,
}

impl Aim {
    /// What came of it: a row of the table, in which a work that was not measured has no figures.
    fn cells(&self, rows: &[Value]) -> Vec<String> {
        let none = || String::from("-");
        let of_work = |row: &&Value| row["work"] == self.work;
        let found = rows.iter().find(of_work);
        let in_ns = found.and_then(|row| row["ours_ns"].as_f64());
        let ours = in_ns.or_else(|| found.and_then(|row| row["ours_bytes"].as_f64()));
        let shown = if in_ns.is_some() { time } else { space };
        let ratio = self.peer.map(|(peer, least)| {
            let row = rows.iter().filter(of_work).find(|row| row["peer"] == peer);
            (least, row.and_then(|row| row["ratio"].as_f64()))
        });
        let within = ours.map(|ours| ours <= self.most);
        let better = ratio.map_or(Some(true), |(least, ratio)| Some(ratio? >= least));
        vec![
            self.work.to_owned(),
            ours.map_or_else(none, shown),
            shown(self.most),
            self.peer.map_or_else(none, |(peer, _)| peer.to_owned()),
            ratio
                .and_then(|(_, ratio)| ratio)
                .map_or_else(none, |ratio| format!("{ratio:.2}")),
            ratio.map_or_else(none, |(least, _)| format!("{least:.1}")),
            match (within, better) {
                (Some(true), Some(true)) => "yes".into(),
                (Some(false), _) | (_, Some(false)) => "no".into(),
                _ => none(),
            },
        ]
    }
}

const fn aim(work: &'static str, most: f64, peer: Option<(&'static str, f64)>) -> Aim {
    Aim { work, most, peer }
}

/// The peer's name in the rows of updates.
const PMDK: &str = "pmdk";

const AIMS: [Aim; 12] = [
    aim("1 hot update, process", 120.0, Some((PMDK, 4.0))),
    aim(
        "1 hot update, power by cache lines (line)",
        250.0,
        Some((PMDK, 3.5)),
    ),
    aim(
        "4 hot updates, power by cache lines (line)",
        350.0,
        Some((PMDK, 5.0)),
    ),
    aim(
        "16 hot updates, power by cache lines (line)",
        800.0,
        Some((PMDK, 8.0)),
    ),
    aim(
        "alloc, free and swing 64 B, process",
        300.0,
        Some(("pmdk, published", 3.5)),
    ),
    aim(
        "alloc, free and swing 64 B, power by cache lines (line)",
        500.0,
        Some(("pmdk, published", 3.5)),
    ),
    aim("space of an object of 64 B", 66.0, None),
    aim("smallest file", 262_144.0, None),
    aim("open 1 GiB after a kill, to the first commit", 1e6, None),
    aim("check 1 GiB, all levels", 120e6, None),
    aim("longest commit while 1024 MiB are copied", 1e6, None),
    aim(
        "convert 10000000 objects of 64 to 96 B, target ready",
        150e6,
        Some(("copy loop in memory", 0.4)),
    ),
];

const COLUMNS: [&str; 5] = ["work", "neurath>", "peer", "its>", "ratio>"];

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
    let mut table = Table::new(&COLUMNS);
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
        let page = page(&rows, 7, "idle");
        assert!(page.contains("Medians of 7; ") && page.contains("The machine: idle."));
        assert!(page.contains(
            "| work | neurath | peer | its | ratio |\n| --- | --- | --- | --- | --- |\n\
             | 1 update | 52 ns | pmdk | 410 ns | 7.82 |\n\
             | check | 150.0 ms | pmdk | - | needs libpmemobj-dev |\n\
             | space | 64.50 B | - | - | - |\n\n"
        ));
    }

    #[test]
    fn an_aim_is_met_by_the_figure_and_the_ratio() {
        let row = |ours: f64, ratio: Value| {
            [
                json!({ "work": "w", "ours_ns": ours, "peer": "other", "ratio": 100.0 }),
                json!({ "work": "w", "ours_ns": ours, "peer": "pmdk", "ratio": ratio }),
            ]
        };
        let both = aim("w", 100.0, Some(("pmdk", 2.0)));
        let met = |ours, ratio| both.cells(&row(ours, ratio))[6].clone();
        assert_eq!(met(100.0, json!(2.0)), "yes");
        assert_eq!(met(101.0, json!(2.0)), "no");
        assert_eq!(met(100.0, json!(1.9)), "no");
        assert_eq!(met(100.0, Value::Null), "-");
        assert_eq!(
            both.cells(&row(99.0, json!(3.0))),
            ["w", "99 ns", "100 ns", "pmdk", "3.00", "2.0", "yes"]
        );
        let bytes = [json!({ "work": "b", "ours_bytes": 64.5, "ours_ns": null, "peer": null })];
        assert_eq!(
            aim("b", 66.0, None).cells(&bytes),
            ["b", "64.50 B", "66.00 B", "-", "-", "-", "yes"]
        );
        assert_eq!(aim("x", 1.0, None).cells(&bytes)[6], "-");
    }
}
