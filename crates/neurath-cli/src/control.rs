//! Asking a node.

use crate::cli::Resets;
use crate::exit::CommandError;
use crate::output::Output;
use anyhow::bail;
use neurath_node::catalog::{Catalog, ReleaseId};
use neurath_node::client::{Client, ClientError};
use neurath_node::protocol::{
    Copied, Outcome, Planned, Progress, Request, Response, Retained, SnapshotMade, Status, Upgraded,
};
use neurath_node::release_handler::ReleaseInfo;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Asks the node in a directory; each of its steps is told to `on_progress`.
///
/// # Errors
///
/// If there is no node, or the node refuses or fails.
pub fn ask(
    directory: &Path,
    request: &Request,
    on_progress: impl FnMut(Progress),
) -> anyhow::Result<Outcome> {
    match Client::connect(directory)?.request(request, on_progress)? {
        Response::Done(outcome) => Ok(*outcome),
        Response::Failed(failure) => Err(CommandError::Node(failure).into()),
    }
}

/// Asks the node, and says on stderr which steps it takes.
///
/// # Errors
///
/// As [`ask`].
pub fn ask_aloud(directory: &Path, request: &Request, output: &Output) -> anyhow::Result<Outcome> {
    ask(directory, request, |step| {
        let time = crate::numbers::micros(step.micros);
        output.progress(&format!(
            "{}/{} {}: {time}",
            step.index + 1,
            step.of,
            step.step
        ));
    })
}

/// Replaces the node's program by itself, anew; how long clients waited, in microseconds.
///
/// # Errors
///
/// As [`ask`].
pub fn restart(directory: &Path, output: &Output) -> anyhow::Result<u64> {
    match ask_aloud(directory, &Request::Restart, output)? {
        Outcome::Restarted { stop_us } => Ok(stop_us),
        other => unexpected(&other),
    }
}

/// What runs.
///
/// # Errors
///
/// As [`ask`].
pub fn status(directory: &Path) -> anyhow::Result<Status> {
    match ask(directory, &Request::Status, |_| ())? {
        Outcome::Status(status) => Ok(*status),
        other => unexpected(&other),
    }
}

/// Asks the node in a directory; if none runs there, does in the directory what can be done without.
///
/// # Errors
///
/// If the node, or the directory, refuses or fails.
pub fn ask_or_offline(directory: &Path, request: Request) -> anyhow::Result<Outcome> {
    let response = match Client::connect(directory) {
        Ok(mut client) => client.request(&request, |_| ())?,
        Err(ClientError::NoNode { .. }) if directory.is_dir() => {
            let who = format!(
                "uid {} pid {}",
                rustix::process::getuid().as_raw(),
                std::process::id()
            );
            neurath_node::node::offline(directory, &who, request)?
        }
        Err(error) => return Err(error.into()),
    };
    match response {
        Response::Done(outcome) => Ok(*outcome),
        Response::Failed(failure) => Err(CommandError::Node(failure).into()),
    }
}

/// Takes a built release into a node, if the node does not have it and it is in the folder `from`. That
/// changes nothing that runs.
///
/// # Errors
///
/// If the release is damaged or not trusted, or cannot be copied.
pub fn install(directory: &Path, release: &ReleaseId, from: &Path) -> anyhow::Result<()> {
    let source = from.join(release.to_string());
    let here = directory
        .join("releases")
        .join(release.to_string())
        .exists();
    let known = || -> anyhow::Result<bool> {
        let catalog = Catalog::open(directory)?;
        Ok(catalog.state().entry(release).is_some())
    };
    let request = match here {
        true if known()? => return Ok(()),
        true => Request::SetUnpacked {
            release: release.clone(),
        },
        false if source.is_dir() => Request::Install {
            folder: std::path::absolute(source)?,
        },
        false => return Ok(()),
    };
    match ask_or_offline(directory, request)? {
        Outcome::Unpacked(_) => Ok(()),
        other => unexpected(&other),
    }
}

/// Takes a package into a node.
///
/// # Errors
///
/// If it cannot be used, or is not trusted.
pub fn unpack(directory: &Path, package: &Path, allow_older: bool) -> anyhow::Result<ReleaseInfo> {
    let request = Request::Unpack {
        package: std::path::absolute(package)?,
        allow_older,
    };
    match ask_or_offline(directory, request)? {
        Outcome::Unpacked(info) => Ok(info),
        other => unexpected(&other),
    }
}

/// The plan that would lead to a release, which the node has.
///
/// # Errors
///
/// As [`ask`].
pub fn plan(directory: &Path, release: &ReleaseId) -> anyhow::Result<Planned> {
    planned(directory, release, None)
}

/// The plan that would lead to a release; to the built one in the folder `from`, if the node does not
/// have it. Nothing is taken in.
///
/// # Errors
///
/// As [`ask`].
pub fn plan_built(directory: &Path, release: &ReleaseId, from: &Path) -> anyhow::Result<Planned> {
    let source = from.join(release.to_string());
    let folder = match source.is_dir() {
        true => Some(std::path::absolute(source)?),
        false => None,
    };
    planned(directory, release, folder)
}

