//! The control socket of a node: `control.sock` in its directory, for its own user and root.

use std::collections::HashMap;
use std::fs::{File, Permissions};
use std::io::{self, Read};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use thiserror::Error;

use crate::directory::{CONTROL_SOCKET, NodeDirectory, fsync_dir};
use crate::fault;
use crate::peer::Peer;
use crate::protocol::{
    Answer, FrameError, Progress, Request, Response, code, read_frame, write_frame,
};

/// How many clients are served at once; a further one is told that the node is busy.
pub const CONNECTION_LIMIT: usize = 16;
/// The longest path of a Unix socket that the kernel takes, without its final zero.
const PATH_LIMIT: usize = 107;
/// Progress that waits for a slow client; what does not fit is dropped, so that no client holds up an upgrade.
const PROGRESS_QUEUE: usize = 256;
const SOCKET_NEW: &str = "control.sock.new";

/// Why the path of a control socket cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SocketPathError {
    /// The directory cannot be opened.
    #[error("{}: cannot open the directory of the control socket: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is too long and `/proc` is not there to shorten it.
    #[error("{}: {bytes} bytes are too long for the path of a socket (at most {PATH_LIMIT}), and /proc is not mounted to shorten it; mount /proc or use a shorter directory", path.display())]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length.
        bytes: usize,
    },
}

/// A directory by a path short enough for the address of a socket in it.
#[derive(Debug)]
pub(crate) struct SocketPath {
    base: PathBuf,
    // What `base` goes through, where it goes through /proc.
    _directory: Option<File>,
}

impl SocketPath {
    pub(crate) fn in_directory(directory: &Path) -> Result<Self, SocketPathError> {
        let bytes = directory.as_os_str().as_bytes().len() + 1 + SOCKET_NEW.len();
        if bytes <= PATH_LIMIT {
            return Ok(Self {
                base: directory.to_owned(),
                _directory: None,
            });
        }
        let failed = |source| SocketPathError::Directory {
            path: directory.to_owned(),
            source,
        };
        let file = File::open(directory).map_err(failed)?;
        let base = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        if !base.is_dir() {
            return Err(SocketPathError::TooLong {
                path: directory.join(CONTROL_SOCKET),
                bytes,
            });
        }
        Ok(Self {
            base,
            _directory: Some(file),
        })
    }

    pub(crate) fn of(&self, name: &str) -> PathBuf {
        self.base.join(name)
    }
}

/// Why the control socket could not be opened or served.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The path of the socket cannot be used.
    #[error(transparent)]
    Path(#[from] SocketPathError),
    /// The operating system refused a step.
    #[error("{}: cannot {step}: {source}; see to the directory and the limits of the process", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// How long the server waits for a client.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// For the first byte of the next request.
    pub idle: Duration,
    /// For a whole frame, once begun, and for a client to take an answer.
    pub frame: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            idle: Duration::from_secs(60),
            frame: Duration::from_secs(10),
        }
    }
}

/// Whoever waits for an answer.
#[derive(Debug, Clone)]
pub struct Asker {
    peer: Peer,
    stream: Arc<UnixStream>,
    /// Held while a frame is written.
    writing: Arc<Mutex<()>>,
}

impl Asker {
    fn new(peer: Peer, stream: UnixStream) -> Asker {
        Asker {
            peer,
            stream: Arc::new(stream),
            writing: Arc::default(),
        }
    }

    /// The process that asks.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Its connection.
    pub(crate) fn stream(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Nothing is written to it while this lives, and no frame is half written.
    pub(crate) fn quiet(&self) -> MutexGuard<'_, ()> {
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, answer: &Answer) -> Result<(), FrameError> {
        let _quiet = self.quiet();
        write_frame(&mut &*self.stream, answer)
    }
}

/// The bound control socket, not yet served.
#[derive(Debug)]
pub struct ControlServer {
    listener: UnixListener,
    path: PathBuf,
    limits: Limits,
}

