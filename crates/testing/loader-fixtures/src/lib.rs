//! A component without the SDK. What `handle` does is what the message says.

use std::{
    cell::RefCell,
    ffi::c_int,
    sync::atomic::{AtomicU64, Ordering},
    thread,
    time::Duration,
};

use neurath_abi::*;

static MIGRATIONS: [Migration; 1] = [Migration {
    from: [1; 16],
    to: [2; 16],
    from_size: 8,
    to_size: 16,
    version: Bytes::new(b"1.0"),
    backward: 0,
    reserved: 0,
    convert,
}];

static HOOKS: [Hook; 1] = [Hook {
    name: Bytes::new(b"again"),
    call: handle,
}];

static MOVES: [Move; 2] = [
    Move {
        name: Bytes::new(b"parcels"),
        incoming: 0,
        reserved: 0,
        state: [7; 16],
        value: [8; 16],
        call: give,
    },
    Move {
        name: Bytes::new(b"parcels"),
        incoming: 1,
        reserved: 0,
        state: [7; 16],
        value: [8; 16],
        call: take,
    },
];

#[unsafe(no_mangle)]
static NEURATH_COMPONENT: ComponentDescriptor = ComponentDescriptor {
    size: size_of::<ComponentDescriptor>() as u32,
    abi: ABI_VERSION,
    panic_strategy: PANIC_UNWIND,
    reserved: 0,
    name: Bytes::new(b"fixture"),
    version: Bytes::new(b"1.2.3"),
    compiler: Bytes::new(b"rustc for tests"),
    schema: Bytes::new(b"SCHEMA-BYTES"),
    fingerprint: [7; 16],
    functions: Functions {
        create,
        init,
        handle,
        quiesce: idle,
        terminate: idle,
        check_state: idle,
    },
    migrations: MIGRATIONS.as_ptr(),
    migration_count: MIGRATIONS.len(),
    config_change: Some(handle),
    hooks: HOOKS.as_ptr(),
    hook_count: HOOKS.len(),
    moves: MOVES.as_ptr(),
    move_count: MOVES.len(),
    features: neurath_abi::READS_THROUGH,
};

/// Three parts; for the peer `greedy` one that is too large, for `mute` none, for `twice` two at once.
unsafe extern "C" fn give(call: *mut MoveCall) -> Status {
    let call = unsafe { &mut *call };
    let put = |bytes: &[u8]| unsafe { (call.put)(call.sink, Bytes::new(bytes)) };
    match unsafe { call.peer.as_slice() } {
        b"greedy" => return put(&vec![0; (64 << 20) + 1]),
        b"mute" => return Status::OK,
        b"twice" => {
            put(b"once");
            return put(b"again");
        }
        _ => {}
    }
    let status = put(&[call.cursor as u8; 4]);
    call.cursor += 1;
    call.more = u32::from(call.cursor < 3);
    status
}

/// Takes what is not empty.
unsafe extern "C" fn take(call: *mut MoveCall) -> Status {
    let call = unsafe { &mut *call };
    if unsafe { call.value.as_slice() }.is_empty() {
        let text = b"there is nothing in it";
        unsafe { call.error.ptr.copy_from_nonoverlapping(text.as_ptr(), text.len()) };
        call.error.len = text.len();
        return Status::FAILED;
    }
    Status::OK
}

/// Its destructor is what pins a library to a live thread.
struct Local(Vec<u8>);

impl Drop for Local {
    fn drop(&mut self) {
        DROPPED.fetch_add(self.0.len() as u64, Ordering::Relaxed);
    }
}

static DROPPED: AtomicU64 = AtomicU64::new(0);

thread_local! {
    static LOCAL: RefCell<Local> = const { RefCell::new(Local(Vec::new())) };
}

fn fail(call: &mut Call, text: &[u8]) -> Status {
    let len = text.len().min(call.error.capacity);
    unsafe { call.error.ptr.copy_from_nonoverlapping(text.as_ptr(), len) };
    call.error.len = len;
    Status::FAILED
}

unsafe extern "C" fn create(call: *mut CreateCall) -> Status {
    unsafe { (*call).root = Ref::new(1, 2) };
    Status::OK
}

unsafe extern "C" fn init(call: *mut Call) -> Status {
    let call = unsafe { &mut *call };
    let config = unsafe { call.config.as_slice() };
    match config {
        b"bad" => fail(call, b"no such thing as \xff bad"),
        _ => Status::OK,
    }
}

unsafe extern "C" fn idle(_call: *mut Call) -> Status {
    Status::OK
}

extern "C" fn on_signal(_signal: c_int) {}

unsafe extern "C" {
    fn signal(signal: c_int, handler: extern "C" fn(c_int)) -> usize;
    fn pthread_key_create(key: *mut u32, destructor: Option<extern "C" fn(*mut u8)>) -> c_int;
}

unsafe extern "C" fn handle(call: *mut Call) -> Status {
    let call = unsafe { &mut *call };
    let message = unsafe { &*call.message };
    let bytes = unsafe { message.bytes.as_slice() };
    let host = unsafe { &*call.host_ops };
    match bytes {
        b"use" => {
            // Takes the key of `thread::current`, and a thread-local with a destructor.
            let _ = thread::current().id();
            LOCAL.with_borrow_mut(|local| local.0.push(1));
            let _ = thread::spawn(|| thread::current().id()).join();
            let mut key = 0;
            if unsafe { pthread_key_create(&mut key, None) } != 0 {
                return fail(call, b"out of keys");
            }
        }
        _ if bytes.starts_with(b"thread:") => {
            // Lives for as long as the file does.
            let path = String::from_utf8_lossy(&bytes[7..]).into_owned();
            thread::spawn(move || {
                LOCAL.with_borrow_mut(|local| local.0.push(1));
                while std::fs::exists(&path).unwrap_or(false) {
                    thread::sleep(Duration::from_millis(2));
                }
            });
        }
        b"signal" => unsafe {
            signal(10, on_signal);
        },
        b"echo" => return unsafe { (host.reply)(call.host, message.token, message.bytes) },
        b"port" => call.consumed = unsafe { (host.info)(call.host, InfoKey::PORT) } as usize,
        b"full" => return Status::FULL,
        b"fail" => return fail(call, &[b'x'; 5000]),
        _ => call.consumed = bytes.len() + 1,
    }
    Status::OK
}

unsafe extern "C" fn convert(batch: *mut MigrationBatch) -> Status {
    let batch = unsafe { &mut *batch };
    if unsafe { batch.extra.as_slice() } == b"fail" {
        return Status::PANICKED;
    }
    for index in 0..batch.count {
        unsafe {
            if *batch.live.add(index / 64) >> (index % 64) & 1 == 0 {
                continue;
            }
            let old = *batch.old.add(index * batch.old_stride).cast::<u64>();
            let new = batch.new.add(index * batch.new_stride).cast::<[u64; 2]>();
            *new = [old, old * 2];
        }
    }
    Status::OK
}
