//! The store, version 2.0.0: each entry knows when it was made. Nobody knows that of those of earlier versions, so that
//! there is no conversion: the state begins anew.
#![deny(unsafe_code)]

use kv_commands::KvVersion;
use kv_stats_common::Counters;
use kv_store_common::{Config, Expiring, Parts, State};
use neurath::{Bytes, Component, Context, Map, Message, Pmem, Result, Tx, component};

component!(Store, name = "store", version = "2.0.0",);

/// A GET writes the time of access when the last one is so long ago: otherwise every GET
/// would be a change.
const ACCESS_MS: u64 = 30_000;

/// What a key leads to.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Entry {
    /// The value.
    pub value: Bytes,
    /// When it expires, in milliseconds since 1970; 0 for never.
    pub expires: u64,
    /// When it was last looked at, to half a minute, in milliseconds since 1970.
    pub accessed: u64,
    /// When the key came to be, in milliseconds since 1970.
    pub made: u64,
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

impl kv_store_common::Entry for Entry {
    fn new(value: Bytes, expires: u64, now_ms: u64) -> Self {
        Entry {
            value,
            expires,
            accessed: now_ms,
            made: now_ms,
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

    fn told(&self) -> Option<Counters> {
        Some(Counters {
            commands: self.commands,
        })
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
