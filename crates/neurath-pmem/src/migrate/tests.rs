use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;

use super::plan::Part;
use super::*;
use crate::collections::Direction;
use crate::failure::Failure;
use crate::region::FormatError;
use crate::schema::{SchemaDesc, encode, encoded_len};
use crate::{Bytes, Map, OrderedMap, P, Pmem, Tx, TxError, Vector};

pub(super) mod old {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(C)]
    pub(in crate::migrate) struct Item {
        pub(in crate::migrate) a: u32,
        pub(in crate::migrate) b: u32,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(in crate::migrate) struct State {
        pub(in crate::migrate) items: Map<u32, Item>,
        pub(in crate::migrate) blobs: Map<Bytes, Bytes>,
        pub(in crate::migrate) gone: Map<u64, u64>,
        pub(in crate::migrate) count: u64,
    }
    pub(in crate::migrate) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

pub(super) mod new {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(C)]
    pub(in crate::migrate) struct Item {
        pub(in crate::migrate) a: u64,
        pub(in crate::migrate) b: u32,
        pub(in crate::migrate) c: u32,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(in crate::migrate) struct State {
        pub(in crate::migrate) count: u64,
        pub(in crate::migrate) added: u64,
        pub(in crate::migrate) items: Map<u32, Item>,
        pub(in crate::migrate) blobs: Map<Bytes, Bytes>,
    }
    pub(in crate::migrate) const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
}

const LIMIT: u64 = 256 << 20;

pub(super) fn options() -> RegionOptions {
    RegionOptions::new("test", 0, LIMIT)
}

pub(super) const CONVERSIONS: [Conversion; 2] = [
    Conversion {
        from: old::Item::FINGERPRINT,
        to: new::Item::FINGERPRINT,
    },
    Conversion {
        from: old::State::FINGERPRINT,
        to: new::State::FINGERPRINT,
    },
];

pub(super) fn plan(conversions: &[Conversion]) -> Result<MigrationPlan, PlanError> {
    let old = SchemaDesc::decode(&old::SCHEMA).unwrap();
    MigrationPlan::new(
        &old,
        &SchemaDesc::decode(&new::SCHEMA).unwrap(),
        conversions,
    )
}

fn read<T: Pmem>(bytes: &[u8]) -> T {
    crate::from_bytes(&bytes[..size_of::<T>()]).unwrap()
}

/// Both conversions, as a library's would be.
pub(super) fn convert(index: usize, row: Row<'_>) -> Result<(), String> {
    assert_eq!((row.extra, row.now_ms), ("{}", 7));
    for place in (0..row.count).filter(|place| row.live[place / 64] >> (place % 64) & 1 == 1) {
        let from = &row.old[place * row.old_stride..];
        let to = &mut row.new[place * row.new_stride..];
        if index == 0 {
            let old: old::Item = read(from);
            let new = new::Item {
                a: old.a.into(),
                b: old.b,
                c: old.a ^ old.b,
            };
            to[..size_of::<new::Item>()].copy_from_slice(crate::as_bytes(&new));
        } else {
            let old: old::State = read(from);
            let new = new::State {
                count: old.count,
                added: 99,
                items: old.items.carry_over(),
                blobs: old.blobs,
            };
            to[..size_of::<new::State>()].copy_from_slice(crate::as_bytes(&new));
        }
    }
    Ok(())
}

/// An old region with `count` entries in each map and some holes.
pub(super) fn filled(path: &Path, count: u32) -> Region {
    let mut region = Region::create(path, &options(), &old::SCHEMA).unwrap();
    region.attach(&crate::Handle::new());
    let root = region.transact(|tx| {
        let (items, blobs, gone) = (Map::EMPTY, Map::EMPTY, Map::EMPTY);
        Ok::<_, Failure>(tx.alloc(&old::State {
            items,
            blobs,
            gone,
            count: 0,
        })?)
    });
    region.set_root(root.unwrap().to_ref());
    region.commit().unwrap();
    for n in 0..count {
        let done = region.transact(|tx| {
            let root: P<old::State> = tx.root();
            let mut state = tx.read(root)?;
            state.items.insert(tx, &n, &old::Item { a: n, b: n * 7 })?;
            let blob = Bytes::new(tx, &blob(n))?;
            state.blobs.insert(tx, &n.to_le_bytes(), &blob)?;
            state.gone.insert(tx, &n.into(), &1)?;
            if n % 5 == 4 {
                state.items.remove(tx, &(n - 2))?;
            }
            state.count = n.into();
            Ok::<_, Failure>(tx.write(root, &state)?)
        });
        done.unwrap();
    }
    region
}

pub(super) fn blob(n: u32) -> Vec<u8> {
    (0..n % 300).map(|i| (i * 3 + n) as u8).collect()
}

/// All entries, with the places that they are at.
pub(super) fn entries<V: Pmem>(tx: &Tx<'_>, map: &Map<u32, V>) -> BTreeMap<u32, (u64, V)> {
    let mut found = BTreeMap::new();
    let mut cursor = 0;
    loop {
        cursor = map
            .scan(tx, cursor, 50, |tx, slot| {
                found.insert(slot.key(tx)?, (slot.id(), slot.value(tx)?));
                Ok::<_, TxError>(())
            })
            .unwrap();
        if cursor == 0 {
            return found;
        }
    }
}

/// What an open region has of its file, which may get longer meanwhile: room for what comes is made ready.
fn bytes_of(region: &Region, path: &Path) -> Vec<u8> {
    let mut bytes = std::fs::read(path).unwrap();
    bytes.truncate(region.stats().file_bytes as usize);
    bytes
}

fn convert_all(count: u32) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("1"), dir.path().join("2"));
    let mut before = filled(&from, count);
    let items = before.transact(|tx| {
        let state: old::State = tx.read(tx.root())?;
        Ok::<_, Failure>(entries(tx, &state.items))
    });
    let items = items.unwrap();
    let bytes = bytes_of(&before, &from);
    let source = before.source();
    let plan = plan(&CONVERSIONS).unwrap();
    assert_eq!(plan.fingerprint(), new::State::FINGERPRINT);
    let mut building = plan
        .prepare(&source, &to, &options(), &new::SCHEMA)
        .unwrap();
    building.fill(&source, "{}", 7, &convert).unwrap();
    let after = building.finish().unwrap();
    assert_eq!(after.root(), before.root());
    let untouched = bytes_of(&before, &from) == bytes;
    assert!(untouched, "the old generation is untouched");
    let stats = after.stats();
    drop(after);
    let wanted = Some(new::State::FINGERPRINT);
    let mut after = Region::open(&to, &RegionOptions::new("test", 0, LIMIT), wanted).unwrap();
    assert_eq!(after.stats().live_objects, stats.live_objects);
    let done = after.transact(|tx| {
        let root: P<new::State> = tx.root();
        let mut state = tx.read(root)?;
        assert_eq!((state.count, state.added), (u64::from(count - 1), 99));
        let found = entries(tx, &state.items);
        assert_eq!(found.len(), items.len());
        for (key, (place, old)) in &items {
            let new = new::Item {
                a: old.a.into(),
                b: old.b,
                c: old.a ^ old.b,
            };
            assert_eq!(found[key], (*place, new), "{key}");
            assert_eq!(state.items.get(tx, key)?, Some(new));
        }
        for n in 0..count {
            let bytes = state.blobs.get(tx, &n.to_le_bytes())?.expect("a blob");
            assert_eq!(bytes.get(tx)?, blob(n));
        }
        // It works: what was freed before is used, what is removed is freed.
        for n in 0..count.min(200) {
            let blob = Bytes::new(tx, &[7; 30])?;
            if let Some(old) = state.blobs.insert(tx, &n.to_le_bytes(), &blob)? {
                old.free_owned(tx)?;
            }
            state
                .items
                .insert(tx, &(1_000_000 + n), &new::Item { a: 1, b: 2, c: 3 })?;
        }
        Ok::<_, Failure>(tx.write(root, &state)?)
    });
    done.unwrap();
    // Nothing of the dropped map is left: emptied, only the root lives.
    loop {
        let done = after.transact(|tx| {
            let root: P<new::State> = tx.root();
            let mut state = tx.read(root)?;
            let done = state.items.clear_some(tx, 300)? & state.blobs.clear_some(tx, 300)?;
            tx.write(root, &state)?;
            Ok::<_, Failure>(done)
        });
        if done.unwrap() {
            break;
        }
    }
    assert_eq!(after.stats().live_objects, 1);
}

