//! Watches what a library takes from the process: thread keys, and threads.
//!
//! The standard library inside every Rust `cdylib` makes pthread keys when first used and
//! never deletes them; a process has 1,024, so that it would die at about its thousandth
//! upgrade. After `dlopen`, before the node calls anything in it, the library's own GOT
//! entries for `pthread_key_create` and `pthread_key_delete` are pointed at functions here
//! that keep the list of its keys; once it is gone, those left are deleted. Nothing outside
//! the library sees a difference, and no linker argument is needed.
//!
//! `pthread_create` is watched in the same way: a library with a thread that lives must not
//! be unloaded. (The system's loader knows only of threads with thread-local destructors.)
//!
//! What constructors take, that is during `dlopen`, is missed: Rust takes nothing there.

use std::{
    ffi::{c_int, c_void},
    fs, io,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use super::image::Image;

type Destructor = Option<unsafe extern "C" fn(*mut c_void)>;
type CreateKey = unsafe extern "C" fn(*mut libc::pthread_key_t, Destructor) -> c_int;
type DeleteKey = unsafe extern "C" fn(libc::pthread_key_t) -> c_int;
type Start = unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void;
type CreateThread = unsafe extern "C" fn(
    *mut libc::pthread_t,
    *const libc::pthread_attr_t,
    Start,
    *mut c_void,
) -> c_int;

unsafe extern "C" {
    // The C library's function; `Start` may unwind, as `pthread_exit` does.
    fn pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int;
}

/// The functions of one library's number.
#[derive(Clone, Copy)]
struct Entry {
    create: CreateKey,
    delete: DeleteKey,
    spawn: CreateThread,
}

/// How many libraries can be loaded at once, retained ones included. Each needs functions
/// of its own, as a function cannot see which library has called it.
pub const SLOT_COUNT: usize = 256;

#[derive(Debug, Default)]
struct Threads {
    /// Made, but not yet in `ids`.
    starting: usize,
    /// The kernel's ids of those that were alive when last looked.
    ids: Vec<libc::pid_t>,
}

impl Threads {
    fn forget_ended(&mut self) {
        self.ids
            .retain(|id| fs::exists(format!("/proc/self/task/{id}")).unwrap_or(true));
    }
}

struct State {
    taken: AtomicBool,
    keys: Mutex<Vec<libc::pthread_key_t>>,
    threads: Mutex<Threads>,
}

impl State {
    const fn new() -> State {
        State {
            taken: AtomicBool::new(false),
            keys: Mutex::new(Vec::new()),
            threads: Mutex::new(Threads {
                starting: 0,
                ids: Vec::new(),
            }),
        }
    }

    fn keys(&self) -> MutexGuard<'_, Vec<libc::pthread_key_t>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn threads(&self) -> MutexGuard<'_, Threads> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

static STATES: [State; SLOT_COUNT] = [const { State::new() }; SLOT_COUNT];

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

/// What a new thread is told.
struct Birth {
    state: &'static State,
    start: Start,
    argument: *mut c_void,
}

unsafe extern "C-unwind" fn begin(birth: *mut c_void) -> *mut c_void {
    let (start, argument) = {
        // SAFETY: `spawn` has made it for this thread alone.
        let birth = unsafe { Box::from_raw(birth.cast::<Birth>()) };
        // SAFETY: always allowed.
        let id = unsafe { libc::gettid() };
        let mut threads = birth.state.threads();
        threads.starting -= 1;
        threads.ids.push(id);
        (birth.start, birth.argument)
    };
    // SAFETY: what the library has asked for. Nothing is left here to be dropped if the
    // thread is ended from within.
    unsafe { start(argument) }
}

unsafe extern "C" fn spawn<const HIGH: usize, const LOW: usize>(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let state = &STATES[HIGH * 16 + LOW];
    {
        let mut threads = state.threads();
        if threads.ids.len() >= 64 {
            threads.forget_ended();
        }
        threads.starting += 1;
    }
    let birth = Box::into_raw(Box::new(Birth {
        state,
        start,
        argument,
    }));
    // SAFETY: the caller's arguments, with a function in between that passes them on.
    let result = unsafe { pthread_create(thread, attributes, begin, birth.cast()) };
    if result != 0 {
        // SAFETY: no thread was made, so nobody else has it.
        drop(unsafe { Box::from_raw(birth) });
        state.threads().starting -= 1;
    }
    result
}

macro_rules! row {
    ($high:literal: $($low:literal)*) => {
        [$(Entry {
            create: create::<$high, $low>,
            delete: delete::<$high, $low>,
            spawn: spawn::<$high, $low>,
        }),*]
    };
}

macro_rules! rows {
    ($($high:literal)*) => {
        [$(row!($high: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15)),*]
    };
}

static ENTRIES: [[Entry; 16]; SLOT_COUNT / 16] = rows!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

/// One library's place in the table. Dropping it without [`Slot::release`] leaves the place
/// taken for good, which is right for a library that stays.
#[derive(Debug)]
pub(super) struct Slot(usize);

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
    pub fn attach(&self, image: &Image) -> io::Result<usize> {
        let entry = ENTRIES[self.0 / 16][self.0 % 16];
        image.redirect(&[
            ("pthread_key_create", entry.create as *const c_void),
            ("__pthread_key_create", entry.create as *const c_void),
            ("pthread_key_delete", entry.delete as *const c_void),
            ("pthread_create", entry.spawn as *const c_void),
        ])
    }

    /// How many keys the library holds.
    pub fn held(&self) -> usize {
        STATES[self.0].keys().len()
    }

    /// The threads that the library has made and that are alive, by id and name. Threads end in
    /// the kernel a little after they are joined: `patience` is how long to wait for that.
    pub fn live_threads(&self, patience: Duration) -> Vec<String> {
        let step = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        loop {
            let mut threads = STATES[self.0].threads();
            threads.forget_ended();
            if threads.starting == 0 && threads.ids.is_empty() {
                return Vec::new();
            }
            if waited >= patience {
                let starting = (0..threads.starting).map(|_| "one just starting".to_owned());
                return threads
                    .ids
                    .iter()
                    .map(|id| thread_name(*id))
                    .chain(starting)
                    .collect();
            }
            drop(threads);
            thread::sleep(step);
            waited += step;
        }
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
        *state.threads() = Threads::default();
        state.taken.store(false, Ordering::Release);
        keys.len()
    }
}

fn thread_name(id: libc::pid_t) -> String {
    let name = fs::read_to_string(format!("/proc/self/task/{id}/comm")).unwrap_or_default();
    format!("{id} {:?}", name.trim())
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
