//! What a component asked for during one call: kept apart until the call has succeeded and
//! its transaction is committed.

use std::net::TcpListener;
use std::sync::Arc;

use neurath_abi::{InfoKey, LogLevel, Status, Token};

use super::figures::Figures;
use super::inherited::Inherited;
use super::peers::Peers;
use crate::loader::Services;

/// One thing asked for. Bytes are ranges of [`Effects::bytes`].
#[derive(Debug)]
pub(crate) enum Effect {
    Reply {
        token: Token,
        bytes: std::ops::Range<usize>,
    },
    Send {
        component: String,
        number: u32,
        token: Token,
        bytes: std::ops::Range<usize>,
    },
    SetUser {
        connection: u64,
        user: u64,
    },
    Close {
        connection: u64,
    },
    Listen {
        address: String,
        listener: TcpListener,
    },
    Timer {
        id: u64,
        after_ms: u64,
    },
}

/// What of the shard's connections a call may see.
pub(crate) trait Line {
    /// The next place in a connection's line of answers; taken back if the call fails.
    fn take(&mut self, connection: u64) -> Token;
    /// Whether there is such a connection.
    fn has(&self, connection: u64) -> bool;
}

/// No connections: for calls outside of a shard's loop.
#[derive(Debug)]
pub(crate) struct NoLine;

impl Line for NoLine {
    fn take(&mut self, _: u64) -> Token {
        Token::NONE
    }
    fn has(&self, _: u64) -> bool {
        false
    }
}

/// Collects what is asked for. Reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) list: Vec<Effect>,
    pub(crate) bytes: Vec<u8>,
    /// Every address that was asked to be listened at, also where a socket was there already.
    pub(crate) asked_for: Vec<String>,
}

impl Effects {
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.asked_for.clear();
        self.bytes.clear();
        self.bytes.shrink_to(1 << 20);
    }

    /// Every address that was asked to be listened at.
    pub(crate) fn take_asked_for(&mut self) -> Vec<String> {
        std::mem::take(&mut self.asked_for)
    }

    fn add(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        start..self.bytes.len()
    }
}

/// Where an instance listens.
#[derive(Clone, Debug)]
pub(crate) enum Listening {
    /// At these addresses, in its own words.
    At(Vec<String>),
    /// Nowhere, whatever it asks for: it is only rehearsed.
    Nowhere,
}

/// The services of one call.
#[derive(Debug)]
pub(crate) struct Asked<'a, L> {
    /// The component that asks.
    pub(crate) component: &'a str,
    /// The number of the instance.
    pub(crate) number: u32,
    /// Who can be sent to.
    pub(crate) peers: &'a Peers,
    /// Where it listens already.
    pub(crate) listening: &'a Listening,
    /// What it listens with where a socket is there.
    pub(crate) inherited: &'a Inherited,
    pub(crate) line: &'a mut L,
    pub(crate) effects: &'a mut Effects,
    pub(crate) figures: &'a Arc<Figures>,
    /// Bytes of the region's file and of its live objects.
    pub(crate) region: (u64, u64),
}

/// Timers that an instance may have; ids are small numbers or the like.
const TIMER_MAX_MS: u64 = 365 * 24 * 3600 * 1000;

impl<L: Line> Services for Asked<'_, L> {
    fn reply(&mut self, token: Token, bytes: &[u8]) -> Status {
        if token == Token::NONE {
            // Nobody waits: a message that was only sent is served as one that asks.
            return Status::OK;
        }
        let bytes = self.effects.add(bytes);
        self.effects.list.push(Effect::Reply { token, bytes });
        Status::OK
    }

    fn send(&mut self, component: &str, token: Token, bytes: &[u8]) -> Status {
        let Ok((component, number)) = self.peers.find(component) else {
            return Status::NOT_FOUND;
        };
        let bytes = self.effects.add(bytes);
        self.effects.list.push(Effect::Send {
            component: component.to_owned(),
            number,
            token,
            bytes,
        });
        Status::OK
    }

    fn next_token(&mut self, connection: u64) -> Token {
        self.line.take(connection)
    }

    fn connection_set(&mut self, connection: u64, user: u64) -> Status {
        if !self.line.has(connection) {
            return Status::NOT_FOUND;
        }
        self.effects.list.push(Effect::SetUser { connection, user });
        Status::OK
    }

    fn connection_close(&mut self, connection: u64) -> Status {
        if !self.line.has(connection) {
            return Status::NOT_FOUND;
        }
        self.effects.list.push(Effect::Close { connection });
        Status::OK
    }

    fn listen(&mut self, address: &str) -> Status {
        self.effects.asked_for.push(address.to_owned());
        match self.listening {
            Listening::At(known) if !known.iter().any(|known| known == address) => {}
            Listening::At(_) | Listening::Nowhere => return Status::OK,
        }
        match self.inherited.listen(address) {
            Ok(listener) => {
                let address = address.to_owned();
                self.effects.list.push(Effect::Listen { address, listener });
                Status::OK
            }
            Err(error) => {
                tracing::error!(component = self.component, address, %error, "cannot listen");
                Status::FAILED
            }
        }
    }

    fn timer(&mut self, id: u64, after_ms: u64) -> Status {
        self.effects.list.push(Effect::Timer {
            id,
            after_ms: after_ms.min(TIMER_MAX_MS),
        });
        Status::OK
    }

    fn log(&mut self, level: LogLevel, text: &str) {
        let component = self.component;
        match level {
            LogLevel::ERROR => tracing::error!(component, "{text}"),
            LogLevel::WARN => tracing::warn!(component, "{text}"),
            LogLevel::INFO => tracing::info!(component, "{text}"),
            _ => tracing::debug!(component, "{text}"),
        }
    }

    fn info(&mut self, key: InfoKey) -> u64 {
        match key {
            InfoKey::REGION_BYTES => self.region.0,
            InfoKey::REGION_LIVE_BYTES => self.region.1,
            InfoKey::INSTANCE => self.number.into(),
            other => self.figures.get(other),
        }
    }

    fn instances(&mut self, component: &str) -> u32 {
        self.peers.instances(component)
    }
}
