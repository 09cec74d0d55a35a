//! Maps, beside redb and LMDB (heed): as they survive the death of the process, and as they
//! survive a loss of power.

mod heed;
mod ours;
mod redb;

use std::path::Path;

use crate::Sizes;
use crate::random::Random;
use crate::row::{Other, Row, Side, Unit, cpu_time, measure};

/// What is stored under a key.
pub type Value = [u8; 64];

/// What a committed transaction survives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Survives {
    /// The death of the process.
    Process,
    /// A loss of power: the disk is waited for.
    Power,
}

/// A map from numbers to values, with transactions.
pub trait Store {
    /// Sets the keys' values, in one transaction.
    ///
    /// # Errors
    ///
    /// The store's.
    fn put(&mut self, keys: &[u64], value: &Value) -> anyhow::Result<()>;

    /// Removes the keys, in one transaction.
    ///
    /// # Errors
    ///
    /// The store's.
    fn remove(&mut self, keys: &[u64]) -> anyhow::Result<()>;

    /// Looks the keys up, in one transaction; the sum of their values' first bytes.
    ///
    /// # Errors
    ///
    /// The store's, or if a key is not there.
    fn get(&mut self, keys: &[u64]) -> anyhow::Result<u64>;

    /// Goes through so many entries from each key on; how many there were. `None` if the
    /// store has no order.
    ///
    /// # Errors
    ///
    /// The store's.
    fn range(&mut self, keys: &[u64], count: usize) -> anyhow::Result<Option<u64>>;
}

/// A store that holds the keys from 0 to `entries`.
struct Filled {
    store: Box<dyn Store>,
    entries: u64,
    random: Random,
}

impl Filled {
    fn new(mut store: Box<dyn Store>, entries: u64) -> anyhow::Result<Filled> {
        let keys: Vec<u64> = (0..entries).collect();
        for keys in keys.chunks(1024) {
            store.put(keys, &[1; 64])?;
        }
        Ok(Filled {
            store,
            entries,
            random: Random::new(7),
        })
    }

    /// Puts so many keys a transaction, each of which is waited for; nanoseconds of the clock a
    /// key.
    fn wait(&mut self, batch: usize, steps: u64) -> anyhow::Result<f64> {
        let begun = std::time::Instant::now();
        self.time(batch, steps, |store, keys| store.put(keys, &[2; 64]))?;
        Ok(begun.elapsed().as_nanos() as f64 / steps as f64)
    }

    /// Runs transactions of `batch` keys each; nanoseconds a key.
    fn time(
        &mut self,
        batch: usize,
        steps: u64,
        mut work: impl FnMut(&mut dyn Store, &[u64]) -> anyhow::Result<()>,
    ) -> anyhow::Result<f64> {
        let keys: Vec<u64> = (0..steps)
            .map(|_| self.random.next() % self.entries)
            .collect();
        let begun = cpu_time();
        for keys in keys.chunks(batch) {
            work(self.store.as_mut(), keys)?;
        }
        Ok((cpu_time() - begun) / steps as f64)
    }

    fn work(&mut self, work: Work, steps: u64) -> anyhow::Result<f64> {
        match work {
            Work::Get => self.time(64, steps, |store, keys| store.get(keys).map(drop)),
            Work::Put => self.time(1, steps, |store, keys| store.put(keys, &[2; 64])),
            Work::PutMany => self.time(64, steps, |store, keys| store.put(keys, &[3; 64])),
            // One leaves, the same comes back: twice a transaction, each counts.
            Work::Churn => {
                let each = self.time(1, steps / 2, |store, keys| {
                    store.remove(keys)?;
                    store.put(keys, &[4; 64])
                })?;
                Ok(each / 2.0)
            }
            Work::Range => self.time(64, steps / 10, |store, keys| {
                store.range(keys, 100).map(drop)
            }),
        }
    }
}

/// What is measured of a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    Get,
    Put,
    PutMany,
    Churn,
    Range,
}

const ALL: [(Work, &str); 5] = [
    (Work::Get, "get, 64 a transaction"),
    (Work::Put, "put, 1 a transaction"),
    (Work::PutMany, "put, 64 a transaction"),
    (Work::Churn, "remove or insert, 1 a transaction"),
    (Work::Range, "range of 100, 64 a transaction"),
];

type Opened = Result<std::cell::RefCell<Filled>, String>;

fn opened(
    store: anyhow::Result<Result<Box<dyn Store>, String>>,
    entries: u64,
) -> anyhow::Result<Opened> {
    Ok(match store? {
        Ok(store) => Ok(std::cell::RefCell::new(Filled::new(store, entries)?)),
        Err(why) => Err(why),
    })
}

