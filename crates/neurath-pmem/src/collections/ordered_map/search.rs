//! Finding one's way down an ordered map.

use std::cmp::Ordering;

use neurath_abi::Ref;

use super::super::order::Order;
use super::node::Node;
use super::{Direction, MAX_DEPTH, OrderedKey, OrderedMap};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;

/// What to look for on the way down.
pub(super) enum Seek<'q, Q: ?Sized> {
    First,
    Last,
    Key(&'q Q),
}

impl<Q: ?Sized> Clone for Seek<'_, Q> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Q: ?Sized> Copy for Seek<'_, Q> {}

/// A leaf, and the way to it.
pub(super) struct Path {
    /// The inner nodes by level, and which of their children was taken.
    pub(super) steps: [(Ref, Order, usize); MAX_DEPTH + 1],
    pub(super) leaf: Ref,
    pub(super) order: Order,
}

impl Path {
    /// How many nodes in a row are so, from the leaf up; `depth` is the map's.
    pub(super) fn count_up(&self, depth: u64, so: impl Fn(&Order) -> bool) -> u64 {
        let inner = (1..=depth).map(|level| &self.steps[level as usize].1);
        let all = std::iter::once(&self.order).chain(inner);
        all.take_while(|&order| so(order)).count() as u64
    }
}

/// The place in a leaf of what is sought; none if it is a key that is not there.
pub(super) fn end_of<K: OrderedKey, V: Pmem>(
    tx: &Tx<'_>,
    leaf: Ref,
    order: Order,
    seek: Seek<'_, K::Query>,
) -> Result<Option<usize>, TxError> {
    Ok(match seek {
        Seek::First => Some(0),
        Seek::Last => Some(order.count().saturating_sub(1)),
        Seek::Key(key) => match place::<K, V>(tx, leaf, 0, order, key)? {
            (at, true) => Some(at),
            (_, false) => None,
        },
    })
}

/// The place of a key among a node's keys, or of the first above it; whether it is there.
pub(super) fn place<K: OrderedKey, V: Pmem>(
    tx: &Tx<'_>,
    node: Ref,
    level: u64,
    order: Order,
    key: &K::Query,
) -> Result<(usize, bool), TxError> {
    let (mut low, mut high) = (0, order.count());
    while low < high {
        let middle = (low + high) / 2;
        let found = Node::<K, V>::key(tx, node, level, order.slot(middle))?;
        match found.compare(tx, key)? {
            Ordering::Less => low = middle + 1,
            Ordering::Equal => return Ok((middle, true)),
            Ordering::Greater => high = middle,
        }
    }
    Ok((low, false))
}

/// Which child of an inner node leads on.
pub(super) fn way<K: OrderedKey, V: Pmem>(
    tx: &Tx<'_>,
    inner: Ref,
    level: u64,
    order: Order,
    seek: Seek<'_, K::Query>,
) -> Result<usize, TxError> {
    if order.count() == 0 {
        // No inner node is without a separator.
        return Err(TxError::Invalid);
    }
    Ok(match seek {
        Seek::First => 0,
        Seek::Last => order.count(),
        Seek::Key(key) => {
            let (at, found) = place::<K, V>(tx, inner, level, order, key)?;
            at + usize::from(found)
        }
    })
}

impl<K: OrderedKey, V: Pmem> OrderedMap<K, V> {
    pub(super) fn descend(&self, tx: &Tx<'_>, seek: Seek<'_, K::Query>) -> Result<Path, TxError> {
        let mut path = Path {
            steps: [(Ref::NULL, Order::first(0), 0); MAX_DEPTH + 1],
            leaf: Ref(self.top),
            order: Order::first(0),
        };
        self.descend_from(tx, &mut path, self.depth, seek)?;
        Ok(path)
    }

    /// Goes on from the node at a level, which stands in `leaf`, down to a leaf.
    pub(super) fn descend_from(
        &self,
        tx: &Tx<'_>,
        path: &mut Path,
        level: u64,
        seek: Seek<'_, K::Query>,
    ) -> Result<(), TxError> {
        for level in (1..=level).rev() {
            let node = path.leaf;
            let order = Node::<K, V>::order(tx, node, level)?;
            let at = way::<K, V>(tx, node, level, order, seek)?;
            path.steps[level as usize] = (node, order, at);
            path.leaf = Node::<K, V>::child_at(tx, node, order, at)?;
        }
        path.order = Node::<K, V>::order(tx, path.leaf, 0)?;
        if path.order.count() == 0 {
            // No leaf is without an entry.
            return Err(TxError::Invalid);
        }
        Ok(())
    }

    /// Goes to the next leaf; whether there is one.
    pub(super) fn neighbour(
        &self,
        tx: &Tx<'_>,
        path: &mut Path,
        direction: Direction,
    ) -> Result<bool, TxError> {
        for level in 1..=self.depth {
            let (node, order, at) = path.steps[level as usize];
            let (next, seek) = match direction {
                Direction::Up if at < order.count() => (at + 1, Seek::First),
                Direction::Down if at > 0 => (at - 1, Seek::Last),
                _ => continue,
            };
            path.steps[level as usize].2 = next;
            path.leaf = Node::<K, V>::child_at(tx, node, order, next)?;
            self.descend_from(tx, path, level - 1, seek)?;
            return Ok(true);
        }
        Ok(false)
    }

    /// Where a key's entry is.
    pub(super) fn find(
        &self,
        tx: &Tx<'_>,
        key: &K::Query,
    ) -> Result<Option<(Ref, usize)>, TxError> {
        if !self.check_header()? {
            return Ok(None);
        }
        let path = self.descend(tx, Seek::Key(key))?;
        let (at, found) = place::<K, V>(tx, path.leaf, 0, path.order, key)?;
        Ok(found.then(|| (path.leaf, path.order.slot(at))))
    }

    pub(super) fn end(
        &self,
        tx: &Tx<'_>,
        seek: Seek<'_, K::Query>,
    ) -> Result<Option<(K, V)>, TxError> {
        if !self.check_header()? {
            return Ok(None);
        }
        let path = self.descend(tx, seek)?;
        let at = match seek {
            Seek::Last => path.order.count() - 1,
            _ => 0,
        };
        let slot = path.order.slot(at);
        let key = Node::<K, V>::key(tx, path.leaf, 0, slot)?;
        Ok(Some((key, Node::<K, V>::value(tx, path.leaf, slot)?)))
    }
}
