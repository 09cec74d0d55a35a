//! What the keys of one connection must hold.

use crate::report::FindingKind;
use kv_resp::{Value, encode_command};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// More possible states than this count as anything being possible.
const MOST_STATES: usize = 256;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Get(u64),
    Set {
        key: u64,
        value: Vec<u8>,
        expiry: Option<i64>,
    },
    Del(u64),
    Incr(u64),
    Append {
        key: u64,
        value: Vec<u8>,
    },
    Exists(u64),
    MGet(Vec<u64>),
    Ttl(u64),
    Persist(u64),
}

impl Operation {
    pub(crate) fn key(&self) -> u64 {
        match self {
            Self::Get(key)
            | Self::Del(key)
            | Self::Incr(key)
            | Self::Exists(key)
            | Self::Ttl(key)
            | Self::Persist(key)
            | Self::Set { key, .. }
            | Self::Append { key, .. } => *key,
            Self::MGet(keys) => keys.first().copied().unwrap_or_default(),
        }
    }

    pub(crate) fn writes(&self) -> bool {
        matches!(
            self,
            Self::Set { .. }
                | Self::Del(_)
                | Self::Incr(_)
                | Self::Append { .. }
                | Self::Persist(_)
        )
    }

    pub(crate) fn encode(&self, name: impl Fn(u64) -> String, out: &mut Vec<u8>) {
        let key = name(self.key());
        let key = key.as_bytes();
        match self {
            Self::Get(_) => encode_command(out, &[b"GET", key]),
            Self::Set { value, expiry, .. } => match expiry {
                None => encode_command(out, &[b"SET", key, value]),
                Some(seconds) => {
                    let seconds = seconds.to_string();
                    encode_command(out, &[b"SET", key, value, b"EX", seconds.as_bytes()]);
                }
            },
            Self::Del(_) => encode_command(out, &[b"DEL", key]),
            Self::Incr(_) => encode_command(out, &[b"INCR", key]),
            Self::Append { value, .. } => encode_command(out, &[b"APPEND", key, value]),
            Self::Exists(_) => encode_command(out, &[b"EXISTS", key]),
            Self::Ttl(_) => encode_command(out, &[b"TTL", key]),
            Self::Persist(_) => encode_command(out, &[b"PERSIST", key]),
            Self::MGet(keys) => {
                let mut argv = vec![String::from("MGET")];
                argv.extend(keys.iter().map(|key| name(*key)));
                encode_command(out, &argv);
            }
        }
    }

    pub(crate) fn describe(&self, name: &str) -> String {
        match self {
            Self::Get(_) => format!("GET {name}"),
            Self::Set { value, expiry, .. } => match expiry {
                None => format!("SET {name} {}", brief(value)),
                Some(seconds) => format!("SET {name} {} EX {seconds}", brief(value)),
            },
            Self::Del(_) => format!("DEL {name}"),
            Self::Incr(_) => format!("INCR {name}"),
            Self::Append { value, .. } => format!("APPEND {name} {}", brief(value)),
            Self::Exists(_) => format!("EXISTS {name}"),
            Self::MGet(keys) => format!("MGET {name} and {} more", keys.len().saturating_sub(1)),
            Self::Ttl(_) => format!("TTL {name}"),
            Self::Persist(_) => format!("PERSIST {name}"),
        }
    }
}

fn brief(bytes: &[u8]) -> String {
    match bytes.get(..40) {
        Some(start) => format!("\"{}…\" ({} bytes)", start.escape_ascii(), bytes.len()),
        None => format!("\"{}\"", bytes.escape_ascii()),
    }
}

