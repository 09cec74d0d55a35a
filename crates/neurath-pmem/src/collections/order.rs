//! Which slots of a node are in use, and in what order: one word.
//!
//! The word of Masstree (Mao, Kohler, Morris, EuroSys 2012): the lowest four bits count
//! the slots in use, and fifteen further groups of four bits name all slots, those in use
//! first and in order, then the free ones. So an entry stays in its slot while others
//! come and go, and to insert is to write an entry and a word: no entries are shifted,
//! which would cost room in the transaction's record.

use crate::tx::TxError;

/// Slots of a node.
pub(crate) const SLOTS: usize = 15;

/// Slots in use, in order; then the free ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Order(u64);

impl Order {
    /// The first `count` slots in use, in the order of their numbers.
    pub(super) const fn first(count: usize) -> Order {
        Order(0xEDCB_A987_6543_2100 & !0xF | count as u64)
    }

    /// An order from its word.
    ///
    /// # Errors
    ///
    /// [`TxError::Invalid`] if some slot is missing.
    pub(crate) fn from_word(word: u64) -> Result<Order, TxError> {
        let order = Order(word);
        let slots = (0..SLOTS).fold(0u32, |slots, at| slots | 1 << order.slot(at));
        if slots == (1 << SLOTS) - 1 {
            Ok(order)
        } else {
            Err(TxError::Invalid)
        }
    }

    pub(super) const fn word(self) -> u64 {
        self.0
    }

    pub(crate) const fn count(self) -> usize {
        (self.0 & 0xF) as usize
    }

    /// The slot at a place in the order, or a free one beyond the last.
    pub(crate) const fn slot(self, at: usize) -> usize {
        (self.0 >> (4 + 4 * at) & 0xF) as usize
    }

    /// Takes a free slot into use, at a place in the order.
    ///
    /// # Errors
    ///
    /// [`TxError::Invalid`] if there is none, or the place is beyond the last.
    pub(super) fn insert(&mut self, at: usize) -> Result<usize, TxError> {
        let count = self.count();
        if count == SLOTS || at > count {
            return Err(TxError::Invalid);
        }
        let slot = self.slot(count);
        self.turn(at, count, slot);
        self.0 += 1;
        Ok(slot)
    }

    /// Frees the slot at a place in the order.
    ///
    /// # Errors
    ///
    /// [`TxError::Invalid`] if nothing is there.
    pub(super) fn remove(&mut self, at: usize) -> Result<usize, TxError> {
        let count = self.count();
        if at >= count {
            return Err(TxError::Invalid);
        }
        let slot = self.slot(at);
        let mut order = *self;
        for place in at..count - 1 {
            order.put(place, self.slot(place + 1));
        }
        order.put(count - 1, slot);
        order.0 -= 1;
        *self = order;
        Ok(slot)
    }

    /// Frees all but the first `count` slots in the order.
    pub(super) const fn truncate(&mut self, count: usize) {
        if count < self.count() {
            self.0 = self.0 & !0xF | count as u64;
        }
    }

    /// Moves the slots from `at` to before `end` one place on, and puts `slot` before them.
    fn turn(&mut self, at: usize, end: usize, slot: usize) {
        let mut order = *self;
        for place in at..end {
            order.put(place + 1, self.slot(place));
        }
        order.put(at, slot);
        *self = order;
    }

    fn put(&mut self, at: usize, slot: usize) {
        let shift = 4 + 4 * at;
        self.0 = self.0 & !(0xF << shift) | (slot as u64) << shift;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_order_is_a_list_of_slots(
            ops in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 0..80)
        ) {
            let mut order = Order::first(0);
            let mut list: Vec<usize> = Vec::new();
            for (what, at) in ops {
                match what {
                    0 if list.is_empty() => prop_assert!(order.remove(0).is_err()),
                    0 => {
                        let at = at.index(list.len());
                        prop_assert_eq!(order.remove(at), Ok(list.remove(at)));
                    }
                    _ if list.len() == SLOTS => prop_assert!(order.insert(0).is_err()),
                    _ => {
                        let at = at.index(list.len() + 1);
                        let slot = order.insert(at).unwrap();
                        prop_assert!(!list.contains(&slot));
                        list.insert(at, slot);
                    }
                }
                prop_assert_eq!(order.count(), list.len());
                for (at, slot) in list.iter().enumerate() {
                    prop_assert_eq!(order.slot(at), *slot);
                }
                prop_assert_eq!(Order::from_word(order.word()), Ok(order));
            }
        }
    }

    #[test]
    fn a_word_that_misses_a_slot_is_refused() {
        assert!(Order::from_word(0).is_err());
        assert!(Order::from_word(u64::MAX).is_err());
        assert!(Order::from_word(Order::first(3).word() ^ 0x10).is_err());
        assert_eq!(
            Order::from_word(Order::first(15).word()).map(Order::count),
            Ok(15)
        );
    }
}
