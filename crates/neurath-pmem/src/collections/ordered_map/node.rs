//! A node of an ordered map: its layout, and what is in it.

use std::marker::PhantomData;

use neurath_abi::Ref;

use super::super::order::{Order, SLOTS};
use crate::schema::{self, Field, Kind, TypeSchema};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;

/// What a node keeps at least, unless it is the topmost one.
pub(super) const HALF: usize = SLOTS / 2;

/// Both kinds of nodes, for their descriptions and their layouts: the order's word, the
/// keys, and the values or the children.
pub(super) struct Node<K, V>(PhantomData<(K, V)>);

pub(super) const KEYS_AT: usize = 8;

/// The child before all separators is behind those of the slots.
pub(super) const LEFTMOST: usize = SLOTS;

impl<K: Pmem, V: Pmem> Node<K, V> {
    /// Where a leaf's values are, or an inner node's children.
    pub(super) const BEHIND_KEYS: usize = (KEYS_AT + SLOTS * size_of::<K>()).next_multiple_of(8);
    pub(super) const LEAF_SIZE: usize =
        (Self::BEHIND_KEYS + SLOTS * size_of::<V>()).next_multiple_of(8);
    pub(super) const INNER_SIZE: usize = Self::BEHIND_KEYS + (SLOTS + 1) * 8;

    pub(super) const ORDER_FIELD: Field = Field {
        name: "order",
        offset: 0,
        schema: u64::SCHEMA,
    };
    pub(super) const KEYS_FIELD: Field = Field {
        name: "keys",
        offset: KEYS_AT,
        schema: <[K; SLOTS]>::SCHEMA,
    };
    pub(super) const LEAF_SCHEMA: &'static TypeSchema = &TypeSchema {
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
    pub(super) const LEAF: u64 = schema::type_id(schema::fingerprint(Self::LEAF_SCHEMA));

    /// Its children are leaves or further inner nodes. A type of its own for each type of
    /// map.
    pub(super) const INNER_SCHEMA: &'static TypeSchema = &TypeSchema {
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
    pub(super) const INNER: u64 = schema::type_id(schema::fingerprint(Self::INNER_SCHEMA));

    /// The type of the nodes at a level: leaves are at level 0.
    pub(super) const fn at_level(level: u64) -> u64 {
        if level == 0 { Self::LEAF } else { Self::INNER }
    }

    pub(super) fn order(tx: &Tx<'_>, node: Ref, level: u64) -> Result<Order, TxError> {
        Order::from_word(tx.read_at(node, Self::at_level(level), 0)?)
    }

    pub(super) fn set_order(
        tx: &mut Tx<'_>,
        node: Ref,
        level: u64,
        order: Order,
    ) -> Result<(), TxError> {
        tx.write_at(node, Self::at_level(level), 0, &order.word())
    }

    pub(super) fn key(tx: &Tx<'_>, node: Ref, level: u64, slot: usize) -> Result<K, TxError> {
        let at = KEYS_AT + slot * size_of::<K>();
        tx.read_at(node, Self::at_level(level), at as u64)
    }

    pub(super) fn set_key(
        tx: &mut Tx<'_>,
        node: Ref,
        level: u64,
        slot: usize,
        key: &K,
    ) -> Result<(), TxError> {
        let at = KEYS_AT + slot * size_of::<K>();
        tx.write_part(node, Self::at_level(level), at as u64, key)
    }

    pub(super) fn value(tx: &Tx<'_>, leaf: Ref, slot: usize) -> Result<V, TxError> {
        let at = Self::BEHIND_KEYS + slot * size_of::<V>();
        tx.read_at(leaf, Self::LEAF, at as u64)
    }

    pub(super) fn set_value(
        tx: &mut Tx<'_>,
        leaf: Ref,
        slot: usize,
        value: &V,
    ) -> Result<(), TxError> {
        let at = Self::BEHIND_KEYS + slot * size_of::<V>();
        tx.write_part(leaf, Self::LEAF, at as u64, value)
    }

    pub(super) fn child(tx: &Tx<'_>, inner: Ref, slot: usize) -> Result<Ref, TxError> {
        let at = Self::BEHIND_KEYS + slot * 8;
        tx.read_at(inner, Self::INNER, at as u64).map(Ref)
    }

    pub(super) fn set_child(
        tx: &mut Tx<'_>,
        inner: Ref,
        slot: usize,
        child: Ref,
    ) -> Result<(), TxError> {
        let at = Self::BEHIND_KEYS + slot * 8;
        tx.write_at(inner, Self::INNER, at as u64, &child.0)
    }

    /// The child at a place: there is one before each separator, and one behind the last.
    pub(super) fn child_at(
        tx: &Tx<'_>,
        inner: Ref,
        order: Order,
        at: usize,
    ) -> Result<Ref, TxError> {
        let slot = match at.checked_sub(1) {
            None => LEFTMOST,
            Some(at) => order.slot(at),
        };
        Self::child(tx, inner, slot)
    }

    /// A leaf without entries, but with some value in every slot.
    pub(super) fn new_leaf(tx: &mut Tx<'_>, value: &V) -> Result<Ref, TxError> {
        let leaf = tx.alloc_untyped(Self::LEAF, Self::LEAF_SIZE as u64)?;
        tx.fill_at(leaf, Self::LEAF, Self::BEHIND_KEYS as u64, value, SLOTS)?;
        Ok(leaf)
    }

    /// Frees a node and all below it. Levels fall, so this ends.
    pub(super) fn free_all(tx: &mut Tx<'_>, node: Ref, level: u64) -> Result<(), TxError> {
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
