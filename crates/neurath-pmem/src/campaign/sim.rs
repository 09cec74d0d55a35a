//! Media in memory that record what is done to them, and can be made to fail.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::mem::ManuallyDrop;
use std::panic::Location;

use super::memory::{LIMIT, Memory};
use super::sites::Site;
use super::trace::{Event, Span, Trace};
use crate::region::ablation::{Without, leave_out, left_out};
use crate::region::format::{JOURNAL_LENS, LOG_AT, LOG_LEN, PAGE, ROOT_AT};
use crate::region::{Backend, Media};

thread_local! {
    static SUPPRESSED: Cell<Option<Site>> = const { Cell::new(None) };
    static WAS_SUPPRESSED: Cell<bool> = const { Cell::new(false) };
}

/// Leaves out what one site orders, on this thread from now on; which one was left out until
/// now.
pub(crate) fn suppress(site: Option<Site>) -> Option<Site> {
    WAS_SUPPRESSED.set(false);
    SUPPRESSED.replace(site)
}

/// Does something with nothing left out.
pub(crate) fn undisturbed<R>(work: impl FnOnce() -> R) -> R {
    let came_by = was_suppressed();
    let (site, part) = (suppress(None), leave_out(None));
    let done = work();
    suppress(site);
    WAS_SUPPRESSED.set(came_by);
    leave_out(part);
    done
}

pub(crate) fn suppressing() -> bool {
    SUPPRESSED.get().is_some()
}

/// Whether this thread came by what it leaves out.
pub(crate) fn was_suppressed() -> bool {
    WAS_SUPPRESSED.get()
}

/// Whether the place's order is to be kept.
fn pass(location: &'static Location<'static>) -> bool {
    let suppressed = SUPPRESSED.get().is_some_and(|site| site.is_at(location));
    if suppressed {
        WAS_SUPPRESSED.set(true);
    }
    !suppressed
}

/// A place in the source: it is compared by its address, since many are noted.
#[derive(Clone, Copy)]
struct Place(&'static Location<'static>);

impl PartialEq for Place {
    fn eq(&self, other: &Place) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

/// A write of which the file takes a part: nothing is written after it, and the next wait for the
/// medium tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Short {
    /// Whole writes before it.
    pub(crate) before: u32,
    /// So many fourths of it are written.
    pub(crate) fourths: u64,
}

pub(crate) struct Sim {
    /// There until it is dropped.
    memory: ManuallyDrop<Memory>,
    /// Somebody was given the memory itself, and may have stored anywhere.
    lent: bool,
    /// The places that it came by, since it last forgot.
    visited: Vec<Place>,
    pub(crate) len: u64,
    backend: Backend,
    pub(crate) trace: Trace,
    /// Of what is there but for superblocks and the log, relative to what was at the beginning:
    /// a sum over all words, so that a store changes it by what the store changes.
    state: u64,
    /// Growths until one fails.
    pub(crate) growths: Option<u32>,
    /// Waits for the medium until one fails; then all do.
    pub(crate) waits: Option<u32>,
    /// The write that is cut short, if one is.
    pub(crate) short: Option<Short>,
    /// Times that a begun sync is asked after before it has ended.
    syncing: Option<u32>,
}

// SAFETY: the memory is the `Sim`'s own.
unsafe impl Send for Sim {}

impl Drop for Sim {
    fn drop(&mut self) {
        // SAFETY: nobody uses it afterwards.
        let memory = unsafe { ManuallyDrop::take(&mut self.memory) };
        if !self.lent {
            memory.give_back();
        }
    }
}

impl Sim {
    pub(crate) fn new(len: u64, backend: Backend) -> Sim {
        Sim {
            memory: ManuallyDrop::new(Memory::take()),
            lent: false,
            visited: Vec::new(),
            len,
            backend,
            trace: Trace::default(),
            state: 0,
            growths: None,
            waits: None,
            short: None,
            syncing: None,
        }
    }

