//! A server on persistent memory, under a load that checks every answer. The machine is killed and
//! reset, at times in the midst of an upgrade; each time the regions' files are checked before
//! anything opens them. At last the upgrade is carried out and stays.

use super::place::{Medium, Place};
use super::report::{Kill, PlaceReport};
use super::{Lane, SOON};
use crate::dax::machine::{Hardware, Machine};
use anyhow::{Context as _, bail};
use neurath_verify::{Options, Running, Verifier};
use serde_json::Value;
use std::time::{Duration, Instant};

/// How long an upgrade, or the start of a node, may take in an emulated machine.
pub const UPGRADE: Duration = Duration::from_secs(180);
/// Requests between two kills, at least.
pub const BETWEEN: u64 = 2000;

pub struct Story<'a> {
    pub lane: &'a Lane<'a>,
    pub hardware: &'a Hardware<'a>,
    pub place: &'a Place,
}

/// Clients on the host, of the server in the machine.
pub struct Load {
    running: Running,
    begun: Instant,
    patience: Duration,
}

impl Load {
    /// Begins to write and to check, with the keys that belong to this number. Each answer may take
    /// as long as `patience`.
    pub fn start(port: u16, seed: u64, patience: Duration) -> Self {
        let options = Options {
            seed,
            address: format!("127.0.0.1:{port}"),
            connections: 4,
            pipeline: 8,
            keys: 2000,
            value_len: 0..=300,
            timeout: patience,
            ..Options::default()
        };
        Self {
            running: Verifier::new(options).start(),
            begun: Instant::now(),
            patience,
        }
    }

