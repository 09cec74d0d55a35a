//! From arguments to commands.

use crate::rules::{NOT_AN_INTEGER, parse_integer};
use crate::table::{Id, Spec, lookup};
use kv_resp::Writer;
use std::borrow::Cow;

/// The version of the key-value server, as far as its commands go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KvVersion {
    /// 1.0.0: keys and values.
    V1_0,
    /// 1.1.0: keys may expire.
    V1_1,
}

/// What parsing has to know beside the arguments.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Which commands exist.
    pub version: KvVersion,
    /// The time in milliseconds since 1970: relative expiry becomes absolute here.
    pub now_ms: i64,
}

/// An error to answer, as Redis words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandError(Cow<'static, [u8]>);

impl CommandError {
    const fn fixed(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    /// The text with its code, such as `ERR syntax error`.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.0
    }

    /// Writes it as an error reply.
    pub fn write(&self, w: &mut Writer<'_>) {
        w.error_bytes(&self.0);
    }
}

impl std::fmt::Display for CommandError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.0))
    }
}

impl std::error::Error for CommandError {}

const SYNTAX: CommandError = CommandError::fixed("ERR syntax error");
const NOT_INTEGER: CommandError = CommandError::fixed(NOT_AN_INTEGER);
const BAD_NAME: CommandError =
    CommandError::fixed("ERR Client names cannot contain spaces, newlines or special characters.");
const WRONG_PASSWORD: CommandError =
    CommandError::fixed("WRONGPASS invalid username-password pair or user is disabled.");

/// A key and its value.
pub type Pair<'a> = (&'a [u8], &'a [u8]);

/// When SET writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetCondition {
    /// Whatever was there.
    Always,
    /// NX: only when the key isn't there.
    IfMissing,
    /// XX: only when it is.
    IfPresent,
}

/// What SET does to the key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetExpiry {
    /// The key won't expire.
    Never,
    /// KEEPTTL: it stays as it was.
    Keep,
    /// The key expires at this time in milliseconds since 1970 (it may be past).
    At(i64),
}

/// What GETEX does to the key's expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GetExChange {
    /// Nothing.
    None,
    /// PERSIST: the key won't expire.
    Persist,
    /// The key expires at this time in milliseconds since 1970 (it may be past).
    At(i64),
}

/// The conditions of EXPIRE and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExpireCondition {
    /// Only when the key has no expiry.
    pub nx: bool,
    /// Only when it has one.
    pub xx: bool,
    /// Only when the new one is later.
    pub gt: bool,
    /// Only when the new one is earlier.
    pub lt: bool,
}

impl ExpireCondition {
    /// Whether the expiry may go from `current` to `new`. A key without expiry counts as
    /// expiring at the end of time.
    #[must_use]
    pub fn allows(self, current: Option<i64>, new: i64) -> bool {
        !(self.nx && current.is_some()
            || self.xx && current.is_none()
            || self.gt && current.is_none_or(|current| new <= current)
            || self.lt && current.is_some_and(|current| new >= current))
    }
}

/// In what form the time to live is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TtlKind {
    /// TTL: seconds left.
    Seconds,
    /// PTTL: milliseconds left.
    Millis,
    /// EXPIRETIME: the time in seconds.
    AtSeconds,
    /// PEXPIRETIME: the time in milliseconds.
    AtMillis,
}

