use core::ffi::c_void;

use crate::Status;

/// A reference to an object in a region: the number of its segment and its index
/// in it. 0 is null, as segment 0 does not exist.
///
/// Not an address and not an offset: an object keeps its reference when a
/// conversion changes its size, so that no conversion needs a pass over pointers.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Ref(pub u64);

impl Ref {
    /// Refers to nothing.
    pub const NULL: Ref = Ref(0);

    /// The `index`-th object of `segment`.
    pub const fn new(segment: u32, index: u16) -> Ref {
        Ref((segment as u64) << 16 | index as u64)
    }

    /// The segment's number. `u64`, because a hostile file may hold any number.
    pub const fn segment(self) -> u64 {
        self.0 >> 16
    }

    /// The index in the segment.
    pub const fn index(self) -> u16 {
        self.0 as u16
    }

    /// Whether this refers to nothing.
    pub const fn is_null(self) -> bool {
        self.0 == 0
    }
}

/// The largest object that a region holds, in bytes (512 MiB and a little, which
/// is the largest value that Redis takes).
pub const MAX_OBJECT_SIZE: u64 = (512 << 20) + 4096;

/// One segment as a library reads it: objects of one type and size, in a row.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct SegmentView {
    /// The first object. Null where the segment is not in use.
    pub base: *const u8,
    /// Bytes an object takes, a multiple of 8.
    pub object_size: u32,
    /// How many objects fit.
    pub capacity: u32,
    /// The type of the objects: the low 64 bits of its fingerprint.
    pub type_id: u64,
}

/// A library's handle to a region. The node owns it, and can put another region,
/// or a dummy, behind it: a library keeps nothing it has read from it.
///
/// Only the thread that runs a call of the instance may read it, during that call.
#[repr(C)]
#[derive(Debug)]
pub struct RegionSlot {
    /// The functions that change the region.
    pub ops: *const RegionOps,
    /// The first argument of each of them.
    pub owner: *mut c_void,
    /// `segment_count` views, by number.
    pub segments: *const SegmentView,
    /// How many there are.
    pub segment_count: u64,
    /// A Bloom filter, one bit a 64-byte line, of what the open transaction has
    /// written or allocated: where [`RegionSlot::line_bit`] is clear, the mapped bytes
    /// are what the transaction sees.
    pub dirty: u64,
    /// The root object.
    pub root: Ref,
}

impl RegionSlot {
    /// The bit of `dirty` that stands for the 64-byte line `line` of object `object`.
    #[inline]
    pub const fn line_bit(object: Ref, line: u64) -> u64 {
        let mixed = (object.0 ^ (line << 48)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        1 << (mixed >> 58)
    }
}

/// What a library can do with a region, beyond reading the segments.
///
/// All take the slot's `owner`. They never unwind. A change belongs to the
/// transaction of the call being served, and is dropped with it if the call fails.
#[repr(C)]
#[derive(Debug)]
pub struct RegionOps {
    /// Bytes of this struct, so that it can grow.
    pub size: u32,
    /// Makes a zeroed object of `size` bytes of the type `type_id`, and puts its
    /// reference into `out`.
    pub alloc:
        unsafe extern "C" fn(owner: *mut c_void, type_id: u64, size: u64, out: *mut Ref) -> Status,
    /// Frees an object.
    pub free: unsafe extern "C" fn(owner: *mut c_void, object: Ref, type_id: u64) -> Status,
    /// Replaces `len` bytes at `offset` of the object. Whole 8-byte words for an
    /// existing object; any bytes for one that this transaction made.
    pub write: unsafe extern "C" fn(
        owner: *mut c_void,
        object: Ref,
        type_id: u64,
        offset: u64,
        bytes: *const u8,
        len: u64,
    ) -> Status,
    /// Copies `len` bytes at `offset` of the object, as the transaction sees
    /// them, to `out`.
    pub read: unsafe extern "C" fn(
        owner: *mut c_void,
        object: Ref,
        type_id: u64,
        offset: u64,
        out: *mut u8,
        len: u64,
    ) -> Status,
    /// The bytes of an object that this transaction made, valid until its next
    /// change. [`Status::NOT_FOUND`] for any other object.
    pub fresh: unsafe extern "C" fn(
        owner: *mut c_void,
        object: Ref,
        type_id: u64,
        out: *mut *const u8,
        len: *mut u64,
    ) -> Status,
}
