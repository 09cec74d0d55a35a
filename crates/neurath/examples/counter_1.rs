//! A counter, version 1.0.0: each line that comes in counts, and is answered by the number.

use neurath::{Component, Context, Message, Pmem, Result, Token, Tx, component};

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
        match message {
            Message::Data {
                connection, bytes, ..
            } => {
                let mut done = 0;
                while let Some(length) = bytes[done..].iter().position(|byte| *byte == b'\n') {
                    let answer = count(cx)?;
                    let token = cx.next_token(connection);
                    cx.reply(token, answer.as_bytes())?;
                    done += length + 1;
                }
                // The rest, half a line, comes again with the bytes that follow it.
                cx.consume(done);
            }
            // Another component asks, or a program that embeds the node.
            Message::Request { token, .. } => {
                let answer = count(cx)?;
                if token != Token::NONE {
                    cx.reply(token, answer.as_bytes())?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn count(cx: &mut Context<'_, Counter>) -> Result<String> {
    cx.with(|state, _| {
        state.count += 1;
        Ok(format!("{}\n", state.count))
    })
}
