//! What a region commits while it is copied.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use super::format::record_pairs;

/// A committed transaction: what it set, with the bytes of its new objects.
#[derive(Debug)]
pub(crate) struct Teed {
    /// Its number.
    pub(crate) sequence: u64,
    /// Bytes that the region took then.
    pub(crate) length: u64,
    record: Vec<u8>,
    words: usize,
    fresh: Vec<u8>,
}

impl Teed {
    /// The words that it set.
    pub(crate) fn words(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        record_pairs(&self.record).take(self.words)
    }

    /// Its new objects: where they are, and their bytes.
    pub(crate) fn fresh(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut at = 0;
        record_pairs(&self.record)
            .skip(self.words)
            .map(move |(offset, len)| {
                let bytes = &self.fresh[at..at + len as usize];
                at += len as usize;
                (offset, bytes)
            })
    }

    fn size(&self) -> u64 {
        (self.record.len() + self.fresh.len() + size_of::<Teed>()) as u64
    }
}

#[derive(Debug, Default)]
struct Level {
    /// Bytes that were put in and not taken out.
    bytes: AtomicU64,
    overflowed: AtomicBool,
    /// What is stored from now on is in no transaction that is put in.
    overtaken: AtomicBool,
    /// A transaction is being stored at its place, and not yet put in.
    storing: AtomicBool,
}

/// Where commits are put in. Putting in never waits.
#[derive(Debug)]
pub(super) struct Tee {
    records: Sender<Teed>,
    level: Arc<Level>,
    room: u64,
}

/// Where they are taken out, in their order.
#[derive(Debug)]
pub(crate) struct Taps {
    records: Receiver<Teed>,
    level: Arc<Level>,
}

/// A tee that holds at most `room` bytes, and its other end.
pub(super) fn tee(room: u64) -> (Tee, Taps) {
    let (send, receive) = channel();
    let level = Arc::new(Level::default());
    let tee = Tee {
        records: send,
        level: level.clone(),
        room,
    };
    let taps = Taps {
        records: receive,
        level,
    };
    (tee, taps)
}

impl Tee {
    /// Whether nothing more can be put in, as nobody takes it out or it has overflowed.
    pub(super) fn is_over(&self) -> bool {
        self.level.overflowed.load(Ordering::Acquire) || Arc::strong_count(&self.level) == 1
    }

    /// The region is about to be changed by more than transactions: whoever sees a word of that sees
    /// this, too, and has no copy of any moment.
    pub(super) fn overtake(self) {
        self.level.overtaken.store(true, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// A transaction is about to be stored at its place. Whoever sees a word of it there sees
    /// this, too.
    pub(super) fn begin(&self) {
        self.level.storing.store(true, Ordering::Relaxed);
        fence(Ordering::Release);
    }

    /// What was begun is put in, or was given up: no word of it is at its place then.
    pub(super) fn end(&self) {
        self.level.storing.store(false, Ordering::Release);
    }

    /// Puts in a transaction that has been committed and applied; whether there will be
    /// use for a further one.
    pub(super) fn put<'a>(
        &self,
        (sequence, length): (u64, u64),
        record: &[u8],
        words: usize,
        fresh: impl Iterator<Item = &'a [u8]>,
    ) -> bool {
        let teed = Teed {
            sequence,
            length,
            record: record.to_vec(),
            words,
            fresh: fresh.flatten().copied().collect(),
        };
        let size = teed.size();
        if self.level.bytes.fetch_add(size, Ordering::Relaxed) + size > self.room {
            self.level.overflowed.store(true, Ordering::Release);
            return false;
        }
        self.records.send(teed).is_ok()
    }
}

/// Why not all comes out that a copy needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stopped {
    /// More was committed than the tee has room for.
    Overflow,
    /// The region was changed by more than transactions.
    Overtaken,
}

impl Taps {
    /// Waits for the end of a transaction that is being stored: after this, what was seen of
    /// any at its place comes out. A commit takes microseconds.
    pub(crate) fn settle(&self) -> Result<(), Stopped> {
        fence(Ordering::Acquire);
        while self.level.storing.load(Ordering::Acquire) {
            // Of a region that went away in the middle of a commit nothing more will come.
            if Arc::strong_count(&self.level) == 1 {
                return Err(Stopped::Overflow);
            }
            std::thread::yield_now();
        }
        self.still_of_a_moment()
    }

    /// Fails if what was copied until now may be of no moment.
    fn still_of_a_moment(&self) -> Result<(), Stopped> {
        fence(Ordering::Acquire);
        match self.level.overtaken.load(Ordering::Relaxed) {
            true => Err(Stopped::Overtaken),
            false => Ok(()),
        }
    }

    /// The next transaction, if one waits.
    pub(crate) fn take(&self) -> Result<Option<Teed>, Stopped> {
        match self.records.try_recv() {
            Ok(teed) => {
                self.level.bytes.fetch_sub(teed.size(), Ordering::Relaxed);
                Ok(Some(teed))
            }
            // Of a region that was closed, all is here.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {
                if self.level.overflowed.load(Ordering::Acquire) {
                    return Err(Stopped::Overflow);
                }
                self.still_of_a_moment()?;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Stopped, tee};

    fn record(words: u64, fresh: &[u64]) -> Vec<u8> {
        let mut record = vec![0; 64];
        for word in 0..words {
            record.extend_from_slice(&(word * 8).to_le_bytes());
            record.extend_from_slice(&word.to_le_bytes());
        }
        for (n, len) in fresh.iter().enumerate() {
            record.extend_from_slice(&(n as u64 * 4096).to_le_bytes());
            record.extend_from_slice(&len.to_le_bytes());
        }
        record
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let (tee, taps) = tee(1 << 20);
        let objects: [&[u8]; 2] = [&[7; 8], &[9; 16]];
        assert!(tee.put((5, 0), &record(3, &[8, 16]), 3, objects.into_iter()));
        drop(tee);
        let teed = taps.take().unwrap().unwrap();
        assert_eq!(teed.sequence, 5);
        assert_eq!(teed.words().collect::<Vec<_>>(), [(0, 0), (8, 1), (16, 2)]);
        let fresh: Vec<_> = teed.fresh().collect();
        assert_eq!(fresh, [(0, objects[0]), (4096, objects[1])]);
        assert!(taps.take().unwrap().is_none());
    }

    #[test]
    fn it_holds_no_more_than_its_room() {
        let (tee, taps) = tee(2000);
        let mut puts = 0;
        while tee.put((puts, 0), &record(20, &[]), 20, std::iter::empty()) {
            puts += 1;
        }
        assert!((1..6).contains(&puts), "{puts}");
        for sequence in 0..puts {
            assert_eq!(taps.take().unwrap().unwrap().sequence, sequence);
        }
        assert_eq!(taps.take().unwrap_err(), Stopped::Overflow);
    }
}
