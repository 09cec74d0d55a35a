//! The thread that a shard runs on, and how the shard is taken from it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Waker};

use super::figures::Figures;
use super::{Activity, Answer, Instance, Shard};
use crate::waiting::{self, AWAKE};

/// Events of sockets that are looked at at a time.
const EVENTS: usize = 1024;

/// Something to be done between two messages.
pub(crate) struct Look(pub(crate) Box<dyn FnOnce(&mut Shard) + Send>);

impl std::fmt::Debug for Look {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Look")
    }
}

/// What a shard is asked from outside.
#[derive(Debug)]
pub(crate) enum Command {
    /// End the thread, and hand the shard over, unless nobody waits for it any more.
    HandOver(Arc<HandOver>),
    /// Look at the shard between two messages.
    Look(Look),
    /// A request of this process.
    Request {
        component: String,
        bytes: Vec<u8>,
        answer: Option<Sender<Answer>>,
    },
}

/// Where a shard is handed over. Either it gets there, or whoever waited has gone, and
/// never both.
#[derive(Debug, Default)]
pub(crate) struct HandOver {
    place: Mutex<Place>,
    there: Condvar,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Awaited,
    There(Box<Shard>),
    Unwanted,
}

impl HandOver {
    fn place(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the shard back if nobody waits.
    fn give(&self, shard: Box<Shard>) -> Option<Box<Shard>> {
        let mut place = self.place();
        if matches!(*place, Place::Unwanted) {
            return Some(shard);
        }
        *place = Place::There(shard);
        self.there.notify_one();
        None
    }

    /// Waits for the shard, until `deadline` has passed or `ended` says that it will not come.
    fn wait(&self, deadline: Duration, ended: impl Fn() -> bool) -> Option<Box<Shard>> {
        let until = Instant::now() + deadline;
        // A free event loop is there at once.
        let arrived = || matches!(*self.place(), Place::There(_)).then_some(());
        waiting::awake(AWAKE.min(deadline), arrived);
        let mut place = self.place();
        loop {
            if let Place::There(shard) = std::mem::replace(&mut *place, Place::Awaited) {
                return Some(shard);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || ended() {
                *place = Place::Unwanted;
                return None;
            }
            // In steps, to see an end of the thread.
            let step = left.min(Duration::from_millis(20));
            place = self
                .there
                .wait_timeout(place, step)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }
}

/// Why a shard could not be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// It did not come to the end of a message in time.
    #[error(
        "the event loop did not come to a message boundary within {0:?}: {1}; raise `timeout` in the appup if it may \
         take longer"
    )]
    Busy(Duration, String),
    /// Its thread is gone.
    #[error("the event loop has ended")]
    Gone,
}

/// A shard that could not be taken.
#[derive(Debug)]
pub(crate) struct NotTaken {
    pub(crate) error: TakeError,
    /// Its thread, which goes on as if it had not been asked; none if it has ended.
    pub(crate) thread: Option<Box<ShardThread>>,
}

/// A thread that waits for a shard to run: made while the shard still runs elsewhere, so that
/// nobody waits for a thread to be made.
#[derive(Debug)]
pub(crate) struct Seat {
    /// None only wakes the thread.
    shard: Sender<Option<Box<Shard>>>,
    ended: Receiver<Box<Shard>>,
    thread: Thread,
}

/// A thread that a shard runs on. When it has given the shard away it sleeps until this is joined: its end takes a
/// processor for some tens of microseconds, and clients would wait for that.
#[derive(Debug)]
struct Thread {
    handle: JoinHandle<()>,
    /// Nothing is sent. The thread ends when this is dropped.
    stay: Sender<()>,
}

impl Thread {
    /// Waits for its end.
    fn join(self) -> std::thread::Result<()> {
        drop(self.stay);
        self.handle.join()
    }
}

impl Seat {
    /// Lets the thread wake up: the shard comes in a moment.
    pub(crate) fn wake(&self) {
        // If it has ended, whoever comes with the shard is told.
        let _ = self.shard.send(None);
    }

    /// Makes the thread. It ends by itself if no shard comes.
    ///
    /// # Errors
    ///
    /// If no thread can be made.
    pub(crate) fn new() -> io::Result<Seat> {
        let (shard, receive) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let (stay, leave) = mpsc::channel();
        let handle = std::thread::Builder::new()
            .name("neurath-shard".into())
            .spawn(move || {
                waiting::settle_in();
                let events = Events::with_capacity(EVENTS);
                while let Ok(shard) = waiting::receive(&receive) {
                    if let Some(shard) = shard {
                        if serve(shard, events, &end) == Outcome::HandedOver {
                            let _: Result<(), _> = leave.recv();
                        }
                        return;
                    }
                }
            })?;
        Ok(Seat {
            shard,
            ended,
            thread: Thread { handle, stay },
        })
    }
}

