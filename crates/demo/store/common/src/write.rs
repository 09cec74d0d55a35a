//! The commands that change something.

use kv_commands::{GetExChange, Pair, Request, SetCondition, SetExpiry, increment};
use kv_resp::Writer;
use neurath::pmem::collections::Slot;
use neurath::{Bytes, Pmem, Tx, TxError};

use crate::read::{Found, live};
use crate::{Entry, Parts};

/// The longest value, as in Redis.
const MAX_VALUE: usize = 512 << 20;

/// Does a command and answers it; whether anything was changed.
pub(crate) fn write<E: Entry>(
    parts: &mut Parts<'_, E>,
    tx: &mut Tx<'_>,
    now_ms: u64,
    request: &Request<'_>,
    w: &mut Writer<'_>,
) -> Result<bool, TxError> {
    let mut keys = Keys { parts, tx, now_ms };
    match request {
        Request::Set {
            key,
            value,
            condition,
            get,
            expiry,
        } => keys.set(key, value, *condition, *get, *expiry, w),
        Request::SetNx { key, value } => {
            let missing = keys.find(key)?.is_none();
            if missing {
                keys.put(key, value, 0)?;
            }
            w.integer(missing.into());
            Ok(missing)
        }
        Request::GetDel(key) => {
            let Some((_, entry)) = keys.find(key)? else {
                w.null();
                return Ok(false);
            };
            w.bulk(entry.value().get(keys.tx)?);
            keys.remove(key)
        }
        Request::GetEx { key, change } => keys.get_ex(key, *change, w),
        Request::Append { key, value } => keys.append(key, value, w),
        Request::MSet(pairs) => {
            keys.put_all(pairs)?;
            w.ok();
            Ok(true)
        }
        Request::MSetNx(pairs) => {
            for (key, _) in pairs {
                if keys.find(key)?.is_some() {
                    w.integer(0);
                    return Ok(false);
                }
            }
            keys.put_all(pairs)?;
            w.integer(1);
            Ok(true)
        }
        Request::Del(names) => {
            let mut count = 0;
            for key in names {
                if keys.find(key)?.is_some() {
                    count += i64::from(keys.remove(key)?);
                }
            }
            w.integer(count);
            Ok(count > 0)
        }
        Request::IncrBy { key, by } => keys.increment(key, *by, w),
        Request::ExpireAt {
            key,
            at_ms,
            condition,
        } => {
            let Some((slot, entry)) = keys.find(key)? else {
                w.integer(0);
                return Ok(false);
            };
            let current = (entry.expires() != 0).then_some(entry.expires() as i64);
            let allowed = condition.allows(current, *at_ms);
            if allowed {
                keys.expire(key, slot, entry, *at_ms)?;
            }
            w.integer(allowed.into());
            Ok(allowed)
        }
        Request::Persist(key) => {
            let found = keys.find(key)?.filter(|(_, entry)| entry.expires() != 0);
            w.integer(found.is_some().into());
            let Some((slot, entry)) = found else {
                return Ok(false);
            };
            keys.set_expires(slot, entry, 0)?;
            Ok(true)
        }
        Request::Flush => keys.flush(w),
        _ => {
            w.error("ERR the storage does not know the request");
            Ok(false)
        }
    }
}

/// Whether a command would make the keys more than `limit`.
pub(crate) fn exceeds<E: Entry>(
    parts: &Parts<'_, E>,
    tx: &Tx<'_>,
    now_ms: u64,
    request: &Request<'_>,
    limit: u64,
) -> Result<bool, TxError> {
    let mut names: Vec<&[u8]> = match request {
        Request::Set { key, .. }
        | Request::SetNx { key, .. }
        | Request::Append { key, .. }
        | Request::IncrBy { key, .. } => vec![key],
        Request::MSet(pairs) | Request::MSetNx(pairs) => {
            pairs.iter().map(|(key, _)| *key).collect()
        }
        _ => return Ok(false),
    };
    names.sort_unstable();
    names.dedup();
    let mut new = 0;
    for key in names {
        new += u64::from(live(parts.entries, tx, key, now_ms)?.is_none());
    }
    Ok(new > 0 && parts.entries.len() + new > limit)
}

