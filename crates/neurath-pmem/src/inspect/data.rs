//! A region's contents for people and for other programs.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;

use neurath_abi::Ref;

use super::CheckOptions;
use super::image::{Bytes, Image, Tables};
use super::known::{FAN, Known, MapHeader, MapTypes, bytes_of, known, number, place};
use super::levels;
use super::report::Report;
use super::trees::{self, OrderedTypes, TreeHeader, VectorTypes};
use crate::history::History;
use crate::region::format::{Header, ROOT_AT, SUPERBLOCK_AT, Superblock};
use crate::region::{Durability, Medium};
use crate::region::{FormatError, Media, RAW};
use crate::schema::{FieldDesc, KindDesc, SchemaDesc};

/// A value as JSON knows it.
#[derive(Clone, PartialEq, Debug)]
pub enum Data {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A number without a sign.
    Unsigned(u128),
    /// A number with one.
    Signed(i128),
    /// A number with a fraction.
    Float(f64),
    /// Text.
    Text(String),
    /// Values in a row.
    List(Vec<Data>),
    /// Values with names.
    Fields(Vec<(String, Data)>),
}

/// How much of the state is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DataLimits {
    /// Entries of a map, elements of an array.
    pub entries: u64,
    /// Bytes of a byte string.
    pub bytes: u64,
    /// How many references are followed, one after the other.
    pub depth: u32,
}

impl Default for DataLimits {
    fn default() -> DataLimits {
        DataLimits {
            entries: 100,
            bytes: 4096,
            depth: 4,
        }
    }
}

/// What one type of objects takes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TypeUse {
    /// The type, for people.
    pub type_name: String,
    /// Its id.
    pub type_id: u64,
    /// Segments of such objects.
    pub segments: u64,
    /// Bytes of these segments.
    pub segment_bytes: u64,
    /// Objects that live.
    pub objects: u64,
    /// Bytes of these.
    pub bytes: u64,
}

/// A superblock's slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SlotView {
    /// What is in it, or why that cannot be read.
    pub superblock: Result<Superblock, String>,
    /// Whether it is the one that counts.
    pub current: bool,
}

/// What is in a region's file.
#[derive(Clone, PartialEq, Debug)]
pub struct Inspection {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// The header.
    pub header: Header,
    /// The two superblocks.
    pub slots: [SlotView; 2],
    /// Transactions since the region was made.
    pub sequence: u64,
    /// The type of the root object.
    pub schema: SchemaDesc,
    /// What each type takes.
    pub types: Vec<TypeUse>,
    /// Chunks of the segment table.
    pub chunks: u64,
    /// What it asks of its medium, by the superblock that counts.
    pub durability: Durability,
    /// What the file's medium gives; none of bytes in memory.
    pub medium: Option<Medium>,
    /// The migrations that the state went through, as far as they are recorded.
    pub history: History,
    /// The first errors of levels 0 and 1.
    pub problems: Vec<String>,
    /// The state, if it was asked for.
    pub data: Option<Data>,
}

pub(super) fn inspect(bytes: Bytes, limits: Option<DataLimits>) -> Result<Inspection, FormatError> {
    let mut report = Report::default();
    let file_bytes = bytes.len();
    let Some(mut image) = levels::level0(bytes, CheckOptions::default(), &mut report) else {
        return Err(why_not(&report));
    };
    let tables = levels::level1(&image, &mut report).unwrap_or_default();
    let slots = [0, 1].map(|slot| {
        let page = image.bytes.bytes(SUPERBLOCK_AT[slot], 4096);
        SlotView {
            superblock: Superblock::parse(page, &image.header).map_err(|error| error.to_string()),
            current: slot == image.slot,
        }
    });
    let shown = limits.filter(|_| image.schema_before.is_none());
    let data = shown.map(|limits| {
        let reader = Reader {
            image: &image,
            tables: &tables,
            limits,
            names: image
                .schema
                .object_types()
                .into_iter()
                .map(|schema| (schema.name.as_str(), schema))
                .collect(),
        };
        let mut budget = 1 << 20;
        let root = Ref(image.bytes.word(ROOT_AT));
        reader.reference(root, &image.schema, limits.depth + 1, &mut budget)
    });
    let types = uses(&image, &tables);
    image.tables = None;
    Ok(Inspection {
        file_bytes,
        header: image.header,
        slots,
        sequence: image.sequence,
        schema: image.schema,
        types,
        chunks: tables.chunks.len() as u64,
        durability: image.superblock.durability,
        medium: None,
        history: report.history,
        problems: report
            .findings
            .iter()
            .map(|finding| finding.message.clone())
            .collect(),
        data,
    })
}

