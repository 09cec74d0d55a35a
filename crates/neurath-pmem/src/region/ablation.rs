//! Parts of the protocol that the crash campaign leaves out, to see that it notices.

use super::media::Media;

/// A part left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Without {
    /// Freed places are used again in the same transaction.
    Quarantine,
    /// Freed places are used again in the next transaction.
    SecondQuarantine,
    /// Only the newest record is replayed.
    SecondRecord,
    /// One record too many is replayed.
    NoThirdRecord,
    /// A recovery leaves the superblock as it was.
    Checkpoint,
    /// A commit does not wait for its record.
    CommitFence,
    /// A record's words are stored before the record is.
    RecordFirst,
    /// Each record is written over the one before.
    ManySlots,
    /// The contents of new objects are believed.
    FreshHash,
    /// A journal's records count whatever their lap.
    Laps,
    /// Pages are written before the records that changed them.
    LogFirst,
    /// A journal's half is used again before its pages are written.
    HalfFree,
    /// An opening goes on in the lap that a crash may have torn.
    LapsLeftOut,
    /// A record is believed without its checksum.
    RecordSum,
    /// A record's words are stored before the fence that its record waits for.
    ApplyBeforeFence,
    /// A commit is acknowledged before its fence, which comes with the next one.
    LateFence,
    /// Every record beyond the checkpoint is replayed.
    EveryRecord,
    /// A record is not sent on its way.
    RecordFlush,
    /// A record's words are not sent on their way once they are in their places.
    PlaceFlush,
    /// What is to be sent on its way is looked for from the 512 bytes before it on, and ends
    /// as much too soon.
    #[cfg_attr(
        not(any(test, feature = "campaign")),
        expect(dead_code, reason = "it is the simulated medium that rounds")
    )]
    FlushRounding,
    /// The number of a torn record is given out again.
    TornNumber,
    /// The word that names the applied record is stored before that record is sure.
    NamedAfterFence,
    /// That word is stored after the record's words.
    NamedFirst,
    /// A recovery does not look at that word.
    NamedRecord,
}

impl Without {
    /// Whether it is a part of the ring, of the journal, or of both.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn concerns(self, journal: bool) -> bool {
        match self {
            Without::Laps | Without::LogFirst | Without::HalfFree | Without::LapsLeftOut => journal,
            _ => !journal,
        }
    }
}

/// Whether the part is left out: never on media that are not simulated.
#[inline(always)]
pub(super) fn without(media: &impl Media, part: Without) -> bool {
    media.simulated() && left_out(part)
}

#[cfg(not(any(test, feature = "campaign")))]
#[inline(always)]
fn left_out(_: Without) -> bool {
    false
}

#[cfg(any(test, feature = "campaign"))]
pub(crate) use switch::{leave_out, left_out};

#[cfg(any(test, feature = "campaign"))]
mod switch {
    use std::cell::Cell;

    use super::Without;

    thread_local! {
        static LEFT_OUT: Cell<Option<Without>> = const { Cell::new(None) };
    }

    /// Leaves out a part on this thread from now on; which one was left out until now.
    pub(crate) fn leave_out(part: Option<Without>) -> Option<Without> {
        LEFT_OUT.replace(part)
    }

    pub(crate) fn left_out(part: Without) -> bool {
        LEFT_OUT.get() == Some(part)
    }
}
