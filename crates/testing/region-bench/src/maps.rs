//! Maps, beside redb and LMDB (heed), all as they survive the death of the process.

mod heed;
mod ours;
mod redb;

use std::path::Path;

use crate::Sizes;
use crate::random::Random;
use crate::row::{Other, Row, Side, Unit, cpu_time, measure};

/// What is stored under a key.
pub type Value = [u8; 64];

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
        for keys in keys.chunks(256) {
            store.put(keys, &[1; 64])?;
        }
        Ok(Filled {
            store,
            entries,
            random: Random::new(7),
        })
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

/// The rows of this module.
///
/// # Errors
///
/// A store's.
pub fn rows(dir: &Path, sizes: &Sizes, mut out: impl FnMut(Row)) -> anyhow::Result<()> {
    let entries = sizes.entries;
    let redb = opened(redb::open(&dir.join("map.redb")), entries)?;
    let heed = opened(heed::open(&dir.join("map.lmdb")), entries)?;
    for (name, ordered) in [("map", false), ("ordered map", true)] {
        let path = dir.join("map.region");
        let store = Ok(Ok(ours::open(&path, entries, ordered)?));
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
            let other = |name, peer: &'static str| -> Other<'_> {
                let store: &Opened = name;
                let side: Result<Side<'_>, String> = match store {
                    Ok(store) => Ok(Box::new(move || store.borrow_mut().work(work, steps))),
                    Err(why) => Err(why.clone()),
                };
                Other { name: peer, side }
            };
            let others = vec![other(&redb, "redb"), other(&heed, "lmdb (heed)")];
            let side = Box::new(|| ours.borrow_mut().work(work, steps));
            let work = format!("{name}: {text}, process");
            let rows = measure(&work, Unit::Time, sizes.runs, side, others)?;
            rows.into_iter().for_each(&mut out);
        }
        std::fs::remove_file(path)?;
    }
    Ok(())
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
        try_out(ours::open(&at("map"), 1000, false).map(Ok), false);
        try_out(ours::open(&at("ordered"), 1000, true).map(Ok), true);
        try_out(redb::open(&at("redb")), true);
        try_out(heed::open(&at("lmdb")), true);
    }
}