impl ControlServer {
    /// Binds `control.sock` (mode 0600) in a node directory, whose lock makes any socket found there a stale one.
    pub fn bind(directory: &NodeDirectory) -> Result<Self, ControlError> {
        let path = directory.control_socket();
        let failed = |step| {
            let path = path.clone();
            move |source| ControlError::Io { path, step, source }
        };
        let short = SocketPath::in_directory(directory.path())?;
        let (new, named) = (short.of(SOCKET_NEW), short.of(CONTROL_SOCKET));
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove an old control.sock.new")(error));
            }
            _ => {}
        }
        // Bound beside and renamed: nobody meets it before it has its mode, and a stale one is replaced at once.
        let listener = UnixListener::bind(&new).map_err(failed("bind it"))?;
        std::fs::set_permissions(&new, Permissions::from_mode(0o600))
            .map_err(failed("set its mode"))?;
        listener
            .set_nonblocking(true)
            .map_err(failed("set it up"))?;
        fault::point("control.bind.before-rename");
        std::fs::rename(&new, &named).map_err(failed("name it"))?;
        fault::point("control.bind.after-rename");
        fsync_dir(directory.path()).map_err(failed("sync the directory"))?;
        Ok(Self {
            listener,
            path,
            limits: Limits::default(),
        })
    }

    /// Goes on with a socket that the node before in this process has bound.
    pub(crate) fn adopt(directory: &NodeDirectory, socket: OwnedFd) -> Result<Self, ControlError> {
        let path = directory.control_socket();
        let listener = UnixListener::from(socket);
        match listener.set_nonblocking(true) {
            Ok(()) => Ok(Self {
                listener,
                path,
                limits: Limits::default(),
            }),
            Err(source) => Err(ControlError::Io {
                path,
                step: "set it up",
                source,
            }),
        }
    }

    /// The socket, for a node that takes over.
    pub(crate) fn socket(&self) -> Result<OwnedFd, ControlError> {
        self.listener
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| ControlError::Io {
                path: self.path.clone(),
                step: "copy its descriptor",
                source,
            })
    }

    /// Sets how long the server waits for a client.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Serves from a thread of its own, with a further thread for each client.
    ///
    /// Requests of different clients come to the handler at the same time. A client that goes away does not end its
    /// request.
    pub fn serve<H>(self, handler: H) -> Result<ControlHandle, ControlError>
    where
        H: Fn(Request, &mut dyn FnMut(Progress)) -> Response + Send + Sync + 'static,
    {
        self.serve_peers(move |_, request, progress| handler(request, progress))
    }

    /// As [`ControlServer::serve`], and tells the handler who asks.
    pub fn serve_peers<H>(self, handler: H) -> Result<ControlHandle, ControlError>
    where
        H: Fn(&Asker, Request, &mut dyn FnMut(Progress)) -> Response + Send + Sync + 'static,
    {
        let path = self.path.clone();
        let failed = |step| {
            let path = path.clone();
            move |source| ControlError::Io { path, step, source }
        };
        let poll = Poll::new().map_err(failed("make its poll"))?;
        poll.registry()
            .register(
                &mut SourceFd(&self.listener.as_raw_fd()),
                LISTENER,
                Interest::READABLE,
            )
            .map_err(failed("watch it"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(failed("make its waker"))?;
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            limits: self.limits,
            stopping: AtomicBool::new(false),
            clients: Mutex::new(HashMap::new()),
        });
        let for_thread = Arc::clone(&shared);
        let listener = self.listener;
        let thread = thread::Builder::new()
            .name("neurath-control".to_owned())
            .spawn(move || accept_loop(poll, &listener, &for_thread))
            .map_err(failed("start its thread"))?;
        Ok(ControlHandle {
            shared,
            waker,
            thread: Some(thread),
            path: self.path,
        })
    }
}

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);

type Handler = dyn Fn(&Asker, Request, &mut dyn FnMut(Progress)) -> Response + Send + Sync;

struct Shared {
    handler: Box<Handler>,
    limits: Limits,
    stopping: AtomicBool,
    clients: Mutex<HashMap<u64, Serving>>,
}

struct Serving {
    stream: UnixStream,
    thread: Option<JoinHandle<()>>,
}

impl Shared {
    fn clients(&self) -> std::sync::MutexGuard<'_, HashMap<u64, Serving>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The served control socket. Stops when dropped.
pub struct ControlHandle {
    shared: Arc<Shared>,
    waker: Waker,
    thread: Option<JoinHandle<()>>,
    path: PathBuf,
}

impl std::fmt::Debug for ControlHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlHandle")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl ControlHandle {
    /// How many clients are connected.
    pub fn clients(&self) -> usize {
        self.shared.clients().len()
    }