fn planned(
    directory: &Path,
    release: &ReleaseId,
    folder: Option<PathBuf>,
) -> anyhow::Result<Planned> {
    let request = Request::Plan {
        release: release.clone(),
        folder,
    };
    match ask(directory, &request, |_| ())? {
        Outcome::Planned(planned) => Ok(planned),
        other => unexpected(&other),
    }
}

/// Goes to a release.
///
/// # Errors
///
/// As [`ask`].
pub fn apply(
    directory: &Path,
    release: &ReleaseId,
    plan_id: Option<String>,
    output: &Output,
) -> anyhow::Result<Upgraded> {
    apply_resetting(directory, release, plan_id, &Resets::default(), output)
}

/// Goes to a release that throws states away.
///
/// # Errors
///
/// As [`ask`]; all components whose state is thrown away must be named.
pub fn apply_resetting(
    directory: &Path,
    release: &ReleaseId,
    plan_id: Option<String>,
    resets: &Resets,
    output: &Output,
) -> anyhow::Result<Upgraded> {
    let request = Request::Apply {
        release: release.clone(),
        plan_id,
        execute: true,
        reset: resets.reset.clone(),
        no_snapshot: resets.no_snapshot,
    };
    upgraded(ask_aloud(directory, &request, output)?)
}

/// Goes back to the release before, which throws the present states of these components away.
///
/// # Errors
///
/// As [`ask`].
pub fn rollback_resetting(
    directory: &Path,
    reset: &[String],
    output: &Output,
) -> anyhow::Result<Upgraded> {
    let request = Request::Rollback {
        lose_writes: false,
        reset: reset.to_vec(),
    };
    upgraded(ask_aloud(directory, &request, output)?)
}

/// Deletes a snapshot of a state that was thrown away; the bytes of its file.
///
/// # Errors
///
/// As [`ask`]. The node need not run.
pub fn remove_snapshot(directory: &Path, name: &str) -> anyhow::Result<u64> {
    let request = Request::RemoveSnapshot { name: name.into() };
    match ask_or_offline(directory, request)? {
        Outcome::SnapshotRemoved { bytes, .. } => Ok(bytes),
        other => unexpected(&other),
    }
}

/// Goes back to the release before.
///
/// # Errors
///
/// As [`ask`].
pub fn rollback(directory: &Path, lose_writes: bool, output: &Output) -> anyhow::Result<Upgraded> {
    upgraded(ask_aloud(
        directory,
        &Request::Rollback {
            lose_writes,
            reset: Vec::new(),
        },
        output,
    )?)
}

/// A release was made the permanent one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Confirmed {
    /// The release.
    pub release: ReleaseId,
    /// Libraries that were kept for the way back, and are unloaded now.
    pub unloaded: Vec<String>,
    /// Those that are not, and why.
    pub retained: Vec<Retained>,
    /// Instances that the release does not have, and whose state is deleted now.
    pub deleted: Vec<String>,
}

/// Makes the current release the permanent one.
///
/// # Errors
///
/// As [`ask`].
pub fn confirm(directory: &Path, output: &Output) -> anyhow::Result<Confirmed> {
    match ask_aloud(directory, &Request::Confirm, output)? {
        Outcome::Confirmed {
            release,
            unloaded,
            retained,
            deleted,
        } => Ok(Confirmed {
            release,
            unloaded,
            retained,
            deleted,
        }),
        other => unexpected(&other),
    }
}

/// Copies an instance's state into a file.
///
/// # Errors
///
/// As [`ask`], and if the path is no text or not to be had.
pub fn snapshot(
    directory: &Path,
    component: &str,
    instance: Option<u32>,
    out: &Path,
) -> anyhow::Result<SnapshotMade> {
    let absolute = std::path::absolute(out)?;
    let Some(text) = absolute.to_str() else {
        bail!(
            "{} is no text, which the path of a snapshot must be",
            out.display()
        );
    };
    let request = Request::Snapshot {
        component: component.into(),
        instance,
        out: text.into(),
    };
    match ask(directory, &request, |_| ())? {
        Outcome::Snapshot(made) => Ok(made),
        other => unexpected(&other),
    }
}

/// Copies a whole node into a directory that is not there yet.
///
/// # Errors
///
/// As [`ask`].
pub fn copy(directory: &Path, out: &Path) -> anyhow::Result<Copied> {
    let out = out.display().to_string();
    match ask(directory, &Request::Copy { out }, |_| ())? {
        Outcome::Copied(copied) => Ok(copied),
        other => unexpected(&other),
    }
}

/// Asks the node to end; it may still be there for a moment.
///
/// # Errors
///
/// As [`ask`].
pub fn stop(directory: &Path) -> anyhow::Result<()> {
    match ask(directory, &Request::Stop, |_| ())? {
        Outcome::Stopping => Ok(()),
        other => unexpected(&other),
    }
}

pub(crate) fn upgraded(outcome: Outcome) -> anyhow::Result<Upgraded> {
    match outcome {
        Outcome::Upgraded(upgraded) => Ok(upgraded),
        other => unexpected(&other),
    }
}

/// An answer to another question.
pub(crate) fn unexpected<T>(outcome: &Outcome) -> anyhow::Result<T> {
    bail!("the node answered something else than it was asked: {outcome:?}")
}
