//! The command line.

mod bench;
mod crash;
mod dax;
mod demo;
mod fuzz;
mod node;
mod release;
mod relup;
mod state;
mod values;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

use crate::output::MessageFormat;
pub use bench::{Bench, BenchPlan, BenchRegions, BenchStart, BenchUpgrade, Strategy, Survives};
pub use crash::{Crash, CrashRegions, CrashUpgrade, Place};
pub use dax::{Accel, Dax, DaxPlace};
pub use demo::{Demo, Soak};
pub use fuzz::{Fuzz, FuzzManifests, FuzzRegions};
pub use node::{LostStates, Node, NodeStart, OfNode};
pub use release::Release;
pub use relup::{
    Format, RehearseCopy, Relup, RelupCheck, RelupGenerate, RelupGraph, RelupPlan, RelupRehearse,
    Resets, Target,
};
pub use state::State;
pub use values::release_id;

/// Upgrade a running program without stopping it.
///
/// Results go to stdout, progress to stderr. A command that would change a node or a file under
/// version control only says what it would do, until it is given `--execute`.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 20 a file or a plan is refused, 21 plan stale, 22 history
/// edited, 23 signature or sequence refused, 30 busy, 40 upgrade failed and the old release is
/// healthy, 41 inconclusive, 50 operator needed, 130 interrupted.
#[derive(Debug, Parser)]
#[command(name = "neurath", version)]
pub struct Cli {
    /// How results are written.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value_t,
        value_name = "FORMAT"
    )]
    pub message_format: MessageFormat,
    /// The same as `--message-format json`.
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// How results are written, by both options.
    #[must_use]
    pub fn message_format(&self) -> MessageFormat {
        if self.json {
            MessageFormat::Json
        } else {
            self.message_format
        }
    }
}

/// All commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build and list releases.
    #[command(subcommand)]
    Release(Release),
    /// Run a node in a directory.
    #[command(subcommand)]
    Node(Node),
    /// Author, review and carry out upgrades.
    #[command(subcommand)]
    Relup(Relup),
    /// Look into regions' files, copy and mend them. No library is needed, and no node may have
    /// the region open.
    #[command(subcommand)]
    State(State),
    /// The whole story on this machine: a server under load is upgraded, rolled back, upgraded
    /// again and checked.
    Demo(Demo),
    /// Measure, beside Redis and Erlang where they are installed.
    #[command(subcommand)]
    Bench(Bench),
    /// Look for crashes that are not survived.
    #[command(subcommand)]
    Crash(Crash),
    /// Try regions and an upgrade on persistent memory, in a virtual machine that is killed.
    ///
    /// The machine has NVDIMMs with ext4 and XFS on DAX, and a virtio-pmem device, which refuses
    /// `MAP_SYNC`. The tests of regions run there; then a server upgrades under load, and the
    /// machine is killed and reset meanwhile, again and again. In the project's own folder only.
    /// Exits with 1 if anything was not as it must be, or a program that is needed is missing.
    Dax(Dax),
    /// Look for inputs that are not borne.
    #[command(subcommand)]
    Fuzz(Fuzz),
    /// Upgrade, go back, restart and kill the key-value server at random, under a load that checks
    /// every answer.
    ///
    /// Exits with 1 if an acknowledged write was lost or an answer was wrong.
    Soak(Soak),
}

/// Where the files of a project are.
#[derive(Debug, Clone, Args)]
pub struct Folders {
    /// The folder with component manifests and appups.
    #[arg(long, default_value = "manifests", value_name = "DIR")]
    pub manifests: PathBuf,
    /// The folder with releases and relups.
    #[arg(long, default_value = "releases", value_name = "DIR")]
    pub releases: PathBuf,
}

impl Default for Folders {
    fn default() -> Self {
        Self {
            manifests: "manifests".into(),
            releases: "releases".into(),
        }
    }
}

/// Where built releases are by default.
pub const BUILT: &str = "target/neurath/releases";

/// Where libraries are read that say what the states look like.
#[derive(Debug, Clone, Args)]
pub struct Built {
    /// The folder with built releases: what their libraries say of the states is proved, and shown. They are
    /// read, not loaded. Of a component that is not there only the manifests are known.
    #[arg(long = "built", default_value = BUILT, value_name = "DIR")]
    pub folder: PathBuf,
}

/// All commands with their help, as `docs/commands.md` has them.
#[must_use]
pub fn reference() -> String {
    let mut out = String::from(
        "# Commands\n\n\
         `cargo xtask …` in this repository is the same as the installed `neurath …`.\n\n\
         This file is made from the commands' own help: `UPDATE_DOCS=1 cargo test -p neurath-cli`.\n",
    );
    let mut root = Cli::command().term_width(100);
    root.build();
    section(&mut root, &mut out);
    out
}

fn section(command: &mut clap::Command, out: &mut String) {
    let name = command
        .get_bin_name()
        .unwrap_or(command.get_name())
        .to_owned();
    if command.get_name() == "help" {
        return;
    }
    let help = command.render_long_help().to_string();
    out.push_str(&format!("\n## `{name}`\n\n```text\n"));
    for line in help.trim_end().lines() {
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out.push_str("```\n");
    for inner in command.get_subcommands_mut() {
        section(inner, out);
    }
}

#[cfg(test)]
mod tests {
    use neurath_node::catalog::ReleaseId;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn releases_are_read() {
        assert_eq!(release_id("kv-1.1.0"), Ok(ReleaseId::new("kv", "1.1.0")));
        assert_eq!(
            release_id("kv-x-1.1.0-rc.1"),
            Ok(ReleaseId::new("kv-x", "1.1.0-rc.1"))
        );
        assert!(release_id("kv").is_err());
        assert!(release_id("-1.0.0").is_err());
        assert!(release_id("kv-1").is_err());
    }

    #[test]
    fn json_by_either_option() {
        for line in [
            &["neurath", "--json", "demo"][..],
            &["neurath", "demo", "--json", "--keys", "10"],
            &["neurath", "demo", "--message-format", "json"],
        ] {
            let format = Cli::try_parse_from(line).map(|cli| cli.message_format());
            assert_eq!(format.ok(), Some(MessageFormat::Json));
        }
    }

    #[test]
    fn build_needs_a_release_or_all() {
        let ok = |line: &[&str]| Cli::try_parse_from(line).is_ok();
        assert!(ok(&["neurath", "release", "build", "kv", "1.0.0"]));
        assert!(ok(&["neurath", "release", "build", "--all"]));
        assert!(!ok(&["neurath", "release", "build"]));
        assert!(!ok(&["neurath", "release", "build", "kv"]));
        assert!(!ok(&[
            "neurath", "release", "build", "kv", "1.0.0", "--all"
        ]));
    }
}
