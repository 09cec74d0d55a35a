//! The way back: from bytes that nobody vouches for.

use std::collections::HashSet;

use super::encode::{ARRAY, COLLECTION, ENUM, LINK, PRIMITIVE, REFERENCE, STRUCT, VERSION};
use super::{Fingerprint, type_id};

/// How deeply types may be nested.
pub const MAX_SCHEMA_DEPTH: usize = 32;

/// A type as read from a region or a library.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaDesc {
    /// The type's name.
    pub name: String,
    /// Size in bytes.
    pub size: u32,
    /// Alignment in bytes.
    pub align: u16,
    /// What it is made of.
    pub kind: KindDesc,
    /// The hash of its encoding.
    pub fingerprint: Fingerprint,
}

/// What a type is made of: see [`super::Kind`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KindDesc {
    /// A number, or plain bytes.
    Primitive,
    /// Fields in a row.
    Struct(Vec<FieldDesc>),
    /// One of several values.
    Enum {
        /// The tag's size in bytes.
        tag_size: u8,
        /// The values.
        variants: Vec<VariantDesc>,
    },
    /// The same type several times.
    Array {
        /// The element.
        element: Box<SchemaDesc>,
        /// How many.
        len: u32,
    },
    /// A reference to an object.
    Reference(Box<SchemaDesc>),
    /// A reference to a type described elsewhere, by name.
    Link(String),
    /// A collection.
    Collection {
        /// The header's fields.
        fields: Vec<FieldDesc>,
        /// The types of its objects.
        objects: Vec<SchemaDesc>,
    },
}

/// A field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FieldDesc {
    /// Its name.
    pub name: String,
    /// Where it lies, in bytes.
    pub offset: u32,
    /// Its type.
    pub schema: SchemaDesc,
}

/// A value of an enum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VariantDesc {
    /// Its name.
    pub name: String,
    /// Its tag.
    pub discriminant: u64,
    /// Its fields.
    pub fields: Vec<FieldDesc>,
}

/// Why bytes are not a schema.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SchemaError {
    /// They end too early.
    #[error("the schema ends at byte {at}, in the middle of {what}; the file is damaged")]
    Truncated {
        /// Where.
        at: usize,
        /// In what.
        what: &'static str,
    },
    /// An encoding of another version.
    #[error("the schema has encoding {found}; this program knows {VERSION}; use a newer one")]
    Version {
        /// The version found.
        found: u8,
    },
    /// A value that cannot stand there.
    #[error("the schema holds a bad {what} at byte {at}; the file is damaged")]
    Bad {
        /// Where.
        at: usize,
        /// What.
        what: &'static str,
    },
}

impl SchemaDesc {
    /// Reads a schema. Every number is checked; nothing is trusted.
    ///
    /// # Errors
    ///
    /// [`SchemaError`] says what is wrong where.
    pub fn decode(bytes: &[u8]) -> Result<SchemaDesc, SchemaError> {
        let mut reader = Reader { bytes, at: 0 };
        let version = reader.number(1, "the version")? as u8;
        if version != VERSION {
            return Err(SchemaError::Version { found: version });
        }
        let schema = reader.schema(0)?;
        if reader.at != bytes.len() {
            return Err(SchemaError::Bad {
                at: reader.at,
                what: "trailing byte",
            });
        }
        Ok(schema)
    }

    /// The type's 64-bit id.
    pub fn type_id(&self) -> u64 {
        type_id(self.fingerprint)
    }

    /// Every type whose values are objects of their own: this one, as a root, and
    /// all that references and collections lead to. Each once.
    pub fn object_types(&self) -> Vec<&SchemaDesc> {
        let mut found = vec![self];
        let mut known = HashSet::from([self.fingerprint]);
        let mut next = 0;
        while next < found.len() {
            let mut inside = Vec::new();
            found[next].collect_objects(&mut inside);
            for schema in inside {
                if known.insert(schema.fingerprint) {
                    found.push(schema);
                }
            }
            next += 1;
        }
        found
    }

