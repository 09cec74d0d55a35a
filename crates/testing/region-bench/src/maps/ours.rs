//! A region's own maps.

use std::ops::Bound;
use std::path::Path;

use anyhow::Context as _;
use neurath_pmem::collections::Direction;
use neurath_pmem::region::{Backend, Region};
use neurath_pmem::schema::{encode, encoded_len};
use neurath_pmem::{Map, OrderedMap, P, Pmem, Tx, TxError};

use super::{Store, Survives, Value};
use crate::small::{Failure, create_as};

#[derive(Clone, Copy, Pmem)]
#[repr(C)]
struct State {
    map: Map<u64, Value>,
    ordered: OrderedMap<u64, Value>,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);

struct Ours {
    region: Region,
    ordered: bool,
}

pub fn open(
    path: &Path,
    entries: u64,
    ordered: bool,
    survives: Survives,
) -> anyhow::Result<Box<dyn Store>> {
    let backend = match survives {
        Survives::Process => Backend::Process,
        Survives::Power => Backend::Page,
    };
    let mut region = create_as(path, entries * 192, &SCHEMA, backend)?;
    let empty = State {
        map: Map::EMPTY,
        ordered: OrderedMap::EMPTY,
    };
    let root = region.transact(|tx| Ok::<_, Failure>(tx.alloc(&empty)?))?;
    region.set_root(root.to_ref());
    region.commit()?;
    Ok(Box::new(Ours { region, ordered }))
}

impl Ours {
    fn with<R>(
        &mut self,
        change: impl FnOnce(&mut State, &mut Tx<'_>) -> Result<R, TxError>,
    ) -> anyhow::Result<R> {
        let done = self.region.transact(|tx| {
            let root: P<State> = tx.root();
            let mut state = tx.read(root)?;
            let result = change(&mut state, tx)?;
            tx.write(root, &state)?;
            Ok::<_, Failure>(result)
        })?;
        // Where a disk is waited for; else nothing is left to do.
        self.region.make_durable()?;
        Ok(done)
    }
}

impl Store for Ours {
    fn put(&mut self, keys: &[u64], value: &Value) -> anyhow::Result<()> {
        let ordered = self.ordered;
        self.with(|state, tx| {
            keys.iter().try_for_each(|key| match ordered {
                false => state.map.insert(tx, key, value).map(drop),
                true => state.ordered.insert(tx, key, value).map(drop),
            })
        })
    }

    fn remove(&mut self, keys: &[u64]) -> anyhow::Result<()> {
        let ordered = self.ordered;
        self.with(|state, tx| {
            keys.iter().try_for_each(|key| match ordered {
                false => state.map.remove(tx, key).map(drop),
                true => state.ordered.remove(tx, key).map(drop),
            })
        })
    }

    fn get(&mut self, keys: &[u64]) -> anyhow::Result<u64> {
        let ordered = self.ordered;
        let found = self.with(|state, tx| {
            let mut sum = Some(0);
            for key in keys {
                let value = match ordered {
                    false => state.map.get(tx, key)?,
                    true => state.ordered.get(tx, key)?,
                };
                sum = sum.zip(value).map(|(sum, value)| sum + u64::from(value[0]));
            }
            Ok(sum)
        })?;
        found.context("a key is not there")
    }

    fn range(&mut self, keys: &[u64], count: usize) -> anyhow::Result<Option<u64>> {
        if !self.ordered {
            return Ok(None);
        }
        self.with(|state, tx| {
            let mut seen = 0;
            for key in keys {
                let from = (Bound::Included(key), Bound::Unbounded);
                let visit = |_: &Tx<'_>, _, value: Value| {
                    std::hint::black_box(value[0]);
                    Ok::<_, TxError>(())
                };
                seen += state
                    .ordered
                    .range(tx, from, Direction::Up, count as u64, visit)?;
            }
            Ok(Some(seen))
        })
    }
}
