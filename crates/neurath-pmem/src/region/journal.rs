//! The log as a journal: for media where nothing that is stored reaches the file before it is
//! written there.
//!
//! A commit appends a record, with the bytes of its new objects, to the log in memory, and
//! applies it to the memory. [`Region::make_durable`] writes the new part of the log and waits
//! for it: one wait for any number of commits. The pages that commits have changed are written
//! later, a few at a time, and only when the records that changed them are durable.
//!
//! The log has two halves. When one is full, records go on in the other, as the next *lap*;
//! until that is full in its turn, the pages that the earlier lap has changed have been written,
//! and a superblock says that its records are not needed any more. A recovery replays all
//! records from the first lap that is needed on.

use std::io;

use super::Inner;
use super::ablation::{Without, without};
use super::dirty::{DirtyPages, RUN};
use super::error::{FormatError, RegionError};
use super::format::{
    self, COUNT_MAX, Header, LOG_AT, RECORD_ALIGN, RECORD_HEADER_LEN, RegionState, Superblock,
    get_u32, get_u64, put,
};
use super::media::Media;
use super::recovery::{Replayed, check_heap_range, check_word};

const MAGIC: u64 = u64::from_le_bytes(*b"NEURLOG2");

/// Laps that an opening leaves out: a crash may have torn records of the last lap and begun
/// the next, and what is left of them must never count.
const LAPS_LEFT_OUT: u64 = 2;

/// The journal of an open region.
#[derive(Debug)]
pub(super) struct Journal {
    /// Bytes of a half.
    half: u64,
    lap: u64,
    /// Where the next record goes, in the log.
    at: u64,
    /// Up to where it was made durable.
    flushed: u64,
    /// The newest durable record.
    durable: u64,
    /// Pages changed in this lap.
    dirty: DirtyPages,
    /// Pages changed in the lap before, and not written since.
    before: DirtyPages,
    /// How many of those there were.
    total: u64,
    stage: Stage,
}

/// How far the checkpoint of the lap before is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Done,
    /// Its pages are being written; the lap's last record.
    Writing(u64),
    /// They are waited for.
    Waiting(u64),
}

impl Journal {
    pub(super) fn new(header: &Header, lap: u64) -> Journal {
        let mut journal = Journal {
            half: header.log.len() / 2,
            lap,
            at: 0,
            flushed: 0,
            durable: 0,
            dirty: DirtyPages::default(),
            before: DirtyPages::default(),
            total: 0,
            stage: Stage::Done,
        };
        journal.begin(lap);
        journal
    }

    /// A page has changed without a record, and is to be written.
    pub(super) fn mark(&mut self, at: u64, len: u64) {
        self.dirty.mark(at, len);
    }

    /// The lap that records are written in.
    pub(super) fn lap(&self) -> u64 {
        self.lap
    }

    fn begin(&mut self, lap: u64) {
        self.lap = lap;
        self.at = lap % 2 * self.half;
        self.flushed = self.at;
    }

    /// The first byte of the log that this lap may not use.
    fn end(&self) -> u64 {
        (self.lap % 2 + 1) * self.half
    }

    fn is_durable(&self) -> bool {
        self.flushed == self.at
    }

    /// How many pages should have been written by now: all, when half of the lap is used.
    fn written_by_now(&self) -> u64 {
        let used = self.at - self.lap % 2 * self.half;
        (self.total.saturating_mul(used * 2) / self.half).min(self.total)
    }
}

/// A record's header. Words, new objects and their bytes follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct RecordHeader {
    sequence: u64,
    words: u32,
    fresh: u32,
    /// Bytes of new objects, each rounded up to whole words.
    contents: u64,
    lap: u64,
    /// The newest record that was durable when this one was made.
    durable: u64,
    /// Of the new objects, the last so many are in their places, and their bytes not here.
    placed: u32,
}

