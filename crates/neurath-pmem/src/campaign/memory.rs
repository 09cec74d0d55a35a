//! The memory of simulated media. It is used again and again: to take new memory from the system,
//! and to have it zeroed, would take longer than most of what is done with it.

use std::cell::RefCell;
use std::ops::Range;

use crate::region::format::PAGE;

/// The simulated medium's limit.
pub(crate) const LIMIT: u64 = 16 << 20;

/// Words with a bit for each page.
const TOUCHED: usize = (LIMIT / PAGE / 64) as usize;

/// Memory for one medium.
pub(super) struct Memory {
    pub(super) words: *mut u64,
    /// The pages that were ever stored to, one bit each: all others are zero.
    pub(super) touched: Box<[u64; TOUCHED]>,
}

/// So much memory a thread keeps that no medium uses.
const SPARE: usize = 8;

impl Memory {
    const WORDS: usize = LIMIT as usize / 8;

    /// All zero: what another medium of this thread has had, if there is such.
    pub(super) fn take() -> Memory {
        let spare = SPARES.with_borrow_mut(Vec::pop);
        let Some(mut memory) = spare else {
            let words = vec![0u64; Memory::WORDS].into_boxed_slice();
            return Memory {
                words: Box::leak(words).as_mut_ptr(),
                touched: Box::new([0; TOUCHED]),
            };
        };
        for range in memory.runs(LIMIT) {
            // SAFETY: within the memory, which nobody else has.
            unsafe { std::ptr::write_bytes(memory.at(range.start), 0, range.len()) };
        }
        *memory.touched = [0; TOUCHED];
        memory
    }

    /// Where a byte is.
    pub(super) fn at(&self, offset: usize) -> *mut u8 {
        assert!(offset <= LIMIT as usize, "in bounds");
        // SAFETY: within the memory, or just behind it.
        unsafe { self.words.cast::<u8>().add(offset) }
    }

    /// The bytes of touched pages before `end`, as few ranges.
    pub(super) fn runs(&self, end: u64) -> Vec<Range<usize>> {
        let mut runs: Vec<Range<usize>> = Vec::new();
        for (word, &bits) in self.touched.iter().enumerate() {
            let mut bits = bits;
            while bits != 0 {
                let page = word * 64 + bits.trailing_zeros() as usize;
                bits &= bits - 1;
                let (from, to) = (page * PAGE as usize, (page + 1) * PAGE as usize);
                if from as u64 >= end {
                    return runs;
                }
                let to = to.min(end as usize);
                match runs.last_mut() {
                    Some(run) if run.end == from => run.end = to,
                    _ => runs.push(from..to),
                }
            }
        }
        runs
    }

    /// Notes that bytes were stored. Zeros change nothing in a page that was never stored to.
    pub(super) fn touch(&mut self, at: u64, bytes: &[u8]) {
        let (first, last) = (at / PAGE, (at + bytes.len() as u64).div_ceil(PAGE));
        for page in first..last {
            let (word, bit) = (page as usize / 64, 1 << (page % 64));
            let from = (page * PAGE).saturating_sub(at) as usize;
            let to = bytes.len().min(((page + 1) * PAGE - at) as usize);
            if self.touched[word] & bit == 0 && bytes[from..to].iter().any(|&b| b != 0) {
                self.touched[word] |= bit;
            }
        }
    }

    /// Gives it to another medium of this thread.
    pub(super) fn give_back(self) {
        // A thread that ends keeps nothing.
        let _ = SPARES.try_with(|spares| {
            let mut spares = spares.borrow_mut();
            if spares.len() < SPARE {
                spares.push(self);
            }
        });
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        let slice = std::ptr::slice_from_raw_parts_mut(self.words, Memory::WORDS);
        // SAFETY: made by `Box::leak` in `take`.
        drop(unsafe { Box::from_raw(slice) });
    }
}

thread_local! {
    static SPARES: RefCell<Vec<Memory>> = const { RefCell::new(Vec::new()) };
}
