//! A small component, a notebook, in versions that work and versions that are broken on
//! purpose: each is an example of this package, a library to be loaded. This crate is what
//! they share, and [`project`], which writes the manifests of a pair of them.
//!
//! A notebook listens on a socket of its own. A request is a line, and so is its answer:
//!
//! | request | answer |
//! |---|---|
//! | `add TEXT` | the note's number: 0, 1, … |
//! | `count` | how many notes there are |
//! | `get NUMBER` | the note's text |
//! | `panic TEXT` | none: adds a note, and panics |
//! | `version` | the component's version |
//! | `instance` | the number of the instance that answers, and how many there are |
//! | `to NUMBER REQUEST` | what that instance of the notebook answers; only the first one listens |
//!
//! Anything else is answered by a line that begins with `error: `.
#![forbid(unsafe_code)]

pub mod moves;
mod project;
mod versions;

use std::time::{Duration, Instant};

use std::collections::BTreeMap;

use neurath::{Error, Token};

#[doc(hidden)]
pub use neurath::{
    Bytes, Component, ConfigChange, Context, Map, Message, Moving, Pmem, Result, Tx, code_change,
    move_in, move_out,
};
pub use project::{NEW, OLD, project};

/// What a release says about a notebook.
#[derive(Clone, Debug, serde::Deserialize)]
pub struct Config {
    /// The address to listen on, such as `127.0.0.1:7480`.
    pub listen: String,
    /// So many notes there may be; any number if it says nothing.
    #[serde(default)]
    pub limit: Option<u64>,
}

/// A limit that no notebook takes, once it runs.
pub const REFUSED: u64 = 13;

/// Notes that the configuration has changed.
///
/// # Errors
///
/// A limit of [`REFUSED`], and those of the transaction.
pub fn config_change<S: Notebook>(cx: &mut Context<'_, S>, change: &ConfigChange) -> Result<()> {
    let ConfigChange {
        changed,
        new,
        removed,
    } = change;
    let keys = |map: &BTreeMap<String, _>| map.keys().cloned().collect::<Vec<_>>().join(",");
    let text = format!(
        "changed {}; new {}; removed {}",
        keys(changed),
        keys(new),
        removed.join(",")
    );
    let now_ms = cx.now_ms();
    cx.with(|state, tx| state.add(tx, text.as_bytes(), now_ms))?;
    match cx.config()?.limit {
        Some(REFUSED) => Err(Error::new("thirteen is no limit")),
        _ => Ok(()),
    }
}

/// What is wrong with a version; nothing, unless it says so.
pub trait Faults {
    /// Called by each of the version's conversions.
    ///
    /// # Errors
    ///
    /// As the version likes.
    fn code_change() -> Result<()> {
        Ok(())
    }

    /// Called by `init`.
    ///
    /// # Errors
    ///
    /// As the version likes.
    fn init() -> Result<()> {
        Ok(())
    }

    /// Called by `handle`, before anything else.
    ///
    /// # Errors
    ///
    /// As the version likes.
    fn handle(_: &Message<'_>) -> Result<()> {
        Ok(())
    }

    /// Called by `quiesce`.
    ///
    /// # Errors
    ///
    /// As the version likes.
    fn quiesce() -> Result<()> {
        Ok(())
    }

    /// Called by `check_state`.
    ///
    /// # Errors
    ///
    /// As the version likes.
    fn check_state() -> Result<()> {
        Ok(())
    }
}

/// A version without faults.
#[derive(Debug)]
pub struct Sound;

impl Faults for Sound {}

