//! Requests to the storage as bytes.
//!
//! The first byte is the version of kv whose commands the message needs (1 for 1.0, 2 for
//! 1.1), so that a newer sender and an older receiver understand each other as far as they
//! can. The second is the version of RESP for the answer, the third the operation; then its
//! fields. Lengths are in base 128, low digits first; numbers are 8 bytes, low byte first.
//! What a byte means never changes; only new operations and flags are added.

use crate::command::{
    Command, ExpireCondition, GetExChange, KvVersion, Pair, Request, SetCondition, SetExpiry,
    TtlKind,
};
use kv_resp::Protocol;
use std::fmt;

/// Why bytes are no request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// The message needs a newer version of kv than the receiver is.
    Newer {
        /// The message's first byte.
        format: u8,
    },
    /// A field ends beyond the message's end.
    TooShort,
    /// There are bytes behind the message's end.
    TooLong,
    /// No operation has this number.
    UnknownOperation(u8),
    /// A field holds what it can't.
    Invalid,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { format } => {
                write!(
                    f,
                    "the request needs message format {format}, which is newer than this storage"
                )
            }
            Self::TooShort => f.write_str("the request is cut off"),
            Self::TooLong => f.write_str("the request has bytes behind its end"),
            Self::UnknownOperation(operation) => {
                write!(f, "no operation has the number {operation}")
            }
            Self::Invalid => f.write_str("a field of the request is invalid"),
        }
    }
}

impl std::error::Error for DecodeError {}

mod operation {
    pub(super) const GET: u8 = 1;
    pub(super) const SET: u8 = 2;
    pub(super) const SET_NX: u8 = 3;
    pub(super) const GET_DEL: u8 = 4;
    pub(super) const GET_EX: u8 = 5;
    pub(super) const APPEND: u8 = 6;
    pub(super) const STRLEN: u8 = 7;
    pub(super) const MGET: u8 = 8;
    pub(super) const MSET: u8 = 9;
    pub(super) const MSET_NX: u8 = 10;
    pub(super) const DEL: u8 = 11;
    pub(super) const EXISTS: u8 = 12;
    pub(super) const TYPE: u8 = 13;
    pub(super) const INCR_BY: u8 = 14;
    pub(super) const EXPIRE_AT: u8 = 15;
    pub(super) const TTL: u8 = 16;
    pub(super) const PERSIST: u8 = 17;
    pub(super) const KEYS: u8 = 18;
    pub(super) const SCAN: u8 = 19;
    pub(super) const RANDOM_KEY: u8 = 20;
    pub(super) const FLUSH: u8 = 21;
    pub(super) const DB_SIZE: u8 = 22;
    pub(super) const INFO: u8 = 23;
}

const SET_IF_MISSING: u8 = 1;
const SET_IF_PRESENT: u8 = 2;
const SET_GET: u8 = 4;
const SET_KEEP: u8 = 8;
const SET_AT: u8 = 16;

const SCAN_PATTERN: u8 = 1;
const SCAN_KIND: u8 = 2;

