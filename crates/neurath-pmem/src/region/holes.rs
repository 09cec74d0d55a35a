//! Places between segments that belong to none: what conversions have left. They are not in the
//! file: whatever no entry names is one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Holes {
    /// Lengths by offset. No two touch.
    by_offset: BTreeMap<u64, u64>,
    /// Lengths and offsets.
    by_length: BTreeSet<(u64, u64)>,
    /// Places that wait, each with the number of the commit that has freed it.
    waiting: VecDeque<(u64, u64, u64)>,
}

impl Holes {
    /// Adds a place that nothing in the log refers to.
    pub(super) fn add(&mut self, mut offset: u64, mut length: u64) {
        if let Some((&before, &len)) = self.by_offset.range(..offset).next_back()
            && before + len == offset
        {
            self.remove(before, len);
            (offset, length) = (before, length + len);
        }
        if let Some(&len) = self.by_offset.get(&(offset + length)) {
            self.remove(offset + length, len);
            length += len;
        }
        self.by_offset.insert(offset, length);
        self.by_length.insert((length, offset));
    }

    fn remove(&mut self, offset: u64, length: u64) {
        self.by_offset.remove(&offset);
        self.by_length.remove(&(length, offset));
    }

    /// Takes a place of this length, from the smallest hole that has room for it.
    pub(super) fn take(&mut self, length: u64) -> Option<u64> {
        let &(found, offset) = self.by_length.range((length, 0)..).next()?;
        self.remove(offset, found);
        if found > length {
            self.add(offset + length, found - length);
        }
        Some(offset)
    }

    /// All of them, in order: offsets and lengths.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.by_offset
            .iter()
            .map(|(&offset, &length)| (offset, length))
    }

    /// Whether there is a place of this length.
    pub(super) fn has(&self, length: u64) -> bool {
        self.by_length.range((length, 0)..).next().is_some()
    }

    /// Adds a place that the commit `sequence` has freed: it serves again when no record that
    /// is replayed can refer to it.
    pub(super) fn add_later(&mut self, sequence: u64, offset: u64, length: u64) {
        self.waiting.push_back((sequence, offset, length));
    }

    /// The last commit is `sequence`; a place waits for as many commits as `quarantine`. Those that
    /// have waited long enough, one after the other: nothing refers to them any more.
    pub(super) fn settled(&mut self, sequence: u64, quarantine: u64) -> Option<(u64, u64)> {
        let &(freed, offset, length) = self.waiting.front()?;
        if freed + quarantine > sequence + 1 {
            return None;
        }
        self.waiting.pop_front();
        Some((offset, length))
    }
}

#[cfg(test)]
mod tests {
    use super::Holes;

    #[test]
    fn neighbours_are_one_and_the_smallest_that_fits_is_taken() {
        let mut holes = Holes::default();
        assert_eq!(holes.take(1), None);
        holes.add(100, 10);
        holes.add(120, 10);
        assert_eq!(holes.take(11), None);
        holes.add(110, 10);
        holes.add(200, 12);
        assert_eq!(holes.take(12), Some(200));
        assert_eq!(holes.take(12), Some(100));
        assert_eq!(holes.take(18), Some(112));
        assert_eq!(holes.take(1), None);
    }

    #[test]
    fn a_freed_place_waits_for_two_commits() {
        let mut holes = Holes::default();
        holes.add_later(7, 0, 8);
        assert_eq!(holes.settled(7, 2), None);
        assert_eq!(holes.settled(8, 2), Some((0, 8)));
        assert_eq!(holes.settled(8, 2), None);
    }
}
