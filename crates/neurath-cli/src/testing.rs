//! A node in a process of its own, for the demo, the measurements and the tests.

use crate::control;
use crate::exit::CommandError;
use crate::processes::Process;
use anyhow::{Context as _, bail};
use neurath_node::client::{Client, ClientError};
use neurath_node::memory;
use neurath_node::protocol::{ComponentStatus, Failure, Status};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{DirBuilder, File};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a node may take to answer after its start.
pub const START: Duration = Duration::from_secs(60);
/// How long a node may take to end.
pub const END: Duration = Duration::from_secs(30);
pub use neurath_node::directory::LOG;

/// A port of 127.0.0.1 that nothing listens on at this moment, and that this process was not given before: whoever was
/// may not listen there yet, or listen there again.
///
/// # Errors
///
/// If the system has none.
pub fn free_port() -> io::Result<u16> {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if given.insert(port) {
            return Ok(port);
        }
        // A process that has had them all begins anew.
        if given.len() > usize::from(u16::MAX / 8) {
            given.clear();
        }
    }
}

/// How a [`NodeProcess`] is started.
#[derive(Debug, Clone)]
pub struct NodeCommand {
    /// The `neurath` command.
    pub program: PathBuf,
    /// Arguments before `node`.
    pub arguments: Vec<OsString>,
    /// The node's directory.
    pub directory: PathBuf,
    /// The release for an empty directory.
    pub release: Option<String>,
    /// The folder with built releases.
    pub from: PathBuf,
    /// The release that ran before, and that the node is to be rebooted into.
    pub reboot_old: Option<String>,
    /// Further arguments of `node start`.
    pub more: Vec<OsString>,
    /// What the process finds in its environment, besides this one's.
    pub environment: Vec<(OsString, OsString)>,
}

impl NodeCommand {
    /// A node run by this very program, which must be `neurath` or `xtask`.
    ///
    /// # Errors
    ///
    /// If the program's path cannot be told.
    pub fn of_this_program(
        directory: &Path,
        release: Option<&str>,
        from: &Path,
    ) -> io::Result<Self> {
        Ok(Self::new(
            &std::env::current_exe()?,
            directory,
            release,
            from,
        ))
    }

    /// A node run by the `neurath` command at this path.
    #[must_use]
    pub fn new(program: &Path, directory: &Path, release: Option<&str>, from: &Path) -> Self {
        Self {
            program: program.to_owned(),
            arguments: Vec::new(),
            directory: directory.to_owned(),
            release: release.map(str::to_owned),
            from: from.to_owned(),
            reboot_old: None,
            more: Vec::new(),
            environment: Vec::new(),
        }
    }

    fn command(&self, mode: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).args(self.to_start(mode));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// The arguments from `node` on.
    pub(crate) fn to_start(&self, mode: &str) -> Vec<OsString> {
        let words = ["node", "start", "--foreground", mode];
        let mut arguments: Vec<OsString> = words.map(OsString::from).into();
        arguments.extend(["--dir".into(), self.directory.clone().into()]);
        arguments.extend(["--from".into(), self.from.clone().into()]);
        if let Some(release) = &self.release {
            arguments.extend(["--release".into(), release.into()]);
        }
        if let Some(release) = &self.reboot_old {
            arguments.extend(["--reboot-old".into(), release.into()]);
        }
        arguments.extend(self.more.iter().cloned());
        arguments
    }

    /// Starts a node that outlives this process, and waits until it answers.
    ///
    /// # Errors
    ///
    /// If it ends, or does not answer in time.
    pub fn start_in_background(&self) -> anyhow::Result<Status> {
        let log = self.open_log()?;
        let said = Said::from_now(&self.directory, &log)?;
        let mut command = self.command("--detach");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let mut child: Child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        answered(&self.directory, child.id(), &said, || child.try_wait())
    }