impl RecordHeader {
    fn encode(&self, payload: &[u8], seed: u64) -> [u8; RECORD_HEADER_LEN as usize] {
        let mut out = [0; RECORD_HEADER_LEN as usize];
        put(&mut out, 0, &MAGIC.to_le_bytes());
        put(&mut out, 8, &self.sequence.to_le_bytes());
        put(&mut out, 16, &self.words.to_le_bytes());
        put(&mut out, 20, &self.fresh.to_le_bytes());
        put(&mut out, 24, &self.contents.to_le_bytes());
        put(&mut out, 32, &self.lap.to_le_bytes());
        put(&mut out, 40, &self.durable.to_le_bytes());
        put(&mut out, 48, &self.placed.to_le_bytes());
        let sum = format::RecordHeader::sum(&out, payload, seed);
        put(&mut out, 56, &sum.to_le_bytes());
        out
    }

    /// Looks whether a record begins here, and gives its length. Not yet whether it is whole.
    fn peek(bytes: &[u8]) -> Option<(RecordHeader, usize)> {
        let head = bytes.get(..RECORD_HEADER_LEN as usize)?;
        if get_u64(head, 0) != MAGIC {
            return None;
        }
        let header = RecordHeader {
            sequence: get_u64(head, 8),
            words: get_u32(head, 16),
            fresh: get_u32(head, 20),
            contents: get_u64(head, 24),
            lap: get_u64(head, 32),
            durable: get_u64(head, 40),
            placed: get_u32(head, 48),
        };
        let pairs = format::record_len(header.words.into(), header.fresh.into());
        let len = usize::try_from(pairs.checked_add(header.contents)?).ok()?;
        let counted = header.sequence <= COUNT_MAX && header.lap <= COUNT_MAX;
        let possible = len <= bytes.len() && counted && header.placed <= header.fresh;
        possible.then_some((header, len))
    }

    /// The whole record that begins here, if one does.
    fn parse(bytes: &[u8], seed: u64) -> Option<(RecordHeader, &[u8])> {
        let (header, len) = RecordHeader::peek(bytes)?;
        let record = &bytes[..len];
        format::RecordHeader::is_whole(record, seed).then_some((header, record))
    }
}

/// Whether a whole record begins here, of whatever lap.
pub(crate) fn begins_whole(bytes: &[u8], seed: u64) -> bool {
    RecordHeader::parse(bytes, seed).is_some()
}

/// Where the newest whole record stands in the file.
#[cfg(any(test, feature = "campaign"))]
pub(crate) fn newest(log: &[u8], seed: u64) -> Option<std::ops::Range<u64>> {
    let places = (0..log.len()).step_by(RECORD_ALIGN as usize);
    let whole = places.filter_map(|at| {
        let (header, record) = RecordHeader::parse(&log[at..], seed)?;
        let at = LOG_AT + at as u64;
        Some((header.sequence, at..at + record.len() as u64))
    });
    whole
        .max_by_key(|(sequence, _)| *sequence)
        .map(|(_, place)| place)
}

/// A record, taken apart.
struct Record<'a> {
    header: RecordHeader,
    record: &'a [u8],
}

impl<'a> Record<'a> {
    fn words(&self) -> impl Iterator<Item = (u64, u64)> + 'a {
        format::record_pairs(self.record).take(self.header.words as usize)
    }

    fn ranges(&self) -> impl Iterator<Item = (u64, u64)> + 'a {
        format::record_pairs(self.record)
            .skip(self.header.words as usize)
            .take(self.header.fresh as usize)
    }

    /// Each new object's place, and its bytes.
    ///
    /// # Errors
    ///
    /// If the bytes are not as many as the places need.
    fn contents(&self) -> Result<Vec<(u64, &'a [u8])>, FormatError> {
        let header = &self.header;
        let pairs = format::record_len(header.words.into(), header.fresh.into());
        let mut rest = &self.record[pairs as usize..];
        let mut contents = Vec::new();
        for (offset, len) in self.ranges().take((header.fresh - header.placed) as usize) {
            let wrong = FormatError::Field {
                field: "the length of new objects",
                value: len,
            };
            let padded = len.checked_next_multiple_of(8);
            let fits = padded.filter(|&padded| padded <= rest.len() as u64);
            let Some(padded) = fits else {
                return Err(wrong);
            };
            contents.push((offset, &rest[..len as usize]));
            rest = &rest[padded as usize..];
        }
        if !rest.is_empty() {
            return Err(FormatError::Field {
                field: "the length of new objects",
                value: rest.len() as u64,
            });
        }
        Ok(contents)
    }
}

