//! The store, version 1.3.0: it counts by itself again, and tells what it has counted.
#![deny(unsafe_code)]

use kv_commands::KvVersion;
use kv_stats_common::Counters;
use kv_store_common::{Config, Expiring, Parts, State};
use neurath::{
    Bytes, Component, Context, Map, Message, Pmem, Result, Tx, code_change, component, move_in,
    move_out,
};

component!(
    Store,
    name = "store",
    version = "1.3.0",
    code_change = [store_from_1_2, store_to_1_2],
    moves = [counters_in, counters_out],
);

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
}

/// The state: the same as that of version 1.1.
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

/// The state of version 1.2, whose entries are the same.
pub mod v1_2 {
    use neurath::{Bytes, Map, Pmem};

    use crate::Entry;

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
    }
}

/// What was counted comes from the stats: see `counters_in`.
#[code_change(from = "1.2")]
fn store_from_1_2(old: v1_2::Store) -> Store {
    Store {
        entries: old.entries.carry_over(),
        garbage: old.garbage.carry_over(),
        expiring: old.expiring.carry_over(),
        expiring_garbage: old.expiring_garbage.carry_over(),
        commands: 0,
    }
}

/// What was counted goes back to the stats: see `counters_out`.
#[code_change(to = "1.2")]
fn store_to_1_2(new: Store) -> v1_2::Store {
    v1_2::Store {
        entries: new.entries.carry_over(),
        garbage: new.garbage.carry_over(),
        expiring: new.expiring.carry_over(),
        expiring_garbage: new.expiring_garbage.carry_over(),
    }
}

/// On the way up: what the stats have counted.
#[move_in("counters")]
fn counters_in(state: &mut Store, _: &mut Tx<'_>, counters: Counters) -> Result<()> {
    state.commands += counters.commands;
    Ok(())
}

/// On the way down: what was counted up to now, for the stats.
#[move_out("counters")]
fn counters_out(state: &mut Store, _: &mut Tx<'_>) -> Result<Counters> {
    let commands = std::mem::take(&mut state.commands);
    Ok(Counters { commands })
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
