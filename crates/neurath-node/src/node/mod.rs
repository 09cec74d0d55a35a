//! A node: one process, one directory, one release at a time.

mod board;
mod copy;
mod core;
mod errand;
mod error;
mod lost_state;
mod metrics;
mod planning;
mod rehearsal;
mod requests;
mod resets;
mod restarts;
mod serve;
mod served;
mod snapshot;
mod start;
pub(crate) mod starts;
mod supervision;
mod watch;

use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::catalog::ReleaseId;
use crate::control::{ControlHandle, ControlServer};
use crate::fault;
use crate::handover::{Arrival, Launch};
use crate::journal::Verdict;
use crate::meeting::Meetings;
use crate::protocol::{InFlight, Progress, Request, Response, Status};
use crate::shard::figures::Figures;
use crate::shard::{NotSent, Seat};
use crate::signals::Asked;
use board::status;
pub(crate) use core::{Core, config_json, distinct, instances_of, mailbox_of};
pub use error::{CallError, Crashes, NodeError, StartError};
pub use rehearsal::{
    Memory, REHEARSALS, Rehearsal, RehearsalError, Rehearsed, RehearsedState, Rehearsing, WayBack,
    rehearse, remove_old_rehearsals,
};
pub(crate) use resets::delete as delete_snapshot;
pub use serve::{BEFORE_IS_CONVERTED, offline, set_aside};
pub(crate) use start::create_region;
use watch::go_back;

/// How often the node looks whether all is well.
const WATCH: Duration = Duration::from_millis(100);
/// How long the event loop has to end when the node stops.
const STOP: Duration = Duration::from_secs(10);

/// What a node is started with.
#[derive(Clone, Debug, Default)]
pub struct NodeOptions {
    /// The node's directory; made if it is not there.
    pub directory: PathBuf,
    /// The release that a new node is made with. It says nothing of a node that has one.
    pub release: Option<ReleaseId>,
    /// A folder of built releases, where `release` is installed from.
    pub release_source: Option<PathBuf>,
    /// How the node's program was started, so that another can take its place in this process. None for a node that
    /// runs inside another program.
    pub launch: Option<Launch>,
    /// Components whose state is served although the machine went down while it was open for the death
    /// of a process only. All levels of it are checked first. It says nothing of other components, nor
    /// of states that open anyway.
    pub accept_power_loss: Vec<String>,
    /// Components that begin with an empty state if theirs does not open any more: damaged, gone, or open
    /// when the machine went down. What is there is kept beside it. A state that opens is not touched.
    pub reset_state: Vec<String>,
    /// Whether a release that was not confirmed is left once more, after so many starts that did so have crashed.
    pub try_again: bool,
    /// Sockets that listen already: a component that listens at the address of one gets that one.
    pub sockets: Arc<Vec<TcpListener>>,
}

/// A running node. Dropped, it stops as by a kill; [`Node::stop`] is the orderly way.
#[derive(Debug)]
pub struct Node {
    shared: Arc<Shared>,
    control: Option<ControlHandle>,
    watch: Option<JoinHandle<()>>,
}

