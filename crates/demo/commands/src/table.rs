//! The table of commands, and what COMMAND and CONFIG GET tell of it.

use crate::command::KvVersion;
use crate::glob::glob_match;
use kv_resp::Writer;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Id {
    Append,
    Auth,
    Client,
    Command,
    Config,
    DbSize,
    Decr,
    DecrBy,
    Del,
    Echo,
    Exists,
    Expire,
    ExpireAt,
    ExpireTime,
    FlushAll,
    FlushDb,
    Get,
    GetDel,
    GetEx,
    GetSet,
    Hello,
    Incr,
    IncrBy,
    Info,
    Keys,
    MGet,
    MSet,
    MSetNx,
    Persist,
    PExpire,
    PExpireAt,
    PExpireTime,
    Ping,
    PSetEx,
    PTtl,
    Quit,
    RandomKey,
    Reset,
    Scan,
    Select,
    Set,
    SetEx,
    SetNx,
    Strlen,
    Time,
    Ttl,
    Type,
    Unlink,
}

/// What is fixed about one command.
#[derive(Debug, PartialEq, Eq)]
pub struct Spec {
    pub(crate) id: Id,
    /// The name in lower case.
    pub name: &'static str,
    /// The number of arguments with the name; when negative, the least number.
    pub arity: i8,
    /// The first version of the server that has the command.
    pub since: KvVersion,
    /// The flags that COMMAND shows.
    pub flags: &'static [&'static str],
    /// The first key, the last key and the step between keys.
    pub keys: (i8, i8, i8),
    /// A sentence about it.
    pub summary: &'static str,
    /// The group of commands it belongs to.
    pub group: &'static str,
}

impl Spec {
    /// Whether a request of `count` arguments, the name included, has as many as it must.
    #[must_use]
    pub fn takes(&self, count: usize) -> bool {
        let arity = usize::from(self.arity.unsigned_abs());
        if self.arity < 0 {
            count >= arity
        } else {
            count == arity
        }
    }
}