    fn collect_objects<'a>(&'a self, found: &mut Vec<&'a SchemaDesc>) {
        match &self.kind {
            KindDesc::Primitive | KindDesc::Link(_) => {}
            KindDesc::Struct(fields) => {
                fields
                    .iter()
                    .for_each(|field| field.schema.collect_objects(found));
            }
            KindDesc::Enum { variants, .. } => variants
                .iter()
                .flat_map(|variant| &variant.fields)
                .for_each(|field| field.schema.collect_objects(found)),
            KindDesc::Array { element, .. } => element.collect_objects(found),
            KindDesc::Reference(target) => found.push(target),
            KindDesc::Collection { fields, objects } => {
                fields
                    .iter()
                    .for_each(|field| field.schema.collect_objects(found));
                found.extend(objects);
            }
        }
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn take(&mut self, len: usize, what: &'static str) -> Result<&[u8], SchemaError> {
        let end = self
            .at
            .checked_add(len)
            .filter(|&end| end <= self.bytes.len());
        let Some(end) = end else {
            return Err(SchemaError::Truncated {
                at: self.bytes.len(),
                what,
            });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize, what: &'static str) -> Result<u64, SchemaError> {
        let mut le = [0; 8];
        le[..bytes].copy_from_slice(self.take(bytes, what)?);
        Ok(u64::from_le_bytes(le))
    }

    fn text(&mut self, what: &'static str) -> Result<String, SchemaError> {
        let len = self.number(1, what)? as usize;
        let at = self.at;
        let text = self.take(len, what)?;
        match std::str::from_utf8(text) {
            Ok(text) => Ok(text.to_owned()),
            Err(_) => Err(SchemaError::Bad { at, what }),
        }
    }

    fn schema(&mut self, depth: usize) -> Result<SchemaDesc, SchemaError> {
        let start = self.at;
        if depth > MAX_SCHEMA_DEPTH {
            return Err(SchemaError::Bad {
                at: start,
                what: "nesting",
            });
        }
        let kind = self.number(1, "a type's kind")? as u8;
        let name = self.text("a type's name")?;
        let size = self.number(4, "a type's size")? as u32;
        let align = self.number(2, "a type's alignment")? as u16;
        if !align.is_power_of_two() || align > 16 {
            return Err(SchemaError::Bad {
                at: start,
                what: "alignment",
            });
        }
        if u64::from(size) > neurath_abi::MAX_OBJECT_SIZE {
            return Err(SchemaError::Bad {
                at: start,
                what: "size",
            });
        }
        let kind = match kind {
            PRIMITIVE => KindDesc::Primitive,
            STRUCT => KindDesc::Struct(self.fields(size, depth)?),
            ENUM => {
                let tag_size = self.number(1, "a tag's size")? as u8;
                if !matches!(tag_size, 1 | 2 | 4 | 8) || u32::from(tag_size) > size {
                    return Err(SchemaError::Bad {
                        at: self.at,
                        what: "tag size",
                    });
                }
                let count = self.number(2, "a number of variants")?;
                let mut variants = Vec::new();
                for _ in 0..count {
                    let name = self.text("a variant's name")?;
                    let discriminant = self.number(8, "a discriminant")?;
                    let fields = self.fields(size, depth)?;
                    variants.push(VariantDesc {
                        name,
                        discriminant,
                        fields,
                    });
                }
                KindDesc::Enum { tag_size, variants }
            }
            ARRAY => {
                let len = self.number(4, "an array's length")? as u32;
                let element = self.schema(depth + 1)?;
                if u64::from(element.size) * u64::from(len) != u64::from(size) {
                    return Err(SchemaError::Bad {
                        at: start,
                        what: "array size",
                    });
                }
                KindDesc::Array {
                    element: Box::new(element),
                    len,
                }
            }
            REFERENCE => KindDesc::Reference(Box::new(self.schema(depth + 1)?)),
            LINK => KindDesc::Link(self.text("a link's target")?),
            COLLECTION => {
                let fields = self.fields(size, depth)?;
                let count = self.number(2, "a number of object types")?;
                let mut objects = Vec::new();
                for _ in 0..count {
                    objects.push(self.schema(depth + 1)?);
                }
                KindDesc::Collection { fields, objects }
            }
            _ => {
                return Err(SchemaError::Bad {
                    at: start,
                    what: "kind of type",
                });
            }
        };
        // A type's fingerprint is that of its own encoding, standing alone.
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        hasher.update(&[VERSION]);
        hasher.update(&self.bytes[start..self.at]);
        let fingerprint = hasher.digest128().to_le_bytes();
        Ok(SchemaDesc {
            name,
            size,
            align,
            kind,
            fingerprint,
        })
    }

    fn fields(&mut self, size: u32, depth: usize) -> Result<Vec<FieldDesc>, SchemaError> {
        let count = self.number(2, "a number of fields")?;
        let mut fields = Vec::new();
        for _ in 0..count {
            let name = self.text("a field's name")?;
            let at = self.at;
            let offset = self.number(4, "a field's offset")? as u32;
            let schema = self.schema(depth + 1)?;
            if u64::from(offset) + u64::from(schema.size) > u64::from(size) {
                return Err(SchemaError::Bad {
                    at,
                    what: "field offset",
                });
            }
            fields.push(FieldDesc {
                name,
                offset,
                schema,
            });
        }
        Ok(fields)
    }
}
