//! The commands that change nothing.

use kv_commands::{Request, glob_match, ttl_answer};
use kv_resp::Writer;
use neurath::pmem::collections::Slot;
use neurath::{Bytes, Map, Tx, TxError};

use crate::{Entry, State};

/// Buckets that RANDOMKEY looks at from its random one on.
const RANDOM_BUCKETS: u64 = 1000;

/// Answers; gives the entry whose time of access should be written.
pub(crate) fn read<E: Entry>(
    entries: &Map<Bytes, E>,
    tx: &Tx<'_>,
    now_ms: u64,
    random: u64,
    request: &Request<'_>,
    w: &mut Writer<'_>,
) -> Result<Option<Slot<Bytes, E>>, TxError> {
    let find = |key: &[u8]| live(entries, tx, key, now_ms);
    match request {
        Request::Get(key) => match find(key)? {
            Some((slot, entry)) => {
                w.bulk(entry.value().get(tx)?);
                return Ok(entry.access_is_due(now_ms).then_some(slot));
            }
            None => w.null(),
        },
        Request::Strlen(key) => {
            w.integer(find(key)?.map_or(0, |(_, entry)| entry.value().len() as i64));
        }
        Request::MGet(keys) => {
            w.array(keys.len());
            for key in keys {
                match find(key)? {
                    Some((_, entry)) => w.bulk(entry.value().get(tx)?),
                    None => w.null(),
                }
            }
        }
        Request::Exists(keys) => {
            let mut count = 0;
            for key in keys {
                count += i64::from(find(key)?.is_some());
            }
            w.integer(count);
        }
        Request::Type(key) => w.simple(if find(key)?.is_some() {
            "string"
        } else {
            "none"
        }),
        Request::Ttl { key, kind } => w.integer(match find(key)? {
            Some((_, entry)) => {
                let expires = entry.expires();
                let deadline = (expires != 0).then_some(expires as i64);
                ttl_answer(*kind, deadline, now_ms as i64)
            }
            None => -2,
        }),
        Request::Keys(pattern) => {
            let mut names = Names::new(now_ms, Some(pattern));
            entries.scan::<TxError>(tx, 0, u64::MAX, |tx, slot| names.add(tx, slot))?;
            names.write(w);
        }
        Request::Scan {
            cursor,
            pattern,
            count,
            kind,
        } => {
            let mut names = Names::new(now_ms, *pattern);
            names.none = kind.is_some_and(|kind| !kind.eq_ignore_ascii_case(b"string"));
            // A bucket holds one entry on average. Large counts must not become one long
            // message.
            let count = (*count).min(100_000);
            let next =
                entries.scan::<TxError>(tx, *cursor, count, |tx, slot| names.add(tx, slot))?;
            w.array(2);
            w.bulk(next.to_string().as_bytes());
            names.write(w);
        }
        Request::RandomKey => match random_key(entries, tx, now_ms, random)? {
            Some(slot) => w.bulk(slot.key(tx)?.get(tx)?),
            None => w.null(),
        },
        Request::DbSize => w.integer(entries.len() as i64),
        _ => w.error("ERR the storage does not know the request"),
    }
    Ok(None)
}

/// An entry: where it is, and what it holds.
pub(crate) type Found<E> = (Slot<Bytes, E>, E);

/// The entry of a key, if it has not expired.
pub(crate) fn live<E: Entry>(
    entries: &Map<Bytes, E>,
    tx: &Tx<'_>,
    key: &[u8],
    now_ms: u64,
) -> Result<Option<Found<E>>, TxError> {
    let Some(slot) = entries.find(tx, key)? else {
        return Ok(None);
    };
    let entry = slot.value(tx)?;
    Ok((!entry.is_expired(now_ms)).then_some((slot, entry)))
}

/// Keys to be listed, as one reply after the other, since their number comes first.
struct Names<'a> {
    now_ms: u64,
    pattern: Option<&'a [u8]>,
    none: bool,
    count: usize,
    ends: Vec<usize>,
    bytes: Vec<u8>,
}

impl<'a> Names<'a> {
    fn new(now_ms: u64, pattern: Option<&'a [u8]>) -> Names<'a> {
        // What every key matches need not be asked of each.
        let pattern = pattern.filter(|&pattern| pattern != b"*");
        Names {
            now_ms,
            pattern,
            none: false,
            count: 0,
            ends: Vec::new(),
            bytes: Vec::new(),
        }
    }

    fn add<E: Entry>(&mut self, tx: &Tx<'_>, slot: Slot<Bytes, E>) -> Result<(), TxError> {
        let key = slot.key(tx)?;
        let key = key.get(tx)?;
        if self.none
            || self
                .pattern
                .is_some_and(|pattern| !glob_match(pattern, key))
        {
            return Ok(());
        }
        if !slot.value(tx)?.is_expired(self.now_ms) {
            self.count += 1;
            self.bytes.extend_from_slice(key);
            self.ends.push(self.bytes.len());
        }
        Ok(())
    }

    fn write(&self, w: &mut Writer<'_>) {
        w.array(self.count);
        let mut start = 0;
        for &end in &self.ends {
            w.bulk(&self.bytes[start..end]);
            start = end;
        }
    }
}

/// The first entry at or behind a random place that has not expired.
fn random_key<E: Entry>(
    entries: &Map<Bytes, E>,
    tx: &Tx<'_>,
    now_ms: u64,
    random: u64,
) -> Result<Option<Slot<Bytes, E>>, TxError> {
    if entries.is_empty() {
        return Ok(None);
    }
    let mut cursor = random % Map::<Bytes, E>::CURSORS;
    let mut found = Vec::new();
    let mut from_the_start = cursor == 0;
    let mut looked = 0;
    loop {
        cursor = entries.scan::<TxError>(tx, cursor, 1, |tx, slot| {
            if !slot.value(tx)?.is_expired(now_ms) {
                found.push(slot);
            }
            Ok(())
        })?;
        looked += 1;
        if !found.is_empty() {
            let at = (random >> 40) as usize % found.len();
            return Ok(found.get(at).copied());
        }
        if cursor == 0 {
            if from_the_start || looked > RANDOM_BUCKETS.max(entries.len() * 2) {
                return Ok(None);
            }
            from_the_start = true;
        }
    }
}

/// INFO: the gateway's sections, and the store's own.
pub(crate) fn info<S: State>(state: &S, text: &[u8], [region, live]: [u64; 2]) -> Vec<u8> {
    let mut whole = text.to_vec();
    if !whole.is_empty() {
        whole.extend_from_slice(b"\r\n");
    }
    let section = format!("# Store\r\nregion_bytes:{region}\r\nregion_live_bytes:{live}\r\n\r\n");
    whole.extend_from_slice(section.as_bytes());
    whole.extend_from_slice(b"# Keyspace\r\n");
    let (keys, expires) = (state.entries().len(), state.expiring());
    if keys > 0 {
        let line = format!("db0:keys={keys},expires={expires},avg_ttl=0\r\n");
        whole.extend_from_slice(line.as_bytes());
    }
    whole
}
