//! The keeper: a process of the old node's program that holds all descriptors and the record while the node's
//! process is between two programs. It gives them to whichever program comes up there; if none does, it is the old
//! node again.
//!
//! ```text
//! old node                     keeper                        new node, in the old one's process
//!   connects, parcel     ->    holds it
//!   X: I am leaving      ->    waits, with a deadline
//!   (exec)                                             <-    connects
//!                              parcel                  ->
//!                                                      <-    S: I serve
//!                              B: and ends             ->
//! ```

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal};

use super::parcel::{self, Parcel, ParcelError};
use crate::control::{SocketPath, SocketPathError};
use crate::peer::Peer;
use crate::signals::Asked;

/// The keeper's socket in a node's directory.
pub(crate) const SOCKET: &str = "handover.sock";
/// How often it looks whether the process lives.
const LOOK: Duration = Duration::from_millis(10);
/// How long the old node may take to hand over what it has.
const OFFER: Duration = Duration::from_secs(30);
/// How long a process may take to die.
const DEATH: Duration = Duration::from_secs(30);
/// How often a process has to look dead, after the first time, and how long is between two looks.
const LOOKS: u32 = 10;
const BETWEEN_LOOKS: Duration = Duration::from_millis(3);
/// So many programs may try in the process, one after the other: the new one, and the old one again.
const TRIES: u32 = 3;

/// The new node serves.
pub(super) const SERVES: u8 = b'S';
/// The old node is about to be replaced.
pub(super) const LEAVES: u8 = b'X';
/// The keeper has everything.
pub(super) const KEPT: u8 = b'K';
/// The keeper ends.
pub(super) const BYE: u8 = b'B';

/// Why nothing is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeepError {
    /// The socket's path cannot be used.
    #[error(transparent)]
    Path(#[from] SocketPathError),
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The process is not there, or cannot be watched.
    #[error("process {pid} cannot be kept for: {source}")]
    Process {
        /// The process.
        pid: u32,
        /// What the system said.
        source: io::Error,
    },
    /// A process that had to be killed goes on.
    #[error(
        "process {pid}, which does not serve, cannot be killed; kill it, and start the node again"
    )]
    Undead {
        /// The process.
        pid: u32,
    },
}

/// How keeping ended.
#[derive(Debug)]
pub enum Kept {
    /// A node serves in the process, or it never left.
    Released,
    /// No node came up there, and the process is gone: this one is the node now.
    Needed {
        /// All that the node had.
        parcel: Parcel,
        /// Why no node came up.
        reason: String,
    },
}

/// Keeps for the node of the process `pid`, which lets this process be started, and then leaves. A program that
/// comes up in its place has to serve within `within`. `is_main` is told which process is the node's: this one while
/// the other's program is replaced, and the other when it serves.
///
/// # Errors
///
/// [`KeepError`].
pub fn keep(
    directory: &Path,
    pid: u32,
    within: Duration,
    is_main: impl Fn(u32),
) -> Result<Kept, KeepError> {
    let process = Watched::new(pid)?;
    let socket = Bound::new(directory)?;
    let ended = Asked::since_now();
    let clients = socket.clients(pid)?;
    let Some((parcel, left)) = offered(&clients, &process) else {
        return Ok(Kept::Released);
    };
    is_main(std::process::id());
    let reason = match left {
        true => match arrival(&clients, &process, &parcel, within) {
            None => {
                is_main(pid);
                return Ok(Kept::Released);
            }
            Some(reason) => reason,
        },
        false => "the node's process ended before it left".to_owned(),
    };
    process.end()?;
    if ended.seen() {
        // Whoever ends the service ends it as a whole.
        return Ok(Kept::Released);
    }
    Ok(Kept::Needed { parcel, reason })
}

