//! What a crash costs at the next start, and a copy meanwhile.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::ensure;
use neurath_pmem::inspect;
use neurath_pmem::region::{Backend, Durability, Region, RegionOptions};

use crate::Sizes;
use crate::row::{Other, Row, Unit, measure};
use crate::small::Ours;

/// Commits that a journal holds when the process dies. One has room for some more.
const COMMITS: u64 = 200_000;

/// Opens a region whose journal holds so many commits, as after a kill; nanoseconds.
fn replay(path: &Path, commits: u64) -> anyhow::Result<f64> {
    let mut ours = Ours::new(path, 65_536, 1, Backend::Page)?;
    ours.durable(50, commits)?;
    let before = ours.sequence();
    drop(ours);
    let options = RegionOptions {
        durability: Durability::Power,
        ..RegionOptions::new("bench", 0, 16 << 30)
    };
    let begun = Instant::now();
    let region = Region::open(path, &options, None)?;
    let took = begun.elapsed().as_nanos() as f64;
    let after = region.stats().sequence;
    ensure!(after == before, "{after} of {before} commits are there");
    drop(region);
    std::fs::remove_file(path)?;
    Ok(took)
}

/// Commits while a region is copied; the longest that one took, in nanoseconds.
fn longest_commit(ours: &mut Ours, copy: &Path) -> anyhow::Result<f64> {
    let source = ours.begin_snapshot()?;
    let done = AtomicBool::new(false);
    let longest = std::thread::scope(|scope| {
        let copying = scope.spawn(|| {
            let made = inspect::snapshot_live(source, copy);
            done.store(true, Ordering::Release);
            made
        });
        let mut longest = Duration::ZERO;
        // One at least, even if the copy is made before this thread runs again.
        loop {
            let begun = Instant::now();
            ours.update(1, u64::MAX, 1)?;
            longest = longest.max(begun.elapsed());
            if done.load(Ordering::Acquire) {
                break;
            }
            // As fast as messages come, not as fast as they can be made: all of them are noted.
            std::thread::sleep(Duration::from_micros(20));
        }
        match copying.join() {
            Ok(made) => ensure!(made?.report.is_sound(), "the copy is damaged"),
            Err(panic) => std::panic::resume_unwind(panic),
        }
        Ok(longest)
    })?;
    std::fs::remove_file(copy)?;
    Ok(longest.as_nanos() as f64)
}

/// The rows of this module. `disk` is a folder where a loss of power is survived.
///
/// # Errors
///
/// A region's.
pub fn rows(
    dir: &Path,
    disk: &Path,
    sizes: &Sizes,
    mut out: impl FnMut(Row),
) -> anyhow::Result<()> {
    let commits = COMMITS / (10_000_000 / sizes.converted).max(1);
    let path = disk.join("journal.region");
    let runs = sizes.runs.min(3);
    let side = Box::new(|| replay(&path, commits));
    let work = format!("open after a kill, {commits} commits in the journal");
    let rows = measure(&work, Unit::Time, runs, side, Vec::new())?;
    rows.into_iter().for_each(&mut out);

    let (path, copy) = (dir.join("live.region"), dir.join("live.copy"));
    let mut ours = Ours::new(&path, sizes.large / 64, 1, Backend::Process)?;
    let stopped = Other {
        name: "copy of the file, which all wait for",
        side: Ok(Box::new(|| {
            let begun = Instant::now();
            std::fs::copy(&path, dir.join("live.cp"))?;
            let took = begun.elapsed().as_nanos() as f64;
            std::fs::remove_file(dir.join("live.cp"))?;
            Ok(took)
        })),
    };
    let work = format!("longest commit while {} MiB are copied", sizes.large >> 20);
    let side = Box::new(|| longest_commit(&mut ours, &copy));
    let rows = measure(&work, Unit::Time, runs, side, vec![stopped])?;
    rows.into_iter().for_each(&mut out);
    std::fs::remove_file(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_made_while_commits_go_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("region");
        let mut ours = Ours::new(&path, 20_000, 1, Backend::Process).expect("made");
        let before = ours.sequence();
        let longest = longest_commit(&mut ours, &dir.path().join("copy")).expect("copied");
        assert!(longest > 0.0 && ours.sequence() > before);
    }
}