/// A peer's side of a row.
fn peer<'a>(
    store: &'a Opened,
    name: &'static str,
    work: impl Fn(&mut Filled) -> anyhow::Result<f64> + 'a,
) -> Other<'a> {
    let side: Result<Side<'_>, String> = match store {
        Ok(store) => Ok(Box::new(move || work(&mut store.borrow_mut()))),
        Err(why) => Err(why.clone()),
    };
    Other { name, side }
}

fn process_rows(dir: &Path, sizes: &Sizes, out: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let (entries, survives) = (sizes.entries, Survives::Process);
    let redb = opened(redb::open(&dir.join("map.redb"), survives), entries)?;
    let heed = opened(heed::open(&dir.join("map.lmdb"), survives), entries)?;
    for (name, ordered) in [("map", false), ("ordered map", true)] {
        let path = dir.join("map.region");
        let store = Ok(Ok(ours::open(&path, entries, ordered, survives)?));
        let Ok(ours) = opened(store, entries)? else {
            unreachable!("ours is always there")
        };
        for (work, text) in ALL {
            if work == Work::Range && !ordered {
                continue;
            }
            let steps = match work {
                Work::Put | Work::Churn => sizes.steps / 4,
                _ => sizes.steps,
            };
            let others = vec![
                peer(&redb, "redb", move |store| store.work(work, steps)),
                peer(&heed, "lmdb (heed)", move |store| store.work(work, steps)),
            ];
            let side = Box::new(|| ours.borrow_mut().work(work, steps));
            let work = format!("{name}: {text}, process");
            let rows = measure(&work, Unit::Time, sizes.runs, side, others)?;
            rows.into_iter().for_each(&mut *out);
        }
        std::fs::remove_file(path)?;
    }
    Ok(())
}

fn power_rows(disk: &Path, sizes: &Sizes, out: &mut dyn FnMut(Row)) -> anyhow::Result<()> {
    let (entries, survives) = (sizes.few_entries, Survives::Power);
    let redb = opened(redb::open(&disk.join("map.redb"), survives), entries)?;
    let heed = opened(heed::open(&disk.join("map.lmdb"), survives), entries)?;
    for (name, ordered) in [("map", false), ("ordered map", true)] {
        let path = disk.join("map.region");
        let store = Ok(Ok(ours::open(&path, entries, ordered, survives)?));
        let Ok(ours) = opened(store, entries)? else {
            unreachable!("ours is always there")
        };
        for batch in [1, 64] {
            let steps = sizes.synced / 2 * batch as u64;
            let others = vec![
                peer(&redb, "redb", move |store| store.wait(batch, steps)),
                peer(&heed, "lmdb (heed)", move |store| store.wait(batch, steps)),
            ];
            let side = Box::new(|| ours.borrow_mut().wait(batch, steps));
            let work = format!("{name}: put, {batch} a transaction, power on a disk");
            let rows = measure(&work, Unit::Time, sizes.runs.min(5), side, others)?;
            rows.into_iter().for_each(&mut *out);
        }
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// The rows of this module. `disk` is a folder where a loss of power is survived.
///
/// # Errors
///
/// A store's.
pub fn rows(
    dir: &Path,
    disk: &Path,
    sizes: &Sizes,
    mut out: impl FnMut(Row),
) -> anyhow::Result<()> {
    process_rows(dir, sizes, &mut out)?;
    power_rows(disk, sizes, &mut out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn try_out(store: anyhow::Result<Result<Box<dyn Store>, String>>, ordered: bool) {
        let Ok(mut store) = store.expect("opened") else {
            return;
        };
        let keys: Vec<u64> = (0..300).collect();
        store.put(&keys, &[1; 64]).expect("put");
        store.put(&keys[100..200], &[5; 64]).expect("put");
        assert_eq!(store.get(&keys).expect("got"), 200 + 100 * 5);
        store.remove(&keys[250..]).expect("removed");
        assert!(store.get(&keys[250..251]).is_err());
        let seen = store.range(&[10, 240], 100).expect("gone through");
        assert_eq!(seen, ordered.then_some(110));
        for (work, _) in ALL {
            let mut filled = Filled {
                store,
                entries: 250,
                random: Random::new(1),
            };
            filled.work(work, 100).expect("worked");
            store = filled.store;
        }
        assert!(store.get(&keys[..250]).expect("all are there") > 250);
    }

    #[test]
    fn every_store_does_the_same() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let survives = Survives::Process;
        try_out(ours::open(&at("map"), 1000, false, survives).map(Ok), false);
        try_out(
            ours::open(&at("ordered"), 1000, true, survives).map(Ok),
            true,
        );
        try_out(redb::open(&at("redb"), survives), true);
        try_out(heed::open(&at("lmdb"), survives), true);
    }
}
