//! Levels 0 and 1: what the region says about itself.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::Range;

use xxhash_rust::xxh3::xxh3_64;

use super::CheckOptions;
use super::data::type_text;
use super::image::{Bytes, Image, Segment, Tables};
use super::report::{Code, Done, Level, Report};
use crate::history::{self, History};
use crate::region::applied::{self, APPLIED_AT};
use crate::region::format::{
    self, BITMAP_LEN, CHUNK_LEN, CHUNKS, DIRECTORY_AT, ENTRY_LEN, ENTRY_WORDS, HEADER_AT,
    HEADER_COPY_AT, Header, LOG_AT, LOG_LEN, Log, PAGE, RECORD_ALIGN, RECORD_HEADER_LEN,
    RecordHeader, RegionState, SCHEMA_AT, SCHEMA_MAX, SEGMENTS_PER_CHUNK, SUPERBLOCK_AT,
    SegmentEntry, Superblock,
};
use crate::region::history::HISTORY_AT;
use crate::region::sweep::Record;
use crate::region::{FormatError, Media, RAW, journal, object_size, replay};
use crate::schema::{SchemaDesc, hex};

const L0: Level = Level::L0;
const L1: Level = Level::L1;

/// Bytes of a header and of a superblock that stand for something; the rest of the page is zero.
pub(super) const HEADER_USED: u64 = 512;
pub(super) const SUPERBLOCK_USED: u64 = 256;

/// Where the first byte of a range stands that is not zero.
fn not_zero(bytes: &Bytes, from: u64, to: u64) -> Option<u64> {
    let range = bytes.get(from, to.checked_sub(from)?)?;
    if range.chunks(64).all(|line| *line == [0; 64][..line.len()]) {
        return None;
    }
    let at = range.iter().position(|&byte| byte != 0)?;
    Some(from + at as u64)
}

fn must_be_zero(
    bytes: &Bytes,
    from: u64,
    to: u64,
    what: impl Display,
    level: Level,
    report: &mut Report,
) {
    if let Some(at) = not_zero(bytes, from, to) {
        let message = format!("{what} must be zero and is not");
        report.error(level, Code::Padding, at, message);
    }
}

/// What follows a header in its page and must be zero. After the copy there is a word of the log's.
pub(super) fn after_header(at: u64) -> [(u64, u64); 2] {
    let end = at + PAGE;
    let word = match at {
        HEADER_COPY_AT => APPLIED_AT,
        _ => end,
    };
    [(at + HEADER_USED, word), ((word + 8).min(end), end)]
}

/// Reads both headers; gives the one that counts.
pub(super) fn headers(bytes: &Bytes, report: &mut Report) -> Option<Header> {
    let places = [
        (HEADER_AT, Code::HeaderDamaged, "the header"),
        (HEADER_COPY_AT, Code::HeaderCopyDamaged, "the header's copy"),
    ];
    let [first, copy] = places.map(|(at, code, what)| {
        let parsed = Header::parse(bytes.bytes(at, PAGE));
        if let Err(error) = &parsed {
            report.error(L0, code, at, format!("{what}: {error}"));
        }
        // Fields that nobody reads are zero also where the checksum fits.
        let swept = matches!(&parsed, Ok(header) if header.sweep.is_some());
        let end = if swept { 204 } else { 192 };
        for (from, to) in [(12, 16), (116, 128), (end, 504)] {
            let name = format!("what {what} leaves free");
            must_be_zero(bytes, at + from, at + to, &name, L0, report);
        }
        for (from, to) in after_header(at) {
            let name = format!("what follows {what}");
            must_be_zero(bytes, from, to, &name, L0, report);
        }
        let features = bytes.word(at + 16) & !format::HISTORY;
        if parsed.is_ok() && features != 0 {
            let message = format!("{what} names compatible features {features:#x}; ignored");
            report.notice(L0, Code::UnknownFeature, at + 16, message);
        }
        parsed
    });
    report.checked(L0, "headers", 2);
    match (first, copy) {
        (Ok(header), Ok(copy)) => {
            if bytes.bytes(HEADER_AT, HEADER_USED) != bytes.bytes(HEADER_COPY_AT, HEADER_USED) {
                let message = format!(
                    "the header, of {}.{}, and its copy, of {}.{}, are not the same",
                    header.component, header.instance, copy.component, copy.instance
                );
                // A crash may come between the two when a conversion begins or has ended.
                if header.uuid == copy.uuid && header.features == copy.features {
                    let message =
                        format!("{message}: the copy is written anew at the next opening");
                    report.notice(L0, Code::HeadersDiffer, HEADER_COPY_AT, message);
                } else {
                    report.error(L0, Code::HeadersDiffer, HEADER_COPY_AT, message);
                }
            }
            Some(header)
        }
        (Ok(header), Err(_)) => Some(header),
        (Err(FormatError::Checksum { .. } | FormatError::Magic), copy) => copy.ok(),
        (Err(_), _) => None,
    }
}

