//! Throwaway threads: calls into a library that may take their time, or never return.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::waiting;

/// Why a piece of work gave no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WorkError {
    /// It is still running. Its thread is left behind; what it holds stays alive.
    #[error("it did not end within {0:?}")]
    Overdue(Duration),
    /// It panicked, outside of the component.
    #[error("its thread panicked")]
    Panicked,
    /// No thread could be made.
    #[error("no thread could be made: {0}")]
    NoThread(String),
}

/// So long it is waited for that a thread wakes up, at most; it has nothing else to do.
const WAKE: Duration = Duration::from_millis(10);

type Job = Box<dyn FnOnce() + Send>;

/// A throwaway thread, which does one piece of work after the other.
///
/// It can be made ahead of its work, so that a call costs two wake-ups and not a thread. What
/// the thread holds of the libraries that it has run, their thread-local values, is gone when
/// the worker has been joined: do that before one of them is closed. Dropping joins, too.
#[derive(Debug, Default)]
pub struct Worker(Option<Running>);

/// A piece of work that has begun.
#[derive(Debug)]
pub struct Begun<R>(Receiver<R>);

#[derive(Debug)]
struct Running {
    jobs: Sender<Job>,
    thread: JoinHandle<()>,
}

impl Worker {
    /// Makes the thread, if there is none.
    ///
    /// # Errors
    ///
    /// [`WorkError::NoThread`].
    pub fn ready(&mut self) -> Result<(), WorkError> {
        self.running().map(drop)
    }

    /// Lets the thread wake up, if there is one, and comes back when it is awake: there will be work for it in a
    /// moment.
    pub(crate) fn wake(&self) {
        if let Some(running) = &self.0 {
            let (send, awake) = mpsc::sync_channel(1);
            let job = Box::new(move || {
                let _ = send.send(());
            });
            // If it has ended, whoever comes with work is told.
            if running.jobs.send(job).is_ok() {
                let _ = waiting::receive_within(&awake, WAKE);
            }
        }
    }

    fn running(&mut self) -> Result<&Running, WorkError> {
        if self.0.is_none() {
            let (jobs, receive) = mpsc::channel::<Job>();
            let thread = std::thread::Builder::new()
                .name("neurath-calls".into())
                .spawn(move || {
                    waiting::settle_in();
                    while let Ok(job) = waiting::receive(&receive) {
                        job();
                    }
                })
                .map_err(|error| WorkError::NoThread(error.to_string()))?;
            self.0 = Some(Running { jobs, thread });
        }
        self.0
            .as_ref()
            .ok_or_else(|| WorkError::NoThread("it has ended".into()))
    }

    /// Runs `work`, named `name`, on the thread.
    ///
    /// # Errors
    ///
    /// [`WorkError::Overdue`] if it takes longer than `deadline`; the thread goes on by itself,
    /// and the next piece of work gets another one.
    pub fn run<R: Send + 'static>(
        &mut self,
        name: &str,
        deadline: Duration,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<R, WorkError> {
        let begun = self.begin(name, work)?;
        self.end(begun, deadline)
    }

    /// Lets the thread begin with `work`, named `name`. To be followed by [`Worker::end`].
    ///
    /// # Errors
    ///
    /// If there is no thread for it.
    pub fn begin<R: Send + 'static>(
        &mut self,
        name: &str,
        work: impl FnOnce() -> R + Send + 'static,
    ) -> Result<Begun<R>, WorkError> {
        let (send, receive) = mpsc::sync_channel(1);
        let name = std::ffi::CString::new(name).unwrap_or_default();
        let job = Box::new(move || {
            // So that a thread that never returns is known by what it does.
            let _ = rustix::thread::set_name(&name);
            // Nobody waits any longer if this fails: then the result is dropped here.
            let _ = send.send(work());
        });
        if self.running()?.jobs.send(job).is_err() {
            self.join();
            return Err(WorkError::Panicked);
        }
        Ok(Begun(receive))
    }

    /// Waits for what was begun last.
    ///
    /// # Errors
    ///
    /// As for [`Worker::run`].
    pub fn end<R>(&mut self, begun: Begun<R>, deadline: Duration) -> Result<R, WorkError> {
        match waiting::receive_within(&begun.0, deadline) {
            Ok(result) => Ok(result),
            Err(RecvTimeoutError::Timeout) => {
                self.0 = None;
                Err(WorkError::Overdue(deadline))
            }
            Err(RecvTimeoutError::Disconnected) => {
                self.join();
                Err(WorkError::Panicked)
            }
        }
    }

    /// Ends the thread, if there is one. No piece of work runs: one that is overdue has taken
    /// its thread with it.
    pub fn join(&mut self) {
        if let Some(Running { jobs, thread }) = self.0.take() {
            drop(jobs);
            // A panic has been told of as `Panicked`.
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.join();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_a_panic_and_a_delay_are_told_apart() {
        let minute = Duration::from_secs(60);
        let mut worker = Worker::default();
        assert_eq!(worker.run("test", minute, || 7), Ok(7));
        assert_eq!(
            worker.run("test", minute, || panic!("for the test")),
            Err::<(), _>(WorkError::Panicked)
        );
        let short = Duration::from_millis(20);
        let (release, held) = mpsc::channel::<()>();
        let slow = worker.run("test", short, move || {
            let _ = held.recv();
        });
        assert_eq!(slow, Err(WorkError::Overdue(short)));
        drop(release);
        assert_eq!(worker.run("test", minute, || 8), Ok(8));
    }

    /// Each waits until the other has come: one after the other, neither would end.
    #[test]
    fn two_that_are_begun_run_at_the_same_time() {
        let (mut one, mut other) = (Worker::default(), Worker::default());
        let (to_one, from_other) = mpsc::channel();
        let (to_other, from_one) = mpsc::channel();
        let patience = Duration::from_secs(30);
        let first = one.begin("one", move || {
            to_other.send(()).unwrap();
            from_other.recv_timeout(patience)
        });
        let second = other.begin("other", move || {
            to_one.send(()).unwrap();
            from_one.recv_timeout(patience)
        });
        assert_eq!(one.end(first.unwrap(), patience), Ok(Ok(())));
        assert_eq!(other.end(second.unwrap(), patience), Ok(Ok(())));
    }

    #[test]
    fn one_thread_does_all_work_until_it_is_joined() {
        let minute = Duration::from_secs(60);
        let mut worker = Worker::default();
        let id = |worker: &mut Worker| {
            let id = || std::thread::current().id();
            worker.run("test", minute, id).unwrap()
        };
        let first = id(&mut worker);
        assert_eq!(first, id(&mut worker));
        worker.join();
        assert_ne!(first, id(&mut worker));
    }
}
