//! A region's file in memory.

use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut, Range};
use std::os::unix::fs::FileExt as _;

use crate::region::format::{self, Header, SegmentEntry, Superblock};
use crate::region::{Backend, CopyOfFile, Media};
use crate::schema::SchemaDesc;

/// Memory with a file's bytes.
#[derive(Debug)]
pub(super) enum Buffer {
    Small(Vec<u8>),
    /// A private mapping: the pages are the file's own until they are stored to.
    Large(CopyOfFile),
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Buffer::Small(bytes) => bytes,
            Buffer::Large(bytes) => bytes,
        }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::Small(bytes) => bytes,
            Buffer::Large(bytes) => bytes,
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Buffer {
        Buffer::Small(self.to_vec())
    }
}

/// From so many bytes on, a buffer is large.
const LARGE: usize = 4 << 20;

/// Bytes that Linux maps together, where it maps the pages around the one that was looked at.
const NEIGHBOURS: usize = 64 << 10;

/// The bytes of a file. They are [`Media`], so that a recovery can run on them.
#[derive(Clone, Debug)]
pub(super) struct Bytes(Buffer);

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Bytes {
        Bytes(Buffer::Small(bytes))
    }
}

impl Bytes {
    /// The bytes of a file that nobody makes shorter meanwhile: who holds its lock sees to that.
    /// What is stored is not in the file. Few are read; many are mapped.
    pub fn of(file: &File, len: u64) -> io::Result<Bytes> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        if len < LARGE {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(len).map_err(io::Error::other)?;
            bytes.resize(len, 0);
            file.read_exact_at(&mut bytes, 0)?;
            return Ok(bytes.into());
        }
        Ok(Bytes(Buffer::Large(CopyOfFile::map(file)?)))
    }

    /// All of them, without a copy where there are few.
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Buffer::Small(bytes) => bytes,
            Buffer::Large(bytes) => bytes.to_vec(),
        }
    }

    /// Looks at a byte of each [`NEIGHBOURS`] of a range: pages that were never looked at are mapped
    /// with it, and whoever comes there next is not stopped.
    pub fn touch(&self, range: Range<usize>) {
        let bytes = self.0.get(range).unwrap_or_default();
        let sum = bytes.iter().step_by(NEIGHBOURS);
        std::hint::black_box(sum.fold(0, |sum, byte| sum ^ byte));
    }

    /// The first `len` of them.
    pub fn first(&self, len: u64) -> &[u8] {
        &self.0[..len as usize]
    }

    /// The bytes of a range that may lie anywhere.
    pub fn get(&self, offset: u64, len: u64) -> Option<&[u8]> {
        let end = offset.checked_add(len)?;
        self.0
            .get(usize::try_from(offset).ok()?..usize::try_from(end).ok()?)
    }

    /// The word at a place that may be anywhere; 0 beyond the end.
    pub fn peek(&self, offset: u64) -> u64 {
        self.get(offset, 8).map_or(0, |_| self.word(offset))
    }
}

impl Media for Bytes {
    fn base(&self) -> *const u8 {
        self.0.as_ptr()
    }

    fn len(&self) -> u64 {
        self.0.len() as u64
    }

    fn limit(&self) -> u64 {
        self.len()
    }

    fn store_word(&mut self, offset: u64, value: u64) {
        self.store(offset, &value.to_le_bytes());
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
    }

    fn zero(&mut self, offset: u64, len: u64) {
        self.0[offset as usize..][..len as usize].fill(0);
    }

    fn flush(&mut self, _: u64, _: u64) {}

    fn fence(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn persist(&mut self, _: u64, _: u64) -> std::io::Result<()> {
        Ok(())
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn begin_sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }

    fn end_sync(&mut self, _: bool) -> Option<std::io::Result<()>> {
        Some(Ok(()))
    }

    fn backend(&self) -> Backend {
        Backend::Process
    }

    fn grow(&mut self, _: u64) -> std::io::Result<()> {
        Err(std::io::Error::other("a copy in memory does not grow"))
    }

    fn base_mut(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    fn populate(&mut self, _: u64, _: u64) {}

    fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        &self.0[offset as usize..][..len as usize]
    }
}

/// A segment and its bitmap, as far as it can have bits.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub entry: SegmentEntry,
    pub entry_at: u64,
    pub bitmap_at: u64,
    pub live: Vec<u64>,
}

impl Segment {
    pub fn is_live(&self, index: u16) -> bool {
        u32::from(index) < self.entry.capacity
            && self
                .live
                .get(usize::from(index) / 64)
                .is_some_and(|word| word >> (index % 64) & 1 == 1)
    }

    pub fn live_count(&self) -> u64 {
        self.live
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum()
    }

    /// Where its checksum stands in the file.
    pub fn sum_at(&self) -> u64 {
        format::sum_at(self.entry_at, 0)
    }

    /// Where an object begins in the file.
    pub fn place(&self, index: u16) -> u64 {
        self.entry.offset + u64::from(index) * u64::from(self.entry.object_size)
    }
}

/// The segments by number; there is no segment 0.
#[derive(Clone, Debug, Default)]
pub(super) struct Tables {
    pub chunks: Vec<u64>,
    pub segments: Vec<Option<Segment>>,
}

impl Tables {
    pub fn get(&self, number: u64) -> Option<&Segment> {
        self.segments.get(usize::try_from(number).ok()?)?.as_ref()
    }

    pub fn get_mut(&mut self, number: u64) -> Option<&mut Segment> {
        let number = usize::try_from(number).ok()?;
        self.segments.get_mut(number)?.as_mut()
    }

    pub fn all(&self) -> impl Iterator<Item = (u64, &Segment)> {
        self.segments
            .iter()
            .enumerate()
            .filter_map(|(number, segment)| Some((number as u64, segment.as_ref()?)))
    }
}

/// A recovered region.
#[derive(Clone, Debug)]
pub(super) struct Image {
    pub bytes: Bytes,
    pub header: Header,
    pub schema: SchemaDesc,
    /// The schema that some segments may still be of.
    pub schema_before: Option<SchemaDesc>,
    pub superblock: Superblock,
    pub slot: usize,
    /// The highest number of a record that was used.
    pub sequence: u64,
    pub tables: Option<Tables>,
    /// The segments and indices of what nothing refers to, where that is known.
    pub leaked: Option<Vec<(u64, u16)>>,
}

impl Image {
    /// The types that objects may be of.
    pub fn object_types(&self) -> impl Iterator<Item = &SchemaDesc> {
        let before = self.schema_before.iter();
        let before = before.flat_map(SchemaDesc::object_types);
        // The present one of two of the same id is the last, which counts in a map.
        before.chain(self.schema.object_types())
    }
}
