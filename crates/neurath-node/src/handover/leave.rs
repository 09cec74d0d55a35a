//! The old node's side: it stops between two messages, gives everything to the keeper, and replaces its program.

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::process::Pid;

use super::errand::Errand;
use super::keeper::{KEPT, LEAVES, SOCKET};
use super::opens::{self, OpensError};
use super::parcel::{self, ParcelError};
use super::program::{OWN, Program, ProgramError};
use super::record::{FiguresRecord, Record};
use super::trial::TrialError;
use super::{BECAUSE, KEEP, Launch, TAKE_OVER};
use crate::catalog::CatalogError;
use crate::control::{SocketPath, SocketPathError};
use crate::fault;
use crate::loader::Function;
use crate::mapping::Gate;
use crate::node::Core;
use crate::peer::Peer;
use crate::protocol::code;
use crate::shard::effects::Listening;
use crate::shard::{Seat, Shard, TakeError, Taken};
use crate::signals;
use crate::upgrade::{FIXED, Outside};
use crate::worker::Worker;

/// How long the event loop has to come to a message boundary, and each component to stop its work.
const STOP: Duration = Duration::from_secs(5);
/// How long the keeper may take to come up.
const KEEPER: Duration = Duration::from_secs(10);
/// How often a program whose file is still open for writing is run again.
const TEXT_BUSY: u32 = 100;

