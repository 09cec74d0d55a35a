//! What was measured, for programs, for people and for the documentation.

use serde_json::{Value, json};

use crate::numbers::{bytes, count, median, micros};
use crate::table::Table;

/// What one upgrade took.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Measured {
    /// How long messages waited, in microseconds.
    pub(super) stop: f64,
    /// The longest that a request took around it, in microseconds.
    pub(super) worst: f64,
    /// The same without an upgrade, for as long after it, in microseconds.
    pub(super) worst_without: f64,
    /// 999 of 1000 took at most this.
    pub(super) p999: f64,
    /// What the process held at most, in bytes.
    pub(super) peak: f64,
    /// What it held before, in bytes.
    pub(super) held: f64,
    /// Requests a second from its beginning until all is converted.
    pub(super) during: f64,
    /// Requests a second afterwards.
    pub(super) after: f64,
    /// How long it took until all is converted, in microseconds.
    pub(super) took: f64,
}

impl Measured {
    /// The median of each figure.
    pub(super) fn median(all: &[Measured]) -> Measured {
        let of = |figure: fn(&Measured) -> f64| {
            let figures: Vec<f64> = all.iter().map(figure).collect();
            median(&figures)
        };
        Measured {
            stop: of(|one| one.stop),
            worst: of(|one| one.worst),
            worst_without: of(|one| one.worst_without),
            p999: of(|one| one.p999),
            peak: of(|one| one.peak),
            held: of(|one| one.held),
            during: of(|one| one.during),
            after: of(|one| one.after),
            took: of(|one| one.took),
        }
    }
}

/// What another program takes for the same.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peer {
    pub(super) name: &'static str,
    /// How long nobody is served, in microseconds.
    pub(super) stop: f64,
    /// What it held at most, in bytes.
    pub(super) peak: Option<f64>,
}

/// One number of entries, upgraded in one way.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Row {
    pub(super) entries: u64,
    pub(super) strategy: &'static str,
    pub(super) measured: Measured,
    pub(super) peers: Vec<Peer>,
}

impl Row {
    /// Each peer with it; once without, if there is none.
    fn pairs(&self) -> impl Iterator<Item = (&Row, Option<&Peer>)> {
        let peers = self.peers.iter().map(move |peer| (self, Some(peer)));
        peers.chain(self.peers.is_empty().then_some((self, None)))
    }
}

/// An object for each row and peer, in whole microseconds and bytes.
pub(super) fn json(rows: &[Row]) -> Value {
    let one = |(row, peer): (&Row, Option<&Peer>)| {
        json!({
            "entries": row.entries,
            "strategy": row.strategy,
            "stop_us": row.measured.stop.round() as u64,
            "worst_request_us": row.measured.worst.round() as u64,
            "p999_us": row.measured.p999.round() as u64,
            "peak_bytes": row.measured.peak.round() as u64,
            "peer": peer.map(|peer| peer.name),
            "peer_stop_us": peer.map(|peer| peer.stop.round() as u64),
        })
    };
    rows.iter().flat_map(Row::pairs).map(one).collect()
}

/// The columns of a line: those of the JSON, and more.
const CSV: [&str; 14] = [
    "entries",
    "strategy",
    "stop_us",
    "worst_request_us",
    "p999_us",
    "peak_bytes",
    "peer",
    "peer_stop_us",
    "peer_peak_bytes",
    "held_before_bytes",
    "requests_per_s_during",
    "requests_per_s_after",
    "until_converted_us",
    "worst_without_us",
];

/// A line for each row and peer.
pub(super) fn csv(rows: &[Row]) -> String {
    let whole = |figure: f64| format!("{figure:.0}");
    let mut text = format!("{}\n", CSV.join(","));
    for (row, peer) in rows.iter().flat_map(Row::pairs) {
        let one = &row.measured;
        let cells: [String; CSV.len()] = [
            row.entries.to_string(),
            row.strategy.to_owned(),
            whole(one.stop),
            whole(one.worst),
            whole(one.p999),
            whole(one.peak),
            peer.map_or_else(String::new, |peer| format!("\"{}\"", peer.name)),
            peer.map_or_else(String::new, |peer| whole(peer.stop)),
            peer.and_then(|peer| peer.peak)
                .map_or_else(String::new, whole),
            whole(one.held),
            whole(one.during),
            whole(one.after),
            whole(one.took),
            whole(one.worst_without),
        ];
        text.push_str(&cells.join(","));
        text.push('\n');
    }
    text
}

