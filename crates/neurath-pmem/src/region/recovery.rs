//! What a crash interrupted is completed or forgotten.

use super::ablation::{Without, without};
use super::error::{FormatError, RegionError};
use super::format::{
    HEADER_AT, HEADER_COPY_AT, HEADER_LEN, Header, Log, PAGE, ROOT_AT, RegionState, SCHEMA_AT,
    SUPERBLOCK_AT, Superblock,
};
use super::journal;
use super::media::{Backend, Media};
use super::open::Found;
use super::ring;
use super::space::{self, Space};
use super::sweep::Sweep;
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
        if header.log == Log::Ring {
            // They may be no further than the processor's caches, if a process died: the superblock
            // in force, the history, which may lie in the page of the other, and the headers. The
            // superblock that ends the recovery is written over the other, and waits for these.
            for at in SUPERBLOCK_AT {
                media.flush(at, PAGE);
            }
            for at in [HEADER_AT, HEADER_COPY_AT] {
                media.flush(at, HEADER_LEN);
            }
        }
        // What lies behind is not the region's, and grown into as if it were not there.
        if superblock.length != media.len() {
            media.ends_at(superblock.length);
        }
        if media.missing() > 0 {
            space::fill_holes(&mut media, 0, header.heap_at())?;
        }
        let replayed = replay(&mut media, &header, &superblock, &mut |at, len| {
            stored.push((at, len));
        })?;
        let (length, closed) = (superblock.length, superblock.state == RegionState::Clean);
        let mut space = Space::load(&media, &header, length)?;
        space.take_blocks(&mut media)?;
        let sequence = replayed.sequence;
        let sweep = Sweep::found(&media, &header)?;
        let mut inner = Inner::new(media, header, superblock, slot, space, sequence);
        inner.sweep = sweep;
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
            // Where the kernel writes pages in an order of its own, a region that was closed must
            // not look so any more when the first page of what follows is written.
            if closed && inner.media.backend() == Backend::Process {
                inner.forget_closed().map_err(RegionError::Sync)?;
            }
        }
        inner.repair_header()?;
        if !closed {
            inner.clear_leftovers();
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
) -> Result<Replayed, RegionError> {
    match header.log {
        Log::Ring => ring::replay(media, header, superblock, stored),
        Log::Journal(_) => Ok(journal::replay(media, header, superblock, stored)?),
    }
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