/// A handle to a node in the same process, for a program that embeds it.
#[derive(Clone, Debug)]
pub struct NodeHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Held by whoever changes something, and taken before the core: a mere look at the core
    /// makes nobody busy.
    operation: Mutex<()>,
    core: Mutex<Core>,
    /// The node's directory.
    directory: PathBuf,
    /// The last status that was seen, for when the core is busy.
    board: Mutex<Status>,
    mailbox: crate::shard::Mailbox,
    figures: Arc<Figures>,
    meetings: Meetings,
    /// What is under way.
    flight: Arc<Mutex<Option<InFlight>>>,
    /// Set by whoever wants the upgrade that runs to be given up.
    abort: Arc<AtomicBool>,
    /// Set with `stopping`, for those who do not wait for it.
    ending: Arc<AtomicBool>,
    /// What the node before in this process was in the midst of is gone on with first.
    errand_first: AtomicBool,
    stopping: Mutex<bool>,
    /// Who has asked the node to stop.
    stopper: Mutex<Option<String>>,
    stop: Condvar,
    /// Why the node ended by itself.
    gave_up: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Node {
    /// Starts a node, which serves when this returns.
    ///
    /// A release that was not confirmed before the node went down is left again, with the
    /// writes made since, before anything is served.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub fn start(options: NodeOptions) -> Result<Node, StartError> {
        Self::start_in(options, None, false)
    }

    /// Starts a node that only rehearses: in the copy of a node's directory. It listens nowhere, has
    /// no control socket, runs no commands of a release, and makes no health checks; so a release
    /// that it was brought to stays until it is asked to go back.
    pub(super) fn start_rehearsal(options: NodeOptions) -> Result<Node, StartError> {
        Self::start_in(options, None, true)
    }

    /// Starts a node in a release that ran before, as OTP's `reboot_old_release`: before anything is
    /// served, the state is taken there by the way down, and the release is made the permanent one.
    ///
    /// # Errors
    ///
    /// [`StartError`]; the release before is still the permanent one then.
    pub fn start_old(options: NodeOptions, release: &ReleaseId) -> Result<Node, StartError> {
        Self::start_in(options, Some(release), false)
    }

    fn start_in(
        options: NodeOptions,
        old: Option<&ReleaseId>,
        rehearsal: bool,
    ) -> Result<Node, StartError> {
        let directory = options.directory.clone();
        let started = Self::come_up(options, old, rehearsal);
        started.inspect_err(|error| start::note_failure(&directory, error))
    }

    fn come_up(
        options: NodeOptions,
        old: Option<&ReleaseId>,
        rehearsal: bool,
    ) -> Result<Node, StartError> {
        let (mut core, operation) = start::start(&options, rehearsal)?;
        if core.catalog.state().previous.is_some() {
            go_back(&mut core, "the start of the node");
            core.untrusted = false;
            // What the way back has not changed; all, if the release could not be left, and serves on until a person
            // decides.
            start::init_all(&mut core)?;
        }
        if let Some(release) = old {
            let went = requests::reboot_old(&mut core, release, "node reboot-old");
            went.map_err(|refusal| StartError::Reboot {
                release: release.clone(),
                text: refusal.brief().to_owned(),
            })?;
        }
        core.hold = false;
        let control = match rehearsal {
            true => None,
            false => Some(ControlServer::bind(&core.directory)?),
        };
        if let Some(control) = &control {
            core.control = Some(control.socket()?);
        }
        started(&mut core, &operation)?;
        if !rehearsal {
            restarts::settle_program(&mut core);
        }
        let (mut node, control) = Self::run(core, control, || ())?;
        if let Some(control) = control {
            node.look_after(control)?;
        }
        Ok(node)
    }

    /// Goes on in the place of the node before in this process, or of the one that this process has kept for. It serves
    /// when this returns, and does the errand it was left with.
    ///
    /// # Errors
    ///
    /// [`StartError`]; whoever keeps what was handed over can give it to another.
    pub fn take_over(options: NodeOptions, mut arrival: Arrival) -> Result<Node, StartError> {
        let mut core = start::arrive(&options, &mut arrival)?;
        let place = arrival.record.control;
        let socket = arrival.descriptors.take(place);
        let socket = socket.map_err(|error| StartError::HandOver(error.to_string()))?;
        let control = ControlServer::adopt(&core.directory, socket)?;
        let asker = arrival.record.asker.take();
        let asker = asker.and_then(|place| arrival.descriptors.take(place).ok());
        core.hold = false;
        // What was handed over is served by one node only: the keeper lets go of it before the event loop
        // reads the first byte.
        let let_go = || {
            let first = arrival.because().is_none();
            if first {
                fault::point("handover.ready");
            }
            arrival.served();
            if first {
                fault::point("handover.served");
            }
        };
        let (mut node, control) = Self::run(core, Some(control), let_go)?;
        node.shared.errand_first.store(true, Ordering::SeqCst);
        let Some(control) = control else {
            unreachable!("it was given")
        };
        node.look_after(control)?;
        let Arrival {
            record, because, ..
        } = arrival;
        node.begin_errand(asker, record.errand, because)?;
        Ok(node)
    }

    /// Lets the shard run, after what is to be done when nothing else can fail.
    fn run(
        mut core: Core,
        control: Option<ControlServer>,
        at_last: impl FnOnce(),
    ) -> Result<(Node, Option<ControlServer>), StartError> {
        if let Some(control) = &control {
            core.control = Some(control.socket()?);
        }
        let Some(standing) = core.standing.take() else {
            unreachable!("start made it")
        };
        let mailbox = standing.mailbox();
        let seat = Seat::new().map_err(StartError::EventLoop)?;
        at_last();
        core.running = Some(standing.run(seat).map_err(StartError::EventLoop)?);
        let figures = core.figures.clone();
        let (abort, ending) = (core.abort.clone(), core.ending.clone());
        let flight = core.flight.clone();
        let meetings = core.meetings.clone();
        let board = status(&core, &figures);
        let shared = Arc::new(Shared {
            operation: Mutex::new(()),
            directory: core.directory.path().to_owned(),
            core: Mutex::new(core),
            board: Mutex::new(board),
            mailbox,
            figures,
            meetings,
            flight,
            abort,
            ending,
            errand_first: AtomicBool::new(false),
            stopping: Mutex::new(false),
            stopper: Mutex::new(None),
            stop: Condvar::new(),
            gave_up: Mutex::new(None),
        });
        let node = Node {
            shared,
            control: None,
            watch: None,
        };
        Ok((node, control))
    }

    /// Serves the control socket, and watches over the node.
    fn look_after(&mut self, control: ControlServer) -> Result<(), StartError> {
        let serving = self.shared.clone();
        self.control = Some(control.serve_peers(move |asker, request, progress| {
            let who = asker.peer().to_string();
            serving.serve(&who, Some(asker), request, progress)
        })?);
        let shared = self.shared.clone();
        let watch = std::thread::Builder::new().name("neurath-watch".into());
        let watch = watch.spawn(move || shared.watch());
        self.watch = Some(watch.map_err(StartError::EventLoop)?);
        Ok(())
    }

    /// A handle for use in this process.
    pub fn handle(&self) -> NodeHandle {
        NodeHandle {
            shared: self.shared.clone(),
        }
    }

    /// Serves until somebody asks the node to stop, by the control socket, SIGTERM or SIGINT; then stops.
    ///
    /// # Errors
    ///
    /// Those of [`Node::wait_for_stop`] and [`Node::stop`].
    pub fn run_until_stopped(self) -> Result<(), NodeError> {
        self.wait_for_stop()?;
        self.stop()
    }

    /// Serves until somebody asks the node to stop, by the control socket, SIGTERM or SIGINT.
    ///
    /// # Errors
    ///
    /// [`NodeError::GaveUp`] when a component failed too often.
    pub fn wait_for_stop(&self) -> Result<(), NodeError> {
        let asked = Asked::since_now();
        let mut signalled = false;
        while !signalled && !self.shared.wait_for_stop(WATCH) {
            signalled = asked.seen();
        }
        if let Some(reason) = lock(&self.shared.gave_up).clone() {
            return Err(NodeError::GaveUp(reason));
        }
        if signalled {
            self.shared.ask_to_stop("a signal");
        }
        Ok(())
    }

    /// Stops in order: every component terminates, every region is closed.
    ///
    /// # Errors
    ///
    /// [`NodeError::Stop`]; nothing is lost then, but the regions are as after a kill.
    pub fn stop(mut self) -> Result<(), NodeError> {
        // A handle may outlive the node: from here on it can ask for nothing any more.
        self.shared.ask_to_stop("this process");
        if let Some(control) = self.control.take() {
            control.stop();
        }
        let who = lock(&self.shared.stopper).clone().unwrap_or_default();
        let mut core = lock(&self.shared.core);
        core.window = None;
        supervision::record_failures_first(&mut core);
        let stop = core.begin(crate::journal::STOP, &who);
        if let Err(error) = &stop {
            tracing::error!(%error, "the stop could not be recorded");
        }
        let Some(running) = core.running.take() else {
            core.directory.unlock();
            return Ok(());
        };
        let mut taken = running
            .take(STOP)
            .map_err(|not| NodeError::Stop(not.error.to_string()))?;
        supervision::record_failures_of(&mut core, &mut taken.shard);
        let trouble = supervision::end_all(&mut taken);
        if let Ok(operation) = stop {
            let (verdict, text) = match trouble.as_slice() {
                [] => (Verdict::Done, "every region is closed".to_owned()),
                trouble => (Verdict::Failed, trouble.join("; ")),
            };
            core.end(&operation, &who, verdict, text);
        }
        core.directory.unlock();
        if trouble.is_empty() {
            Ok(())
        } else {
            Err(NodeError::Stop(trouble.join("; ")))
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.shared.ask_to_stop("this process");
        if let Some(watch) = self.watch.take()
            && watch.join().is_err()
        {
            tracing::error!("the node's watch panicked");
        }
    }
}