#[test]
fn objects_of_many_segments_are_converted_in_place() {
    convert_all(9000);
}

#[test]
fn a_few_objects_are_converted_too() {
    for count in [1, 2, 63, 64, 65] {
        convert_all(count);
    }
}

#[test]
fn a_failing_conversion_leaves_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("1"), dir.path().join("2"));
    let old = filled(&from, 500);
    let bytes = bytes_of(&old, &from);
    let source = old.source();
    let plan = plan(&CONVERSIONS).unwrap();
    let mut building = plan
        .clone()
        .prepare(&source, &to, &options(), &new::SCHEMA)
        .unwrap();
    assert!(to.exists());
    let error = building
        .fill(&source, "{}", 7, &|_, _| Err("no".into()))
        .unwrap_err();
    assert!(
        matches!(&error, MigrateError::Failed(why) if why == "no"),
        "{error}"
    );
    drop(building);
    assert!(!to.exists());
    // Nor does one that panics, or has no room.
    let panics = || {
        let mut building = plan
            .clone()
            .prepare(&source, &to, &options(), &new::SCHEMA)
            .unwrap();
        building
            .fill(&source, "{}", 7, &|_, _| panic!("on purpose"))
            .map_err(|_| ())
    };
    let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
    assert!(!matches!(done, Ok(Ok(()))));
    assert!(!to.exists());
    let small = RegionOptions {
        limit: 4 << 20,
        ..options()
    };
    let large = filled(&dir.path().join("3"), 20_000);
    let source = large.source();
    let tight = plan
        .prepare(&source, &to, &small, &new::SCHEMA)
        .and_then(|mut building| building.fill(&source, "{}", 7, &convert));
    assert!(
        matches!(tight, Err(MigrateError::Limit { .. })),
        "{tight:?}"
    );
    assert!(!to.exists());
    assert!(bytes_of(&old, &from) == bytes);
}

