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

/// The release of the story in which a state is thrown away.
const RESET: &str = "reset";

/// From one release to another.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) name: &'static str,
    release: &'static str,
    /// The old one first, the new one last; those between are installed too.
    versions: &'static [&'static str],
    /// The components whose state the new release throws away.
    pub(super) reset: &'static [&'static str],
    /// In the order of their names.
    pub(super) old: &'static [Component],
    pub(super) new: &'static [Component],
}

/// One hop; two hops at once; state that goes to a component that comes, and back from one that goes; two
/// components that are upgraded while one comes and one goes; and two that are upgraded while a third one's state is
/// thrown away.
pub(super) static STORIES: [Story; 6] = [
    Story {
        name: "kv",
        release: stage::NAME,
        versions: &["1.0.0", "1.1.0"],
        reset: &[],
        old: &[("gateway", "1.0.0"), ("store", "1.0.0")],
        new: &[("gateway", "1.1.0"), ("store", "1.1.0")],
    },
    Story {
        name: "hops",
        release: stage::NAME,
        versions: &["1.0.0", "1.1.0", "1.1.1"],
        reset: &[],
        old: &[("gateway", "1.0.0"), ("store", "1.0.0")],
        new: &[("gateway", "1.1.0"), ("store", "1.1.1")],
    },
    Story {
        name: "split",
        release: stage::NAME,
        versions: &["1.1.1", "1.2.0"],
        reset: &[],
        old: &[("gateway", "1.1.0"), ("store", "1.1.1")],
        new: &[("gateway", "1.1.0"), ("stats", "1.0.0"), ("store", "1.2.0")],
    },
    Story {
        name: "merge",
        release: stage::NAME,
        versions: &["1.2.0", "1.3.0"],
        reset: &[],
        old: &[("gateway", "1.1.0"), ("stats", "1.0.0"), ("store", "1.2.0")],
        new: &[("gateway", "1.1.0"), ("store", "1.3.0")],
    },
    Story {
        name: "several",
        release: "several",
        versions: &["1.0.0", "2.0.0"],
        reset: &[],
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
    Story {
        name: "reset",
        release: RESET,
        versions: &["1.0.0", "2.0.0"],
        reset: &["counter"],
        old: &[
            ("counter", "1.0.0"),
            ("gateway", "1.0.0"),
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
                notebook: (self.release != RESET).then(address).transpose()?,
                counter: Some(address()?),
            };
            let folders = Folders {
                manifests,
                releases: folder.path().join("releases"),
            };
            self.write(&folders, &addresses)?;
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

/// Writes what there is besides the key-value server's manifests: of the story `several` a notebook, which the new
/// release has no more, and a counter, which the old one has not; of `reset` a counter that both have.
impl Story {
    fn write(&self, folders: &Folders, at: &Addresses) -> anyhow::Result<()> {
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
            format!(
                "{name} = {{ version = \"{version}\", config = {{ listen = \"{address}\" }} }}\n"
            )
        };
        let counter = listens(
            "counter",
            "1.0.0",
            at.counter.as_deref().unwrap_or_default(),
        );
        let others = match &at.notebook {
            Some(notebook) => [listens("notebook", "1.0.0", notebook), counter],
            None => [counter.clone(), counter],
        };
        if !self.reset.is_empty() {
            std::fs::write(
                folders.manifests.join("gateway/1.1.0.appup.toml"),
                resetting_appup(self.reset),
            )?;
        }
        let folder = folders.releases.join(self.release);
        std::fs::create_dir_all(&folder)?;
        for ((version, kv), other) in [("1.0.0", "1.0.0"), ("2.0.0", "1.1.0")]
            .into_iter()
            .zip(others)
        {
            let gateway = listens("gateway", kv, &at.gateway);
            let text = format!(
                "name = \"{}\"\nversion = \"{version}\"\nnode = \"0.1.0\"\n\n[components]\n\
                 {gateway}store = {{ version = \"{kv}\" }}\n{other}\n[confirm]\nwindow = \"600s\"\n\n\
                 [lints]\nD101 = {{ level = \"allow\", reason = \"the campaign removes it\" }}\n\
                 D102 = {{ level = \"allow\", reason = \"the campaign throws it away\" }}\n",
                self.release
            );
            std::fs::write(folder.join(format!("{version}.toml")), text)?;
        }
        Ok(())
    }
}

/// The gateway's appup, with components whose state is thrown away on the way up, and on the way down.
fn resetting_appup(components: &[&str]) -> String {
    let one = |name: &&str| {
        format!("{{ restart_component = \"{name}\" }}, {{ reset_node = [\"{name}\"] }}, ")
    };
    let all: String = components.iter().map(one).collect();
    format!(
        "name = \"gateway\"\nversion = \"1.1.0\"\n\n\
         [[up]]\nfrom = \"~1.0\"\nirreversible = \"the campaign throws state away\"\n\
         instructions = [{all}{{ load = \"gateway\" }}]\n\n\
         [[down]]\nto = \"~1.0\"\ninstructions = [{all}{{ load = \"gateway\" }}]\n"
    )
}
