//! What an ELF file says of itself, read without loading it: loading runs its constructors.

use thiserror::Error;

/// Why a file is not a library that this node can load.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum ElfError {
    /// Something else than ELF.
    #[error("it does not begin like an ELF file")]
    NotElf,
    /// ELF, but not a 64-bit little-endian shared object.
    #[error("it is ELF, but not a 64-bit little-endian shared object")]
    NotSharedObject,
    /// A library for another processor: its `e_machine`.
    #[error("it is built for machine {0} (this node runs on 62, x86-64)")]
    WrongMachine(u16),
    /// A table that points outside the file, or is absent.
    #[error("its {0} is missing, or reaches outside the file")]
    Damaged(&'static str),
}

/// What matters to the loader.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ElfFacts {
    /// Whether it defines the symbol that was asked for.
    pub defines_symbol: bool,
    /// Whether it has thread-local variables (`PT_TLS`).
    pub thread_locals: bool,
    /// Whether it forbids its own unloading (`DF_1_NODELETE`).
    pub no_delete: bool,
    /// How many `STB_GNU_UNIQUE` symbols it defines: glibc never unloads such a library.
    pub unique_symbols: usize,
    /// The first of them.
    pub unique_example: Option<String>,
    /// The libraries it needs.
    pub needed: Vec<String>,
}

impl ElfFacts {
    /// Why this library will stay loaded after it is closed, as far as the file tells.
    pub fn retained(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.no_delete {
            reasons.push("it is linked with -z nodelete".to_owned());
        }
        if let Some(name) = &self.unique_example {
            reasons.push(format!(
                "{} of its symbols are GNU_UNIQUE ({name}): build its C++ code with \
                 -fno-gnu-unique",
                self.unique_symbols
            ));
        }
        reasons
    }
}

const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_TLS: u32 = 7;
const DT_NEEDED: u64 = 1;
const DT_HASH: u64 = 4;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_STRSZ: u64 = 10;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_NODELETE: u64 = 8;
const STB_GNU_UNIQUE: u8 = 10;
const SYMBOL_SIZE: usize = 24;
/// A library with more is not ours, or hostile.
const MAX_ENTRIES: usize = 1 << 20;
const MAX_NAME: usize = 4096;

struct File<'a>(&'a [u8]);

impl<'a> File<'a> {
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn u16(&self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_le_bytes)
    }

    fn u32(&self, at: usize) -> Option<u32> {
        self.bytes(at).map(u32::from_le_bytes)
    }

    fn u64(&self, at: usize) -> Option<u64> {
        self.bytes(at).map(u64::from_le_bytes)
    }

    fn word(&self, at: usize) -> Option<usize> {
        self.u64(at)?.try_into().ok()
    }
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    file_size: u64,
}

/// Reads `bytes`, a whole file, and looks for a defined dynamic symbol named `symbol`.
///
/// # Errors
///
/// Anything but a shared object for x86-64 whose dynamic tables lie within the file.
pub fn inspect(bytes: &[u8], symbol: &str) -> Result<ElfFacts, ElfError> {
    let file = File(bytes);
    if !bytes.starts_with(b"\x7fELF") {
        return Err(ElfError::NotElf);
    }
    let header = ElfError::Damaged("header");
    // 64 bits, little-endian, ET_DYN.
    if bytes.get(4..6) != Some(&[2, 1]) || file.u16(16) != Some(3) {
        return Err(ElfError::NotSharedObject);
    }
    let machine = file.u16(18).ok_or(header.clone())?;
    if machine != 62 {
        return Err(ElfError::WrongMachine(machine));
    }
    let table = file.word(32).ok_or(header.clone())?;
    let entry_size = file.u16(54).ok_or(header.clone())?;
    let entries = file.u16(56).ok_or(header)?;
    let segments = segments(&file, table, entry_size, entries)
        .ok_or(ElfError::Damaged("program header table"))?;

    let mut facts = ElfFacts {
        thread_locals: segments.iter().any(|segment| segment.kind == PT_TLS),
        ..ElfFacts::default()
    };
    let dynamic = dynamic(&file, &segments).ok_or(ElfError::Damaged("dynamic section"))?;
    let value = |tag| {
        dynamic
            .iter()
            .find(|entry| entry.0 == tag)
            .map(|entry| entry.1)
    };
    facts.no_delete = value(DT_FLAGS_1).is_some_and(|flags| flags & DF_1_NODELETE != 0);

    let strings = value(DT_STRTAB)
        .zip(value(DT_STRSZ))
        .and_then(|(address, size)| {
            let start = file_offset(&segments, address)?;
            bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
        })
        .ok_or(ElfError::Damaged("dynamic string table"))?;
    for (_, offset) in dynamic.iter().filter(|entry| entry.0 == DT_NEEDED) {
        let name = usize::try_from(*offset)
            .ok()
            .and_then(|offset| text(strings, offset))
            .ok_or(ElfError::Damaged("list of needed libraries"))?;
        facts.needed.push(name.to_owned());
    }
    let symbols = value(DT_SYMTAB)
        .and_then(|address| file_offset(&segments, address))
        .ok_or(ElfError::Damaged("dynamic symbol table"))?;
    let count = match (value(DT_HASH), value(DT_GNU_HASH)) {
        (Some(address), _) => file_offset(&segments, address)
            .and_then(|hash| file.u32(hash.checked_add(4)?))
            .map(|count| count as usize),
        (None, Some(address)) => {
            file_offset(&segments, address).and_then(|hash| gnu_hash_count(&file, hash))
        }
        (None, None) => None,
    }
    .filter(|count| *count <= MAX_ENTRIES)
    .ok_or(ElfError::Damaged("symbol hash table"))?;

    for index in 1..count {
        let (info, section, name) = symbols
            .checked_add(index * SYMBOL_SIZE)
            .and_then(|at| {
                let info = *bytes.get(at.checked_add(4)?)?;
                Some((info, file.u16(at + 6)?, file.u32(at)? as usize))
            })
            .ok_or(ElfError::Damaged("dynamic symbol table"))?;
        if section == 0 {
            continue;
        }
        let unique = info >> 4 == STB_GNU_UNIQUE;
        let name = text(strings, name).unwrap_or_default();
        facts.defines_symbol |= name == symbol;
        if unique {
            facts.unique_symbols += 1;
            facts.unique_example.get_or_insert_with(|| name.to_owned());
        }
    }
    Ok(facts)
}