/// Takes what the node has. Tells whether it has left; nothing if it goes on, or ended with nothing handed over.
fn offered(clients: &Receiver<UnixStream>, process: &Watched) -> Option<(Parcel, bool)> {
    let until = Instant::now() + OFFER;
    let stream = loop {
        match clients.recv_timeout(LOOK) {
            Ok(stream) => break stream,
            Err(RecvTimeoutError::Timeout) if Instant::now() < until && !process.is_dead() => {}
            Err(_) => return None,
        }
    };
    let received = stream
        .set_read_timeout(Some(OFFER))
        .map_err(ParcelError::from)
        .and_then(|()| parcel::receive(&stream));
    let parcel = match received {
        Ok(parcel) => parcel,
        Err(error) => {
            tracing::warn!(%error, "nothing is kept: the node goes on as it is");
            return None;
        }
    };
    if io::Write::write_all(&mut &stream, &[KEPT]).is_ok()
        && matches!(parcel::read_byte(&stream), Ok(LEAVES))
    {
        return Some((parcel, true));
    }
    // It gave up, or it was killed.
    let until = Instant::now() + Duration::from_millis(500);
    while !process.is_dead() {
        if Instant::now() >= until {
            return None;
        }
        std::thread::sleep(LOOK);
    }
    Some((parcel, false))
}

/// Gives the parcel to whichever program comes up; why none serves, or nothing if one does.
fn arrival(
    clients: &Receiver<UnixStream>,
    process: &Watched,
    parcel: &Parcel,
    within: Duration,
) -> Option<String> {
    let mut until = Instant::now() + within;
    let mut tries = 0;
    let mut said = "the new node did not ask for what the old one had".to_owned();
    while Instant::now() < until {
        let stream = match clients.recv_timeout(LOOK) {
            Ok(stream) => stream,
            Err(_) if process.is_dead() => {
                return Some(match tries {
                    0 => "the new node ended at its start".to_owned(),
                    _ => "the new node ended before it served".to_owned(),
                });
            }
            Err(_) => continue,
        };
        tries += 1;
        if tries > TRIES {
            break;
        }
        // The old program again has its own time.
        until = Instant::now() + within;
        match give(&stream, process, parcel, until) {
            Ok(true) => return None,
            Ok(false) => {}
            Err(error) => said = format!("the new node could not take over: {error}"),
        }
    }
    Some(match tries {
        0 => said,
        _ => format!("the new node did not serve within {within:?}"),
    })
}

/// Gives the parcel away; whether the one who took it serves.
fn give(
    stream: &UnixStream,
    process: &Watched,
    parcel: &Parcel,
    until: Instant,
) -> Result<bool, ParcelError> {
    let left = until.saturating_duration_since(Instant::now());
    stream.set_read_timeout(Some(left.max(LOOK)))?;
    stream.set_write_timeout(Some(left.max(LOOK)))?;
    parcel.pass(stream)?;
    stream.set_read_timeout(Some(LOOK))?;
    loop {
        match parcel::read_byte(stream) {
            Ok(SERVES) => {
                // Only to be polite: it serves, whatever it hears.
                let _ = io::Write::write_all(&mut &*stream, &[BYE]);
                return Ok(true);
            }
            Ok(_) => return Err(ParcelError::Disorder("it says what is not understood")),
            Err(error) if is_timeout(&error) => {
                if process.is_dead() || Instant::now() >= until {
                    return Ok(false);
                }
            }
            // It gives up, or is dead.
            Err(_) => return Ok(false),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), Interrupted | TimedOut | WouldBlock)
}

/// The node's process.
struct Watched {
    pid: u32,
    descriptor: OwnedFd,
    /// When it began, in the kernel's words: another process of this number has another.
    began: String,
}

impl Watched {
    fn new(pid: u32) -> Result<Watched, KeepError> {
        let failed = |source| KeepError::Process { pid, source };
        let missing = || failed(io::ErrorKind::NotFound.into());
        let number = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let number = number.ok_or_else(missing)?;
        let descriptor = rustix::process::pidfd_open(number, PidfdFlags::empty());
        let descriptor = descriptor.map_err(|error| failed(error.into()))?;
        let (_, began) = look_at(pid).ok_or_else(missing)?;
        Ok(Watched {
            pid,
            descriptor,
            began,
        })
    }