/// The error behind a level 0 that found no region.
fn why_not(report: &Report) -> FormatError {
    let error = report
        .findings
        .iter()
        .find(|finding| finding.severity == super::Severity::Error)
        .map_or("there is no region".into(), |error| error.message.clone());
    FormatError::Unreadable { error }
}

fn uses(image: &Image, tables: &Tables) -> Vec<TypeUse> {
    let names: HashMap<u64, String> = image
        .object_types()
        .map(|schema| (schema.type_id(), type_text(schema)))
        .collect();
    let mut uses: BTreeMap<u64, TypeUse> = BTreeMap::new();
    for (_, segment) in tables.all() {
        let type_id = segment.entry.type_id;
        let entry = uses.entry(type_id).or_insert_with(|| TypeUse {
            type_name: match names.get(&type_id) {
                Some(name) => name.clone(),
                None if type_id == RAW => "raw bytes".into(),
                None => "unknown".into(),
            },
            type_id,
            segments: 0,
            segment_bytes: 0,
            objects: 0,
            bytes: 0,
        });
        entry.segments += 1;
        entry.segment_bytes += segment.entry.length;
        entry.objects += segment.live_count();
        entry.bytes += segment.live_count() * u64::from(segment.entry.object_size);
    }
    let mut uses: Vec<TypeUse> = uses.into_values().collect();
    uses.sort_by(|a, b| (b.bytes, &a.type_name).cmp(&(a.bytes, &b.type_name)));
    uses
}

/// A type as one would write it in Rust.
pub fn type_text(schema: &SchemaDesc) -> String {
    match &schema.kind {
        KindDesc::Array { element, len } if schema.name == "array" => {
            format!("[{}; {len}]", type_text(element))
        }
        KindDesc::Reference(target) => format!("P<{}>", target.name),
        KindDesc::Link(target) => format!("P<{target}>"),
        KindDesc::Collection { .. } => match known(schema) {
            Some(Known::Map(types)) => {
                format!(
                    "Map<{}, {}>",
                    type_text(types.key.0),
                    type_text(types.value.0)
                )
            }
            Some(Known::Ordered(types)) => format!(
                "OrderedMap<{}, {}>",
                type_text(types.keys.schema),
                type_text(types.values.schema)
            ),
            Some(Known::Vector(types)) => format!("Vector<{}>", type_text(types.elements.schema)),
            _ => schema.name.clone(),
        },
        KindDesc::Struct(fields) if schema.name == "MapNode" && fields.len() == 4 => format!(
            "MapNode<{}, {}>",
            type_text(&fields[2].schema),
            type_text(&fields[3].schema)
        ),
        KindDesc::Array { element, .. } if schema.name == "MapPage" => match &element.kind {
            KindDesc::Reference(node) => type_text(node).replacen("MapNode", "MapPage", 1),
            _ => schema.name.clone(),
        },
        _ => schema.name.clone(),
    }
}

/// A schema as declarations: the root's type, then those that it is made of.
pub fn schema_text(schema: &SchemaDesc) -> String {
    let mut out = String::new();
    let mut waiting = std::collections::VecDeque::from([schema]);
    let mut known_types = std::collections::HashSet::from([schema.fingerprint]);
    while let Some(schema) = waiting.pop_front() {
        let mut inside = Vec::new();
        declare(schema, &mut out, &mut inside);
        for schema in inside {
            if known_types.insert(schema.fingerprint) {
                waiting.push_back(schema);
            }
        }
    }
    out
}

fn declare<'a>(schema: &'a SchemaDesc, out: &mut String, inside: &mut Vec<&'a SchemaDesc>) {
    let mut fields = |out: &mut String, fields: &'a [FieldDesc], indent: &str| {
        for field in fields {
            let text = type_text(&field.schema);
            // Writing into a string cannot fail.
            let _ = writeln!(
                out,
                "{indent}{}: {text}, // at {}",
                field.name, field.offset
            );
            inside.push(&field.schema);
        }
    };
    match &schema.kind {
        KindDesc::Struct(members) => {
            let _ = writeln!(out, "struct {} {{ // {} bytes", schema.name, schema.size);
            fields(out, members, "    ");
            out.push_str("}\n");
        }
        KindDesc::Enum { tag_size, variants } => {
            let bits = u32::from(*tag_size) * 8;
            let _ = writeln!(
                out,
                "enum {}: u{bits} {{ // {} bytes",
                schema.name, schema.size
            );
            for variant in variants {
                let _ = writeln!(out, "    {} = {},", variant.name, variant.discriminant);
                fields(out, &variant.fields, "        ");
            }
            out.push_str("}\n");
        }
        KindDesc::Array { element, .. } => inside.push(element),
        KindDesc::Reference(target) => inside.push(target),
        KindDesc::Collection {
            fields: members,
            objects,
        } => match known(schema) {
            Some(Known::Map(types)) => inside.extend([types.key.0, types.value.0]),
            Some(Known::Ordered(types)) => inside.extend([types.keys.schema, types.values.schema]),
            Some(Known::Vector(types)) => inside.push(types.elements.schema),
            Some(Known::Bytes) => {}
            None => {
                let _ = writeln!(
                    out,
                    "collection {} {{ // {} bytes",
                    schema.name, schema.size
                );
                fields(out, members, "    ");
                out.push_str("}\n");
                inside.extend(objects);
            }
        },
        KindDesc::Primitive | KindDesc::Link(_) => {}
    }
}

