//! Trying an upgrade on a copy of a node's state, in a process of its own that has limits.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use neurath_node::node::{
    Rehearsal, RehearsalError, Rehearsed, Rehearsing, WayBack, rehearse, remove_old_rehearsals,
};
use neurath_node::protocol::{Copied, Failure, Progress, code};
use rustix::process::{Resource, Rlimit};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::cli::{RehearseCopy, RelupRehearse, Target};
use crate::control;
use crate::exit::CommandError;
use crate::numbers;
use crate::output::Output;
use crate::processes::{self, Process, TemporaryFolder};
use crate::table::Table;

/// The copy's name in the folder that is made for a rehearsal.
const COPY: &str = "node";
/// How often it is looked at how much memory the process has.
const LOOK: Duration = Duration::from_millis(10);
/// Memory that a process without any state may take.
const BARE: u64 = 1 << 30;
/// Times the state's bytes that a process may take: the old state, the new one, one that is
/// compared, and what an index of it takes.
const TIMES: u64 = 4;
/// Lines of the process's own log that are shown if it dies.
const LAST_LINES: usize = 12;
/// Bytes of such a line that are shown.
const LONGEST_LINE: usize = 1000;

/// What the process tells, and the one that looks after it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Told {
    /// The process that rehearses, by its number.
    Process(u32),
    /// It has ended, in this way.
    Ended(String),
    Step(Progress),
    At(Option<String>),
    Done(Box<Rehearsal>),
    Failed(Failure),
}

pub(super) fn run(command: &RelupRehearse, output: &Output) -> anyhow::Result<()> {
    let node = std::path::absolute(&command.node.dir)?;
    processes::end_all_when_interrupted()?;
    let result = rehearsed(command, &node, output);
    remove_old_rehearsals(&node);
    result
}

fn rehearsed(command: &RelupRehearse, node: &Path, output: &Output) -> anyhow::Result<()> {
    let (scratch, _lock) = scratch(node, command.scratch.as_deref())?;
    let copy = scratch.path().join(COPY);
    output.progress("copying the state while the node serves");
    let copied = control::copy(node, &copy)?;
    let held = numbers::micros(copied.stop_us);
    output.progress(&format!(
        "copied {}; the event loop was held for {held} at most",
        numbers::bytes(copied.bytes)
    ));
    let limits = Limits {
        memory: command.memory.unwrap_or(BARE + TIMES * copied.bytes),
        time: Duration::from_secs(command.timeout),
    };
    let rehearsal = in_child(command, scratch.path(), limits, output)?;
    tell(&rehearsal, &copied, limits, output);
    Ok(())
}

#[derive(Clone, Copy)]
struct Limits {
    memory: u64,
    time: Duration,
}

/// A folder of its own, locked for as long as the file is open; what a killed command has left is
/// taken away first.
fn scratch(node: &Path, wanted: Option<&Path>) -> anyhow::Result<(TemporaryFolder, File)> {
    let parent = match wanted {
        Some(wanted) => wanted.to_owned(),
        None => {
            remove_old_rehearsals(node);
            node.join(neurath_node::node::REHEARSALS)
        }
    };
    let failed = || format!("no folder can be made in {}", parent.display());
    std::fs::create_dir_all(&parent).with_context(failed)?;
    let folder = TemporaryFolder::within(&std::path::absolute(&parent)?).with_context(failed)?;
    let lock = File::open(folder.path()).with_context(failed)?;
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).with_context(failed)?;
    Ok((folder, lock))
}

