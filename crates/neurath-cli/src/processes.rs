//! The processes that a command started. They end with it: when it is done, fails, panics or is
//! interrupted.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use crate::exit;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use rustix::time::Timespec;

static STARTED: Mutex<Vec<Arc<Mutex<Child>>>> = Mutex::new(Vec::new());
static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long a process that has a pipe as its input may take to end when that is closed.
const LISTENS: Duration = Duration::from_secs(10);

/// A process that ends when this is dropped. One that has a pipe as its input ends by itself when that is closed,
/// so that it can end what it has started.
#[derive(Debug)]
pub struct Process {
    child: Arc<Mutex<Child>>,
    name: String,
}

impl Process {
    /// Starts a command; `name` is for messages.
    ///
    /// # Errors
    ///
    /// If the system refuses to start it.
    pub fn start(name: &str, command: &mut Command) -> io::Result<Self> {
        let child = Arc::new(Mutex::new(command.spawn()?));
        locked(&STARTED).push(Arc::clone(&child));
        Ok(Self {
            child,
            name: name.to_owned(),
        })
    }

    /// What it is called in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        locked(&self.child).id()
    }

    /// What it writes, if its standard output is piped; once.
    #[must_use]
    pub fn stdout(&self) -> Option<std::process::ChildStdout> {
        locked(&self.child).stdout.take()
    }

    /// What it writes as errors, if that is piped; once.
    #[must_use]
    pub fn stderr(&self) -> Option<std::process::ChildStderr> {
        locked(&self.child).stderr.take()
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    pub fn ended(&self) -> io::Result<Option<ExitStatus>> {
        locked(&self.child).try_wait()
    }

    /// Waits for its end, but no longer than this.
    ///
    /// # Errors
    ///
    /// If the system cannot tell.
    pub fn wait_for(&self, patience: Duration) -> io::Result<Option<ExitStatus>> {
        let until = Instant::now() + patience;
        loop {
            match self.ended()? {
                None if Instant::now() < until => std::thread::sleep(Duration::from_millis(5)),
                ended => return Ok(ended),
            }
        }
    }

    /// Ends it at once, without asking.
    pub fn kill(&self) {
        end(&self.child);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        end(&self.child);
        locked(&STARTED).retain(|other| !Arc::ptr_eq(other, &self.child));
    }
}

fn end(child: &Mutex<Child>) {
    let mut child = locked(child);
    if let Some(input) = child.stdin.take() {
        drop(input);
        let until = Instant::now() + LISTENS;
        while matches!(child.try_wait(), Ok(None)) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    if let Ok(None) = child.try_wait() {
        // Gone meanwhile: just as well.
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// A process that this one did not start, and whose end it waits for.
#[derive(Debug)]
pub struct Watched(OwnedFd);

impl Watched {
    /// The process of this number; nothing if there is none.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn of(pid: u32) -> io::Result<Option<Watched>> {
        let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
            return Ok(None);
        };
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(descriptor) => Ok(Some(Watched(descriptor))),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether it has ended within this time. One that nobody has waited for has ended, too.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn ends_within(&self, time: Duration) -> io::Result<bool> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            let mut polled = [PollFd::new(&self.0, PollFlags::IN)];
            match rustix::event::poll(&mut polled, Some(&left)) {
                Ok(ended) => return Ok(ended > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A temporary folder that goes away even when the command is interrupted.
#[derive(Debug)]
pub struct TemporaryFolder(tempfile::TempDir);

impl TemporaryFolder {
    /// A new folder, in the system's place for such.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn new() -> io::Result<Self> {
        Self::within(&std::env::temp_dir())
    }

    /// A new folder in another one.
    ///
    /// # Errors
    ///
    /// If it cannot be made.
    pub fn within(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new()
            .prefix("neurath-")
            .tempdir_in(parent)?;
        locked(&FOLDERS).push(folder.path().to_owned());
        Ok(Self(folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        locked(&FOLDERS).retain(|path| path != self.0.path());
    }
}

/// Ends every process that is still there, and removes the temporary folders.
pub fn end_all() {
    for child in locked(&STARTED).drain(..) {
        end(&child);
    }
    for folder in locked(&FOLDERS).drain(..) {
        let _ = std::fs::remove_dir_all(folder);
    }
}

/// From now on an interruption (SIGINT, SIGTERM, SIGHUP) ends this process with all it started.
///
/// # Errors
///
/// If the signals cannot be caught.
pub fn end_all_when_interrupted() -> io::Result<()> {
    static ONCE: Once = Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        result =
            signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP]).map(|mut signals| {
                std::thread::spawn(move || {
                    if signals.forever().next().is_some() {
                        INTERRUPTED.store(true, Ordering::SeqCst);
                        end_all();
                        std::process::exit(i32::from(exit::INTERRUPTED));
                    }
                });
            });
    });
    result
}

/// Comes back only if nobody interrupts this command. Whoever finds a process ended asks it first: it may
/// have ended for that, and what is left of the work is taken away already.
pub fn unless_interrupted() {
    while INTERRUPTED.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_dropped_process_has_ended() -> io::Result<()> {
        let process = Process::start("sleep", Command::new("sleep").arg("1000"))?;
        let pid = process.pid();
        assert!(process.ended()?.is_none());
        drop(process);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
        Ok(())
    }

    #[test]
    fn one_that_listens_ends_by_itself() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new("sh");
        command.args(["-c", "cat; touch ended"]);
        command.current_dir(folder.path()).stdin(Stdio::piped());
        let process = Process::start("cat", &mut command)?;
        process.kill();
        assert!(process.ended()?.is_some_and(|status| status.success()));
        assert!(folder.path().join("ended").exists());
        Ok(())
    }

    #[test]
    fn the_end_of_any_process_is_seen() -> io::Result<()> {
        assert!(Watched::of(u32::MAX)?.is_none());
        let process = Process::start("sleep", Command::new("sleep").arg("1000"))?;
        let watched = Watched::of(process.pid())?.expect("it is there");
        assert!(!watched.ends_within(Duration::ZERO)?);
        process.kill();
        assert!(watched.ends_within(Duration::from_secs(10))?);
        Ok(())
    }

    #[test]
    fn an_end_is_noticed() -> io::Result<()> {
        let process = Process::start("false", &mut Command::new("false"))?;
        let ended = process.wait_for(Duration::from_secs(10))?;
        assert_eq!(ended.and_then(|status| status.code()), Some(1));
        Ok(())
    }
}
