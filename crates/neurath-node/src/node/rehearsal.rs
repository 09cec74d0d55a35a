//! The rehearsal of an upgrade, in the copy of a node: with the real libraries, the real plan and the
//! state as it was a moment ago. And back again, to see whether the old state comes back.
//!
//! It runs whatever the libraries do in this process: whoever calls it gives it one of its own, with
//! limits, and takes away the copy afterwards.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use neurath_manifest::{ApplyTarget, Probe, Step};
use neurath_plan::Lints;
use neurath_pmem::inspect::{Contents, ContentsError, InspectError, contents_file};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::{Node, NodeError, NodeHandle, NodeOptions, StartError, lock, planning};
use crate::catalog::ReleaseId;
use crate::memory;
use crate::protocol::{
    ComponentStatus, Failure, InFlight, Outcome, Progress, Request, Response, StepTime, Upgraded,
};

/// How often it is looked which step is carried out.
const LOOK: Duration = Duration::from_millis(20);

/// What a rehearsal has shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Rehearsal {
    /// The release that was left.
    pub from: ReleaseId,
    /// The release that was gone to.
    pub to: ReleaseId,
    /// How long messages would have waited, in microseconds.
    pub stop_us: u64,
    /// How long all of it took, in microseconds.
    pub total_us: u64,
    /// Each step.
    pub steps: Vec<StepTime>,
    /// The states, before and after.
    pub states: Vec<RehearsedState>,
    /// What it took of memory.
    pub memory: Memory,
    /// What came of going back.
    pub way_back: WayBack,
    /// What was left out, as it would have reached beyond the copy.
    pub left_out: Vec<String>,
}

/// An instance's state in a rehearsal. One that comes has nothing before, and one that goes nothing
/// after. Every state after is checked in full.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct RehearsedState {
    /// The component.
    pub component: String,
    /// The number of the instance.
    pub instance: u32,
    /// The version before.
    pub from: Option<String>,
    /// The version after.
    pub to: Option<String>,
    /// Bytes of the region's file before.
    pub bytes_before: u64,
    /// Bytes of the region's file after.
    pub bytes_after: u64,
    /// Objects that nothing refers to, after.
    pub leaked: u64,
}

/// Memory of the process, in bytes: what was resident, the files' pages with it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Memory {
    /// Before the upgrade.
    pub before: u64,
    /// At most, while it ran.
    pub peak: u64,
}

/// What came of going back to the release before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum WayBack {
    /// The old state came back, in every field.
    Same {
        /// How long messages would have waited, in microseconds.
        stop_us: u64,
    },
    /// Something came back otherwise.
    Differs {
        /// How long messages would have waited, in microseconds.
        stop_us: u64,
        /// What, and how.
        differences: Vec<String>,
    },
    /// It works, and whether the state is the old one cannot be told.
    NotCompared {
        /// How long messages would have waited, in microseconds.
        stop_us: u64,
        /// Why it cannot.
        why: String,
    },
    /// There is none that keeps what was written since.
    Missing {
        /// Why not.
        why: String,
    },
}

/// Why a rehearsal came to no end.
#[derive(Debug, thiserror::Error)]
pub enum RehearsalError {
    /// The copy does not start.
    #[error("the copy of the node does not start: {0}")]
    Start(#[from] StartError),
    /// The upgrade fails.
    #[error("{}", .0.message)]
    Upgrade(Failure),
    /// A state of the copy cannot be looked at.
    #[error("{component}: {text}")]
    State {
        /// Whose.
        component: String,
        /// What is wrong.
        text: String,
    },
    /// The copy does not end in order.
    #[error(transparent)]
    End(#[from] NodeError),
}

/// Where in a node's directory rehearsals are made, each in a folder of its own.
pub const REHEARSALS: &str = "rehearsals";

/// Takes away what rehearsals that were killed have left in a node's directory. One that runs has its
/// folder locked.
pub fn remove_old_rehearsals(node: &Path) {
    let folder = node.join(REHEARSALS);
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let lock = FlockOperation::NonBlockingLockExclusive;
        let nobody_s =
            std::fs::File::open(&path).is_ok_and(|file| rustix::fs::flock(&file, lock).is_ok());
        if nobody_s && let Err(error) = std::fs::remove_dir_all(&path) {
            tracing::warn!(%error, path = %path.display(), "an old rehearsal stays");
        }
    }
    // It goes if it is empty.
    let _ = std::fs::remove_dir(folder);
}

/// What is rehearsed.
#[derive(Debug, Clone)]
pub enum Rehearsed {
    /// Going to a release.
    Release {
        /// Which.
        release: ReleaseId,
        /// A folder of built releases, for one that the node has not.
        built: Option<PathBuf>,
    },
    /// Taking a package in, and going to its release.
    Package(PathBuf),
}

/// What a rehearsal tells while it goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rehearsing {
    /// A step has ended.
    Step(Progress),
    /// The step that is carried out from now on; none between them. It may never end.
    At(Option<String>),
}

