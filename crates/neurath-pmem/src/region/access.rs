//! What a transaction does before its commit: it reads, and changes private memory.

use neurath_abi::Ref;

use super::Inner;
use super::error::RegionError;
use super::format;
use super::media::Media;
use super::space::object_size;
use super::write_set::LINE;

impl<M: Media> Inner<M> {
    pub(super) fn alloc(&mut self, type_id: u64, size: u64) -> Result<Ref, RegionError> {
        if size > neurath_abi::MAX_OBJECT_SIZE {
            let limit = neurath_abi::MAX_OBJECT_SIZE;
            return Err(RegionError::TooLarge {
                needed: size,
                limit,
            });
        }
        // The object, its bit, its segment, the segment's checksum and chunk.
        self.check_record_len(4 + format::ENTRY_WORDS as u64)?;
        let Inner {
            media,
            header,
            superblock,
            superblock_slot,
            space,
            set,
            ..
        } = self;
        let mut grow =
            |media: &mut M, length| Self::grow(media, superblock, superblock_slot, header, length);
        let object = space.alloc(type_id, size, media, set, &mut grow);
        self.failed |= matches!(object, Err(RegionError::Sync(_)));
        let object = object?;
        self.mark_dirty(object, 0, object_size(type_id, size));
        if let Some(handle) = &self.handle {
            handle.show_segments(self.space.views());
        }
        Ok(object)
    }

    pub(super) fn free(&mut self, object: Ref, type_id: u64) -> Result<(), RegionError> {
        self.arrive(object, type_id)?;
        let (offset, _) = self.space.find(object, type_id, &self.media, &self.set)?;
        self.check_record_len(2)?;
        // Its place is not to be given out before the quarantine is over.
        self.space.know(object.segment() as u32, &self.media)?;
        self.set.drop_fresh(offset);
        self.space.free(object, &self.media, &mut self.set);
        Ok(())
    }

    /// The place of `len` bytes at `offset` of an object.
    pub(super) fn place(
        &self,
        object: Ref,
        type_id: u64,
        offset: u64,
        len: u64,
    ) -> Result<(u64, u64), RegionError> {
        let (place, size) = self.space.find(object, type_id, &self.media, &self.set)?;
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok((place, size)),
            end => Err(RegionError::Range {
                offset,
                end: end.unwrap_or(u64::MAX),
                size,
            }),
        }
    }

    pub(super) fn write(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), RegionError> {
        let len = bytes.len() as u64;
        self.arrive(object, type_id)?;
        let (place, size) = self.place(object, type_id, offset, len)?;
        if let Some(fresh) = self.set.find_fresh(place) {
            let range = offset as usize..(offset + len) as usize;
            self.set.fresh_bytes_mut(fresh)[range].copy_from_slice(bytes);
            return Ok(());
        }
        if !offset.is_multiple_of(8) || !len.is_multiple_of(8) {
            return Err(RegionError::Range {
                offset,
                end: offset + len,
                size,
            });
        }
        let sum = u64::from(self.space.sum_holds(object));
        self.check_record_len(len / 8 + sum)?;
        let changed = self.set_words(place + offset, bytes);
        // What stays as it was can still be read where it is.
        if changed {
            self.space.touch(object.segment() as u32, &mut self.set);
            self.mark_dirty(object, offset, len);
        }
        Ok(())
    }

    /// Sets the words that differ from what the transaction sees at `at`; whether any did.
    fn set_words(&mut self, at: u64, bytes: &[u8]) -> bool {
        let (new, _) = bytes.as_chunks::<8>();
        let (old, _) = self.media.bytes(at, bytes.len() as u64).as_chunks::<8>();
        let set = &mut self.set;
        let before = set.words().len();
        let mut changed = false;
        let (mut at, mut known, mut line) = (at, false, u64::MAX);
        for (new, old) in new.iter().zip(old) {
            if at / LINE != line {
                line = at / LINE;
                known = set.may_hold_line(at);
            }
            // A line that has no word to be set yet, as most have not, is compared with what
            // is mapped and nothing else.
            if !known {
                if new != old {
                    set.add_word(at, u64::from_le_bytes(*new));
                }
            } else {
                let new = u64::from_le_bytes(*new);
                if set.word(at).unwrap_or(u64::from_le_bytes(*old)) != new {
                    set.set_word(at, new);
                    changed = true;
                }
            }
            at += 8;
        }
        changed || set.words().len() > before
    }

    pub(super) fn read(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), RegionError> {
        if self.sweep.is_some() && self.read_unconverted(object, type_id, offset, out)? {
            return Ok(());
        }
        let (place, _) = self.place(object, type_id, offset, out.len() as u64)?;
        if let Some(fresh) = self.set.find_fresh(place) {
            let range = offset as usize..offset as usize + out.len();
            out.copy_from_slice(&self.set.fresh_bytes(fresh)[range]);
            return Ok(());
        }
        let start = place + offset;
        out.copy_from_slice(self.media.bytes(start, out.len() as u64));
        // Words that the transaction has changed, as far as they are asked for.
        let end = start + out.len() as u64;
        for at in ((start & !7)..end).step_by(8) {
            if let Some(value) = self.set.word(at) {
                for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
                    if let Some(i) = (at + i as u64).checked_sub(start)
                        && let Some(out) = out.get_mut(i as usize)
                    {
                        *out = byte;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn fresh(&self, object: Ref, type_id: u64) -> Result<Option<&[u8]>, RegionError> {
        let (place, _) = self.space.find(object, type_id, &self.media, &self.set)?;
        Ok(self
            .set
            .find_fresh(place)
            .map(|fresh| self.set.fresh_bytes(fresh)))
    }

    /// Refuses the transaction's next step if its record could become too long.
    pub(super) fn check_record_len(&self, words: u64) -> Result<(), RegionError> {
        let needed = self.set.record_len() + words * 16;
        let limit = self.header.log.record_max();
        if needed > limit {
            return Err(RegionError::TooLarge { needed, limit });
        }
        Ok(())
    }
}
