//! Gives back the thread keys that a library takes.
//!
//! The standard library inside every Rust `cdylib` makes pthread keys when first used and
//! never deletes them; a process has 1,024, so that it would die at about its thousandth
//! upgrade. After `dlopen`, before the node calls anything in it, the library's own GOT
//! entries for `pthread_key_create` and `pthread_key_delete` are pointed at functions here that keep the
//! list of its keys; once it is gone, those left are deleted. Nothing outside the library
//! sees a difference, and no linker argument is needed.
//!
//! Keys made by constructors, that is during `dlopen`, are missed: Rust makes none there.

use std::{
    ffi::{c_int, c_void},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::image::Image;

type Destructor = Option<unsafe extern "C" fn(*mut c_void)>;
type Create = unsafe extern "C" fn(*mut libc::pthread_key_t, Destructor) -> c_int;
type Delete = unsafe extern "C" fn(libc::pthread_key_t) -> c_int;

/// The functions of one library's number.
#[derive(Clone, Copy)]
struct Entry {
    create: Create,
    delete: Delete,
}

/// How many libraries can be loaded at once, retained ones included. Each needs functions
/// of its own, as a function cannot see which library has called it.
pub const SLOT_COUNT: usize = 256;

struct State {
    taken: AtomicBool,
    keys: Mutex<Vec<libc::pthread_key_t>>,
}

impl State {
    fn keys(&self) -> MutexGuard<'_, Vec<libc::pthread_key_t>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static STATES: [State; SLOT_COUNT] =
    [const { State { taken: AtomicBool::new(false), keys: Mutex::new(Vec::new()) } }; SLOT_COUNT];

unsafe extern "C" fn create<const HIGH: usize, const LOW: usize>(
    key: *mut libc::pthread_key_t,
    destructor: Destructor,
) -> c_int {
    // SAFETY: the caller's arguments, passed on as they are.
    let result = unsafe { libc::pthread_key_create(key, destructor) };
    if result == 0 {
        // SAFETY: it succeeded, so it has written the key there.
        STATES[HIGH * 16 + LOW].keys().push(unsafe { *key });
    }
    result
}

unsafe extern "C" fn delete<const HIGH: usize, const LOW: usize>(
    key: libc::pthread_key_t,
) -> c_int {
    // Forgotten first: once it is deleted, another library may be given the same number.
    STATES[HIGH * 16 + LOW].keys().retain(|kept| *kept != key);
    // SAFETY: the caller's argument, passed on as it is.
    unsafe { libc::pthread_key_delete(key) }
}

macro_rules! row {
    ($high:literal: $($low:literal)*) => {
        [$(Entry { create: create::<$high, $low>, delete: delete::<$high, $low> }),*]
    };
}

macro_rules! rows {
    ($($high:literal)*) => {
        [$(row!($high: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)),*]
    };
}

static ENTRIES: [[Entry; 16]; SLOT_COUNT / 16] = rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// One library's place in the table of keys. Dropping it without [`Slot::release`] leaves
/// the place taken for good, which is right for a library that stays.
#[derive(Debug)]
pub struct Slot(usize);

impl Slot {
    /// Takes a free place; none if [`SLOT_COUNT`] libraries are loaded.
    pub fn take() -> Option<Slot> {
        STATES
            .iter()
            .position(|state| !state.taken.swap(true, Ordering::AcqRel))
            .map(Slot)
    }

    /// Points the library's imports at this place's functions, and says how many there were.
    ///
    /// # Errors
    ///
    /// The page with the imports could not be made writable.
    pub fn attach(&self, image: &Image) -> std::io::Result<usize> {
        let entry = ENTRIES[self.0 / 16][self.0 % 16];
        image.redirect(&[
            ("pthread_key_create", entry.create as *const c_void),
            ("__pthread_key_create", entry.create as *const c_void),
            ("pthread_key_delete", entry.delete as *const c_void),
        ])
    }

    /// How many keys the library holds.
    pub fn held(&self) -> usize {
        STATES[self.0].keys().len()
    }

    /// Deletes the keys that the library has left, and frees the place. Only once the
    /// library is unloaded: its code would go on using the keys.
    pub fn release(self) -> usize {
        let state = &STATES[self.0];
        let keys = std::mem::take(&mut *state.keys());
        for key in &keys {
            // SAFETY: made by the library and not deleted by it, so it is ours to delete.
            unsafe { libc::pthread_key_delete(*key) };
        }
        state.taken.store(false, Ordering::Release);
        keys.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_remembered_until_it_is_deleted() {
        let slot = Slot::take().unwrap();
        let entry = ENTRIES[slot.0 / 16][slot.0 % 16];
        let mut keys = [0; 3];
        for key in &mut keys {
            // SAFETY: a valid place for a key, and no destructor.
            assert_eq!(unsafe { (entry.create)(key, None) }, 0);
        }
        assert_eq!(slot.held(), 3);
        // SAFETY: made above.
        assert_eq!(unsafe { (entry.delete)(keys[1]) }, 0);
        assert_eq!(slot.held(), 2);
        assert_eq!(slot.release(), 2);
    }
}
