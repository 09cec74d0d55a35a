//! The region that a conversion reads.

use std::collections::HashSet;

use crate::region::format::{
    self, BITMAP_LEN, DIRECTORY_AT, ROOT_AT, SEGMENTS_PER_CHUNK, SegmentEntry,
};
use crate::region::{Mapping, Media, Region, Watch, Watched};

/// A region as a conversion reads it. It stays readable after the region has been dropped,
/// so that a conversion that overran its deadline can be left behind.
#[derive(Debug)]
pub struct Source {
    pub(super) mapping: Mapping,
    len: u64,
    pub(super) segments: Vec<(u32, SegmentEntry)>,
    chunks: Vec<u64>,
    pub(super) root: u64,
    /// Whether some segments are still of the schema before.
    pub(super) swept: bool,
    /// The types of which it may have objects that nothing refers to.
    pub(super) left: HashSet<u64>,
    /// While the region is in use: what is stored to from then on is noted.
    pub(super) watched: Option<Watched>,
    /// What was noted.
    pub(super) changed: Option<Box<Watch>>,
}

impl Source {
    /// Of a region whose bytes the mapping holds.
    pub(crate) fn new<M: Media>(region: &Region<M>, mapping: Mapping) -> Source {
        let media = region.media();
        let segments = region.segments();
        let count = segments
            .last()
            .map_or(0, |(last, _)| u64::from(*last) / SEGMENTS_PER_CHUNK + 1);
        Source {
            mapping,
            len: media.len(),
            chunks: (0..count)
                .map(|chunk| media.word(DIRECTORY_AT + chunk * 8))
                .collect(),
            segments,
            root: media.word(ROOT_AT),
            swept: region.is_swept(),
            left: region.left().clone(),
            watched: None,
            changed: None,
        }
    }

    /// Of a region that is in use, and notes from now on what is stored to.
    pub(crate) fn in_use(mut self, watched: Watched) -> Source {
        self.watched = Some(watched);
        self
    }

    /// With what was noted while the region was in use.
    pub(crate) fn with_changed(mut self, changed: Option<Box<Watch>>) -> Source {
        self.changed = changed;
        self
    }

    pub(super) fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "in bounds"
        );
        // SAFETY: within the mapping, which `self` keeps. The region's owner changes nothing
        // while a conversion runs; of one that it has left behind, nobody uses the result.
        unsafe {
            std::slice::from_raw_parts(self.mapping.as_ptr().add(offset as usize), len as usize)
        }
    }

    pub(super) fn bitmap(&self, number: u32) -> &[u8] {
        let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
        self.bytes(format::bitmap_at(chunk, number.into()), BITMAP_LEN)
    }
}
