//! The end of a conversion that has left objects behind: those that nothing leads to any more go.
//! A sweep ends with it; after a conversion into a new file it begins when the region is used.
//!
//! Types do not tell which these are. A collection that a version dropped has nodes whose type
//! another one's have as well, or blocks, which are all alike; and when a sweep was turned round in its midst,
//! owners that were converted by then have forgotten what they own, and others have not. So it is looked for from the
//! root on, once all is converted: only where objects of such types can be, and a bit at a time.
//! What is committed meanwhile does not count. The words that it changes are kept as they were when
//! the search began, and so the search sees the state of one moment. What nothing led to at that
//! moment, nothing can lead to later.
//!
//! All of it is in memory: after a restart the search begins anew. What it found goes by a commit
//! for each segment.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use neurath_abi::Ref;

use super::super::Inner;
use super::super::error::RegionError;
use super::super::format::{self, ROOT_AT, SegmentEntry};
use super::super::media::Media;
use super::super::space::{ClassHasher, RAW, Space};
use super::super::write_set::WriteSet;
use super::plan::Plan;
use super::reach::{Still, Walk};
use super::{Sweep, Swept};
use crate::migrate::{Way, lost_types};
use crate::schema::SchemaDesc;

/// Objects that are looked into before the clock is.
const GLANCE: u32 = 16;

/// Words that are kept at most; if more change while it is searched, what was left behind stays. Few in
/// tests, so that it happens.
const KEPT_MAX: usize = if cfg!(test) { 1 << 16 } else { 4 << 20 };

/// Tables that they are kept in.
const WORD_TABLES: usize = 256;

/// What was there when the search began, as far as it is not there any more.
#[derive(Debug, Default)]
struct Kept {
    words: Words,
    /// Of segments that are of another kind now.
    entries: HashMap<u64, SegmentEntry>,
    /// One more than the highest number of a segment.
    segments: u64,
}

/// Words by their places. A table that grows moves all that it has: so there are many, and each
/// moves a little.
#[derive(Debug)]
struct Words {
    parts: Vec<HashMap<u64, u64, BuildHasherDefault<ClassHasher>>>,
    len: usize,
}

impl Default for Words {
    fn default() -> Words {
        Words {
            parts: (0..WORD_TABLES).map(|_| HashMap::default()).collect(),
            len: 0,
        }
    }
}

impl Words {
    fn table(at: u64) -> usize {
        // Words side by side mostly change together.
        (at / 8 % WORD_TABLES as u64) as usize
    }

    fn get(&self, at: u64) -> Option<u64> {
        self.parts[Words::table(at)].get(&at).copied()
    }

    /// Keeps what stands at a place, unless it is kept already.
    fn keep(&mut self, at: u64, media: &impl Media) {
        if let Entry::Vacant(free) = self.parts[Words::table(at)].entry(at) {
            free.insert(media.word(at));
            self.len += 1;
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(in crate::region) struct Collection {
    plan: Plan,
    walk: Walk,
    kept: Kept,
    /// The types of what may have been left.
    wanted: HashSet<u64>,
    /// Once all is found: the next segment to look at.
    next: Option<u64>,
}

/// The region as it was when the search began.
struct Then<'a, M> {
    media: &'a M,
    space: &'a Space,
    kept: &'a Kept,
}

impl<M: Media> Then<'_, M> {
    fn entry(&self, number: u64) -> Option<&SegmentEntry> {
        if number >= self.kept.segments {
            return None;
        }
        let before = self.kept.entries.get(&number);
        before.or_else(|| self.space.entry(number))
    }
}

impl<M: Media> Still for Then<'_, M> {
    fn word(&self, at: u64) -> u64 {
        match self.kept.words.get(at) {
            Some(word) => word,
            // What a damaged state says is nowhere.
            None if at >= self.media.len() => 0,
            None => self.media.word(at),
        }
    }

    fn find(&self, object: Ref, type_id: u64) -> Option<u64> {
        let entry = self.entry(object.segment())?;
        let index = u64::from(object.index());
        if entry.type_id != type_id || index >= entry.capacity.into() {
            return None;
        }
        let (word, bit) = self.space.bit(object);
        let lives = self.word(word) & bit != 0;
        lives.then(|| entry.offset + index * u64::from(entry.object_size))
    }
}

impl Sweep {
    /// The types of which objects may have been left behind, by the sweep or before it; none if that cannot be.
    fn left_behind(&self, before: &HashSet<u64>) -> HashSet<u64> {
        let decode = |bytes: &[u8]| SchemaDesc::decode(bytes).ok();
        let (Some(old), Some(new)) = (decode(&self.record.old), decode(&self.record.new)) else {
            return HashSet::new();
        };
        let way = |type_id| self.way.as_ref().and_then(|way| way.way(type_id));
        let now = |type_id| way(type_id).map_or(type_id, Way::type_id);
        let lost = lost_types(&old, &new);
        let mut left: HashSet<u64> = lost.union(before).copied().map(now).collect();
        if self.turned {
            left.extend(lost_types(&new, &old));
        }
        let types = new.object_types();
        left.retain(|&id| id == RAW || types.iter().any(|one| one.type_id() == id));
        left
    }
}

