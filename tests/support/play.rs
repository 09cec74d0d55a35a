//! A node that is made once, and played with in copies.

use std::path::{Path, PathBuf};

use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};

use super::copy;

/// Releases, and a folder with nodes that run them.
pub struct Play {
    pub stage: Stage,
    pub folder: tempfile::TempDir,
}

impl Play {
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// How the node in this folder is started.
    pub fn command(&self, name: &str) -> NodeCommand {
        let mut command = self.stage.command("1.0.0");
        command.directory = self.path(name);
        command
    }

    /// Stops a node, and keeps it as `name`.
    pub fn keep(&self, node: NodeProcess, name: &str) {
        let from = node.directory().to_owned();
        node.stop().expect("it stops");
        copy(&from, &self.path(name));
    }

    /// A copy of one of the nodes.
    pub fn copied(&self, from: &str, name: &str) -> NodeCommand {
        copy(&self.path(from), &self.path(name));
        self.command(name)
    }

    /// A copy that runs with this in its environment.
    pub fn started(&self, from: &str, name: &str, variable: &str, value: &str) -> NodeProcess {
        let mut command = self.copied(from, name);
        command.environment.push((variable.into(), value.into()));
        NodeProcess::start(&command).expect("a node")
    }

    /// The names of the durable steps that a copy passes until it has done this, and how many it had passed before.
    pub fn points(&self, from: &str, name: &str, work: impl FnOnce(&Path)) -> (usize, Vec<String>) {
        let log = self.path("log");
        let node = self.started(from, name, "NEURATH_FAULT_LOG", &log.display().to_string());
        let passed = || -> Vec<String> {
            let text = std::fs::read_to_string(&log).expect("the log");
            let name = |line: &str| line.split_once(' ').map(|(_, name)| name.to_owned());
            text.lines().filter_map(name).collect()
        };
        let before = passed().len();
        work(node.directory());
        (before, passed())
    }
}