/// Reads the schema that a header describes.
pub(super) fn schema(bytes: &Bytes, header: &Header) -> Result<SchemaDesc, FormatError> {
    let encoded = bytes.bytes(header.schema_at(), header.schema_len.into());
    let wrong = |what: &str| FormatError::Checksum { what: what.into() };
    if xxh3_64(encoded) != header.schema_hash {
        return Err(wrong("the schema"));
    }
    let schema = SchemaDesc::decode(encoded)?;
    if schema.fingerprint != header.fingerprint {
        return Err(wrong("the schema's fingerprint"));
    }
    Ok(schema)
}

/// Reads the record of a sweep, and gives the schema before. Without a sweep, what follows the
/// schema is zero, but for the record of one that never began; a crash may have left a part of one.
fn schema_before(
    bytes: &Bytes,
    header: &Header,
    state: RegionState,
    report: &mut Report,
) -> Result<Option<SchemaDesc>, FormatError> {
    if let Some((record, place)) = Record::read(bytes, header)? {
        let schema = SchemaDesc::decode(&record.old)?;
        let message = format!(
            "the state is converted segment by segment from {} to {}: what refers to what is not \
             looked at, and values are not shown, before that has ended",
            hex(schema.fingerprint),
            hex(header.fingerprint)
        );
        let at = SCHEMA_AT + u64::from(place.at);
        report.notice(L0, Code::Swept, at, message);
        return Ok(Some(schema));
    }
    let after = SCHEMA_AT + u64::from(header.schema_len).next_multiple_of(8);
    let all = SCHEMA_AT + SCHEMA_MAX;
    let begun = (after..all).step_by(8).find(|&at| {
        let rest = bytes.get(at, all - at).unwrap_or_default();
        Record::parse(rest).is_ok()
    });
    if let Some(at) = begun {
        let message = "a conversion segment by segment was made ready, and never began".into();
        report.notice(L0, Code::Swept, at, message);
    }
    let from = SCHEMA_AT + u64::from(header.schema_len);
    let end = begun.unwrap_or(all);
    match (state, not_zero(bytes, from, end)) {
        (RegionState::Open, Some(at)) => {
            let message = "what follows the schema is not zero: it is made so when the region, \
                           which was not closed, is opened next"
                .into();
            report.notice(L0, Code::Swept, at, message);
        }
        _ => must_be_zero(bytes, from, end, "what follows the schema", L0, report),
    }
    Ok(None)
}

/// What follows a superblock in its page and must be zero: all but a history.
pub(super) fn after_superblock(at: u64, header: &Header) -> Vec<(u64, u64)> {
    let (from, end) = (at + SUPERBLOCK_USED, at + PAGE);
    match HISTORY_AT.iter().find(|place| (at..end).contains(place)) {
        Some(&place) if header.history => vec![(from, place), (place + history::LEN, end)],
        _ => vec![(from, end)],
    }
}

