//! `bench`: what things cost, beside peers.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::Folders;
use super::values::{long_seconds, seconds};
use crate::projects::Shape;

/// `neurath bench upgrade`
#[derive(Debug, Clone, Args)]
pub struct BenchUpgrade {
    /// The numbers of entries in the state.
    #[arg(long, alias = "keys", value_delimiter = ',', default_values_t = [10_000, 100_000, 1_000_000],
        value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
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
    /// Write the results into this folder as well: `regions-figures.md`, a page with a table.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["quick", "only"])]
    pub docs: Option<PathBuf>,
    /// What the page says of the machine, such as that it did other work.
    #[arg(long, value_name = "TEXT")]
    pub note: Option<String>,
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
