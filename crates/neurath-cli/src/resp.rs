//! A client that asks one thing after the other.

use anyhow::{Context as _, bail};
use kv_resp::{Value, encode_command, parse_reply};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection to a key-value server.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// If nobody answers.
    pub fn open(address: &str) -> anyhow::Result<Self> {
        let stream =
            TcpStream::connect(address).with_context(|| format!("cannot reach {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self {
            stream,
            input: Vec::new(),
        })
    }

    /// Waits so long for a reply from here on.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn wait_for(&mut self, patience: Duration) -> std::io::Result<()> {
        self.stream.set_read_timeout(Some(patience))
    }

    /// Sends a command, and waits for its reply.
    ///
    /// # Errors
    ///
    /// If the connection fails; an error that the server replies is a value.
    pub fn ask(&mut self, command: &[&str]) -> anyhow::Result<Value> {
        let mut bytes = Vec::new();
        encode_command(&mut bytes, command);
        self.stream.write_all(&bytes)?;
        let mut piece = [0; 16 * 1024];
        loop {
            if let Some((value, length)) = parse_reply(&self.input)? {
                self.input.drain(..length);
                return Ok(value);
            }
            match self.stream.read(&mut piece)? {
                0 => bail!("the server closed the connection"),
                length => self.input.extend_from_slice(&piece[..length]),
            }
        }
    }
}
