//! A region's functions as a component calls them.

use std::ffi::c_void;

use neurath_abi::{Ref, RegionOps, Status};

use super::Inner;
use super::error::RegionError;
use super::media::Media;

/// The table for regions on media of type `M`.
pub(super) fn table<M: Media>() -> *const RegionOps {
    struct Table<M>(std::marker::PhantomData<M>);
    impl<M: Media> Table<M> {
        const OPS: &'static RegionOps = &RegionOps {
            size: size_of::<RegionOps>() as u32,
            alloc: alloc::<M>,
            free: free::<M>,
            write: write::<M>,
            read: read::<M>,
            fresh: fresh::<M>,
        };
    }
    Table::<M>::OPS
}

fn status(result: Result<(), RegionError>) -> Status {
    match result {
        Ok(()) => Status::OK,
        Err(RegionError::Limit { .. } | RegionError::Grow { .. } | RegionError::Segments(_)) => {
            Status::FULL
        }
        Err(RegionError::TooLarge { .. }) => Status::TOO_LARGE,
        Err(RegionError::BadRef { .. }) => Status::BAD_REF,
        Err(_) => Status::FAILED,
    }
}

/// The region behind a slot's `owner`.
///
/// # Safety
///
/// `owner` is what `Region::<M>::attach` put into the slot, the region is still attached,
/// and its owner makes no use of it during this call.
unsafe fn inner<'a, M: Media>(owner: *mut c_void) -> &'a mut Inner<M> {
    // SAFETY: the caller vouches for it.
    unsafe { &mut *owner.cast::<Inner<M>>() }
}

unsafe extern "C" fn alloc<M: Media>(
    owner: *mut c_void,
    type_id: u64,
    size: u64,
    out: *mut Ref,
) -> Status {
    // SAFETY: called through the slot of an attached region.
    let inner = unsafe { inner::<M>(owner) };
    status(inner.alloc(type_id, size).map(|object| {
        // SAFETY: the caller's own variable.
        unsafe { out.write(object) }
    }))
}

unsafe extern "C" fn free<M: Media>(owner: *mut c_void, object: Ref, type_id: u64) -> Status {
    // SAFETY: called through the slot of an attached region.
    status(unsafe { inner::<M>(owner) }.free(object, type_id))
}

unsafe extern "C" fn write<M: Media>(
    owner: *mut c_void,
    object: Ref,
    type_id: u64,
    offset: u64,
    bytes: *const u8,
    len: u64,
) -> Status {
    if len == 0 {
        return Status::OK;
    }
    // SAFETY: the caller's own bytes, `len` of them; and as above.
    let (inner, bytes) = unsafe {
        (
            inner::<M>(owner),
            std::slice::from_raw_parts(bytes, len as usize),
        )
    };
    status(inner.write(object, type_id, offset, bytes))
}

unsafe extern "C" fn read<M: Media>(
    owner: *mut c_void,
    object: Ref,
    type_id: u64,
    offset: u64,
    out: *mut u8,
    len: u64,
) -> Status {
    if len == 0 {
        return Status::OK;
    }
    // SAFETY: the caller's own buffer of `len` bytes; and as above. The region fills the
    // buffer without reading it, or the caller does not look at it.
    let (inner, out) = unsafe {
        (
            inner::<M>(owner),
            std::slice::from_raw_parts_mut(out, len as usize),
        )
    };
    status(inner.read(object, type_id, offset, out))
}

unsafe extern "C" fn fresh<M: Media>(
    owner: *mut c_void,
    object: Ref,
    type_id: u64,
    out: *mut *const u8,
    len: *mut u64,
) -> Status {
    // SAFETY: called through the slot of an attached region.
    match unsafe { inner::<M>(owner) }.fresh(object, type_id) {
        Ok(Some(bytes)) => {
            // SAFETY: the caller's own variables.
            unsafe {
                out.write(bytes.as_ptr());
                len.write(bytes.len() as u64);
            }
            Status::OK
        }
        Ok(None) => Status::NOT_FOUND,
        Err(error) => status(Err(error)),
    }
}
