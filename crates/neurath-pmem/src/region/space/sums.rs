//! The checksums of segments: which hold, when one ends, and how all are made.

use neurath_abi::Ref;

use super::{Segment, Space, Sum};
use crate::region::format::{self, BITMAP_LEN, SEGMENTS_PER_CHUNK};
use crate::region::media::Media;
use crate::region::write_set::WriteSet;

impl Space {
    /// Whether segment `number`'s checksum in the file holds.
    pub(super) fn sum_of(&self, number: u32, media: &dyn Media) -> Sum {
        let chunk = self.chunks[number as usize / SEGMENTS_PER_CHUNK as usize];
        if self.sums && media.word(format::sum_at(chunk, number.into())) != 0 {
            Sum::Holds
        } else {
            Sum::None
        }
    }

    /// Whether a change of the object would end the checksum of its segment.
    pub(in crate::region) fn sum_holds(&self, object: Ref) -> bool {
        let segment = self.segments.get(object.segment() as usize);
        matches!(segment, Some(Some(segment)) if segment.sum == Sum::Holds)
    }

    /// The open transaction changes segment `number`: the checksum ends with its commit.
    #[inline]
    pub(in crate::region) fn touch(&mut self, number: u32, set: &mut WriteSet) {
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
    pub(in crate::region) fn store_sums<M: Media>(
        &mut self,
        media: &mut M,
        stored: &mut dyn FnMut(u64),
    ) {
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
    pub(in crate::region) fn wrong_sum(&self, media: &dyn Media) -> Option<u32> {
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

    /// A segment's checksum was set outside of the open transaction.
    pub(in crate::region) fn refresh_sum(&mut self, number: u64, media: &impl Media) {
        let sum = self.sum_of(number as u32, media);
        if let Some(Some(segment)) = self.segments.get_mut(number as usize)
            && segment.sum != Sum::Ends
        {
            segment.sum = sum;
        }
    }
}
