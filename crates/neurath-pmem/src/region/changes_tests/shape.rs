//! Made-up schemas, and the conversions between them that a library would have.

use std::collections::BTreeMap;

use crate::migrate::{Conversion, MigrationPlan, Row, Stepwise, StepwiseLink};
use crate::schema::{SchemaDesc, encode, encoded_len};
use crate::{Bytes, Map, OrderedMap, Pmem, Vector};

/// References in the root.
pub(super) const SLOTS: usize = 120;
/// When conversions began.
pub(super) const NOW: u64 = 7;

/// Fields by their names, with their sizes in bytes, in the order in which they lie.
pub(super) type Fields = Vec<(String, u16)>;
/// Values by the names of their fields.
pub(super) type Values = BTreeMap<String, Vec<u8>>;

/// A collection that the root may have. Two have nodes of the same type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Kind {
    Map,
    Same,
    Sorted,
    Texts,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Map, Kind::Same, Kind::Sorted, Kind::Texts];

    fn name(self) -> &'static str {
        match self {
            Kind::Map => "map",
            Kind::Same => "same",
            Kind::Sorted => "sorted",
            Kind::Texts => "texts",
        }
    }

    /// Its type, as it stands in another one's encoding.
    fn encoded(self) -> &'static [u8] {
        const MAP: [u8; encoded_len(<Map<u32, u64>>::SCHEMA)] = encode(<Map<u32, u64>>::SCHEMA);
        const SORTED: [u8; encoded_len(<OrderedMap<u32, u32>>::SCHEMA)] =
            encode(<OrderedMap<u32, u32>>::SCHEMA);
        const TEXTS: [u8; encoded_len(<Vector<Bytes>>::SCHEMA)] = encode(<Vector<Bytes>>::SCHEMA);
        match self {
            Kind::Map | Kind::Same => &MAP[1..],
            Kind::Sorted => &SORTED[1..],
            Kind::Texts => &TEXTS[1..],
        }
    }

    fn size(self) -> usize {
        match self {
            Kind::Map | Kind::Same => size_of::<Map<u32, u64>>(),
            Kind::Sorted => size_of::<OrderedMap<u32, u32>>(),
            Kind::Texts => size_of::<Vector<Bytes>>(),
        }
    }
}

/// What the state looks like.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Shape {
    pub(super) root: Fields,
    /// Before the root's fields.
    pub(super) lists: Vec<Kind>,
    pub(super) item: Fields,
    pub(super) inner: Fields,
    /// Where among an item's fields the inner struct stands.
    pub(super) inner_at: usize,
}

/// An item's values: its own, and those of the struct in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Item {
    pub(super) own: Values,
    pub(super) inner: Values,
}

/// What the root has: values, and the numbers in its collections.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Root {
    pub(super) values: Values,
    pub(super) lists: BTreeMap<Kind, Vec<u32>>,
}

pub(super) fn size(fields: &[(String, u16)]) -> usize {
    fields.iter().map(|(_, size)| usize::from(*size)).sum()
}

fn head(kind: u8, name: &str, size: usize) -> Vec<u8> {
    let mut out = vec![kind, name.len() as u8];
    out.extend(name.as_bytes());
    out.extend((size as u32).to_le_bytes());
    out.extend(1u16.to_le_bytes());
    out
}

/// A struct of fields with their types and sizes.
fn structure(name: &str, parts: &[(&str, Vec<u8>, usize)]) -> Vec<u8> {
    let size = parts.iter().map(|(.., size)| size).sum();
    let (mut out, mut at) = (head(2, name, size), 0u32);
    out.extend((parts.len() as u16).to_le_bytes());
    for (name, encoded, size) in parts {
        out.push(name.len() as u8);
        out.extend(name.as_bytes());
        out.extend(at.to_le_bytes());
        out.extend(encoded);
        at += *size as u32;
    }
    out
}

fn primitives(fields: &Fields) -> Vec<(&str, Vec<u8>, usize)> {
    let sizes = fields.iter().map(|(_, size)| usize::from(*size));
    let names = fields.iter().map(|(name, _)| name.as_str());
    names
        .zip(sizes)
        .map(|(name, size)| (name, head(1, &format!("bytes{size}"), size), size))
        .collect()
}

