//! Conversions between schemas that nobody chose, while the region is used: random fields come, go, grow, shrink
//! and change places, in the root, in the objects that it refers to, and in a struct inside of these; with
//! deaths and turns in the midst of it. Against a model, which converts by the fields' names.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::{Durability, Region, RegionOptions, Swept};
use crate::failure::Failure;
use crate::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseLink};
use crate::schema::{Field, Kind, SchemaDesc, TypeSchema, encoded};
use crate::{Ref, Tx, TxError};

/// References in the root.
const SLOTS: usize = 400;
/// When conversions began.
const NOW: u64 = 7;

/// Fields by their names, with their sizes, in the order in which they lie.
type Fields = Vec<(String, u8)>;
/// Values by the names of their fields.
type Values = BTreeMap<String, Vec<u8>>;

/// A made-up schema.
#[derive(Clone, Debug)]
struct Shape {
    root: Fields,
    item: Fields,
    inner: Fields,
    /// Where among an item's fields the inner struct stands.
    inner_at: usize,
}

/// What a region holds: the root's values, and the items by their slots.
#[derive(Clone, Debug, Default, PartialEq)]
struct Held {
    root: Values,
    items: BTreeMap<usize, Item>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct Item {
    own: Values,
    inner: Values,
}

fn size(fields: &Fields) -> usize {
    fields.iter().map(|(_, size)| usize::from(*size)).sum()
}

fn leak<T>(value: T) -> &'static T {
    Box::leak(Box::new(value))
}

/// A struct of these fields, each a primitive of its size, or of the type that is given with it.
fn structure(name: &'static str, parts: Vec<(&'static str, &'static TypeSchema)>) -> TypeSchema {
    let mut at = 0;
    let fields = parts.into_iter().map(|(name, schema)| {
        let offset = at;
        at += schema.size;
        Field {
            name,
            offset,
            schema,
        }
    });
    let fields: Vec<Field> = fields.collect();
    TypeSchema {
        name,
        size: at,
        align: 1,
        kind: Kind::Struct(Vec::leak(fields)),
    }
}

fn primitives(fields: &Fields) -> Vec<(&'static str, &'static TypeSchema)> {
    let part = |(name, size): &(String, u8)| {
        let schema: &TypeSchema = leak(TypeSchema {
            name: String::leak(format!("bytes{size}")),
            size: (*size).into(),
            align: 1,
            kind: Kind::Primitive,
        });
        (&*String::leak(name.clone()), schema)
    };
    fields.iter().map(part).collect()
}

/// A shape's types, as a library would describe them.
struct Types {
    encoded: Vec<u8>,
    root: SchemaDesc,
    item: SchemaDesc,
    inner: SchemaDesc,
}

impl Shape {
    /// Where the inner struct begins in an item.
    fn inner_offset(&self) -> usize {
        size(&self.item[..self.inner_at].to_vec())
    }

    fn item_size(&self) -> usize {
        size(&self.item) + size(&self.inner)
    }

    /// The shape after what somebody might change in it for the next version.
    fn edited(&self, edits: &[Edit]) -> Shape {
        let mut shape = self.clone();
        for edit in edits {
            let fields = match edit.which {
                0 => &mut shape.root,
                1 => &mut shape.item,
                _ => &mut shape.inner,
            };
            let at = edit.at.index(fields.len());
            match edit.kind {
                0 if fields.len() > 1 => drop(fields.remove(at)),
                1 => {
                    let unused = ('a'..='z').map(String::from);
                    let mut unused =
                        unused.filter(|name| fields.iter().all(|(one, _)| one != name));
                    let name = unused.next().expect("there are more letters than fields");
                    fields.insert(at, (name, edit.size));
                }
                2 => fields[at].1 = edit.size,
                3 => fields.rotate_left(at),
                _ => shape.inner_at = edit.at.index(shape.item.len() + 1),
            }
            shape.inner_at = shape.inner_at.min(shape.item.len());
        }
        shape
    }

    fn types(&self) -> Types {
        let inner = leak(structure("Inner", primitives(&self.inner)));
        let mut parts = primitives(&self.item);
        parts.insert(self.inner_at, ("inner", inner));
        let item = leak(structure("Item", parts));
        let reference = leak(TypeSchema {
            name: "P",
            size: 8,
            align: 1,
            kind: Kind::Reference(item),
        });
        let slots = leak(TypeSchema {
            name: "array",
            size: 8 * SLOTS,
            align: 1,
            kind: Kind::Array {
                element: reference,
                len: SLOTS,
            },
        });
        let mut parts = primitives(&self.root);
        parts.insert(0, ("slots", slots));
        let root = structure("Root", parts);
        let described = |schema| SchemaDesc::decode(&encoded(schema)).unwrap();
        Types {
            root: described(&root),
            item: described(item),
            inner: described(inner),
            encoded: encoded(&root),
        }
    }