    /// Whether it has ended. Not asked of the descriptor: systems before Linux 6.15 say so of a process that
    /// another thread than its first replaces. Nor does the first thread's end say it: that one ends then, too, and
    /// the other takes its number. On a busy machine that takes a while: it has to look so for long.
    fn is_dead(&self) -> bool {
        for _ in 0..LOOKS {
            if !self.seems_dead() {
                return false;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        self.seems_dead()
    }

    fn seems_dead(&self) -> bool {
        match look_at(self.pid) {
            Some((state, began)) => {
                began != self.began || (matches!(state, 'Z' | 'X') && is_alone(self.pid))
            }
            None => true,
        }
    }

    /// Kills it, if it lives, and waits for its end.
    fn end(&self) -> Result<(), KeepError> {
        let until = Instant::now() + DEATH;
        while !self.seems_dead() {
            if Instant::now() >= until {
                return Err(KeepError::Undead { pid: self.pid });
            }
            // It may end by itself at this moment.
            let _ = rustix::process::pidfd_send_signal(&self.descriptor, Signal::KILL);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// State and beginning of a process: `/proc/PID/stat`.
fn look_at(pid: u32) -> Option<(char, String)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, parentheses too.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?.chars().next()?;
    Some((state, fields.nth(18)?.to_owned()))
}

/// Whether a process has no thread but its first.
fn is_alone(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    threads.map_or(0, Iterator::count) <= 1
}

/// The keeper's socket, which goes with it.
struct Bound {
    listener: UnixListener,
    path: PathBuf,
}

impl Bound {
    fn new(directory: &Path) -> Result<Bound, KeepError> {
        let path = directory.join(SOCKET);
        let short = SocketPath::in_directory(directory)?.of(SOCKET);
        let failed = |source| KeepError::Io {
            path: path.clone(),
            source,
        };
        match std::fs::remove_file(&short) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&short).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o600);
        std::fs::set_permissions(&short, mode).map_err(failed)?;
        Ok(Bound { listener, path })
    }

    /// Those who connect, of the process that is kept for; the others are turned away.
    fn clients(&self, pid: u32) -> Result<Receiver<UnixStream>, KeepError> {
        let failed = |source| KeepError::Io {
            path: self.path.clone(),
            source,
        };
        let listener = self.listener.try_clone().map_err(failed)?;
        let (send, receive) = mpsc::channel();
        let accept = move || {
            for stream in listener.incoming().flatten() {
                let is_ours = Peer::of(&stream).is_ok_and(|peer| peer.pid == Some(pid));
                if is_ours && send.send(stream).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("neurath-keeper".into());
        thread.spawn(accept).map_err(failed)?;
        Ok(receive)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket of a hand-over was not removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// Run in a child by the test below: another thread than the first replaces the program, again and again.
    #[test]
    fn replaces_its_program() {
        let Ok(times) = std::env::var("NEURATH_TEST_TIMES") else {
            return;
        };
        let left: u32 = times.parse().unwrap();
        for _ in 0..8 {
            std::thread::spawn(std::thread::park);
        }
        let thread = std::thread::spawn(move || {
            let mut command = match left {
                0 => Command::new("sleep"),
                _ => Command::new(std::env::current_exe().unwrap()),
            };
            match left {
                0 => command.arg("60"),
                _ => command.args(["--exact", "handover::keeper::tests::replaces_its_program"]),
            };
            command.env("NEURATH_TEST_TIMES", left.saturating_sub(1).to_string());
            panic!("{}", command.exec());
        });
        let _ = thread.join();
    }

    #[test]
    fn a_process_that_replaces_its_program_is_not_dead() {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "handover::keeper::tests::replaces_its_program"])
            .env("NEURATH_TEST_TIMES", "40")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let watched = Watched::new(child.id()).unwrap();
        let name = || std::fs::read_to_string(format!("/proc/{}/comm", child.id()));
        let until = Instant::now() + Duration::from_secs(60);
        while name().is_ok_and(|name| name.trim() != "sleep") {
            assert!(!watched.is_dead());
            assert!(Instant::now() < until);
        }
        assert!(!watched.is_dead());
        watched.end().unwrap();
        assert!(watched.is_dead(), "it is a zombie");
        child.wait().unwrap();
        assert!(watched.is_dead(), "it is gone");
    }
}