/// Keeps its thread for a minute in small steps: long enough to be past any deadline of a
/// test, and over before the test machine is.
pub fn loop_for_long() {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The root of a notebook's region.
pub trait Notebook: Component<Config = Config> {
    /// The component's version.
    const VERSION: &'static str;

    /// Adds a note; its number.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    fn add(&mut self, tx: &mut Tx<'_>, text: &[u8], now_ms: u64) -> Result<u64>;

    /// How many notes there are.
    fn count(&self) -> u64;

    /// A note's text.
    ///
    /// # Errors
    ///
    /// Those of the transaction.
    fn get(&self, tx: &Tx<'_>, number: u64) -> Result<Option<Bytes>>;
}

/// The longest line.
const MAX_LINE: usize = 64 << 10;

/// Listens, if it is the first instance.
///
/// # Errors
///
/// If the address cannot be had.
pub fn init<S: Notebook>(cx: &mut Context<'_, S>) -> Result<()> {
    let config = cx.config()?;
    match cx.instance() {
        0 => cx.listen(&config.listen),
        _ => Ok(()),
    }
}

/// The arguments of the hook `note`.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoteArgs {
    /// What is noted, behind the version of the code that does it.
    pub text: String,
    /// Whether it fails after that.
    #[serde(default)]
    pub fail: bool,
}

/// A hook: adds a note.
///
/// # Errors
///
/// Those of the transaction, and where it is told to fail.
pub fn note<S: Notebook>(cx: &mut Context<'_, S>, args: NoteArgs) -> Result<()> {
    let text = format!("{} {}", S::VERSION, args.text);
    let now_ms = cx.now_ms();
    cx.with(|state, tx| state.add(tx, text.as_bytes(), now_ms))?;
    if args.fail {
        return Err(Error::new(format!("told to fail after `{text}`")));
    }
    Ok(())
}

/// The arguments of the hook `dawdle`.
#[derive(Clone, Copy, Debug, serde::Deserialize)]
pub struct DawdleArgs {
    /// How long it takes, in milliseconds.
    pub ms: u64,
}

/// A hook: does not come back for so long.
///
/// # Errors
///
/// None.
pub fn dawdle<S: Notebook>(_: &mut Context<'_, S>, args: DawdleArgs) -> Result<()> {
    std::thread::sleep(Duration::from_millis(args.ms));
    Ok(())
}

/// Serves lines.
///
/// # Errors
///
/// Those of the transaction.
pub fn handle<S: Notebook>(cx: &mut Context<'_, S>, message: Message<'_>) -> Result<()> {
    match message {
        Message::Data {
            connection, bytes, ..
        } => {
            let mut at = 0;
            while let Some(end) = bytes[at..].iter().position(|&byte| byte == b'\n') {
                let line = bytes[at..at + end].trim_ascii();
                at += end + 1;
                let token = cx.next_token(connection);
                if sent_on(cx, token, line) {
                    continue;
                }
                let mut answer = answer(cx, line)?;
                answer.push(b'\n');
                cx.reply(token, &answer)?;
            }
            cx.consume(at);
            if bytes.len() - at > MAX_LINE {
                cx.close(connection)
            } else {
                Ok(())
            }
        }
        Message::Request { token, bytes } => {
            let mut answer = answer(cx, bytes.trim_ascii())?;
            // One that was sent on by another instance is answered by a line.
            if bytes.ends_with(b"\n") {
                answer.push(b'\n');
            }
            cx.reply(token, &answer)
        }
        _ => Ok(()),
    }
}

/// Whether the line is for another instance, which answers it.
fn sent_on<S: Notebook>(cx: &mut Context<'_, S>, token: Token, line: &[u8]) -> bool {
    let parts = std::str::from_utf8(line)
        .ok()
        .and_then(|line| line.strip_prefix("to "))
        .and_then(|rest| rest.split_once(' '));
    let Some((Ok(number), request)) = parts.map(|(number, rest)| (number.parse(), rest)) else {
        return false;
    };
    let request = format!("{request}\n");
    cx.send_to("notebook", number, token, request.as_bytes())
        .is_ok()
}

fn answer<S: Notebook>(cx: &mut Context<'_, S>, line: &[u8]) -> Result<Vec<u8>> {
    let (word, rest) = match line.iter().position(|&byte| byte == b' ') {
        Some(at) => (&line[..at], &line[at + 1..]),
        None => (line, &line[line.len()..]),
    };
    let now_ms = cx.now_ms();
    Ok(match word {
        b"add" => {
            let limit = cx.config()?.limit.unwrap_or(u64::MAX);
            if cx.look(|state, _| Ok(state.count()))? >= limit {
                return Ok(b"error: the notebook is full".to_vec());
            }
            let number = cx.with(|state, tx| state.add(tx, rest, now_ms))?;
            number.to_string().into_bytes()
        }
        b"count" => cx
            .look(|state, _| Ok(state.count()))?
            .to_string()
            .into_bytes(),
        b"get" => {
            let number = std::str::from_utf8(rest)
                .ok()
                .and_then(|text| text.parse().ok());
            cx.look(|state, tx| {
                let note = number
                    .map(|number| state.get(tx, number))
                    .transpose()?
                    .flatten();
                Ok(match note {
                    Some(text) => text.get(tx)?.to_vec(),
                    None => b"error: there is no such note".to_vec(),
                })
            })?
        }
        b"version" => S::VERSION.as_bytes().to_vec(),
        b"instance" => format!("{} of {}", cx.instance(), cx.instances("notebook")).into_bytes(),
        b"wait" => {
            // As a handler that computes for long: the event loop serves nothing else meanwhile.
            let text = std::str::from_utf8(rest).ok();
            let millis = text.and_then(|text| text.parse().ok()).unwrap_or(0);
            std::thread::sleep(std::time::Duration::from_millis(millis));
            b"waited".to_vec()
        }
        b"panic" => {
            // With a note half added, which must not be there afterwards.
            cx.with(|state, tx| state.add(tx, rest, now_ms))?;
            panic!("asked to: {}", rest.escape_ascii())
        }
        _ => b"error: there are add, count, get, panic, version and wait".to_vec(),
    })
}

/// Looks whether every note up to the thousandth can be read.
///
/// # Errors
///
/// What is wrong.
pub fn check_state<S: Notebook>(cx: &mut Context<'_, S>) -> Result<()> {
    cx.look(|state, tx| {
        for number in 0..state.count().min(1000) {
            let Some(text) = state.get(tx, number)? else {
                return Err(Error::new(format!("note {number} is missing")));
            };
            text.get(tx)?;
        }
        Ok(())
    })
}