    fn write_item(&self, item: &Item) -> Vec<u8> {
        let mut bytes = write(&self.item[..self.inner_at], &item.own);
        bytes.extend(write(&self.inner, &item.inner));
        bytes.extend(write(&self.item[self.inner_at..], &item.own));
        bytes
    }

    fn read_item(&self, bytes: &[u8]) -> Item {
        let (before, rest) = bytes.split_at(self.inner_offset());
        let (inner, after) = rest.split_at(size(&self.inner));
        let mut own = read(&self.item[..self.inner_at], before);
        own.extend(read(&self.item[self.inner_at..], after));
        Item {
            own,
            inner: read(&self.inner, inner),
        }
    }

    fn item(&self, seed: u32) -> Item {
        Item {
            own: made(&self.item, seed),
            inner: made(&self.inner, seed ^ 77),
        }
    }

    /// An item of another shape, as one of this.
    fn carried(&self, item: &Item) -> Item {
        Item {
            own: carried(&item.own, &self.item),
            inner: carried(&item.inner, &self.inner),
        }
    }
}

fn made(fields: &[(String, u8)], seed: u32) -> Values {
    let value = |(name, size): &(String, u8)| {
        let byte = |i| (seed.wrapping_mul(31).wrapping_add(i * 7) >> (i % 9)) as u8;
        (name.clone(), (0..u32::from(*size)).map(byte).collect())
    };
    fields.iter().map(value).collect()
}

fn write(fields: &[(String, u8)], values: &Values) -> Vec<u8> {
    let of = |(name, _): &(String, u8)| values[name].clone();
    fields.iter().flat_map(of).collect()
}

fn read(fields: &[(String, u8)], mut bytes: &[u8]) -> Values {
    let mut values = Values::new();
    for (name, size) in fields {
        let (value, rest) = bytes.split_at((*size).into());
        values.insert(name.clone(), value.to_vec());
        bytes = rest;
    }
    values
}

/// Values by their names in other fields: cut, or filled up with zeros; one that is new tells its name.
fn carried(values: &Values, fields: &[(String, u8)]) -> Values {
    let value = |(name, size): &(String, u8)| {
        let size = usize::from(*size);
        let mut value = match values.get(name) {
            Some(old) => old[..old.len().min(size)].to_vec(),
            None => vec![name.as_bytes()[0]; size],
        };
        value.resize(size, 0);
        (name.clone(), value)
    };
    fields.iter().map(value).collect()
}

/// What a library's conversions are, from one shape to another.
#[derive(Clone)]
struct Way {
    from: Shape,
    to: Shape,
    /// `Root`, `Item` and `Inner`: those whose own fields changed. The plan finds the others.
    which: Vec<usize>,
    conversions: Vec<Conversion>,
    plan: MigrationPlan,
}

impl Way {
    fn new(from: &Shape, to: &Shape) -> Way {
        let (old, new) = (from.types(), to.types());
        let differ = |a: &Fields, b: &Fields| {
            let by_name = |fields: &Fields| fields.iter().cloned().collect::<BTreeMap<_, _>>();
            by_name(a) != by_name(b)
        };
        let pairs = [
            (differ(&from.root, &to.root), &old.root, &new.root),
            (differ(&from.item, &to.item), &old.item, &new.item),
            (differ(&from.inner, &to.inner), &old.inner, &new.inner),
        ];
        let mut way = Way {
            from: from.clone(),
            to: to.clone(),
            which: Vec::new(),
            conversions: Vec::new(),
            plan: MigrationPlan::new(&old.root, &old.root, &[]).unwrap(),
        };
        for (number, (differ, old, new)) in pairs.into_iter().enumerate() {
            if differ {
                way.which.push(number);
                let (from, to) = (old.fingerprint, new.fingerprint);
                way.conversions.push(Conversion { from, to });
            }
        }
        way.plan = MigrationPlan::new(&old.root, &new.root, &way.conversions).unwrap();
        way
    }

