//! The end of a transaction: one record, one fence, then the words at their places; or
//! nothing at all.

use xxhash_rust::xxh3::Xxh3;

use super::Inner;
use super::ablation::{Without, without};
use super::error::RegionError;
use super::format::{
    self, LOG_AT, LOG_LEN, RECORD_ALIGN, RECORD_HEADER_LEN, RECORD_MAX, RecordHeader,
};
use super::media::Media;

impl<M: Media> Inner<M> {
    pub(super) fn commit(&mut self) -> Result<bool, RegionError> {
        if self.set.is_empty() {
            return Ok(false);
        }
        if self.failed {
            return Err(RegionError::Sync(std::io::Error::other(
                "an earlier change failed",
            )));
        }
        let seed = self.header.seed();
        self.record.clear();
        self.record.resize(RECORD_HEADER_LEN as usize, 0);
        let mut words = 0;
        for &(offset, value) in self.set.words() {
            if self.media.word(offset) != value {
                self.record.extend_from_slice(&offset.to_le_bytes());
                self.record.extend_from_slice(&value.to_le_bytes());
                words += 1;
            }
        }
        // The root's word was added unchecked. A longer record would not be found again.
        let needed = format::record_len(words.into(), self.set.live_fresh().count() as u64);
        if needed > RECORD_MAX {
            return Err(RegionError::TooLarge {
                needed,
                limit: RECORD_MAX,
            });
        }
        if let Some(tee) = &self.tee {
            tee.begin();
        }
        // New objects go to their places: nothing refers to them yet.
        let mut fresh = 0;
        let mut hasher = None;
        for object in self.set.live_fresh() {
            let bytes = self.set.fresh_bytes(object);
            self.media.store(object.offset, bytes);
            hasher
                .get_or_insert_with(|| Xxh3::with_seed(seed))
                .update(bytes);
            self.record.extend_from_slice(&object.offset.to_le_bytes());
            self.record.extend_from_slice(&object.len.to_le_bytes());
            fresh += 1;
        }
        if words == 0 && fresh == 0 {
            self.abort();
            return Ok(false);
        }
        let fresh_hash = match hasher {
            Some(hasher) => hasher.digest(),
            None => Xxh3::with_seed(seed).digest(),
        };
        let header = RecordHeader {
            sequence: self.sequence + 1,
            words,
            fresh,
            fresh_hash,
        };
        let (head, payload) = self.record.split_at_mut(RECORD_HEADER_LEN as usize);
        head.copy_from_slice(&header.encode(payload, seed));

        let len = self.record.len() as u64;
        if self.log_at + len > LOG_LEN || without(&self.media, Without::ManySlots) {
            self.log_at = 0;
        }
        if without(&self.media, Without::RecordFirst) {
            self.apply(words as usize);
        }
        self.media.store(LOG_AT + self.log_at, &self.record);
        if !without(&self.media, Without::CommitFence) {
            self.media.fence();
        }
        // Committed. What follows, a recovery would do as well.
        self.log_at = (self.log_at + len).next_multiple_of(RECORD_ALIGN);
        self.sequence += 1;
        self.apply(words as usize);
        self.note(words as usize);
        self.space.committed(self.sequence, &self.media);
        self.set.clear();
        self.clean_handle();
        Ok(true)
    }

    /// Notes what was committed and applied, if the region is being copied.
    fn note(&mut self, words: usize) {
        let Some(tee) = &self.tee else { return };
        let set = &self.set;
        let fresh = set.live_fresh().map(|object| set.fresh_bytes(object));
        let now = (self.sequence, self.superblock.length);
        let more = tee.put(now, &self.record, words, fresh);
        tee.end();
        if !more {
            self.tee = None;
        }
    }

    /// Stores the record's words at their places.
    fn apply(&mut self, words: usize) {
        for (offset, value) in format::record_pairs(&self.record).take(words) {
            self.media.store_word(offset, value);
        }
    }

    pub(super) fn abort(&mut self) {
        if self.set.is_empty() {
            return;
        }
        if let Some(tee) = &self.tee {
            tee.end();
        }
        self.set.clear();
        self.space.aborted(&self.media);
        self.clean_handle();
        self.refresh_handle();
    }

    fn clean_handle(&self) {
        if let Some(handle) = &self.handle {
            handle.clean();
        }
    }
}
