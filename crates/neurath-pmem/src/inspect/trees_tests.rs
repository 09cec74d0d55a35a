//! Ordered maps and vectors: checked, shown and compared.

use neurath_abi::Ref;

use super::image::{Image, Tables};
use super::trees::{self, TreeHeader};
use super::{
    CheckOptions, Code, Contents, ContentsError, Data, DataLimits, Done, Level, Report, check,
    checked, contents, data,
};
use crate::campaign::sim::Random;
use crate::failure::Failure;
use crate::inspect::known::{Known, known, place};
use crate::region::format::ROOT_AT;
use crate::region::{Media, Region, RegionOptions};
use crate::schema::{KindDesc, encode, encoded_len};
use crate::{Bytes, Handle, OrderedMap, Pmem, Tx, TxError, Vector};

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    names: OrderedMap<Bytes, u32>,
    signed: OrderedMap<i32, Bytes>,
    texts: Vector<Bytes>,
    numbers: Vector<u64>,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);
/// Where the root's fields are.
const NAMES: u64 = 0;
const SIGNED: u64 = 24;
const TEXTS: u64 = 48;
const NUMBERS: u64 = 72;

fn name(n: u32) -> Vec<u8> {
    format!("{:03} {}", n % 1000, "long ".repeat(n as usize % 9)).into_bytes()
}

/// The bytes of a closed region that was changed by `fill`.
fn region(fill: impl Fn(&mut State, &mut Tx<'_>) -> Result<(), TxError>) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("region");
    let options = RegionOptions::new("test", 7, 64 << 20);
    let mut region = Region::create(&path, &options, &SCHEMA).unwrap();
    region.attach(&Handle::new());
    let root = region.transact(|tx| {
        let mut state = State {
            names: OrderedMap::EMPTY,
            signed: OrderedMap::EMPTY,
            texts: Vector::EMPTY,
            numbers: Vector::EMPTY,
        };
        fill(&mut state, tx)?;
        Ok::<_, Failure>(tx.alloc(&state)?)
    });
    region.set_root(root.unwrap().to_ref());
    region.commit().unwrap();
    region.close().unwrap();
    std::fs::read(&path).unwrap()
}

fn add(state: &mut State, tx: &mut Tx<'_>, n: u32) -> Result<(), TxError> {
    state.names.insert(tx, &name(n)[..], &n)?;
    let text = Bytes::new(tx, &name(n))?;
    state.signed.insert(tx, &(n as i32 - 100), &text)?;
    Ok(())
}

fn push(state: &mut State, tx: &mut Tx<'_>, n: u32) -> Result<(), TxError> {
    let text = Bytes::new(tx, &name(n))?;
    state.texts.push(tx, &text)?;
    state.numbers.push(tx, &u64::from(n))
}

/// So many entries and elements.
fn filled(count: u32) -> Vec<u8> {
    region(|state, tx| {
        (0..count).try_for_each(|n| {
            add(state, tx, n)?;
            push(state, tx, n)
        })
    })
}

/// Of which a part was taken out again.
fn thinned() -> Vec<u8> {
    region(|state, tx| {
        for n in 0..300 {
            add(state, tx, n * 7 % 300)?;
            push(state, tx, n)?;
        }
        for n in (0..300).filter(|n| n % 5 != 0) {
            state.names.remove(tx, &name(n)[..])?;
            if let Some(text) = state.signed.remove(tx, &(n as i32 - 100))? {
                text.free_owned(tx)?;
            }
        }
        state.texts.truncate_some(tx, 90, u64::MAX)?;
        state.numbers.truncate_some(tx, 64, u64::MAX)?;
        Ok(())
    })
}

fn report(bytes: &[u8]) -> Report {
    check(bytes.to_vec(), CheckOptions::here())
}

/// The same without the checksums of the segments, which find everything.
fn structure(bytes: &[u8]) -> Report {
    let options = CheckOptions {
        level: Level::L2,
        ..CheckOptions::here()
    };
    check(bytes.to_vec(), options)
}

fn image(bytes: &[u8]) -> (Image, Tables) {
    let image = checked(bytes.to_vec(), CheckOptions::here()).1.unwrap();
    let tables = image.tables.clone().unwrap();
    (image, tables)
}

fn field(image: &Image, number: usize) -> Known<'_> {
    let KindDesc::Struct(fields) = &image.schema.kind else {
        panic!("a struct")
    };
    known(&fields[number].schema).unwrap()
}

