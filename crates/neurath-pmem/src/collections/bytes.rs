//! Bytes of any length.

use std::mem::offset_of;

use neurath_abi::Ref;

use crate::schema::{Field, Kind, TypeSchema};
use crate::tx::{Tx, TxError};
use crate::types::Pmem;

/// The longest bytes that need no object of their own.
const INLINE: usize = 20;

/// Immutable bytes: up to 20 of them in place, longer ones in a raw block.
///
/// Copies share the block. Who replaces or drops the last of them frees it, with
/// [`Pmem::free_owned`].
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    len: u32,
    /// The bytes, then zeros; or zeros and the block's reference in the last 8.
    data: [u8; INLINE],
}

// SAFETY: plain data without padding (4 + 20 bytes), described as it is; any bits are
// a value, as the reference and the length are checked at each use.
unsafe impl Pmem for Bytes {
    const SCHEMA: &'static TypeSchema = &TypeSchema {
        name: "Bytes",
        size: size_of::<Bytes>(),
        align: align_of::<Bytes>(),
        kind: Kind::Collection {
            fields: &[
                Field {
                    name: "len",
                    offset: offset_of!(Bytes, len),
                    schema: u32::SCHEMA,
                },
                Field {
                    name: "data",
                    offset: offset_of!(Bytes, data),
                    schema: <[u8; INLINE]>::SCHEMA,
                },
            ],
            objects: &[],
        },
    };
    const ANY_BITS: bool = true;

    fn valid(_: &[u8]) -> bool {
        true
    }

    fn free_owned(&self, tx: &mut Tx<'_>) -> Result<(), TxError> {
        match self.block() {
            Some(block) => tx.free_bytes(block),
            None => Ok(()),
        }
    }
}

impl Bytes {
    /// No bytes.
    pub const EMPTY: Bytes = Bytes {
        len: 0,
        data: [0; INLINE],
    };

    /// Stores bytes.
    ///
    /// # Errors
    ///
    /// [`TxError::Full`], and [`TxError::TooLarge`] above 512 MiB.
    pub fn new(tx: &mut Tx<'_>, bytes: &[u8]) -> Result<Bytes, TxError> {
        let len = u32::try_from(bytes.len()).map_err(|_| TxError::TooLarge)?;
        let mut data = [0; INLINE];
        if bytes.len() <= INLINE {
            data[..bytes.len()].copy_from_slice(bytes);
        } else {
            let block = tx.alloc_bytes(bytes)?;
            data[INLINE - 8..].copy_from_slice(&block.0.to_le_bytes());
        }
        Ok(Bytes { len, data })
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bytes.
    ///
    /// # Errors
    ///
    /// [`TxError::BadRef`] if they have been freed.
    pub fn get<'a>(&'a self, tx: &'a Tx<'_>) -> Result<&'a [u8], TxError> {
        match self.block() {
            Some(block) => tx.bytes(block, self.len.into()),
            None => Ok(&self.data[..self.len()]),
        }
    }

    fn block(&self) -> Option<Ref> {
        let mut le = [0; 8];
        le.copy_from_slice(&self.data[INLINE - 8..]);
        (self.len() > INLINE).then_some(Ref(u64::from_le_bytes(le)))
    }
}
