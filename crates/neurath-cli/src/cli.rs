//! The command line.

use crate::output::MessageFormat;
use crate::projects::Shape;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};
use neurath_node::catalog::ReleaseId;
use semver::Version;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

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

/// `neurath release …`
#[derive(Debug, Subcommand)]
pub enum Release {
    /// Compile the components of a release, check them, and assemble it with its relup.
    Build {
        /// Name of the release.
        #[arg(required_unless_present = "all", requires = "version")]
        name: Option<String>,
        /// Its version.
        version: Option<Version>,
        /// Every release there is.
        #[arg(long, conflicts_with_all = ["name", "version"])]
        all: bool,
        /// Where the project's files are.
        #[command(flatten)]
        folders: Folders,
        /// Where built releases go.
        #[arg(long, default_value = BUILT, value_name = "DIR")]
        out: PathBuf,
        /// Remove another build of the same release there; else a release never changes.
        #[arg(long)]
        replace: bool,
    },
    /// Make a pair of keys, in minisign's format: FILE, which signs, and FILE.pub, for nodes that are
    /// to trust it.
    ///
    /// The secret key is protected by a password: `NEURATH_KEY_PASSWORD`, or asked for on a terminal.
    Keygen {
        /// The secret key's file. Nothing is overwritten.
        file: PathBuf,
        /// Without a password: whoever can read the file can sign.
        #[arg(long)]
        no_password: bool,
    },
    /// Pack a built release into one file, signed.
    Pack {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The package's number: larger than that of every package of this name before.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        sequence: u64,
        /// Once a release of an epoch is permanent, a node runs none of an earlier one any more.
        #[arg(long, value_name = "N", default_value_t = 0)]
        epoch: u64,
        /// The secret key that signs.
        #[arg(long, value_name = "FILE", required_unless_present = "unsigned")]
        key: Option<PathBuf>,
        /// Not signed: for nodes that trust no key.
        #[arg(long, conflicts_with = "key")]
        unsigned: bool,
        /// The folder with built releases.
        #[arg(long, default_value = BUILT, value_name = "DIR")]
        from: PathBuf,
        /// The package; NAME-VERSION.neurath.tar.gz in the folder of built releases if not given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Check a package, or the folder of a built release: every byte of it.
    Verify {
        /// The package or the folder.
        path: PathBuf,
        /// A public key; one of those given must have signed it.
        #[arg(long, value_name = "FILE")]
        trust: Vec<PathBuf>,
    },
    /// Take a package into a node, so that it can be gone to.
    ///
    /// Every byte is checked before anything of it is there. Nothing that runs changes.
    Unpack {
        /// The package.
        package: PathBuf,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Also a package that is older than one that was seen.
        #[arg(long)]
        allow_older: bool,
        /// Do it; else the package is only checked.
        #[arg(long)]
        execute: bool,
    },
    /// The releases that a node has: unpacked, current, permanent or old.
    Which(OfNode),
    /// Whether a node could go to a release: it is verified again, and the way is planned.
    Check {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
    },
    /// Remove a release that is not in use from a node.
    Remove {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Take in a release whose folder was put into the node's `releases/` by other means.
    SetUnpacked {
        /// The release, such as `kv-1.1.0`.
        #[arg(value_name = "NAME-VERSION", value_parser = release_id)]
        release: ReleaseId,
        /// The node that is meant.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// The releases there are, and which of them are built.
    List {
        /// Where the project's files are.
        #[command(flatten)]
        folders: Folders,
        /// Where built releases are.
        #[arg(long, default_value = BUILT, value_name = "DIR")]
        out: PathBuf,
    },
}

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
    /// What this program says of itself as a node, as it is in a release that names it.
    #[command(hide = true)]
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
    release_id(text).map(Target::Release)
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
    /// Seconds that all of it may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub timeout: u64,
    /// Bytes of memory that it may take; 1 GiB and four times the state if it is not given.
    #[arg(long, value_name = "BYTES")]
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

/// `neurath state …`
#[derive(Debug, Subcommand)]
pub enum State {
    /// Check a region: its header and log, its tables, all that is reached from its root, and
    /// the checksums of its data.
    ///
    /// Exit code 20 if it is damaged, or if objects have leaked. The file does not change.
    Check {
        /// The region's file.
        file: PathBuf,
        /// The deepest level that is checked: 0 the header and the log, 1 the tables, 2 what is
        /// reached from the root, 3 the checksums of the data.
        #[arg(long, default_value_t = 3, value_name = "N",
            value_parser = clap::value_parser!(u8).range(0..=3))]
        level: u8,
    },
    /// Show what a region holds, by the schema in it.
    Inspect {
        /// The region's file.
        file: PathBuf,
        /// The state itself, too.
        #[arg(long)]
        data: bool,
        /// How many entries of each map and elements of each array are shown.
        #[arg(long, default_value_t = 100, value_name = "N")]
        limit: u64,
        /// How many bytes of each byte string are shown.
        #[arg(long, default_value_t = 4096, value_name = "N")]
        bytes: u64,
        /// How many references are followed, one after the other.
        #[arg(long, default_value_t = 4, value_name = "N",
            value_parser = clap::value_parser!(u32).range(0..=16))]
        depth: u32,
    },
    /// Copy a region, as its recovery and an orderly close would leave it.
    ///
    /// The region is checked first, the copy last. A file that is there is not overwritten.
    /// With `--dir`, a running node copies the state of one of its instances, as it is at some
    /// commit from now on; it goes on serving.
    Snapshot {
        /// The region's file; with `--dir`, `COMPONENT` or `COMPONENT.INSTANCE`.
        #[arg(value_name = "FILE|COMPONENT[.INSTANCE]")]
        region: PathBuf,
        /// The copy.
        out: PathBuf,
        /// The directory of the node that runs the component.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Put a snapshot in the place of a region; one that is there is kept under another name.
    Restore {
        /// The copy.
        snapshot: PathBuf,
        /// The region's file.
        file: PathBuf,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Delete a snapshot that a node has kept of a state which an upgrade has thrown away (`reset_node`). `node status`
    /// names them.
    RemoveSnapshot {
        /// Its name, such as `store.0.1`.
        name: String,
        /// The node that is meant; it need not run.
        #[command(flatten)]
        node: OfNode,
        /// Do it; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
    /// Mend a copy of a region: the header, a superblock, leaks.
    Repair {
        /// The region's file, which does not change.
        file: PathBuf,
        /// The mended copy; the file's name with `.repaired` when not given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Write the copy; else it is only said what would be done.
        #[arg(long)]
        execute: bool,
    },
}

/// `neurath demo`
#[derive(Debug, Clone, Args)]
pub struct Demo {
    /// How many keys there are before the first upgrade.
    #[arg(long, default_value_t = 1_000_000, value_name = "N", value_parser = clap::value_parser!(u64).range(2..))]
    pub keys: u64,
    /// How long the load runs before and after each upgrade; less than the minute in which an
    /// upgrade must be confirmed.
    #[arg(long, default_value_t = 2.0, value_name = "S", value_parser = demo_seconds)]
    pub seconds: f64,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// `neurath bench upgrade`
#[derive(Debug, Clone, Args)]
pub struct BenchUpgrade {
    /// The numbers of entries in the state.
    #[arg(long, alias = "keys", value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000],
        value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub entries: Vec<u64>,
    /// How the state is upgraded; each way if it is not given.
    #[arg(long, value_enum, value_name = "S")]
    pub strategy: Option<Strategy>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Write the results into this folder as well: `upgrade.csv`, `upgrade.svg`, and a page with a table.
    #[arg(long, value_name = "DIR")]
    pub docs: Option<PathBuf>,
    /// What the page says of the machine, such as that it did other work.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// `neurath bench start`
#[derive(Debug, Args)]
pub struct BenchStart {
    /// The numbers of entries in the state.
    #[arg(long, alias = "keys", value_delimiter = ',', default_values_t = [10_000, 1_000_000, 5_000_000],
        value_name = "N", value_parser = clap::value_parser!(u64).range(1..=50_000_000))]
    pub entries: Vec<u64>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// How a state is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Strategy {
    /// Code only: the state stays as it is.
    Keep,
    /// Every entry is converted while messages wait.
    Eager,
    /// Entries are converted while messages are served.
    Incremental,
}

impl Strategy {
    /// Its name in manifests and results.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Keep => "keep",
            Strategy::Eager => "eager",
            Strategy::Incremental => "incremental",
        }
    }
}

