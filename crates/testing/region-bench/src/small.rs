//! Small transactions: what a message costs.

use std::cell::RefCell;
use std::io::{Seek as _, Write as _};
use std::path::Path;

use anyhow::Context as _;
use neurath_pmem::region::{
    Backend, Durability, Region, RegionError, RegionOptions, SnapshotSource,
};
use neurath_pmem::schema::{encode, encoded_len};
use neurath_pmem::{Handle, P, Pmem, TxError};

use crate::loads::Loads;
use crate::pmdk::{Driver, How, Pmdk};
use crate::row::{Other, Row, Side, Unit, cpu_time, measure};
use crate::{Sizes, random::Random};

/// How many objects are hot: 512 KiB of them.
const HOT: u64 = 8192;

/// What is no transaction: the least that waiting for memory takes.
const LOADS: &str = "loads alone, one after the other";

/// How many objects are updated where a disk is waited for: what memory takes is nothing beside
/// that, and libpmemobj waits for each that it makes.
const ON_DISK: u64 = 1024;

/// An object of a cache line.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Object {
    pub words: [u64; 8],
}

/// A reference that is swung from one object to the next.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct Slot {
    object: P<Object>,
}

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct Root {
    object: P<Object>,
    slot: P<Slot>,
}

const SCHEMA: [u8; encoded_len(Root::SCHEMA)] = encode(Root::SCHEMA);

/// Why a transaction did not last.
#[derive(Debug)]
pub enum Failure {
    /// A part of it was refused.
    Tx(TxError),
    /// It could not be committed.
    Region(RegionError),
    /// As it was meant.
    Refused,
}

impl From<TxError> for Failure {
    fn from(error: TxError) -> Failure {
        Failure::Tx(error)
    }
}

impl From<RegionError> for Failure {
    fn from(error: RegionError) -> Failure {
        Failure::Region(error)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Tx(error) => error.fmt(f),
            Failure::Region(error) => error.fmt(f),
            Failure::Refused => f.write_str("refused"),
        }
    }
}

impl std::error::Error for Failure {}

/// A new region at `path`, whose commits survive the process.
///
/// # Errors
///
/// The file system's.
pub fn create(path: &Path, initial: u64, schema: &[u8]) -> anyhow::Result<Region> {
    create_as(path, initial, schema, Backend::Process)
}

/// A new region at `path`, kept as this backend keeps it, whether the medium is there or not:
/// for `Page` the file must be on a disk.
///
/// # Errors
///
/// The file system's.
pub fn create_as(
    path: &Path,
    initial: u64,
    schema: &[u8],
    backend: Backend,
) -> anyhow::Result<Region> {
    let mut options = RegionOptions {
        initial,
        ..RegionOptions::new("bench", 0, 16 << 30)
    };
    let mut region = match backend {
        Backend::Page => {
            options.durability = Durability::Power;
            Region::create(path, &options, schema)?
        }
        other => Region::create_as(path, &options, schema, other)?,
    };
    region.attach(&Handle::new());
    Ok(region)
}

/// A region with objects and slots.
pub struct Ours {
    region: Region,
    objects: Vec<P<Object>>,
    slots: Vec<P<Slot>>,
    random: Random,
}

impl Ours {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// The region's.
    pub fn new(path: &Path, objects: u64, slots: u64, backend: Backend) -> anyhow::Result<Ours> {
        let mut region = create_as(path, 96 * objects + 192 * slots, &SCHEMA, backend)?;
        let zero = Object { words: [0; 8] };
        let objects = in_batches(&mut region, objects, |tx, _| tx.alloc(&zero))?;
        let slots = in_batches(&mut region, slots, |tx, _| {
            let object = tx.alloc(&zero)?;
            tx.alloc(&Slot { object })
        })?;
        Ok(Ours {
            region,
            objects,
            slots,
            random: Random::new(1),
        })
    }