/// Reads the histories of migrations; gives the newest.
fn histories(bytes: &Bytes, header: &Header, report: &mut Report) -> History {
    if !header.history {
        return History::default();
    }
    report.checked(L0, "histories", 2);
    for (number, at) in HISTORY_AT.into_iter().enumerate() {
        match history::Slot::parse(bytes.bytes(at, history::LEN), header.seed()) {
            Ok(history::Slot::Empty | history::Slot::Whole(..)) => {}
            Ok(history::Slot::Unfinished) => {
                let message = format!(
                    "history {number} was being written when its process died; the other counts"
                );
                report.notice(L0, Code::History, at, message);
            }
            Err(error) => {
                report.error(L0, Code::History, at, format!("history {number}: {error}"));
            }
        }
    }
    crate::region::history::read(bytes, header).history
}

/// Reads both superblocks; gives the one that counts, and its slot.
pub(super) fn superblocks(
    bytes: &Bytes,
    header: &Header,
    report: &mut Report,
) -> Option<(Superblock, usize)> {
    let slots = SUPERBLOCK_AT.map(|at| Superblock::parse(bytes.bytes(at, PAGE), header));
    let mut never_written = [false; 2];
    for (slot, parsed) in slots.iter().enumerate() {
        let at = SUPERBLOCK_AT[slot];
        let what = format!("what superblock {slot} leaves free");
        let ranges = [(at + 88, at + 248)];
        for (from, to) in ranges.into_iter().chain(after_superblock(at, header)) {
            must_be_zero(bytes, from, to, &what, L0, report);
        }
        let Err(error) = parsed else { continue };
        // A new region has written one only.
        let other_is_first = matches!(&slots[1 - slot], Ok(other) if other.generation == 1);
        never_written[slot] = other_is_first && not_zero(bytes, at, at + SUPERBLOCK_USED).is_none();
        if !never_written[slot] {
            let message = format!("superblock {slot}: {error}");
            report.error(L0, Code::SuperblockDamaged, at, message);
        }
    }
    report.checked(L0, "superblocks", 2);
    if let [Ok(a), Ok(b)] = &slots {
        let (old, new) = if a.generation < b.generation {
            (a, b)
        } else {
            (b, a)
        };
        let follows = old.generation + 1 == new.generation
            && old.length <= new.length
            && old.checkpoint <= new.checkpoint
            && old.lap <= new.lap;
        if !follows {
            let message = format!(
                "superblocks of generations {} and {} do not follow one another",
                old.generation, new.generation
            );
            report.error(L0, Code::SuperblockOrder, SUPERBLOCK_AT[0], message);
        }
    }
    let pages = SUPERBLOCK_AT.map(|at| bytes.bytes(at, PAGE));
    Superblock::choose(pages, header).ok()
}

/// Refuses a file that is shorter than every region of its kind.
fn is_short(found: u64, least: u64, report: &mut Report) -> bool {
    if found < least {
        let message = format!("the file has {found} bytes, and a region has at least {least}");
        report.error(L0, Code::FileShort, found, message);
    }
    found < least
}

/// Header, schema, superblocks and log; what a recovery would do is done.
pub(super) fn level0(
    mut bytes: Bytes,
    options: CheckOptions,
    report: &mut Report,
) -> Option<Image> {
    report.done(L0, Done::Partial);
    let found = bytes.len();
    if is_short(found, LOG_AT, report) {
        return None;
    }
    let header = headers(&bytes, report)?;
    if is_short(found, header.heap_at(), report) {
        return None;
    }
    report.swept = header.sweep.is_some();
    let schema = match schema(&bytes, &header) {
        Ok(schema) => schema,
        Err(error) => {
            report.error(L0, Code::SchemaDamaged, SCHEMA_AT, error.to_string());
            return None;
        }
    };
    report.checked(L0, "schema's bytes", header.schema_len.into());
    let (superblock, slot) = superblocks(&bytes, &header, report)?;
    let schema_before = match schema_before(&bytes, &header, superblock.state, report) {
        Ok(schema) => schema,
        Err(error) => {
            report.error(L0, Code::SchemaDamaged, SCHEMA_AT, error.to_string());
            return None;
        }
    };
    report.history = histories(&bytes, &header, report);
    if found < superblock.length {
        let claimed = superblock.length;
        let message = format!("the file has {found} bytes, and the superblock claims {claimed}");
        report.error(L0, Code::FileShort, found, message);
        return None;
    }
    match (superblock.state, options.boot_id) {
        (RegionState::Building, _) => {
            let message = "a conversion was building the region, and never finished it".into();
            report.error(L0, Code::Unfinished, SUPERBLOCK_AT[slot] + 16, message);
        }
        (_, Some(boot_id)) if superblock.lost_power(&header, boot_id) => {
            let message = "the region was open when the machine went down (or comes from another \
                           machine): its last changes may be lost in any mixture"
                .into();
            report.error(L0, Code::PowerLost, SUPERBLOCK_AT[slot] + 24, message);
        }
        _ => {}
    }
    let sequence = log(&mut bytes, &header, &superblock, report)?;
    report.done(L0, Done::Complete);
    Some(Image {
        bytes,
        header,
        schema,
        schema_before,
        superblock,
        slot,
        sequence,
        tables: None,
        leaked: None,
    })
}

