//! What all versions of the store have in common: everything but the layout of the state.
//!
//! A version brings its types, which implement [`Entry`] and [`State`], and passes what the
//! node asks on to [`init`], [`handle`], [`quiesce`], [`terminate`] and [`check_state`].
#![forbid(unsafe_code)]

mod read;
mod scratch;
mod sweep;
mod write;

use std::time::Duration;

use kv_commands::{KvVersion, Request};
use kv_resp::{Protocol, Writer};
use kv_stats_common::Counters;
use neurath::{
    Bytes, Component, Context, Error, InfoKey, Map, Message, Pmem, Result, Token, TxError,
};

/// What a release says about a store.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// So many keys there may be; without it, as many as the region holds.
    pub max_keys: Option<u64>,
}

/// The one timer.
const TIMER: u64 = 1;
/// How often it goes off when there is little to do.
const CALM: Duration = Duration::from_millis(100);
/// How soon again when there is more to do than one transaction holds.
const BUSY: Duration = Duration::from_millis(1);
/// Entries that `check_state` looks at. Messages wait meanwhile: each is a few misses of the cache.
const CHECKED: u64 = 8;

/// A key's value, and what a version keeps with it.
pub trait Entry: Pmem {
    /// An entry that expires at `expires` (0: never), made now.
    fn new(value: Bytes, expires: u64, now_ms: u64) -> Self;

    /// The value.
    fn value(&self) -> Bytes;

    /// Replaces the value, without freeing the old one.
    fn set_value(&mut self, value: Bytes);

    /// When the key expires, in milliseconds since 1970; 0 for never.
    fn expires(&self) -> u64 {
        0
    }

    /// Sets when it expires.
    fn set_expires(&mut self, expires: u64) {
        let _ = expires;
    }

    /// Whether the time of the last access should be written anew.
    fn access_is_due(&self, now_ms: u64) -> bool {
        let _ = now_ms;
        false
    }

    /// Sets the time of the last access.
    fn set_accessed(&mut self, now_ms: u64) {
        let _ = now_ms;
    }

    /// Whether the key has expired.
    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires() != 0 && self.expires() <= now_ms
    }
}

/// The entries that expire, so that they are found without looking at all.
#[derive(Debug)]
pub struct Expiring<'a> {
    /// Of each entry that expires: its number (`Slot::id`), and when.
    pub index: &'a mut Map<u64, u64>,
    /// The same of the entries in `garbage`.
    pub garbage: &'a mut Map<u64, u64>,
}

/// The parts of a state.
#[derive(Debug)]
pub struct Parts<'a, E> {
    /// All keys.
    pub entries: &'a mut Map<Bytes, E>,
    /// What FLUSHALL took away, and the timer frees little by little.
    pub garbage: &'a mut Map<Bytes, E>,
    /// Commands that changed something; `None` where another component counts them.
    pub commands: Option<&'a mut u64>,
    /// For versions whose keys expire.
    pub expiring: Option<Expiring<'a>>,
}

/// The root of a store's region.
pub trait State: Component<Config = Config> {
    /// The entries' type.
    type Entry: Entry;

    /// Which commands it knows.
    const VERSION: KvVersion;

    /// The component that counts what has changed something, for versions that do not.
    const STATS: Option<&'static str> = None;

    /// What INFO tells of what was counted here.
    fn told(&self) -> Option<Counters> {
        None
    }

    /// All keys.
    fn entries(&self) -> &Map<Bytes, Self::Entry>;

    /// How many of them expire.
    fn expiring(&self) -> u64;

    /// All parts, to be changed.
    fn parts(&mut self) -> Parts<'_, Self::Entry>;
}

/// What is answered when the region has reached its limit: Redis's words.
const OOM: &str = "OOM command not allowed when used memory > 'maxmemory'.";

fn refuse(error: TxError) -> Error {
    if error == TxError::Full {
        Error::new(OOM)
    } else {
        error.into()
    }
}

/// Starts the timer.
///
/// # Errors
///
/// Those of the node.
pub fn init<S: State>(cx: &mut Context<'_, S>) -> Result<()> {
    cx.timer(TIMER, CALM)
}

/// Serves a request or the timer.
///
/// # Errors
///
/// A text whose beginning is `OOM ` if the region is full; otherwise the SDK's.
pub fn handle<S: State>(cx: &mut Context<'_, S>, message: Message<'_>) -> Result<()> {
    match message {
        Message::Request { token, bytes } => scratch::with(|out| {
            if let Answer::By(stats) = answer(cx, bytes, out)? {
                // The stats answer it, and say more.
                return cx.send(stats, token, out);
            }
            cx.reply(token, out)
        }),
        Message::Timer { id: TIMER } => {
            let now_ms = cx.now_ms();
            let due = cx.look(|state, tx| Ok(sweep::is_due(state, tx, now_ms)?))?;
            let busy = match due {
                Some(due) => cx.with(|state, tx| Ok(sweep::sweep(state.parts(), tx, &due)?))?,
                None => false,
            };
            cx.timer(TIMER, if busy { BUSY } else { CALM })
        }
        _ => Ok(()),
    }
}

