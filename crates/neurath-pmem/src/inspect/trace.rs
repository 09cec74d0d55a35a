//! Level 2: everything that is reached from the root, by the schema.
//!
//! Objects wait in a list instead of on the stack. Each is looked into once, and a counter of
//! steps bounds the whole whatever a damaged schema claims.

mod trees;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::Hasher as _;

use neurath_abi::Ref;
use siphasher::sip::SipHasher13;

use super::data::type_text;
use super::image::{Bytes, Image, Tables};
use super::known::{FAN, INLINE, MapHeader, bytes_of, number, place};
use super::program::{Key, MapProgram, Op, Program, Programs, Target};
use super::report::{Code, Done, Leak, Level, Report, Severity};
use crate::region::format::ROOT_AT;
use crate::region::{Media, RAW, object_size};
use crate::schema::SchemaDesc;

const L2: Level = Level::L2;

/// A collection or an object that waits to be looked into.
enum Item {
    Object(usize, u64),
    Map(usize, u64),
    Ordered(usize, u64),
    Vector(usize, u64),
}

/// What has to be known of a segment to find an object in it, close together.
struct Row<'a> {
    type_id: u64,
    offset: u64,
    size: u64,
    live: &'a [u64],
    /// The first of its words in `Seen`.
    seen: usize,
}

/// The segments by number. One that is not there has no live objects.
struct Rows<'a>(Vec<Row<'a>>);

/// A live object.
#[derive(Clone, Copy)]
struct Found {
    at: u64,
    size: u64,
    word: usize,
    bit: u64,
}

impl<'a> Rows<'a> {
    /// The rows, and how many words of bits all objects need.
    fn new(tables: &'a Tables) -> (Rows<'a>, usize) {
        let mut words = 0;
        let rows = tables.segments.iter().map(|segment| {
            let seen = words;
            let Some(segment) = segment else {
                return Row {
                    type_id: 0,
                    offset: 0,
                    size: 0,
                    live: &[],
                    seen,
                };
            };
            words += segment.live.len();
            Row {
                type_id: segment.entry.type_id,
                offset: segment.entry.offset,
                size: segment.entry.object_size.into(),
                live: &segment.live,
                seen,
            }
        });
        let rows = rows.collect();
        (Rows(rows), words)
    }

    /// A live object of a type; bits beyond a segment's objects are errors of level 1, which
    /// keeps none of them.
    #[inline(always)]
    fn find(&self, object: Ref, type_id: u64) -> Option<Found> {
        let row = self.0.get(usize::try_from(object.segment()).ok()?)?;
        let index = usize::from(object.index());
        let bit = 1 << (index % 64);
        if row.live.get(index / 64)? & bit == 0 || row.type_id != type_id {
            return None;
        }
        Some(Found {
            at: row.offset + index as u64 * row.size,
            size: row.size,
            word: row.seen + index / 64,
            bit,
        })
    }
}

struct Trace<'a> {
    bytes: &'a Bytes,
    image: &'a Image,
    tables: &'a Tables,
    rows: Rows<'a>,
    report: &'a mut Report,
    programs: &'a Programs<'a>,
    /// A bit for each object, whether it was reached.
    seen: Vec<u64>,
    /// The object that is looked into next; the others wait.
    next: Option<(usize, u64)>,
    waiting: Vec<Item>,
    steps: u64,
    given_up: bool,
    /// Kinds of collections that were met and cannot be followed.
    unknown: HashSet<u64>,
    references: u64,
    values: u64,
    maps: u64,
    entries: u64,
    ordered_maps: u64,
    ordered_entries: u64,
    comparisons: u64,
    vectors: u64,
    elements: u64,
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
    if image.schema_before.is_some() {
        // Level 0 has said so.
        return None;
    }
    let errors = report.errors;
    let programs = Programs::new(&image.schema);
    let (rows, words) = Rows::new(tables);
    let mut trace = Trace {
        bytes: &image.bytes,
        image,
        tables,
        rows,
        report,
        programs: &programs,
        seen: vec![0; words],
        next: None,
        waiting: Vec::new(),
        // Every byte of a sound region is looked at a few times at most.
        steps: (16 * image.superblock.length) + (1 << 20),
        given_up: false,
        unknown: HashSet::new(),
        references: 0,
        values: 0,
        maps: 0,
        entries: 0,
        ordered_maps: 0,
        ordered_entries: 0,
        comparisons: 0,
        vectors: 0,
        elements: 0,
        hashes: 0,
        blocks: 0,
        shared: 0,
    };
    let root = Ref(image.bytes.word(ROOT_AT));
    trace.references += 1;
    if !root.is_null() {
        let targets = programs.root(&image.schema);
        trace.follow(root, &targets, &image.schema.name, ROOT_AT);
    }
    trace.run();
    trace.finish(errors)
}

