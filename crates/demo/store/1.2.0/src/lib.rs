//! The store, version 1.2.0: what it counted is the stats' now.
#![deny(unsafe_code)]

use kv_commands::KvVersion;
use kv_stats_common::{Counters, STATS};
use kv_store_common::{Config, Expiring, Parts, State};
use neurath::{
    Bytes, Component, Context, Map, Message, Pmem, Result, Tx, code_change, component, move_in,
    move_out,
};

component!(
    Store,
    name = "store",
    version = "1.2.0",
    code_change = [store_from_1_1, store_to_1_1],
    moves = [counters_out, counters_in],
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

/// The state of version 1.1, whose entries are the same.
pub mod v1_1 {
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
        /// Commands that changed something.
        pub commands: u64,
    }
}

/// What was counted goes to the stats: see `counters_out`.
#[code_change(from = "1.1")]
fn store_from_1_1(old: v1_1::Store) -> Store {
    Store {
        entries: old.entries.carry_over(),
        garbage: old.garbage.carry_over(),
        expiring: old.expiring.carry_over(),
        expiring_garbage: old.expiring_garbage.carry_over(),
    }
}

/// What was counted comes back from the stats: see `counters_in`.
#[code_change(to = "1.1")]
fn store_to_1_1(new: Store) -> v1_1::Store {
    v1_1::Store {
        entries: new.entries.carry_over(),
        garbage: new.garbage.carry_over(),
        expiring: new.expiring.carry_over(),
        expiring_garbage: new.expiring_garbage.carry_over(),
        commands: 0,
    }
}

/// On the way up: what version 1.1 has counted, for the stats.
#[move_out("counters")]
fn counters_out(state: &mut v1_1::Store, _: &mut Tx<'_>) -> Result<Counters> {
    let commands = std::mem::take(&mut state.commands);
    Ok(Counters { commands })
}

/// On the way down: what was counted up to now, from the stats.
#[move_in("counters")]
fn counters_in(state: &mut v1_1::Store, _: &mut Tx<'_>, counters: Counters) -> Result<()> {
    state.commands += counters.commands;
    Ok(())
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
    const STATS: Option<&'static str> = Some(STATS);

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
        } = self;
        let expiring = Some(Expiring {
            index,
            garbage: expiring_garbage,
        });
        Parts {
            entries,
            garbage,
            commands: None,
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
