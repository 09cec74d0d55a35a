//! `neurath node reboot-old`

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use neurath_node::catalog::{ReleaseId, ReleaseStatus};
use neurath_node::client::Client;
use neurath_node::handover;
use neurath_node::protocol::{Failure, Request, Status, code};
use serde_json::json;

use super::{stop_and_wait, within};
use crate::control;
use crate::exit::CommandError;
use crate::output::Output;
use crate::testing::NodeCommand;

/// A start in a release that ran before.
pub(super) struct Reboot {
    pub(super) dir: PathBuf,
    pub(super) release: ReleaseId,
    pub(super) take_over_within: Duration,
}

impl Reboot {
    /// Does it, or says what would be done.
    pub(super) fn run(&self, execute: bool, output: &Output) -> anyhow::Result<()> {
        let (dir, release) = (&self.dir, &self.release);
        let runs = Client::connect(dir).is_ok();
        self.is_possible(runs)?;
        if !execute {
            output.text(&format!(
                "the node would be stopped and started in {release}; --execute does it"
            ));
            output.json(&json!({ "kind": "reboot", "release": release, "done": false }));
            return Ok(());
        }
        if runs {
            stop_and_wait(dir)?;
        }
        let mut command = self.command()?;
        command.reboot_old = Some(release.to_string());
        let went = command
            .start_in_background()
            .and_then(|status| self.by_its_own_node(status));
        let error = match went {
            Ok(status) => {
                output.text(&format!(
                    "{release} runs as process {}, and is permanent",
                    status.pid
                ));
                output.json(&json!({
                    "kind": "reboot", "release": release, "done": true, "pid": status.pid,
                }));
                return Ok(());
            }
            Err(error) => error,
        };
        output.progress("it did not come up in that release: starting it as it was");
        let status = self.command()?.start_in_background()?;
        let serves = status
            .release
            .map(|one| one.to_string())
            .unwrap_or_default();
        Err(CommandError::Node(Failure {
            code: code::UPGRADE_FAILED,
            message: format!("{serves} serves as before: {error:#}"),
            step: None,
        })
        .into())
    }

    /// The command of a node that starts as it was.
    fn command(&self) -> std::io::Result<NodeCommand> {
        let built = Path::new(crate::cli::BUILT);
        let mut command = NodeCommand::of_this_program(&self.dir, None, built)?;
        command.more = within(self.take_over_within);
        Ok(command)
    }

    /// Whether there is a way: seen before the node is stopped for nothing.
    fn is_possible(&self, runs: bool) -> anyhow::Result<()> {
        let (dir, release) = (&self.dir, &self.release);
        let which = crate::commands::release::installed::ask(dir)?;
        let status = which.iter().find(|one| one.release == *release);
        match status.map(|one| (one.status, &one.problem)) {
            Some((Some(ReleaseStatus::Old), None)) => {}
            Some((Some(ReleaseStatus::Old), Some(problem))) => {
                let check = Request::Check {
                    release: release.clone(),
                };
                let cannot = || format!("{release} cannot be rebooted into");
                control::ask_or_offline(dir, check).with_context(cannot)?;
                bail!("{}: {problem}", cannot())
            }
            _ => {
                let message = format!(
                    "{release} is not an old release of this node; `neurath release which` shows them"
                );
                return Err(CommandError::Usage(message).into());
            }
        }
        if !runs {
            return Ok(());
        }
        let planned = control::plan(dir, release)?;
        if planned.reset.is_empty() {
            return Ok(());
        }
        let resets = planned.reset.iter().map(|name| format!(" --reset {name}"));
        let message = format!(
            "the way to {release} throws away the state of {}, which a reboot does not do; the node serves on. If that is \
             meant: neurath relup apply {release}{} --execute --dir {}",
            planned.reset.join(", "),
            resets.collect::<String>(),
            dir.display()
        );
        Err(CommandError::Usage(message).into())
    }

    /// A release without a node program was gone to by the node of the one before, which has one: this program is the
    /// node that it names, and starts it again.
    fn by_its_own_node(&self, status: Status) -> anyhow::Result<Status> {
        let ours = crate::version();
        if status.node == ours || handover::to_start(&self.dir, ours)?.is_some() {
            return Ok(status);
        }
        stop_and_wait(&self.dir)?;
        self.command()?.start_in_background()
    }
}
