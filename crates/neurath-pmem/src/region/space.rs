//! The allocator: which object places are free. Its knowledge is in memory and made
//! anew at each open; what lasts are the segment table and the bitmaps, whose words
//! change with the transaction that allocates or frees.

mod lent;
mod load;
mod segments;
mod sums;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

use neurath_abi::{Ref, SegmentView};

use super::ablation::{Without, without};
use super::error::RegionError;
use super::format::{self, CHUNK_LEN, PAGE, SEGMENT_LEN, SEGMENTS_PER_CHUNK, SegmentEntry};
use super::holes::Holes;
use super::media::Media;
use super::write_set::WriteSet;
#[cfg(test)]
pub(super) use segments::FAULTED;

/// The type of raw blocks: bytes whose meaning their owner knows.
pub const RAW: u64 = u64::from_le_bytes(*b"rawbytes");

/// How many commits a freed place waits before it is used again: as many records as
/// a recovery replays, since replaying one must not write over a newer object.
const QUARANTINE: u64 = 2;

/// Segments whose bitmaps an opening reads, the newest. Those of the others are read when they
/// change, or, as many at a time, when a place is looked for: so an opening takes as long as their
/// entries do, and no allocation reads all of a large region. Few in tests, so that there are
/// others.
const KNOWN_AT_ONCE: usize = if cfg!(test) { 4 } else { 1024 };

#[derive(Debug)]
struct Segment {
    entry: SegmentEntry,
    /// The places that cannot be given out: taken, reserved, or in quarantine. As the bitmap
    /// in the file until the segment changes for the first time.
    used: Option<Box<[u64]>>,
    /// How many can.
    free: u32,
    /// The words of `used` before this one have no place left.
    full: usize,
    sum: Sum,
}

/// What is known of a segment's checksum in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Sum {
    /// It is 0: the segment has changed since there was one.
    None,
    /// It holds.
    Holds,
    /// The open transaction changes the segment, and makes it 0.
    Ends,
}

/// One undoable step of the open transaction.
#[derive(Debug)]
enum Step {
    Reserved(Ref),
    Added,
    Retyped(u32, SegmentEntry),
    Chunk,
}

/// Hashes a type's id and a size: asked for with each new object. Ids are hashes already.
#[derive(Default)]
pub(super) struct ClassHasher(u64);

impl Hasher for ClassHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(26) ^ value).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(value.into());
    }

    fn finish(&self) -> u64 {
        // The table takes the lowest bits and the highest ones.
        self.0 ^ (self.0 >> 32)
    }
}

/// The allocator of one region.
#[derive(Debug)]
pub(super) struct Space {
    segments: Vec<Option<Segment>>,
    views: Vec<SegmentView>,
    /// A copy of them for other threads.
    lent: lent::Lent,
    /// Segments that may have free places, by type and size. Checked when used.
    partial: HashMap<(u64, u32), Vec<u32>, BuildHasherDefault<ClassHasher>>,
    /// The bitmaps of the segments from this one on have been read.
    known_from: usize,
    /// Segments without any object, by length.
    empty: BTreeSet<(u64, u32)>,
    chunks: Vec<u64>,
    heap_end: u64,
    heap_end_before: u64,
    /// What no chunk or segment takes before `heap_end`.
    holes: Holes,
    /// Places that are on their way there: what they take of memory is given back first.
    given_back: usize,
    /// Bytes that the region may use. The file may be longer: it grows before the
    /// superblock says so.
    length: u64,
    /// What lies before this has its blocks, but for holes.
    reserved: u64,
    /// Pages before this one are not asked for any more.
    faulted: u64,
    quarantine: VecDeque<(u64, Ref)>,
    steps: Vec<Step>,
    freed: Vec<Ref>,
    /// Segments whose checksums the open transaction ends.
    ends: Vec<u32>,
    /// Whether segments have checksums at all.
    sums: bool,
    live_bytes: u64,
    live_objects: u64,
    seed: u64,
}

// SAFETY: the views' pointers lead into the region's mapping, which belongs to the
// region that owns this and moves with it.
unsafe impl Send for Space {}

/// The size that an object of `size` bytes takes.
pub fn object_size(type_id: u64, size: u64) -> u64 {
    if type_id != RAW {
        return size.max(8).next_multiple_of(8);
    }
    // Raw blocks come in classes with at most an eighth of waste; above half a
    // segment each has a segment of its own.
    if size <= 128 {
        size.max(16).next_multiple_of(16)
    } else if size <= SEGMENT_LEN / 2 {
        size.next_multiple_of((size.next_power_of_two() >> 4).max(16))
    } else {
        size.next_multiple_of(PAGE)
    }
}

