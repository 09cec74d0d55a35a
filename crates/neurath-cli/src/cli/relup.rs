//! `relup`: upgrades, planned and carried out.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use neurath_node::catalog::ReleaseId;
use semver::Version;

use super::node::OfNode;
use super::values::release_id;
use super::{BUILT, Built, Folders};

/// `neurath relup …`
#[derive(Debug, Subcommand)]
pub enum Relup {
    /// Make the relup of a release: from and to every older release of that name.
    Generate(RelupGenerate),
    /// What an upgrade between two releases would do, step by step, and what comes of it.
    Plan(RelupPlan),
    /// Whether the relup of a release is what the planner makes, and whether it holds.
    ///
    /// A relup that is written by hand goes through the same checks. Exit code 20 if it does not
    /// hold, 21 if a plan given with `--plan` is stale, 22 if a released file was edited.
    Check(RelupCheck),
    /// The components of a release and what they depend on.
    Graph(RelupGraph),
    /// Try an upgrade, and the way back, on a copy of a running node's state, in a process of its own.
    ///
    /// The node serves meanwhile, and nothing of it changes. Exit code 40 if the upgrade fails, or
    /// reaches a limit.
    Rehearse(RelupRehearse),
    /// The process behind `relup rehearse`.
    #[command(hide = true)]
    RehearseCopy(RehearseCopy),
    /// The process that looks after the one behind `relup rehearse`: it ends that one and all that comes of it, and
    /// removes the copy, also if the command is killed.
    #[command(hide = true)]
    RehearseWatch {
        /// The folder with the copy.
        #[arg(long)]
        folder: PathBuf,
        /// Arguments of the process that is looked after.
        #[arg(last = true, required = true)]
        arguments: Vec<std::ffi::OsString>,
    },
    /// Bring a running node to a release.
    Apply {
        /// The release, such as `kv-1.1.0`, or a package of it, which is unpacked first.
        #[arg(value_name = "NAME-VERSION|FILE", value_parser = target)]
        target: Target,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// The folder with built releases: the release is copied from there, if the node has it
        /// not.
        #[arg(long, default_value = BUILT, value_name = "DIR")]
        from: PathBuf,
        /// The plan that was reviewed; the node refuses if it would carry out another one.
        #[arg(long, value_name = "FILE")]
        plan: Option<PathBuf>,
        /// Also a package that is older than one that was seen.
        #[arg(long)]
        allow_older: bool,
        /// What is thrown away by it.
        #[command(flatten)]
        resets: Resets,
        /// Do it; else the plan is only shown.
        #[arg(long)]
        execute: bool,
    },
    /// Make the current release of a node its permanent one.
    Confirm(OfNode),
    /// Bring a node back to the release before.
    Rollback {
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Also where what was written since the upgrade would be lost.
        #[arg(long)]
        lose_writes: bool,
        /// Throw the present state of this component away: that from before the upgrade comes back. All whose state
        /// the way back throws away have to be named, and no others.
        #[arg(
            long,
            value_name = "COMPONENT",
            value_delimiter = ',',
            conflicts_with = "lose_writes"
        )]
        reset: Vec<String>,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Go on with what was interrupted: an upgrade that the end of the node cut off, or a way back that
    /// has failed.
    Resume {
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Give up what is in flight: an upgrade before its commit point, or a release that is not
    /// confirmed.
    Abort {
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// What was done to a node, by whom, and how it ended. Exit code 22 if the history was edited.
    Log {
        /// The node that is meant; it need not run.
        #[command(flatten)]
        node: OfNode,
        /// Each step of each operation, too.
        #[arg(long)]
        steps: bool,
        /// Also write the operations into this file, as a trace that Perfetto and Chrome show.
        #[arg(long, value_name = "FILE")]
        trace: Option<PathBuf>,
        /// Move a history that is not sound aside, and begin a new one. The node must not run.
        #[arg(long, conflicts_with_all = ["steps", "trace"])]
        set_aside: bool,
        /// Do it; else it is only said what would be done.
        #[arg(long, requires = "set_aside")]
        execute: bool,
    },
}

/// What `relup apply` throws away.
#[derive(Debug, Clone, Default, Args)]
pub struct Resets {
    /// Throw the state of this component away: it begins anew. All whose state the plan throws away (`reset_node`) have
    /// to be named, and no others.
    #[arg(long, value_name = "COMPONENT", value_delimiter = ',')]
    pub reset: Vec<String>,
    /// Keep no snapshot of what is thrown away: the confirmation of the release deletes it.
    #[arg(long, requires = "reset")]
    pub no_snapshot: bool,
}

/// What `relup apply` leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A release by its name.
    Release(ReleaseId),
    /// A package.
    Package(PathBuf),
}