/// `neurath soak`
#[derive(Debug, Clone, Args)]
pub struct Soak {
    /// How long, in seconds.
    #[arg(long, default_value_t = 3600, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// What is done, and when, is made from it. What the node was doing just then is not.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = number)]
    pub seed: u64,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// `neurath bench …`
#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Requests a second, beside Redis.
    Serve {
        /// About how long each measurement takes.
        #[arg(long, default_value_t = 3.0, value_name = "S", value_parser = seconds)]
        seconds: f64,
        /// What answers promise: with `power`, Redis has `appendfsync always`, and both have their
        /// files in the folder for temporary ones, which must be on a disk.
        #[arg(long, value_enum, default_value_t)]
        durability: Survives,
        /// Where the project's files are.
        #[command(flatten)]
        folders: Folders,
    },
    /// How long clients wait for an upgrade of code only, and for one with another layout, and what it takes
    /// of memory; beside a `gen_server` of Erlang with the same state, and memory for each key beside Redis.
    ///
    /// `--json` gives a list of `entries`, `strategy`, `stop_us`, `worst_request_us`, `p999_us`, `peak_bytes`,
    /// `peer`, `peer_stop_us`. What is not installed is left out.
    Upgrade(BenchUpgrade),
    /// How long a node takes from its start until its state is served, after a kill and after a stop, and how long
    /// clients wait for `node restart`; beside Redis, which loads its dump.
    ///
    /// `--json` gives a list of `entries`, `region_bytes`, `killed_us`, `stopped_us`, `restart_us`, `peer`, `peer_us`
    /// and `ratio`, the peer's time over ours after a kill. What is not installed is left out.
    Start(BenchStart),
    /// What regions cost, beside PMDK, redb and LMDB; in the project's own folder only.
    ///
    /// `--json` gives a list of `work`, `ours_ns`, `peer`, `peer_ns` and `ratio`, the peer's time
    /// over ours. For space there are `ours_bytes` and `peer_bytes` instead. A peer that is not
    /// installed is listed, with what is missing as `skipped`.
    Regions(BenchRegions),
    /// Planning, beside Erlang's `systools:make_relup`.
    ///
    /// A project of the given shape is read from its files, and its relup is made, up and down.
    /// With several sizes, the result is a list.
    Plan(BenchPlan),
}