struct Reader<'a> {
    image: &'a Image,
    tables: &'a Tables,
    limits: DataLimits,
    names: HashMap<&'a str, &'a SchemaDesc>,
}

fn fault(text: impl Into<String>) -> Data {
    Data::Fields(vec![("error".into(), Data::Text(text.into()))])
}

fn more(count: u64) -> Data {
    Data::Fields(vec![("more".into(), Data::Unsigned(count.into()))])
}

impl Reader<'_> {
    fn reference(&self, object: Ref, schema: &SchemaDesc, depth: u32, budget: &mut u64) -> Data {
        if object.is_null() {
            return Data::Null;
        }
        let name = format!("{}.{}", object.segment(), object.index());
        match place(self.tables, object, schema.type_id()) {
            Err(why) => fault(format!("{name}: {why}")),
            Ok(_) if depth == 0 => Data::Fields(vec![("reference".into(), Data::Text(name))]),
            Ok((at, _)) => self.value(schema, at, depth - 1, budget),
        }
    }

    /// Nests as deep as the schema for each reference that is followed.
    fn value(&self, schema: &SchemaDesc, at: u64, depth: u32, budget: &mut u64) -> Data {
        if *budget == 0 {
            return fault("the rest is left out");
        }
        *budget -= 1;
        let Some(bytes) = self.image.bytes.get(at, schema.size.into()) else {
            return fault("it lies outside of the file");
        };
        match &schema.kind {
            KindDesc::Primitive => primitive(&schema.name, bytes),
            KindDesc::Struct(fields) => self.fields(fields, at, depth, budget),
            KindDesc::Enum { tag_size, variants } => {
                let tag = number(&bytes[..usize::from(*tag_size).min(bytes.len())]);
                match variants.iter().find(|variant| variant.discriminant == tag) {
                    None => fault(format!("{tag} is no value of {}", schema.name)),
                    Some(variant) if variant.fields.is_empty() => Data::Text(variant.name.clone()),
                    Some(variant) => Data::Fields(vec![(
                        variant.name.clone(),
                        self.fields(&variant.fields, at, depth, budget),
                    )]),
                }
            }
            KindDesc::Array { element, len } => {
                let len = u64::from(*len);
                let shown = len.min(self.limits.entries);
                let mut list: Vec<Data> = (0..shown)
                    .map(|i| self.value(element, at + i * u64::from(element.size), depth, budget))
                    .collect();
                if shown < len {
                    list.push(more(len - shown));
                }
                Data::List(list)
            }
            KindDesc::Reference(target) => {
                self.reference(Ref(number(bytes)), target, depth, budget)
            }
            KindDesc::Link(name) => match self.names.get(name.as_str()) {
                Some(target) => self.reference(Ref(number(bytes)), target, depth, budget),
                None => fault(format!("the schema has no type {name}")),
            },
            KindDesc::Collection { fields, .. } => match known(schema) {
                Some(Known::Bytes) => self.text(at),
                Some(Known::Map(types)) => self.map(&types, at, depth, budget),
                Some(Known::Ordered(types)) => self.ordered(&types, at, depth, budget),
                Some(Known::Vector(types)) => self.vector(&types, at, depth, budget),
                None => self.fields(fields, at, depth, budget),
            },
        }
    }

    fn fields(&self, fields: &[FieldDesc], at: u64, depth: u32, budget: &mut u64) -> Data {
        let one = |field: &FieldDesc, budget: &mut u64| {
            let value = self.value(&field.schema, at + u64::from(field.offset), depth, budget);
            (field.name.clone(), value)
        };
        Data::Fields(fields.iter().map(|field| one(field, budget)).collect())
    }

    fn text(&self, at: u64) -> Data {
        let Some(bytes) = bytes_of(self.image, self.tables, at) else {
            return fault("its bytes are not there");
        };
        let shown = &bytes[..bytes.len().min(self.limits.bytes as usize)];
        if shown.len() == bytes.len()
            && let Ok(text) = std::str::from_utf8(bytes)
        {
            return Data::Text(text.into());
        }
        let hex = shown.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let mut fields = vec![("hex".into(), Data::Text(hex))];
        if shown.len() < bytes.len() {
            let left = (bytes.len() - shown.len()) as u128;
            fields.push(("more".into(), Data::Unsigned(left)));
        }
        Data::Fields(fields)
    }

    fn map(&self, types: &MapTypes<'_>, at: u64, depth: u32, budget: &mut u64) -> Data {
        let header = MapHeader::read(&self.image.bytes, at);
        if !header.is_sound() {
            return fault("its header is damaged");
        }
        let mut list = Vec::new();
        let wanted = header.len.min(self.limits.entries);
        for bucket in 0..header.buckets {
            if list.len() as u64 >= wanted || *budget == 0 {
                break;
            }
            *budget -= 1;
            let mut node = match self.bucket(types, &header, bucket) {
                Ok(node) => node,
                Err(why) => {
                    list.push(fault(why));
                    break;
                }
            };
            while !node.is_null() && (list.len() as u64) < wanted {
                let Ok((at, _)) = place(self.tables, node, types.node.type_id()) else {
                    list.push(fault("its next entry is not there"));
                    break;
                };
                let key = self.value(types.key.0, at + types.key.1, depth, budget);
                let value = self.value(types.value.0, at + types.value.1, depth, budget);
                let entry = vec![("key".into(), key), ("value".into(), value)];
                list.push(Data::Fields(entry));
                node = Ref(self.image.bytes.peek(at + 8));
            }
        }
        if wanted < header.len {
            list.push(more(header.len - wanted));
        }
        Data::List(list)
    }

    fn ordered(&self, types: &OrderedTypes<'_>, at: u64, depth: u32, budget: &mut u64) -> Data {
        let len = TreeHeader::read(&self.image.bytes, at).len;
        let mut list = Vec::new();
        let place = (self.image, self.tables);
        let walked = trees::entries(
            place,
            types,
            at,
            |why| why,
            |key, value| {
                if list.len() as u64 >= self.limits.entries || *budget == 0 {
                    return Ok(false);
                }
                let key = self.value(types.keys.schema, key, depth, budget);
                let value = self.value(types.values.schema, value, depth, budget);
                let entry = vec![("key".into(), key), ("value".into(), value)];
                list.push(Data::Fields(entry));
                Ok(true)
            },
        );
        Self::walked(list, len, walked)
    }

    fn vector(&self, types: &VectorTypes<'_>, at: u64, depth: u32, budget: &mut u64) -> Data {
        let len = TreeHeader::read(&self.image.bytes, at).len;
        let mut list = Vec::new();
        let place = (self.image, self.tables);
        let walked = trees::elements(
            place,
            types,
            at,
            |why| why,
            |element| {
                if list.len() as u64 >= self.limits.entries || *budget == 0 {
                    return Ok(false);
                }
                list.push(self.value(types.elements.schema, element, depth, budget));
                Ok(true)
            },
        );
        Self::walked(list, len, walked)
    }

    /// What a walk has seen of `len`, and what it did not, or why it ended.
    fn walked(mut list: Vec<Data>, len: u64, walked: Result<(), &'static str>) -> Data {
        let shown = list.len() as u64;
        match walked {
            Err(why) => list.push(fault(why)),
            Ok(()) if shown < len => list.push(more(len - shown)),
            Ok(()) => {}
        }
        Data::List(list)
    }

    fn bucket(
        &self,
        types: &MapTypes<'_>,
        header: &MapHeader,
        bucket: u64,
    ) -> Result<Ref, &'static str> {
        let mut object = header.top;
        for level in (0..=header.depth).rev() {
            let (at, _) = place(self.tables, object, types.page.type_id())?;
            let word = bucket / FAN.pow(level as u32) % FAN;
            object = Ref(self.image.bytes.peek(at + word * 8));
        }
        Ok(object)
    }
}

fn primitive(name: &str, bytes: &[u8]) -> Data {
    let mut le = [0; 16];
    let len = bytes.len().min(16);
    le[..len].copy_from_slice(&bytes[..len]);
    let unsigned = u128::from_le_bytes(le);
    match name {
        "bool" => match unsigned {
            0 | 1 => Data::Bool(unsigned == 1),
            other => fault(format!("{other} is no bool")),
        },
        "f32" => Data::Float(f32::from_bits(unsigned as u32).into()),
        "f64" => Data::Float(f64::from_bits(unsigned as u64)),
        _ if name.starts_with('i') && len > 0 => {
            let unused = 128 - len as u32 * 8;
            Data::Signed((unsigned << unused) as i128 >> unused)
        }
        _ => Data::Unsigned(unsigned),
    }
}