fn segments(file: &File<'_>, table: usize, size: u16, count: u16) -> Option<Vec<Segment>> {
    if size < 56 {
        return None;
    }
    (0..usize::from(count))
        .map(|index| {
            let at = table.checked_add(index * usize::from(size))?;
            Some(Segment {
                kind: file.u32(at)?,
                offset: file.u64(at.checked_add(8)?)?,
                address: file.u64(at.checked_add(16)?)?,
                file_size: file.u64(at.checked_add(32)?)?,
            })
        })
        .collect()
}

fn dynamic(file: &File<'_>, segments: &[Segment]) -> Option<Vec<(u64, u64)>> {
    let segment = segments.iter().find(|segment| segment.kind == PT_DYNAMIC)?;
    let start = usize::try_from(segment.offset).ok()?;
    let count = usize::try_from(segment.file_size / 16).ok()?.min(4096);
    let mut entries = Vec::new();
    for index in 0..count {
        let at = start.checked_add(index * 16)?;
        let entry = (file.u64(at)?, file.u64(at.checked_add(8)?)?);
        if entry.0 == 0 {
            break;
        }
        entries.push(entry);
    }
    Some(entries)
}

/// Where in the file the byte lies that is loaded at `address`.
fn file_offset(segments: &[Segment], address: u64) -> Option<usize> {
    let segment = segments.iter().find(|segment| {
        segment.kind == PT_LOAD
            && address
                .checked_sub(segment.address)
                .is_some_and(|distance| distance < segment.file_size)
    })?;
    segment
        .offset
        .checked_add(address - segment.address)?
        .try_into()
        .ok()
}

/// A GNU hash table does not say how many symbols there are: the longest chain's end does.
fn gnu_hash_count(file: &File<'_>, hash: usize) -> Option<usize> {
    let bucket_count = file.u32(hash)? as usize;
    let first = file.u32(hash.checked_add(4)?)? as usize;
    let bloom_words = file.u32(hash.checked_add(8)?)? as usize;
    if bucket_count > MAX_ENTRIES || bloom_words > MAX_ENTRIES || first > MAX_ENTRIES {
        return None;
    }
    let buckets = hash.checked_add(16 + bloom_words * 8)?;
    let chains = buckets.checked_add(bucket_count * 4)?;
    let mut last = 0;
    for index in 0..bucket_count {
        last = last.max(file.u32(buckets.checked_add(index * 4)?)? as usize);
    }
    if last < first {
        return Some(first);
    }
    while last <= MAX_ENTRIES {
        if file.u32(chains.checked_add((last - first) * 4)?)? & 1 != 0 {
            return Some(last + 1);
        }
        last += 1;
    }
    None
}

fn text(strings: &[u8], offset: usize) -> Option<&str> {
    let rest = strings.get(offset..)?;
    let rest = &rest[..rest.len().min(MAX_NAME)];
    let end = rest.iter().position(|byte| *byte == 0)?;
    std::str::from_utf8(&rest[..end]).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn libc_bytes() -> Option<Vec<u8>> {
        let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
        let path = maps.lines().find_map(|line| {
            let path = line.split_ascii_whitespace().last()?;
            path.contains("libc.so").then(|| path.to_owned())
        })?;
        std::fs::read(path).ok()
    }

    #[test]
    fn finds_what_the_c_library_defines() {
        let bytes = libc_bytes().expect("the test runs on glibc");
        let facts = inspect(&bytes, "pthread_key_create").expect("libc is a shared object");
        assert!(facts.defines_symbol);
        assert!(facts.thread_locals);
        assert!(!inspect(&bytes, "NEURATH_COMPONENT").unwrap().defines_symbol);
    }

    #[test]
    fn says_what_a_file_is_not() {
        assert_eq!(inspect(b"", "x"), Err(ElfError::NotElf));
        assert_eq!(inspect(b"#!/bin/sh\n", "x"), Err(ElfError::NotElf));
        assert_eq!(
            inspect(b"\x7fELF\x02\x01", "x"),
            Err(ElfError::NotSharedObject)
        );
        let mut other = libc_bytes().unwrap();
        other[18] = 183;
        assert_eq!(inspect(&other, "x"), Err(ElfError::WrongMachine(183)));
        other[18] = 62;
        other.truncate(1000);
        assert!(matches!(inspect(&other, "x"), Err(ElfError::Damaged(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(edits in prop::collection::vec((0usize..2048, any::<u8>()), 1..40)) {
            let mut bytes = libc_bytes().unwrap();
            for (at, byte) in edits {
                bytes[at] = byte;
            }
            bytes[..4].copy_from_slice(b"\x7fELF");
            let _ = inspect(&bytes, "NEURATH_COMPONENT");
        }
    }
}
