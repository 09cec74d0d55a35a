//! What `#[code_change]` expands to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use neurath_abi::{MigrationBatch, Status};
use neurath_pmem::{Pmem, as_bytes, from_bytes};

use crate::entry::{panic_text, write_error};
use crate::{Error, Result};

/// What a conversion knows besides the old value.
#[derive(Clone, Copy, Debug)]
pub struct Extra<'a> {
    /// The `advanced` table of the appup's instruction, as JSON.
    pub json: &'a str,
    /// Milliseconds since 1970, UTC, when the conversion began: the same for every value.
    pub now_ms: u64,
}

/// Converts the elements of an array.
///
/// # Errors
///
/// The first one's that fails.
pub fn convert_each<A, B, const N: usize>(
    old: [A; N],
    convert: impl FnMut(A) -> Result<B>,
) -> Result<[B; N]> {
    let made: Vec<B> = old.into_iter().map(convert).collect::<Result<_>>()?;
    match made.try_into() {
        Ok(made) => Ok(made),
        Err(_) => unreachable!("one for each"),
    }
}

/// Converts a row of values.
///
/// # Safety
///
/// `batch` is the node's: `count` old and new places, `live` with a bit for each, the
/// types' sizes at least as large as the strides allow.
pub unsafe fn convert_batch<A: Pmem, B: Pmem>(
    batch: *mut MigrationBatch,
    convert: impl Fn(A, &Extra<'_>) -> Result<B>,
) -> Status {
    // SAFETY: the node's own batch, for this call.
    let batch = unsafe { &mut *batch };
    let converted = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: the instruction's text, for this call.
        let json = std::str::from_utf8(unsafe { batch.extra.as_slice() }).unwrap_or("null");
        let extra = Extra {
            json,
            now_ms: batch.now_ms,
        };
        for word in 0..batch.count.div_ceil(64) {
            // SAFETY: a bit for each of `count` places.
            let mut live = unsafe { *batch.live.add(word) };
            while live != 0 {
                let at = word * 64 + live.trailing_zeros() as usize;
                live &= live - 1;
                // SAFETY: place `at` holds a whole value of type `A`.
                let old = unsafe {
                    let old = batch.old.add(at * batch.old_stride);
                    std::slice::from_raw_parts(old, size_of::<A>())
                };
                let Some(old) = from_bytes::<A>(old) else {
                    return Err(Error::new("an object holds no value of its type"));
                };
                let new = convert(old, &extra)?;
                // SAFETY: place `at` has room for a value of type `B`, at any alignment.
                unsafe {
                    let place = batch.new.add(at * batch.new_stride);
                    let bytes = as_bytes(&new);
                    std::ptr::copy_nonoverlapping(bytes.as_ptr(), place, bytes.len());
                }
            }
        }
        Ok(())
    }));
    let (status, text) = match converted {
        Ok(Ok(())) => return Status::OK,
        Ok(Err(error)) => (Status::FAILED, error.to_string()),
        Err(payload) => (Status::PANICKED, panic_text(&*payload)),
    };
    write_error(&mut batch.error, &text);
    status
}
