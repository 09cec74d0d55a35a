//! The region against a model: the standard library's map.

use std::collections::HashMap;
use std::path::Path;

use proptest::prelude::*;

use super::{OpenError, Region, RegionOptions};
use crate::campaign::state::{SCHEMA, State, init, key, remove, set, value, with};
use crate::failure::Failure;
use crate::{Map, P, Pmem, Tx, TxError};

pub(super) fn options() -> RegionOptions {
    RegionOptions::new("test", 0, 64 << 20)
}

pub(super) fn create(path: &Path) -> Region {
    let mut region = Region::create(path, &options(), &SCHEMA).unwrap();
    init(&mut region);
    region
}

pub(super) fn open(path: &Path) -> Result<Region, OpenError> {
    Region::open(
        path,
        &RegionOptions::new("test", 0, 64 << 20),
        Some(State::FINGERPRINT),
    )
}

pub(super) type Model = HashMap<Vec<u8>, Vec<u8>>;

/// All entries, by a scan.
pub(super) fn contents<M: super::Media>(region: &mut Region<M>) -> Model {
    with(region, |state, tx| {
        let mut found = Model::new();
        let mut cursor = 0;
        loop {
            cursor = state.map.scan(tx, cursor, 7, |tx, slot| {
                let (key, value) = (slot.key(tx)?, slot.value(tx)?);
                found.insert(key.get(tx)?.to_vec(), value.get(tx)?.to_vec());
                Ok::<(), Failure>(())
            })?;
            if cursor == 0 {
                assert_eq!(found.len() as u64, state.map.len());
                return Ok(found);
            }
        }
    })
    .unwrap()
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    Set(u8, u16),
    Remove(u8),
    Abort,
    Commit,
    Reopen,
}

pub(super) fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (any::<u8>(), prop_oneof![0u16..40, 0u16..5000]).prop_map(|(k, l)| Op::Set(k, l)),
        3 => any::<u8>().prop_map(Op::Remove),
        1 => Just(Op::Abort),
        4 => Just(Op::Commit),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn a_region_is_a_map_with_transactions(ops in prop::collection::vec(op(), 1..150)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("region");
        let mut region = create(&path);
        let mut model = Model::new();
        let mut batch: Vec<Op> = Vec::new();
        for op in ops {
            match op {
                Op::Set(..) | Op::Remove(_) => batch.push(op),
                Op::Commit | Op::Abort => {
                    let commit = matches!(op, Op::Commit);
                    let done = with(&mut region, |state, tx| {
                        for op in &batch {
                            match *op {
                                Op::Set(k, len) => set(state, tx, key(k), &value(k, len))?,
                                Op::Remove(k) => drop(remove(state, tx, key(k))?),
                                _ => unreachable!(),
                            }
                        }
                        if commit { Ok(()) } else { Err(Failure::AskedFor) }
                    });
                    prop_assert_eq!(done.is_ok(), commit);
                    for op in batch.drain(..) {
                        match op {
                            Op::Set(k, len) if commit => { model.insert(key(k).to_vec(), value(k, len)); }
                            Op::Remove(k) if commit => { model.remove(key(k)); }
                            _ => {}
                        }
                    }
                }
                Op::Reopen => {
                    batch.clear();
                    drop(region);
                    region = open(&path).unwrap();
                }
            }
        }
        prop_assert_eq!(contents(&mut region), model.clone());
        // An emptied region holds its root and the table's pages, and nothing else.
        for key in model.keys() {
            with(&mut region, |state, tx| remove(state, tx, key)).unwrap();
        }
        prop_assert!(region.stats().live_objects <= 2);
        region.close().unwrap();
        prop_assert_eq!(contents(&mut open(&path).unwrap()), Model::new());
    }
}

#[test]
fn a_large_map_grows_and_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = create(&path);
    for n in 0..20_000u32 {
        with(&mut region, |state, tx| {
            Ok(state.numbers.insert(tx, &n, &(n * 3))?)
        })
        .unwrap();
    }
    drop(region);
    let mut region = open(&path).unwrap();
    with(&mut region, |state, tx| {
        assert_eq!(state.numbers.len(), 20_000);
        for n in 0..20_000 {
            assert_eq!(state.numbers.get(tx, &n)?, Some(n * 3));
        }
        assert_eq!(state.numbers.get(tx, &20_000)?, None);
        Ok(())
    })
    .unwrap();
    // Clearing is a matter of bitmaps.
    with(&mut region, |state, tx| {
        state.numbers.free_owned(tx)?;
        state.numbers = Map::EMPTY;
        Ok(())
    })
    .unwrap();
    assert_eq!(region.stats().live_objects, 1);
}

#[test]
fn a_second_owner_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let region = create(&path);
    assert!(matches!(open(&path), Err(OpenError::Busy { .. })));
    drop(region);
    let other = Region::open(&path, &RegionOptions::new("other", 0, 64 << 20), None);
    assert!(matches!(other, Err(OpenError::Owner { .. })));
    let other = Region::open(
        &path,
        &RegionOptions::new("test", 0, 64 << 20),
        Some([7; 16]),
    );
    assert!(matches!(other, Err(OpenError::Schema { .. })));
    open(&path).unwrap();
}

