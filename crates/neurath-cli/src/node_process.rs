//! The node itself, in this process.

use neurath_node::catalog::ReleaseId;
use std::path::PathBuf;

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct Start {
    /// Its directory.
    pub directory: PathBuf,
    /// The release to install where the directory is empty.
    pub release: Option<ReleaseId>,
    /// The folder with built releases.
    pub from: Option<PathBuf>,
}

/// Runs a node until it is stopped.
///
/// # Errors
///
/// If it cannot start, or ended with a failure.
pub fn run(start: Start) -> anyhow::Result<()> {
    let _ = start;
    anyhow::bail!("this build has no node in it")
}
