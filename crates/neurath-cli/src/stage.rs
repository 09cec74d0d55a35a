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
        let address = format!("127.0.0.1:{}", free_port()?);
        Self::listening_at(&address, folders, versions, output)
    }

    fn listening_at(
        address: &str,
        folders: &Folders,
        versions: &[&str],
        output: &Output,
    ) -> anyhow::Result<Self> {
        let folder = TemporaryFolder::new()?;
        let releases = folder.path().join("releases");
        copy_releases(&folders.releases, &releases, address)?;
        let folders = Folders {
            manifests: folders.manifests.clone(),
            releases,
        };
        Self::of(folder, &folders, NAME, versions, output)
    }

    /// The same, the commits of these components in each version surviving what is said: `process`
    /// or `power`; listening at this address, or else on a free port.
    ///
    /// # Errors
    ///
    /// Whatever keeps a release from being built.
    pub fn surviving(
        folders: &Folders,
        components: &[&str],
        versions: &[(&str, &str)],
        address: Option<&str>,
        output: &Output,
    ) -> anyhow::Result<Self> {
        let changed = TemporaryFolder::new()?;
        let manifests = changed.path().join("manifests");
        copy_manifests(&folders.manifests, &manifests, &|component, file, text| {
            let named = |(version, _): &&(&str, &str)| file == format!("{version}.toml");
            let wanted = versions.iter().find(named);
            match wanted.filter(|_| components.contains(&component)) {
                Some((_, durability)) => with_durability(&text, durability),
                None => Ok(text),
            }
        })?;
        let folders = Folders {
            manifests,
            releases: folders.releases.clone(),
        };
        let names: Vec<&str> = versions.iter().map(|(version, _)| *version).collect();
        match address {
            Some(address) => Self::listening_at(address, &folders, &names, output),
            None => Self::new(&folders, &names, output),
        }
    }

    /// The same, every changed state being converted while it is served.
    ///
    /// # Errors
    ///
    /// Whatever keeps a release from being built.
    pub fn incremental(
        folders: &Folders,
        versions: &[&str],
        output: &Output,
    ) -> anyhow::Result<Self> {
        let changed = TemporaryFolder::new()?;
        let folders = incremental_project(folders, changed.path())?;
        Self::new(&folders, versions, output)
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

/// Copies a project into a folder, every changed state being converted while it is served. Its
/// relups are left out, as they are made from the appups.
fn incremental_project(folders: &Folders, to: &Path) -> anyhow::Result<Folders> {
    let made = Folders {
        manifests: to.join("manifests"),
        releases: to.join("releases"),
    };
    copy_manifests(&folders.manifests, &made.manifests, &|_, _, text| {
        const EAGER: &str = "change = { advanced = {} } }";
        let incremental = "change = { advanced = {} }, strategy = \"incremental\" }";
        Ok(text.replace(EAGER, incremental))
    })?;
    copy_manifests(&folders.releases, &made.releases, &|_, _, text| Ok(text))?;
    for release in made.releases.read_dir()? {
        for file in release?.path().read_dir()? {
            let path = file?.path();
            if path.to_string_lossy().ends_with(".relup.toml") {
                std::fs::remove_file(path)?;
            }
        }
    }
    Ok(made)
}

/// Copies the manifests of a project; `edit` is given the component, the file and its text.
fn copy_manifests(
    from: &Path,
    to: &Path,
    edit: &dyn Fn(&str, &str, String) -> anyhow::Result<String>,
) -> anyhow::Result<()> {
    let unread = || {
        format!(
            "cannot read {}: run this in the folder of the project",
            from.display()
        )
    };
    for component in from.read_dir().with_context(unread)? {
        let component = component.with_context(unread)?;
        let to = to.join(component.file_name());
        std::fs::create_dir_all(&to)?;
        for file in component.path().read_dir().with_context(unread)? {
            let file = file.with_context(unread)?;
            let name = file.file_name();
            let text = std::fs::read_to_string(file.path()).with_context(unread)?;
            let of = component.file_name();
            let text = edit(&of.to_string_lossy(), &name.to_string_lossy(), text)?;
            std::fs::write(to.join(name), text)?;
        }
    }
    Ok(())
}

/// The same component, whose commits survive something else.
fn with_durability(text: &str, durability: &str) -> anyhow::Result<String> {
    const PROCESS: &str = "durability = \"process\"";
    if !text.contains(PROCESS) {
        bail!("a manifest has no `{PROCESS}`");
    }
    Ok(text.replace(PROCESS, &format!("durability = \"{durability}\"")))
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
    fn the_durability_is_replaced() {
        let text = with_durability("a\ndurability = \"process\"\n", "power");
        assert_eq!(text.expect("replaced"), "a\ndurability = \"power\"\n");
        assert!(with_durability("durability = \"power\"\n", "power").is_err());
    }

    #[test]
    fn the_address_is_replaced() {
        let text = "gateway = { config = { listen = \"127.0.0.1:7379\" } }\n[confirm]\n";
        let expected = "gateway = { config = { listen = \"127.0.0.1:1\" } }\n[confirm]\n";
        assert_eq!(with_listen(text, "127.0.0.1:1"), expected);
        assert_eq!(with_listen("x = 1\n", "y"), "x = 1\n");
    }
}
