//! Room that is kept behind the end of a journal's file.
//!
//! An operation that has begun must be recorded to its end, and a node whose disk is full must still go back, be
//! confirmed, stop and start. So the file system is asked for blocks behind the file's end, which does not change the
//! file's length. What only adds (an upgrade, a release taken in) begins while there is that much room, and no
//! sooner; what leads out of trouble may use it up. A file system that cannot do that keeps nothing, and the journal works as
//! without.

use std::fs::File;
use std::io;

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

use super::{START, STOP};

/// Bytes that must be there for an operation that adds something: some hundreds of operations of a few steps, or a plan of a
/// thousand steps.
pub(super) const RESERVE: u64 = 256 * 1024;

/// Operations that lead out of trouble, or are no choice of anybody's.
const LEAD_OUT: [&str; 8] = [
    START,
    STOP,
    "confirm",
    "rollback",
    "undo",
    "remove",
    "distrust",
    "set-aside",
];

/// Whether an operation may begin although there is no full reserve.
pub(super) fn may_use_reserve(operation: &str) -> bool {
    LEAD_OUT.contains(&operation)
}

/// What is kept behind the end of a file.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The file has blocks up to here.
    to: u64,
    /// Why there is not the full reserve.
    lacking: Option<String>,
}

impl Room {
    /// Asks for the reserve behind `end`, unless it is there.
    pub(super) fn keep(&mut self, file: &File, end: u64) -> io::Result<()> {
        if self.to >= end + RESERVE {
            self.lacking = None;
            return Ok(());
        }
        // More than is needed, so that it is not asked for at each operation.
        let kept = reserve(file, end, 2 * RESERVE).or_else(|_| reserve(file, end, RESERVE));
        match kept {
            Ok(to) => {
                self.to = to;
                self.lacking = None;
                Ok(())
            }
            Err(error) => {
                self.lacking = Some(error.to_string());
                Err(error)
            }
        }
    }

    /// The file was cut at its end: what was behind it is gone.
    pub(super) fn is_cut(&mut self) {
        self.to = 0;
    }

    /// Why there is not the full reserve.
    pub(super) fn lacking(&self) -> Option<&str> {
        self.lacking.as_deref()
    }
}

/// Gives a file blocks behind `end`, and says up to where.
fn reserve(file: &File, end: u64, len: u64) -> io::Result<u64> {
    match rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, end, len) {
        Ok(()) => Ok(end + len),
        // Nothing can be kept here: a full disk is noticed when it is written to.
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(u64::MAX),
        Err(error) => Err(error.into()),
    }
}
