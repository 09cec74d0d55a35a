//! The log as a ring: what of it is replayed after a crash.

use std::collections::BTreeSet;

use xxhash_rust::xxh3::Xxh3;

use super::ablation::{Without, without};
use super::applied::{self, APPLIED_AT};
use super::error::{FormatError, RegionError};
use super::format::{self, FoundRecord, Header, LOG_AT, LOG_LEN, PAGE, RegionState, Superblock};
use super::media::Media;
use super::recovery::{Replayed, check_heap_range, check_word};
use super::space::fill_holes;

/// Replays the last two records beyond the checkpoint.
pub(super) fn replay(
    media: &mut impl Media,
    header: &Header,
    superblock: &Superblock,
    stored: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, RegionError> {
    let log = media.bytes(LOG_AT, media.used(LOG_AT, LOG_LEN));
    let (mut records, sequence) = last_two(media, log, header, superblock)?;
    let replayed = Replayed {
        sequence,
        records: records.len() as u64,
        lap: 0,
        end: 0,
    };
    let Some(newest) = records.first().map(|found| found.header.sequence) else {
        return Ok(replayed);
    };
    if without(media, Without::SecondRecord) {
        records.truncate(1);
    }
    let mut stores = Vec::new();
    for found in records.iter().rev() {
        let words = found.header.words as usize;
        stores.extend(format::record_pairs(bytes(log, found)).take(words));
    }
    for &(offset, _) in &stores {
        check_word(offset, header, superblock)?;
    }
    let ranges = relied_on(log, &records);
    if media.missing() > 0 {
        let pages: BTreeSet<u64> = stores.iter().map(|(at, _)| at & !(PAGE - 1)).collect();
        for page in pages {
            fill_holes(media, page, page + PAGE)?;
        }
    }
    for (offset, len) in ranges {
        media.flush(offset, len);
    }
    media.fence().map_err(RegionError::Sync)?;
    media.store_word(APPLIED_AT, applied::encode(newest, header.seed()));
    stored(APPLIED_AT, 8);
    // The superblock that ends the recovery comes after a fence.
    for (offset, value) in stores {
        media.store_word(offset, value);
        stored(offset, 8);
    }
    Ok(replayed)
}

fn bytes<'a>(log: &'a [u8], found: &FoundRecord) -> &'a [u8] {
    &log[found.at as usize..(found.at + found.len) as usize]
}

/// The records to replay, the newest first, and the highest number that one may have used.
fn last_two(
    media: &impl Media,
    log: &[u8],
    header: &Header,
    superblock: &Superblock,
) -> Result<(Vec<FoundRecord>, u64), FormatError> {
    let most = if without(media, Without::EveryRecord) {
        usize::MAX - 1
    } else if without(media, Without::NoThirdRecord) {
        3
    } else {
        2
    };
    // One more for the case that the newest is torn.
    let mut records = if without(media, Without::RecordSum) {
        format::newest_records_where(log, most + 1, |_| true)
    } else {
        format::newest_records(log, header.seed(), most + 1)
    };
    records.retain(|found| found.header.sequence > superblock.checkpoint);
    let used = records.first().map(|found| found.header.sequence);
    // Only the newest may be torn: its new objects may be missing.
    if let Some(newest) = records.first()
        && !has_objects(media, header, superblock, newest, bytes(log, newest))?
        && !without(media, Without::FreshHash)
    {
        records.remove(0);
    }
    let whole = records.first().map(|found| found.header.sequence);
    let newest = whole.unwrap_or(superblock.checkpoint);
    if !without(media, Without::NamedRecord) {
        check_applied(media, header, superblock, used, newest)?;
    }
    // One number is left out: it may be that of a torn record. A record of the next life that
    // had the same number could complete it, by words that both have or by the places of its
    // new objects: then what was lost would come back. Closed in order, nothing is torn.
    let left_out = superblock.state != RegionState::Clean && !without(media, Without::TornNumber);
    let sequence = match left_out {
        true => used.unwrap_or_default().max(newest + 1),
        false => newest,
    };
    records.truncate(most);
    if let [_, before] = &records[..]
        && before.header.sequence != newest - 1
    {
        records.truncate(1);
    }
    if records.len() == 1 && newest != superblock.checkpoint + 1 {
        let what = format!("the log's record {}", newest - 1);
        return Err(FormatError::Checksum { what });
    }
    Ok((records, sequence))
}

/// Whether the new objects of a whole record are in their places.
fn has_objects(
    media: &impl Media,
    header: &Header,
    superblock: &Superblock,
    of: &FoundRecord,
    record: &[u8],
) -> Result<bool, FormatError> {
    let mut hasher = Xxh3::with_seed(header.seed());
    // They lie beside each other, so that they cannot be longer than the region.
    let mut left = superblock.length;
    for (offset, len) in format::record_pairs(record).skip(of.header.words as usize) {
        check_heap_range(offset, len, header, superblock)?;
        let too_long = FormatError::Field {
            field: "the length of new objects",
            value: len,
        };
        left = left.checked_sub(len).ok_or(too_long)?;
        hasher.update(media.bytes(offset, len));
    }
    Ok(hasher.digest() == of.header.fresh_hash)
}

/// The records that are replayed, the newest first, and the newest one's new objects. If a process
/// died, they may be no further than the processor's caches; and they must be on the medium before
/// anything there says that the newest record was applied.
fn relied_on(log: &[u8], records: &[FoundRecord]) -> Vec<(u64, u64)> {
    let places = records.iter().map(|found| (LOG_AT + found.at, found.len));
    let mut ranges: Vec<_> = places.collect();
    if let Some(newest) = records.first() {
        let words = newest.header.words as usize;
        ranges.extend(format::record_pairs(bytes(log, newest)).skip(words));
    }
    ranges
}

/// Refuses a log in which the record that was applied last is not whole any more: what is before
/// it must not be stored over it. `newest` is the newest whole record, or the checkpoint.
fn check_applied(
    media: &impl Media,
    header: &Header,
    superblock: &Superblock,
    used: Option<u64>,
    newest: u64,
) -> Result<(), FormatError> {
    let word = media.word(APPLIED_AT);
    match applied::decode(word, superblock.checkpoint, header.seed()) {
        Ok(Some(applied)) if applied > newest => Err(FormatError::Applied { record: applied }),
        // Closed in order, nothing is replayed, and the next commit stores it anew.
        Err(error) if used.is_some() || superblock.state != RegionState::Clean => Err(error),
        _ => Ok(()),
    }
}