struct Keys<'a, 'p, 't, E> {
    parts: &'a mut Parts<'p, E>,
    tx: &'a mut Tx<'t>,
    now_ms: u64,
}

impl<E: Entry> Keys<'_, '_, '_, E> {
    /// The entry of a key that has not expired.
    fn find(&self, key: &[u8]) -> Result<Option<Found<E>>, TxError> {
        live(self.parts.entries, self.tx, key, self.now_ms)
    }

    /// Notes when an entry expires, or that it does not.
    fn note(&mut self, id: u64, old: u64, new: u64) -> Result<(), TxError> {
        let Some(expiring) = &mut self.parts.expiring else {
            return Ok(());
        };
        if new != 0 {
            if new != old {
                expiring.index.insert(self.tx, &id, &new)?;
            }
        } else if old != 0 {
            expiring.index.remove(self.tx, &id)?;
        }
        Ok(())
    }

    /// Sets a key, whether it is there or not.
    fn put(&mut self, key: &[u8], value: &[u8], expires: u64) -> Result<(), TxError> {
        let value = Bytes::new(self.tx, value)?;
        self.put_stored(key, value, expires)
    }

    fn put_stored(&mut self, key: &[u8], value: Bytes, expires: u64) -> Result<(), TxError> {
        let entry = E::new(value, expires, self.now_ms);
        match self.parts.entries.find(self.tx, key)? {
            Some(slot) => {
                let old = slot.value(self.tx)?;
                slot.set_value(self.tx, &entry)?;
                old.value().free_owned(self.tx)?;
                self.note(slot.id(), old.expires(), entry.expires())
            }
            None => {
                let slot = self.parts.entries.add(self.tx, key, &entry)?;
                self.note(slot.id(), 0, entry.expires())
            }
        }
    }

    fn put_all(&mut self, pairs: &[Pair<'_>]) -> Result<(), TxError> {
        pairs
            .iter()
            .try_for_each(|(key, value)| self.put(key, value, 0))
    }

    /// Replaces a value; the expiry stays.
    fn replace(&mut self, slot: Slot<Bytes, E>, mut entry: E, value: &[u8]) -> Result<(), TxError> {
        let old = entry.value();
        entry.set_value(Bytes::new(self.tx, value)?);
        entry.set_accessed(self.now_ms);
        slot.set_value(self.tx, &entry)?;
        old.free_owned(self.tx)
    }

    /// Removes a key with all that belongs to it.
    fn remove(&mut self, key: &[u8]) -> Result<bool, TxError> {
        let Some(slot) = self.parts.entries.find(self.tx, key)? else {
            return Ok(false);
        };
        let Some(entry) = self.parts.entries.remove(self.tx, key)? else {
            return Ok(false);
        };
        self.note(slot.id(), entry.expires(), 0)?;
        entry.free_owned(self.tx)?;
        Ok(true)
    }

    fn set_expires(
        &mut self,
        slot: Slot<Bytes, E>,
        mut entry: E,
        expires: u64,
    ) -> Result<(), TxError> {
        let old = entry.expires();
        entry.set_expires(expires);
        slot.set_value(self.tx, &entry)?;
        self.note(slot.id(), old, expires)
    }

    /// Lets a key expire; at once, if the time is past.
    fn expire(
        &mut self,
        key: &[u8],
        slot: Slot<Bytes, E>,
        entry: E,
        at_ms: i64,
    ) -> Result<(), TxError> {
        match u64::try_from(at_ms) {
            Ok(at) if at > self.now_ms => self.set_expires(slot, entry, at),
            _ => self.remove(key).map(drop),
        }
    }

    fn set(
        &mut self,
        key: &[u8],
        value: &[u8],
        condition: SetCondition,
        get: bool,
        expiry: SetExpiry,
        w: &mut Writer<'_>,
    ) -> Result<bool, TxError> {
        let conditional = get || condition != SetCondition::Always || expiry == SetExpiry::Keep;
        // The plain SET, by far the most frequent, looks its key up once.
        let found = if conditional { self.find(key)? } else { None };
        let wanted = match condition {
            SetCondition::Always => true,
            SetCondition::IfMissing => found.is_none(),
            SetCondition::IfPresent => found.is_some(),
        };
        match &found {
            Some((_, entry)) if get => w.bulk(entry.value().get(self.tx)?),
            None if get => w.null(),
            _ if wanted => w.ok(),
            _ => w.null(),
        }
        if !wanted {
            return Ok(false);
        }
        let expires = match expiry {
            SetExpiry::Never => 0,
            SetExpiry::Keep => found.map_or(0, |(_, entry)| entry.expires()),
            SetExpiry::At(at) => match u64::try_from(at) {
                Ok(at) if at > self.now_ms => at,
                _ => {
                    self.remove(key)?;
                    return Ok(true);
                }
            },
        };
        self.put(key, value, expires)?;
        Ok(true)
    }

    fn get_ex(
        &mut self,
        key: &[u8],
        change: GetExChange,
        w: &mut Writer<'_>,
    ) -> Result<bool, TxError> {
        let Some((slot, entry)) = self.find(key)? else {
            w.null();
            return Ok(false);
        };
        w.bulk(entry.value().get(self.tx)?);
        match change {
            GetExChange::None => return Ok(false),
            GetExChange::Persist if entry.expires() == 0 => return Ok(false),
            GetExChange::Persist => self.set_expires(slot, entry, 0)?,
            GetExChange::At(at) => self.expire(key, slot, entry, at)?,
        }
        Ok(true)
    }

    fn append(&mut self, key: &[u8], value: &[u8], w: &mut Writer<'_>) -> Result<bool, TxError> {
        let Some((slot, entry)) = self.find(key)? else {
            self.put(key, value, 0)?;
            w.integer(value.len() as i64);
            return Ok(true);
        };
        let len = entry.value().len() + value.len();
        if len > MAX_VALUE {
            w.error("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
            return Ok(false);
        }
        if !value.is_empty() {
            let mut whole = Vec::with_capacity(len);
            whole.extend_from_slice(entry.value().get(self.tx)?);
            whole.extend_from_slice(value);
            self.replace(slot, entry, &whole)?;
        }
        w.integer(len as i64);
        Ok(!value.is_empty())
    }

    fn increment(&mut self, key: &[u8], by: i64, w: &mut Writer<'_>) -> Result<bool, TxError> {
        let found = self.find(key)?;
        let old = match &found {
            Some((_, entry)) => {
                let value = entry.value();
                increment(Some(value.get(self.tx)?), by)
            }
            None => increment(None, by),
        };
        let new = match old {
            Ok(new) => new,
            Err(text) => {
                w.error(text);
                return Ok(false);
            }
        };
        let digits = new.to_string();
        match found {
            Some((slot, entry)) => self.replace(slot, entry, digits.as_bytes())?,
            None => self.put(key, digits.as_bytes(), 0)?,
        }
        w.integer(new);
        Ok(true)
    }

    /// Moves all keys aside, for the timer to free.
    fn flush(&mut self, w: &mut Writer<'_>) -> Result<bool, TxError> {
        if self.parts.entries.is_empty() {
            w.ok();
            return Ok(false);
        }
        // What an earlier one left is nearly gone, or it is refused.
        if !crate::sweep::free_some(self.parts, self.tx)? {
            w.error("ERR the last FLUSHALL is still being carried out, try again in a moment");
            return Ok(true);
        }
        std::mem::swap(self.parts.entries, self.parts.garbage);
        if let Some(expiring) = &mut self.parts.expiring {
            std::mem::swap(expiring.index, expiring.garbage);
        }
        w.ok();
        Ok(true)
    }
}
