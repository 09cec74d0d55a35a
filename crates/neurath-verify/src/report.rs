//! What is found and measured.

use hdrhistogram::Histogram;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many errors are kept with their text; all are counted.
const ERRORS: usize = 32;
/// How many other findings are, of each connection.
const FINDINGS: usize = 256;

/// What kind of thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FindingKind {
    /// An acknowledged write isn't there.
    Lost,
    /// A reply says what no history of acknowledged writes explains.
    Wrong,
    /// An error reply, or a connection that failed.
    Error,
    /// A write that was given up, as no answer came in time, was carried out after something
    /// else had been answered. That's no fault: the client didn't wait.
    Late,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Its kind.
    pub kind: FindingKind,
    /// When, since the load began.
    pub at: Duration,
    /// The number of the connection.
    pub connection: usize,
    /// Replies that had come on this connection, without those of the same batch.
    pub replies: u64,
    /// What was asked, expected and answered.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FindingKind::Lost => "lost",
            FindingKind::Wrong => "wrong",
            FindingKind::Error => "error",
            FindingKind::Late => "late",
        };
        write!(
            f,
            "{kind}: {} (connection {}, after {:.3} s and {} replies)",
            self.text,
            self.connection,
            self.at.as_secs_f64(),
            self.replies
        )
    }
}

/// Running counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    /// Replies received.
    pub requests: u64,
    /// Writes whose success the server acknowledged.
    pub acknowledged_writes: u64,
    /// Acknowledged writes that aren't there.
    pub lost: u64,
    /// Other wrong replies.
    pub wrong: u64,
    /// Error replies and failed connections.
    pub errors: u64,
    /// Writes that were given up and carried out late: [`FindingKind::Late`].
    pub late: u64,
    /// Connections made again after they broke.
    pub reconnects: u64,
    /// Keys read back at the end.
    pub checked_keys: u64,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Replies received.
    pub requests: u64,
    /// Writes whose success the server acknowledged.
    pub acknowledged_writes: u64,
    /// Acknowledged writes that aren't there.
    pub lost: u64,
    /// Other wrong replies.
    pub wrong: u64,
    /// Error replies and failed connections.
    pub errors: u64,
    /// Writes that were given up and carried out late: [`FindingKind::Late`].
    pub late: u64,
    /// Connections made again after they broke.
    pub reconnects: u64,
    /// Keys read back at the end.
    pub checked_keys: u64,
    /// The longest time that one request took, from sending to its reply.
    pub worst_request: Duration,
    /// Half of the requests took at most this long.
    pub p50: Duration,
    /// 99 of 100 did.
    pub p99: Duration,
    /// 999 of 1000 did.
    pub p999: Duration,
    /// How long it all took.
    pub elapsed: Duration,
    /// Findings with their text, in the order of time: the first errors, and of everything
    /// else the first 256 of each connection.
    pub samples: Vec<Finding>,
}

impl Report {
    /// Whether nothing was lost, wrong or in error.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lost == 0 && self.wrong == 0 && self.errors == 0
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} requests, {} acknowledged writes, {} lost, {} wrong, {} errors; worst {:?}, p50 {:?}, p99 {:?}, p99.9 {:?}",
            self.requests,
            self.acknowledged_writes,
            self.lost,
            self.wrong,
            self.errors,
            self.worst_request,
            self.p50,
            self.p99,
            self.p999
        )?;
        if self.late > 0 {
            write!(
                f,
                "; {} writes carried out after they were given up",
                self.late
            )?;
        }
        for finding in &self.samples {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

/// What was measured since the last window was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// The longest time that one request took or, when still unanswered, has taken so far.
    pub worst: Duration,
    /// 999 of 1000 answered requests took at most this long.
    pub p999: Duration,
    /// Replies received.
    pub requests: u64,
    /// How long the window was.
    pub length: Duration,
}

