//! A map in the order of its keys.
//!
//! A B+tree (Bayer and McCreight 1972; Comer, Computing Surveys 1979): entries are in
//! leaves, all at the same depth, and inner nodes hold separators. Nodes have fifteen
//! slots, whose order is one word (see `order.rs`), so that an insertion writes the entry
//! and that word. What has to be split, because it is full, or filled up from its neighbour,
//! because it is half empty, is known from the way down: a leaf, and the nodes right above it that
//! are so too. This is done from the topmost of them on, so that no operation goes back up.
//! Between two keys of bytes, the separator is the shortest that tells them apart (Bayer
//! and Unterauer, TODS 1977).
//!
//! The number of slots does not depend on the types: so a conversion of the values, also
//! to values of another size, converts each leaf in its place. The unused slots hold
//! values that were once in the leaf, so that it meets no bytes that are no value.

mod change;
mod node;
mod search;

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::{Bound, RangeBounds};

use neurath_abi::Ref;

use super::order::SLOTS;
use super::{Bytes, MapKey};
use crate::schema::{Field, Kind, TypeSchema};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;
use node::Node;
use search::{Seek, place};

/// How many levels of inner nodes there may be: of eight children each, they lead to 2^48
/// leaves.
const MAX_DEPTH: usize = 16;

/// A key of an [`OrderedMap`].
pub trait OrderedKey: MapKey {
    /// How this key stands to another.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    fn compare(&self, tx: &Tx<'_>, query: &Self::Query) -> Result<Ordering, TxError>;

    /// A key of its own above `left` and not above `right`.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    fn separator(tx: &mut Tx<'_>, left: &Self, right: &Self) -> Result<Self, TxError>;
}

impl OrderedKey for Bytes {
    fn compare(&self, tx: &Tx<'_>, query: &[u8]) -> Result<Ordering, TxError> {
        Ok(self.get(tx)?.cmp(query))
    }

    fn separator(tx: &mut Tx<'_>, left: &Bytes, right: &Bytes) -> Result<Bytes, TxError> {
        let (low, high) = (left.get(tx)?, right.get(tx)?);
        let common = low.iter().zip(high).take_while(|(a, b)| a == b).count();
        let separator = high[..high.len().min(common + 1)].to_vec();
        Bytes::new(tx, &separator)
    }
}

macro_rules! number_keys {
    ($($type:ident)*) => {$(
        impl OrderedKey for $type {
            fn compare(&self, _: &Tx<'_>, query: &$type) -> Result<Ordering, TxError> {
                Ok(self.cmp(query))
            }

            fn separator(_: &mut Tx<'_>, _: &$type, right: &$type) -> Result<$type, TxError> {
                Ok(*right)
            }
        }
    )*};
}

number_keys!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

/// The header of a map from `K` to `V` in the order of the keys. It owns both.
#[repr(C)]
pub struct OrderedMap<K, V> {
    len: u64,
    /// The topmost node.
    top: u64,
    /// How many levels of inner nodes there are.
    depth: u64,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for OrderedMap<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for OrderedMap<K, V> {}
impl<K, V> std::fmt::Debug for OrderedMap<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OrderedMap({} entries)", self.len)
    }
}
impl<K, V> Default for OrderedMap<K, V> {
    fn default() -> Self {
        Self::EMPTY
    }
}

// SAFETY: plain data without padding (three words), described as it is; any bits are a
// value, as every reference is checked when it is used and every number where it is.
unsafe impl<K: Pmem, V: Pmem> Pmem for OrderedMap<K, V> {
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "OrderedMap",
        size: size_of::<OrderedMap<K, V>>(),
        align: align_of::<OrderedMap<K, V>>(),
        kind: Kind::Collection {
            fields: &[
                Field {
                    name: "len",
                    offset: offset_of!(Self, len),
                    schema: u64::SCHEMA,
                },
                Field {
                    name: "top",
                    offset: offset_of!(Self, top),
                    schema: u64::SCHEMA,
                },
                Field {
                    name: "depth",
                    offset: offset_of!(Self, depth),
                    schema: u64::SCHEMA,
                },
            ],
            objects: &[Node::<K, V>::LEAF_SCHEMA, Node::<K, V>::INNER_SCHEMA],
        },
    };
    const ANY_BITS: bool = true;

    fn valid(_: &[u8]) -> bool {
        true
    }

    fn free_owned(&self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        if self.check_header()? {
            Node::<K, V>::free_all(tx, Ref(self.top), self.depth)?;
        }
        Ok(())
    }
}

