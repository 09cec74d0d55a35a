//! Parts of the protocol that a test can leave out, to see that the crash tests notice.

/// A part left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Without {
    /// Freed places are used again in the same transaction.
    Quarantine,
    /// Freed places are used again in the next transaction.
    SecondQuarantine,
    /// Only the newest record is replayed.
    SecondRecord,
    /// A recovery leaves the superblock as it was.
    Checkpoint,
    /// A commit does not wait for its record.
    CommitFence,
    /// The contents of new objects are believed.
    FreshHash,
}

#[cfg(test)]
pub(super) use switch::{leave_out, without};

/// Never, outside of the tests.
#[cfg(not(test))]
#[inline(always)]
pub(super) const fn without(_: Without) -> bool {
    false
}

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Without;

    thread_local! {
        static LEFT_OUT: Cell<Option<Without>> = const { Cell::new(None) };
    }

    /// Leaves out a part on this thread from now on.
    pub(in crate::region) fn leave_out(part: Option<Without>) {
        LEFT_OUT.set(part);
    }

    pub(in crate::region) fn without(part: Without) -> bool {
        LEFT_OUT.get() == Some(part)
    }
}
