//! The processor's instructions that write a cache line to memory, and wait for it.

/// Which instruction writes a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LineFlush {
    /// Keeps the line in the cache: `clwb`, or `dc cvap`.
    Clwb,
    /// Drops the line, and does not wait for others.
    #[cfg(target_arch = "x86_64")]
    ClflushOpt,
    /// Drops the line, one after the other.
    #[cfg(target_arch = "x86_64")]
    Clflush,
}

/// Bytes of a cache line.
pub(super) const LINE: usize = 64;

#[cfg(target_arch = "x86_64")]
#[path = "line_x86_64.rs"]
mod processor;

#[cfg(target_arch = "aarch64")]
#[path = "line_aarch64.rs"]
mod processor;

impl LineFlush {
    /// The best that this processor has; none if lines cannot be written from a program, or
    /// are of another length than is assumed.
    pub(super) fn detect() -> Option<LineFlush> {
        processor::detect()
    }

    /// Its name, as the processor's maker has it.
    pub(super) fn name(self) -> &'static str {
        processor::name(self)
    }

    /// Sends the lines of a range on their way.
    ///
    /// # Safety
    ///
    /// The range is mapped, and the processor has this instruction.
    #[inline]
    pub(super) unsafe fn flush(self, start: *const u8, len: usize) {
        let end = start as usize + len;
        let mut line = start as usize & !(LINE - 1);
        while line < end {
            // SAFETY: a line that holds bytes of the range, which is mapped.
            unsafe { processor::flush(self, start.with_addr(line)) };
            line += LINE;
        }
    }
}

/// Waits for the lines that were sent, and orders the stores before and after.
#[inline]
pub(super) fn fence() {
    processor::fence();
}

#[cfg(test)]
mod tests {
    use super::{LineFlush, fence};

    /// That the line is on the medium cannot be seen from a program; that every instruction
    /// the processor has runs, and changes nothing, can.
    #[test]
    fn every_flush_that_the_processor_has_leaves_the_bytes_alone() {
        let Some(best) = LineFlush::detect() else {
            return;
        };
        #[cfg(target_arch = "x86_64")]
        let known = [LineFlush::Clwb, LineFlush::ClflushOpt, LineFlush::Clflush];
        #[cfg(target_arch = "aarch64")]
        let known = [LineFlush::Clwb];
        let from = known.iter().position(|one| *one == best).expect("known");
        let bytes: Vec<u8> = (0..1000).map(|n| n as u8).collect();
        for flush in [best, known[known.len() - 1]] {
            assert!(known[from..].contains(&flush) && !flush.name().is_empty());
            for (start, len) in [(0, 1000), (63, 2), (64, 0), (999, 1)] {
                // SAFETY: within the vector; the processor has its best one, and `clflush`
                // wherever it has a better one.
                unsafe { flush.flush(bytes[start..].as_ptr(), len) };
            }
            fence();
        }
        assert!(bytes.iter().enumerate().all(|(n, byte)| *byte == n as u8));
    }
}
