//! The encoding, at compile time.

use super::{Field, Fingerprint, Kind, TypeSchema};

/// The version of the encoding: the first byte.
pub(super) const VERSION: u8 = 1;

pub(super) const PRIMITIVE: u8 = 1;
pub(super) const STRUCT: u8 = 2;
pub(super) const ENUM: u8 = 3;
pub(super) const ARRAY: u8 = 4;
pub(super) const REFERENCE: u8 = 5;
pub(super) const LINK: u8 = 6;
pub(super) const COLLECTION: u8 = 7;

/// Room for one type while its fingerprint is made. A larger schema does not compile.
const SCRATCH: usize = 16 << 10;

/// How many bytes [`encode`] gives.
pub const fn encoded_len(schema: &TypeSchema) -> usize {
    let mut scratch = [0; SCRATCH];
    write(&mut scratch, schema)
}

/// The schema as bytes; `N` is its [`encoded_len`].
pub const fn encode<const N: usize>(schema: &TypeSchema) -> [u8; N] {
    let mut scratch = [0; SCRATCH];
    let len = write(&mut scratch, schema);
    assert!(len == N, "N is not the schema's encoded length");
    let mut out = [0; N];
    let mut i = 0;
    while i < N {
        out[i] = scratch[i];
        i += 1;
    }
    out
}

/// The fingerprint of a type.
pub const fn fingerprint(schema: &TypeSchema) -> Fingerprint {
    let mut scratch = [0; SCRATCH];
    let len = write(&mut scratch, schema);
    let (bytes, _) = scratch.split_at(len);
    xxhash_rust::const_xxh3::xxh3_128(bytes).to_le_bytes()
}

/// The fingerprint of something made of others, such as a list of them.
pub const fn combined(name: &str, parts: &[Fingerprint]) -> Fingerprint {
    let mut scratch = [0; SCRATCH];
    let mut at = write_text(&mut scratch, 0, name);
    let mut i = 0;
    while i < parts.len() {
        let mut j = 0;
        while j < parts[i].len() {
            scratch[at] = parts[i][j];
            at += 1;
            j += 1;
        }
        i += 1;
    }
    let (bytes, _) = scratch.split_at(at);
    xxhash_rust::const_xxh3::xxh3_128(bytes).to_le_bytes()
}

/// Whether values of a type mean the same in every region: they refer to no object.
pub const fn is_plain(schema: &TypeSchema) -> bool {
    match &schema.kind {
        Kind::Primitive => true,
        Kind::Reference(_) | Kind::Link(_) | Kind::Collection { .. } => false,
        Kind::Array { element, .. } => is_plain(element),
        Kind::Struct(fields) => all_plain(fields),
        Kind::Enum { variants, .. } => {
            let mut i = 0;
            while i < variants.len() {
                if !all_plain(variants[i].fields) {
                    return false;
                }
                i += 1;
            }
            true
        }
    }
}

const fn all_plain(fields: &[Field]) -> bool {
    let mut i = 0;
    while i < fields.len() {
        if !is_plain(fields[i].schema) {
            return false;
        }
        i += 1;
    }
    true
}

const fn write(out: &mut [u8; SCRATCH], schema: &TypeSchema) -> usize {
    out[0] = VERSION;
    write_type(out, 1, schema)
}

const fn write_type(out: &mut [u8; SCRATCH], at: usize, schema: &TypeSchema) -> usize {
    let kind = match schema.kind {
        Kind::Primitive => PRIMITIVE,
        Kind::Struct(_) => STRUCT,
        Kind::Enum { .. } => ENUM,
        Kind::Array { .. } => ARRAY,
        Kind::Reference(_) => REFERENCE,
        Kind::Link(_) => LINK,
        Kind::Collection { .. } => COLLECTION,
    };
    let mut at = write_number(out, at, kind as u64, 1);
    at = write_text(out, at, schema.name);
    at = write_number(out, at, schema.size as u64, 4);
    at = write_number(out, at, schema.align as u64, 2);
    match &schema.kind {
        Kind::Primitive => at,
        Kind::Struct(fields) => write_fields(out, at, fields),
        Kind::Enum { tag_size, variants } => {
            at = write_number(out, at, *tag_size as u64, 1);
            at = write_number(out, at, variants.len() as u64, 2);
            let mut i = 0;
            while i < variants.len() {
                at = write_text(out, at, variants[i].name);
                at = write_number(out, at, variants[i].discriminant, 8);
                at = write_fields(out, at, variants[i].fields);
                i += 1;
            }
            at
        }
        Kind::Array { element, len } => {
            at = write_number(out, at, *len as u64, 4);
            write_type(out, at, element)
        }
        Kind::Reference(target) => write_type(out, at, target),
        Kind::Link(target) => write_text(out, at, target),
        Kind::Collection { fields, objects } => {
            at = write_fields(out, at, fields);
            at = write_number(out, at, objects.len() as u64, 2);
            let mut i = 0;
            while i < objects.len() {
                at = write_type(out, at, objects[i]);
                i += 1;
            }
            at
        }
    }
}

const fn write_fields(out: &mut [u8; SCRATCH], at: usize, fields: &[Field]) -> usize {
    let mut at = write_number(out, at, fields.len() as u64, 2);
    let mut i = 0;
    while i < fields.len() {
        at = write_text(out, at, fields[i].name);
        at = write_number(out, at, fields[i].offset as u64, 4);
        at = write_type(out, at, fields[i].schema);
        i += 1;
    }
    at
}

const fn write_text(out: &mut [u8; SCRATCH], at: usize, text: &str) -> usize {
    assert!(
        text.len() <= 255,
        "a name in a schema is longer than 255 bytes"
    );
    let mut at = write_number(out, at, text.len() as u64, 1);
    let mut i = 0;
    while i < text.len() {
        out[at] = text.as_bytes()[i];
        at += 1;
        i += 1;
    }
    at
}

/// The low `bytes` bytes, little-endian.
const fn write_number(out: &mut [u8; SCRATCH], at: usize, value: u64, bytes: usize) -> usize {
    assert!(
        bytes == 8 || value >> (8 * bytes) == 0,
        "a number in a schema is too large"
    );
    let le = value.to_le_bytes();
    let mut i = 0;
    while i < bytes {
        out[at + i] = le[i];
        i += 1;
    }
    at + bytes
}
