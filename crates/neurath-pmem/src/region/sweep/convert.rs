//! One segment, or one object, gets its other form.

use neurath_abi::Ref;

use super::super::Inner;
use super::super::error::RegionError;
use super::super::format::{self, BITMAP_LEN, SegmentEntry};
use super::super::media::Media;
use super::super::space::{RAW, object_size};
use super::super::write_set::WriteSet;
use crate::migrate::{Way, converted_length};

impl<M: Media> Inner<M> {
    /// Commits `set`, and that segment `number` is as `entry` says, whatever transaction is open.
    pub(super) fn commit_aside(
        &mut self,
        number: u64,
        entry: &SegmentEntry,
        set: &mut WriteSet,
    ) -> Result<(), RegionError> {
        for (at, word) in self.space.entry_words(number, entry) {
            set.set_word(at, word);
        }
        std::mem::swap(&mut self.set, set);
        let done = self.commit_set();
        std::mem::swap(&mut self.set, set);
        done?;
        self.space.settle_holes(self.sequence, &mut self.media);
        Ok(())
    }

    /// The open transaction needs the object in the present schema, to change it: converts its
    /// segment if need be.
    #[inline]
    pub(in crate::region) fn arrive(
        &mut self,
        object: Ref,
        type_id: u64,
    ) -> Result<(), RegionError> {
        if self.sweep.is_none() {
            return Ok(());
        }
        match self.unconverted(object, type_id)? {
            Some(_) => self.convert_for_transaction(object.segment()),
            None => Ok(()),
        }
    }

    /// The entry of an object's segment, if it is still to become one of this type.
    fn unconverted(&self, object: Ref, type_id: u64) -> Result<Option<SegmentEntry>, RegionError> {
        let Some(sweep) = &self.sweep else {
            return Ok(None);
        };
        let Some(entry) = self.space.entry(object.segment()) else {
            return Ok(None);
        };
        if entry.type_id == type_id {
            return Ok(None);
        }
        let Some(way) = &sweep.way else {
            return Err(RegionError::NoConversions);
        };
        let way = way.way(entry.type_id);
        let leads = way.is_some_and(|way| way.type_id() == type_id);
        Ok(leads.then_some(*entry))
    }

    fn convert_for_transaction(&mut self, number: u64) -> Result<(), RegionError> {
        let done = self.convert_segment(number);
        if let (Err(RegionError::Convert { segment, text }), Some(sweep)) = (&done, &mut self.sweep)
        {
            sweep.refused = Some((*segment, text.clone()));
        }
        done
    }

    /// Refuses to commit what a conversion was needed for that has failed.
    pub(in crate::region) fn refuse_unconverted(&mut self) -> Result<(), RegionError> {
        match self.sweep.as_mut().and_then(|sweep| sweep.refused.take()) {
            Some((segment, text)) => Err(RegionError::Convert { segment, text }),
            None => Ok(()),
        }
    }

    /// The open transaction is over.
    #[inline]
    pub(in crate::region) fn forget_unconverted(&mut self) {
        if let Some(sweep) = &mut self.sweep {
            sweep.refused = None;
        }
    }

    /// Reads of an object whose segment is not converted; whether it is such a one.
    pub(in crate::region) fn read_unconverted(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        out: &mut [u8],
    ) -> Result<bool, RegionError> {
        let Some(entry) = self.unconverted(object, type_id)? else {
            return Ok(false);
        };
        let Some(sweep) = &mut self.sweep else {
            return Ok(false);
        };
        let Some(stepwise) = &sweep.way else {
            return Ok(false);
        };
        let size = match stepwise.way(entry.type_id) {
            Some(Way::Retag(_)) if sweep.published => {
                // It is no more than a commit, and needs no second look.
                self.convert_for_transaction(object.segment())?;
                return Ok(false);
            }
            Some(Way::Convert { size, .. }) => *size,
            _ => entry.object_size,
        };
        let index = u64::from(object.index());
        if index >= entry.capacity.into() {
            return Ok(false);
        }
        let (word, bit) = self.space.bit(object);
        let word = self.set.word(word).unwrap_or_else(|| self.media.word(word));
        if word & bit == 0 {
            return Ok(false);
        }
        let end = offset.saturating_add(out.len() as u64);
        if end > size.into() {
            let size = size.into();
            return Err(RegionError::Range { offset, end, size });
        }
        let old_size = u64::from(entry.object_size);
        let old = self.media.bytes(entry.offset + index * old_size, old_size);
        let copied = stepwise.copied(entry.type_id, offset, out.len() as u64);
        if let Some(from) = copied.filter(|from| from + out.len() as u64 <= old_size) {
            out.copy_from_slice(&old[from as usize..][..out.len()]);
            return Ok(true);
        }
        sweep.buffer.clear();
        sweep.buffer.resize(size as usize, 0);
        let converted = stepwise.convert(&entry, old, &[1], 1, &mut sweep.buffer);
        if let Err(text) = converted {
            sweep.refused = Some((object.segment(), text.clone()));
            return Err(sweep.failed(object.segment(), text));
        }
        out.copy_from_slice(&sweep.buffer[offset as usize..end as usize]);
        Ok(true)
    }

