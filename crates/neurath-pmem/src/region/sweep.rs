//! A region whose segments are converted to another schema one by one, while it is used.
//!
//! What a transaction reads of a segment that is not converted is converted for it alone. What it
//! changes there converts the segment, by a commit of its own: the objects go to a place that
//! is free, and the words of the segment's entry say so. The rest is converted between
//! transactions, a bit at a time. So an object has its old bytes or its new ones, never
//! a mixture, and the table alone says which.
//!
//! The header says that this goes on, and where the record of it is: both schemas, and what
//! becomes of each type. Until it says so, nothing that was converted can be found in the file,
//! and all can be forgotten.

mod collect;
mod convert;
mod plan;
mod reach;
mod record;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use xxhash_rust::xxh3::xxh3_64;

use super::error::{FormatError, RegionError};
use super::format::{
    HEADER_AT, HEADER_COPY_AT, HEADER_LEN, Header, LOG_AT, PAGE, SCHEMA_AT, SCHEMA_MAX,
    SegmentEntry, SweepPlace,
};
use super::media::Media;
use super::write_set::WriteSet;
use super::{Inner, Region};
use crate::migrate::{Stepwise, StepwiseError, Way, converted_length};
pub(super) use collect::Collection;
pub(crate) use record::Record;

/// Segments that are looked at before the clock is.
const GLANCE: u64 = 256;

/// What a sweep has come to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Swept {
    /// Nothing is left to convert, and the region is as one that was never of another schema.
    Done,
    /// There may be more.
    More,
    /// The room for what comes next is being made ready: in a moment there is more to do.
    Waits,
    /// All that is left cannot be converted: [`SweepStatus::failure`] says why.
    Stuck,
}

/// How far the conversion of a region is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SweepStatus {
    /// Segments converted since the conversion began, or the region was opened.
    pub converted: u64,
    /// Segments that the sweep has passed.
    pub passed: u64,
    /// Segments of the region.
    pub segments: u64,
    /// The last conversion that has failed: the segment, and what it said.
    pub failure: Option<(u64, String)>,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Sweep {
    /// None after an opening, until the conversions are given.
    way: Option<Stepwise>,
    record: Record,
    place: SweepPlace,
    /// Whether the header says that the region is swept.
    published: bool,
    /// The next segment to look at.
    next: u64,
    /// Objects that nothing leads to go when all others are converted: until then the way back
    /// may still need them.
    dropping: bool,
    to_drop: bool,
    /// Whether another sweep may have been turned round by this one.
    turned: bool,
    failures: u64,
    converted: u64,
    failure: Option<(u64, String)>,
    /// A conversion that has failed in the open transaction.
    refused: Option<(u64, String)>,
    /// Segments converted before the header says so: their entries before, and their objects.
    pending: Vec<(u64, SegmentEntry, u64)>,
    /// For the commits of conversions.
    spare: Option<WriteSet>,
    buffer: Vec<u8>,
    /// The sweep that is turned round, until the header says so.
    before: Option<Box<Sweep>>,
}

impl Sweep {
    fn new(way: Option<Stepwise>, record: Record, place: SweepPlace) -> Sweep {
        Sweep {
            way,
            record,
            place,
            published: false,
            next: 1,
            dropping: false,
            to_drop: false,
            turned: false,
            failures: 0,
            converted: 0,
            failure: None,
            refused: None,
            pending: Vec::new(),
            spare: None,
            buffer: Vec::new(),
            before: None,
        }
    }

    /// The sweep that an opened region is in.
    pub(super) fn found(
        media: &dyn Media,
        header: &Header,
    ) -> Result<Option<Box<Sweep>>, FormatError> {
        let found = Record::read(media, header)?;
        Ok(found.map(|(record, place)| {
            let mut sweep = Sweep::new(None, record, place);
            sweep.published = true;
            // The file does not tell.
            sweep.turned = true;
            Box::new(sweep)
        }))
    }

