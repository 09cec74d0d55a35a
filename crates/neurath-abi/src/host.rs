use core::ffi::c_void;

use crate::{Bytes, Status};

/// Where an answer goes: a connection's next place in line, or a caller. Made by
/// the node, passed on freely by components.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Token {
    /// The connection or caller.
    pub target: u64,
    /// The place in line.
    pub sequence: u64,
}

impl Token {
    /// Nobody waits for an answer.
    pub const NONE: Token = Token {
        target: 0,
        sequence: 0,
    };
}

/// How grave a log line is.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogLevel(pub u32);

impl LogLevel {
    /// Something failed.
    pub const ERROR: LogLevel = LogLevel(1);
    /// Something is not as it should be.
    pub const WARN: LogLevel = LogLevel(2);
    /// Worth knowing.
    pub const INFO: LogLevel = LogLevel(3);
    /// For developers.
    pub const DEBUG: LogLevel = LogLevel(4);
}

/// A figure that the node knows.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InfoKey(pub u32);

impl InfoKey {
    /// Microseconds since the node started.
    pub const UPTIME_US: InfoKey = InfoKey(1);
    /// Connections that are open.
    pub const CONNECTIONS: InfoKey = InfoKey(2);
    /// Connections accepted since the node started.
    pub const CONNECTIONS_TOTAL: InfoKey = InfoKey(3);
    /// Bytes of the file behind the instance's region.
    pub const REGION_BYTES: InfoKey = InfoKey(4);
    /// Bytes of live objects in the instance's region.
    pub const REGION_LIVE_BYTES: InfoKey = InfoKey(5);
    /// The process's id.
    pub const PROCESS_ID: InfoKey = InfoKey(6);
    /// The port of the first listening socket.
    pub const PORT: InfoKey = InfoKey(7);
    /// 64 random bits.
    pub const RANDOM: InfoKey = InfoKey(8);
    /// The number of the instance among those of its component, from 0.
    pub const INSTANCE: InfoKey = InfoKey(9);
}

/// The services of the node. Each takes the call's `host` pointer first, may be
/// used only during that call, and never unwinds. What is sent or answered leaves
/// when the call has succeeded and its transaction is committed; it is dropped if
/// the call fails.
#[repr(C)]
#[derive(Debug)]
pub struct HostOps {
    /// Bytes of this struct, so that it can grow.
    pub size: u32,
    /// Answers a request. Each token is answered once: a second answer is an error.
    pub reply: unsafe extern "C" fn(host: *mut c_void, token: Token, bytes: Bytes) -> Status,
    /// Sends a message to another component of the release, with the token of who
    /// is to get its answer. `component` is its name, or that of one of its instances:
    /// `store.3`.
    pub send: unsafe extern "C" fn(
        host: *mut c_void,
        component: Bytes,
        token: Token,
        bytes: Bytes,
    ) -> Status,
    /// A token for the next place in a connection's line of answers.
    pub next_token: unsafe extern "C" fn(host: *mut c_void, connection: u64) -> Token,
    /// Keeps 64 bits with a connection; they outlive this version of the component.
    pub connection_set:
        unsafe extern "C" fn(host: *mut c_void, connection: u64, user: u64) -> Status,
    /// Closes a connection once all that was answered before has been written.
    pub connection_close: unsafe extern "C" fn(host: *mut c_void, connection: u64) -> Status,
    /// Listens on `address` (`"127.0.0.1:7379"`). A socket that already listens
    /// there for this component is kept, with its connections.
    pub listen: unsafe extern "C" fn(host: *mut c_void, address: Bytes) -> Status,
    /// Wakes the instance with a timer message after `after_ms` milliseconds. A
    /// timer of the same `id` is replaced; it outlives this version.
    pub timer: unsafe extern "C" fn(host: *mut c_void, id: u64, after_ms: u64) -> Status,
    /// Writes a line to the node's log.
    pub log: unsafe extern "C" fn(host: *mut c_void, level: LogLevel, text: Bytes),
    /// A figure that the node knows; 0 for one it does not.
    pub info: unsafe extern "C" fn(host: *mut c_void, key: InfoKey) -> u64,
    /// How many instances of a component run; 0 of one that the release does not have. A
    /// node from before there could be several has a table without it: `size` tells.
    pub instances: unsafe extern "C" fn(host: *mut c_void, component: Bytes) -> u32,
}