#[test]
fn the_limit_is_an_error_and_leaves_the_state() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = Region::create(
        &path,
        &RegionOptions {
            limit: 4 << 20,
            ..options()
        },
        &SCHEMA,
    )
    .unwrap();
    init(&mut region);
    let mut written = 0u32;
    let error = loop {
        let name = written.to_le_bytes();
        match with(&mut region, |state, tx| set(state, tx, &name, &[7; 9000])) {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Failure::Tx(TxError::Full)), "{error}");
    assert!(written > 100);
    assert_eq!(contents(&mut region).len() as u32, written);
    // What is removed makes room again, after the quarantine.
    for n in 0..5u32 {
        with(&mut region, |state, tx| remove(state, tx, &n.to_le_bytes())).unwrap();
    }
    with(&mut region, |state, tx| {
        set(state, tx, b"again", &[8; 9000])
    })
    .unwrap();
}

/// Fills a region of 4 MiB with values; how many there were room for.
fn fill_up(region: &mut Region) -> u32 {
    for n in 0.. {
        let filled = with(region, |state, tx| {
            set(state, tx, &u32::to_le_bytes(n), &[7; 9000])
        });
        if filled.is_err() {
            return n;
        }
    }
    unreachable!("there is a limit")
}

#[test]
fn an_opened_region_uses_all_room_before_it_is_full() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let options = RegionOptions {
        limit: 4 << 20,
        ..options()
    };
    let mut region = Region::create(&path, &options, &SCHEMA).unwrap();
    init(&mut region);
    let full = fill_up(&mut region);
    let removed = 20;
    for n in 0..removed {
        with(&mut region, |state, tx| {
            remove(state, tx, &u32::to_le_bytes(n))
        })
        .unwrap();
    }
    drop(region);
    let mut region = Region::open(&path, &options, None).unwrap();
    let unknown = region.inner().space.unknown();
    assert!(
        unknown > 20,
        "{unknown} segments whose bitmaps were not read"
    );
    // The places are in the first segments, whose bitmaps are read when nothing else is left.
    for n in 0..removed {
        let name = u32::to_le_bytes(full + n);
        with(&mut region, |state, tx| set(state, tx, &name, &[8; 9000])).unwrap();
    }
    assert_eq!(contents(&mut region).len() as u32, full);
    assert_eq!(region.inner().space.unknown(), 0);
}

#[test]
fn an_allocation_reads_a_few_bitmaps_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = create(&path);
    for n in 0..400u32 {
        with(&mut region, |state, tx| {
            set(state, tx, &n.to_le_bytes(), &[7; 9000])
        })
        .unwrap();
    }
    drop(region);
    let mut region = open(&path).unwrap();
    let before = region.inner().space.unknown();
    // Of a size that nothing else has: no bitmap read so far has room.
    with(&mut region, |state, tx| set(state, tx, b"new", &[8; 3000])).unwrap();
    let after = region.inner().space.unknown();
    assert!(before > 40 && after > before - 20, "{before}, then {after}");
}

#[test]
fn a_dummy_answers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = create(&dir.path().join("region"));
    let handle = crate::Handle::new();
    region.attach(&handle);
    let root = P::<State>::from_ref(region.root());
    // SAFETY: the handle lives, and nothing else uses the region.
    let tx = unsafe { Tx::new(handle.slot()) };
    assert!(tx.read(root).is_ok());
    region.detach();
    assert!(handle.is_dummy());
    assert_eq!(tx.read(root).err(), Some(TxError::Dummy));
}

#[test]
fn any_flipped_bit_of_the_metadata_is_found_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let mut region = create(&path);
    for n in 0..40 {
        with(&mut region, |state, tx| {
            set(state, tx, key(n), &value(n, 100))
        })
        .unwrap();
    }
    let model = contents(&mut region);
    drop(region);
    let original = std::fs::read(&path).unwrap();
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let pages = [
        0..512,
        4096..4096 + 256,
        8192..8192 + 256,
        12288..12288 + 512,
    ];
    for at in pages.into_iter().flatten() {
        for bit in 0..8 {
            file.write_all_at(&[original[at] ^ 1 << bit], at as u64)
                .unwrap();
            match open(&path) {
                Ok(mut region) => assert_eq!(contents(&mut region), model, "byte {at} bit {bit}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
            file.write_all_at(&original, 0).unwrap();
        }
    }
}

#[test]
fn any_truncation_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let region = create(&path);
    region.close().unwrap();
    let original = std::fs::read(&path).unwrap();
    for len in (0..original.len()).step_by(4096).chain([1, 511, 513]) {
        std::fs::write(&path, &original[..len]).unwrap();
        let error = open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Format { .. }), "{len}: {error}");
    }
}

