//! Throwaway threads: a call into a library that may take its time, or never return.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

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

/// Runs `work` on a thread of its own and joins it: the thread's copies of the library's
/// thread-local values are gone then.
///
/// # Errors
///
/// [`WorkError::Overdue`] if it takes longer than `deadline`; the thread goes on by itself.
pub fn run<R: Send + 'static>(
    name: &str,
    deadline: Duration,
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, WorkError> {
    let (send, receive) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new()
        .name(name.chars().take(15).collect())
        .spawn(move || {
            // Nobody waits any longer if this fails: then the result is dropped here.
            let _ = send.send(work());
        })
        .map_err(|error| WorkError::NoThread(error.to_string()))?;
    match receive.recv_timeout(deadline) {
        Ok(result) => {
            let _ = thread.join();
            Ok(result)
        }
        Err(RecvTimeoutError::Timeout) => Err(WorkError::Overdue(deadline)),
        Err(RecvTimeoutError::Disconnected) => Err(WorkError::Panicked),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_a_panic_and_a_delay_are_told_apart() {
        let second = Duration::from_secs(1);
        assert_eq!(run("test", second, || 7), Ok(7));
        assert_eq!(
            run("test", second, || panic!("for the test")),
            Err::<(), _>(WorkError::Panicked)
        );
        let short = Duration::from_millis(20);
        let slow = run("test", short, || {
            std::thread::sleep(Duration::from_millis(200))
        });
        assert_eq!(slow, Err(WorkError::Overdue(short)));
    }
}
