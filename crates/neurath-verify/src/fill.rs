//! Many keys at rest.

use crate::connection::Connection;
use crate::operation::Random;
use crate::report::{FindingKind, Live, Recorder, Report};
use kv_resp::{Value, encode_command};
use std::io;
use std::thread;
use std::time::{Duration, Instant};

const BATCH: u64 = 256;
const TIMEOUT: Duration = Duration::from_secs(30);

/// The name of a key, like those of redis-benchmark: `key:000000000042`.
#[must_use]
pub fn fill_key(number: u64) -> String {
    format!("key:{number:012}")
}

/// The value that [`fill`] gives this key: printable, and different for each.
#[must_use]
pub fn fill_value(number: u64, length: usize) -> Vec<u8> {
    let mut value = Random::new(number.wrapping_mul(0x2545_f491_4f6c_dd1d)).bytes(length);
    for byte in &mut value {
        *byte = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"
            [usize::from(*byte & 63)];
    }
    value
}

/// Sets the keys number 0 to `keys`, each to its [`fill_value`].
#[must_use]
pub fn fill(address: &str, keys: u64, value_len: usize, connections: usize) -> Report {
    all(address, keys, value_len, connections, true)
}

/// Reads all keys of a [`fill`] with the same arguments and compares.
#[must_use]
pub fn check_fill(address: &str, keys: u64, value_len: usize, connections: usize) -> Report {
    all(address, keys, value_len, connections, false)
}

fn all(address: &str, keys: u64, value_len: usize, connections: usize, write: bool) -> Report {
    let connections = connections.max(1);
    let live = Live::new(connections);
    let share = keys.div_ceil(connections as u64);
    thread::scope(|scope| {
        for index in 0..connections {
            let recorder = live.recorder(index);
            let begin = (index as u64 * share).min(keys);
            let end = (begin + share).min(keys);
            scope.spawn(move || {
                let mut next = begin;
                if let Err(error) = range(address, &mut next, end, value_len, write, recorder) {
                    let text = format!("{} keys left out: {error}", end - next);
                    recorder.find(FindingKind::Error, text);
                }
            });
        }
    });
    live.report()
}

fn range(
    address: &str,
    next: &mut u64,
    end: u64,
    value_len: usize,
    write: bool,
    recorder: &Recorder,
) -> io::Result<()> {
    if *next == end {
        return Ok(());
    }
    let mut connection = Connection::open(address, TIMEOUT)?;
    let mut output = Vec::new();
    let mut times = Vec::new();
    // Large values go in smaller batches, so that neither side waits to be read.
    let batch = BATCH.min((256 * 1024 / (value_len as u64 + 1)).max(1));
    while *next < end {
        let until = (*next + batch).min(end);
        output.clear();
        times.clear();
        for number in *next..until {
            let key = fill_key(number);
            if write {
                let value = fill_value(number, value_len);
                encode_command(&mut output, &[b"SET", key.as_bytes(), &value]);
            } else {
                encode_command(&mut output, &[b"GET", key.as_bytes()]);
            }
        }
        let sent = Instant::now();
        recorder.sent(sent);
        let mut outcome = connection.send(&output);
        let mut acknowledged = 0;
        while outcome.is_ok() && *next < until {
            match connection.receive() {
                Ok(reply) => {
                    times.push(sent.elapsed());
                    acknowledged += u64::from(write && reply.is_ok());
                    check(&reply, *next, value_len, write, recorder);
                    *next += 1;
                }
                Err(error) => outcome = Err(error),
            }
        }
        recorder.received(&times, outcome.is_err().then(|| sent.elapsed()));
        recorder.count(|totals| {
            totals.acknowledged_writes += acknowledged;
            if !write {
                totals.checked_keys += times.len() as u64;
            }
        });
        outcome?;
    }
    Ok(())
}

fn check(reply: &Value, number: u64, value_len: usize, write: bool, recorder: &Recorder) {
    let key = fill_key(number);
    match reply {
        Value::Error(text) => {
            recorder.find(
                FindingKind::Error,
                format!("{key}: {}", text.escape_ascii()),
            );
        }
        reply if write && reply.is_ok() => {}
        Value::Bulk(bytes) if !write && *bytes == fill_value(number, value_len) => {}
        Value::Null if !write => recorder.find(FindingKind::Lost, format!("{key} isn't there")),
        other => {
            let mut text = format!("{key} answered {other}");
            if let Some((end, _)) = text.char_indices().nth(200) {
                text.truncate(end);
            }
            recorder.find(FindingKind::Wrong, text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values() {
        assert_eq!(fill_key(42), "key:000000000042");
        assert_eq!(fill_value(1, 64), fill_value(1, 64));
        assert_ne!(fill_value(1, 64), fill_value(2, 64));
        assert_eq!(fill_value(1, 0), b"");
    }
}
