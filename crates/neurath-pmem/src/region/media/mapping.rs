//! A mapping of a file's bytes.

use std::fs::File;
use std::io;
use std::sync::Arc;

use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes of a huge page.
const HUGE: u64 = 2 << 20;

/// Keeps a region's memory mapped, also when the region has been dropped.
#[derive(Clone, Debug)]
pub struct Mapping(Arc<Map>);

#[derive(Debug)]
struct Map {
    base: *mut u8,
    len: usize,
}

// SAFETY: an address and a length. Who may use what they lead to when is up to the media
// that the mapping belongs to.
unsafe impl Send for Map {}
// SAFETY: as above; nothing here touches the memory.
unsafe impl Sync for Map {}

/// How stores reach the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// By the page cache, or by the medium itself on DAX.
    Shared,
    /// The same, and a page fault returns only when the file system's own data are durable:
    /// DAX with flushes by the processor.
    Synchronous,
    /// Not at all: a page that was stored to is this process's own.
    Private,
}

impl Mapping {
    /// Maps `len` bytes, whether the file has them or not: what lies beyond its end is
    /// address space only.
    pub(super) fn new(file: &File, len: usize, kind: Kind) -> io::Result<Mapping> {
        let flags = match kind {
            Kind::Shared => MapFlags::SHARED,
            Kind::Synchronous => MapFlags::SHARED_VALIDATE | MapFlags::SYNC,
            // No memory is set aside for a region that may never grow to its limit.
            Kind::Private => MapFlags::PRIVATE | MapFlags::NORESERVE,
        };
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches nothing that exists.
        let base =
            unsafe { rustix::mm::mmap(std::ptr::null_mut(), len, protection, flags, file, 0) };
        let map = Map {
            base: base?.cast(),
            len,
        };
        Ok(Mapping(Arc::new(map)))
    }

    /// A mapping of bytes in memory.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn of_bytes(bytes: &[u8]) -> io::Result<Mapping> {
        use std::os::unix::fs::FileExt as _;
        let file = rustix::fs::memfd_create("bytes", rustix::fs::MemfdFlags::CLOEXEC)?;
        let file = File::from(file);
        file.write_all_at(bytes, 0)?;
        Mapping::new(&file, bytes.len(), Kind::Shared)
    }

    /// Bytes of address space.
    pub(super) fn len(&self) -> u64 {
        self.0.len as u64
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.base
    }

    /// Faults in the whole pages of a range that the file has, for storing. A hint: an older kernel
    /// refuses it, and faults them in one by one.
    pub(super) fn populate(&self, offset: u64, len: u64) {
        let start = offset.next_multiple_of(4096);
        let end = (offset + len).min(self.len()) & !4095;
        if start >= end {
            return;
        }
        #[cfg(test)]
        super::ahead::Asked::add(|work| work.faulted += end - start);
        // Huge pages first, where the file system has them (tmpfs that was mounted so): then there
        // are fewer to fault in. For less than one there is nothing to be had.
        let huge = (end - start >= HUGE).then_some(Advice::LinuxHugepage);
        for hint in huge.into_iter().chain([Advice::LinuxPopulateWrite]) {
            // SAFETY: whole pages of the mapping; the advice changes no contents.
            let _ = unsafe {
                let target = self.0.base.add(start as usize);
                rustix::mm::madvise(target.cast(), (end - start) as usize, hint)
            };
        }
    }

    pub(super) fn as_mut_ptr(&self) -> *mut u8 {
        self.0.base
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and whoever uses the memory holds the `Arc`.
        let unmapped = unsafe { rustix::mm::munmap(self.base.cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "a whole mapping can be unmapped");
    }
}
