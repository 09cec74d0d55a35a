//! Changing an ordered map: nodes are split and filled up from the topmost one that has to be.

use neurath_abi::Ref;

use super::super::order::{Order, SLOTS};
use super::node::{HALF, LEFTMOST, Node};
use super::search::{Path, Seek, end_of, way};
use super::{Direction, MAX_DEPTH, OrderedKey, OrderedMap};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;

impl<K: OrderedKey, V: Pmem> OrderedMap<K, V> {
    /// Adds the first entry.
    pub(super) fn begin(
        &mut self,
        tx: &mut Tx<'_>,
        key: &K::Query,
        value: &V,
    ) -> Result<(), TxError> {
        let leaf = Node::<K, V>::new_leaf(tx, value)?;
        self.top = leaf.0;
        self.put(tx, (leaf, Order::first(0)), 0, key, value)
    }

    /// Adds an entry at a place of a leaf that is not full.
    pub(super) fn put(
        &mut self,
        tx: &mut Tx<'_>,
        (leaf, mut order): (Ref, Order),
        at: usize,
        key: &K::Query,
        value: &V,
    ) -> Result<(), TxError> {
        let slot = order.insert(at)?;
        let stored = K::store(tx, key)?;
        Node::<K, V>::set_key(tx, leaf, 0, slot, &stored)?;
        Node::<K, V>::set_value(tx, leaf, slot, value)?;
        Node::<K, V>::set_order(tx, leaf, 0, order)?;
        self.len += 1;
        Ok(())
    }

    /// Makes room for a key in a leaf that is full: it and the full nodes right above it are split,
    /// from the topmost of these on. Gives the leaf that the key belongs to now. `at` is its place
    /// in the full one.
    pub(super) fn make_room(
        &mut self,
        tx: &mut Tx<'_>,
        path: &Path,
        key: &K::Query,
        at: usize,
    ) -> Result<Ref, TxError> {
        let full = path.count_up(self.depth, |order| order.count() == SLOTS);
        if full > self.depth {
            if self.depth == MAX_DEPTH as u64 {
                return Err(TxError::Full);
            }
            let above = tx.alloc_untyped(Node::<K, V>::INNER, Node::<K, V>::INNER_SIZE as u64)?;
            self.depth += 1;
            Node::<K, V>::set_child(tx, above, LEFTMOST, Ref(self.top))?;
            Node::<K, V>::set_order(tx, above, self.depth, Order::first(0))?;
            self.top = above.0;
        }
        // Both leaves have as many entries when the key is there too.
        let left = HALF + usize::from(at > HALF);
        let mut node = Ref(self.top);
        for level in (1..=self.depth).rev() {
            let mut order = Node::<K, V>::order(tx, node, level)?;
            let split = level <= full;
            if split {
                // A new topmost node has one child.
                let at = match order.count() {
                    0 => 0,
                    _ => way::<K, V>(tx, node, level, order, Seek::Key(key))?,
                };
                let left = if level == 1 { left } else { HALF };
                self.split(tx, node, level, at, left)?;
                order = Node::<K, V>::order(tx, node, level)?;
            }
            let at = way::<K, V>(tx, node, level, order, Seek::Key(key))?;
            node = Node::<K, V>::child_at(tx, node, order, at)?;
        }
        Ok(node)
    }

    /// Splits the full child at a place of an inner node, which is not full itself: so many of its
    /// keys stay there.
    fn split(
        &mut self,
        tx: &mut Tx<'_>,
        parent: Ref,
        level: u64,
        at: usize,
        stay: usize,
    ) -> Result<(), TxError> {
        let mut above = Node::<K, V>::order(tx, parent, level)?;
        let left = Node::<K, V>::child_at(tx, parent, above, at)?;
        let below = level - 1;
        let mut order = Node::<K, V>::order(tx, left, below)?;
        if order.count() != SLOTS {
            return Err(TxError::Invalid);
        }
        let middle = order.slot(stay);
        let middle_key = Node::<K, V>::key(tx, left, below, middle)?;
        let (right, separator, moved) = if below == 0 {
            let value = Node::<K, V>::value(tx, left, middle)?;
            let right = Node::<K, V>::new_leaf(tx, &value)?;
            let before = Node::<K, V>::key(tx, left, below, order.slot(stay - 1))?;
            (right, K::separator(tx, &before, &middle_key)?, stay)
        } else {
            let right = tx.alloc_untyped(Node::<K, V>::INNER, Node::<K, V>::INNER_SIZE as u64)?;
            let child = Node::<K, V>::child(tx, left, middle)?;
            Node::<K, V>::set_child(tx, right, LEFTMOST, child)?;
            (right, middle_key, stay + 1)
        };
        for (to, at) in (moved..SLOTS).enumerate() {
            self.copy(tx, below, (left, order.slot(at)), (right, to))?;
        }
        Node::<K, V>::set_order(tx, right, below, Order::first(SLOTS - moved))?;
        order.truncate(stay);
        Node::<K, V>::set_order(tx, left, below, order)?;
        let slot = above.insert(at)?;
        Node::<K, V>::set_key(tx, parent, level, slot, &separator)?;
        Node::<K, V>::set_child(tx, parent, slot, right)?;
        Node::<K, V>::set_order(tx, parent, level, above)
    }