/// Runs the rehearsal in a process of its own, and ends that when a limit is reached.
fn in_child(
    command: &RelupRehearse,
    folder: &Path,
    limits: Limits,
    output: &Output,
) -> anyhow::Result<Rehearsal> {
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["relup", "rehearse-watch", "--folder"]);
    child.arg(folder).arg("--");
    child
        .args(["relup", "rehearse-copy"])
        .arg(command.target_text());
    child
        .arg("--dir")
        .arg(folder.join(COPY))
        .arg("--from")
        .arg(&command.from);
    child.arg("--memory").arg(limits.memory.to_string());
    child.stdin(Stdio::piped()).stdout(Stdio::piped());
    child.stderr(Stdio::piped());
    // A terminal's interruption is for the command, which has it ended in order.
    child.process_group(0);
    let process = Process::start("the rehearsal", &mut child)?;
    let lines = lines(&process)?;
    let log = Log::of(&process)?;
    let until = Instant::now() + limits.time;
    let mut place = Place::default();
    let mut rehearsing = None;
    let failed = |what: String, place: &Place, next: &str| {
        let last = log.last();
        let message = format!(
            "the rehearsal {what} {place}; the node was not touched. {next}. The last it said:\n{last}"
        );
        let step = None;
        CommandError::Node(Failure {
            code: code::UPGRADE_FAILED,
            message,
            step,
        })
    };
    let died = |how: String, place: &Place| {
        processes::unless_interrupted();
        let next = "Mend it before you apply: a node that upgraded would have died";
        anyhow::Error::from(failed(format!("died ({how})"), place, next))
    };
    loop {
        match lines.recv_timeout(LOOK) {
            Ok(Told::Step(step)) => {
                let time = numbers::micros(step.micros);
                output.progress(&format!("rehearsed {}: {time}", step.step));
                place.ended(step.step);
            }
            Ok(Told::At(step)) => place.at = step,
            Ok(Told::Process(pid)) => rehearsing = Some(pid),
            Ok(Told::Ended(how)) => return Err(died(how, &place)),
            Ok(Told::Done(rehearsal)) => return Ok(*rehearsal),
            Ok(Told::Failed(failure)) => return Err(CommandError::Node(failure).into()),
            Err(RecvTimeoutError::Disconnected) => {
                let ended = process.wait_for(Duration::from_secs(5))?;
                let how = ended.map_or("no code".into(), |status| status.to_string());
                return Err(died(how, &place));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if Instant::now() >= until {
            process.kill();
            let limit = limits.time;
            let next = "If it needs more, say so with `--timeout`";
            return Err(failed(format!("took longer than {limit:?}"), &place, next).into());
        }
        let bytes = rehearsing.and_then(resident);
        if bytes.is_some_and(|bytes| bytes > limits.memory) {
            process.kill();
            let limit = numbers::bytes(limits.memory);
            let next = "If it needs more, say so with `--memory`";
            return Err(failed(format!("took more than {limit} of memory"), &place, next).into());
        }
    }
}

/// Where a rehearsal is.
#[derive(Default)]
struct Place {
    /// The step that has ended last.
    after: Option<String>,
    /// The one that is carried out, as far as that is known.
    at: Option<String>,
}

impl Place {
    fn ended(&mut self, step: String) {
        self.at = None;
        self.after = Some(step);
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // It was looked at before the step had ended, and told afterwards.
        match self
            .at
            .as_ref()
            .filter(|at| self.after.as_ref() != Some(at))
        {
            Some(at) => write!(f, "at `{at}`, after ")?,
            None => write!(f, "in what follows after ")?,
        }
        match &self.after {
            Some(step) => write!(f, "`{step}`"),
            None => write!(f, "it began"),
        }
    }
}

/// The last lines that the process writes beside what it tells: as many as it likes, of which few are kept.
#[derive(Clone)]
struct Log(Arc<Mutex<VecDeque<String>>>);

impl Log {
    fn of(process: &Process) -> anyhow::Result<Log> {
        let stderr = process.stderr().context("the process has no log")?;
        let log = Log(Arc::default());
        let kept = log.clone();
        std::thread::spawn(move || kept.keep(stderr));
        Ok(log)
    }

    /// Reads to the end, which may never come, and keeps the last lines.
    fn keep(&self, mut written: impl Read) {
        let (mut buffer, mut line) = (vec![0; 1 << 16], Vec::new());
        while let Ok(read @ 1..) = written.read(&mut buffer) {
            for byte in &buffer[..read] {
                match byte {
                    b'\n' => self.add(&std::mem::take(&mut line)),
                    _ if line.len() < LONGEST_LINE => line.push(*byte),
                    _ => {}
                }
            }
        }
        self.add(&line);
    }

    fn lines(&self) -> MutexGuard<'_, VecDeque<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, line: &[u8]) {
        let mut lines = self.lines();
        if lines.len() == LAST_LINES {
            lines.pop_front();
        }
        lines.push_back(String::from_utf8_lossy(line).into_owned());
    }

    fn last(&self) -> String {
        Vec::from(self.lines().clone()).join("\n")
    }
}

