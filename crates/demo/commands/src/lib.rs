//! The commands of the key-value server as pure logic: no storage, no sockets, no clock.
//!
//! A request's arguments become a [`Command`] (or an error in exactly the words of Redis 7.0)
//! by [`Command::parse`]. A command is either [`Local`], for whoever holds the connection to
//! answer, or a [`Request`] to the storage, which travels as bytes: [`Request::encode`] and
//! [`Request::decode`].
#![forbid(unsafe_code)]

mod command;
mod glob;
mod rules;
mod table;
mod wire;

pub use command::{
    Command, CommandError, CommandQuery, Context, ExpireCondition, GetExChange, KvVersion, Local,
    Pair, Request, SetCondition, SetExpiry, TtlKind,
};
pub use glob::glob_match;
pub use rules::{
    INCREMENT_OVERFLOWS, NOT_AN_INTEGER, increment, parse_integer, ttl_answer, wants_section,
    write_hello,
};
pub use table::{
    Spec, lookup, specs, write_command_count, write_command_docs, write_command_info,
    write_command_list, write_config_get,
};
pub use wire::{DecodeError, encode_request};
