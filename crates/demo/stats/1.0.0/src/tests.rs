//! What the stats count and tell.

use kv_resp::Protocol;
use kv_stats_common::Message;
use kv_testing::{Instance, schema};

use super::*;

fn ask(stats: &mut Instance<Stats>, message: Message<'_>) -> String {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    let answer = stats.request(&bytes).expect("it is served");
    String::from_utf8(answer).expect("text")
}

#[test]
fn it_counts_and_tells() {
    let stats = &mut Instance::<Stats>::new(schema!(Stats), "{}");
    for _ in 0..3 {
        assert_eq!(ask(stats, Message::Changed), "");
    }
    let info = Message::Info {
        protocol: Protocol::Resp2,
        text: b"# Server\r\n",
    };
    let text = "# Server\r\n\r\n# Counters\r\nchanging_commands:3\r\n";
    assert_eq!(ask(stats, info), format!("${}\r\n{text}\r\n", text.len()));
    assert!(stats.request(&[9]).is_err());
}