/// Where the root stands.
fn root(image: &Image, tables: &Tables) -> u64 {
    let object = Ref(image.bytes.word(ROOT_AT));
    place(tables, object, image.schema.type_id()).unwrap().0
}

fn word(bytes: &[u8], at: u64) -> u64 {
    u64::from_le_bytes(bytes[at as usize..][..8].try_into().unwrap())
}

fn set(bytes: &mut [u8], at: u64, word: u64) {
    bytes[at as usize..][..8].copy_from_slice(&word.to_le_bytes());
}

#[test]
fn sound_trees_are_clean() {
    for count in [0, 1, 15, 16, 64, 65, 400] {
        let bytes = filled(count);
        let report = report(&bytes);
        assert!(
            report.is_clean() && report.findings.is_empty(),
            "{report:#?}"
        );
        let level = &report.levels[Level::L2 as usize];
        assert_eq!(level.done, Done::Complete);
        let counted = |what: &str| level.checked.iter().find(|(known, _)| *known == what);
        assert_eq!(
            counted("ordered maps' entries").unwrap().1,
            2 * u64::from(count)
        );
        assert_eq!(
            counted("vectors' elements").unwrap().1,
            2 * u64::from(count)
        );
        assert_eq!(
            counted("objects reached").unwrap().1,
            counted("objects that live").unwrap().1
        );
        assert!(count < 2 || counted("keys compared").unwrap().1 >= 2 * u64::from(count - 1));
    }
    let report = report(&thinned());
    assert!(
        report.is_clean() && report.findings.is_empty(),
        "{report:#?}"
    );
}

#[test]
fn what_a_tree_does_not_own_has_leaked() {
    let bytes = region(|state, tx| {
        (0..100).try_for_each(|n| add(state, tx, n).and_then(|()| push(state, tx, n)))?;
        state.names = OrderedMap::EMPTY;
        state.numbers = Vector::EMPTY;
        Ok(())
    });
    let report = report(&bytes);
    assert!(report.is_sound() && !report.is_clean());
    let leaked: Vec<&str> = report
        .leaks
        .iter()
        .map(|leak| &leak.type_name[..])
        .collect();
    for name in [
        "OrderedLeaf",
        "OrderedInner",
        "VectorPage",
        "VectorIndex",
        "raw bytes",
    ] {
        assert!(leaked.contains(&name), "{leaked:?}");
    }
}

/// Damages a region with many nodes; the finding must be there without the checksums.
#[track_caller]
fn found(code: Code, damage: impl FnOnce(&mut Vec<u8>, &Image, &Tables, u64)) {
    let mut bytes = filled(400);
    let (image, tables) = image(&bytes);
    let at = root(&image, &tables);
    damage(&mut bytes, &image, &tables, at);
    let report = structure(&bytes);
    assert!(
        report.find(code).is_some() && !report.is_sound(),
        "{code:?}: {report:#?}"
    );
}

/// The top of an ordered map, and its first child.
fn nodes(image: &Image, tables: &Tables, number: usize, at: u64) -> (u64, u64) {
    let Known::Ordered(types) = field(image, number) else {
        panic!("an ordered map")
    };
    let header = TreeHeader::read(&image.bytes, at);
    let (top, _) = place(tables, header.top, types.inner.type_id()).unwrap();
    let order = trees::order(image, top).unwrap();
    let child = Ref(image.bytes.word(types.child_at(top, order, 0)));
    let (child, _) = place(tables, child, types.at_level(header.depth - 1).type_id()).unwrap();
    (top, child)
}