/// What COMMAND asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommandQuery<'a> {
    /// COMMAND COUNT.
    Count,
    /// COMMAND LIST, with the pattern of FILTERBY PATTERN.
    List(Option<&'a [u8]>),
    /// COMMAND and COMMAND INFO: the names asked for, all when there are none.
    Info(Vec<&'a [u8]>),
    /// COMMAND DOCS: the names asked for, all when there are none.
    Docs(Vec<&'a [u8]>),
}

/// A command that is answered by whoever holds the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local<'a> {
    /// PING: answered by its argument or `+PONG`.
    Ping(Option<&'a [u8]>),
    /// ECHO.
    Echo(&'a [u8]),
    /// HELLO: the protocol asked for, and the connection's name if one is set.
    Hello {
        /// `None`: as it is.
        protocol: Option<kv_resp::Protocol>,
        /// The connection's new name; empty takes the name away.
        name: Option<&'a [u8]>,
    },
    /// AUTH as the default user, which needs no password: answered `+OK`.
    Auth,
    /// COMMAND.
    Command(CommandQuery<'a>),
    /// CLIENT SETNAME: answered `+OK`. An empty name takes the name away.
    ClientSetName(&'a [u8]),
    /// CLIENT GETNAME: a bulk string or null.
    ClientGetName,
    /// CLIENT ID: an integer.
    ClientId,
    /// CLIENT INFO: a line about this connection.
    ClientInfo,
    /// CLIENT LIST: a line for each connection.
    ClientList,
    /// CLIENT SETINFO: answered `+OK`.
    ClientSetInfo {
        /// Whether it is `LIB-VER`; else it is `LIB-NAME`.
        version: bool,
        /// What it is set to.
        value: &'a [u8],
    },
    /// CLIENT NO-EVICT: answered `+OK`.
    ClientNoEvict,
    /// CONFIG GET with its patterns.
    ConfigGet(Vec<&'a [u8]>),
    /// CONFIG RESETSTAT: answered `+OK`.
    ConfigResetStat,
    /// SELECT 0: answered `+OK`.
    Select,
    /// QUIT: answered `+OK`, then the connection is closed.
    Quit,
    /// RESET: answered `+RESET`; the connection is as new.
    Reset,
    /// INFO with its sections.
    Info(Vec<&'a [u8]>),
    /// TIME: seconds and microseconds.
    Time,
}

/// A command that the storage answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request<'a> {
    /// GET: the value or null.
    Get(&'a [u8]),
    /// SET, SETEX, PSETEX, GETSET. With `get` the answer is the old value or null; without it
    /// `+OK`, or null when the condition doesn't hold.
    Set {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
        /// When to write.
        condition: SetCondition,
        /// Whether to answer the old value.
        get: bool,
        /// What becomes of its expiry.
        expiry: SetExpiry,
    },
    /// SETNX: 1 or 0.
    SetNx {
        /// The key.
        key: &'a [u8],
        /// Its new value.
        value: &'a [u8],
    },
    /// GETDEL: the value that was or null.
    GetDel(&'a [u8]),
    /// GETEX: the value or null.
    GetEx {
        /// The key.
        key: &'a [u8],
        /// What becomes of its expiry.
        change: GetExChange,
    },
    /// APPEND: the new length.
    Append {
        /// The key.
        key: &'a [u8],
        /// What is put behind its value.
        value: &'a [u8],
    },
    /// STRLEN: the length.
    Strlen(&'a [u8]),
    /// MGET: an array of values and nulls.
    MGet(Vec<&'a [u8]>),
    /// MSET: `+OK`.
    MSet(Vec<Pair<'a>>),
    /// MSETNX: 1, or 0 when any of the keys is there.
    MSetNx(Vec<Pair<'a>>),
    /// DEL and UNLINK: how many were there.
    Del(Vec<&'a [u8]>),
    /// EXISTS: how many are there; a key named twice counts twice.
    Exists(Vec<&'a [u8]>),
    /// TYPE: `+string` or `+none`.
    Type(&'a [u8]),
    /// INCR, DECR, INCRBY, DECRBY: the new value.
    IncrBy {
        /// The key.
        key: &'a [u8],
        /// What is added.
        by: i64,
    },
    /// EXPIRE, PEXPIRE, EXPIREAT, PEXPIREAT: 1 or 0. A time that is past deletes the key.
    ExpireAt {
        /// The key.
        key: &'a [u8],
        /// The time in milliseconds since 1970.
        at_ms: i64,
        /// NX, XX, GT, LT.
        condition: ExpireCondition,
    },
    /// TTL, PTTL, EXPIRETIME, PEXPIRETIME: an integer.
    Ttl {
        /// The key.
        key: &'a [u8],
        /// In what form.
        kind: TtlKind,
    },
    /// PERSIST: 1 or 0.
    Persist(&'a [u8]),
    /// KEYS: an array of all keys that match the pattern.
    Keys(&'a [u8]),
    /// SCAN: an array of the next cursor as a bulk string and an array of keys.
    Scan {
        /// Where to go on; 0 at the beginning.
        cursor: u64,
        /// Only keys that match.
        pattern: Option<&'a [u8]>,
        /// About how many to look at.
        count: u64,
        /// Only keys of this type.
        kind: Option<&'a [u8]>,
    },
    /// RANDOMKEY: a key or null.
    RandomKey,
    /// FLUSHALL and FLUSHDB: `+OK`.
    Flush,
    /// DBSIZE: an integer.
    DbSize,
    /// INFO: what the connection's holder has to tell, for the storage to complete.
    Info {
        /// The sections so far.
        text: &'a [u8],
        /// Whether the Keyspace section is asked for.
        keyspace: bool,
    },
}

/// One command with its arguments, which it borrows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command<'a> {
    /// Answered by whoever holds the connection.
    Local(Local<'a>),
    /// Answered by the storage.
    Store(Request<'a>),
}

fn cut(bytes: &[u8], most: usize) -> &[u8] {
    let end = bytes.iter().take(most).position(|byte| *byte == 0);
    bytes.get(..end.unwrap_or(most)).unwrap_or(bytes)
}

fn unknown_command(argv: &[&[u8]]) -> CommandError {
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(cut(argv.first().copied().unwrap_or_default(), 128));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for argument in argv.iter().skip(1) {
        let used = text.len() - start;
        if used >= 128 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(cut(argument, 128 - used));
        text.extend_from_slice(b"' ");
    }
    one_line(text)
}

/// Ends of line become blanks, as in Redis.
fn one_line(mut text: Vec<u8>) -> CommandError {
    for byte in &mut text {
        if matches!(byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
    CommandError(Cow::Owned(text))
}

fn error(text: String) -> CommandError {
    CommandError(Cow::Owned(text.into_bytes()))
}

fn wrong_number(name: &str) -> CommandError {
    error(format!(
        "ERR wrong number of arguments for '{name}' command"
    ))
}

fn with_bytes(before: &str, bytes: &[u8], after: &str) -> CommandError {
    one_line([before.as_bytes(), cut(bytes, 128), after.as_bytes()].concat())
}

fn integer(text: &[u8]) -> Result<i64, CommandError> {
    parse_integer(text).ok_or(NOT_INTEGER)
}

fn is(argument: &[u8], word: &str) -> bool {
    argument.eq_ignore_ascii_case(word.as_bytes())
}

/// How a time is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Unit {
    seconds: bool,
    absolute: bool,
}

impl Unit {
    const EX: Self = Self {
        seconds: true,
        absolute: false,
    };
    const PX: Self = Self {
        seconds: false,
        absolute: false,
    };
    const EXAT: Self = Self {
        seconds: true,
        absolute: true,
    };
    const PXAT: Self = Self {
        seconds: false,
        absolute: true,
    };

    fn from_option(option: &[u8]) -> Option<Self> {
        [
            ("ex", Self::EX),
            ("px", Self::PX),
            ("exat", Self::EXAT),
            ("pxat", Self::PXAT),
        ]
        .into_iter()
        .find_map(|(name, unit)| is(option, name).then_some(unit))
    }

    /// Milliseconds since 1970; `None` when out of range.
    fn to_deadline(self, value: i64, now_ms: i64) -> Option<i64> {
        let millis = if self.seconds {
            value.checked_mul(1000)?
        } else {
            value
        };
        if self.absolute {
            Some(millis)
        } else {
            millis.checked_add(now_ms)
        }
    }
}

fn invalid_expire(command: &str) -> CommandError {
    error(format!("ERR invalid expire time in '{command}' command"))
}

/// The time of SET EX and its like, which must be positive.
fn deadline(value: &[u8], unit: Unit, now_ms: i64, command: &str) -> Result<i64, CommandError> {
    let value = integer(value)?;
    if value <= 0 {
        return Err(invalid_expire(command));
    }
    unit.to_deadline(value, now_ms)
        .ok_or_else(|| invalid_expire(command))
}

impl<'a> Command<'a> {
    /// The command that these arguments are, the first being its name.
    ///
    /// # Errors
    ///
    /// The error to answer, as Redis 7.0 words it. (One difference: GETEX with an invalid time
    /// is an error also when the key isn't there.)
    pub fn parse(argv: &[&'a [u8]], context: &Context) -> Result<Self, CommandError> {
        let Some(spec) = argv.first().and_then(|name| lookup(name, context.version)) else {
            return Err(unknown_command(argv));
        };
        if !spec.takes(argv.len()) {
            return Err(wrong_number(spec.name));
        }
        let args = argv.get(1..).unwrap_or_default();
        parse_known(spec, args, context)
    }
}

fn parse_known<'a>(
    spec: &Spec,
    args: &[&'a [u8]],
    context: &Context,
) -> Result<Command<'a>, CommandError> {
    // The table's arity has been checked: what is missing below can't be.
    let arg = |index: usize| args.get(index).copied().unwrap_or_default();
    let key = arg(0);
    let request = match spec.id {
        Id::Get => Request::Get(key),
        Id::Set => return parse_set(args, context).map(Command::Store),
        Id::SetNx => Request::SetNx { key, value: arg(1) },
        Id::SetEx | Id::PSetEx => {
            let unit = if spec.id == Id::SetEx {
                Unit::EX
            } else {
                Unit::PX
            };
            Request::Set {
                key,
                value: arg(2),
                condition: SetCondition::Always,
                get: false,
                expiry: SetExpiry::At(deadline(arg(1), unit, context.now_ms, spec.name)?),
            }
        }
        Id::GetSet => Request::Set {
            key,
            value: arg(1),
            condition: SetCondition::Always,
            get: true,
            expiry: SetExpiry::Never,
        },
        Id::GetDel => Request::GetDel(key),
        Id::GetEx => parse_getex(args, context)?,
        Id::Append => Request::Append { key, value: arg(1) },
        Id::Strlen => Request::Strlen(key),
        Id::MGet => Request::MGet(args.to_vec()),
        Id::MSet => Request::MSet(pairs(args, spec.name)?),
        Id::MSetNx => Request::MSetNx(pairs(args, spec.name)?),
        Id::Del | Id::Unlink => Request::Del(args.to_vec()),
        Id::Exists => Request::Exists(args.to_vec()),
        Id::Type => Request::Type(key),
        Id::Incr => Request::IncrBy { key, by: 1 },
        Id::Decr => Request::IncrBy { key, by: -1 },
        Id::IncrBy => Request::IncrBy {
            key,
            by: integer(arg(1))?,
        },
        Id::DecrBy => Request::IncrBy {
            key,
            by: integer(arg(1))?
                .checked_neg()
                .ok_or(CommandError::fixed("ERR decrement would overflow"))?,
        },
        Id::Expire => parse_expire(args, Unit::EX, context, spec.name)?,
        Id::PExpire => parse_expire(args, Unit::PX, context, spec.name)?,
        Id::ExpireAt => parse_expire(args, Unit::EXAT, context, spec.name)?,
        Id::PExpireAt => parse_expire(args, Unit::PXAT, context, spec.name)?,
        Id::Ttl => Request::Ttl {
            key,
            kind: TtlKind::Seconds,
        },
        Id::PTtl => Request::Ttl {
            key,
            kind: TtlKind::Millis,
        },
        Id::ExpireTime => Request::Ttl {
            key,
            kind: TtlKind::AtSeconds,
        },
        Id::PExpireTime => Request::Ttl {
            key,
            kind: TtlKind::AtMillis,
        },
        Id::Persist => Request::Persist(key),
        Id::Keys => Request::Keys(key),
        Id::Scan => parse_scan(args)?,
        Id::RandomKey => Request::RandomKey,
        Id::FlushAll | Id::FlushDb => match args {
            [] => Request::Flush,
            [how] if is(how, "sync") || is(how, "async") => Request::Flush,
            _ => return Err(SYNTAX),
        },
        Id::DbSize => Request::DbSize,
        _ => return parse_local(spec, args, context).map(Command::Local),
    };
    Ok(Command::Store(request))
}

fn pairs<'a>(args: &[&'a [u8]], name: &str) -> Result<Vec<Pair<'a>>, CommandError> {
    let (pairs, rest) = args.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(wrong_number(name));
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}

fn parse_set<'a>(args: &[&'a [u8]], context: &Context) -> Result<Request<'a>, CommandError> {
    let [key, value, options @ ..] = args else {
        return Err(wrong_number("set"));
    };
    let mut condition = SetCondition::Always;
    let mut get = false;
    let mut keep = false;
    let mut time: Option<(Unit, &[u8])> = None;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "nx") && condition != SetCondition::IfPresent {
            condition = SetCondition::IfMissing;
        } else if is(option, "xx") && condition != SetCondition::IfMissing {
            condition = SetCondition::IfPresent;
        } else if is(option, "get") {
            get = true;
        } else if context.version < KvVersion::V1_1 {
            return Err(SYNTAX);
        } else if is(option, "keepttl") && time.is_none() {
            keep = true;
        } else if let Some(unit) = Unit::from_option(option) {
            // The same unit may be given again, as in Redis; the last counts.
            let other_unit = time.is_some_and(|(known, _)| known != unit);
            match options.next() {
                Some(value) if !keep && !other_unit => time = Some((unit, value)),
                _ => return Err(SYNTAX),
            }
        } else {
            return Err(SYNTAX);
        }
    }
    let expiry = match time {
        Some((unit, value)) => SetExpiry::At(deadline(value, unit, context.now_ms, "set")?),
        None if keep => SetExpiry::Keep,
        None => SetExpiry::Never,
    };
    Ok(Request::Set {
        key,
        value,
        condition,
        get,
        expiry,
    })
}

fn parse_getex<'a>(args: &[&'a [u8]], context: &Context) -> Result<Request<'a>, CommandError> {
    let [key, options @ ..] = args else {
        return Err(wrong_number("getex"));
    };
    let mut persist = false;
    let mut time: Option<(Unit, &[u8])> = None;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "persist") && time.is_none() {
            persist = true;
        } else if let Some(unit) = Unit::from_option(option) {
            let other_unit = time.is_some_and(|(known, _)| known != unit);
            match options.next() {
                Some(value) if !persist && !other_unit => time = Some((unit, value)),
                _ => return Err(SYNTAX),
            }
        } else {
            return Err(SYNTAX);
        }
    }
    let change = match time {
        Some((unit, value)) => GetExChange::At(deadline(value, unit, context.now_ms, "getex")?),
        None if persist => GetExChange::Persist,
        None => GetExChange::None,
    };
    Ok(Request::GetEx { key, change })
}

fn parse_expire<'a>(
    args: &[&'a [u8]],
    unit: Unit,
    context: &Context,
    name: &str,
) -> Result<Request<'a>, CommandError> {
    let [key, value, options @ ..] = args else {
        return Err(wrong_number(name));
    };
    let mut condition = ExpireCondition::default();
    for option in options {
        if is(option, "nx") {
            condition.nx = true;
        } else if is(option, "xx") {
            condition.xx = true;
        } else if is(option, "gt") {
            condition.gt = true;
        } else if is(option, "lt") {
            condition.lt = true;
        } else {
            return Err(with_bytes("ERR Unsupported option ", option, ""));
        }
    }
    if condition.nx && (condition.xx || condition.gt || condition.lt) {
        return Err(CommandError::fixed(
            "ERR NX and XX, GT or LT options at the same time are not compatible",
        ));
    }
    if condition.gt && condition.lt {
        return Err(CommandError::fixed(
            "ERR GT and LT options at the same time are not compatible",
        ));
    }
    let at_ms = unit
        .to_deadline(integer(value)?, context.now_ms)
        .ok_or_else(|| invalid_expire(name))?;
    Ok(Request::ExpireAt {
        key,
        at_ms,
        condition,
    })
}

/// A cursor as `strtoul` reads it, since Redis does.
fn parse_cursor(text: &[u8]) -> Option<u64> {
    let (negative, digits) = match text.split_first() {
        Some((b'-', digits)) => (true, digits),
        Some((b'+', digits)) => (false, digits),
        None => return Some(0),
        _ => (false, text),
    };
    if digits.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value
            .checked_mul(10)?
            .checked_add(u64::from(digit - b'0'))?;
    }
    Some(if negative {
        value.wrapping_neg()
    } else {
        value
    })
}

fn parse_scan<'a>(args: &[&'a [u8]]) -> Result<Request<'a>, CommandError> {
    let [cursor, options @ ..] = args else {
        return Err(wrong_number("scan"));
    };
    let cursor = parse_cursor(cursor).ok_or(CommandError::fixed("ERR invalid cursor"))?;
    let mut pattern = None;
    let mut count = 10u64;
    let mut kind = None;
    let (options, rest) = options.as_chunks::<2>();
    for [option, value] in options {
        if is(option, "count") {
            count = u64::try_from(integer(value)?).unwrap_or(0);
            if count == 0 {
                return Err(SYNTAX);
            }
        } else if is(option, "match") {
            pattern = Some(*value);
        } else if is(option, "type") {
            kind = Some(*value);
        } else {
            return Err(SYNTAX);
        }
    }
    if !rest.is_empty() {
        return Err(SYNTAX);
    }
    Ok(Request::Scan {
        cursor,
        pattern,
        count,
        kind,
    })
}

fn check_name(name: &[u8]) -> Result<&[u8], CommandError> {
    if name.iter().all(u8::is_ascii_graphic) {
        Ok(name)
    } else {
        Err(BAD_NAME)
    }
}

fn parse_hello<'a>(args: &[&'a [u8]]) -> Result<Local<'a>, CommandError> {
    let Some((version, options)) = args.split_first() else {
        return Ok(Local::Hello {
            protocol: None,
            name: None,
        });
    };
    let version = parse_integer(version).ok_or(CommandError::fixed(
        "ERR Protocol version is not an integer or out of range",
    ))?;
    let protocol = u8::try_from(version)
        .ok()
        .and_then(kv_resp::Protocol::from_number)
        .ok_or(CommandError::fixed("NOPROTO unsupported protocol version"))?;
    let mut name = None;
    let mut user = None;
    let mut rest = options;
    loop {
        rest = match rest {
            [] => break,
            [option, who, _, rest @ ..] if is(option, "auth") => {
                user = Some(*who);
                rest
            }
            [option, new, rest @ ..] if is(option, "setname") => {
                name = Some(check_name(new)?);
                rest
            }
            [option, ..] => {
                return Err(with_bytes(
                    "ERR Syntax error in HELLO option '",
                    option,
                    "'",
                ));
            }
        };
    }
    if user.is_some_and(|user| user != b"default") {
        return Err(WRONG_PASSWORD);
    }
    Ok(Local::Hello {
        protocol: Some(protocol),
        name,
    })
}

