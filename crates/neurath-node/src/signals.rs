//! `SIGTERM` and `SIGINT`, which ask a node to stop, and are not lost while another program takes its place.
//!
//! A handler ends with its program, and whatever it has noted in memory as well. So the process of a node program
//! holds these two signals back in all of its threads, and looks for them now and then: until then they wait in the system,
//! also while `exec` replaces the program, and the next one finds them. A process that runs a node beside other things has its
//! own ways with signals; there the node only listens.

use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::sys::signal::{SigSet, Signal};

const STOP: [Signal; 2] = [Signal::SIGTERM, Signal::SIGINT];

/// Set by a handler; none while they are not held back. The lock is held while they are let through, and from the
/// moment on in which a program is about to be replaced.
static HELD: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

fn held() -> MutexGuard<'static, Option<Arc<AtomicBool>>> {
    HELD.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stop() -> SigSet {
    STOP.into_iter().collect()
}

fn listen() -> Arc<AtomicBool> {
    let seen = Arc::new(AtomicBool::new(false));
    for signal in STOP {
        if let Err(error) = signal_hook::flag::register(signal as i32, seen.clone()) {
            tracing::warn!(%error, %signal, "cannot listen to a signal");
        }
    }
    seen
}

/// Holds the signals back, in this thread and in those that it makes: to be called before there are others.
pub fn hold() {
    let mut held = held();
    if held.is_some() {
        return;
    }
    // First of all, so that none comes between.
    match stop().thread_block() {
        Ok(()) => *held = Some(listen()),
        Err(error) => tracing::warn!(%error, "signals are not held back"),
    }
}

/// Lets signals that wait through, in this thread and for so long.
fn let_through<R>(meanwhile: impl FnOnce() -> R) -> R {
    // Neither fails: the set is a good one.
    let _ = stop().thread_unblock();
    let done = meanwhile();
    let _ = stop().thread_block();
    done
}

/// Whether somebody has asked this process to stop.
#[derive(Debug)]
pub(crate) struct Asked(Option<Arc<AtomicBool>>);

impl Asked {
    /// From now on; from [`hold`] on where that was called.
    pub(crate) fn since_now() -> Asked {
        match *held() {
            Some(_) => Asked(None),
            None => Asked(Some(listen())),
        }
    }

    /// Whether it was asked.
    pub(crate) fn seen(&self) -> bool {
        if let Some(seen) = &self.0 {
            return seen.load(Ordering::Relaxed);
        }
        let held = held();
        // What waits is handled before this returns.
        let_through(|| ());
        held.as_ref()
            .is_some_and(|seen| seen.load(Ordering::Relaxed))
    }
}

/// Starts another program. It does not inherit that signals are held back.
///
/// # Errors
///
/// Those of the system.
pub(crate) fn spawn(command: &mut Command) -> std::io::Result<Child> {
    let held = held();
    match *held {
        Some(_) => let_through(|| command.spawn()),
        None => command.spawn(),
    }
}

/// Makes sure that a signal that was seen already is found by the program that is about to take this one's place. No
/// other thread sees one from here on.
pub(crate) fn pass_on() {
    let held = held();
    if held
        .as_ref()
        .is_some_and(|seen| seen.load(Ordering::Relaxed))
    {
        // It waits, as it is held back everywhere.
        let own = rustix::process::getpid();
        if let Err(error) = rustix::process::kill_process(own, rustix::process::Signal::TERM) {
            tracing::warn!(%error, "a signal is not passed on");
        }
    }
    // For ever: the process has another program then, or ends.
    std::mem::forget(held);
}
