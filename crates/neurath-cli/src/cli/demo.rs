//! `demo` and `soak`: a node under load, upgraded again and again.

use clap::Args;

use super::Folders;
use super::values::{demo_seconds, number};

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
