//! The states that a crash could leave.

use std::collections::BTreeSet;

use super::models::{Pending, Survives};
use super::sim::{Random, Sim};
use super::trace::{Event, Trace};
use crate::region::Media;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// One of so many images crashes again.
    pub(crate) again: usize,
    /// Random images for each set of pending stores.
    pub(crate) samples: usize,
    /// Units of pending stores that lead and lag in turn; of more, so many at random.
    pub(crate) units: usize,
    /// One of so many events, and one of so many of its words.
    pub(crate) one_in: (usize, usize),
    /// One of so many images whose state was seen before is used all the same.
    pub(crate) lives: usize,
    /// Second lives crash as often as first ones.
    pub(crate) deep: bool,
    /// Each recovery that differs from all before crashes again.
    pub(crate) recoveries: bool,
}

impl Effort {
    pub(crate) const FULL: Effort = Effort {
        again: 40,
        samples: 6,
        units: 24,
        one_in: (1, 1),
        lives: 32,
        deep: false,
        recoveries: true,
    };
    /// What finds most of what is wrong, soon.
    pub(crate) const QUICK: Effort = Effort {
        again: 12,
        samples: 3,
        units: 6,
        one_in: (1, 4),
        lives: 32,
        deep: false,
        recoveries: false,
    };
    /// What finds the rest: few second lives, but thoroughly.
    pub(crate) const SHARP: Effort = Effort {
        again: 3,
        deep: true,
        ..Effort::QUICK
    };
    /// Of a machine that goes down after a process.
    pub(crate) const KILLED: Effort = Effort {
        again: usize::MAX,
        samples: 3,
        units: 6,
        one_in: (1, 1),
        lives: 64,
        deep: false,
        recoveries: false,
    };
    /// Of a second life.
    pub(crate) const AGAIN: Effort = Effort {
        again: 100,
        samples: 1,
        units: 2,
        one_in: (3, 16),
        lives: 32,
        deep: false,
        recoveries: false,
    };
    /// Of a recovery alone.
    pub(crate) const IN_RECOVERY: Effort = Effort {
        again: usize::MAX,
        samples: 2,
        units: 6,
        one_in: (1, 4),
        lives: 64,
        deep: false,
        recoveries: false,
    };
}

/// One state: how many stores of each unit survive, and how long the file is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Image {
    pub(crate) counts: Vec<usize>,
    pub(crate) len: Option<u64>,
}

/// Where a store of so many words is cut off, for the prefix model.
pub(crate) fn cuts(words: usize, effort: &Effort, random: &mut Random) -> Vec<usize> {
    let mut cuts = Vec::new();
    for word in 1..words {
        // Every word of what is small, some of what is large.
        let cut = words <= 160 || word < 5 || word + 3 > words || random.chance(words / 32);
        if cut && random.chance(effort.one_in.1) {
            cuts.push(word);
        }
    }
    cuts.push(words);
    cuts
}

/// Images of pending stores: none, all, each unit ahead of and behind the others, and
/// random ones; all there are if there are few.
pub(crate) fn images(
    pending: &Pending,
    survives: Survives,
    len: u64,
    effort: &Effort,
    random: &mut Random,
) -> Vec<Image> {
    let all: Vec<usize> = pending.units.values().map(Vec::len).collect();
    let none = vec![0; all.len()];
    let mut found: BTreeSet<Vec<usize>> = [none.clone(), all.clone()].into();
    let few = all.iter().try_fold(1usize, |product, &stores| {
        product
            .checked_mul(stores + 1)
            .filter(|&states| states <= 64)
    });
    if few.is_some() {
        let mut counts = none.clone();
        // Counts as an odometer does.
        'all: loop {
            found.insert(counts.clone());
            for (count, &stores) in counts.iter_mut().zip(&all) {
                if *count < stores {
                    *count += 1;
                    continue 'all;
                }
                *count = 0;
            }
            break;
        }
    } else {
        let mut chosen: Vec<usize> = (0..all.len()).collect();
        while chosen.len() > effort.units {
            let at = random.below(chosen.len());
            chosen.swap_remove(at);
        }
        for unit in chosen {
            let (mut lead, mut lag) = (none.clone(), all.clone());
            (lead[unit], lag[unit]) = (all[unit], 0);
            found.extend([lead, lag]);
        }
        for sample in 0..effort.samples {
            let count = |&stores: &usize| match sample % 3 {
                0 => random.below(stores + 1),
                1 if random.chance(4) => 0,
                2 if !random.chance(4) => 0,
                _ => stores,
            };
            found.insert(all.iter().map(count).collect());
        }
    }
    let with_len = |counts| {
        let grown = pending.grown.filter(|_| random.chance(2));
        let len = grown.map(|to| {
            if survives.any_length() && random.chance(2) {
                len + random.next() % (to - len + 1)
            } else {
                to
            }
        });
        Image { counts, len }
    };
    found.into_iter().map(with_len).collect()
}

/// Puts an image of pending stores onto the medium.
pub(crate) fn put(image: &Image, pending: &Pending, disk: &mut Sim) {
    if let Some(len) = image.len {
        disk.grow(len).expect("simulated media grow");
    }
    for (stores, &count) in pending.units.values().zip(&image.counts) {
        for word in &stores[..count] {
            // Of a file that did not grow, nothing beyond the end survives.
            if word.at + 8 <= disk.len {
                disk.store(word.at, &word.bytes);
            }
        }
    }
}

/// Puts the first words of a store onto the medium.
pub(crate) fn put_prefix(event: &Event, trace: &Trace, words: usize, disk: &mut Sim) {
    if let Event::Store(span) = event {
        disk.store(span.at, &trace.stored(span)[..words * 8]);
    }
}

/// Makes the medium longer, as the event did.
pub(crate) fn put_growth(event: &Event, disk: &mut Sim) {
    if let Event::Grow { to, .. } = event {
        disk.grow(*to).expect("simulated media grow");
    }
}
