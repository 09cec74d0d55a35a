//! The timers of a shard's instances. They are the node's, so that they outlive a version.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Timers by instance and id.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    due: BTreeSet<(Instant, usize, u64)>,
    by_id: HashMap<(usize, u64), Instant>,
}

impl Timers {
    /// Sets a timer, in place of the one of the same id.
    pub(crate) fn set(&mut self, instance: usize, id: u64, at: Instant) {
        if let Some(before) = self.by_id.insert((instance, id), at) {
            self.due.remove(&(before, instance, id));
        }
        self.due.insert((at, instance, id));
    }

    /// Forgets the timers of an instance that leaves; those behind it move up by one place.
    pub(crate) fn remove(&mut self, gone: usize) {
        let place = |at: usize| (at != gone).then(|| if at > gone { at - 1 } else { at });
        let due = std::mem::take(&mut self.due).into_iter();
        let moved = due.filter_map(|(when, at, id)| Some((when, place(at)?, id)));
        self.due = moved.collect();
        let by_id = self.due.iter().map(|&(when, at, id)| ((at, id), when));
        self.by_id = by_id.collect();
    }

    /// Forgets the timers of an instance that stays.
    pub(crate) fn forget(&mut self, instance: usize) {
        self.due.retain(|(_, at, _)| *at != instance);
        self.by_id.retain(|(at, _), _| *at != instance);
    }

    /// All of them: when, whose, and which.
    pub(super) fn all(&self) -> impl Iterator<Item = (Instant, usize, u64)> + '_ {
        self.due.iter().copied()
    }

    /// When the next one goes off.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, ..)| *at)
    }

    /// Takes one that is due.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(usize, u64)> {
        let &(at, instance, id) = self.due.first().filter(|(at, ..)| *at <= now)?;
        self.due.remove(&(at, instance, id));
        self.by_id.remove(&(instance, id));
        Some((instance, id))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_timer_set_again_goes_off_once() {
        let mut timers = Timers::default();
        let now = Instant::now();
        timers.set(0, 1, now + Duration::from_secs(1));
        timers.set(0, 1, now);
        timers.set(1, 1, now + Duration::from_secs(2));
        assert_eq!(timers.take_due(now), Some((0, 1)));
        assert_eq!(timers.take_due(now), None);
        assert_eq!(timers.next(), Some(now + Duration::from_secs(2)));
    }

    #[test]
    fn whose_timers_are_forgotten_is_not_called() {
        let mut timers = Timers::default();
        let now = Instant::now();
        for instance in 0..2 {
            timers.set(instance, 7, now);
        }
        timers.forget(0);
        assert_eq!(timers.take_due(now), Some((1, 7)));
        assert_eq!(timers.take_due(now), None);
        timers.set(0, 7, now);
        assert_eq!(timers.take_due(now), Some((0, 7)));
    }

    #[test]
    fn who_leaves_takes_its_timers_along() {
        let mut timers = Timers::default();
        let now = Instant::now();
        for instance in 0..3 {
            timers.set(instance, 7, now);
        }
        timers.remove(1);
        assert_eq!(timers.take_due(now), Some((0, 7)));
        assert_eq!(timers.take_due(now), Some((1, 7)));
        assert_eq!(timers.take_due(now), None);
    }
}
