//! Lines on x86-64.

use std::arch::asm;
use std::arch::x86_64::{__cpuid, __cpuid_count, _mm_clflush, _mm_sfence};

use super::{LINE, LineFlush};

pub(super) fn detect() -> Option<LineFlush> {
    #[allow(
        unused_unsafe,
        reason = "safe in newer versions of the standard library"
    )]
    // SAFETY: every x86-64 processor has the instruction, and leaf 0 says which leaves there are.
    let (highest, basic, extended) = unsafe {
        let highest = __cpuid(0).eax;
        let extended = if highest >= 7 {
            __cpuid_count(7, 0).ebx
        } else {
            0
        };
        (highest, __cpuid(1), extended)
    };
    let line = (basic.ebx >> 8 & 0xFF) as usize * 8;
    if highest < 1 || basic.edx & 1 << 19 == 0 || line != LINE {
        return None;
    }
    Some(if extended & 1 << 24 != 0 {
        LineFlush::Clwb
    } else if extended & 1 << 23 != 0 {
        LineFlush::ClflushOpt
    } else {
        LineFlush::Clflush
    })
}

pub(super) fn name(flush: LineFlush) -> &'static str {
    match flush {
        LineFlush::Clwb => "clwb",
        LineFlush::ClflushOpt => "clflushopt",
        LineFlush::Clflush => "clflush",
    }
}

/// # Safety
///
/// The line is mapped, and the processor has the instruction.
#[inline]
pub(super) unsafe fn flush(how: LineFlush, line: *const u8) {
    match how {
        // SAFETY: as the caller vouches. Both change no memory as the program sees it.
        LineFlush::Clwb => unsafe {
            asm!("clwb [{}]", in(reg) line, options(nostack, preserves_flags));
        },
        // SAFETY: as above.
        LineFlush::ClflushOpt => unsafe {
            asm!("clflushopt [{}]", in(reg) line, options(nostack, preserves_flags));
        },
        // SAFETY: as above.
        LineFlush::Clflush => unsafe { _mm_clflush(line) },
    }
}

#[inline]
pub(super) fn fence() {
    #[allow(
        unused_unsafe,
        reason = "safe in newer versions of the standard library"
    )]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        _mm_sfence();
    }
}
