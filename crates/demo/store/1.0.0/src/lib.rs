//! The store, version 1.0.0: keys and values.
#![deny(unsafe_code)]

use kv_commands::KvVersion;
use kv_store_common::{Config, Parts, State};
use neurath::{Bytes, Component, Context, Map, Message, Pmem, Result, Tx, component};

component!(Store, name = "store", version = "1.0.0");

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

impl kv_store_common::Entry for Entry {
    fn new(value: Bytes, _: u64, _: u64) -> Self {
        Entry { value }
    }

    fn value(&self) -> Bytes {
        self.value
    }

    fn set_value(&mut self, value: Bytes) {
        self.value = value;
    }
}

impl State for Store {
    type Entry = Entry;

    const VERSION: KvVersion = KvVersion::V1_0;

    fn entries(&self) -> &Map<Bytes, Entry> {
        &self.entries
    }

    fn expiring(&self) -> u64 {
        0
    }

    fn parts(&mut self) -> Parts<'_, Entry> {
        let Store {
            entries,
            garbage,
            commands,
        } = self;
        Parts {
            entries,
            garbage,
            commands: Some(commands),
            expiring: None,
        }
    }
}

impl Component for Store {
    type Config = Config;

    fn create(_: &mut Tx<'_>, _: &Config) -> Result<Self> {
        Ok(Store {
            entries: Map::EMPTY,
            garbage: Map::EMPTY,
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
