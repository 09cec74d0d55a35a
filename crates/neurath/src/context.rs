use std::marker::PhantomData;
use std::time::Duration;

use neurath_abi::{Bytes, Call, HostOps, InfoKey, LogLevel, Status, Token};
use neurath_pmem::Tx;

use crate::{Component, Error, Result};

/// What a component can do while it serves one call: reach its state, answer, send.
#[derive(Debug)]
pub struct Context<'a, S> {
    call: &'a mut Call,
    state: PhantomData<fn() -> S>,
}

impl<'a, S: Component> Context<'a, S> {
    /// # Safety
    ///
    /// `call` is the node's, for `'a`, with valid pointers.
    pub(crate) unsafe fn new(call: &'a mut Call) -> Context<'a, S> {
        Context {
            call,
            state: PhantomData,
        }
    }

    /// Works on the state: reads it, lets `work` change it, and writes back what changed.
    ///
    /// # Errors
    ///
    /// Those of `work` and of the transaction. If the caller does not pass an error on, the
    /// state is written as far as `work` had got with its objects, but not its own fields:
    /// pass it on.
    pub fn with<R>(&mut self, work: impl FnOnce(&mut S, &mut Tx<'_>) -> Result<R>) -> Result<R> {
        // SAFETY: the node's slot, for this call; `self` is borrowed, so it is the only one.
        let mut tx = unsafe { Tx::new(self.call.region) };
        let root = tx.root::<S>();
        let mut state = tx.read(root)?;
        let result = work(&mut state, &mut tx)?;
        tx.write(root, &state)?;
        Ok(result)
    }

    /// Looks at the state.
    ///
    /// # Errors
    ///
    /// Those of `look` and of the transaction.
    pub fn look<R>(&self, look: impl FnOnce(&S, &Tx<'_>) -> Result<R>) -> Result<R> {
        // SAFETY: the node's slot, for this call; nothing is changed through it.
        let tx = unsafe { Tx::new(self.call.region) };
        let state = tx.read(tx.root::<S>())?;
        look(&state, &tx)
    }

    /// The instance's configuration.
    ///
    /// # Errors
    ///
    /// If the release's configuration does not fit the type.
    pub fn config(&self) -> Result<S::Config> {
        // SAFETY: valid for this call.
        let json = unsafe { self.call.config.as_slice() };
        parse_config(json)
    }

    /// Milliseconds since 1970, UTC, when the call began.
    pub fn now_ms(&self) -> u64 {
        self.call.now_ms
    }

    /// Says that the first `count` bytes of a [`crate::Message::Data`] are done with. The
    /// others come again, with those that follow them.
    pub fn consume(&mut self, count: usize) {
        self.call.consumed = count;
    }

    /// Answers a request; once for each token.
    ///
    /// # Errors
    ///
    /// If the token has been answered, or never was given.
    pub fn reply(&mut self, token: Token, bytes: &[u8]) -> Result<()> {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        let status = unsafe { ((*host_ops).reply)(host, token, Bytes::new(bytes)) };
        done(status, "answer")
    }

    /// Sends a message to another component, whose answer goes to `token`. One with several
    /// instances is sent to by [`Context::send_to`].
    ///
    /// # Errors
    ///
    /// If the release has no such component, or the component has several instances.
    pub fn send(&mut self, component: &str, token: Token, bytes: &[u8]) -> Result<()> {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        let status = unsafe {
            let component = Bytes::new(component.as_bytes());
            ((*host_ops).send)(host, component, token, Bytes::new(bytes))
        };
        done(status, "send to the component")
    }

    /// Sends a message to one instance of a component, whose answer goes to `token`.
    ///
    /// # Errors
    ///
    /// If the release has no such component, or it has fewer instances.
    pub fn send_to(
        &mut self,
        component: &str,
        instance: u32,
        token: Token,
        bytes: &[u8],
    ) -> Result<()> {
        self.send(&format!("{component}.{instance}"), token, bytes)
    }

    /// The next place in a connection's line of answers: answers leave in the order in which
    /// their tokens were taken, whoever gives them first.
    pub fn next_token(&mut self, connection: u64) -> Token {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        unsafe { ((*host_ops).next_token)(host, connection) }
    }

    /// Keeps 64 bits with a connection. They outlive this version of the component.
    ///
    /// # Errors
    ///
    /// If there is no such connection.
    pub fn set_user(&mut self, connection: u64, user: u64) -> Result<()> {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        done(
            unsafe { ((*host_ops).connection_set)(host, connection, user) },
            "keep",
        )
    }

    /// Closes a connection, after everything answered so far has been written.
    ///
    /// # Errors
    ///
    /// If there is no such connection.
    pub fn close(&mut self, connection: u64) -> Result<()> {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        done(
            unsafe { ((*host_ops).connection_close)(host, connection) },
            "close",
        )
    }

    /// Listens on an address, such as `127.0.0.1:7379`. A socket that already does so for
    /// this component is kept. Each `init` asks for all that there are to be: those before that it does
    /// not ask for are closed by the upgrade. A `config_change` asks for those that are to come, and
    /// what the configuration does not name any more is closed.
    ///
    /// # Errors
    ///
    /// If the address cannot be had.
    pub fn listen(&mut self, address: &str) -> Result<()> {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        let status = unsafe { ((*host_ops).listen)(host, Bytes::new(address.as_bytes())) };
        done(status, "listen").map_err(|_| Error::new(format!("cannot listen on {address}")))
    }

    /// Sets a timer, in place of the one with the same id. It outlives this version.
    ///
    /// # Errors
    ///
    /// If the node has no room for it.
    pub fn timer(&mut self, id: u64, after: Duration) -> Result<()> {
        let Call { host, host_ops, .. } = *self.call;
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX);
        // SAFETY: the node's function and its first argument, during its call.
        done(
            unsafe { ((*host_ops).timer)(host, id, after) },
            "set the timer",
        )
    }

    /// Writes a line to the node's log.
    pub fn log(&self, level: LogLevel, text: &str) {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        unsafe { ((*host_ops).log)(host, level, Bytes::new(text.as_bytes())) }
    }

    /// The number of this instance among those of its component, from 0.
    pub fn instance(&self) -> u32 {
        // The node has no more instances than that.
        self.info(InfoKey::INSTANCE) as u32
    }

    /// How many instances a component of the release has; 0 if the release has no such component.
    /// [`crate::instance_of`] divides keys among them.
    pub fn instances(&self, component: &str) -> u32 {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: valid during the node's call; its size is in every version of the table.
        let size = unsafe { (*host_ops).size } as usize;
        if size < std::mem::offset_of!(HostOps, instances) + size_of::<usize>() {
            // A node of before runs one of each.
            return 1;
        }
        // SAFETY: the node's function and its first argument, during its call.
        unsafe { ((*host_ops).instances)(host, Bytes::new(component.as_bytes())) }
    }

    /// A figure that the node knows.
    pub fn info(&self, key: InfoKey) -> u64 {
        let Call { host, host_ops, .. } = *self.call;
        // SAFETY: the node's function and its first argument, during its call.
        unsafe { ((*host_ops).info)(host, key) }
    }
}

pub(crate) fn parse_config<C: serde::de::DeserializeOwned>(json: &[u8]) -> Result<C> {
    parse_table(json, "the configuration does not fit")
}

/// Reads a table, or says what does not fit.
pub(crate) fn parse_table<C: serde::de::DeserializeOwned>(
    json: &[u8],
    otherwise: &str,
) -> Result<C> {
    // Nothing at all is an empty table, which `()` does not read.
    let json = if json == b"{}" && size_of::<C>() == 0 {
        b"null"
    } else {
        json
    };
    serde_json::from_slice(json).map_err(|error| {
        Error::new(format!(
            "{otherwise}: {}",
            without_value(&error.to_string())
        ))
    })
}

/// What serde says of a value that does not fit, without the value: it may be a secret, and the text goes into logs.
fn without_value(text: &str) -> String {
    for wrong in ["invalid type: ", "invalid value: ", "unknown variant "] {
        let (Some(at), Some(end)) = (text.find(wrong), text.rfind(", expected ")) else {
            continue;
        };
        // The kind of the value stands before it: string "…", integer `…`.
        let found = text.get(at + wrong.len()..end).unwrap_or_default();
        let kind = found.split(['"', '`']).next().unwrap_or_default().trim();
        let head = text[..at + wrong.len()].trim_end();
        return format!("{head} {kind}{}", &text[end..]).replace(" ,", ",");
    }
    text.to_owned()
}

fn done(status: Status, what: &str) -> Result<()> {
    if status.is_ok() {
        Ok(())
    } else {
        Err(Error::new(format!("the node refused to {what}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[expect(dead_code, reason = "only read")]
    struct Config {
        limit: Option<u8>,
        mode: Option<Mode>,
        name: Option<String>,
    }

    #[derive(Debug, serde::Deserialize)]
    enum Mode {
        Fast,
    }

    #[test]
    fn what_does_not_fit_is_told_without_its_value() {
        let told = |json: &str| {
            let read = parse_config::<Config>(json.as_bytes());
            read.expect_err("it does not fit").to_string()
        };
        for json in [
            r#"{"limit": "s3cret"}"#,
            r#"{"mode": "s3cret"}"#,
            r#"{"limit": "s3cret, expected nothing"}"#,
        ] {
            let said = told(json);
            assert!(
                said.contains("expected") && !said.contains("s3cret"),
                "{said}"
            );
        }
        for json in [r#"{"limit": 77777}"#, r#"{"name": 77777}"#] {
            assert!(!told(json).contains("77777"), "{}", told(json));
        }
        assert_eq!(
            told(r#"{"limit": "s3cret"}"#),
            "the configuration does not fit: invalid type: string, expected u8 at line 1 column 18"
        );
        assert!(parse_config::<Config>(br#"{"limit": 7, "mode": "Fast"}"#).is_ok());
    }
}
