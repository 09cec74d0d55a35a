//! Listening sockets that somebody else has made: a service manager, which holds them while no node runs.

use std::io;
use std::net::{TcpListener, ToSocketAddrs as _};
use std::sync::Arc;

/// The sockets. They stay here also while a component listens with one: whoever has made them has them open
/// anyway, and another version may ask again.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inherited(Arc<Vec<TcpListener>>);

impl Inherited {
    pub(crate) fn new(sockets: Arc<Vec<TcpListener>>) -> Inherited {
        Inherited(sockets)
    }

    /// Listens at an address: with the socket that is there for it, or with a new one.
    ///
    /// # Errors
    ///
    /// If the address is none, or cannot be had.
    pub(crate) fn listen(&self, address: &str) -> io::Result<TcpListener> {
        let listener = match self.find(address)? {
            Some(there) => there.try_clone()?,
            None => TcpListener::bind(address)?,
        };
        listener.set_nonblocking(true)?;
        Ok(listener)
    }

    fn find(&self, address: &str) -> io::Result<Option<&TcpListener>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let wanted: Vec<_> = address.to_socket_addrs()?.collect();
        let is_wanted = |one: &&TcpListener| {
            one.local_addr()
                .is_ok_and(|address| wanted.contains(&address))
        };
        Ok(self.0.iter().find(is_wanted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[test]
    fn a_socket_that_is_there_is_used_again_and_again() -> io::Result<()> {
        let there = TcpListener::bind("127.0.0.1:0")?;
        let address = there.local_addr()?.to_string();
        let inherited = Inherited::new(Arc::new(vec![there]));
        for _ in 0..2 {
            let listener = inherited.listen(&address)?;
            listener.set_nonblocking(false)?;
            let _client = TcpStream::connect(&address)?;
            assert!(listener.accept().is_ok(), "by the same queue");
        }
        let other = inherited.listen("127.0.0.1:0")?.local_addr()?.to_string();
        assert_ne!(other, address);
        assert!(
            Inherited::default().listen(&address).is_err(),
            "it is in use"
        );
        assert!(inherited.listen("nonsense").is_err());
        Ok(())
    }
}
