//! Segments and chunks: how there come to be more, and what becomes of one that is replaced.

use super::{KNOWN_AT_ONCE, NO_VIEW, Space, Step, new_segment, take_back, view};
use crate::region::error::RegionError;
use crate::region::format::{
    self, CHUNK_LEN, CHUNKS, DIRECTORY_AT, OBJECTS_MAX, PAGE, SEGMENT_LEN, SEGMENTS_PER_CHUNK,
    SegmentEntry,
};
use crate::region::media::{Backend, Media};
use crate::region::write_set::WriteSet;

/// What a file grows by at a time, in bytes: whoever asked for more waits until the file system has
/// reserved it, and where that is memory, until it is zero.
const GROWTH: u64 = 512 << 10;

/// The same where each growth waits for the medium.
const DURABLE_GROWTH: u64 = 4 << 20;

/// The same in tests and on simulated media: little, so that regions grow.
const SMALL_GROWTH: u64 = 128 << 10;

/// So much is asked for beyond what the file has been grown to.
const AHEAD: u64 = 1 << 20;

/// And it is asked for when no more than this is left within the file: some segments' room, so that it is
/// there before they are full.
const LEFT: u64 = 256 << 10;

/// Pages that are faulted in at a time, in bytes.
pub(in crate::region) const FAULTED: u64 = 128 << 10;

impl Space {
    /// Finds room where nobody has looked, or adds a segment. Some segments are looked at each
    /// time, so that it takes no longer in a large region; all before it is said that there is no
    /// room.
    pub(super) fn make_room<M: Media>(
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
            let taken = take_back(media, offset, offset + length);
            if taken.is_err() {
                self.holes.add(offset, length);
            }
            return taken.map(|()| offset);
        }
        let offset = self.heap_end;
        self.reserve(offset + length, media, grow)?;
        Ok(offset)
    }

    /// Takes a place for what stays, also if the open transaction is aborted.
    pub(in crate::region) fn take_lasting_place<M: Media>(
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
    pub(in crate::region) fn give_place_back(&mut self, offset: u64, length: u64) {
        self.holes.add(offset, length);
    }

    /// The entry of a segment.
    pub(in crate::region) fn entry(&self, number: u64) -> Option<&SegmentEntry> {
        let segment = self.segments.get(usize::try_from(number).ok()?)?;
        segment.as_ref().map(|segment| &segment.entry)
    }

    /// One more than the highest number of a segment.
    pub(in crate::region) fn segment_count(&self) -> u64 {
        self.segments.len() as u64
    }

    /// Bytes that chunks and segments take, with what is free between them.
    pub(in crate::region) fn heap_end(&self) -> u64 {
        self.heap_end
    }

    /// The bitmap of a segment, as far as it stands for objects. To be called once it is known.
    pub(in crate::region) fn bitmap_range(&self, number: u64, entry: &SegmentEntry) -> (u64, u64) {
        let chunk = self.chunks[(number / SEGMENTS_PER_CHUNK) as usize];
        let len = u64::from(entry.capacity).div_ceil(64) * 8;
        (format::bitmap_at(chunk, number), len)
    }

    /// The words that make `entry` segment `number`'s.
    pub(in crate::region) fn entry_words(
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
    pub(in crate::region) fn replace(
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
        self.set_view(number, view(media, &entry));
    }

    /// The place of a segment's objects before is free, by the commit `sequence`.
    pub(in crate::region) fn free_place(&mut self, sequence: u64, before: &SegmentEntry) {
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
        self.set_view(number, view(media, &entry));
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
        self.reserve_rest(end, media)?;
        if end > self.length {
            let limit = media.limit();
            if end > limit {
                return Err(RegionError::Limit { limit });
            }
            let length = self.claim(end, media);
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
            self.reserved = self.length;
            media.make_ready(self.length + AHEAD);
        }
        self.heap_end = end;
        if end > self.faulted {
            let until = end.max(self.faulted + FAULTED).min(self.length);
            media.populate(self.faulted, until - self.faulted);
            self.faulted = until;
        }
        Ok(())
    }

    /// Makes sure of the blocks up to `end` that the region has claimed, where an opening has found some missing.
    fn reserve_rest(&mut self, end: u64, media: &mut impl Media) -> Result<(), RegionError> {
        if end.min(self.length) <= self.reserved {
            return Ok(());
        }
        let needed = end.min(self.length);
        let until = needed.max(self.reserved + growth(media)).min(self.length);
        let taken = take_back(media, self.reserved, until);
        self.reserved = match taken {
            Err(_) if needed < until => {
                take_back(media, self.reserved, needed)?;
                needed
            }
            taken => {
                taken?;
                until
            }
        };
        Ok(())
    }

    /// Asks for room if there is little left. To be called when objects are added: what is opened and only
    /// read, or changed where it is, needs none, and its file stays as it is.
    pub(super) fn look_ahead(&self, media: &mut impl Media) {
        if self.heap_end + LEFT > self.length {
            media.make_ready(self.length + AHEAD);
        }
    }

    /// Whether a place for a segment can be had without waiting for the file system; asks for it if
    /// not.
    pub(in crate::region) fn has_ready_place(&self, length: u64, media: &mut impl Media) -> bool {
        let end = self.heap_end + length;
        if end <= self.length || self.holes.has(length) {
            return true;
        }
        media.make_ready(end + AHEAD);
        media.is_ready(self.claim(end, media))
    }

    /// Up to where the file grows if the heap is to end there, which is beyond its end.
    fn claim(&self, end: u64, media: &impl Media) -> u64 {
        let wanted = end.max(self.length + growth(media)).next_multiple_of(PAGE);
        wanted.min(media.limit() & !(PAGE - 1)).max(end)
    }
}

/// What the file grows by, at least.
fn growth(media: &impl Media) -> u64 {
    match media.backend() {
        _ if cfg!(test) || media.simulated() => SMALL_GROWTH,
        Backend::Process => GROWTH,
        _ => DURABLE_GROWTH,
    }
}