    /// Copies a slot: the key, and the value or the child.
    fn copy(
        &self,
        tx: &mut Tx<'_>,
        level: u64,
        (from, slot): (Ref, usize),
        (to, target): (Ref, usize),
    ) -> Result<(), TxError> {
        let key = Node::<K, V>::key(tx, from, level, slot)?;
        Node::<K, V>::set_key(tx, to, level, target, &key)?;
        if level == 0 {
            let value = Node::<K, V>::value(tx, from, slot)?;
            Node::<K, V>::set_value(tx, to, target, &value)
        } else {
            let child = Node::<K, V>::child(tx, from, slot)?;
            Node::<K, V>::set_child(tx, to, target, child)
        }
    }

    /// Takes an entry out, if it is there. The map has some.
    pub(super) fn take(
        &mut self,
        tx: &mut Tx<'_>,
        seek: Seek<'_, K::Query>,
    ) -> Result<Option<(K, V)>, TxError> {
        let path = self.descend(tx, seek)?;
        let (mut leaf, mut order) = (path.leaf, path.order);
        let Some(mut at) = end_of::<K, V>(tx, leaf, order, seek)? else {
            return Ok(None);
        };
        if order.count() <= HALF && self.depth > 0 {
            leaf = self.fill_up_to(tx, &path, seek)?;
            order = Node::<K, V>::order(tx, leaf, 0)?;
            at = end_of::<K, V>(tx, leaf, order, seek)?.ok_or(TxError::Invalid)?;
        }
        let slot = order.remove(at)?;
        let key = Node::<K, V>::key(tx, leaf, 0, slot)?;
        let value = Node::<K, V>::value(tx, leaf, slot)?;
        self.len = self.len.checked_sub(1).ok_or(TxError::Invalid)?;
        if order.count() == 0 {
            if self.len > 0 || self.depth > 0 {
                return Err(TxError::Invalid);
            }
            tx.free_untyped(leaf, Node::<K, V>::LEAF)?;
            *self = OrderedMap::EMPTY;
        } else {
            Node::<K, V>::set_order(tx, leaf, 0, order)?;
        }
        Ok(Some((key, value)))
    }

    /// Fills up a leaf that is half empty, and before it the nodes right above it that are so too,
    /// from the topmost of these on: each may lose a key to the one below. Gives the leaf that
    /// is sought now.
    fn fill_up_to(
        &mut self,
        tx: &mut Tx<'_>,
        path: &Path,
        seek: Seek<'_, K::Query>,
    ) -> Result<Ref, TxError> {
        let low = path.count_up(self.depth, |order| order.count() <= HALF);
        let mut node = Ref(self.top);
        for level in (1..=self.depth).rev() {
            let mut order = Node::<K, V>::order(tx, node, level)?;
            if level <= low {
                let at = way::<K, V>(tx, node, level, order, seek)?;
                self.fill_up(tx, node, level, at)?;
                order = Node::<K, V>::order(tx, node, level)?;
            }
            if order.count() > 0 {
                let at = way::<K, V>(tx, node, level, order, seek)?;
                node = Node::<K, V>::child_at(tx, node, order, at)?;
            } else if node.0 == self.top {
                // Its last two children became one, which takes its place.
                let child = Node::<K, V>::child(tx, node, LEFTMOST)?;
                tx.free_untyped(node, Node::<K, V>::INNER)?;
                self.top = child.0;
                self.depth -= 1;
                node = child;
            } else {
                return Err(TxError::Invalid);
            }
        }
        Ok(node)
    }

    /// Gives the child at a place another entry from one beside it, or joins the two.
    fn fill_up(
        &mut self,
        tx: &mut Tx<'_>,
        parent: Ref,
        level: u64,
        at: usize,
    ) -> Result<(), TxError> {
        let above = Node::<K, V>::order(tx, parent, level)?;
        let spare = |at: usize| -> Result<bool, TxError> {
            let child = Node::<K, V>::child_at(tx, parent, above, at)?;
            Ok(Node::<K, V>::order(tx, child, level - 1)?.count() > HALF)
        };
        if at > 0 && spare(at - 1)? {
            self.shift(tx, parent, level, at - 1, Direction::Up)
        } else if at < above.count() && spare(at + 1)? {
            self.shift(tx, parent, level, at, Direction::Down)
        } else {
            self.join(tx, parent, level, at.saturating_sub(1))
        }
    }

