//! A node whose durability is `process`, on a file system with a page cache, when the machine goes down: the node
//! must say what was lost and how to go on, and go on that way.

use super::place::Place;
use super::story::{BETWEEN, Load, UPGRADE};
use super::{Lane, SOON};
use crate::dax::machine::{Hardware, Machine};
use anyhow::Context as _;
use serde_json::{Value, json};

/// The components of the release, and the flags for all of them.
const COMPONENTS: [&str; 2] = ["gateway", "store"];

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Lost {
    /// What the node said when it did not start.
    pub refusal: String,
    /// Components whose state was served after a check.
    pub accepted: Vec<&'static str>,
    /// Components that began anew, as their state was damaged.
    pub reset: Vec<&'static str>,
    /// Requests answered after that.
    pub served: u64,
    /// What is not as it must be.
    pub problems: Vec<String>,
}

impl Lost {
    pub fn text(&self) -> String {
        let names = |names: &[&str]| match names {
            [] => String::from("none"),
            names => names.join(", "),
        };
        format!(
            "a node of durability `process` did not start by itself; its states served after a check: {}, begun anew: {}",
            names(&self.accepted),
            names(&self.reset)
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "refusal": self.refusal,
            "accepted": self.accepted,
            "reset": self.reset,
            "served": self.served,
            "problems": self.problems,
        })
    }

    /// Takes in what a node said that must not start.
    fn refused(&mut self, code: i32, said: &str) {
        said.trim().clone_into(&mut self.refusal);
        if code == 0 {
            self.problems
                .push("it served what was lost with the machine without a word".into());
        }
        // A file whose header never came to the medium is damaged; else every component is named.
        if !said.contains("--reset-state") {
            self.problems
                .push(format!("no way on was named: {}", self.refusal));
        }
    }

    /// Takes in what the node's log says of each component.
    fn went_on(&mut self, log: &str) {
        for name in COMPONENTS {
            if log.contains(&format!("{name}.0 begins with an empty state")) {
                self.reset.push(name);
            } else if log.contains(&format!("the state of {name}.0 was open when")) {
                self.accepted.push(name);
            } else {
                self.problems
                    .push(format!("it cannot be told what became of {name}: {log}"));
            }
        }
    }
}

/// Plays it on a place that nothing else is done on any more, and gives the machine back.
pub fn play<'a>(
    lane: &Lane<'_>,
    hardware: &'a Hardware<'a>,
    place: &Place,
    mut machine: Machine<'a>,
) -> anyhow::Result<(Machine<'a>, Lost)> {
    lane.output.progress(&format!(
        "{}: durability `process`, without DAX, and the machine goes down",
        place.name
    ));
    let mut lost = Lost::default();
    // The nodes that were there before leave no room for another.
    let path = place.path();
    let unmount = format!("cd / && rm -rf {path}/node {path}/moved && umount {path}");
    machine.run(&unmount, SOON)?.good("unmounting")?;
    mount(&mut machine, place)?;
    let node = format!("{}/process", place.path());
    let start = format!("neurath node start --dir {node} --from /releases-process");
    machine
        .run(&format!("{start} --release kv-1.0.0"), UPGRADE)?
        .good("starting a node of durability `process`")?;
    let load = Load::start(hardware.port, 1, lane.patience());
    load.served(BETWEEN)?;
    // The medium has the files as they are now; of what comes after, the kernel writes what it likes.
    machine.run("sync", SOON)?.good("sync")?;
    load.served(BETWEEN)?;
    let clients = load.finish();
    if clients.lost + clients.wrong > 0 {
        lost.problems.push(format!("before the loss: {clients}"));
    }
    machine.kill();
    let mut machine = Machine::boot(hardware)?;
    mount(&mut machine, place)?;

    let answer = machine.run(&format!("{start} 2>&1"), UPGRADE)?;
    lost.refused(answer.code, &answer.text);
    let flags = |flag: &str| COMPONENTS.map(|name| format!(" {flag} {name}")).concat();
    let both = flags("--accept-power-loss") + &flags("--reset-state");
    machine
        .run(&format!("{start}{both} 2>&1"), UPGRADE)?
        .good("going on as the error says")?;
    let log = machine.run(&format!("cat {node}/node.log"), SOON)?;
    lost.went_on(&log.good("the node's log")?);
    // With keys of its own: what the others are now is not promised.
    let load = Load::start(hardware.port, 2, lane.patience());
    load.served(BETWEEN)?;
    let clients = load.finish();
    lost.served = clients.requests;
    if clients.lost + clients.wrong > 0 {
        lost.problems.push(format!("after the loss: {clients}"));
    }
    machine
        .run(&format!("neurath node stop --dir {node}"), UPGRADE)?
        .good("stopping the node")?;
    Ok((machine, lost))
}

fn mount(machine: &mut Machine<'_>, place: &Place) -> anyhow::Result<()> {
    let mounted = machine.run(&place.mount_cached(), SOON)?;
    mounted.good("mounting without DAX").context(place.name)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Lost;

    #[test]
    fn what_became_of_each_state_is_told_or_is_a_problem() {
        let mut lost = Lost::default();
        lost.refused(50, "… --accept-power-loss gateway … --reset-state gateway");
        lost.went_on(
            "WARN the state of gateway.0 was open when the machine went down; …\n\
             WARN store.0 begins with an empty state (…)",
        );
        assert_eq!(
            (lost.accepted.as_slice(), lost.reset.as_slice()),
            (&["gateway"][..], &["store"][..])
        );
        assert!(lost.problems.is_empty(), "{lost:?}");

        let mut silent = Lost::default();
        silent.refused(0, "it serves");
        silent.went_on("nothing");
        assert_eq!(silent.problems.len(), 4, "{silent:?}");
    }
}