/// The thread that a shard was taken from. While it lives, it may hold
/// thread-local values of the libraries that it has run: it is joined before one of them is
/// closed, and when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Leaving(Option<Thread>);

impl Leaving {
    /// Lets the thread end, and waits for that; it has given the shard away.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.0.take()
            && thread.join().is_err()
        {
            tracing::error!("the event loop's thread panicked after it had handed over");
        }
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.join();
    }
}

/// A shard that runs on a thread of its own.
#[derive(Debug)]
pub(crate) struct ShardThread {
    mailbox: Mailbox,
    activity: Arc<Activity>,
    names: Vec<String>,
    thread: Thread,
    ended: Receiver<Box<Shard>>,
    /// The thread it ran on before.
    pub(crate) before: Leaving,
}

/// A shard that stands still, and what is needed to make it run again.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) shard: Box<Shard>,
    mailbox: Mailbox,
    activity: Arc<Activity>,
    /// The thread it ran on before.
    pub(crate) before: Leaving,
}

impl Taken {
    /// A new shard, standing still.
    pub(crate) fn new(instances: Vec<Instance>, figures: Arc<Figures>) -> io::Result<Taken> {
        let (commands, receiver) = mpsc::channel();
        let activity = Arc::new(Activity::default());
        let waiting = Arc::new(AtomicUsize::new(0));
        let waits = waiting.clone();
        let (shard, waker) = Shard::new(instances, figures, receiver, activity.clone(), waits)?;
        let mailbox = Mailbox {
            commands,
            waker: Arc::new(waker),
            waiting,
            bounds: Arc::default(),
        };
        mailbox.know(&shard.instances);
        Ok(Taken {
            shard: Box::new(shard),
            mailbox,
            activity,
            before: Leaving::default(),
        })
    }

    /// Sends commands to it, now and when it runs.
    pub(crate) fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Lets it run on a thread that has run nothing yet.
    ///
    /// # Errors
    ///
    /// If that thread has ended; the shard is lost then.
    pub(crate) fn run(self, seat: Seat) -> io::Result<ShardThread> {
        let names = self.shard.names().to_vec();
        self.mailbox.know(&self.shard.instances);
        let gone = |_| io::Error::other("the thread made for the event loop has ended");
        seat.shard.send(Some(self.shard)).map_err(gone)?;
        Ok(ShardThread {
            mailbox: self.mailbox,
            activity: self.activity,
            names,
            thread: seat.thread,
            ended: seat.ended,
            before: self.before,
        })
    }
}

/// Sends commands to a shard, whichever thread it runs on, or none.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    commands: Sender<Command>,
    waker: Arc<Waker>,
    /// Requests that the shard has not seen yet.
    waiting: Arc<AtomicUsize>,
    /// How many there may be when one for this component comes.
    bounds: Arc<RwLock<HashMap<String, usize>>>,
}

/// Why a request was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotSent {
    /// The shard is gone.
    Gone,
    /// So many wait already, and no more may.
    Full(usize),
}

impl Mailbox {
    /// Hands a command over; `false` if the shard is gone.
    pub(crate) fn send(&self, command: Command) -> bool {
        self.commands.send(command).is_ok() && self.waker.wake().is_ok()
    }

    /// Hands a request over, unless too many wait.
    pub(crate) fn request(
        &self,
        component: &str,
        bytes: &[u8],
        answer: Option<Sender<Answer>>,
    ) -> Result<(), NotSent> {
        let bounds = self.bounds.read().unwrap_or_else(PoisonError::into_inner);
        // Who is not known gets an answer that says so.
        let bound = bounds.get(component).copied().unwrap_or(usize::MAX);
        drop(bounds);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= bound {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(NotSent::Full(bound));
        }
        let request = Command::Request {
            component: component.to_owned(),
            bytes: bytes.to_vec(),
            answer,
        };
        match self.send(request) {
            true => Ok(()),
            false => Err(NotSent::Gone),
        }
    }

    /// Learns how much may wait for whom.
    fn know(&self, instances: &[Instance]) {
        let mut bounds = self.bounds.write().unwrap_or_else(PoisonError::into_inner);
        bounds.clear();
        for one in instances {
            // By both names that it may have.
            bounds.insert(one.component.clone(), one.mailbox);
            bounds.insert(format!("{}.{}", one.component, one.number), one.mailbox);
        }
    }
}

