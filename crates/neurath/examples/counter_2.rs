//! A counter, version 1.1.0: it also knows when the last line came. Its state has another
//! layout, and two functions say how it gets here and back.

use neurath::{
    Component, Context, Extra, Message, Pmem, Result, Token, Tx, code_change, component,
};

component!(
    Counter,
    name = "counter",
    version = "1.1.0",
    code_change = [from_1_0, to_1_0]
);

/// The state.
#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
pub struct Counter {
    /// Lines so far.
    pub count: u64,
    /// When the last one came, in milliseconds since 1970.
    pub last_ms: u64,
}

/// The state as 1.0 wrote it. The type has the same name: that is how the two are paired.
pub mod v1_0 {
    use neurath::Pmem;

    /// The state.
    #[derive(Clone, Copy, Debug, Pmem)]
    #[repr(C)]
    pub struct Counter {
        /// Lines so far.
        pub count: u64,
    }
}

/// The way here. Nobody knows when the last line came: the time of the upgrade will do.
#[code_change(from = "1.0")]
fn from_1_0(old: v1_0::Counter, extra: &Extra<'_>) -> Counter {
    Counter {
        count: old.count,
        last_ms: extra.now_ms,
    }
}

/// The way back. The time is lost, the count is not.
#[code_change(to = "1.0")]
fn to_1_0(new: Counter) -> v1_0::Counter {
    v1_0::Counter { count: new.count }
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
        Ok(Counter {
            count: 0,
            last_ms: 0,
        })
    }

    fn init(cx: &mut Context<'_, Self>) -> Result<()> {
        let config = cx.config()?;
        cx.listen(&config.listen)
    }

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
                cx.consume(done);
            }
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

    // Looked at before the flip: what it does not like undoes the upgrade.
    fn check_state(cx: &mut Context<'_, Self>) -> Result<()> {
        let now_ms = cx.now_ms();
        let last_ms = cx.look(|state, _| Ok(state.last_ms))?;
        if last_ms > now_ms + 60_000 {
            return Err(neurath::Error::new("the last line came in the future"));
        }
        Ok(())
    }
}

fn count(cx: &mut Context<'_, Counter>) -> Result<String> {
    let now_ms = cx.now_ms();
    cx.with(|state, _| {
        state.count += 1;
        let before = std::mem::replace(&mut state.last_ms, now_ms);
        Ok(format!(
            "{}, {} ms\n",
            state.count,
            now_ms.saturating_sub(before)
        ))
    })
}
