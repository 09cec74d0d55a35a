//! What the keys of one connection must hold.

use crate::operation::{Operation, brief};
use crate::report::FindingKind;
use kv_resp::Value;
use std::collections::HashMap;
use std::time::Instant;

/// More possible states than this count as anything being possible.
const MOST_STATES: usize = 256;

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

/// A write whose answer wasn't waited for.
#[derive(Debug, Clone, PartialEq)]
struct Late {
    operation: Operation,
    sent: Instant,
}

/// One thing that may be the case.
#[derive(Debug, Clone, PartialEq)]
struct Possible {
    state: State,
    /// Writes that the server may still carry out, at any time and in any order.
    late: Vec<Late>,
}

/// What is known of one key.
#[derive(Debug, Clone, Default)]
struct Known {
    /// What may be the case: one thing, or several after writes that weren't acknowledged. None
    /// means that nothing is known.
    possible: Vec<Possible>,
    /// While nothing is known: the writes that may still be carried out.
    late: Vec<Late>,
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

fn describe_states(possible: &[Possible]) -> String {
    let one = |state: &State| match state {
        None => String::from("nothing"),
        Some(held) => match held.expiry {
            Expiry::Seconds { seconds, .. } => {
                format!("{} expiring after {seconds} s", brief(&held.bytes))
            }
            _ => brief(&held.bytes),
        },
    };
    let mut states: Vec<&State> = Vec::new();
    for Possible { state, .. } in possible {
        if !states.contains(&state) {
            states.push(state);
        }
    }
    let mut text: Vec<String> = states.iter().take(3).map(|state| one(state)).collect();
    if states.len() > 3 {
        text.push(format!("one of {} more", states.len() - 3));
    }
    text.join(" or ")
}

impl Known {
    /// What kind of mismatch this reply is, of a key that may be in these states.
    fn kind(&self, possible: &[Possible], operation: &Operation, reply: &Value) -> FindingKind {
        let mut states = possible.iter().map(|one| &one.state);
        let lost = match (operation, reply) {
            (Operation::Get(_), Value::Null)
            | (Operation::Exists(_) | Operation::Del(_), Value::Integer(0))
            | (Operation::Ttl(_), Value::Integer(-2)) => states.all(Option::is_some),
            (Operation::Get(_), Value::Bulk(bytes)) => {
                matches!(&self.before, Some(Some(before)) if before == bytes)
            }
            (Operation::Exists(_) | Operation::Del(_), Value::Integer(1)) => {
                matches!(self.before, Some(Some(_)))
            }
            (Operation::Incr(_), Value::Integer(new)) => states.all(|state| {
                let old = state
                    .as_ref()
                    .map_or(Some(0), |held| as_integer(&held.bytes));
                old.is_some_and(|old| *new <= old)
            }),
            (Operation::Append { value, .. }, Value::Integer(length)) => states.all(|state| {
                let old = state.as_ref().map_or(0, |held| held.bytes.len());
                i64::try_from(old + value.len()).is_ok_and(|expected| *length < expected)
            }),
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
        let known = self.possible.len();
        self.expand();
        if self.possible.is_empty() {
            return self.learn(operation, reply, sent).then(|| Mismatch {
                kind: FindingKind::Wrong,
                text: format!(
                    "{} answered {}",
                    operation.describe(name),
                    brief_reply(reply)
                ),
            });
        }
        let fits = |one: &Possible| answers(operation, &one.state, reply, now);
        // The usual case without copying: one state, an operation that only reads.
        if !operation.writes() && self.possible.len() == 1 && fits(&self.possible[0]) {
            return None;
        }
        let before = std::mem::take(&mut self.possible);
        let surely_late = !before.iter().take(known).any(fits) && before.iter().any(fits);
        let after = before.iter().filter(|one| fits(one)).map(|one| Possible {
            state: apply(operation, &one.state, sent),
            late: one.late.clone(),
        });
        self.possible = after.collect();
        let asked = || {
            format!(
                "{} answered {}",
                operation.describe(name),
                brief_reply(reply)
            )
        };
        if self.possible.is_empty() {
            let mismatch = Mismatch {
                kind: self.kind(&before, operation, reply),
                text: format!(
                    "{}; the key must hold {}",
                    asked(),
                    describe_states(&before)
                ),
            };
            // Each lie is told of once.
            self.forget(&before);
            self.learn(operation, reply, sent);
            return Some(mismatch);
        }
        if operation.writes() {
            self.possible.dedup();
            self.before = match <[Possible; 1]>::try_from(before) {
                Ok([one]) => Some(one.state.map(|held| held.bytes)),
                Err(_) => None,
            };
        }
        surely_late.then(|| Mismatch {
            kind: FindingKind::Late,
            text: format!(
                "{}: a write that was given up was carried out since",
                asked()
            ),
        })
    }

    /// Takes from a reply what the key holds, when nothing is known. Whether the reply can't be
    /// right, whatever it holds.
    fn learn(&mut self, operation: &Operation, reply: &Value, sent: Instant) -> bool {
        let possible = infer(operation, reply, sent)
            .into_iter()
            .map(|state| Possible {
                state,
                late: self.late.clone(),
            });
        self.possible = possible.collect();
        if !self.possible.is_empty() {
            self.late.clear();
        }
        self.before = None;
        match (operation, reply) {
            (Operation::Get(_), Value::Null | Value::Bulk(_)) => false,
            (Operation::Set { .. }, reply) => !reply.is_ok(),
            (Operation::Get(_), _) => true,
            (_, reply) => !matches!(reply, Value::Integer(_)),
        }
    }

    /// All that may still be carried out.
    fn all_late(&self) -> Vec<Late> {
        let mut all = self.late.clone();
        for late in self.possible.iter().flat_map(|one| &one.late) {
            if !all.contains(late) {
                all.push(late.clone());
            }
        }
        all
    }

    /// From now on nothing is known but what may still be carried out.
    fn forget(&mut self, possible: &[Possible]) {
        self.late.clear();
        self.possible = possible.to_vec();
        self.late = self.all_late();
        self.possible.clear();
        self.before = None;
    }

    fn add(&mut self, one: Possible) {
        if !self.possible.contains(&one) {
            self.possible.push(one);
        }
    }

    /// Adds what may be the case if writes were carried out late; what was there stays in front.
    fn expand(&mut self) {
        let mut next = 0;
        while let Some(one) = self.possible.get(next) {
            next += 1;
            if one.late.is_empty() {
                continue;
            }
            let Possible { state, late } = one.clone();
            for (index, Late { operation, sent }) in late.iter().enumerate() {
                let mut left = late.clone();
                left.remove(index);
                self.add(Possible {
                    state: apply(operation, &state, *sent),
                    late: left,
                });
            }
            self.limit();
        }
    }

    fn limit(&mut self) {
        if self.possible.len() > MOST_STATES {
            let possible = std::mem::take(&mut self.possible);
            self.forget(&possible);
        }
    }

    /// The operation was sent, and whether it was done isn't known.
    fn maybe(&mut self, operation: &Operation, sent: Instant) {
        self.expand();
        for index in 0..self.possible.len() {
            let Possible { state, late } = self.possible[index].clone();
            self.add(Possible {
                state: apply(operation, &state, sent),
                late,
            });
        }
        self.before = None;
        self.limit();
    }

    /// The operation was sent, and it may be done at any time from now on, or never.
    fn give_up(&mut self, operation: &Operation, sent: Instant) {
        let late = Late {
            operation: operation.clone(),
            sent,
        };
        match self.possible.as_mut_slice() {
            [] => self.late.push(late),
            possible => possible
                .iter_mut()
                .for_each(|one| one.late.push(late.clone())),
        }
        // It may be done already. What comes to light later than that was done late.
        self.expand();
        self.before = None;
    }
}

impl Model {
    /// Of a server that holds none of these keys.
    pub(crate) fn empty(keys: u64) -> Self {
        let nothing = || Known {
            possible: vec![Possible {
                state: None,
                late: Vec::new(),
            }],
            ..Known::default()
        };
        Self {
            keys: (0..keys).map(|key| (key, nothing())).collect(),
        }
    }

