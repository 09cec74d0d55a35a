//! A buffer for answers, kept from one message to the next. Nothing else is: a library that
//! is unloaded loses no more than the time to make it anew.
//!
//! Not a thread-local, as one with a destructor would keep the library loaded.

use std::sync::{Mutex, PoisonError};

static SCRATCH: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// A larger buffer is not kept.
const KEPT: usize = 1 << 20;

pub(crate) fn with<R>(work: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut buffer = swap(Vec::new());
    buffer.clear();
    let result = work(&mut buffer);
    if buffer.capacity() <= KEPT {
        swap(buffer);
    }
    result
}

pub(crate) fn drop_all() {
    swap(Vec::new());
}

fn swap(buffer: Vec<u8>) -> Vec<u8> {
    let mut kept = SCRATCH.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut kept, buffer)
}
