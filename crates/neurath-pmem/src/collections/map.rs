//! A hash map whose every operation is bounded work.
//!
//! Linear hashing (Litwin, VLDB 1980): the table grows by one bucket at a time, so no
//! insertion ever rehashes everything, and shrinks by a few with a removal once it is
//! three quarters empty. Buckets are words in pages of 512; pages hang in a tree of pages
//! of references, as deep as the table needs. A bucket is a chain of nodes. Hashes are SipHash-1-3 under a random key of the map's own, so that nobody
//! can choose keys that meet in one bucket.
//!
//! A scan goes through the hashes, not through the buckets: in the order of their bits
//! read backwards, every bucket holds one interval of hashes, a split halves an interval
//! and a merge joins two neighbours. So a place in that order stays right whatever the
//! table does between two calls; Redis's cursor for tables of powers of two, brought to
//! linear hashing.

use std::hash::Hasher;
use std::marker::PhantomData;
use std::mem::offset_of;

use neurath_abi::Ref;
use siphasher::sip::SipHasher13;

use super::Bytes;
use crate::schema::{self, Field, Fingerprint, Kind, TypeSchema};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;

/// Words of a page: buckets, or references to pages.
const FAN: u64 = 512;

/// Bytes of a page.
const PAGE_SIZE: u64 = FAN * 8;

/// How deep the tree may be: 512 to the fourth power are 68 billion buckets.
const MAX_DEPTH: u64 = 3;

/// The bits of a hash that can tell buckets apart: as many as the deepest tree has buckets.
const HASH_BITS: u32 = 36;
const _: () = assert!(FAN.pow(MAX_DEPTH as u32 + 1) == 1 << HASH_BITS);

/// How many buckets a removal may take away: the table keeps up with four, as it holds four
/// buckets an entry when it begins to shrink.
const MERGES: u64 = 4;

/// A key of a [`Map`].
pub trait MapKey: Pmem {
    /// What one looks a key up by.
    type Query: ?Sized;

    /// Feeds the key to the hash.
    fn hash(query: &Self::Query, hasher: &mut SipHasher13);

    /// Whether this stored key is the one looked for.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    fn matches(&self, tx: &Tx<'_>, query: &Self::Query) -> Result<bool, TxError>;

    /// Makes a stored key.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    fn store(tx: &mut Tx<'_>, query: &Self::Query) -> Result<Self, TxError>;
}

impl MapKey for Bytes {
    type Query = [u8];

    fn hash(query: &[u8], hasher: &mut SipHasher13) {
        hasher.write(query);
    }

    fn matches(&self, tx: &Tx<'_>, query: &[u8]) -> Result<bool, TxError> {
        Ok(self.len() == query.len() && self.get(tx)? == query)
    }

    fn store(tx: &mut Tx<'_>, query: &[u8]) -> Result<Bytes, TxError> {
        Bytes::new(tx, query)
    }
}

macro_rules! number_keys {
    ($($type:ident)*) => {$(
        impl MapKey for $type {
            type Query = $type;

            fn hash(query: &$type, hasher: &mut SipHasher13) {
                hasher.write(&query.to_le_bytes());
            }

            fn matches(&self, _: &Tx<'_>, query: &$type) -> Result<bool, TxError> {
                Ok(self == query)
            }

            fn store(_: &mut Tx<'_>, query: &$type) -> Result<$type, TxError> {
                Ok(*query)
            }
        }
    )*};
}

number_keys!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128);

/// The header of a hash map from `K` to `V`. It owns its keys and values.
#[repr(C)]
pub struct Map<K, V> {
    len: u64,
    /// How many buckets are in use.
    buckets: u64,
    /// The page of buckets, or the tree's topmost page.
    top: u64,
    /// How many levels of references there are above the pages of buckets.
    depth: u64,
    /// The hash's key.
    key: [u64; 2],
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Map<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for Map<K, V> {}
impl<K, V> std::fmt::Debug for Map<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Map({} entries in {} buckets)", self.len, self.buckets)
    }
}
impl<K, V> Default for Map<K, V> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// A node of a chain, for its description and its layout. `next` is a node.
struct Node<K, V>(PhantomData<(K, V)>);

const HASH_AT: u64 = 0;
const NEXT_AT: u64 = 8;
const KEY_AT: u64 = 16;