    /// As a library converts: each live value of a row.
    fn convert(&self, index: usize, row: Row<'_>) -> Result<(), String> {
        assert_eq!(row.now_ms, NOW);
        let (from, to) = (&self.from, &self.to);
        for place in (0..row.count).filter(|place| row.live[place / 64] >> (place % 64) & 1 == 1) {
            let old = &row.old[place * row.old_stride..];
            let new = match self.which[index] {
                0 => {
                    let (slots, rest) = old[..8 * SLOTS + size(&from.root)].split_at(8 * SLOTS);
                    let values = carried(&read(&from.root, rest), &to.root);
                    [slots, &write(&to.root, &values)].concat()
                }
                1 => {
                    let item = from.read_item(&old[..from.item_size()]);
                    to.write_item(&to.carried(&item))
                }
                _ => {
                    let inner = read(&from.inner, &old[..size(&from.inner)]);
                    write(&to.inner, &carried(&inner, &to.inner))
                }
            };
            row.new[place * row.new_stride..][..new.len()].copy_from_slice(&new);
        }
        Ok(())
    }

    fn stepwise(&self) -> Stepwise {
        let way = self.clone();
        let link = StepwiseLink {
            plan: self.plan.clone(),
            extra: "{}".into(),
        };
        let convert = Box::new(move |_: usize, index: usize, row: Row<'_>| way.convert(index, row));
        let (old, new) = (self.from.types(), self.to.types());
        Stepwise::new(&old.encoded, &new.encoded, vec![link], NOW, convert).unwrap()
    }
}

/// Writes whole words: what follows a value in its last word is zero.
fn put(tx: &mut Tx<'_>, object: Ref, type_id: u64, at: u64, bytes: &[u8]) -> Result<(), TxError> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let words = bytes.chunks_exact(8).zip((at..).step_by(8));
    words.into_iter().try_for_each(|(bytes, at)| {
        let word = u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
        tx.write_at(object, type_id, at, &word)
    })
}

/// Reads by sixteen bytes, and the rest one by one.
fn get(tx: &Tx<'_>, object: Ref, type_id: u64, at: u64, len: usize) -> Result<Vec<u8>, TxError> {
    let mut bytes = Vec::new();
    while bytes.len() < len {
        let at = at + bytes.len() as u64;
        if len - bytes.len() >= 16 {
            bytes.extend(tx.read_at::<[u8; 16]>(object, type_id, at)?);
        } else {
            bytes.push(tx.read_at::<u8>(object, type_id, at)?);
        }
    }
    Ok(bytes)
}

/// A region, and what is known of it.
struct Used {
    region: Region,
    shape: Shape,
    held: Held,
    /// The shape that it is being converted from, and what it held then; items that were written
    /// since are not in it.
    before: Option<(Shape, Held)>,
}

impl Used {
    fn new(path: &Path, durability: Durability, shape: Shape) -> Used {
        let types = shape.types();
        let mut region = Region::create(path, &options(durability), &types.encoded).unwrap();
        let held = Held {
            root: made(&shape.root, 1),
            items: BTreeMap::new(),
        };
        let root = region.transact(|tx| {
            let bytes = (8 * SLOTS + size(&shape.root)) as u64;
            let root = tx.alloc_untyped(types.root.type_id(), bytes)?;
            let values = write(&shape.root, &held.root);
            put(tx, root, types.root.type_id(), 8 * SLOTS as u64, &values)?;
            Ok::<_, Failure>(root)
        });
        region.set_root(root.unwrap());
        region.commit().unwrap();
        let before = None;
        Used {
            region,
            shape,
            held,
            before,
        }
    }

    /// Writes an item anew, makes one, or frees one: one transaction.
    fn act(&mut self, slot: usize, seed: u32) {
        let (shape, types) = (&self.shape, self.shape.types());
        let slot = slot % SLOTS;
        let there = self.held.items.contains_key(&slot);
        let free = there && seed.is_multiple_of(4);
        let item = shape.item(seed);
        let done = self.region.transact(|tx| {
            let (of_root, of_item) = (types.root.type_id(), types.item.type_id());
            let root = tx.root::<u8>().to_ref();
            let at = 8 * slot as u64;
            let mut object = Ref(tx.read_at(root, of_root, at)?);
            if free {
                tx.free_untyped(object, of_item)?;
                tx.write_at(root, of_root, at, &0u64)?;
                return Ok(());
            }
            if object.is_null() {
                object = tx.alloc_untyped(of_item, shape.item_size() as u64)?;
                tx.write_at(root, of_root, at, &object.0)?;
            }
            put(tx, object, of_item, 0, &shape.write_item(&item))?;
            Ok::<_, Failure>(())
        });
        done.unwrap();
        if free {
            self.held.items.remove(&slot);
        } else {
            self.held.items.insert(slot, item);
        }
        if let Some((_, before)) = &mut self.before {
            before.items.remove(&slot);
        }
    }

