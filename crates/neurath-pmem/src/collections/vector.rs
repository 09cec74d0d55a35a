//! Elements by their numbers.
//!
//! A radix tree of pages of 64: the elements are in the lowest, references to pages in
//! the others, and the tree is as deep as the number of elements needs (the index tree of
//! Clojure's vectors, after Bagwell's "Ideal Hash Trees", 2001, but changed in place).
//! Nothing is ever moved, so that every operation changes one element, and at a page's
//! border makes or frees one page at each level.
//!
//! The pages' length does not depend on the type: so a conversion of the elements, also to
//! elements of another size, converts each page in its place. The unused places hold
//! values that were once elements, so that it meets no bytes that are no value.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::Range;

use neurath_abi::Ref;

use crate::schema::{self, Field, Kind, TypeSchema};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;

/// Elements of a page, or references.
const FAN: u64 = 64;

/// How many levels of references there may be: then there are 2^48 elements.
const MAX_DEPTH: u64 = 7;

/// The header of a vector of `T`. It owns its elements.
#[repr(C)]
pub struct Vector<T> {
    len: u64,
    /// The page of elements, or the tree's topmost page.
    top: u64,
    /// How many levels of references there are.
    depth: u64,
    types: PhantomData<fn() -> T>,
}

impl<T> Clone for Vector<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Vector<T> {}
impl<T> std::fmt::Debug for Vector<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vector({} elements)", self.len)
    }
}
impl<T> Default for Vector<T> {
    fn default() -> Self {
        Self::EMPTY
    }
}

/// Both kinds of pages, for their descriptions.
struct Page<T>(PhantomData<T>);

impl<T: Pmem> Page<T> {
    const SIZE: u64 = FAN * size_of::<T>() as u64;
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "VectorPage",
        size: Self::SIZE as usize,
        align: align_of::<T>(),
        kind: Kind::Struct(&[Field {
            name: "elements",
            offset: 0,
            schema: <[T; FAN as usize]>::SCHEMA,
        }]),
    };
    const ID: u64 = schema::type_id(schema::fingerprint(Self::SCHEMA));

    /// References to pages of elements or to further ones. A type of its own for each type
    /// of vector.
    const INDEX_SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "VectorIndex",
        size: FAN as usize * 8,
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
    const INDEX: u64 = schema::type_id(schema::fingerprint(Self::INDEX_SCHEMA));
}

// SAFETY: plain data without padding (three words), described as it is; any bits are a
// value, as every reference is checked when it is used and every number where it is.
unsafe impl<T: Pmem> Pmem for Vector<T> {
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "Vector",
        size: size_of::<Vector<T>>(),
        align: align_of::<Vector<T>>(),
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
            objects: &[Page::<T>::SCHEMA, Page::<T>::INDEX_SCHEMA],
        },
    };
    const ANY_BITS: bool = true;

    fn valid(_: &[u8]) -> bool {
        true
    }

    fn free_owned(&self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        let mut rest = *self;
        rest.truncate_some(tx, 0, self.len).map(drop)
    }
}

impl<T> Vector<T> {
    /// A vector without elements; takes no room.
    pub const EMPTY: Vector<T> = Vector {
        len: 0,
        top: 0,
        depth: 0,
        types: PhantomData,
    };

    /// The same elements in a vector of another type: for a conversion, which converts the
    /// pages by itself.
    pub fn carry_over<U>(self) -> Vector<U> {
        let Vector {
            len, top, depth, ..
        } = self;
        Vector {
            len,
            top,
            depth,
            types: PhantomData,
        }
    }

    /// How many elements there are.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// For how many elements a tree of the present depth has room.
    fn room(&self) -> u64 {
        FAN.pow(self.depth as u32 + 1)
    }

    /// Refuses numbers that no vector has.
    fn check_header(&self) -> Result<(), TxError> {
        let sound = self.depth <= MAX_DEPTH
            && self.len <= self.room()
            && (self.top != 0 || (self.len == 0 && self.depth == 0));
        if sound { Ok(()) } else { Err(TxError::Invalid) }
    }
}

impl<T: Pmem> Vector<T> {
    /// The element of a number; `None` beyond the last.
    ///
    /// # Errors
    ///
    /// Those of the transaction, as for every operation here: [`TxError::Invalid`] and
    /// [`TxError::BadRef`] if the tree is damaged.
    pub fn get(&self, tx: &Tx<'_>, number: u64) -> Result<Option<T>, TxError> {
        if number >= self.len {
            return Ok(None);
        }
        let page = self.page(tx, number)?;
        Self::element(tx, page, number).map(Some)
    }