    fn each(
        &mut self,
        count: u64,
        mut step: impl FnMut(&mut Ours) -> Result<(), Failure>,
    ) -> anyhow::Result<f64> {
        let begun = cpu_time();
        for _ in 0..count {
            step(self)?;
        }
        Ok((cpu_time() - begun) / count as f64)
    }

    /// Commits since the region was made.
    pub fn sequence(&self) -> u64 {
        self.region.stats().sequence
    }

    /// Begins a copy of the region, which goes on being used.
    ///
    /// # Errors
    ///
    /// The region's.
    pub fn begin_snapshot(&mut self) -> anyhow::Result<SnapshotSource> {
        Ok(self.region.begin_snapshot()?)
    }

    /// So many transactions of so many updates among the first `among` objects, or all;
    /// nanoseconds a transaction.
    ///
    /// # Errors
    ///
    /// The region's, as below.
    pub fn update(&mut self, each: u64, among: u64, count: u64) -> anyhow::Result<f64> {
        let among = among.min(self.objects.len() as u64);
        self.each(count, |ours| {
            let Ours {
                region,
                objects,
                random,
                ..
            } = ours;
            region.transact(|tx| {
                for _ in 0..each {
                    tx.update(objects[random.below(among as usize)], |object| {
                        object.words[0] += 1;
                    })?;
                }
                Ok(())
            })
        })
    }

    /// So many transactions of one update each, made durable so many at a time; nanoseconds of
    /// the clock for each transaction, since a disk is waited for.
    ///
    /// # Errors
    ///
    /// The region's.
    pub fn durable(&mut self, together: u64, count: u64) -> anyhow::Result<f64> {
        let begun = std::time::Instant::now();
        for _ in 0..count / together {
            for _ in 0..together {
                let object = self.objects[self.random.below(self.objects.len())];
                self.region.transact(|tx| {
                    tx.update(object, |object| object.words[0] += 1)?;
                    Ok::<_, Failure>(())
                })?;
            }
            self.region.make_durable()?;
        }
        Ok(begun.elapsed().as_nanos() as f64 / (count / together * together) as f64)
    }

    /// So many transactions that are refused after an update.
    ///
    /// # Errors
    ///
    /// If one was not.
    pub fn abort(&mut self, count: u64) -> anyhow::Result<f64> {
        self.each(count, |ours| {
            let object = ours.objects[ours.random.below(ours.objects.len())];
            let refused = ours.region.transact(|tx| {
                tx.update(object, |object| object.words[0] += 1)?;
                Err::<(), _>(Failure::Refused)
            });
            match refused {
                Err(Failure::Refused) => Ok(()),
                other => other,
            }
        })
    }

    /// So many transactions that make an object, let a slot refer to it, and free the one before.
    ///
    /// # Errors
    ///
    /// The region's.
    pub fn swing(&mut self, count: u64) -> anyhow::Result<f64> {
        self.each(count, |ours| {
            let slot = ours.slots[ours.random.below(ours.slots.len())];
            let words = [ours.random.next(); 8];
            ours.region.transact(|tx| {
                let object = tx.alloc(&Object { words })?;
                tx.free(tx.read(slot)?.object)?;
                Ok(tx.write(slot, &Slot { object })?)
            })
        })
    }
}

/// Does something so many times, a few hundred in a transaction; what was made.
///
/// # Errors
///
/// The region's.
pub fn in_batches<T>(
    region: &mut Region,
    count: u64,
    mut step: impl FnMut(&mut neurath_pmem::Tx<'_>, u64) -> Result<T, TxError>,
) -> Result<Vec<T>, Failure> {
    let mut made = Vec::new();
    let mut next = 0;
    while next < count {
        let end = count.min(next + 512);
        region.transact(|tx| {
            for n in next..end {
                made.push(step(tx, n)?);
            }
            Ok::<_, Failure>(())
        })?;
        next = end;
    }
    Ok(made)
}

/// How a driver of libpmemobj does the same.
fn theirs<'a>(
    driver: &'a Result<RefCell<Pmdk>, String>,
    name: &'static str,
    command: String,
) -> Other<'a> {
    Other {
        name,
        side: match driver {
            Ok(pmdk) => Ok(Box::new(move || pmdk.borrow_mut().ask(&command))),
            Err(why) => Err(why.clone()),
        },
    }
}