impl<K: Pmem, V: Pmem> Node<K, V> {
    const VALUE_AT: usize = KEY_AT as usize + size_of::<K>().next_multiple_of(8);
    const SIZE: usize = Self::VALUE_AT + size_of::<V>().next_multiple_of(8);
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "MapNode",
        size: Self::SIZE,
        align: 8,
        kind: Kind::Struct(&[
            Field {
                name: "hash",
                offset: HASH_AT as usize,
                schema: u64::SCHEMA,
            },
            Field {
                name: "next",
                offset: NEXT_AT as usize,
                schema: &TypeSchema {
                    name: "P",
                    size: 8,
                    align: 8,
                    kind: Kind::Link("MapNode"),
                },
            },
            Field {
                name: "key",
                offset: KEY_AT as usize,
                schema: K::SCHEMA,
            },
            Field {
                name: "value",
                offset: Self::VALUE_AT,
                schema: V::SCHEMA,
            },
        ]),
    };
    const FINGERPRINT: Fingerprint = schema::fingerprint(Self::SCHEMA);
    const TYPE_ID: u64 = schema::type_id(Self::FINGERPRINT);

    /// A page of the table: references to nodes, or to further pages. A type of its own
    /// for each type of map, so that a map's pages can be told from another's.
    const PAGE_SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "MapPage",
        size: PAGE_SIZE as usize,
        align: 8,
        kind: Kind::Array {
            element: &TypeSchema {
                name: "P",
                size: 8,
                align: 8,
                kind: Kind::Reference(Self::SCHEMA),
            },
            len: FAN as usize,
        },
    };
    const PAGE_ID: u64 = schema::type_id(schema::fingerprint(Self::PAGE_SCHEMA));
}

// SAFETY: plain data without padding (six words), described as it is; any bits are a
// value, as every reference is checked when it is used and every number where it is.
unsafe impl<K: Pmem, V: Pmem> Pmem for Map<K, V> {
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "Map",
        size: size_of::<Map<K, V>>(),
        align: align_of::<Map<K, V>>(),
        kind: Kind::Collection {
            fields: &[
                Field {
                    name: "len",
                    offset: offset_of!(Self, len),
                    schema: u64::SCHEMA,
                },
                Field {
                    name: "buckets",
                    offset: offset_of!(Self, buckets),
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
                Field {
                    name: "key",
                    offset: offset_of!(Self, key),
                    schema: <[u64; 2]>::SCHEMA,
                },
            ],
            objects: &[Node::<K, V>::SCHEMA, Node::<K, V>::PAGE_SCHEMA],
        },
    };
    const ANY_BITS: bool = true;

    fn valid(_: &[u8]) -> bool {
        true
    }

    fn free_owned(&self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        self.check_header()?;
        let mut map = *self;
        for bucket in 0..map.buckets {
            map.free_bucket(tx, bucket)?;
        }
        map.free_pages(tx, Ref(map.top), map.depth)
    }
}

/// An entry of a map: where its value can be replaced.
pub struct Slot<K, V> {
    node: Ref,
    types: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Clone for Slot<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<K, V> Copy for Slot<K, V> {}
impl<K, V> std::fmt::Debug for Slot<K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Slot({}.{})", self.node.segment(), self.node.index())
    }
}

impl<K: Pmem, V: Pmem> Slot<K, V> {
    /// The key.
    ///
    /// # Errors
    ///
    /// [`TxError::BadRef`] if the entry has been removed.
    pub fn key(&self, tx: &Tx<'_>) -> Result<K, TxError> {
        tx.read_at(self.node, Node::<K, V>::TYPE_ID, KEY_AT)
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// As [`Slot::key`].
    pub fn value(&self, tx: &Tx<'_>) -> Result<V, TxError> {
        tx.read_at(
            self.node,
            Node::<K, V>::TYPE_ID,
            Node::<K, V>::VALUE_AT as u64,
        )
    }

    /// Replaces the value; what the old one owned is the caller's to free.
    ///
    /// # Errors
    ///
    /// As [`Slot::key`].
    pub fn set_value(&self, tx: &mut Tx<'_>, value: &V) -> Result<(), TxError> {
        tx.write_at(
            self.node,
            Node::<K, V>::TYPE_ID,
            Node::<K, V>::VALUE_AT as u64,
            value,
        )
    }

    /// A number that stays this entry's as long as it is in the map, also over an upgrade.
    pub fn id(&self) -> u64 {
        self.node.0
    }

    /// The entry of an id, while it is in the map.
    pub fn from_id(id: u64) -> Slot<K, V> {
        Slot {
            node: Ref(id),
            types: PhantomData,
        }
    }
}

impl<K, V> Map<K, V> {
    /// A map without entries; takes no room.
    pub const EMPTY: Map<K, V> = Map {
        len: 0,
        buckets: 0,
        top: 0,
        depth: 0,
        key: [0; 2],
        types: PhantomData,
    };