impl<K, V> OrderedMap<K, V> {
    /// A map without entries; takes no room.
    pub const EMPTY: OrderedMap<K, V> = OrderedMap {
        len: 0,
        top: 0,
        depth: 0,
        types: PhantomData,
    };

    /// The same entries in a map of other types: for a conversion, which converts the
    /// nodes by itself.
    pub fn carry_over<L, W>(self) -> OrderedMap<L, W> {
        let OrderedMap {
            len, top, depth, ..
        } = self;
        OrderedMap {
            len,
            top,
            depth,
            types: PhantomData,
        }
    }

    /// How many entries there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Refuses numbers that no map has; whether there is a node at all.
    fn check_header(&self) -> Result<bool, TxError> {
        let some = self.top != 0;
        let sound = self.depth <= MAX_DEPTH as u64
            && self.len < 1 << 48
            && some == (self.len > 0)
            && (some || self.depth == 0);
        if sound {
            Ok(some)
        } else {
            Err(TxError::Invalid)
        }
    }
}

/// Which way to go through a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Direction {
    /// From the lowest key up.
    Up,
    /// From the highest key down.
    Down,
}

impl<K: OrderedKey, V: Pmem> OrderedMap<K, V> {
    /// The value of a key.
    ///
    /// # Errors
    ///
    /// Those of the transaction, as for every operation here: [`TxError::Invalid`] and
    /// [`TxError::BadRef`] if the tree is damaged.
    pub fn get(&self, tx: &Tx<'_>, key: &K::Query) -> Result<Option<V>, TxError> {
        match self.find(tx, key)? {
            Some((leaf, slot)) => Node::<K, V>::value(tx, leaf, slot).map(Some),
            None => Ok(None),
        }
    }

    /// Sets a key's value; gives the one it had, whose belongings are the caller's to free.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn insert(
        &mut self,
        tx: &mut Tx<'_>,
        key: &K::Query,
        value: &V,
    ) -> Result<Option<V>, TxError> {
        if !self.check_header()? {
            self.begin(tx, key, value)?;
            return Ok(None);
        }
        let path = self.descend(tx, Seek::Key(key))?;
        let (at, found) = place::<K, V>(tx, path.leaf, 0, path.order, key)?;
        if found {
            let slot = path.order.slot(at);
            let old = Node::<K, V>::value(tx, path.leaf, slot)?;
            Node::<K, V>::set_value(tx, path.leaf, slot, value)?;
            return Ok(Some(old));
        }
        if path.order.count() < SLOTS {
            self.put(tx, (path.leaf, path.order), at, key, value)?;
            return Ok(None);
        }
        let leaf = self.make_room(tx, &path, key, at)?;
        let order = Node::<K, V>::order(tx, leaf, 0)?;
        let (at, _) = place::<K, V>(tx, leaf, 0, order, key)?;
        self.put(tx, (leaf, order), at, key, value)?;
        Ok(None)
    }

    /// Removes a key; gives the value it had, whose belongings are the caller's to free.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn remove(&mut self, tx: &mut Tx<'_>, key: &K::Query) -> Result<Option<V>, TxError> {
        if !self.check_header()? {
            return Ok(None);
        }
        let Some((key, value)) = self.take(tx, Seek::Key(key))? else {
            return Ok(None);
        };
        key.free_owned(tx)?;
        Ok(Some(value))
    }

    /// The entry of the lowest key.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn first(&self, tx: &Tx<'_>) -> Result<Option<(K, V)>, TxError> {
        self.end(tx, Seek::First)
    }

    /// The entry of the highest key.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn last(&self, tx: &Tx<'_>) -> Result<Option<(K, V)>, TxError> {
        self.end(tx, Seek::Last)
    }

    /// Removes the entry of the lowest key; what it owns is the caller's to free.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn pop_first(&mut self, tx: &mut Tx<'_>) -> Result<Option<(K, V)>, TxError> {
        if !self.check_header()? {
            return Ok(None);
        }
        self.take(tx, Seek::First)
    }

    /// Frees the first `entries` entries with all that they own; whether the map is empty
    /// now. So a map too large to be freed in one transaction is freed in several.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn clear_some(&mut self, tx: &mut Tx<'_>, entries: u64) -> Result<bool, TxError> {
        for _ in 0..entries {
            let Some((key, value)) = self.pop_first(tx)? else {
                break;
            };
            key.free_owned(tx)?;
            value.free_owned(tx)?;
        }
        Ok(self.len == 0)
    }

    /// Visits at most `count` entries whose keys are in `range`, in order; gives how many
    /// there were. To go on, begin behind the last key visited.
    ///
    /// # Errors
    ///
    /// Those of the transaction and of `visit`.
    pub fn range<E: From<TxError>>(
        &self,
        tx: &Tx<'_>,
        range: impl RangeBounds<K::Query>,
        direction: Direction,
        count: u64,
        mut visit: impl FnMut(&Tx<'_>, K, V) -> Result<(), E>,
    ) -> Result<u64, E> {
        if !self.check_header()? {
            return Ok(0);
        }
        let (from, to_bound) = match direction {
            Direction::Up => (range.start_bound(), range.end_bound()),
            Direction::Down => (range.end_bound(), range.start_bound()),
        };
        let start = match (from, direction) {
            (Bound::Included(key) | Bound::Excluded(key), _) => Seek::Key(key),
            (Bound::Unbounded, Direction::Up) => Seek::First,
            (Bound::Unbounded, Direction::Down) => Seek::Last,
        };
        let mut path = self.descend(tx, start)?;
        // So many entries of the leaf are below the place.
        let mut at = match from {
            Bound::Unbounded if direction == Direction::Up => 0,
            Bound::Unbounded => path.order.count(),
            Bound::Included(key) | Bound::Excluded(key) => {
                let (at, found) = place::<K, V>(tx, path.leaf, 0, path.order, key)?;
                let included = matches!(from, Bound::Included(_));
                at + usize::from(found && included == (direction == Direction::Down))
            }
        };
        for visited in 0..count {
            let end = match direction {
                Direction::Up => at == path.order.count(),
                Direction::Down => at == 0,
            };
            if end {
                if !self.neighbour(tx, &mut path, direction)? {
                    return Ok(visited);
                }
                at = match direction {
                    Direction::Up => 0,
                    Direction::Down => path.order.count(),
                };
            }
            if visited == self.len {
                // More than there are: a damaged tree.
                return Err(TxError::Invalid.into());
            }
            if direction == Direction::Down {
                at -= 1;
            }
            let slot = path.order.slot(at);
            let key = Node::<K, V>::key(tx, path.leaf, 0, slot)?;
            let within = match to_bound {
                Bound::Unbounded => true,
                Bound::Included(to) | Bound::Excluded(to) => match key.compare(tx, to)? {
                    Ordering::Equal => matches!(to_bound, Bound::Included(_)),
                    Ordering::Less => direction == Direction::Up,
                    Ordering::Greater => direction == Direction::Down,
                },
            };
            if !within {
                return Ok(visited);
            }
            visit(tx, key, Node::<K, V>::value(tx, path.leaf, slot)?)?;
            if direction == Direction::Up {
                at += 1;
            }
        }
        Ok(count)
    }
}

