//! What may survive of the stores that nothing has ordered yet.

use std::collections::BTreeMap;

use super::sim::{Event, Sim};

/// What survives a crash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Survives {
    /// M1: the stores up to some word, in the order of the program: a process dies.
    Prefix,
    /// M2: of each 64-byte line, some prefix of its stores since the last fence.
    Lines,
    /// M3: of each 8-byte chunk, some prefix of its stores since the last fence.
    Chunks,
    /// M4: of each sector of each page, some version since the last fence, which is a
    /// sync here; and the file is of any length between the old and the new.
    Pages,
    /// M4 with fences that order nothing, as where durability is `process`: a sync alone
    /// does. The region promises only what it was synced or closed with.
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

    /// Whether the event makes everything before it last.
    pub(crate) fn settles(self, event: &Event) -> bool {
        match event {
            Event::Fence => self != Survives::Closing,
            Event::Sync => true,
            _ => false,
        }
    }

    /// Whether the file's length may be any between the old and the new.
    pub(crate) fn any_length(self) -> bool {
        matches!(self, Survives::Pages | Survives::Closing)
    }
}

/// The words stored since the last fence, in order, by their unit.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) units: BTreeMap<u64, Vec<(u64, [u8; 8])>>,
    pub(crate) grown: Option<u64>,
}

impl Pending {
    /// Notes what an event stores; nothing of it is sure yet.
    pub(crate) fn note(&mut self, event: &Event, survives: Survives) {
        match event {
            Event::Store { at, new, .. } => {
                for (word, bytes) in new.chunks_exact(8).enumerate() {
                    let at = at + word as u64 * 8;
                    let mut word = [0; 8];
                    word.copy_from_slice(bytes);
                    let unit = self.units.entry(at / survives.unit()).or_default();
                    unit.push((at, word));
                }
            }
            Event::Grow { to, .. } => self.grown = Some(*to),
            _ => {}
        }
    }

    /// Everything noted is on the medium.
    pub(crate) fn settle(&mut self, disk: &mut Sim) {
        for (at, bytes) in std::mem::take(&mut self.units).into_values().flatten() {
            disk.raw(at, &bytes);
        }
        if let Some(len) = self.grown.take() {
            disk.len = len;
        }
    }
}

/// Carries out an event on a medium where the order of the program is kept.
pub(crate) fn carry_out(event: &Event, disk: &mut Sim) {
    match event {
        Event::Store { at, new, .. } => disk.raw(*at, new),
        Event::Grow { to, .. } => disk.len = *to,
        _ => {}
    }
}
