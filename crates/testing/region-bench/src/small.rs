//! Small transactions: what a message costs.

use std::path::Path;

use anyhow::Context as _;
use neurath_pmem::region::{Region, RegionError, RegionOptions};
use neurath_pmem::schema::{encode, encoded_len};
use neurath_pmem::{Handle, P, Pmem, TxError};

use crate::pmdk::{Driver, Pmdk};
use crate::row::{Other, Row, Side, Unit, cpu_time, measure};
use crate::{Sizes, random::Random};

/// How many objects are hot: 512 KiB of them.
const HOT: u64 = 8192;

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

/// A new region at `path`.
///
/// # Errors
///
/// The file system's.
pub fn create(path: &Path, initial: u64, schema: &[u8]) -> anyhow::Result<Region> {
    let options = RegionOptions {
        initial,
        ..RegionOptions::new("bench", 0, 16 << 30)
    };
    let mut region = Region::create(path, &options, schema)?;
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
    pub fn new(path: &Path, objects: u64, slots: u64) -> anyhow::Result<Ours> {
        let mut region = create(path, 96 * objects + 192 * slots, &SCHEMA)?;
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

    /// So many transactions of so many updates among the first `among` objects;
    /// nanoseconds a transaction.
    ///
    /// # Errors
    ///
    /// The region's, as below.
    pub fn update(&mut self, each: u64, among: u64, count: u64) -> anyhow::Result<f64> {
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
    driver: &'a Result<std::cell::RefCell<Pmdk>, String>,
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

/// All rows of this module.
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
    let slots = sizes.objects / 16;
    let pool = dir.join("small.pool");
    let driver = pmdk.as_ref().map_err(String::clone).map(|driver| {
        let start = || -> anyhow::Result<Pmdk> {
            let mut pmdk = driver.start(false)?;
            let bytes = (160 * (sizes.objects + slots)).next_multiple_of(1 << 20) + (32 << 20);
            pmdk.ask(&format!("create {bytes} {}", pool.display()))?;
            pmdk.ask(&format!("fill {}", sizes.objects))?;
            pmdk.ask(&format!("slots {slots}"))?;
            Ok(pmdk)
        };
        start().context("libpmemobj")
    });
    let driver = match driver {
        Ok(started) => Ok(std::cell::RefCell::new(started?)),
        Err(why) => Err(why),
    };
    let ours = Ours::new(&dir.join("small.region"), sizes.objects, slots)?;
    let ours = std::cell::RefCell::new(ours);
    let mut row = |work: &str, side: Side<'_>, others| -> anyhow::Result<()> {
        let rows = measure(work, Unit::Time, sizes.runs, side, others)?;
        rows.into_iter().for_each(&mut out);
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
            true => (HOT.min(sizes.objects), ", hot"),
            false => (sizes.objects, ""),
        };
        let command = format!("update {each} {among} {count}");
        row(
            &format!("{each} update{plural}, process{hot}"),
            Box::new(|| ours.borrow_mut().update(each, among, count)),
            vec![theirs(&driver, "pmdk", command)],
        )?;
    }
    let count = sizes.steps / 2;
    row(
        "alloc, free and swing 64 B, process",
        Box::new(|| ours.borrow_mut().swing(count)),
        vec![
            theirs(&driver, "pmdk, published", format!("publish {count}")),
            theirs(&driver, "pmdk, transaction", format!("transaction {count}")),
        ],
    )?;
    row(
        "aborted message, process",
        Box::new(|| ours.borrow_mut().abort(sizes.steps)),
        vec![theirs(&driver, "pmdk", format!("abort {}", sizes.steps))],
    )?;
    drop(driver);
    std::fs::remove_file(dir.join("small.region"))?;
    let _ = std::fs::remove_file(pool);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_done() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut ours = Ours::new(&dir.path().join("region"), 3000, 100).expect("a region");
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