#[test]
fn a_generation_that_was_never_finished_is_no_region() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("1"), dir.path().join("2"));
    let old = filled(&from, 100);
    let source = old.source();
    let plan = plan(&CONVERSIONS).unwrap();
    let mut building = plan
        .prepare(&source, &to, &options(), &new::SCHEMA)
        .unwrap();
    for _ in 0..2 {
        // As if the process had died here.
        let copy = dir.path().join("copy");
        std::fs::copy(&to, &copy).unwrap();
        let error = Region::open(&copy, &RegionOptions::new("test", 0, LIMIT), None).unwrap_err();
        assert!(matches!(error, OpenError::Format { .. }), "{error}");
        building.fill(&source, "{}", 7, &convert).unwrap();
    }
    drop(building.finish().unwrap());
    Region::open(&to, &RegionOptions::new("test", 0, LIMIT), None).unwrap();
}

#[test]
fn objects_of_another_size_than_their_type_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("1"), dir.path().join("2"));
    let mut old = Region::create(&from, &options(), &old::SCHEMA).unwrap();
    // An object of the root's type, but shorter.
    let root = old.transact(|tx| Ok::<_, Failure>(tx.alloc_untyped(old::State::TYPE_ID, 8)?));
    old.set_root(root.unwrap());
    old.commit().unwrap();
    let source = old.source();
    let plan = plan(&CONVERSIONS).unwrap();
    let done = plan
        .prepare(&source, &to, &options(), &new::SCHEMA)
        .and_then(|mut building| building.fill(&source, "{}", 7, &convert));
    assert!(
        matches!(done, Err(MigrateError::Format(FormatError::Field { .. }))),
        "{done:?}"
    );
}

