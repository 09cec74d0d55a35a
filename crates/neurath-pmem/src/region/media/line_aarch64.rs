//! Lines on aarch64. It compiles for such a machine (CONTRIBUTING.md says how that is checked), and
//! has not run on one yet.

use std::arch::asm;

use super::{LINE, LineFlush};

/// The kernel's bit for `dc cvap` (`HWCAP_DCPOP`).
const DCPOP: usize = 1 << 16;

pub(super) fn detect() -> Option<LineFlush> {
    let (capabilities, _) = rustix::param::linux_hwcap();
    let types: u64;
    // SAFETY: CTR_EL0 may be read by every program under Linux.
    unsafe { asm!("mrs {}, ctr_el0", out(reg) types, options(nomem, nostack, preserves_flags)) };
    // The base-two logarithm of the words of the smallest line.
    let line = 4 << (types >> 16 & 0xF);
    (capabilities & DCPOP != 0 && line >= LINE).then_some(LineFlush::Clwb)
}

pub(super) fn name(_: LineFlush) -> &'static str {
    "dc cvap"
}

/// # Safety
///
/// The line is mapped, and the processor has `dc cvap`.
#[inline]
pub(super) unsafe fn flush(_: LineFlush, line: *const u8) {
    // SAFETY: as the caller vouches; written out as a system instruction, so that it needs no
    // newer architecture than the program is built for.
    unsafe {
        asm!("sys #3, c7, c12, #1, {}", in(reg) line, options(nostack, preserves_flags));
    }
}

#[inline]
pub(super) fn fence() {
    // SAFETY: a barrier touches nothing.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
}