#[cfg(test)]
impl<K: OrderedKey, V: Pmem> OrderedMap<K, V> {
    /// All nodes with their levels, and a check of what holds of every tree.
    pub(super) fn nodes(&self, tx: &Tx<'_>) -> Vec<(Ref, u64)> {
        let mut nodes = Vec::new();
        if self.check_header().unwrap() {
            let entries = self.visit(tx, Ref(self.top), self.depth, &mut nodes);
            assert_eq!(entries, self.len);
        }
        nodes
    }

    fn visit(&self, tx: &Tx<'_>, node: Ref, level: u64, nodes: &mut Vec<(Ref, u64)>) -> u64 {
        nodes.push((node, level));
        let order = Node::<K, V>::order(tx, node, level).unwrap();
        let least = match (node.0 == self.top, level) {
            (true, _) => 1,
            (false, _) => node::HALF,
        };
        assert!(order.count() >= least, "{order:?} at level {level}");
        if level == 0 {
            return order.count() as u64;
        }
        (0..=order.count())
            .map(|at| {
                let child = Node::<K, V>::child_at(tx, node, order, at).unwrap();
                self.visit(tx, child, level - 1, nodes)
            })
            .sum()
    }

    pub(super) fn depth(&self) -> u64 {
        self.depth
    }

    /// Puts a word into a node.
    pub(super) fn damage(tx: &mut Tx<'_>, (node, level): (Ref, u64), at: usize, word: u64) {
        let size = match level {
            0 => Node::<K, V>::LEAF_SIZE,
            _ => Node::<K, V>::INNER_SIZE,
        };
        let at = (at % (size / 8) * 8) as u64;
        tx.write_at(node, Node::<K, V>::at_level(level), at, &word)
            .unwrap();
    }
}