#[test]
fn a_plan_names_what_nothing_covers() {
    // Without the root's conversion, the first difference is named.
    let error = plan(&CONVERSIONS[..1]).unwrap_err();
    assert_eq!(
        error,
        PlanError::Field {
            path: "State.gone".into(),
            what: "removed"
        }
    );
    // Without the item's, it is the field that was changed, with the way to it.
    let error = plan(&CONVERSIONS[1..]).unwrap_err();
    let PlanError::Uncovered { path, from, to } = error else {
        panic!("{error}")
    };
    assert_eq!(path, "State.items[MapNode].value.a");
    assert_eq!(
        (from.as_str(), to.as_str()),
        ("u32 (4 bytes)", "u64 (8 bytes)")
    );
    // The map that was dropped has no plan; what stayed the same is kept.
    let plan = plan(&CONVERSIONS).unwrap();
    let described = |schema: &[u8]| -> Vec<(String, u64)> {
        let schema = SchemaDesc::decode(schema).unwrap();
        schema
            .object_types()
            .iter()
            .map(|ty| (ty.name.clone(), ty.type_id()))
            .collect()
    };
    let (before, after) = (described(&old::SCHEMA), described(&new::SCHEMA));
    let planned = before
        .iter()
        .filter(|(_, id)| plan.types.contains_key(id))
        .count();
    assert_eq!((before.len(), planned, after.len()), (7, 5, 5));
}

/// A struct's encoding, made by hand: fields of so many bytes each.
fn structure(name: &str, fields: &[(String, u8)]) -> (Vec<u8>, u32) {
    let size: u32 = fields.iter().map(|(_, size)| u32::from(*size)).sum();
    let head = |out: &mut Vec<u8>, kind: u8, name: &str, size: u32| {
        out.extend([kind, name.len() as u8]);
        out.extend(name.as_bytes());
        out.extend(size.to_le_bytes());
        out.extend(1u16.to_le_bytes());
    };
    let mut out = Vec::new();
    head(&mut out, 2, name, size);
    out.extend((fields.len() as u16).to_le_bytes());
    let mut at = 0u32;
    for (name, size) in fields {
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.extend(at.to_le_bytes());
        head(&mut out, 1, &format!("bytes{size}"), (*size).into());
        at += u32::from(*size);
    }
    (out, size)
}

fn described(fields: &[(String, u8)]) -> SchemaDesc {
    let mut bytes = vec![1];
    bytes.extend(structure("S", fields).0);
    SchemaDesc::decode(&bytes).unwrap()
}

proptest! {
    #[test]
    fn a_plan_moves_every_field_or_says_why_not(
        fields in prop::collection::btree_map("[a-f]", 1u8..9, 1..6),
        removed in prop::collection::vec("[a-f]", 0..2),
        added in prop::collection::btree_map("[e-j]", 1u8..9, 0..2),
        resized in prop::collection::btree_map("[a-f]", 1u8..9, 0..2),
        turn in any::<prop::sample::Index>(),
    ) {
        let before: Vec<(String, u8)> = fields.clone().into_iter().collect();
        let mut after = fields.clone();
        for name in &removed {
            after.remove(name);
        }
        for (name, size) in &resized {
            if let Some(old) = after.get_mut(name) {
                *old = *size;
            }
        }
        for (name, size) in added {
            after.entry(name).or_insert(size);
        }
        let mut after: Vec<(String, u8)> = after.into_iter().collect();
        if !after.is_empty() {
            let by = turn.index(after.len());
            after.rotate_left(by);
        }
        let (old, new) = (described(&before), described(&after));
        let same_fields = before.len() == after.len()
            && after.iter().all(|(name, size)| fields.get(name) == Some(size));
        let plan = MigrationPlan::new(&old, &new, &[]);
        prop_assert_eq!(plan.is_ok(), same_fields, "{:?}", &plan);
        match plan {
            Ok(plan) => {
                // Run it on an object whose bytes are all different.
                let parts = &plan.types[&old.type_id()].parts;
                let offset_of = |fields: &[(String, u8)], name: &str| -> u32 {
                    fields.iter().take_while(|(n, _)| n != name).map(|(_, s)| u32::from(*s)).sum()
                };
                for (name, size) in &after {
                    for byte in 0..u32::from(*size) {
                        let from = offset_of(&before, name) + byte;
                        let to = offset_of(&after, name) + byte;
                        let moved = parts.iter().any(|part| matches!(*part,
                            Part::Copy { from: f, to: t, len }
                                if f <= from && from < f + len && t + (from - f) == to));
                        prop_assert!(moved, "{}[{}] in {:?}", name, byte, parts);
                    }
                }
            }
            Err(PlanError::Field { path, what }) => {
                let name = path.strip_prefix("S.").unwrap();
                let (in_old, in_new) = (
                    before.iter().any(|(n, _)| n == name),
                    after.iter().any(|(n, _)| n == name),
                );
                prop_assert_eq!((in_old, in_new), (what == "removed", what == "added"));
            }
            Err(PlanError::Uncovered { path, .. }) => {
                let name = path.strip_prefix("S.").unwrap();
                let size = |fields: &[(String, u8)]| {
                    fields.iter().find(|(n, _)| n == name).map(|(_, size)| *size)
                };
                prop_assert_ne!(size(&before), size(&after));
            }
            Err(other) => prop_assert!(false, "{}", other),
        }
        // A conversion of the whole covers everything.
        let whole = Conversion { from: old.fingerprint, to: new.fingerprint };
        let plan = MigrationPlan::new(&old, &new, &[whole]).unwrap();
        let parts = &plan.types[&old.type_id()].parts;
        let converts = matches!(parts[..], [Part::Convert { from: 0, to: 0, index: 0 }]);
        prop_assert_eq!(converts, old.fingerprint != new.fingerprint);
    }
}

