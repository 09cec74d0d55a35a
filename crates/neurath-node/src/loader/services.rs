//! The node's services as a component calls them: the table of `extern "C"` functions over
//! a safe trait.

use std::{
    ffi::c_void,
    marker::PhantomData,
    panic::{AssertUnwindSafe, catch_unwind},
};

use neurath_abi::{Bytes, HostOps, InfoKey, LogLevel, Status, Token};

/// What a component may ask of the node during one call. See [`HostOps`] for what each
/// method means. A panic in one is caught and handed over as [`Status::FAILED`].
pub trait Services {
    /// Answers a request.
    fn reply(&mut self, token: Token, bytes: &[u8]) -> Status;
    /// Sends a message to another component of the release.
    fn send(&mut self, component: &str, token: Token, bytes: &[u8]) -> Status;
    /// A token for the next place in a connection's line of answers.
    fn next_token(&mut self, connection: u64) -> Token;
    /// Keeps 64 bits with a connection.
    fn connection_set(&mut self, connection: u64, user: u64) -> Status;
    /// Closes a connection once all that was answered before has been written.
    fn connection_close(&mut self, connection: u64) -> Status;
    /// Listens on `address`.
    fn listen(&mut self, address: &str) -> Status;
    /// Wakes the instance after `after_ms` milliseconds.
    fn timer(&mut self, id: u64, after_ms: u64) -> Status;
    /// Writes a line to the node's log. `text` is lossy UTF-8.
    fn log(&mut self, level: LogLevel, text: &str);
    /// A figure that the node knows; 0 for one it does not.
    fn info(&mut self, key: InfoKey) -> u64;
    /// How many instances of a component run; 0 of one that is not there.
    fn instances(&mut self, component: &str) -> u32;
}

/// The services of one call: a table and what its functions take first.
#[derive(Debug)]
pub struct Host<'a> {
    pub(super) ops: *const HostOps,
    pub(super) data: *mut c_void,
    life: PhantomData<&'a mut ()>,
}

impl<'a> Host<'a> {
    /// The services that `services` gives, for as long as it is borrowed. No allocation.
    pub fn of<S: Services>(services: &'a mut S) -> Host<'a> {
        Host {
            ops: const { &table::<S>() },
            data: (&raw mut *services).cast(),
            life: PhantomData,
        }
    }

    /// The services of a table of functions.
    ///
    /// # Safety
    ///
    /// Each function may be called with `data` for as long as this lives.
    pub unsafe fn from_table(ops: &'a HostOps, data: *mut c_void) -> Host<'a> {
        Host {
            ops,
            data,
            life: PhantomData,
        }
    }
}

const fn table<S: Services>() -> HostOps {
    HostOps {
        size: size_of::<HostOps>() as u32,
        reply: reply::<S>,
        send: send::<S>,
        next_token: next_token::<S>,
        connection_set: connection_set::<S>,
        connection_close: connection_close::<S>,
        listen: listen::<S>,
        timer: timer::<S>,
        log: log::<S>,
        info: info::<S>,
        instances: instances::<S>,
    }
}

/// Runs `work` on the services behind `host`.
///
/// # Safety
///
/// `host` is the `data` of a [`Host`] made of an `S`, during the call it was made for.
unsafe fn with<S: Services, T>(
    host: *mut c_void,
    on_panic: T,
    work: impl FnOnce(&mut S) -> T,
) -> T {
    // SAFETY: the caller vouches for it. The `Host` has borrowed the services exclusively,
    // and a component uses its host pointer from the one thread that runs the call.
    let services = unsafe { &mut *host.cast::<S>() };
    catch_unwind(AssertUnwindSafe(|| work(services))).unwrap_or(on_panic)
}

/// Runs `work` on the text in `bytes`, or refuses it if it is not UTF-8.
///
/// # Safety
///
/// `bytes` can be read.
unsafe fn utf8(bytes: Bytes, work: impl FnOnce(&str) -> Status) -> Status {
    // SAFETY: the caller vouches for it.
    match std::str::from_utf8(unsafe { bytes.as_slice() }) {
        Ok(text) => work(text),
        Err(_) => Status::FAILED,
    }
}

unsafe extern "C" fn reply<S: Services>(host: *mut c_void, token: Token, bytes: Bytes) -> Status {
    // SAFETY: the ABI's contract for the host pointer and for bytes that are passed.
    unsafe { with::<S, _>(host, Status::FAILED, |s| s.reply(token, bytes.as_slice())) }
}

unsafe extern "C" fn send<S: Services>(
    host: *mut c_void,
    component: Bytes,
    token: Token,
    bytes: Bytes,
) -> Status {
    // SAFETY: the ABI's contract for the host pointer and for bytes that are passed.
    unsafe {
        with::<S, _>(host, Status::FAILED, |s| {
            utf8(component, |component| {
                s.send(component, token, bytes.as_slice())
            })
        })
    }
}

unsafe extern "C" fn next_token<S: Services>(host: *mut c_void, connection: u64) -> Token {
    // SAFETY: the ABI's contract for the host pointer.
    unsafe { with::<S, _>(host, Token::NONE, |s| s.next_token(connection)) }
}

unsafe extern "C" fn connection_set<S: Services>(
    host: *mut c_void,
    connection: u64,
    user: u64,
) -> Status {
    // SAFETY: the ABI's contract for the host pointer.
    unsafe { with::<S, _>(host, Status::FAILED, |s| s.connection_set(connection, user)) }
}

unsafe extern "C" fn connection_close<S: Services>(host: *mut c_void, connection: u64) -> Status {
    // SAFETY: the ABI's contract for the host pointer.
    unsafe { with::<S, _>(host, Status::FAILED, |s| s.connection_close(connection)) }
}

unsafe extern "C" fn listen<S: Services>(host: *mut c_void, address: Bytes) -> Status {
    // SAFETY: the ABI's contract for the host pointer and for bytes that are passed.
    unsafe {
        with::<S, _>(host, Status::FAILED, |s| {
            utf8(address, |address| s.listen(address))
        })
    }
}

unsafe extern "C" fn timer<S: Services>(host: *mut c_void, id: u64, after_ms: u64) -> Status {
    // SAFETY: the ABI's contract for the host pointer.
    unsafe { with::<S, _>(host, Status::FAILED, |s| s.timer(id, after_ms)) }
}

unsafe extern "C" fn log<S: Services>(host: *mut c_void, level: LogLevel, text: Bytes) {
    // SAFETY: the ABI's contract for the host pointer and for bytes that are passed.
    unsafe {
        with::<S, _>(host, (), |s| {
            s.log(level, &String::from_utf8_lossy(text.as_slice()))
        });
    }
}

unsafe extern "C" fn instances<S: Services>(host: *mut c_void, component: Bytes) -> u32 {
    // SAFETY: the ABI's contract for the host pointer and for bytes that are passed.
    unsafe {
        with::<S, _>(host, 0, |s| {
            s.instances(&String::from_utf8_lossy(component.as_slice()))
        })
    }
}

unsafe extern "C" fn info<S: Services>(host: *mut c_void, key: InfoKey) -> u64 {
    // SAFETY: the ABI's contract for the host pointer.
    unsafe { with::<S, _>(host, 0, |s| s.info(key)) }
}
