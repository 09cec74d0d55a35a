//! Level 3: the checksums of segments, over their bitmaps and live objects.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::image::{Bytes, Image, Segment, Tables};
use super::report::{Code, Done, Level, Report};
use crate::region::Media;
use crate::region::format::{self, RegionState};

const L3: Level = Level::L3;

/// Why there is nothing to check in a region that an older version made.
const NO_SUMS: &str = "the region was made before segments had checksums; a flipped bit in what \
                       a component stored is not found";

/// What came of all segments.
#[derive(Default)]
pub(super) struct Found {
    verified: u64,
    objects: u64,
    bytes: u64,
    unknown: Vec<u64>,
    wrong: Vec<u64>,
}

fn sum(bytes: &Bytes, number: u64, segment: &Segment, seed: u64) -> u64 {
    let entry = &segment.entry;
    let bitmap: Vec<u8> = segment
        .live
        .iter()
        .flat_map(|word| word.to_le_bytes())
        .collect();
    let objects = bytes.bytes(entry.offset, entry.length);
    format::segment_sum(number, entry, &bitmap, objects, seed)
}

/// Computes the checksums of all segments, on all cores.
pub(super) fn verify(image: &Image, tables: &Tables) -> Found {
    if !image.header.has_sums() {
        return Found::default();
    }
    let seed = image.header.seed();
    let segments: Vec<(u64, &Segment)> = tables.all().collect();
    let next = AtomicUsize::new(0);
    let (objects, bytes) = (AtomicU64::new(0), AtomicU64::new(0));
    let work = || {
        let mut found = Found::default();
        while let Some(&(number, segment)) = segments.get(next.fetch_add(1, Ordering::Relaxed)) {
            match image.bytes.word(segment.sum_at()) {
                0 => found.unknown.push(number),
                said if said == sum(&image.bytes, number, segment, seed) => {
                    let live = segment.live_count();
                    objects.fetch_add(live, Ordering::Relaxed);
                    let size = u64::from(segment.entry.object_size);
                    bytes.fetch_add(live * size, Ordering::Relaxed);
                    found.verified += 1;
                }
                _ => found.wrong.push(number),
            }
        }
        found
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(segments.len() / 64);
    let mut all = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all = work();
        for other in others {
            match other.join() {
                Ok(found) => {
                    all.verified += found.verified;
                    all.unknown.extend(found.unknown);
                    all.wrong.extend(found.wrong);
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        all
    });
    all.unknown.sort_unstable();
    all.wrong.sort_unstable();
    all.objects = objects.into_inner();
    all.bytes = bytes.into_inner();
    all
}

/// Reports what was found.
pub(super) fn level3(image: &Image, tables: &Tables, found: &Found, report: &mut Report) {
    if !image.header.has_sums() {
        report.done(L3, Done::Unavailable(NO_SUMS));
        return;
    }
    report.checked(L3, "segments verified", found.verified);
    report.checked(
        L3,
        "segments without a checksum yet",
        found.unknown.len() as u64,
    );
    report.checked(L3, "objects verified", found.objects);
    report.checked(L3, "bytes of objects verified", found.bytes);
    let place = |number| tables.get(number).map_or(0, |segment| segment.entry.offset);
    for &number in &found.wrong {
        let message = format!(
            "the checksum of segment {number} is not that of its bitmap and its {} objects: one \
             of them is damaged",
            tables.get(number).map_or(0, Segment::live_count)
        );
        report.error(L3, Code::SegmentSum, place(number), message);
    }
    let closed = image.superblock.state == RegionState::Clean;
    if closed {
        for &number in &found.unknown {
            let message = format!("segment {number} has no checksum, and the region was closed");
            report.error(L3, Code::SegmentSum, place(number), message);
        }
    }
    let complete = found.unknown.is_empty() && found.wrong.is_empty();
    report.done(
        L3,
        if complete {
            Done::Complete
        } else {
            Done::Partial
        },
    );
}

/// Gives the segments that have none their checksums.
pub(super) fn store_missing(image: &mut Image) {
    let Some(tables) = &image.tables else { return };
    if !image.header.has_sums() {
        return;
    }
    let seed = image.header.seed();
    for (number, segment) in tables.all() {
        if image.bytes.word(segment.sum_at()) == 0 {
            let sum = sum(&image.bytes, number, segment, seed);
            image.bytes.store_word(segment.sum_at(), sum);
        }
    }
}
