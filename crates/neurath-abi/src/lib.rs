//! What crosses the `dlopen` boundary between a Neurath node and a component.
//!
//! Everything here is `repr(C)` data, a constant or an `extern "C"` function
//! pointer. No Rust type with a layout of the compiler's choosing crosses, nothing
//! that one side allocates is freed by the other, and no panic passes: the SDK
//! catches it inside the library and hands it over as [`Status::PANICKED`].
//!
//! The layout is described in `docs/abi.md`; [`ABI_VERSION`] changes with it.
#![no_std]
#![deny(unsafe_code)]

mod bytes;
mod component;
mod host;
mod moves;
mod region;
mod status;

pub use bytes::{Bytes, ErrorText};
pub use component::{
    Call, ComponentDescriptor, CreateCall, DESCRIPTOR_SYMBOL, Functions, Hook, Message,
    MessageKind, Migration, MigrationBatch, PANIC_ABORT, PANIC_UNWIND, READS_THROUGH,
};
pub use host::{HostOps, InfoKey, LogLevel, Token};
pub use moves::{Move, MoveCall};
pub use region::{MAX_OBJECT_SIZE, Ref, RegionOps, RegionSlot, SegmentView};
pub use status::Status;

/// The version of everything in this crate. A node refuses a library with another.
pub const ABI_VERSION: u32 = 1;
