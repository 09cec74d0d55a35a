//! A component's side of a transaction.

use std::marker::PhantomData;
use std::mem::MaybeUninit;

use neurath_abi::{Ref, RegionSlot, SegmentView, Status};

use crate::region::RAW;
use crate::types::{P, Pmem, as_bytes, from_bytes};

/// Why a transaction cannot go on. The message being served should be refused: what
/// it changed so far is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TxError {
    /// No room in the region.
    #[error("the region is full")]
    Full,
    /// More than one commit record can hold.
    #[error("the message changes more than one transaction can hold")]
    TooLarge,
    /// A reference to nothing, or to something else.
    #[error("a reference leads to no object of its type; the state is damaged")]
    BadRef,
    /// Bytes that are no value of the type.
    #[error("an object holds no value of its type; the state is damaged")]
    Invalid,
    /// This version has been replaced.
    #[error("the handle leads to a dummy: this version has been replaced")]
    Dummy,
    /// The node refused.
    #[error("the node refused the change")]
    Refused,
}

fn check(status: Status) -> Result<(), TxError> {
    Err(match status {
        Status::OK => return Ok(()),
        Status::FULL => TxError::Full,
        Status::TOO_LARGE => TxError::TooLarge,
        Status::BAD_REF => TxError::BadRef,
        Status::DUMMY => TxError::Dummy,
        _ => TxError::Refused,
    })
}

/// Values up to this size are rounded up to whole words on the stack when written.
const ROUNDED: usize = 512;

/// The transaction of the message being served: all reading and changing of a region.
///
/// It sees its own changes. They last when the message has been served without an
/// error, all together, and vanish otherwise.
#[derive(Debug)]
pub struct Tx<'a> {
    slot: *const RegionSlot,
    lifetime: PhantomData<&'a mut RegionSlot>,
}

