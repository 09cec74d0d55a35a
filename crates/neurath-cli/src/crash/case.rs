//! One node that is killed, perhaps twice, and what became of it.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::check;
use super::clients::Clients;
use super::place::{Ask, Kill, PHASES};
use super::set::Set;
use super::story::Story;
use crate::testing::{NodeProcess, Starting};

/// How long a node that is to be killed may live on.
const PATIENCE: Duration = Duration::from_secs(30);

/// When a node is killed.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) story: usize,
    pub(super) phase: usize,
    /// Points that are passed before the last request of the phase.
    pub(super) before: usize,
    pub(super) kill: Kill,
    /// Whether the catalog has been written at that point, where it is known.
    pub(super) expected: Option<bool>,
    /// When the start that follows is killed.
    pub(super) then: Option<Kill>,
    pub(super) seed: u64,
}

/// What became of a node.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) case: Case,
    pub(super) kills: u64,
    /// After each kill, whether the dead node's catalog names the new release.
    pub(super) found: Vec<bool>,
    /// Whether the first kill came before the request's commit point.
    pub(super) before_flip: Option<bool>,
    /// What did not hold.
    pub(super) violations: Vec<String>,
    pub(super) lost: u64,
    pub(super) wrong: u64,
    pub(super) requests: u64,
    /// The points that the last start passed.
    pub(super) course: Vec<String>,
}

impl Case {
    /// As [`super::Place`] is read.
    pub(super) fn place(&self, story: &Story) -> String {
        let mut text = format!("{}:{}:{}", story.name, PHASES[self.phase].name, self.kill);
        if let Some(then) = &self.then {
            text += &format!(":{then}");
        }
        text
    }

    /// Whether it is killed at points alone.
    pub(super) fn is_enumerated(&self) -> bool {
        let timed = |kill: &Kill| matches!(kill, Kill::After(_));
        !timed(&self.kill) && !self.then.as_ref().is_some_and(timed)
    }

    pub(super) fn run(&self, set: &Set) -> Outcome {
        let mut outcome = Outcome {
            case: self.clone(),
            kills: 0,
            found: Vec::new(),
            before_flip: None,
            violations: Vec::new(),
            lost: 0,
            wrong: 0,
            requests: 0,
            course: Vec::new(),
        };
        if let Err(error) = self.carry_out(set, &mut outcome) {
            outcome.violations.push(format!("{error:#}"));
        }
        outcome
    }

    fn carry_out(&self, set: &Set, outcome: &mut Outcome) -> anyhow::Result<()> {
        let directory = set.copy()?;
        let kill = match self.kill {
            Kill::Point(number) => Kill::Point(self.before + number),
            after => after,
        };
        let node = NodeProcess::start(&set.command(&directory, Some(kill)))?;
        let clients = Clients::start(&set.addresses, self.seed, !set.story.reset.is_empty());
        let ended = self
            .play(set, &directory, node, &clients, outcome)
            .and_then(|node| self.check(set, &node, &clients, outcome).map(|()| node));
        // The node, if it came up, is there until the clients have read back what they wrote.
        let serves_new =
            ended.is_ok() && check::serves(&directory) == Some(set.story.new_release());
        let report = clients.finish(&set.addresses, ended.is_ok(), set.story, serves_new);
        outcome.lost += report.lost;
        outcome.wrong += report.wrong;
        outcome.requests += report.requests;
        outcome.violations.extend(report.findings);
        ended.map(drop)
    }

    /// Kills the node, and its next start; the node that is started at last.
    fn play(
        &self,
        set: &Set,
        directory: &Path,
        node: NodeProcess,
        clients: &Clients,
        outcome: &mut Outcome,
    ) -> anyhow::Result<NodeProcess> {
        clients.served(&node)?;
        let phase = &PHASES[self.phase];
        let (last, before) = phase.asks.split_last().unwrap_or((&Ask::Apply, &[]));
        for ask in before {
            ask.of(directory, set.story)?;
        }
        match self.kill {
            Kill::Point(_) => {
                let answer = last.of(directory, set.story);
                if !dies(&node) {
                    outcome.violations.push(format!("it lives on: {answer:?}"));
                } else if answer.is_ok() {
                    let text = "P14: it was answered before its last durable step";
                    outcome.violations.push(text.into());
                }
            }
            Kill::After(time) => thread::scope(|scope| {
                // It may have ended before the kill, be refused, or be cut off.
                scope.spawn(|| drop(last.of(directory, set.story)));
                thread::sleep(time);
                node.kill();
            }),
        }
        drop(node);
        outcome.kills += 1;
        let dead = check::dead(set.story, directory)?;
        outcome.found.push(dead.new);
        let flipped = match last {
            Ask::Apply => dead.new,
            Ask::Rollback | Ask::Confirm => !dead.unconfirmed,
        };
        outcome.before_flip = Some(!flipped);
        if let Some(expected) = self.expected.filter(|expected| *expected != flipped) {
            let text = format!("P1: the commit point was passed: {flipped}, and not {expected}");
            outcome.violations.push(text);
        }
        let mut expected = dead.leads_to();
        if let Some(kill) = self.then {
            let start = NodeProcess::start;
            match kill {
                Kill::Point(_) => match start(&set.command(directory, Some(kill))) {
                    Ok(node) if !dies(&node) => {
                        let text = format!("the start lives on after {} points", kill);
                        outcome.violations.push(text);
                    }
                    _ => {}
                },
                Kill::After(time) => kill_start(set, directory, time)?,
            }
            outcome.kills += 1;
            let dead = check::dead(set.story, directory)?;
            outcome.found.push(dead.new);
            if dead.leads_to() != expected {
                let text = String::from("P1: killed in its start, it leads to the other release");
                outcome.violations.push(text);
                expected = dead.leads_to();
            }
        }
        set.forget();
        let node = NodeProcess::start(&set.command(directory, None))?;
        outcome.course = set.passed();
        let found = check::alive(set.story, &node, expected);
        outcome.violations.extend(found);
        Ok(node)
    }

    /// The clients are served again; and a node that came up in the old release can be upgraded
    /// again.
    fn check(
        &self,
        set: &Set,
        node: &NodeProcess,
        clients: &Clients,
        outcome: &mut Outcome,
    ) -> anyhow::Result<()> {
        clients.served(node)?;
        outcome.violations.extend(check::filled(&set.addresses));
        // Every other one, as what a component holds that the new release lacks is read back only
        // where the old one is left.
        let again = matches!(self.kill, Kill::Point(number) if number.is_multiple_of(2));
        if again && check::serves(node.directory()) == Some(set.story.old_release()) {
            Ask::Apply.of(node.directory(), set.story)?;
            outcome.violations.extend(check::recorded(node.directory()));
            clients.served(node)?;
        }
        Ok(())
    }
}

/// Starts a node and kills it after this time, wherever it is then.
fn kill_start(set: &Set, directory: &Path, time: Duration) -> anyhow::Result<()> {
    let start = Starting::new(&set.command(directory, None))?;
    thread::sleep(time);
    start.kill();
    Ok(())
}

/// Whether a node ends in time.
fn dies(node: &NodeProcess) -> bool {
    let until = Instant::now() + PATIENCE;
    loop {
        match node.check() {
            Err(_) => return true,
            Ok(()) if Instant::now() > until => return false,
            Ok(()) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