/// Which subcommand it is, its arity checked. `table`: names with their arities, counted as
/// in the table of commands.
fn subcommand(
    container: &str,
    args: &[&[u8]],
    table: &[(&'static str, i8)],
) -> Result<&'static str, CommandError> {
    let asked = args.first().copied().unwrap_or_default();
    let Some((name, arity)) = table.iter().find(|(name, _)| is(asked, name)) else {
        return Err(with_bytes(
            "ERR unknown subcommand '",
            asked,
            &format!("'. Try {} HELP.", container.to_ascii_uppercase()),
        ));
    };
    let count = args.len() + 1;
    let least = usize::from(arity.unsigned_abs());
    if count < least || *arity > 0 && count != least {
        return Err(wrong_number(&format!("{container}|{name}")));
    }
    Ok(name)
}

fn parse_client<'a>(args: &[&'a [u8]]) -> Result<Local<'a>, CommandError> {
    let table = [
        ("setname", 3),
        ("getname", 2),
        ("id", 2),
        ("info", 2),
        ("list", -2),
        ("setinfo", 4),
        ("no-evict", 3),
    ];
    let arg = |index: usize| args.get(index).copied().unwrap_or_default();
    Ok(match subcommand("client", args, &table)? {
        "setname" => Local::ClientSetName(check_name(arg(1))?),
        "getname" => Local::ClientGetName,
        "id" => Local::ClientId,
        "info" => Local::ClientInfo,
        "list" => Local::ClientList,
        "no-evict" if is(arg(1), "on") || is(arg(1), "off") => Local::ClientNoEvict,
        "setinfo" if is(arg(1), "lib-name") || is(arg(1), "lib-ver") => {
            let version = is(arg(1), "lib-ver");
            let value = arg(2);
            if !value.iter().all(u8::is_ascii_graphic) {
                return Err(error(format!(
                    "ERR {} cannot contain spaces, newlines or special characters.",
                    if version { "lib-ver" } else { "lib-name" }
                )));
            }
            Local::ClientSetInfo { version, value }
        }
        "setinfo" => return Err(with_bytes("ERR Unrecognized option '", arg(1), "'")),
        _ => return Err(SYNTAX),
    })
}

