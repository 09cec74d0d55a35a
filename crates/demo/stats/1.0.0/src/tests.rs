//! What the stats count and tell.

use kv_resp::Protocol;
use kv_stats_common::Message;
use kv_testing::{Instance, schema};

use super::*;

fn encoded(message: Message<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

#[test]
fn it_counts_and_tells() {
    let stats = &mut Instance::<Stats>::new(schema!(Stats), "{}");
    for _ in 0..3 {
        stats
            .tell(&encoded(Message::Changed))
            .expect("it is counted");
    }
    let info = Message::Info {
        protocol: Protocol::Resp2,
        text: b"# Server\r\n",
    };
    let text = "# Server\r\n\r\n# Counters\r\nchanging_commands:3\r\n";
    let answer = stats.request(&encoded(info)).expect("an answer");
    let expected = format!("${}\r\n{text}\r\n", text.len());
    assert_eq!(String::from_utf8_lossy(&answer), expected);
    assert!(stats.request(&[9]).is_err());
}
