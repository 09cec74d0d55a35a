//! The only code that stores into a region's file.
//!
//! [`Media`] is what the protocols see of a medium. [`MappedFile`] is a real file, by one of
//! four backends; the crash campaign has another, which remembers what is done to it.

mod ahead;
mod copy;
mod detect;
mod file;
mod line;
mod mapping;
mod page;
mod survey;

use std::io;

#[cfg(test)]
pub(super) use ahead::Asked;
pub(crate) use copy::CopyOfFile;
pub(super) use detect::with_log;
pub use detect::{Backend, Detection, Durability, detect};
pub use file::MappedFile;
pub use mapping::Mapping;
pub use survey::Medium;

/// Where a region's bytes are. All stores go through this trait, so that a test can
/// see each of them.
///
/// A store is in memory when it returns. It is on the medium when a [`Media::fence`] has
/// returned that came after a [`Media::flush`] of it; it may be there before, unless the
/// medium [`Media::holds_back`].
///
/// Offsets are checked by the caller against [`Media::len`]; implementations
/// check again and panic, as a store in the wrong place must never happen.
#[expect(
    clippy::len_without_is_empty,
    reason = "media without bytes hold no region"
)]
pub trait Media: Send {
    /// The first byte. Stays in place as the media grows.
    fn base(&self) -> *const u8;
    /// Bytes that can be used.
    fn len(&self) -> u64;
    /// Bytes that there can ever be.
    fn limit(&self) -> u64;
    /// Stores a word; `offset` is a multiple of 8. Never torn.
    fn store_word(&mut self, offset: u64, value: u64);
    /// Stores bytes.
    fn store(&mut self, offset: u64, bytes: &[u8]);
    /// Stores zeros.
    fn zero(&mut self, offset: u64, len: u64);
    /// Sends what was stored in a range on its way to the medium. What goes wrong on the way
    /// is an error of the fence that waits for it.
    #[track_caller]
    fn flush(&mut self, offset: u64, len: u64);
    /// Waits for all that was flushed; orders what was stored before what is stored from now on.
    ///
    /// # Errors
    ///
    /// The operating system's; what is on the medium is unknown then, for good.
    #[track_caller]
    fn fence(&mut self) -> io::Result<()>;
    /// Flushes a range and waits for it alone.
    ///
    /// # Errors
    ///
    /// As for [`Media::fence`].
    #[track_caller]
    fn persist(&mut self, offset: u64, len: u64) -> io::Result<()>;
    /// Writes everything to the medium, and the file's length.
    ///
    /// # Errors
    ///
    /// As for [`Media::fence`].
    #[track_caller]
    fn sync(&mut self) -> io::Result<()>;
    /// Begins to wait for all that was flushed until now, and goes on meanwhile. One at a time.
    ///
    /// # Errors
    ///
    /// As for [`Media::fence`].
    fn begin_sync(&mut self) -> io::Result<()>;
    /// What has come of [`Media::begin_sync`]; nothing yet, unless it is to `wait`. A fence and
    /// a sync end it as well.
    #[track_caller]
    fn end_sync(&mut self, wait: bool) -> Option<io::Result<()>>;
    /// What a fence waits for.
    fn backend(&self) -> Backend;
    /// Whether this is memory that a crash campaign looks at: regions on it grow in small
    /// steps, are the same in every run, and can be made to leave out parts of the protocol.
    #[doc(hidden)]
    #[inline(always)]
    fn simulated(&self) -> bool {
        false
    }
    /// So many bytes of a range, from its beginning, may be other than zero. Simulated media know
    /// what was never stored to, so that nobody looks there for each of many images.
    #[doc(hidden)]
    #[inline(always)]
    fn used(&self, offset: u64, len: u64) -> u64 {
        let _ = offset;
        len
    }
    /// Makes it `len` bytes long; the new bytes are zero and their place is reserved.
    ///
    /// # Errors
    ///
    /// The operating system's; nothing has changed then.
    fn grow(&mut self, len: u64) -> io::Result<()>;
    /// The first byte, to build an unpublished region at.
    fn base_mut(&mut self) -> *mut u8;
    /// Bytes of a range were stored by way of [`Media::base_mut`]: simulated media note them. There
    /// was nothing before.
    #[doc(hidden)]
    #[inline(always)]
    fn was_filled(&mut self, offset: u64, len: u64) {
        let _ = (offset, len);
    }
    /// Asks for the pages of a range beforehand. A hint.
    fn populate(&mut self, offset: u64, len: u64);
    /// Asks for room up to `end` to be made ready meanwhile, where that may take its time: so that
    /// [`Media::grow`] has nothing left to do. A hint.
    #[inline(always)]
    fn make_ready(&mut self, end: u64) {
        let _ = end;
    }
    /// Whether nothing is to be gained by waiting for [`Media::make_ready`], up to `end`: the room is
    /// there, or will not come.
    #[inline(always)]
    fn is_ready(&self, end: u64) -> bool {
        let _ = end;
        true
    }

    /// Lets the memory and the blocks of a place go that nobody uses until [`Media::given_back`] has
    /// told of it; `false` if they stay, and it may be used at once.
    #[inline(always)]
    fn give_back(&mut self, offset: u64, len: u64) -> bool {
        let _ = (offset, len);
        false
    }
    /// Places that have been given back, by offset and length: each once.
    #[inline(always)]
    fn given_back(&mut self) -> Vec<(u64, u64)> {
        Vec::new()
    }
    /// Bytes of it that had no blocks when it was opened, at least: what was given back, or left out by a copy of
    /// the file.
    #[inline(always)]
    fn missing(&self) -> u64 {
        0
    }
    /// Only so many bytes of an opened file count. There may be more, which a process that died has left, with blocks
    /// or without: [`Media::grow`] sees to them.
    #[inline(always)]
    fn ends_at(&mut self, len: u64) {
        let _ = len;
    }
    /// Makes sure that a place has its blocks.
    ///
    /// # Errors
    ///
    /// The operating system's.
    #[inline(always)]
    fn take_back(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let _ = (offset, len);
        Ok(())
    }

    /// Gives blocks to what has none in a range of a file that lacks some ([`Media::missing`]).
    ///
    /// # Errors
    ///
    /// The operating system's.
    fn fill_holes(&mut self, from: u64, to: u64) -> io::Result<()> {
        let _ = (from, to);
        Ok(())
    }

    /// Whether stores stay off the medium until they are flushed ([`Backend::Page`]).
    fn holds_back(&self) -> bool {
        self.backend() == Backend::Page
    }

    /// The bytes of a range.
    ///
    /// # Panics
    ///
    /// If the range is not within [`Media::len`].
    fn bytes(&self, offset: u64, len: u64) -> &[u8] {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len()),
            "in bounds"
        );
        // SAFETY: `base` is mapped for `len()` bytes, which the assertion keeps the
        // range in, and nobody stores while `self` is borrowed: all stores take
        // `&mut self`, and the file has one writer, which holds its lock.
        unsafe { std::slice::from_raw_parts(self.base().add(offset as usize), len as usize) }
    }

    /// The word at `offset`.
    fn word(&self, offset: u64) -> u64 {
        let mut le = [0; 8];
        le.copy_from_slice(self.bytes(offset, 8));
        u64::from_le_bytes(le)
    }
}