const COLUMNS: [&str; 12] = [
    "entries>",
    "strategy",
    "stop>",
    "worst request>",
    "without>",
    "p99.9>",
    "peak>",
    "more than before>",
    "requests/s>",
    "after>",
    "gen_server>",
    "Redis>",
];

fn cells(row: &Row) -> [String; COLUMNS.len()] {
    let one = &row.measured;
    let time = |figure: f64| micros(figure.round() as u64);
    let peer = |name: &str| {
        let found = row.peers.iter().find(|peer| peer.name.starts_with(name));
        found.map_or_else(|| "-".to_owned(), |peer| time(peer.stop))
    };
    [
        count(row.entries),
        row.strategy.to_owned(),
        time(one.stop),
        time(one.worst),
        time(one.worst_without),
        time(one.p999),
        bytes(one.peak.round() as u64),
        format!("{:+.0} %", (one.peak / one.held.max(1.0) - 1.0) * 100.0),
        count(one.during.round() as u64),
        count(one.after.round() as u64),
        peer("erlang"),
        peer("redis"),
    ]
}

/// For people.
pub(super) fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&COLUMNS);
    for row in rows {
        table.row(cells(row));
    }
    table.render()
}

/// The page of the documentation.
pub(super) fn page(rows: &[Row], runs: u32, rate: u64, note: &str) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let names = COLUMNS.map(|name| name.trim_end_matches('>').to_owned());
    let rule = COLUMNS.map(|_| "---".to_owned());
    let body: String = rows.iter().map(|row| line(&cells(row))).collect();
    format!(
        "# Upgrades: figures\n\n\
         Written by `cargo xtask bench upgrade --docs docs/benchmarks`; [upgrade.md](upgrade.md) says what is \
         measured. Medians of {runs}, under {} requests a second. The machine: {note}.\n\n\
         {}{}{body}\n\
         ![how long nobody is served, by the number of entries](upgrade.svg)\n\n\
         All figures are in [upgrade.csv](upgrade.csv).\n",
        count(rate),
        line(&names),
        line(&rule),
    )
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn rows() -> Vec<Row> {
        let row = |entries: u64, strategy, stop: f64| Row {
            entries,
            strategy,
            measured: Measured {
                stop,
                worst: stop + 10.0,
                worst_without: 200.0,
                p999: 90.0,
                peak: 2_100.0,
                held: 2_000.0,
                during: 3_999.6,
                after: 4_000.0,
                took: 600_000.0,
            },
            peers: vec![
                Peer {
                    name: "erlang gen_server",
                    stop: 800_000.0,
                    peak: Some(5e9),
                },
                Peer {
                    name: "redis save, restart, load",
                    stop: 2e6,
                    peak: None,
                },
            ],
        };
        vec![
            row(10_000, "eager", 2_000.0),
            row(1_000_000, "eager", 14_000.0),
        ]
    }

    #[test]
    fn json_has_these_keys_and_an_object_for_each_peer() {
        let value = json(&rows());
        let all = value.as_array().expect("a list");
        assert_eq!(all.len(), 4);
        let object = all[1].as_object().expect("an object");
        let mut keys: Vec<&str> = object.keys().map(|key| &**key).collect();
        keys.sort_unstable();
        let mut wanted = CSV[..8].to_vec();
        wanted.sort_unstable();
        assert_eq!(keys, wanted);
        assert_eq!(all[1]["peer_stop_us"], 2_000_000);
        assert!(all[1]["peak_bytes"].is_u64() && all[1]["stop_us"].is_u64());
        let alone = Row {
            peers: Vec::new(),
            ..rows().remove(0)
        };
        assert_eq!(json(&[alone])[0]["peer"], Value::Null);
    }

    #[test]
    fn csv_and_page_have_a_line_for_each() {
        let text = csv(&rows());
        assert_eq!(text.lines().count(), 5);
        for line in text.lines() {
            // Within quotes a comma ends no cell.
            let outside = line.split('"').step_by(2);
            let commas: usize = outside.map(|part| part.matches(',').count()).sum();
            assert_eq!(commas + 1, CSV.len(), "{line}");
        }
        let page = page(&rows(), 3, 4_000, "two cores");
        let begin = format!("| {} | eager | {} |", count(1_000_000), micros(14_000));
        assert!(page.contains(&begin), "{page}");
        assert!(page.contains("+5 %"), "{page}");
    }
}
