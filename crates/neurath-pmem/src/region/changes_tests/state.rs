//! What is done to a state of a made-up schema, and what is seen of it.

use std::collections::{BTreeMap, BTreeSet};

use neurath_abi::Ref;
use proptest::sample::Index;

use super::shape::{Item, Kind, Root, SLOTS, Shape, Types, made, read, size, value, write};
use crate::collections::Direction;
use crate::{Bytes, Map, OrderedMap, Pmem, Tx, TxError, Vector};

/// What a region holds: the root, and the items by their slots.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Held {
    pub(super) root: Root,
    pub(super) items: BTreeMap<usize, Item>,
}

#[derive(Clone, Debug)]
pub(super) enum Op {
    /// An item is made, or written anew.
    Write(usize, u32),
    Free(usize),
    /// One field of an item, or of what is in it.
    Set(usize, Index, u32),
    SetRoot(Index, u32),
    /// A number comes to a collection, or goes.
    Insert(Kind, u32),
    Remove(Kind, u32),
}

/// Which objects were stored to.
#[derive(Clone, Debug, Default)]
pub(super) struct Touched {
    pub(super) root: bool,
    pub(super) items: BTreeSet<usize>,
}

/// A state that is changed or read, in a shape.
pub(super) struct State<'a, 'b> {
    pub(super) tx: &'a mut Tx<'b>,
    pub(super) shape: &'a Shape,
    pub(super) types: Types,
}

impl State<'_, '_> {
    /// Makes the root, of which all but its values is zero.
    pub(super) fn make(&mut self, root: &Root) -> Result<Ref, TxError> {
        let (at, id) = (self.shape.fields_at(), self.types.root.type_id());
        let bytes = write(&self.shape.root, &root.values);
        let made = self.tx.alloc_untyped(id, (at + bytes.len()) as u64)?;
        self.put(made, id, at, &bytes)?;
        Ok(made)
    }

    fn root(&self) -> (Ref, u64) {
        (self.tx.root::<u8>().to_ref(), self.types.root.type_id())
    }

    fn slot(&self, slot: usize) -> Result<Ref, TxError> {
        let (root, id) = self.root();
        Ok(Ref(self.tx.read_at(root, id, 8 * slot as u64)?))
    }

    fn set_slot(&mut self, slot: usize, object: Ref) -> Result<(), TxError> {
        let (root, id) = self.root();
        self.tx.write_at(root, id, 8 * slot as u64, &object.0)
    }

    /// Writes bytes, by whole words.
    fn put(&mut self, object: Ref, id: u64, at: usize, bytes: &[u8]) -> Result<(), TxError> {
        for word_at in ((at & !7)..at + bytes.len()).step_by(8) {
            let mut word: [u8; 8] = self.tx.read_at(object, id, word_at as u64)?;
            for (place, byte) in word.iter_mut().enumerate() {
                let given = (word_at + place).checked_sub(at);
                if let Some(given) = given.and_then(|given| bytes.get(given)) {
                    *byte = *given;
                }
            }
            let word = u64::from_le_bytes(word);
            self.tx.write_at(object, id, word_at as u64, &word)?;
        }
        Ok(())
    }

