//! What a type in a region looks like, told by the type itself.
//!
//! `#[derive(Pmem)]` makes a [`TypeSchema`], a tree of constants, of every type.
//! [`encode`] turns it into bytes at compile time, so that the same bytes stand in
//! the library's read-only data and in each region; [`SchemaDesc::decode`] reads
//! them back without the library. The fingerprint of a type is the hash of its
//! bytes: names, types, offsets, sizes and discriminants, and nothing that a
//! compiler may choose anew. `docs/schema.md` describes the encoding.

mod decode;
mod encode;

pub use decode::{FieldDesc, KindDesc, MAX_SCHEMA_DEPTH, SchemaDesc, SchemaError, VariantDesc};
pub use encode::{combined, encode, encoded_len, fingerprint, is_plain};

/// The 128-bit hash of a type's encoded schema.
pub type Fingerprint = [u8; 16];

/// The 64 bits of a fingerprint that a segment carries as the type of its objects.
pub const fn type_id(fingerprint: Fingerprint) -> u64 {
    let mut low = [0; 8];
    let mut i = 0;
    while i < 8 {
        low[i] = fingerprint[i];
        i += 1;
    }
    u64::from_le_bytes(low)
}

/// A fingerprint as people write it: 32 hexadecimal digits.
pub fn hex(fingerprint: Fingerprint) -> String {
    use std::fmt::Write;
    fingerprint
        .iter()
        .fold(String::with_capacity(32), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// A type as the compiler knows it.
#[derive(Debug)]
pub struct TypeSchema {
    /// The type's name, without its path: two versions of a type share it.
    pub name: &'static str,
    /// Size in bytes.
    pub size: usize,
    /// Alignment in bytes.
    pub align: usize,
    /// What it is made of.
    pub kind: Kind,
}

/// What a type is made of.
#[derive(Debug)]
pub enum Kind {
    /// A number, or plain bytes.
    Primitive,
    /// Fields in a row.
    Struct(&'static [Field]),
    /// One of several values, told by a leading tag.
    Enum {
        /// The tag's size in bytes.
        tag_size: usize,
        /// The values.
        variants: &'static [Variant],
    },
    /// The same type several times.
    Array {
        /// The element.
        element: &'static TypeSchema,
        /// How many.
        len: usize,
    },
    /// A reference to an object of its own.
    Reference(&'static TypeSchema),
    /// A reference to a type that is described elsewhere: how a type refers to itself.
    Link(&'static str),
    /// A collection: its header's fields, and the objects that it owns.
    Collection {
        /// The header's fields.
        fields: &'static [Field],
        /// The types of its objects.
        objects: &'static [&'static TypeSchema],
    },
}

/// A field of a struct.
#[derive(Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Where it lies in the struct, in bytes.
    pub offset: usize,
    /// Its type.
    pub schema: &'static TypeSchema,
}

/// A value of an enum.
#[derive(Debug)]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// Its tag.
    pub discriminant: u64,
    /// Its fields; offsets count from the enum's start.
    pub fields: &'static [Field],
}
