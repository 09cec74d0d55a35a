//! A mapped file.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{Ordering, compiler_fence};

use super::Media;
use super::ahead::{self, Ahead};
use super::detect::{Backend, Detection, Durability, detect};
use super::line::{self, LineFlush};
use super::mapping::{Kind, Mapping};
use super::page::Pages;
use crate::region::error::OpenError;
use crate::region::format::PAGE;

/// A mapped file, and the way from its memory to its medium.
#[derive(Debug)]
pub struct MappedFile {
    map: Mapping,
    way: Way,
    len: u64,
    limit: u64,
    file: File,
    /// See [`Media::missing`].
    missing: u64,
    detection: Detection,
}

/// How stores get to the medium.
#[derive(Debug)]
enum Way {
    Process(Ahead),
    Byte,
    Line(LineFlush),
    Page(Box<Pages>),
}

/// The smallest and the largest limit of a region, in bytes.
const LIMITS: std::ops::RangeInclusive<u64> = (4 << 20)..=(1 << 40);

impl MappedFile {
    /// Maps `file`, which is this process's alone, up to `limit` bytes, of which
    /// it has as many as it is long. `wanted` may choose another backend than the one that
    /// was found, or none.
    pub(in crate::region) fn new(
        file: File,
        path: &Path,
        limit: u64,
        durability: Durability,
        wanted: impl FnOnce(Backend) -> Result<Backend, String>,
    ) -> Result<MappedFile, OpenError> {
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
        let metadata = file.metadata().map_err(io("look at"))?;
        let len = metadata.len();
        let missing = len.saturating_sub(metadata.blocks() * 512);
        // A region is made of whole pages.
        let limit = (limit & !(PAGE - 1)).max(len);
        let mut detection = detect(&file, durability);
        detection.outcome = detection.outcome.and_then(wanted);
        let backend = match &detection.outcome {
            Ok(backend) => *backend,
            Err(reason) => {
                return Err(OpenError::Durability {
                    path: path.into(),
                    durability,
                    reason: reason.clone(),
                });
            }
        };
        // Where no durability is asked for and lines are written all the same, that is measured.
        let synchronous = match durability {
            Durability::Power => Kind::Synchronous,
            Durability::Process => Kind::Shared,
        };
        let kind = match backend {
            Backend::Process => Kind::Shared,
            Backend::Byte | Backend::Line => synchronous,
            Backend::Page => Kind::Private,
        };
        // Beyond the file's end lies address space only: what is not within `len`
        // is never touched, and growing needs no new mapping.
        let bytes = usize::try_from(limit).map_err(|_| OpenError::Limit { limit })?;
        let map = Mapping::new(&file, bytes, kind).map_err(io("map"))?;
        let way = match backend {
            Backend::Process => {
                let ahead = Ahead::new(&file, &map, len).map_err(io("open again"))?;
                Way::Process(ahead)
            }
            Backend::Byte => Way::Byte,
            Backend::Line => {
                let flush = LineFlush::detect().ok_or_else(|| OpenError::Durability {
                    path: path.into(),
                    durability,
                    reason: "the processor cannot write cache lines".into(),
                })?;
                Way::Line(flush)
            }
            Backend::Page => {
                let pages = Pages::new(&file).map_err(io("open again"))?;
                Way::Page(Box::new(pages))
            }
        };
        Ok(MappedFile {
            map,
            way,
            len,
            limit,
            file,
            missing,
            detection,
        })
    }

    /// How it was decided what a fence waits for.
    pub(crate) fn detection(&self) -> &Detection {
        &self.detection
    }

