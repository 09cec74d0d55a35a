//! A server whose whole state is exchanged on purpose while the load runs.
//!
//! Nobody sees the moment of it. From when it is announced, each reply has to fit the state before; from the first that
//! does not, all have to fit the state after. What was written in between and fits both may be in either.

use crate::model::Model;
use crate::operation::Operation;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Set when the turn is over.
const ENDED: u64 = 1;
/// Set if it brings the state before the last turn back.
const BACK: u64 = 2;
/// What one turn adds to the number of the last.
const NEXT: u64 = 4;

/// Tells a load that the server's state is exchanged. One turn at a time.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<AtomicU64>);

impl Turns {
    /// From here on the server may forget everything, at one moment. To be called before it can.
    pub fn to_nothing(&self) {
        self.begin(0);
    }

    /// From here on the server may have its state from before the last turn again.
    pub fn back(&self) {
        self.begin(BACK);
    }

    fn begin(&self, kind: u64) {
        let last = self.0.load(Ordering::SeqCst) & !(NEXT - 1);
        self.0.store(last + NEXT + kind, Ordering::SeqCst);
    }

    /// It has happened.
    pub fn end(&self) {
        self.0.fetch_or(ENDED, Ordering::SeqCst);
    }
}

/// What one connection knows of it.
#[derive(Debug, Default)]
pub(crate) struct Turning {
    seen: u64,
    under_way: Option<UnderWay>,
    /// What the keys held before the last turn.
    before: Option<Model>,
}

#[derive(Debug)]
struct UnderWay {
    /// What the keys hold after it.
    after: Model,
    /// What they will have held before it.
    before: Model,
}

impl Turning {
    /// Looks whether there is a new turn, before a reply is checked.
    pub(crate) fn look(&mut self, turns: &Turns, model: &Model, keys: u64) {
        let now = turns.0.load(Ordering::SeqCst);
        if now / NEXT == self.seen / NEXT {
            return;
        }
        self.seen = now;
        let mut after = match now & BACK {
            0 => Model::empty(keys),
            _ => self.before.take().unwrap_or_else(|| Model::empty(keys)),
        };
        // What was given up before may come after.
        after.take_over_late(model);
        self.under_way = Some(UnderWay {
            after,
            before: model.clone(),
        });
    }

    /// Whether a turn may happen, or have happened.
    pub(crate) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Nothing is under way on the connection: a turn that is over has happened.
    pub(crate) fn settle(&mut self, turns: &Turns, model: &mut Model, keys: u64) {
        self.look(turns, model, keys);
        if turns.0.load(Ordering::SeqCst) & ENDED != 0 {
            self.happen(model);
        }
    }

    /// It has happened.
    pub(crate) fn happen(&mut self, model: &mut Model) {
        if let Some(UnderWay { after, before }) = self.under_way.take() {
            *model = after;
            self.before = Some(before);
        }
    }

    /// An operation may have been done before the turn, or after it.
    pub(crate) fn maybe(&mut self, operation: &Operation, sent: Instant) {
        if let Some(UnderWay { after, before }) = &mut self.under_way {
            after.maybe(operation, sent);
            before.maybe(operation, sent);
        }
    }

    /// An operation that was given up may be done before the turn, or at any time after it.
    pub(crate) fn give_up(&mut self, operation: &Operation, sent: Instant) {
        if let Some(UnderWay { after, before }) = &mut self.under_way {
            after.give_up(operation, sent);
            before.give_up(operation, sent);
        }
    }
}