impl<'a> Trace<'a> {
    fn run(&mut self) {
        loop {
            while let Some((program, at)) = self.next.take() {
                self.look(&self.programs.objects[program], at);
                if self.given_up {
                    return;
                }
            }
            let Some(item) = self.waiting.pop() else {
                return;
            };
            match item {
                Item::Object(program, at) => self.look(&self.programs.objects[program], at),
                Item::Map(map, at) => self.map(&self.programs.maps[map], at),
                Item::Ordered(map, at) => self.ordered(&self.programs.ordered[map], at),
                Item::Vector(vector, at) => self.vector(&self.programs.vectors[vector], at),
            }
            if self.given_up {
                return;
            }
        }
    }

    #[cold]
    fn error(&mut self, code: Code, at: u64, message: String) {
        self.report.error(L2, code, at, message);
    }

    /// Counts steps; whether there may be more.
    #[inline(always)]
    fn steps(&mut self, count: usize) -> bool {
        let left = self.steps.checked_sub(count as u64);
        self.steps = left.unwrap_or_default();
        if left.is_none() {
            self.give_up();
        }
        !self.given_up
    }

    #[cold]
    fn give_up(&mut self) {
        if !self.given_up {
            self.given_up = true;
            let message = "the check was given up: it looked at each byte many times over".into();
            self.error(Code::TooMuchWork, 0, message);
        }
    }

    /// Marks an object; whether it was not marked before.
    fn mark(&mut self, found: Found) -> bool {
        let word = &mut self.seen[found.word];
        let new = *word & found.bit == 0;
        *word |= found.bit;
        new
    }

    #[cold]
    fn bad(&mut self, object: Ref, at: u64, name: &str, type_id: Option<u64>) {
        let why = match type_id {
            Some(type_id) => place(self.tables, object, type_id).err(),
            None => Some("its type is not in the schema"),
        };
        let message = format!(
            "{}.{} should be an object of type {name}, and {}",
            object.segment(),
            object.index(),
            why.unwrap_or("it is none")
        );
        self.error(Code::BadReference, at, message);
    }

    /// A reference that does not own: others may lead there too.
    #[inline(always)]
    fn follow(&mut self, object: Ref, targets: &[Target], name: &str, at: u64) {
        for target in targets {
            if let Some(found) = self.rows.find(object, target.type_id) {
                if self.mark(found)
                    && let Some((program, at)) = self.next.replace((target.program, found.at))
                {
                    self.waiting.push(Item::Object(program, at));
                }
                return;
            }
        }
        let type_id = targets.last().map(|target| target.type_id);
        self.bad(object, at, name, type_id);
    }

