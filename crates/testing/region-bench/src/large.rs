//! A gibibyte at once: opening, checking, copying, converting.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context as _, ensure};
use neurath_pmem::inspect;
use neurath_pmem::migrate::{Conversion, MigrationPlan, Row as Values};
use neurath_pmem::region::{Region, RegionOptions};
use neurath_pmem::schema::{SchemaDesc, encode, encoded_len};
use neurath_pmem::{Handle, P, Pmem, as_bytes, from_bytes};

use crate::Sizes;
use crate::pmdk::{Driver, How};
use crate::row::{Other, Row, Unit, measure};
use crate::small::{Failure, create, in_batches};

mod old {
    use super::*;

    /// One of a list.
    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    pub struct Entry {
        pub next: P<Entry>,
        pub words: [u64; 7],
    }
}

mod new {
    use super::*;

    /// The same with four words more.
    #[derive(Clone, Copy, Pmem)]
    #[repr(C)]
    pub struct Entry {
        pub next: P<Entry>,
        pub words: [u64; 11],
    }
}

const OLD: [u8; encoded_len(old::Entry::SCHEMA)] = encode(old::Entry::SCHEMA);
const NEW: [u8; encoded_len(new::Entry::SCHEMA)] = encode(new::Entry::SCHEMA);

/// A region that holds a list of so many entries.
fn filled(path: &Path, count: u64) -> anyhow::Result<Region> {
    let mut region = create(path, count * 66, &OLD)?;
    let mut next = P::NULL;
    in_batches(&mut region, count, |tx, n| {
        let entry = old::Entry {
            next,
            words: [n; 7],
        };
        next = tx.alloc(&entry)?;
        Ok(())
    })?;
    region.set_root(next.to_ref());
    region.commit()?;
    Ok(region)
}

fn timed<R>(work: impl FnOnce() -> anyhow::Result<R>) -> anyhow::Result<(f64, R)> {
    let begun = Instant::now();
    let result = work()?;
    Ok((begun.elapsed().as_nanos() as f64, result))
}

/// The new form of one entry: what a component's `code_change` would say.
fn convert(from: &old::Entry) -> new::Entry {
    let mut words = [0; 11];
    words[..7].copy_from_slice(&from.words);
    words[7] = from.words[0] ^ 1;
    let next = P::from_ref(from.next.to_ref());
    new::Entry { next, words }
}

fn convert_row(row: Values<'_>) -> Result<(), String> {
    for place in 0..row.count {
        if row.live[place / 64] >> (place % 64) & 1 == 0 {
            continue;
        }
        let from = &row.old[place * row.old_stride..][..size_of::<old::Entry>()];
        let from = from_bytes(from).ok_or("no entry")?;
        let to = &mut row.new[place * row.new_stride..][..size_of::<new::Entry>()];
        to.copy_from_slice(as_bytes(&convert(&from)));
    }
    Ok(())
}

/// Converts a region; gives how long that took without the making ready of the new file, and with
/// it, in nanoseconds.
fn migrate(region: &Region, path: &Path) -> anyhow::Result<[f64; 2]> {
    let conversions = [Conversion {
        from: old::Entry::FINGERPRINT,
        to: new::Entry::FINGERPRINT,
    }];
    let (from, to) = (SchemaDesc::decode(&OLD)?, SchemaDesc::decode(&NEW)?);
    let plan = MigrationPlan::new(&from, &to, &conversions)?;
    let options = options();
    let source = region.source();
    let (ready, mut building) = timed(|| Ok(plan.prepare(&source, path, &options, &NEW)?))?;
    let (took, converted) = timed(|| {
        building.fill(&source, "{}", 0, &|_, row| convert_row(row))?;
        Ok(building.finish()?)
    })?;
    let live = converted.stats().live_objects;
    ensure!(live == region.stats().live_objects, "entries are missing");
    drop(converted);
    std::fs::remove_file(path)?;
    Ok([took, ready + took])
}