impl ShardThread {
    /// Takes the shard at the next message boundary. Its thread runs nothing any more: what it
    /// holds of the libraries is gone when [`Taken::before`] has been joined.
    ///
    /// # Errors
    ///
    /// [`NotTaken`] says why, and has the thread.
    pub(crate) fn take(self, deadline: Duration) -> Result<Taken, NotTaken> {
        let place = Arc::new(HandOver::default());
        let asked = self.mailbox.send(Command::HandOver(place.clone()));
        let handed = if asked {
            place.wait(deadline, || self.is_finished())
        } else {
            None
        };
        let shard = match handed {
            Some(shard) => shard,
            // It ended by itself, and left the shard.
            None if self.is_finished() => match self.ended.try_recv() {
                Ok(shard) => shard,
                Err(_) => {
                    return Err(NotTaken {
                        error: TakeError::Gone,
                        thread: None,
                    });
                }
            },
            None => {
                let holder = match self.activity.instance.load(Ordering::Relaxed) {
                    0 => "no handler runs; the machine may be too busy".to_owned(),
                    at => format!(
                        "a handler of `{}` has not returned",
                        self.names[at as usize - 1]
                    ),
                };
                return Err(NotTaken {
                    error: TakeError::Busy(deadline, holder),
                    thread: Some(Box::new(self)),
                });
            }
        };
        Ok(Taken {
            shard,
            mailbox: self.mailbox,
            activity: self.activity,
            before: Leaving(Some(self.thread)),
        })
    }

    /// Sends commands to it, now and when it runs on another thread.
    pub(crate) fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Lets the loop not sleep for a moment: what it is asked next it does at once, as soon as it has served
    /// what is there. Comes back when that holds, or soon if a handler takes its time.
    pub(crate) fn keep_awake(&self) {
        self.look(AWAKE * 10, |shard| {
            shard.awake_until = Some(Instant::now() + AWAKE);
        });
    }

    /// Looks at the shard between two messages; `None` if it does not come to one in time.
    pub(crate) fn look<R: Send + 'static>(
        &self,
        deadline: Duration,
        look: impl FnOnce(&mut Shard) -> R + Send + 'static,
    ) -> Option<R> {
        let (send, receive) = mpsc::sync_channel(1);
        let look = Look(Box::new(move |shard| {
            // Whoever asked may have gone.
            let _ = send.send(look(shard));
        }));
        if !self.mailbox.send(Command::Look(look)) {
            return None;
        }
        receive.recv_timeout(deadline).ok()
    }

    /// Whether the thread has ended by itself.
    pub(crate) fn is_finished(&self) -> bool {
        self.thread.handle.is_finished()
    }
}

/// What became of the shard that a thread ran.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    HandedOver,
    GaveUp,
}

/// The thread's work: the loop, until the shard is handed over or gives up.
fn serve(mut shard: Box<Shard>, mut events: Events, end: &Sender<Box<Shard>>) -> Outcome {
    loop {
        loop {
            match shard.commands.try_recv() {
                Ok(Command::HandOver(to)) => {
                    // What components have sent each other is served by those it was sent to.
                    shard.serve_mailbox();
                    match to.give(shard) {
                        None => return Outcome::HandedOver,
                        // Whoever asked did not wait: go on.
                        Some(unwanted) => shard = unwanted,
                    }
                }
                Ok(Command::Look(Look(look))) => look(&mut shard),
                Ok(Command::Request {
                    component,
                    bytes,
                    answer,
                }) => {
                    shard.waiting.fetch_sub(1, Ordering::Relaxed);
                    shard.request(&component, bytes, answer);
                }
                Err(_) => break,
            }
        }
        if let Err(error) = shard.turn(&mut events) {
            shard.failed = Some(format!("the event loop failed: {error}"));
        }
        if let Some(reason) = &shard.failed {
            tracing::error!(reason, "the event loop gives up");
            // The node looks whether the thread has ended.
            let _ = end.send(shard);
            return Outcome::GaveUp;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_takes_so_many_requests_and_no_more() {
        let taken = Taken::new(Vec::new(), Arc::new(Figures::new())).unwrap();
        let mailbox = taken.mailbox();
        mailbox.bounds.write().unwrap().insert("store".into(), 2);
        for _ in 0..2 {
            assert_eq!(mailbox.request("store", b"x", None), Ok(()));
        }
        assert_eq!(mailbox.request("store", b"x", None), Err(NotSent::Full(2)));
        // A look is no request: whoever looks after the node gets through.
        assert!(mailbox.send(Command::Look(Look(Box::new(|_| {})))));
        let running = taken.run(Seat::new().unwrap()).unwrap();
        assert!(running.look(Duration::from_secs(30), |_| ()).is_some());
        mailbox.bounds.write().unwrap().insert("store".into(), 2);
        assert_eq!(
            mailbox.request("store", b"x", None),
            Ok(()),
            "they were seen"
        );
        assert!(running.take(Duration::from_secs(30)).is_ok());
        assert_eq!(mailbox.waiting.load(Ordering::Relaxed), 0);
        // Nobody is there any more.
        assert_eq!(mailbox.request("store", b"x", None), Err(NotSent::Gone));
    }
}