/// What an item is; there is none of number 0, as in unused bytes.
#[derive(Clone, Copy, Debug, PartialEq, Pmem)]
#[repr(u32)]
enum Sort {
    First = 1,
    Second = 2,
}

mod small {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(C)]
    pub(super) struct Item {
        pub(super) number: u32,
        pub(super) sort: Sort,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct Rows {
        pub(super) ordered: OrderedMap<u32, Item>,
        pub(super) words: OrderedMap<Bytes, Item>,
        pub(super) list: Vector<Item>,
        pub(super) references: OrderedMap<u16, P<Item>>,
    }
    pub(super) const SCHEMA: [u8; encoded_len(Rows::SCHEMA)] = encode(Rows::SCHEMA);
}

mod large {
    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Pmem)]
    #[repr(C)]
    pub(super) struct Item {
        pub(super) number: u64,
        pub(super) added: [u8; 12],
        pub(super) sort: Sort,
    }

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub(super) struct Rows {
        pub(super) ordered: OrderedMap<u32, Item>,
        pub(super) words: OrderedMap<Bytes, Item>,
        pub(super) list: Vector<Item>,
        pub(super) references: OrderedMap<u16, P<Item>>,
    }
    pub(super) const SCHEMA: [u8; encoded_len(Rows::SCHEMA)] = encode(Rows::SCHEMA);
}

fn small_item(n: u32) -> small::Item {
    let sort = if n.is_multiple_of(3) {
        Sort::First
    } else {
        Sort::Second
    };
    small::Item { number: n, sort }
}

fn large_item(old: small::Item) -> large::Item {
    large::Item {
        number: u64::from(old.number) << 8,
        added: [old.number as u8; 12],
        sort: old.sort,
    }
}

fn word(n: u32) -> Vec<u8> {
    format!("{}/{n}", "long ".repeat(n as usize % 7)).into_bytes()
}

#[test]
fn trees_are_converted_leaf_by_leaf() {
    for count in [1u32, 14, 16, 64, 65, 3000, 9000] {
        trees(count);
    }
}

