//! What may live in a region, and how one object refers to another.

use std::marker::PhantomData;

use neurath_abi::Ref;

use crate::schema::{self, Fingerprint, Kind, TypeSchema};
use crate::tx::{Tx, TxError};

/// A type whose values may live in a region. Implemented by `#[derive(Pmem)]`.
///
/// # Safety
///
/// The implementor is `repr(C)` or `repr(transparent)` plain data without padding,
/// without pointers, references or anything else that means something in one
/// process only; `SCHEMA` describes its layout exactly; and bytes that `valid`
/// accepts are a value of the type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot live in a region",
    label = "this type has no description for a region",
    note = "give it `#[derive(Clone, Copy, Pmem)]` and `#[repr(C)]`, if all its fields may live there",
    note = "what stands for `Vec`, `String` and the maps there are `Vector`, `Bytes`, `Map` and \
            `OrderedMap`; for a reference or a box, `P<T>`"
)]
pub unsafe trait Pmem: Copy + 'static {
    /// The type's description.
    const SCHEMA: &'static TypeSchema;

    /// Whether every pattern of bits is a value, so that `valid` need not look.
    const ANY_BITS: bool;

    /// Whether these bytes, `size_of::<Self>()` of them, are a value.
    fn valid(bytes: &[u8]) -> bool;

    /// The hash of the description.
    const FINGERPRINT: Fingerprint = schema::fingerprint(Self::SCHEMA);

    /// What a segment of such objects carries.
    const TYPE_ID: u64 = schema::type_id(Self::FINGERPRINT);

    /// Frees the objects that a value owns, as a collection does, before it is
    /// overwritten or its own object freed. A [`P`] owns nothing.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    fn free_owned(&self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        let _ = tx;
        Ok(())
    }
}

macro_rules! numbers {
    ($($type:ident)*) => {$(
        // SAFETY: a number is plain data, and any bits are a value of it.
        unsafe impl Pmem for $type {
            const SCHEMA: &'static TypeSchema = &TypeSchema {
                name: stringify!($type),
                size: size_of::<$type>(),
                align: align_of::<$type>(),
                kind: Kind::Primitive,
            };
            const ANY_BITS: bool = true;
            fn valid(_: &[u8]) -> bool {
                true
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 u128 i8 i16 i32 i64 i128 f32 f64);

// SAFETY: one byte; `valid` takes the two values that are.
unsafe impl Pmem for bool {
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "bool",
        size: 1,
        align: 1,
        kind: Kind::Primitive,
    };
    const ANY_BITS: bool = false;
    fn valid(bytes: &[u8]) -> bool {
        bytes[0] <= 1
    }
}

// SAFETY: elements in a row, without padding between them.
unsafe impl<T: Pmem, const N: usize> Pmem for [T; N] {
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "array",
        size: size_of::<[T; N]>(),
        align: align_of::<T>(),
        kind: Kind::Array {
            element: T::SCHEMA,
            len: N,
        },
    };
    const ANY_BITS: bool = T::ANY_BITS;
    fn valid(bytes: &[u8]) -> bool {
        // Elements may have no bytes, which make no chunks.
        T::ANY_BITS || bytes.chunks_exact(size_of::<T>().max(1)).all(T::valid)
    }
    fn free_owned(&self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        self.iter().try_for_each(|element| element.free_owned(tx))
    }
}

/// A reference to an object of type `T` in the same region, or to nothing.
///
/// Once a transaction is committed, it is such references in the state, each of its object's own type, and
/// collections that keep an object. One in a variable, in a message, as a number, or as a `P` of
/// another type does not: an upgrade that goes on segment by segment may free the object.
#[repr(transparent)]
pub struct P<T> {
    object: Ref,
    target: PhantomData<fn() -> T>,
}

impl<T> Clone for P<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for P<T> {}
impl<T> PartialEq for P<T> {
    fn eq(&self, other: &Self) -> bool {
        self.object == other.object
    }
}
impl<T> Eq for P<T> {}
impl<T> std::fmt::Debug for P<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "P({}.{})", self.object.segment(), self.object.index())
    }
}

impl<T> P<T> {
    /// Refers to nothing.
    pub const NULL: P<T> = P {
        object: Ref::NULL,
        target: PhantomData,
    };

    /// A reference from its untyped form. What it refers to is checked when it is used.
    pub const fn from_ref(object: Ref) -> P<T> {
        P {
            object,
            target: PhantomData,
        }
    }

    /// The untyped form.
    pub const fn to_ref(self) -> Ref {
        self.object
    }

    /// The same object, of another type: for a conversion, which converts the object by itself.
    pub const fn carry_over<U>(self) -> P<U> {
        P::from_ref(self.object)
    }

    /// Whether this refers to nothing.
    pub const fn is_null(self) -> bool {
        self.object.is_null()
    }
}

// SAFETY: a number; what it refers to is checked at each use.
unsafe impl<T: Pmem> Pmem for P<T> {
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "P",
        size: 8,
        align: 8,
        kind: Kind::Reference(T::SCHEMA),
    };
    const ANY_BITS: bool = true;
    fn valid(_: &[u8]) -> bool {
        true
    }
}

/// The value that bytes of a region stand for; `None` if they stand for none.
///
/// # Panics
///
/// If there are not exactly `size_of::<T>()` bytes.
pub fn from_bytes<T: Pmem>(bytes: &[u8]) -> Option<T> {
    assert_eq!(bytes.len(), size_of::<T>(), "the bytes of one value");
    if !T::ANY_BITS && !T::valid(bytes) {
        return None;
    }
    // SAFETY: the length is right, `valid` accepted the bytes (or any are a value),
    // and an unaligned read needs no alignment.
    Some(unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

/// The bytes of a value.
pub fn as_bytes<T: Pmem>(value: &T) -> &[u8] {
    // SAFETY: a `Pmem` type has no padding, so every byte is initialised.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}
