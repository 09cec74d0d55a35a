//! One call into a component.

use std::{mem::MaybeUninit, ptr};

use neurath_abi::{
    Bytes, Call, CreateCall, ErrorText, Message, MessageKind, Ref, RegionSlot, Status, Token,
};
use thiserror::Error;

use super::services::Host;

/// Room for the text of an error, in bytes.
const TEXT: usize = 1024;

/// The functions of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Function {
    /// Makes a new, empty state.
    Create,
    /// Starts work on a state.
    Init,
    /// Serves one message.
    Handle,
    /// Stops ongoing work before a suspension.
    Quiesce,
    /// Cleans up.
    Terminate,
    /// Looks whether the state makes sense.
    CheckState,
    /// Takes note of another configuration.
    ConfigChange,
    /// The hook of this number in the library's description.
    Hook(usize),
}

/// Something that gives a library its handle to a region.
///
/// # Safety
///
/// The slot, and all it points at, is valid for the calling thread for as long as `self`
/// is borrowed; what changes it meanwhile does so through the slot's own functions only.
pub unsafe trait RegionSource {
    /// The handle.
    fn slot(&self) -> *const RegionSlot;
}

/// One message, safely: [`Message`] with a borrow in the place of a pointer.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What happened.
    pub kind: MessageKind,
    /// The connection, or the timer's id.
    pub source: u64,
    /// The connection's 64 bits.
    pub user: u64,
    /// Who waits for an answer.
    pub token: Token,
    /// The message's bytes.
    pub bytes: &'a [u8],
}

/// What a call is about. Costs no allocation to make or to use.
#[derive(Debug)]
pub struct Invocation<'a> {
    region: *const RegionSlot,
    host: Host<'a>,
    config: &'a str,
    now_ms: u64,
    event: Option<Event<'a>>,
}

/// What a call gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// How many of a message's bytes are done with. Never more than there were.
    pub consumed: usize,
    /// The root object that [`Function::Create`] made; null for other functions.
    pub root: Ref,
}

/// A call that failed.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
#[error("{text}")]
pub struct CallError {
    /// How.
    pub status: Status,
    /// The component's own words, or the node's where it had none.
    pub text: String,
}

impl CallError {
    /// A refusal by the node itself.
    pub(super) fn refused(text: impl Into<String>) -> CallError {
        CallError {
            status: Status::FAILED,
            text: text.into(),
        }
    }
}

impl<'a> Invocation<'a> {
    /// A call on a region, with the services it may use. The region and the services stay
    /// borrowed until the call is over.
    pub fn new(region: &'a impl RegionSource, host: Host<'a>) -> Invocation<'a> {
        Invocation {
            region: region.slot(),
            host,
            config: "",
            now_ms: 0,
            event: None,
        }
    }

    /// With the instance's configuration, JSON.
    #[must_use]
    pub fn config(mut self, config: &'a str) -> Self {
        self.config = config;
        self
    }

    /// At this time, in milliseconds since 1970.
    #[must_use]
    pub fn now_ms(mut self, now_ms: u64) -> Self {
        self.now_ms = now_ms;
        self
    }

    /// With the message, for [`Function::Handle`].
    #[must_use]
    pub fn event(mut self, event: Event<'a>) -> Self {
        self.event = Some(event);
        self
    }

    /// Calls `function`.
    ///
    /// # Safety
    ///
    /// `function` is a loaded component's; it is given a [`CreateCall`] if `create`.
    pub(super) unsafe fn run(
        self,
        function: unsafe extern "C" fn(*mut Call) -> Status,
    ) -> Result<Outcome, CallError> {
        let message = self.event.map(|event| Message {
            kind: event.kind,
            reserved: 0,
            source: event.source,
            user: event.user,
            token: event.token,
            bytes: Bytes::new(event.bytes),
        });
        let available = self.event.map_or(0, |event| event.bytes.len());
        let mut text = MaybeUninit::<[u8; TEXT]>::uninit();
        // A function that takes a `Call` takes the beginning of a `CreateCall` as well.
        let mut whole = CreateCall {
            call: Call {
                size: size_of::<Call>() as u32,
                reserved: 0,
                region: self.region,
                host_ops: self.host.ops,
                host: self.host.data,
                config: Bytes::new(self.config.as_bytes()),
                now_ms: self.now_ms,
                message: message.as_ref().map_or(ptr::null(), ptr::from_ref),
                consumed: 0,
                error: error_text(&mut text),
            },
            root: Ref::NULL,
        };
        // SAFETY: the caller vouches for the function; the region and the services are
        // valid by the contracts of `RegionSource` and `Host`, the rest lives on this
        // stack. The pointer covers all of `whole`. No function of a component unwinds.
        let status = unsafe { function((&raw mut whole).cast()) };
        if status.is_ok() {
            return Ok(Outcome {
                consumed: whole.call.consumed.min(available),
                root: whole.root,
            });
        }
        // SAFETY: `error` was made by `error_text` of `text`.
        Err(unsafe { failure(status, &whole.call.error, &text) })
    }
}