/// Replays the log; gives the highest number used.
fn log(
    bytes: &mut Bytes,
    header: &Header,
    superblock: &Superblock,
    report: &mut Report,
) -> Option<u64> {
    report.checked(L0, "log's bytes", header.log.len());
    let behind = match header.log {
        Log::Ring => {
            let log = bytes.bytes(LOG_AT, LOG_LEN);
            let mut records = format::newest_records(log, header.seed(), 3);
            records.retain(|found| found.header.sequence > superblock.checkpoint);
            let count = records.len() as u64;
            report.checked(L0, "log records beyond the checkpoint", count);
            let newest = records.first();
            // The next record would stand behind the newest one, or at the log's begin.
            [newest.map(|found| found.at + found.len), Some(0)]
        }
        Log::Journal(_) => [None; 2],
    };
    let named = applied_word(bytes, header, superblock);
    if let Err(error) = &named {
        report.error(L0, Code::LogDamaged, APPLIED_AT, error.to_string());
    }
    let replayed = replay(bytes, header, superblock, &mut |_, _| {});
    match replayed {
        Ok(replayed) => {
            let behind = match header.log {
                Log::Ring => behind,
                Log::Journal(_) => {
                    let count = replayed.records;
                    report.checked(L0, "log records beyond the checkpoint", count);
                    [Some(replayed.end), None]
                }
            };
            look_for_torn(bytes, header, superblock, behind, report);
            report.replayed = replayed.records;
            Some(replayed.sequence)
        }
        Err(error) => {
            if named.is_ok() {
                report.error(L0, Code::LogDamaged, LOG_AT, error.to_string());
            }
            None
        }
    }
}

/// Refuses a word that does not say which record was applied, and any word where the log is a
/// journal.
pub(super) fn applied_word(
    bytes: &Bytes,
    header: &Header,
    superblock: &Superblock,
) -> Result<(), FormatError> {
    let word = bytes.word(APPLIED_AT);
    match header.log {
        Log::Ring => applied::decode(word, superblock.checkpoint, header.seed()).map(drop),
        Log::Journal(_) if word == 0 => Ok(()),
        Log::Journal(_) => Err(FormatError::Field {
            field: "the word that says which record was applied, which a journal does not have,",
            value: word,
        }),
    }
}

/// Tells of a record that was begun and is not whole, where the next one would stand.
fn look_for_torn(
    bytes: &Bytes,
    header: &Header,
    superblock: &Superblock,
    behind: [Option<u64>; 2],
    report: &mut Report,
) {
    if superblock.state != RegionState::Open {
        return;
    }
    let log = bytes.bytes(LOG_AT, header.log.len());
    for at in behind.into_iter().flatten() {
        if let Some(place) = torn(log, at.next_multiple_of(RECORD_ALIGN), header) {
            let message = if bytes.word(APPLIED_AT) == 0 {
                "the log holds a record that is not whole: either its process died while it \
                 wrote it, and nothing is lost that was acknowledged; or the record was damaged, \
                 and its transaction is lost"
            } else {
                "the log holds a record that is not whole: it was written when the process died \
                 or the machine went down, and nothing is lost that was acknowledged"
            };
            report.notice(L0, Code::TornRecord, LOG_AT + place, message.into());
            break;
        }
    }
}

