//! A new program is tried beside the old node, before anything stops: it opens what it would have to open, changes
//! nothing, says what it is, and leaves.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use neurath_pmem::region;
use serde::{Deserialize, Serialize};

use super::{Launch, NodeDescription, TRIAL};
use crate::catalog::Catalog;
use crate::loader;
use crate::release::ReleasePackage;
use crate::signals;

/// How often it is looked whether a trial has ended.
const LOOK: Duration = Duration::from_millis(5);
/// The longest report that is read.
const LONGEST: u64 = 1 << 20;

/// Why a program is not let take over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrialError {
    /// It cannot be run, or its report cannot be read.
    #[error("the new node cannot be tried: {0}")]
    Io(#[from] std::io::Error),
    /// It does not leave.
    #[error(
        "the new node did not end its trial within {0:?}; `node start --take-over-within` has the limit"
    )]
    Overdue(Duration),
    /// It ended without a report.
    #[error("the new node ended its trial with {0} and said nothing; see the node's log")]
    Silent(std::process::ExitStatus),
    /// It cannot take over.
    #[error("the new node cannot take over: {0}")]
    Refused(String),
    /// It is another one.
    #[error(
        "the new node says that it is {found}, and the release wants {wanted}; build the release again"
    )]
    Version {
        /// What it says.
        found: String,
        /// What the release says.
        wanted: String,
    },
    /// It reads less than this node has written.
    #[error(
        "the new node reads {what} up to format {found}, and this node writes {wanted}; go there by a release between"
    )]
    Format {
        /// Of what.
        what: &'static str,
        /// What it reads.
        found: u32,
        /// What this node writes.
        wanted: u32,
    },
}

/// What a tried program reports: one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    /// What it is.
    pub node: NodeDescription,
    /// Why it could not take over.
    pub problem: Option<String>,
}

/// Tries whether this program, of this version, could take over the node in a directory. Nothing there is changed or
/// locked: a node runs.
pub fn report(directory: &Path, version: &str) -> Report {
    Report {
        node: NodeDescription::of(version),
        problem: look(directory).err(),
    }
}

fn look(directory: &Path) -> Result<(), String> {
    let catalog = Catalog::open(directory).map_err(|error| error.to_string())?;
    let state = catalog.state();
    let current = state.current.as_ref().ok_or("the node has no release")?;
    let folder = directory.join("releases").join(current.to_string());
    let package = ReleasePackage::open(&folder).map_err(|error| error.to_string())?;
    for name in package.components().keys() {
        let bytes = package.library_bytes(name).map_err(|e| e.to_string())?;
        loader::describe(&folder.join(name), &bytes).map_err(|error| error.to_string())?;
    }
    for entry in &state.regions {
        let path = directory.join("regions").join(&entry.file);
        region::look_at(&path, &entry.component, entry.instance).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Tries a program at this path, which has to be of the version that is wanted.
pub(super) fn of(
    program: &Path,
    launch: &Launch,
    wanted: &str,
) -> Result<NodeDescription, TrialError> {
    let mut command = Command::new(program);
    command.args(&launch.arguments).arg(TRIAL);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = signals::spawn(&mut command)?;
    let until = Instant::now() + launch.within;
    let status = loop {
        match child.try_wait()? {
            Some(status) => break status,
            None if Instant::now() >= until => {
                // It was started here, and nobody else waits for it.
                let _ = child.kill();
                let _ = child.wait();
                return Err(TrialError::Overdue(launch.within));
            }
            None => std::thread::sleep(LOOK),
        }
    };
    let mut text = String::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(LONGEST).read_to_string(&mut text)?;
    }
    let last = text.lines().last().unwrap_or_default();
    let report: Report = serde_json::from_str(last).map_err(|_| TrialError::Silent(status))?;
    if let Some(problem) = report.problem {
        return Err(TrialError::Refused(problem));
    }
    let node = report.node;
    if node.version != wanted {
        return Err(TrialError::Version {
            found: node.version,
            wanted: wanted.to_owned(),
        });
    }
    let ours = NodeDescription::of(&launch.version);
    for (what, found, wanted) in [
        ("the hand-over record", node.handover, ours.handover),
        ("the catalog", node.catalog, ours.catalog),
    ] {
        if found < wanted {
            return Err(TrialError::Format {
                what,
                found,
                wanted,
            });
        }
    }
    Ok(node)
}
