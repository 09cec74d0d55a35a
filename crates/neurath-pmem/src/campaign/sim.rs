//! Media in memory that record what is done to them, and can be made to fail.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::io;
use std::panic::Location;

use super::sites::Site;
use crate::region::{Backend, Media};

/// The simulated medium's limit.
pub(crate) const LIMIT: u64 = 16 << 20;

/// What happened to a medium.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    /// To memory.
    Store {
        at: u64,
        old: Vec<u8>,
        new: Vec<u8>,
    },
    /// What memory holds there goes on its way.
    Flush {
        at: u64,
        len: u64,
    },
    /// The same, where memory and medium are two: these bytes.
    Write {
        at: u64,
        new: Vec<u8>,
    },
    /// Everything that is on its way has arrived.
    Fence,
    /// A written range has arrived.
    Persisted {
        at: u64,
        len: u64,
    },
    /// Everything has arrived, and so has the file's length.
    Sync,
    /// The same is begun, while other things happen.
    BeginSync,
    /// What was on its way when it began has arrived.
    EndSync,
    Grow {
        from: u64,
        to: u64,
    },
    /// A transaction was committed; it may not be durable.
    Applied,
    /// A transaction was acknowledged: it is durable.
    Commit,
    /// A sync was acknowledged.
    Synced,
}

thread_local! {
    static SUPPRESSED: Cell<Option<Site>> = const { Cell::new(None) };
    static VISITED: RefCell<BTreeSet<Site>> = const { RefCell::new(BTreeSet::new()) };
}

/// Leaves out what one site orders, on this thread from now on.
pub(crate) fn suppress(site: Option<Site>) {
    SUPPRESSED.set(site);
}

pub(crate) fn suppressing() -> bool {
    SUPPRESSED.get().is_some()
}

/// The sites that this thread came by, since it last asked.
pub(crate) fn take_visited() -> BTreeSet<Site> {
    VISITED.take()
}

/// Whether the site's order is to be kept.
fn pass(location: &'static Location<'static>) -> bool {
    let site = Site::at(location);
    VISITED.with_borrow_mut(|visited| visited.insert(site));
    SUPPRESSED.get() != Some(site)
}

pub(crate) struct Sim {
    memory: *mut u64,
    words: usize,
    pub(crate) len: u64,
    backend: Backend,
    pub(crate) events: Vec<Event>,
    /// Growths until one fails.
    pub(crate) growths: Option<u32>,
    /// Waits for the medium until one fails; then all do.
    pub(crate) waits: Option<u32>,
    /// Times that a begun sync is asked after before it has ended.
    syncing: Option<u32>,
}

// SAFETY: the memory is the `Sim`'s own.
unsafe impl Send for Sim {}

impl Drop for Sim {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.memory, self.words);
        // SAFETY: made by `Box::leak` in `new`.
        drop(unsafe { Box::from_raw(slice) });
    }
}

