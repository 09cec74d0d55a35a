//! The allocator: which object places are free. Its knowledge is in memory and made
//! anew at each open; what lasts are the segment table and the bitmaps, whose words
//! change with the transaction that allocates or frees.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::ops::Range;

use neurath_abi::{Ref, SegmentView};

use super::ablation::{Without, without};
use super::error::{FormatError, RegionError};
use super::format::{
    self, BITMAP_LEN, CHUNK_LEN, CHUNKS, DIRECTORY_AT, ENTRY_LEN, ENTRY_WORDS, Header, OBJECTS_MAX,
    PAGE, SEGMENT_LEN, SEGMENTS_PER_CHUNK, SegmentEntry,
};
use super::holes::Holes;
use super::media::Media;
use super::write_set::WriteSet;

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

/// The largest file growth at a time, in bytes: what is asked for is faulted in.
/// Little in tests, so that regions grow in them.
const GROWTH: u64 = if cfg!(test) { 128 << 10 } else { 4 << 20 };

/// The same on simulated media.
const SIMULATED_GROWTH: u64 = 128 << 10;

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
struct ClassHasher(u64);

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
    /// Bytes that the region may use. The file may be longer: it grows before the
    /// superblock says so.
    length: u64,
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
    /// Reads the segment table and the bitmaps.
    pub(super) fn load(
        media: &dyn Media,
        header: &Header,
        length: u64,
    ) -> Result<Space, FormatError> {
        let (seed, heap) = (header.seed(), header.heap_at()..length);
        let mut space = Space {
            segments: vec![None],
            views: vec![NO_VIEW],
            partial: HashMap::default(),
            known_from: 1,
            empty: BTreeSet::new(),
            chunks: Vec::new(),
            heap_end: heap.start,
            heap_end_before: heap.start,
            holes: Holes::default(),
            length,
            quarantine: VecDeque::new(),
            steps: Vec::new(),
            freed: Vec::new(),
            ends: Vec::new(),
            sums: header.has_sums(),
            live_bytes: 0,
            live_objects: 0,
            seed,
        };
        for number in 0..CHUNKS {
            let chunk = media.word(DIRECTORY_AT + number * 8);
            if chunk == 0 {
                break;
            }
            let end = chunk.checked_add(CHUNK_LEN).filter(|&end| end <= length);
            if chunk < heap.start || !chunk.is_multiple_of(PAGE) || end.is_none() {
                return Err(FormatError::Field {
                    field: "a chunk's offset",
                    value: chunk,
                });
            }
            space.chunks.push(chunk);
            space.heap_end = space.heap_end.max(chunk + CHUNK_LEN);
        }
        // Room for all at once: memory that is moved is faulted in twice.
        let most = space.chunks.len() * SEGMENTS_PER_CHUNK as usize;
        space.segments.reserve_exact(most);
        space.views.reserve_exact(most);
        let mut ranges = Vec::with_capacity(space.chunks.len() + most);
        ranges.extend(space.chunks.iter().map(|&chunk| (chunk, chunk + CHUNK_LEN)));
        for at in 0..space.chunks.len() {
            if !space.load_chunk(media, at as u64 * SEGMENTS_PER_CHUNK, &heap, &mut ranges)? {
                break;
            }
        }
        // Mostly in order already.
        ranges.sort();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
            return Err(FormatError::Field {
                field: "a segment's offset",
                value: pair[1].0,
            });
        }
        let mut end = heap.start;
        for (from, to) in ranges {
            if from > end {
                space.holes.add(end, from - end);
            }
            end = to;
        }
        space.known_from = space.segments.len();
        space.know_more(media, KNOWN_AT_ONCE)?;
        Ok(space)
    }

    /// Beyond the last segment its chunk is zero: a bit there would be an object of a
    /// segment to come.
    fn check_unused(&self, media: &dyn Media, number: u64) -> Result<(), FormatError> {
        let chunk = self.chunks[(number / SEGMENTS_PER_CHUNK) as usize];
        let left = SEGMENTS_PER_CHUNK - number % SEGMENTS_PER_CHUNK;
        let used = |at, len| media.bytes(at, media.used(at, len));
        let entries = used(format::entry_at(chunk, number), left * ENTRY_LEN);
        let bitmaps = used(format::bitmap_at(chunk, number), left * BITMAP_LEN);
        let zero = |bytes: &[u8]| *bytes == [0; BITMAP_LEN as usize][..bytes.len()];
        let chunks = |bytes| <[u8]>::chunks(bytes, BITMAP_LEN as usize);
        if !chunks(entries).chain(chunks(bitmaps)).all(zero) {
            let what = format!("what follows segment {}", number - 1);
            return Err(FormatError::Checksum { what });
        }
        Ok(())
    }

    /// Reads the entries and bitmaps of a chunk, whose first segment is `first`; whether it is
    /// full.
    fn load_chunk(
        &mut self,
        media: &dyn Media,
        first: u64,
        heap: &Range<u64>,
        ranges: &mut Vec<(u64, u64)>,
    ) -> Result<bool, FormatError> {
        let chunk = self.chunks[(first / SEGMENTS_PER_CHUNK) as usize];
        let entries = media.bytes(chunk, SEGMENTS_PER_CHUNK * ENTRY_LEN);
        for (number, entry) in (first..).zip(entries.chunks_exact(ENTRY_LEN as usize)) {
            if number == 0 {
                continue;
            }
            let mut words = [0; ENTRY_WORDS];
            for (word, bytes) in words.iter_mut().zip(entry.chunks_exact(8)) {
                *word = le(bytes);
            }
            // Segments are numbered without gaps.
            let Some(entry) = SegmentEntry::parse(&words, number, self.seed, heap)? else {
                self.check_unused(media, number)?;
                return Ok(false);
            };
            ranges.push((entry.offset, entry.offset + entry.length));
            let sum = if self.sums && SegmentEntry::sum_in(&words) != 0 {
                Sum::Holds
            } else {
                Sum::None
            };
            self.heap_end = self.heap_end.max(entry.offset + entry.length);
            self.views.push(view(media, &entry));
            self.segments.push(Some(Segment {
                entry,
                used: None,
                free: 0,
                full: 0,
                sum,
            }));
        }
        Ok(true)
    }

    /// Reads the bitmap of a segment, if that was not done yet.
    pub(super) fn know(&mut self, number: u32, media: &dyn Media) -> Result<(), FormatError> {
        let Some(Some(segment)) = self.segments.get_mut(number as usize) else {
            return Ok(());
        };
        if segment.used.is_some() {
            return Ok(());
        }
        let entry = segment.entry;
        let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
        let bitmap = media.bytes(format::bitmap_at(chunk, number.into()), BITMAP_LEN);
        let mut used = vec![0; entry.capacity.div_ceil(64) as usize].into_boxed_slice();
        let mut taken = 0;
        for (i, word) in bitmap.chunks_exact(8).map(le).enumerate() {
            if word & !valid_bits(entry.capacity, i) != 0 {
                return Err(FormatError::Field {
                    field: "a segment's bitmap",
                    value: word,
                });
            }
            if let Some(used) = used.get_mut(i) {
                *used = word;
                taken += word.count_ones();
            }
        }
        segment.used = Some(used);
        segment.free = entry.capacity - taken;
        if segment.free > 0 {
            self.partial
                .entry((entry.type_id, entry.object_size))
                .or_default()
                .push(number);
        }
        if taken == 0 {
            self.empty.insert((entry.length, number));
        }
        self.live_objects += u64::from(taken);
        self.live_bytes += u64::from(taken) * u64::from(entry.object_size);
        Ok(())
    }

    /// Reads the bitmaps of up to `count` segments more, from the newest to the oldest; whether
    /// others are left.
    pub(super) fn know_more(
        &mut self,
        media: &dyn Media,
        count: usize,
    ) -> Result<bool, FormatError> {
        let from = self.known_from.saturating_sub(count).max(1);
        for number in from..self.known_from {
            self.know(number as u32, media)?;
        }
        self.known_from = from;
        Ok(from > 1)
    }

    /// How many segments there are whose bitmaps nobody has read.
    #[cfg(test)]
    pub(super) fn unknown(&self) -> usize {
        self.known_from - 1
    }

    /// Whether segment `number`'s checksum in the file holds.
    fn sum_of(&self, number: u32, media: &dyn Media) -> Sum {
        let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
        if self.sums && media.word(format::sum_at(chunk, number.into())) != 0 {
            Sum::Holds
        } else {
            Sum::None
        }
    }

    /// Whether a change of the object would end the checksum of its segment.
    pub(super) fn sum_holds(&self, object: Ref) -> bool {
        let segment = self.segments.get(object.segment() as usize);
        matches!(segment, Some(Some(segment)) if segment.sum == Sum::Holds)
    }

    /// The open transaction changes segment `number`: the checksum ends with its commit.
    #[inline]
    pub(super) fn touch(&mut self, number: u32, set: &mut WriteSet) {
        if let Some(Some(segment)) = self.segments.get_mut(number as usize)
            && segment.sum == Sum::Holds
        {
            segment.sum = Sum::Ends;
            self.ends.push(number);
            let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
            set.set_word(format::sum_at(chunk, number.into()), 0);
        }
    }

    /// Gives all segments that have none their checksums. Nothing is under way, and nothing
    /// changes before a superblock says that the region is closed: what a crash leaves of
    /// them holds, as whatever a recovery sets anew ends the checksums with it.
    pub(super) fn store_sums<M: Media>(&mut self, media: &mut M, stored: &mut dyn FnMut(u64)) {
        if !self.sums {
            return;
        }
        for number in 1..self.segments.len() as u32 {
            let known = |segment: &Segment| segment.sum == Sum::Holds;
            if self.segments[number as usize].as_ref().is_none_or(known) {
                continue;
            }
            let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
            let sum = self.sum_now(number, media);
            let at = format::sum_at(chunk, number.into());
            media.store_word(at, sum);
            stored(at);
            if let Some(segment) = &mut self.segments[number as usize] {
                segment.sum = Sum::Holds;
            }
        }
    }

    /// A segment whose checksum does not hold.
    #[cfg(any(test, feature = "campaign"))]
    pub(super) fn wrong_sum(&self, media: &dyn Media) -> Option<u32> {
        self.entries().map(|(number, _)| number).find(|&number| {
            let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
            let said = media.word(format::sum_at(chunk, number.into()));
            said != 0 && self.sums && said != self.sum_now(number, media)
        })
    }

    /// The checksum of a segment as it is.
    fn sum_now(&self, number: u32, media: &dyn Media) -> u64 {
        let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
        let Some(Segment { entry, .. }) = &self.segments[number as usize] else {
            unreachable!("a segment of the table")
        };
        let bitmap = media.bytes(format::bitmap_at(chunk, number.into()), BITMAP_LEN);
        let objects = media.bytes(entry.offset, entry.length);
        format::segment_sum(number.into(), entry, bitmap, objects, self.seed)
    }

    pub(super) fn views(&self) -> &[SegmentView] {
        &self.views
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

    /// Finds room where nobody has looked, or adds a segment. Some segments are looked at each
    /// time, so that it takes no longer in a large region; all before it is said that there is no
    /// room.
    fn make_room<M: Media>(
        &mut self,
        type_id: u64,
        size: u32,
        media: &mut M,
        set: &mut WriteSet,
        grow: &mut dyn FnMut(&mut M, u64) -> Result<(), RegionError>,
    ) -> Result<u32, RegionError> {
        let left = self.know_more(media, KNOWN_AT_ONCE)?;
        if let Some(number) = self.with_room(type_id, size) {
            return Ok(number);
        }
        match self.add_segment(type_id, size, media, set, grow) {
            Err(
                RegionError::Grow { .. } | RegionError::Limit { .. } | RegionError::Segments(_),
            ) if left => {
                self.know_more(media, usize::MAX)?;
                match self.with_room(type_id, size) {
                    Some(number) => Ok(number),
                    // An empty one of another type may have been found.
                    None => self.add_segment(type_id, size, media, set, grow),
                }
            }
            added => added,
        }
    }

    fn add_segment<M: Media>(
        &mut self,
        type_id: u64,
        size: u32,
        media: &mut M,
        set: &mut WriteSet,
        grow: &mut dyn FnMut(&mut M, u64) -> Result<(), RegionError>,
    ) -> Result<u32, RegionError> {
        let capacity = (SEGMENT_LEN as u32 / size).clamp(1, OBJECTS_MAX);
        let length = (u64::from(capacity) * u64::from(size)).next_multiple_of(PAGE);
        let length = if capacity > 1 {
            length.max(SEGMENT_LEN)
        } else {
            length
        };
        // An empty one of another kind serves as well, if not too much is wasted.
        let spare = self
            .empty
            .range((length, 0)..=(length * 2, u32::MAX))
            .next()
            .copied();
        if let Some((spare_length, number)) = spare {
            self.empty.remove(&(spare_length, number));
            let Some(segment) = &mut self.segments[number as usize] else {
                unreachable!("an empty segment is a segment")
            };
            let before = segment.entry;
            let offset = before.offset;
            let entry = SegmentEntry {
                type_id,
                offset,
                length: spare_length,
                object_size: size,
                capacity,
            };
            *segment = new_segment(entry);
            self.steps.push(Step::Retyped(number, before));
            self.publish(number, entry, media, set);
            return Ok(number);
        }
        let number = self.segments.len() as u64;
        if number / SEGMENTS_PER_CHUNK >= self.chunks.len() as u64 {
            self.add_chunk(media, set, grow)?;
        }
        let offset = self.take_place(length, media, grow)?;
        let entry = SegmentEntry {
            type_id,
            offset,
            length,
            object_size: size,
            capacity,
        };
        self.segments.push(Some(new_segment(entry)));
        self.views.push(NO_VIEW);
        self.steps.push(Step::Added);
        self.publish(number as u32, entry, media, set);
        Ok(number as u32)
    }

    /// Takes a place for a segment: one that was freed, or one behind all others.
    fn take_place<M: Media>(
        &mut self,
        length: u64,
        media: &mut M,
        grow: &mut dyn FnMut(&mut M, u64) -> Result<(), RegionError>,
    ) -> Result<u64, RegionError> {
        if let Some(offset) = self.holes.take(length) {
            return Ok(offset);
        }
        let offset = self.heap_end;
        self.reserve(offset + length, media, grow)?;
        Ok(offset)
    }

    /// Takes a place for what stays, also if the open transaction is aborted.
    pub(super) fn take_lasting_place<M: Media>(
        &mut self,
        length: u64,
        media: &mut M,
        grow: &mut dyn FnMut(&mut M, u64) -> Result<(), RegionError>,
    ) -> Result<u64, RegionError> {
        let offset = self.take_place(length, media, grow)?;
        self.heap_end_before = self.heap_end;
        Ok(offset)
    }

    /// Gives a place back that nothing ever referred to.
    pub(super) fn give_place_back(&mut self, offset: u64, length: u64) {
        self.holes.add(offset, length);
    }

    /// The entry of a segment.
    pub(super) fn entry(&self, number: u64) -> Option<&SegmentEntry> {
        let segment = self.segments.get(usize::try_from(number).ok()?)?;
        segment.as_ref().map(|segment| &segment.entry)
    }

    /// One more than the highest number of a segment.
    pub(super) fn segment_count(&self) -> u64 {
        self.segments.len() as u64
    }

    /// Bytes that chunks and segments take, with what is free between them.
    pub(super) fn heap_end(&self) -> u64 {
        self.heap_end
    }

    /// The bitmap of a segment, as far as it stands for objects. To be called once it is known.
    pub(super) fn bitmap_range(&self, number: u64, entry: &SegmentEntry) -> (u64, u64) {
        let chunk = self.chunks[(number / SEGMENTS_PER_CHUNK) as usize];
        let len = u64::from(entry.capacity).div_ceil(64) * 8;
        (format::bitmap_at(chunk, number), len)
    }

    /// The words that make `entry` segment `number`'s.
    pub(super) fn entry_words(
        &self,
        number: u64,
        entry: &SegmentEntry,
    ) -> impl Iterator<Item = (u64, u64)> + use<> {
        let chunk = self.chunks[(number / SEGMENTS_PER_CHUNK) as usize];
        let at = format::entry_at(chunk, number);
        let words = entry.encode(number, self.seed);
        (at..).step_by(8).zip(words)
    }

    /// Segment `number`, whose bitmap is known, has another entry from now on. Its `live` objects
    /// are the same ones if they are `kept`; else there are none any more.
    pub(super) fn replace(
        &mut self,
        number: u64,
        entry: SegmentEntry,
        (live, kept): (u64, bool),
        media: &impl Media,
    ) {
        let sum = self.sum_of(number as u32, media);
        let Some(Some(segment)) = self.segments.get_mut(number as usize) else {
            unreachable!("a segment of the table")
        };
        let (before, number) = (segment.entry, number as u32);
        self.empty.remove(&(before.length, number));
        self.live_bytes -= live * u64::from(before.object_size);
        if kept {
            segment.entry = entry;
            segment.sum = sum;
            self.live_bytes += live * u64::from(entry.object_size);
        } else {
            self.live_objects -= live;
            *segment = new_segment(entry);
            self.quarantine
                .retain(|(_, object)| object.segment() != u64::from(number));
        }
        if segment.free > 0 {
            let class = (entry.type_id, entry.object_size);
            self.partial.entry(class).or_default().push(number);
        }
        if segment.free == segment.entry.capacity {
            self.empty.insert((entry.length, number));
        }
        self.views[number as usize] = view(media, &entry);
    }

    /// A segment's checksum was set outside of the open transaction.
    pub(super) fn refresh_sum(&mut self, number: u64, media: &impl Media) {
        let sum = self.sum_of(number as u32, media);
        if let Some(Some(segment)) = self.segments.get_mut(number as usize)
            && segment.sum != Sum::Ends
        {
            segment.sum = sum;
        }
    }

    /// The place of a segment's objects before is free, by the commit `sequence`.
    pub(super) fn free_place(&mut self, sequence: u64, before: &SegmentEntry) {
        self.holes.add_later(sequence, before.offset, before.length);
    }

    /// Writes a segment's entry into the transaction and makes it usable.
    fn publish<M: Media>(
        &mut self,
        number: u32,
        entry: SegmentEntry,
        media: &M,
        set: &mut WriteSet,
    ) {
        let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
        let at = format::entry_at(chunk, number.into());
        for (i, word) in entry
            .encode(number.into(), self.seed)
            .into_iter()
            .enumerate()
        {
            set.set_word(at + i as u64 * 8, word);
        }
        self.views[number as usize] = view(media, &entry);
        self.partial
            .entry((entry.type_id, entry.object_size))
            .or_default()
            .push(number);
        self.empty.insert((entry.length, number));
    }

    fn add_chunk<M: Media>(
        &mut self,
        media: &mut M,
        set: &mut WriteSet,
        grow: &mut dyn FnMut(&mut M, u64) -> Result<(), RegionError>,
    ) -> Result<(), RegionError> {
        let number = self.chunks.len() as u64;
        if number >= CHUNKS {
            return Err(RegionError::Segments(CHUNKS * SEGMENTS_PER_CHUNK));
        }
        let chunk = self.heap_end;
        self.reserve(chunk + CHUNK_LEN, media, grow)?;
        // What lies there may stem from a transaction that never was committed. No
        // part of the region refers to it yet; the fence keeps it so until it is zero.
        media.zero(chunk, CHUNK_LEN);
        media.flush(chunk, CHUNK_LEN);
        media.fence().map_err(RegionError::Sync)?;
        self.chunks.push(chunk);
        self.steps.push(Step::Chunk);
        set.set_word(DIRECTORY_AT + number * 8, chunk);
        Ok(())
    }

    /// Takes the heap up to `end`, growing the file where it must.
    fn reserve<M: Media>(
        &mut self,
        end: u64,
        media: &mut M,
        grow: &mut dyn FnMut(&mut M, u64) -> Result<(), RegionError>,
    ) -> Result<(), RegionError> {
        if end > self.length {
            let limit = media.limit();
            if end > limit {
                return Err(RegionError::Limit { limit });
            }
            let growth = if media.simulated() {
                SIMULATED_GROWTH
            } else {
                GROWTH
            };
            let wanted = end.max(self.length + growth).next_multiple_of(PAGE);
            let length = wanted.min(limit & !(PAGE - 1)).max(end);
            self.length = match grow(media, length) {
                // Where there is no room for more, what is needed may fit all the same.
                Err(RegionError::Grow { .. }) if end < length => {
                    grow(media, end)?;
                    end
                }
                grown => {
                    grown?;
                    length
                }
            };
        }
        self.heap_end = end;
        Ok(())
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

    /// The transaction is committed as `sequence`.
    pub(super) fn committed(&mut self, sequence: u64, media: &impl Media) {
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
    pub(super) fn settle_holes(&mut self, sequence: u64, media: &impl Media) {
        let quarantine = QUARANTINE - u64::from(without(media, Without::SecondQuarantine));
        self.holes.settle(sequence, quarantine);
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
                    self.views[number as usize] = view(media, &before);
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

fn le(word: &[u8]) -> u64 {
    let mut le = [0; 8];
    le.copy_from_slice(word);
    u64::from_le_bytes(le)
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
