//! `cargo xtask bench regions` builds and runs this: what regions cost, beside peers.
//!
//! Puts out one JSON object a line, as soon as it is measured.

mod large;
mod loads;
mod maps;
mod pmdk;
mod random;
mod recovery;
mod row;
mod small;
mod space;

use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Parser;
use row::Row;

/// What is measured.
#[derive(Debug, Parser)]
struct Options {
    /// An empty folder for the files; on a tmpfs, memory is what is measured.
    #[arg(long)]
    dir: PathBuf,
    /// An empty folder for the files that must survive a loss of power; on a disk.
    #[arg(long)]
    disk: PathBuf,
    /// How often each is measured.
    #[arg(long, default_value_t = 7)]
    runs: usize,
    /// A sixteenth of everything.
    #[arg(long)]
    quick: bool,
    /// Only the parts whose name begins so: `small`, `space`, `maps`, `large`, `recovery`.
    #[arg(long, default_value = "")]
    only: String,
}

/// How much of everything.
struct Sizes {
    runs: usize,
    /// Small objects of which some are updated.
    objects: u64,
    /// Steps of a run.
    steps: u64,
    /// Steps of a run in which a disk is waited for, at most: no more than fit into its time.
    synced: u64,
    /// Entries of a map.
    entries: u64,
    /// Entries of a map on a disk.
    few_entries: u64,
    /// Bytes of a large region's objects.
    large: u64,
    /// Objects to convert.
    converted: u64,
}

impl Sizes {
    fn new(runs: usize, quick: bool) -> Sizes {
        let by = if quick { 16 } else { 1 };
        Sizes {
            runs: runs.max(1),
            objects: (1 << 20) / by,
            steps: 200_000 / by,
            synced: 1600 / by,
            entries: 1_000_000 / by,
            few_entries: 100_000 / by,
            large: (1 << 30) / by,
            converted: 10_000_000 / by,
        }
    }
}

/// How long a run may take in which a disk is waited for, in nanoseconds.
const RUN_ON_DISK: f64 = 300e6;

/// How often a disk can be waited for in that time.
fn waits(disk: &Path) -> anyhow::Result<u64> {
    let each = small::write_and_wait(&disk.join("probe"), 16)?;
    Ok((RUN_ON_DISK / each) as u64)
}

fn put(row: Row) {
    // Whoever started this has gone: it ends with the next row all the same.
    let _ = writeln!(std::io::stdout().lock(), "{}", row.json());
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let mut sizes = Sizes::new(options.runs, options.quick);
    let (dir, disk) = (options.dir.as_path(), options.disk.as_path());
    sizes.synced = waits(disk)?.clamp(16, sizes.synced);
    let pmdk = pmdk::Driver::compile(dir);
    let wanted = |part: &str| part.starts_with(&options.only);
    if wanted("small") {
        small::rows(dir, disk, &sizes, &pmdk, put)?;
    }
    if wanted("space") {
        space::rows(dir, &sizes, &pmdk, put)?;
    }
    if wanted("maps") {
        maps::rows(dir, disk, &sizes, put)?;
    }
    if wanted("large") {
        large::rows(dir, &sizes, &pmdk, put)?;
    }
    if wanted("recovery") {
        recovery::rows(dir, disk, &sizes, put)?;
    }
    Ok(())
}
