//! Which releases nodes are upgraded between.

use std::path::Path;

use anyhow::Context as _;
use neurath_node::catalog::ReleaseId;

use super::Options;
use crate::cli::Folders;
use crate::output::{MessageFormat, Output};
use crate::processes::TemporaryFolder;
use crate::stage::{self, Stage};
use crate::testing::free_port;

/// A component and its version.
pub(super) type Component = (&'static str, &'static str);

/// From one release to another.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) name: &'static str,
    release: &'static str,
    /// The old one first, the new one last; those between are installed too.
    versions: &'static [&'static str],
    /// In the order of their names.
    pub(super) old: &'static [Component],
    pub(super) new: &'static [Component],
}

/// One hop; two hops at once; state that goes to a component that comes, and back from one that goes; and two
/// components that are upgraded while one comes and one goes.
pub(super) static STORIES: [Story; 5] = [
    Story {
        name: "kv",
        release: stage::NAME,
        versions: &["1.0.0", "1.1.0"],
        old: &[("gateway", "1.0.0"), ("store", "1.0.0")],
        new: &[("gateway", "1.1.0"), ("store", "1.1.0")],
    },
    Story {
        name: "hops",
        release: stage::NAME,
        versions: &["1.0.0", "1.1.0", "1.1.1"],
        old: &[("gateway", "1.0.0"), ("store", "1.0.0")],
        new: &[("gateway", "1.1.0"), ("store", "1.1.1")],
    },
    Story {
        name: "split",
        release: stage::NAME,
        versions: &["1.1.1", "1.2.0"],
        old: &[("gateway", "1.1.0"), ("store", "1.1.1")],
        new: &[("gateway", "1.1.0"), ("stats", "1.0.0"), ("store", "1.2.0")],
    },
    Story {
        name: "merge",
        release: stage::NAME,
        versions: &["1.2.0", "1.3.0"],
        old: &[("gateway", "1.1.0"), ("stats", "1.0.0"), ("store", "1.2.0")],
        new: &[("gateway", "1.1.0"), ("store", "1.3.0")],
    },
    Story {
        name: "several",
        release: "several",
        versions: &["1.0.0", "2.0.0"],
        old: &[
            ("gateway", "1.0.0"),
            ("notebook", "1.0.0"),
            ("store", "1.0.0"),
        ],
        new: &[
            ("counter", "1.0.0"),
            ("gateway", "1.1.0"),
            ("store", "1.1.0"),
        ],
    },
];

/// Where clients reach the components.
#[derive(Clone, Debug, Default)]
pub(super) struct Addresses {
    /// Of the key-value server; known when a node runs, where it is empty.
    pub(super) gateway: String,
    pub(super) notebook: Option<String>,
    pub(super) counter: Option<String>,
}

impl Story {
    pub(super) fn old_release(&self) -> ReleaseId {
        ReleaseId::new(self.release, self.versions[0])
    }

    pub(super) fn new_release(&self) -> ReleaseId {
        ReleaseId::new(self.release, self.versions[self.versions.len() - 1])
    }

    /// The version that nodes begin with.
    pub(super) fn first(&self) -> &'static str {
        self.versions[0]
    }

    /// Builds the releases, on ports of their own.
    pub(super) fn stage(&self, options: &Options) -> anyhow::Result<(Stage, Addresses)> {
        let output = Output::new(MessageFormat::Json);
        let folder = TemporaryFolder::new()?;
        let manifests = folder.path().join("manifests");
        copy_manifests(&options.folders.manifests, &manifests)?;
        let (stage, addresses) = if self.release == stage::NAME {
            let folders = Folders {
                manifests,
                releases: options.folders.releases.clone(),
            };
            // The stage has its own folder; this one has to be there while it builds.
            let stage = Stage::new(&folders, self.versions, &output)?;
            (stage, Addresses::default())
        } else {
            let addresses = Addresses {
                gateway: address()?,
                notebook: Some(address()?),
                counter: Some(address()?),
            };
            let folders = Folders {
                manifests,
                releases: folder.path().join("releases"),
            };
            write_several(&folders, &addresses)?;
            let stage = Stage::of(folder, &folders, self.release, self.versions, &output)?;
            (stage, addresses)
        };
        Ok((stage.run_by(options.program.clone()), addresses))
    }
}

fn address() -> std::io::Result<String> {
    Ok(format!("127.0.0.1:{}", free_port()?))
}

/// Copies the key-value server's manifests. Its regions begin smaller: making room for much state takes
/// most of the time of a start, and all of these have little.
fn copy_manifests(from: &Path, to: &Path) -> anyhow::Result<()> {
    for component in ["gateway", "store", "stats"] {
        let (from, to) = (from.join(component), to.join(component));
        std::fs::create_dir_all(&to)?;
        let files = from
            .read_dir()
            .with_context(|| format!("{}: run this in the project's folder", from.display()))?;
        for file in files {
            let file = file?;
            let text = std::fs::read_to_string(file.path())?;
            let small = text.replace("initial_size = \"64MiB\"", "initial_size = \"2MiB\"");
            std::fs::write(to.join(file.file_name()), small)?;
        }
    }
    Ok(())
}

/// Writes what there is besides the key-value server's manifests: a notebook, which the new release
/// has no more, and a counter, which the old one has not.
fn write_several(folders: &Folders, at: &Addresses) -> anyhow::Result<()> {
    for (name, library) in [
        ("notebook", "neurath-test-components/notebook_1"),
        ("counter", "neurath/counter_1"),
    ] {
        let text = format!(
            "name = \"{name}\"\nversion = \"1.0.0\"\nlibrary = \"{library}\"\n\n[region]\n\
             initial_size = \"1MiB\"\nlimit = \"64MiB\"\ndurability = \"process\"\n"
        );
        let folder = folders.manifests.join(name);
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join("1.0.0.toml"), text)?;
    }
    let listens = |name: &str, version: &str, address: &str| {
        format!("{name} = {{ version = \"{version}\", config = {{ listen = \"{address}\" }} }}\n")
    };
    let notebook = at.notebook.as_deref().unwrap_or_default();
    let counter = at.counter.as_deref().unwrap_or_default();
    let folder = folders.releases.join("several");
    std::fs::create_dir_all(&folder)?;
    for (version, kv, other) in [
        ("1.0.0", "1.0.0", listens("notebook", "1.0.0", notebook)),
        ("2.0.0", "1.1.0", listens("counter", "1.0.0", counter)),
    ] {
        let gateway = listens("gateway", kv, &at.gateway);
        let text = format!(
            "name = \"several\"\nversion = \"{version}\"\nnode = \"0.1.0\"\n\n[components]\n\
             {gateway}store = {{ version = \"{kv}\" }}\n{other}\n[confirm]\nwindow = \"600s\"\n\n\
             [lints]\nD101 = {{ level = \"allow\", reason = \"the campaign removes it\" }}\n"
        );
        std::fs::write(folder.join(format!("{version}.toml")), text)?;
    }
    Ok(())
}