impl Space {
    pub(super) fn views(&self) -> &[SegmentView] {
        &self.views
    }

    fn set_view(&mut self, number: u32, view: SegmentView) {
        self.views[number as usize] = view;
        self.lent.note(number, self.views.len());
    }

    /// See [`super::Region::prepare_views`].
    pub(super) fn prepare_views(&mut self, most: usize) -> bool {
        self.lent.prepare(&self.views, most)
    }

    /// See [`super::Region::lend_views`].
    pub(super) fn lend_views(&mut self) -> (u64, Vec<SegmentView>) {
        self.lent.lend(&self.views)
    }

    /// See [`super::Region::return_views`].
    pub(super) fn return_views(&mut self, number: u64, views: Vec<SegmentView>) {
        self.lent.give_back(number, views);
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    pub(super) fn live_objects(&self) -> u64 {
        self.live_objects
    }

    /// The entries of all segments, by number.
    pub(super) fn entries(&self) -> impl Iterator<Item = (u32, SegmentEntry)> + '_ {
        self.segments
            .iter()
            .enumerate()
            .filter_map(|(number, segment)| Some((number as u32, segment.as_ref()?.entry)))
    }

    /// The word of the bitmap that tells whether `object` lives, and its bit.
    pub(super) fn bit(&self, object: Ref) -> (u64, u64) {
        let number = object.segment();
        let chunk = self.chunks[(number / SEGMENTS_PER_CHUNK) as usize];
        let index = u64::from(object.index());
        (
            format::bitmap_at(chunk, number) + index / 64 * 8,
            1 << (index % 64),
        )
    }

    /// The live object that `object` refers to: its place in the file and its size.
    #[inline]
    pub(super) fn find(
        &self,
        object: Ref,
        type_id: u64,
        media: &impl Media,
        set: &WriteSet,
    ) -> Result<(u64, u64), RegionError> {
        let bad = || RegionError::BadRef {
            segment: object.segment(),
            index: object.index(),
        };
        let number = usize::try_from(object.segment()).unwrap_or(usize::MAX);
        let Some(Some(segment)) = self.segments.get(number) else {
            return Err(bad());
        };
        let entry = &segment.entry;
        if entry.type_id != type_id || u32::from(object.index()) >= entry.capacity {
            return Err(bad());
        }
        let (word, bit) = self.bit(object);
        if set.word(word).unwrap_or_else(|| media.word(word)) & bit == 0 {
            return Err(bad());
        }
        let size = u64::from(entry.object_size);
        Ok((entry.offset + u64::from(object.index()) * size, size))
    }

    /// Reserves a place, sets its bit in `set` and adds the zeroed object to it.
    pub(super) fn alloc<M: Media>(
        &mut self,
        type_id: u64,
        size: u64,
        media: &mut M,
        set: &mut WriteSet,
        grow: &mut dyn FnMut(&mut M, u64) -> Result<(), RegionError>,
    ) -> Result<Ref, RegionError> {
        if self.steps.is_empty() {
            self.heap_end_before = self.heap_end;
            self.look_ahead(media);
        }
        let size = object_size(type_id, size) as u32;
        let number = match self.with_room(type_id, size) {
            Some(number) => number,
            None => self.make_room(type_id, size, media, set, grow)?,
        };
        let Some(segment) = &mut self.segments[number as usize] else {
            unreachable!("a segment just found")
        };
        let Some(used) = &mut segment.used else {
            unreachable!("just made known")
        };
        let mut word = segment.full;
        while used[word] == valid_bits(segment.entry.capacity, word) {
            word += 1;
        }
        segment.full = word;
        let bit = used[word].trailing_ones();
        used[word] |= 1 << bit;
        if segment.free == segment.entry.capacity {
            self.empty.remove(&(segment.entry.length, number));
        }
        segment.free -= 1;
        let entry = segment.entry;
        if segment.free == 0
            && let Some(class) = self.partial.get_mut(&(type_id, size))
        {
            // It is the last: `with_room` and `publish` both leave it there.
            class.pop();
        }
        let object = Ref::new(number, (word * 64) as u16 + bit as u16);
        self.steps.push(Step::Reserved(object));
        self.touch(number, set);
        let (place, bit) = self.bit(object);
        set.set_word(
            place,
            set.word(place).unwrap_or_else(|| media.word(place)) | bit,
        );
        set.add_fresh(
            entry.offset + u64::from(object.index()) * u64::from(size),
            size.into(),
        );
        Ok(object)
    }

