//! What is asked of a server, and which of it at random.

use kv_resp::encode_command;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Operation {
    Get(u64),
    Set {
        key: u64,
        value: Vec<u8>,
        expiry: Option<i64>,
    },
    Del(u64),
    Incr(u64),
    Append {
        key: u64,
        value: Vec<u8>,
    },
    Exists(u64),
    MGet(Vec<u64>),
    Ttl(u64),
    Persist(u64),
}

impl Operation {
    pub(crate) fn key(&self) -> u64 {
        match self {
            Self::Get(key)
            | Self::Del(key)
            | Self::Incr(key)
            | Self::Exists(key)
            | Self::Ttl(key)
            | Self::Persist(key)
            | Self::Set { key, .. }
            | Self::Append { key, .. } => *key,
            Self::MGet(keys) => keys.first().copied().unwrap_or_default(),
        }
    }

    pub(crate) fn writes(&self) -> bool {
        matches!(
            self,
            Self::Set { .. }
                | Self::Del(_)
                | Self::Incr(_)
                | Self::Append { .. }
                | Self::Persist(_)
        )
    }

    pub(crate) fn encode(&self, name: impl Fn(u64) -> String, out: &mut Vec<u8>) {
        let key = name(self.key());
        let key = key.as_bytes();
        match self {
            Self::Get(_) => encode_command(out, &[b"GET", key]),
            Self::Set { value, expiry, .. } => match expiry {
                None => encode_command(out, &[b"SET", key, value]),
                Some(seconds) => {
                    let seconds = seconds.to_string();
                    encode_command(out, &[b"SET", key, value, b"EX", seconds.as_bytes()]);
                }
            },
            Self::Del(_) => encode_command(out, &[b"DEL", key]),
            Self::Incr(_) => encode_command(out, &[b"INCR", key]),
            Self::Append { value, .. } => encode_command(out, &[b"APPEND", key, value]),
            Self::Exists(_) => encode_command(out, &[b"EXISTS", key]),
            Self::Ttl(_) => encode_command(out, &[b"TTL", key]),
            Self::Persist(_) => encode_command(out, &[b"PERSIST", key]),
            Self::MGet(keys) => {
                let mut argv = vec![String::from("MGET")];
                argv.extend(keys.iter().map(|key| name(*key)));
                encode_command(out, &argv);
            }
        }
    }

    pub(crate) fn describe(&self, name: &str) -> String {
        match self {
            Self::Get(_) => format!("GET {name}"),
            Self::Set { value, expiry, .. } => match expiry {
                None => format!("SET {name} {}", brief(value)),
                Some(seconds) => format!("SET {name} {} EX {seconds}", brief(value)),
            },
            Self::Del(_) => format!("DEL {name}"),
            Self::Incr(_) => format!("INCR {name}"),
            Self::Append { value, .. } => format!("APPEND {name} {}", brief(value)),
            Self::Exists(_) => format!("EXISTS {name}"),
            Self::MGet(keys) => format!("MGET {name} and {} more", keys.len().saturating_sub(1)),
            Self::Ttl(_) => format!("TTL {name}"),
            Self::Persist(_) => format!("PERSIST {name}"),
        }
    }
}

/// The beginning of a value, to be read.
pub(crate) fn brief(bytes: &[u8]) -> String {
    match bytes.get(..40) {
        Some(start) => format!("\"{}…\" ({} bytes)", start.escape_ascii(), bytes.len()),
        None => format!("\"{}\"", bytes.escape_ascii()),
    }
}

/// Numbers that look random, the same for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length + 8);
        while bytes.len() < length {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(length);
        bytes
    }
}

/// How long a key with an expiry lives: longer than any run.
const EXPIRY: Duration = Duration::from_secs(1_000_000);

/// A random operation on one of `keys` keys. A fourth of them are counters.
pub(crate) fn random_operation(
    random: &mut Random,
    keys: u64,
    lengths: (usize, usize),
    expiry: bool,
) -> Operation {
    let key = random.below(keys);
    let counter = key % 4 == 3;
    let dice = random.below(if expiry { 120 } else { 100 });
    let value = |random: &mut Random| {
        if counter {
            random.below(1_000_000).to_string().into_bytes()
        } else {
            let (least, most) = lengths;
            let more = u64::try_from(most.saturating_sub(least)).unwrap_or(0);
            let length = least + usize::try_from(random.below(more + 1)).unwrap_or(0);
            random.bytes(length)
        }
    };
    let seconds = i64::try_from(EXPIRY.as_secs()).unwrap_or(i64::MAX);
    match dice {
        0..32 => Operation::Get(key),
        32..40 => {
            let count = 1 + random.below(8);
            Operation::MGet((0..count).map(|_| random.below(keys)).collect())
        }
        40..46 => Operation::Exists(key),
        46..54 => Operation::Del(key),
        54..74 if counter => Operation::Incr(key),
        54..64 => Operation::Append {
            key,
            value: random.bytes(8),
        },
        100..110 => Operation::Set {
            key,
            value: value(random),
            expiry: Some(seconds),
        },
        110..116 => Operation::Ttl(key),
        116.. => Operation::Persist(key),
        _ => Operation::Set {
            key,
            value: value(random),
            expiry: None,
        },
    }
}