fn described(encoded: &[u8]) -> SchemaDesc {
    SchemaDesc::decode(&[&[1], encoded].concat()).expect("a schema")
}

/// A shape's types.
pub(super) struct Types {
    pub(super) encoded: Vec<u8>,
    pub(super) root: SchemaDesc,
    pub(super) item: SchemaDesc,
    inner: SchemaDesc,
}

impl Shape {
    pub(super) fn types(&self) -> Types {
        let inner = structure("Inner", &primitives(&self.inner));
        let mut parts = primitives(&self.item);
        parts.insert(self.inner_at, ("inner", inner.clone(), size(&self.inner)));
        let item = structure("Item", &parts);
        let mut slots = head(4, "array", 8 * SLOTS);
        slots.extend((SLOTS as u32).to_le_bytes());
        slots.extend([head(5, "P", 8), item.clone()].concat());
        let mut parts = vec![("slots", slots, 8 * SLOTS)];
        let lists = self.lists.iter();
        parts.extend(lists.map(|one| (one.name(), one.encoded().to_vec(), one.size())));
        parts.extend(primitives(&self.root));
        let root = structure("Root", &parts);
        Types {
            root: described(&root),
            item: described(&item),
            inner: described(&inner),
            encoded: [&[1], &root[..]].concat(),
        }
    }

    /// Where a collection stands in the root.
    pub(super) fn list_at(&self, kind: Kind) -> Option<usize> {
        let number = self.lists.iter().position(|one| *one == kind)?;
        let before = self.lists[..number].iter().map(|one| one.size());
        Some(8 * SLOTS + before.sum::<usize>())
    }

    /// Where the root's fields begin.
    pub(super) fn fields_at(&self) -> usize {
        8 * SLOTS + self.lists.iter().map(|one| one.size()).sum::<usize>()
    }

    pub(super) fn item_size(&self) -> usize {
        size(&self.item) + size(&self.inner)
    }

    /// Where a field of an item, or of the struct in it, begins; and how long it is.
    pub(super) fn field_at(&self, name: &str, within: bool) -> (usize, usize) {
        let inner_at = size(&self.item[..self.inner_at]);
        let fields = if within { &self.inner } else { &self.item };
        let number = fields.iter().position(|one| one.0 == name);
        let number = number.expect("a field of the shape");
        let before = size(&fields[..number]);
        let at = match within {
            true => inner_at + before,
            false if number < self.inner_at => before,
            false => before + size(&self.inner),
        };
        (at, fields[number].1.into())
    }

    pub(super) fn write_item(&self, item: &Item) -> Vec<u8> {
        let mut bytes = write(&self.item[..self.inner_at], &item.own);
        bytes.extend(write(&self.inner, &item.inner));
        bytes.extend(write(&self.item[self.inner_at..], &item.own));
        bytes
    }

    pub(super) fn read_item(&self, bytes: &[u8]) -> Item {
        let (before, rest) = bytes.split_at(size(&self.item[..self.inner_at]));
        let (inner, after) = rest.split_at(size(&self.inner));
        let mut own = read(&self.item[..self.inner_at], before);
        own.extend(read(&self.item[self.inner_at..], after));
        let inner = read(&self.inner, inner);
        Item { own, inner }
    }

    pub(super) fn item(&self, seed: u32) -> Item {
        Item {
            own: made(&self.item, seed),
            inner: made(&self.inner, seed ^ 77),
        }
    }

    /// An item of another shape, as one of this.
    pub(super) fn carried(&self, item: &Item) -> Item {
        Item {
            own: carried(&item.own, &self.item),
            inner: carried(&item.inner, &self.inner),
        }
    }

    /// The root of another shape, as one of this.
    pub(super) fn carried_root(&self, root: &Root) -> Root {
        let list = |kind: &Kind| (*kind, root.lists.get(kind).cloned().unwrap_or_default());
        Root {
            values: carried(&root.values, &self.root),
            lists: self.lists.iter().map(list).collect(),
        }
    }
}

/// A value of a size.
pub(super) fn value(seed: u32, size: usize) -> Vec<u8> {
    let byte = |i: usize| (seed.wrapping_mul(31).wrapping_add(i as u32 * 7) >> (i % 9)) as u8;
    (0..size).map(byte).collect()
}

