//! What the demo tells at its end.

use crate::control::Confirmed;
use crate::numbers::{as_micros, bytes, count, micros};
use crate::table::Table;
use neurath_node::protocol::{Retained, Upgraded};
use neurath_verify::{Report, Window};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// One upgrade, or the way back.
pub struct Change {
    /// What it is in the story.
    pub title: &'static str,
    /// What the node says of it.
    pub upgraded: Upgraded,
    /// What clients saw before.
    pub normal: Window,
    /// What clients saw meanwhile.
    pub during: Window,
}

/// All that happened.
pub struct Story {
    pub keys: u64,
    pub requests: u64,
    pub lost: u64,
    pub wrong: u64,
    pub errors: u64,
    pub changes: Vec<Change>,
    pub findings: Vec<String>,
    pub serving: Option<Report>,
    pub confirmed: Option<Confirmed>,
    pub benchmark: bool,
    pub memory: u64,
}

impl Story {
    pub fn new(keys: u64) -> Self {
        Self {
            keys,
            requests: 0,
            lost: 0,
            wrong: 0,
            errors: 0,
            changes: Vec::new(),
            findings: Vec::new(),
            serving: None,
            confirmed: None,
            benchmark: false,
            memory: 0,
        }
    }

    /// Adds what a client counted.
    pub fn add(&mut self, report: &Report) {
        super::sum(self, report);
    }

    /// Adds what the verifying client counted while the node was upgraded.
    pub fn serving(&mut self, report: &Report) {
        self.add(report);
        self.serving = Some(report.clone());
    }

    pub fn wrong(&mut self, text: String) {
        self.wrong += 1;
        self.findings.push(format!("wrong: {text}"));
    }

    pub fn error(&mut self, text: String) {
        self.errors += 1;
        self.findings.push(format!("error: {text}"));
    }

    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.wrong == 0 && self.errors == 0
    }

    fn unloaded(&self) -> Vec<&str> {
        let changes = self.changes.iter().flat_map(|one| &one.upgraded.unloaded);
        let confirmed = self.confirmed.iter().flat_map(|one| &one.unloaded);
        changes.chain(confirmed).map(String::as_str).collect()
    }

    /// Each library that stays once, whatever was reported of it when.
    fn retained(&self) -> Vec<&Retained> {
        let changes = self.changes.iter().flat_map(|one| &one.upgraded.retained);
        let all = changes.chain(self.confirmed.iter().flat_map(|one| &one.retained));
        let by_library: BTreeMap<&str, &Retained> =
            all.map(|one| (one.library.as_str(), one)).collect();
        by_library.into_values().collect()
    }

    pub fn text(&self) -> String {
        let mut out = String::new();
        for change in &self.changes {
            out.push_str(&change.text());
        }
        let mut table = Table::new(&["", ">"]);
        table.row(["keys".to_owned(), count(self.keys)]);
        table.row(["requests served".to_owned(), count(self.requests)]);
        if let Some(report) = &self.serving {
            table.row([
                "writes acknowledged".to_owned(),
                count(report.acknowledged_writes),
            ]);
            table.row([
                "worst request of all".to_owned(),
                micros(as_micros(report.worst_request)),
            ]);
            table.row(["99.9 % within".to_owned(), micros(as_micros(report.p999))]);
        }
        table.row(["lost".to_owned(), count(self.lost)]);
        table.row(["wrong".to_owned(), count(self.wrong)]);
        table.row(["errors".to_owned(), count(self.errors)]);
        table.row([
            "old libraries unloaded".to_owned(),
            count(self.unloaded().len() as u64),
        ]);
        table.row(["memory of the node".to_owned(), bytes(self.memory)]);
        out.push_str(&format!("all in all\n\n{}", table.render()));
        let benchmark = if self.benchmark {
            "redis-benchmark ran all the while; its requests are not in these numbers"
        } else {
            "redis-benchmark is not installed, and was left out"
        };
        out.push_str(&format!("\n  {benchmark}\n"));
        for kept in self.retained() {
            out.push_str(&format!("  still in use: {kept}\n"));
        }
        for finding in &self.findings {
            out.push_str(&format!("  {finding}\n"));
        }
        out
    }

    pub fn json(&self) -> Value {
        json!({
            "kind": "demo",
            "keys": self.keys,
            "requests": self.requests,
            "lost": self.lost,
            "wrong": self.wrong,
            "errors": self.errors,
            "upgrades": self.changes.iter().map(Change::json).collect::<Vec<_>>(),
            "unloaded": self.unloaded().len(),
            "unloaded_libraries": self.unloaded(),
            "retained": self.retained(),
            "worst_request_us": self.serving.as_ref().map(|report| as_micros(report.worst_request)),
            "p999_us": self.serving.as_ref().map(|report| as_micros(report.p999)),
            "memory_bytes": self.memory,
            "redis_benchmark": self.benchmark,
            "findings": self.findings,
        })
    }
}