impl<'a> Tx<'a> {
    /// The transaction of the region behind `slot`.
    ///
    /// # Safety
    ///
    /// For `'a`, `slot` is a slot that a node keeps, attached or a dummy; nothing else
    /// uses its region; and it stays on this thread.
    pub unsafe fn new(slot: *const RegionSlot) -> Tx<'a> {
        Tx {
            slot,
            lifetime: PhantomData,
        }
    }

    fn slot(&self) -> RegionSlot {
        // SAFETY: valid for `'a` (`new`). A copy, as a call changes what is behind it.
        unsafe { self.slot.read() }
    }

    /// The root object.
    pub fn root<T: Pmem>(&self) -> P<T> {
        P::from_ref(self.slot().root)
    }

    /// A copy of an object.
    ///
    /// # Errors
    ///
    /// If `object` refers to no object of the type, or its bytes are no value of it.
    #[inline]
    pub fn read<T: Pmem>(&self, object: P<T>) -> Result<T, TxError> {
        self.read_at(object.to_ref(), T::TYPE_ID, 0)
    }

    /// Replaces an object's value. Only what differs costs.
    ///
    /// # Errors
    ///
    /// If `object` refers to no object of the type, or the transaction is too large.
    #[inline]
    pub fn write<T: Pmem>(&mut self, object: P<T>, value: &T) -> Result<(), TxError> {
        self.write_at(object.to_ref(), T::TYPE_ID, 0, value)
    }

    /// Changes an object.
    ///
    /// # Errors
    ///
    /// As [`Tx::read`] and [`Tx::write`].
    pub fn update<T: Pmem, R>(
        &mut self,
        object: P<T>,
        change: impl FnOnce(&mut T) -> R,
    ) -> Result<R, TxError> {
        let mut value = self.read(object)?;
        let result = change(&mut value);
        self.write(object, &value)?;
        Ok(result)
    }

    /// Makes an object.
    ///
    /// # Errors
    ///
    /// [`TxError::Full`] or [`TxError::TooLarge`].
    pub fn alloc<T: Pmem>(&mut self, value: &T) -> Result<P<T>, TxError> {
        let object = self.alloc_untyped(T::TYPE_ID, size_of::<T>() as u64)?;
        self.write_at(object, T::TYPE_ID, 0, value)?;
        Ok(P::from_ref(object))
    }

    /// Frees an object, not what it owns: see [`Pmem::free_owned`].
    ///
    /// # Errors
    ///
    /// If `object` refers to no object of the type.
    pub fn free<T: Pmem>(&mut self, object: P<T>) -> Result<(), TxError> {
        self.free_untyped(object.to_ref(), T::TYPE_ID)
    }

    /// Makes an object of `size` zero bytes: how a collection of one's own makes its parts.
    /// After an upgrade, only what a field of the state refers to is sure to stay: see [`P`].
    ///
    /// # Errors
    ///
    /// As [`Tx::alloc`].
    pub fn alloc_untyped(&mut self, type_id: u64, size: u64) -> Result<Ref, TxError> {
        #[cfg(test)]
        work::count(|work| work.made += 1);
        let slot = self.slot();
        let mut object = Ref::NULL;
        // SAFETY: the slot's functions take its owner; `object` is ours.
        check(unsafe { ((*slot.ops).alloc)(slot.owner, type_id, size, &raw mut object) })?;
        Ok(object)
    }

    /// Frees an object by its type's id.
    ///
    /// # Errors
    ///
    /// If `object` refers to no object of the type.
    pub fn free_untyped(&mut self, object: Ref, type_id: u64) -> Result<(), TxError> {
        #[cfg(test)]
        work::count(|work| work.freed += 1);
        let slot = self.slot();
        // SAFETY: the slot's functions take its owner.
        check(unsafe { ((*slot.ops).free)(slot.owner, object, type_id) })
    }

    /// The value at `offset` of an object.
    ///
    /// # Errors
    ///
    /// As [`Tx::read`].
    #[inline]
    pub fn read_at<T: Pmem>(&self, object: Ref, type_id: u64, offset: u64) -> Result<T, TxError> {
        #[cfg(test)]
        work::count(|work| work.reads += 1);
        let slot = self.slot();
        let end = offset + size_of::<T>() as u64;
        let view = match view(&slot, object, type_id) {
            Ok(view) => view,
            Err(TxError::BadRef) => return self.read_through(&slot, object, type_id, offset),
            Err(error) => return Err(error),
        };
        if end > u64::from(view.object_size) {
            return Err(TxError::BadRef);
        }
        let size = size_of::<T>();
        if slot.dirty == 0 || !may_be_dirty(&slot, object, offset, end) {
            let at = usize::from(object.index()) * view.object_size as usize + offset as usize;
            // SAFETY: the view's object is mapped, `at + size` within it as just checked,
            // and nobody stores while this thread serves the message.
            let bytes = unsafe { std::slice::from_raw_parts(view.base.add(at), size) };
            return from_bytes(bytes).ok_or(TxError::Invalid);
        }
        self.read_through(&slot, object, type_id, offset)
    }

    /// The same as the node sees it: with what the transaction has changed, and of a segment that
    /// still has objects of another version's type.
    #[cold]
    fn read_through<T: Pmem>(
        &self,
        slot: &RegionSlot,
        object: Ref,
        type_id: u64,
        offset: u64,
    ) -> Result<T, TxError> {
        let size = size_of::<T>();
        if size == 0 {
            // The node would not look for anything.
            return Err(TxError::BadRef);
        }
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the slot's functions take its owner; the buffer has `size` bytes.
        let status = unsafe {
            let out = value.as_mut_ptr().cast::<u8>();
            ((*slot.ops).read)(slot.owner, object, type_id, offset, out, size as u64)
        };
        check(status)?;
        // SAFETY: filled by `read`.
        let bytes = unsafe { std::slice::from_raw_parts(value.as_ptr().cast(), size) };
        from_bytes(bytes).ok_or(TxError::Invalid)
    }

    /// Replaces the value at `offset` of an object; both ends are of whole words, or the
    /// rest of the last word belongs to the value and is set to zero.
    ///
    /// # Errors
    ///
    /// As [`Tx::write`].
    #[inline]
    pub fn write_at<T: Pmem>(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        value: &T,
    ) -> Result<(), TxError> {
        const { assert!(size_of::<T>() <= ROUNDED || size_of::<T>().is_multiple_of(8)) };
        let bytes = as_bytes(value);
        if bytes.len().is_multiple_of(8) {
            return self.write_bytes_at(object, type_id, offset, bytes);
        }
        let mut rounded = [0; ROUNDED];
        rounded[..bytes.len()].copy_from_slice(bytes);
        let len = bytes.len().next_multiple_of(8);
        self.write_bytes_at(object, type_id, offset, &rounded[..len])
    }

    /// Replaces the value at `offset` of an object, and leaves what else is in its first and
    /// last word: for elements in a row that are no whole words.
    ///
    /// # Errors
    ///
    /// As [`Tx::write`].
    pub fn write_part<T: Pmem>(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        value: &T,
    ) -> Result<(), TxError> {
        let bytes = as_bytes(value);
        if bytes.len().is_multiple_of(8) && offset.is_multiple_of(8) {
            return self.write_bytes_at(object, type_id, offset, bytes);
        }
        let (mut at, end) = (offset & !7, offset + bytes.len() as u64);
        while at < end {
            let mut word = self.read_at::<u64>(object, type_id, at)?.to_le_bytes();
            for (place, byte) in (at..).zip(&mut word) {
                if (offset..end).contains(&place) {
                    *byte = bytes[(place - offset) as usize];
                }
            }
            self.write_bytes_at(object, type_id, at, &word)?;
            at += 8;
        }
        Ok(())
    }

    /// Writes the same value `count` times in a row, from a whole word on; the rest of the
    /// last word is set to zero.
    ///
    /// # Errors
    ///
    /// As [`Tx::write`].
    pub fn fill_at<T: Pmem>(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        value: &T,
        count: usize,
    ) -> Result<(), TxError> {
        let mut bytes = as_bytes(value).repeat(count);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        self.write_bytes_at(object, type_id, offset, &bytes)
    }

    fn write_bytes_at(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), TxError> {
        #[cfg(test)]
        work::count(|work| work.words += bytes.len() as u64 / 8);
        let slot = self.slot();
        let len = bytes.len() as u64;
        // SAFETY: the slot's functions take its owner; `bytes` are ours.
        check(unsafe {
            ((*slot.ops).write)(slot.owner, object, type_id, offset, bytes.as_ptr(), len)
        })
    }

    /// Makes a raw block that begins with `bytes`. Keep it in a [`Bytes`](crate::Bytes): a number in
    /// the state does not refer to it, and an upgrade that drops other bytes may free it.
    ///
    /// # Errors
    ///
    /// As [`Tx::alloc`].
    pub fn alloc_bytes(&mut self, bytes: &[u8]) -> Result<Ref, TxError> {
        let object = self.alloc_untyped(RAW, bytes.len() as u64)?;
        self.write_bytes_at(object, RAW, 0, bytes)?;
        Ok(object)
    }

    /// The first `len` bytes of a raw block. Blocks are written once, by
    /// [`Tx::alloc_bytes`], so that they can be lent out.
    ///
    /// # Errors
    ///
    /// If `block` refers to no raw block of so many bytes.
    pub fn bytes(&self, block: Ref, len: u64) -> Result<&[u8], TxError> {
        let slot = self.slot();
        let view = view(&slot, block, RAW)?;
        let size = u64::from(view.object_size);
        if len > size {
            return Err(TxError::BadRef);
        }
        let mut start = view
            .base
            .wrapping_add(usize::from(block.index()) * size as usize);
        if slot.dirty & RegionSlot::line_bit(block, 0) != 0 {
            let (mut fresh, mut fresh_len) = (std::ptr::null(), 0);
            // SAFETY: the slot's functions take its owner; the variables are ours.
            let status = unsafe {
                let out = &raw mut fresh;
                ((*slot.ops).fresh)(slot.owner, block, RAW, out, &raw mut fresh_len)
            };
            match status {
                Status::NOT_FOUND => {}
                status => {
                    check(status)?;
                    start = fresh;
                }
            }
        }
        // SAFETY: a mapped object, or one of the transaction's own, of `size` bytes, which
        // does not change while `self` is borrowed: every change takes `&mut self`.
        Ok(unsafe { std::slice::from_raw_parts(start, len as usize) })
    }

    /// Frees a raw block.
    ///
    /// # Errors
    ///
    /// If `block` refers to none.
    pub fn free_bytes(&mut self, block: Ref) -> Result<(), TxError> {
        self.free_untyped(block, RAW)
    }
}