    fn with_room(&mut self, type_id: u64, size: u32) -> Option<u32> {
        let class = self.partial.get_mut(&(type_id, size))?;
        while let Some(&number) = class.last() {
            let fits = self.segments[number as usize]
                .as_ref()
                .is_some_and(|segment| {
                    segment.free > 0
                        && segment.entry.type_id == type_id
                        && segment.entry.object_size == size
                });
            if fits {
                return Some(number);
            }
            class.pop();
        }
        None
    }

    /// Marks a live object as freed by the open transaction.
    pub(super) fn free(&mut self, object: Ref, media: &impl Media, set: &mut WriteSet) {
        self.touch(object.segment() as u32, set);
        let (word, bit) = self.bit(object);
        set.set_word(
            word,
            set.word(word).unwrap_or_else(|| media.word(word)) & !bit,
        );
        if without(media, Without::Quarantine) {
            return self.release(object);
        }
        self.freed.push(object);
    }

    /// What the open transaction has made.
    pub(super) fn reserved(&self) -> impl Iterator<Item = Ref> + '_ {
        self.steps.iter().filter_map(|step| match step {
            Step::Reserved(object) => Some(*object),
            _ => None,
        })
    }

    /// The segments that are of another kind by the open transaction, and what they were before.
    pub(super) fn retyped(&self) -> impl Iterator<Item = (u32, SegmentEntry)> + '_ {
        self.steps.iter().filter_map(|step| match step {
            Step::Retyped(number, before) => Some((*number, *before)),
            _ => None,
        })
    }

    /// Objects of segment `number`, whose bitmap is known, were freed by the commit `sequence`
    /// outside of the open transaction: words of the bitmap, and the bits that went.
    pub(super) fn left(&mut self, sequence: u64, number: u32, words: &[(usize, u64)]) {
        for &(at, mut bits) in words {
            while bits != 0 {
                let index = (at * 64) as u16 + bits.trailing_zeros() as u16;
                bits &= bits - 1;
                let object = Ref::new(number, index);
                self.live_objects -= 1;
                self.live_bytes -= self.size_of(object);
                self.quarantine.push_back((sequence, object));
            }
        }
    }

    /// The transaction is committed as `sequence`.
    pub(super) fn committed(&mut self, sequence: u64, media: &mut impl Media) {
        self.settle_holes(sequence, media);
        let nothing = self.steps.is_empty() && self.ends.is_empty() && self.freed.is_empty();
        if nothing && self.quarantine.is_empty() {
            return;
        }
        // All keep their room for the next transaction.
        let mut steps = std::mem::take(&mut self.steps);
        for step in steps.drain(..) {
            if let Step::Reserved(object) = step {
                self.live_objects += 1;
                self.live_bytes += self.size_of(object);
            }
        }
        self.steps = steps;
        for number in self.ends.drain(..) {
            if let Some(segment) = &mut self.segments[number as usize] {
                segment.sum = Sum::None;
            }
        }
        let mut freed = std::mem::take(&mut self.freed);
        for object in freed.drain(..) {
            self.live_objects -= 1;
            self.live_bytes -= self.size_of(object);
            self.quarantine.push_back((sequence, object));
        }
        self.freed = freed;
        while let Some(&(freed, object)) = self.quarantine.front() {
            let quarantine = QUARANTINE - u64::from(without(media, Without::SecondQuarantine));
            if freed + quarantine > sequence + 1 {
                break;
            }
            self.quarantine.pop_front();
            self.release(object);
        }
    }

    /// The last commit is `sequence`: what was freed long enough before serves again.
    /// Its memory is given back meanwhile.
    pub(super) fn settle_holes(&mut self, sequence: u64, media: &mut impl Media) {
        let quarantine = QUARANTINE - u64::from(without(media, Without::SecondQuarantine));
        if self.given_back > 0 {
            for (offset, length) in media.given_back() {
                self.given_back -= 1;
                self.holes.add(offset, length);
            }
        }
        while let Some((offset, length)) = self.holes.settled(sequence, quarantine) {
            if media.give_back(offset, length) {
                self.given_back += 1;
            } else {
                self.holes.add(offset, length);
            }
        }
    }

    /// The transaction never was.
    pub(super) fn aborted<M: Media>(&mut self, media: &M) {
        self.freed.clear();
        for number in self.ends.drain(..) {
            if let Some(Some(segment)) = self.segments.get_mut(number as usize) {
                segment.sum = Sum::Holds;
            }
        }
        let mut places = Vec::new();
        let any = !self.steps.is_empty();
        while let Some(step) = self.steps.pop() {
            match step {
                Step::Reserved(object) => self.release(object),
                Step::Added => {
                    let number = self.segments.len() as u32 - 1;
                    if let Some(Some(segment)) = self.segments.pop() {
                        places.push((segment.entry.offset, segment.entry.length));
                        self.empty.remove(&(segment.entry.length, number));
                        self.forget(number, &segment.entry);
                    }
                    self.views.pop();
                }
                Step::Retyped(number, before) => {
                    if let Some(segment) = self.segments[number as usize].take() {
                        self.forget(number, &segment.entry);
                    }
                    let sum = self.sum_of(number, media);
                    self.segments[number as usize] = Some(Segment {
                        sum,
                        ..new_segment(before)
                    });
                    self.set_view(number, view(media, &before));
                    let class = (before.type_id, before.object_size);
                    self.partial.entry(class).or_default().push(number);
                }
                Step::Chunk => {
                    places.extend(self.chunks.pop().map(|chunk| (chunk, CHUNK_LEN)));
                }
            }
        }
        if any {
            self.heap_end = self.heap_end_before;
        }
        // What came from between others goes back there.
        for (offset, length) in places {
            if offset < self.heap_end {
                self.holes.add(offset, length);
            }
        }
    }

    fn forget(&mut self, number: u32, entry: &SegmentEntry) {
        if let Some(class) = self.partial.get_mut(&(entry.type_id, entry.object_size)) {
            class.retain(|&other| other != number);
        }
    }

    fn size_of(&self, object: Ref) -> u64 {
        self.segments[object.segment() as usize]
            .as_ref()
            .map_or(0, |segment| segment.entry.object_size.into())
    }

    fn release(&mut self, object: Ref) {
        let number = object.segment() as u32;
        let Some(segment) = &mut self.segments[number as usize] else {
            unreachable!("an object is in a segment")
        };
        let Some(used) = &mut segment.used else {
            unreachable!("known since it was taken or freed")
        };
        let word = usize::from(object.index()) / 64;
        used[word] &= !(1 << (object.index() % 64));
        segment.full = segment.full.min(word);
        segment.free += 1;
        if segment.free == 1 {
            let class = (segment.entry.type_id, segment.entry.object_size);
            self.partial.entry(class).or_default().push(number);
        }
        if segment.free == segment.entry.capacity {
            self.empty.insert((segment.entry.length, number));
        }
    }
}

