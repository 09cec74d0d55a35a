use core::ffi::c_void;

use crate::{Bytes, ErrorText, HostOps, Move, Ref, RegionSlot, Status, Token};

/// The name of the static that every component exports: a [`ComponentDescriptor`].
pub const DESCRIPTOR_SYMBOL: &[u8] = b"NEURATH_COMPONENT\0";

/// The component was built to unwind when it panics.
pub const PANIC_UNWIND: u32 = 1;
/// The component was built to abort: the node refuses it.
pub const PANIC_ABORT: u32 = 2;

/// What a library says of itself. The first two fields never move.
#[repr(C)]
#[derive(Debug)]
pub struct ComponentDescriptor {
    /// Bytes of this struct.
    pub size: u32,
    /// [`crate::ABI_VERSION`] as the library was built with.
    pub abi: u32,
    /// [`PANIC_UNWIND`] or [`PANIC_ABORT`].
    pub panic_strategy: u32,
    /// Zero.
    pub reserved: u32,
    /// The component's name.
    pub name: Bytes,
    /// The component's version.
    pub version: Bytes,
    /// The compiler that built it, for people.
    pub compiler: Bytes,
    /// The encoded schema of the state (`docs/schema.md`).
    pub schema: Bytes,
    /// The fingerprint of the state's type.
    pub fingerprint: [u8; 16],
    /// What the node calls.
    pub functions: Functions,
    /// `migration_count` conversions.
    pub migrations: *const Migration,
    /// How many there are.
    pub migration_count: usize,
    /// Tells a running instance that its configuration has changed; none if it need not know. The first
    /// field that a descriptor of an earlier SDK ends before.
    pub config_change: Option<unsafe extern "C" fn(call: *mut Call) -> Status>,
    /// `hook_count` functions that an upgrade can call by name.
    pub hooks: *const Hook,
    /// How many there are.
    pub hook_count: usize,
    /// `move_count` functions that take state out or put it in. The first field that a descriptor of an SDK
    /// without them ends before.
    pub moves: *const Move,
    /// How many there are.
    pub move_count: usize,
    /// What the library's SDK can do besides: some of [`READS_THROUGH`]. A descriptor of an earlier
    /// SDK ends before it.
    pub features: u64,
}

/// Where the view of a segment does not have an object, the library asks the node
/// ([`crate::RegionOps::read`]): so it can work on a region that is converted segment by segment.
pub const READS_THROUGH: u64 = 1;

// SAFETY: a descriptor is immutable data in the library's read-only segment.
#[allow(unsafe_code, reason = "it is exported as a static")]
unsafe impl Sync for ComponentDescriptor {}

/// What happened, for [`Functions::handle`].
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MessageKind(pub u32);

impl MessageKind {
    /// A connection was accepted.
    pub const OPENED: MessageKind = MessageKind(1);
    /// Bytes came in on a connection: all that was not consumed yet.
    pub const DATA: MessageKind = MessageKind(2);
    /// A connection is gone.
    pub const CLOSED: MessageKind = MessageKind(3);
    /// A message of another component, or of a program that embeds the node.
    pub const REQUEST: MessageKind = MessageKind(4);
    /// A timer went off.
    pub const TIMER: MessageKind = MessageKind(5);
    /// An upgrade calls a [`Hook`]; the bytes are its arguments, JSON.
    pub const HOOK: MessageKind = MessageKind(6);
    /// The configuration has changed, for [`ComponentDescriptor::config_change`]; the bytes say what,
    /// JSON: `changed` and `new` with the values, `removed` with the keys.
    pub const CONFIG_CHANGE: MessageKind = MessageKind(7);
}

/// One message.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// What happened.
    pub kind: MessageKind,
    /// Zero.
    pub reserved: u32,
    /// The connection, or the timer's id.
    pub source: u64,
    /// The connection's 64 bits, as `connection_set` left them.
    pub user: u64,
    /// Who waits for an answer to a request.
    pub token: Token,
    /// The message's bytes.
    pub bytes: Bytes,
}

