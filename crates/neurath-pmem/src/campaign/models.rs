//! What may survive of the stores that nothing has ordered yet.

use std::collections::BTreeMap;

use super::sim::Sim;
use super::trace::{Event, Trace};
use crate::region::Backend;

/// What survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Survives {
    /// M1: the stores up to some word, in the order of the program: a process dies.
    Prefix,
    /// M2: of each 64-byte line, some prefix of its stores. What was flushed before a fence
    /// is sure after it.
    Lines,
    /// M3: of each 8-byte chunk, some prefix of its stores. What was flushed before a fence
    /// is sure after it.
    Chunks,
    /// M4: of each sector of each page, some version of those written since it was last waited
    /// for; the file is of any length between the old and the new. What was not written is lost.
    Pages,
    /// The same with stores that the kernel writes when it likes, and fences that order
    /// nothing, as where durability is `process`: a sync alone does. The region promises only
    /// what it was synced or closed with.
    Closing,
}

impl Survives {
    pub(crate) const ALL: [Survives; 5] = [
        Survives::Prefix,
        Survives::Lines,
        Survives::Chunks,
        Survives::Pages,
        Survives::Closing,
    ];

    /// Bytes of which a prefix of the stores survives.
    pub(crate) fn unit(self) -> u64 {
        match self {
            Survives::Prefix | Survives::Chunks => 8,
            Survives::Lines => 64,
            Survives::Pages | Survives::Closing => 512,
        }
    }

    /// What the region is made durable by.
    pub(crate) fn backend(self) -> Backend {
        match self {
            Survives::Prefix | Survives::Closing => Backend::Process,
            Survives::Lines | Survives::Chunks => Backend::Line,
            Survives::Pages => Backend::Page,
        }
    }

    /// Whether the event makes some of what is pending sure.
    pub(crate) fn settles(self, event: &Event) -> bool {
        match event {
            Event::Fence => self != Survives::Closing,
            Event::Sync | Event::Persisted { .. } | Event::EndSync => true,
            _ => false,
        }
    }

    /// Whether the file's length may be any between the old and the new.
    pub(crate) fn any_length(self) -> bool {
        matches!(self, Survives::Pages | Survives::Closing)
    }
}

/// A word on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Word {
    pub(crate) at: u64,
    pub(crate) bytes: [u8; 8],
    /// The next fence or the end of a sync waits for it.
    awaited: bool,
    /// It went by way of the page cache, where a fence waits for nothing that was not written.
    cached: bool,
}

/// The words that may or may not be on the medium, in order, by their unit.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    pub(crate) units: BTreeMap<u64, Vec<Word>>,
    pub(crate) grown: Option<u64>,
    /// How long the file was when a sync began.
    grown_at_begin: Option<u64>,
}

impl Pending {
    /// The same, after the death of who waited for any of it.
    pub(crate) fn forgotten(&self) -> Pending {
        let mut pending = self.clone();
        for word in pending.units.values_mut().flatten() {
            word.awaited = false;
        }
        pending
    }

    /// Notes what an event does; nothing of it is sure yet. `disk` is what is sure.
    pub(crate) fn note(&mut self, event: &Event, trace: &Trace, survives: Survives, disk: &Sim) {
        let held_back = survives.backend() == Backend::Page;
        match event {
            Event::Store(span) if !held_back => {
                self.add(span.at, trace.stored(span), survives, None);
            }
            Event::Write(span) => self.add(span.at, trace.written(span), survives, Some(disk)),
            Event::Flush { at, len } => {
                let unit = survives.unit();
                let range = at / unit..(at + len).div_ceil(unit);
                for (_, words) in self.units.range_mut(range) {
                    let flushed = |word: &&mut Word| (*at..at + len).contains(&word.at);
                    words
                        .iter_mut()
                        .filter(flushed)
                        .for_each(|word| word.awaited = true);
                }
            }
            Event::BeginSync => {
                for word in self.units.values_mut().flatten() {
                    word.awaited = true;
                }
                self.grown_at_begin = self.grown;
            }
            Event::Grow { to, .. } => self.grown = Some(*to),
            _ => {}
        }
    }

    fn add(&mut self, at: u64, new: &[u8], survives: Survives, disk: Option<&Sim>) {
        for (number, bytes) in new.chunks_exact(8).enumerate() {
            let at = at + number as u64 * 8;
            let mut word = [0; 8];
            word.copy_from_slice(bytes);
            if let Some(disk) = disk {
                // Writing what is there makes no new version.
                let unit = self.units.get(&(at / survives.unit()));
                let newest = unit.and_then(|unit| unit.iter().rev().find(|other| other.at == at));
                let there = match newest {
                    Some(newest) => newest.bytes == word,
                    None => disk.peek(at) == word,
                };
                if there {
                    continue;
                }
            }
            let unit = self.units.entry(at / survives.unit()).or_default();
            unit.push(Word {
                at,
                bytes: word,
                awaited: false,
                cached: disk.is_none() && survives == Survives::Closing,
            });
        }
    }

    /// What the event has waited for is on the medium.
    pub(crate) fn settle(&mut self, event: &Event, survives: Survives, disk: &mut Sim) {
        let by_lines = survives.backend() == Backend::Line;
        let sure = |word: &Word| match event {
            Event::Fence if by_lines => word.awaited,
            Event::EndSync => word.awaited,
            Event::Fence => !word.cached,
            Event::Persisted { at, len } => (*at..at + len).contains(&word.at),
            _ => true,
        };
        self.units.retain(|_, words| {
            words.retain(|word| {
                if sure(word) {
                    disk.raw(word.at, &word.bytes);
                }
                !sure(word)
            });
            !words.is_empty()
        });
        let grown = match event {
            // A fence of the processor's does not wait for the file system.
            Event::Fence if by_lines => None,
            Event::Persisted { .. } => None,
            Event::EndSync => self.grown_at_begin.take(),
            _ => self.grown,
        };
        if let Some(len) = grown {
            disk.len = len;
            self.grown = self.grown.filter(|&grown| grown > len);
        }
    }
}

/// Carries out an event on a medium where the order of the program is kept.
pub(crate) fn carry_out(event: &Event, trace: &Trace, disk: &mut Sim) {
    match event {
        Event::Store(span) => disk.raw(span.at, trace.stored(span)),
        Event::Grow { to, .. } => disk.len = *to,
        _ => {}
    }
}
