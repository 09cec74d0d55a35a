//! The collections against the standard library's, and their work counted.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::Path;

use proptest::prelude::*;

use super::{Bytes, Direction, Map, OrderedMap, Vector};
use crate::failure::Failure;
use crate::region::{Region, RegionOptions};
use crate::schema::{encode, encoded_len};
use crate::tx::work::{self, Work};
use crate::{P, Pmem, Tx, TxError};

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    words: OrderedMap<Bytes, Bytes>,
    numbers: OrderedMap<i16, [u8; 3]>,
    vector: Vector<[u8; 5]>,
    hashed: Map<u32, u32>,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
const LIMIT: u64 = 256 << 20;

fn create(path: &Path) -> Region {
    let options = RegionOptions::new("test", 0, LIMIT);
    let mut region = Region::create(path, &options, &SCHEMA).unwrap();
    let root = region.transact(|tx| {
        Ok::<_, Failure>(tx.alloc(&State {
            words: OrderedMap::EMPTY,
            numbers: OrderedMap::EMPTY,
            vector: Vector::EMPTY,
            hashed: Map::EMPTY,
        })?)
    });
    region.set_root(root.unwrap().to_ref());
    region.commit().unwrap();
    region
}

fn with<R>(
    region: &mut Region,
    change: impl FnOnce(&mut State, &mut Tx<'_>) -> Result<R, Failure>,
) -> Result<R, Failure> {
    region.transact(|tx| {
        let root: P<State> = tx.root();
        let mut state = tx.read(root)?;
        let result = change(&mut state, tx)?;
        tx.write(root, &state)?;
        Ok(result)
    })
}

#[derive(Clone, Debug, Default)]
struct Model {
    words: BTreeMap<Vec<u8>, Vec<u8>>,
    numbers: BTreeMap<i16, [u8; 3]>,
    vector: Vec<[u8; 5]>,
}

#[derive(Clone, Debug)]
enum Op {
    /// So many keys from one on.
    Fill(u16, u8),
    Clear(u16, u8),
    PopFirst(u8),
    Push(u16),
    Pop(u16),
    Set(u16, u8),
    Range(u16, u16, bool, bool, u8),
    Abort,
    Commit,
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    let key = 0u16..600;
    prop_oneof![
        6 => (key.clone(), any::<u8>()).prop_map(|(k, n)| Op::Fill(k, n)),
        4 => (key.clone(), any::<u8>()).prop_map(|(k, n)| Op::Clear(k, n)),
        2 => (0u8..60).prop_map(Op::PopFirst),
        3 => (0u16..400).prop_map(Op::Push),
        2 => (0u16..500).prop_map(Op::Pop),
        2 => (any::<u16>(), any::<u8>()).prop_map(|(n, v)| Op::Set(n, v)),
        6 => (key.clone(), key, any::<bool>(), any::<bool>(), any::<u8>())
            .prop_map(|(a, b, down, included, count)| Op::Range(a, b, down, included, count)),
        1 => Just(Op::Abort),
        4 => Just(Op::Commit),
        1 => Just(Op::Reopen),
    ]
}

/// A key of bytes: some in place, some in blocks, many with a beginning in common.
fn word(key: u16) -> Vec<u8> {
    let long = "a key that has a block of its own, ".repeat(usize::from(key % 3));
    format!("{}{long}{key}", key % 7).into_bytes()
}

fn number(key: u16) -> i16 {
    (key as i16).wrapping_mul(1021)
}

fn bounds<T>(a: T, b: T, included: bool) -> (Bound<T>, Bound<T>) {
    match included {
        true => (Bound::Included(a), Bound::Included(b)),
        false => (Bound::Excluded(a), Bound::Excluded(b)),
    }
}

/// What a model's range holds, as `OrderedMap::range` gives it.
fn expected<K: Ord + Clone, V: Clone>(
    model: &BTreeMap<K, V>,
    range: (Bound<&K>, Bound<&K>),
    direction: Direction,
    count: u64,
) -> Vec<(K, V)> {
    let entries = model.range((range.0.cloned(), range.1.cloned()));
    let entries = entries.map(|(k, v)| (k.clone(), v.clone()));
    match direction {
        Direction::Up => entries.take(count as usize).collect(),
        Direction::Down => entries.rev().take(count as usize).collect(),
    }
}

fn apply(op: &Op, model: &mut Model, state: &mut State, tx: &mut Tx<'_>) -> Result<(), TxError> {
    match *op {
        Op::Fill(from, count) => {
            for key in from..from + u16::from(count) {
                let value = vec![count; usize::from(key % 40)];
                let stored = Bytes::new(tx, &value)?;
                let old = state.words.insert(tx, &word(key), &stored)?;
                let before = model.words.insert(word(key), value);
                assert_eq!(
                    old.map(|old| old.get(tx).map(<[u8]>::to_vec)).transpose()?,
                    before
                );
                old.map_or(Ok(()), |old| old.free_owned(tx))?;
                let value = [count, key as u8, 7];
                let old = state.numbers.insert(tx, &number(key), &value)?;
                assert_eq!(old, model.numbers.insert(number(key), value));
            }
        }
        Op::Clear(from, count) => {
            for key in from..from + u16::from(count) {
                let old = state.words.remove(tx, &word(key))?;
                let before = model.words.remove(&word(key));
                assert_eq!(
                    old.map(|old| old.get(tx).map(<[u8]>::to_vec)).transpose()?,
                    before
                );
                old.map_or(Ok(()), |old| old.free_owned(tx))?;
                let old = state.numbers.remove(tx, &number(key))?;
                assert_eq!(old, model.numbers.remove(&number(key)));
            }
        }
        Op::PopFirst(count) => {
            for _ in 0..count {
                let popped = state.words.pop_first(tx)?;
                let before = model.words.pop_first();
                let bytes = match &popped {
                    Some((key, value)) => Some((key.get(tx)?.to_vec(), value.get(tx)?.to_vec())),
                    None => None,
                };
                assert_eq!(bytes, before);
                if let Some((key, value)) = popped {
                    key.free_owned(tx)?;
                    value.free_owned(tx)?;
                }
                assert_eq!(state.numbers.pop_first(tx)?, model.numbers.pop_first());
            }
        }
        Op::Push(count) => {
            for n in 0..count {
                let value = [1, 2, 3, n as u8, model.vector.len() as u8];
                state.vector.push(tx, &value)?;
                model.vector.push(value);
            }
        }
        Op::Pop(count) => {
            if count % 2 == 0 {
                let len = model.vector.len().saturating_sub(count.into());
                while !state.vector.truncate_some(tx, len as u64, 50)? {}
                model.vector.truncate(len);
            } else {
                for _ in 0..count {
                    assert_eq!(state.vector.pop(tx)?, model.vector.pop());
                }
            }
        }
        Op::Set(at, value) => {
            let at = usize::from(at) % (model.vector.len() + 1);
            let old = state.vector.set(tx, at as u64, &[value; 5])?;
            let place = model.vector.get_mut(at);
            assert_eq!(old, place.map(|place| std::mem::replace(place, [value; 5])));
        }
        Op::Range(a, b, down, included, count) => {
            let direction = if down { Direction::Down } else { Direction::Up };
            let count = u64::from(count);
            let (x, y) = (word(a).min(word(b)), word(a).max(word(b)));
            if x == y {
                return Ok(());
            }
            let mut found = Vec::new();
            let range = bounds(x.as_slice(), y.as_slice(), included);
            let seen = state
                .words
                .range(tx, range, direction, count, |tx, key, value| {
                    found.push((key.get(tx)?.to_vec(), value.get(tx)?.to_vec()));
                    Ok::<_, TxError>(())
                })?;
            assert_eq!(
                found,
                expected(&model.words, bounds(&x, &y, included), direction, count)
            );
            assert_eq!(seen, found.len() as u64);
            let (x, y) = (number(a).min(number(b)), number(a).max(number(b)));
            let mut found = Vec::new();
            let range = bounds(&x, &y, included);
            state
                .numbers
                .range(tx, range, direction, count, |_, key, value| {
                    found.push((key, value));
                    Ok::<_, TxError>(())
                })?;
            assert_eq!(found, expected(&model.numbers, range, direction, count));
            let mut found = Vec::new();
            state
                .vector
                .range(tx, a.into()..b.into(), |_, number, value| {
                    assert_eq!(number, u64::from(a) + found.len() as u64);
                    found.push(value);
                    Ok::<_, TxError>(())
                })?;
            let end = usize::from(b).min(model.vector.len());
            assert_eq!(
                found,
                model.vector.get(usize::from(a)..end).unwrap_or_default()
            );
        }
        Op::Abort | Op::Commit | Op::Reopen => {}
    }
    Ok(())
}

fn check(model: &Model, region: &mut Region) {
    with(region, |state, tx| {
        state.words.nodes(tx);
        state.numbers.nodes(tx);
        let mut words = Vec::new();
        state
            .words
            .range(tx, .., Direction::Up, u64::MAX, |tx, key, value| {
                words.push((key.get(tx)?.to_vec(), value.get(tx)?.to_vec()));
                Ok::<_, TxError>(())
            })?;
        assert!(words.iter().map(|(k, v)| (k, v)).eq(&model.words));
        let mut numbers = Vec::new();
        state
            .numbers
            .range(tx, .., Direction::Down, u64::MAX, |_, key, value| {
                numbers.push((key, value));
                Ok::<_, TxError>(())
            })?;
        assert!(
            numbers
                .iter()
                .map(|(k, v)| (k, v))
                .eq(model.numbers.iter().rev())
        );
        for (key, value) in &model.numbers {
            assert_eq!(state.numbers.get(tx, key)?, Some(*value));
        }
        let last = model.numbers.last_key_value().map(|(k, v)| (*k, *v));
        assert_eq!(state.numbers.last(tx)?, last);
        let first = model.numbers.first_key_value().map(|(k, v)| (*k, *v));
        assert_eq!(state.numbers.first(tx)?, first);
        assert_eq!(state.vector.len(), model.vector.len() as u64);
        for (n, value) in (0..).zip(&model.vector) {
            assert_eq!(state.vector.get(tx, n)?, Some(*value));
        }
        assert_eq!(state.vector.get(tx, state.vector.len())?, None);
        Ok(())
    })
    .unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn the_collections_are_those_of_the_standard_library(
        ops in prop::collection::vec(op(), 1..80),
        whole in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region");
        let mut region = create(&path);
        let mut model = Model::default();
        let mut batch: Vec<Op> = Vec::new();
        for op in ops {
            match op {
                Op::Commit | Op::Abort => {
                    let commit = matches!(op, Op::Commit);
                    let mut draft = model.clone();
                    let done = with(&mut region, |state, tx| {
                        for op in batch.drain(..) {
                            apply(&op, &mut draft, state, tx)?;
                        }
                        if commit { Ok(()) } else { Err(Failure::AskedFor) }
                    });
                    prop_assert_eq!(done.is_ok(), commit, "{:?}", done);
                    if commit {
                        model = draft;
                    }
                    check(&model, &mut region);
                }
                Op::Reopen => {
                    batch.clear();
                    drop(region);
                    region = Region::open(&path, &RegionOptions::new("test", 0, LIMIT), Some(State::FINGERPRINT))
                        .unwrap();
                    check(&model, &mut region);
                }
                op => batch.push(op),
            }
        }
        // Emptied, at once or in steps, it leaves the root alone.
        if whole {
            with(&mut region, |state, tx| {
                state.words.free_owned(tx)?;
                state.numbers.free_owned(tx)?;
                state.vector.free_owned(tx)?;
                (state.words, state.numbers) = (OrderedMap::EMPTY, OrderedMap::EMPTY);
                state.vector = Vector::EMPTY;
                Ok(())
            }).unwrap();
        } else {
            while !with(&mut region, |state, tx| {
                Ok(state.words.clear_some(tx, 100)? & state.numbers.clear_some(tx, 100)?
                    & state.vector.truncate_some(tx, 0, 100)?)
            }).unwrap() {}
        }
        prop_assert_eq!(region.stats().live_objects, 1);
    }

    /// One word of a node or of a header is another: every operation ends.
    #[test]
    fn a_damaged_collection_is_an_error_or_harmless(
        count in 1u16..700,
        at in any::<[prop::sample::Index; 2]>(),
        place in any::<usize>(),
        wrong in prop_oneof![any::<u64>(), 0u64..700, Just(0)],
        how in 0u8..4,
        header in any::<[bool; 3]>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut region = create(&dir.path().join("region"));
        let ops = [Op::Fill(0, 250), Op::Fill(250, 250), Op::Fill(500, 200), Op::Push(700)];
        let left = [Op::Clear(count, 250), Op::Pop(701 - count)];
        let mut model = Model::default();
        for op in ops.iter().chain(&left) {
            with(&mut region, |state, tx| Ok(apply(op, &mut model, state, tx)?)).unwrap();
        }
        for action in 0..10 {
            let done = with(&mut region, |state, tx| {
                let nodes = state.words.nodes(tx);
                let node = at[0].get(&nodes);
                let other = at[1].get(&nodes);
                match how {
                    // Anything; another node's reference; or a header of other numbers.
                    0 => OrderedMap::<Bytes, Bytes>::damage(tx, *node, place, wrong),
                    1 => {
                        let inner = nodes.iter().find(|(_, level)| *level > 0).unwrap_or(node);
                        OrderedMap::<Bytes, Bytes>::damage(tx, *inner, place, other.0.0);
                    }
                    2 => OrderedMap::<Bytes, Bytes>::damage(tx, *node, 0, wrong),
                    _ => {
                        state.words = other_header(&state.words, header, wrong);
                        state.vector = other_header(&state.vector, header, wrong);
                    }
                }
                if how < 3 && !state.vector.is_empty() {
                    state.vector.damage(tx, place as u64, if how == 1 { other.0.0 } else { wrong });
                }
                let words = &mut state.words;
                let results = match action {
                    0 => [words.get(tx, &word(count)).map(drop), words.first(tx).map(drop)],
                    1 => [words.insert(tx, b"4", &Bytes::EMPTY).map(drop), Ok(())],
                    2 => [(0..700).try_for_each(|n| words.remove(tx, &word(n)).map(drop)), Ok(())],
                    3 => [words.clear_some(tx, 1000).map(drop), Ok(())],
                    4 => [words.free_owned(tx), Ok(())],
                    5 | 6 => {
                        let direction = if action == 5 { Direction::Up } else { Direction::Down };
                        let ok = |_: &Tx<'_>, _, _| Ok::<_, TxError>(());
                        let seen = words.range(tx, .., direction, u64::MAX, ok);
                        [seen.map(drop), Ok(())]
                    }
                    7 => [state.vector.get(tx, count.into()).map(drop), state.vector.pop(tx).map(drop)],
                    8 => [state.vector.push(tx, &[1; 5]), state.vector.truncate_some(tx, 0, 1000).map(drop)],
                    _ => [(700..900).try_for_each(|n| words.insert(tx, &word(n), &Bytes::EMPTY).map(drop)), Ok(())],
                };
                for result in results {
                    assert!(
                        matches!(
                            result,
                            Ok(())
                                | Err(TxError::Invalid
                                    | TxError::BadRef
                                    | TxError::Full
                                    | TxError::TooLarge)
                        ),
                        "{result:?}"
                    );
                }
                Err::<(), _>(Failure::AskedFor)
            });
            prop_assert!(matches!(done, Err(Failure::AskedFor)), "{:?}", done);
        }
        check(&model, &mut region);
    }
}

/// A header with some of its words replaced.
fn other_header<T: Pmem>(header: &T, which: [bool; 3], wrong: u64) -> T {
    let mut bytes = crate::as_bytes(header).to_vec();
    for (word, _) in bytes
        .chunks_exact_mut(8)
        .zip(which)
        .filter(|(_, which)| *which)
    {
        word.copy_from_slice(&wrong.to_le_bytes());
    }
    crate::from_bytes(&bytes).unwrap()
}

/// The most that any of some operations did.
fn most(
    region: &mut Region,
    ops: impl Iterator<Item = u32>,
    mut op: impl FnMut(&mut State, &mut Tx<'_>, u32) -> Result<(), TxError>,
) -> Work {
    let mut most = Work::default();
    for n in ops {
        let work = with(region, |state, tx| {
            work::take();
            op(state, tx, n)?;
            Ok(work::take())
        });
        let work = work.unwrap_or_else(|error| panic!("{n}: {error}"));
        most.reads = most.reads.max(work.reads);
        most.words = most.words.max(work.words);
        most.made = most.made.max(work.made);
        most.freed = most.freed.max(work.freed);
    }
    most
}

/// Spreads numbers all over.
fn spread(n: u32) -> u32 {
    n.wrapping_mul(0x9E37_79B1)
}

#[test]
fn a_deep_ordered_map_stays_balanced_whatever_comes_and_goes() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = create(&dir.path().join("region"));
    let mut model = BTreeMap::new();
    let count = 4000;
    // Up, down, and all over: twice, the second time in what is left of the first.
    let ways: [fn(u32) -> u32; 3] = [|n| n, |n| 3999 - n, |n| spread(n) % 4000];
    for (round, (enter, leave)) in ways.iter().flat_map(|a| ways.map(|b| (a, b))).enumerate() {
        for step in 0..2 * count {
            let (n, inserts) = (step % count, step < count);
            let key = if inserts { enter(n) } else { leave(n) }.to_be_bytes();
            // Something stays after each round but the last.
            if !inserts && round < 8 && n % 7 == 0 {
                continue;
            }
            with(&mut region, |state, tx| {
                if inserts {
                    let before = state.words.insert(tx, &key, &Bytes::EMPTY)?;
                    assert_eq!(before.is_some(), model.insert(key, ()).is_some());
                } else {
                    let before = state.words.remove(tx, &key)?;
                    assert_eq!(before.is_some(), model.remove(&key).is_some());
                }
                if n % 97 == 0 || n == count - 1 {
                    state.words.nodes(tx);
                    assert_eq!(state.words.len(), model.len() as u64);
                }
                Ok(())
            })
            .unwrap();
        }
    }
    let left = with(&mut region, |state, tx| {
        let mut keys = Vec::new();
        state.words.range(
            tx,
            (Bound::<&[u8]>::Unbounded, Bound::Unbounded),
            Direction::Up,
            u64::MAX,
            |tx, key, _| {
                keys.push(key.get(tx)?.to_vec());
                Ok::<_, Failure>(())
            },
        )?;
        Ok(keys)
    });
    assert!(left.unwrap().iter().eq(model.keys()));
}

#[test]
fn an_entry_that_goes_and_comes_back_changes_its_leaf_alone() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = create(&dir.path().join("region"));
    for n in 0..3000u32 {
        let filled = with(&mut region, |state, tx| {
            Ok(state.words.insert(tx, &n.to_be_bytes(), &Bytes::EMPTY)?)
        });
        filled.unwrap();
    }
    let work = most(&mut region, 0..3000, |state, tx, n| {
        state.words.remove(tx, &n.to_be_bytes())?;
        state.words.insert(tx, &n.to_be_bytes(), &Bytes::EMPTY)?;
        Ok(())
    });
    assert_eq!((work.made, work.freed), (0, 0), "{work:?}");
}

