//! What the lane found: for people, and as JSON.

use super::lost::Lost;
use super::place::{Medium, Place};
use crate::dax::machine::Answer;
use crate::numbers::count;
use crate::table::Table;
use neurath_verify::FindingKind;
use serde_json::{Value, json};
use std::time::Duration;

/// All of it.
pub struct Report {
    pub kernel: String,
    pub accelerator: &'static str,
    pub kills: u32,
    pub machines: Vec<MachineReport>,
    pub seconds: f64,
}

/// One machine.
pub struct MachineReport {
    /// From where on its NVDIMMs keep what is stored.
    pub domain: &'static str,
    pub boot_seconds: f64,
    pub places: Vec<PlaceReport>,
}

/// What was found after one kill.
#[derive(Debug, Default)]
pub struct Kill {
    pub how: &'static str,
    /// When, since the clients began.
    pub at: Duration,
    /// Whether an upgrade had been asked for.
    pub upgrading: bool,
    pub sound: u64,
    /// Generations that an upgrade had begun to make.
    pub unfinished: u64,
    /// What was found in files that must be sound.
    pub damaged: Vec<String>,
    /// Records that a recovery would carry out.
    pub replayed: u64,
}

impl Kill {
    pub fn text(&self) -> String {
        format!(
            "{}{} after {:.1} s: {} sound, {} unfinished, {} damaged; {} records replayed",
            self.how,
            if self.upgrading { " in an upgrade" } else { "" },
            self.at.as_secs_f64(),
            self.sound,
            self.unfinished,
            self.damaged.len(),
            self.replayed
        )
    }

    fn is_good(&self) -> bool {
        self.damaged.is_empty() && self.sound > 0
    }
}

/// One place of a machine.
pub struct PlaceReport {
    name: &'static str,
    backend: &'static str,
    map_sync: bool,
    passed: u64,
    failed: u64,
    pub kills: Vec<Kill>,
    pub upgraded: bool,
    pub clients: Option<neurath_verify::Report>,
    pub clean_at_last: bool,
    pub medium: Option<Medium>,
    /// What a node said whose durability is not to be had here; or what is wrong with that.
    pub refusal: Option<Result<String, String>>,
    /// What became of a node of durability `process`.
    pub lost: Option<Lost>,
}

impl PlaceReport {
    pub fn new(place: &Place) -> Self {
        Self {
            name: place.name,
            backend: place.backend,
            map_sync: place.map_sync,
            passed: 0,
            failed: 0,
            kills: Vec::new(),
            upgraded: false,
            clients: None,
            clean_at_last: false,
            medium: None,
            refusal: None,
            lost: None,
        }
    }

    /// Counts what a program of tests said.
    pub fn tested(&mut self, answer: &Answer) {
        let (passed, failed) = counted(&answer.text);
        self.passed += passed;
        // A program that ends badly without a word, or tests nothing, has failed as well.
        self.failed += failed.max(u64::from(answer.code != 0 || passed == 0));
    }

    /// What the clients found, but for connections that broke: the machine is killed.
    fn findings(&self) -> Vec<String> {
        let samples = self.clients.iter().flat_map(|clients| &clients.samples);
        samples
            .filter(|finding| finding.kind != FindingKind::Error)
            .map(ToString::to_string)
            .collect()
    }

    /// What is not as it must be.
    fn problems(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut must = |good: bool, text: String| {
            if !good {
                found.push(text);
            }
        };
        must(self.failed == 0, format!("{} tests failed", self.failed));
        for kill in &self.kills {
            must(
                kill.is_good(),
                format!("{}: {}", kill.text(), kill.damaged.join("; ")),
            );
        }
        must(self.upgraded, "the upgrade was not carried out".into());
        match &self.clients {
            Some(clients) => must(
                clients.lost == 0 && clients.wrong == 0 && clients.checked_keys > 0,
                clients.to_string(),
            ),
            None => must(false, "no client was served".into()),
        }
        must(
            self.clean_at_last,
            "not every region was clean after the end".into(),
        );
        let as_expected = self.medium.as_ref().is_some_and(|medium| {
            medium.backend.as_deref() == Some(self.backend) && medium.map_sync == self.map_sync
        });
        must(
            as_expected,
            format!(
                "the medium is not `{}`, with MAP_SYNC {}: {:?}",
                self.backend, self.map_sync, self.medium
            ),
        );
        if let Some(Err(error)) = &self.refusal {
            must(false, error.clone());
        }
        for problem in self.lost.iter().flat_map(|lost| &lost.problems) {
            must(false, problem.clone());
        }
        found
    }

    fn json(&self) -> Value {
        let kills: Vec<Value> = self
            .kills
            .iter()
            .map(|kill| {
                json!({
                    "how": kill.how,
                    "at_seconds": kill.at.as_secs_f64(),
                    "upgrading": kill.upgrading,
                    "sound": kill.sound,
                    "unfinished": kill.unfinished,
                    "damaged": kill.damaged,
                    "replayed": kill.replayed,
                })
            })
            .collect();
        let medium = self.medium.as_ref();
        let clients = self.clients.as_ref();
        json!({
            "name": self.name,
            "backend": medium.and_then(|medium| medium.backend.clone()),
            "map_sync": medium.map(|medium| medium.map_sync),
            "detection": medium.map(|medium| medium.steps.clone()),
            "tests_passed": self.passed,
            "tests_failed": self.failed,
            "kills": kills,
            "upgraded": self.upgraded,
            "acknowledged_writes": clients.map(|clients| clients.acknowledged_writes),
            "lost": clients.map(|clients| clients.lost),
            "wrong": clients.map(|clients| clients.wrong),
            "late": clients.map(|clients| clients.late),
            "worst_request_seconds": clients.map(|clients| clients.worst_request.as_secs_f64()),
            "findings": self.findings(),
            "checked_keys": clients.map(|clients| clients.checked_keys),
            "clean_at_last": self.clean_at_last,
            "refusal": self.refusal.as_ref().and_then(|refusal| refusal.as_ref().ok()),
            "lost_with_the_machine": self.lost.as_ref().map(Lost::json),
            "problems": self.problems(),
        })
    }
}

