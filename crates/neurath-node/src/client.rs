//! The client of the control socket: what `neurath relup` and `neurath node status` use.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::control::{SocketPath, SocketPathError};
use crate::peer::Peer;
use crate::protocol::{
    Answer, FrameError, Progress, Request, Response, code, read_frame, write_frame,
};

/// How long a request that changes nothing waits for each frame of its answer.
pub const QUICK: Duration = Duration::from_secs(30);
/// How long sending a request may take.
const SEND: Duration = Duration::from_secs(10);
/// How often a request that changes nothing is asked again.
const AGAIN: u32 = 3;

/// Why a node could not be asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("no node runs in {}; start one with `neurath node start --dir {}`", directory.display(), directory.display())]
    NoNode {
        /// The directory.
        directory: PathBuf,
    },
    /// The socket is somebody else's.
    #[error("the node in {} is not yours to control; ask as the user that runs it, or as root", directory.display())]
    NotAllowed {
        /// The directory.
        directory: PathBuf,
    },
    /// The path of the socket cannot be used.
    #[error(transparent)]
    Path(#[from] SocketPathError),
    /// The connection could not be made.
    #[error("cannot reach the node in {}: {source}; look at its directory", directory.display())]
    Connect {
        /// The directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The request could not be sent whole; the node has not begun it.
    #[error("cannot send the request to the node in {}: {source}", directory.display())]
    Send {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: FrameError,
    },
    /// The answer did not come. A request that changes something may have been carried out.
    #[error("the node in {} gave no answer: {source}; `neurath node status` tells what runs, and the journal in the directory what it did", directory.display())]
    NoAnswer {
        /// The directory.
        directory: PathBuf,
        /// Why.
        source: FrameError,
        /// Whether the request may have changed something.
        may_have_acted: bool,
    },
}

impl ClientError {
    /// Whether the node closed the connection instead of an answer.
    fn is_closed(&self) -> bool {
        let (Self::Send { source, .. } | Self::NoAnswer { source, .. }) = self else {
            return false;
        };
        match source {
            FrameError::Closed | FrameError::Truncated => true,
            FrameError::Io(error) => matches!(
                error.kind(),
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe
            ),
            _ => false,
        }
    }

    /// The exit code for the command line.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoAnswer {
                may_have_acted: true,
                ..
            } => code::INCONCLUSIVE,
            _ => code::OPERATOR,
        }
    }
}

/// A connection to a running node.
#[derive(Debug)]
pub struct Client {
    directory: PathBuf,
    stream: UnixStream,
    timeout: Option<Duration>,
}

impl Client {
    /// Connects to the node that runs in `directory`.
    pub fn connect(directory: impl AsRef<Path>) -> Result<Self, ClientError> {
        let directory = directory.as_ref().to_owned();
        let path = match SocketPath::in_directory(&directory) {
            Ok(path) => path,
            Err(SocketPathError::Directory { source, .. })
                if source.kind() == io::ErrorKind::NotFound =>
            {
                return Err(ClientError::NoNode { directory });
            }
            Err(error) => return Err(error.into()),
        };
        let stream = match UnixStream::connect(path.of(crate::directory::CONTROL_SOCKET)) {
            Ok(stream) => stream,
            Err(source) => {
                return Err(match source.kind() {
                    io::ErrorKind::NotFound
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotADirectory => ClientError::NoNode { directory },
                    io::ErrorKind::PermissionDenied => ClientError::NotAllowed { directory },
                    _ => ClientError::Connect { directory, source },
                });
            }
        };
        let client = Self {
            directory,
            stream,
            timeout: None,
        };
        match client.stream.set_write_timeout(Some(SEND)) {
            Ok(()) => Ok(client),
            Err(source) => Err(ClientError::Connect {
                directory: client.directory,
                source,
            }),
        }
    }

    /// The node's process, as it is seen from here.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn node(&self) -> io::Result<Peer> {
        Peer::of(&self.stream)
    }

    /// Limits how long each frame of an answer may take, for every request.
    ///
    /// Without this a request that changes nothing waits [`QUICK`], and any other as long as it takes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout.max(Duration::from_millis(1)));
        self
    }

    /// Sends a request, passes on its progress, and gives its end.
    ///
    /// One that changes nothing is asked again where the node's program is replaced in the midst of it: the node is
    /// there all the time, and only its connections to clients like this one end.
    pub fn request(
        &mut self,
        request: &Request,
        mut on_progress: impl FnMut(Progress),
    ) -> Result<Response, ClientError> {
        let mut tries = 0;
        loop {
            match self.ask(request, &mut on_progress) {
                Err(error) if tries < AGAIN && request.is_read_only() && error.is_closed() => {
                    tries += 1;
                    self.stream = Self::connect(&self.directory)?.stream;
                }
                ended => return ended,
            }
        }
    }

    fn ask(
        &mut self,
        request: &Request,
        on_progress: &mut dyn FnMut(Progress),
    ) -> Result<Response, ClientError> {
        let sent = write_frame(&mut self.stream, request);
        // A node that refuses (busy, not allowed) answers without reading: its answer tells more than the failed write.
        let send_error = match sent {
            Ok(()) => None,
            Err(FrameError::Closed) => Some(FrameError::Closed),
            Err(source) => {
                return Err(ClientError::Send {
                    directory: self.directory.clone(),
                    source,
                });
            }
        };
        let unanswered = |source| ClientError::NoAnswer {
            directory: self.directory.clone(),
            source,
            may_have_acted: send_error.is_none() && !request.is_read_only(),
        };
        let timeout = self
            .timeout
            .or_else(|| request.is_read_only().then_some(QUICK));
        self.stream
            .set_read_timeout(timeout)
            .map_err(|error| unanswered(FrameError::Io(error)))?;
        loop {
            match read_frame(&mut self.stream) {
                Ok(Answer::Progress(progress)) => on_progress(progress),
                Ok(Answer::Done(outcome)) => return Ok(Response::Done(outcome)),
                Ok(Answer::Failed(failure)) => return Ok(Response::Failed(failure)),
                Err(source) => return Err(unanswered(source)),
            }
        }
    }
}
