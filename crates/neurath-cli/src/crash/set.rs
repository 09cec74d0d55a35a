//! A node that was prepared, and its copies.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::Options;
use super::place::{Kill, PHASES};
use super::story::{Addresses, Story};
use crate::processes::TemporaryFolder;
use crate::stage::{self, Stage};
use crate::testing::{NodeCommand, NodeProcess};

/// Keys that lie in the node all the time.
pub(super) const KEYS: u64 = 500;

/// A story's releases, and a node with some state that was stopped in the old one.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) story: &'static Story,
    stage: Stage,
    pub(super) addresses: Addresses,
    folder: TemporaryFolder,
}

/// The points of a phase.
#[derive(Debug)]
pub(super) struct Points {
    /// How many the node passes before, in its start and in what was asked first.
    pub(super) before: usize,
    /// The names of those that it passes in the last that is asked.
    pub(super) names: Vec<String>,
    /// The one before the catalog is written.
    pub(super) flip: Option<usize>,
    /// How long the last took.
    pub(super) took: Duration,
}

impl Set {
    pub(super) fn new(story: &'static Story, options: &Options) -> anyhow::Result<Self> {
        let (stage, addresses) = story.stage(options)?;
        // In memory where the system has a place for that: a killed process leaves there what it
        // leaves on a disk, and a sync costs nothing.
        let folder =
            TemporaryFolder::within(Path::new("/dev/shm")).or_else(|_| TemporaryFolder::new())?;
        let mut set = Self {
            story,
            stage,
            addresses,
            folder,
        };
        let node = NodeProcess::start(&set.command(&set.path("prepared"), None))?;
        set.stage.install(node.directory())?;
        if set.addresses.gateway.is_empty() {
            set.addresses.gateway = node.address().to_owned();
        }
        stage::fill(&set.addresses.gateway, KEYS)?;
        node.stop()?;
        Ok(set)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where the points are noted that the nodes of this set pass.
    pub(super) fn log(&self) -> PathBuf {
        self.path("points")
    }

    /// A fresh copy of the prepared node, in the place of the one before.
    pub(super) fn copy(&self) -> anyhow::Result<PathBuf> {
        let (from, to) = (self.path("prepared"), self.path("node"));
        if to.exists() {
            std::fs::remove_dir_all(&to)?;
        }
        std::fs::create_dir(&to)?;
        std::fs::set_permissions(&to, std::fs::metadata(&from)?.permissions())?;
        for entry in from.read_dir()? {
            let entry = entry?;
            let mut command = Command::new("cp");
            command.args(["--recursive", "--preserve=mode", "--sparse=always"]);
            // Nobody writes into what is verified: it need not be copied byte by byte.
            if ["releases", "libraries"]
                .iter()
                .any(|name| entry.file_name() == *name)
            {
                command.arg("--link");
            }
            if !command.arg(entry.path()).arg(&to).status()?.success() {
                bail!("cannot copy {}", entry.path().display());
            }
        }
        // The copy of a socket is of no use.
        let _ = std::fs::remove_file(to.join("control.sock"));
        Ok(to)
    }

    /// How a node in this directory is started, its points noted, and killed at one if asked.
    pub(super) fn command(&self, directory: &Path, kill: Option<Kill>) -> NodeCommand {
        let mut command = self.stage.command(self.story.first());
        command.directory = directory.to_owned();
        let log = ("NEURATH_FAULT_LOG".into(), self.log().into());
        command.environment.push(log);
        if let Some(Kill::Point(number)) = kill {
            let kill = ("NEURATH_FAULT_KILL".into(), number.to_string().into());
            command.environment.push(kill);
        }
        command
    }

    /// The names of the points that were passed since the log was removed.
    pub(super) fn passed(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines()
            .filter_map(|line| line.split_once(' '))
            .map(|(_, name)| name.to_owned())
            .collect()
    }

    /// Forgets which points were passed.
    pub(super) fn forget(&self) {
        let _ = std::fs::remove_file(self.log());
    }

    /// Which points the last request of a phase passes, learned by doing it all.
    pub(super) fn points(&self, phase: usize) -> anyhow::Result<Points> {
        let directory = self.copy()?;
        self.forget();
        let node = NodeProcess::start(&self.command(&directory, None))?;
        let phase = &PHASES[phase];
        let (mut before, mut took) = (0, Duration::ZERO);
        for ask in phase.asks {
            before = self.passed().len();
            let began = Instant::now();
            ask.of(node.directory(), self.story)
                .with_context(|| format!("{}: {ask:?} without a kill", self.story.name))?;
            took = began.elapsed();
        }
        let names = self.passed().split_off(before);
        let flips: Vec<usize> = names
            .iter()
            .enumerate()
            .filter(|(_, name)| *name == "catalog.flip.before-write")
            .map(|(at, _)| at + 1)
            .collect();
        if names.len() < 5 || flips.len() != 1 {
            bail!(
                "{}:{}: one flip was expected in these points: {names:?}; does {} have fault points?",
                self.story.name,
                phase.name,
                self.stage.command(self.story.first()).program.display()
            );
        }
        Ok(Points {
            before,
            names,
            flip: flips.first().copied(),
            took,
        })
    }
}