/// The records that count, in their order.
struct Found<'a> {
    records: Vec<Record<'a>>,
    /// The last one's lap.
    lap: u64,
    /// Behind the last one.
    end: u64,
}

/// Finds the records that count.
///
/// # Errors
///
/// If one is missing that was durable.
fn records<'a>(
    log: &'a [u8],
    header: &Header,
    superblock: &Superblock,
    laps: bool,
) -> Result<Found<'a>, FormatError> {
    let half = header.log.len() / 2;
    let seed = header.seed();
    let mut lap = superblock.lap;
    let mut at = lap % 2 * half;
    let mut found: Vec<Record<'a>> = Vec::new();
    let mut expected = superblock.checkpoint + 1;
    // A record is in the half of its lap, and is the next one.
    let look = |at: u64, lap: u64, expected: u64| {
        let end = (lap % 2 + 1) * half;
        let bytes = log.get(at as usize..end as usize)?;
        let (header, record) = RecordHeader::parse(bytes, seed)?;
        let counts = header.lap == lap || !laps;
        (counts && header.sequence == expected).then_some(Record { header, record })
    };
    loop {
        let next = look(at, lap, expected).or_else(|| {
            // The half was full, and the next one goes on.
            let (next, begin) = (lap + 1, (lap + 1) % 2 * half);
            if next > superblock.lap + 1 {
                return None;
            }
            let record = look(begin, next, expected)?;
            (lap, at) = (next, begin);
            Some(record)
        });
        let Some(record) = next else {
            break;
        };
        at = (at + record.record.len() as u64).next_multiple_of(RECORD_ALIGN);
        expected += 1;
        found.push(record);
    }
    refuse_gap(log, seed, superblock, expected)?;
    Ok(Found {
        records: found,
        lap,
        end: at,
    })
}

/// Refuses a log with a whole record that tells of something that is not there: that the next
/// one was durable, or that a later superblock was.
fn refuse_gap(
    log: &[u8],
    seed: u64,
    superblock: &Superblock,
    next: u64,
) -> Result<(), FormatError> {
    // Records do not overlap: a log in which they seem to is no journal's, and is not hashed
    // for ever.
    let mut hashed = 0;
    for at in (0..log.len()).step_by(RECORD_ALIGN as usize) {
        let rest = &log[at..];
        let Some((header, len)) = RecordHeader::peek(rest) else {
            continue;
        };
        // A lap begins when the superblock of the one before the last is durable.
        let later = header.lap > superblock.lap + 1;
        let beyond = header.sequence > next && header.durable >= next;
        let tells = later || beyond && header.lap >= superblock.lap;
        if !tells {
            continue;
        }
        hashed += len;
        let endless = hashed > 2 * log.len();
        if endless || format::RecordHeader::is_whole(&rest[..len], seed) {
            let what = if later {
                "a superblock".to_owned()
            } else {
                format!("the log's record {next}")
            };
            return Err(FormatError::Checksum { what });
        }
    }
    Ok(())
}

/// Replays all records from the checkpoint on.
pub(super) fn replay(
    media: &mut impl Media,
    header: &Header,
    superblock: &Superblock,
    stored: &mut dyn FnMut(u64, u64),
) -> Result<Replayed, FormatError> {
    let laps = !without(media, Without::Laps);
    let log = media.bytes(LOG_AT, header.log.len());
    let Found { records, lap, end } = records(log, header, superblock, laps)?;
    let mut words = Vec::new();
    let mut contents = Vec::new();
    // Each record's place in the two lists, as they are replayed in their order.
    let mut ends = Vec::new();
    for record in &records {
        for (offset, value) in record.words() {
            check_word(offset, header, superblock)?;
            words.push((offset, value));
        }
        for (offset, len) in record.ranges() {
            check_heap_range(offset, len, header, superblock)?;
        }
        for (offset, bytes) in record.contents()? {
            contents.push((offset, bytes.to_vec()));
        }
        ends.push((words.len(), contents.len()));
    }
    let replayed = Replayed {
        sequence: superblock.checkpoint + records.len() as u64,
        records: records.len() as u64,
        lap,
        end,
    };
    let (mut word, mut content) = (0, 0);
    for (words_end, contents_end) in ends {
        for (offset, value) in &words[word..words_end] {
            media.store_word(*offset, *value);
            stored(*offset, 8);
        }
        for (offset, bytes) in &contents[content..contents_end] {
            media.store(*offset, bytes);
            stored(*offset, bytes.len() as u64);
        }
        (word, content) = (words_end, contents_end);
    }
    Ok(replayed)
}