    /// Reads by sixteen bytes, and the rest one by one.
    fn get(&self, object: Ref, id: u64, at: usize, len: usize) -> Result<Vec<u8>, TxError> {
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let at = (at + bytes.len()) as u64;
            if len - bytes.len() >= 16 {
                bytes.extend(self.tx.read_at::<[u8; 16]>(object, id, at)?);
            } else {
                bytes.push(self.tx.read_at::<u8>(object, id, at)?);
            }
        }
        Ok(bytes)
    }

    /// Does it, to the model as well.
    pub(super) fn act(
        &mut self,
        op: &Op,
        held: &mut Held,
        touched: &mut Touched,
    ) -> Result<(), TxError> {
        let of_item = self.types.item.type_id();
        match op {
            Op::Write(slot, seed) => {
                let item = self.shape.item(*seed);
                let mut object = self.slot(*slot)?;
                if object.is_null() {
                    let size = self.shape.item_size() as u64;
                    object = self.tx.alloc_untyped(of_item, size)?;
                    self.set_slot(*slot, object)?;
                    touched.root = true;
                }
                self.put(object, of_item, 0, &self.shape.write_item(&item))?;
                held.items.insert(*slot, item);
                touched.items.insert(*slot);
            }
            Op::Free(slot) if held.items.remove(slot).is_some() => {
                let object = self.slot(*slot)?;
                self.tx.free_untyped(object, of_item)?;
                self.set_slot(*slot, Ref::NULL)?;
                touched.root = true;
                touched.items.insert(*slot);
            }
            Op::Set(slot, field, seed) => {
                let Some(item) = held.items.get_mut(slot) else {
                    return Ok(());
                };
                let own = self.shape.item.len();
                let number = field.index(own + self.shape.inner.len());
                let within = number >= own;
                let (fields, values) = match within {
                    true => (&self.shape.inner[number - own..], &mut item.inner),
                    false => (&self.shape.item[number..], &mut item.own),
                };
                let name = fields[0].0.clone();
                let (at, size) = self.shape.field_at(&name, within);
                let new = value(*seed, size);
                let object = self.slot(*slot)?;
                self.put(object, of_item, at, &new)?;
                values.insert(name, new);
                touched.items.insert(*slot);
            }
            Op::SetRoot(field, seed) => {
                let number = field.index(self.shape.root.len());
                let at = self.shape.fields_at() + size(&self.shape.root[..number]);
                let new = made(&self.shape.root[number..=number], *seed);
                let bytes = write(&self.shape.root[number..=number], &new);
                let (root, id) = self.root();
                self.put(root, id, at, &bytes)?;
                held.root.values.extend(new);
                touched.root = true;
            }
            Op::Insert(kind, n) if self.shape.list_at(*kind).is_some() => {
                self.insert(*kind, *n)?;
                let list = held.root.lists.entry(*kind).or_default();
                if *kind == Kind::Texts {
                    list.push(*n);
                } else if let Err(at) = list.binary_search(n) {
                    list.insert(at, *n);
                }
                touched.root = true;
            }
            Op::Remove(kind, n) if self.shape.list_at(*kind).is_some() => {
                self.remove(*kind, *n)?;
                let list = held.root.lists.entry(*kind).or_default();
                if *kind == Kind::Texts {
                    list.pop();
                } else if let Ok(at) = list.binary_search(n) {
                    list.remove(at);
                }
                touched.root = true;
            }
            Op::Free(_) | Op::Insert(..) | Op::Remove(..) => {}
        }
        Ok(())
    }

    fn header<T: Pmem>(&self, kind: Kind) -> Result<T, TxError> {
        let (root, id) = self.root();
        let at = self.shape.list_at(kind).expect("the shape has it");
        self.tx.read_at(root, id, at as u64)
    }

    /// Reads a collection's header, changes the collection, and writes it again.
    fn with<T: Pmem>(
        &mut self,
        kind: Kind,
        change: impl FnOnce(&mut T, &mut Tx<'_>) -> Result<(), TxError>,
    ) -> Result<(), TxError> {
        let mut list: T = self.header(kind)?;
        change(&mut list, self.tx)?;
        let (root, id) = self.root();
        let at = self.shape.list_at(kind).expect("the shape has it");
        self.tx.write_at(root, id, at as u64, &list)
    }

    fn insert(&mut self, kind: Kind, n: u32) -> Result<(), TxError> {
        match kind {
            Kind::Map | Kind::Same => self.with(kind, |map: &mut Map<u32, u64>, tx| {
                map.insert(tx, &n, &(u64::from(n) * 3)).map(drop)
            }),
            Kind::Sorted => self.with(kind, |map: &mut OrderedMap<u32, u32>, tx| {
                map.insert(tx, &n, &!n).map(drop)
            }),
            Kind::Texts => self.with(kind, |list: &mut Vector<Bytes>, tx| {
                let text = Bytes::new(tx, &text(n))?;
                list.push(tx, &text)
            }),
        }
    }

    fn remove(&mut self, kind: Kind, n: u32) -> Result<(), TxError> {
        match kind {
            Kind::Map | Kind::Same => self.with(kind, |map: &mut Map<u32, u64>, tx| {
                map.remove(tx, &n).map(drop)
            }),
            Kind::Sorted => self.with(kind, |map: &mut OrderedMap<u32, u32>, tx| {
                map.remove(tx, &n).map(drop)
            }),
            Kind::Texts => self.with(kind, |list: &mut Vector<Bytes>, tx| match list.pop(tx)? {
                Some(text) => text.free_owned(tx),
                None => Ok(()),
            }),
        }
    }

    /// The numbers in a collection, each with what belongs to it.
    fn list(&self, kind: Kind) -> Result<Vec<u32>, TxError> {
        let (tx, mut found) = (&*self.tx, Vec::new());
        match kind {
            Kind::Map | Kind::Same => {
                let map: Map<u32, u64> = self.header(kind)?;
                let mut cursor = 0;
                loop {
                    cursor = map.scan(tx, cursor, 50, |tx, slot| {
                        let key = slot.key(tx)?;
                        assert_eq!(slot.value(tx)?, u64::from(key) * 3);
                        found.push(key);
                        Ok::<_, TxError>(())
                    })?;
                    if cursor == 0 {
                        break;
                    }
                }
                found.sort_unstable();
            }
            Kind::Sorted => {
                let map: OrderedMap<u32, u32> = self.header(kind)?;
                map.range(tx, .., Direction::Up, u64::MAX, |_, key, value| {
                    assert_eq!(value, !key);
                    found.push(key);
                    Ok::<_, TxError>(())
                })?;
            }
            Kind::Texts => {
                let list: Vector<Bytes> = self.header(kind)?;
                for number in 0..list.len() {
                    let bytes = list.get(tx, number)?.ok_or(TxError::BadRef)?;
                    let bytes = bytes.get(tx)?;
                    let (n, _) = bytes.split_first_chunk().ok_or(TxError::Invalid)?;
                    let n = u32::from_le_bytes(*n);
                    assert_eq!(bytes, text(n));
                    found.push(n);
                }
            }
        }
        Ok(found)
    }

    /// What is there.
    pub(super) fn look(&mut self) -> Result<Held, TxError> {
        let shape = self.shape;
        let (root, id) = self.root();
        let values = self.get(root, id, shape.fields_at(), size(&shape.root))?;
        let mut held = Held::default();
        held.root.values = read(&shape.root, &values);
        for kind in &shape.lists {
            held.root.lists.insert(*kind, self.list(*kind)?);
        }
        for slot in 0..SLOTS {
            let object = self.slot(slot)?;
            if !object.is_null() {
                let id = self.types.item.type_id();
                let bytes = self.get(object, id, 0, shape.item_size())?;
                held.items.insert(slot, shape.read_item(&bytes));
            }
        }
        Ok(held)
    }
}

/// Some are too long to stand in the list itself.
fn text(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(1 + n as usize % 30)
}
