//! Who is at the other end of a local socket, by the kernel's word.

use std::fmt;
use std::io;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt};

/// The process at the other end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its process number; nothing if it is in a namespace of processes that this one does not see into, as that
    /// of the machine is for a container.
    pub pid: Option<u32>,
}

impl Peer {
    /// Who has connected, or who listened where this stream was connected to.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn of(stream: &UnixStream) -> io::Result<Peer> {
        let credentials = getsockopt(stream, sockopt::PeerCredentials)?;
        Ok(Peer {
            uid: credentials.uid(),
            pid: u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "uid {} pid {pid}", self.uid),
            None => write!(f, "uid {} in another namespace of processes", self.uid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_names_this_process() {
        let (one, other) = UnixStream::pair().unwrap();
        let peer = Peer::of(&one).unwrap();
        assert_eq!(peer, Peer::of(&other).unwrap());
        assert_eq!(peer.pid, Some(std::process::id()));
        assert_eq!(peer.uid, rustix::process::geteuid().as_raw());
    }
}
