//! What a crash interrupted is completed or forgotten.

use xxhash_rust::xxh3::Xxh3;

use super::ablation::{Without, without};
use super::error::{FormatError, RegionError};
use super::format::{
    self, Header, LOG_AT, LOG_LEN, Log, ROOT_AT, RegionState, SCHEMA_AT, Superblock,
};
use super::journal;
use super::media::Media;
use super::open::Found;
use super::space::Space;
use super::{Inner, Region};

impl<M: Media> Region<M> {
    /// Replays what the log holds beyond the checkpoint, and opens.
    pub(super) fn recover(mut media: M, found: Found) -> Result<Region<M>, RegionError> {
        let Found {
            header,
            superblock,
            slot,
        } = found;
        let mut stored = Vec::new();
        let replayed = replay(&mut media, &header, &superblock, &mut |at, len| {
            stored.push((at, len));
        })?;
        let length = superblock.length;
        let space = Space::load(&media, &header, length)?;
        let sequence = replayed.sequence;
        let mut inner = Inner::new(media, header, superblock, slot, space, sequence);
        // What was replayed must not be replayed over what the new life writes.
        if inner.journal.is_some() {
            inner.settle_journal(&stored, replayed.lap)?;
        } else if !without(&inner.media, Without::Checkpoint) {
            for (at, len) in stored {
                inner.media.flush(at, len);
            }
            inner
                .write_superblock(RegionState::Open)
                .map_err(RegionError::Sync)?;
        }
        Ok(Region::from_inner(inner))
    }

    /// The lap of the journal; 0 if there is none.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn lap(&self) -> u64 {
        let journal = self.inner().journal.as_ref();
        journal.map_or(0, |journal| journal.lap())
    }

    /// What the next life begins with, beside the bytes of the heap: the last transaction, the
    /// lap of the journal, and the bytes that the region may use.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn position(&self) -> [u64; 3] {
        let inner = self.inner();
        [inner.sequence, self.lap(), inner.superblock.length]
    }

    /// Recovers whatever media hold, as [`Region::open`] does with a file.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn recover_media(media: M) -> Result<Region<M>, RegionError> {
        let found = Found::read(&media)?;
        Self::recover(media, found)
    }
}

/// What a replay came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Replayed {
    /// The highest number that a record may have used.
    pub(crate) sequence: u64,
    /// Records whose words were stored.
    pub(crate) records: u64,
    /// The highest lap that a record may have used.
    pub(crate) lap: u64,
    /// Behind the last record of a journal, in the log.
    pub(crate) end: u64,
}

/// Replays what must be of the records beyond the checkpoint, and tells of each range it
/// stores. Looks at everything before it stores anything.
pub(crate) fn replay(
    media: &mut impl Media,
    header: &Header,
    superblock: &Superblock,
    stored: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, FormatError> {
    match header.log {
        Log::Ring => replay_ring(media, header, superblock, stored),
        Log::Journal(_) => journal::replay(media, header, superblock, stored),
    }
}

/// Replays the last two records beyond the checkpoint.
fn replay_ring(
    media: &mut impl Media,
    header: &Header,
    superblock: &Superblock,
    stored: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, FormatError> {
    let log = media.bytes(LOG_AT, media.used(LOG_AT, LOG_LEN));
    // What is replayed, and one for the case that the newest is torn.
    let most = if without(media, Without::EveryRecord) {
        usize::MAX - 1
    } else if without(media, Without::NoThirdRecord) {
        3
    } else {
        2
    };
    let mut records = if without(media, Without::RecordSum) {
        format::newest_records_where(log, most + 1, |_| true)
    } else {
        format::newest_records(log, header.seed(), most + 1)
    };
    records.retain(|found| found.header.sequence > superblock.checkpoint);
    let bytes = |at: u64, len: u64| &log[at as usize..(at + len) as usize];
    let used = records.first().map_or(0, |found| found.header.sequence);
    let mut replayed = Replayed {
        sequence: superblock.checkpoint,
        records: 0,
        lap: 0,
        end: 0,
    };
    // Only the newest may be torn: its new objects may be missing.
    if let Some(newest) = records.first() {
        let words = newest.header.words as usize;
        let mut hasher = Xxh3::with_seed(header.seed());
        // They lie beside each other, so that they cannot be longer than the region.
        let mut left = superblock.length;
        for (offset, len) in format::record_pairs(bytes(newest.at, newest.len)).skip(words) {
            check_heap_range(offset, len, header, superblock)?;
            let too_long = FormatError::Field {
                field: "the length of new objects",
                value: len,
            };
            left = left.checked_sub(len).ok_or(too_long)?;
            hasher.update(media.bytes(offset, len));
        }
        if hasher.digest() != newest.header.fresh_hash && !without(media, Without::FreshHash) {
            records.remove(0);
        }
    }
    let whole = records.first().map(|found| found.header.sequence);
    replayed.sequence = whole.unwrap_or(superblock.checkpoint);
    // One number is left out: it may be that of a torn record. A record of the next life that
    // had the same number could complete it, by words that both have or by the places of its
    // new objects: then what was lost would come back. Closed in order, nothing is torn.
    if superblock.state != RegionState::Clean && !without(media, Without::TornNumber) {
        replayed.sequence = used.max(replayed.sequence + 1);
    }
    let Some(newest) = records.first().map(|found| found.header.sequence) else {
        return Ok(replayed);
    };
    records.truncate(most);
    if let [_, before] = &records[..]
        && before.header.sequence != newest - 1
    {
        records.truncate(1);
    }
    if records.len() == 1 && newest != superblock.checkpoint + 1 {
        return Err(FormatError::Checksum {
            what: format!("the log's record {}", newest - 1),
        });
    }
    if without(media, Without::SecondRecord) {
        records.truncate(1);
    }
    let mut stores = Vec::new();
    for found in records.iter().rev() {
        let words = found.header.words as usize;
        stores.extend(format::record_pairs(bytes(found.at, found.len)).take(words));
    }
    for &(offset, _) in &stores {
        check_word(offset, header, superblock)?;
    }
    for (offset, value) in stores {
        media.store_word(offset, value);
        stored(offset, 8);
    }
    // The superblock that ends the recovery comes after a fence.
    replayed.records = records.len() as u64;
    Ok(replayed)
}

/// Refuses a word that no record can set.
pub(super) fn check_word(
    offset: u64,
    header: &Header,
    superblock: &Superblock,
) -> Result<(), FormatError> {
    let in_directory = (ROOT_AT..SCHEMA_AT).contains(&offset);
    if !in_directory {
        check_heap_range(offset, 8, header, superblock)?;
    }
    if !offset.is_multiple_of(8) {
        return Err(FormatError::Field {
            field: "a record's address",
            value: offset,
        });
    }
    Ok(())
}

/// Refuses a range that is not within the heap.
pub(super) fn check_heap_range(
    offset: u64,
    len: u64,
    header: &Header,
    superblock: &Superblock,
) -> Result<(), FormatError> {
    let end = offset
        .checked_add(len)
        .filter(|&end| end <= superblock.length);
    if offset < header.heap_at() || end.is_none() {
        return Err(FormatError::Field {
            field: "a record's address",
            value: offset,
        });
    }
    Ok(())
}
