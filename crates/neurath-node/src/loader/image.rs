//! A loaded library as it lies in memory.

use std::{
    ffi::{CStr, OsStr, c_int, c_void},
    io,
    os::unix::ffi::OsStrExt,
    path::Path,
};

const DT_PLTRELSZ: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SYMTAB: u64 = 6;
const DT_RELA: u64 = 7;
const DT_RELASZ: u64 = 8;
const DT_JMPREL: u64 = 23;
const R_X86_64_64: u32 = 1;
const R_X86_64_GLOB_DAT: u32 = 6;
const R_X86_64_JUMP_SLOT: u32 = 7;

#[derive(Debug, Clone, Copy)]
struct Range {
    start: usize,
    end: usize,
    flags: u32,
}

impl Range {
    fn contains(&self, address: usize, len: usize) -> bool {
        address >= self.start && address.checked_add(len).is_some_and(|end| end <= self.end)
    }
}

/// Where a loaded library lies.
#[derive(Debug, Clone)]
pub struct Image {
    base: usize,
    dynamic: usize,
    segments: Vec<Range>,
    read_only_after_relocation: Option<Range>,
}

/// What [`each_object`] passes on.
struct Search<'a> {
    visit: &'a mut dyn FnMut(&libc::dl_phdr_info, &Path) -> bool,
}

