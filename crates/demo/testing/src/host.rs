//! The services of the node, written down instead of done.

use std::collections::HashMap;
use std::ffi::c_void;

use neurath::{InfoKey, LogLevel, Token};
use neurath_abi::{Bytes, HostOps, Status};

/// A message to another component.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sent {
    /// To which.
    pub component: String,
    /// Who gets its answer.
    pub token: Token,
    /// What it says.
    pub bytes: Vec<u8>,
}

/// What an instance did.
#[derive(Debug, Default)]
pub struct Log {
    /// Answers of the last call.
    pub replies: Vec<(Token, Vec<u8>)>,
    /// Messages sent by the last call.
    pub sent: Vec<Sent>,
    /// Connections closed by the last call.
    pub closed: Vec<u64>,
    /// Bytes done with by the last call.
    pub consumed: usize,
    /// Whether the last call changed the region.
    pub committed: bool,
    /// Timers set: id and milliseconds.
    pub timers: HashMap<u64, u64>,
    /// Addresses listened on.
    pub listening: Vec<String>,
    /// Each connection's 64 bits.
    pub users: HashMap<u64, u64>,
    /// Places in line, by connection.
    tokens: HashMap<u64, u64>,
}

impl Log {
    pub(crate) fn begin(&mut self) {
        self.replies.clear();
        self.sent.clear();
        self.closed.clear();
        self.consumed = 0;
        self.committed = false;
    }
}

fn log<'a>(host: *mut c_void) -> &'a mut Log {
    // SAFETY: the instance gives its log's address as `host`, for the time of a call.
    unsafe { &mut *host.cast::<Log>() }
}

fn vec(bytes: Bytes) -> Vec<u8> {
    // SAFETY: valid for the call.
    unsafe { bytes.as_slice() }.to_vec()
}

fn text(bytes: Bytes) -> String {
    String::from_utf8_lossy(&vec(bytes)).into_owned()
}

pub(crate) static OPS: HostOps = HostOps {
    size: size_of::<HostOps>() as u32,
    reply,
    send,
    next_token,
    connection_set,
    connection_close,
    listen,
    timer,
    log: write_log,
    info,
    instances,
};

unsafe extern "C" fn reply(host: *mut c_void, token: Token, bytes: Bytes) -> Status {
    let log = log(host);
    if log.replies.iter().any(|(known, _)| *known == token) {
        return Status::NOT_FOUND;
    }
    log.replies.push((token, vec(bytes)));
    Status::OK
}

unsafe extern "C" fn send(
    host: *mut c_void,
    component: Bytes,
    token: Token,
    bytes: Bytes,
) -> Status {
    log(host).sent.push(Sent {
        component: text(component),
        token,
        bytes: vec(bytes),
    });
    Status::OK
}

unsafe extern "C" fn next_token(host: *mut c_void, connection: u64) -> Token {
    let sequence = log(host).tokens.entry(connection).or_default();
    *sequence += 1;
    Token {
        target: connection,
        sequence: *sequence,
    }
}

unsafe extern "C" fn connection_set(host: *mut c_void, connection: u64, user: u64) -> Status {
    log(host).users.insert(connection, user);
    Status::OK
}

unsafe extern "C" fn connection_close(host: *mut c_void, connection: u64) -> Status {
    log(host).closed.push(connection);
    Status::OK
}

unsafe extern "C" fn listen(host: *mut c_void, address: Bytes) -> Status {
    log(host).listening.push(text(address));
    Status::OK
}

unsafe extern "C" fn timer(host: *mut c_void, id: u64, after_ms: u64) -> Status {
    log(host).timers.insert(id, after_ms);
    Status::OK
}

unsafe extern "C" fn write_log(_: *mut c_void, _: LogLevel, _: Bytes) {}

unsafe extern "C" fn instances(_: *mut c_void, _: Bytes) -> u32 {
    1
}

unsafe extern "C" fn info(_: *mut c_void, key: InfoKey) -> u64 {
    match key {
        InfoKey::UPTIME_US => 5_000_000,
        InfoKey::RANDOM => 0x9E37_79B9_7F4A_7C15,
        InfoKey::PORT => 7379,
        InfoKey::PROCESS_ID => 42,
        InfoKey::INSTANCE => 0,
        _ => 1,
    }
}
