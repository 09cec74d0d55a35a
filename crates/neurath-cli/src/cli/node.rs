//! `node`: a node in a directory.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use neurath_node::catalog::ReleaseId;

use super::BUILT;
use super::values::{duration, release_id};

/// `neurath node …`
#[derive(Debug, Subcommand)]
pub enum Node {
    /// Start a node, in the background unless told otherwise.
    Start(NodeStart),
    /// Stop the node.
    Stop(OfNode),
    /// What runs, how it is, and what can be done next.
    Status(OfNode),
    /// Replace the node's program by itself, anew, in the same process: no connection is closed or refused, and what
    /// came in meanwhile is answered.
    Restart(OfNode),
    /// Stop the node, and start it in a release that ran before: the state is taken there by the way
    /// down, and the release is permanent. If that fails, the node runs as before.
    RebootOld {
        /// The release, such as `kv-1.0.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// How long another program may take to serve in the place of the one that is started, as of `node start`.
        #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
        take_over_within: Duration,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Let a node trust a public key. From the first one on it takes signed releases alone.
    Trust {
        /// The key's file, which ends in `.pub`.
        key: PathBuf,
        /// What to call it; the file's name if not given.
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Let a node trust a key no more.
    Distrust {
        /// What it is called.
        name: String,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// The node's figures, in the text format of Prometheus.
    Metrics(OfNode),
    /// What this program says of itself as a node, as it is in a release that names it: its version, the versions of the
    /// component ABI that it serves, and the formats that it reads.
    Describe,
}

/// The node that is meant.
#[derive(Debug, Clone, Args)]
pub struct OfNode {
    /// The node's directory.
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
}

/// `neurath node start`
#[derive(Debug, Clone, Args)]
pub struct NodeStart {
    /// The node that is meant.
    #[command(flatten)]
    pub node: OfNode,
    /// The release to install where the directory is missing or empty, such as `kv-1.0.0`.
    #[arg(long, value_name = "NAME-VERSION", value_parser = release_id)]
    pub release: Option<ReleaseId>,
    /// The folder with built releases.
    #[arg(long, default_value = BUILT, value_name = "DIR")]
    pub from: PathBuf,
    /// What is done about states that were lost with the machine.
    #[command(flatten)]
    pub lost: LostStates,
    /// Stay in the foreground, and log to stderr.
    #[arg(long)]
    pub foreground: bool,
    /// Leave the terminal's session.
    #[arg(long, hide = true, requires = "foreground")]
    pub detach: bool,
    /// Go back once more from a release that was not confirmed, after so many starts that did so have crashed.
    #[arg(long)]
    pub try_again: bool,
    /// Go to this release, which ran before, at the start.
    #[arg(long, hide = true, requires = "foreground", value_parser = release_id)]
    pub reboot_old: Option<ReleaseId>,
    /// End when standard input does.
    #[arg(long, hide = true, requires = "foreground", conflicts_with = "detach")]
    pub tied: bool,
    /// How long another program may take to serve in the place of this one; then this one serves again.
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = duration)]
    pub take_over_within: Duration,
    /// Keep what the node of this process has, while its program is replaced.
    #[arg(long, hide = true, requires = "foreground", value_name = "PID")]
    pub keep: Option<u32>,
    /// Take over from the program before in this process.
    #[arg(long, hide = true, requires = "foreground", conflicts_with = "keep")]
    pub take_over: bool,
    /// Only say whether this program could take over from the node that runs there.
    #[arg(long, hide = true, requires = "foreground", conflicts_with_all = ["keep", "take_over"])]
    pub trial: bool,
    /// Why the program that should have taken over did not.
    #[arg(long, hide = true, requires = "take_over", value_name = "TEXT")]
    pub because: Option<String>,
}

/// What is done, at the start of a node, about states that do not open.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct LostStates {
    /// Serve the state of this component, of durability `process`, although it was open when the machine went
    /// down, if a check of all levels finds no error. Its last changes may be there in any mixture.
    #[arg(long, value_name = "COMPONENT")]
    pub accept_power_loss: Vec<String>,
    /// Let this component begin with an empty state, if its state does not open: damaged, gone, or open when the
    /// machine went down. The file is kept beside it. A state that opens is not touched.
    #[arg(long, value_name = "COMPONENT")]
    pub reset_state: Vec<String>,
}

impl LostStates {
    /// The arguments that say the same.
    pub fn arguments(&self) -> Vec<OsString> {
        let accepted = self.accept_power_loss.iter();
        let reset = self.reset_state.iter();
        accepted
            .flat_map(|name| ["--accept-power-loss", name])
            .chain(reset.flat_map(|name| ["--reset-state", name]))
            .map(OsString::from)
            .collect()
    }
}