static SPECS: [Spec; 48] = [
    Spec {
        id: Id::Append,
        name: "append",
        arity: 3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom", "fast"],
        keys: (1, 1, 1),
        summary: "Appends a string to the value of a key. Creates the key if it doesn't exist.",
        group: "string",
    },
    Spec {
        id: Id::Auth,
        name: "auth",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &["noscript", "loading", "stale", "fast"],
        keys: (0, 0, 0),
        summary: "Authenticates the connection.",
        group: "connection",
    },
    Spec {
        id: Id::Client,
        name: "client",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &[],
        keys: (0, 0, 0),
        summary: "A container for client connection commands.",
        group: "connection",
    },
    Spec {
        id: Id::Command,
        name: "command",
        arity: -1,
        since: KvVersion::V1_0,
        flags: &["loading", "stale"],
        keys: (0, 0, 0),
        summary: "Returns detailed information about all commands.",
        group: "server",
    },
    Spec {
        id: Id::Config,
        name: "config",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &[],
        keys: (0, 0, 0),
        summary: "A container for server configuration commands.",
        group: "server",
    },
    Spec {
        id: Id::DbSize,
        name: "dbsize",
        arity: 1,
        since: KvVersion::V1_0,
        flags: &["readonly", "fast"],
        keys: (0, 0, 0),
        summary: "Returns the number of keys in the database.",
        group: "server",
    },
    Spec {
        id: Id::Decr,
        name: "decr",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom", "fast"],
        keys: (1, 1, 1),
        summary: "Decrements the integer value of a key by one.",
        group: "string",
    },
    Spec {
        id: Id::DecrBy,
        name: "decrby",
        arity: 3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom", "fast"],
        keys: (1, 1, 1),
        summary: "Decrements a number from the integer value of a key.",
        group: "string",
    },
    Spec {
        id: Id::Del,
        name: "del",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &["write"],
        keys: (1, -1, 1),
        summary: "Deletes one or more keys.",
        group: "generic",
    },
    Spec {
        id: Id::Echo,
        name: "echo",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["loading", "stale", "fast"],
        keys: (0, 0, 0),
        summary: "Returns the given string.",
        group: "connection",
    },
    Spec {
        id: Id::Exists,
        name: "exists",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &["readonly", "fast"],
        keys: (1, -1, 1),
        summary: "Determines whether one or more keys exist.",
        group: "generic",
    },
    Spec {
        id: Id::Expire,
        name: "expire",
        arity: -3,
        since: KvVersion::V1_1,
        flags: &["write", "fast"],
        keys: (1, 1, 1),
        summary: "Sets the expiration time of a key in seconds.",
        group: "generic",
    },
    Spec {
        id: Id::ExpireAt,
        name: "expireat",
        arity: -3,
        since: KvVersion::V1_1,
        flags: &["write", "fast"],
        keys: (1, 1, 1),
        summary: "Sets the expiration time of a key to a Unix timestamp.",
        group: "generic",
    },
    Spec {
        id: Id::ExpireTime,
        name: "expiretime",
        arity: 2,
        since: KvVersion::V1_1,
        flags: &["readonly", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the expiration time of a key as a Unix timestamp.",
        group: "generic",
    },
    Spec {
        id: Id::FlushAll,
        name: "flushall",
        arity: -1,
        since: KvVersion::V1_0,
        flags: &["write"],
        keys: (0, 0, 0),
        summary: "Removes all keys from all databases.",
        group: "server",
    },
    Spec {
        id: Id::FlushDb,
        name: "flushdb",
        arity: -1,
        since: KvVersion::V1_0,
        flags: &["write"],
        keys: (0, 0, 0),
        summary: "Removes all keys from the database.",
        group: "server",
    },
    Spec {
        id: Id::Get,
        name: "get",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["readonly", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the string value of a key.",
        group: "string",
    },
    Spec {
        id: Id::GetDel,
        name: "getdel",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["write", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the string value of a key after deleting the key.",
        group: "string",
    },
    Spec {
        id: Id::GetEx,
        name: "getex",
        arity: -2,
        since: KvVersion::V1_1,
        flags: &["write", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the string value of a key after setting its expiration time.",
        group: "string",
    },
    Spec {
        id: Id::GetSet,
        name: "getset",
        arity: 3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the previous string value of a key after setting it to a new value.",
        group: "string",
    },
    Spec {
        id: Id::Hello,
        name: "hello",
        arity: -1,
        since: KvVersion::V1_0,
        flags: &["noscript", "loading", "stale", "fast"],
        keys: (0, 0, 0),
        summary: "Handshakes with the server.",
        group: "connection",
    },
    Spec {
        id: Id::Incr,
        name: "incr",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom", "fast"],
        keys: (1, 1, 1),
        summary: "Increments the integer value of a key by one.",
        group: "string",
    },
    Spec {
        id: Id::IncrBy,
        name: "incrby",
        arity: 3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom", "fast"],
        keys: (1, 1, 1),
        summary: "Increments the integer value of a key by a number.",
        group: "string",
    },
    Spec {
        id: Id::Info,
        name: "info",
        arity: -1,
        since: KvVersion::V1_0,
        flags: &["loading", "stale"],
        keys: (0, 0, 0),
        summary: "Returns information and statistics about the server.",
        group: "server",
    },
    Spec {
        id: Id::Keys,
        name: "keys",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["readonly"],
        keys: (0, 0, 0),
        summary: "Returns all key names that match a pattern.",
        group: "generic",
    },
    Spec {
        id: Id::MGet,
        name: "mget",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &["readonly", "fast"],
        keys: (1, -1, 1),
        summary: "Returns the string values of one or more keys.",
        group: "string",
    },
    Spec {
        id: Id::MSet,
        name: "mset",
        arity: -3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom"],
        keys: (1, -1, 2),
        summary: "Creates or modifies the string values of one or more keys.",
        group: "string",
    },
    Spec {
        id: Id::MSetNx,
        name: "msetnx",
        arity: -3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom"],
        keys: (1, -1, 2),
        summary: "Sets the string values of one or more keys only when all keys don't exist.",
        group: "string",
    },
    Spec {
        id: Id::Persist,
        name: "persist",
        arity: 2,
        since: KvVersion::V1_1,
        flags: &["write", "fast"],
        keys: (1, 1, 1),
        summary: "Removes the expiration time of a key.",
        group: "generic",
    },
    Spec {
        id: Id::PExpire,
        name: "pexpire",
        arity: -3,
        since: KvVersion::V1_1,
        flags: &["write", "fast"],
        keys: (1, 1, 1),
        summary: "Sets the expiration time of a key in milliseconds.",
        group: "generic",
    },
    Spec {
        id: Id::PExpireAt,
        name: "pexpireat",
        arity: -3,
        since: KvVersion::V1_1,
        flags: &["write", "fast"],
        keys: (1, 1, 1),
        summary: "Sets the expiration time of a key to a Unix milliseconds timestamp.",
        group: "generic",
    },
    Spec {
        id: Id::PExpireTime,
        name: "pexpiretime",
        arity: 2,
        since: KvVersion::V1_1,
        flags: &["readonly", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the expiration time of a key as a Unix milliseconds timestamp.",
        group: "generic",
    },
    Spec {
        id: Id::Ping,
        name: "ping",
        arity: -1,
        since: KvVersion::V1_0,
        flags: &["fast"],
        keys: (0, 0, 0),
        summary: "Returns the server's liveliness response.",
        group: "connection",
    },
    Spec {
        id: Id::PSetEx,
        name: "psetex",
        arity: 4,
        since: KvVersion::V1_1,
        flags: &["write", "denyoom"],
        keys: (1, 1, 1),
        summary: "Sets both string value and expiration time in milliseconds of a key.",
        group: "string",
    },
    Spec {
        id: Id::PTtl,
        name: "pttl",
        arity: 2,
        since: KvVersion::V1_1,
        flags: &["readonly", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the expiration time in milliseconds of a key.",
        group: "generic",
    },
    Spec {
        id: Id::Quit,
        name: "quit",
        arity: -1,
        since: KvVersion::V1_0,
        flags: &["noscript", "loading", "stale", "fast"],
        keys: (0, 0, 0),
        summary: "Closes the connection.",
        group: "connection",
    },
    Spec {
        id: Id::RandomKey,
        name: "randomkey",
        arity: 1,
        since: KvVersion::V1_0,
        flags: &["readonly"],
        keys: (0, 0, 0),
        summary: "Returns a random key name from the database.",
        group: "generic",
    },
    Spec {
        id: Id::Reset,
        name: "reset",
        arity: 1,
        since: KvVersion::V1_0,
        flags: &["noscript", "loading", "stale", "fast"],
        keys: (0, 0, 0),
        summary: "Resets the connection.",
        group: "connection",
    },
    Spec {
        id: Id::Scan,
        name: "scan",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &["readonly"],
        keys: (0, 0, 0),
        summary: "Iterates over the key names in the database.",
        group: "generic",
    },
    Spec {
        id: Id::Select,
        name: "select",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["loading", "stale", "fast"],
        keys: (0, 0, 0),
        summary: "Changes the selected database.",
        group: "connection",
    },
    Spec {
        id: Id::Set,
        name: "set",
        arity: -3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom"],
        keys: (1, 1, 1),
        summary: "Sets the string value of a key.",
        group: "string",
    },
    Spec {
        id: Id::SetEx,
        name: "setex",
        arity: 4,
        since: KvVersion::V1_1,
        flags: &["write", "denyoom"],
        keys: (1, 1, 1),
        summary: "Sets the string value and expiration time of a key.",
        group: "string",
    },
    Spec {
        id: Id::SetNx,
        name: "setnx",
        arity: 3,
        since: KvVersion::V1_0,
        flags: &["write", "denyoom", "fast"],
        keys: (1, 1, 1),
        summary: "Sets the string value of a key only when the key doesn't exist.",
        group: "string",
    },
    Spec {
        id: Id::Strlen,
        name: "strlen",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["readonly", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the length of a string value.",
        group: "string",
    },
    Spec {
        id: Id::Time,
        name: "time",
        arity: 1,
        since: KvVersion::V1_0,
        flags: &["loading", "stale", "fast"],
        keys: (0, 0, 0),
        summary: "Returns the server time.",
        group: "server",
    },
    Spec {
        id: Id::Ttl,
        name: "ttl",
        arity: 2,
        since: KvVersion::V1_1,
        flags: &["readonly", "fast"],
        keys: (1, 1, 1),
        summary: "Returns the expiration time in seconds of a key.",
        group: "generic",
    },
    Spec {
        id: Id::Type,
        name: "type",
        arity: 2,
        since: KvVersion::V1_0,
        flags: &["readonly", "fast"],
        keys: (1, 1, 1),
        summary: "Determines the type of value stored at a key.",
        group: "generic",
    },
    Spec {
        id: Id::Unlink,
        name: "unlink",
        arity: -2,
        since: KvVersion::V1_0,
        flags: &["write", "fast"],
        keys: (1, -1, 1),
        summary: "Asynchronously deletes one or more keys.",
        group: "generic",
    },
];

/// All commands that this version of the server has, in the order of their names.
pub fn specs(version: KvVersion) -> impl Iterator<Item = &'static Spec> {
    SPECS.iter().filter(move |spec| spec.since <= version)
}

/// The command of this name in any case, if this version of the server has it.
#[must_use]
pub fn lookup(name: &[u8], version: KvVersion) -> Option<&'static Spec> {
    let mut lower = [0u8; 16];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    let index = match &*lower {
        b"append" => 0,
        b"auth" => 1,
        b"client" => 2,
        b"command" => 3,
        b"config" => 4,
        b"dbsize" => 5,
        b"decr" => 6,
        b"decrby" => 7,
        b"del" => 8,
        b"echo" => 9,
        b"exists" => 10,
        b"expire" => 11,
        b"expireat" => 12,
        b"expiretime" => 13,
        b"flushall" => 14,
        b"flushdb" => 15,
        b"get" => 16,
        b"getdel" => 17,
        b"getex" => 18,
        b"getset" => 19,
        b"hello" => 20,
        b"incr" => 21,
        b"incrby" => 22,
        b"info" => 23,
        b"keys" => 24,
        b"mget" => 25,
        b"mset" => 26,
        b"msetnx" => 27,
        b"persist" => 28,
        b"pexpire" => 29,
        b"pexpireat" => 30,
        b"pexpiretime" => 31,
        b"ping" => 32,
        b"psetex" => 33,
        b"pttl" => 34,
        b"quit" => 35,
        b"randomkey" => 36,
        b"reset" => 37,
        b"scan" => 38,
        b"select" => 39,
        b"set" => 40,
        b"setex" => 41,
        b"setnx" => 42,
        b"strlen" => 43,
        b"time" => 44,
        b"ttl" => 45,
        b"type" => 46,
        b"unlink" => 47,
        _ => return None,
    };
    SPECS.get(index).filter(|spec| spec.since <= version)
}

/// The answer to COMMAND COUNT.
pub fn write_command_count(w: &mut Writer<'_>, version: KvVersion) {
    w.integer(i64::try_from(specs(version).count()).unwrap_or(i64::MAX));
}

/// The answer to COMMAND LIST, with only the names that match the pattern when there is one.
pub fn write_command_list(w: &mut Writer<'_>, version: KvVersion, pattern: Option<&[u8]>) {
    let wanted = |spec: &&Spec| pattern.is_none_or(|p| glob_match(p, spec.name.as_bytes()));
    w.array(specs(version).filter(wanted).count());
    for spec in specs(version).filter(wanted) {
        w.bulk(spec.name.as_bytes());
    }
}

fn write_spec(w: &mut Writer<'_>, spec: &Spec) {
    w.array(10);
    w.bulk(spec.name.as_bytes());
    w.integer(i64::from(spec.arity));
    w.set(spec.flags.len());
    for flag in spec.flags {
        w.simple(flag);
    }
    w.integer(i64::from(spec.keys.0));
    w.integer(i64::from(spec.keys.1));
    w.integer(i64::from(spec.keys.2));
    w.set(0);
    w.set(0);
    w.set(0);
    w.array(0);
}

/// The answer to COMMAND INFO with these names, or to COMMAND and COMMAND INFO without any.
pub fn write_command_info(w: &mut Writer<'_>, version: KvVersion, names: &[&[u8]]) {
    if names.is_empty() {
        w.array(specs(version).count());
        for spec in specs(version) {
            write_spec(w, spec);
        }
        return;
    }
    w.array(names.len());
    for name in names {
        match lookup(name, version) {
            Some(spec) => write_spec(w, spec),
            None => w.null_array(),
        }
    }
}

/// The answer to COMMAND DOCS with these names; all commands when there are none.
pub fn write_command_docs(w: &mut Writer<'_>, version: KvVersion, names: &[&[u8]]) {
    let wanted: Vec<&Spec> = if names.is_empty() {
        specs(version).collect()
    } else {
        names
            .iter()
            .filter_map(|name| lookup(name, version))
            .collect()
    };
    w.map(wanted.len());
    for spec in wanted {
        w.bulk(spec.name.as_bytes());
        w.map(2);
        w.bulk(b"summary");
        w.bulk(spec.summary.as_bytes());
        w.bulk(b"group");
        w.bulk(spec.group.as_bytes());
    }
}

/// The answer to CONFIG GET: of the settings given, those whose names match any pattern.
pub fn write_config_get(w: &mut Writer<'_>, patterns: &[&[u8]], settings: &[(&str, &str)]) {
    let wanted = |name: &str| {
        patterns
            .iter()
            .any(|pattern| glob_match(&pattern.to_ascii_lowercase(), name.as_bytes()))
    };
    let found: Vec<_> = settings.iter().filter(|(name, _)| wanted(name)).collect();
    w.map(found.len());
    for (name, value) in found {
        w.bulk(name.as_bytes());
        w.bulk(value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_found_under_its_name() {
        for spec in &SPECS {
            let upper = spec.name.to_ascii_uppercase();
            assert_eq!(lookup(upper.as_bytes(), KvVersion::V1_1), Some(spec));
            assert_eq!(
                lookup(upper.as_bytes(), KvVersion::V1_0).is_some(),
                spec.since == KvVersion::V1_0
            );
        }
        assert_eq!(lookup(b"nosuchcommandofanylength", KvVersion::V1_1), None);
        assert_eq!(lookup(b"", KvVersion::V1_1), None);
    }
}