/// What an acknowledged write survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Survives {
    /// The death of the process.
    #[default]
    Process,
    /// A loss of power.
    Power,
}

impl Survives {
    /// As a manifest has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Power => "power",
        }
    }
}

/// `neurath bench regions`
#[derive(Debug, Clone, Args)]
pub struct BenchRegions {
    /// How often each is measured.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// The folder in which the files are made; it needs 6 GiB.
    #[arg(long, default_value = "/dev/shm", value_name = "DIR")]
    pub dir: PathBuf,
    /// The folder, on a disk, for files that must survive a loss of power.
    #[arg(long, default_value = "target", value_name = "DIR")]
    pub disk: PathBuf,
    /// A sixteenth of everything: for a look.
    #[arg(long)]
    pub quick: bool,
    /// Only `small` transactions, `space`, `maps`, `large` regions, or `recovery`.
    #[arg(long, value_name = "PART", value_parser = ["small", "space", "maps", "large", "recovery"])]
    pub only: Option<String>,
}

/// `neurath bench plan`
#[derive(Debug, Clone, Args)]
pub struct BenchPlan {
    /// How the components depend on each other.
    #[arg(long, value_enum, default_value = "chain")]
    pub shape: Shape,
    /// The numbers of components.
    #[arg(long, value_name = "N", value_delimiter = ',',
        default_values_t = [10, 100, 500, 1_000, 10_000],
        value_parser = clap::value_parser!(u64).range(1..=50_000))]
    pub components: Vec<u64>,
    /// How often each is measured.
    #[arg(long, default_value_t = 5, value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub runs: u32,
    /// How long Erlang may take for one size; if it takes longer, it is not asked for the next.
    #[arg(long, default_value_t = 60.0, value_name = "S", value_parser = long_seconds)]
    pub peer_seconds: f64,
}

/// `neurath crash …`
#[derive(Debug, Subcommand)]
pub enum Crash {
    /// Recover regions from every state that a crash could leave, on simulated media.
    ///
    /// The last line is `--json`'s object with the numbers of images, violations, sites and
    /// mutants. Exits with 1 if anything was not survived, or if something wrong would not have
    /// been noticed.
    Regions(CrashRegions),
    /// Kill real nodes at every durable step of an upgrade, of the way back and of a confirmation, then
    /// again at every one of the start that follows, and at random times; under clients that know
    /// what was acknowledged.
    ///
    /// Exits with 1 if a node was not wholly in one release, did not go back where it must, or if
    /// anything was lost, answered wrongly or not recorded. Run it in the project's folder, as
    /// `cargo xtask crash upgrade`: other builds of the command have no points to be killed at.
    Upgrade(CrashUpgrade),
}