/// The least that a conversion could do: the same entries from memory to memory, by as many
/// threads, nanoseconds.
fn copy_loop(from: &[old::Entry], to: &mut [new::Entry]) -> anyhow::Result<f64> {
    let threads = std::thread::available_parallelism()?.get();
    let each = from.len().div_ceil(threads).max(1);
    let (took, ()) = timed(|| {
        std::thread::scope(|scope| {
            for (from, to) in from.chunks(each).zip(to.chunks_mut(each)) {
                scope.spawn(move || {
                    for (from, to) in from.iter().zip(to) {
                        *to = convert(from);
                    }
                });
            }
        });
        Ok(())
    })?;
    Ok(took)
}

fn read_through(path: &Path) -> anyhow::Result<f64> {
    let (took, _) = timed(|| {
        let mut file = std::fs::File::open(path)?;
        let mut buffer = vec![0; 1 << 20];
        let mut sum = 0u64;
        loop {
            let len = std::io::Read::read(&mut file, &mut buffer)?;
            if len == 0 {
                return Ok(std::hint::black_box(sum));
            }
            sum += u64::from(buffer[len - 1]);
        }
    })?;
    Ok(took)
}

/// `pmempool check`, which looks at a pool's header.
fn pmempool_check(pool: &Path) -> anyhow::Result<f64> {
    let (took, output) = timed(|| {
        let mut command = std::process::Command::new("pmempool");
        let output = command.arg("check").arg(pool).output();
        output.context("cannot run pmempool, of the package pmdk-tools")
    })?;
    ensure!(output.status.success(), "pmempool check failed");
    Ok(took)
}

/// A pool with as many bytes of objects, left by a process that died.
fn left_pool(driver: &Driver, pool: &Path, bytes: u64) -> anyhow::Result<()> {
    let mut pmdk = driver.start(How::Fences)?;
    pmdk.ask(&format!("create {} {}", bytes + (64 << 20), pool.display()))?;
    pmdk.ask(&format!("fill {}", bytes / 128))?;
    pmdk.die()
}

fn options() -> RegionOptions {
    RegionOptions::new("bench", 0, 16 << 30)
}

/// Opens a region that a process left, and commits a change of its list and a new entry of it;
/// nanoseconds from before the one to after the other. Leaves it again.
fn open(path: &Path) -> anyhow::Result<f64> {
    let (took, region) = timed(|| {
        let mut region = Region::open(path, &options(), None)?;
        let first = P::<old::Entry>::from_ref(region.root());
        region.attach(&Handle::new());
        let next = region.transact(|tx| {
            tx.update(first, |entry| entry.words[0] += 1)?;
            let entry = old::Entry {
                next: first,
                words: [0; 7],
            };
            Ok::<_, Failure>(tx.alloc(&entry)?)
        })?;
        region.set_root(next.to_ref());
        region.commit()?;
        Ok(region)
    })?;
    drop(region);
    Ok(took)
}