    /// A reference that owns: no other leads there. `None` where it leads nowhere.
    fn own(&mut self, object: Ref, type_id: u64, schema: &SchemaDesc, at: u64) -> Option<u64> {
        self.references += 1;
        let Some(found) = self.rows.find(object, type_id) else {
            self.bad(object, at, &schema.name, Some(type_id));
            return None;
        };
        if self.mark(found) {
            return Some(found.at);
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

    /// Looks at a value. Programs nest as deep as the schema, which has a limit. References are
    /// followed here and the rest is done elsewhere: most objects have nothing else.
    #[inline(always)]
    fn look(&mut self, program: &'a Program<'a>, from: u64) {
        if !self.steps(1 + program.ops.len()) {
            return;
        }
        self.values += program.values;
        for op in &program.ops {
            let Op::Refer { at, targets, name } = op else {
                self.look_at(op, from);
                if self.given_up {
                    return;
                }
                continue;
            };
            let at = from + at;
            let object = Ref(self.bytes.peek(at));
            self.references += 1;
            if !object.is_null() {
                self.follow(object, targets, name, at);
            }
        }
    }

    /// Looks at what is no reference.
    #[inline(never)]
    fn look_at(&mut self, op: &'a Op<'a>, from: u64) {
        match op {
            Op::Refer { .. } => {}
            Op::Bytes { at } => self.raw(from + at),
            Op::Map { at, map } => self.waiting.push(Item::Map(*map, from + at)),
            Op::Ordered { at, map } => self.waiting.push(Item::Ordered(*map, from + at)),
            Op::Vector { at, vector } => self.waiting.push(Item::Vector(*vector, from + at)),
            Op::Bool { at } => {
                let byte = self.bytes.get(from + at, 1).map_or(0, |byte| byte[0]);
                if byte > 1 {
                    self.error(Code::BadValue, from + at, format!("a bool is {byte}"));
                }
            }
            Op::Enum {
                at,
                tag_size,
                name,
                variants,
            } => {
                let at = from + at;
                let tag = self.bytes.get(at, *tag_size).map_or(0, number);
                match variants.iter().find(|(known, _)| *known == tag) {
                    Some((_, fields)) => self.look(fields, at),
                    None => {
                        let message = format!("{tag} is no value of the enum {name}");
                        self.error(Code::BadValue, at, message);
                    }
                }
            }
            Op::Array {
                at,
                stride,
                len,
                element,
            } => {
                for i in 0..*len {
                    self.look(element, from + at + i * stride);
                    if self.given_up {
                        return;
                    }
                }
            }
            Op::Unknown { at, schema } => self.unknown(from + at, schema),
        }
    }

    #[cold]
    fn unknown(&mut self, at: u64, schema: &SchemaDesc) {
        if self.unknown.insert(schema.type_id()) {
            let message = format!(
                "{} is a collection that this program cannot follow: what it holds is not \
                 checked, and leaks cannot be told",
                schema.name
            );
            self.report.notice(L2, Code::UnknownCollection, at, message);
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
        match self.rows.find(block, RAW) {
            Some(found) => {
                if found.size != object_size(RAW, len) {
                    let message = format!(
                        "bytes of length {len} refer to a block that takes {}",
                        found.size
                    );
                    self.error(Code::BadReference, at + 16, message);
                }
                if !self.mark(found) {
                    self.shared += 1;
                }
            }
            None => self.bad(block, at + 16, "raw bytes", Some(RAW)),
        }
    }

    fn map(&mut self, map: &'a MapProgram<'a>, at: u64) {
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
            let Some(place) = self.own(page, map.page, map.types.page, from) else {
                continue;
            };
            if level == 0 {
                self.touch(map, place);
            }
            for i in 0..FAN {
                if !self.steps(1) {
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
                    entries += self.chain(map, &header, bucket, object, word_at);
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

    /// Reads the first entry of each bucket of a page, and changes nothing. They lie anywhere in
    /// the file; read at once, the processor waits for several at a time, and they are near when
    /// the buckets are looked into one by one.
    fn touch(&self, map: &MapProgram<'_>, page: u64) {
        let sum = (0..FAN).fold(0, |sum, i| {
            let node = Ref(self.bytes.peek(page + i * 8));
            let found = self.rows.find(node, map.node);
            sum ^ found.map_or(0, |found| self.bytes.peek(found.at))
        });
        std::hint::black_box(sum);
    }

    /// Looks at a chain of nodes; gives how many there are. A circle comes to a node that has an
    /// owner already.
    fn chain(
        &mut self,
        map: &'a MapProgram<'a>,
        header: &MapHeader,
        bucket: u64,
        mut node: Ref,
        mut from: u64,
    ) -> u64 {
        let mut count = 0;
        while !node.is_null() && self.steps(1) {
            let Some(place) = self.own(node, map.node, map.types.node, from) else {
                break;
            };
            count += 1;
            let hash = self.bytes.peek(place);
            if header.bucket_of(hash) != bucket {
                let message = format!("an entry of hash {hash:016x} is in bucket {bucket}");
                self.error(Code::MapHash, place, message);
            }
            self.look(&map.entry, place);
            if let Some(wanted) = self.hash(header, map.key, place + map.types.key.1) {
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
    fn hash(&self, header: &MapHeader, key: Key, at: u64) -> Option<u64> {
        let bytes = match key {
            Key::Plain(size) => self.bytes.get(at, size)?,
            Key::Bytes => bytes_of(self.image, self.tables, at)?,
            Key::Unknown => return None,
        };
        let mut hasher = SipHasher13::new_with_keys(header.key[0], header.key[1]);
        hasher.write(bytes);
        Some(hasher.finish())
    }

    fn finish(self, errors: u64) -> Option<Vec<(u64, u16)>> {
        let Trace {
            image,
            tables,
            rows,
            report,
            seen,
            given_up,
            unknown,
            shared,
            ..
        } = self;
        // Each has its bit: nothing is counted on the way.
        let reached = seen.iter().map(|word| u64::from(word.count_ones())).sum();
        for (what, count) in [
            ("references", self.references),
            ("objects reached", reached),
            ("values", self.values),
            ("maps", self.maps),
            ("maps' entries", self.entries),
            ("keys' hashes", self.hashes),
            ("ordered maps", self.ordered_maps),
            ("ordered maps' entries", self.ordered_entries),
            ("keys compared", self.comparisons),
            ("vectors", self.vectors),
            ("vectors' elements", self.elements),
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
            let seen = &seen[rows.0[number as usize].seen..];
            for (i, (live, seen)) in segment.live.iter().zip(seen).enumerate() {
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
