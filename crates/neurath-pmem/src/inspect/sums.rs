//! Level 3: the checksums of segments, over their bitmaps and live objects.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

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

impl Found {
    fn add(&mut self, other: Found) {
        self.verified += other.verified;
        self.objects += other.objects;
        self.bytes += other.bytes;
        self.unknown.extend(other.unknown);
        self.wrong.extend(other.wrong);
    }
}

/// Bytes that are brought in at a time.
const PART: usize = 4 << 20;

/// Computes the checksums of all segments: as many threads as call [`Verification::work`] share
/// them.
pub(super) struct Verification<'a> {
    image: &'a Image,
    segments: Vec<(u64, &'a Segment)>,
    /// Parts of the file whose pages have been brought in.
    parts: AtomicUsize,
    next: AtomicUsize,
    all: Mutex<Found>,
}

impl<'a> Verification<'a> {
    pub fn new(image: &'a Image, tables: &'a Tables) -> Verification<'a> {
        let segments = match image.header.has_sums() {
            true => tables.all().collect(),
            false => Vec::new(),
        };
        Verification {
            image,
            segments,
            parts: AtomicUsize::new(0),
            next: AtomicUsize::new(0),
            all: Mutex::default(),
        }
    }

    /// Brings in the pages of the whole file, for whoever traces meanwhile as well: from its end
    /// on, where the newest objects are, which most others are reached from.
    fn bring_in(&self) {
        let len = self.image.bytes.len() as usize;
        let next = || PART * self.parts.fetch_add(1, Ordering::Relaxed);
        while let Some(end) = len.checked_sub(next()).filter(|&end| end > 0) {
            self.image.bytes.touch(end.saturating_sub(PART)..end);
        }
    }

    /// Takes one segment after the other, until none is left.
    pub fn work(&self) {
        self.bring_in();
        let (bytes, seed) = (&self.image.bytes, self.image.header.seed());
        let mut found = Found::default();
        let next = || self.segments.get(self.next.fetch_add(1, Ordering::Relaxed));
        while let Some(&(number, segment)) = next() {
            match bytes.word(segment.sum_at()) {
                0 => found.unknown.push(number),
                said if said == sum(bytes, number, segment, seed) => {
                    let live = segment.live_count();
                    found.objects += live;
                    found.bytes += live * u64::from(segment.entry.object_size);
                    found.verified += 1;
                }
                _ => found.wrong.push(number),
            }
        }
        let all = self.all.lock();
        all.unwrap_or_else(PoisonError::into_inner).add(found);
    }

    /// What has come of it, once all have ended their work.
    pub fn end(self) -> Found {
        let all = self.all.into_inner();
        let mut all = all.unwrap_or_else(PoisonError::into_inner);
        all.unknown.sort_unstable();
        all.wrong.sort_unstable();
        all
    }
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
