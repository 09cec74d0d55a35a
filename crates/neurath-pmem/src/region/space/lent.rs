//! A copy of the segments' views for whoever reaches the region by way of another thread, which may be
//! left behind with it: the region's own views move and change.
//!
//! The copy is made once, piece by piece if there is time, and comes back; afterwards only what has changed is
//! copied. So that to lend it takes no longer in a larger region.

use std::sync::atomic::{AtomicU64, Ordering};

use neurath_abi::SegmentView;

/// So many changes are noted, and one for each [`Lent::PER_CHANGE`] views: beyond, to copy all is as good.
const CHANGES: usize = 1024;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Lent {
    /// The views as they were, but for those that have changed. None before somebody asks, and
    /// while it is lent.
    copy: Option<Vec<SegmentView>>,
    /// Whether the last copy that was lent may come back.
    lent: bool,
    /// The number of that copy.
    last: u64,
    /// The views that have changed since.
    changed: Vec<u32>,
    /// Whether more have changed than are noted: nothing of the copy is of use but its room.
    stale: bool,
}

/// The number of the next copy, of whatever region: so that none is taken for another's.
static NEXT: AtomicU64 = AtomicU64::new(1);

impl Lent {
    const PER_CHANGE: usize = 16;

    /// Notes that a view is another one now, of so many.
    pub(super) fn note(&mut self, number: u32, views: usize) {
        if self.stale || (self.copy.is_none() && !self.lent) {
            return;
        }
        if self.changed.len() >= CHANGES + views / Self::PER_CHANGE {
            self.stale = true;
            return;
        }
        self.changed.push(number);
    }

    /// Copies so many views at most that are not copied yet; whether all are. One that is still lent does not come
    /// back: somebody was left behind with it.
    pub(super) fn prepare(&mut self, views: &[SegmentView], most: usize) -> bool {
        let lost = std::mem::take(&mut self.lent);
        if std::mem::take(&mut self.stale) || lost {
            self.changed.clear();
            self.copy.iter_mut().for_each(Vec::clear);
        }
        let copy = self
            .copy
            .get_or_insert_with(|| Vec::with_capacity(views.len() + views.len() / 2 + 16));
        let missing = views.get(copy.len()..).unwrap_or_default();
        copy.extend_from_slice(&missing[..missing.len().min(most)]);
        copy.len() >= views.len()
    }

    /// A copy of the views as they are now, and its number.
    pub(super) fn lend(&mut self, views: &[SegmentView]) -> (u64, Vec<SegmentView>) {
        self.prepare(views, usize::MAX);
        let mut copy = self.copy.take().unwrap_or_default();
        copy.truncate(views.len());
        for number in self.changed.drain(..) {
            if let Some(view) = views.get(number as usize) {
                copy[number as usize] = *view;
            }
        }
        self.lent = true;
        self.last = NEXT.fetch_add(1, Ordering::Relaxed);
        (self.last, copy)
    }

    /// A copy comes back. It is of use if it is the last one.
    pub(super) fn give_back(&mut self, number: u64, copy: Vec<SegmentView>) {
        if self.lent && self.last == number {
            self.lent = false;
            self.copy = Some(copy);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn view(what: u64) -> SegmentView {
        SegmentView {
            base: std::ptr::null(),
            object_size: 8,
            capacity: 1,
            type_id: what,
        }
    }

    fn types(views: &[SegmentView]) -> Vec<u64> {
        views.iter().map(|view| view.type_id).collect()
    }

    #[test]
    fn what_has_come_back_is_not_copied_again() {
        let mut views: Vec<SegmentView> = (0..100).map(view).collect();
        let mut lent = Lent::default();
        for done in [false, false, false, true] {
            assert_eq!(lent.prepare(&views, 25), done);
        }
        let (number, copy) = lent.lend(&views);
        let place = copy.as_ptr();
        views[7] = view(700);
        lent.note(7, views.len());
        lent.give_back(number, copy);
        let (_, copy) = lent.lend(&views);
        assert_eq!((copy.as_ptr(), types(&copy)), (place, types(&views)));
        // It does not come back: whoever asks next gets another.
        let (_, other) = lent.lend(&views);
        assert_ne!(other.as_ptr(), place);
        assert_eq!(types(&other), types(&views));
    }

    #[derive(Clone, Debug)]
    enum Did {
        Push(u64),
        Pop,
        Change(prop::sample::Index, u64),
        Prepare(usize),
        Lend,
        /// One of those that were lent.
        GiveBack(prop::sample::Index),
        ChangeManyTimes,
    }

    fn did() -> impl Strategy<Value = Did> {
        prop_oneof![
            4 => any::<u64>().prop_map(Did::Push),
            1 => Just(Did::Pop),
            4 => any::<(prop::sample::Index, u64)>().prop_map(|(at, to)| Did::Change(at, to)),
            2 => (0usize..8).prop_map(Did::Prepare),
            3 => Just(Did::Lend),
            3 => any::<prop::sample::Index>().prop_map(Did::GiveBack),
            1 => Just(Did::ChangeManyTimes),
        ]
    }

    proptest! {
        #[test]
        fn what_is_lent_is_what_the_views_are(all in prop::collection::vec(did(), 0..60)) {
            let mut views = Vec::new();
            let mut lent = Lent::default();
            let mut out = Vec::new();
            for one in all {
                match one {
                    Did::Push(what) => {
                        views.push(view(what));
                        lent.note(views.len() as u32 - 1, views.len());
                    }
                    Did::Pop => {
                        views.pop();
                    }
                    Did::Change(at, to) if !views.is_empty() => {
                        let at = at.index(views.len());
                        views[at] = view(to);
                        lent.note(at as u32, views.len());
                    }
                    Did::Change(..) => {}
                    Did::Prepare(most) => {
                        lent.prepare(&views, most);
                    }
                    Did::Lend => {
                        let (number, copy) = lent.lend(&views);
                        prop_assert_eq!(types(&copy), types(&views));
                        out.push((number, copy));
                    }
                    Did::GiveBack(which) if !out.is_empty() => {
                        let (number, copy) = out.swap_remove(which.index(out.len()));
                        lent.give_back(number, copy);
                    }
                    Did::GiveBack(_) => {}
                    Did::ChangeManyTimes => {
                        for number in 0..2 * CHANGES as u32 {
                            lent.note(number, views.len());
                        }
                        prop_assert!(lent.changed.len() <= CHANGES + views.len());
                    }
                }
            }
        }
    }
}
