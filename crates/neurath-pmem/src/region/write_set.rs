//! What a transaction has changed so far: words of existing objects, and whole new
//! objects. All of it in memory that is thrown away with the transaction.

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

    pub(super) fn insert(&mut self, key: u64, value: u32) {
        if (self.len + 1) * 2 > self.slots.len() {
            let mut larger = Index {
                slots: vec![
                    Slot {
                        key: 0,
                        value: 0,
                        epoch: 0
                    };
                    self.slots.len() * 2
                ],
                epoch: 1,
                len: 0,
            };
            for slot in self.slots.iter().filter(|slot| slot.epoch == self.epoch) {
                larger.insert(slot.key, slot.value);
            }
            *self = larger;
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
    fresh: Vec<Fresh>,
    fresh_index: Index,
    arena: Vec<u64>,
}

/// The arena that is kept from one transaction to the next, in bytes.
const ARENA_KEPT: usize = 1 << 20;

impl WriteSet {
    pub(super) fn new() -> WriteSet {
        WriteSet {
            words: Vec::new(),
            index: Index::new(),
            fresh: Vec::new(),
            fresh_index: Index::new(),
            arena: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.words.is_empty() && self.fresh.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.words.clear();
        self.index.clear();
        self.fresh.clear();
        self.fresh_index.clear();
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

    pub(super) fn word(&self, offset: u64) -> Option<u64> {
        self.index.get(offset).map(|at| self.words[at as usize].1)
    }

    pub(super) fn set_word(&mut self, offset: u64, value: u64) {
        if let Some(at) = self.index.get(offset) {
            self.words[at as usize].1 = value;
        } else {
            self.index.insert(offset, self.words.len() as u32);
            self.words.push((offset, value));
        }
    }

    /// Adds a zeroed object that will lie at `offset`.
    pub(super) fn add_fresh(&mut self, offset: u64, len: u64) {
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
        !std::mem::replace(&mut fresh.dead, true)
    }

    pub(super) fn live_fresh(&self) -> impl Iterator<Item = Fresh> + '_ {
        self.fresh.iter().copied().filter(|fresh| !fresh.dead)
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