/// Records that the node serves now, and lets the catalog know of all that the journal has.
fn started(core: &mut Core, operation: &str) -> Result<(), StartError> {
    let text = format!(
        "{} serves, process {}, node {}",
        core.current(),
        std::process::id(),
        core.version()
    );
    core.end(operation, &start::this_process(), Verdict::Done, text);
    let mut state = core.catalog.state().clone();
    state.journal = core.journal.mark();
    state.starts = 0;
    Ok(core.catalog.commit(state)?)
}

impl NodeHandle {
    /// Asks a component, and waits for its answer.
    ///
    /// # Errors
    ///
    /// [`CallError`]. A request that timed out may still be served.
    pub fn call(
        &self,
        component: &str,
        bytes: &[u8],
        timeout: Duration,
    ) -> Result<Vec<u8>, CallError> {
        let (send, receive) = mpsc::channel();
        self.request(component, bytes, Some(send))?;
        match receive.recv_timeout(timeout) {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(text)) => Err(CallError::Refused(text)),
            Err(mpsc::RecvTimeoutError::Timeout) => Err(CallError::TimedOut(timeout)),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(CallError::Ended),
        }
    }

    /// Sends a component a message that nobody waits for the answer of.
    ///
    /// # Errors
    ///
    /// [`CallError::Full`] and [`CallError::Ended`].
    pub fn cast(&self, component: &str, bytes: &[u8]) -> Result<(), CallError> {
        self.request(component, bytes, None)
    }

    fn request(
        &self,
        component: &str,
        bytes: &[u8],
        answer: Option<mpsc::Sender<crate::shard::Answer>>,
    ) -> Result<(), CallError> {
        let sent = self.shared.mailbox.request(component, bytes, answer);
        sent.map_err(|not| match not {
            NotSent::Gone => CallError::Ended,
            NotSent::Full(limit) => CallError::Full {
                component: component.to_owned(),
                limit,
            },
        })
    }

    /// Does what the control socket can ask for, in this process.
    pub fn request_control(
        &self,
        request: Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Response {
        self.shared.serve("this process", None, request, progress)
    }

    /// What runs, and how it is.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// The sockets where clients reach the node, and their addresses; none if the event loop does not come to
    /// the end of a message within this time.
    ///
    /// # Errors
    ///
    /// If the process may have no more descriptors.
    pub fn sockets(&self, timeout: Duration) -> std::io::Result<Option<Vec<(String, OwnedFd)>>> {
        let seen = snapshot::look(&self.shared.mailbox, timeout, |shard| shard.sockets());
        seen.ok().transpose()
    }

    /// A number that changes when one of [`NodeHandle::sockets`] comes or goes.
    pub fn sockets_changed(&self) -> u64 {
        self.shared.figures.listened.load(Ordering::Relaxed)
    }

    /// Whether the event loop comes to the end of a message within this time. It does not while an
    /// upgrade makes messages wait.
    pub fn answers(&self, timeout: Duration) -> bool {
        snapshot::look(&self.shared.mailbox, timeout, |_| ()).is_ok()
    }
}

impl Shared {
    fn ask_to_stop(&self, who: &str) {
        lock(&self.stopper).get_or_insert_with(|| who.to_owned());
        *lock(&self.stopping) = true;
        self.ending.store(true, Ordering::Relaxed);
        self.stop.notify_all();
    }

    /// Waits for at most `time`; whether the node is to stop.
    fn wait_for_stop(&self, time: Duration) -> bool {
        let stopping = lock(&self.stopping);
        if *stopping {
            return true;
        }
        *self
            .stop
            .wait_timeout(stopping, time)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// The right to change something, if nobody else has it.
    fn begin(&self) -> Option<MutexGuard<'_, ()>> {
        if self.errand_first.load(Ordering::SeqCst) {
            return None;
        }
        match self.operation.try_lock() {
            Ok(operation) => Some(operation),
            Err(TryLockError::Poisoned(operation)) => Some(operation.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }
}
