//! Where the segments of a new generation go.

use super::MigrationPlan;
use crate::region::format::{CHUNK_LEN, PAGE, SEGMENTS_PER_CHUNK, SegmentEntry};
use crate::region::{RAW, object_size};

/// The places of all chunks and segments, by number.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    pub(super) chunks: Vec<u64>,
    pub(super) segments: Vec<SegmentEntry>,
    /// Where the heap ends.
    pub(super) end: u64,
}

impl Layout {
    /// One after the other, from `heap` on.
    pub(super) fn new(plan: &MigrationPlan, old: &[(u32, SegmentEntry)], heap: u64) -> Layout {
        let nothing = Layout {
            chunks: Vec::new(),
            segments: Vec::new(),
            end: heap,
        };
        nothing.continued(plan, old)
    }

    /// Of what the old generation has become since this layout was made: what still fits its place keeps it, and what
    /// does not comes behind all. A place that is not kept becomes a hole.
    pub(super) fn continued(&self, plan: &MigrationPlan, old: &[(u32, SegmentEntry)]) -> Layout {
        let count = old
            .last()
            .map_or(1, |(last, _)| u64::from(*last) / SEGMENTS_PER_CHUNK + 1);
        let mut end = self.end;
        let mut place = |before: Option<u64>, length: u64| {
            before.unwrap_or_else(|| {
                end += length;
                end - length
            })
        };
        let chunk = |at: u64| place(self.chunks.get(at as usize).copied(), CHUNK_LEN);
        let chunks = (0..count).map(chunk).collect();
        let mut segments = Vec::with_capacity(old.len());
        for (at, (_, entry)) in old.iter().enumerate() {
            let mut entry = plan.convert_entry(entry, 0).unwrap_or_else(empty);
            let before = self.segments.get(at);
            let before = before.filter(|before| before.length == entry.length);
            entry.offset = place(before.map(|before| before.offset), entry.length);
            segments.push(entry);
        }
        Layout {
            chunks,
            segments,
            end,
        }
    }

    /// Whether the places that are not kept take no more than an eighth of what is needed from `heap` on, and the limit
    /// is not near: room in holes does not serve for all.
    pub(super) fn serves(&self, heap: u64, limit: u64) -> bool {
        let lengths = self.segments.iter().map(|one| one.length);
        let needed = heap + self.chunks.len() as u64 * CHUNK_LEN + lengths.sum::<u64>();
        let spare = needed / 8;
        self.end == needed || (self.end <= needed + spare && self.end + spare <= limit)
    }

    /// Where the entry and the bitmap of a segment are.
    pub(super) fn chunk_of(&self, number: u32) -> u64 {
        self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize]
    }
}

/// Segments are numbered without gaps: a dropped one leaves an empty one.
fn empty() -> SegmentEntry {
    SegmentEntry {
        type_id: RAW,
        offset: 0,
        length: PAGE,
        object_size: object_size(RAW, PAGE) as u32,
        capacity: 1,
    }
}
