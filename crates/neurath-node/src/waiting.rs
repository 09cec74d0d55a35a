//! Waiting for another thread for a moment without going to sleep: to be woken takes tens of microseconds, and
//! in an upgrade's pause clients wait for each of them.
//!
//! Who waits gives its processor to whoever is ready to run, each time it has looked; so that on a busy machine
//! it takes nothing from the thread that it waits for.

use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

/// For so long it is looked for what is awaited, before the thread goes to sleep. Longer than what stands between
/// two calls in a pause, and too short to be seen in what a processor does.
pub(crate) const AWAKE: Duration = Duration::from_micros(300);

/// Between two looks whether what is waited for was called off.
const LOOK: Duration = Duration::from_millis(10);

/// Says whether nobody wants any more what is being waited for.
#[derive(Clone, Copy)]
pub(crate) struct CalledOff<'a>(pub(crate) &'a (dyn Fn() -> bool + Sync));

impl CalledOff<'_> {
    /// Of what is waited for to its end.
    pub(crate) const NEVER: CalledOff<'static> = CalledOff(&|| false);

    /// Whether it was.
    pub(crate) fn is(&self) -> bool {
        (self.0)()
    }

    /// As [`Receiver::recv_timeout`]; the time is over at once when it is called off.
    pub(crate) fn receive<T>(
        &self,
        receiver: &Receiver<T>,
        deadline: Duration,
    ) -> Result<T, RecvTimeoutError> {
        let began = Instant::now();
        loop {
            let left = deadline.saturating_sub(began.elapsed());
            match receiver.recv_timeout(left.min(LOOK)) {
                Err(RecvTimeoutError::Timeout) if !left.is_zero() && !self.is() => {}
                other => return other,
            }
        }
    }
}

/// Bytes that a new thread asks for first.
const FIRST: usize = 4096;

/// Gets a new thread what each thread needs of the allocator when it asks for memory first: so that this is
/// not done in the pause that the thread was made for.
pub(crate) fn settle_in() {
    drop(std::hint::black_box(Vec::<u8>::with_capacity(FIRST)));
}

/// Calls `look` until it gives something, or `for_so_long` has passed.
pub(crate) fn awake<T>(for_so_long: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let until = Instant::now() + for_so_long;
    loop {
        if let Some(seen) = look() {
            return Some(seen);
        }
        if Instant::now() >= until {
            return None;
        }
        std::thread::yield_now();
    }
}

/// What comes, or the end of all senders; none while nothing is there.
fn there<T>(receiver: &Receiver<T>) -> Option<Result<T, RecvError>> {
    match receiver.try_recv() {
        Ok(there) => Some(Ok(there)),
        Err(TryRecvError::Disconnected) => Some(Err(RecvError)),
        Err(TryRecvError::Empty) => None,
    }
}

/// As [`Receiver::recv`], awake at first.
pub(crate) fn receive<T>(receiver: &Receiver<T>) -> Result<T, RecvError> {
    awake(AWAKE, || there(receiver)).unwrap_or_else(|| receiver.recv())
}

/// As [`Receiver::recv_timeout`], awake at first.
pub(crate) fn receive_within<T>(
    receiver: &Receiver<T>,
    deadline: Duration,
) -> Result<T, RecvTimeoutError> {
    let began = Instant::now();
    match awake(AWAKE.min(deadline), || there(receiver)) {
        Some(Ok(came)) => Ok(came),
        Some(Err(RecvError)) => Err(RecvTimeoutError::Disconnected),
        None => receiver.recv_timeout(deadline.saturating_sub(began.elapsed())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn what_comes_is_received_early_or_late() {
        for delay in [Duration::ZERO, AWAKE * 20] {
            let (send, receiver) = mpsc::channel();
            let sender = std::thread::spawn(move || {
                std::thread::sleep(delay);
                send.send(1).unwrap();
                send.send(2).unwrap();
            });
            assert_eq!(receive(&receiver), Ok(1));
            assert_eq!(receive_within(&receiver, Duration::from_secs(30)), Ok(2));
            sender.join().unwrap();
            assert_eq!(receive(&receiver), Err(RecvError));
            let ended = receive_within(&receiver, Duration::from_secs(30));
            assert_eq!(ended, Err(RecvTimeoutError::Disconnected));
        }
    }

    #[test]
    fn a_deadline_ends_it() {
        let (send, receiver) = mpsc::channel::<u8>();
        for deadline in [Duration::ZERO, AWAKE / 2, AWAKE * 3] {
            let timeout = receive_within(&receiver, deadline);
            assert_eq!(timeout, Err(RecvTimeoutError::Timeout));
        }
        drop(send);
    }
}