/// One call into an instance.
#[repr(C)]
#[derive(Debug)]
pub struct Call {
    /// Bytes of this struct, so that it can grow.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The handle to the instance's region.
    pub region: *const RegionSlot,
    /// The node's services.
    pub host_ops: *const HostOps,
    /// The first argument of each of them.
    pub host: *mut c_void,
    /// The instance's configuration, JSON.
    pub config: Bytes,
    /// Milliseconds since 1970, UTC. The same during the whole call.
    pub now_ms: u64,
    /// The message, for `handle`, a hook and `config_change`; null otherwise.
    pub message: *const Message,
    /// Set by `handle` for [`MessageKind::DATA`]: how many bytes are done with.
    pub consumed: usize,
    /// Where the text of an error goes.
    pub error: ErrorText,
}

/// The making of a state that was never there: a [`Call`] whose region has no root yet.
#[repr(C)]
#[derive(Debug)]
pub struct CreateCall {
    /// As for every call.
    pub call: Call,
    /// Set by `create`: the root object.
    pub root: Ref,
}

/// The functions of a component. None unwinds.
#[repr(C)]
#[derive(Debug)]
pub struct Functions {
    /// Makes a new, empty state.
    pub create: unsafe extern "C" fn(call: *mut CreateCall) -> Status,
    /// Starts work on a state: a new, a migrated or a recovered one.
    pub init: unsafe extern "C" fn(call: *mut Call) -> Status,
    /// Serves one message, in one transaction.
    pub handle: unsafe extern "C" fn(call: *mut Call) -> Status,
    /// Stops ongoing work before a suspension.
    pub quiesce: unsafe extern "C" fn(call: *mut Call) -> Status,
    /// Trivial clean-up, on a dummy or for good.
    pub terminate: unsafe extern "C" fn(call: *mut Call) -> Status,
    /// Looks whether the state makes sense; changes nothing.
    pub check_state: unsafe extern "C" fn(call: *mut Call) -> Status,
}

/// A function that an upgrade can call by name, in a transaction of its own.
#[repr(C)]
#[derive(Debug)]
pub struct Hook {
    /// Its name.
    pub name: Bytes,
    /// What is called, with a message of [`MessageKind::HOOK`].
    pub call: unsafe extern "C" fn(call: *mut Call) -> Status,
}

// SAFETY: immutable data in the library's read-only segment.
#[allow(unsafe_code, reason = "it is part of a static")]
unsafe impl Sync for Hook {}

/// A conversion of values of one type into another.
#[repr(C)]
#[derive(Debug)]
pub struct Migration {
    /// The fingerprint of the type it takes.
    pub from: [u8; 16],
    /// The fingerprint of the type it gives.
    pub to: [u8; 16],
    /// The size of a value it takes, in bytes.
    pub from_size: u32,
    /// The size of a value it gives, in bytes.
    pub to_size: u32,
    /// The component's version it comes from, or goes back to: `"1.0"`.
    pub version: Bytes,
    /// Whether it goes back (`to`) and not forward (`from`).
    pub backward: u32,
    /// Zero.
    pub reserved: u32,
    /// Converts a row of values.
    pub convert: unsafe extern "C" fn(batch: *mut MigrationBatch) -> Status,
}

// SAFETY: immutable data in the library's read-only segment.
#[allow(unsafe_code, reason = "it is part of a static")]
unsafe impl Sync for Migration {}

/// A row of values to convert: one segment's, or a part of it.
#[repr(C)]
#[derive(Debug)]
pub struct MigrationBatch {
    /// Bytes of this struct, so that it can grow.
    pub size: u32,
    /// Zero.
    pub reserved: u32,
    /// The first old value.
    pub old: *const u8,
    /// Bytes from one old value to the next.
    pub old_stride: usize,
    /// The first new value: zeroed memory.
    pub new: *mut u8,
    /// Bytes from one new value to the next.
    pub new_stride: usize,
    /// How many places there are.
    pub count: usize,
    /// One bit a place, the lowest first: whether there is a value.
    pub live: *const u64,
    /// The instruction's `extra`, JSON.
    pub extra: Bytes,
    /// Milliseconds since 1970, UTC: when the conversion began.
    pub now_ms: u64,
    /// Where the text of an error goes.
    pub error: ErrorText,
}
