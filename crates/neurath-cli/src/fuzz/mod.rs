//! Seeded fuzzing: inputs made from a corpus, always the same from the same seed.
//!
//! Each case has a number, and is made from the seed and that number alone. So a failure names
//! `SEED:CASE`, and that case can be made again without those before it.

pub mod manifests;
mod mutate;
mod random;

pub use mutate::mutated;
pub use random::Random;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A case that takes more time of a processor has failed; what else the machine does has no part in it.
pub const SLOW: Duration = Duration::from_secs(5);

/// A case that has not ended by then never will: the process ends.
const HANGS: Duration = Duration::from_secs(60);

/// Memory that one case may add to the most that the process ever had, in KiB.
const MEMORY_KIB: u64 = 512 << 10;

/// What came of some cases.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// Cases that were tried.
    pub cases: u64,
    /// Inputs that were taken.
    pub accepted: u64,
    /// Inputs that were refused with an error.
    pub refused: u64,
    /// Cases that panicked, took too long, took too much memory, or broke a rule.
    pub failures: u64,
    /// The first of them, each beginning with its `SEED:CASE`.
    pub first_failures: Vec<String>,
    /// The most time of a processor that a case took.
    pub slowest: Duration,
    /// The most memory that the process ever had, in KiB.
    pub peak_kib: u64,
}

/// How a case ended, if not badly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The input was taken.
    Accepted,
    /// The input was refused with an error.
    Refused,
}

/// When to stop.
#[derive(Debug, Clone, Copy)]
pub enum Until {
    /// After so many cases.
    Cases(u64),
    /// After so long.
    Time(Duration),
}

/// The failures that an outcome lists.
const LISTED: usize = 20;

/// Tries cases one after another. `case` gets the number of each, and says what rule was broken.
pub fn run(
    seed: u64,
    until: Until,
    case: impl Fn(u64) -> Result<Verdict, String>,
    progress: &dyn Fn(&str),
) -> Outcome {
    let (mut outcome, begun) = (Outcome::default(), Instant::now());
    let watch = Watch::start(seed);
    let mut peak_before = peak_kib();
    let mut told = 0;
    loop {
        let over = match until {
            Until::Cases(cases) => outcome.cases >= cases,
            Until::Time(time) => begun.elapsed() >= time,
        };
        if over {
            break;
        }
        let number = outcome.cases;
        watch.now_at(number);
        let started = processor_time();
        let ended = run_one(number, &case);
        let took = processor_time().saturating_sub(started);
        outcome.cases += 1;
        outcome.slowest = outcome.slowest.max(took);
        let peak = peak_kib();
        let why = match ended {
            Err(why) => Some(why),
            Ok(_) if took > SLOW => Some(format!("took {took:.1?}")),
            Ok(_) if peak.saturating_sub(peak_before) > MEMORY_KIB => {
                Some(format!("took {} MiB more", (peak - peak_before) >> 10))
            }
            Ok(Verdict::Accepted) => {
                outcome.accepted += 1;
                None
            }
            Ok(Verdict::Refused) => {
                outcome.refused += 1;
                None
            }
        };
        peak_before = peak;
        if let Some(why) = why {
            outcome.failures += 1;
            if outcome.first_failures.len() < LISTED {
                outcome
                    .first_failures
                    .push(format!("{seed:#x}:{number}: {why}"));
            }
        }
        if begun.elapsed().as_secs() / 10 > told {
            told = begun.elapsed().as_secs() / 10;
            progress(&format!(
                "{} cases, {} failures",
                outcome.cases, outcome.failures
            ));
        }
    }
    outcome.peak_kib = peak_kib();
    outcome
}

/// Tries one case.
///
/// # Errors
///
/// Which rule was broken; a panic is one.
pub fn run_one(
    number: u64,
    case: impl Fn(u64) -> Result<Verdict, String>,
) -> Result<Verdict, String> {
    quiet();
    QUIET.set(true);
    let ended = catch_unwind(AssertUnwindSafe(|| case(number)));
    QUIET.set(false);
    ended.unwrap_or_else(|panic| {
        let text = panic
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| panic.downcast_ref::<&str>().copied())
            .unwrap_or("of an unknown kind");
        Err(format!("panicked: {text}"))
    })
}

thread_local! {
    static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Keeps what a case's panic says to itself: it is caught, and counted.
fn quiet() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
}

/// How long this thread has had a processor. By libc: rustix reads the kernel's own library, which
/// valgrind hides.
fn processor_time() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    // Every thread has such a clock.
    nix::time::clock_gettime(clock).map_or(Duration::ZERO, Duration::from)
}

/// The most memory that this process ever had, in KiB; 0 where the system does not say.
fn peak_kib() -> u64 {
    neurath_node::memory::peak(std::process::id()).map_or(0, |bytes| bytes >> 10)
}

/// A thread that ends the process when a case never ends.
struct Watch {
    at: std::sync::Arc<AtomicU64>,
    _alive: std::sync::mpsc::Sender<()>,
}

impl Watch {
    fn start(seed: u64) -> Self {
        let at = std::sync::Arc::new(AtomicU64::new(0));
        let (alive, ended) = std::sync::mpsc::channel::<()>();
        let seen = at.clone();
        std::thread::spawn(move || {
            let (mut last, mut since) = (u64::MAX, Instant::now());
            let tick = Duration::from_secs(1);
            while let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(tick) {
                let number = seen.load(Ordering::Relaxed);
                if number != last {
                    (last, since) = (number, Instant::now());
                } else if since.elapsed() > HANGS {
                    eprintln!("error: {seed:#x}:{number}: has not ended after {HANGS:?}");
                    std::process::exit(1);
                }
            }
        });
        Self { at, _alive: alive }
    }

    fn now_at(&self, number: u64) {
        self.at.store(number, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_case_does_wrong_is_counted_and_named() {
        let outcome = run(
            7,
            Until::Cases(5),
            |number| match number {
                1 => panic!("case {number}"),
                2 => Err("a rule".into()),
                3 => Ok(Verdict::Refused),
                _ => Ok(Verdict::Accepted),
            },
            &|_| {},
        );
        assert_eq!(
            outcome.first_failures,
            ["0x7:1: panicked: case 1", "0x7:2: a rule"]
        );
        assert_eq!(
            (
                outcome.cases,
                outcome.accepted,
                outcome.refused,
                outcome.failures
            ),
            (5, 2, 1, 2)
        );
    }
}
