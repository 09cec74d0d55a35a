//! The newest record of an image: whether the word that names what was applied keeps up with it,
//! and whether its damage is noticed.

use std::ops::Range;

use super::models::Survives;
use super::sim::{Random, Sim};
use crate::region::applied::{self, APPLIED_AT};
use crate::region::format::{
    HEADER_AT, Header, LOG_AT, LOG_LEN, Log, PAGE, RegionState, newest_records,
};
use crate::region::{Found, Media, journal, replay};

/// Where the newest record stands.
pub(super) fn newest(media: &Sim) -> Option<Range<u64>> {
    let header = Header::parse(media.bytes(HEADER_AT, PAGE)).ok()?;
    let log = media.bytes(LOG_AT, media.used(LOG_AT, header.log.len()));
    if let Log::Journal(_) = header.log {
        return journal::newest(log, header.seed());
    }
    let found = newest_records(log, header.seed(), 1);
    let record = found.first()?;
    let at = LOG_AT + record.at;
    Some(at..at + record.len)
}

/// Checks that the word of a ring keeps up with its records. When a record is there, the one
/// before it was waited for, and with it the word that names the one before that. Where the order
/// of the program is kept, the word lags behind by one.
pub(super) fn keeps_up(media: &Sim, survives: Survives) -> Result<(), String> {
    let Ok(found) = Found::read(media) else {
        return Ok(());
    };
    let (header, superblock) = (found.header(), found.superblock());
    if superblock.state != RegionState::Open {
        return Ok(());
    }
    let seed = header.seed();
    let records = newest_records(media.bytes(LOG_AT, media.used(LOG_AT, LOG_LEN)), seed, 1);
    let newest = records.first().map_or(0, |found| found.header.sequence);
    let lag = if survives == Survives::Prefix { 1 } else { 2 };
    let least = newest.saturating_sub(lag);
    if least <= superblock.checkpoint {
        return Ok(());
    }
    match applied::decode(media.word(APPLIED_AT), superblock.checkpoint, seed) {
        Ok(Some(named)) if named >= least => Ok(()),
        named => Err(format!(
            "record {newest} is there, and the word names {named:?} as the last that was applied"
        )),
    }
}

/// Flips a bit of the newest record, where a process has died: an error before anything is
/// changed, or nothing of that record was applied. Gives a medium to recover in the second case.
pub(super) fn damaged(media: &mut Sim, random: &mut Random) -> Result<Option<Sim>, String> {
    let (Ok(found), Some(record)) = (Found::read(media), newest(media)) else {
        return Ok(None);
    };
    let mark = media.mark();
    let at = record.start + random.next() % (record.end - record.start) / 8 * 8;
    let flipped = media.word(at) ^ 1 << random.below(64);
    media.store_word(at, flipped);
    let (copy, before) = (media.copy(), media.mark());
    let (header, superblock) = (found.header(), found.superblock());
    let replayed = replay(media, header, superblock, &mut |_, _| {});
    let stored = media.mark() > before;
    media.rewind(mark);
    match replayed {
        Ok(_) => Ok(Some(copy)),
        Err(error) if stored => Err(format!("{error}, but something was stored before")),
        Err(_) => Ok(None),
    }
}
