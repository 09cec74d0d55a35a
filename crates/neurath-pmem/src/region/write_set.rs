//! What a transaction has changed so far: words of existing objects, and whole new
//! objects. All of it in memory that is thrown away with the transaction.

use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// Numbers to numbers, emptied in constant time: open addressing with linear probing.
#[derive(Debug)]
pub(super) struct Index {
    slots: Vec<Slot>,
    epoch: u32,
    len: usize,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    key: u64,
    value: u32,
    epoch: u32,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            slots: vec![
                Slot {
                    key: 0,
                    value: 0,
                    epoch: 0
                };
                64
            ],
            epoch: 1,
            len: 0,
        }
    }

    #[inline]
    fn place(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = (key.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize & mask;
        while self.slots[at].epoch == self.epoch && self.slots[at].key != key {
            at = (at + 1) & mask;
        }
        at
    }

    #[inline]
    pub(super) fn get(&self, key: u64) -> Option<u32> {
        if self.len == 0 {
            return None;
        }
        let slot = &self.slots[self.place(key)];
        (slot.epoch == self.epoch).then_some(slot.value)
    }

    #[inline]
    pub(super) fn insert(&mut self, key: u64, value: u32) {
        if (self.len + 1) * 2 > self.slots.len() {
            self.double();
        }
        let at = self.place(key);
        if self.slots[at].epoch != self.epoch {
            self.len += 1;
        }
        self.slots[at] = Slot {
            key,
            value,
            epoch: self.epoch,
        };
    }

    #[cold]
    fn double(&mut self) {
        let empty = Slot {
            key: 0,
            value: 0,
            epoch: 0,
        };
        let mut larger = Index {
            slots: vec![empty; self.slots.len() * 2],
            epoch: 1,
            len: 0,
        };
        for slot in self.slots.iter().filter(|slot| slot.epoch == self.epoch) {
            larger.insert(slot.key, slot.value);
        }
        *self = larger;
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.epoch = self.epoch.checked_add(1).unwrap_or_else(|| {
            self.slots.fill(Slot {
                key: 0,
                value: 0,
                epoch: 0,
            });
            1
        });
    }
}

/// A new object: its bytes in the arena.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fresh {
    /// Where it will lie in the file.
    pub(super) offset: u64,
    /// Where it lies in the arena.
    pub(super) at: usize,
    /// Its length in bytes.
    pub(super) len: u64,
    /// Whether it was freed again.
    pub(super) dead: bool,
}

/// The changes of one transaction.
#[derive(Debug)]
pub(super) struct WriteSet {
    words: Vec<(u64, u64)>,
    index: Index,
    lines: Lines,
    fresh: Vec<Fresh>,
    fresh_index: Index,
    /// How many of `fresh` are dead.
    dead: usize,
    arena: Vec<u64>,
}

/// A Bloom filter of the lines that words are in: most questions are about others.
#[derive(Clone, Copy, Debug)]
struct Lines([u64; 16]);

impl Lines {
    const NONE: Lines = Lines([0; 16]);

    /// A line's place in the filter.
    #[inline]
    fn place(offset: u64) -> (usize, u64) {
        let hash = (offset / LINE).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        ((hash >> 60) as usize, 1 << (hash >> 54 & 63))
    }

    #[inline]
    fn may_hold(&self, offset: u64) -> bool {
        let (at, bit) = Lines::place(offset);
        self.0[at] & bit != 0
    }

    #[inline]
    fn insert(&mut self, offset: u64) {
        let (at, bit) = Lines::place(offset);
        self.0[at] |= bit;
    }
}

/// Bytes of a line, as the filter counts.
pub(super) const LINE: u64 = 64;

/// The arena that is kept from one transaction to the next, in bytes.
const ARENA_KEPT: usize = 1 << 20;

impl WriteSet {
    pub(super) fn new() -> WriteSet {
        WriteSet {
            words: Vec::new(),
            index: Index::new(),
            lines: Lines::NONE,
            fresh: Vec::new(),
            fresh_index: Index::new(),
            dead: 0,
            arena: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.fresh.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.index.clear();
        self.lines = Lines::NONE;
        self.fresh.clear();
        self.fresh_index.clear();
        self.dead = 0;
        self.arena.clear();
        self.arena.shrink_to(ARENA_KEPT / 8);
    }

    /// Bytes of a record with all this.
    pub(super) fn record_len(&self) -> u64 {
        super::format::record_len(self.words.len() as u64, self.fresh.len() as u64)
    }

    /// The words to set, by their places in the file.
    pub(super) fn words(&self) -> &[(u64, u64)] {
        &self.words
    }

    /// The word's value, if it is to be set.
    #[inline]
    pub(super) fn word(&self, offset: u64) -> Option<u64> {
        if !self.lines.may_hold(offset) {
            return None;
        }
        self.index.get(offset).map(|at| self.words[at as usize].1)
    }

    /// Whether a word of this line may be among those to set.
    #[inline]
    pub(super) fn may_hold_line(&self, offset: u64) -> bool {
        self.lines.may_hold(offset)
    }

    #[inline]
    pub(super) fn set_word(&mut self, offset: u64, value: u64) {
        if self.lines.may_hold(offset)
            && let Some(at) = self.index.get(offset)
        {
            self.words[at as usize].1 = value;
        } else {
            self.add_word(offset, value);
        }
    }

    /// Sets a word that is not yet among those to set.
    #[inline]
    pub(super) fn add_word(&mut self, offset: u64, value: u64) {
        self.lines.insert(offset);
        self.index.insert(offset, self.words.len() as u32);
        self.words.push((offset, value));
    }

    /// Adds a zeroed object that will lie at `offset`.
    pub(super) fn add_fresh(&mut self, offset: u64, len: u64) {
        debug_assert!(len.is_multiple_of(8), "an object is of whole words");
        let at = self.arena.len() * 8;
        self.arena
            .resize(self.arena.len() + len.div_ceil(8) as usize, 0);
        self.fresh_index.insert(offset, self.fresh.len() as u32);
        self.fresh.push(Fresh {
            offset,
            at,
            len,
            dead: false,
        });
    }

    /// The new object at `offset`, if there is one.
    #[inline]
    pub(super) fn find_fresh(&self, offset: u64) -> Option<Fresh> {
        let fresh = self.fresh[self.fresh_index.get(offset)? as usize];
        (!fresh.dead).then_some(fresh)
    }

    /// Forgets the new object at `offset`; whether there was one.
    pub(super) fn drop_fresh(&mut self, offset: u64) -> bool {
        let Some(at) = self.fresh_index.get(offset) else {
            return false;
        };
        let fresh = &mut self.fresh[at as usize];
        let was_there = !std::mem::replace(&mut fresh.dead, true);
        self.dead += usize::from(was_there);
        was_there
    }

    pub(super) fn live_fresh(&self) -> impl Iterator<Item = Fresh> + '_ {
        self.fresh.iter().copied().filter(|fresh| !fresh.dead)
    }