    fn failed(&mut self, segment: u64, text: String) -> RegionError {
        self.failure = Some((segment, text.clone()));
        RegionError::Convert { segment, text }
    }
}

/// How far, and whether: for whoever keeps the region.
impl<M: Media> Region<M> {
    /// From now on the region is of the schema that `way` leads to: what is read is converted,
    /// and so are segments that are changed. Nothing in the file refers to what was
    /// converted before [`Region::enter_conversion`]; until then [`Region::cancel_conversion`]
    /// takes all back. Takes no longer for a larger region. In the midst of a sweep only the
    /// way back to the schema before can be taken. Forgets an open transaction.
    ///
    /// # Errors
    ///
    /// [`StepwiseError`]; nothing has changed then.
    pub fn begin_conversion(&mut self, way: Stepwise) -> Result<(), StepwiseError> {
        self.abort();
        let inner = self.inner();
        if inner.failed {
            let text = RegionError::failed_before().to_string();
            return Err(StepwiseError::Region(text));
        }
        let schema = inner.schema();
        if way.old() != schema {
            return Err(StepwiseError::Begin);
        }
        if let Some(sweep) = &inner.sweep
            && (!sweep.published || sweep.record.old != way.new_schema())
        {
            let text = "another conversion of it has not ended".into();
            return Err(StepwiseError::Region(text));
        }
        let record = Record {
            old: way.old().to_vec(),
            new: way.new_schema().to_vec(),
            pairs: way.pairs(),
        };
        let place = inner.put_record(&record)?;
        let mut sweep = Box::new(Sweep::new(Some(way), record, place));
        sweep.before = inner.sweep.take();
        sweep.turned = sweep.before.is_some();
        // Taken back, it looks again: what changes from now on is not kept for it.
        inner.collection = None;
        inner.sweep = Some(sweep);
        Ok(())
    }

    /// Whether all segments converted by `way` fit into the region's limit. Looks at the entries
    /// of all segments.
    ///
    /// # Errors
    ///
    /// [`StepwiseError::Limit`].
    pub fn check_conversion_fits(&self, way: &Stepwise) -> Result<(), StepwiseError> {
        let inner = self.inner();
        let entries = inner.space.entries().map(|(_, entry)| entry);
        let needed = inner.space.heap_end() + way.growth(entries);
        let limit = inner.media.limit();
        if needed > limit {
            return Err(StepwiseError::Limit { needed, limit });
        }
        Ok(())
    }

    /// Takes back a conversion that was begun and not entered.
    pub fn cancel_conversion(&mut self) {
        self.abort();
        self.inner().cancel_conversion();
    }

    /// Makes a conversion that was begun last: the header says so, and what was converted since
    /// is found in the file. An open transaction stays open.
    ///
    /// # Errors
    ///
    /// [`RegionError`]: the region takes no more changes then, or what was converted could not be kept.
    pub fn enter_conversion(&mut self) -> Result<(), RegionError> {
        self.inner().enter_conversion()
    }

    /// Gives a region that was opened in the midst of a sweep its conversions.
    ///
    /// # Errors
    ///
    /// [`StepwiseError::Begin`], if they are not those that it was begun with.
    pub fn resume_conversion(&mut self, way: Stepwise) -> Result<(), StepwiseError> {
        let Some(sweep) = &mut self.inner().sweep else {
            return Err(StepwiseError::Begin);
        };
        let record = &sweep.record;
        if record.old != way.old() || record.new != way.new_schema() || record.pairs != way.pairs()
        {
            return Err(StepwiseError::Begin);
        }
        sweep.way = Some(way);
        Ok(())
    }

    /// Converts segments until `budget` has passed, one at least, unless room for it is being made
    /// ready, and frees what a conversion has left behind. To be called between two transactions.
    ///
    /// # Errors
    ///
    /// [`RegionError`]; the region takes no more changes then.
    pub fn sweep(&mut self, budget: Duration) -> Result<Swept, RegionError> {
        self.inner().sweep(budget)
    }

