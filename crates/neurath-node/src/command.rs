//! Programs that a release names: the commands of an `apply`, and of a health check.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::signals;

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
    /// It did not end, and was killed.
    #[error("`{command}` did not end within {deadline:?}, and was killed")]
    Overdue {
        /// Its words.
        command: String,
        /// How long it had.
        deadline: Duration,
    },
}

/// Runs a command in the node's directory, which `NEURATH_NODE` names as well.
pub(crate) fn run(
    words: &[String],
    directory: &Path,
    deadline: Duration,
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
                // It may have ended meanwhile: then there is nothing to kill.
                let _ = child.kill();
                child.wait().map_err(start)?;
                return Err(CommandError::Overdue { command, deadline });
            }
            None => std::thread::sleep(STEP),
        }
    }
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
        run(&words, Path::new("/"), deadline)
    }

    #[test]
    fn how_a_command_ends_is_told() {
        let second = Duration::from_secs(5);
        sh("test \"$NEURATH_NODE\" = / && test \"$PWD\" = /", second).expect("it says yes");
        let failed = sh("echo no such table >&2; exit 3", second).unwrap_err();
        let text = failed.to_string();
        assert!(text.contains("exit status: 3: no such table"), "{text}");
        let missing = run(&["/no/such/program".into()], Path::new("/"), second);
        assert!(matches!(missing, Err(CommandError::Start { .. })));
        assert!(matches!(
            run(&[], Path::new("/"), second),
            Err(CommandError::Empty)
        ));
        let short = Duration::from_millis(30);
        let overdue = sh("sleep 60", short).unwrap_err();
        assert!(matches!(overdue, CommandError::Overdue { .. }), "{overdue}");
    }
}
