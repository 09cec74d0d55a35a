//! The store, version 1.1.0: each entry has an expiry and a time of access.
#![deny(unsafe_code)]

#[cfg(test)]
mod tests;

use kv_commands::KvVersion;
use kv_store_common::{Config, Expiring, Parts, State};
use neurath::{
    Bytes, Component, Context, Extra, Map, Message, Pmem, Result, Tx, code_change, component,
};

component!(
    Store,
    name = "store",
    version = "1.1.0",
    code_change = [entry_from_1_0, store_from_1_0, entry_to_1_0, store_to_1_0,]
);

/// A GET writes the time of access when the last one is so long ago: otherwise every GET
/// would be a change.
const ACCESS_MS: u64 = 60_000;

/// What a key leads to.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
    /// When it was last looked at, to the minute, in milliseconds since 1970.
    pub accessed: u64,
}

/// The state.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Store {
    /// All keys.
    pub entries: Map<Bytes, Entry>,
    /// What FLUSHALL took away and is not freed yet.
    pub garbage: Map<Bytes, Entry>,
    /// Of each entry that expires: its number, and when.
    pub expiring: Map<u64, u64>,
    /// The same of the entries in `garbage`.
    pub expiring_garbage: Map<u64, u64>,
    /// Commands that changed something.
    pub commands: u64,
}

/// The state of version 1.0.
pub mod v1_0 {
    use neurath::{Bytes, Map, Pmem};

    /// What a key leads to.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Entry {
        /// The value.
        pub value: Bytes,
    }

    /// The state.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Store {
        /// All keys.
        pub entries: Map<Bytes, Entry>,
        /// What FLUSHALL took away and is not freed yet.
        pub garbage: Map<Bytes, Entry>,
        /// Commands that changed something.
        pub commands: u64,
    }
}

/// An entry never expires at first, and was looked at just now.
#[code_change(from = "1.0")]
fn entry_from_1_0(old: v1_0::Entry, extra: &Extra<'_>) -> Entry {
    Entry {
        value: old.value,
        expires: 0,
        accessed: extra.now_ms,
    }
}

/// No entry expires at first.
#[code_change(from = "1.0")]
fn store_from_1_0(old: v1_0::Store) -> Store {
    Store {
        entries: old.entries.carry_over(),
        garbage: old.garbage.carry_over(),
        expiring: Map::EMPTY,
        expiring_garbage: Map::EMPTY,
        commands: old.commands,
    }
}

/// Expiry and time of access are lost: what was to expire stays.
#[code_change(to = "1.0")]
fn entry_to_1_0(new: Entry) -> v1_0::Entry {
    v1_0::Entry { value: new.value }
}

/// The index of what expires goes, with all its objects.
#[code_change(to = "1.0")]
fn store_to_1_0(new: Store) -> v1_0::Store {
    v1_0::Store {
        entries: new.entries.carry_over(),
        garbage: new.garbage.carry_over(),
        commands: new.commands,
    }
}

impl kv_store_common::Entry for Entry {
    fn new(value: Bytes, expires: u64, now_ms: u64) -> Self {
        Entry {
            value,
            expires,
            accessed: now_ms,
        }
    }

    fn value(&self) -> Bytes {
        self.value
    }

    fn set_value(&mut self, value: Bytes) {
        self.value = value;
    }

    fn expires(&self) -> u64 {
        self.expires
    }

    fn set_expires(&mut self, expires: u64) {
        self.expires = expires;
    }

    fn access_is_due(&self, now_ms: u64) -> bool {
        now_ms >= self.accessed.saturating_add(ACCESS_MS)
    }

    fn set_accessed(&mut self, now_ms: u64) {
        self.accessed = now_ms;
    }
}

impl State for Store {
    type Entry = Entry;

    const VERSION: KvVersion = KvVersion::V1_1;

    fn entries(&self) -> &Map<Bytes, Entry> {
        &self.entries
    }

    fn expiring(&self) -> u64 {
        self.expiring.len()
    }

    fn parts(&mut self) -> Parts<'_, Entry> {
        let Store {
            entries,
            garbage,
            expiring: index,
            expiring_garbage,
            commands,
        } = self;
        let expiring = Some(Expiring {
            index,
            garbage: expiring_garbage,
        });
        Parts {
            entries,
            garbage,
            commands: Some(commands),
            expiring,
        }
    }
}

impl Component for Store {
    type Config = Config;

    fn create(_: &mut Tx<'_>, _: &Config) -> Result<Self> {
        Ok(Store {
            entries: Map::EMPTY,
            garbage: Map::EMPTY,
            expiring: Map::EMPTY,
            expiring_garbage: Map::EMPTY,
            commands: 0,
        })
    }

    fn init(cx: &mut Context<'_, Self>) -> Result<()> {
        kv_store_common::init(cx)
    }

    fn handle(cx: &mut Context<'_, Self>, message: Message<'_>) -> Result<()> {
        kv_store_common::handle(cx, message)
    }

    fn quiesce(cx: &mut Context<'_, Self>) -> Result<()> {
        kv_store_common::quiesce(cx)
    }

    fn terminate(cx: &mut Context<'_, Self>) -> Result<()> {
        kv_store_common::terminate(cx)
    }

    fn check_state(cx: &mut Context<'_, Self>) -> Result<()> {
        kv_store_common::check_state(cx)
    }
}
