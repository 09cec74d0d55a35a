//! What the store and the stats say to each other: counters that move from one to the other, and messages.
#![forbid(unsafe_code)]

use kv_resp::{Protocol, Writer};
use neurath::Pmem;

/// The component that counts, where the store does not.
pub const STATS: &str = "stats";

/// The name under which counters move.
pub const MOVE: &str = "counters";

/// What moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pmem)]
#[repr(C)]
pub struct Counters {
    /// Commands that changed something.
    pub commands: u64,
}

/// A message to the stats. The first byte is what it says; what a byte means never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A command changed something.
    Changed,
    /// INFO: what the others have said, to be answered with the counters behind it.
    Info {
        /// Of the answer.
        protocol: Protocol,
        /// What comes first.
        text: &'a [u8],
    },
}

const CHANGED: u8 = 1;
const INFO: u8 = 2;

impl<'a> Message<'a> {
    /// Appends it as bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Message::Changed => out.push(CHANGED),
            Message::Info { protocol, text } => {
                out.extend_from_slice(&[INFO, protocol.number()]);
                out.extend_from_slice(text);
            }
        }
    }

    /// Reads it; `None` if it is none.
    pub fn decode(bytes: &'a [u8]) -> Option<Message<'a>> {
        match bytes {
            [CHANGED] => Some(Message::Changed),
            [INFO, protocol, text @ ..] => Some(Message::Info {
                protocol: Protocol::from_number(*protocol)?,
                text,
            }),
            _ => None,
        }
    }
}

/// Answers INFO: what the others have said, and the counters.
pub fn write_info(text: &[u8], counters: Counters, w: &mut Writer<'_>) {
    let mut whole = text.to_vec();
    whole.extend_from_slice(section(counters).as_bytes());
    w.verbatim(*b"txt", &whole);
}

/// The section of INFO with the counters, an empty line before it.
fn section(counters: Counters) -> String {
    format!(
        "\r\n# Counters\r\nchanging_commands:{}\r\n",
        counters.commands
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        for message in [
            Message::Changed,
            Message::Info {
                protocol: Protocol::Resp3,
                text: b"# Server\r\n",
            },
            Message::Info {
                protocol: Protocol::Resp2,
                text: b"",
            },
        ] {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Message::decode(&bytes), Some(message));
        }
        for wrong in [&b""[..], &[0], &[CHANGED, 0], &[INFO], &[INFO, 9], &[3]] {
            assert_eq!(Message::decode(wrong), None, "{wrong:?}");
        }
    }
}