    /// The hash of the new objects' bytes, one after the other.
    pub(super) fn fresh_hash(&self, seed: u64) -> u64 {
        if self.dead == 0 {
            // So they lie in the arena: objects are whole words.
            return xxh3_64_with_seed(self.arena_bytes(), seed);
        }
        let mut hasher = Xxh3::with_seed(seed);
        for fresh in self.live_fresh() {
            hasher.update(self.fresh_bytes(fresh));
        }
        hasher.digest()
    }

    pub(super) fn fresh_bytes(&self, fresh: Fresh) -> &[u8] {
        &self.arena_bytes()[fresh.at..fresh.at + fresh.len as usize]
    }

    pub(super) fn fresh_bytes_mut(&mut self, fresh: Fresh) -> &mut [u8] {
        let len = self.arena.len() * 8;
        // SAFETY: the words' own memory, as bytes.
        let bytes =
            unsafe { std::slice::from_raw_parts_mut(self.arena.as_mut_ptr().cast::<u8>(), len) };
        &mut bytes[fresh.at..fresh.at + fresh.len as usize]
    }

    fn arena_bytes(&self) -> &[u8] {
        // SAFETY: the words' own memory, as bytes.
        unsafe { std::slice::from_raw_parts(self.arena.as_ptr().cast(), self.arena.len() * 8) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::{Index, WriteSet};
    use xxhash_rust::xxh3::Xxh3;

    proptest! {
        #[test]
        fn the_index_is_a_map(rounds in prop::collection::vec(
            prop::collection::vec((0u64..200, any::<u32>()), 0..120), 1..5)
        ) {
            let mut index = Index::new();
            for round in rounds {
                let mut model = HashMap::new();
                for (key, value) in round {
                    index.insert(key * 8, value);
                    model.insert(key * 8, value);
                }
                for key in 0..200 {
                    prop_assert_eq!(index.get(key * 8), model.get(&(key * 8)).copied());
                }
                index.clear();
                prop_assert_eq!(index.get(0), None);
            }
        }
    }

    proptest! {
        /// Words in few lines and many, so that the filter says yes and no.
        #[test]
        fn a_set_holds_the_last_value_of_each_word(
            writes in prop::collection::vec((0u64..2000, any::<u64>()), 0..300)
        ) {
            let mut set = WriteSet::new();
            let mut model = HashMap::new();
            for (at, value) in writes {
                prop_assert_eq!(set.word(at * 8), model.get(&at).copied());
                set.set_word(at * 8, value);
                model.insert(at, value);
            }
            for at in 0..2000 {
                prop_assert_eq!(set.word(at * 8), model.get(&at).copied());
            }
            prop_assert_eq!(set.words().len(), model.len());
            set.clear();
            prop_assert!((0..2000).all(|at| set.word(at * 8).is_none()));
        }

        /// By whichever way it is computed: as a recovery does it, object by object.
        #[test]
        fn the_hash_is_of_the_objects_one_after_the_other(
            objects in prop::collection::vec((1usize..60, any::<u8>(), prop::bool::weighted(0.2)), 0..9),
            seed in any::<u64>(),
        ) {
            let mut set = WriteSet::new();
            let mut hasher = Xxh3::with_seed(seed);
            for (n, (words, byte, dead)) in objects.iter().enumerate() {
                let offset = n as u64 * 4096;
                set.add_fresh(offset, *words as u64 * 8);
                let fresh = set.find_fresh(offset).unwrap();
                set.fresh_bytes_mut(fresh).fill(*byte);
                if *dead {
                    set.drop_fresh(offset);
                } else {
                    hasher.update(&vec![*byte; words * 8]);
                }
            }
            prop_assert_eq!(set.fresh_hash(seed), hasher.digest());
        }
    }

    #[test]
    fn a_dropped_object_is_gone() {
        let mut set = WriteSet::new();
        set.add_fresh(64, 24);
        set.add_fresh(128, 8);
        let fresh = set.find_fresh(64).unwrap();
        set.fresh_bytes_mut(fresh).fill(7);
        assert!(set.drop_fresh(64));
        assert!(!set.drop_fresh(64));
        assert!(set.find_fresh(64).is_none());
        assert_eq!(set.live_fresh().count(), 1);
        assert_eq!(set.fresh_bytes(set.find_fresh(128).unwrap()), [0; 8]);
    }
}
