//! The handle that a library holds, and the dummy that can be put behind it.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::Arc;

use neurath_abi::{Ref, RegionOps, RegionSlot, SegmentView, Status};

/// A slot that a library reaches a region through. New handles lead to a dummy:
/// a region without segments, whose every change answers [`Status::DUMMY`].
///
/// Clones share the slot.
#[derive(Clone, Debug)]
pub struct Handle {
    slot: Arc<Slot>,
}

#[derive(Debug)]
struct Slot(UnsafeCell<RegionSlot>);

// SAFETY: the slot is read and written only by the thread that runs the instance's
// calls, or by its owner between two calls; both are handed from thread to thread
// through synchronised channels.
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}

impl Default for Handle {
    fn default() -> Self {
        Self::new()
    }
}

impl Handle {
    /// A handle to a dummy.
    pub fn new() -> Handle {
        let slot = RegionSlot {
            ops: &raw const DUMMY,
            owner: std::ptr::null_mut(),
            segments: std::ptr::null(),
            segment_count: 0,
            dirty: 0,
            root: Ref::NULL,
        };
        Handle {
            slot: Arc::new(Slot(UnsafeCell::new(slot))),
        }
    }

    /// The slot, for a call into the library. Valid as long as a clone of this lives.
    pub fn slot(&self) -> *const RegionSlot {
        self.slot.0.get()
    }

    /// Whether a dummy is behind it.
    pub fn is_dummy(&self) -> bool {
        self.with(|slot| std::ptr::eq(slot.ops, &raw const DUMMY))
    }

    fn with<R>(&self, change: impl FnOnce(&mut RegionSlot) -> R) -> R {
        // SAFETY: see `Slot`: nobody else uses it at this moment, and `change` is one
        // of the few lines of this module, which do not come back here.
        change(unsafe { &mut *self.slot.0.get() })
    }

    pub(crate) fn point_at(&self, ops: *const RegionOps, owner: *mut c_void) {
        self.with(|slot| {
            slot.ops = ops;
            slot.owner = owner;
            slot.dirty = 0;
        });
    }

    pub(crate) fn point_at_dummy(&self) {
        self.with(|slot| {
            slot.ops = &raw const DUMMY;
            slot.owner = std::ptr::null_mut();
            slot.segments = std::ptr::null();
            slot.segment_count = 0;
            slot.dirty = 0;
            slot.root = Ref::NULL;
        });
    }

    pub(crate) fn show(&self, segments: &[SegmentView], root: Ref) {
        self.show_segments(segments);
        self.with(|slot| slot.root = root);
    }

    /// Tells where the segments are, the root being as it was.
    pub(crate) fn show_segments(&self, segments: &[SegmentView]) {
        self.with(|slot| {
            slot.segments = segments.as_ptr();
            slot.segment_count = segments.len() as u64;
        });
    }

    pub(crate) fn mark_dirty(&self, object: Ref, offset: u64, len: u64) {
        self.with(|slot| {
            let lines = offset / 64..=(offset + len.max(1) - 1) / 64;
            if lines.end() - lines.start() >= 64 {
                slot.dirty = u64::MAX;
            } else {
                lines.for_each(|line| slot.dirty |= RegionSlot::line_bit(object, line));
            }
        });
    }

    pub(crate) fn clean(&self) {
        self.with(|slot| slot.dirty = 0);
    }
}

static DUMMY: RegionOps = RegionOps {
    size: size_of::<RegionOps>() as u32,
    alloc: dummy_alloc,
    free: dummy_free,
    write: dummy_write,
    read: dummy_read,
    fresh: dummy_fresh,
};

unsafe extern "C" fn dummy_alloc(_: *mut c_void, _: u64, _: u64, _: *mut Ref) -> Status {
    Status::DUMMY
}

unsafe extern "C" fn dummy_free(_: *mut c_void, _: Ref, _: u64) -> Status {
    Status::DUMMY
}

unsafe extern "C" fn dummy_write(
    _: *mut c_void,
    _: Ref,
    _: u64,
    _: u64,
    _: *const u8,
    _: u64,
) -> Status {
    Status::DUMMY
}

unsafe extern "C" fn dummy_read(
    _: *mut c_void,
    _: Ref,
    _: u64,
    _: u64,
    _: *mut u8,
    _: u64,
) -> Status {
    Status::DUMMY
}

unsafe extern "C" fn dummy_fresh(
    _: *mut c_void,
    _: Ref,
    _: u64,
    _: *mut *const u8,
    _: *mut u64,
) -> Status {
    Status::DUMMY
}