    /// How far a conversion is; none if there is none.
    pub fn sweep_status(&self) -> Option<SweepStatus> {
        let inner = self.inner();
        let sweep = inner.sweep.as_ref()?;
        let segments = inner.space.segment_count() - 1;
        let passed = if sweep.dropping || inner.collection.is_some() {
            segments
        } else {
            sweep.next - 1
        };
        Some(SweepStatus {
            converted: sweep.converted,
            passed,
            segments,
            failure: sweep.failure.clone(),
        })
    }

    /// Why a conversion has failed that the open transaction needed: it cannot be committed.
    pub fn refused(&self) -> Option<String> {
        let sweep = self.inner().sweep.as_ref()?;
        let (segment, text) = sweep.refused.clone()?;
        Some(RegionError::Convert { segment, text }.to_string())
    }

    /// Whether there is a sweep, entered or not.
    pub fn is_swept(&self) -> bool {
        self.inner().sweep.is_some()
    }

    /// Whether what a conversion has left behind is being looked for.
    #[cfg(test)]
    pub(crate) fn is_collecting(&self) -> bool {
        self.inner().collection.is_some()
    }

    /// Whether the conversion that made the region may have left objects behind which
    /// [`Region::sweep`] has not looked for yet. The file does not tell: an opened region has none.
    pub fn may_have_left(&self) -> bool {
        !self.inner().left.is_empty()
    }

    /// The types of which it may have left some.
    pub(crate) fn left(&self) -> &HashSet<u64> {
        &self.inner().left
    }

    pub(crate) fn set_left(&mut self, left: HashSet<u64>) {
        self.inner().left = left;
    }

    /// The encoded schema before, while there is a sweep.
    pub fn schema_before(&self) -> Option<Vec<u8>> {
        let sweep = self.inner().sweep.as_ref()?;
        Some(sweep.record.old.clone())
    }
}

impl<M: Media> Inner<M> {
    pub(super) fn schema(&self) -> &[u8] {
        let header = &self.header;
        self.media
            .bytes(header.schema_at(), header.schema_len.into())
    }

    /// Stores the record of a sweep where nothing else stands; nothing refers to it yet.
    fn put_record(&mut self, record: &Record) -> Result<SweepPlace, StepwiseError> {
        let bytes = record.encode();
        let len = bytes.len() as u64;
        let before = self.header.sweep.map(|place| u64::from(place.at));
        let before_end = self
            .header
            .sweep
            .map(|place| u64::from(place.at + place.len));
        let top = SCHEMA_MAX.checked_sub(len);
        let at = match (top, before, before_end) {
            // Beside the record that counts now, above it or below.
            (Some(top), Some(_), Some(end)) if end <= top => Some(top),
            (_, Some(before), _) => before.checked_sub(len),
            (top, ..) => top,
        };
        // The schema stands at the begin, now or when the sweep has ended.
        let plain = match self.header.sweep {
            None => record.old.len().max(record.new.len()),
            Some(_) => record.new.len(),
        };
        let Some(at) = at.filter(|&at| at >= plain as u64) else {
            let limit = SCHEMA_MAX - (plain as u64).min(SCHEMA_MAX);
            return Err(StepwiseError::TooLong { needed: len, limit });
        };
        self.media.store(SCHEMA_AT + at, &bytes);
        let done = self.media.persist(SCHEMA_AT + at, len);
        done.map_err(|error| StepwiseError::Region(error.to_string()))?;
        Ok(SweepPlace {
            at: at as u32,
            len: len as u32,
            old_len: record.old.len() as u32,
        })
    }

    /// Nothing waits for it: what a crash leaves of the record goes at the next opening.
    fn zero_record(&mut self, place: SweepPlace) {
        let (at, len) = (SCHEMA_AT + u64::from(place.at), u64::from(place.len));
        self.media.zero(at, len);
        self.media.flush(at, len);
    }

