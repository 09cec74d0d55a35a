//! The new generation's segments are filled, on all cores.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::ahead::Ahead;
use super::convert::{Convert, Objects};
use super::{MigrateError, MigrationPlan, Source};
use crate::region::RAW;
use crate::region::format::{BITMAP_LEN, SegmentEntry};

pub(super) struct Filler<'a> {
    pub(super) plan: &'a MigrationPlan,
    pub(super) old: &'a Source,
    pub(super) ahead: Option<&'a Ahead>,
    pub(super) extra: &'a str,
    pub(super) now_ms: u64,
    pub(super) convert: &'a Convert<'a>,
    pub(super) target: *mut u8,
}

// SAFETY: the threads share it to write disjoint segments of `target`'s mapping, and only
// read the rest.
unsafe impl Sync for Filler<'_> {}

impl Filler<'_> {
    /// Converts all segments, on all cores.
    pub(super) fn run(&self, entries: &[SegmentEntry]) -> Result<(), MigrateError> {
        let segments = &self.old.segments;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(new) = entries.get(at) else {
                    return Ok(());
                };
                if let Err(error) = self.segment(at, new) {
                    next.store(segments.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        };
        if segments.len() < 2 * threads {
            return work();
        }
        std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
            others
                .into_iter()
                .fold(work(), |result, other| match other.join() {
                    Ok(other) => result.and(other),
                    Err(_) => Err(MigrateError::Failed(
                        "a conversion's thread panicked".into(),
                    )),
                })
        })
    }

    /// Converts the segment that comes `at`-th.
    fn segment(&self, at: usize, new: &SegmentEntry) -> Result<(), MigrateError> {
        let (number, old) = &self.old.segments[at];
        let source = self.old.bytes(old.offset, old.length);
        // SAFETY: `new` is within the new region's mapping, which was grown to hold it, and
        // this thread alone writes this segment.
        let target = unsafe {
            let start = self.target.add(new.offset as usize);
            std::slice::from_raw_parts_mut(start, new.length as usize)
        };
        if let Some(ahead) = self.ahead {
            if ahead.has(at, old, new) {
                self.copy_changed(old, source, target);
                return Ok(());
            }
            if ahead.is_in(new.offset, new.length) {
                target.fill(0);
            }
        }
        let bitmap = self.old.bitmap(*number);
        if old.type_id == RAW {
            if bitmap.iter().any(|&byte| byte != 0) {
                let len = old.objects_len() as usize;
                target[..len].copy_from_slice(&source[..len]);
            }
            return Ok(());
        }
        let Some(plan) = self.plan.types.get(&old.type_id) else {
            return Ok(());
        };
        let objects = Objects {
            old: source,
            live: &live_words(bitmap),
            capacity: old.capacity as usize,
            extra: self.extra,
            now_ms: self.now_ms,
        };
        plan.convert(old.object_size, objects, target, self.convert)
            .map_err(MigrateError::Failed)
    }

    /// Copies of a segment that was copied ahead what was stored to since.
    fn copy_changed(&self, old: &SegmentEntry, source: &[u8], target: &mut [u8]) {
        let changed = self.old.changed.iter();
        for (at, len) in changed.flat_map(|changed| changed.stored(old.offset, old.objects_len())) {
            let at = (at - old.offset) as usize;
            let range = at..at + len as usize;
            target[range.clone()].copy_from_slice(&source[range]);
        }
    }
}

/// The words of a bitmap in a file.
fn live_words(bitmap: &[u8]) -> [u64; BITMAP_LEN as usize / 8] {
    let mut live = [0; BITMAP_LEN as usize / 8];
    for (word, bytes) in live.iter_mut().zip(bitmap.chunks_exact(8)) {
        let mut le = [0; 8];
        le.copy_from_slice(bytes);
        *word = u64::from_le_bytes(le);
    }
    live
}