    /// Serves a client whose request the node before in this process has read: `work` gives the answer to it, if
    /// there is one.
    pub(crate) fn go_on(
        &self,
        stream: UnixStream,
        work: impl FnOnce(&Asker, &mut dyn FnMut(Progress)) -> Option<Response> + Send + 'static,
    ) -> Result<(), FrameError> {
        let peer = set_up(&stream, &self.shared)?;
        // Never the number of one that is accepted.
        let number = u64::MAX - self.shared.clients().len() as u64;
        let begun = move |asker: &Asker, shared: &Shared| {
            if let Some(response) = carry_out(asker, work) {
                answer(asker, response)?;
            }
            serve_client(asker, shared);
            Ok(())
        };
        spawn_client(number, stream, peer, &self.shared, begun)
    }

    /// Takes no further client, closes the idle ones, waits for the requests that are being carried out, and removes
    /// the socket. From within a handler, that handler is not waited for.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.shared.stopping.store(true, Ordering::SeqCst);
        if let Err(error) = self.waker.wake() {
            // Without the waker the accept loop sees the flag at its next turn.
            tracing::warn!(%error, "the control thread could not be woken");
        }
        let panicked = thread.join().is_err();
        if panicked {
            tracing::error!("the control thread panicked");
        }
        let serving: Vec<_> = self
            .shared
            .clients()
            .values_mut()
            .map(close_for_reading)
            .collect();
        for thread in serving.into_iter().flatten() {
            if thread.thread().id() != thread::current().id() && thread.join().is_err() {
                tracing::error!("a control connection panicked");
            }
        }
        // Still under the node's lock, so it is this node's socket.
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the control socket was not removed");
        }
    }
}

fn close_for_reading(serving: &mut Serving) -> Option<JoinHandle<()>> {
    // A waiting client sees the end; one whose request runs still gets its answer.
    let _ = serving.stream.shutdown(std::net::Shutdown::Read);
    serving.thread.take()
}

impl Drop for ControlHandle {
    fn drop(&mut self) {
        self.end();
    }
}

fn accept_loop(mut poll: Poll, listener: &UnixListener, shared: &Arc<Shared>) {
    let mut events = Events::with_capacity(4);
    let mut number = 0;
    while !shared.stopping.load(Ordering::SeqCst) {
        // The time-out is for what a missed wake or a lasting shortage of descriptors would leave undone.
        match poll.poll(&mut events, Some(Duration::from_secs(1))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                tracing::error!(%error, "the control socket cannot be watched");
                thread::sleep(Duration::from_millis(100));
            }
            Ok(()) => {}
        }
        while !shared.stopping.load(Ordering::SeqCst) {
            match listener.accept() {
                Ok((stream, _)) => {
                    number += 1;
                    if let Err(error) = admit(number, stream, shared) {
                        tracing::warn!(%error, "a control client could not be served");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    tracing::warn!(%error, "a control client could not be accepted");
                    thread::sleep(Duration::from_millis(10));
                    break;
                }
            }
        }
    }
}

/// Sets the limits of a client's connection; who it is.
fn set_up(stream: &UnixStream, shared: &Shared) -> io::Result<Peer> {
    stream.set_nonblocking(false)?;
    let frame = shared.limits.frame.max(Duration::from_millis(1));
    stream.set_write_timeout(Some(frame))?;
    Peer::of(stream)
}

fn admit(number: u64, mut stream: UnixStream, shared: &Arc<Shared>) -> Result<(), FrameError> {
    let peer = set_up(&stream, shared)?;
    if !may_control(peer.uid, rustix::process::geteuid().as_raw()) {
        tracing::warn!(%peer, "a control client of another user was refused");
        let message = format!(
            "user {} may not control this node; ask as the user that runs it, or as root",
            peer.uid
        );
        return write_frame(
            &mut stream,
            &Answer::from(Response::failed(code::OPERATOR, message)),
        );
    }
    if shared.clients().len() >= CONNECTION_LIMIT {
        let message = format!(
            "{CONNECTION_LIMIT} clients are connected to the control socket; try again in a moment"
        );
        return write_frame(
            &mut stream,
            &Answer::from(Response::failed(code::BUSY, message)),
        );
    }
    spawn_client(number, stream, peer, shared, |asker, shared| {
        serve_client(asker, shared);
        Ok(())
    })
}