/// `neurath crash upgrade`
#[derive(Debug, Clone, Args)]
pub struct CrashUpgrade {
    /// What random times and the clients' requests come from.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = number)]
    pub seed: u64,
    /// So many kills at random times, besides those at every point.
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub kills: u64,
    /// At most so many points of each thing that is asked of a node, and a third of that of each
    /// start; all of them if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub points: Option<u32>,
    /// Kill the start that follows after each point, also where it passes the same points as
    /// another one. Takes hours.
    #[arg(long)]
    pub every_start: bool,
    /// One kill alone, as a violation names it.
    #[arg(long, value_name = "STORY:PHASE:POINT[:POINT]", conflicts_with_all = ["kills", "points", "every_start"])]
    pub replay: Option<crate::crash::Place>,
    /// How many nodes at the same time; one for each processor if not given.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: Option<u32>,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// `neurath crash regions`
#[derive(Debug, Clone, Args)]
pub struct CrashRegions {
    /// At least so many images.
    #[arg(long, default_value_t = 1_000_000, value_name = "N")]
    pub images: u64,
    /// What the images are made from: the same seed, the same images.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = number)]
    pub seed: u64,
    /// Look at one image alone, as a failure names it.
    #[arg(long, value_name = "SEED:EVENT:IMAGE", value_parser = place, conflicts_with_all = ["images", "seed"])]
    pub replay: Option<Place>,
}

/// `neurath dax`
#[derive(Debug, Clone, Args)]
pub struct Dax {
    /// What the machine boots: an image called `vmlinuz-VERSION`, or one of Debian's packages with
    /// a kernel (`.deb`). The newest in /boot if not given.
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Who runs the machine's instructions: the processor (`kvm`), QEMU (`tcg`), or the processor
    /// if a machine comes up that way.
    #[arg(long, value_enum, default_value_t)]
    pub accel: Accel,
    /// How often the machine is killed, in each place.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub kills: u32,
    /// How long a boot may take.
    #[arg(long, default_value_t = 90.0, value_name = "S", value_parser = long_seconds)]
    pub boot_seconds: f64,
    /// How long a client waits for an answer until it gives the connection up.
    #[arg(long, default_value_t = 20.0, value_name = "S", value_parser = long_seconds)]
    pub patience_seconds: f64,
    /// Only this place, as in `1/xfs`: the number of the machine, and `ext4`, `xfs` or `virtio`.
    /// May be given several times. All of them if not given.
    #[arg(long, value_name = "MACHINE/PLACE", value_parser = dax_place)]
    pub place: Vec<DaxPlace>,
    /// Where the project's files are.
    #[command(flatten)]
    pub folders: Folders,
}

/// A place that `neurath dax` tries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DaxPlace {
    /// The number of the machine, from 1.
    pub machine: usize,
    /// The place's name.
    pub name: String,
}

fn dax_place(text: &str) -> Result<DaxPlace, String> {
    const PLACES: [(usize, &str); 5] = [
        (1, "ext4"),
        (1, "xfs"),
        (1, "virtio"),
        (2, "ext4"),
        (2, "xfs"),
    ];
    let known = PLACES.map(|(machine, name)| format!("{machine}/{name}"));
    let found = known.iter().position(|place| place == text);
    let found = found.and_then(|at| PLACES.get(at));
    match found {
        Some(&(machine, name)) => Ok(DaxPlace {
            machine,
            name: name.to_owned(),
        }),
        None => Err(format!("the places are {}", known.join(", "))),
    }
}

/// Who runs a virtual machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Accel {
    /// The processor if a machine comes up that way, else QEMU.
    #[default]
    Auto,
    /// The processor.
    Kvm,
    /// QEMU.
    Tcg,
}

