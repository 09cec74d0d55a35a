//! What a conversion only copies is copied ahead of it, while the old generation is in use.
//!
//! The region notes which pages are stored to meanwhile (`region/watch.rs`), and the conversion copies those once more:
//! as virtual machines are moved while they run (Clark et al., *Live Migration of Virtual Machines*, NSDI 2005). What
//! is copied may be stored to at the same time; then it is noted, and what the copy has of it does not count.

use std::io;

use super::layout::Layout;
use super::plan::TypePlan;
use super::{MigrationPlan, Source};
use crate::region::format::SegmentEntry;
use crate::region::{Backend, MappedFile, Media, RAW, Watched};

/// Bytes that are copied at a time.
const PART: u64 = 1 << 20;

/// What was copied, and where it is.
#[derive(Debug)]
pub(super) struct Ahead {
    watched: Watched,
    pub(super) layout: Layout,
    /// The segments that were copied, as they are in the old generation, by number.
    copied: Vec<Option<SegmentEntry>>,
    noted: bool,
}

impl MigrationPlan {
    /// The bytes of a segment that are copied as they are, and all of it that counts; none if it is converted, or
    /// dropped, or refused.
    pub(super) fn copied_whole(&self, old: &SegmentEntry) -> Option<u64> {
        let copied = |plan: &TypePlan| plan.is_copy() && plan.old_size == old.object_size;
        let whole = old.type_id == RAW || self.types.get(&old.type_id).is_some_and(copied);
        whole.then(|| old.objects_len())
    }
}

impl Ahead {
    /// Copies what `plan` only copies of a region that is in use into a file that has room for it. None if nobody
    /// notes what is stored to meanwhile.
    pub(super) fn copy(
        plan: &MigrationPlan,
        old: &Source,
        layout: Layout,
        media: &mut MappedFile,
    ) -> io::Result<Option<Ahead>> {
        let Some(watched) = old.watched.clone() else {
            return Ok(None);
        };
        let mut copied = vec![None; old.segments.len()];
        let places = copied.iter_mut().zip(&old.segments).zip(&layout.segments);
        for ((copied, (_, entry)), new) in places {
            let Some(len) = plan.copied_whole(entry) else {
                continue;
            };
            for at in (0..len).step_by(PART as usize) {
                let from = (&old.mapping, entry.offset + at);
                media.copy_from(from, new.offset + at, PART.min(len - at))?;
            }
            *copied = Some(*entry);
        }
        if matches!(media.backend(), Backend::Byte | Backend::Line) {
            // Nothing else makes what the file system notes of the blocks that were written last.
            media.sync()?;
        }
        Ok(Some(Ahead {
            watched,
            layout,
            copied,
            noted: false,
        }))
    }

    /// What is noted counts from now on, if `old` tells all that was stored to since the copy was begun.
    pub(super) fn settle(&mut self, old: &Source) {
        let changed = old.changed.as_ref();
        self.noted = changed.is_some_and(|changed| changed.watched().is(&self.watched));
    }

    /// Whether a segment was copied as what it is now, and to where it belongs now.
    pub(super) fn has(&self, at: usize, old: &SegmentEntry, new: &SegmentEntry) -> bool {
        self.noted
            && self.copied.get(at) == Some(&Some(*old))
            && self.layout.segments.get(at) == Some(new)
    }

    /// Whether anything was copied to a place.
    pub(super) fn is_in(&self, offset: u64, len: u64) -> bool {
        // The layout is in the order of places, as it was made at once.
        let segments = &self.layout.segments;
        let first = segments.partition_point(|one| one.offset + one.length <= offset);
        let within = segments[first..].iter().zip(&self.copied[first..]);
        let mut within = within.take_while(|(one, _)| one.offset < offset + len);
        within.any(|(_, copied)| copied.is_some())
    }

    /// Makes what was copied behind `end` zero again.
    pub(super) fn clear_behind(&self, end: u64, media: &mut impl Media) {
        for (one, copied) in self.layout.segments.iter().zip(&self.copied) {
            let (from, to) = (one.offset.max(end), one.offset + one.length);
            if copied.is_some() && from < to {
                media.zero(from, to - from);
            }
        }
    }
}

#[cfg(test)]
mod tests;
