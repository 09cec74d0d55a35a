//! RESP, the wire protocol of Redis, in three parts:
//!
//! * [`parse`] reads requests on the server side, incrementally and without copying;
//! * [`Writer`] appends replies in RESP2 or RESP3 to a byte vector;
//! * [`parse_reply`] and [`encode_command`] are the client's side.
//!
//! Nothing here does input or output, and nothing panics, whatever the bytes.
#![forbid(unsafe_code)]

mod reply;
mod request;
mod writer;

pub use reply::{ReplyError, Value, encode_command, parse_reply};
pub use request::{
    Args, MAX_BULK_LEN, MAX_INLINE_LEN, MAX_MULTIBULK_LEN, Progress, ProtocolError, parse,
    split_inline,
};
pub use writer::{Protocol, Writer, push_decimal};