/// Where the object's segment is mapped.
#[inline]
fn view(slot: &RegionSlot, object: Ref, type_id: u64) -> Result<SegmentView, TxError> {
    if object.segment() >= slot.segment_count {
        let dummy = slot.segment_count == 0;
        return Err(if dummy {
            TxError::Dummy
        } else {
            TxError::BadRef
        });
    }
    // SAFETY: the node keeps `segment_count` views there.
    let view = unsafe { *slot.segments.add(object.segment() as usize) };
    if view.type_id != type_id || u32::from(object.index()) >= view.capacity {
        return Err(TxError::BadRef);
    }
    Ok(view)
}

/// Whether the transaction may have changed a line of `offset..end` of the object.
fn may_be_dirty(slot: &RegionSlot, object: Ref, offset: u64, end: u64) -> bool {
    (offset / 64..=(end.max(1) - 1) / 64)
        .any(|line| slot.dirty & RegionSlot::line_bit(object, line) != 0)
}

/// What transactions of this thread have done: for tests that operations are bounded.
#[cfg(test)]
pub(crate) mod work {
    use std::cell::Cell;

    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub(crate) struct Work {
        pub(crate) reads: u64,
        pub(crate) words: u64,
        pub(crate) made: u64,
        pub(crate) freed: u64,
    }

    thread_local! {
        static WORK: Cell<Work> = const { Cell::new(Work { reads: 0, words: 0, made: 0, freed: 0 }) };
    }

    pub(crate) fn count(change: impl FnOnce(&mut Work)) {
        let mut work = WORK.get();
        change(&mut work);
        WORK.set(work);
    }

    /// What was done since it was last asked.
    pub(crate) fn take() -> Work {
        WORK.take()
    }
}
