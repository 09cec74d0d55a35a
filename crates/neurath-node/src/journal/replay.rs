//! What the records lead to: the releases of a node, told by its history alone.

use std::collections::BTreeMap;

use super::{Kind, Record, START, STOP, Verdict};
use crate::catalog::{ReleaseId, State};

/// Where a history leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Replayed {
    /// The current release.
    pub current: Option<ReleaseId>,
    /// The permanent release.
    pub permanent: Option<ReleaseId>,
    /// Whether the current release waits for its confirmation.
    pub unconfirmed: bool,
    /// Whether a node started and did not stop.
    pub running: bool,
    /// How many operations there were.
    pub operations: u64,
}

impl Replayed {
    /// Whether a catalog says the same.
    pub fn agrees_with(&self, state: &State) -> bool {
        (&self.current, &self.permanent, self.unconfirmed)
            == (&state.current, &state.permanent, state.previous.is_some())
    }
}

/// An operation that has begun.
struct Open {
    operation: String,
    from: Option<ReleaseId>,
    to: Option<ReleaseId>,
}

/// Replays records, oldest first.
pub fn replay(records: &[Record]) -> Replayed {
    let mut now = Replayed::default();
    let mut open: BTreeMap<&str, Open> = BTreeMap::new();
    // An upgrade that was cut off: whether it had committed is told by the next start.
    let mut cut_off: Option<ReleaseId> = None;
    // A confirmation that was cut off counts, with what was permanent before, until a start goes back.
    let mut unsure: Option<Option<ReleaseId>> = None;
    for record in records {
        let id = record.operation_id.as_str();
        match &record.kind {
            Kind::Started {
                operation,
                from,
                to,
                ..
            } => {
                now.operations += 1;
                match operation.as_str() {
                    START => {
                        now.running = true;
                        now.unconfirmed |=
                            cut_off.take().is_some_and(|one| Some(&one) == to.as_ref());
                        if to.is_some() && to != &now.current {
                            now.current.clone_from(to);
                        }
                    }
                    STOP => now.running = false,
                    "rollback" => {
                        if let Some(permanent) = unsure.take() {
                            now.permanent = permanent;
                            now.unconfirmed = true;
                        }
                    }
                    _ => {}
                }
                let begun = Open {
                    operation: operation.clone(),
                    from: from.clone(),
                    to: to.clone(),
                };
                open.insert(id, begun);
            }
            Kind::Step { .. } => {}
            Kind::Ended { verdict, .. } => {
                let Some(Open {
                    operation,
                    from,
                    to,
                }) = open.remove(id)
                else {
                    continue;
                };
                match (operation.as_str(), verdict) {
                    ("apply", Verdict::Done) => {
                        now.current = to;
                        now.unconfirmed = true;
                    }
                    ("apply", Verdict::Interrupted) => cut_off = to,
                    ("rollback", Verdict::Done) => {
                        now.current = to;
                        now.unconfirmed = false;
                    }
                    // Whether it had gone back is told by the next start, too.
                    ("rollback", Verdict::Interrupted) => {
                        now.unconfirmed = false;
                        cut_off.clone_from(&now.current);
                    }
                    ("confirm", Verdict::Done) => {
                        now.permanent = to;
                        now.unconfirmed = false;
                    }
                    ("confirm", Verdict::Interrupted) => {
                        now.unconfirmed = false;
                        unsure = Some(std::mem::replace(&mut now.permanent, to));
                    }
                    (START, Verdict::Done) => {
                        unsure = None;
                        now.permanent = now.permanent.take().or(to);
                    }
                    (START, Verdict::Failed) => now.running = false,
                    // A new history begins with where the one before has led.
                    ("set-aside", _) => {
                        now.unconfirmed = from != to;
                        (now.permanent, now.current) = (from, to);
                    }
                    _ => {}
                }
            }
        }
    }
    now
}