    /// Converts a segment, by a commit of its own unless the header does not say yet that the
    /// region is swept.
    pub(super) fn convert_segment(&mut self, number: u64) -> Result<(), RegionError> {
        self.space.know(number as u32, &self.media)?;
        let Some(before) = self.space.entry(number).copied() else {
            return Ok(());
        };
        let way = self.sweep.as_ref().and_then(|sweep| sweep.way.as_ref());
        let Some(way) = way.and_then(|way| way.way(before.type_id)).cloned() else {
            return Ok(());
        };
        let (bitmap_at, bitmap_len) = self.space.bitmap_range(number, &before);
        let mut live = [0; BITMAP_LEN as usize / 8];
        let bitmap = self.media.bytes(bitmap_at, bitmap_len).chunks_exact(8);
        for (word, bytes) in live.iter_mut().zip(bitmap) {
            *word = format::get_u64(bytes, 0);
        }
        let count = live.iter().map(|word| u64::from(word.count_ones())).sum();
        let spare = self.sweep.as_mut().and_then(|sweep| sweep.spare.take());
        let mut set = spare.unwrap_or_else(WriteSet::new);
        let entry = match way {
            Way::Retag(type_id) => SegmentEntry { type_id, ..before },
            Way::Convert { type_id, size } => {
                self.fill(number, &before, (type_id, size), &live, &mut set)?
            }
            Way::Drop => {
                for at in (bitmap_at..bitmap_at + bitmap_len).step_by(8) {
                    set.set_word(at, 0);
                }
                SegmentEntry {
                    type_id: RAW,
                    object_size: object_size(RAW, before.length) as u32,
                    capacity: 1,
                    ..before
                }
            }
        };
        let moved = entry.offset != before.offset;
        let kept = way != Way::Drop;
        let published = self.sweep.as_ref().is_some_and(|sweep| sweep.published);
        if published {
            if let Err(error) = self.commit_aside(number, &entry, &mut set) {
                if moved {
                    self.space.give_place_back(entry.offset, entry.length);
                }
                return Err(error);
            }
        } else if let Some(fresh) = set.find_fresh(entry.offset).filter(|_| moved) {
            self.media.store(entry.offset, set.fresh_bytes(fresh));
        }
        self.space
            .replace(number, entry, (count, kept), &self.media);
        if published && moved {
            self.space.free_place(self.sequence, &before);
        }
        set.clear();
        if let Some(sweep) = &mut self.sweep {
            sweep.spare = Some(set);
            sweep.converted += 1;
            if !published {
                sweep.pending.push((number, before, count));
            }
        }
        Ok(())
    }

    /// Converts the objects of a segment into `set`, for a place that is free.
    fn fill(
        &mut self,
        number: u64,
        before: &SegmentEntry,
        (type_id, size): (u64, u32),
        live: &[u64],
        set: &mut WriteSet,
    ) -> Result<SegmentEntry, RegionError> {
        let length = converted_length(before, size);
        let Inner {
            media,
            header,
            superblock,
            superblock_slot,
            space,
            ..
        } = self;
        let mut grow =
            |media: &mut M, length| Self::grow(media, superblock, superblock_slot, header, length);
        let place = space.take_lasting_place(length, media, &mut grow);
        self.failed |= matches!(place, Err(RegionError::Sync(_)));
        let offset = place?;
        let capacity = before.capacity as usize;
        set.add_fresh(offset, u64::from(before.capacity) * u64::from(size));
        let old = self.media.bytes(before.offset, before.objects_len());
        let sweep = self.sweep.as_mut();
        if let (Some(sweep), Some(fresh)) = (sweep, set.find_fresh(offset))
            && let Some(way) = &sweep.way
        {
            let converted = way.convert(before, old, live, capacity, set.fresh_bytes_mut(fresh));
            if let Err(text) = converted {
                let error = sweep.failed(number, text);
                self.space.give_place_back(offset, length);
                return Err(error);
            }
        }
        Ok(SegmentEntry {
            type_id,
            offset,
            length,
            object_size: size,
            capacity: before.capacity,
        })
    }
}