#[test]
fn damaged_ordered_maps_are_found() {
    for (number, map) in [(0, NAMES), (1, SIGNED)] {
        found(Code::OrderedHeader, |bytes, _, _, at| {
            set(bytes, at + map + 16, 17)
        });
        found(Code::OrderedHeader, |bytes, _, _, at| {
            set(bytes, at + map + 8, 0)
        });
        found(Code::OrderedLength, |bytes, _, _, at| {
            set(bytes, at + map, 399)
        });
        found(Code::BadReference, |bytes, _, _, at| {
            set(bytes, at + map + 16, 1)
        });
        found(Code::OrderedNode, |bytes, image, tables, at| {
            let (top, _) = nodes(image, tables, number, at + map);
            set(bytes, top, 0);
        });
        found(Code::OrderedNode, |bytes, image, tables, at| {
            let (_, child) = nodes(image, tables, number, at + map);
            let order = word(bytes, child);
            set(bytes, child, order & !0xF | 3);
        });
        // Two slots change their places in the order.
        found(Code::OrderedKeys, |bytes, image, tables, at| {
            let (_, child) = nodes(image, tables, number, at + map);
            let order = word(bytes, child);
            let (a, b) = (order >> 4 & 0xF, order >> 8 & 0xF);
            set(bytes, child, order & !0xFF0 | a << 8 | b << 4);
        });
        // A subtree stands where another one should.
        found(Code::TwoOwners, |bytes, image, tables, at| {
            let (top, _) = nodes(image, tables, number, at + map);
            let Known::Ordered(types) = field(image, number) else {
                unreachable!()
            };
            let order = trees::order(image, top).unwrap();
            let first = word(bytes, types.child_at(top, order, 0));
            set(bytes, types.child_at(top, order, 1), first);
        });
    }
    // A key of a leaf, and a separator.
    found(Code::OrderedKeys, |bytes, image, tables, at| {
        let (top, _) = nodes(image, tables, 1, at + SIGNED);
        let Known::Ordered(types) = field(image, 1) else {
            unreachable!()
        };
        let slot = trees::order(image, top).unwrap().slot(0) as u64;
        let key = types.keys.place(top, slot) as usize;
        bytes[key..key + 4].copy_from_slice(&i32::MIN.to_le_bytes());
    });
}

#[test]
fn damaged_vectors_are_found() {
    for vector in [TEXTS, NUMBERS] {
        found(Code::VectorHeader, |bytes, _, _, at| {
            set(bytes, at + vector + 16, 2)
        });
        found(Code::VectorHeader, |bytes, _, _, at| {
            set(bytes, at + vector, 0)
        });
        found(Code::VectorHeader, |bytes, _, _, at| {
            set(bytes, at + vector, 5000)
        });
        // A page that is not needed, and one that is missing.
        found(Code::VectorPages, |bytes, _, _, at| {
            set(bytes, at + vector, 300)
        });
        found(Code::BadReference, |bytes, _, _, at| {
            set(bytes, at + vector, 450)
        });
        found(Code::TwoOwners, |bytes, image, tables, at| {
            let number = if vector == TEXTS { 2 } else { 3 };
            let Known::Vector(types) = field(image, number) else {
                unreachable!()
            };
            let top = Ref(word(bytes, at + vector + 8));
            let (top, _) = place(tables, top, types.index.type_id()).unwrap();
            let first = word(bytes, top);
            set(bytes, top + 8, first);
        });
    }
}

#[test]
fn every_flipped_bit_of_a_tree_s_header_and_orders_is_found() {
    let bytes = filled(100);
    let (image, tables) = image(&bytes);
    let at = root(&image, &tables);
    // A vector one longer shows a number that was there before, if anything: that is for the
    // checksums.
    let lengths = [at + TEXTS, at + NUMBERS];
    let headers = (at..at + 96).step_by(8);
    let mut places: Vec<u64> = headers.filter(|at| !lengths.contains(at)).collect();
    for (number, map) in [(0, NAMES), (1, SIGNED)] {
        let (top, child) = nodes(&image, &tables, number, at + map);
        places.extend([top, child]);
    }
    for at in places {
        for bit in 0..64 {
            let mut flipped = bytes.clone();
            let old = word(&flipped, at);
            set(&mut flipped, at, old ^ 1 << bit);
            assert!(!structure(&flipped).is_clean(), "byte {at}, bit {bit}");
        }
    }
}

fn told(bytes: Vec<u8>) -> Contents {
    contents::contents(bytes.into()).unwrap()
}