    pub(super) fn put_header(&mut self) -> Result<(), RegionError> {
        // It must not be durable before the commits that it tells of.
        if self.journal.is_some() {
            self.flush_journal()?;
        }
        let bytes = self.header.encode();
        for at in [HEADER_AT, HEADER_COPY_AT] {
            self.media.store(at, &bytes);
            let done = self.media.persist(at, bytes.len() as u64);
            self.or_failed(done)?;
        }
        Ok(())
    }

    /// A crash may have left the header as it is after a change, and its copy as it was before,
    /// or a part of either. When the header is changed next, it is the copy that must be whole.
    pub(super) fn repair_header(&mut self) -> Result<(), RegionError> {
        let page = |at| self.media.bytes(at, HEADER_LEN);
        let (first, copy) = (page(HEADER_AT), page(HEADER_COPY_AT));
        // A header that is not whole has been read from its copy.
        if Header::parse(first).is_err() || first == copy {
            return Ok(());
        }
        let first = first.to_vec();
        self.media.store(HEADER_COPY_AT, &first);
        let done = self.media.persist(HEADER_COPY_AT, HEADER_LEN);
        self.or_failed(done)
    }

    /// A crash may have left something of the record of a conversion that never began, or has
    /// ended: what follows the schema is zero in a region that is not swept.
    pub(super) fn clear_leftovers(&mut self) {
        if self.header.sweep.is_some() {
            return;
        }
        let at = SCHEMA_AT + u64::from(self.header.schema_len).next_multiple_of(8);
        let len = LOG_AT - at;
        let is_zero = |bytes: &[u8]| *bytes == [0; PAGE as usize][..bytes.len()];
        let mut used = self
            .media
            .bytes(at, self.media.used(at, len))
            .chunks(PAGE as usize);
        if used.all(is_zero) {
            return;
        }
        self.media.zero(at, len);
        self.media.flush(at, len);
    }

    fn cancel_conversion(&mut self) {
        let Some(mut sweep) = self.sweep.take_if(|sweep| !sweep.published) else {
            return;
        };
        for (number, before, live) in sweep.pending.drain(..).rev() {
            let now = self.space.entry(number).copied().unwrap_or(before);
            self.space
                .replace(number, before, (live, true), &self.media);
            if now.offset != before.offset {
                self.space.give_place_back(now.offset, now.length);
            }
        }
        self.sweep = sweep.before.take();
        self.zero_record(sweep.place);
        self.refresh_handle();
    }

    fn enter_conversion(&mut self) -> Result<(), RegionError> {
        let Some(sweep) = self.sweep.as_mut().filter(|sweep| !sweep.published) else {
            return Ok(());
        };
        let Some(way) = &sweep.way else {
            return Err(RegionError::NoConversions);
        };
        let new = &sweep.record.new;
        let header = Header {
            fingerprint: way.fingerprint(),
            schema_len: new.len() as u32,
            schema_hash: xxh3_64(new),
            sweep: Some(sweep.place),
            ..self.header.clone()
        };
        sweep.published = true;
        sweep.before = None;
        let pending = std::mem::take(&mut sweep.pending);
        self.overtake_copies();
        self.header = header;
        self.put_header()?;
        for (number, before, _) in pending {
            let Some(entry) = self.space.entry(number).copied() else {
                continue;
            };
            let mut set = WriteSet::new();
            if entry.offset != before.offset {
                let len = entry.objects_len();
                set.add_fresh(entry.offset, len);
                if let Some(fresh) = set.find_fresh(entry.offset) {
                    set.fresh_bytes_mut(fresh)
                        .copy_from_slice(self.media.bytes(entry.offset, len));
                }
            }
            self.commit_aside(number, &entry, &mut set)?;
            self.space.refresh_sum(number, &self.media);
            if entry.offset != before.offset {
                self.space.free_place(self.sequence, &before);
            }
        }
        Ok(())
    }