/// Makes sure that a range has its blocks.
pub(super) fn take_back(media: &mut impl Media, from: u64, to: u64) -> Result<(), RegionError> {
    let bytes = to - from;
    if bytes == 0 {
        return Ok(());
    }
    let taken = media.take_back(from, bytes);
    taken.map_err(|source| RegionError::Grow { bytes, source })
}

/// Gives blocks to what has none in a range.
pub(super) fn fill_holes(media: &mut impl Media, from: u64, to: u64) -> Result<(), RegionError> {
    let bytes = to - from;
    let filled = media.fill_holes(from, to);
    filled.map_err(|source| RegionError::Grow { bytes, source })
}

const NO_VIEW: SegmentView = SegmentView {
    base: std::ptr::null(),
    object_size: 0,
    capacity: 0,
    type_id: 0,
};

fn new_segment(entry: SegmentEntry) -> Segment {
    let used = vec![0; entry.capacity.div_ceil(64) as usize].into_boxed_slice();
    Segment {
        entry,
        used: Some(used),
        free: entry.capacity,
        full: 0,
        sum: Sum::None,
    }
}

fn view(media: &dyn Media, entry: &SegmentEntry) -> SegmentView {
    SegmentView {
        base: media.bytes(entry.offset, entry.length).as_ptr(),
        object_size: entry.object_size,
        capacity: entry.capacity,
        type_id: entry.type_id,
    }
}

/// The bits of word `word` of a bitmap that stand for objects.
fn valid_bits(capacity: u32, word: usize) -> u64 {
    let before = word as u32 * 64;
    match capacity.saturating_sub(before) {
        0 => 0,
        64.. => u64::MAX,
        bits => (1 << bits) - 1,
    }
}