impl Change {
    fn text(&self) -> String {
        let one = &self.upgraded;
        let mut table = Table::new(&["", ">"]);
        for step in &one.steps {
            table.row([step.name.clone(), micros(step.micros)]);
        }
        let mut times = Table::new(&["", ">"]);
        times.row([
            "messages waited (as the node measured it)".to_owned(),
            micros(one.stop_us),
        ]);
        times.row(["all of it".to_owned(), micros(one.total_us)]);
        times.row([
            "worst request meanwhile".to_owned(),
            micros(as_micros(self.during.worst)),
        ]);
        times.row([
            "99.9 % of the requests meanwhile within".to_owned(),
            micros(as_micros(self.during.p999)),
        ]);
        times.row([
            "worst request before".to_owned(),
            micros(as_micros(self.normal.worst)),
        ]);
        times.row([
            "99.9 % of the requests before within".to_owned(),
            micros(as_micros(self.normal.p999)),
        ]);
        times.row([
            "requests served meanwhile".to_owned(),
            count(self.during.requests),
        ]);
        let mut out = format!(
            "{}: {} -> {}\n\n{}\n{}",
            self.title,
            one.from,
            one.to,
            table.render(),
            times.render()
        );
        if !one.unloaded.is_empty() {
            out.push_str(&format!("\n  unloaded: {}\n", one.unloaded.join(", ")));
        }
        out.push('\n');
        out
    }

    fn json(&self) -> Value {
        let one = &self.upgraded;
        let steps: Vec<Value> = one
            .steps
            .iter()
            .map(|step| json!({ "name": step.name, "us": step.micros }))
            .collect();
        json!({
            "from": one.from.to_string(),
            "to": one.to.to_string(),
            "stop_us": one.stop_us,
            "total_us": one.total_us,
            "worst_request_us": as_micros(self.during.worst),
            "p999_us": as_micros(self.during.p999),
            "requests": self.during.requests,
            "steps": steps,
            "unloaded": one.unloaded,
            "retained": one.retained,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neurath_node::catalog::ReleaseId;
    use neurath_node::protocol::StepTime;

    fn story() -> Story {
        let mut story = Story::new(1000);
        story.changes.push(Change {
            title: "upgrade",
            upgraded: Upgraded {
                from: ReleaseId::new("kv", "1.0.0"),
                to: ReleaseId::new("kv", "1.1.0"),
                stop_us: 850,
                total_us: 4_200,
                steps: vec![StepTime {
                    name: "suspend gateway, store".into(),
                    micros: 12,
                }],
                unloaded: vec!["store-1.0.0".into()],
                retained: Vec::new(),
                thrown_away: Vec::new(),
            },
            normal: Window::default(),
            during: Window::default(),
        });
        story
    }

    #[test]
    fn the_contract_of_the_json() {
        let value = story().json();
        for key in [
            "keys", "requests", "lost", "wrong", "errors", "upgrades", "unloaded",
        ] {
            assert!(value.get(key).is_some(), "{key}");
        }
        let upgrade = &value["upgrades"][0];
        assert_eq!(upgrade["from"], "kv-1.0.0");
        assert_eq!(upgrade["stop_us"], 850);
        assert_eq!(upgrade["steps"][0]["us"], 12);
        assert_eq!(value["unloaded"], 1, "how many libraries are gone");
        assert_eq!(value["unloaded_libraries"][0], "store-1.0.0");
        for key in ["to", "total_us", "worst_request_us"] {
            assert!(upgrade.get(key).is_some(), "{key}");
        }
    }

    #[test]
    fn what_was_found_is_told() {
        let mut story = story();
        assert!(story.is_clean());
        story.wrong("TTL x answered 7".into());
        assert!(!story.is_clean());
        let text = story.text();
        assert!(text.contains("wrong: TTL x answered 7"), "{text}");
        assert!(text.contains("850 µs"), "{text}");
    }
}