impl Sim {
    pub(crate) fn new(len: u64, backend: Backend) -> Sim {
        let words = LIMIT as usize / 8;
        let memory = Box::leak(vec![0u64; words].into_boxed_slice()).as_mut_ptr();
        Sim {
            memory,
            words,
            len,
            backend,
            events: Vec::new(),
            growths: None,
            waits: None,
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

    /// Memory is lost, as with a process, and is what the file holds. The events since the
    /// `mark`-th stay, and taking them back still leads to what was then.
    pub(crate) fn lose_memory(&mut self, mark: usize) {
        self.syncing = None;
        if !self.holds_back() {
            return;
        }
        let mut events = self.take_back(mark);
        let mut file: Vec<Event> = Vec::new();
        for event in &events {
            match event {
                Event::Write { at, new } => {
                    let old = self.bytes(*at, new.len() as u64).to_vec();
                    self.raw(*at, new);
                    let (at, new) = (*at, new.clone());
                    file.push(Event::Store { at, old, new });
                }
                Event::Grow { to, .. } => self.len = *to,
                _ => {}
            }
        }
        // In their places: what was stored, and is no more.
        events.retain(|event| !matches!(event, Event::Store { .. }));
        self.events.append(&mut file);
        self.events.append(&mut events);
    }

    /// Stores unseen.
    pub(crate) fn raw(&mut self, at: u64, bytes: &[u8]) {
        assert!(at + bytes.len() as u64 <= LIMIT, "in bounds");
        // SAFETY: within the memory, which `bytes` is no part of.
        unsafe {
            let target = self.memory.cast::<u8>().add(at as usize);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    /// The word at a place that may be beyond the end.
    pub(crate) fn peek(&self, at: u64) -> [u8; 8] {
        assert!(at + 8 <= LIMIT, "in bounds");
        let mut word = [0; 8];
        // SAFETY: within the memory, which nobody stores to meanwhile.
        let bytes =
            unsafe { std::slice::from_raw_parts(self.memory.cast::<u8>().add(at as usize), 8) };
        word.copy_from_slice(bytes);
        word
    }

    /// Takes back everything since the `mark`-th event.
    pub(crate) fn take_back(&mut self, mark: usize) -> Vec<Event> {
        let events = self.events.split_off(mark);
        for event in events.iter().rev() {
            match event {
                Event::Store { at, old, .. } => self.raw(*at, old),
                Event::Grow { from, .. } => self.len = *from,
                _ => {}
            }
        }
        events
    }
}

impl Media for Sim {
    fn base(&self) -> *const u8 {
        self.memory.cast()
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
        let old = self
            .bytes(offset, bytes.len().next_multiple_of(8) as u64)
            .to_vec();
        let mut new = old.clone();
        new[..bytes.len()].copy_from_slice(bytes);
        self.events.push(Event::Store {
            at: offset,
            old,
            new,
        });
        self.raw(offset, bytes);
    }
    fn zero(&mut self, offset: u64, len: u64) {
        self.store(offset, &vec![0; len as usize]);
    }
    fn flush(&mut self, at: u64, len: u64) {
        if !pass(Location::caller()) {
            return;
        }
        self.events.push(if self.holds_back() {
            let new = self.bytes(at, len.next_multiple_of(8)).to_vec();
            Event::Write { at, new }
        } else {
            Event::Flush { at, len }
        });
    }
    fn fence(&mut self) -> io::Result<()> {
        self.syncing = None;
        if pass(Location::caller()) {
            self.wait()?;
            self.events.push(Event::Fence);
        }
        Ok(())
    }
    fn persist(&mut self, at: u64, len: u64) -> io::Result<()> {
        if !pass(Location::caller()) {
            if self.holds_back() {
                // It is on its way, and nobody waits.
                let new = self.bytes(at, len.next_multiple_of(8)).to_vec();
                self.events.push(Event::Write { at, new });
            }
            return Ok(());
        }
        self.wait()?;
        if self.holds_back() {
            let new = self.bytes(at, len.next_multiple_of(8)).to_vec();
            self.events.push(Event::Write { at, new });
            self.events.push(Event::Persisted { at, len });
        } else {
            self.events.push(Event::Flush { at, len });
            self.events.push(Event::Fence);
        }
        Ok(())
    }
    fn sync(&mut self) -> io::Result<()> {
        self.syncing = None;
        if pass(Location::caller()) {
            self.wait()?;
            self.events.push(Event::Sync);
        }
        Ok(())
    }
    fn begin_sync(&mut self) -> io::Result<()> {
        assert!(self.syncing.is_none(), "one at a time");
        self.events.push(Event::BeginSync);
        // Now soon, now late, and the same in every run.
        self.syncing = Some(self.events.len() as u32 % 5);
        Ok(())
    }
    fn end_sync(&mut self, wait: bool) -> Option<io::Result<()>> {
        let left = self.syncing.as_mut()?;
        if !wait && *left > 0 {
            *left -= 1;
            return None;
        }
        self.syncing = None;
        if pass(Location::caller()) {
            if let Err(error) = self.wait() {
                return Some(Err(error));
            }
            self.events.push(Event::EndSync);
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
        self.events.push(Event::Grow {
            from: self.len,
            to: len,
        });
        self.len = len;
        Ok(())
    }
    fn base_mut(&mut self) -> *mut u8 {
        self.memory.cast()
    }
    fn populate(&mut self, _: u64, _: u64) {}
    fn simulated(&self) -> bool {
        true
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