    /// What may still be carried out there may come here.
    pub(crate) fn take_over_late(&mut self, other: &Model) {
        for (key, known) in &other.keys {
            for late in known.all_late() {
                let here = self.keys.entry(*key).or_default();
                if !here.all_late().contains(&late) {
                    here.give_up(&late.operation, late.sent);
                }
            }
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

    /// The operation was sent, and whether it was done isn't known. If it was not, it will not be.
    pub(crate) fn maybe(&mut self, operation: &Operation, sent: Instant) {
        if operation.writes() {
            self.keys
                .entry(operation.key())
                .or_default()
                .maybe(operation, sent);
        }
    }

    /// The operation was sent, and nobody waits for its answer any more: whether it was done isn't
    /// known, and it may still be done later, whatever is read before.
    pub(crate) fn give_up(&mut self, operation: &Operation, sent: Instant) {
        if operation.writes() {
            self.keys
                .entry(operation.key())
                .or_default()
                .give_up(operation, sent);
        }
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

    #[test]
    fn a_write_that_was_given_up_may_be_done_at_any_time_but_once() {
        let get = Operation::Get(1);
        let mut model = Model::default();
        settle(&mut model, &set("a"), &ok());
        model.give_up(&set("b"), Instant::now());
        // Not yet, not in spite of a newer value, and then it is.
        assert_eq!(settle(&mut model, &get, &bulk("a")), []);
        assert_eq!(settle(&mut model, &set("c"), &ok()), []);
        assert_eq!(settle(&mut model, &get, &bulk("c")), []);
        assert_eq!(settle(&mut model, &get, &bulk("b")), [FindingKind::Late]);
        assert_eq!(settle(&mut model, &set("d"), &ok()), []);
        assert_eq!(settle(&mut model, &set("e"), &ok()), []);
        assert_eq!(settle(&mut model, &get, &bulk("b")), [FindingKind::Wrong]);

        // One that was done before anything else was asked was not late.
        let mut model = Model::default();
        settle(&mut model, &set("a"), &ok());
        model.give_up(&set("b"), Instant::now());
        assert_eq!(settle(&mut model, &get, &bulk("b")), []);
        assert_eq!(settle(&mut model, &set("c"), &ok()), []);
        assert_eq!(settle(&mut model, &get, &bulk("b")), [FindingKind::Lost]);
    }

    #[test]
    fn what_is_false_is_found_beside_writes_that_were_given_up() {
        let incr = Operation::Incr(1);
        let mut model = Model::default();
        settle(&mut model, &set("5"), &ok());
        model.give_up(&incr, Instant::now());
        assert_eq!(settle(&mut model, &incr, &Value::Integer(6)), []);
        // The other one came between.
        assert_eq!(
            settle(&mut model, &incr, &Value::Integer(8)),
            [FindingKind::Late]
        );
        assert_eq!(
            settle(&mut model, &incr, &Value::Integer(8)),
            [FindingKind::Lost]
        );

        let mut model = Model::default();
        settle(&mut model, &set("a"), &ok());
        model.give_up(&set("b"), Instant::now());
        settle(&mut model, &set("c"), &ok());
        assert_eq!(
            settle(&mut model, &Operation::Get(1), &bulk("a")),
            [FindingKind::Wrong]
        );
        // It may still come after that.
        assert_eq!(settle(&mut model, &Operation::Get(1), &bulk("a")), []);
        assert_eq!(
            settle(&mut model, &Operation::Get(1), &bulk("b")),
            [FindingKind::Late]
        );
    }

    #[test]
    fn too_much_in_doubt_is_not_held_against_a_server() {
        let mut model = Model::default();
        settle(&mut model, &set("a"), &ok());
        for n in 0..12 {
            model.give_up(&set(&n.to_string()), Instant::now());
        }
        for value in ["3", "a", "11", "b", "3"] {
            let found = settle(&mut model, &Operation::Get(1), &bulk(value));
            assert_eq!(found, [], "{value}");
        }
    }
}