/// Whether a record begins here that is not whole. Records are written from the log's begin
/// on, so that what begins behind the newest one is either that, or whole and older, or
/// the middle of an older one.
fn torn(log: &[u8], at: u64, header: &Header) -> Option<u64> {
    let rest = log.get(at as usize..)?;
    let head = rest.get(..RECORD_HEADER_LEN as usize)?;
    let mut magic = [0; 8];
    magic.copy_from_slice(&head[..8]);
    let known = match header.log {
        Log::Ring => b"NEURLOG1",
        Log::Journal(_) => b"NEURLOG2",
    };
    let differing = (u64::from_le_bytes(magic) ^ u64::from_le_bytes(*known)).count_ones();
    // A flipped bit or two do not make it another thing.
    if differing > 8 {
        return None;
    }
    let seed = header.seed();
    let whole = match header.log {
        Log::Ring => RecordHeader::peek(rest)
            .is_some_and(|(_, len)| RecordHeader::is_whole(&rest[..len as usize], seed)),
        Log::Journal(_) => journal::begins_whole(rest, seed),
    };
    (!whole).then_some(at)
}

/// Directory, segment table and bitmaps.
pub(super) fn level1(image: &Image, report: &mut Report) -> Option<Tables> {
    let bytes = &image.bytes;
    let length = image.superblock.length;
    let heap = image.header.heap_at()..length;
    let errors = report.errors;
    report.done(L1, Done::Partial);
    let chunks = directory(bytes, &heap, report)?;
    let mut ranges: Vec<(u64, u64, &str, u64)> = Vec::new();
    for (number, &chunk) in (0..).zip(&chunks) {
        ranges.push((chunk, chunk + CHUNK_LEN, "chunk", number));
    }
    let types: HashMap<u64, &SchemaDesc> = image
        .object_types()
        .map(|schema| (schema.type_id(), schema))
        .collect();
    let mut segments = vec![None];
    let mut ended = false;
    let mut unused = 0;
    for number in 0..chunks.len() as u64 * SEGMENTS_PER_CHUNK {
        let chunk = chunks[(number / SEGMENTS_PER_CHUNK) as usize];
        let (entry_at, bitmap_at) = (
            format::entry_at(chunk, number),
            format::bitmap_at(chunk, number),
        );
        if number == 0 || ended {
            let what = format_args!("the entry of segment {number}, which does not exist,");
            must_be_zero(bytes, entry_at, entry_at + ENTRY_LEN, what, L1, report);
            let what = format_args!("the bitmap of segment {number}, which does not exist,");
            must_be_zero(bytes, bitmap_at, bitmap_at + BITMAP_LEN, what, L1, report);
            unused += 1;
            continue;
        }
        let mut words = [0; ENTRY_WORDS];
        for (i, word) in words.iter_mut().enumerate() {
            *word = bytes.word(entry_at + i as u64 * 8);
        }
        let entry = match SegmentEntry::parse(&words, number, image.header.seed(), &heap) {
            Ok(Some(entry)) => entry,
            Ok(None) => {
                ended = true;
                let what = format_args!("the bitmap of segment {number}, which does not exist,");
                must_be_zero(bytes, bitmap_at, bitmap_at + BITMAP_LEN, what, L1, report);
                unused += 1;
                continue;
            }
            Err(error) => {
                let message = format!("segment {number}: {error}");
                report.error(L1, Code::SegmentEntry, entry_at, message);
                segments.push(None);
                continue;
            }
        };
        // The checksum of the segment stands before it, where there is one.
        let has = u64::from(image.header.has_sums());
        let padding = (entry_at + 40 + 8 * has, entry_at + 56);
        let what = format_args!("what the entry of segment {number} leaves free");
        must_be_zero(bytes, padding.0, padding.1, what, L1, report);
        let end = entry.offset + entry.length;
        ranges.push((entry.offset, end, "segment", number));
        let segment = bitmap(bytes, number, entry, entry_at, bitmap_at, report);
        check_type(number, &segment, &types, report);
        segments.push(Some(segment));
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        if pair[1].0 < pair[0].1 {
            let [(_, _, one, number), (at, _, other, other_number)] = pair[..] else {
                continue;
            };
            let message = format!("{one} {number} and {other} {other_number} lie over one another");
            report.error(L1, Code::Overlap, at, message);
        }
    }
    report.checked(L1, "words of the directory", CHUNKS);
    report.checked(L1, "chunks", chunks.len() as u64);
    let used = segments.iter().flatten().count() as u64;
    report.checked(L1, "segments with their bitmaps", used);
    report.checked(L1, "unused entries with their bitmaps", unused);
    report.checked(L1, "ranges for overlaps", ranges.len() as u64);
    if report.errors == errors {
        report.done(L1, Done::Complete);
    }
    Some(Tables { chunks, segments })
}