    fn sweep(&mut self, budget: Duration) -> Result<Swept, RegionError> {
        if self.failed {
            return Err(RegionError::failed_before());
        }
        let began = Instant::now();
        let mut looked = 0;
        loop {
            let Some(sweep) = &mut self.sweep else {
                return self.collect(began, budget);
            };
            if !sweep.published || sweep.way.is_none() {
                return Ok(Swept::Stuck);
            }
            if self.collection.is_some() {
                return self.finish_sweep(began, budget);
            }
            let number = sweep.next;
            if number >= self.space.segment_count() {
                sweep.next = 1;
                if sweep.failures > 0 {
                    sweep.failures = 0;
                    return Ok(Swept::Stuck);
                }
                if sweep.to_drop && !sweep.dropping {
                    sweep.dropping = true;
                    continue;
                }
                return self.finish_sweep(began, budget);
            }
            let entry = self.space.entry(number).copied();
            let way = entry.and_then(|entry| sweep.way.as_ref()?.way(entry.type_id));
            let now = match (way, &entry) {
                (Some(Way::Convert { size, .. }), Some(entry)) => {
                    let length = converted_length(entry, *size);
                    if !self.space.has_ready_place(length, &mut self.media) {
                        return Ok(Swept::Waits);
                    }
                    true
                }
                (Some(Way::Drop), _) => {
                    sweep.to_drop = true;
                    sweep.dropping
                }
                (way, _) => way.is_some(),
            };
            sweep.next += 1;
            looked += 1;
            if now {
                match self.convert_segment(number) {
                    Ok(()) => {}
                    Err(error @ RegionError::Sync(_)) => return Err(error),
                    Err(error) => self.passed_over(number, &error),
                }
            }
            if (now || looked % GLANCE == 0) && began.elapsed() >= budget {
                return Ok(Swept::More);
            }
        }
    }

    /// All is converted: frees what was left behind, and ends the sweep.
    fn finish_sweep(&mut self, began: Instant, budget: Duration) -> Result<Swept, RegionError> {
        let swept = self.collect(began, budget)?;
        if swept == Swept::Done {
            self.leave_sweep()?;
        }
        Ok(swept)
    }

    /// A segment that stays as it is for now.
    fn passed_over(&mut self, number: u64, error: &RegionError) {
        if let Some(sweep) = &mut self.sweep {
            sweep.failures += 1;
            if !matches!(error, RegionError::Convert { .. }) {
                sweep.failure = Some((number, error.to_string()));
            }
        }
    }

    /// The region changes by more than transactions: a copy that is being made would have parts of both.
    fn overtake_copies(&mut self) {
        if let Some(tee) = self.tee.take() {
            tee.overtake();
        }
        self.watch = None;
    }

    /// Ends the sweep: all segments are of the present schema.
    fn leave_sweep(&mut self) -> Result<(), RegionError> {
        let Some(sweep) = &self.sweep else {
            return Ok(());
        };
        let (schema, place) = (sweep.record.new.clone(), sweep.place);
        self.overtake_copies();
        let done = self.store_plain_schema(&schema);
        self.or_failed(done)?;
        self.header.sweep = None;
        self.put_header()?;
        self.zero_record(place);
        self.sweep = None;
        Ok(())
    }

    /// Stores the present schema where it stands in a region without a sweep; what is there now
    /// is the one before, which is in the record as well.
    fn store_plain_schema(&mut self, schema: &[u8]) -> std::io::Result<()> {
        let Some(place) = self.header.sweep else {
            return Ok(());
        };
        // The one before may have been longer, and there may be an older record.
        let (at, end) = (u64::from(place.at), u64::from(place.at + place.len));
        let mut bytes = schema.to_vec();
        bytes.resize(at as usize, 0);
        self.media.store(SCHEMA_AT, &bytes);
        self.media.zero(SCHEMA_AT + end, SCHEMA_MAX - end);
        self.media.flush(SCHEMA_AT + end, SCHEMA_MAX - end);
        self.media.persist(SCHEMA_AT, at)
    }
}
