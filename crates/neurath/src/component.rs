use std::collections::BTreeMap;

use neurath_abi::{MessageKind, Token};
use neurath_pmem::{Pmem, Tx};
use serde::de::DeserializeOwned;

use crate::{Context, Result};

/// A component: its state, and what it does with a message.
pub trait Component: Pmem {
    /// The instance's configuration, from the release. `()` for none.
    type Config: DeserializeOwned;

    /// Makes a new, empty state.
    ///
    /// # Errors
    ///
    /// An instance that cannot be made keeps the node from starting its release.
    fn create(tx: &mut Tx<'_>, config: &Self::Config) -> Result<Self>;

    /// Serves one message. An error drops what was changed, answered and sent.
    ///
    /// # Errors
    ///
    /// Why the message is refused.
    fn handle(cx: &mut Context<'_, Self>, message: Message<'_>) -> Result<()>;

    /// Starts work on a new, a migrated or a recovered state.
    ///
    /// # Errors
    ///
    /// An upgrade is undone then.
    fn init(cx: &mut Context<'_, Self>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Stops ongoing work, before a suspension. The old version may be a bad one: nothing
    /// that must happen belongs here.
    ///
    /// # Errors
    ///
    /// An upgrade is undone then.
    fn quiesce(cx: &mut Context<'_, Self>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Trivial clean-up. The state may already be somebody else's: then the handle leads
    /// to a dummy.
    ///
    /// # Errors
    ///
    /// They are logged.
    fn terminate(cx: &mut Context<'_, Self>) -> Result<()> {
        let _ = cx;
        Ok(())
    }

    /// Takes note of a configuration that has changed while the instance runs on, as it does in a release
    /// that changes nothing else of the component. [`Context::config`] gives the new one. What it changes
    /// is dropped with the upgrade; then it is called again, the other way round.
    ///
    /// # Errors
    ///
    /// An upgrade is undone then.
    fn config_change(cx: &mut Context<'_, Self>, change: &ConfigChange) -> Result<()> {
        let _ = (cx, change);
        Ok(())
    }

    /// Looks whether the state makes sense. What it changes is dropped.
    ///
    /// # Errors
    ///
    /// What is wrong with the state; an upgrade is undone then.
    fn check_state(cx: &mut Context<'_, Self>) -> Result<()> {
        let _ = cx;
        Ok(())
    }
}

/// What of a configuration has changed.
#[derive(Clone, Debug, Default, PartialEq, serde::Deserialize)]
pub struct ConfigChange {
    /// The keys that have another value now, with it.
    pub changed: BTreeMap<String, serde_json::Value>,
    /// The keys that were not there before, with their values.
    pub new: BTreeMap<String, serde_json::Value>,
    /// The keys that are gone.
    pub removed: Vec<String>,
}

/// What happened.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Message<'a> {
    /// A connection was accepted.
    Opened {
        /// Its number, never used again.
        connection: u64,
    },
    /// Bytes came in. All that was not consumed yet are there: see [`Context::consume`].
    Data {
        /// The connection.
        connection: u64,
        /// The 64 bits kept with it.
        user: u64,
        /// The bytes.
        bytes: &'a [u8],
    },
    /// A connection is gone.
    Closed {
        /// Its number.
        connection: u64,
    },
    /// Another component, or a program that embeds the node, asks for something.
    Request {
        /// Who is to be answered; [`Token::NONE`] for nobody.
        token: Token,
        /// What it says.
        bytes: &'a [u8],
    },
    /// A timer went off.
    Timer {
        /// Which.
        id: u64,
    },
}

impl Message<'_> {
    /// The message as it crossed the boundary; `None` for a kind of a newer node.
    ///
    /// # Safety
    ///
    /// The bytes of `message` are valid for the lifetime given.
    pub(crate) unsafe fn from_abi<'a>(message: &neurath_abi::Message) -> Option<Message<'a>> {
        let (connection, user, token) = (message.source, message.user, message.token);
        // SAFETY: the caller's promise.
        let bytes = unsafe { message.bytes.as_slice() };
        Some(match message.kind {
            MessageKind::OPENED => Message::Opened { connection },
            MessageKind::DATA => Message::Data {
                connection,
                user,
                bytes,
            },
            MessageKind::CLOSED => Message::Closed { connection },
            MessageKind::REQUEST => Message::Request { token, bytes },
            MessageKind::TIMER => Message::Timer { id: message.source },
            _ => return None,
        })
    }
}