    fn open_log(&self) -> anyhow::Result<File> {
        // Its user's alone, as the node would make it.
        let mut folder = DirBuilder::new();
        folder.recursive(true).mode(0o700);
        if let Some(above) = self.directory.parent() {
            std::fs::create_dir_all(above)
                .with_context(|| format!("cannot make {}", above.display()))?;
        }
        folder
            .create(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory.display()))?;
        let path = self.directory.join(LOG);
        File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))
    }
}

/// Waits until the node of this process answers.
fn answered(
    directory: &Path,
    pid: u32,
    log: &Said,
    mut ended: impl FnMut() -> io::Result<Option<ExitStatus>>,
) -> anyhow::Result<Status> {
    let until = Instant::now() + START;
    loop {
        if let Some(status) = ended()? {
            return Err(ended_at_start(status, log).into());
        }
        match Client::connect(directory) {
            Ok(_) => match control::status(directory) {
                // Another one may still be there, and have the directory's lock.
                // Nor does it count while its event loop does not say where it listens.
                Ok(status) if status.pid == pid && speaks(&status) => return Ok(status),
                Ok(_) => {}
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => {}
            },
            Err(ClientError::NoNode { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= until {
            let message = format!(
                "the node in {} does not answer after {START:?}; look at {}",
                directory.display(),
                log.path.display()
            );
            return Err(CommandError::Operator(message).into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The failure that the node ended with, by its exit code, as if it had been started in the foreground.
fn ended_at_start(status: ExitStatus, log: &Said) -> CommandError {
    let message = format!(
        "the node ended at its start ({status}):\n{}",
        log.last_lines(10)
    );
    match status.code().and_then(|code| u8::try_from(code).ok()) {
        Some(code) if code != crate::exit::DONE => CommandError::Node(Failure {
            code,
            message,
            step: None,
        }),
        _ => CommandError::Operator(message),
    }
}

/// What a log says from some moment on: what earlier starts of the node have said is theirs.
#[derive(Debug)]
struct Said {
    path: PathBuf,
    from: usize,
}

impl Said {
    fn from_now(directory: &Path, log: &File) -> io::Result<Self> {
        let from = usize::try_from(log.metadata()?.len()).unwrap_or(usize::MAX);
        let path = directory.join(LOG);
        Ok(Self { path, from })
    }

    fn last_lines(&self, lines: usize) -> String {
        let text = std::fs::read(&self.path).unwrap_or_default();
        last_of(text.get(self.from..).unwrap_or_default(), lines)
    }
}

fn speaks(status: &Status) -> bool {
    let silent = |one: &ComponentStatus| one.state == ComponentStatus::SILENT;
    !status.components.iter().any(silent)
}

/// The end of a text file.
#[must_use]
pub fn last_lines(path: &Path, lines: usize) -> String {
    last_of(&std::fs::read(path).unwrap_or_default(), lines)
}

fn last_of(text: &[u8], lines: usize) -> String {
    let text = String::from_utf8_lossy(text);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// The process of a node of which nobody knows yet whether it comes up. It ends as a
/// [`NodeProcess`] does.
#[derive(Debug)]
pub struct Starting {
    process: Process,
    said: Said,
    tie: std::io::PipeWriter,
}

impl Starting {
    /// Starts the process, and does not wait. Its log is `node.log` in its directory.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn new(start: &NodeCommand) -> anyhow::Result<Self> {
        let log = start.open_log()?;
        let said = Said::from_now(&start.directory, &log)?;
        let (read_end, tie) = std::io::pipe()?;
        let mut command = start.command("--tied");
        command.stdin(read_end).stdout(log.try_clone()?).stderr(log);
        let process = Process::start("the node", &mut command)
            .with_context(|| format!("cannot start {}", start.program.display()))?;
        Ok(Self { process, said, tie })
    }

    /// Waits until it answers, and is a node.
    ///
    /// # Errors
    ///
    /// If it ends, or does not answer in time.
    pub fn up(self, start: &NodeCommand) -> anyhow::Result<NodeProcess> {
        let Starting { process, said, tie } = self;
        let status = answered(&start.directory, process.pid(), &said, || process.ended())?;
        let Some(address) = status.listen.first().cloned() else {
            bail!("the node listens nowhere: its release needs a component that does");
        };
        Ok(NodeProcess {
            process,
            _tie: tie,
            directory: start.directory.clone(),
            log: said.path,
            address,
        })
    }

    /// Kills it, wherever it is.
    pub fn kill(self) {
        self.process.kill();
    }
}

/// A node in a process of its own. It ends when this is dropped, and when this process ends in
/// whatever way.
#[derive(Debug)]
pub struct NodeProcess {
    process: Process,
    // The node ends when this is closed; the system does that for a process that dies.
    _tie: std::io::PipeWriter,
    directory: PathBuf,
    log: PathBuf,
    address: String,
}

impl NodeProcess {
    /// Starts a node, and waits until it answers. Its log is `node.log` in its directory.
    ///
    /// # Errors
    ///
    /// If it ends, or does not answer in time.
    pub fn start(start: &NodeCommand) -> anyhow::Result<Self> {
        Starting::new(start)?.up(start)
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its directory.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Fails if it is no longer there.
    ///
    /// # Errors
    ///
    /// With how it ended, and the end of its log.
    pub fn check(&self) -> anyhow::Result<()> {
        match self.process.ended()? {
            None => Ok(()),
            Some(status) => Err(CommandError::Operator(format!(
                "the node died ({status}); the end of its log:\n{}",
                self.log_end()
            ))
            .into()),
        }
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        last_lines(&self.log, 20)
    }

    /// The memory that it holds, in bytes.
    ///
    /// # Errors
    ///
    /// If the system does not tell.
    pub fn memory(&self) -> anyhow::Result<u64> {
        Ok(memory::resident(self.pid())?)
    }

    /// Kills it at once, as a power cut would.
    pub fn kill(&self) {
        self.process.kill();
    }

    /// Asks it to end, and waits for that.
    ///
    /// # Errors
    ///
    /// If it refuses, does not end in time, or ends with a failure.
    pub fn stop(self) -> anyhow::Result<()> {
        control::stop(&self.directory)?;
        match self.process.wait_for(END)? {
            Some(status) if status.success() => Ok(()),
            Some(status) => bail!(
                "the node ended with a failure ({status}):\n{}",
                self.log_end()
            ),
            None => bail!("the node did not end within {END:?}:\n{}", self.log_end()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("log");
        std::fs::write(&path, "a\nb\nc\n")?;
        assert_eq!(last_lines(&path, 2), "b\nc");
        assert_eq!(last_lines(&path, 9), "a\nb\nc");
        assert_eq!(last_lines(&folder.path().join("none"), 9), "");
        Ok(())
    }

    #[test]
    fn a_program_that_is_no_node_is_told() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let start = NodeCommand::new(
            Path::new("false"),
            &folder.path().join("node"),
            None,
            folder.path(),
        );
        let error = NodeProcess::start(&start)
            .map(|_| ())
            .err()
            .map(|error| error.to_string());
        assert!(error.is_some_and(|text| text.contains("ended at its start")));
        Ok(())
    }

    #[test]
    fn a_start_fails_with_the_code_and_the_words_of_its_own_process() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let directory = folder.path().join("node");
        let mut start = NodeCommand::new(Path::new("sh"), &directory, None, folder.path());
        for code in [20, 22, 50] {
            start.arguments = vec![
                "-c".into(),
                format!("echo error {code}; exit {code}").into(),
            ];
            let error = start.start_in_background().map(drop);
            let error = error.expect_err("it ends");
            assert_eq!(crate::exit::code_of(&error), code);
            let text = error.to_string();
            assert!(text.ends_with(&format!("\nerror {code}")), "{text}");
            assert_eq!(text.matches("error").count(), 1, "{text}");
        }
        start.arguments = vec!["-c".into(), "kill -9 $$".into()];
        let error = start.start_in_background().map(drop);
        assert_eq!(crate::exit::code_of(&error.expect_err("it is killed")), 50);
        Ok(())
    }
}