fn region_rows(
    dir: &Path,
    sizes: &Sizes,
    pmdk: &Result<Driver, String>,
    out: &mut dyn FnMut(Row),
) -> anyhow::Result<()> {
    let (path, pool, copy) = (
        dir.join("large.region"),
        dir.join("large.pool"),
        dir.join("large.copy"),
    );
    let size = match sizes.large >> 30 {
        0 => format!("{} MiB", sizes.large >> 20),
        gib => format!("{gib} GiB"),
    };
    // Dropped without being closed: as by a process that died.
    drop(filled(&path, sizes.large / 64)?);
    if let Ok(driver) = pmdk {
        left_pool(driver, &pool, sizes.large)?;
    }
    let open_pool = Other {
        name: "pmdk, opened only",
        side: match pmdk {
            Ok(driver) => Ok(Box::new(|| {
                let mut pmdk = driver.start(How::Fences)?;
                let took = pmdk.ask(&format!("open {}", pool.display()))?;
                pmdk.die()?;
                Ok(took)
            })),
            Err(why) => Err(why.clone()),
        },
    };
    let work = format!("open {size} after a kill, to the first commit");
    let open = Box::new(|| open(&path));
    let rows = measure(&work, Unit::Time, sizes.runs, open, vec![open_pool])?;
    rows.into_iter().for_each(&mut *out);
    // What was left open has no checksums, and most of a check would have nothing to do.
    Region::open(&path, &options(), None)?.close()?;

    let runs = sizes.runs.min(3);
    let check = || {
        let (took, report) = timed(|| Ok(inspect::check_file(&path, inspect::Level::L3)?))?;
        ensure!(report.is_sound(), "the check found damage");
        Ok(took)
    };
    let tools = std::process::Command::new("pmempool")
        .arg("--version")
        .output();
    let pmempool = match (pmdk, tools) {
        (Err(why), _) => Err(why.clone()),
        (_, Err(_)) => Err("needs pmdk-tools".into()),
        (Ok(_), Ok(_)) => Ok(Box::new(|| pmempool_check(&pool)) as crate::row::Side<'_>),
    };
    let others = vec![
        Other {
            name: "read of the file",
            side: Ok(Box::new(|| read_through(&path))),
        },
        Other {
            name: "pmempool check, of a header",
            side: pmempool,
        },
    ];
    let work = format!("check {size}, all levels");
    let rows = measure(&work, Unit::Time, runs, Box::new(check), others)?;
    rows.into_iter().for_each(&mut *out);

    let snapshot = || {
        let (took, _) = timed(|| Ok(inspect::snapshot_file(&path, &copy)?))?;
        std::fs::remove_file(&copy)?;
        Ok(took)
    };
    let cp = Other {
        name: "copy of the file",
        side: Ok(Box::new(|| {
            let (took, _) = timed(|| Ok(std::fs::copy(&path, dir.join("large.cp"))?))?;
            std::fs::remove_file(dir.join("large.cp"))?;
            Ok(took)
        })),
    };
    let work = format!("snapshot {size}, checked");
    let rows = measure(&work, Unit::Time, runs, Box::new(snapshot), vec![cp])?;
    rows.into_iter().for_each(&mut *out);
    std::fs::remove_file(path)?;
    let _ = std::fs::remove_file(pool);
    Ok(())
}

fn migration_rows(dir: &Path, sizes: &Sizes, out: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let (path, next) = (dir.join("old.region"), dir.join("new.region"));
    let region = filled(&path, sizes.converted)?;
    let zero = old::Entry {
        next: P::NULL,
        words: [1; 7],
    };
    let from = vec![zero; sizes.converted as usize];
    let mut to = vec![convert(&zero); sizes.converted as usize];
    let runs = sizes.runs.min(3);
    let what = format!("convert {} objects of 64 to 96 B", sizes.converted);
    for (which, ready) in ["target ready", "target to be made ready as well"]
        .iter()
        .enumerate()
    {
        let floor = Other {
            name: "copy loop in memory",
            side: Ok(Box::new(|| copy_loop(&from, &mut to))),
        };
        let side = Box::new(|| Ok(migrate(&region, &next)?[which]));
        let work = format!("{what}, {ready}");
        let rows = measure(&work, Unit::Time, runs, side, vec![floor])?;
        rows.into_iter().for_each(&mut *out);
    }
    drop(region);
    std::fs::remove_file(path)?;
    Ok(())
}

/// The rows of this module.
///
/// # Errors
///
/// A region's or a peer's.
pub fn rows(
    dir: &Path,
    sizes: &Sizes,
    pmdk: &Result<Driver, String>,
    mut out: impl FnMut(Row),
) -> anyhow::Result<()> {
    region_rows(dir, sizes, pmdk, &mut out)?;
    migration_rows(dir, sizes, &mut out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_filled_and_converted() {
        let dir = tempfile::tempdir().expect("a directory");
        let region = filled(&dir.path().join("old"), 5000).expect("filled");
        assert_eq!(region.stats().live_objects, 5000);
        let path = dir.path().join("left");
        drop(filled(&path, 5000).expect("filled"));
        open(&path).expect("opened");
        open(&path).expect("opened again");
        let left = Region::open(&path, &options(), None).expect("there");
        assert_eq!(left.stats().live_objects, 5002);
        migrate(&region, &dir.path().join("new")).expect("converted");
    }
}