pub(super) fn made(fields: &[(String, u16)], seed: u32) -> Values {
    let value = |(name, size): &(String, u16)| (name.clone(), value(seed, (*size).into()));
    fields.iter().map(value).collect()
}

pub(super) fn write(fields: &[(String, u16)], values: &Values) -> Vec<u8> {
    let of = |(name, _): &(String, u16)| values[name].clone();
    fields.iter().flat_map(of).collect()
}

pub(super) fn read(fields: &[(String, u16)], mut bytes: &[u8]) -> Values {
    let mut values = Values::new();
    for (name, size) in fields {
        let (value, rest) = bytes.split_at((*size).into());
        values.insert(name.clone(), value.to_vec());
        bytes = rest;
    }
    values
}

/// Values by their names in other fields: cut, or filled up with zeros; one that is new tells its name.
fn carried(values: &Values, fields: &[(String, u16)]) -> Values {
    let value = |(name, size): &(String, u16)| {
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
pub(super) struct Way {
    from: Shape,
    to: Shape,
    /// `Root`, `Item` and `Inner`: those whose own fields changed. Where they only lie otherwise, or what is in them
    /// has changed, the plan knows what to do.
    which: Vec<usize>,
    pub(super) plan: MigrationPlan,
}

impl Way {
    pub(super) fn new(from: &Shape, to: &Shape) -> Way {
        let (old, new) = (from.types(), to.types());
        let by_name = |fields: &Fields| fields.iter().cloned().collect::<BTreeMap<_, _>>();
        let differ = |a: &Fields, b: &Fields| by_name(a) != by_name(b);
        let lists = |shape: &Shape| {
            let mut lists = shape.lists.clone();
            lists.sort();
            lists
        };
        let root = differ(&from.root, &to.root) || lists(from) != lists(to);
        let pairs = [
            (root, &old.root, &new.root),
            (differ(&from.item, &to.item), &old.item, &new.item),
            (differ(&from.inner, &to.inner), &old.inner, &new.inner),
        ];
        let (mut which, mut conversions) = (Vec::new(), Vec::new());
        for (number, (differ, old, new)) in pairs.into_iter().enumerate() {
            if differ {
                which.push(number);
                let (from, to) = (old.fingerprint, new.fingerprint);
                conversions.push(Conversion { from, to });
            }
        }
        Way {
            from: from.clone(),
            to: to.clone(),
            which,
            plan: MigrationPlan::new(&old.root, &new.root, &conversions).expect("all is covered"),
        }
    }

    /// As a library converts: each live value of a row.
    pub(super) fn convert(&self, index: usize, row: Row<'_>) -> Result<(), String> {
        assert_eq!(row.now_ms, NOW);
        let (from, to) = (&self.from, &self.to);
        for place in (0..row.count).filter(|place| row.live[place / 64] >> (place % 64) & 1 == 1) {
            let old = &row.old[place * row.old_stride..];
            let new = match self.which[index] {
                0 => self.convert_root(old),
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

    fn convert_root(&self, old: &[u8]) -> Vec<u8> {
        let (from, to) = (&self.from, &self.to);
        let mut new = old[..8 * SLOTS].to_vec();
        for kind in &to.lists {
            // Zeros are an empty one.
            let size = kind.size();
            match from.list_at(*kind) {
                Some(at) => new.extend(&old[at..at + size]),
                None => new.resize(new.len() + size, 0),
            }
        }
        let fields = &old[from.fields_at()..][..size(&from.root)];
        new.extend(write(
            &to.root,
            &carried(&read(&from.root, fields), &to.root),
        ));
        new
    }

    pub(super) fn stepwise(&self) -> Stepwise {
        let way = self.clone();
        let link = StepwiseLink {
            plan: self.plan.clone(),
            extra: "{}".into(),
        };
        let convert = Box::new(move |_: usize, index: usize, row: Row<'_>| way.convert(index, row));
        let (old, new) = (self.from.types().encoded, self.to.types().encoded);
        Stepwise::new(&old, &new, vec![link], NOW, convert).expect("types tell")
    }
}