    /// The file, opened once more under the same lock.
    pub(in crate::region) fn again(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    pub(in crate::region) fn mapping(&self) -> Mapping {
        self.map.clone()
    }

    /// Copies `len` bytes at `from` of another mapping, which may change meanwhile, to a place of this
    /// one, which is shared. The kernel does it, for which a word that is neither the old nor
    /// the new one is no harm.
    pub(crate) fn copy_from(
        &mut self,
        (source, from): (&Mapping, u64),
        to: u64,
        len: u64,
    ) -> io::Result<()> {
        assert!(
            to + len <= self.len && from + len <= source.len(),
            "in bounds"
        );
        let mut done = 0;
        while done < len {
            // SAFETY: within the source's mapping, which is kept by `source`; no reference to its
            // bytes is made. Where they cannot be read, the call fails.
            let written = unsafe {
                libc::pwrite(
                    self.file.as_raw_fd(),
                    source.as_ptr().add((from + done) as usize).cast(),
                    (len - done) as usize,
                    (to + done) as libc::off_t,
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

    /// Writes a range as it is, where stores are held back: its blocks are there from then on.
    /// Orders nothing.
    pub(in crate::region) fn write_out(&mut self, offset: u64, len: u64) {
        if self.holds_back() {
            self.flush(offset, len);
        }
    }

    fn target(&mut self, offset: u64, len: u64) -> *mut u8 {
        assert!(
            offset.checked_add(len).is_some_and(|end| end <= self.len),
            "in bounds"
        );
        // SAFETY: within the mapping, as `len <= limit`.
        unsafe { self.map.as_mut_ptr().add(offset as usize) }
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

    #[inline]
    fn flush(&mut self, offset: u64, len: u64) {
        match self.way {
            Way::Process(_) | Way::Byte => {}
            Way::Line(flush) => {
                let start = self.target(offset, len);
                // SAFETY: mapped (`target`); the processor was asked which it has.
                unsafe { flush.flush(start, len as usize) };
            }
            Way::Page(_) => {
                let start: *const u8 = self.target(offset, len);
                let Way::Page(pages) = &mut self.way else {
                    unreachable!("just matched")
                };
                // SAFETY: mapped (`target`), and nobody stores meanwhile.
                let bytes = unsafe { std::slice::from_raw_parts(start, len as usize) };
                pages.write(&self.file, offset, bytes);
            }
        }
    }

    #[inline]
    fn fence(&mut self) -> io::Result<()> {
        match &mut self.way {
            // The page cache survives the process: the order of the program is enough,
            // and the compiler must keep it.
            Way::Process(_) => compiler_fence(Ordering::SeqCst),
            Way::Byte | Way::Line(_) => line::fence(),
            Way::Page(pages) => return pages.wait(&self.file),
        }
        Ok(())
    }

    fn persist(&mut self, offset: u64, len: u64) -> io::Result<()> {
        let start: *const u8 = self.target(offset, len);
        if let Way::Page(pages) = &mut self.way {
            // SAFETY: mapped (`target`), and nobody stores meanwhile.
            let bytes = unsafe { std::slice::from_raw_parts(start, len as usize) };
            return pages.write_durably(&self.file, offset, bytes);
        }
        self.flush(offset, len);
        self.fence()
    }

    fn sync(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Page(pages) => pages.wait(&self.file),
            _ => self.file.sync_all(),
        }
    }

    fn begin_sync(&mut self) -> io::Result<()> {
        match &mut self.way {
            Way::Page(pages) => pages.begin_wait(),
            _ => Ok(()),
        }
    }

    fn end_sync(&mut self, wait: bool) -> Option<io::Result<()>> {
        match &mut self.way {
            Way::Page(pages) => pages.end_wait(wait),
            _ => Some(self.sync()),
        }
    }

    fn backend(&self) -> Backend {
        match self.way {
            Way::Process(_) => Backend::Process,
            Way::Byte => Backend::Byte,
            Way::Line(_) => Backend::Line,
            Way::Page(_) => Backend::Page,
        }
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        assert!(len >= self.len && len <= self.limit, "within the limit");
        // What was made ready needs no call, which would wait for the thread that makes more of it.
        let there = match &self.way {
            Way::Process(ahead) => ahead.ready().max(self.len),
            _ => self.len,
        };
        if len > there {
            ahead::reserve(&self.file, there, len)?;
        }
        if let Way::Process(ahead) = &mut self.way {
            ahead.grown(len);
        }
        self.len = len;
        Ok(())
    }

    fn base_mut(&mut self) -> *mut u8 {
        self.map.as_mut_ptr()
    }

    fn populate(&mut self, offset: u64, len: u64) {
        let len = (offset + len).min(self.len).saturating_sub(offset);
        let there = match &self.way {
            Way::Process(ahead) => ahead.has_pages(offset, len),
            // What is held back would become a copy, each page of it.
            way => matches!(way, Way::Page(_)),
        };
        if !there {
            self.map.populate(offset, len);
        }
    }

    fn make_ready(&mut self, end: u64) {
        let end = end.min(self.limit & !(PAGE - 1));
        if let Way::Process(ahead) = &mut self.way {
            ahead.ask(end);
        }
    }

    fn is_ready(&self, end: u64) -> bool {
        match &self.way {
            Way::Process(ahead) => ahead.ready() >= end || !ahead.will_reach(end),
            _ => true,
        }
    }

    fn give_back(&mut self, offset: u64, len: u64) -> bool {
        match &self.way {
            Way::Process(ahead) => ahead.give_back(offset, len),
            _ => false,
        }
    }

    fn given_back(&mut self) -> Vec<(u64, u64)> {
        match &self.way {
            Way::Process(ahead) => ahead.given_back(),
            _ => Vec::new(),
        }
    }

    fn missing(&self) -> u64 {
        self.missing
    }

    fn ends_at(&mut self, len: u64) {
        assert!(len <= self.len, "within the file");
        if let Way::Process(ahead) = &mut self.way {
            ahead.ends_at(len);
        }
        self.len = len;
    }

    fn take_back(&mut self, offset: u64, len: u64) -> io::Result<()> {
        match &self.way {
            Way::Process(_) => ahead::reserve(&self.file, offset, offset + len),
            _ if self.missing > 0 => ahead::reserve(&self.file, offset, offset + len),
            _ => Ok(()),
        }
    }

    fn fill_holes(&mut self, from: u64, to: u64) -> io::Result<()> {
        ahead::reserve_holes(&self.file, from, to)
    }
}