fn brief_reply(reply: &Value) -> String {
    match reply {
        Value::Bulk(bytes) => brief(bytes),
        other => {
            let text = other.to_string();
            match text.char_indices().nth(120) {
                Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
                None => text,
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Expiry {
    Never,
    Seconds { set: Instant, seconds: i64 },
    Unknown,
}

#[derive(Debug, Clone, PartialEq)]
struct Held {
    bytes: Vec<u8>,
    expiry: Expiry,
}

/// What a key holds, if anything.
type State = Option<Held>;

/// What is known of one key.
#[derive(Debug, Clone, Default)]
struct Known {
    /// The states it may be in: one, or several after writes that weren't acknowledged. None
    /// means that nothing is known.
    states: Vec<State>,
    /// The value before the last acknowledged write, to tell a lost write from nonsense.
    before: Option<Option<Vec<u8>>>,
}

/// Something that doesn't fit the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) kind: FindingKind,
    pub(crate) text: String,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    keys: HashMap<u64, Known>,
}

fn as_integer(bytes: &[u8]) -> Option<i64> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

/// Whether a key in this state answers the operation so.
fn answers(operation: &Operation, state: &State, reply: &Value, now: Instant) -> bool {
    match operation {
        Operation::Get(_) => match (state, reply) {
            (None, Value::Null) => true,
            (Some(held), Value::Bulk(bytes)) => held.bytes == *bytes,
            _ => false,
        },
        Operation::Set { .. } => reply.is_ok(),
        Operation::Del(_) | Operation::Exists(_) => {
            *reply == Value::Integer(i64::from(state.is_some()))
        }
        Operation::Incr(_) => {
            let old = match state {
                None => Some(0),
                Some(held) => as_integer(&held.bytes),
            };
            old.and_then(|old| old.checked_add(1))
                .is_some_and(|new| *reply == Value::Integer(new))
        }
        Operation::Append { value, .. } => {
            let length = state.as_ref().map_or(0, |held| held.bytes.len()) + value.len();
            i64::try_from(length).is_ok_and(|length| *reply == Value::Integer(length))
        }
        Operation::Ttl(_) => {
            let Value::Integer(left) = *reply else {
                return false;
            };
            match state.as_ref().map(|held| held.expiry) {
                None => left == -2,
                Some(Expiry::Never) => left == -1,
                Some(Expiry::Unknown) => left >= -1,
                Some(Expiry::Seconds { set, seconds }) => {
                    let gone = now.saturating_duration_since(set).as_secs();
                    let least = seconds - i64::try_from(gone).unwrap_or(i64::MAX).min(seconds) - 2;
                    (least..=seconds).contains(&left)
                }
            }
        }
        Operation::Persist(_) => match state.as_ref().map(|held| held.expiry) {
            None | Some(Expiry::Never) => *reply == Value::Integer(0),
            Some(Expiry::Seconds { .. }) => *reply == Value::Integer(1),
            Some(Expiry::Unknown) => matches!(reply, Value::Integer(0 | 1)),
        },
        Operation::MGet(_) => false,
    }
}

/// The state after the operation.
fn apply(operation: &Operation, state: &State, sent: Instant) -> State {
    match operation {
        Operation::Set { value, expiry, .. } => Some(Held {
            bytes: value.clone(),
            expiry: match expiry {
                None => Expiry::Never,
                Some(seconds) => Expiry::Seconds {
                    set: sent,
                    seconds: *seconds,
                },
            },
        }),
        Operation::Del(_) => None,
        Operation::Incr(_) => {
            let (old, expiry) = match state {
                None => (Some(0), Expiry::Never),
                Some(held) => (as_integer(&held.bytes), held.expiry),
            };
            match old.and_then(|old| old.checked_add(1)) {
                None => state.clone(),
                Some(new) => Some(Held {
                    bytes: new.to_string().into_bytes(),
                    expiry,
                }),
            }
        }
        Operation::Append { value, .. } => {
            let mut held = state.clone().unwrap_or(Held {
                bytes: Vec::new(),
                expiry: Expiry::Never,
            });
            held.bytes.extend_from_slice(value);
            Some(held)
        }
        Operation::Persist(_) => state.clone().map(|held| Held {
            expiry: Expiry::Never,
            ..held
        }),
        Operation::Get(_) | Operation::Exists(_) | Operation::Ttl(_) | Operation::MGet(_) => {
            state.clone()
        }
    }
}

/// What a reply tells of a key of which nothing is known, after the operation.
fn infer(operation: &Operation, reply: &Value, sent: Instant) -> Vec<State> {
    match (operation, reply) {
        (Operation::Get(_), Value::Null)
        | (Operation::Exists(_), Value::Integer(0))
        | (Operation::Ttl(_), Value::Integer(-2))
        | (Operation::Del(_), Value::Integer(0 | 1)) => vec![None],
        (Operation::Get(_), Value::Bulk(bytes)) => vec![Some(Held {
            bytes: bytes.clone(),
            expiry: Expiry::Unknown,
        })],
        (Operation::Set { .. }, reply) if reply.is_ok() => vec![apply(operation, &None, sent)],
        (Operation::Incr(_), Value::Integer(new)) => vec![Some(Held {
            bytes: new.to_string().into_bytes(),
            expiry: Expiry::Unknown,
        })],
        _ => Vec::new(),
    }
}

fn describe_states(states: &[State]) -> String {
    let one = |state: &State| match state {
        None => String::from("nothing"),
        Some(held) => match held.expiry {
            Expiry::Seconds { seconds, .. } => {
                format!("{} expiring after {seconds} s", brief(&held.bytes))
            }
            _ => brief(&held.bytes),
        },
    };
    let mut text: Vec<String> = states.iter().take(3).map(one).collect();
    if states.len() > 3 {
        text.push(format!("one of {} more", states.len() - 3));
    }
    text.join(" or ")
}

impl Known {
    /// What kind of mismatch this reply is.
    fn kind(&self, operation: &Operation, reply: &Value) -> FindingKind {
        let present = self.states.iter().all(Option::is_some);
        let lost = match (operation, reply) {
            (Operation::Get(_), Value::Null)
            | (Operation::Exists(_) | Operation::Del(_), Value::Integer(0))
            | (Operation::Ttl(_), Value::Integer(-2)) => present,
            (Operation::Get(_), Value::Bulk(bytes)) => {
                matches!(&self.before, Some(Some(before)) if before == bytes)
            }
            (Operation::Exists(_) | Operation::Del(_), Value::Integer(1)) => {
                matches!(self.before, Some(Some(_)))
            }
            (Operation::Incr(_), Value::Integer(new)) => self.states.iter().all(|state| {
                let old = state
                    .as_ref()
                    .map_or(Some(0), |held| as_integer(&held.bytes));
                old.is_some_and(|old| *new <= old)
            }),
            (Operation::Append { value, .. }, Value::Integer(length)) => {
                self.states.iter().all(|state| {
                    let old = state.as_ref().map_or(0, |held| held.bytes.len());
                    i64::try_from(old + value.len()).is_ok_and(|expected| *length < expected)
                })
            }
            _ => false,
        };
        if lost {
            FindingKind::Lost
        } else {
            FindingKind::Wrong
        }
    }

    fn settle(
        &mut self,
        operation: &Operation,
        reply: &Value,
        sent: Instant,
        name: &str,
    ) -> Option<Mismatch> {
        let now = Instant::now();
        if self.states.is_empty() {
            // A reply that can't be right, whatever the key holds.
            let mismatch = match (operation, reply) {
                (Operation::Get(_), Value::Null | Value::Bulk(_)) => false,
                (Operation::Set { .. }, reply) => !reply.is_ok(),
                (Operation::Get(_), _) => true,
                (_, reply) => !matches!(reply, Value::Integer(_)),
            };
            self.states = infer(operation, reply, sent);
            self.before = None;
            return mismatch.then(|| Mismatch {
                kind: FindingKind::Wrong,
                text: format!(
                    "{} answered {}",
                    operation.describe(name),
                    brief_reply(reply)
                ),
            });
        }
        // The usual case without copying: one state, an operation that only reads.
        if !operation.writes() && self.states.len() == 1 {
            if answers(operation, &self.states[0], reply, now) {
                return None;
            }
        } else {
            let after: Vec<State> = self
                .states
                .iter()
                .filter(|state| answers(operation, state, reply, now))
                .map(|state| apply(operation, state, sent))
                .collect();
            if !after.is_empty() {
                let before = std::mem::replace(&mut self.states, after);
                if operation.writes() {
                    self.states.dedup();
                    self.before = match <[State; 1]>::try_from(before) {
                        Ok([state]) => Some(state.map(|held| held.bytes)),
                        Err(_) => None,
                    };
                }
                return None;
            }
        }
        let mismatch = Mismatch {
            kind: self.kind(operation, reply),
            text: format!(
                "{} answered {}; the key must hold {}",
                operation.describe(name),
                brief_reply(reply),
                describe_states(&self.states)
            ),
        };
        // Each lie is told of once.
        self.states = infer(operation, reply, sent);
        self.before = None;
        Some(mismatch)
    }

    /// The operation was sent, and whether it was done isn't known.
    fn maybe(&mut self, operation: &Operation, sent: Instant) {
        if self.states.is_empty() || !operation.writes() {
            return;
        }
        let after: Vec<State> = self
            .states
            .iter()
            .map(|state| apply(operation, state, sent))
            .collect();
        for state in after {
            if !self.states.contains(&state) {
                self.states.push(state);
            }
        }
        self.before = None;
        if self.states.len() > MOST_STATES {
            self.states.clear();
        }
    }
}

impl Model {
    /// Of a server that holds none of these keys.
    pub(crate) fn empty(keys: u64) -> Self {
        let nothing = || Known {
            states: vec![None],
            before: None,
        };
        Self {
            keys: (0..keys).map(|key| (key, nothing())).collect(),
        }
    }

    /// Checks a reply that isn't an error against the model and goes on from it. `sent` is when
    /// the request was sent.
    pub(crate) fn settle(
        &mut self,
        operation: &Operation,
        reply: &Value,
        sent: Instant,
        name: impl Fn(u64) -> String,
        mut found: impl FnMut(Mismatch),
    ) {
        if let Operation::MGet(keys) = operation {
            match reply {
                Value::Array(values) if values.len() == keys.len() => {
                    for (key, value) in keys.iter().zip(values) {
                        let known = self.keys.entry(*key).or_default();
                        let get = Operation::Get(*key);
                        if let Some(mismatch) = known.settle(&get, value, sent, &name(*key)) {
                            found(mismatch);
                        }
                    }
                }
                other => found(Mismatch {
                    kind: FindingKind::Wrong,
                    text: format!(
                        "{} answered {}",
                        operation.describe(&name(operation.key())),
                        brief_reply(other)
                    ),
                }),
            }
            return;
        }
        let key = operation.key();
        let known = self.keys.entry(key).or_default();
        if let Some(mismatch) = known.settle(operation, reply, sent, &name(key)) {
            found(mismatch);
        }
    }

    /// The operation was sent, and whether it was done isn't known.
    pub(crate) fn maybe(&mut self, operation: &Operation, sent: Instant) {
        if operation.writes() {
            self.keys
                .entry(operation.key())
                .or_default()
                .maybe(operation, sent);
        }
    }
}

/// Numbers that look random, the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// How long a key with an expiry lives: longer than any run.
const EXPIRY: Duration = Duration::from_secs(1_000_000);

/// A random operation on one of `keys` keys. A fourth of them are counters.
pub(crate) fn random_operation(
    random: &mut Random,
    keys: u64,
    lengths: (usize, usize),
    expiry: bool,
) -> Operation {
    let key = random.below(keys);
    let counter = key % 4 == 3;
    let dice = random.below(if expiry { 120 } else { 100 });
    let value = |random: &mut Random| {
        if counter {
            random.below(1_000_000).to_string().into_bytes()
        } else {
            let (least, most) = lengths;
            let more = u64::try_from(most.saturating_sub(least)).unwrap_or(0);
            let length = least + usize::try_from(random.below(more + 1)).unwrap_or(0);
            random.bytes(length)
        }
    };
    let seconds = i64::try_from(EXPIRY.as_secs()).unwrap_or(i64::MAX);
    match dice {
        0..32 => Operation::Get(key),
        32..40 => {
            let count = 1 + random.below(8);
            Operation::MGet((0..count).map(|_| random.below(keys)).collect())
        }
        40..46 => Operation::Exists(key),
        46..54 => Operation::Del(key),
        54..74 if counter => Operation::Incr(key),
        54..64 => Operation::Append {
            key,
            value: random.bytes(8),
        },
        100..110 => Operation::Set {
            key,
            value: value(random),
            expiry: Some(seconds),
        },
        110..116 => Operation::Ttl(key),
        116.. => Operation::Persist(key),
        _ => Operation::Set {
            key,
            value: value(random),
            expiry: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(model: &mut Model, operation: &Operation, reply: &Value) -> Vec<FindingKind> {
        let mut kinds = Vec::new();
        let name = |key: u64| format!("k{key}");
        model.settle(operation, reply, Instant::now(), name, |mismatch| {
            kinds.push(mismatch.kind);
        });
        kinds
    }

    fn set(value: &str) -> Operation {
        Operation::Set {
            key: 1,
            value: value.into(),
            expiry: None,
        }
    }

    fn ok() -> Value {
        Value::Simple(b"OK".to_vec())
    }

    fn bulk(text: &str) -> Value {
        Value::Bulk(text.into())
    }

    #[test]
    fn losses_and_nonsense_are_told_apart_and_told_once() {
        let mut model = Model::default();
        let get = Operation::Get(1);
        assert!(settle(&mut model, &set("a"), &ok()).is_empty());
        assert!(settle(&mut model, &get, &bulk("a")).is_empty());
        assert!(settle(&mut model, &set("b"), &ok()).is_empty());
        assert_eq!(settle(&mut model, &get, &bulk("a")), [FindingKind::Lost]);
        assert!(settle(&mut model, &get, &bulk("a")).is_empty());
        assert_eq!(settle(&mut model, &get, &bulk("z")), [FindingKind::Wrong]);
        assert_eq!(settle(&mut model, &get, &Value::Null), [FindingKind::Lost]);
        assert!(settle(&mut model, &Operation::Del(1), &Value::Integer(0)).is_empty());
        assert!(settle(&mut model, &Operation::Incr(1), &Value::Integer(1)).is_empty());
        assert_eq!(
            settle(&mut model, &Operation::Incr(1), &Value::Integer(1)),
            [FindingKind::Lost]
        );
        let both = Operation::MGet(vec![1, 1]);
        let values = Value::Array(vec![bulk("1"), Value::Null]);
        assert_eq!(settle(&mut model, &both, &values), [FindingKind::Lost]);
    }

    #[test]
    fn a_write_in_doubt_may_be_there_or_not() {
        for (answer, findings) in [("a", 0), ("b", 0), ("bc", 0), ("ac", 0), ("c", 1)] {
            let mut model = Model::default();
            let append = Operation::Append {
                key: 1,
                value: b"c".to_vec(),
            };
            settle(&mut model, &set("a"), &ok());
            model.maybe(&set("b"), Instant::now());
            model.maybe(&append, Instant::now());
            let found = settle(&mut model, &Operation::Get(1), &bulk(answer));
            assert_eq!(found.len(), findings, "{answer}");
            // Once seen it's certain.
            let later = settle(&mut model, &Operation::Get(1), &bulk("other"));
            assert_eq!(later, [FindingKind::Wrong]);
        }
    }
}