fn directory(bytes: &Bytes, heap: &Range<u64>, report: &mut Report) -> Option<Vec<u64>> {
    let mut chunks = Vec::new();
    for number in 0..CHUNKS {
        let at = DIRECTORY_AT + number * 8;
        let chunk = bytes.word(at);
        if chunk == 0 {
            let end = DIRECTORY_AT + CHUNKS * 8;
            let what = "what follows the last chunk in the directory";
            must_be_zero(bytes, at, end, what, L1, report);
            break;
        }
        let end = chunk.checked_add(CHUNK_LEN).filter(|&end| end <= heap.end);
        if chunk < heap.start || !chunk.is_multiple_of(PAGE) || end.is_none() {
            let message = format!("chunk {number} cannot be at byte {chunk}");
            report.error(L1, Code::Directory, at, message);
            return None;
        }
        chunks.push(chunk);
    }
    Some(chunks)
}

fn bitmap(
    bytes: &Bytes,
    number: u64,
    entry: SegmentEntry,
    entry_at: u64,
    bitmap_at: u64,
    report: &mut Report,
) -> Segment {
    let mut live: Vec<u64> = (0..BITMAP_LEN / 8)
        .map(|i| bytes.word(bitmap_at + i * 8))
        .collect();
    for (i, word) in live.iter_mut().enumerate() {
        let valid = match entry.capacity.saturating_sub(i as u32 * 64) {
            0 => 0,
            64.. => u64::MAX,
            bits => (1 << bits) - 1,
        };
        if *word & !valid != 0 {
            let message = format!(
                "the bitmap of segment {number} has bits beyond its {} objects",
                entry.capacity
            );
            report.error(L1, Code::Bitmap, bitmap_at + i as u64 * 8, message);
        }
        *word &= valid;
    }
    Segment {
        entry,
        entry_at,
        bitmap_at,
        live,
    }
}

fn check_type(
    number: u64,
    segment: &Segment,
    types: &HashMap<u64, &SchemaDesc>,
    report: &mut Report,
) {
    let entry = &segment.entry;
    let size = u64::from(entry.object_size);
    let (schema, wanted) = match types.get(&entry.type_id) {
        Some(schema) => (
            Some(*schema),
            object_size(entry.type_id, schema.size.into()),
        ),
        None if entry.type_id == RAW => (None, object_size(RAW, size)),
        None => {
            let live = segment.live_count();
            let id = entry.type_id;
            let message = format!(
                "segment {number} has {live} objects of type {id:016x}, which the schema does not know"
            );
            if live > 0 {
                report.error(L1, Code::UnknownType, segment.entry_at + 8, message);
            } else {
                report.notice(L1, Code::UnknownType, segment.entry_at + 8, message);
            }
            return;
        }
    };
    if size != wanted {
        let name = schema.map_or("raw bytes".into(), type_text);
        let message = format!(
            "segment {number} has objects of {size} bytes, and those of {name} take {wanted}"
        );
        report.error(L1, Code::ObjectSize, segment.entry_at + 32, message);
    }
}