fn put_length(out: &mut Vec<u8>, length: usize) {
    let mut rest = length;
    while rest >= 0x80 {
        out.push(u8::try_from(rest & 0x7f).unwrap_or(0) | 0x80);
        rest >>= 7;
    }
    out.push(u8::try_from(rest).unwrap_or(0));
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn put_keys(out: &mut Vec<u8>, keys: &[&[u8]]) {
    put_length(out, keys.len());
    for key in keys {
        put_bytes(out, key);
    }
}

fn put_pairs(out: &mut Vec<u8>, pairs: &[(&[u8], &[u8])]) {
    put_length(out, pairs.len());
    for (key, value) in pairs {
        put_bytes(out, key);
        put_bytes(out, value);
    }
}

/// Appends a command that the storage answers as bytes; `false` when it isn't one.
pub fn encode_request(command: &Command<'_>, protocol: Protocol, out: &mut Vec<u8>) -> bool {
    match command {
        Command::Store(request) => {
            request.encode(protocol, out);
            true
        }
        Command::Local(_) => false,
    }
}

impl<'a> Request<'a> {
    /// The first version of kv whose storage can answer this.
    #[must_use]
    pub fn needs(&self) -> KvVersion {
        match self {
            Request::GetEx { .. }
            | Request::ExpireAt { .. }
            | Request::Ttl { .. }
            | Request::Persist(_)
            | Request::Set {
                expiry: SetExpiry::Keep | SetExpiry::At(_),
                ..
            } => KvVersion::V1_1,
            _ => KvVersion::V1_0,
        }
    }

    /// Whether it may change anything.
    #[must_use]
    pub fn writes(&self) -> bool {
        !matches!(
            self,
            Request::Get(_)
                | Request::Strlen(_)
                | Request::MGet(_)
                | Request::Exists(_)
                | Request::Type(_)
                | Request::Ttl { .. }
                | Request::Keys(_)
                | Request::Scan { .. }
                | Request::RandomKey
                | Request::DbSize
                | Request::Info { .. }
        )
    }

    /// Appends the request as bytes, to be answered in this version of the protocol.
    pub fn encode(&self, protocol: Protocol, out: &mut Vec<u8>) {
        let format = match self.needs() {
            KvVersion::V1_0 => 1,
            KvVersion::V1_1 => 2,
        };
        out.extend_from_slice(&[format, protocol.number()]);
        let one = |out: &mut Vec<u8>, operation: u8, key: &[u8]| {
            out.push(operation);
            put_bytes(out, key);
        };
        match self {
            Request::Get(key) => one(out, operation::GET, key),
            Request::Set {
                key,
                value,
                condition,
                get,
                expiry,
            } => {
                one(out, operation::SET, key);
                put_bytes(out, value);
                let condition = match condition {
                    SetCondition::Always => 0,
                    SetCondition::IfMissing => SET_IF_MISSING,
                    SetCondition::IfPresent => SET_IF_PRESENT,
                };
                let get = if *get { SET_GET } else { 0 };
                match expiry {
                    SetExpiry::Never => out.push(condition | get),
                    SetExpiry::Keep => out.push(condition | get | SET_KEEP),
                    SetExpiry::At(at) => {
                        out.push(condition | get | SET_AT);
                        out.extend_from_slice(&at.to_le_bytes());
                    }
                }
            }
            Request::SetNx { key, value } => {
                one(out, operation::SET_NX, key);
                put_bytes(out, value);
            }
            Request::GetDel(key) => one(out, operation::GET_DEL, key),
            Request::GetEx { key, change } => {
                one(out, operation::GET_EX, key);
                match change {
                    GetExChange::None => out.push(0),
                    GetExChange::Persist => out.push(1),
                    GetExChange::At(at) => {
                        out.push(2);
                        out.extend_from_slice(&at.to_le_bytes());
                    }
                }
            }
            Request::Append { key, value } => {
                one(out, operation::APPEND, key);
                put_bytes(out, value);
            }
            Request::Strlen(key) => one(out, operation::STRLEN, key),
            Request::MGet(keys) => {
                out.push(operation::MGET);
                put_keys(out, keys);
            }
            Request::MSet(pairs) => {
                out.push(operation::MSET);
                put_pairs(out, pairs);
            }
            Request::MSetNx(pairs) => {
                out.push(operation::MSET_NX);
                put_pairs(out, pairs);
            }
            Request::Del(keys) => {
                out.push(operation::DEL);
                put_keys(out, keys);
            }
            Request::Exists(keys) => {
                out.push(operation::EXISTS);
                put_keys(out, keys);
            }
            Request::Type(key) => one(out, operation::TYPE, key),
            Request::IncrBy { key, by } => {
                one(out, operation::INCR_BY, key);
                out.extend_from_slice(&by.to_le_bytes());
            }
            Request::ExpireAt {
                key,
                at_ms,
                condition,
            } => {
                one(out, operation::EXPIRE_AT, key);
                out.extend_from_slice(&at_ms.to_le_bytes());
                out.push(
                    u8::from(condition.nx)
                        | u8::from(condition.xx) << 1
                        | u8::from(condition.gt) << 2
                        | u8::from(condition.lt) << 3,
                );
            }
            Request::Ttl { key, kind } => {
                one(out, operation::TTL, key);
                out.push(match kind {
                    TtlKind::Seconds => 0,
                    TtlKind::Millis => 1,
                    TtlKind::AtSeconds => 2,
                    TtlKind::AtMillis => 3,
                });
            }
            Request::Persist(key) => one(out, operation::PERSIST, key),
            Request::Keys(pattern) => one(out, operation::KEYS, pattern),
            Request::Scan {
                cursor,
                pattern,
                count,
                kind,
            } => {
                out.push(operation::SCAN);
                out.extend_from_slice(&cursor.to_le_bytes());
                out.extend_from_slice(&count.to_le_bytes());
                out.push(
                    if pattern.is_some() { SCAN_PATTERN } else { 0 }
                        | if kind.is_some() { SCAN_KIND } else { 0 },
                );
                for bytes in [pattern, kind].into_iter().flatten() {
                    put_bytes(out, bytes);
                }
            }
            Request::RandomKey => out.push(operation::RANDOM_KEY),
            Request::Flush => out.push(operation::FLUSH),
            Request::DbSize => out.push(operation::DB_SIZE),
            Request::Info { text, keyspace } => {
                one(out, operation::INFO, text);
                out.push(u8::from(*keyspace));
            }
        }
    }

    /// Reads a request that [`Request::encode`] made, for a storage of this version.
    ///
    /// # Errors
    ///
    /// When the bytes are no request, or one that needs a newer storage.
    pub fn decode(bytes: &'a [u8], version: KvVersion) -> Result<(Protocol, Self), DecodeError> {
        let mut from = Reader { bytes };
        let format = from.byte()?;
        let known = match format {
            0 => return Err(DecodeError::Invalid),
            1 => true,
            2 => version >= KvVersion::V1_1,
            _ => false,
        };
        if !known {
            return Err(DecodeError::Newer { format });
        }
        let protocol = Protocol::from_number(from.byte()?).ok_or(DecodeError::Invalid)?;
        let request = match from.byte()? {
            operation::GET => Request::Get(from.bytes()?),
            operation::SET => {
                let key = from.bytes()?;
                let value = from.bytes()?;
                let flags = from.byte()?;
                let condition = match flags & (SET_IF_MISSING | SET_IF_PRESENT) {
                    0 => SetCondition::Always,
                    SET_IF_MISSING => SetCondition::IfMissing,
                    SET_IF_PRESENT => SetCondition::IfPresent,
                    _ => return Err(DecodeError::Invalid),
                };
                let expiry = match flags & !(SET_IF_MISSING | SET_IF_PRESENT | SET_GET) {
                    0 => SetExpiry::Never,
                    SET_KEEP => SetExpiry::Keep,
                    SET_AT => SetExpiry::At(from.i64()?),
                    _ => return Err(DecodeError::Invalid),
                };
                let get = flags & SET_GET != 0;
                Request::Set {
                    key,
                    value,
                    condition,
                    get,
                    expiry,
                }
            }
            operation::SET_NX => Request::SetNx {
                key: from.bytes()?,
                value: from.bytes()?,
            },
            operation::GET_DEL => Request::GetDel(from.bytes()?),
            operation::GET_EX => Request::GetEx {
                key: from.bytes()?,
                change: match from.byte()? {
                    0 => GetExChange::None,
                    1 => GetExChange::Persist,
                    2 => GetExChange::At(from.i64()?),
                    _ => return Err(DecodeError::Invalid),
                },
            },
            operation::APPEND => Request::Append {
                key: from.bytes()?,
                value: from.bytes()?,
            },
            operation::STRLEN => Request::Strlen(from.bytes()?),
            operation::MGET => Request::MGet(from.keys()?),
            operation::MSET => Request::MSet(from.pairs()?),
            operation::MSET_NX => Request::MSetNx(from.pairs()?),
            operation::DEL => Request::Del(from.keys()?),
            operation::EXISTS => Request::Exists(from.keys()?),
            operation::TYPE => Request::Type(from.bytes()?),
            operation::INCR_BY => Request::IncrBy {
                key: from.bytes()?,
                by: from.i64()?,
            },
            operation::EXPIRE_AT => {
                let key = from.bytes()?;
                let at_ms = from.i64()?;
                let flags = from.byte()?;
                if flags >= 16 {
                    return Err(DecodeError::Invalid);
                }
                let condition = ExpireCondition {
                    nx: flags & 1 != 0,
                    xx: flags & 2 != 0,
                    gt: flags & 4 != 0,
                    lt: flags & 8 != 0,
                };
                Request::ExpireAt {
                    key,
                    at_ms,
                    condition,
                }
            }
            operation::TTL => Request::Ttl {
                key: from.bytes()?,
                kind: match from.byte()? {
                    0 => TtlKind::Seconds,
                    1 => TtlKind::Millis,
                    2 => TtlKind::AtSeconds,
                    3 => TtlKind::AtMillis,
                    _ => return Err(DecodeError::Invalid),
                },
            },
            operation::PERSIST => Request::Persist(from.bytes()?),
            operation::KEYS => Request::Keys(from.bytes()?),
            operation::SCAN => {
                let cursor = u64::from_le_bytes(from.eight()?);
                let count = u64::from_le_bytes(from.eight()?);
                let flags = from.byte()?;
                if flags & !(SCAN_PATTERN | SCAN_KIND) != 0 {
                    return Err(DecodeError::Invalid);
                }
                let mut optional = |flag| {
                    if flags & flag == 0 {
                        Ok(None)
                    } else {
                        from.bytes().map(Some)
                    }
                };
                let pattern = optional(SCAN_PATTERN)?;
                let kind = optional(SCAN_KIND)?;
                Request::Scan {
                    cursor,
                    pattern,
                    count,
                    kind,
                }
            }
            operation::RANDOM_KEY => Request::RandomKey,
            operation::FLUSH => Request::Flush,
            operation::DB_SIZE => Request::DbSize,
            operation::INFO => Request::Info {
                text: from.bytes()?,
                keyspace: match from.byte()? {
                    0 => false,
                    1 => true,
                    _ => return Err(DecodeError::Invalid),
                },
            },
            other => return Err(DecodeError::UnknownOperation(other)),
        };
        if !from.bytes.is_empty() {
            return Err(DecodeError::TooLong);
        }
        if request.needs() > version {
            return Err(DecodeError::Invalid);
        }
        Ok((protocol, request))
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Result<u8, DecodeError> {
        let (first, rest) = self.bytes.split_first().ok_or(DecodeError::TooShort)?;
        self.bytes = rest;
        Ok(*first)
    }

    fn eight(&mut self) -> Result<[u8; 8], DecodeError> {
        let (eight, rest) = self
            .bytes
            .split_first_chunk()
            .ok_or(DecodeError::TooShort)?;
        self.bytes = rest;
        Ok(*eight)
    }

    fn i64(&mut self) -> Result<i64, DecodeError> {
        self.eight().map(i64::from_le_bytes)
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        let mut value = 0u64;
        for place in 0..6 {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte & 0x80 == 0 {
                return usize::try_from(value).map_err(|_| DecodeError::Invalid);
            }
        }
        Err(DecodeError::Invalid)
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = self.length()?;
        let (bytes, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or(DecodeError::TooShort)?;
        self.bytes = rest;
        Ok(bytes)
    }

    fn keys(&mut self) -> Result<Vec<&'a [u8]>, DecodeError> {
        let count = self.length()?;
        // Each takes a byte at least: a count that lies takes no memory.
        if count > self.bytes.len() {
            return Err(DecodeError::TooShort);
        }
        (0..count).map(|_| self.bytes()).collect()
    }

    fn pairs(&mut self) -> Result<Vec<Pair<'a>>, DecodeError> {
        let count = self.length()?;
        if count > self.bytes.len() / 2 {
            return Err(DecodeError::TooShort);
        }
        (0..count)
            .map(|_| Ok((self.bytes()?, self.bytes()?)))
            .collect()
    }
}
