//! Programs that a release names: the commands of an `apply`, and of a health check.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::signals;
use crate::waiting::CalledOff;

/// How much of what a command says is told, in bytes.
const SAID: u64 = 2048;
/// Between two looks whether it has ended.
const STEP: Duration = Duration::from_millis(2);

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no word in it.
    #[error("a command without words; name a program")]
    Empty,
    /// It could not be started.
    #[error("`{command}` cannot be run: {source}")]
    Start {
        /// Its words.
        command: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It said no.
    #[error("`{command}` ended with {status}{said}")]
    Failed {
        /// Its words.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its stderr, if there is any.
        said: String,
    },
    /// Nobody wanted its end any more, and it was killed.
    #[error("`{command}` was killed, since what it was run for was given up")]
    CalledOff {
        /// Its words.
        command: String,
    },
    /// It did not end, and was killed.
    #[error("`{command}` did not end within {deadline:?}, and was killed")]
    Overdue {
        /// Its words.
        command: String,
        /// How long it had.
        deadline: Duration,
    },
}

/// Runs a command in the node's directory, which `NEURATH_NODE` names as well, in a process group of its own. If it does
/// not end in time, or is called off, the group is killed: what the command has started as well, unless it has left the
/// group.
pub(crate) fn run(
    words: &[String],
    directory: &Path,
    deadline: Duration,
    called_off: CalledOff<'_>,
) -> Result<(), CommandError> {
    let (program, arguments) = words.split_first().ok_or(CommandError::Empty)?;
    let command = words.join(" ");
    let begin = Instant::now();
    let start = |source| CommandError::Start {
        command: command.clone(),
        source,
    };
    // What it says goes into memory: a pipe that nobody reads would hold it up.
    let said = rustix::fs::memfd_create("said", rustix::fs::MemfdFlags::CLOEXEC);
    let mut said = std::fs::File::from(said.map_err(|errno| start(errno.into()))?);
    let mut called = Command::new(program);
    called
        .args(arguments)
        .current_dir(directory)
        .env("NEURATH_NODE", directory)
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(said.try_clone().map_err(start)?);
    let mut child = signals::spawn(&mut called).map_err(start)?;
    loop {
        match child.try_wait().map_err(start)? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => {
                let said = tail(&mut said);
                return Err(CommandError::Failed {
                    command,
                    status,
                    said,
                });
            }
            None if begin.elapsed() >= deadline => {
                kill(&mut child).map_err(start)?;
                return Err(CommandError::Overdue { command, deadline });
            }
            None if called_off.is() => {
                kill(&mut child).map_err(start)?;
                return Err(CommandError::CalledOff { command });
            }
            None => std::thread::sleep(STEP),
        }
    }
}

/// Kills a command that was not waited for yet, so that its number is still its group's.
fn kill(child: &mut Child) -> std::io::Result<()> {
    // If all of it has ended meanwhile, there is nothing to kill.
    let _ = kill_process_group(Pid::from_child(child), Signal::KILL);
    child.wait().map(drop)
}

/// The end of what was said, after a colon.
fn tail(said: &mut std::fs::File) -> String {
    use std::io::{Seek as _, SeekFrom};
    let mut bytes = Vec::new();
    let end = said.seek(SeekFrom::End(0)).unwrap_or(0);
    let from = said.seek(SeekFrom::Start(end.saturating_sub(SAID)));
    // Without it, the status has to do.
    if from.and_then(|_| said.read_to_end(&mut bytes)).is_err() || bytes.is_empty() {
        return String::new();
    }
    format!(": {}", String::from_utf8_lossy(&bytes).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, deadline: Duration) -> Result<(), CommandError> {
        let words = ["sh", "-c", script].map(String::from);
        run(&words, Path::new("/"), deadline, CalledOff::NEVER)
    }

    #[test]
    fn how_a_command_ends_is_told() {
        let minute = Duration::from_secs(60);
        sh("test \"$NEURATH_NODE\" = / && test \"$PWD\" = /", minute).expect("it says yes");
        let failed = sh("echo no such table >&2; exit 3", minute).unwrap_err();
        let text = failed.to_string();
        assert!(text.contains("exit status: 3: no such table"), "{text}");
        let missing = run(
            &["/no/such/program".into()],
            Path::new("/"),
            minute,
            CalledOff::NEVER,
        );
        assert!(matches!(missing, Err(CommandError::Start { .. })));
        assert!(matches!(
            run(&[], Path::new("/"), minute, CalledOff::NEVER),
            Err(CommandError::Empty)
        ));
        let short = Duration::from_millis(30);
        let overdue = sh("sleep 60", short).unwrap_err();
        assert!(matches!(overdue, CommandError::Overdue { .. }), "{overdue}");
    }

    /// Whoever reads a pipe sees its end when nobody has it open for writing any more.
    #[test]
    fn what_a_command_has_started_ends_with_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let pipe = directory.path().join("pipe");
        let mode = rustix::fs::Mode::RWXU;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0)
            .expect("a pipe");
        let reader = rustix::fs::open(
            &pipe,
            rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK,
            mode,
        );
        let reader = std::fs::File::from(reader.expect("a reader"));
        let script = format!("exec 9>{}; echo begun >&9; sleep 301; true", pipe.display());
        let words = ["sh", "-c", &script].map(String::from);
        let has_begun = || (&reader).read(&mut [0; 6]).is_ok_and(|read| read > 0);
        let minute = Duration::from_secs(60);
        let off = run(&words, Path::new("/"), minute, CalledOff(&has_begun)).unwrap_err();
        assert!(matches!(off, CommandError::CalledOff { .. }), "{off}");
        let until = Instant::now() + minute;
        while (&reader).read(&mut [0; 6]).map_or(true, |read| read > 0) {
            assert!(Instant::now() < until, "`sleep` is still there");
            std::thread::sleep(STEP);
        }
    }
}
