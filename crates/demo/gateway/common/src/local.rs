//! Commands that need no storage.

use std::fmt::Write as _;

use kv_commands::{
    CommandQuery, Local, wants_section, write_command_count, write_command_docs,
    write_command_info, write_command_list, write_config_get, write_hello,
};
use kv_resp::{Protocol, Writer};
use neurath::{Context, InfoKey, Result};

use crate::{Client, State};

/// The version of Redis whose behaviour is that of this server: clients ask for it.
const REDIS_VERSION: &str = "7.0.0";

/// Who answers.
pub(crate) enum Answer {
    /// The answer is in the buffer.
    Here,
    /// The store, which completes the text in the buffer.
    Store {
        /// Whether with its own sections.
        keyspace: bool,
    },
}

/// Puts the answer to a command into `out`.
pub(crate) fn answer<S: State>(
    cx: &mut Context<'_, S>,
    client: &mut Client,
    local: &Local<'_>,
    out: &mut Vec<u8>,
) -> Result<Answer> {
    let connection = client.connection;
    if let Local::Hello {
        protocol: Some(protocol),
        ..
    } = local
    {
        client.protocol = *protocol;
    }
    if let Local::Info(asked) = local {
        out.extend_from_slice(info(cx, asked)?.as_bytes());
        return Ok(Answer::Store {
            keyspace: wants_section(asked, "keyspace"),
        });
    }
    let mut w = Writer::new(out, client.protocol);
    match local {
        Local::Ping(None) => w.simple("PONG"),
        Local::Ping(Some(text)) | Local::Echo(text) => w.bulk(text),
        Local::Hello { name, .. } => {
            if let Some(name) = name {
                set_name(cx, connection, name)?;
            }
            write_hello(&mut w, "redis", REDIS_VERSION, connection as i64);
        }
        Local::Command(query) => match query {
            CommandQuery::Count => write_command_count(&mut w, S::VERSION),
            CommandQuery::List(pattern) => write_command_list(&mut w, S::VERSION, *pattern),
            CommandQuery::Info(names) => write_command_info(&mut w, S::VERSION, names),
            CommandQuery::Docs(names) => write_command_docs(&mut w, S::VERSION, names),
        },
        Local::ClientSetName(name) => {
            set_name(cx, connection, name)?;
            w.ok();
        }
        Local::ClientGetName => match name(cx, connection)? {
            name if name.is_empty() => w.null(),
            name => w.bulk(&name),
        },
        Local::ClientId => w.integer(connection as i64),
        Local::ClientInfo | Local::ClientList => {
            let name = name(cx, connection)?;
            let line = format!(
                "id={connection} name={} db=0 resp={}\n",
                String::from_utf8_lossy(&name),
                client.protocol.number()
            );
            w.verbatim(*b"txt", line.as_bytes());
        }
        Local::ConfigGet(patterns) => {
            let settings = [
                ("appendonly", "no"),
                ("databases", "1"),
                ("maxmemory", "0"),
                ("maxmemory-policy", "noeviction"),
                ("proto-max-bulk-len", "536870912"),
                ("save", ""),
            ];
            write_config_get(&mut w, patterns, &settings);
        }
        Local::Quit => {
            client.closing = true;
            w.ok();
        }
        Local::Reset => {
            set_name(cx, connection, b"")?;
            client.protocol = Protocol::Resp2;
            w.simple("RESET");
        }
        Local::Time => {
            let now_ms = cx.now_ms();
            w.array(2);
            w.bulk((now_ms / 1000).to_string().as_bytes());
            w.bulk((now_ms % 1000 * 1000).to_string().as_bytes());
        }
        Local::Auth
        | Local::ClientSetInfo { .. }
        | Local::ClientNoEvict
        | Local::ConfigResetStat
        | Local::Select => w.ok(),
        Local::Info(_) => {}
    }
    Ok(Answer::Here)
}

fn set_name<S: State>(cx: &mut Context<'_, S>, connection: u64, name: &[u8]) -> Result<()> {
    cx.with(|state, tx| crate::name(state, tx, connection, name))
}

fn name<S: State>(cx: &Context<'_, S>, connection: u64) -> Result<Vec<u8>> {
    cx.look(|state, tx| {
        let mut copy = *state;
        Ok(match copy.parts().names.get(tx, &connection)? {
            Some(name) => name.get(tx)?.to_vec(),
            None => Vec::new(),
        })
    })
}

/// The gateway's sections of INFO.
fn info<S: State>(cx: &Context<'_, S>, asked: &[&[u8]]) -> Result<String> {
    let (connections, commands) = cx.look(|state, _| {
        let mut copy = *state;
        let parts = copy.parts();
        Ok((*parts.connections, *parts.commands))
    })?;
    let uptime = cx.info(InfoKey::UPTIME_US) / 1_000_000;
    let live = cx.info(InfoKey::REGION_LIVE_BYTES);
    let sections = [
        (
            "Server",
            vec![
                ("redis_version", REDIS_VERSION.to_owned()),
                ("redis_mode", "standalone".to_owned()),
                ("kv_gateway_version", S::TEXT.to_owned()),
                ("process_id", cx.info(InfoKey::PROCESS_ID).to_string()),
                ("tcp_port", cx.info(InfoKey::PORT).to_string()),
                ("uptime_in_seconds", uptime.to_string()),
                ("uptime_in_days", (uptime / 86400).to_string()),
            ],
        ),
        (
            "Clients",
            vec![(
                "connected_clients",
                cx.info(InfoKey::CONNECTIONS).to_string(),
            )],
        ),
        (
            "Memory",
            vec![
                ("used_memory", live.to_string()),
                (
                    "gateway_region_bytes",
                    cx.info(InfoKey::REGION_BYTES).to_string(),
                ),
                ("maxmemory", "0".to_owned()),
            ],
        ),
        (
            "Stats",
            vec![
                ("total_connections_received", connections.to_string()),
                ("total_commands_processed", commands.to_string()),
            ],
        ),
        (
            "Replication",
            vec![
                ("role", "master".to_owned()),
                ("connected_slaves", "0".to_owned()),
            ],
        ),
    ];
    let mut text = String::new();
    for (section, lines) in sections {
        if !wants_section(asked, section) {
            continue;
        }
        if !text.is_empty() {
            text.push_str("\r\n");
        }
        let _ = write!(text, "# {section}\r\n");
        for (key, value) in lines {
            let _ = write!(text, "{key}:{value}\r\n");
        }
    }
    Ok(text)
}
