//! What `#[move_out]` and `#[move_in]` expand to.

use std::panic::{AssertUnwindSafe, catch_unwind};

use neurath_abi::{Bytes, MoveCall, Status};
use neurath_pmem::{Parcel, Pmem, Tx};

use crate::entry::{finish, text_of};
use crate::{Error, Result};

/// What a function that takes state out, or puts it in, knows besides the state.
#[derive(Clone, Copy, Debug)]
pub struct Moving<'a> {
    /// The component at the other end.
    pub peer: &'a str,
    /// The number of the instance there, from 0.
    pub peer_instance: u32,
    /// How many instances there are there. Each instance gives to each.
    pub peer_instances: u32,
    /// Whether what is changed in this state lasts. Not so in one that is left behind: there it is dropped when
    /// the move is done, and until then it must fit into one transaction.
    pub stays: bool,
    /// The table of the instruction, as JSON.
    pub extra: &'a str,
    /// Milliseconds since 1970, UTC, when the move began: the same for every part.
    pub now_ms: u64,
    /// How far a `move_out` has got: 0 for its first part, then what it gave to [`Moving::more`]. A `move_in`
    /// sees the same for the same part.
    pub cursor: u64,
    more: Option<u64>,
}

impl Moving<'_> {
    /// Says that what is given now is not all: the function is called again, with this cursor. Every part is
    /// a transaction of its own at both ends, and all of them are one step of the upgrade.
    pub fn more(&mut self, cursor: u64) {
        self.more = Some(cursor);
    }
}

/// Runs one end of a move: reads the state, lets `work` change it, and writes it back.
///
/// # Safety
///
/// `call` is the node's, with valid pointers.
unsafe fn run<S: Pmem>(
    call: *mut MoveCall,
    work: impl FnOnce(&mut S, &mut Tx<'_>, &mut Moving<'_>, &mut MoveCall) -> Result<()>,
) -> Status {
    // SAFETY: the node's own call, for as long as it lasts.
    let call = unsafe { &mut *call };
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: texts that are valid for this call.
        let (peer, extra) = unsafe { (call.peer.as_slice(), call.extra.as_slice()) };
        let mut moving = Moving {
            peer: text_of(peer)?,
            peer_instance: call.peer_instance,
            peer_instances: call.peer_instances,
            stays: call.stays != 0,
            extra: text_of(extra)?,
            now_ms: call.now_ms,
            cursor: call.cursor,
            more: None,
        };
        // SAFETY: the node's slot, for this call.
        let mut tx = unsafe { Tx::new(call.region) };
        let root = tx.root::<S>();
        let mut state = tx.read(root)?;
        work(&mut state, &mut tx, &mut moving, call)?;
        tx.write(root, &state)?;
        if let Some(cursor) = moving.more {
            call.cursor = cursor;
            call.more = 1;
        }
        Ok(())
    }));
    finish(&mut call.error, result)
}

/// Runs a `move_out`.
///
/// # Safety
///
/// `call` is the node's, with valid pointers.
pub unsafe fn move_out<S: Pmem, T: Parcel>(
    call: *mut MoveCall,
    take: impl FnOnce(&mut S, &mut Tx<'_>, &mut Moving<'_>) -> Result<T>,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        run::<S>(call, |state, tx, moving, call| {
            let mut packed = Vec::new();
            take(state, tx, moving)?.pack(&mut packed);
            // The node's function and its first argument, during its call.
            let status = (call.put)(call.sink, Bytes::new(&packed));
            match status.is_ok() {
                true => Ok(()),
                false => Err(Error::new(format!(
                    "the part has {} bytes, which is more than a part may have: give less, and say so by \
                     `moving.more(cursor)`",
                    packed.len()
                ))),
            }
        })
    }
}

/// Runs a `move_in`.
///
/// # Safety
///
/// `call` is the node's, with valid pointers.
pub unsafe fn move_in<S: Pmem, T: Parcel>(
    call: *mut MoveCall,
    put: impl FnOnce(&mut S, &mut Tx<'_>, T, &Moving<'_>) -> Result<()>,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        run::<S>(call, |state, tx, moving, call| {
            let mut bytes = call.value.as_slice();
            let value = T::unpack(&mut bytes).filter(|_| bytes.is_empty());
            let value = value.ok_or_else(|| Error::new("what came is no value of the type"))?;
            put(state, tx, value, moving)
        })
    }
}