impl<M: Media> Inner<M> {
    /// Searches on, until `budget` has passed, and frees what was found; [`Swept::Done`] once
    /// nothing is left to do.
    pub(super) fn collect(
        &mut self,
        began: Instant,
        budget: Duration,
    ) -> Result<Swept, RegionError> {
        let begun = self.collection.take();
        let Some(mut collection) = begun.or_else(|| self.begin_collection()) else {
            self.left.clear();
            return Ok(Swept::Done);
        };
        loop {
            let more = match &mut collection.next {
                None => self.search(&mut collection),
                Some(next) => {
                    let number = *next;
                    *next += 1;
                    if number < collection.kept.segments {
                        // What cannot be freed stays.
                        let freed = self.free_left(&collection, number);
                        if let Err(error @ RegionError::Sync(_)) = freed {
                            return Err(error);
                        }
                    }
                    number < collection.kept.segments
                }
            };
            if !more || collection.kept.words.len > KEPT_MAX {
                self.left.clear();
                return Ok(Swept::Done);
            }
            if began.elapsed() >= budget {
                self.collection = Some(collection);
                return Ok(Swept::More);
            }
        }
    }

    fn begin_collection(&self) -> Option<Box<Collection>> {
        let root = Ref(self.media.word(ROOT_AT));
        let wanted = match &self.sweep {
            Some(sweep) => sweep.left_behind(&self.left),
            None => self.left.clone(),
        };
        if wanted.is_empty() || root.is_null() {
            return None;
        }
        let schema = SchemaDesc::decode(self.schema()).ok()?;
        let plan = Plan::new(&schema, &wanted)?;
        let kept = Kept {
            segments: self.space.segment_count(),
            ..Kept::default()
        };
        let then = Then {
            media: &self.media,
            space: &self.space,
            kept: &kept,
        };
        let walk = Walk::new(&plan, root, &then).ok()?;
        Some(Box::new(Collection {
            plan,
            walk,
            kept,
            wanted,
            next: None,
        }))
    }

    /// Looks into some objects; whether there is more to do. Of a damaged state nothing is freed.
    fn search(&self, collection: &mut Collection) -> bool {
        let Collection {
            plan, walk, kept, ..
        } = collection;
        let then = Then {
            media: &self.media,
            space: &self.space,
            kept,
        };
        for _ in 0..GLANCE {
            match walk.step(plan, &then) {
                Ok(true) => {}
                Ok(false) => {
                    collection.next = Some(1);
                    return true;
                }
                Err(_) => return false,
            }
        }
        true
    }

    /// Frees what of a segment nothing led to.
    fn free_left(&mut self, collection: &Collection, number: u64) -> Result<(), RegionError> {
        let Some(entry) = self.space.entry(number).copied() else {
            return Ok(());
        };
        // What is of another kind now had nothing left in it.
        let changed = collection.kept.entries.contains_key(&number);
        if changed || !collection.wanted.contains(&entry.type_id) {
            return Ok(());
        }
        let (bitmap_at, bitmap_len) = self.space.bitmap_range(number, &entry);
        let mut set = WriteSet::new();
        let mut left = Vec::new();
        for (i, at) in (bitmap_at..bitmap_at + bitmap_len).step_by(8).enumerate() {
            let now = self.media.word(at);
            let then = collection.kept.words.get(at).unwrap_or(now);
            let unreached = now & then & !collection.walk.marks.word(number, i);
            if unreached != 0 {
                set.set_word(at, now & !unreached);
                left.push((i, unreached));
            }
        }
        if left.is_empty() {
            return Ok(());
        }
        self.space.know(number as u32, &self.media)?;
        self.commit_aside(number, &entry, &mut set)?;
        self.space.refresh_sum(number, &self.media);
        self.space.left(self.sequence, number as u32, &left);
        Ok(())
    }

    /// The record is about to be committed: what it changes is kept as it is.
    #[inline]
    pub(in crate::region) fn keep_for_collection(&mut self, words: usize) {
        if let Some(collection) = &mut self.collection {
            let kept = &mut collection.kept;
            if kept.words.len <= KEPT_MAX {
                kept.before(&self.media, &self.space, &self.record, words);
            }
        }
    }
}

impl Kept {
    fn before<M: Media>(&mut self, media: &M, space: &Space, record: &[u8], words: usize) {
        for (number, entry) in space.retyped() {
            let number = u64::from(number);
            if number < self.segments {
                self.entries.entry(number).or_insert(entry);
            }
        }
        for (at, _) in format::record_pairs(record).take(words) {
            self.words.keep(at, media);
        }
        // A new object may stand where another one did.
        for object in space.reserved() {
            let number = object.segment();
            let Some(entry) = space.entry(number).filter(|_| number < self.segments) else {
                continue;
            };
            let then = Then {
                media,
                space,
                kept: self,
            };
            let (word, bit) = space.bit(object);
            let was_there = self.entries.contains_key(&number) || then.word(word) & bit != 0;
            if !was_there || then.entry(number).is_none_or(|entry| entry.type_id == RAW) {
                // Nothing looks into a block.
                continue;
            }
            let size = u64::from(entry.object_size);
            let at = entry.offset + u64::from(object.index()) * size;
            for at in (at..at + size).step_by(8) {
                self.words.keep(at, media);
            }
        }
    }
}