#[test]
fn the_work_of_an_operation_depends_on_the_depth_alone() {
    super::FIXED_KEY.set(Some([1, 2]));
    for (entries, levels) in [(10u32, 1u64), (1000, 3), (100_000, 6)] {
        let dir = tempfile::tempdir().unwrap();
        let mut region = create(&dir.path().join("region"));
        let key = |n: u32| spread(n).to_be_bytes();
        let mut worst = Work::default();
        let mut all = |what: &str, work: Work, limit: Work| {
            println!("{entries} entries, {what}: {work:?}");
            let within = work.reads <= limit.reads
                && work.words <= limit.words
                && work.made <= limit.made
                && work.freed <= limit.freed;
            assert!(within, "{entries} entries, {what}: {work:?}, not {limit:?}");
            worst = work;
        };
        // Of a node: its order twice over, four keys, a child; a split or a join copies all
        // that is in one.
        let tree = Work {
            reads: 60 + 60 * levels,
            words: 140 + 90 * levels,
            made: 2 + 2 * levels,
            freed: 2 + 2 * levels,
        };
        let insert = most(&mut region, 0..entries, |state, tx, n| {
            state.words.insert(tx, &key(n), &Bytes::EMPTY).map(drop)
        });
        all("ordered insert", insert, tree);
        let depth = with(&mut region, |state, _| Ok(state.words.depth())).unwrap();
        assert!(
            depth < levels,
            "{entries} entries have {depth} levels above them"
        );
        let get = most(&mut region, 0..entries.min(2000), |state, tx, n| {
            state.words.get(tx, &key(n)).map(drop)
        });
        all(
            "ordered get",
            get,
            Work {
                reads: 8 * levels,
                ..Work::default()
            },
        );
        let range = most(&mut region, 0..entries.min(2000), |state, tx, n| {
            let from = key(n);
            let from = (Bound::Included(from.as_slice()), Bound::Unbounded);
            state
                .words
                .range(tx, from, Direction::Up, 10, |_, _, _| Ok(()))
                .map(drop)
        });
        all(
            "ordered range of 10",
            range,
            Work {
                reads: 24 + 12 * levels,
                ..Work::default()
            },
        );
        let remove = most(&mut region, 0..entries, |state, tx, n| {
            state.words.remove(tx, &key(n)).map(drop)
        });
        all("ordered remove", remove, tree);

        // A page of 64 elements of 5 bytes, and a reference at each level.
        let vector = Work {
            reads: 8 + levels,
            words: 48 + levels,
            made: 1 + levels,
            freed: levels,
        };
        let push = most(&mut region, 0..entries, |state, tx, _| {
            state.vector.push(tx, &[7; 5])
        });
        all("vector push", push, vector);
        let set = most(&mut region, 0..entries.min(2000), |state, tx, n| {
            state.vector.set(tx, n.into(), &[8; 5]).map(drop)
        });
        all(
            "vector set",
            set,
            Work {
                reads: 4 + levels,
                words: 2,
                ..Work::default()
            },
        );
        let range = most(&mut region, 0..entries.min(2000), |state, tx, n| {
            let from = u64::from(n);
            state
                .vector
                .range(tx, from..from + 10, |_, _, _| Ok::<_, TxError>(()))
                .map(drop)
        });
        let limit = Work {
            reads: 10 + 2 * (4 + levels),
            ..Work::default()
        };
        all("vector range of 10", range, limit);
        let pop = most(&mut region, 0..entries, |state, tx, _| {
            state.vector.pop(tx).map(drop)
        });
        let limit = Work {
            reads: 4 + 2 * levels,
            words: levels,
            made: 0,
            freed: 1 + levels,
        };
        all("vector pop", pop, limit);

        // The longest chain of a hundred thousand keys in as many buckets: a dozen.
        let map = Work {
            reads: 70 + levels * 12,
            words: 40,
            made: 5,
            freed: 5,
        };
        let insert = most(&mut region, 0..entries, |state, tx, n| {
            state.hashed.insert(tx, &n, &n).map(drop)
        });
        // The first page of the table is 512 words, written by nobody.
        all("map insert", insert, map);
        // A bucket's page, and of each node of its chain the hash and the next one.
        let chain = 2 * 14;
        let get = most(&mut region, 0..entries.min(20_000), |state, tx, n| {
            assert_eq!(state.hashed.get(tx, &n)?, Some(n));
            Ok(())
        });
        let limit = Work {
            reads: 4 + levels + chain,
            ..Work::default()
        };
        all("map get", get, limit);
        let mut cursor = 0;
        let scan = most(&mut region, 0..2000, |state, tx, _| {
            cursor = state
                .hashed
                .scan(tx, cursor, 10, |_, _| Ok::<_, TxError>(()))?;
            Ok(())
        });
        let limit = Work {
            reads: 10 * (1 + levels) + 3 * chain,
            ..Work::default()
        };
        all("map scan of 10 buckets", scan, limit);
        let remove = most(&mut region, 0..entries, |state, tx, n| {
            state.hashed.remove(tx, &n).map(drop)
        });
        all("map remove", remove, map);
        let scan = most(&mut region, 0..1, |state, tx, _| {
            assert_eq!(
                state.hashed.scan(tx, 0, 10, |_, _| Ok::<_, TxError>(()))?,
                0
            );
            Ok(())
        });
        all(
            "emptied map's scan",
            scan,
            Work {
                reads: 40,
                ..Work::default()
            },
        );
        assert!(
            region.stats().live_objects <= 4,
            "{}",
            region.stats().live_objects
        );
    }
}

