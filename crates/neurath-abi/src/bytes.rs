/// Borrowed bytes. Valid for the duration of the call they are passed to, or, in
/// a static descriptor, for as long as the library is loaded.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bytes {
    /// First byte. Never dereferenced when `len` is 0.
    pub ptr: *const u8,
    /// Length in bytes.
    pub len: usize,
}

// A `Bytes` is a pointer to immutable data and a number; who dereferences it
// must be allowed to, on whatever thread.
#[allow(unsafe_code, reason = "static descriptors hold it, so it must be Sync")]
// SAFETY: the data behind it is never written through it.
unsafe impl Sync for Bytes {}
#[allow(unsafe_code, reason = "moved to the threads that run a component")]
// SAFETY: as above.
unsafe impl Send for Bytes {}

impl Bytes {
    /// No bytes.
    pub const EMPTY: Bytes = Bytes {
        ptr: core::ptr::null(),
        len: 0,
    };

    /// Borrows a slice. The caller keeps it alive for as long as this is used.
    pub const fn new(bytes: &[u8]) -> Bytes {
        Bytes {
            ptr: bytes.as_ptr(),
            len: bytes.len(),
        }
    }

    /// The bytes as a slice.
    ///
    /// # Safety
    ///
    /// `ptr` and `len` describe initialised memory that stays valid and
    /// unchanged for `'a`.
    #[allow(unsafe_code, reason = "the one place that turns the pair into a slice")]
    pub const unsafe fn as_slice<'a>(self) -> &'a [u8] {
        if self.len == 0 {
            return &[];
        }
        // SAFETY: the caller vouches for it.
        unsafe { core::slice::from_raw_parts(self.ptr, self.len) }
    }
}

/// A buffer of the caller's for the text of an error.
#[repr(C)]
#[derive(Debug)]
pub struct ErrorText {
    /// Where to write.
    pub ptr: *mut u8,
    /// How much fits, in bytes.
    pub capacity: usize,
    /// How much was written, in bytes. At most `capacity`.
    pub len: usize,
}
