//! The end of a transaction: one record, one fence, then the words at their places; or
//! nothing at all.

use super::Inner;
use super::ablation::{Without, without};
use super::applied::{self, APPLIED_AT};
use super::error::RegionError;
use super::format::{self, LOG_AT, LOG_LEN, RECORD_ALIGN, RECORD_HEADER_LEN, RecordHeader};
use super::media::Media;

/// Adds a pair of a record: a place and its word, or a new object and its length.
#[inline]
fn push_pair(record: &mut Vec<u8>, first: u64, second: u64) {
    let mut pair = [0; 16];
    pair[..8].copy_from_slice(&first.to_le_bytes());
    pair[8..].copy_from_slice(&second.to_le_bytes());
    record.extend_from_slice(&pair);
}

/// Bytes of a cache line: what is flushed at once.
const LINE: u64 = 64;

impl<M: Media> Inner<M> {
    pub(super) fn commit(&mut self) -> Result<bool, RegionError> {
        self.refuse_unconverted()?;
        if self.set.is_empty() {
            return Ok(false);
        }
        if !self.commit_set()? {
            self.abort();
            return Ok(false);
        }
        self.space.committed(self.sequence, &mut self.media);
        self.set.clear();
        self.clean_handle();
        Ok(true)
    }

    /// Makes what is in the write set last; whether there was anything to change.
    pub(super) fn commit_set(&mut self) -> Result<bool, RegionError> {
        if self.failed {
            return Err(RegionError::failed_before());
        }
        self.record.clear();
        self.record
            .extend_from_slice(&[0; RECORD_HEADER_LEN as usize]);
        let mut words = 0;
        for &(offset, value) in self.set.words() {
            if self.media.word(offset) != value {
                push_pair(&mut self.record, offset, value);
                words += 1;
            }
        }
        let mut fresh = 0;
        for object in self.set.live_fresh() {
            push_pair(&mut self.record, object.offset, object.len);
            fresh += 1;
        }
        if words == 0 && fresh == 0 {
            return Ok(false);
        }
        // The root's word was added unchecked. A longer record would not be found again.
        let (needed, limit) = (self.record.len() as u64, self.header.log.record_max());
        if needed > limit {
            return Err(RegionError::TooLarge { needed, limit });
        }
        self.keep_for_collection(words as usize);
        if let Some(tee) = &self.tee {
            tee.begin();
        }
        self.watch.take_if(|watch| watch.is_over());
        if let Some(watch) = &mut self.watch {
            watch.note(&self.record, words as usize);
        }
        if self.journal.is_some() {
            self.commit_journal(words, fresh)?;
        } else {
            self.commit_ring(words, fresh)?;
        }
        self.note(words, fresh);
        Ok(true)
    }

    /// Writes the record whose pairs are in `self.record` into the ring, and applies it.
    fn commit_ring(&mut self, words: u32, fresh: u32) -> Result<(), RegionError> {
        let seed = self.header.seed();
        self.wait_for_record(false)?;
        // New objects go to their places: nothing refers to them yet.
        for object in self.set.live_fresh() {
            self.media
                .store(object.offset, self.set.fresh_bytes(object));
            self.media.flush(object.offset, object.len);
        }
        let header = RecordHeader {
            sequence: self.sequence + 1,
            words,
            fresh,
            fresh_hash: self.set.fresh_hash(seed),
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
        let at = LOG_AT + self.log_at;
        self.media.store(at, &self.record);
        if !without(&self.media, Without::RecordFlush) {
            self.media.flush(at, len);
        }
        if without(&self.media, Without::ApplyBeforeFence) {
            self.apply(words as usize);
        }
        if without(&self.media, Without::NamedAfterFence) {
            self.name_applied(self.sequence + 1, seed);
        }
        self.wait_for_record(true)?;
        // Committed. What follows, a recovery would do as well.
        self.log_at = (self.log_at + len).next_multiple_of(RECORD_ALIGN);
        self.sequence += 1;
        if without(&self.media, Without::NamedFirst) {
            self.apply(words as usize);
        }
        self.name_applied(self.sequence, seed);
        self.apply(words as usize);
        Ok(())
    }

    /// Names the record that is sure now, before any of its words is stored. The next commit's
    /// fence waits for this as well.
    fn name_applied(&mut self, number: u64, seed: u64) {
        self.media
            .store_word(APPLIED_AT, applied::encode(number, seed));
        self.media.flush(APPLIED_AT, 8);
    }

    /// Waits for the record once it is stored. Wrong variants wait for it before the next one is
    /// stored, or never.
    fn wait_for_record(&mut self, stored: bool) -> Result<(), RegionError> {
        let late = without(&self.media, Without::LateFence);
        if stored == late || without(&self.media, Without::CommitFence) {
            return Ok(());
        }
        let fenced = self.media.fence();
        self.or_failed(fenced)
    }

    /// Notes what was committed and applied, if the region is being copied.
    fn note(&mut self, words: u32, fresh: u32) {
        let Some(tee) = &self.tee else { return };
        let set = &self.set;
        let contents = set.live_fresh().map(|object| set.fresh_bytes(object));
        let now = (self.sequence, self.superblock.length);
        // A journal's record has the contents as well.
        let pairs = format::record_len(words.into(), fresh.into());
        let record = &self.record[..pairs as usize];
        let more = tee.put(now, record, words as usize, contents);
        tee.end();
        if !more {
            self.tee = None;
        }
    }

    /// Stores the record's words at their places. The next commit's fence waits for them.
    fn apply(&mut self, words: usize) {
        let flushed = !without(&self.media, Without::PlaceFlush);
        let mut line = u64::MAX;
        for (offset, value) in format::record_pairs(&self.record).take(words) {
            self.media.store_word(offset, value);
            if offset / LINE != line {
                if line != u64::MAX && flushed {
                    self.media.flush(line * LINE, LINE);
                }
                line = offset / LINE;
            }
        }
        if line != u64::MAX && flushed {
            self.media.flush(line * LINE, LINE);
        }
    }

    pub(super) fn abort(&mut self) {
        self.forget_unconverted();
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
