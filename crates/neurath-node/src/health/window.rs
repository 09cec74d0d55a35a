//! The time in which a new release has to hold, and the thread that makes its checks.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neurath_manifest::{Confirm, HealthCheck, Probe};

use super::{NOBODY, Sample, Verdict, Watch, probe};
use crate::shard::{Command, Look, Mailbox};
use crate::waiting::CalledOff;

/// Between two rounds of checks, however short the interval is.
const SHORTEST: Duration = Duration::from_millis(10);

/// Makes the checks of a release.
#[derive(Debug, Clone)]
pub(crate) struct Prober {
    checks: Vec<HealthCheck>,
    directory: PathBuf,
    shard: Mailbox,
}

impl Prober {
    pub(crate) fn new(confirm: &Confirm, directory: &Path, shard: Mailbox) -> Prober {
        Prober {
            checks: confirm.checks.clone(),
            directory: directory.to_owned(),
            shard,
        }
    }

    /// Makes each check once, all at the same time. It is over at once when it is called off; what it says
    /// is worth nothing then.
    pub(crate) fn round(&self, called_off: CalledOff<'_>) -> Vec<Sample> {
        std::thread::scope(|scope| {
            let looks: Vec<_> = self
                .checks
                .iter()
                .map(|check| scope.spawn(move || self.look(check, called_off)))
                .collect();
            let failed = |_| Err("the check's thread panicked".to_owned());
            let sample = |look: std::thread::ScopedJoinHandle<'_, Sample>| look.join();
            looks
                .into_iter()
                .map(|look| sample(look).unwrap_or_else(failed))
                .collect()
        })
    }

    fn look(&self, check: &HealthCheck, called_off: CalledOff<'_>) -> Sample {
        match &check.probe {
            Probe::Component(component) => self.ask(component, check.timeout, called_off),
            other => {
                let sample = probe::look(other, &self.directory, check.timeout, called_off);
                sample.unwrap_or(Ok(()))
            }
        }
    }

    /// Asks a component on its own event loop, between two messages.
    fn ask(&self, component: &str, timeout: Duration, called_off: CalledOff<'_>) -> Sample {
        let (send, receive) = mpsc::sync_channel(1);
        let name = component.to_owned();
        let look = Look(Box::new(move |shard| {
            // Whoever asked may have gone.
            let _ = send.send(shard.check(&name));
        }));
        if !self.shard.send(Command::Look(look)) {
            return Err("the event loop has ended".into());
        }
        match called_off.receive(&receive, timeout) {
            Ok(sample) => sample,
            Err(RecvTimeoutError::Timeout) => Err(format!("no answer within {timeout:?}")),
            Err(RecvTimeoutError::Disconnected) => Err("the event loop has ended".into()),
        }
    }
}

/// The window of a release that is not confirmed yet. Ends its thread when it is dropped.
#[derive(Debug)]
pub(crate) struct Window {
    /// By the clock that cannot be set: a jump of the time of day changes nothing.
    began: Instant,
    length: Duration,
    /// None if the release names no checks: then a person confirms.
    checks: Option<Checks>,
}

#[derive(Debug)]
struct Checks {
    watch: Arc<Mutex<Watch>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Checks {
    /// Calls the checks off that are being made, and waits until they are: no command of theirs is left behind.
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread of the health checks panicked");
        }
    }
}

impl Window {
    /// Begins now. `before` is what the checks said before the upgrade.
    ///
    /// # Errors
    ///
    /// If no thread can be made for the checks.
    pub(crate) fn begin(
        confirm: &Confirm,
        prober: Prober,
        before: Vec<Sample>,
    ) -> std::io::Result<Window> {
        let checks = match confirm.checks.is_empty() {
            true => None,
            false => Some(Checks::begin(confirm, prober, before)?),
        };
        Ok(Window {
            began: Instant::now(),
            length: confirm.window,
            checks,
        })
    }

    /// What is to be done with the release; nothing yet if [`Verdict::Open`].
    pub(crate) fn verdict(&self) -> Verdict {
        let over = self.began.elapsed() >= self.length;
        match &self.checks {
            Some(checks) => lock(&checks.watch).verdict(over),
            None if over => Verdict::Inconclusive(NOBODY.into()),
            None => Verdict::Open,
        }
    }

    /// What the checks said before the upgrade.
    pub(crate) fn before(&self) -> Vec<Sample> {
        let before = |checks: &Checks| lock(&checks.watch).before();
        self.checks.as_ref().map_or_else(Vec::new, before)
    }

    /// Each check in a line.
    pub(crate) fn lines(&self) -> Vec<String> {
        let lines = |checks: &Checks| lock(&checks.watch).lines();
        self.checks.as_ref().map_or_else(Vec::new, lines)
    }
}

impl Checks {
    fn begin(confirm: &Confirm, prober: Prober, before: Vec<Sample>) -> std::io::Result<Checks> {
        let mut checks = Checks {
            watch: Arc::new(Mutex::new(Watch::new(confirm, before))),
            ended: Arc::new(AtomicBool::new(false)),
            thread: None,
        };
        let (watch, ended) = (checks.watch.clone(), checks.ended.clone());
        let interval = confirm.interval.max(SHORTEST);
        let thread = std::thread::Builder::new().name("neurath-health".into());
        checks.thread = Some(thread.spawn(move || {
            let over = || ended.load(Ordering::Relaxed);
            while !over() {
                let next = Instant::now() + interval;
                let samples = prober.round(CalledOff(&over));
                if over() {
                    return;
                }
                for (check, sample) in samples.into_iter().enumerate() {
                    lock(&watch).sample(check, sample);
                }
                while !over() && Instant::now() < next {
                    let left = next.saturating_duration_since(Instant::now());
                    std::thread::sleep(left.min(Duration::from_millis(50)));
                }
            }
        })?);
        Ok(checks)
    }
}

fn lock(watch: &Mutex<Watch>) -> std::sync::MutexGuard<'_, Watch> {
    watch.lock().unwrap_or_else(PoisonError::into_inner)
}
