//! What a region holds, whatever the places of its objects are: so that two can be compared.
//!
//! A value's digest is made of its fields', and that of a reference of what it leads to. A map's
//! is the sum of its entries', as their order says nothing; that of an ordered map and of a vector
//! is made of theirs in their order. Equal contents have equal digests,
//! wherever they lie and in whatever order they came there.

use std::collections::HashMap;
use std::hash::Hasher as _;

use neurath_abi::Ref;
use siphasher::sip128::{Hasher128 as _, SipHasher13};

use super::image::{Bytes, Image, Tables};
use super::known::{FAN, Known, MapHeader, MapTypes, bytes_of, known, number, place};
use super::report::Report;
use super::trees;
use super::{CheckOptions, levels};
use crate::region::Media;
use crate::region::format::ROOT_AT;
use crate::schema::{FieldDesc, KindDesc, SchemaDesc};

/// References that lead to references are followed so far.
const DEEPEST: u32 = 256;
/// Steps for each byte of the file. Only what many values share takes more than one.
const STEPS_A_BYTE: u64 = 4;

/// What a region holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Contents {
    /// The fingerprint of the root's type.
    pub fingerprint: [u8; 16],
    /// Each field of the root.
    pub fields: Vec<FieldContents>,
}

/// What a field of the root holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldContents {
    /// The field.
    pub name: String,
    /// Equal for equal contents.
    pub digest: u128,
    /// Entries of the maps and elements of the vectors in it.
    pub entries: u64,
}

/// Why the contents of a region cannot be told.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ContentsError {
    /// It is damaged.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It holds something that is not known here.
    #[error("{0} is a collection that this program cannot follow")]
    Unknown(String),
    /// Not all of it is of the present schema.
    #[error("it is being converted segment by segment")]
    Swept,
    /// It is nested too deep.
    #[error("its references are nested deeper than {DEEPEST}, or lead round in circles")]
    Deep,
}

pub(super) fn contents(bytes: Bytes) -> Result<Contents, ContentsError> {
    let mut report = Report::default();
    let damaged = |report: &Report| {
        let first = report.findings.first();
        ContentsError::Damaged(first.map_or("no region".into(), |one| one.message.clone()))
    };
    let steps = bytes.len().saturating_mul(STEPS_A_BYTE);
    let Some(image) = levels::level0(bytes, CheckOptions::default(), &mut report) else {
        return Err(damaged(&report));
    };
    if image.schema_before.is_some() {
        return Err(ContentsError::Swept);
    }
    let Some(tables) = levels::level1(&image, &mut report) else {
        return Err(damaged(&report));
    };
    let mut reader = Reader {
        image: &image,
        tables: &tables,
        names: image
            .schema
            .object_types()
            .into_iter()
            .map(|schema| (schema.name.as_str(), schema))
            .collect(),
        entries: 0,
        steps,
    };
    let root = Ref(image.bytes.word(ROOT_AT));
    let (at, _) = reader.place(root, &image.schema)?;
    let whole;
    let members = match &image.schema.kind {
        KindDesc::Struct(fields) => fields,
        _ => {
            whole = vec![FieldDesc {
                name: image.schema.name.clone(),
                offset: 0,
                schema: image.schema.clone(),
            }];
            &whole
        }
    };
    let mut fields = Vec::new();
    for member in members {
        reader.entries = 0;
        let digest = reader.digest(&member.schema, at + u64::from(member.offset), 0)?;
        fields.push(FieldContents {
            name: member.name.clone(),
            digest,
            entries: reader.entries,
        });
    }
    Ok(Contents {
        fingerprint: image.schema.fingerprint,
        fields,
    })
}

fn damaged(what: &'static str) -> ContentsError {
    ContentsError::Damaged(what.into())
}

struct Reader<'a> {
    image: &'a Image,
    tables: &'a Tables,
    names: HashMap<&'a str, &'a SchemaDesc>,
    entries: u64,
    steps: u64,
}

impl<'a> Reader<'a> {
    fn place(&self, object: Ref, schema: &SchemaDesc) -> Result<(u64, u64), ContentsError> {
        place(self.tables, object, schema.type_id()).map_err(|why| {
            let (segment, index) = (object.segment(), object.index());
            ContentsError::Damaged(format!("{segment}.{index}: {why}"))
        })
    }

    fn digest(&mut self, schema: &SchemaDesc, at: u64, depth: u32) -> Result<u128, ContentsError> {
        let mut hasher = SipHasher13::new();
        self.value(schema, at, depth, &mut hasher)?;
        Ok(hasher.finish128().as_u128())
    }

