//! What a client and a node say to each other over the control socket.
//!
//! A frame is a length (`u32`, little endian, at most [`FRAME_LIMIT`]) and so many bytes of JSON:
//! `{"version":1,"body":…}`. A client sends [`Request`]s one after the other; the node answers each with any number of
//! [`Progress`] frames and exactly one `done` or `failed`. Described in `docs/control-protocol.md`.

mod answer;
mod frame;
mod request;
mod status;
#[cfg(test)]
mod tests;

pub use answer::{
    Answer, Copied, CopiedInstance, Failure, Outcome, Planned, Progress, Response, SnapshotMade,
    StepTime, ThrownAway, Upgraded,
};
pub use frame::{FRAME_LIMIT, FrameError, VERSION, decode, encode, read_frame, write_frame};
pub use request::Request;
pub use status::{
    ComponentStatus, InFlight, KeptSnapshot, KnownRelease, ResetState, Retained, Status, StepNow,
    Sweep, Trust,
};

/// The exit codes that a [`Failure`] carries: the same as the command line's.
pub mod code {
    /// The request was not understood.
    pub const USAGE: u8 = 2;
    /// A lint refused the plan.
    pub const LINT: u8 = 20;
    /// The plan is stale: it was made for another state of the node.
    pub const STALE: u8 = 21;
    /// The journal or catalog was edited.
    pub const HISTORY: u8 = 22;
    /// A signature or a sequence number was refused.
    pub const SIGNATURE: u8 = 23;
    /// Another operation, or too many clients.
    pub const BUSY: u8 = 30;
    /// The upgrade failed and the old release is healthy.
    pub const UPGRADE_FAILED: u8 = 40;
    /// It cannot be told; nothing was committed.
    pub const INCONCLUSIVE: u8 = 41;
    /// A person must look.
    pub const OPERATOR: u8 = 50;
}