#[test]
fn the_order_of_changes_is_no_part_of_the_contents() {
    let of = |numbers: &[u32], pushed: [u32; 3]| {
        told(region(|state, tx| {
            numbers.iter().try_for_each(|&n| add(state, tx, n))?;
            pushed.iter().try_for_each(|&n| push(state, tx, n))
        }))
    };
    let up: Vec<u32> = (0..120).collect();
    let down: Vec<u32> = (0..120).rev().collect();
    let first = of(&up, [1, 2, 3]);
    assert_eq!(first, of(&down, [1, 2, 3]));
    assert_eq!(first.fields[0].entries, 120);
    assert_eq!(first.fields[2].entries, 3);
    // In a vector the order counts, and everywhere the values do.
    let other = of(&up, [1, 3, 2]);
    let same = |number: usize| first.fields[number].digest == other.fields[number].digest;
    assert_eq!(
        [same(0), same(1), same(2), same(3)],
        [true, true, false, false]
    );
    let fewer = of(&up[1..], [1, 2, 3]);
    assert_ne!(first.fields[0].digest, fewer.fields[0].digest);
    assert_ne!(first.fields[1].digest, fewer.fields[1].digest);
}

#[test]
fn the_contents_of_a_damaged_tree_are_not_told() {
    let mut bytes = filled(100);
    let (image, tables) = image(&bytes);
    let at = root(&image, &tables);
    set(&mut bytes, at + NAMES, 99);
    let refused = contents::contents(bytes.into());
    assert!(
        matches!(refused, Err(ContentsError::Damaged(_))),
        "{refused:?}"
    );
}

#[test]
fn entries_and_elements_are_shown_in_their_order() {
    let limits = DataLimits {
        entries: 3,
        ..DataLimits::default()
    };
    let shown = data::inspect(filled(40).into(), Some(limits)).unwrap();
    let Some(Data::Fields(fields)) = shown.data else {
        panic!("no fields")
    };
    let list = |number: usize| match &fields[number].1 {
        Data::List(list) => list.clone(),
        other => panic!("{other:?}"),
    };
    let entry = |key: i128, value: &str| {
        Data::Fields(vec![
            ("key".into(), Data::Signed(key)),
            ("value".into(), Data::Text(value.into())),
        ])
    };
    let more = Data::Fields(vec![("more".into(), Data::Unsigned(37))]);
    let texts = ["000 ", "001 long ", "002 long long "];
    let entries = [
        entry(-100, texts[0]),
        entry(-99, texts[1]),
        entry(-98, texts[2]),
    ];
    assert_eq!(list(1)[..3], entries);
    assert_eq!(list(1)[3], more);
    assert_eq!(list(2)[1], Data::Text(texts[1].into()));
    assert_eq!(list(3)[..3], [0, 1, 2].map(Data::Unsigned));
    assert_eq!(list(3)[3], more);
    let text = super::schema_text(&shown.schema);
    assert!(
        text.contains("OrderedMap<Bytes, u32>") && text.contains("Vector<u64>"),
        "{text}"
    );
}

#[test]
fn random_damage_ends_in_a_finding_or_in_nothing() {
    let bytes = filled(150);
    let (image, tables) = image(&bytes);
    let objects: Vec<(u64, u64)> = tables
        .all()
        .map(|(_, segment)| (segment.entry.offset, segment.entry.length.min(8192)))
        .collect();
    drop(image);
    let mut random = Random(11);
    for _ in 0..300 {
        let mut damaged = bytes.clone();
        for _ in 0..1 + random.below(4) {
            let (at, len) = objects[random.below(objects.len())];
            let at = at + random.below(len as usize / 8) as u64 * 8;
            let other = objects[random.below(objects.len())].0;
            let new = match random.below(4) {
                0 => word(&damaged, at) ^ 1 << random.below(64),
                1 => word(&damaged, other + random.below(64) as u64 * 8),
                2 => random.next(),
                _ => random.below(20) as u64,
            };
            set(&mut damaged, at, new);
        }
        drop(structure(&damaged));
        drop(contents::contents(damaged.clone().into()));
        drop(data::inspect(damaged.into(), Some(DataLimits::default())));
    }
}
