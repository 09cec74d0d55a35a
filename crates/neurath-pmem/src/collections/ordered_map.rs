//! A map in the order of its keys.
//!
//! A B+tree (Bayer and McCreight 1972; Comer, Computing Surveys 1979): entries are in
//! leaves, all at the same depth, and inner nodes hold separators. Nodes have fifteen
//! slots, whose order is one word (see `order.rs`), so that an insertion writes the entry
//! and that word. A node is split when it is full, or filled up from its neighbour when it
//! is half empty, on the way down (Guibas and Sedgewick 1978), so no operation goes back up.
//! Between two keys of bytes, the separator is the shortest that tells them apart (Bayer
//! and Unterauer, TODS 1977).
//!
//! The number of slots does not depend on the types: so a conversion of the values, also
//! to values of another size, converts each leaf in its place. The unused slots hold
//! values that were once in the leaf, so that it meets no bytes that are no value.

use std::cmp::Ordering;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::{Bound, RangeBounds};

use neurath_abi::Ref;

use super::order::{Order, SLOTS};
use super::{Bytes, MapKey};
use crate::schema::{self, Field, Kind, TypeSchema};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;

/// What a node keeps at least, unless it is the topmost one.
const HALF: usize = SLOTS / 2;

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

/// Both kinds of nodes, for their descriptions and their layouts: the order's word, the
/// keys, and the values or the children.
struct Node<K, V>(PhantomData<(K, V)>);

const KEYS_AT: usize = 8;

/// The child before all separators is behind those of the slots.
const LEFTMOST: usize = SLOTS;

impl<K: Pmem, V: Pmem> Node<K, V> {
    /// Where a leaf's values are, or an inner node's children.
    const BEHIND_KEYS: usize = (KEYS_AT + SLOTS * size_of::<K>()).next_multiple_of(8);
    const LEAF_SIZE: usize = (Self::BEHIND_KEYS + SLOTS * size_of::<V>()).next_multiple_of(8);
    const INNER_SIZE: usize = Self::BEHIND_KEYS + (SLOTS + 1) * 8;