/// Removes what has expired, so that the next version, which may know no expiry, does not
/// keep it for ever; as much as one transaction holds.
///
/// # Errors
///
/// Those of the transaction.
pub fn quiesce<S: State>(cx: &mut Context<'_, S>) -> Result<()> {
    scratch::drop_all();
    let now_ms = cx.now_ms();
    let due = cx.look(|state, tx| Ok(sweep::all_expired(state, tx, now_ms)?))?;
    if let Some(due) = due {
        cx.with(|state, tx| Ok(sweep::sweep(state.parts(), tx, &due)?))?;
    }
    Ok(())
}

/// Gives the memory of buffers back, as the library may be unloaded.
///
/// # Errors
///
/// None.
pub fn terminate<S: State>(_: &mut Context<'_, S>) -> Result<()> {
    scratch::drop_all();
    Ok(())
}

/// Looks whether a part of the keys and values can be read.
///
/// # Errors
///
/// What is damaged.
pub fn check_state<S: State>(cx: &mut Context<'_, S>) -> Result<()> {
    cx.look(|state, tx| {
        let entries = state.entries();
        let mut seen = 0;
        let mut cursor = 0;
        loop {
            cursor = entries.scan::<TxError>(tx, cursor, CHECKED, |tx, slot| {
                seen += 1;
                slot.key(tx)?.get(tx)?;
                slot.value(tx)?.value().get(tx)?;
                Ok(())
            })?;
            if seen > entries.len() {
                let text = format!("{seen} entries are there, {} should be", entries.len());
                return Err(Error::new(text));
            }
            if cursor == 0 && seen != entries.len() {
                let text = format!("{seen} entries are there, {} should be", entries.len());
                return Err(Error::new(text));
            }
            if cursor == 0 || seen >= CHECKED {
                return Ok(());
            }
        }
    })
}

/// Who answers a request.
enum Answer {
    /// The store, with what has been written.
    Here,
    /// This component, which gets what has been written.
    By(&'static str),
}

/// Writes the answer to a request, behind what is in `out`.
fn answer<S: State>(cx: &mut Context<'_, S>, bytes: &[u8], out: &mut Vec<u8>) -> Result<Answer> {
    let (protocol, request) = match Request::decode(bytes, S::VERSION) {
        Ok(decoded) => decoded,
        Err(error) => {
            Writer::new(out, Protocol::Resp2).error(&format!("ERR {error}"));
            return Ok(Answer::Here);
        }
    };
    if let Request::Info { text, keyspace } = request {
        return info(cx, text, keyspace, protocol, out);
    }
    let mut w = Writer::new(out, protocol);
    if request.writes() {
        change(cx, &request, &mut w)?;
        return Ok(Answer::Here);
    }
    let now_ms = cx.now_ms();
    let random = if request == Request::RandomKey {
        cx.info(InfoKey::RANDOM)
    } else {
        0
    };
    let due = cx.look(|state, tx| {
        let entries = state.entries();
        Ok(read::read(entries, tx, now_ms, random, &request, &mut w)?)
    })?;
    if let Some(slot) = due {
        cx.with(|_, tx| {
            let mut entry = slot.value(tx)?;
            entry.set_accessed(now_ms);
            Ok(slot.set_value(tx, &entry)?)
        })?;
    }
    Ok(Answer::Here)
}

/// Does what changes something, and lets it be counted.
fn change<S: State>(
    cx: &mut Context<'_, S>,
    request: &Request<'_>,
    w: &mut Writer<'_>,
) -> Result<()> {
    let now_ms = cx.now_ms();
    let limit = cx.config()?.max_keys;
    let changed = cx.with(|state, tx| {
        let mut parts = state.parts();
        if let Some(limit) = limit
            && write::exceeds(&parts, tx, now_ms, request, limit)?
        {
            w.error(OOM);
            return Ok(false);
        }
        let changed = write::write(&mut parts, tx, now_ms, request, w).map_err(refuse)?;
        if let Some(commands) = parts.commands {
            *commands += u64::from(changed);
        }
        Ok(changed)
    })?;
    let Some(stats) = S::STATS.filter(|_| changed) else {
        return Ok(());
    };
    // It is served before the client can read the answer.
    let mut message = Vec::new();
    kv_stats_common::Message::Changed.encode(&mut message);
    cx.send(stats, Token::NONE, &message)
}

/// Writes the answer to INFO, or what the stats need to answer it.
fn info<S: State>(
    cx: &Context<'_, S>,
    text: &[u8],
    keyspace: bool,
    protocol: Protocol,
    out: &mut Vec<u8>,
) -> Result<Answer> {
    if !keyspace {
        Writer::new(out, protocol).verbatim(*b"txt", text);
        return Ok(Answer::Here);
    }
    let figures = [InfoKey::REGION_BYTES, InfoKey::REGION_LIVE_BYTES].map(|key| cx.info(key));
    cx.look(|state, _| {
        let text = &read::info(state, text, figures);
        if let Some(stats) = S::STATS {
            kv_stats_common::Message::Info { protocol, text }.encode(out);
            return Ok(Answer::By(stats));
        }
        let mut w = Writer::new(out, protocol);
        match state.told() {
            Some(counters) => kv_stats_common::write_info(text, counters, &mut w),
            None => w.verbatim(*b"txt", text),
        }
        Ok(Answer::Here)
    })
}
