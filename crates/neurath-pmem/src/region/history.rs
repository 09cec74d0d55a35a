//! Where a region's file has the migrations that it went through.
//!
//! Behind each superblock, in its page, is place for a history; the newest counts. A new one goes to
//! the other place: first what is there loses its first word, then the bytes are stored, then the
//! first word, and each is waited for. So a crash leaves the one before or the new one, and a
//! damaged one is told from one that was being written.

use super::Inner;
use super::Region;
use super::error::RegionError;
use super::format::{Header, SUPERBLOCK_AT};
use super::media::Media;
use crate::history::{Found, History, LEN, Migration};

/// Where the histories lie.
pub(crate) const HISTORY_AT: [u64; 2] = [SUPERBLOCK_AT[0] + 512, SUPERBLOCK_AT[1] + 512];

/// Reads the history of a region whose header says that it has one.
pub(crate) fn read(media: &dyn Media, header: &Header) -> Found {
    if !header.history {
        return Found::in_slots([&[0; LEN as usize]; 2], 0);
    }
    let slots = HISTORY_AT.map(|at| media.bytes(at, LEN));
    Found::in_slots(slots, header.seed())
}

/// Stores the first history of a copy or of a region in the making, whose header says that there is
/// one. It is made durable with the rest of the copy, or by the recovery that ends the making.
pub(crate) fn store_first(media: &mut impl Media, header: &Header, history: &History) {
    media.store(HISTORY_AT[0], &history.encode(1, header.seed()));
}

impl<M: Media> Region<M> {
    /// The migrations that the state went through, as far as they are recorded.
    pub fn history(&self) -> History {
        let inner = self.inner();
        read(&inner.media, &inner.header).history
    }

    /// Records migrations of the state; whether there was one that is not recorded yet. It has
    /// nothing to do with an open transaction. A crash leaves them all or none.
    ///
    /// # Errors
    ///
    /// [`RegionError::Sync`]: the region takes no more changes then.
    pub fn record_migrations(&mut self, new: &[Migration]) -> Result<bool, RegionError> {
        self.inner().record_migrations(new)
    }

    /// Gives a region that is being built its history.
    pub(crate) fn build_history(&mut self, history: &History) {
        let inner = self.inner();
        store_first(&mut inner.media, &inner.header, history);
    }
}

impl<M: Media> Inner<M> {
    fn record_migrations(&mut self, new: &[Migration]) -> Result<bool, RegionError> {
        let Found {
            mut history,
            number,
            next,
        } = read(&self.media, &self.header);
        if !history.add(new) {
            return Ok(false);
        }
        if self.failed {
            return Err(RegionError::failed_before());
        }
        if !self.header.history {
            self.header.history = true;
            self.put_header()?;
        }
        let bytes = history.encode(number + 1, self.header.seed());
        let at = HISTORY_AT[next];
        let (first, rest) = bytes.split_at(8);
        let parts: [(u64, &[u8]); 3] = [(at, &[0; 8]), (at + 8, rest), (at, first)];
        for (at, bytes) in parts {
            self.media.store(at, bytes);
            let done = self.media.persist(at, bytes.len() as u64);
            self.or_failed(done)?;
        }
        Ok(true)
    }
}