/// A driver of libpmemobj with as many objects and slots.
fn filled_pool(
    pmdk: &Result<Driver, String>,
    pool: &Path,
    objects: u64,
    how: How,
) -> anyhow::Result<Result<RefCell<Pmdk>, String>> {
    let driver = match pmdk {
        Ok(driver) => driver,
        Err(why) => return Ok(Err(why.clone())),
    };
    let slots = objects / 16;
    let start = || -> anyhow::Result<Pmdk> {
        let mut pmdk = driver.start(how)?;
        let bytes = (160 * (objects + slots)).next_multiple_of(1 << 20) + (32 << 20);
        pmdk.ask(&format!("create {bytes} {}", pool.display()))?;
        pmdk.ask(&format!("fill {objects}"))?;
        pmdk.ask(&format!("slots {slots}"))?;
        Ok(pmdk)
    };
    start()
        .context("libpmemobj")
        .map(|pmdk| Ok(RefCell::new(pmdk)))
}

/// Rows where memory is all that is waited for: by this backend, what it is called in the rows,
/// and how the peer does alike.
fn memory_rows(
    dir: &Path,
    sizes: &Sizes,
    pmdk: &Result<Driver, String>,
    (backend, called, how): (Backend, &str, How),
    out: &mut dyn FnMut(Row),
) -> anyhow::Result<()> {
    let (path, pool) = (dir.join("small.region"), dir.join("small.pool"));
    let driver = filled_pool(pmdk, &pool, sizes.objects, how)?;
    let ours = Ours::new(&path, sizes.objects, sizes.objects / 16, backend)?;
    let ours = RefCell::new(ours);
    let loads = RefCell::new(Loads::new(sizes.objects));
    let loads = &loads;
    let mut row = |work: &str, side: Side<'_>, others| -> anyhow::Result<()> {
        let work = format!("{work}, {called}");
        let rows = measure(&work, Unit::Time, sizes.runs, side, others)?;
        rows.into_iter().for_each(&mut *out);
        Ok(())
    };
    for (each, hot) in [
        (1, false),
        (4, false),
        (16, false),
        (1, true),
        (4, true),
        (16, true),
    ] {
        let count = sizes.steps / each;
        let plural = if each == 1 { "" } else { "s" };
        // All of them, or as many as a processor's nearer caches hold.
        let (among, hot) = match hot {
            true => (HOT.min(sizes.objects), " hot"),
            false => (sizes.objects, ""),
        };
        let command = format!("update {each} {among} {count}");
        let mut others = vec![theirs(&driver, "pmdk", command)];
        if backend == Backend::Process {
            others.push(Other {
                name: LOADS,
                side: Ok(Box::new(move || {
                    Ok(loads.borrow_mut().run(each, among, count))
                })),
            });
        }
        row(
            &format!("{each}{hot} update{plural}"),
            Box::new(|| ours.borrow_mut().update(each, among, count)),
            others,
        )?;
    }
    let count = sizes.steps / 2;
    row(
        "alloc, free and swing 64 B",
        Box::new(|| ours.borrow_mut().swing(count)),
        vec![
            theirs(&driver, "pmdk, published", format!("publish {count}")),
            theirs(&driver, "pmdk, transaction", format!("transaction {count}")),
        ],
    )?;
    row(
        "aborted message",
        Box::new(|| ours.borrow_mut().abort(sizes.steps)),
        vec![theirs(&driver, "pmdk", format!("abort {}", sizes.steps))],
    )?;
    drop(driver);
    std::fs::remove_file(path)?;
    let _ = std::fs::remove_file(pool);
    Ok(())
}