    fn wait(&mut self) -> io::Result<()> {
        match &mut self.waits {
            Some(0) => Err(rustix::io::Errno::IO.into()),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// So many events there are.
    pub(crate) fn mark(&self) -> usize {
        self.trace.events.len()
    }

    /// What the medium was until now is where it begins.
    pub(crate) fn forget(&mut self) {
        self.trace.events.clear();
        self.trace.bytes.clear();
        self.trace.before = 0;
        self.visited.clear();
    }

    /// The sites that this medium came by, since it last forgot what it was.
    pub(crate) fn visited(&self) -> BTreeSet<Site> {
        self.visited.iter().map(|place| Site::at(place.0)).collect()
    }

    /// Whether the place's order is to be kept.
    fn pass(&mut self, location: &'static Location<'static>) -> bool {
        let place = Place(location);
        if !self.visited.contains(&place) {
            self.visited.push(place);
        }
        pass(location)
    }

    /// Memory is lost, as with a process, and is what the file holds. The events since the
    /// `mark`-th stay, and taking them back still leads to what was then.
    pub(crate) fn lose_memory(&mut self, mark: usize) {
        self.syncing = None;
        if !self.holds_back() {
            return;
        }
        let lost = self.take_back(mark);
        for event in &lost.events {
            match event {
                Event::Write(span) => self.store(span.at, lost.written(span)),
                Event::Grow { to, .. } => self.len = *to,
                _ => {}
            }
        }
        // In their places: what was stored, and is no more.
        for event in &lost.events {
            match event {
                Event::Store(_) => {}
                Event::Write(span) => {
                    let kept_at = self.trace.keep(lost.written(span));
                    self.trace
                        .events
                        .push(Event::Write(Span { kept_at, ..*span }));
                }
                other => self.trace.events.push(*other),
            }
        }
    }

    /// Stores unseen.
    pub(crate) fn raw(&mut self, at: u64, bytes: &[u8]) {
        assert!(at + bytes.len() as u64 <= LIMIT, "in bounds");
        self.memory.touch(at, bytes);
        self.unsum(at, bytes.len());
        // SAFETY: within the memory, which `bytes` is no part of.
        unsafe {
            let target = self.memory.at(at as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
        self.sum(at, bytes.len());
    }

    /// A number for what is there but for superblocks and the log: the same bytes, the same
    /// number, and other bytes another one, as far as 64 bits tell them apart.
    pub(crate) fn state(&self) -> u64 {
        self.state
    }

    fn unsum(&mut self, at: u64, len: usize) {
        self.state = self.state.wrapping_sub(self.sum_of(at, len));
    }

    fn sum(&mut self, at: u64, len: usize) {
        self.state = self.state.wrapping_add(self.sum_of(at, len));
    }

    fn sum_of(&self, at: u64, len: usize) -> u64 {
        let log = match self.backend {
            Backend::Page => *JOURNAL_LENS.start(),
            _ => LOG_LEN,
        };
        if at < ROOT_AT || (LOG_AT..LOG_AT + log).contains(&at) {
            return 0;
        }
        let words = at / 8..(at + len as u64).div_ceil(8);
        // SAFETY: within the memory, as the caller has seen to, and aligned.
        let word = |number: u64| unsafe { *self.memory.words.add(number as usize) };
        words.fold(0, |sum: u64, number| {
            let mixed = (word(number) ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
                .wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ mixed >> 32).wrapping_mul(0x94D0_49BB_1331_11EB);
            sum.wrapping_add(mixed ^ mixed >> 29)
        })
    }

    /// The word at a place that may be beyond the end.
    pub(crate) fn peek(&self, at: u64) -> [u8; 8] {
        assert!(at + 8 <= LIMIT, "in bounds");
        let mut word = [0; 8];
        // SAFETY: within the memory, which nobody stores to meanwhile.
        let bytes = unsafe { std::slice::from_raw_parts(self.memory.at(at as usize), 8) };
        word.copy_from_slice(bytes);
        word
    }

    /// Takes back everything since the `mark`-th event, and forgets it.
    pub(crate) fn rewind(&mut self, mark: usize) {
        self.undo(mark);
        self.trace.truncate(mark);
    }

    /// Takes back everything since the `mark`-th event; what it was.
    pub(crate) fn take_back(&mut self, mark: usize) -> Trace {
        self.undo(mark);
        self.trace.split_off(mark)
    }

    fn undo(&mut self, mark: usize) {
        for at in (mark..self.trace.events.len()).rev() {
            match self.trace.events[at] {
                Event::Store(span) => {
                    assert!(span.at + span.len as u64 <= LIMIT, "in bounds");
                    let old = self.trace.before(&span);
                    // SAFETY: within the memory, which the trace is no part of.
                    unsafe {
                        let target = self.memory.at(span.at as usize);
                        std::ptr::copy_nonoverlapping(old.as_ptr(), target, span.len);
                    }
                    self.state = span.state;
                }
                Event::Grow { from, .. } => self.len = from,
                _ => {}
            }
        }
    }

    /// The same bytes, kept page by page from now on.
    pub(crate) fn by_pages(mut self) -> Sim {
        self.backend = Backend::Page;
        self
    }

    /// A medium alike, to which nothing has happened yet.
    pub(crate) fn copy(&self) -> Sim {
        let mut copy = Sim::new(self.len, self.backend);
        let whole = self.used(0, LIMIT) <= self.len;
        for run in self.memory.runs(self.len) {
            let (at, len) = (run.start as u64, run.len() as u64);
            if whole {
                // SAFETY: both are within their memory, and not the same.
                unsafe {
                    let (from, to) = (self.memory.at(run.start), copy.memory.at(run.start));
                    std::ptr::copy_nonoverlapping(from, to, run.len());
                }
            } else {
                copy.raw(at, self.bytes(at, len));
            }
        }
        if whole {
            *copy.memory.touched = *self.memory.touched;
            copy.state = self.state;
        }
        copy
    }

    /// Notes what is written from memory.
    fn write(&mut self, at: u64, len: u64) {
        let len = self.written(len.next_multiple_of(8));
        if len == 0 {
            return;
        }
        let kept_at = self.trace.before + self.trace.bytes.len();
        self.keep_memory(at, len as usize);
        let len = len as usize;
        self.trace.events.push(Event::Write(Span {
            at,
            len,
            kept_at,
            state: 0,
        }));
    }

    /// So much of a write reaches the file.
    fn written(&mut self, len: u64) -> u64 {
        match &mut self.short {
            Some(Short { before: 0, .. }) if self.waits == Some(0) => 0,
            Some(Short { before: 0, fourths }) => {
                self.waits = Some(0);
                len * *fourths / 4 / 8 * 8
            }
            Some(short) => {
                short.before -= 1;
                len
            }
            None => len,
        }
    }

    /// Keeps what memory holds in a range.
    fn keep_memory(&mut self, at: u64, len: usize) {
        assert!(at + len as u64 <= self.len, "in bounds");
        // SAFETY: within the memory, which nobody stores to meanwhile.
        let held = unsafe { std::slice::from_raw_parts(self.memory.at(at as usize), len) };
        self.trace.bytes.extend_from_slice(held);
    }
}

impl Media for Sim {
    fn base(&self) -> *const u8 {
        self.memory.words.cast()
    }
    fn len(&self) -> u64 {
        self.len
    }
    fn limit(&self) -> u64 {
        LIMIT
    }
    fn store_word(&mut self, offset: u64, value: u64) {
        assert!(offset.is_multiple_of(8), "aligned");
        self.store(offset, &value.to_le_bytes());
    }
    fn store(&mut self, offset: u64, bytes: &[u8]) {
        assert!(offset.is_multiple_of(8), "aligned");
        // The schema alone is not made of whole words.
        let len = bytes.len().next_multiple_of(8);
        let kept_at = self.trace.before + self.trace.bytes.len();
        let state = self.state;
        self.keep_memory(offset, len);
        self.raw(offset, bytes);
        self.keep_memory(offset, len);
        let span = Span {
            at: offset,
            len,
            kept_at,
            state,
        };
        self.trace.events.push(Event::Store(span));
    }
    fn zero(&mut self, offset: u64, len: u64) {
        self.store(offset, &vec![0; len as usize]);
    }
    fn flush(&mut self, at: u64, len: u64) {
        if !self.pass(Location::caller()) {
            return;
        }
        let (mut at, mut len) = (at, len);
        if left_out(Without::FlushRounding) && !self.holds_back() {
            at &= !511;
            len = len.min(self.len - at);
        }
        if self.holds_back() {
            self.write(at, len);
        } else {
            self.trace.events.push(Event::Flush { at, len });
        }
    }
    fn fence(&mut self) -> io::Result<()> {
        self.syncing = None;
        if self.pass(Location::caller()) {
            self.wait()?;
            self.trace.events.push(Event::Fence);
        }
        Ok(())
    }
    fn persist(&mut self, at: u64, len: u64) -> io::Result<()> {
        if !self.pass(Location::caller()) {
            if self.holds_back() {
                // It is on its way, and nobody waits.
                self.write(at, len);
            }
            return Ok(());
        }
        if self.holds_back() {
            self.write(at, len);
            self.wait()?;
            self.trace.events.push(Event::Persisted { at, len });
        } else {
            self.wait()?;
            self.trace.events.push(Event::Flush { at, len });
            self.trace.events.push(Event::Fence);
        }
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.syncing = None;
        if self.pass(Location::caller()) {
            self.wait()?;
            self.trace.events.push(Event::Sync);
        }
        Ok(())
    }
    fn begin_sync(&mut self) -> io::Result<()> {
        assert!(self.syncing.is_none(), "one at a time");
        self.trace.events.push(Event::BeginSync);
        // Now soon, now late, and the same in every run.
        self.syncing = Some(self.trace.events.len() as u32 % 5);
        Ok(())
    }
    fn end_sync(&mut self, wait: bool) -> Option<io::Result<()>> {
        let left = self.syncing.as_mut()?;
        if !wait && *left > 0 {
            *left -= 1;
            return None;
        }
        self.syncing = None;
        if self.pass(Location::caller()) {
            if let Err(error) = self.wait() {
                return Some(Err(error));
            }
            self.trace.events.push(Event::EndSync);
        }
        Some(Ok(()))
    }
    fn backend(&self) -> Backend {
        self.backend
    }
    fn grow(&mut self, len: u64) -> std::io::Result<()> {
        assert!(len >= self.len && len <= LIMIT, "within the limit");
        if let Some(left) = &mut self.growths {
            let Some(fewer) = left.checked_sub(1) else {
                return Err(rustix::io::Errno::NOSPC.into());
            };
            *left = fewer;
        }
        self.trace.events.push(Event::Grow {
            from: self.len,
            to: len,
        });
        self.len = len;
        Ok(())
    }
    fn base_mut(&mut self) -> *mut u8 {
        self.lent = true;
        self.memory.words.cast()
    }
    fn was_filled(&mut self, offset: u64, len: u64) {
        let filled = self.bytes(offset, len).to_vec();
        // As if nobody had stored there yet.
        // SAFETY: within the memory, as `bytes` has seen to.
        unsafe { std::ptr::write_bytes(self.base_mut().add(offset as usize), 0, filled.len()) };
        self.store(offset, &filled);
    }
    fn populate(&mut self, _: u64, _: u64) {}
    fn simulated(&self) -> bool {
        true
    }
    fn used(&self, offset: u64, len: u64) -> u64 {
        let touched = |page: &u64| self.memory.touched[*page as usize / 64] & 1 << (page % 64) != 0;
        let last = (offset / PAGE..(offset + len).div_ceil(PAGE))
            .rev()
            .find(touched);
        last.map_or(0, |page| ((page + 1) * PAGE).min(offset + len) - offset)
    }
}

/// Numbers that look random and are the same in every run.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ z >> 31
    }
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
    pub(crate) fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }
}

/// A seed made of two numbers.
pub(crate) fn mix(seed: u64, number: u64) -> u64 {
    let mut random = Random(seed);
    let first = random.next();
    Random(first ^ number).next()
}