#[test]
fn bytes_are_one_block_at_any_length() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = create(&dir.path().join("region"));
    for len in [0usize, 1, 19, 20, 21, 100, 4096, 100_000] {
        let bytes = vec![7; len];
        let work = with(&mut region, |_, tx| {
            work::take();
            let stored = Bytes::new(tx, &bytes)?;
            let made = work::take();
            assert_eq!(stored.get(tx)?, bytes);
            let got = work::take();
            stored.free_owned(tx)?;
            Ok((made, got, work::take()))
        });
        let (made, got, freed) = work.unwrap();
        let block = u64::from(len > 20);
        assert_eq!((made.made, freed.freed), (block, block), "{len}");
        assert!(
            made.words <= block * (len as u64).div_ceil(8),
            "{len}: {made:?}"
        );
        assert_eq!((made.reads, got), (0, Work::default()), "{len}");
        assert_eq!((freed.reads, freed.words, freed.made), (0, 0, 0), "{len}");
    }
    assert_eq!(region.stats().live_objects, 1);
}

#[test]
fn a_vector_grows_and_shrinks_through_its_depths() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = create(&dir.path().join("region"));
    let end = 64 * 64 * 3 + 70;
    let value = |n: u64| [n as u8, (n >> 8) as u8, (n >> 16) as u8, 0, 9];
    for round in 0..2 {
        for from in (0..end).step_by(100) {
            with(&mut region, |state, tx| {
                let to = end.min(from + 100);
                (from..to).try_for_each(|n| Ok(state.vector.push(tx, &value(n))?))
            })
            .unwrap();
        }
        with(&mut region, |state, tx| {
            for n in 0..end {
                assert_eq!(state.vector.get(tx, n)?, Some(value(n)));
            }
            Ok(())
        })
        .unwrap();
        for n in (0..end).rev() {
            let popped = with(&mut region, |state, tx| Ok(state.vector.pop(tx)?))
                .unwrap_or_else(|error| panic!("round {round}, {n}: {error}"));
            assert_eq!(popped, Some(value(n)));
        }
        assert_eq!(region.stats().live_objects, 1);
    }
}