/// What the process tells, line by line.
fn lines(process: &Process) -> anyhow::Result<Receiver<Told>> {
    let stdout = process.stdout().context("the process has no output")?;
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // What is no line of ours is not meant for us.
            if let Ok(told) = serde_json::from_str(&line)
                && send.send(told).is_err()
            {
                return;
            }
        }
    });
    Ok(receive)
}

/// Bytes of memory that a process has.
fn resident(pid: u32) -> Option<u64> {
    let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// The process that rehearses.
pub(super) fn in_copy(command: &RehearseCopy) -> anyhow::Result<()> {
    let limit = |resource, bytes| {
        let limit = Rlimit {
            current: Some(bytes),
            maximum: Some(bytes),
        };
        rustix::process::setrlimit(resource, limit)
    };
    // Whatever becomes of those who look after it, a version that loops does not go on without them.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    if std::os::unix::process::parent_id() != command.watch {
        anyhow::bail!("whoever looked after this rehearsal has gone");
    }
    // What one library does wrong is to hurt nobody: not the memory, not the disk.
    limit(Resource::Data, command.memory)?;
    limit(Resource::Core, 0)?;
    // What a library prints is not taken for what is told to the parent.
    let parent = &Mutex::new(File::from(own_stdout()?));
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .try_init();
    let what = match &command.target {
        Target::Release(release) => Rehearsed::Release {
            release: release.clone(),
            built: Some(std::path::absolute(&command.from)?),
        },
        Target::Package(package) => Rehearsed::Package(std::path::absolute(package)?),
    };
    let done = rehearse(&command.node.dir, &what, &|told| {
        let told = match told {
            Rehearsing::Step(step) => Told::Step(step),
            Rehearsing::At(step) => Told::At(step),
        };
        tell_parent(parent, &told);
    });
    tell_parent(
        parent,
        &match done {
            Ok(rehearsal) => Told::Done(Box::new(rehearsal)),
            Err(RehearsalError::Upgrade(failure)) => Told::Failed(failure),
            Err(error) => Told::Failed(Failure {
                code: code::UPGRADE_FAILED,
                message: error.to_string(),
                step: None,
            }),
        },
    );
    Ok(())
}

/// The standard output, which nobody else has from then on: what is printed goes to the log.
fn own_stdout() -> std::io::Result<OwnedFd> {
    let own = rustix::io::fcntl_dupfd_cloexec(std::io::stdout(), 3)?;
    rustix::stdio::dup2_stdout(std::io::stderr())?;
    Ok(own)
}

fn tell_parent(parent: &Mutex<File>, told: &Told) {
    let line = serde_json::to_string(told).unwrap_or_default();
    let mut parent = parent.lock().unwrap_or_else(PoisonError::into_inner);
    // A parent that has gone needs to know nothing.
    let _ = writeln!(parent, "{line}");
}

