//! Frames: how a request or an answer goes over the socket.

use std::io::{self, Read, Write};

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// The version of the protocol that this code speaks.
pub const VERSION: u32 = 1;

/// The longest frame, in bytes of JSON.
pub const FRAME_LIMIT: usize = 1024 * 1024;

/// Why a frame could not be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The other side closed the connection between two frames.
    #[error("the connection was closed")]
    Closed,
    /// The connection ended inside a frame.
    #[error("the connection ended inside a frame; ask again")]
    Truncated,
    /// Nothing came, or nothing could be sent, in time.
    #[error("the other side did not answer in time; ask again, or look whether it hangs")]
    TimedOut,
    /// The frame is longer than the limit.
    #[error(
        "a frame of {bytes} bytes is longer than the {FRAME_LIMIT} allowed; is this the control socket, and its protocol?"
    )]
    TooLong {
        /// Bytes of the frame.
        bytes: usize,
    },
    /// The frame speaks another version of the protocol.
    #[error(
        "the frame speaks version {found} of the protocol, this side {VERSION}; use the `neurath` that belongs to the node"
    )]
    Version {
        /// The version found.
        found: u64,
    },
    /// The frame is not what belongs here.
    #[error("the frame cannot be understood: {0}; use the `neurath` that belongs to the node")]
    Garbage(String),
    /// The operating system refused.
    #[error("the connection failed: {0}; ask again")]
    Io(io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::TimedOut,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Io(error),
        }
    }
}

#[derive(Serialize)]
struct Outgoing<'a, T> {
    version: u32,
    body: &'a T,
}

#[derive(Deserialize)]
struct Incoming<T> {
    body: T,
}

#[derive(Deserialize)]
struct Head {
    version: u64,
    #[serde(rename = "body")]
    _body: Option<IgnoredAny>,
}

/// The bytes of a frame.
pub fn encode<T: Serialize>(body: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(
        &mut bytes,
        &Outgoing {
            version: VERSION,
            body,
        },
    )
    .map_err(|error| FrameError::Garbage(error.to_string()))?;
    let length = bytes.len() - 4;
    if length > FRAME_LIMIT {
        return Err(FrameError::TooLong { bytes: length });
    }
    bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(bytes)
}

/// The body of a frame, out of its JSON (without the length).
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, FrameError> {
    let garbage = |error: serde_json::Error| FrameError::Garbage(error.to_string());
    let head: Head = serde_json::from_slice(json).map_err(garbage)?;
    if head.version != u64::from(VERSION) {
        return Err(FrameError::Version {
            found: head.version,
        });
    }
    serde_json::from_slice::<Incoming<T>>(json)
        .map(|frame| frame.body)
        .map_err(garbage)
}

/// Writes one frame.
pub fn write_frame<T: Serialize>(to: &mut impl Write, body: &T) -> Result<(), FrameError> {
    let bytes = encode(body)?;
    to.write_all(&bytes)?;
    Ok(to.flush()?)
}

/// Reads one frame. Memory grows with what arrives, not with what the length promises.
pub fn read_frame<T: DeserializeOwned>(from: &mut impl Read) -> Result<T, FrameError> {
    let mut length = [0; 4];
    let mut filled = 0;
    while filled < length.len() {
        match from.read(&mut length[filled..]) {
            Ok(0) if filled == 0 => return Err(FrameError::Closed),
            Ok(0) => return Err(FrameError::Truncated),
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > FRAME_LIMIT {
        return Err(FrameError::TooLong { bytes: length });
    }
    let mut json = Vec::new();
    from.by_ref().take(length as u64).read_to_end(&mut json)?;
    if json.len() < length {
        return Err(FrameError::Truncated);
    }
    decode(&json)
}