/// Reads what `relup apply` leads to.
fn target(text: &str) -> Result<Target, String> {
    if text.ends_with(neurath_node::package::EXTENSION) {
        return Ok(Target::Package(text.into()));
    }
    let otherwise = format!(
        "and the name of a package ends in `.{}`",
        neurath_node::package::EXTENSION
    );
    if text.contains('/') || std::path::Path::new(text).is_file() {
        return Err(format!("a file is no release, {otherwise}"));
    }
    release_id(text)
        .map(Target::Release)
        .map_err(|problem| format!("{problem}; {otherwise}"))
}

/// `neurath relup rehearse`
#[derive(Debug, Clone, Args)]
pub struct RelupRehearse {
    /// The release, such as `kv-1.1.0`, or a package of it.
    #[arg(value_name = "NAME-VERSION|FILE", value_parser = target)]
    pub target: Target,
    /// The node that is meant.
    #[command(flatten)]
    pub node: OfNode,
    /// The folder with built releases: the release is taken from there, if the node has it not.
    #[arg(long, default_value = BUILT, value_name = "DIR")]
    pub from: PathBuf,
    /// Seconds that it may take once the state is copied.
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..))]
    pub timeout: u64,
    /// Bytes of memory that it may take, at least 64 MiB; 1 GiB and four times the state if it is not given.
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(64 << 20..))]
    pub memory: Option<u64>,
    /// Where the copy is made, and removed afterwards; in the node's directory if it is not given,
    /// so that it is on the same medium.
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
}

/// The process behind `neurath relup rehearse`.
#[derive(Debug, Clone, Args)]
pub struct RehearseCopy {
    /// The release, or a package of it.
    #[arg(value_parser = target)]
    pub target: Target,
    /// The copy.
    #[command(flatten)]
    pub node: OfNode,
    /// The folder with built releases.
    #[arg(long)]
    pub from: PathBuf,
    /// Bytes of memory that it may take.
    #[arg(long)]
    pub memory: u64,
    /// The process that looks after it.
    #[arg(long)]
    pub watch: u32,
}

/// `neurath relup generate`
#[derive(Debug, Clone, Args)]
pub struct RelupGenerate {
    /// Name of the release.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// A base release; all older ones with a way when none is given.
    #[arg(long = "base", value_name = "VERSION")]
    pub bases: Vec<Version>,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
    /// Where the libraries are.
    #[command(flatten)]
    pub built: Built,
    /// Write the file; else it is only shown.
    #[arg(long)]
    pub execute: bool,
}

/// `neurath relup plan`
#[derive(Debug, Clone, Args)]
pub struct RelupPlan {
    /// Name of the releases.
    pub name: String,
    /// The version to leave.
    pub from: Version,
    /// The version to go to.
    pub to: Version,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
    /// Where the libraries are.
    #[command(flatten)]
    pub built: Built,
    /// Also write the plan, as JSON, into this file: `relup apply --plan` takes it.
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// How it is shown.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// `neurath relup check`
#[derive(Debug, Clone, Args)]
pub struct RelupCheck {
    /// Name of the release.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
    /// Where the libraries are.
    #[command(flatten)]
    pub built: Built,
    /// A plan that was reviewed: whether the files still are those that it was made from.
    #[arg(long, value_name = "FILE")]
    pub plan: Option<PathBuf>,
    /// A folder with built releases, such as a node's `releases`: whether what is in them was
    /// edited since.
    #[arg(long, value_name = "DIR")]
    pub released: Option<PathBuf>,
}

/// `neurath relup graph`
#[derive(Debug, Clone, Args)]
pub struct RelupGraph {
    /// Name of the release.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// Another version to compare with: what changes, comes and goes.
    #[arg(long, value_name = "VERSION")]
    pub from: Option<Version>,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
    /// How it is shown.
    #[arg(long, value_enum, default_value = "text")]
    pub format: Format,
}

/// How a plan or a component graph is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people: what comes of a plan and its steps, or a table of components.
    Text,
    /// For programs; of a plan, what its file holds.
    Json,
    /// A flowchart for Mermaid.
    Mermaid,
    /// A graph for Graphviz.
    Dot,
    /// A drawing: what each component does at each step, or the components in layers.
    Svg,
}

impl Format {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
            Self::Mermaid => "mermaid",
            Self::Dot => "dot",
            Self::Svg => "svg",
        }
    }
}
