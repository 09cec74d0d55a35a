//! A node's figures in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use crate::memory;
use crate::protocol::Status;
use crate::shard::figures::Figures;

/// The figures of a status.
pub(super) fn text(status: &Status, figures: &Figures) -> String {
    let mut out = String::new();
    let mut metric = |name: &str, kind: &str, help: &str, lines: &[(String, u64)]| {
        let _ = writeln!(
            out,
            "# HELP neurath_{name} {help}\n# TYPE neurath_{name} {kind}"
        );
        for (labels, value) in lines {
            let _ = writeln!(out, "neurath_{name}{labels} {value}");
        }
    };
    let one = |value: u64| vec![(String::new(), value)];
    let version = |release: &Option<crate::catalog::ReleaseId>| {
        let release = release.as_ref();
        let labels = release.map(|one| labels(&[("name", &one.name), ("version", &one.version)]));
        labels
            .map(|labels| (labels, 1))
            .into_iter()
            .collect::<Vec<_>>()
    };
    metric(
        "release_info",
        "gauge",
        "The current release.",
        &version(&status.release),
    );
    metric(
        "permanent_release_info",
        "gauge",
        "The permanent release.",
        &version(&status.permanent),
    );
    metric(
        "unconfirmed",
        "gauge",
        "Whether the current release waits for its confirmation.",
        &one(u64::from(status.unconfirmed)),
    );
    metric(
        "operation_in_flight",
        "gauge",
        "Whether an operation is under way.",
        &one(u64::from(status.in_flight.is_some())),
    );
    metric(
        "connections",
        "gauge",
        "Open connections of clients.",
        &one(figures.connections.load(Ordering::Relaxed)),
    );
    metric(
        "connections_total",
        "counter",
        "Connections of clients since the node's start.",
        &one(figures.connections_total.load(Ordering::Relaxed)),
    );
    metric(
        "messages_total",
        "counter",
        "Messages that were served since the node's start.",
        &one(figures.messages.load(Ordering::Relaxed)),
    );
    let ended: Vec<(String, u64)> = figures
        .ended()
        .into_iter()
        .map(|((operation, verdict), count)| {
            let verdict = serde_json::to_value(verdict).unwrap_or_default();
            let verdict = verdict.as_str().unwrap_or_default();
            let labels = labels(&[("operation", &operation), ("verdict", verdict)]);
            (labels, count)
        })
        .collect();
    metric(
        "operations_total",
        "counter",
        "Operations that have ended in this process.",
        &ended,
    );
    metric(
        "last_stop_microseconds",
        "gauge",
        "How long messages waited for the last upgrade or way back; 0 before the first.",
        &one(figures.last_stop_us.load(Ordering::Relaxed)),
    );
    metric(
        "journal_takes_upgrades",
        "gauge",
        "Whether the journal has room for another upgrade.",
        &one(u64::from(status.journal.is_none())),
    );
    metric(
        "resident_bytes",
        "gauge",
        "Memory that the process holds.",
        &one(memory::resident(status.pid).unwrap_or_default()),
    );
    metric(
        "uptime_milliseconds",
        "gauge",
        "How long the node has run.",
        &one(status.uptime_ms),
    );
    metric(
        "retained_libraries",
        "gauge",
        "Libraries that could not be unloaded.",
        &one(status.retained.len() as u64),
    );
    metric(
        "snapshots",
        "gauge",
        "Snapshots that are kept of states which upgrades have thrown away.",
        &one(status.snapshots.len() as u64),
    );
    metric(
        "snapshot_bytes",
        "gauge",
        "Bytes of their files.",
        &one(status.snapshots.iter().map(|one| one.bytes).sum()),
    );
    let regions: Vec<(String, u64)> = status
        .components
        .iter()
        .map(|one| {
            let instance = one.instance.to_string();
            let labels = labels(&[
                ("component", &one.component),
                ("instance", &instance),
                ("version", &one.version),
            ]);
            (labels, one.region_bytes)
        })
        .collect();
    metric("region_bytes", "gauge", "The size of a region.", &regions);
    let of_each = |value: fn(&crate::protocol::ComponentStatus) -> u64| {
        let each = status.components.iter().map(|one| {
            let instance = one.instance.to_string();
            let labels = labels(&[("component", &one.component), ("instance", &instance)]);
            (labels, value(one))
        });
        each.collect::<Vec<_>>()
    };
    metric(
        "component_restarts_total",
        "counter",
        "How often an instance was started again after a failure, since the node's program has started.",
        &of_each(|one| one.restarts),
    );
    metric(
        "component_running",
        "gauge",
        "Whether an instance runs: 0 if it has failed and was not started again.",
        &of_each(|one| u64::from(one.state != crate::protocol::ComponentStatus::ENDED)),
    );
    metric(
        "component_failures_total",
        "counter",
        "How often components have failed since the node's program has started.",
        &one(figures.failures.load(Ordering::Relaxed)),
    );
    out
}

/// Labels, escaped.
fn labels(pairs: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .map(|(name, value)| {
            let value = value
                .replace('\\', "\\\\")
                .replace('"', "\\\"")
                .replace('\n', "\\n");
            format!("{name}=\"{value}\"")
        })
        .collect();
    format!("{{{}}}", pairs.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every line is a comment or `NAME{LABELS} NUMBER`, and each figure says what it is.
    #[test]
    fn the_text_is_in_the_format_of_prometheus() {
        let figures = Figures::new();
        figures.count_end("apply-7", crate::journal::Verdict::OperatorNeeded);
        figures.count_end("set-unpacked-9", crate::journal::Verdict::Done);
        figures.count_end("set-unpacked-12", crate::journal::Verdict::Done);
        let status = Status {
            release: Some(crate::catalog::ReleaseId::new("kv", "1.0.0")),
            journal: Some("no room".into()),
            pid: std::process::id(),
            ..Status::default()
        };
        let text = text(&status, &figures);
        let mut known = std::collections::BTreeSet::new();
        for line in text.lines() {
            if let Some(about) = line.strip_prefix("# TYPE ") {
                let (name, kind) = about.split_once(' ').unwrap();
                assert!(["gauge", "counter"].contains(&kind), "{line}");
                assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
                assert!(known.insert(name.to_owned()), "{name} twice");
            } else if !line.starts_with("# HELP ") {
                let (name, value) = line.rsplit_once(' ').unwrap();
                assert!(value.parse::<u64>().is_ok(), "{line}");
                let name = name.split('{').next().unwrap_or_default();
                assert!(known.contains(name), "{line}");
            }
        }
        for line in [
            "neurath_release_info{name=\"kv\",version=\"1.0.0\"} 1",
            "neurath_operations_total{operation=\"apply\",verdict=\"operator_needed\"} 1",
            "neurath_operations_total{operation=\"set-unpacked\",verdict=\"done\"} 2",
            "neurath_journal_takes_upgrades 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
    }

    #[test]
    fn labels_are_escaped() {
        let odd = labels(&[("a", "x\"y\\z\n"), ("b", "")]);
        assert_eq!(odd, "{a=\"x\\\"y\\\\z\\n\",b=\"\"}");
    }
}