/// Why a node was not replaced. It serves on with everything it had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LeaveError {
    /// The process is somebody else's.
    #[error(
        "this node runs inside another program, which would be replaced with it; stop that program and start it again"
    )]
    Embedded,
    /// There is no program for the release.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// The new program is not what it should be.
    #[error(transparent)]
    Trial(#[from] TrialError),
    /// The next program could not open what it has to.
    #[error(transparent)]
    Opens(#[from] OpensError),
    /// The catalog cannot be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// There is no keeper.
    #[error("the process that keeps the connections does not come up: {0}")]
    Keeper(io::Error),
    /// The keeper's socket has no path.
    #[error(transparent)]
    Path(#[from] SocketPathError),
    /// Nothing runs, or it does not come to the end of a message.
    #[error("{0}")]
    Busy(String),
    /// A component does not stop its work.
    #[error("{0}")]
    Component(String),
    /// The keeper did not take what it was given.
    #[error(transparent)]
    Parcel(#[from] ParcelError),
    /// The system refused.
    #[error("cannot hand over: {0}")]
    Io(#[from] io::Error),
}

impl LeaveError {
    /// The exit code of the command line, see [`code`].
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Opens(error) => error.code(),
            Self::Program(ProgramError::Release(_)) => code::LINT,
            _ => code::UPGRADE_FAILED,
        }
    }

    /// What may be in a log.
    pub(crate) fn brief(&self) -> String {
        match self {
            Self::Opens(error) => error.brief(),
            other => other.to_string(),
        }
    }
}

/// Replaces this process's program by another one, which does the errand. Returns only if that is not possible: the
/// node serves on then, or stands still as before.
pub(crate) fn leave(
    core: &mut Core,
    program: &Program,
    errand: impl FnOnce(u64) -> Errand,
) -> LeaveError {
    match hand_over(core, program, errand) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

fn hand_over(
    core: &mut Core,
    program: &Program,
    errand: impl FnOnce(u64) -> Errand,
) -> Result<std::convert::Infallible, LeaveError> {
    let launch = core.launch.clone().ok_or(LeaveError::Embedded)?;
    let lock = core.directory.lock_descriptor().try_clone_to_owned()?;
    let control = match &core.control {
        Some(control) => control.try_clone()?,
        None => return Err(LeaveError::Embedded),
    };
    let asker = core.asker.clone();
    opens::check(core, &[core.current()])?;
    let keeper = Keeper::start(core.directory.path(), &launch)?;
    fault::point("handover.keeper");
    let (mut taken, stands) = stand_still(core)?;
    let since_us = now_us();
    let given = quiesce(&mut taken).and_then(|()| {
        let shard = &taken.shard;
        let mut descriptors = vec![lock.as_fd(), control.as_fd()];
        let asker = asker.as_ref().map(|asker| {
            descriptors.push(asker.stream());
            (descriptors.len() - 1) as u32
        });
        let record = Record {
            release: core.current(),
            errand: errand(since_us),
            lock: 0,
            control: 1,
            asker,
            figures: figures(shard),
            shard: shard.carry(&mut descriptors),
        };
        keeper.give(&record, &descriptors)
    });
    if let Err(error) = given {
        serve_again(core, taken, stands)?;
        return Err(error);
    }
    fault::point("handover.kept");
    // Half a frame to whoever asked could not be completed by the next program.
    let _quiet = asker.as_ref().map(crate::control::Asker::quiet);
    if let Err(error) = keeper.leave() {
        serve_again(core, taken, stands)?;
        return Err(error);
    }
    fault::point("handover.left");
    close(taken);
    fault::point("handover.closed");
    go(&launch, program)
}

/// Takes the shard, and tells whether it stood still before.
fn stand_still(core: &mut Core) -> Result<(Taken, bool), LeaveError> {
    if let Some(taken) = core.standing.take() {
        return Ok((taken, true));
    }
    let nothing = || LeaveError::Busy(TakeError::Gone.to_string());
    let running = core.running.take().ok_or_else(nothing)?;
    match running.take(STOP) {
        Ok(taken) => Ok((taken, false)),
        Err(not) => {
            core.running = not.thread.map(|thread| *thread);
            Err(LeaveError::Busy(not.error.to_string()))
        }
    }
}

/// Lets the shard go on as it was.
fn serve_again(core: &mut Core, taken: Taken, stands: bool) -> Result<(), LeaveError> {
    if stands {
        core.standing = Some(taken);
    } else {
        core.running = Some(taken.run(Seat::new()?)?);
    }
    Ok(())
}

/// Lets every component stop its work; what that wrote is committed.
fn quiesce(taken: &mut Taken) -> Result<(), LeaveError> {
    let mut worker = Worker::default();
    for at in 0..taken.shard.instances.len() {
        let called = call(&mut taken.shard, at, Function::Quiesce, &mut worker);
        let mut effects = called.map_err(LeaveError::Component)?;
        taken.shard.carry_out(at, &mut effects);
    }
    Ok(())
}

/// Ends every component, and closes its region. Nothing leads back from here in this program.
fn close(mut taken: Taken) {
    let mut worker = Worker::default();
    for at in 0..taken.shard.instances.len() {
        let ended = call(&mut taken.shard, at, Function::Terminate, &mut worker);
        if let Err(error) = ended {
            tracing::warn!(error, "a component did not end well");
        }
    }
    for instance in taken.shard.instances.drain(..) {
        let name = instance.component;
        if let Err(error) = instance.region.close() {
            tracing::error!(component = name, %error, "a region is as after a kill");
        }
    }
}

fn call(
    shard: &mut Shard,
    at: usize,
    function: Function,
    worker: &mut Worker,
) -> Result<crate::shard::effects::Effects, String> {
    let outside = Outside::of(shard, at, Listening::Nowhere, FIXED);
    let instance = &mut shard.instances[at];
    let gate = Gate::open(instance.attached.handle(), &mut instance.region);
    let called = outside.call(worker, function, &gate, STOP);
    gate.end(&mut instance.region);
    match called {
        Ok((_, effects)) => match instance.region.commit() {
            Ok(_) => Ok(effects),
            Err(error) => Err(format!("the state of {}: {error}", instance.component)),
        },
        Err(error) => {
            instance.region.abort();
            Err(error.to_string())
        }
    }
}

fn figures(shard: &Shard) -> FiguresRecord {
    use std::sync::atomic::Ordering::Relaxed;
    FiguresRecord {
        uptime_us: shard.figures.uptime_us(),
        connections_total: shard.figures.connections_total.load(Relaxed),
        messages: shard.figures.messages.load(Relaxed),
    }
}

/// Runs the program in this process; the old one again if it cannot be run.
fn go(launch: &Launch, program: &Program) -> ! {
    signals::pass_on();
    let mut next = Command::new(program.path());
    next.args(&launch.arguments).arg(TAKE_OVER);
    let mut error = next.exec();
    for _ in 0..TEXT_BUSY {
        // A command that another thread is about to run may hold the file open for a moment.
        if error.kind() != io::ErrorKind::ExecutableFileBusy {
            break;
        }
        std::thread::sleep(Duration::from_millis(5));
        error = next.exec();
    }
    tracing::error!(%error, path = %program.path().display(), "the new node cannot be run");
    again(
        launch,
        Path::new(OWN),
        &format!("it cannot be run: {error}"),
    )
}

/// Runs the old program again in this process: the one of the keeper, which has everything.
///
/// Where even that is not possible, the process ends, and the keeper is the node.
pub fn go_back(launch: &Launch, keeper: Pid, why: &str) -> ! {
    signals::pass_on();
    let program = format!("/proc/{}/exe", keeper.as_raw_nonzero());
    again(launch, Path::new(&program), why)
}

/// Runs the old program again in this process.
fn again(launch: &Launch, program: &Path, why: &str) -> ! {
    let mut old = Command::new(program);
    old.args(&launch.arguments)
        .arg(TAKE_OVER)
        .args([BECAUSE, why]);
    let error = old.exec();
    tracing::error!(%error, "nor can the old one");
    // The keeper has everything, and is the node when this process has ended.
    std::process::exit(1)
}

/// The keeper's process, as the old node sees it.
struct Keeper {
    stream: UnixStream,
    _child: Kept,
}

/// The keeper's process. It ends when it is not needed: replacing this process's program does not drop it.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether a process is at the other end.
fn is_of(stream: &UnixStream, pid: u32) -> io::Result<bool> {
    Ok(Peer::of(stream)?.pid == Some(pid))
}

impl Keeper {
    fn start(directory: &Path, launch: &Launch) -> Result<Keeper, LeaveError> {
        let mut command = Command::new(OWN);
        command.args(&launch.arguments);
        command.arg(KEEP).arg(std::process::id().to_string());
        let child = signals::spawn(&mut command).map_err(LeaveError::Keeper)?;
        let mut child = Kept(child);
        let path = SocketPath::in_directory(directory)?;
        let until = Instant::now() + KEEPER;
        loop {
            match UnixStream::connect(path.of(SOCKET)) {
                // One of an earlier hand-over may be on its way out.
                Ok(stream) if is_of(&stream, child.0.id())? => {
                    stream.set_read_timeout(Some(KEEPER))?;
                    stream.set_write_timeout(Some(KEEPER))?;
                    return Ok(Keeper {
                        stream,
                        _child: child,
                    });
                }
                Ok(_) => {}
                Err(error) => {
                    let ended = child.0.try_wait().map_err(LeaveError::Keeper)?;
                    if ended.is_some() || Instant::now() >= until {
                        return Err(LeaveError::Keeper(error));
                    }
                }
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn give(&self, record: &Record, descriptors: &[BorrowedFd<'_>]) -> Result<(), LeaveError> {
        let count = u32::try_from(descriptors.len()).unwrap_or(u32::MAX);
        parcel::send(&self.stream, &record.encode(count), descriptors)?;
        match parcel::read_byte(&self.stream)? {
            KEPT => Ok(()),
            _ => Err(ParcelError::Disorder("the keeper says what is not understood").into()),
        }
    }

    /// From here on the keeper waits for another program.
    fn leave(&self) -> Result<(), LeaveError> {
        Ok((&self.stream).write_all(&[LEAVES])?)
    }
}

/// Microseconds since 1970, UTC.
pub(crate) fn now_us() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}
