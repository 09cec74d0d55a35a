//! The only code that stores into a region's file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;

use super::error::OpenError;
use super::format::PAGE;

/// Where a region's bytes are. All stores go through this trait, so that a test can
/// see each of them.
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
    /// Orders what was stored before what is stored from now on.
    #[track_caller]
    fn fence(&mut self);
    /// Writes everything to the medium.
    ///
    /// # Errors
    ///
    /// The operating system's; what is on the medium is unknown then.
    #[track_caller]
    fn sync(&mut self) -> std::io::Result<()>;
    /// Whether this is memory that a crash campaign looks at: regions on it grow in small
    /// steps, are the same in every run, and can be made to leave out parts of the protocol.
    #[doc(hidden)]
    #[inline(always)]
    fn simulated(&self) -> bool {
        false
    }
    /// Makes it `len` bytes long; the new bytes are zero and their place is reserved.
    ///
    /// # Errors
    ///
    /// The operating system's; nothing has changed then.
    fn grow(&mut self, len: u64) -> std::io::Result<()>;
    /// The first byte, to build an unpublished region at.
    fn base_mut(&mut self) -> *mut u8;
    /// Asks for the pages of a range beforehand. A hint.
    fn populate(&mut self, offset: u64, len: u64);

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

/// A mapped file: what was stored survives the death of the process, as the pages
/// are the kernel's.
#[derive(Debug)]
pub struct MappedFile {
    file: File,
    map: Mapping,
    len: u64,
    limit: u64,
}

/// Keeps a region's memory mapped, also when the region has been dropped.
#[derive(Clone, Debug)]
pub struct Mapping(Arc<memmap2::MmapRaw>);

impl Mapping {
    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.0.as_ptr()
    }
}

/// A file's bytes as memory of this process's own: what is stored there is not in the file.
/// The file must not be made shorter meanwhile: who has its lock, or made it, sees to that.
pub(crate) fn map_copy(file: &File) -> io::Result<memmap2::MmapMut> {
    // SAFETY: a private mapping. Others may not change the file, as said above.
    unsafe { memmap2::MmapOptions::new().map_copy(file) }
}

/// The smallest and the largest limit of a region, in bytes.
const LIMITS: std::ops::RangeInclusive<u64> = (4 << 20)..=(1 << 40);

impl MappedFile {
    /// Maps `file`, which is this process's alone, up to `limit` bytes, of which
    /// it has as many as it is long.
    pub(super) fn new(file: File, path: &Path, limit: u64) -> Result<MappedFile, OpenError> {
        let io = |action| {
            move |source| OpenError::Io {
                action,
                path: path.into(),
                source,
            }
        };
        if !LIMITS.contains(&limit) {
            return Err(OpenError::Limit { limit });
        }
        let len = file.metadata().map_err(io("look at"))?.len();
        // A region is made of whole pages.
        let limit = (limit & !(PAGE - 1)).max(len);
        // Beyond the file's end lies address space only: what is not within `len`
        // is never touched, and growing needs no new mapping.
        let map = memmap2::MmapOptions::new()
            .len(usize::try_from(limit).map_err(|_| OpenError::Limit { limit })?)
            .map_raw(&file)
            .map_err(io("map"))?;
        let map = Mapping(Arc::new(map));
        Ok(MappedFile {
            file,
            map,
            len,
            limit,
        })
    }

    pub(super) fn mapping(&self) -> Mapping {
        self.map.clone()
    }

    /// Copies a range of another mapping, which may change meanwhile, to the same place. The
    /// kernel does it, for which a word that is neither the old nor the new one is no harm.
    pub(super) fn copy_from(&mut self, source: &Mapping, offset: u64, len: u64) -> io::Result<()> {
        assert!(
            offset + len <= self.len && offset + len <= source.0.len() as u64,
            "in bounds"
        );
        let mut done = 0;
        while done < len {
            let at = offset + done;
            // SAFETY: within the source's mapping, which is kept by `source`; no reference to its
            // bytes is made. Where they cannot be read, the call fails.
            let written = unsafe {
                libc::pwrite(
                    self.file.as_raw_fd(),
                    source.as_ptr().add(at as usize).cast(),
                    (len - done) as usize,
                    at as libc::off_t,
                )
            };
            match u64::try_from(written) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => done += written,
                Err(_) => match io::Error::last_os_error() {
                    error if error.kind() == io::ErrorKind::Interrupted => {}
                    error => return Err(error),
                },
            }
        }
        Ok(())
    }

    fn target(&mut self, offset: u64, len: u64) -> *mut u8 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "in bounds"
        );
        // SAFETY: within the mapping, as `len <= limit`.
        unsafe { self.map.0.as_mut_ptr().add(offset as usize) }
    }
}

impl Media for MappedFile {
    fn base(&self) -> *const u8 {
        self.map.as_ptr()
    }

    fn len(&self) -> u64 {
        self.len
    }

    fn limit(&self) -> u64 {
        self.limit
    }

    fn store_word(&mut self, offset: u64, value: u64) {
        assert!(offset.is_multiple_of(8), "aligned");
        let target = self.target(offset, 8).cast::<u64>();
        // SAFETY: in bounds (`target`) and aligned (the mapping begins at a page).
        // Volatile, so that the store is one instruction and stays where it is.
        unsafe { target.write_volatile(value.to_le()) }
    }

    fn store(&mut self, offset: u64, bytes: &[u8]) {
        let target = self.target(offset, bytes.len() as u64);
        // SAFETY: in bounds; `bytes` is not in the mapping, whose bytes are only lent
        // out with `self` borrowed.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) }
    }

    fn zero(&mut self, offset: u64, len: u64) {
        let target = self.target(offset, len);
        // SAFETY: in bounds.
        unsafe { std::ptr::write_bytes(target, 0, len as usize) }
    }

    fn fence(&mut self) {
        // The page cache survives the process: the order of the program is enough,
        // and the compiler must keep it.
        std::sync::atomic::compiler_fence(std::sync::atomic::Ordering::SeqCst);
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.file.sync_all()
    }

    fn grow(&mut self, len: u64) -> std::io::Result<()> {
        assert!(len >= self.len && len <= self.limit, "within the limit");
        let flags = rustix::fs::FallocateFlags::empty();
        match rustix::fs::fallocate(&self.file, flags, self.len, len - self.len) {
            Ok(()) => {}
            // Where blocks cannot be reserved, a longer file must do.
            Err(rustix::io::Errno::OPNOTSUPP) => self.file.set_len(len)?,
            Err(error) => return Err(error.into()),
        }
        self.len = len;
        Ok(())
    }

    fn base_mut(&mut self) -> *mut u8 {
        self.map.0.as_mut_ptr()
    }

    fn populate(&mut self, offset: u64, len: u64) {
        let end = (offset + len).min(self.len) & !4095;
        let start = (offset + 4095) & !4095;
        if start >= end {
            return;
        }
        let target = self.target(start, end - start);
        // SAFETY: whole pages of the mapping; the advice changes no contents.
        // A hint: an older kernel refuses it, and faults the pages in one by one.
        let _ = unsafe {
            rustix::mm::madvise(
                target.cast(),
                (end - start) as usize,
                rustix::mm::Advice::LinuxPopulateWrite,
            )
        };
    }
}
