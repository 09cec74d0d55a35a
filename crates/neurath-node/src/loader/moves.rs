//! One end of a move: a call that takes state out of a region, or puts it into one.

use std::ffi::c_void;
use std::mem::MaybeUninit;

use neurath_abi::{Bytes, MoveCall, Status};

use super::call::{self, CallError, RegionSource};
use super::{Library, MoveInfo};

/// Bytes of one part at most: what is in the node's memory of a move at one time.
pub const MOST: usize = 64 << 20;

/// What a call at one end of a move is about.
#[derive(Debug, Clone, Copy)]
pub struct MoveEnd<'a> {
    /// The component at the other end.
    pub peer: &'a str,
    /// The number of the instance there, and how many there are.
    pub peer_instance: (u32, u32),
    /// Whether what is changed here lasts.
    pub stays: bool,
    /// The instruction's `extra`, JSON.
    pub extra: &'a str,
    /// When the move began, in milliseconds since 1970.
    pub now_ms: u64,
    /// How far the end that gives has got.
    pub cursor: u64,
}

/// A part that was taken out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// What is moved, as the two libraries have agreed on it.
    pub value: Vec<u8>,
    /// Where the next part begins; `None` if this is the last.
    pub next: Option<u64>,
}

/// Where a part is put.
#[derive(Default)]
struct Sink(Option<Vec<u8>>);

unsafe extern "C" fn put(sink: *mut c_void, value: Bytes) -> Status {
    // SAFETY: the sink of `Library::move_with`, which is alive during its call and used by nobody else.
    let sink = unsafe { &mut *sink.cast::<Sink>() };
    if value.len > MOST || sink.0.is_some() {
        return Status::TOO_LARGE;
    }
    // SAFETY: the library's own bytes, valid for this call.
    sink.0 = Some(unsafe { value.as_slice() }.to_vec());
    Status::OK
}

impl Library {
    /// The number of an end of a move, for [`Library::move_out`] or [`Library::move_in`], and what it says of itself.
    pub fn find_move(
        &self,
        name: &str,
        incoming: bool,
        state: [u8; 16],
    ) -> Option<(usize, &MoveInfo)> {
        let all = self.description().moves.iter().enumerate();
        all.into_iter().find(|(_, one)| {
            (one.name.as_str(), one.incoming, one.state) == (name, incoming, state)
        })
    }

    /// Takes one part of a state out of `region`, in its open transaction.
    ///
    /// # Errors
    ///
    /// No such function, or what the component answered.
    pub fn move_out(
        &self,
        number: usize,
        region: &impl RegionSource,
        end: MoveEnd<'_>,
    ) -> Result<Given, CallError> {
        let (sink, next) = self.move_with(number, region, end, &[])?;
        match sink.0 {
            Some(value) => Ok(Given { value, next }),
            None => Err(CallError::refused("it gave nothing")),
        }
    }

    /// Puts one part of a state into `region`, in its open transaction.
    ///
    /// # Errors
    ///
    /// No such function, or what the component answered.
    pub fn move_in(
        &self,
        number: usize,
        region: &impl RegionSource,
        end: MoveEnd<'_>,
        value: &[u8],
    ) -> Result<(), CallError> {
        self.move_with(number, region, end, value).map(drop)
    }

    fn move_with(
        &self,
        number: usize,
        region: &impl RegionSource,
        end: MoveEnd<'_>,
        value: &[u8],
    ) -> Result<(Sink, Option<u64>), CallError> {
        let Some(function) = self.moves.get(number) else {
            return Err(CallError::refused(format!("there is no move {number}")));
        };
        let mut text = MaybeUninit::uninit();
        let mut sink = Sink::default();
        let mut raw = MoveCall {
            size: size_of::<MoveCall>() as u32,
            more: 0,
            region: region.slot(),
            stays: end.stays.into(),
            peer_instance: end.peer_instance.0,
            peer_instances: end.peer_instance.1,
            reserved: 0,
            peer: Bytes::new(end.peer.as_bytes()),
            extra: Bytes::new(end.extra.as_bytes()),
            now_ms: end.now_ms,
            cursor: end.cursor,
            value: Bytes::new(value),
            sink: (&raw mut sink).cast(),
            put,
            error: call::error_text(&mut text),
        };
        // SAFETY: a function of this component, which is loaded; the region is valid by the contract of
        // `RegionSource`, the rest lives on this stack. No function of a component unwinds.
        let status = unsafe { function(&raw mut raw) };
        match status.is_ok() {
            true => Ok((sink, (raw.more == 1).then_some(raw.cursor))),
            // SAFETY: `error` was made of `text` above.
            false => Err(unsafe { call::failure(status, &raw.error, &text) }),
        }
    }
}
