//! What happened to a medium, event by event.

use xxhash_rust::xxh3::xxh3_64;

use super::sim::mix;

/// A range, and where the trace keeps the bytes that went there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) at: u64,
    pub(crate) len: usize,
    pub(super) kept_at: usize,
    /// [`Sim::state`](super::sim::Sim::state) before it.
    pub(super) state: u64,
}

/// What happened to a medium.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// To memory. The trace has what was there, and what is there now.
    Store(Span),
    /// What memory holds there goes on its way.
    Flush {
        at: u64,
        len: u64,
    },
    /// The same, where memory and medium are two: the trace has these bytes.
    Write(Span),
    /// Everything that is on its way has arrived.
    Fence,
    /// A written range has arrived.
    Persisted {
        at: u64,
        len: u64,
    },
    /// Everything has arrived, and so has the file's length.
    Sync,
    /// The same is begun, while other things happen.
    BeginSync,
    /// What was on its way when it began has arrived.
    EndSync,
    Grow {
        from: u64,
        to: u64,
    },
    /// A transaction was committed; it may not be durable.
    Applied,
    /// A transaction was acknowledged: it is durable.
    Commit,
    /// A sync was acknowledged.
    Synced,
}

/// Events in their order, and the bytes of them.
#[derive(Clone, Default, Debug)]
pub(crate) struct Trace {
    pub(crate) events: Vec<Event>,
    pub(super) bytes: Vec<u8>,
    /// Bytes of events that are no part of this one, and came before.
    pub(super) before: usize,
}

impl Trace {
    fn kept(&self, from: usize, len: usize) -> &[u8] {
        let from = from - self.before;
        &self.bytes[from..from + len]
    }

    /// What was where something was stored.
    pub(crate) fn before(&self, span: &Span) -> &[u8] {
        self.kept(span.kept_at, span.len)
    }

    /// What was stored.
    pub(crate) fn stored(&self, span: &Span) -> &[u8] {
        self.kept(span.kept_at + span.len, span.len)
    }

    /// What was written.
    pub(crate) fn written(&self, span: &Span) -> &[u8] {
        self.kept(span.kept_at, span.len)
    }

    /// Keeps bytes; where.
    pub(super) fn keep(&mut self, bytes: &[u8]) -> usize {
        let at = self.before + self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        at
    }

    /// Where the bytes of the events from the `mark`-th on begin.
    fn bytes_from(&self, mark: usize) -> usize {
        let begin = |event: &Event| match event {
            Event::Store(span) | Event::Write(span) => Some(span.kept_at),
            _ => None,
        };
        let first = self.events[mark..].iter().find_map(begin);
        first.map_or(self.bytes.len(), |first| first - self.before)
    }

    /// The events from the `mark`-th on, which are no part of this one any more.
    pub(super) fn split_off(&mut self, mark: usize) -> Trace {
        let from = self.bytes_from(mark);
        Trace {
            events: self.events.split_off(mark),
            bytes: self.bytes.split_off(from),
            before: self.before + from,
        }
    }

    /// A number for the events from the `mark`-th on and their bytes.
    pub(crate) fn digest(&self, mark: usize) -> u64 {
        let number = |event: &Event| match event {
            Event::Store(span) => [1, span.at, span.len as u64],
            Event::Write(span) => [2, span.at, span.len as u64],
            Event::Flush { at, len } => [3, *at, *len],
            Event::Persisted { at, len } => [4, *at, *len],
            Event::Grow { from, to } => [5, *from, *to],
            Event::Fence => [6, 0, 0],
            Event::Sync => [7, 0, 0],
            Event::BeginSync => [8, 0, 0],
            Event::EndSync => [9, 0, 0],
            Event::Applied => [10, 0, 0],
            Event::Commit => [11, 0, 0],
            Event::Synced => [12, 0, 0],
        };
        let events = self.events[mark..].iter().flat_map(number);
        events.fold(xxh3_64(&self.bytes[self.bytes_from(mark)..]), mix)
    }

    pub(super) fn truncate(&mut self, mark: usize) {
        let from = self.bytes_from(mark);
        self.events.truncate(mark);
        self.bytes.truncate(from);
    }
}
