//! What a crash interrupted is completed or forgotten.

use xxhash_rust::xxh3::Xxh3;

use super::ablation::{Without, without};
use super::error::FormatError;
use super::format::{
    self, HEAP_AT, Header, LOG_AT, LOG_LEN, ROOT_AT, RegionState, SCHEMA_AT, Superblock,
};
use super::media::Media;
use super::open::Found;
use super::space::Space;
use super::{Inner, Region};

impl<M: Media> Region<M> {
    /// Replays what the log holds beyond the checkpoint, and opens.
    pub(super) fn recover(mut media: M, found: Found) -> Result<Region<M>, FormatError> {
        let Found {
            header,
            superblock,
            slot,
        } = found;
        let sequence = replay(&mut media, &header, &superblock)?;
        let length = superblock.length;
        let space = Space::load(&media, &header, length)?;
        let mut inner = Inner::new(media, header, superblock, slot, space, sequence);
        // What was replayed must not be replayed over what the new life writes.
        if !without(&inner.media, Without::Checkpoint) {
            inner.write_superblock(RegionState::Open);
        }
        Ok(Region::from_inner(inner))
    }

    /// Recovers whatever media hold, as [`Region::open`] does with a file.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn recover_media(media: M) -> Result<Region<M>, FormatError> {
        let found = Found::read(&media)?;
        Self::recover(media, found)
    }
}

/// Replays the last two records beyond the checkpoint; gives the highest number used.
/// Looks at everything before it stores anything.
pub(crate) fn replay(
    media: &mut impl Media,
    header: &Header,
    superblock: &Superblock,
) -> Result<u64, FormatError> {
    let log = media.bytes(LOG_AT, LOG_LEN);
    let mut records = format::newest_records(
        log,
        header.seed(),
        if without(media, Without::NoThirdRecord) {
            4
        } else {
            3
        },
    );
    records.retain(|found| found.header.sequence > superblock.checkpoint);
    let bytes = |at: u64, len: u64| &log[at as usize..(at + len) as usize];
    // Its number is not given out again, as a torn record would be found a second time,
    // and might look whole once the next life has used the places of its new objects.
    let used = records.first().map_or(0, |found| found.header.sequence);
    let used = used.max(superblock.checkpoint);
    // Only the newest may be torn: its new objects may be missing.
    if let Some(newest) = records.first() {
        let words = newest.header.words as usize;
        let mut hasher = Xxh3::with_seed(header.seed());
        // They lie beside each other, so that they cannot be longer than the region.
        let mut left = superblock.length;
        for (offset, len) in format::record_pairs(bytes(newest.at, newest.len)).skip(words) {
            check_heap_range(offset, len, superblock.length)?;
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
    let Some(newest) = records.first().map(|found| found.header.sequence) else {
        return Ok(used);
    };
    records.truncate(if without(media, Without::NoThirdRecord) {
        3
    } else {
        2
    });
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
        let in_directory = (ROOT_AT..SCHEMA_AT).contains(&offset);
        if !in_directory {
            check_heap_range(offset, 8, superblock.length)?;
        }
        if !offset.is_multiple_of(8) {
            return Err(FormatError::Field {
                field: "a record's address",
                value: offset,
            });
        }
    }
    for (offset, value) in stores {
        media.store_word(offset, value);
    }
    // The superblock that ends the recovery comes after a fence.
    Ok(used)
}

fn check_heap_range(offset: u64, len: u64, length: u64) -> Result<(), FormatError> {
    let end = offset.checked_add(len).filter(|&end| end <= length);
    if offset < HEAP_AT || end.is_none() {
        return Err(FormatError::Field {
            field: "a record's address",
            value: offset,
        });
    }
    Ok(())
}
