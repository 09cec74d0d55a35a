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
use neurath_pmem::region::{Mapping, Region};

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
    views: Mutex<Copies>,
    /// Keeps the region's memory mapped for as long as somebody holds the gate.
    _keep: Option<Mapping>,
}

/// Copies of segment views, the current one last. Each has room to grow: only one that is full is
/// copied, into twice the room.
#[derive(Debug, Default)]
struct Copies {
    all: Vec<Vec<SegmentView>>,
    /// What the region knows the first one by.
    number: Option<u64>,
    /// Views that were copied so far.
    #[cfg(test)]
    copied: usize,
}

impl Copies {
    /// With what a region has lent.
    fn of(number: u64, views: Vec<SegmentView>) -> Copies {
        Copies {
            all: vec![views],
            number: Some(number),
            #[cfg(test)]
            copied: 0,
        }
    }

    /// Takes over all views.
    fn take_all(&mut self, views: &[SegmentView]) {
        let mut copy = Vec::with_capacity(views.len() + views.len() / 2 + 16);
        copy.extend_from_slice(views);
        self.count(views.len());
        self.all.push(copy);
    }

    /// Takes over the view of one segment, the one in which an object was made: no other can have
    /// changed.
    fn take_one(&mut self, views: &[SegmentView], number: usize) {
        let known = self.all.last().map_or(0, Vec::len);
        match self.all.last_mut() {
            Some(copy) if number < known && known == views.len() => {
                copy[number] = views[number];
                self.count(1);
            }
            Some(copy) if views.len() > known && views.len() <= copy.capacity() => {
                copy.extend_from_slice(&views[known..]);
                if number < known {
                    copy[number] = views[number];
                }
                self.count(views.len() - known);
            }
            _ => self.take_all(views),
        }
    }

    /// Takes over the view of one segment if it has changed: its objects may have been converted
    /// to another type.
    fn take_changed(&mut self, views: &[SegmentView], number: usize) {
        let known = self.all.last().and_then(|copy| copy.get(number));
        let (Some(known), Some(now)) = (known, views.get(number)) else {
            return;
        };
        if known.base != now.base || known.type_id != now.type_id {
            self.take_one(views, number);
        }
    }

    fn count(&mut self, views: usize) {
        #[cfg(test)]
        {
            self.copied += views;
        }
        let _ = views;
    }

    fn current(&self) -> &[SegmentView] {
        self.all.last().map_or(&[], Vec::as_slice)
    }
}

