//! Figures that the node counts, readable from every thread.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use neurath_abi::InfoKey;

use crate::handover::record::FiguresRecord;
use crate::journal::Verdict;

/// What is counted.
#[derive(Debug)]
pub(crate) struct Figures {
    started: Instant,
    pub(crate) connections: AtomicU64,
    pub(crate) connections_total: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) port: AtomicU64,
    /// How often a listening socket has come or gone.
    pub(crate) listened: AtomicU64,
    /// How often a component has failed.
    pub(crate) failures: AtomicU64,
    /// How long messages waited for the last upgrade or way back, in microseconds; 0 before the first.
    pub(crate) last_stop_us: AtomicU64,
    /// Operations that have ended in this process, by name and verdict.
    ended: Mutex<BTreeMap<(String, Verdict), u64>>,
}

impl Figures {
    pub(crate) fn new() -> Figures {
        Figures {
            started: Instant::now(),
            connections: AtomicU64::new(0),
            connections_total: AtomicU64::new(0),
            messages: AtomicU64::new(0),
            port: AtomicU64::new(0),
            listened: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_stop_us: AtomicU64::new(0),
            ended: Mutex::default(),
        }
    }

    /// Goes on counting where the node before in this process has left off.
    pub(crate) fn going_on(record: &FiguresRecord) -> Figures {
        let before = Duration::from_micros(record.uptime_us);
        let now = Instant::now();
        Figures {
            started: now.checked_sub(before).unwrap_or(now),
            connections_total: AtomicU64::new(record.connections_total),
            messages: AtomicU64::new(record.messages),
            ..Figures::new()
        }
    }

    /// Counts the end of an operation, by its id: name, dash, number.
    pub(crate) fn count_end(&self, id: &str, verdict: Verdict) {
        let name = id.rsplit_once('-').map_or(id, |(name, _)| name);
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        *ended.entry((name.to_owned(), verdict)).or_default() += 1;
    }

    /// How many operations have ended, by name and verdict.
    pub(crate) fn ended(&self) -> BTreeMap<(String, Verdict), u64> {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.clone()
    }

    pub(crate) fn uptime_us(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    pub(crate) fn get(&self, key: InfoKey) -> u64 {
        match key {
            InfoKey::UPTIME_US => self.uptime_us(),
            InfoKey::CONNECTIONS => self.connections.load(Ordering::Relaxed),
            InfoKey::CONNECTIONS_TOTAL => self.connections_total.load(Ordering::Relaxed),
            InfoKey::PROCESS_ID => std::process::id().into(),
            InfoKey::PORT => self.port.load(Ordering::Relaxed),
            InfoKey::RANDOM => random(),
            _ => 0,
        }
    }
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}