/// `neurath fuzz …`
#[derive(Debug, Subcommand)]
pub enum Fuzz {
    /// Read, plan and check what was made by damaging a corpus of files, and projects made up.
    ///
    /// A case fails if it panics, takes more than 5 seconds of a processor or 512 MiB, is refused without a word,
    /// or if the order of the files changes its plan. Exits with 1 if any case failed.
    Manifests(FuzzManifests),
    /// Read, check, describe, open and use regions and schemas that are damaged, also with
    /// checksums that hold.
    ///
    /// A case fails if it panics, takes more than 5 seconds of a processor or 512 MiB, is refused without a word,
    /// or gives what cannot be. Exits with 1 if any case failed.
    Regions(FuzzRegions),
}

/// `neurath fuzz regions`
#[derive(Debug, Clone, Args)]
pub struct FuzzRegions {
    /// For how long.
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = long_seconds)]
    pub seconds: f64,
    /// How many cases, in place of a time.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub cases: Option<u64>,
    /// What the cases are made from: the same seed, the same cases.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = number)]
    pub seed: u64,
    /// Try one case alone, as a failure names it.
    #[arg(long, value_name = "SEED:CASE", value_parser = case, conflicts_with_all = ["seconds", "cases", "seed"])]
    pub replay: Option<(u64, u64)>,
    /// Under valgrind, which sees every access out of bounds: some fifty times slower.
    #[arg(long)]
    pub valgrind: bool,
}

/// `neurath fuzz manifests`
#[derive(Debug, Clone, Args)]
pub struct FuzzManifests {
    /// For how long.
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = long_seconds)]
    pub seconds: f64,
    /// How many cases, in place of a time.
    #[arg(long, value_name = "N", conflicts_with = "seconds")]
    pub cases: Option<u64>,
    /// What the cases are made from: the same seed, the same cases.
    #[arg(long, default_value_t = 1, value_name = "S", value_parser = number)]
    pub seed: u64,
    /// The folder with the files that cases are made from.
    #[arg(
        long,
        default_value = "crates/neurath-manifest/corpus",
        value_name = "DIR"
    )]
    pub corpus: PathBuf,
    /// Try one case alone, as a failure names it, and show what it is made from.
    #[arg(long, value_name = "SEED:CASE", value_parser = case, conflicts_with_all = ["seconds", "cases", "seed"])]
    pub replay: Option<(u64, u64)>,
}

fn case(text: &str) -> Result<(u64, u64), String> {
    let wrong = || String::from("give seed:case as a failure names it, such as 0x1:17");
    let (seed, case) = text.split_once(':').ok_or_else(wrong)?;
    Ok((number(seed)?, case.parse().map_err(|_| wrong())?))
}

/// One image of a campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Of its workload.
    pub seed: u64,
    /// Where the crash was.
    pub event: usize,
    /// Which of the states there.
    pub image: usize,
}

fn number(text: &str) -> Result<u64, String> {
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    number.map_err(|_| String::from("give a number, decimal or with 0x"))
}

fn place(text: &str) -> Result<Place, String> {
    let parts: Vec<&str> = text.split(':').collect();
    let wrong = || String::from("give seed:event:image as a failure names it, such as 0x1f:12:3");
    let [seed, event, image] = parts[..] else {
        return Err(wrong());
    };
    Ok(Place {
        seed: number(seed)?,
        event: event.parse().map_err(|_| wrong())?,
        image: image.parse().map_err(|_| wrong())?,
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    neurath_manifest::scalar::parse_duration(text).map_err(|error| error.to_string())
}

/// Reads `NAME-VERSION`: the version begins after the first `-` that a version follows.
///
/// # Errors
///
/// If there is no name, or no version.
pub fn release_id(text: &str) -> Result<ReleaseId, String> {
    for (at, _) in text.match_indices('-') {
        let (name, version) = (&text[..at], &text[at + 1..]);
        if !name.is_empty() && Version::parse(version).is_ok() {
            return Ok(ReleaseId::new(name, version));
        }
    }
    Err(format!(
        "`{text}` is not a release: write its name and version, such as kv-1.1.0"
    ))
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=86_400.0).contains(&value) => Ok(value),
        _ => Err(String::from("give a number of seconds from 0.01 to 86400")),
    }
}

fn demo_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=45.0).contains(&value) => Ok(value),
        _ => Err(String::from("give a number of seconds from 0.01 to 45")),
    }
}

fn long_seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.01..=1e6).contains(&value) => Ok(value),
        _ => Err(String::from(
            "give a number of seconds from 0.01 to 1000000",
        )),
    }
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