fn parse_local<'a>(
    spec: &Spec,
    args: &[&'a [u8]],
    context: &Context,
) -> Result<Local<'a>, CommandError> {
    let names = || args.get(1..).unwrap_or_default().to_vec();
    Ok(match spec.id {
        Id::Ping => match args {
            [] => Local::Ping(None),
            [message] => Local::Ping(Some(message)),
            _ => return Err(wrong_number(spec.name)),
        },
        Id::Echo => Local::Echo(args.first().copied().unwrap_or_default()),
        Id::Hello => parse_hello(args)?,
        Id::Auth => match args {
            [user, _] if *user == b"default" => Local::Auth,
            [_, _] => return Err(WRONG_PASSWORD),
            [_] => {
                return Err(CommandError::fixed(
                    "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
                ));
            }
            _ => return Err(SYNTAX),
        },
        Id::Command if args.is_empty() => Local::Command(CommandQuery::Info(Vec::new())),
        Id::Command => {
            let table = [("count", 2), ("list", -2), ("info", -2), ("docs", -2)];
            Local::Command(match subcommand("command", args, &table)? {
                "count" => CommandQuery::Count,
                "info" => CommandQuery::Info(names()),
                "docs" => CommandQuery::Docs(names()),
                _ => match args {
                    [_] => CommandQuery::List(None),
                    [_, filter, kind, pattern] if is(filter, "filterby") && is(kind, "pattern") => {
                        CommandQuery::List(Some(pattern))
                    }
                    _ => return Err(SYNTAX),
                },
            })
        }
        Id::Client => parse_client(args)?,
        Id::Config => {
            let table = [("get", -3), ("set", -4), ("resetstat", 2)];
            match subcommand("config", args, &table)? {
                "get" => Local::ConfigGet(names()),
                "resetstat" => Local::ConfigResetStat,
                _ => {
                    return Err(with_bytes(
                        "ERR Unknown option or number of arguments for CONFIG SET - '",
                        args.get(1).copied().unwrap_or_default(),
                        "'",
                    ));
                }
            }
        }
        Id::Select => match args.first().map(|index| integer(index)) {
            Some(Ok(0)) => Local::Select,
            Some(Err(error)) => return Err(error),
            _ => return Err(CommandError::fixed("ERR DB index is out of range")),
        },
        Id::Quit => Local::Quit,
        Id::Reset => Local::Reset,
        Id::Info => Local::Info(args.to_vec()),
        Id::Time => Local::Time,
        _ => {
            debug_assert!(context.version >= spec.since, "a command without an answer");
            return Err(unknown_command(&[spec.name.as_bytes()]));
        }
    })
}