    /// Replaces an element; gives the one before, whose belongings are the caller's to
    /// free. `None`, and nothing done, beyond the last.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn set(&self, tx: &mut Tx<'_>, number: u64, value: &T) -> Result<Option<T>, TxError> {
        if number >= self.len {
            return Ok(None);
        }
        let page = self.page(tx, number)?;
        let old = Self::element(tx, page, number)?;
        Self::set_element(tx, page, number, value)?;
        Ok(Some(old))
    }

    /// Adds an element behind the last.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn push(&mut self, tx: &mut Tx<'_>, value: &T) -> Result<(), TxError> {
        self.check_header()?;
        if self.len.is_multiple_of(FAN) {
            self.add_page(tx, value)?;
        } else {
            let page = self.page(tx, self.len)?;
            Self::set_element(tx, page, self.len, value)?;
        }
        self.len += 1;
        Ok(())
    }

    /// Takes the last element away; what it owns is the caller's to free.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn pop(&mut self, tx: &mut Tx<'_>) -> Result<Option<T>, TxError> {
        let Some(last) = self.len.checked_sub(1) else {
            return Ok(None);
        };
        let page = self.page(tx, last)?;
        let value = Self::element(tx, page, last)?;
        self.len = last;
        if last.is_multiple_of(FAN) {
            self.free_last_page(tx)?;
        }
        Ok(Some(value))
    }

    /// Frees at most `count` of the elements behind the first `len`, the last ones first,
    /// with all that they own; whether no more than `len` are left. So a vector too large to
    /// be freed in one transaction is freed in several.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    pub fn truncate_some(
        &mut self,
        tx: &mut Tx<'_>,
        len: u64,
        count: u64,
    ) -> Result<bool, TxError> {
        for _ in 0..count.min(self.len.saturating_sub(len)) {
            if let Some(value) = self.pop(tx)? {
                value.free_owned(tx)?;
            }
        }
        Ok(self.len <= len)
    }

    /// Visits the elements of a range of numbers, as far as there are any.
    ///
    /// # Errors
    ///
    /// Those of the transaction and of `visit`.
    pub fn range<E: From<TxError>>(
        &self,
        tx: &Tx<'_>,
        range: Range<u64>,
        mut visit: impl FnMut(&Tx<'_>, u64, T) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut page = Ref::NULL;
        for number in range.start..range.end.min(self.len) {
            if page.is_null() || number.is_multiple_of(FAN) {
                page = self.page(tx, number)?;
            }
            visit(tx, number, Self::element(tx, page, number)?)?;
        }
        Ok(())
    }

    fn element(tx: &Tx<'_>, page: Ref, number: u64) -> Result<T, TxError> {
        tx.read_at(page, Page::<T>::ID, number % FAN * size_of::<T>() as u64)
    }

    fn set_element(tx: &mut Tx<'_>, page: Ref, number: u64, value: &T) -> Result<(), TxError> {
        let at = number % FAN * size_of::<T>() as u64;
        tx.write_part(page, Page::<T>::ID, at, value)
    }

    /// The page that holds an element.
    fn page(&self, tx: &Tx<'_>, number: u64) -> Result<Ref, TxError> {
        self.check_header()?;
        let mut page = Ref(self.top);
        for level in (1..=self.depth).rev() {
            page = Ref(tx.read_at(page, Page::<T>::INDEX, place(number, level))?);
        }
        Ok(page)
    }

    /// Makes the page behind the last one, full of a value.
    fn add_page(&mut self, tx: &mut Tx<'_>, value: &T) -> Result<(), TxError> {
        let page = tx.alloc_untyped(Page::<T>::ID, Page::<T>::SIZE)?;
        tx.fill_at(page, Page::<T>::ID, 0, value, FAN as usize)?;
        if self.len == 0 {
            self.top = page.0;
            self.depth = 0;
            return Ok(());
        }
        if self.len == self.room() {
            if self.depth == MAX_DEPTH {
                return Err(TxError::Full);
            }
            let above = tx.alloc_untyped(Page::<T>::INDEX, FAN * 8)?;
            tx.write_at(above, Page::<T>::INDEX, 0, &self.top)?;
            self.top = above.0;
            self.depth += 1;
        }
        let mut parent = Ref(self.top);
        for level in (2..=self.depth).rev() {
            let at = place(self.len, level);
            // The first page below an index page makes it.
            if self.len.is_multiple_of(FAN.pow(level as u32)) {
                let child = tx.alloc_untyped(Page::<T>::INDEX, FAN * 8)?;
                tx.write_at(parent, Page::<T>::INDEX, at, &child.0)?;
                parent = child;
            } else {
                parent = Ref(tx.read_at(parent, Page::<T>::INDEX, at)?);
            }
        }
        tx.write_at(parent, Page::<T>::INDEX, place(self.len, 1), &page.0)
    }

    /// Frees the page behind the last element, and those above it that are not needed then.
    fn free_last_page(&mut self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        let mut page = Ref(self.top);
        // A page goes if the one to be freed is its first, and so the only one left.
        for level in (1..=self.depth).rev() {
            let at = place(self.len, level);
            let child = Ref(tx.read_at(page, Page::<T>::INDEX, at)?);
            if self.len.is_multiple_of(FAN.pow(level as u32 + 1)) {
                tx.free_untyped(page, Page::<T>::INDEX)?;
            } else if self.len.is_multiple_of(FAN.pow(level as u32)) {
                tx.write_at(page, Page::<T>::INDEX, at, &0u64)?;
            }
            page = child;
        }
        tx.free_untyped(page, Page::<T>::ID)?;
        if self.len == 0 {
            *self = Vector::EMPTY;
        }
        // A topmost page with one child gives way to it.
        while self.depth > 0 && self.len <= self.room() / FAN {
            let child = tx.read_at(Ref(self.top), Page::<T>::INDEX, 0)?;
            tx.free_untyped(Ref(self.top), Page::<T>::INDEX)?;
            self.top = child;
            self.depth -= 1;
        }
        Ok(())
    }
}

/// Where the reference to the page of an element is in the index page at a level.
fn place(number: u64, level: u64) -> u64 {
    number / FAN.pow(level as u32) % FAN * 8
}

#[cfg(test)]
impl<T: Pmem> Vector<T> {
    /// Puts a word into the topmost page.
    pub(super) fn damage(&self, tx: &mut Tx<'_>, at: u64, word: u64) {
        let (id, size) = match self.depth {
            0 => (Page::<T>::ID, Page::<T>::SIZE),
            _ => (Page::<T>::INDEX, FAN * 8),
        };
        tx.write_at(Ref(self.top), id, at % (size / 8) * 8, &word)
            .unwrap();
    }
}
