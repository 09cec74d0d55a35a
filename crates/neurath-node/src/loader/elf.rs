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
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_STRSZ: u64 = 10;
const DT_GNU_HASH: u64 = 0x6fff_fef5;
const DT_FLAGS_1: u64 = 0x6fff_fffb;
const DF_1_NODELETE: u64 = 8;
const STB_GNU_UNIQUE: u8 = 10;
const SYMBOL_SIZE: usize = 24;
const RELOCATION_SIZE: u64 = 24;
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
    let tables = Tables::read(bytes)?;
    let mut facts = ElfFacts {
        thread_locals: tables.segments.iter().any(|segment| segment.kind == PT_TLS),
        no_delete: tables
            .value(DT_FLAGS_1)
            .is_some_and(|flags| flags & DF_1_NODELETE != 0),
        ..ElfFacts::default()
    };
    for (_, offset) in tables.dynamic.iter().filter(|entry| entry.0 == DT_NEEDED) {
        let name = usize::try_from(*offset)
            .ok()
            .and_then(|offset| text(tables.strings, offset))
            .ok_or(ElfError::Damaged("list of needed libraries"))?;
        facts.needed.push(name.to_owned());
    }
    for index in 1..tables.symbol_count {
        let found = tables.symbol(index)?;
        if found.section == 0 {
            continue;
        }
        facts.defines_symbol |= found.name == symbol;
        if found.info >> 4 == STB_GNU_UNIQUE {
            facts.unique_symbols += 1;
            facts
                .unique_example
                .get_or_insert_with(|| found.name.to_owned());
        }
    }
    Ok(facts)
}

/// A dynamic symbol.
pub(super) struct Symbol<'a> {
    pub(super) name: &'a str,
    info: u8,
    pub(super) section: u16,
    pub(super) value: u64,
}

/// The tables that the system's loader would go by.
pub(super) struct Tables<'a> {
    file: File<'a>,
    segments: Vec<Segment>,
    dynamic: Vec<(u64, u64)>,
    strings: &'a [u8],
    symbols: usize,
    pub(super) symbol_count: usize,
}

impl<'a> Tables<'a> {
    /// Reads the tables of a shared object for x86-64.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Tables<'a>, ElfError> {
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
        let dynamic = dynamic(&file, &segments).ok_or(ElfError::Damaged("dynamic section"))?;
        let value = |tag| of(&dynamic, tag);
        let strings = value(DT_STRTAB)
            .zip(value(DT_STRSZ))
            .and_then(|(address, size)| {
                let start = file_offset(&segments, address)?;
                bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
            })
            .ok_or(ElfError::Damaged("dynamic string table"))?;
        let symbols = value(DT_SYMTAB)
            .and_then(|address| file_offset(&segments, address))
            .ok_or(ElfError::Damaged("dynamic symbol table"))?;
        let symbol_count = match (value(DT_HASH), value(DT_GNU_HASH)) {
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
        Ok(Tables {
            file,
            segments,
            dynamic,
            strings,
            symbols,
            symbol_count,
        })
    }

    /// The value of a dynamic entry.
    fn value(&self, tag: u64) -> Option<u64> {
        of(&self.dynamic, tag)
    }

    /// One of the dynamic symbols.
    pub(super) fn symbol(&self, index: usize) -> Result<Symbol<'a>, ElfError> {
        let read = || {
            let at = self.symbols.checked_add(index.checked_mul(SYMBOL_SIZE)?)?;
            let name = self.file.u32(at)? as usize;
            Some(Symbol {
                name: text(self.strings, name).unwrap_or_default(),
                info: *self.file.0.get(at.checked_add(4)?)?,
                section: self.file.u16(at.checked_add(6)?)?,
                value: self.file.u64(at.checked_add(8)?)?,
            })
        };
        read().ok_or(ElfError::Damaged("dynamic symbol table"))
    }

    /// The bytes that are loaded at `address`, as far as they come from the file.
    pub(super) fn bytes(&self, address: u64, len: usize) -> Option<&'a [u8]> {
        let start = file_offset(&self.segments, address)?;
        // They must not run on into what another segment has there.
        let end = address.checked_add(u64::try_from(len).ok()?.checked_sub(1)?)?;
        let last = file_offset(&self.segments, end)?;
        (last == start.checked_add(len - 1)?).then_some(())?;
        self.file.0.get(start..start.checked_add(len)?)
    }

    /// The relocations with an addend: where, the kind, the symbol, the addend.
    pub(super) fn relocations(&self) -> Result<Vec<(u64, u32, usize, u64)>, ElfError> {
        let damaged = ElfError::Damaged("relocation table");
        let (Some(address), Some(size)) = (self.value(DT_RELA), self.value(DT_RELASZ)) else {
            return Ok(Vec::new());
        };
        let count = usize::try_from(size / RELOCATION_SIZE)
            .ok()
            .filter(|count| *count <= MAX_ENTRIES)
            .ok_or(damaged.clone())?;
        let read = |index: usize| {
            let entry = self.bytes(
                address.checked_add(index as u64 * RELOCATION_SIZE)?,
                RELOCATION_SIZE as usize,
            )?;
            let entry = File(entry);
            let info = entry.u64(8)?;
            Some((
                entry.u64(0)?,
                (info & 0xffff_ffff) as u32,
                usize::try_from(info >> 32).ok()?,
                entry.u64(16)?,
            ))
        };
        (0..count)
            .map(|index| read(index).ok_or(damaged.clone()))
            .collect()
    }
}

fn of(dynamic: &[(u64, u64)], tag: u64) -> Option<u64> {
    let entry = dynamic.iter().find(|entry| entry.0 == tag)?;
    Some(entry.1)
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
