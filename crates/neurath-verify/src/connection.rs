//! One blocking connection.

use kv_resp::{Value, parse_reply};
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

pub(crate) struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    at: usize,
    piece: Vec<u8>,
}

impl Connection {
    pub(crate) fn open(address: &str, timeout: Duration) -> io::Result<Self> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the address names no host");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    stream.set_read_timeout(Some(timeout))?;
                    stream.set_write_timeout(Some(timeout))?;
                    // A connection from a port to itself answers with the questions.
                    if stream.local_addr()? == stream.peer_addr()? {
                        return Err(io::ErrorKind::ConnectionRefused.into());
                    }
                    return Ok(Self {
                        stream,
                        input: Vec::new(),
                        at: 0,
                        piece: vec![0; 64 * 1024],
                    });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(crate) fn receive(&mut self) -> io::Result<Value> {
        loop {
            let rest = self.input.get(self.at..).unwrap_or_default();
            match parse_reply(rest) {
                Ok(Some((value, used))) => {
                    self.at += used;
                    if self.at == self.input.len() {
                        self.input.clear();
                        self.at = 0;
                    }
                    return Ok(value);
                }
                Ok(None) => {}
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            if self.at > 0 {
                self.input.drain(..self.at);
                self.at = 0;
            }
            match self.stream.read(&mut self.piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(length) => self
                    .input
                    .extend_from_slice(self.piece.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no reply in time"));
                }
                Err(error) => return Err(error),
            }
        }
    }
}
