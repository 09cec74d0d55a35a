//! Bytes of clients against what is answered and sent on.

use kv_commands::Request;
use kv_resp::Protocol;
use kv_testing::{Instance, schema};

use super::*;

fn gateway() -> Instance<Gateway> {
    let mut gateway = Instance::new(schema!(Gateway), r#"{"listen": "127.0.0.1:0"}"#);
    assert_eq!(gateway.log.listening, ["127.0.0.1:0"]);
    gateway.opened(1).expect("a connection");
    gateway
}

/// The answers that the gateway gives by itself, in order.
fn ask(gateway: &mut Instance<Gateway>, bytes: &[u8]) -> String {
    assert_eq!(gateway.data(1, bytes), Ok(bytes.len()));
    gateway
        .log
        .replies
        .iter()
        .map(|(_, reply)| String::from_utf8_lossy(reply))
        .collect()
}

#[test]
fn local_commands() {
    let gateway = &mut gateway();
    for (line, answer) in [
        ("PING", "+PONG\r\n"),
        ("ping hello", "$5\r\nhello\r\n"),
        ("echo x", "$1\r\nx\r\n"),
        ("select 0", "+OK\r\n"),
        ("client getname", "$-1\r\n"),
        ("client setname me", "+OK\r\n"),
        ("client getname", "$2\r\nme\r\n"),
        ("client id", ":1\r\n"),
        ("config get save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        (
            "nonsense",
            "-ERR unknown command 'nonsense', with args beginning with: \r\n",
        ),
        (
            "get",
            "-ERR wrong number of arguments for 'get' command\r\n",
        ),
        ("reset", "+RESET\r\n"),
        ("client getname", "$-1\r\n"),
    ] {
        assert_eq!(
            ask(gateway, format!("{line}\r\n").as_bytes()),
            answer,
            "{line}"
        );
    }
    gateway.store.with(|state: &mut Gateway, _| {
        assert_eq!((state.connections, state.commands), (1, 13));
        Ok(())
    });
}

#[test]
fn names_go_with_their_connections() {
    let gateway = &mut gateway();
    ask(
        gateway,
        b"client setname a-name-of-more-than-twenty-bytes\r\n",
    );
    gateway.closed(1).expect("closed");
    gateway.store.with(|state: &mut Gateway, _| {
        assert!(state.names.is_empty());
        Ok(())
    });
    gateway.closed(1).expect("closed");
    assert!(!gateway.log.committed);
}

#[test]
fn a_pipeline_in_one_transaction() {
    let gateway = &mut gateway();
    let bytes =
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n\r\n*3\r\n$3\r\nSET\r\n$1\r\nb\r\n$1\r\nc\r\n";
    assert_eq!(ask(gateway, bytes), "+PONG\r\n");
    let sent: Vec<_> = gateway
        .log
        .sent
        .iter()
        .map(|sent| {
            assert_eq!(sent.component, "store");
            let request = Request::decode(&sent.bytes, KvVersion::V1_1).expect("a request");
            (sent.token.sequence, request)
        })
        .collect();
    assert_eq!(sent[0], (1, (Protocol::Resp2, Request::Get(b"a"))));
    assert_eq!(gateway.log.replies[0].0.sequence, 2);
    assert_eq!(sent[1].0, 3);
    assert_eq!(sent.len(), 2);
}

#[test]
fn requests_in_pieces() {
    let gateway = &mut gateway();
    let value = "v".repeat(500);
    let mut bytes =
        format!("PING\r\n*3\r\n$3\r\nSET\r\n$1\r\na\r\n$500\r\n{value}\r\n").into_bytes();
    bytes.extend_from_slice(b"PING\r\n");
    // Every length of the first piece, and then one byte more each time.
    for first in [1, 3, 6, 7, 20, 40, 300] {
        let (mut start, mut replies, mut sent) = (0, 0, 0);
        for end in first..=bytes.len() {
            start += gateway.data(1, &bytes[start..end]).expect("served");
            replies += gateway.log.replies.len();
            sent += gateway.log.sent.len();
        }
        assert_eq!((start, replies, sent), (bytes.len(), 2, 1), "first {first}");
    }
}

#[test]
fn a_request_under_way_is_forgotten_with_its_connection() {
    let gateway = &mut gateway();
    let half = b"*2\r\n$3\r\nGET\r\n$100\r\nab";
    assert_eq!(gateway.data(2, half), Ok(0));
    gateway.closed(2).expect("closed");
    assert_eq!(gateway.data(2, b"PING\r\n"), Ok(6));
    assert_eq!(gateway.log.replies.len(), 1);
    // Other bytes than those it was read from are read from their beginning.
    assert_eq!(gateway.data(3, half), Ok(0));
    assert_eq!(gateway.data(3, b"PING\r\n"), Ok(6));
    assert_eq!(gateway.log.replies.len(), 1);
}

#[test]
fn protocols() {
    let gateway = &mut gateway();
    let answer = ask(gateway, b"HELLO 3 SETNAME me\r\nGET a\r\n");
    assert!(answer.starts_with("%7\r\n$6\r\nserver\r\n"), "{answer}");
    assert_eq!(gateway.log.users.get(&1), Some(&3));
    let (protocol, _) =
        Request::decode(&gateway.log.sent[0].bytes, KvVersion::V1_1).expect("a request");
    assert_eq!(protocol, Protocol::Resp3);
    assert!(ask(gateway, b"hello\r\n").starts_with("%7\r\n"));
    assert_eq!(ask(gateway, b"reset\r\n"), "+RESET\r\n");
    assert_eq!(gateway.log.users.get(&1), Some(&2));
}

#[test]
fn ends() {
    let gateway = &mut gateway();
    assert_eq!(ask(gateway, b"QUIT\r\nPING\r\n"), "+OK\r\n");
    assert_eq!(gateway.log.closed, [1]);
    let answer = ask(gateway, b"PING\r\n*1\r\nx\r\n");
    assert_eq!(
        answer,
        "+PONG\r\n-ERR Protocol error: expected '$', got 'x'\r\n"
    );
    assert_eq!(gateway.log.closed, [1]);
    // The next connection is served as ever.
    assert_eq!(gateway.data(4, b"*1\r\n$4\r\nPING\r\n"), Ok(14));
}

#[test]
fn info() {
    let gateway = &mut gateway();
    assert_eq!(ask(gateway, b"INFO\r\nINFO server\r\n"), "");
    let requests: Vec<_> = gateway
        .log
        .sent
        .iter()
        .map(|sent| {
            Request::decode(&sent.bytes, KvVersion::V1_1)
                .expect("a request")
                .1
        })
        .collect();
    let Request::Info {
        text,
        keyspace: true,
    } = requests[0]
    else {
        panic!("{requests:?}")
    };
    let text = String::from_utf8_lossy(text);
    assert!(
        text.starts_with("# Server\r\nredis_version:7.0.0\r\n"),
        "{text}"
    );
    assert!(
        text.contains("\r\n\r\n# Clients\r\n") && text.contains("# Memory"),
        "{text}"
    );
    let Request::Info {
        text,
        keyspace: false,
    } = requests[1]
    else {
        panic!("{requests:?}")
    };
    assert!(!String::from_utf8_lossy(text).contains("# Clients"));
}
