//! What an opening reads of the segment table and the bitmaps, and what is read later.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;

use super::lent::Lent;
use super::{KNOWN_AT_ONCE, NO_VIEW, Segment, Space, Sum, fill_holes, valid_bits, view};
use crate::region::error::{FormatError, RegionError};
use crate::region::format::{
    self, BITMAP_LEN, CHUNK_LEN, CHUNKS, DIRECTORY_AT, ENTRY_LEN, ENTRY_WORDS, Header, PAGE,
    SEGMENTS_PER_CHUNK, SegmentEntry,
};
use crate::region::holes::Holes;
use crate::region::media::Media;

impl Space {
    /// Reads the segment table and the bitmaps.
    pub(in crate::region) fn load(
        media: &dyn Media,
        header: &Header,
        length: u64,
    ) -> Result<Space, FormatError> {
        let (seed, heap) = (header.seed(), header.heap_at()..length);
        let mut space = Space {
            segments: vec![None],
            views: vec![NO_VIEW],
            lent: Lent::default(),
            partial: HashMap::default(),
            known_from: 1,
            empty: BTreeSet::new(),
            chunks: Vec::new(),
            heap_end: heap.start,
            heap_end_before: heap.start,
            holes: Holes::default(),
            given_back: 0,
            length,
            reserved: length,
            faulted: heap.start,
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
        space.faulted = space.heap_end;
        space.known_from = space.segments.len();
        space.know_more(media, KNOWN_AT_ONCE)?;
        Ok(space)
    }

    /// Makes sure that everything in use has its blocks, in a file that may lack some: a store to a page without them
    /// would end the process if the file system had no room. What lies behind the heap is seen to when it is used.
    pub(in crate::region) fn take_blocks(
        &mut self,
        media: &mut impl Media,
    ) -> Result<(), RegionError> {
        let free: u64 = self.holes.iter().map(|(_, length)| length).sum();
        if media.missing() <= free {
            return Ok(());
        }
        let mut at = 0;
        for (hole, length) in self.holes.iter().chain([(self.heap_end, 0)]) {
            fill_holes(media, at, hole)?;
            at = hole + length;
        }
        self.reserved = self.heap_end;
        Ok(())
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
    pub(in crate::region) fn know(
        &mut self,
        number: u32,
        media: &dyn Media,
    ) -> Result<(), FormatError> {
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
    pub(in crate::region) fn know_more(
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
    pub(in crate::region) fn unknown(&self) -> usize {
        self.known_from - 1
    }
}

fn le(word: &[u8]) -> u64 {
    let mut le = [0; 8];
    le.copy_from_slice(word);
    u64::from_le_bytes(le)
}