impl<M: Media> Inner<M> {
    fn journal(&mut self) -> &mut Journal {
        let Some(journal) = &mut self.journal else {
            unreachable!("asked of a region with a journal")
        };
        journal
    }

    /// Ends a recovery: what was replayed goes to its places, and the log begins anew.
    pub(super) fn settle_journal(
        &mut self,
        stored: &[(u64, u64)],
        lap: u64,
    ) -> Result<(), RegionError> {
        let sequence = self.sequence;
        let journal = self.journal();
        for &(at, len) in stored {
            journal.dirty.mark(at, len);
        }
        journal.begin(lap);
        journal.durable = sequence;
        let kept = without(&self.media, Without::LapsLeftOut);
        self.checkpoint(RegionState::Open, if kept { 0 } else { LAPS_LEFT_OUT })
    }

    /// Appends the record whose pairs are in `self.record`, and applies it to the memory.
    pub(super) fn commit_journal(&mut self, words: u32, fresh: u32) -> Result<(), RegionError> {
        let pairs = self.record.len() as u64;
        let padded = |len: u64| len.next_multiple_of(8);
        let mut contents: u64 = self.set.live_fresh().map(|object| padded(object.len)).sum();
        let placed = contents > self.header.log.contents_max();
        if placed {
            self.place_fresh()?;
            contents = 0;
        } else {
            for object in self.set.live_fresh() {
                let bytes = self.set.fresh_bytes(object);
                self.record.extend_from_slice(bytes);
                let padding = padded(object.len) - object.len;
                self.record.extend_from_slice(&[0; 8][..padding as usize]);
            }
        }
        let len = pairs + contents;
        let journal = self.journal();
        if journal.at + len > journal.end() {
            self.next_lap()?;
        }
        let journal = self.journal();
        let header = RecordHeader {
            lap: journal.lap,
            durable: journal.durable,
            words,
            fresh,
            contents,
            placed: if placed { fresh } else { 0 },
            sequence: self.sequence + 1,
        };
        let at = self.journal().at;
        let seed = self.header.seed();
        let (head, payload) = self.record.split_at_mut(RECORD_HEADER_LEN as usize);
        head.copy_from_slice(&header.encode(payload, seed));
        self.media.store(LOG_AT + at, &self.record);
        self.journal().at = (at + len).next_multiple_of(RECORD_ALIGN);
        self.sequence += 1;
        self.apply_journal(words as usize, placed);
        Ok(())
    }

    /// Stores the record's words and new objects at their places, in memory.
    fn apply_journal(&mut self, words: usize, placed: bool) {
        let Inner {
            media,
            record,
            journal: Some(journal),
            set,
            ..
        } = self
        else {
            unreachable!("asked of a region with a journal")
        };
        for (offset, value) in format::record_pairs(record).take(words) {
            media.store_word(offset, value);
            journal.dirty.mark(offset, 8);
        }
        if placed {
            return;
        }
        for object in set.live_fresh() {
            media.store(object.offset, set.fresh_bytes(object));
            journal.dirty.mark(object.offset, object.len);
        }
    }

    /// Writes new objects that are too large for a record to their places. No place that is
    /// free now may be written to by a replay: so nothing is left to replay first.
    fn place_fresh(&mut self) -> Result<(), RegionError> {
        self.checkpoint(RegionState::Open, 1)?;
        for object in self.set.live_fresh() {
            self.media
                .store(object.offset, self.set.fresh_bytes(object));
            self.media.flush(object.offset, object.len);
        }
        let done = self.media.fence();
        self.or_failed(done)
    }

    /// Goes on in the other half.
    fn next_lap(&mut self) -> Result<(), RegionError> {
        self.flush_log()?;
        // The half's last records may still be needed.
        if !without(&self.media, Without::HalfFree) {
            self.finish_checkpoint()?;
        }
        let sequence = self.sequence;
        let journal = self.journal();
        journal.begin(journal.lap + 1);
        std::mem::swap(&mut journal.dirty, &mut journal.before);
        journal.total = journal.before.count();
        journal.stage = Stage::Writing(sequence);
        Ok(())
    }

