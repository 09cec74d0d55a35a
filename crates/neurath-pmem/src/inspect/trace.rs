//! Level 2: everything that is reached from the root, by the schema.
//!
//! Objects wait in a list instead of on the stack. Each is looked into once, and a counter of
//! steps bounds the whole whatever a damaged schema claims.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher as _;

use neurath_abi::Ref;
use siphasher::sip::SipHasher13;

use super::data::type_text;
use super::image::{Bytes, Image, Tables};
use super::report::{Code, Done, Leak, Level, Report, Severity};
use crate::region::format::ROOT_AT;
use crate::region::{Media, RAW, object_size};
use crate::schema::{KindDesc, SchemaDesc};

const L2: Level = Level::L2;

/// What `collections/map.rs` calls so.
pub(super) const FAN: u64 = 512;
pub(super) const MAX_DEPTH: u64 = 3;
/// The longest bytes without a block.
pub(super) const INLINE: u64 = 20;

/// A collection that this program can follow.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'a> {
    Bytes,
    Map(MapTypes<'a>),
}

/// The types of a map's objects, and where a node has its parts.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapTypes<'a> {
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
        _ => None,
    }
}

/// The numbers in a map's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct MapHeader {
    pub len: u64,
    pub buckets: u64,
    pub top: Ref,
    pub depth: u64,
    pub key: [u64; 2],
}

