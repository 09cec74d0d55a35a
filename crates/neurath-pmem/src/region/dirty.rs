//! Which pages were changed.

use super::format::PAGE;

/// Pages written at once, at most.
pub(super) const RUN: u64 = 64;

/// A set of pages, which are given back in the order of their places, round and round.
#[derive(Debug, Default)]
pub(super) struct DirtyPages {
    /// One bit a page.
    words: Vec<u64>,
    count: u64,
    /// No page before this word was left when it was last looked at.
    from: usize,
}

impl DirtyPages {
    /// How many there are.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Adds the pages of a range.
    #[inline]
    pub(super) fn mark(&mut self, offset: u64, len: u64) {
        let last = (offset + len.max(1) - 1) / PAGE;
        for page in offset / PAGE..=last {
            let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
            if word >= self.words.len() {
                self.words.resize(word + 1, 0);
            }
            if self.words[word] & bit == 0 {
                self.words[word] |= bit;
                self.count += 1;
                self.from = self.from.min(word);
            }
        }
    }

    /// Those of a range that begins with a page, as runs that are cut at its end: offset and length.
    pub(super) fn runs(&self, offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> + '_ {
        let (mut page, end) = (offset / PAGE, offset + len);
        std::iter::from_fn(move || {
            while page * PAGE < end && !self.has(page) {
                // A word without any is passed over at once.
                let none = self
                    .words
                    .get((page / 64) as usize)
                    .is_none_or(|&word| word == 0);
                page = if none { (page / 64 + 1) * 64 } else { page + 1 };
            }
            let first = page * PAGE;
            while page * PAGE < end && self.has(page) {
                page += 1;
            }
            (first < end).then(|| (first, end.min(page * PAGE) - first))
        })
    }

    fn has(&self, page: u64) -> bool {
        let word = self.words.get((page / 64) as usize);
        word.is_some_and(|word| word & 1 << (page % 64) != 0)
    }

    fn take(&mut self, page: u64) -> bool {
        let (word, bit) = ((page / 64) as usize, 1 << (page % 64));
        match self.words.get_mut(word) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                self.count -= 1;
                true
            }
            _ => false,
        }
    }

    /// Takes out the first pages that lie beside each other, at most so many: their offset
    /// and length in bytes.
    pub(super) fn take_run(&mut self, most: u64) -> Option<(u64, u64)> {
        while self.words.get(self.from).is_some_and(|&word| word == 0) {
            self.from += 1;
        }
        let word = self.words.get(self.from)?;
        let first = self.from as u64 * 64 + u64::from(word.trailing_zeros());
        let mut end = first;
        while end - first < most && self.take(end) {
            end += 1;
        }
        Some((first * PAGE, (end - first) * PAGE))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{DirtyPages, PAGE};

    proptest! {
        #[test]
        fn what_was_marked_is_taken_once_and_nothing_else(
            steps in prop::collection::vec((any::<bool>(), 0u64..400 * PAGE, 0u64..3 * PAGE), 1..80)
        ) {
            let (mut pages, mut model) = (DirtyPages::default(), BTreeSet::new());
            for (mark, at, len) in steps {
                if mark {
                    pages.mark(at, len);
                    model.extend(at / PAGE..=(at + len.max(1) - 1) / PAGE);
                } else if let Some((at, len)) = pages.take_run(5) {
                    prop_assert!(len > 0 && len <= 5 * PAGE);
                    prop_assert_eq!(Some(&(at / PAGE)), model.first());
                    for page in at / PAGE..(at + len) / PAGE {
                        prop_assert!(model.remove(&page));
                    }
                }
                prop_assert_eq!(pages.count(), model.len() as u64);
                let (from, len) = (at / PAGE * PAGE, len + 1);
                let mut looked = from;
                for (run, cut) in pages.runs(from, len) {
                    prop_assert!(cut > 0 && run >= looked && run + cut <= from + len);
                    prop_assert!(model.range(looked / PAGE..run / PAGE).next().is_none());
                    prop_assert!((run / PAGE..(run + cut).div_ceil(PAGE)).all(|page| model.contains(&page)));
                    looked = (run + cut).next_multiple_of(PAGE);
                }
                prop_assert!(model.range(looked / PAGE..(from + len).div_ceil(PAGE).max(looked / PAGE)).next().is_none());
            }
        }
    }
}