impl Report {
    fn places(&self) -> impl Iterator<Item = &PlaceReport> {
        self.machines.iter().flat_map(|machine| &machine.places)
    }

    /// How many things are not as they must be.
    pub fn problems(&self) -> usize {
        self.places().map(|place| place.problems().len()).sum()
    }

    pub fn text(&self) -> String {
        let mut table = Table::new(&[
            "domain",
            "place",
            "backend",
            "MAP_SYNC",
            "tests>",
            "kills>",
            "in upgrades>",
            "acknowledged>",
            "lost>",
            "wrong>",
            "late>",
        ]);
        for machine in &self.machines {
            for place in &machine.places {
                let clients = place.clients.clone().unwrap_or_default();
                let medium = place.medium.as_ref();
                let backend = medium.and_then(|medium| medium.backend.clone());
                let granted = medium.is_some_and(|medium| medium.map_sync);
                let upgrading = place.kills.iter().filter(|kill| kill.upgrading);
                table.row([
                    machine.domain.to_owned(),
                    place.name.to_owned(),
                    backend.unwrap_or_default(),
                    String::from(if granted { "granted" } else { "refused" }),
                    count(place.passed),
                    count(place.kills.len() as u64),
                    count(upgrading.count() as u64),
                    count(clients.acknowledged_writes),
                    count(clients.lost),
                    count(clients.wrong),
                    count(clients.late),
                ]);
            }
        }
        let mut text = table.render();
        for place in self.places() {
            if let Some(medium) = &place.medium {
                text.push_str(&format!("\n{}: {}", place.name, medium.steps.join("; ")));
            }
            if let Some(Ok(said)) = &place.refusal {
                text.push_str(&format!(
                    "\n{}: a node from DAX is refused: {said}",
                    place.name
                ));
            }
            if let Some(lost) = &place.lost {
                text.push_str(&format!("\n{}: {}", place.name, lost.text()));
            }
        }
        for place in self.places() {
            for finding in place.findings() {
                text.push_str(&format!("\n{}: {finding}", place.name));
            }
        }
        for place in self.places() {
            for problem in place.problems() {
                text.push_str(&format!("\nPROBLEM at {}: {problem}", place.name));
            }
        }
        text.push_str(&format!(
            "\nLinux {}, {}; {} kills a place, {:.0} s",
            self.kernel, self.accelerator, self.kills, self.seconds
        ));
        text
    }

    pub fn json(&self) -> Value {
        let machines: Vec<Value> = self
            .machines
            .iter()
            .map(|machine| {
                let places: Vec<Value> = machine.places.iter().map(PlaceReport::json).collect();
                json!({
                    "domain": machine.domain,
                    "boot_seconds": machine.boot_seconds,
                    "places": places,
                })
            })
            .collect();
        json!({
            "kind": "dax",
            "kernel": self.kernel,
            "accelerator": self.accelerator,
            "kills": self.kills,
            "machines": machines,
            "problems": self.problems(),
            "seconds": self.seconds,
        })
    }
}

/// How many tests have passed and failed, by the last line of their program.
fn counted(said: &str) -> (u64, u64) {
    let line = said.lines().rfind(|line| line.starts_with("test result:"));
    let words: Vec<&str> = line.unwrap_or_default().split_whitespace().collect();
    let before = |word: &str| {
        let at = words
            .iter()
            .position(|one| one.trim_end_matches(';') == word)?;
        words.get(at.checked_sub(1)?)?.parse().ok()
    };
    (
        before("passed").unwrap_or_default(),
        before("failed").unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> PlaceReport {
        let mut report =
            PlaceReport::new(&Place::of(crate::dax::machine::Persistence::MemoryController)[0]);
        report.tested(&Answer {
            code: 0,
            text: String::from("test result: ok. 7 passed; 0 failed; 0 ignored"),
        });
        report.upgraded = true;
        report.clean_at_last = true;
        report.clients = Some(neurath_verify::Report {
            checked_keys: 3,
            ..neurath_verify::Report::default()
        });
        report.medium = Some(Medium {
            backend: Some(String::from("line")),
            refusal: None,
            steps: Vec::new(),
            map_sync: true,
        });
        report
    }

    #[test]
    fn what_is_not_as_it_must_be_is_a_problem() {
        assert_eq!(good().problems(), Vec::<String>::new());
        let mut silent = good();
        silent.tested(&Answer {
            code: 101,
            text: String::new(),
        });
        let mut lost = good();
        lost.clients.as_mut().expect("clients").lost = 1;
        let mut other = good();
        other.medium.as_mut().expect("a medium").map_sync = false;
        let mut damaged = good();
        damaged.kills.push(Kill {
            how: "killed",
            sound: 1,
            damaged: vec![String::from("a segment")],
            ..Kill::default()
        });
        let mut unsaid = good();
        unsaid.lost = Some(Lost {
            problems: vec![String::from("it served")],
            ..Lost::default()
        });
        let mut granted = good();
        granted.refusal = Some(Err(String::from("it started")));
        for bad in [silent, lost, other, damaged, unsaid, granted] {
            assert_eq!(bad.problems().len(), 1, "{:?}", bad.problems());
        }
    }

    #[test]
    fn tests_are_counted() {
        let said =
            "running 3 tests\ntest result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\n";
        assert_eq!(counted(said), (2, 1));
        assert_eq!(counted("killed"), (0, 0));
    }
}