fn new_histogram() -> Histogram<u64> {
    // Microseconds up to ten minutes with 3 digits: these bounds are valid.
    let mut histogram = Histogram::new_with_bounds(1, 600_000_000, 3)
        .or_else(|_| Histogram::new(3))
        .unwrap_or_else(|_| unreachable!("3 digits are valid"));
    histogram.auto(true);
    histogram
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[derive(Debug)]
struct Part {
    window: Histogram<u64>,
    window_worst: Duration,
    all: Histogram<u64>,
    worst: Duration,
    in_flight_since: Option<Instant>,
    totals: Totals,
    errors: Vec<Finding>,
    others: Vec<Finding>,
}

/// What one connection records. The lock is taken a few times for each batch.
#[derive(Debug)]
pub(crate) struct Recorder {
    connection: usize,
    begun: Instant,
    part: Mutex<Part>,
}

impl Recorder {
    fn new(connection: usize, begun: Instant) -> Self {
        let part = Mutex::new(Part {
            window: new_histogram(),
            window_worst: Duration::ZERO,
            all: new_histogram(),
            worst: Duration::ZERO,
            in_flight_since: None,
            totals: Totals::default(),
            errors: Vec::new(),
            others: Vec::new(),
        });
        Self {
            connection,
            begun,
            part,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Part> {
        self.part.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn sent(&self, at: Instant) {
        self.lock().in_flight_since = Some(at);
    }

    /// A batch has ended: its replies took these times. `broken` is how long the rest waited in
    /// vain, if any did.
    pub(crate) fn received(&self, times: &[Duration], broken: Option<Duration>) {
        let mut part = self.lock();
        part.in_flight_since = None;
        part.totals.requests += times.len() as u64;
        for time in times {
            part.window.saturating_record(micros(*time));
            part.all.saturating_record(micros(*time));
        }
        if let Some(worst) = times.iter().copied().chain(broken).max() {
            part.window_worst = part.window_worst.max(worst);
            part.worst = part.worst.max(worst);
        }
    }

    pub(crate) fn count(&self, change: impl FnOnce(&mut Totals)) {
        change(&mut self.lock().totals);
    }

    pub(crate) fn find(&self, kind: FindingKind, text: String) {
        let mut part = self.lock();
        match kind {
            FindingKind::Lost => part.totals.lost += 1,
            FindingKind::Wrong => part.totals.wrong += 1,
            FindingKind::Error => part.totals.errors += 1,
            FindingKind::Late => part.totals.late += 1,
        }
        let finding = Finding {
            kind,
            at: self.begun.elapsed(),
            connection: self.connection,
            replies: part.totals.requests,
            text,
        };
        // Errors are many where a server is killed, and must not hide what else there is.
        let (kept, most) = match kind {
            FindingKind::Error => (&mut part.errors, ERRORS),
            _ => (&mut part.others, FINDINGS),
        };
        if kept.len() < most {
            kept.push(finding);
        }
    }
}

#[derive(Debug)]
struct Shared {
    recorders: Vec<Recorder>,
    begun: Instant,
    window_begun: Mutex<Instant>,
}

/// A look at a run while it goes on; its clones look at the same run.
#[derive(Debug, Clone)]
pub struct Live(Arc<Shared>);

impl Live {
    pub(crate) fn new(connections: usize) -> Self {
        let now = Instant::now();
        Self(Arc::new(Shared {
            recorders: (0..connections.max(1))
                .map(|connection| Recorder::new(connection, now))
                .collect(),
            begun: now,
            window_begun: Mutex::new(now),
        }))
    }

    pub(crate) fn recorder(&self, index: usize) -> &Recorder {
        // There is one for each connection, and one at least.
        &self.0.recorders[index % self.0.recorders.len()]
    }

    /// What was measured since the last call; the next window begins now.
    #[must_use]
    pub fn take_window(&self) -> Window {
        let now = Instant::now();
        let length = {
            let mut begun = self
                .0
                .window_begun
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            now.duration_since(std::mem::replace(&mut begun, now))
        };
        let mut sum = new_histogram();
        let mut worst = Duration::ZERO;
        for recorder in &self.0.recorders {
            let mut part = recorder.lock();
            let _ = sum.add(&part.window);
            part.window.reset();
            worst = worst.max(std::mem::take(&mut part.window_worst));
            if let Some(since) = part.in_flight_since {
                worst = worst.max(now.saturating_duration_since(since));
            }
        }
        Window {
            worst,
            p999: Duration::from_micros(sum.value_at_quantile(0.999)).min(worst),
            requests: sum.len(),
            length,
        }
    }

    /// How many requests each connection was answered so far. They are counted when the whole pipeline is: what a
    /// connection sends after one that was counted, it has chosen after that.
    #[must_use]
    pub fn requests_of_each(&self) -> Vec<u64> {
        let recorders = self.0.recorders.iter();
        recorders
            .map(|recorder| recorder.lock().totals.requests)
            .collect()
    }

    /// The counts so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        let mut sum = Totals::default();
        for recorder in &self.0.recorders {
            let one = recorder.lock().totals;
            sum.requests += one.requests;
            sum.acknowledged_writes += one.acknowledged_writes;
            sum.lost += one.lost;
            sum.wrong += one.wrong;
            sum.errors += one.errors;
            sum.late += one.late;
            sum.reconnects += one.reconnects;
            sum.checked_keys += one.checked_keys;
        }
        sum
    }

    /// The report of all that happened so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let totals = self.totals();
        let mut sum = new_histogram();
        let mut worst = Duration::ZERO;
        let (mut samples, mut others) = (Vec::new(), Vec::new());
        for recorder in &self.0.recorders {
            let part = recorder.lock();
            let _ = sum.add(&part.all);
            worst = worst.max(part.worst);
            samples.extend(part.errors.iter().cloned());
            others.extend(part.others.iter().cloned());
        }
        samples.sort_by_key(|finding| finding.at);
        samples.truncate(ERRORS);
        samples.append(&mut others);
        samples.sort_by_key(|finding| finding.at);
        let quantile = |q| Duration::from_micros(sum.value_at_quantile(q)).min(worst);
        Report {
            requests: totals.requests,
            acknowledged_writes: totals.acknowledged_writes,
            lost: totals.lost,
            wrong: totals.wrong,
            errors: totals.errors,
            late: totals.late,
            reconnects: totals.reconnects,
            checked_keys: totals.checked_keys,
            worst_request: worst,
            p50: quantile(0.5),
            p99: quantile(0.99),
            p999: quantile(0.999),
            elapsed: self.0.begun.elapsed(),
            samples,
        }
    }
}
