//! What all versions of the gateway have in common: it reads requests of Redis's protocol,
//! answers those that need no storage, and sends the others to the store, whose answers go
//! straight to the connection.
//!
//! A version brings its state, which implements [`State`], and passes what the node asks on
//! to [`init`], [`handle`], [`quiesce`] and [`terminate`].
#![forbid(unsafe_code)]

mod buffers;
mod local;

use kv_commands::{Command, CommandError, KvVersion, Request};
use kv_resp::{Progress, Protocol, Writer};
use neurath::{Bytes, Component, Context, Map, Message, Pmem, Result, Token, Tx};

use buffers::Buffers;

/// The component that keeps keys and values.
const STORE: &str = "store";

/// What a release says about a gateway.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The address to listen on, such as `127.0.0.1:7379`.
    pub listen: String,
}

/// The parts of a state.
#[derive(Debug)]
pub struct Parts<'a> {
    /// Connections accepted.
    pub connections: &'a mut u64,
    /// Requests read.
    pub commands: &'a mut u64,
    /// The names that connections gave themselves.
    pub names: &'a mut Map<u64, Bytes>,
}

/// The root of a gateway's region.
pub trait State: Component<Config = Config> {
    /// Which commands it knows.
    const VERSION: KvVersion;
    /// Its version's text.
    const TEXT: &'static str;

    /// All parts, to be changed.
    fn parts(&mut self) -> Parts<'_>;
}

/// Listens.
///
/// # Errors
///
/// If the address cannot be had.
pub fn init<S: State>(cx: &mut Context<'_, S>) -> Result<()> {
    buffers::drop_all();
    let config = cx.config()?;
    cx.listen(&config.listen)
}

/// Forgets what is kept between two messages.
///
/// # Errors
///
/// None.
pub fn quiesce<S: State>(_: &mut Context<'_, S>) -> Result<()> {
    buffers::drop_all();
    Ok(())
}

/// Gives the memory of buffers back, as the library may be unloaded.
///
/// # Errors
///
/// None.
pub fn terminate<S: State>(_: &mut Context<'_, S>) -> Result<()> {
    buffers::drop_all();
    Ok(())
}

/// Serves a connection.
///
/// # Errors
///
/// The SDK's.
pub fn handle<S: State>(cx: &mut Context<'_, S>, message: Message<'_>) -> Result<()> {
    match message {
        Message::Opened { .. } => cx.with(|state, _| {
            *state.parts().connections += 1;
            Ok(())
        }),
        Message::Data {
            connection,
            user,
            bytes,
        } => data(cx, connection, user, bytes),
        Message::Closed { connection } => {
            buffers::forget(connection);
            let named = cx.look(|state, tx| {
                let mut copy = *state;
                Ok(copy.parts().names.find(tx, &connection)?.is_some())
            })?;
            if named {
                cx.with(|state, tx| name(state, tx, connection, b""))
            } else {
                Ok(())
            }
        }
        _ => Ok(()),
    }
}

/// Sets or takes away a connection's name.
fn name<S: State>(state: &mut S, tx: &mut Tx<'_>, connection: u64, name: &[u8]) -> Result<()> {
    let names = state.parts().names;
    let old = if name.is_empty() {
        names.remove(tx, &connection)?
    } else {
        let name = Bytes::new(tx, name)?;
        names.insert(tx, &connection, &name)?
    };
    if let Some(old) = old {
        old.free_owned(tx)?;
    }
    Ok(())
}

/// A connection while its bytes are read.
struct Client {
    connection: u64,
    protocol: Protocol,
    closing: bool,
}

/// Reads as many requests as have come.
fn data<S: State>(cx: &mut Context<'_, S>, connection: u64, user: u64, bytes: &[u8]) -> Result<()> {
    let Some(mut buffers) = buffers::take(connection, bytes) else {
        return Ok(());
    };
    let protocol = protocol_of(user);
    let mut client = Client {
        connection,
        protocol,
        closing: false,
    };
    let context = kv_commands::Context {
        version: S::VERSION,
        now_ms: cx.now_ms() as i64,
    };
    let mut at = 0;
    let mut commands = 0;
    let mut needed = None;
    while at < bytes.len() && !client.closing {
        let rest = &bytes[at..];
        let Buffers { args, out } = &mut buffers;
        match kv_resp::parse(rest, args) {
            Ok(Progress::Complete { consumed }) => {
                at += consumed;
                if !args.is_empty() {
                    commands += 1;
                    let token = cx.next_token(connection);
                    args.with_slices(rest, |argv| {
                        let command = Command::parse(argv, &context);
                        serve(cx, &mut client, token, command, out)
                    })?;
                }
                // The next one begins anew.
                args.reset();
            }
            Ok(Progress::Incomplete { needed: total }) => {
                needed = Some(total);
                break;
            }
            Err(error) => {
                let token = cx.next_token(connection);
                out.clear();
                Writer::new(out, client.protocol).error(&format!("ERR {error}"));
                cx.reply(token, out)?;
                client.closing = true;
            }
        }
    }
    if client.protocol != protocol {
        cx.set_user(connection, client.protocol.number().into())?;
    }
    if commands > 0 {
        cx.with(|state, _| {
            *state.parts().commands += commands;
            Ok(())
        })?;
    }
    if client.closing {
        // What follows is not looked at.
        cx.consume(bytes.len());
        buffers::put(buffers);
        buffers::forget(connection);
        return cx.close(connection);
    }
    cx.consume(at);
    match needed {
        // Kept only when nothing was changed: the same bytes will come first next time,
        // whatever becomes of this message.
        Some(needed) if at == 0 => buffers::wait(connection, needed, bytes, buffers),
        _ => buffers::put(buffers),
    }
    Ok(())
}

/// The protocol in a connection's 64 bits, which are 0 at first.
fn protocol_of(user: u64) -> Protocol {
    u8::try_from(user)
        .ok()
        .and_then(Protocol::from_number)
        .unwrap_or_default()
}

/// Answers one request, or sends it on.
fn serve<S: State>(
    cx: &mut Context<'_, S>,
    client: &mut Client,
    token: Token,
    command: Result<Command<'_>, CommandError>,
    out: &mut Vec<u8>,
) -> Result<()> {
    out.clear();
    let request = match command {
        Ok(Command::Store(request)) => request,
        Ok(Command::Local(local)) => match local::answer(cx, client, &local, out)? {
            local::Answer::Here => return cx.reply(token, out),
            local::Answer::Store { keyspace } => {
                let text = std::mem::take(out);
                let info = Request::Info {
                    text: &text,
                    keyspace,
                };
                return send(cx, client, token, &info, out);
            }
        },
        Err(error) => {
            error.write(&mut Writer::new(out, client.protocol));
            return cx.reply(token, out);
        }
    };
    send(cx, client, token, &request, out)
}

fn send<S: State>(
    cx: &mut Context<'_, S>,
    client: &Client,
    token: Token,
    request: &Request<'_>,
    out: &mut Vec<u8>,
) -> Result<()> {
    request.encode(client.protocol, out);
    if cx.send(STORE, token, out).is_ok() {
        return Ok(());
    }
    out.clear();
    Writer::new(out, client.protocol).error("ERR there is no store in this release");
    cx.reply(token, out)
}