/// Serves a client on a thread of its own.
fn spawn_client(
    number: u64,
    stream: UnixStream,
    peer: Peer,
    shared: &Arc<Shared>,
    serve: impl FnOnce(&Asker, &Shared) -> Result<(), FrameError> + Send + 'static,
) -> Result<(), FrameError> {
    let mut clients = shared.clients();
    let for_thread = Arc::clone(shared);
    let asker = Asker::new(peer, stream.try_clone()?);
    // The thread takes itself off the list at its end, which waits for the lock held here.
    let thread = thread::Builder::new()
        .name("neurath-client".to_owned())
        .spawn(move || {
            let _listed = Listed {
                shared: &for_thread,
                number,
            };
            if let Err(error) = serve(&asker, &for_thread) {
                tracing::info!(%peer, %error, "a control client did not take its answer");
            }
        })?;
    clients.insert(
        number,
        Serving {
            stream,
            thread: Some(thread),
        },
    );
    Ok(())
}

fn may_control(peer: u32, own: u32) -> bool {
    peer == own || peer == 0
}

struct Listed<'a> {
    shared: &'a Shared,
    number: u64,
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        self.shared.clients().remove(&self.number);
    }
}

/// Reads with an idle time before the first byte and a deadline for the frame after it.
struct Deadline<'a> {
    stream: &'a UnixStream,
    limits: Limits,
    until: Option<Instant>,
}

impl Read for Deadline<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = match self.until {
            None => self.limits.idle,
            Some(until) => until.saturating_duration_since(Instant::now()),
        };
        if self.until.is_some() && left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        self.stream
            .set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut stream = self.stream;
        let count = stream.read(buffer)?;
        if self.until.is_none() {
            self.until = Some(Instant::now() + self.limits.frame);
        }
        Ok(count)
    }
}

fn serve_client(asker: &Asker, shared: &Shared) {
    let peer = asker.peer;
    loop {
        let request = read_frame(&mut Deadline {
            stream: &asker.stream,
            limits: shared.limits,
            until: None,
        });
        let request: Request = match request {
            Ok(request) => request,
            Err(FrameError::Closed) => return,
            Err(error) => {
                // Where the next frame begins is not known any more: say why, and close.
                tracing::debug!(%peer, %error, "a control client was turned away");
                let answer = Answer::from(Response::failed(code::USAGE, error.to_string()));
                let _ = asker.write(&answer);
                return;
            }
        };
        if shared.stopping.load(Ordering::SeqCst) {
            let answer = Answer::from(Response::failed(
                code::BUSY,
                "the node is stopping; start it again, then ask again",
            ));
            let _ = asker.write(&answer);
            return;
        }
        let response = carry_out(asker, |asker, progress| {
            (shared.handler)(asker, request, progress)
        });
        if let Err(error) = answer(asker, response) {
            tracing::info!(%peer, %error, "a control client did not take its answer");
            return;
        }
    }
}

fn answer(asker: &Asker, response: Response) -> Result<(), FrameError> {
    match asker.write(&Answer::from(response)) {
        Err(error @ FrameError::TooLong { .. }) => {
            let message =
                format!("the request was carried out and its answer cannot be sent: {error}");
            asker.write(&Answer::from(Response::failed(code::INCONCLUSIVE, message)))
        }
        other => other,
    }
}

/// Does some work; its progress goes out on a thread of its own, so that a slow client never holds it up.
fn carry_out<R: From<Response>>(
    asker: &Asker,
    work: impl FnOnce(&Asker, &mut dyn FnMut(Progress)) -> R,
) -> R {
    let (send, receive) = mpsc::sync_channel::<Progress>(PROGRESS_QUEUE);
    thread::scope(|scope| {
        let sender = thread::Builder::new()
            .name("neurath-progress".to_owned())
            .spawn_scoped(scope, move || {
                for progress in receive {
                    if asker.write(&Answer::Progress(progress)).is_err() {
                        // Half a frame may be out: nothing that follows could be understood.
                        let _ = asker.stream.shutdown(std::net::Shutdown::Both);
                        return;
                    }
                }
            });
        if let Err(error) = &sender {
            tracing::warn!(%error, "no thread for progress: the request runs without");
        }
        let mut progress = |progress: Progress| {
            let _ = send.try_send(progress);
        };
        let result = catch_unwind(AssertUnwindSafe(|| work(asker, &mut progress)));
        drop(send);
        result.unwrap_or_else(|panic| {
            let text = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no text");
            tracing::error!(peer = %asker.peer, text, "a control request panicked");
            let message = format!(
                "the node panicked in this request ({text}); look at its journal before going on"
            );
            Response::failed(code::OPERATOR, message).into()
        })
    })
}

#[cfg(test)]
mod tests;
