//! Looks after the process that rehearses an upgrade. A library can start processes, and leave them to
//! themselves in sessions of their own: whoever descends from this process comes back to it when its parent has
//! ended, and is ended, too.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use neurath_node::node::REHEARSALS;
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, WaitOptions};

use super::rehearse::Told;

/// How long what is left may take to end once it is killed; less than the command waits for this process.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs this program with these arguments until it ends, or whoever holds the other end of the input. The folder
/// goes then.
pub(super) fn run(folder: &Path, arguments: &[OsString]) -> anyhow::Result<()> {
    let ended = watched(arguments);
    if let Ok(how) = &ended {
        tell(&Told::Ended(how.clone()));
    }
    // The command does so, too, if it is there.
    let _ = std::fs::remove_dir_all(folder);
    if let Some(above) = folder.parent().filter(|above| above.ends_with(REHEARSALS)) {
        // It goes if it is empty.
        let _ = std::fs::remove_dir(above);
    }
    ended.map(drop)
}

/// How the process has ended.
fn watched(arguments: &[OsString]) -> anyhow::Result<String> {
    let this = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(this))?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments);
    command.args(["--watch", &this.as_raw_nonzero().to_string()]);
    let mut child = command.stdin(Stdio::null()).spawn()?;
    tell(&Told::Process(child.id()));
    wait_for_end(Pid::from_child(&child))?;
    // It has ended already, or is to.
    child.kill()?;
    let ended = child.wait()?;
    end_descendants(this);
    Ok(ended.to_string())
}

/// Waits until the process has ended, or nobody has the other end of the input any more.
fn wait_for_end(process: Pid) -> anyhow::Result<()> {
    let process = rustix::process::pidfd_open(process, PidfdFlags::empty())
        .context("the process cannot be waited for")?;
    let input = std::io::stdin();
    let mut polled = [
        PollFd::new(&process, PollFlags::IN),
        PollFd::new(&input, PollFlags::IN),
    ];
    loop {
        match rustix::event::poll(&mut polled, None) {
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Ends all that descends from this process. Whose parent has ended is its child, so that there is a child as long as
/// there is anything.
fn end_descendants(this: Pid) {
    let until = Instant::now() + PATIENCE;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(Errno::CHILD) => return,
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) if Instant::now() >= until => return,
            Ok(None) | Err(_) => {
                for child in children(this) {
                    // Gone meanwhile, or another user's, who has to end it.
                    let _ = rustix::process::kill_process(child, Signal::KILL);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn children(of: Pid) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let pids = numbers.filter_map(Pid::from_raw);
    pids.filter(|pid| parent(*pid) == Some(of)).collect()
}

fn parent(of: Pid) -> Option<Pid> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", of.as_raw_nonzero())).ok()?;
    // Number, name in parentheses, which may hold anything, state, parent.
    let (_, behind) = stat.rsplit_once(") ")?;
    Pid::from_raw(behind.split(' ').nth(1)?.parse().ok()?)
}

/// What was told before may have broken off in the midst of a line.
fn tell(told: &Told) {
    let line = serde_json::to_string(told).unwrap_or_default();
    // A command that has gone needs to know nothing.
    let _ = writeln!(std::io::stdout(), "\n{line}");
}