    /// Makes everything committed durable, and takes the checkpoint a step further.
    pub(super) fn flush_journal(&mut self) -> Result<(), RegionError> {
        if self.failed {
            return Err(RegionError::failed_before());
        }
        if self.journal().is_durable() {
            return Ok(());
        }
        if without(&self.media, Without::LogFirst) {
            self.step()?;
        }
        self.flush_log()?;
        self.step()
    }

    fn flush_log(&mut self) -> Result<(), RegionError> {
        let Journal { at, flushed, .. } = *self.journal();
        if at > flushed {
            let done = self.media.persist(LOG_AT + flushed, at - flushed);
            self.or_failed(done)?;
            let sequence = self.sequence;
            let journal = self.journal();
            journal.flushed = at;
            journal.durable = sequence;
        }
        Ok(())
    }

    /// One step of the checkpoint of the lap before. What is in memory is durable in the log.
    fn step(&mut self) -> Result<(), RegionError> {
        match self.journal().stage {
            Stage::Done => Ok(()),
            Stage::Writing(through) => {
                let journal = self.journal();
                let left = journal.total - journal.written_by_now();
                while self.journal().before.count() > left {
                    self.write_run(false);
                }
                if self.journal().before.count() == 0 {
                    let begun = self.media.begin_sync();
                    self.or_failed(begun)?;
                    self.journal().stage = Stage::Waiting(through);
                }
                Ok(())
            }
            Stage::Waiting(through) => match self.media.end_sync(false) {
                Some(done) => {
                    self.or_failed(done)?;
                    self.end_checkpoint(through)
                }
                None => Ok(()),
            },
        }
    }

    /// Writes some changed pages that lie beside each other.
    fn write_run(&mut self, of_this_lap: bool) {
        let journal = self.journal();
        let pages = if of_this_lap {
            &mut journal.dirty
        } else {
            &mut journal.before
        };
        if let Some((at, len)) = pages.take_run(RUN) {
            // A region's bytes are whole pages.
            self.media.flush(at, len);
        }
    }

    /// The lap before is in its places: its records are not needed.
    fn end_checkpoint(&mut self, through: u64) -> Result<(), RegionError> {
        let lap = self.journal().lap;
        self.superblock.generation += 1;
        self.superblock.checkpoint = through;
        self.superblock.lap = lap;
        self.superblock_slot = 1 - self.superblock_slot;
        let done = self.put_superblock();
        self.or_failed(done)?;
        self.journal().stage = Stage::Done;
        Ok(())
    }

    /// Ends the checkpoint of the lap before, waiting for the medium.
    fn finish_checkpoint(&mut self) -> Result<(), RegionError> {
        let through = match self.journal().stage {
            Stage::Done => return Ok(()),
            Stage::Writing(through) => {
                while self.journal().before.count() > 0 {
                    self.write_run(false);
                }
                let done = self.media.fence();
                self.or_failed(done)?;
                through
            }
            Stage::Waiting(through) => {
                let done = self.media.end_sync(true).unwrap_or(Ok(()));
                self.or_failed(done)?;
                through
            }
        };
        self.end_checkpoint(through)
    }

    /// Brings everything to its place, and begins the log anew, so many laps further.
    pub(super) fn checkpoint(&mut self, state: RegionState, laps: u64) -> Result<(), RegionError> {
        if self.failed {
            return Err(RegionError::failed_before());
        }
        self.flush_log()?;
        while self.journal().before.count() > 0 {
            self.write_run(false);
        }
        while self.journal().dirty.count() > 0 {
            self.write_run(true);
        }
        let journal = self.journal();
        journal.begin(journal.lap + laps);
        journal.stage = Stage::Done;
        let done = self.write_superblock(state);
        self.or_failed(done)
    }

    /// After an error the region takes no more changes.
    pub(super) fn or_failed(&mut self, done: io::Result<()>) -> Result<(), RegionError> {
        self.failed |= done.is_err();
        done.map_err(RegionError::Sync)
    }
}
