//! Clients that know what was acknowledged, and go on over the death of a node.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::bail;
use neurath_verify::{FindingKind, Live, Options, Report, Verifier};

use super::story::{Addresses, Story};
use crate::testing::NodeProcess;

/// How long clients wait for an answer, and for being served at all.
const PATIENCE: Duration = Duration::from_secs(20);
/// So many requests are answered before anything goes on.
const ENOUGH: u64 = 60;
/// Keys of the client that checks every answer. It deletes them all before it begins.
const KEYS: u64 = 60;

/// The clients of one node.
#[derive(Debug)]
pub(super) struct Clients {
    stop: Arc<AtomicBool>,
    live: Live,
    keys: JoinHandle<Report>,
    notes: Option<JoinHandle<Lines>>,
    counts: Option<JoinHandle<Lines>>,
    /// What the counter has answered, if it may begin anew: something has to be there that can come back.
    counted: Option<Arc<AtomicU64>>,
}

/// What they have found.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) lost: u64,
    pub(super) wrong: u64,
    pub(super) requests: u64,
    /// Everything that must not be, in words.
    pub(super) findings: Vec<String>,
}

impl Clients {
    /// `resets`: the counter may begin anew while it runs, and what it counted before may come back.
    pub(super) fn start(at: &Addresses, seed: u64, resets: bool) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let verifier = Verifier::new(Options {
            address: at.gateway.clone(),
            connections: 2,
            pipeline: 4,
            keys: KEYS,
            seed,
            value_len: 0..=100,
            stop: Arc::clone(&stop),
            // A load that leaves the node a processor for what it is asked.
            rate: Some(4000),
            reconnect: true,
            timeout: PATIENCE,
            ..Options::default()
        });
        let counted = resets.then(Arc::<AtomicU64>::default);
        let lines = |address: &Option<String>, what: What, resets: &Option<Arc<AtomicU64>>| {
            let (address, stop, resets) = (address.clone()?, Arc::clone(&stop), resets.clone());
            Some(thread::spawn(move || {
                Lines::new(what, resets).run(&address, &stop)
            }))
        };
        Self {
            live: verifier.live(),
            notes: lines(&at.notebook, What::Notes, &None),
            counts: lines(&at.counter, What::Counts, &counted),
            keys: verifier.spawn(),
            counted,
            stop,
        }
    }

    /// Waits until some requests more have been answered.
    pub(super) fn served(&self, node: &NodeProcess) -> anyhow::Result<()> {
        let goal = self.live.totals().requests.max(KEYS) + ENOUGH;
        let until = Instant::now() + PATIENCE;
        let counted = || {
            let answers = self.counted.as_ref();
            answers.is_none_or(|one| one.load(Ordering::Relaxed) > 0)
        };
        while self.live.totals().requests < goal || !counted() {
            node.check()?;
            if Instant::now() > until {
                bail!("P16: clients are not served: {:?}", self.live.totals());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Reads everything back. `serves` has the release whose components are there, the old one or the new one.
    pub(super) fn finish(self, at: &Addresses, serves: bool, story: &Story, new: bool) -> Found {
        self.stop.store(true, Ordering::Relaxed);
        let mut found = Found::default();
        let Ok(report) = self.keys.join() else {
            found.findings.push("the client panicked".into());
            return found;
        };
        found.requests = report.requests;
        found.lost = report.lost;
        found.wrong = report.wrong;
        // What broke with the node is as it must be; an error that a server answers is not.
        let broke = |text: &str| {
            text.starts_with("a connection broke") || text.starts_with("no connection to")
        };
        for finding in &report.samples {
            let harmless = match finding.kind {
                FindingKind::Error => broke(&finding.text),
                FindingKind::Late => true,
                FindingKind::Lost | FindingKind::Wrong => false,
            };
            if !harmless {
                found.findings.push(format!("P16: {finding}"));
            }
        }
        if serves && report.checked_keys != KEYS {
            let text = format!("P16: {} of {KEYS} keys were read back", report.checked_keys);
            found.findings.push(text);
        }
        let there = if new { story.new } else { story.old };
        let there = |name: &str| there.iter().any(|(component, _)| *component == name);
        for (lines, address, there) in [
            (self.notes, &at.notebook, there("notebook")),
            (self.counts, &at.counter, there("counter")),
        ] {
            let (Some(lines), Some(address)) = (lines, address) else {
                continue;
            };
            let Ok(mut lines) = lines.join() else {
                found.findings.push("a client panicked".into());
                continue;
            };
            if serves && there {
                lines.read_back(address);
                lines.is_in(new);
            }
            found.requests += lines.answered;
            found.lost += lines.lost;
            found.wrong += lines.wrong;
            found.findings.append(&mut lines.findings);
        }
        found
    }
}

/// What a client of lines talks to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The notebook: each note is kept, and has the next number.
    Notes,
    /// The counter: each line counts. It begins anew if its component does.
    Counts,
}

/// A client that sends one line after the other to a component that may not be there.
#[derive(Debug)]
struct Lines {
    what: What,
    /// What it has answered, for one that may begin anew in its midst.
    resets: Option<Arc<AtomicU64>>,
    /// What was acknowledged and sent before that, while it is not back.
    before: Option<(u64, u64)>,
    /// Whether an answer fits what goes on and what comes back alike.
    unsure: bool,
    /// Notes or counts that the server has confirmed.
    acknowledged: u64,
    /// Those it may have, besides: one that was sent and not answered.
    sent: u64,
    answered: u64,
    lost: u64,
    wrong: u64,
    findings: Vec<String>,
}

impl Lines {
    fn new(what: What, resets: Option<Arc<AtomicU64>>) -> Self {
        Self {
            what,
            resets,
            before: None,
            unsure: false,
            acknowledged: 0,
            sent: 0,
            answered: 0,
            lost: 0,
            wrong: 0,
            findings: Vec::new(),
        }
    }

    fn run(mut self, address: &str, stop: &AtomicBool) -> Self {
        while !stop.load(Ordering::Relaxed) {
            // A connection that breaks is what a kill does; whoever is there next has to know.
            if let Ok(mut line) = Line::open(address) {
                let _ = self.serve(&mut line, stop);
            }
            thread::sleep(Duration::from_millis(3));
        }
        self
    }

    fn serve(&mut self, line: &mut Line, stop: &AtomicBool) -> io::Result<()> {
        self.meet(line)?;
        while !stop.load(Ordering::Relaxed) {
            self.one(line)?;
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What the server holds when it is there again.
    fn meet(&mut self, line: &mut Line) -> io::Result<()> {
        let holds = match self.what {
            What::Notes => line.ask("count")?,
            What::Counts => {
                self.sent = self.acknowledged.max(self.sent) + 1;
                line.ask("x")?
            }
        };
        self.answered += 1;
        let Ok(holds) = holds.parse::<u64>() else {
            self.be_wrong(format!("{:?}: {holds} are there", self.what));
            return Ok(());
        };
        if self.what == What::Counts {
            self.counted(holds, self.sent - 1, true);
            return Ok(());
        }
        if holds < self.acknowledged {
            self.be_lost(holds, self.acknowledged);
        } else if holds > self.sent {
            self.be_wrong(format!("{holds} are there, and {} were sent", self.sent));
        }
        self.acknowledged = holds;
        self.sent = holds;
        Ok(())
    }

    /// So many have been counted, with the line that asked; `sent` before it. `comes`: it may have gone and come again,
    /// and begins anew then.
    fn counted(&mut self, holds: u64, sent: u64, comes: bool) {
        let least = self.acknowledged + 1;
        let goes_on = (least..=sent + 1).contains(&holds);
        // What was sent and not answered may be in the state that is there now, whichever it is, or in none.
        let unanswered = sent - self.acknowledged;
        let begins = (1..=unanswered + 1).contains(&holds);
        let comes_back = (self.before)
            .is_some_and(|(known, sent)| (known + 1..=sent + unanswered + 1).contains(&holds));
        if goes_on {
            self.unsure |= comes_back;
        } else if begins && self.resets.is_some() {
            self.before.get_or_insert((self.acknowledged, sent));
        } else if comes_back {
            // The state from before the reset, with all that it had counted.
            self.before = None;
        } else if holds == 1 && comes {
            // It has gone, and comes anew.
        } else if holds < least {
            self.be_lost(holds, least);
        } else {
            self.be_wrong(format!("{holds} are there, and {} were sent", sent + 1));
        }
        self.acknowledged = holds;
        self.sent = holds;
        if let Some(answers) = &self.resets {
            answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn one(&mut self, line: &mut Line) -> io::Result<()> {
        self.sent = self.acknowledged + 1;
        let asked = match self.what {
            What::Notes => format!("add note {}", self.acknowledged),
            What::Counts => String::from("x"),
        };
        let answer = line.ask(&asked)?;
        self.answered += 1;
        match (self.what, answer.parse::<u64>()) {
            (What::Counts, Ok(holds)) => self.counted(holds, self.acknowledged, false),
            (What::Notes, Ok(number)) if number == self.acknowledged => {
                self.acknowledged = self.sent;
            }
            _ => {
                self.be_wrong(format!("`{asked}` was answered by {answer}"));
                self.acknowledged = self.sent;
            }
        }
        Ok(())
    }

    fn be_lost(&mut self, holds: u64, least: u64) {
        self.lost += least - holds;
        let text = format!("P16: {:?}: {holds} are there, not {least}", self.what);
        self.findings.push(text);
    }

    fn be_wrong(&mut self, text: String) {
        self.wrong += 1;
        self.findings.push(format!("P16: {text}"));
    }

    /// What may begin anew has done so in the `new` release, and has come back in the old one.
    fn is_in(&mut self, new: bool) {
        if self.resets.is_some() && !self.unsure && self.before.is_some() != new {
            let text = match new {
                true => "it goes on in the release that throws it away",
                false => "what it had counted before the reset did not come back",
            };
            self.lost += u64::from(!new);
            self.findings.push(format!("P4: {:?}: {text}", self.what));
        }
    }

    /// Everything that was acknowledged is there, as it was written.
    fn read_back(&mut self, address: &str) {
        let read = Line::open(address).and_then(|mut line| {
            self.meet(&mut line)?;
            if self.what == What::Notes {
                for number in 0..self.acknowledged {
                    let text = line.ask(&format!("get {number}"))?;
                    if text != format!("note {number}") {
                        self.be_wrong(format!("note {number} says: {text}"));
                    }
                }
            }
            Ok(())
        });
        if let Err(error) = read {
            let text = format!("P16: {:?} at {address} is not served: {error}", self.what);
            self.findings.push(text);
        }
    }
}

/// A connection on which a line is answered by a line.
struct Line(BufReader<TcpStream>);

impl Line {
    fn open(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    fn ask(&mut self, line: &str) -> io::Result<String> {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut answer = String::new();
        // Half a line is no answer.
        if self.0.read_line(&mut answer)? == 0 || !answer.ends_with('\n') {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.truncate(answer.len() - 1);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A counter that may begin anew, after these answers; none was sent that was not answered.
    fn after(answers: &[u64]) -> Lines {
        let mut lines = Lines::new(What::Counts, Some(Arc::default()));
        for holds in answers {
            lines.counted(*holds, lines.acknowledged, false);
        }
        lines
    }

    fn faults(mut lines: Lines, new: bool) -> (u64, u64, usize) {
        lines.is_in(new);
        (lines.lost, lines.wrong, lines.findings.len())
    }

    #[test]
    fn a_count_that_begins_anew_has_to_come_back() {
        assert_eq!(faults(after(&[1, 2, 3]), false), (0, 0, 0));
        assert_eq!(faults(after(&[1, 2, 3, 1, 2]), true), (0, 0, 0));
        assert_eq!(faults(after(&[1, 2, 3, 1, 4, 5]), false), (0, 0, 0));
        assert_eq!(faults(after(&[1, 2, 3, 1, 4, 1]), true), (0, 0, 0));
        // It goes on where it should be back, begins a third time, or was never thrown away.
        assert_eq!(faults(after(&[1, 2, 3, 4, 1, 2]), false), (1, 0, 1));
        assert_eq!(faults(after(&[1, 2, 3, 4, 1, 2, 1]), false), (1, 0, 1));
        assert_eq!(faults(after(&[1, 2, 3]), true), (0, 0, 1));
        // Not all of it comes back, or more.
        assert!(faults(after(&[1, 2, 3, 4, 5, 1, 4]), false).1 > 0);
        assert!(faults(after(&[1, 2, 3, 1, 7]), false).1 > 0);
        // Where both fit, nothing is said.
        assert_eq!(faults(after(&[1, 2, 3, 1, 2, 3, 4]), false), (0, 0, 0));
    }

    #[test]
    fn a_count_of_a_line_whose_answer_was_cut_off_is_no_fault() {
        let mut lines = after(&[1, 2, 3]);
        // Sent, counted by the state that begins anew, and not answered.
        lines.counted(2, 4, true);
        assert_eq!(faults(lines, true), (0, 0, 0));
        // Counted by the state that has come back, before the connection broke.
        let mut lines = after(&[1, 2, 3, 1]);
        lines.counted(5, 2, true);
        assert_eq!(faults(lines, false), (0, 0, 0));
        let mut lines = after(&[1, 2, 3, 1]);
        lines.counted(6, 2, true);
        assert_eq!(lines.wrong, 1, "one was not answered, not two");
        let mut lines = after(&[1, 2, 3, 4, 1]);
        lines.counted(4, 2, true);
        assert_eq!(lines.wrong, 1, "not all that was acknowledged came back");
    }
}