    /// The same entries in a map of other types: for a conversion, which converts the
    /// nodes by itself.
    pub fn carry_over<L, W>(self) -> Map<L, W> {
        let Map {
            len,
            buckets,
            top,
            depth,
            key,
            ..
        } = self;
        Map {
            len,
            buckets,
            top,
            depth,
            key,
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
}

impl<K: MapKey, V: Pmem> Map<K, V> {
    /// How many cursors there are: a random one below this leads [`Map::scan`] to a random
    /// place.
    pub const CURSORS: u64 = 1 << HASH_BITS;

    const NODE: u64 = Node::<K, V>::TYPE_ID;
    const PAGE: u64 = Node::<K, V>::PAGE_ID;

    /// The entry of a key.
    ///
    /// # Errors
    ///
    /// Those of the transaction, as for every operation here.
    pub fn find(&self, tx: &Tx<'_>, key: &K::Query) -> Result<Option<Slot<K, V>>, TxError> {
        if self.len == 0 {
            return Ok(None);
        }
        self.check_header()?;
        let hash = self.hash(key);
        let mut node = self.bucket(tx, self.bucket_of(hash))?;
        let mut left = self.len;
        while !node.is_null() {
            if self.is_entry(tx, node, hash, key)? {
                return Ok(Some(Slot {
                    node,
                    types: PhantomData,
                }));
            }
            node = self.next(tx, node)?;
            count_down(&mut left)?;
        }
        Ok(None)
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn get(&self, tx: &Tx<'_>, key: &K::Query) -> Result<Option<V>, TxError> {
        self.find(tx, key)?.map(|slot| slot.value(tx)).transpose()
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
        if let Some(slot) = self.find(tx, key)? {
            let old = slot.value(tx)?;
            slot.set_value(tx, value)?;
            return Ok(Some(old));
        }
        self.add(tx, key, value)?;
        Ok(None)
    }

    /// Adds a key that is not in the map.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn add(
        &mut self,
        tx: &mut Tx<'_>,
        key: &K::Query,
        value: &V,
    ) -> Result<Slot<K, V>, TxError> {
        if self.buckets == 0 {
            self.start(tx)?;
        }
        self.check_header()?;
        let hash = self.hash(key);
        let stored = K::store(tx, key)?;
        let node = tx.alloc_untyped(Self::NODE, Node::<K, V>::SIZE as u64)?;
        let bucket = self.bucket_of(hash);
        let first = self.bucket(tx, bucket)?;
        tx.write_at(node, Self::NODE, HASH_AT, &hash)?;
        tx.write_at(node, Self::NODE, NEXT_AT, &first.0)?;
        tx.write_at(node, Self::NODE, KEY_AT, &stored)?;
        tx.write_at(node, Self::NODE, Node::<K, V>::VALUE_AT as u64, value)?;
        self.set_bucket(tx, bucket, node)?;
        self.len += 1;
        if self.len > self.buckets {
            self.split(tx)?;
        }
        Ok(Slot {
            node,
            types: PhantomData,
        })
    }

    /// Removes a key; gives the value it had, whose belongings are the caller's to free.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn remove(&mut self, tx: &mut Tx<'_>, key: &K::Query) -> Result<Option<V>, TxError> {
        if self.len == 0 {
            return Ok(None);
        }
        self.check_header()?;
        let hash = self.hash(key);
        let bucket = self.bucket_of(hash);
        let mut left = self.len;
        let mut before = Ref::NULL;
        let mut node = self.bucket(tx, bucket)?;
        while !node.is_null() {
            let next = self.next(tx, node)?;
            if self.is_entry(tx, node, hash, key)? {
                let slot = Slot::<K, V> {
                    node,
                    types: PhantomData,
                };
                let (stored, value) = (slot.key(tx)?, slot.value(tx)?);
                if before.is_null() {
                    self.set_bucket(tx, bucket, next)?;
                } else {
                    tx.write_at(before, Self::NODE, NEXT_AT, &next.0)?;
                }
                stored.free_owned(tx)?;
                tx.free_untyped(node, Self::NODE)?;
                self.len -= 1;
                self.shrink(tx)?;
                return Ok(Some(value));
            }
            (before, node) = (node, next);
            count_down(&mut left)?;
        }
        Ok(None)
    }

    /// Visits the entries of at least one and at most `count` buckets from `cursor` on,
    /// and gives the cursor to go on with; 0 when all were visited.
    ///
    /// An entry that is in the map from the first call to the last is visited exactly once,
    /// whatever else changes between the calls, also if the table grows or shrinks. Of one
    /// that comes or goes meanwhile, nothing is said. Cursors are below [`Map::CURSORS`].
    ///
    /// # Errors
    ///
    /// Those of the transaction and of `visit`.
    pub fn scan<E: From<TxError>>(
        &self,
        tx: &Tx<'_>,
        cursor: u64,
        count: u64,
        mut visit: impl FnMut(&Tx<'_>, Slot<K, V>) -> Result<(), E>,
    ) -> Result<u64, E> {
        self.check_header()?;
        if self.buckets == 0 || cursor >> HASH_BITS != 0 {
            return Ok(0);
        }
        let mut left = self.len;
        let mut cursor = cursor;
        for _ in 0..count.max(1) {
            let bucket = self.bucket_of(backwards(cursor));
            let mut node = self.bucket(tx, bucket)?;
            while !node.is_null() {
                count_down(&mut left)?;
                let hash: u64 = tx.read_at(node, Self::NODE, HASH_AT)?;
                // What lies before the cursor was visited, when its bucket was a smaller one.
                if backwards(hash) >= cursor {
                    visit(
                        tx,
                        Slot {
                            node,
                            types: PhantomData,
                        },
                    )?;
                }
                node = self.next(tx, node)?;
            }
            // On to the end of the bucket's interval.
            let size = 1 << (HASH_BITS - self.bits_of(bucket));
            cursor = (cursor | (size - 1)) + 1;
            if cursor >> HASH_BITS != 0 {
                return Ok(0);
            }
        }
        Ok(cursor)
    }

    /// How many low bits the hashes in a bucket have in common.
    fn bits_of(&self, bucket: u64) -> u32 {
        let bits = self.buckets.next_power_of_two().trailing_zeros();
        let sibling = bucket | 1 << bits.saturating_sub(1);
        // One fewer for a bucket that is not split yet.
        if bits > 0 && sibling >= self.buckets {
            bits - 1
        } else {
            bits
        }
    }

    fn hash(&self, key: &K::Query) -> u64 {
        let mut hasher = SipHasher13::new_with_keys(self.key[0], self.key[1]);
        K::hash(key, &mut hasher);
        hasher.finish()
    }

    /// Linear hashing's address: the low bits of the hash, one fewer for the buckets
    /// that are not split yet.
    fn bucket_of(&self, hash: u64) -> u64 {
        let mask = self.buckets.next_power_of_two() - 1;
        let bucket = hash & mask;
        if bucket < self.buckets {
            bucket
        } else {
            bucket & (mask >> 1)
        }
    }

    fn is_entry(&self, tx: &Tx<'_>, node: Ref, hash: u64, key: &K::Query) -> Result<bool, TxError> {
        Ok(tx.read_at::<u64>(node, Self::NODE, HASH_AT)? == hash
            && tx
                .read_at::<K>(node, Self::NODE, KEY_AT)?
                .matches(tx, key)?)
    }

    fn next(&self, tx: &Tx<'_>, node: Ref) -> Result<Ref, TxError> {
        tx.read_at::<u64>(node, Self::NODE, NEXT_AT).map(Ref)
    }

    /// The page that holds a bucket.
    fn page(&self, tx: &Tx<'_>, bucket: u64) -> Result<Ref, TxError> {
        if self.depth > MAX_DEPTH {
            return Err(TxError::Invalid);
        }
        let mut page = Ref(self.top);
        for level in (1..=self.depth).rev() {
            let at = bucket / FAN.pow(level as u32) % FAN;
            page = Ref(tx.read_at(page, Self::PAGE, at * 8)?);
        }
        Ok(page)
    }

    fn bucket(&self, tx: &Tx<'_>, bucket: u64) -> Result<Ref, TxError> {
        let page = self.page(tx, bucket)?;
        tx.read_at::<u64>(page, Self::PAGE, bucket % FAN * 8)
            .map(Ref)
    }

    fn set_bucket(&self, tx: &mut Tx<'_>, bucket: u64, node: Ref) -> Result<(), TxError> {
        let page = self.page(tx, bucket)?;
        tx.write_at(page, Self::PAGE, bucket % FAN * 8, &node.0)
    }

    fn start(&mut self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        self.top = tx.alloc_untyped(Self::PAGE, PAGE_SIZE)?.0;
        self.buckets = 1;
        self.key = random_key();
        Ok(())
    }

    /// Adds a bucket, and moves those entries of its sibling there that belong there now.
    fn split(&mut self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        let new = self.buckets;
        if new == FAN.pow(self.depth as u32 + 1) {
            if self.depth == MAX_DEPTH {
                return Ok(());
            }
            let above = tx.alloc_untyped(Self::PAGE, PAGE_SIZE)?;
            tx.write_at(above, Self::PAGE, 0, &self.top)?;
            self.top = above.0;
            self.depth += 1;
        }
        if new.is_multiple_of(FAN) {
            self.add_page(tx, new)?;
        }
        let old = new - new.next_power_of_two() / if new.is_power_of_two() { 1 } else { 2 };
        self.buckets += 1;
        let (mut stay, mut go) = (Ref::NULL, Ref::NULL);
        let mut node = self.bucket(tx, old)?;
        let mut left = self.len;
        while !node.is_null() {
            count_down(&mut left)?;
            let next = self.next(tx, node)?;
            let hash = tx.read_at(node, Self::NODE, HASH_AT)?;
            let chain = if self.bucket_of(hash) == new {
                &mut go
            } else {
                &mut stay
            };
            tx.write_at(node, Self::NODE, NEXT_AT, &chain.0)?;
            *chain = node;
            node = next;
        }
        self.set_bucket(tx, old, stay)?;
        self.set_bucket(tx, new, go)
    }

    /// Takes a few buckets away if the table has many more of them than entries.
    fn shrink(&mut self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        for _ in 0..MERGES {
            if self.buckets <= 1 || self.len >= self.buckets / 4 {
                break;
            }
            self.merge(tx)?;
        }
        Ok(())
    }

    /// Takes the last bucket away; its entries go back to the bucket they were split from.
    fn merge(&mut self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        let last = self.buckets - 1;
        let first = self.bucket(tx, last)?;
        self.buckets = last;
        if !first.is_null() {
            let sibling = last - (1 << last.ilog2());
            let mut left = self.len;
            let mut end = first;
            loop {
                count_down(&mut left)?;
                let next = self.next(tx, end)?;
                if next.is_null() {
                    break;
                }
                end = next;
            }
            let others = self.bucket(tx, sibling)?;
            tx.write_at(end, Self::NODE, NEXT_AT, &others.0)?;
            self.set_bucket(tx, sibling, first)?;
            self.set_bucket(tx, last, Ref::NULL)?;
        }
        if last.is_multiple_of(FAN) {
            self.free_last_page(tx, last)?;
        }
        Ok(())
    }

    /// Hangs the page that begins with `bucket` into the tree.
    fn add_page(&mut self, tx: &mut Tx<'_>, bucket: u64) -> Result<(), TxError> {
        let mut parent = Ref(self.top);
        for level in (1..=self.depth).rev() {
            let at = bucket / FAN.pow(level as u32) % FAN * 8;
            let mut child = Ref(tx.read_at(parent, Self::PAGE, at)?);
            if child.is_null() {
                child = tx.alloc_untyped(Self::PAGE, PAGE_SIZE)?;
                tx.write_at(parent, Self::PAGE, at, &child.0)?;
            }
            parent = child;
        }
        Ok(())
    }
}

/// The bits of a hash that tell buckets apart, the lowest first; or the other way round.
fn backwards(hash: u64) -> u64 {
    (hash << (64 - HASH_BITS)).reverse_bits()
}

/// Counts a chain's entries: of those of a damaged map, which may be a circle, there
/// seem to be more than there are in the map.
fn count_down(left: &mut u64) -> Result<(), TxError> {
    *left = left.checked_sub(1).ok_or(TxError::Invalid)?;
    Ok(())
}

/// A key for a map's hash.
fn random_key() -> [u64; 2] {
    #[cfg(any(test, feature = "campaign"))]
    if let Some(key) = FIXED_KEY.get() {
        return key;
    }
    // The standard library's hash keys are random; so are the hashes under them.
    let random = std::hash::RandomState::new();
    [0, 1].map(|i: u64| std::hash::BuildHasher::hash_one(&random, i))
}

#[cfg(any(test, feature = "campaign"))]
thread_local! {
    /// The key of this thread's maps, so that a test can be run again.
    pub(crate) static FIXED_KEY: std::cell::Cell<Option<[u64; 2]>> =
        const { std::cell::Cell::new(None) };
}

impl<K, V> Map<K, V> {
    /// Refuses numbers that no map has.
    fn check_header(&self) -> Result<(), TxError> {
        let sound = self.depth <= MAX_DEPTH
            && self.buckets <= FAN.pow(self.depth as u32 + 1)
            && (self.buckets > 0 || self.len == 0)
            && self.len < 1 << 48;
        if sound { Ok(()) } else { Err(TxError::Invalid) }
    }
}

impl<K: Pmem, V: Pmem> Map<K, V> {
    /// Frees the last `buckets` buckets with all that their entries own; whether the map is
    /// empty now. The other entries stay where they are found: so a map too large to be
    /// freed in one transaction is freed in several.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn clear_some(&mut self, tx: &mut Tx<'_>, buckets: u64) -> Result<bool, TxError> {
        for _ in 0..buckets.min(self.buckets) {
            let bucket = self.buckets - 1;
            let freed = self.free_bucket(tx, bucket)?;
            self.len = self.len.saturating_sub(freed);
            self.buckets = bucket;
            if bucket.is_multiple_of(FAN) {
                self.free_last_page(tx, bucket)?;
            }
        }
        if self.buckets == 0 {
            *self = Map::EMPTY;
        }
        Ok(self.buckets == 0)
    }

    /// Frees the page that begins with `bucket`, the last one, and those above it that hold
    /// no other.
    fn free_last_page(&mut self, tx: &mut Tx<'_>, bucket: u64) -> Result<(), TxError> {
        // From the top down to the page: each with the place it hangs at.
        let mut path = [(Ref::NULL, 0); MAX_DEPTH as usize + 1];
        let mut page = Ref(self.top);
        let mut place = (Ref::NULL, 0);
        for level in (0..=self.depth).rev() {
            path[level as usize] = place;
            if level > 0 {
                let at = bucket / FAN.pow(level as u32) % FAN * 8;
                place = (page, at);
                page = Ref(tx.read_at(page, Node::<K, V>::PAGE_ID, at)?);
            }
        }
        for level in 0..=self.depth {
            if !bucket.is_multiple_of(FAN.pow(level as u32 + 1)) {
                break;
            }
            tx.free_untyped(page, Node::<K, V>::PAGE_ID)?;
            let (parent, at) = path[level as usize];
            if parent.is_null() {
                break;
            }
            tx.write_at(parent, Node::<K, V>::PAGE_ID, at, &0u64)?;
            page = parent;
        }
        Ok(())
    }

    fn free_bucket(&mut self, tx: &mut Tx<'_>, bucket: u64) -> Result<u64, TxError> {
        if self.depth > MAX_DEPTH {
            return Err(TxError::Invalid);
        }
        let mut page = Ref(self.top);
        for level in (1..=self.depth).rev() {
            let at = bucket / FAN.pow(level as u32) % FAN;
            page = Ref(tx.read_at(page, Node::<K, V>::PAGE_ID, at * 8)?);
        }
        let mut node = Ref(tx.read_at(page, Node::<K, V>::PAGE_ID, bucket % FAN * 8)?);
        let mut freed = 0;
        while !node.is_null() {
            let slot = Slot::<K, V> {
                node,
                types: PhantomData,
            };
            slot.key(tx)?.free_owned(tx)?;
            slot.value(tx)?.free_owned(tx)?;
            let next = Ref(tx.read_at(node, Node::<K, V>::TYPE_ID, NEXT_AT)?);
            tx.free_untyped(node, Node::<K, V>::TYPE_ID)?;
            freed += 1;
            node = next;
        }
        Ok(freed)
    }

    fn free_pages(&self, tx: &mut Tx<'_>, page: Ref, depth: u64) -> Result<(), TxError> {
        if page.is_null() {
            return Ok(());
        }
        if depth > 0 {
            for at in 0..FAN {
                let child = tx.read_at(page, Node::<K, V>::PAGE_ID, at * 8)?;
                self.free_pages(tx, Ref(child), depth - 1)?;
            }
        }
        tx.free_untyped(page, Node::<K, V>::PAGE_ID)
    }
}
