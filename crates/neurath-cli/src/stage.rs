//! What the demo, the measurements and the tests play on: built releases in a temporary folder,
//! and nodes that run them.

use crate::build::{self, Which};
use crate::cli::Folders;
use crate::control;
use crate::output::Output;
use crate::processes::TemporaryFolder;
use crate::testing::{NodeCommand, NodeProcess, free_port};
use anyhow::{Context as _, bail};
use neurath_node::catalog::ReleaseId;
use semver::Version;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// The release that is played with.
pub const NAME: &str = "kv";

/// How long the values are that fill a node.
pub const VALUE_LEN: usize = 64;
/// With how many connections a node is filled.
pub const FILLERS: usize = 4;

/// A release of the key-value server.
pub fn release(version: &str) -> ReleaseId {
    ReleaseId::new(NAME, version)
}

/// Built versions of a release, and nodes that run them. Gone when it is dropped.
#[derive(Debug)]
pub struct Stage {
    folder: TemporaryFolder,
    built: PathBuf,
    name: String,
    versions: Vec<String>,
    program: PathBuf,
    nodes: AtomicU32,
}

impl Stage {
    /// Builds these versions of the key-value server, to listen on a free port. Its nodes are run
    /// by this very program.
    ///
    /// # Errors
    ///
    /// Whatever keeps a release from being built.
    pub fn new(folders: &Folders, versions: &[&str], output: &Output) -> anyhow::Result<Self> {
        let folder = TemporaryFolder::new()?;
        let releases = folder.path().join("releases");
        copy_releases(
            &folders.releases,
            &releases,
            &format!("127.0.0.1:{}", free_port()?),
        )?;
        let folders = Folders {
            manifests: folders.manifests.clone(),
            releases,
        };
        Self::of(folder, &folders, NAME, versions, output)
    }

    /// Builds these versions of a release of the project in `folders`.
    ///
    /// # Errors
    ///
    /// Whatever keeps a release from being built.
    pub fn of(
        folder: TemporaryFolder,
        folders: &Folders,
        name: &str,
        versions: &[&str],
        output: &Output,
    ) -> anyhow::Result<Self> {
        let built = folder.path().join("built");
        let parsed = versions
            .iter()
            .map(|text| Version::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        build::build(folders, Which::These(name, &parsed), &built, false, output)?;
        let versions = versions.iter().map(|text| (*text).to_owned()).collect();
        Ok(Self {
            folder,
            built,
            name: name.to_owned(),
            versions,
            program: std::env::current_exe()?,
            nodes: AtomicU32::new(0),
        })
    }

    /// Lets its nodes be run by another program.
    #[must_use]
    pub fn run_by(self, program: PathBuf) -> Self {
        Self { program, ..self }
    }

    /// The folder with the built releases.
    #[must_use]
    pub fn built(&self) -> &Path {
        &self.built
    }

    /// How a new node with this version is started, in a folder of its own.
    #[must_use]
    pub fn command(&self, version: &str) -> NodeCommand {
        let number = self.nodes.fetch_add(1, Ordering::Relaxed);
        let directory = self.folder.path().join(format!("node-{number}"));
        let first = ReleaseId::new(&self.name, version).to_string();
        NodeCommand::new(&self.program, &directory, Some(&first), &self.built)
    }

    /// Installs every version beside the one that a node runs.
    ///
    /// # Errors
    ///
    /// If one cannot be copied.
    pub fn install(&self, directory: &Path) -> anyhow::Result<()> {
        for version in &self.versions {
            control::install(directory, &ReleaseId::new(&self.name, version), &self.built)?;
        }
        Ok(())
    }

    /// Starts a new, empty node with this version; the others are installed beside it.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(&self, version: &str) -> anyhow::Result<NodeProcess> {
        let start = self.command(version);
        let node = NodeProcess::start(&start)?;
        self.install(node.directory())?;
        Ok(node)
    }
}

/// Fills a server, and fails if anything about that is not as it must be.
///
/// # Errors
///
/// If the server refuses something, or answers wrongly.
pub fn fill(address: &str, keys: u64) -> anyhow::Result<neurath_verify::Report> {
    let report = neurath_verify::fill(address, keys, VALUE_LEN, FILLERS);
    if !report.is_clean() {
        bail!("filling {address} with {keys} keys went wrong: {report}");
    }
    Ok(report)
}

/// Copies the releases of a project, listening elsewhere.
fn copy_releases(from: &Path, to: &Path, address: &str) -> anyhow::Result<()> {
    let from = from.join(NAME);
    let to = to.join(NAME);
    std::fs::create_dir_all(&to)?;
    let unread = || {
        format!(
            "cannot read {}: run this in the folder of the project",
            from.display()
        )
    };
    for entry in from.read_dir().with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        let Some(name) = path.file_name() else {
            continue;
        };
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            let text = std::fs::read_to_string(&path).with_context(unread)?;
            std::fs::write(to.join(name), with_listen(&text, address))?;
        }
    }
    Ok(())
}

/// The same release, listening on another address.
fn with_listen(text: &str, address: &str) -> String {
    const KEY: &str = "listen = \"";
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(KEY) {
        let Some((_, after)) = after.split_once('"') else {
            break;
        };
        out.push_str(&format!("{before}{KEY}{address}\""));
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_replaced() {
        let text = "gateway = { config = { listen = \"127.0.0.1:7379\" } }\n[confirm]\n";
        let expected = "gateway = { config = { listen = \"127.0.0.1:1\" } }\n[confirm]\n";
        assert_eq!(with_listen(text, "127.0.0.1:1"), expected);
        assert_eq!(with_listen("x = 1\n", "y"), "x = 1\n");
    }
}