    /// Moves an entry over the separator at a place: up from the child before it to the one
    /// behind it, or down.
    fn shift(
        &mut self,
        tx: &mut Tx<'_>,
        parent: Ref,
        level: u64,
        at: usize,
        direction: Direction,
    ) -> Result<(), TxError> {
        let above = Node::<K, V>::order(tx, parent, level)?;
        let below = level - 1;
        let left = Node::<K, V>::child_at(tx, parent, above, at)?;
        let right = Node::<K, V>::child_at(tx, parent, above, at + 1)?;
        let (from, to) = match direction {
            Direction::Up => (left, right),
            Direction::Down => (right, left),
        };
        let mut source = Node::<K, V>::order(tx, from, below)?;
        let mut target = Node::<K, V>::order(tx, to, below)?;
        let last = source.count().checked_sub(1).ok_or(TxError::Invalid)?;
        let (slot, free) = match direction {
            Direction::Up => (source.remove(last)?, target.insert(0)?),
            Direction::Down => (source.remove(0)?, target.insert(target.count())?),
        };
        if source.count() == 0 {
            return Err(TxError::Invalid);
        }
        let moved = Node::<K, V>::key(tx, from, below, slot)?;
        let between = Node::<K, V>::key(tx, parent, level, above.slot(at))?;
        let separator = if below == 0 {
            self.copy(tx, below, (from, slot), (to, free))?;
            between.free_owned(tx)?;
            match direction {
                Direction::Up => {
                    let end = source.slot(source.count() - 1);
                    let end = Node::<K, V>::key(tx, from, below, end)?;
                    K::separator(tx, &end, &moved)?
                }
                Direction::Down => {
                    let end = Node::<K, V>::key(tx, from, below, source.slot(0))?;
                    K::separator(tx, &moved, &end)?
                }
            }
        } else {
            // Separators turn: one down from the parent, one up to it.
            Node::<K, V>::set_key(tx, to, below, free, &between)?;
            let child = Node::<K, V>::child(tx, from, slot)?;
            match direction {
                Direction::Up => {
                    let leftmost = Node::<K, V>::child(tx, to, LEFTMOST)?;
                    Node::<K, V>::set_child(tx, to, free, leftmost)?;
                    Node::<K, V>::set_child(tx, to, LEFTMOST, child)?;
                }
                Direction::Down => {
                    let leftmost = Node::<K, V>::child(tx, from, LEFTMOST)?;
                    Node::<K, V>::set_child(tx, to, free, leftmost)?;
                    Node::<K, V>::set_child(tx, from, LEFTMOST, child)?;
                }
            }
            moved
        };
        Node::<K, V>::set_order(tx, from, below, source)?;
        Node::<K, V>::set_order(tx, to, below, target)?;
        Node::<K, V>::set_key(tx, parent, level, above.slot(at), &separator)
    }

    /// Joins the children on both sides of the separator at a place.
    fn join(&mut self, tx: &mut Tx<'_>, parent: Ref, level: u64, at: usize) -> Result<(), TxError> {
        let mut above = Node::<K, V>::order(tx, parent, level)?;
        let below = level - 1;
        let left = Node::<K, V>::child_at(tx, parent, above, at)?;
        let right = Node::<K, V>::child_at(tx, parent, above, at + 1)?;
        let slot = above.remove(at)?;
        let between = Node::<K, V>::key(tx, parent, level, slot)?;
        let mut order = Node::<K, V>::order(tx, left, below)?;
        let others = Node::<K, V>::order(tx, right, below)?;
        if below == 0 {
            between.free_owned(tx)?;
        } else {
            let free = order.insert(order.count())?;
            let child = Node::<K, V>::child(tx, right, LEFTMOST)?;
            Node::<K, V>::set_key(tx, left, below, free, &between)?;
            Node::<K, V>::set_child(tx, left, free, child)?;
        }
        for at in 0..others.count() {
            let free = order.insert(order.count())?;
            self.copy(tx, below, (right, others.slot(at)), (left, free))?;
        }
        tx.free_untyped(right, Node::<K, V>::at_level(below))?;
        Node::<K, V>::set_order(tx, left, below, order)?;
        Node::<K, V>::set_order(tx, parent, level, above)
    }
}