    const ORDER_FIELD: Field = Field {
        name: "order",
        offset: 0,
        schema: u64::SCHEMA,
    };
    const KEYS_FIELD: Field = Field {
        name: "keys",
        offset: KEYS_AT,
        schema: <[K; SLOTS]>::SCHEMA,
    };
    const LEAF_SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "OrderedLeaf",
        size: Self::LEAF_SIZE,
        align: 8,
        kind: Kind::Struct(&[
            Self::ORDER_FIELD,
            Self::KEYS_FIELD,
            Field {
                name: "values",
                offset: Self::BEHIND_KEYS,
                schema: <[V; SLOTS]>::SCHEMA,
            },
        ]),
    };
    const LEAF: u64 = schema::type_id(schema::fingerprint(Self::LEAF_SCHEMA));

    /// Its children are leaves or further inner nodes. A type of its own for each type of
    /// map.
    const INNER_SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "OrderedInner",
        size: Self::INNER_SIZE,
        align: 8,
        kind: Kind::Struct(&[
            Self::ORDER_FIELD,
            Self::KEYS_FIELD,
            Field {
                name: "children",
                offset: Self::BEHIND_KEYS,
                schema: &TypeSchema {
                    name: "array",
                    size: (SLOTS + 1) * 8,
                    align: 8,
                    kind: Kind::Array {
                        element: &TypeSchema {
                            name: "P",
                            size: 8,
                            align: 8,
                            kind: Kind::Reference(Self::LEAF_SCHEMA),
                        },
                        len: SLOTS + 1,
                    },
                },
            },
        ]),
    };
    const INNER: u64 = schema::type_id(schema::fingerprint(Self::INNER_SCHEMA));

    /// The type of the nodes at a level: leaves are at level 0.
    const fn at_level(level: u64) -> u64 {
        if level == 0 { Self::LEAF } else { Self::INNER }
    }

    fn order(tx: &Tx<'_>, node: Ref, level: u64) -> Result<Order, TxError> {
        Order::from_word(tx.read_at(node, Self::at_level(level), 0)?)
    }

    fn set_order(tx: &mut Tx<'_>, node: Ref, level: u64, order: Order) -> Result<(), TxError> {
        tx.write_at(node, Self::at_level(level), 0, &order.word())
    }

    fn key(tx: &Tx<'_>, node: Ref, level: u64, slot: usize) -> Result<K, TxError> {
        let at = KEYS_AT + slot * size_of::<K>();
        tx.read_at(node, Self::at_level(level), at as u64)
    }

    fn set_key(
        tx: &mut Tx<'_>,
        node: Ref,
        level: u64,
        slot: usize,
        key: &K,
    ) -> Result<(), TxError> {
        let at = KEYS_AT + slot * size_of::<K>();
        tx.write_part(node, Self::at_level(level), at as u64, key)
    }

    fn value(tx: &Tx<'_>, leaf: Ref, slot: usize) -> Result<V, TxError> {
        let at = Self::BEHIND_KEYS + slot * size_of::<V>();
        tx.read_at(leaf, Self::LEAF, at as u64)
    }

    fn set_value(tx: &mut Tx<'_>, leaf: Ref, slot: usize, value: &V) -> Result<(), TxError> {
        let at = Self::BEHIND_KEYS + slot * size_of::<V>();
        tx.write_part(leaf, Self::LEAF, at as u64, value)
    }

    fn child(tx: &Tx<'_>, inner: Ref, slot: usize) -> Result<Ref, TxError> {
        let at = Self::BEHIND_KEYS + slot * 8;
        tx.read_at(inner, Self::INNER, at as u64).map(Ref)
    }

    fn set_child(tx: &mut Tx<'_>, inner: Ref, slot: usize, child: Ref) -> Result<(), TxError> {
        let at = Self::BEHIND_KEYS + slot * 8;
        tx.write_at(inner, Self::INNER, at as u64, &child.0)
    }

    /// The child at a place: there is one before each separator, and one behind the last.
    fn child_at(tx: &Tx<'_>, inner: Ref, order: Order, at: usize) -> Result<Ref, TxError> {
        let slot = match at.checked_sub(1) {
            None => LEFTMOST,
            Some(at) => order.slot(at),
        };
        Self::child(tx, inner, slot)
    }

    /// A leaf without entries, but with some value in every slot.
    fn new_leaf(tx: &mut Tx<'_>, value: &V) -> Result<Ref, TxError> {
        let leaf = tx.alloc_untyped(Self::LEAF, Self::LEAF_SIZE as u64)?;
        tx.fill_at(leaf, Self::LEAF, Self::BEHIND_KEYS as u64, value, SLOTS)?;
        Ok(leaf)
    }

    /// Frees a node and all below it. Levels fall, so this ends.
    fn free_all(tx: &mut Tx<'_>, node: Ref, level: u64) -> Result<(), TxError> {
        let order = Self::order(tx, node, level)?;
        if level > 0 {
            let child = Self::child(tx, node, LEFTMOST)?;
            Self::free_all(tx, child, level - 1)?;
        }
        for slot in (0..order.count()).map(|at| order.slot(at)) {
            Self::key(tx, node, level, slot)?.free_owned(tx)?;
            if level == 0 {
                Self::value(tx, node, slot)?.free_owned(tx)?;
            } else {
                let child = Self::child(tx, node, slot)?;
                Self::free_all(tx, child, level - 1)?;
            }
        }
        tx.free_untyped(node, Self::at_level(level))
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

    /// The same entries in a map of other values: for a conversion, which converts the
    /// leaves by itself.
    pub fn carry_over<W>(self) -> OrderedMap<K, W> {
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

/// What to look for on the way down.
enum Seek<'q, Q: ?Sized> {
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
struct Path {
    /// The inner nodes by level, and which of their children was taken.
    steps: [(Ref, Order, usize); MAX_DEPTH + 1],
    leaf: Ref,
    order: Order,
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
        if let Some((leaf, slot)) = self.find(tx, key)? {
            let old = Node::<K, V>::value(tx, leaf, slot)?;
            Node::<K, V>::set_value(tx, leaf, slot, value)?;
            return Ok(Some(old));
        }
        self.add(tx, key, value)?;
        Ok(None)
    }

    /// Removes a key; gives the value it had, whose belongings are the caller's to free.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn remove(&mut self, tx: &mut Tx<'_>, key: &K::Query) -> Result<Option<V>, TxError> {
        if self.find(tx, key)?.is_none() {
            return Ok(None);
        }
        let (key, value) = self.take(tx, Seek::Key(key))?;
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
        self.take(tx, Seek::First).map(Some)
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

/// The place of a key among a node's keys, or of the first above it; whether it is there.
fn place<K: OrderedKey, V: Pmem>(
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
fn way<K: OrderedKey, V: Pmem>(
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

/// Finding.
impl<K: OrderedKey, V: Pmem> OrderedMap<K, V> {
    fn descend(&self, tx: &Tx<'_>, seek: Seek<'_, K::Query>) -> Result<Path, TxError> {
        let mut path = Path {
            steps: [(Ref::NULL, Order::first(0), 0); MAX_DEPTH + 1],
            leaf: Ref(self.top),
            order: Order::first(0),
        };
        self.descend_from(tx, &mut path, self.depth, seek)?;
        Ok(path)
    }

    /// Goes on from the node at a level, which stands in `leaf`, down to a leaf.
    fn descend_from(
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
    fn neighbour(
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
    fn find(&self, tx: &Tx<'_>, key: &K::Query) -> Result<Option<(Ref, usize)>, TxError> {
        if !self.check_header()? {
            return Ok(None);
        }
        let path = self.descend(tx, Seek::Key(key))?;
        let (at, found) = place::<K, V>(tx, path.leaf, 0, path.order, key)?;
        Ok(found.then(|| (path.leaf, path.order.slot(at))))
    }

    fn end(&self, tx: &Tx<'_>, seek: Seek<'_, K::Query>) -> Result<Option<(K, V)>, TxError> {
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

/// Changing.
impl<K: OrderedKey, V: Pmem> OrderedMap<K, V> {
    /// Adds a key that is not in the map.
    fn add(&mut self, tx: &mut Tx<'_>, key: &K::Query, value: &V) -> Result<(), TxError> {
        if self.top == 0 {
            let leaf = Node::<K, V>::new_leaf(tx, value)?;
            Node::<K, V>::set_order(tx, leaf, 0, Order::first(0))?;
            self.top = leaf.0;
        }
        let top = Ref(self.top);
        if Node::<K, V>::order(tx, top, self.depth)?.count() == SLOTS {
            if self.depth == MAX_DEPTH as u64 {
                return Err(TxError::Full);
            }
            let above = tx.alloc_untyped(Node::<K, V>::INNER, Node::<K, V>::INNER_SIZE as u64)?;
            self.depth += 1;
            self.top = above.0;
            Node::<K, V>::set_child(tx, above, LEFTMOST, top)?;
            Node::<K, V>::set_order(tx, above, self.depth, Order::first(0))?;
            self.split(tx, above, self.depth, 0)?;
        }
        let mut node = Ref(self.top);
        for level in (1..=self.depth).rev() {
            let order = Node::<K, V>::order(tx, node, level)?;
            let at = way::<K, V>(tx, node, level, order, Seek::Key(key))?;
            let mut child = Node::<K, V>::child_at(tx, node, order, at)?;
            if Node::<K, V>::order(tx, child, level - 1)?.count() == SLOTS {
                self.split(tx, node, level, at)?;
                let order = Node::<K, V>::order(tx, node, level)?;
                let at = way::<K, V>(tx, node, level, order, Seek::Key(key))?;
                child = Node::<K, V>::child_at(tx, node, order, at)?;
            }
            node = child;
        }
        let mut order = Node::<K, V>::order(tx, node, 0)?;
        let (at, _) = place::<K, V>(tx, node, 0, order, key)?;
        let slot = order.insert(at)?;
        let stored = K::store(tx, key)?;
        Node::<K, V>::set_key(tx, node, 0, slot, &stored)?;
        Node::<K, V>::set_value(tx, node, slot, value)?;
        Node::<K, V>::set_order(tx, node, 0, order)?;
        self.len += 1;
        Ok(())
    }

    /// Splits the full child at a place of an inner node, which is not full itself.
    fn split(
        &mut self,
        tx: &mut Tx<'_>,
        parent: Ref,
        level: u64,
        at: usize,
    ) -> Result<(), TxError> {
        let mut above = Node::<K, V>::order(tx, parent, level)?;
        let left = Node::<K, V>::child_at(tx, parent, above, at)?;
        let below = level - 1;
        let mut order = Node::<K, V>::order(tx, left, below)?;
        if order.count() != SLOTS {
            return Err(TxError::Invalid);
        }
        let middle = order.slot(HALF);
        let middle_key = Node::<K, V>::key(tx, left, below, middle)?;
        let (right, separator, moved) = if below == 0 {
            let value = Node::<K, V>::value(tx, left, middle)?;
            let right = Node::<K, V>::new_leaf(tx, &value)?;
            let before = Node::<K, V>::key(tx, left, below, order.slot(HALF - 1))?;
            (right, K::separator(tx, &before, &middle_key)?, HALF)
        } else {
            let right = tx.alloc_untyped(Node::<K, V>::INNER, Node::<K, V>::INNER_SIZE as u64)?;
            let child = Node::<K, V>::child(tx, left, middle)?;
            Node::<K, V>::set_child(tx, right, LEFTMOST, child)?;
            (right, middle_key, HALF + 1)
        };
        for (to, at) in (moved..SLOTS).enumerate() {
            self.copy(tx, below, (left, order.slot(at)), (right, to))?;
        }
        Node::<K, V>::set_order(tx, right, below, Order::first(SLOTS - moved))?;
        order.truncate(HALF);
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

    /// Takes an entry out: one that is there.
    fn take(&mut self, tx: &mut Tx<'_>, seek: Seek<'_, K::Query>) -> Result<(K, V), TxError> {
        let mut node = Ref(self.top);
        for level in (1..=self.depth).rev() {
            let order = Node::<K, V>::order(tx, node, level)?;
            let at = way::<K, V>(tx, node, level, order, seek)?;
            let child = Node::<K, V>::child_at(tx, node, order, at)?;
            if Node::<K, V>::order(tx, child, level - 1)?.count() > HALF {
                node = child;
                continue;
            }
            self.fill_up(tx, node, level, at)?;
            let order = Node::<K, V>::order(tx, node, level)?;
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
        let mut order = Node::<K, V>::order(tx, node, 0)?;
        let at = match seek {
            Seek::First => 0,
            Seek::Last => order.count().saturating_sub(1),
            Seek::Key(key) => match place::<K, V>(tx, node, 0, order, key)? {
                (at, true) => at,
                (_, false) => return Err(TxError::Invalid),
            },
        };
        let slot = order.remove(at)?;
        let key = Node::<K, V>::key(tx, node, 0, slot)?;
        let value = Node::<K, V>::value(tx, node, slot)?;
        self.len = self.len.checked_sub(1).ok_or(TxError::Invalid)?;
        if order.count() == 0 {
            if self.len > 0 || self.depth > 0 {
                return Err(TxError::Invalid);
            }
            tx.free_untyped(node, Node::<K, V>::LEAF)?;
            *self = OrderedMap::EMPTY;
        } else {
            Node::<K, V>::set_order(tx, node, 0, order)?;
        }
        Ok((key, value))
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
            (false, _) => HALF,
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