fn tell(rehearsal: &Rehearsal, copied: &Copied, limits: Limits, output: &Output) {
    let mut steps = Table::new(&["step", "time>"]);
    for step in &rehearsal.steps {
        steps.row([step.name.clone(), numbers::micros(step.micros)]);
    }
    let mut states = Table::new(&["state", "from", "to", "bytes before>", "bytes after>"]);
    for state in &rehearsal.states {
        let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "-".into());
        states.row([
            format!("{}.{}", state.component, state.instance),
            version(&state.from),
            version(&state.to),
            numbers::bytes(state.bytes_before),
            numbers::bytes(state.bytes_after),
        ]);
    }
    let memory = rehearsal.memory;
    let text = [
        format!("{} -> {}, rehearsed", rehearsal.from, rehearsal.to),
        steps.render(),
        states.render(),
        format!(
            "messages would wait for {}, without other load",
            numbers::micros(rehearsal.stop_us)
        ),
        format!(
            "memory: {} before, {} at most",
            numbers::bytes(memory.before),
            numbers::bytes(memory.peak)
        ),
        way_back(&rehearsal.way_back),
        leaks(rehearsal),
        left_out(&rehearsal.left_out),
    ];
    let text: Vec<&str> = text.iter().map(|part| part.trim_end()).collect();
    let text: Vec<&str> = text.into_iter().filter(|part| !part.is_empty()).collect();
    output.text(&text.join("\n\n"));
    output.json(&json!({
        "kind": "rehearsed",
        "rehearsal": rehearsal,
        "copied": copied,
        "limits": { "memory": limits.memory, "seconds": limits.time.as_secs() },
    }));
}

fn way_back(way: &WayBack) -> String {
    let waited = |stop_us: &u64| format!("messages would wait for {}", numbers::micros(*stop_us));
    match way {
        WayBack::Same { stop_us } => {
            format!(
                "back again: the old state, in every field; {}",
                waited(stop_us)
            )
        }
        WayBack::Differs {
            stop_us,
            differences,
        } => format!(
            "back again: not the old state; {}\n  {}",
            waited(stop_us),
            differences.join("\n  ")
        ),
        WayBack::NotCompared { stop_us, why } => {
            format!("back again: not compared, {why}; {}", waited(stop_us))
        }
        WayBack::Missing { why } => format!("no way back:\n{why}"),
    }
}

fn leaks(rehearsal: &Rehearsal) -> String {
    let leaks = rehearsal.states.iter().filter(|state| state.leaked > 0);
    let said = leaks.map(|state| {
        let (component, instance) = (&state.component, state.instance);
        let leaked = numbers::count(state.leaked);
        format!("nothing refers to {leaked} objects of {component}.{instance} after it")
    });
    said.collect::<Vec<_>>().join("\n")
}

fn left_out(left_out: &[String]) -> String {
    match left_out {
        [] => String::new(),
        left_out => format!("not rehearsed:\n  {}", left_out.join("\n  ")),
    }
}

impl RelupRehearse {
    /// The target as it was given.
    fn target_text(&self) -> PathBuf {
        match &self.target {
            Target::Release(release) => release.to_string().into(),
            Target::Package(package) => package.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library may write without end: lines, and one that does not end.
    #[test]
    fn of_a_log_without_end_the_last_lines_are_kept_and_their_beginnings() {
        let lines = "again and again\n".repeat(100_000) + "the last\n";
        let endless = std::io::repeat(b'x').take(64 << 20);
        let log = Log(Arc::default());
        log.keep(lines.as_bytes().chain(endless));
        let kept = log.lines();
        assert_eq!(kept.len(), LAST_LINES);
        assert_eq!(kept[LAST_LINES - 1], "x".repeat(LONGEST_LINE));
        assert_eq!(kept[LAST_LINES - 2], "the last");
        assert!(
            kept.iter()
                .rev()
                .skip(2)
                .all(|line| line == "again and again")
        );
        // Nor is more of it held than what is shown.
        assert!(kept.iter().all(|line| line.capacity() <= 2 * LONGEST_LINE));
    }

    #[test]
    fn a_place_is_the_step_that_is_carried_out() {
        let mut place = Place::default();
        assert_eq!(place.to_string(), "in what follows after it began");
        place.at = Some("load".into());
        assert_eq!(place.to_string(), "at `load`, after it began");
        place.ended("load".into());
        place.at = Some("load".into());
        assert_eq!(place.to_string(), "in what follows after `load`");
    }
}