    /// What the region holds, in this shape.
    fn look(&mut self, shape: &Shape) -> Held {
        let types = shape.types();
        let seen = self.region.transact(|tx| {
            let root = tx.root::<u8>().to_ref();
            let of_root = types.root.type_id();
            let values = get(tx, root, of_root, 8 * SLOTS as u64, size(&shape.root))?;
            let mut held = Held {
                root: read(&shape.root, &values),
                items: BTreeMap::new(),
            };
            for slot in 0..SLOTS {
                let object = Ref(tx.read_at(root, of_root, 8 * slot as u64)?);
                if !object.is_null() {
                    let of_item = types.item.type_id();
                    let bytes = get(tx, object, of_item, 0, shape.item_size())?;
                    held.items.insert(slot, shape.read_item(&bytes));
                }
            }
            Ok::<_, Failure>(held)
        });
        seen.unwrap()
    }

    fn assert_held(&mut self, after: &dyn std::fmt::Debug) {
        let shape = self.shape.clone();
        let seen = self.look(&shape);
        // All of it would be pages.
        let differs = |slot: &usize| seen.items.get(slot) != self.held.items.get(slot);
        let items: Vec<usize> = (0..SLOTS).filter(differs).collect();
        let root = seen.root == self.held.root;
        assert!(
            root && items.is_empty(),
            "{after:?}: {root}, items {items:?}"
        );
    }

    fn carried(&self, to: &Shape) -> Held {
        let items = self.held.items.iter();
        Held {
            root: carried(&self.held.root, &to.root),
            items: items
                .map(|(slot, item)| (*slot, to.carried(item)))
                .collect(),
        }
    }

    /// To another shape by a conversion that goes on while it is used, or back to the one before in the midst
    /// of one.
    fn turn(&mut self, wanted: &Shape, enter: bool) {
        let swept = self.region.is_swept();
        let to = match &self.before {
            Some((before, _)) if swept => before.clone(),
            _ => wanted.clone(),
        };
        if to.types().encoded == self.shape.types().encoded {
            return;
        }
        let way = Way::new(&self.shape, &to);
        self.region.begin_conversion(way.stepwise()).unwrap();
        let held = self.carried(&to);
        let back = self.before.take_if(|_| swept);
        if !enter {
            let seen = self.look(&to);
            assert!(is_one_of(&seen, &held, back.as_ref()), "to {to:?}");
            self.region.cancel_conversion();
            self.before = back;
            return;
        }
        self.region.enter_conversion().unwrap();
        let left = std::mem::replace(&mut self.shape, to.clone());
        let seen = self.look(&to);
        assert!(is_one_of(&seen, &held, back.as_ref()), "to {to:?}");
        let held = std::mem::replace(&mut self.held, seen);
        self.before = Some((left, held));
    }

    /// To another shape at once.
    fn convert_all(&mut self, to: &Shape, path: &Path, durability: Durability) {
        let types = to.types();
        if self.region.is_swept() || types.encoded == self.shape.types().encoded {
            return;
        }
        let way = Way::new(&self.shape, to);
        let source = self.region.source();
        let building = way.plan.clone();
        let building = building.prepare(&source, path, &options(durability), &types.encoded);
        let mut building = building.unwrap();
        building
            .fill(&source, "{}", NOW, &|index, row| way.convert(index, row))
            .unwrap();
        self.held = self.carried(to);
        self.region = building.finish().unwrap();
        self.shape = to.clone();
        self.before = None;
    }

