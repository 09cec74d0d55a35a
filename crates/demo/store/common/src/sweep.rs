//! What the timer does: free what FLUSHALL left, and remove expired keys.

use std::sync::atomic::{AtomicU64, Ordering};

use neurath::pmem::collections::Slot;
use neurath::{Bytes, Tx, TxError};

use crate::{Entry, Parts, State};

/// Buckets of garbage freed in one transaction.
const FREED_BUCKETS: u64 = 1000;
/// Expired keys removed in one transaction of the timer.
const REMOVED: usize = 250;
/// Expired keys removed before a suspension: what one transaction holds for certain.
const REMOVED_AT_ONCE: usize = 2000;
/// Buckets of the index looked at in one message of the timer.
const LOOKED_AT: u64 = 2000;
/// Buckets of the index looked at before a suspension.
const LOOKED_AT_ONCE: u64 = 1 << 20;

/// Where the timer goes on looking. Only a hint: lost, it begins anew.
static CURSOR: AtomicU64 = AtomicU64::new(0);

/// What is to be done.
pub(crate) struct Due {
    garbage: bool,
    expired: Vec<u64>,
    most: usize,
}

impl Due {
    fn new<S: State>(mut state: S, expired: Vec<u64>, most: usize) -> Option<Due> {
        let parts = state.parts();
        let index = parts
            .expiring
            .is_some_and(|expiring| !expiring.garbage.is_empty());
        let garbage = index || !parts.garbage.is_empty();
        (garbage || !expired.is_empty()).then_some(Due {
            garbage,
            expired,
            most,
        })
    }
}

/// Looks for expired keys at some places of the index.
pub(crate) fn is_due<S: State>(
    state: &S,
    tx: &Tx<'_>,
    now_ms: u64,
) -> Result<Option<Due>, TxError> {
    let cursor = CURSOR.load(Ordering::Relaxed);
    let (expired, next) = expired(state, tx, now_ms, cursor, LOOKED_AT, REMOVED)?;
    CURSOR.store(next, Ordering::Relaxed);
    Ok(Due::new(*state, expired, REMOVED))
}

/// Looks for expired keys at all places of the index, within reason.
pub(crate) fn all_expired<S: State>(
    state: &S,
    tx: &Tx<'_>,
    now_ms: u64,
) -> Result<Option<Due>, TxError> {
    let (expired, _) = expired(state, tx, now_ms, 0, LOOKED_AT_ONCE, REMOVED_AT_ONCE)?;
    // Garbage need not be freed here: the next version knows it, too.
    Ok(Due::new(*state, expired, REMOVED_AT_ONCE)
        .map(|due| Due {
            garbage: false,
            ..due
        })
        .filter(|due| !due.expired.is_empty()))
}

/// The numbers of up to `most` expired entries, and where to go on.
fn expired<S: State>(
    state: &S,
    tx: &Tx<'_>,
    now_ms: u64,
    mut cursor: u64,
    buckets: u64,
    most: usize,
) -> Result<(Vec<u64>, u64), TxError> {
    let mut found = Vec::new();
    let mut copy = *state;
    let Some(expiring) = copy.parts().expiring else {
        return Ok((found, 0));
    };
    if expiring.index.is_empty() {
        return Ok((found, 0));
    }
    for _ in 0..buckets.div_ceil(16) {
        cursor = expiring.index.scan::<TxError>(tx, cursor, 16, |tx, slot| {
            if slot.value(tx)? <= now_ms {
                found.push(slot.key(tx)?);
            }
            Ok(())
        })?;
        if cursor == 0 || found.len() >= most {
            break;
        }
    }
    found.truncate(most);
    Ok((found, cursor))
}

/// Does it; whether there is more to do at once.
pub(crate) fn sweep<E: Entry>(
    mut parts: Parts<'_, E>,
    tx: &mut Tx<'_>,
    due: &Due,
) -> Result<bool, TxError> {
    for id in &due.expired {
        remove(&mut parts, tx, *id)?;
    }
    let garbage = due.garbage && !free_some(&mut parts, tx)?;
    Ok(garbage || due.expired.len() >= due.most)
}

/// Removes the entry of a number.
fn remove<E: Entry>(parts: &mut Parts<'_, E>, tx: &mut Tx<'_>, id: u64) -> Result<(), TxError> {
    let Some(expiring) = &mut parts.expiring else {
        return Ok(());
    };
    expiring.index.remove(tx, &id)?;
    let key = Slot::<Bytes, E>::from_id(id).key(tx)?;
    // A copy, as the removal frees it.
    let key = key.get(tx)?.to_vec();
    if let Some(entry) = parts.entries.remove(tx, &key)? {
        entry.free_owned(tx)?;
    }
    Ok(())
}

/// Frees a part of the garbage; whether none is left.
pub(crate) fn free_some<E: Entry>(
    parts: &mut Parts<'_, E>,
    tx: &mut Tx<'_>,
) -> Result<bool, TxError> {
    let mut done = parts.garbage.clear_some(tx, FREED_BUCKETS)?;
    if let Some(expiring) = &mut parts.expiring {
        done &= expiring.garbage.clear_some(tx, FREED_BUCKETS)?;
    }
    Ok(done)
}
