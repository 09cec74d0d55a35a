//! The load.

use crate::connection::Connection;
use crate::model::Model;
use crate::operation::{Operation, Random, random_operation};
use crate::report::{FindingKind, Live, Recorder, Report};
use crate::turns::{Turning, Turns};
use kv_resp::Value;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How many keys are asked for at once when all are read back.
const READ_BACK: u64 = 128;
/// How long a lost connection is left alone, so that the server has done or dropped what was
/// under way on it.
const PAUSE: Duration = Duration::from_millis(50);

/// How the load is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// Host and port.
    pub address: String,
    /// Connections, each with a thread and keys of its own.
    pub connections: usize,
    /// How many requests are sent at once on each connection.
    pub pipeline: usize,
    /// All keys together.
    pub keys: u64,
    /// What the random numbers come from; it's also part of the keys' names.
    pub seed: u64,
    /// How long values are.
    pub value_len: RangeInclusive<usize>,
    /// Whether `SET EX`, `TTL` and `PERSIST` may be used; it may change while the load runs.
    pub expiry: Arc<AtomicBool>,
    /// Tells that the server's state is exchanged on purpose.
    pub turns: Turns,
    /// Ends the load when it becomes true.
    pub stop: Arc<AtomicBool>,
    /// Ends the load after this time.
    pub duration: Option<Duration>,
    /// Requests a second on all connections together; as many as possible without.
    pub rate: Option<u64>,
    /// Whether a broken connection is made again.
    pub reconnect: bool,
    /// How long a reply may take before the connection is given up. What was asked on it may then
    /// still be carried out, at any time later; [`FindingKind::Late`] says when that is seen.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            address: String::from("127.0.0.1:6379"),
            connections: 4,
            pipeline: 16,
            keys: 10_000,
            seed: 1,
            value_len: 1..=100,
            expiry: Arc::default(),
            turns: Turns::default(),
            stop: Arc::default(),
            duration: None,
            rate: None,
            reconnect: true,
            timeout: Duration::from_secs(5),
        }
    }
}

/// A load that checks every reply.
#[derive(Debug)]
pub struct Verifier {
    options: Options,
    live: Live,
}

impl Verifier {
    /// A load that isn't running yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        let live = Live::new(options.connections);
        Self { options, live }
    }

    /// A look at the load while it runs.
    #[must_use]
    pub fn live(&self) -> Live {
        self.live.clone()
    }

    /// Runs until it's stopped, reads every key back and reports.
    #[must_use]
    pub fn run(self) -> Report {
        let connections = self.options.connections.max(1);
        thread::scope(|scope| {
            for index in 0..connections {
                let worker = Worker::new(&self.options, connections, index, &self.live);
                scope.spawn(move || worker.run());
            }
        });
        self.live.report()
    }

    /// Runs in a thread of its own.
    #[must_use]
    pub fn spawn(self) -> JoinHandle<Report> {
        thread::spawn(move || self.run())
    }

    /// Runs in a thread of its own, until it is told to stop.
    #[must_use]
    pub fn start(self) -> Running {
        Running {
            live: self.live(),
            stop: Arc::clone(&self.options.stop),
            thread: self.spawn(),
        }
    }
}

/// A load that runs in a thread of its own.
#[derive(Debug)]
pub struct Running {
    live: Live,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Report>,
}

impl Running {
    /// A look at it.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.live
    }

    /// Tells it to stop, read every key back and report.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Stops it, and waits for its report.
    ///
    /// # Panics
    ///
    /// If the load panicked.
    #[must_use]
    pub fn finish(self) -> Report {
        self.stop();
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Whether a connection that ended so was ended from the other side.
fn is_by_server(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::UnexpectedEof
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
    )
}

struct Worker<'a> {
    options: &'a Options,
    recorder: &'a Recorder,
    prefix: String,
    keys: u64,
    pipeline: usize,
    /// The time from one batch to the next that the rate asks for.
    pace: Option<Duration>,
    random: Random,
    model: Model,
    turning: Turning,
    connection: Option<Connection>,
    was_connected: bool,
    /// Since when the server can't be reached: a request now would wait that long.
    down_since: Option<Instant>,
    /// The outgoing bytes and the times of one batch, kept for their memory.
    output: Vec<u8>,
    times: Vec<Duration>,
}

impl<'a> Worker<'a> {
    fn new(options: &'a Options, connections: usize, index: usize, live: &'a Live) -> Self {
        let share = u64::try_from(connections).unwrap_or(1);
        let pipeline = options.pipeline.max(1);
        let pace = options.rate.map(|rate| {
            let each = rate.max(1) as f64 / share as f64;
            Duration::from_secs_f64(pipeline as f64 / each)
        });
        Self {
            options,
            recorder: live.recorder(index),
            prefix: format!("verify:{:x}:{index}:", options.seed),
            keys: (options.keys / share).max(1),
            pipeline,
            pace,
            random: Random::new(
                options.seed ^ (index as u64 + 1).wrapping_mul(0xd6e8_feb8_6659_fd93),
            ),
            model: Model::default(),
            turning: Turning::default(),
            connection: None,
            was_connected: false,
            down_since: None,
            output: Vec::new(),
            times: Vec::new(),
        }
    }

