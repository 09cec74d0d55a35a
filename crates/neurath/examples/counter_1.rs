//! A counter, version 1.0.0: each line that comes in counts, and is answered by the number.

use neurath::{Component, Context, Message, Pmem, Result, Tx, component};

component!(Counter, name = "counter", version = "1.0.0");

/// The state. It lives in the region, not in this library.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Counter {
    /// Lines so far.
    pub count: u64,
}

/// What a release says about it.
#[derive(serde::Deserialize)]
pub struct Config {
    /// The address to listen on.
    pub listen: String,
}

impl Component for Counter {
    type Config = Config;

    fn create(_: &mut Tx<'_>, _: &Config) -> Result<Self> {
        Ok(Counter { count: 0 })
    }

    fn init(cx: &mut Context<'_, Self>) -> Result<()> {
        let config = cx.config()?;
        cx.listen(&config.listen)
    }

    // One message, one transaction: the answer leaves after the commit.
    fn handle(cx: &mut Context<'_, Self>, message: Message<'_>) -> Result<()> {
        let Message::Data {
            connection, bytes, ..
        } = message
        else {
            return Ok(());
        };
        let mut done = 0;
        while let Some(length) = bytes[done..].iter().position(|byte| *byte == b'\n') {
            let count = cx.with(|state, _| {
                state.count += 1;
                Ok(state.count)
            })?;
            let token = cx.next_token(connection);
            cx.reply(token, format!("{count}\n").as_bytes())?;
            done += length + 1;
        }
        // The rest, half a line, comes again with the bytes that follow it.
        cx.consume(done);
        Ok(())
    }
}
