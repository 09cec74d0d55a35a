//! The new node's side: it fetches what the old one had.

use std::io::{self, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, WaitOptions};

use super::keeper::{SERVES, SOCKET};
use super::parcel::{self, Descriptors, Parcel, ParcelError};
use super::record::{Record, RecordError};
use crate::control::{SocketPath, SocketPathError};
use crate::peer::Peer;

/// How long the keeper may take for each part of its answer.
const KEEPER: Duration = Duration::from_secs(10);

/// Why nothing arrived.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArriveError {
    /// Nobody keeps anything.
    #[error("nobody keeps what the node before had: {0}")]
    NoKeeper(io::Error),
    /// The keeper's socket has no path.
    #[error(transparent)]
    Path(#[from] SocketPathError),
    /// It was not passed on, or is not understood.
    #[error("{source}")]
    Parcel {
        /// The process that keeps it: its program is the one before.
        keeper: Pid,
        /// Why.
        source: ParcelError,
    },
}

/// All that the node before had.
#[derive(Debug)]
pub struct Arrival {
    pub(crate) record: Record,
    pub(crate) descriptors: Descriptors,
    /// Why it is the old node that takes over, where it is.
    pub(crate) because: Option<String>,
    /// Whoever waits for this node to serve.
    keeper: Option<(UnixStream, Pid)>,
}

/// Fetches what the node before in this process had. `because` says why that was not this program.
///
/// # Errors
///
/// [`ArriveError`].
pub fn arrive(directory: &Path, because: Option<String>) -> Result<Arrival, ArriveError> {
    let path = SocketPath::in_directory(directory)?;
    let stream = UnixStream::connect(path.of(SOCKET)).map_err(ArriveError::NoKeeper)?;
    let keeper = Peer::of(&stream).map_err(ArriveError::NoKeeper)?.pid;
    let keeper = keeper.and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let keeper = keeper.ok_or_else(|| ArriveError::NoKeeper(io::ErrorKind::NotFound.into()))?;
    let received = || -> Result<_, ParcelError> {
        stream.set_read_timeout(Some(KEEPER))?;
        stream.set_write_timeout(Some(KEEPER))?;
        Ok(parcel::receive(&stream)?.open()?)
    };
    let (record, descriptors) =
        received().map_err(|source| ArriveError::Parcel { keeper, source })?;
    Ok(Arrival {
        record,
        descriptors,
        because,
        keeper: Some((stream, keeper)),
    })
}

impl Arrival {
    /// What a keeper has kept, for the node that it is now.
    ///
    /// # Errors
    ///
    /// The record is not whole, which its writer saw to.
    pub fn kept(parcel: Parcel, because: String) -> Result<Arrival, RecordError> {
        let (record, descriptors) = parcel.open()?;
        Ok(Arrival {
            record,
            descriptors,
            because: Some(because),
            keeper: None,
        })
    }

    /// The process that keeps everything until this node serves; its program is the one before.
    pub fn keeper(&self) -> Option<Pid> {
        self.keeper.as_ref().map(|(_, pid)| *pid)
    }

    /// Why it is the old node that takes over, where it is.
    pub fn because(&self) -> Option<&str> {
        self.because.as_deref()
    }

    /// Tells the keeper that this node serves from now on, and sees its process off.
    pub(crate) fn served(&mut self) {
        let Some((stream, pid)) = self.keeper.take() else {
            return;
        };
        let told = (&stream).write_all(&[SERVES]);
        if let Err(error) = told.and_then(|()| parcel::read_byte(&stream)) {
            tracing::warn!(%error, "the keeper did not say good-bye");
        }
        // It is a child of this process, whoever the program before was.
        let thread = std::thread::Builder::new().name("neurath-reaper".into());
        let waiting = thread.spawn(move || {
            while let Err(rustix::io::Errno::INTR) =
                rustix::process::waitpid(Some(pid), WaitOptions::empty())
            {}
        });
        if let Err(error) = waiting {
            tracing::debug!(%error, "nobody waits for the keeper's end");
        }
    }
}