    fn run(mut self) {
        let begun = Instant::now();
        let over = |options: &Options| {
            options.stop.load(Ordering::Relaxed)
                || options
                    .duration
                    .is_some_and(|duration| begun.elapsed() >= duration)
        };
        // All keys are deleted first, so that from then on everything is known.
        let mut clear = 0..self.keys;
        let mut due = Instant::now();
        while !over(self.options) {
            if !self.connect() {
                if !self.options.reconnect {
                    return;
                }
                thread::sleep(PAUSE);
                continue;
            }
            if let Some(pace) = self.pace {
                let now = Instant::now();
                if due > now {
                    // A long pace doesn't keep the load from being stopped.
                    thread::sleep((due - now).min(Duration::from_millis(20)));
                    continue;
                }
                // What a pause of the server left undone isn't made up for.
                due = (due + pace).max(now);
            }
            let expiry = self.options.expiry.load(Ordering::Relaxed);
            let lengths = (
                *self.options.value_len.start(),
                *self.options.value_len.end(),
            );
            let batch: Vec<Operation> = (0..self.pipeline)
                .map(|_| match clear.next() {
                    Some(key) => Operation::Del(key),
                    None => random_operation(&mut self.random, self.keys, lengths, expiry),
                })
                .collect();
            if let Err(error) = self.exchange(&batch) {
                self.broken(&error);
                if !self.options.reconnect {
                    break;
                }
            }
        }
        self.verify_all();
    }

    fn broken(&mut self, error: &io::Error) {
        self.connection = None;
        self.recorder
            .find(FindingKind::Error, format!("a connection broke: {error}"));
        thread::sleep(PAUSE);
    }

    fn connect(&mut self) -> bool {
        if self.connection.is_some() {
            return true;
        }
        match Connection::open(&self.options.address, self.options.timeout) {
            Ok(connection) => {
                self.connection = Some(connection);
                if self.was_connected {
                    self.recorder.count(|totals| totals.reconnects += 1);
                }
                self.was_connected = true;
                if let Some(since) = self.down_since.take() {
                    self.recorder.received(&[], Some(since.elapsed()));
                }
                true
            }
            Err(error) => {
                let since = *self.down_since.get_or_insert_with(Instant::now);
                self.recorder.sent(since);
                let text = format!("no connection to {}: {error}", self.options.address);
                self.recorder.find(FindingKind::Error, text);
                false
            }
        }
    }

    /// Sends a batch and checks its replies. On failure, what wasn't answered is in doubt.
    fn exchange(&mut self, batch: &[Operation]) -> io::Result<()> {
        let prefix = &self.prefix;
        let name = |key: u64| format!("{prefix}{key}");
        let recorder = self.recorder;
        let Some(connection) = &mut self.connection else {
            return Err(ErrorKind::NotConnected.into());
        };
        self.output.clear();
        self.times.clear();
        for operation in batch {
            operation.encode(name, &mut self.output);
        }
        let turns = &self.options.turns;
        self.turning.settle(turns, &mut self.model, self.keys);
        let sent = Instant::now();
        recorder.sent(sent);
        let mut acknowledged = 0;
        let mut outcome = connection.send(&self.output);
        let mut answered = 0;
        if outcome.is_ok() {
            for operation in batch {
                let reply = match connection.receive() {
                    Ok(reply) => reply,
                    Err(error) => {
                        outcome = Err(error);
                        break;
                    }
                };
                self.times.push(sent.elapsed());
                answered += 1;
                if let Value::Error(text) = &reply {
                    let asked = operation.describe(&name(operation.key()));
                    let text = format!("{asked} answered {}", text.escape_ascii());
                    recorder.find(FindingKind::Error, text);
                    self.model.maybe(operation, sent);
                    self.turning.maybe(operation, sent);
                    continue;
                }
                acknowledged += u64::from(operation.writes());
                self.turning.look(turns, &self.model, self.keys);
                let mut found = Vec::new();
                self.model
                    .settle(operation, &reply, sent, name, |one| found.push(one));
                let false_now = found.iter().any(|one| one.kind != FindingKind::Late);
                if self.turning.is_under_way() && false_now {
                    self.turning.happen(&mut self.model);
                    found.clear();
                    self.model
                        .settle(operation, &reply, sent, name, |one| found.push(one));
                }
                self.turning.maybe(operation, sent);
                for mismatch in found {
                    recorder.find(mismatch.kind, mismatch.text);
                }
            }
        }
        // Who closes decides: a server that has closed has done or dropped what was asked. What
        // has left here and was not waited for may be done when the server comes to it.
        let by_server = matches!(&outcome, Err(error) if is_by_server(error.kind()));
        for operation in batch.iter().skip(answered) {
            if by_server {
                self.model.maybe(operation, sent);
                self.turning.maybe(operation, sent);
            } else {
                self.model.give_up(operation, sent);
                self.turning.give_up(operation, sent);
            }
        }
        let waited = (answered < batch.len()).then(|| sent.elapsed());
        recorder.received(&self.times, waited);
        recorder.count(|totals| totals.acknowledged_writes += acknowledged);
        outcome
    }

    /// Reads every key back. It tries for a while when the server isn't there.
    fn verify_all(&mut self) {
        let patience = Instant::now() + self.options.timeout.max(Duration::from_secs(1)) * 2;
        let mut next = 0;
        while next < self.keys {
            let end = (next + READ_BACK).min(self.keys);
            let batch: Vec<Operation> = (next..end).map(Operation::Get).collect();
            let done = if self.connect() {
                match self.exchange(&batch) {
                    Ok(()) => true,
                    Err(error) => {
                        self.broken(&error);
                        false
                    }
                }
            } else {
                thread::sleep(PAUSE);
                false
            };
            if done {
                self.recorder
                    .count(|totals| totals.checked_keys += end - next);
                next = end;
            } else if Instant::now() > patience {
                let text = format!("{} keys couldn't be read back", self.keys - next);
                self.recorder.find(FindingKind::Error, text);
                return;
            }
        }
    }
}
