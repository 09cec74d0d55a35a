use core::ffi::c_void;

use crate::{Bytes, ErrorText, RegionSlot, Status};

/// A function that takes state out of a component's region, or puts it into one, for `move_state`.
#[repr(C)]
#[derive(Debug)]
pub struct Move {
    /// The name of the move.
    pub name: Bytes,
    /// Whether it puts state in (1), or takes it out (0).
    pub incoming: u32,
    /// Zero.
    pub reserved: u32,
    /// The fingerprint of the state's type that it works on.
    pub state: [u8; 16],
    /// The fingerprint of the type of what is moved: both ends agree in it.
    pub value: [u8; 16],
    /// What is called, once for each part.
    pub call: unsafe extern "C" fn(call: *mut MoveCall) -> Status,
}

// SAFETY: immutable data in the library's read-only segment.
#[allow(unsafe_code, reason = "it is part of a static")]
unsafe impl Sync for Move {}

/// One part of a move, at one of its ends.
#[repr(C)]
#[derive(Debug)]
pub struct MoveCall {
    /// Bytes of this struct, so that it can grow.
    pub size: u32,
    /// Set by a function that takes out: 1 if there is more, to be called again.
    pub more: u32,
    /// The handle to the region.
    pub region: *const RegionSlot,
    /// Whether what is changed here lasts, if the upgrade does (1); 0 in a state that is left behind.
    pub stays: u32,
    /// The number of the instance at the other end.
    pub peer_instance: u32,
    /// How many of them there are.
    pub peer_instances: u32,
    /// Zero.
    pub reserved: u32,
    /// The component at the other end.
    pub peer: Bytes,
    /// The instruction's `extra`, JSON.
    pub extra: Bytes,
    /// Milliseconds since 1970, UTC: when the move began.
    pub now_ms: u64,
    /// How far a function that takes out has got: 0 at first, then what it has set itself. The same for the
    /// function that puts this part in.
    pub cursor: u64,
    /// What is put in; empty for a function that takes out.
    pub value: Bytes,
    /// The first argument of `put`.
    pub sink: *mut c_void,
    /// Where a function that takes out puts the part, once. What it gives back is not [`Status::OK`] if
    /// that is too much.
    pub put: unsafe extern "C" fn(sink: *mut c_void, value: Bytes) -> Status,
    /// Where the text of an error goes.
    pub error: ErrorText,
}