/// Calls `visit` for each object of the process, until it answers true.
fn each_object(visit: &mut dyn FnMut(&libc::dl_phdr_info, &Path) -> bool) {
    unsafe extern "C" fn callback(
        info: *mut libc::dl_phdr_info,
        _size: usize,
        data: *mut c_void,
    ) -> c_int {
        // SAFETY: `data` is the search below, borrowed by nobody else meanwhile.
        let search = unsafe { &mut *data.cast::<Search<'_>>() };
        // SAFETY: the C library passes a valid description.
        let info = unsafe { &*info };
        let name: &[u8] = if info.dlpi_name.is_null() {
            b""
        } else {
            // SAFETY: the C library's own string, alive during the walk.
            unsafe { CStr::from_ptr(info.dlpi_name) }.to_bytes()
        };
        c_int::from((search.visit)(info, Path::new(OsStr::from_bytes(name))))
    }
    let mut search = Search { visit };
    // SAFETY: the callback fits its type, does not unwind (the visitors below do not
    // panic), and `search` outlives the walk.
    unsafe { libc::dl_iterate_phdr(Some(callback), (&raw mut search).cast()) };
}

/// So much of a part of a library is faulted in, in bytes.
const TOUCHED: usize = 64 << 20;

/// So much of its own data: what stores made memory of stays so, and a large table of zeros may never be
/// used.
const TOUCHED_DATA: usize = 1 << 20;

/// Gives the kernel a piece of advice for pages of a loaded object, for the first `most` bytes.
fn populate(pages: &std::ops::Range<usize>, most: usize, advice: c_int) {
    if pages.is_empty() {
        return;
    }
    let len = (pages.end - pages.start).min(most);
    // SAFETY: pages of an object that is loaded; faulting them in changes no contents. Where there are none,
    // or they may not be written to, the call fails.
    let _ = unsafe { libc::madvise(pages.start as *mut c_void, len, advice) };
}

/// Whether an object that was opened by `path` is in this process.
pub fn is_loaded(path: &Path) -> bool {
    let mut found = false;
    each_object(&mut |_, name| {
        found |= name == path;
        found
    });
    found
}

impl Image {
    /// Finds the object that was opened by `path`.
    pub fn find(path: &Path) -> Option<Image> {
        let mut image = None;
        each_object(&mut |info, name| {
            if name == path {
                image = Some(Image::read(info));
            }
            image.is_some()
        });
        image
    }

    fn read(info: &libc::dl_phdr_info) -> Image {
        let headers: &[libc::Elf64_Phdr] = if info.dlpi_phdr.is_null() {
            &[]
        } else {
            // SAFETY: the object's program headers, mapped with it.
            unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) }
        };
        let base = info.dlpi_addr as usize;
        let mut image = Image {
            base,
            dynamic: 0,
            segments: Vec::new(),
            read_only_after_relocation: None,
        };
        for header in headers {
            let start = base.wrapping_add(header.p_vaddr as usize);
            let range = Range {
                start,
                end: start.saturating_add(header.p_memsz as usize),
                flags: header.p_flags,
            };
            match header.p_type {
                libc::PT_LOAD => image.segments.push(range),
                libc::PT_DYNAMIC => image.dynamic = start,
                libc::PT_GNU_RELRO => image.read_only_after_relocation = Some(range),
                _ => {}
            }
        }
        image
    }

    /// Faults in the pages of it, for reading, and those of its own data for writing: what is called first
    /// in the pause of an upgrade, and the first message after it, need not. Not all of a very large one. A
    /// hint: an older kernel refuses it, and faults them in one by one.
    pub fn touch(&self) {
        for segment in &self.segments {
            let pages = segment.start & !0xfff..segment.end.next_multiple_of(0x1000);
            let readable = segment.flags & libc::PF_R != 0;
            if readable {
                populate(&pages, TOUCHED, libc::MADV_POPULATE_READ);
            }
            if segment.flags & libc::PF_W != 0 {
                // What was relocated cannot be written to any more.
                let relocated = self.read_only_after_relocation.map_or(0, |range| range.end);
                let own = pages.start.max(relocated.next_multiple_of(0x1000))..pages.end;
                populate(&own, TOUCHED_DATA, libc::MADV_POPULATE_WRITE);
            }
        }
    }

    /// Whether `len` bytes at `address` are readable memory of this library.
    pub fn contains(&self, address: usize, len: usize) -> bool {
        let of = |range: &Range| range.flags & libc::PF_R != 0 && range.contains(address, len);
        self.segments.iter().any(of)
    }

    /// Whether `address` is in this library's code.
    pub fn is_code(&self, address: usize) -> bool {
        let of = |range: &Range| range.flags & libc::PF_X != 0 && range.contains(address, 1);
        self.segments.iter().any(of)
    }

    /// Signals whose handler lies in this library.
    pub fn signal_handlers(&self) -> Vec<c_int> {
        (1..=64)
            .filter(|signal| {
                let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
                // SAFETY: only asks, and writes to a place of the right type.
                let result =
                    unsafe { libc::sigaction(*signal, std::ptr::null(), action.as_mut_ptr()) };
                // SAFETY: all bit patterns of it are valid, and it began as zeros.
                let action = unsafe { action.assume_init() };
                result == 0 && self.is_code(action.sa_sigaction)
            })
            .collect()
    }

    /// Puts other functions in the place of what this library imports by those names.
    /// No thread may be running its code.
    pub(super) fn redirect(&self, targets: &[(&str, *const c_void)]) -> io::Result<usize> {
        let mut tags = [(DT_STRTAB, 0), (DT_SYMTAB, 0), (DT_RELA, 0), (DT_RELASZ, 0)]
            .into_iter()
            .chain([(DT_JMPREL, 0), (DT_PLTRELSZ, 0)])
            .collect::<Vec<(u64, usize)>>();
        let mut at = self.dynamic;
        while self.contains(at, 16) {
            // SAFETY: within a readable segment; the loader has read this table itself.
            let [tag, value] = unsafe { (at as *const [u64; 2]).read_unaligned() };
            if tag == 0 {
                break;
            }
            if let Some(entry) = tags.iter_mut().find(|entry| entry.0 == tag) {
                entry.1 = value as usize;
            }
            at += 16;
        }
        // glibc has turned the addresses in this table into absolute ones; musl has not.
        let absolute = |value: usize| {
            if value < self.base {
                self.base + value
            } else {
                value
            }
        };
        let [strings, symbols, rela, rela_size, jump, jump_size] =
            std::array::from_fn(|index| tags[index].1);
        let mut changed = 0;
        for (table, size) in [(rela, rela_size), (jump, jump_size)] {
            if table == 0 || strings == 0 || symbols == 0 {
                continue;
            }
            for entry in (0..size / 24).map(|index| absolute(table) + index * 24) {
                if !self.contains(entry, 24) {
                    break;
                }
                // SAFETY: within a readable segment.
                let [offset, info, _] = unsafe { (entry as *const [u64; 3]).read_unaligned() };
                let kind = info as u32;
                if ![R_X86_64_64, R_X86_64_GLOB_DAT, R_X86_64_JUMP_SLOT].contains(&kind) {
                    continue;
                }
                let symbol = absolute(symbols) + (info >> 32) as usize * 24;
                if !self.contains(symbol, 24) {
                    continue;
                }
                // SAFETY: within a readable segment.
                let name = unsafe { (symbol as *const u32).read_unaligned() } as usize;
                let Some(target) = targets
                    .iter()
                    .find(|target| self.text_is(absolute(strings) + name, target.0))
                else {
                    continue;
                };
                self.set(self.base.wrapping_add(offset as usize), target.1)?;
                changed += 1;
            }
        }
        Ok(changed)
    }

    fn text_is(&self, address: usize, name: &str) -> bool {
        self.contains(address, name.len() + 1) && {
            // SAFETY: within a readable segment, which is not written meanwhile.
            let text = unsafe { std::slice::from_raw_parts(address as *const u8, name.len() + 1) };
            text.split_last() == Some((&0, name.as_bytes()))
        }
    }

    fn set(&self, place: usize, value: *const c_void) -> io::Result<()> {
        if !self.contains(place, 8) || !place.is_multiple_of(8) {
            return Err(io::Error::other("an import lies outside the library"));
        }
        let page = place & !0xfff;
        let read_only = self
            .read_only_after_relocation
            .is_some_and(|range| page >= range.start & !0xfff && page < range.end & !0xfff);
        let protect = |protection| {
            // SAFETY: a page of this library's own data, which stays readable.
            match unsafe { libc::mprotect(page as *mut c_void, 4096, protection) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        if read_only {
            protect(libc::PROT_READ | libc::PROT_WRITE)?;
        }
        // SAFETY: a pointer-sized, aligned, now writable place in the library's GOT; no
        // thread runs its code yet, and the new function has the type of the old one.
        unsafe { (place as *mut *const c_void).write_volatile(value) };
        if read_only {
            protect(libc::PROT_READ)?;
        }
        Ok(())
    }
}
