//! A node's figures in the text format of Prometheus.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

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

    #[test]
    fn labels_are_escaped() {
        let odd = labels(&[("a", "x\"y\\z\n"), ("b", "")]);
        assert_eq!(odd, "{a=\"x\\\"y\\\\z\\n\",b=\"\"}");
    }
}