/// Rehearses an upgrade in `directory`, the copy of a node's. `tell` is called on more than one thread.
///
/// # Errors
///
/// [`RehearsalError`]: the upgrade would fail, too.
pub fn rehearse(
    directory: &Path,
    what: &Rehearsed,
    tell: &(dyn Fn(Rehearsing) + Sync),
) -> Result<Rehearsal, RehearsalError> {
    let node = Node::start_rehearsal(NodeOptions {
        directory: directory.to_owned(),
        ..NodeOptions::default()
    })?;
    let flight = node.shared.flight.clone();
    std::thread::scope(|scope| {
        // It ends with what it waits for, also if that panics.
        let (_end, over) = channel();
        scope.spawn(move || tell_step(&flight, &over, tell));
        let progress = &mut |step| tell(Rehearsing::Step(step));
        carry_out(node, directory, what, progress)
    })
}

/// Tells which step is carried out whenever that is another one, until it is over.
fn tell_step(
    flight: &Mutex<Option<InFlight>>,
    over: &Receiver<()>,
    tell: &(dyn Fn(Rehearsing) + Sync),
) {
    let mut told = None;
    while over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
        let now = lock(flight).as_ref().and_then(|flight| flight.now.clone());
        let step = now.map(|now| now.step);
        if step != told {
            tell(Rehearsing::At(step.clone()));
            told = step;
        }
    }
}

fn carry_out(
    node: Node,
    directory: &Path,
    what: &Rehearsed,
    progress: &mut dyn FnMut(Progress),
) -> Result<Rehearsal, RehearsalError> {
    let mut copy = Copy {
        handle: node.handle(),
        looks: directory.join("looked-at"),
        number: 0,
    };
    let release = &copy.take_in(&node, what)?;
    let before = copy.handle.status();
    let left_out = left_out(&node, release)?;
    let old: Vec<_> = copy.looks(&before.components, Copy::contents)?;
    let pid = std::process::id();
    if let Err(error) = memory::reset_peak(pid) {
        tracing::warn!(%error, "the peak of memory counts from the start of the process");
    }
    let resident = memory::resident(pid).unwrap_or_default();
    let apply = Request::apply(release.clone());
    let upgraded = copy.upgraded(apply, progress)?;
    let memory = Memory {
        before: resident,
        peak: memory::peak(pid).unwrap_or_default(),
    };
    let after = copy.handle.status();
    let leaked = copy.looks(&after.components, Copy::leaked)?;
    let states = states(&before.components, &after.components, &leaked);
    let way_back = copy.go_back(&old, progress)?;
    node.stop()?;
    let Upgraded {
        from,
        to,
        stop_us,
        total_us,
        steps,
        ..
    } = upgraded;
    Ok(Rehearsal {
        from,
        to,
        stop_us,
        total_us,
        steps,
        states,
        memory,
        way_back,
        left_out,
    })
}

/// The copy that runs.
struct Copy {
    handle: NodeHandle,
    /// Where snapshots are put, to be looked at.
    looks: PathBuf,
    number: u32,
}

type Told = Result<Contents, ContentsError>;
type Of<T> = Vec<((String, u32), T)>;