#[test]
fn a_map_is_freed_in_steps() {
    let dir = tempfile::tempdir().unwrap();
    let mut region = create(&dir.path().join("region"));
    let empty = region.stats().live_objects;
    let key = |i: u32| format!("key {i} with a name of some length");
    for round in 0..2 {
        for from in (0..3000).step_by(300) {
            with(&mut region, |state, tx| {
                (from..from + 300).try_for_each(|i| set(state, tx, key(i).as_bytes(), &[7; 50]))
            })
            .unwrap();
        }
        // Half of it: what is left is found, and the map can grow again.
        for _ in 0..3 {
            with(&mut region, |state, tx| {
                Ok(state.map.clear_some(tx, 500)?)
            })
            .unwrap();
        }
        let left = contents(&mut region);
        assert!(
            !left.is_empty() && left.len() < 3000,
            "round {round}: {}",
            left.len()
        );
        with(&mut region, |state, tx| {
            for key in left.keys() {
                assert!(state.map.get(tx, key)?.is_some());
            }
            (0..300).try_for_each(|i| set(state, tx, key(i).as_bytes(), b"again"))
        })
        .unwrap();
        contents(&mut region);
        while !with(&mut region, |state, tx| {
            Ok(state.map.clear_some(tx, 700)?)
        })
        .unwrap()
        {}
        assert_eq!(region.stats().live_objects, empty);
        assert!(contents(&mut region).is_empty());
    }
}

#[test]
fn a_limit_that_is_no_number_of_pages_is_rounded_down() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let limit = (4 << 20) + 1000;
    let region = Region::create(
        &path,
        &RegionOptions {
            limit,
            initial: limit,
            ..options()
        },
        &SCHEMA,
    );
    region.unwrap().close().unwrap();
    Region::open(&path, &RegionOptions::new("test", 0, limit), None).unwrap();
}

#[test]
fn a_full_transaction_is_refused_or_survives() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    for spare in 0..20 {
        let mut region = create(&path);
        let before = region.root();
        let block = region.transact(|tx| Ok::<_, Failure>(tx.alloc_bytes(&[1; 16384 * 8])?));
        let block = block.unwrap();
        let handle = region.inner().handle.clone().unwrap();
        // SAFETY: attached by `transact`.
        let mut tx = unsafe { Tx::new(handle.slot()) };
        // A record holds 16380 pairs.
        let full = (0..16380 - spare)
            .try_for_each(|word| tx.write_at(block, super::RAW, word * 8, &(word << 8)));
        assert_eq!(full, Ok(()));
        let new = tx.alloc_untyped(77, 8).unwrap_or(before);
        let _ = tx.write_at(block, super::RAW, 16381 * 8, &7u64);
        region.set_root(new.max(crate::Ref::new(1, 1)));
        let root = if region.commit().is_ok() {
            region.root()
        } else {
            before
        };
        assert_eq!(region.root(), root);
        drop(region);
        let region = open(&path).unwrap();
        assert_eq!(region.root(), root, "{spare} words to spare");
        drop(region);
        std::fs::remove_file(&path).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Between any two calls of a scan, the table grows and shrinks.
    #[test]
    fn a_scan_visits_what_stays_exactly_once(
        kept in 1u32..60,
        at_first in 0u32..3000,
        steps in prop::collection::vec((any::<bool>(), 0u32..1200, 1u64..40), 1..60),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut region = create(&dir.path().join("region"));
        let kept = 1_000_000..1_000_000 + kept;
        let mut others = at_first;
        with(&mut region, |state, tx| {
            for n in kept.clone().chain(0..others) {
                state.numbers.insert(tx, &n, &n)?;
            }
            Ok(())
        }).unwrap();
        let mut seen: HashMap<u32, u32> = HashMap::new();
        let mut cursor = 0;
        for (grow, by, count) in steps.iter().cycle() {
            cursor = with(&mut region, |state, tx| {
                let next = state.numbers.scan(tx, cursor, *count, |tx, slot| {
                    *seen.entry(slot.key(tx)?).or_default() += 1;
                    Ok::<_, Failure>(())
                })?;
                if *grow {
                    for n in others..(others + by).min(4000) {
                        state.numbers.insert(tx, &n, &n)?;
                    }
                    others = (others + by).min(4000);
                } else {
                    let left = others.saturating_sub(*by);
                    for n in left..others {
                        state.numbers.remove(tx, &n)?;
                    }
                    others = left;
                }
                Ok(next)
            }).unwrap();
            if cursor == 0 {
                break;
            }
        }
        for n in kept.clone() {
            prop_assert_eq!(seen.get(&n), Some(&1), "{}", n);
        }
        with(&mut region, |state, tx| {
            assert_eq!(state.numbers.len(), u64::from(others + kept.end - kept.start));
            for n in kept.clone().chain(0..others) {
                assert_eq!(state.numbers.get(tx, &n)?, Some(n));
            }
            for n in kept.chain(0..others) {
                assert_eq!(state.numbers.remove(tx, &n)?, Some(n));
            }
            Ok(())
        }).unwrap();
        // The emptied table is one page.
        prop_assert!(region.stats().live_objects <= 2 + 1);
    }
}
