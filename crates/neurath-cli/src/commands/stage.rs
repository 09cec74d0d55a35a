//! What the demo and the measurements play on: built releases of the key-value server, on a free
//! port, in a temporary folder.

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

pub struct Stage {
    folder: TemporaryFolder,
    built: PathBuf,
    versions: Vec<String>,
    nodes: std::cell::Cell<u32>,
}

impl Stage {
    /// Builds these versions of the key-value server.
    pub fn new(folders: &Folders, versions: &[&str], output: &Output) -> anyhow::Result<Self> {
        let folder = TemporaryFolder::new()?;
        let releases = folder.path().join("releases");
        copy_releases(
            &folders.releases,
            &releases,
            &format!("127.0.0.1:{}", free_port()?),
        )?;
        let built = folder.path().join("built");
        let parsed = versions
            .iter()
            .map(|text| Version::parse(text))
            .collect::<Result<Vec<_>, _>>()?;
        let folders = Folders {
            manifests: folders.manifests.clone(),
            releases,
        };
        build::build(&folders, Which::These(NAME, &parsed), &built, false, output)?;
        let versions = versions.iter().map(|text| (*text).to_owned()).collect();
        Ok(Self {
            folder,
            built,
            versions,
            nodes: std::cell::Cell::new(0),
        })
    }

    /// Starts a new, empty node with this version; the others are installed beside it.
    pub fn start(&self, version: &str) -> anyhow::Result<NodeProcess> {
        let number = self.nodes.replace(self.nodes.get() + 1);
        let directory = self.folder.path().join(format!("node-{number}"));
        let first = release(version).to_string();
        let start = NodeCommand::of_this_program(&directory, Some(&first), &self.built)?;
        let node = NodeProcess::start(&start)?;
        for version in &self.versions {
            control::install(&directory, &release(version), &self.built)?;
        }
        Ok(node)
    }
}

/// Fills a server, and fails if anything about that is not as it must be.
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