impl Copy {
    fn ask(
        &self,
        request: Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Outcome, RehearsalError> {
        match self.handle.request_control(request, progress) {
            Response::Done(outcome) => Ok(*outcome),
            Response::Failed(failure) => Err(RehearsalError::Upgrade(failure)),
        }
    }

    fn upgraded(
        &self,
        request: Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Upgraded, RehearsalError> {
        match self.ask(request, progress)? {
            Outcome::Upgraded(upgraded) => Ok(upgraded),
            _ => unreachable!("it was asked to upgrade"),
        }
    }

    /// Takes the release in, if it is not there; gives which it is.
    fn take_in(&self, node: &Node, what: &Rehearsed) -> Result<ReleaseId, RehearsalError> {
        let request = match what {
            Rehearsed::Package(package) => Request::Unpack {
                package: package.clone(),
                allow_older: false,
            },
            Rehearsed::Release { release, built } => {
                let folder = built.as_ref().map(|built| built.join(release.to_string()));
                // Not by its folder: one that was being taken in, or put there by hand, is not known yet.
                let core = lock(&node.shared.core);
                let known = core.catalog.state().entry(release).is_some();
                drop(core);
                match folder.filter(|folder| !known && folder.is_dir()) {
                    Some(folder) => Request::Install { folder },
                    None => return Ok(release.clone()),
                }
            }
        };
        match self.ask(request, &mut |_| ())? {
            Outcome::Unpacked(info) => Ok(info.release),
            _ => unreachable!("it was asked to take a release in"),
        }
    }

    /// Looks at a snapshot of each state, which is checked in full when it is made.
    fn looks<T>(
        &mut self,
        instances: &[ComponentStatus],
        look: impl Fn(&Path, u64) -> Result<T, InspectError>,
    ) -> Result<Of<T>, RehearsalError> {
        let mut seen = Vec::new();
        for instance in instances {
            let component = &instance.component;
            let failed = |text: String| RehearsalError::State {
                component: component.clone(),
                text,
            };
            std::fs::create_dir_all(&self.looks).map_err(|error| failed(error.to_string()))?;
            self.number += 1;
            let out = self.looks.join(self.number.to_string());
            let request = Request::Snapshot {
                component: component.clone(),
                instance: Some(instance.instance),
                out: out.display().to_string(),
            };
            let leaked = match self.ask(request, &mut |_| ())? {
                Outcome::Snapshot(made) => made.leaked,
                _ => unreachable!("it was asked for a snapshot"),
            };
            let found = look(&out, leaked).map_err(|error| failed(error.to_string()))?;
            std::fs::remove_file(&out).map_err(|error| failed(error.to_string()))?;
            seen.push(((component.clone(), instance.instance), found));
        }
        Ok(seen)
    }

    fn contents(path: &Path, _leaked: u64) -> Result<Told, InspectError> {
        contents_file(path)
    }

    fn leaked(_path: &Path, leaked: u64) -> Result<u64, InspectError> {
        Ok(leaked)
    }

    /// Goes back, and compares what comes of it with the old states.
    fn go_back(
        &mut self,
        old: &Of<Told>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<WayBack, RehearsalError> {
        let back = Request::rollback();
        let stop_us = match self.upgraded(back, progress) {
            Ok(upgraded) => upgraded.stop_us,
            Err(RehearsalError::Upgrade(failure)) => {
                let why = failure.message;
                return Ok(WayBack::Missing { why });
            }
            Err(error) => return Err(error),
        };
        let components = self.handle.status().components;
        let new = self.looks(&components, Copy::contents)?;
        let mut differences = Vec::new();
        for ((component, number), old) in old {
            let name = format!("{component}.{number}");
            let same = |(place, _): &&((String, u32), Told)| *place == (component.clone(), *number);
            let Some((_, new)) = new.iter().find(same) else {
                differences.push(format!("{name} is not there any more"));
                continue;
            };
            match (old, new) {
                (Ok(old), Ok(new)) => differences.extend(compare(&name, old, new)),
                (Err(why), _) | (_, Err(why)) => {
                    let why = format!("{name}: {why}");
                    return Ok(WayBack::NotCompared { stop_us, why });
                }
            }
        }
        Ok(match differences.is_empty() {
            true => WayBack::Same { stop_us },
            false => WayBack::Differs {
                stop_us,
                differences,
            },
        })
    }
}

fn compare(name: &str, old: &Contents, new: &Contents) -> Vec<String> {
    if old.fingerprint != new.fingerprint {
        return vec![format!("{name} is of another type")];
    }
    let pairs = old.fields.iter().zip(&new.fields);
    let differ = pairs.filter(|(old, new)| old != new);
    let said = differ.map(|(old, new)| {
        let entries = match (old.entries, new.entries) {
            (0, 0) => String::new(),
            (a, b) => format!(": {a} entries before, {b} after"),
        };
        format!("`{}` of {name} is not what it was{entries}", old.name)
    });
    said.collect()
}

/// What the upgrade would do beyond the copy, which is not done.
fn left_out(node: &Node, release: &ReleaseId) -> Result<Vec<String>, RehearsalError> {
    let core = lock(&node.shared.core);
    let package = core.open_package(release).map_err(|error| {
        let text = error.to_string();
        RehearsalError::Upgrade(Failure {
            code: crate::protocol::code::USAGE,
            message: text,
            step: None,
        })
    })?;
    let planned = planning::plan(&core, &package, Lints::Enforce);
    // Why it cannot be planned is said when it is asked for.
    let steps = planned.map(|found| found.plan.steps).unwrap_or_default();
    let mut left_out: Vec<String> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Apply {
                target: ApplyTarget::Command(words),
                ..
            } => Some(format!("the command `{}`", words.join(" "))),
            _ => None,
        })
        .collect();
    for check in &package.release().confirm.checks {
        // A component's own check is a part of every upgrade.
        if !matches!(check.probe, Probe::Component(_)) {
            left_out.push(format!("the health check `{}`", check.probe));
        }
    }
    Ok(left_out)
}

fn states(
    before: &[ComponentStatus],
    after: &[ComponentStatus],
    leaked: &Of<u64>,
) -> Vec<RehearsedState> {
    let mut states: Vec<RehearsedState> = Vec::new();
    for instance in before {
        states.push(RehearsedState {
            component: instance.component.clone(),
            instance: instance.instance,
            from: Some(instance.version.clone()),
            bytes_before: instance.region_bytes,
            ..RehearsedState::default()
        });
    }
    for instance in after {
        let place = (instance.component.clone(), instance.instance);
        let known = |state: &RehearsedState| {
            (state.component.as_str(), state.instance) == (place.0.as_str(), place.1)
        };
        let at = states.iter().position(known).unwrap_or_else(|| {
            states.push(RehearsedState {
                component: place.0.clone(),
                instance: place.1,
                ..RehearsedState::default()
            });
            states.len() - 1
        });
        let state = &mut states[at];
        state.to = Some(instance.version.clone());
        state.bytes_after = instance.region_bytes;
        let found = leaked.iter().find(|(of, _)| *of == place);
        state.leaked = found.map_or(0, |(_, leaked)| *leaked);
    }
    states
}