impl MapHeader {
    pub fn read(bytes: &Bytes, at: u64) -> MapHeader {
        let word = |i: u64| bytes.peek(at + i * 8);
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
    fn bucket_of(&self, hash: u64) -> u64 {
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

/// A collection or an object that waits to be looked into.
enum Item<'a> {
    Value(&'a SchemaDesc, u64),
    Map(MapTypes<'a>, u64),
}

struct Trace<'a> {
    bytes: &'a Bytes,
    image: &'a Image,
    tables: &'a Tables,
    report: &'a mut Report,
    by_name: HashMap<&'a str, Vec<&'a SchemaDesc>>,
    seen: Vec<Vec<u64>>,
    waiting: Vec<Item<'a>>,
    steps: u64,
    given_up: bool,
    /// Kinds of collections that were met and cannot be followed.
    unknown: HashSet<u64>,
    references: u64,
    objects: u64,
    values: u64,
    maps: u64,
    entries: u64,
    hashes: u64,
    blocks: u64,
    shared: u64,
}

/// Traces; gives what nothing refers to, if that can be told.
pub(super) fn level2(
    image: &Image,
    tables: &Tables,
    report: &mut Report,
) -> Option<Vec<(u64, u16)>> {
    report.done(L2, Done::Partial);
    let errors = report.errors;
    let mut by_name: HashMap<&str, Vec<&SchemaDesc>> = HashMap::new();
    for schema in image.schema.object_types() {
        by_name.entry(&schema.name).or_default().push(schema);
    }
    let seen = tables
        .segments
        .iter()
        .map(|segment| vec![0; segment.as_ref().map_or(0, |segment| segment.live.len())])
        .collect();
    let mut trace = Trace {
        bytes: &image.bytes,
        image,
        tables,
        report,
        by_name,
        seen,
        waiting: Vec::new(),
        // Every byte of a sound region is looked at a few times at most.
        steps: (16 * image.superblock.length) + (1 << 20),
        given_up: false,
        unknown: HashSet::new(),
        references: 0,
        objects: 0,
        values: 0,
        maps: 0,
        entries: 0,
        hashes: 0,
        blocks: 0,
        shared: 0,
    };
    let root = Ref(image.bytes.word(ROOT_AT));
    trace.references += 1;
    if !root.is_null() {
        trace.follow(root, &[&image.schema], ROOT_AT);
    }
    trace.run();
    trace.finish(errors)
}

impl<'a> Trace<'a> {
    fn run(&mut self) {
        while let Some(item) = self.waiting.pop() {
            match item {
                Item::Value(schema, at) => self.value(schema, at),
                Item::Map(types, at) => self.map(types, at),
            }
            if self.given_up {
                return;
            }
        }
    }

    fn error(&mut self, code: Code, at: u64, message: String) {
        self.report.error(L2, code, at, message);
    }

    /// Counts a step; whether there may be another one.
    fn step(&mut self) -> bool {
        if self.steps == 0 && !self.given_up {
            self.given_up = true;
            let message = "the check was given up: it looked at each byte many times over".into();
            self.error(Code::TooMuchWork, 0, message);
        }
        self.steps = self.steps.saturating_sub(1);
        !self.given_up
    }

    /// Marks an object; whether it was not marked before.
    fn mark(&mut self, object: Ref) -> bool {
        let word = &mut self.seen[object.segment() as usize][usize::from(object.index()) / 64];
        let bit = 1 << (object.index() % 64);
        let new = *word & bit == 0;
        *word |= bit;
        self.objects += u64::from(new);
        new
    }

    fn bad(&mut self, object: Ref, at: u64, name: &str, why: &str) {
        let message = format!(
            "{}.{} should be an object of type {name}, and {why}",
            object.segment(),
            object.index()
        );
        self.error(Code::BadReference, at, message);
    }

    /// A reference that does not own: others may lead there too.
    fn follow(&mut self, object: Ref, types: &[&'a SchemaDesc], at: u64) {
        let mut found = Err("its type is not in the schema");
        for schema in types {
            found = place(self.tables, object, schema.type_id()).map(|(place, _)| (*schema, place));
            if found.is_ok() {
                break;
            }
        }
        match found {
            Ok((schema, place)) => {
                if self.mark(object) {
                    self.waiting.push(Item::Value(schema, place));
                }
            }
            Err(why) => {
                let name = types.first().map_or("?", |schema| &schema.name);
                self.bad(object, at, name, why);
            }
        }
    }

    /// A reference that owns: no other leads there. `None` where it leads nowhere.
    fn own(&mut self, object: Ref, schema: &SchemaDesc, at: u64) -> Option<u64> {
        self.references += 1;
        match place(self.tables, object, schema.type_id()) {
            Ok((place, _)) => {
                if self.mark(object) {
                    return Some(place);
                }
                let message = format!(
                    "{}.{}, of type {}, already has another owner",
                    object.segment(),
                    object.index(),
                    schema.name
                );
                self.error(Code::TwoOwners, at, message);
                None
            }
            Err(why) => {
                self.bad(object, at, &schema.name, why);
                None
            }
        }
    }

    /// Looks at a value. It nests as deep as its schema, which is at most 32.
    fn value(&mut self, schema: &'a SchemaDesc, at: u64) {
        if !self.step() {
            return;
        }
        self.values += 1;
        match &schema.kind {
            KindDesc::Primitive => {
                if schema.name == "bool" && schema.size == 1 {
                    let byte = self.bytes.get(at, 1).map_or(0, |byte| byte[0]);
                    if byte > 1 {
                        let message = format!("a bool is {byte}");
                        self.error(Code::BadValue, at, message);
                    }
                }
            }
            KindDesc::Struct(fields) => {
                for field in fields {
                    self.value(&field.schema, at + u64::from(field.offset));
                }
            }
            KindDesc::Enum { tag_size, variants } => {
                let tag = self.bytes.get(at, (*tag_size).into()).map_or(0, number);
                match variants.iter().find(|variant| variant.discriminant == tag) {
                    Some(variant) => {
                        for field in &variant.fields {
                            self.value(&field.schema, at + u64::from(field.offset));
                        }
                    }
                    None => {
                        let message = format!("{tag} is no value of the enum {}", schema.name);
                        self.error(Code::BadValue, at, message);
                    }
                }
            }
            KindDesc::Array { element, len } => {
                if element.size == 0 || is_plain(element) {
                    return;
                }
                for i in 0..u64::from(*len) {
                    self.value(element, at + i * u64::from(element.size));
                    if self.given_up {
                        return;
                    }
                }
            }
            KindDesc::Reference(target) => {
                let object = Ref(self.bytes.peek(at));
                self.references += 1;
                if !object.is_null() {
                    self.follow(object, &[target], at);
                }
            }
            KindDesc::Link(name) => {
                let object = Ref(self.bytes.peek(at));
                self.references += 1;
                if !object.is_null() {
                    let types = self.by_name.get(name.as_str()).cloned().unwrap_or_default();
                    self.follow(object, &types, at);
                }
            }
            KindDesc::Collection { .. } => match known(schema) {
                Some(Known::Bytes) => self.raw(at),
                Some(Known::Map(types)) => self.waiting.push(Item::Map(types, at)),
                None => {
                    if self.unknown.insert(schema.type_id()) {
                        let message = format!(
                            "{} is a collection that this program cannot follow: what it holds \
                             is not checked, and leaks cannot be told",
                            schema.name
                        );
                        self.report.notice(L2, Code::UnknownCollection, at, message);
                    }
                }
            },
        }
    }

    fn raw(&mut self, at: u64) {
        self.blocks += 1;
        let len = self.bytes.get(at, 4).map_or(0, number);
        let data = self.bytes.get(at + 4, INLINE).unwrap_or_default();
        let free = match len {
            0..=INLINE => data.get(len as usize..),
            _ => data.get(..12),
        };
        if free.unwrap_or_default().iter().any(|&byte| byte != 0) {
            let message = "what bytes leave free in their header is not zero".into();
            self.error(Code::BadValue, at + 4, message);
        }
        if len <= INLINE {
            return;
        }
        self.references += 1;
        let block = Ref(self.bytes.peek(at + 16));
        match place(self.tables, block, RAW) {
            Ok((_, size)) => {
                if size != object_size(RAW, len) {
                    let message =
                        format!("bytes of length {len} refer to a block that takes {size}");
                    self.error(Code::BadReference, at + 16, message);
                }
                if !self.mark(block) {
                    self.shared += 1;
                }
            }
            Err(why) => self.bad(block, at + 16, "raw bytes", why),
        }
    }

    fn map(&mut self, types: MapTypes<'a>, at: u64) {
        self.maps += 1;
        let header = MapHeader::read(self.bytes, at);
        if !header.is_sound() {
            let message = format!(
                "a map of {} entries in {} buckets at depth {}",
                header.len, header.buckets, header.depth
            );
            return self.error(Code::MapHeader, at, message);
        }
        if header.buckets == 0 {
            return;
        }
        let mut entries = 0;
        // Pages to look into, where each reference stands, how many levels of references are
        // below, and the first bucket.
        let mut pages = vec![(header.top, at + 16, header.depth, 0)];
        while let Some((page, from, level, first)) = pages.pop() {
            let Some(place) = self.own(page, types.page, from) else {
                continue;
            };
            for i in 0..FAN {
                if !self.step() {
                    return;
                }
                let word_at = place + i * 8;
                let object = Ref(self.bytes.peek(word_at));
                let bucket = first + i * FAN.pow(level as u32);
                if level == 0 {
                    // A bucket beyond the last is written before it is read.
                    if bucket >= header.buckets {
                        break;
                    }
                    entries += self.chain(&types, &header, bucket, object, word_at);
                } else if bucket < header.buckets {
                    pages.push((object, word_at, level - 1, bucket));
                } else if !object.is_null() {
                    let message = format!("a map has a page for bucket {bucket}, beyond its last");
                    self.error(Code::MapPages, word_at, message);
                }
            }
        }
        if entries != header.len {
            let message = format!(
                "a map says that it has {} entries, and {entries} are there",
                header.len
            );
            self.error(Code::MapLength, at, message);
        }
    }

    /// Looks at a chain of nodes; gives how many there are. A circle comes to a node that has an
    /// owner already.
    fn chain(
        &mut self,
        types: &MapTypes<'a>,
        header: &MapHeader,
        bucket: u64,
        mut node: Ref,
        mut from: u64,
    ) -> u64 {
        let mut count = 0;
        while !node.is_null() && self.step() {
            let Some(place) = self.own(node, types.node, from) else {
                break;
            };
            count += 1;
            let hash = self.bytes.peek(place);
            if header.bucket_of(hash) != bucket {
                let message = format!("an entry of hash {hash:016x} is in bucket {bucket}");
                self.error(Code::MapHash, place, message);
            }
            self.value(types.key.0, place + types.key.1);
            self.value(types.value.0, place + types.value.1);
            if let Some(wanted) = self.hash(header, types.key.0, place + types.key.1) {
                self.hashes += 1;
                if wanted != hash {
                    let message =
                        format!("an entry has hash {hash:016x}, and its key has {wanted:016x}");
                    self.error(Code::MapHash, place, message);
                }
            }
            from = place + 8;
            node = Ref(self.bytes.peek(from));
        }
        self.entries += count;
        count
    }

    /// The hash of a key, for the types that `MapKey` is implemented for.
    fn hash(&self, header: &MapHeader, key: &SchemaDesc, at: u64) -> Option<u64> {
        let bytes = match (&key.kind, known(key)) {
            (KindDesc::Primitive, _) => self.bytes.get(at, key.size.into())?,
            (_, Some(Known::Bytes)) => bytes_of(self.image, self.tables, at)?,
            _ => return None,
        };
        let mut hasher = SipHasher13::new_with_keys(header.key[0], header.key[1]);
        hasher.write(bytes);
        Some(hasher.finish())
    }

    fn finish(self, errors: u64) -> Option<Vec<(u64, u16)>> {
        let Trace {
            image,
            tables,
            report,
            seen,
            given_up,
            unknown,
            shared,
            ..
        } = self;
        for (what, count) in [
            ("references", self.references),
            ("objects reached", self.objects),
            ("values", self.values),
            ("maps", self.maps),
            ("maps' entries", self.entries),
            ("keys' hashes", self.hashes),
            ("byte strings", self.blocks),
        ] {
            report.checked(L2, what, count);
        }
        if shared > 0 {
            let message = format!("{shared} values share their block of bytes with another");
            report.notice(L2, Code::SharedBlock, 0, message);
        }
        let live: u64 = tables.all().map(|(_, segment)| segment.live_count()).sum();
        report.checked(L2, "objects that live", live);
        if given_up || !unknown.is_empty() {
            return None;
        }
        if report.errors == errors {
            report.done(L2, Done::Complete);
        }
        let names: HashMap<u64, String> = image
            .schema
            .object_types()
            .into_iter()
            .map(|schema| (schema.type_id(), type_text(schema)))
            .collect();
        let mut leaked = Vec::new();
        let mut leaks: BTreeMap<u64, (u64, u64, u64)> = BTreeMap::new();
        for (number, segment) in tables.all() {
            for (i, (live, seen)) in segment.live.iter().zip(&seen[number as usize]).enumerate() {
                let mut left = live & !seen;
                while left != 0 {
                    let index = (i * 64) as u16 + left.trailing_zeros() as u16;
                    left &= left - 1;
                    leaked.push((number, index));
                    let first = segment.place(index);
                    let leak = leaks.entry(segment.entry.type_id).or_insert((0, 0, first));
                    leak.0 += 1;
                    leak.1 += u64::from(segment.entry.object_size);
                }
            }
        }
        for (type_id, (objects, bytes, first)) in leaks {
            let type_name = match names.get(&type_id) {
                Some(name) => name.clone(),
                None if type_id == RAW => "raw bytes".into(),
                None => format!("{type_id:016x}"),
            };
            let message =
                format!("nothing refers to {objects} objects of {type_name}, of {bytes} bytes");
            report.add(L2, Severity::Leak, Code::Leak, first, message);
            report.leaks.push(Leak {
                type_name,
                type_id,
                objects,
                bytes,
            });
        }
        Some(leaked)
    }
}

/// Whether every pattern of bits is a value without references.
fn is_plain(schema: &SchemaDesc) -> bool {
    match &schema.kind {
        KindDesc::Primitive => schema.name != "bool",
        KindDesc::Struct(fields) => fields.iter().all(|field| is_plain(&field.schema)),
        KindDesc::Array { element, .. } => is_plain(element),
        _ => false,
    }
}