/// Writes so many times 64 bytes to a file, and waits for each, nanoseconds each: nothing durable
/// takes less.
///
/// # Errors
///
/// The file system's.
pub fn write_and_wait(path: &Path, count: u64) -> anyhow::Result<f64> {
    let mut file = std::fs::File::create(path)?;
    // The file's length does not change meanwhile.
    file.write_all(&vec![1; 64 * count as usize])?;
    file.sync_all()?;
    file.rewind()?;
    let begun = std::time::Instant::now();
    for _ in 0..count {
        file.write_all(&[2; 64])?;
        file.sync_data()?;
    }
    let took = begun.elapsed().as_nanos() as f64 / count as f64;
    std::fs::remove_file(path)?;
    Ok(took)
}

/// Rows where a disk is waited for; `disk` is a folder there.
fn disk_rows(
    disk: &Path,
    sizes: &Sizes,
    pmdk: &Result<Driver, String>,
    out: &mut dyn FnMut(Row),
) -> anyhow::Result<()> {
    let (path, pool, line) = (
        disk.join("small.region"),
        disk.join("small.pool"),
        disk.join("line"),
    );
    let count = sizes.synced;
    let driver = filled_pool(pmdk, &pool, ON_DISK, How::Msync)?;
    let ours = Ours::new(&path, ON_DISK, 1, Backend::Page)?;
    let ours = RefCell::new(ours);
    let command = format!("synced {ON_DISK} {count}");
    let write = Other {
        name: "write and fdatasync of 64 B",
        side: Ok(Box::new(|| write_and_wait(&line, count))),
    };
    let runs = sizes.runs.min(5);
    let rows = measure(
        "1 update, power on a disk",
        Unit::Time,
        runs,
        Box::new(|| ours.borrow_mut().durable(1, count)),
        vec![theirs(&driver, "pmdk, msync", command.clone()), write],
    )?;
    rows.into_iter().for_each(&mut *out);
    let rows = measure(
        "1 of 50 updates made durable together, power on a disk",
        Unit::Time,
        runs,
        Box::new(|| ours.borrow_mut().durable(50, count * 50)),
        vec![theirs(&driver, "pmdk, msync", command)],
    )?;
    rows.into_iter().for_each(&mut *out);
    drop(driver);
    std::fs::remove_file(path)?;
    let _ = std::fs::remove_file(pool);
    Ok(())
}

/// All rows of this module. `disk` is a folder where a loss of power is survived.
///
/// # Errors
///
/// A region's or a peer's.
pub fn rows(
    dir: &Path,
    disk: &Path,
    sizes: &Sizes,
    pmdk: &Result<Driver, String>,
    mut out: impl FnMut(Row),
) -> anyhow::Result<()> {
    for kind in [
        (Backend::Process, "process", How::Fences),
        (Backend::Byte, "power by fences (byte)", How::Fences),
        (Backend::Line, "power by cache lines (line)", How::Lines),
    ] {
        memory_rows(dir, sizes, pmdk, kind, &mut out)?;
    }
    disk_rows(disk, sizes, pmdk, &mut out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("region");
        // The processor of whoever tests this writes lines.
        let mut ours = Ours::new(&path, 3000, 100, Backend::Line).expect("a region");
        ours.update(4, 3000, 50).expect("updated");
        let sum = |ours: &mut Ours| {
            let objects = ours.objects.clone();
            ours.region.transact(|tx| {
                let values = objects.iter().map(|&object| Ok(tx.read(object)?.words[0]));
                values.sum::<Result<u64, Failure>>()
            })
        };
        assert_eq!(sum(&mut ours).expect("read"), 200);
        ours.abort(50).expect("refused");
        assert_eq!(sum(&mut ours).expect("read"), 200);
        let before = ours.region.stats();
        ours.swing(500).expect("swung");
        let after = ours.region.stats();
        assert_eq!(before.live_objects, after.live_objects);
        assert_eq!(after.sequence - before.sequence, 500);
    }
}