fn trees(count: u32) {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("1"), dir.path().join("2"));
    let mut before = Region::create(&from, &options(), &small::SCHEMA).unwrap();
    let root = before.transact(|tx| {
        Ok::<_, Failure>(tx.alloc(&small::Rows {
            ordered: OrderedMap::EMPTY,
            words: OrderedMap::EMPTY,
            list: Vector::EMPTY,
            references: OrderedMap::EMPTY,
        })?)
    });
    before.set_root(root.unwrap().to_ref());
    before.commit().unwrap();
    let mut kept = BTreeMap::new();
    let mut places = BTreeMap::new();
    for n in 0..count {
        let key = n.wrapping_mul(0x9E37_79B1);
        let done = before.transact(|tx| {
            let root: P<small::Rows> = tx.root();
            let mut state = tx.read(root)?;
            state.ordered.insert(tx, &key, &small_item(n))?;
            kept.insert(key, n);
            state.words.insert(tx, &word(n), &small_item(n))?;
            state.list.push(tx, &small_item(n))?;
            if n % 3 == 2 {
                // Some go, so that there are slots with values that were once there.
                let old = (n - 1).wrapping_mul(0x9E37_79B1);
                state.ordered.remove(tx, &old)?;
                kept.remove(&old);
            }
            if n < 40 {
                let item = tx.alloc(&small_item(n))?;
                state.references.insert(tx, &(n as u16), &item)?;
                places.insert(n as u16, item.to_ref());
            }
            Ok::<_, Failure>(tx.write(root, &state)?)
        });
        done.unwrap();
    }
    let source = before.source();
    let schemas = [&small::SCHEMA[..], &large::SCHEMA[..]];
    let [old, new] = schemas.map(|schema| SchemaDesc::decode(schema).unwrap());
    let error = MigrationPlan::new(&old, &new, &[]).unwrap_err();
    let PlanError::Uncovered { path, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(path, "Rows.ordered[OrderedLeaf].values.number");
    let items = Conversion {
        from: small::Item::FINGERPRINT,
        to: large::Item::FINGERPRINT,
    };
    let plan = MigrationPlan::new(&old, &new, &[items]).unwrap();
    let mut building = plan
        .prepare(&source, &to, &options(), &large::SCHEMA)
        .unwrap();
    let convert = |index: usize, row: Row<'_>| {
        assert_eq!(index, 0);
        for place in (0..row.count).filter(|place| row.live[place / 64] >> (place % 64) & 1 == 1) {
            let old: small::Item = read(&row.old[place * row.old_stride..]);
            let bytes = large_item(old);
            row.new[place * row.new_stride..][..size_of::<large::Item>()]
                .copy_from_slice(crate::as_bytes(&bytes));
        }
        Ok(())
    };
    building.fill(&source, "{}", 7, &convert).unwrap();
    let after = building.finish().unwrap();
    assert_eq!(after.stats().live_objects, before.stats().live_objects);
    drop(after);
    let wanted = Some(large::Rows::FINGERPRINT);
    let mut after = Region::open(&to, &RegionOptions::new("test", 0, LIMIT), wanted).unwrap();
    let done = after.transact(|tx| {
        let root: P<large::Rows> = tx.root();
        let mut state = tx.read(root)?;
        let mut found = BTreeMap::new();
        state
            .ordered
            .range(tx, .., Direction::Up, u64::MAX, |_, key, value| {
                found.insert(key, value);
                Ok::<_, TxError>(())
            })?;
        let expected = kept
            .iter()
            .map(|(key, n)| (*key, large_item(small_item(*n))));
        assert!(found.into_iter().eq(expected));
        for n in 0..count {
            let item = large_item(small_item(n));
            assert_eq!(state.words.get(tx, &word(n))?, Some(item));
            assert_eq!(state.list.get(tx, n.into())?, Some(item));
        }
        for (n, place) in &places {
            let item = state.references.get(tx, n)?.expect("a reference");
            assert_eq!(item.to_ref(), *place);
            assert_eq!(tx.read(item)?, large_item(small_item((*n).into())));
        }
        // They work: splits and joins, growth and shrinking.
        for n in 0..count.min(300) {
            let item = large_item(small_item(n));
            state.ordered.insert(tx, &n, &item)?;
            state.words.remove(tx, &word(n))?;
            state.list.push(tx, &item)?;
        }
        for n in 0..count.min(300) {
            let item = large_item(small_item(n));
            assert_eq!(state.ordered.remove(tx, &n)?, Some(item));
        }
        Ok::<_, Failure>(tx.write(root, &state)?)
    });
    done.unwrap();
    loop {
        let done = after.transact(|tx| {
            let root: P<large::Rows> = tx.root();
            let mut state = tx.read(root)?;
            let done = state.ordered.clear_some(tx, 300)?
                & state.words.clear_some(tx, 300)?
                & state.list.truncate_some(tx, 0, 300)?
                & state.references.clear_some(tx, 300)?;
            tx.write(root, &state)?;
            Ok::<_, Failure>(done)
        });
        if done.unwrap() {
            break;
        }
    }
    assert_eq!(after.stats().live_objects, 1 + places.len() as u64);
}