    /// Nests as deep as the schema for each reference that is followed.
    fn value(
        &mut self,
        schema: &SchemaDesc,
        at: u64,
        depth: u32,
        hasher: &mut SipHasher13,
    ) -> Result<(), ContentsError> {
        self.steps = self.steps.checked_sub(1).ok_or(ContentsError::Deep)?;
        let outside = || ContentsError::Damaged(format!("{at} lies outside of the file"));
        let image = self.image;
        let bytes = image.bytes.get(at, schema.size.into());
        let bytes = bytes.ok_or_else(outside)?;
        match &schema.kind {
            KindDesc::Primitive => hasher.write(bytes),
            KindDesc::Struct(fields) => return self.fields(fields, at, depth, hasher),
            KindDesc::Enum { tag_size, variants } => {
                let tag = number(bytes.get(..usize::from(*tag_size)).ok_or_else(outside)?);
                hasher.write_u64(tag);
                let variant = variants.iter().find(|one| one.discriminant == tag);
                let variant = variant.ok_or_else(|| {
                    ContentsError::Damaged(format!("{tag} is no value of {}", schema.name))
                })?;
                return self.fields(&variant.fields, at, depth, hasher);
            }
            KindDesc::Array { element, len } => {
                for i in 0..u64::from(*len) {
                    self.value(element, at + i * u64::from(element.size), depth, hasher)?;
                }
            }
            KindDesc::Reference(target) => {
                return self.reference(Ref(number(bytes)), target, depth, hasher);
            }
            KindDesc::Link(name) => {
                let target = self.names.get(name.as_str()).copied().ok_or_else(|| {
                    ContentsError::Damaged(format!("the schema has no type {name}"))
                })?;
                return self.reference(Ref(number(bytes)), target, depth, hasher);
            }
            KindDesc::Collection { .. } => match known(schema) {
                Some(Known::Bytes) => {
                    let text = bytes_of(image, self.tables, at);
                    let missing = || ContentsError::Damaged("bytes are not there".into());
                    let text = text.ok_or_else(missing)?;
                    hasher.write_u64(text.len() as u64);
                    hasher.write(text);
                }
                Some(Known::Map(types)) => {
                    let (sum, entries) = self.map(&types, at, depth)?;
                    hasher.write_u128(sum);
                    hasher.write_u64(entries);
                    self.entries += entries;
                }
                Some(Known::Ordered(types)) => {
                    let entry = |of: &mut Self, (key, value), hasher: &mut SipHasher13| {
                        of.value(types.keys.schema, key, depth, hasher)?;
                        of.value(types.values.schema, value, depth, hasher)
                    };
                    let mut places = Vec::new();
                    trees::entries((image, self.tables), &types, at, damaged, |key, value| {
                        places.push((key, value));
                        Ok(true)
                    })?;
                    self.in_order(places, hasher, entry)?;
                }
                Some(Known::Vector(types)) => {
                    let mut places = Vec::new();
                    trees::elements((image, self.tables), &types, at, damaged, |element| {
                        places.push(element);
                        Ok(true)
                    })?;
                    self.in_order(places, hasher, |of, element, hasher| {
                        of.value(types.elements.schema, element, depth, hasher)
                    })?;
                }
                None => return Err(ContentsError::Unknown(schema.name.clone())),
            },
        }
        Ok(())
    }

    fn fields(
        &mut self,
        fields: &[FieldDesc],
        at: u64,
        depth: u32,
        hasher: &mut SipHasher13,
    ) -> Result<(), ContentsError> {
        fields.iter().try_for_each(|field| {
            self.value(&field.schema, at + u64::from(field.offset), depth, hasher)
        })
    }

    fn reference(
        &mut self,
        object: Ref,
        target: &SchemaDesc,
        depth: u32,
        hasher: &mut SipHasher13,
    ) -> Result<(), ContentsError> {
        hasher.write_u8(u8::from(!object.is_null()));
        if object.is_null() {
            return Ok(());
        }
        if depth == DEEPEST {
            return Err(ContentsError::Deep);
        }
        let (at, _) = self.place(object, target)?;
        self.value(target, at, depth + 1, hasher)
    }

    /// How many there are, and each of them by `one`.
    fn in_order<T>(
        &mut self,
        places: Vec<T>,
        hasher: &mut SipHasher13,
        one: impl Fn(&mut Self, T, &mut SipHasher13) -> Result<(), ContentsError>,
    ) -> Result<(), ContentsError> {
        let count = places.len() as u64;
        hasher.write_u64(count);
        self.entries += count;
        places
            .into_iter()
            .try_for_each(|place| one(self, place, hasher))
    }

    /// The sum of the digests of a map's entries, and how many there are.
    fn map(
        &mut self,
        types: &MapTypes<'_>,
        at: u64,
        depth: u32,
    ) -> Result<(u128, u64), ContentsError> {
        let header = MapHeader::read(&self.image.bytes, at);
        if !header.is_sound() {
            return Err(damaged("a map's header"));
        }
        let (mut sum, mut entries) = (0u128, 0);
        if header.buckets == 0 {
            return Ok((sum, entries));
        }
        let mut pages = vec![(header.top, header.depth, 0)];
        while let Some((page, level, first)) = pages.pop() {
            let (page, _) = self.place(page, types.page)?;
            for i in 0..FAN {
                let object = Ref(self.image.bytes.peek(page + i * 8));
                let bucket = first + i * FAN.pow(level as u32);
                if bucket >= header.buckets {
                    break;
                }
                if level > 0 {
                    pages.push((object, level - 1, bucket));
                    continue;
                }
                let mut node = object;
                while !node.is_null() {
                    let (at, _) = self.place(node, types.node)?;
                    let mut hasher = SipHasher13::new();
                    self.value(types.key.0, at + types.key.1, depth, &mut hasher)?;
                    self.value(types.value.0, at + types.value.1, depth, &mut hasher)?;
                    sum = sum.wrapping_add(hasher.finish128().as_u128());
                    entries += 1;
                    node = Ref(self.image.bytes.peek(at + 8));
                }
            }
        }
        if entries != header.len {
            return Err(damaged("a map has not as many entries as it says"));
        }
        Ok((sum, entries))
    }
}
