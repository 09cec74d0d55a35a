//! The collections that this program can follow, and where objects stand.

use neurath_abi::Ref;

use super::image::{Bytes, Image, Tables};
use super::trees::{OrderedTypes, VectorTypes};
use crate::region::RAW;
use crate::schema::{KindDesc, SchemaDesc};

/// What `collections/map.rs` calls so.
pub(crate) const FAN: u64 = 512;
pub(super) const MAX_DEPTH: u64 = 3;
/// The longest bytes without a block.
pub(crate) const INLINE: u64 = 20;

/// A collection that this program can follow.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known<'a> {
    Bytes,
    Map(MapTypes<'a>),
    Ordered(OrderedTypes<'a>),
    Vector(VectorTypes<'a>),
}

/// The types of a map's objects, and where a node has its parts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapTypes<'a> {
    pub node: &'a SchemaDesc,
    pub page: &'a SchemaDesc,
    pub key: (&'a SchemaDesc, u64),
    pub value: (&'a SchemaDesc, u64),
}

/// Which of the known collections a type is; by its shape, not by its name only.
pub(super) fn known(schema: &SchemaDesc) -> Option<Known<'_>> {
    let KindDesc::Collection { fields, objects } = &schema.kind else {
        return None;
    };
    let shape: Vec<(&str, u32, u32)> = fields
        .iter()
        .map(|field| (field.name.as_str(), field.offset, field.schema.size))
        .collect();
    match (schema.name.as_str(), &shape[..], &objects[..]) {
        ("Bytes", [("len", 0, 4), ("data", 4, 20)], []) if schema.size == 24 => Some(Known::Bytes),
        (
            "Map",
            [
                ("len", 0, 8),
                ("buckets", 8, 8),
                ("top", 16, 8),
                ("depth", 24, 8),
                ("key", 32, 16),
            ],
            [node, page],
        ) if schema.size == 48 => {
            let KindDesc::Struct(parts) = &node.kind else {
                return None;
            };
            let [hash, next, key, value] = &parts[..] else {
                return None;
            };
            let sound = (hash.offset, hash.schema.size) == (0, 8)
                && (next.offset, next.schema.size) == (8, 8)
                && key.offset == 16
                && matches!(&page.kind, KindDesc::Array { len: 512, .. })
                && page.size == 4096;
            sound.then_some(Known::Map(MapTypes {
                node,
                page,
                key: (&key.schema, key.offset.into()),
                value: (&value.schema, value.offset.into()),
            }))
        }
        ("OrderedMap", [("len", 0, 8), ("top", 8, 8), ("depth", 16, 8)], [leaf, inner])
            if schema.size == 24 =>
        {
            OrderedTypes::of(leaf, inner).map(Known::Ordered)
        }
        ("Vector", [("len", 0, 8), ("top", 8, 8), ("depth", 16, 8)], [page, index])
            if schema.size == 24 =>
        {
            VectorTypes::of(page, index).map(Known::Vector)
        }
        _ => None,
    }
}

/// The numbers in a map's header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapHeader {
    pub len: u64,
    pub buckets: u64,
    pub top: Ref,
    pub depth: u64,
    pub key: [u64; 2],
}

impl MapHeader {
    pub(super) fn read(bytes: &Bytes, at: u64) -> MapHeader {
        MapHeader::of(|i| bytes.peek(at + i * 8))
    }

    /// From its words.
    pub fn of(word: impl Fn(u64) -> u64) -> MapHeader {
        MapHeader {
            len: word(0),
            buckets: word(1),
            top: Ref(word(2)),
            depth: word(3),
            key: [word(4), word(5)],
        }
    }

    pub fn is_sound(&self) -> bool {
        self.depth <= MAX_DEPTH
            && self.buckets <= FAN.pow(self.depth as u32 + 1)
            && if self.buckets == 0 {
                self.len == 0 && self.top.is_null() && self.depth == 0
            } else {
                self.len < 1 << 48
            }
    }

    /// The bucket that a hash leads to: see `Map::bucket_of`.
    pub fn bucket_of(&self, hash: u64) -> u64 {
        let mask = self.buckets.next_power_of_two() - 1;
        let bucket = hash & mask;
        if bucket < self.buckets {
            bucket
        } else {
            bucket & (mask >> 1)
        }
    }
}

/// A number of up to 8 bytes.
pub(super) fn number(bytes: &[u8]) -> u64 {
    let mut le = [0; 8];
    let len = bytes.len().min(8);
    le[..len].copy_from_slice(&bytes[..len]);
    u64::from_le_bytes(le)
}

/// What bytes in place, or their block, hold.
pub(super) fn bytes_of<'a>(image: &'a Image, tables: &Tables, at: u64) -> Option<&'a [u8]> {
    let len = number(image.bytes.get(at, 4)?);
    if len <= INLINE {
        return image.bytes.get(at + 4, len);
    }
    let (place, size) = place(tables, Ref(image.bytes.peek(at + 16)), RAW).ok()?;
    (len <= size).then(|| image.bytes.get(place, len)).flatten()
}

/// Where a live object of a type stands, and what it takes; or why there is none.
pub(super) fn place(
    tables: &Tables,
    object: Ref,
    type_id: u64,
) -> Result<(u64, u64), &'static str> {
    let Some(segment) = tables.get(object.segment()) else {
        return Err("there is no such segment");
    };
    if u32::from(object.index()) >= segment.entry.capacity {
        return Err("its segment has no such object");
    }
    if segment.entry.type_id != type_id {
        return Err("its segment has objects of another type");
    }
    if !segment.is_live(object.index()) {
        return Err("no object lives there");
    }
    Ok((
        segment.place(object.index()),
        segment.entry.object_size.into(),
    ))
}
