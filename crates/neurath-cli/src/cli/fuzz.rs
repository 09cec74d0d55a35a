//! `fuzz`: arbitrary bytes.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::values::{long_seconds, number};

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
