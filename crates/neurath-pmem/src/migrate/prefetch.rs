//! Asks for memory a moment before it is used. Where each line comes from far away, a conversion waits for lines most of
//! its time, and what a processor foresees by itself ends with a page.

/// Bytes that come at once.
const LINE: usize = 64;

/// Asks for these bytes. A hint: nothing comes of it that the program could see.
pub(super) fn prefetch(bytes: &[u8]) {
    bytes.iter().step_by(LINE).for_each(|byte| ask(byte));
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn ask(line: *const u8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: every x86-64 processor has the instruction, which reads nothing as the program sees it, and
    // faults at no address.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) }
}

#[cfg(target_arch = "aarch64")]
#[inline(always)]
fn ask(line: *const u8) {
    // SAFETY: as above, of every 64-bit ARM processor.
    unsafe {
        std::arch::asm!("prfm pldl1keep, [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[inline(always)]
fn ask(_: *const u8) {}
