//! The functions that a library exports, and the static that leads to them. Used by
//! [`crate::component!`] only.
//!
//! Every one catches a panic: it must not cross into the node, whose standard library is
//! another copy and could not.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use neurath_abi::{Call, CreateCall, ErrorText, Functions, Status};
use neurath_pmem::Tx;
use serde::de::DeserializeOwned;

use crate::context::{parse_config, parse_table};
use crate::{Component, Context, Error, Message, Result};

pub use crate::migration::{convert_batch, convert_each};
pub use crate::moves::{move_in, move_out};
pub use crate::narrowed::Narrowed;

/// The strategy that this library was built with.
pub const PANIC_STRATEGY: u32 = if cfg!(panic = "unwind") {
    neurath_abi::PANIC_UNWIND
} else {
    neurath_abi::PANIC_ABORT
};

/// The compiler that built this library.
pub const COMPILER: &str = env!("NEURATH_COMPILER");

/// What this SDK can do besides.
pub const FEATURES: u64 = neurath_abi::READS_THROUGH;

/// The functions of a component.
pub const fn functions<S: Component>() -> Functions {
    Functions {
        create: create::<S>,
        init: init::<S>,
        handle: handle::<S>,
        quiesce: quiesce::<S>,
        terminate: terminate::<S>,
        check_state: check_state::<S>,
    }
}

/// The function of [`Component::config_change`]. What does not fit the type of the configuration is refused
/// by it as well.
pub const fn config_change<S: Component>() -> unsafe extern "C" fn(*mut Call) -> Status {
    change::<S>
}

/// The text of a panic.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a text");
    format!("it panicked: {text}")
}

/// Puts as much of a text into the caller's buffer as fits.
pub(crate) fn write_error(error: &mut ErrorText, text: &str) {
    let mut len = text.len().min(error.capacity);
    while !text.is_char_boundary(len) {
        len -= 1;
    }
    if len > 0 {
        // SAFETY: the caller's buffer of `capacity` bytes.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), error.ptr, len) };
    }
    error.len = len;
}

/// Runs one call.
///
/// # Safety
///
/// `call` is the node's, with valid pointers.
unsafe fn run<S: Component>(
    call: *mut Call,
    work: impl FnOnce(&mut Context<'_, S>) -> Result<()>,
) -> Status {
    // SAFETY: the node's own call, for as long as it lasts.
    let call = unsafe { &mut *call };
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: as above.
        work(&mut unsafe { Context::new(&mut *call) })
    }));
    finish(&mut call.error, result)
}

/// A text that the node gave.
pub(crate) fn text_of(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes).map_err(|_| Error::new("the node gave a text that is not UTF-8"))
}

/// The status of a call, and the text of its error.
pub(crate) fn finish(error: &mut ErrorText, result: std::thread::Result<Result<()>>) -> Status {
    let (status, text) = match result {
        Ok(Ok(())) => return Status::OK,
        Ok(Err(error)) => (Status::FAILED, error.to_string()),
        Err(payload) => (Status::PANICKED, panic_text(&*payload)),
    };
    write_error(error, &text);
    status
}

unsafe extern "C" fn create<S: Component>(call: *mut CreateCall) -> Status {
    // SAFETY: the node's own call, for as long as it lasts.
    let CreateCall { call, root } = unsafe { &mut *call };
    let result = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: valid for this call.
        let config = parse_config(unsafe { call.config.as_slice() })?;
        // SAFETY: the node's slot, for this call.
        let mut tx = unsafe { Tx::new(call.region) };
        let state = S::create(&mut tx, &config)?;
        *root = tx.alloc(&state)?.to_ref();
        Ok(())
    }));
    finish(&mut call.error, result)
}

unsafe extern "C" fn init<S: Component>(call: *mut Call) -> Status {
    // What does not fit the type is refused here, and not at the first message that reads it.
    // SAFETY: the node's call.
    unsafe {
        run(call, |cx: &mut Context<'_, S>| {
            cx.config()?;
            S::init(cx)
        })
    }
}

unsafe extern "C" fn handle<S: Component>(call: *mut Call) -> Status {
    // SAFETY: the node's call, whose message stays valid until it returns.
    unsafe {
        let message = (*call).message;
        run(call, |cx| match Message::from_abi(&*message) {
            Some(message) => S::handle(cx, message),
            None => Err(Error::new(
                "a kind of message that this component does not know",
            )),
        })
    }
}

unsafe extern "C" fn quiesce<S: Component>(call: *mut Call) -> Status {
    // SAFETY: the node's call.
    unsafe { run(call, S::quiesce) }
}

unsafe extern "C" fn terminate<S: Component>(call: *mut Call) -> Status {
    // SAFETY: the node's call.
    unsafe { run(call, S::terminate) }
}

unsafe extern "C" fn check_state<S: Component>(call: *mut Call) -> Status {
    // SAFETY: the node's call.
    unsafe { run(call, S::check_state) }
}

unsafe extern "C" fn change<S: Component>(call: *mut Call) -> Status {
    // SAFETY: the node's call, whose message stays valid until it returns.
    unsafe {
        let message = (*call).message;
        run::<S>(call, |cx| {
            cx.config()?;
            let change = serde_json::from_slice((*message).bytes.as_slice())?;
            S::config_change(cx, &change)
        })
    }
}

/// Runs a hook with its arguments.
///
/// # Safety
///
/// `call` is the node's, with valid pointers, and has a message.
pub unsafe fn hook<S: Component, A: DeserializeOwned>(
    call: *mut Call,
    hook: impl FnOnce(&mut Context<'_, S>, A) -> Result<()>,
) -> Status {
    // SAFETY: the caller's promise.
    unsafe {
        let message = (*call).message;
        run::<S>(call, |cx| {
            let arguments = parse_table((*message).bytes.as_slice(), "the arguments do not fit")?;
            hook(cx, arguments)
        })
    }
}