// SAFETY: `slot` is used by one library thread at a time, as said above; its pointers lead
// to memory that the other fields own.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Gate {
    /// A gate to `region`, which `handle` is attached to. The region's owner leaves the
    /// region alone until it has closed the gate.
    pub fn open(handle: &Handle, region: &mut Region) -> Gate {
        let (number, views) = region.lend_views();
        let copies = Copies::of(number, views);
        Self::make(Some(handle.clone()), Some(region.mapping()), copies)
    }

    /// A gate to a dummy.
    pub fn to_dummy() -> Gate {
        Self::make(None, None, Copies::default())
    }

    fn make(target: Option<Handle>, keep: Option<Mapping>, copies: Copies) -> Gate {
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
            views: Mutex::new(copies),
            _keep: keep,
        }));
        // SAFETY: nobody else has the gate yet.
        unsafe { (*gate.0.slot.get()).owner = Arc::as_ptr(&gate.0).cast_mut().cast() };
        if let Some(handle) = &*gate.0.lock() {
            gate.0.follow(handle, |_, _| {});
        }
        gate
    }

    /// Closes the gate, and waits for a function of it that is running.
    pub fn close(&self) {
        *self.0.lock() = None;
    }

    /// Closes the gate to `region`, and returns what was copied of it, unless a thread was left behind.
    pub fn end(self, region: &mut Region) {
        self.close();
        if let Some(inner) = Arc::into_inner(self.0) {
            let copies = inner.views.into_inner();
            let copies = copies.unwrap_or_else(PoisonError::into_inner);
            if let (Some(number), Some(views)) = (copies.number, copies.all.into_iter().next_back())
            {
                region.return_views(number, views);
            }
        }
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

    /// Makes the library see what the region's own handle shows; `take` is given the views.
    fn follow(&self, handle: &Handle, take: impl FnOnce(&mut Copies, &[SegmentView])) {
        // SAFETY: the region's owner leaves it alone while the gate is open, and the lock,
        // which the caller holds, keeps the gate open.
        let seen = unsafe { handle.slot().read() };
        let mut copies = self.views.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.segment_count > 0 {
            // SAFETY: the region keeps so many views there.
            let views =
                unsafe { std::slice::from_raw_parts(seen.segments, seen.segment_count as usize) };
            take(&mut copies, views);
        }
        let views = copies.current();
        // SAFETY: on the library's own thread, inside one of the gate's functions, or before
        // that thread has begun.
        let slot = unsafe { &mut *self.slot.get() };
        slot.segments = views.as_ptr();
        slot.segment_count = views.len() as u64;
        slot.dirty = seen.dirty;
        slot.root = seen.root;
    }

    /// Runs a function of the region's own, if the gate is open. It changes no view but that of the
    /// object's segment.
    fn through(&self, object: Ref, run: impl FnOnce(&RegionOps, *mut c_void) -> Status) -> Status {
        let target = self.lock();
        let Some(handle) = &*target else {
            return Status::DUMMY;
        };
        let status = Self::run(handle, run);
        let number = object.segment() as usize;
        self.follow(handle, |copies, views| copies.take_changed(views, number));
        status
    }

    fn run(handle: &Handle, run: impl FnOnce(&RegionOps, *mut c_void) -> Status) -> Status {
        // SAFETY: a handle's slot is always readable, and its table is static.
        let (ops, owner) = unsafe {
            let slot = &*handle.slot();
            (&*slot.ops, slot.owner)
        };
        run(ops, owner)
    }

    /// Makes an object, and takes over the view of its segment.
    fn alloc(&self, type_id: u64, size: u64) -> Result<Ref, Status> {
        let target = self.lock();
        let Some(handle) = &*target else {
            return Err(Status::DUMMY);
        };
        let mut object = Ref::NULL;
        let status = Self::run(handle, |ops, region| {
            // SAFETY: the region's own function, with a variable of this stack.
            unsafe { (ops.alloc)(region, type_id, size, &raw mut object) }
        });
        if !status.is_ok() {
            self.follow(handle, |_, _| {});
            return Err(status);
        }
        let number = object.segment() as usize;
        self.follow(handle, |copies, views| copies.take_one(views, number));
        Ok(object)
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
    unsafe {
        match inner(owner).alloc(type_id, size) {
            Ok(object) => {
                out.write(object);
                Status::OK
            }
            Err(status) => status,
        }
    }
}

unsafe extern "C" fn free(owner: *mut c_void, object: Ref, type_id: u64) -> Status {
    // SAFETY: called through the gate's slot.
    unsafe { inner(owner).through(object, |ops, region| (ops.free)(region, object, type_id)) }
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
        inner(owner).through(object, |ops, region| {
            (ops.write)(region, object, type_id, offset, bytes, len)
        })
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
        inner(owner).through(object, |ops, region| {
            (ops.read)(region, object, type_id, offset, out, len)
        })
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
    unsafe {
        inner(owner).through(object, |ops, region| {
            (ops.fresh)(region, object, type_id, out, len)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use neurath_pmem::region::{Durability, RegionOptions};
    use neurath_pmem::{Pmem, schema};

    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    struct Thing {
        bytes: [u8; 1024],
    }

    const LEN: usize = schema::encoded_len(Thing::SCHEMA);
    static SCHEMA: [u8; LEN] = schema::encode(Thing::SCHEMA);

    /// However many segments there are, a function through a gate looks at one of them at most.
    #[test]
    fn a_function_through_a_gate_costs_the_same_at_any_size() {
        let folder = tempfile::tempdir().unwrap();
        let options = RegionOptions {
            component: "thing".into(),
            instance: 0,
            initial: 64 << 20,
            limit: 256 << 20,
            durability: Durability::Process,
        };
        let path = folder.path().join("region");
        let mut region = Region::create(&path, &options, &SCHEMA).unwrap();
        let handle = Handle::new();
        region.attach(&handle);
        let copied = |gate: &Gate| gate.0.views.lock().unwrap().copied;
        let type_id = Thing::TYPE_ID;
        let size = size_of::<Thing>() as u64;
        // Objects in some hundred segments, made through gates.
        let mut objects = Vec::new();
        for _ in 0..10 {
            let gate = Gate::open(&handle, &mut region);
            let opened = copied(&gate);
            for _ in 0..600 {
                objects.push(gate.0.alloc(type_id, size).expect("there is room"));
            }
            // One for each, and what is copied when the room has to grow.
            assert!(
                copied(&gate) - opened <= 600 + 2 * handle_views(&handle),
                "{}",
                copied(&gate)
            );
            gate.end(&mut region);
            region.commit().unwrap();
        }
        assert!(handle_views(&handle) > 60, "{}", handle_views(&handle));
        // What the last one has given back serves again; what is left behind with somebody does not.
        let place = |gate: &Gate| gate.0.views.lock().unwrap().current().as_ptr();
        let gate = Gate::open(&handle, &mut region);
        let before = place(&gate);
        gate.end(&mut region);
        let left_behind = Gate::open(&handle, &mut region);
        assert_eq!(place(&left_behind), before);
        left_behind.clone().end(&mut region);
        let gate = Gate::open(&handle, &mut region);
        assert_ne!(place(&gate), before);
        let opened = copied(&gate);
        let owner = Arc::as_ptr(&gate.0).cast_mut().cast();
        let bytes = [7u8; 8];
        let mut read = [0u8; 8];
        for object in &objects {
            // SAFETY: the gate is open, and its functions get variables of this test.
            unsafe {
                assert_eq!(
                    write(owner, *object, type_id, 8, bytes.as_ptr(), 8),
                    Status::OK
                );
                assert_eq!(
                    super::read(owner, *object, type_id, 8, read.as_mut_ptr(), 8),
                    Status::OK
                );
            }
            assert_eq!(read, bytes);
        }
        assert_eq!(copied(&gate), opened, "no view was looked at");
        // What the library sees is what the region shows.
        let mine = gate.0.views.lock().unwrap();
        // SAFETY: the region is attached, and nobody else uses it.
        let shown = unsafe {
            let slot = handle.slot().read();
            std::slice::from_raw_parts(slot.segments, slot.segment_count as usize)
        };
        let same = |(a, b): (&SegmentView, &SegmentView)| {
            a.base == b.base && a.type_id == b.type_id && a.object_size == b.object_size
        };
        assert_eq!(mine.current().len(), shown.len());
        assert!(mine.current().iter().zip(shown).all(same));
    }

    fn handle_views(handle: &Handle) -> usize {
        // SAFETY: a handle's slot is always readable.
        unsafe { (*handle.slot()).segment_count as usize }
    }
}