    /// Waits until so many more requests were served.
    pub fn served(&self, more: u64) -> anyhow::Result<()> {
        let live = self.running.live();
        let goal = live.totals().requests + more;
        let until = Instant::now() + UPGRADE + self.patience;
        while live.totals().requests < goal {
            if Instant::now() >= until {
                bail!("the server does not serve: {:?}", live.totals());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Reads back every key, and ends.
    pub fn finish(self) -> neurath_verify::Report {
        self.running.finish()
    }
}

impl<'a> Story<'a> {
    /// Plays it, and gives the machine back.
    pub fn play(
        &self,
        mut machine: Machine<'a>,
        report: &mut PlaceReport,
    ) -> anyhow::Result<Machine<'a>> {
        let say = |text: &str| self.lane.output.progress(text);
        say(&format!("{}: a server, and clients", self.place.name));
        self.mount(&mut machine)?;
        self.start_node(&mut machine)?;
        let load = Load::start(self.hardware.port, 1, self.lane.patience());
        for round in 0..self.lane.options.kills {
            load.served(BETWEEN)?;
            let upgrading = round % 4 >= 2;
            if upgrading {
                self.apply(&mut machine, true)?;
                if round % 4 == 3 {
                    self.wait_for_generation(&mut machine)?;
                }
                // Another place of the upgrade each time.
                std::thread::sleep(Duration::from_millis(u64::from(round) * 130 % 1500));
            }
            let how = if round % 2 == 0 { "killed" } else { "reset" };
            let at = load.begun.elapsed();
            if round % 2 == 0 {
                machine.kill();
                machine = Machine::boot(self.hardware)?;
            } else {
                machine.reset()?;
            }
            self.mount(&mut machine)?;
            let kill = Kill {
                how,
                at,
                ..self.look(&mut machine, upgrading)?
            };
            say(&format!("{}: {}", self.place.name, kill.text()));
            report.kills.push(kill);
            self.start_node(&mut machine)?;
        }
        load.served(BETWEEN)?;
        self.apply(&mut machine, false)?;
        load.served(BETWEEN)?;
        let node = self.place.node();
        machine
            .run(&format!("neurath relup confirm --dir {node}"), UPGRADE)?
            .good("confirming the upgrade")?;
        report.upgraded = true;
        report.clients = Some(load.finish());
        machine
            .run(&format!("neurath node stop --dir {node}"), UPGRADE)?
            .good("stopping the node")?;
        self.look_at_last(&mut machine, report)?;
        Ok(machine)
    }

    fn mount(&self, machine: &mut Machine<'_>) -> anyhow::Result<()> {
        machine
            .run(&self.place.mount(), SOON)?
            .good("mounting with DAX")?;
        Ok(())
    }

    /// Waits until an upgrade has begun to make a new generation of a region: there is one more
    /// file than there are components.
    fn wait_for_generation(&self, machine: &mut Machine<'_>) -> anyhow::Result<()> {
        let wait = format!(
            "while [ $(ls {}/regions | wc -l) -lt 3 ]; do usleep 2000; done",
            self.place.node()
        );
        machine
            .run(&wait, UPGRADE)?
            .good("waiting for a new generation")?;
        Ok(())
    }

    fn start_node(&self, machine: &mut Machine<'_>) -> anyhow::Result<()> {
        let node = self.place.node();
        let start = format!(
            "neurath node start --dir {node} --from /releases --release kv-1.0.0 >/tmp/start 2>&1 \
             || {{ cat /tmp/start; tail -n 20 {node}/node.log; false; }}"
        );
        machine.run(&start, UPGRADE)?.good("starting the node")?;
        Ok(())
    }

    fn apply(&self, machine: &mut Machine<'_>, behind: bool) -> anyhow::Result<()> {
        let node = self.place.node();
        let apply = format!("neurath relup apply kv-1.1.0 --dir {node} --from /releases --execute");
        let apply = match behind {
            true => format!("{apply} >/tmp/apply 2>&1 &"),
            false => apply,
        };
        machine.run(&apply, UPGRADE)?.good("the upgrade")?;
        Ok(())
    }

    /// Checks every region's file at all levels, before anything opens it.
    fn look(&self, machine: &mut Machine<'_>, upgrading: bool) -> anyhow::Result<Kill> {
        let mut kill = Kill {
            upgrading,
            ..Kill::default()
        };
        for check in self.checks(machine)? {
            let report = &check["report"];
            kill.replayed += report["replayed"].as_u64().unwrap_or_default();
            if report["sound"] == true {
                kill.sound += 1;
            } else if upgrading && is_unfinished(report) {
                kill.unfinished += 1;
            } else {
                kill.damaged.push(report["findings"].to_string());
            }
        }
        Ok(kill)
    }

    /// What `state check` says of each file.
    fn checks(&self, machine: &mut Machine<'_>) -> anyhow::Result<Vec<Value>> {
        let command = format!(
            "for file in {}/regions/*; do neurath state check $file --level 3 --json 2>/dev/null; \
             done; true",
            self.place.node()
        );
        let said = machine.run(&command, UPGRADE)?.good("state check")?;
        let lines = said.lines().map(serde_json::from_str::<Value>);
        let checks: Vec<Value> = lines
            .collect::<Result<_, _>>()
            .with_context(|| format!("what `state check` says: {said}"))?;
        Ok(checks
            .into_iter()
            .filter(|check| check["kind"] == "state-check")
            .collect())
    }

    /// After the orderly end: all that is there is clean, and is kept as it must be.
    fn look_at_last(
        &self,
        machine: &mut Machine<'_>,
        report: &mut PlaceReport,
    ) -> anyhow::Result<()> {
        let checks = self.checks(machine)?;
        report.clean_at_last =
            !checks.is_empty() && checks.iter().all(|check| check["report"]["clean"] == true);
        let store = checks
            .iter()
            .filter_map(|check| check["file"].as_str())
            .find(|file| file.contains("/store."));
        let store = store.context("the store has no region")?;
        report.medium = Some(Medium::of(machine, store)?);
        Ok(())
    }
}

/// Whether this is what an upgrade that was cut off leaves: a generation that was never used.
fn is_unfinished(report: &Value) -> bool {
    const LEFT: [&str; 5] = [
        "unfinished",
        "header-damaged",
        "file-short",
        "superblock-damaged",
        "schema-damaged",
    ];
    let findings = report["findings"].as_array();
    findings.into_iter().flatten().any(|finding| {
        let code = finding["code"].as_str().unwrap_or_default();
        finding["level"] == "L0" && LEFT.contains(&code)
    })
}

#[cfg(test)]
mod tests {
    use super::is_unfinished;
    use serde_json::json;

    #[test]
    fn damage_is_not_taken_for_what_an_upgrade_leaves() {
        let found = |level, code| json!({ "findings": [{ "level": level, "code": code }] });
        assert!(is_unfinished(&found("L0", "unfinished")));
        assert!(!is_unfinished(&found("L1", "bitmap")));
        assert!(!is_unfinished(&found("L3", "segment-sum")));
        assert!(!is_unfinished(&json!({ "findings": [] })));
    }
}
