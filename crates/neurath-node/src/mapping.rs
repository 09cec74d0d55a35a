//! How a library reaches a region: the only unsafe code of the node beside the loader.
//!
//! An instance that serves messages reaches its region directly, through [`Attached`]. A
//! call on a throwaway thread (`init`, `quiesce`, …) goes through a [`Gate`]: such a thread
//! may overrun its deadline and be left behind, and must not reach the region then.

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use neurath_abi::{Ref, RegionOps, RegionSlot, SegmentView, Status};
use neurath_pmem::Handle;

use crate::loader::RegionSource;

/// An instance's own handle: its region, or a dummy.
#[derive(Clone, Debug, Default)]
pub struct Attached(Handle);

impl Attached {
    /// A handle to a dummy.
    pub fn new() -> Attached {
        Attached::default()
    }

    /// The handle, to be attached to a region.
    pub fn handle(&self) -> &Handle {
        &self.0
    }
}

// SAFETY: the handle's slot lives as long as the handle. What it points at is changed by
// the region's owner only, which is the thread that makes the calls or one that it was
// handed over from, never during a call.
unsafe impl RegionSource for Attached {
    fn slot(&self) -> *const RegionSlot {
        self.0.slot()
    }
}

/// A door to a region for one throwaway thread. Once closed, whoever still stands on the
/// other side meets a dummy.
#[derive(Clone, Debug)]
pub struct Gate(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// The handle of the region while the gate is open.
    target: Mutex<Option<Handle>>,
    /// What the library reads. Written by the gate's functions only, which run on the
    /// library's own thread, and once before that thread begins.
    slot: UnsafeCell<RegionSlot>,
    /// Copies of the region's segment views, all of them: a thread left behind may still
    /// look at an older one. They lead into a mapping that `keep` keeps.
    views: Mutex<Vec<Arc<[SegmentView]>>>,
    /// Keeps the region's memory mapped for as long as somebody holds the gate.
    _keep: Option<neurath_pmem::region::Mapping>,
}

// SAFETY: `slot` is used by one library thread at a time, as said above; its pointers lead
// to memory that the other fields own.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Gate {
    /// A gate to the region that `handle` is attached to. The region's owner leaves the
    /// region alone until it has closed the gate.
    pub fn open(handle: &Handle, keep: neurath_pmem::region::Mapping) -> Gate {
        Self::make(Some(handle.clone()), Some(keep))
    }

    /// A gate to a dummy.
    pub fn to_dummy() -> Gate {
        Self::make(None, None)
    }

    fn make(target: Option<Handle>, keep: Option<neurath_pmem::region::Mapping>) -> Gate {
        let gate = Gate(Arc::new(Inner {
            target: Mutex::new(target),
            slot: UnsafeCell::new(RegionSlot {
                ops: &raw const OPS,
                owner: std::ptr::null_mut(),
                segments: std::ptr::null(),
                segment_count: 0,
                dirty: 0,
                root: Ref::NULL,
            }),
            views: Mutex::new(Vec::new()),
            _keep: keep,
        }));
        // SAFETY: nobody else has the gate yet.
        unsafe { (*gate.0.slot.get()).owner = Arc::as_ptr(&gate.0).cast_mut().cast() };
        if let Some(handle) = &*gate.0.lock() {
            gate.0.follow(handle);
        }
        gate
    }

    /// Closes the gate, and waits for a function of it that is running.
    pub fn close(&self) {
        *self.0.lock() = None;
    }
}

// SAFETY: the slot and what it points at live in the gate's shared part, which the calling
// thread keeps through its clone of the gate.
unsafe impl RegionSource for Gate {
    fn slot(&self) -> *const RegionSlot {
        self.0.slot.get()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Option<Handle>> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the library see what the region's own handle shows.
    fn follow(&self, handle: &Handle) {
        // SAFETY: the region's owner leaves it alone while the gate is open, and the lock,
        // which the caller holds, keeps the gate open.
        let seen = unsafe { handle.slot().read() };
        let mut kept = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.segment_count > 0 {
            // SAFETY: the region keeps so many views there.
            let views =
                unsafe { std::slice::from_raw_parts(seen.segments, seen.segment_count as usize) };
            let same = |a: &SegmentView, b: &SegmentView| {
                a.base == b.base && a.type_id == b.type_id && a.object_size == b.object_size
            };
            let known = kept.last().is_some_and(|last| {
                last.len() == views.len() && last.iter().zip(views).all(|(a, b)| same(a, b))
            });
            if !known {
                kept.push(views.into());
            }
        }
        let views = kept.last().map_or(&[][..], |last| &last[..]);
        // SAFETY: on the library's own thread, inside one of the gate's functions, or before
        // that thread has begun.
        let slot = unsafe { &mut *self.slot.get() };
        slot.segments = views.as_ptr();
        slot.segment_count = views.len() as u64;
        slot.dirty = seen.dirty;
        slot.root = seen.root;
    }

    /// Runs a function of the region's own, if the gate is open.
    fn through(&self, run: impl FnOnce(&RegionOps, *mut c_void) -> Status) -> Status {
        let target = self.lock();
        let Some(handle) = &*target else {
            return Status::DUMMY;
        };
        // SAFETY: a handle's slot is always readable, and its table is static.
        let (ops, owner) = unsafe {
            let slot = &*handle.slot();
            (&*slot.ops, slot.owner)
        };
        let status = run(ops, owner);
        self.follow(handle);
        status
    }
}

static OPS: RegionOps = RegionOps {
    size: size_of::<RegionOps>() as u32,
    alloc,
    free,
    write,
    read,
    fresh,
};

/// The gate behind a slot's owner.
///
/// # Safety
///
/// `owner` is a gate's, and somebody holds a clone of it.
unsafe fn inner<'a>(owner: *mut c_void) -> &'a Inner {
    // SAFETY: the caller vouches for it.
    unsafe { &*owner.cast_const().cast::<Inner>() }
}

unsafe extern "C" fn alloc(owner: *mut c_void, type_id: u64, size: u64, out: *mut Ref) -> Status {
    // SAFETY: called through the gate's slot, with the library's own variable.
    unsafe { inner(owner).through(|ops, region| (ops.alloc)(region, type_id, size, out)) }
}

unsafe extern "C" fn free(owner: *mut c_void, object: Ref, type_id: u64) -> Status {
    // SAFETY: called through the gate's slot.
    unsafe { inner(owner).through(|ops, region| (ops.free)(region, object, type_id)) }
}

unsafe extern "C" fn write(
    owner: *mut c_void,
    object: Ref,
    type_id: u64,
    offset: u64,
    bytes: *const u8,
    len: u64,
) -> Status {
    // SAFETY: called through the gate's slot, with the library's own bytes.
    unsafe {
        inner(owner).through(|ops, region| (ops.write)(region, object, type_id, offset, bytes, len))
    }
}

unsafe extern "C" fn read(
    owner: *mut c_void,
    object: Ref,
    type_id: u64,
    offset: u64,
    out: *mut u8,
    len: u64,
) -> Status {
    // SAFETY: called through the gate's slot, with the library's own buffer.
    unsafe {
        inner(owner).through(|ops, region| (ops.read)(region, object, type_id, offset, out, len))
    }
}

unsafe extern "C" fn fresh(
    owner: *mut c_void,
    object: Ref,
    type_id: u64,
    out: *mut *const u8,
    len: *mut u64,
) -> Status {
    // SAFETY: called through the gate's slot, with the library's own variables.
    unsafe { inner(owner).through(|ops, region| (ops.fresh)(region, object, type_id, out, len)) }
}