/// A buffer for the text of an error.
pub(super) fn error_text(buffer: &mut MaybeUninit<[u8; TEXT]>) -> ErrorText {
    ErrorText {
        ptr: buffer.as_mut_ptr().cast(),
        capacity: TEXT,
        len: 0,
    }
}

/// What a failed call left behind.
///
/// # Safety
///
/// A component was given `error`, made of `buffer`, and by its contract has written the
/// first `len` bytes of it.
#[cold]
pub(super) unsafe fn failure(
    status: Status,
    error: &ErrorText,
    buffer: &MaybeUninit<[u8; TEXT]>,
) -> CallError {
    let len = error.len.min(TEXT);
    // SAFETY: within the buffer, and written as the caller vouches.
    let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), len) };
    let mut text = String::from_utf8_lossy(bytes).into_owned();
    if text.is_empty() {
        text = match status {
            Status::PANICKED => "the component panicked".to_owned(),
            Status::FULL => "the region is full".to_owned(),
            Status::TOO_LARGE => "the transaction is larger than a commit record".to_owned(),
            Status::BAD_REF => "a reference names no live object of its type".to_owned(),
            Status::DUMMY => "this code has been replaced".to_owned(),
            other => format!("the component gave no reason (status {})", other.0),
        };
    }
    CallError { status, text }
}

/// A row of values to convert.
#[derive(Debug)]
pub struct Batch<'a> {
    /// The old values, the first of them first.
    pub old: &'a [u8],
    /// Bytes from one old value to the next.
    pub old_stride: usize,
    /// Zeroed memory for the new values.
    pub new: &'a mut [u8],
    /// Bytes from one new value to the next.
    pub new_stride: usize,
    /// How many places there are.
    pub count: usize,
    /// One bit a place, the lowest first: whether there is a value.
    pub live: &'a [u64],
    /// The instruction's `extra`, JSON.
    pub extra: &'a str,
    /// When the conversion began, in milliseconds since 1970.
    pub now_ms: u64,
}

impl Batch<'_> {
    /// Whether the slices hold `count` values of those sizes. They may lie at any address: a value can be a
    /// field, or an element, of four bytes or one.
    pub(super) fn check(&self, from_size: u32, to_size: u32) -> Result<(), CallError> {
        if self.count == 0 {
            return Ok(());
        }
        let fits = |len: usize, stride: usize, size: u32| {
            stride >= size as usize
                // Of the last place, only the value itself is there: it may be a field.
                && (self.count - 1)
                    .checked_mul(stride)
                    .and_then(|bytes| bytes.checked_add(size as usize))
                    .is_some_and(|bytes| bytes <= len)
        };
        if !fits(self.old.len(), self.old_stride, from_size) {
            return Err(CallError::refused(
                "the old values do not fit the conversion",
            ));
        }
        if !fits(self.new.len(), self.new_stride, to_size) {
            return Err(CallError::refused(
                "the new values do not fit the conversion",
            ));
        }
        if self.live.len() < self.count.div_ceil(64) {
            return Err(CallError::refused("the map of live values is too short"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_four_bytes_may_lie_behind_another() {
        let (old, mut new) = ([0; 32], [0; 32]);
        for at in [0, 4, 1] {
            let batch = Batch {
                old: &old[at..],
                old_stride: 8,
                new: &mut new[at..],
                new_stride: 8,
                count: 4,
                live: &[15],
                extra: "",
                now_ms: 0,
            };
            assert_eq!(batch.check(4, 4).map_err(|error| error.text), Ok(()));
            let refused = batch.check(4, 9).map_err(|error| error.text);
            assert!(refused.is_err_and(|text| text.contains("new values")));
        }
    }
}