    fn open_again(self, path: &Path, durability: Durability, close: bool) -> Used {
        let Used {
            region,
            shape,
            held,
            before,
        } = self;
        match close {
            true => region.close().unwrap(),
            false => drop(region),
        }
        let mut region = Region::open(path, &options(durability), None).unwrap();
        if region.is_swept() {
            let (from, _) = before.as_ref().expect("something is converted");
            let way = Way::new(from, &shape);
            region.resume_conversion(way.stepwise()).unwrap();
        }
        Used {
            region,
            shape,
            held,
            before,
        }
    }
}

/// On a way back each value is converted there and back, or as it was to the bit if no conversion touched it.
fn is_one_of(seen: &Held, converted: &Held, before: Option<&(Shape, Held)>) -> bool {
    let Some((_, before)) = before else {
        return seen == converted;
    };
    let slots = seen.items.keys().eq(converted.items.keys());
    let item = |(slot, item): (&usize, &Item)| {
        converted.items.get(slot) == Some(item) || before.items.get(slot) == Some(item)
    };
    (seen.root == converted.root || seen.root == before.root)
        && slots
        && seen.items.iter().all(item)
}

fn options(durability: Durability) -> RegionOptions {
    RegionOptions {
        durability,
        ..RegionOptions::new("test", 0, 16 << 20)
    }
}

/// A change of the root's, the items' or the inner struct's fields: one goes, comes, gets another size, all
/// change places, or the inner struct does.
#[derive(Clone, Debug)]
struct Edit {
    which: u8,
    kind: u8,
    at: prop::sample::Index,
    size: u8,
}

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let edit = (0..3u8, 0..5u8, any::<prop::sample::Index>(), 1..40u8);
    let edit = edit.prop_map(|(which, kind, at, size)| Edit {
        which,
        kind,
        at,
        size,
    });
    prop::collection::vec(edit, 1..4)
}

#[derive(Clone, Debug)]
enum Event {
    Ops(Vec<(usize, u32)>),
    Sweep(u8),
    /// The process dies, and the region is opened again.
    Die,
    Close,
    /// To another shape, entered or taken back.
    Turn(Vec<Edit>, bool),
    /// To another shape in one go.
    Convert(Vec<Edit>),
}

fn fields(largest: u8) -> impl Strategy<Value = Fields> {
    let fields = prop::collection::btree_map("[a-e]", 1..=largest, 1..5);
    fields
        .prop_map(|fields| fields.into_iter().collect::<Fields>())
        .prop_shuffle()
}

fn shape() -> impl Strategy<Value = Shape> {
    let at = any::<prop::sample::Index>();
    (fields(20), fields(255), fields(20), at).prop_map(|(root, item, inner, at)| {
        let inner_at = at.index(item.len() + 1);
        Shape {
            root,
            item,
            inner,
            inner_at,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => prop::collection::vec((0..SLOTS, any::<u32>()), 1..60).prop_map(Event::Ops),
        3 => (1u8..5).prop_map(Event::Sweep),
        2 => Just(Event::Die),
        1 => Just(Event::Close),
        4 => (edits(), prop::bool::weighted(0.8)).prop_map(|(edits, enter)| Event::Turn(edits, enter)),
        1 => edits().prop_map(Event::Convert),
    ]
}

fn play(durability: Durability, first: Shape, events: &[Event]) {
    let dir = tempfile::tempdir().unwrap();
    let mut path = dir.path().join("0");
    let mut used = Used::new(&path, durability, first);
    for (number, event) in events.iter().enumerate() {
        match event {
            Event::Ops(ops) => ops.iter().for_each(|(slot, seed)| used.act(*slot, *seed)),
            Event::Sweep(steps) => {
                for _ in 0..*steps {
                    used.region.sweep(Duration::ZERO).unwrap();
                }
            }
            Event::Die => {
                used.region.make_durable().unwrap();
                used = used.open_again(&path, durability, false);
            }
            Event::Close => {
                used = used.open_again(&path, durability, true);
            }
            Event::Turn(edits, enter) => used.turn(&used.shape.edited(edits), *enter),
            Event::Convert(edits) => {
                let next = dir.path().join((number + 1).to_string());
                used.convert_all(&used.shape.edited(edits), &next, durability);
                if next.exists() {
                    path = next;
                }
            }
        }
        used.assert_held(event);
    }
    let swept = loop {
        match used.region.sweep(Duration::ZERO).unwrap() {
            Swept::Waits => std::thread::yield_now(),
            Swept::More => {}
            swept => break swept,
        }
    };
    assert_eq!(swept, Swept::Done);
    used.assert_held(&"the sweep");
    used.region.close().unwrap();
    let report = crate::inspect::check_file(&path, crate::inspect::Level::L3).unwrap();
    assert!(report.is_clean(), "{report:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    /// Random schemas, one after the other, with operations, sweeps, deaths and turns between.
    #[test]
    fn a_region_goes_through_any_schemas(
        power in prop::bool::weighted(0.3),
        first in shape(),
        events in prop::collection::vec(event(), 1..25),
    ) {
        let durability = if power { Durability::Power } else { Durability::Process };
        play(durability, first, &events);
    }
}
