//! Promise: whatever a client sends or does not, it gets an error or a closed connection, and
//! another client's requests are answered, and rightly, all the time.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kv_resp::{Value, encode_command, parse_reply};
use neurath_cli::control;
use neurath_cli::output::{MessageFormat, Output};
use neurath_cli::stage::{Stage, release};
use neurath_cli::testing::NodeProcess;
use neurath_verify::{Live, Options, Report, Verifier};

/// A node, and a client beside the hostile ones that checks every reply.
struct Scene {
    node: NodeProcess,
    live: Live,
    stop: Arc<AtomicBool>,
    witness: JoinHandle<Report>,
    _stage: Stage,
}

impl Scene {
    fn start(versions: &[&str]) -> Self {
        let stage = neurath_suite::kv(versions);
        let node = stage.start(versions[0]).expect("a node");
        let options = Options {
            address: node.address().to_owned(),
            connections: 2,
            pipeline: 4,
            keys: 500,
            reconnect: false,
            timeout: Duration::from_secs(30),
            rate: Some(4_000),
            ..Options::default()
        };
        let stop = Arc::clone(&options.stop);
        let witness = Verifier::new(options);
        let live = witness.live();
        let scene = Self {
            node,
            live,
            stop,
            witness: witness.spawn(),
            _stage: stage,
        };
        scene.others_are_served();
        scene
    }

    fn open(&self) -> TcpStream {
        let stream = TcpStream::connect(self.node.address()).expect("connected");
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        stream
            .set_write_timeout(Some(Duration::from_secs(30)))
            .expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        stream
    }

    /// Waits until the other client has been answered some more.
    fn others_are_served(&self) {
        let goal = self.live.totals().requests + 200;
        let until = Instant::now() + Duration::from_secs(60);
        while self.live.totals().requests < goal {
            self.node.check().expect("the node lives");
            assert!(
                Instant::now() < until,
                "nobody else is served: {}",
                self.live.report()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
        let totals = self.live.totals();
        assert_eq!(
            (totals.lost, totals.wrong, totals.errors),
            (0, 0, 0),
            "{}",
            self.live.report()
        );
    }

    fn end(self) {
        self.others_are_served();
        self.stop.store(true, Ordering::Relaxed);
        let report = self.witness.join().expect("the other client panicked");
        assert!(report.is_clean(), "{report}");
        assert_eq!(report.checked_keys, 500, "{report}");
        self.node.stop().expect("the node ends well");
    }
}

/// Everything until the other side closes; a reset is a way of closing.
fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 16 * 1024];
    loop {
        match stream.read(&mut piece) {
            Ok(0) => return all,
            Ok(length) => all.extend_from_slice(&piece[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return all,
            Err(error) => panic!("the connection is left open: {error}"),
        }
    }
}

fn receive(stream: &mut TcpStream, input: &mut Vec<u8>) -> Value {
    let mut piece = [0; 16 * 1024];
    loop {
        if let Some((value, length)) = parse_reply(input).expect("a reply") {
            input.drain(..length);
            return value;
        }
        let length = stream.read(&mut piece).expect("a reply");
        assert!(length > 0, "closed");
        input.extend_from_slice(&piece[..length]);
    }
}

fn encoded<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, argv);
    bytes
}

#[test]
fn malformed_requests_get_an_error_and_a_closed_connection() {
    let scene = Scene::start(&["1.1.0"]);
    let endless = vec![b'a'; 70_000];
    let wrong: Vec<(&str, Vec<u8>)> = vec![
        ("a length that is no number", b"*abc\r\n".to_vec()),
        ("an empty length", b"*\r\n$\r\n".to_vec()),
        ("too many arguments", b"*1048577\r\n".to_vec()),
        (
            "far too many arguments",
            b"*99999999999999999999999\r\n".to_vec(),
        ),
        ("a negative argument", b"*1\r\n$-1\r\n".to_vec()),
        (
            "a huge argument",
            b"*2\r\n$3\r\nGET\r\n$536870913\r\n".to_vec(),
        ),
        (
            "an overflowing argument",
            b"*1\r\n$9223372036854775808\r\n".to_vec(),
        ),
        (
            "no argument where one must be",
            b"*2\r\n$3\r\nGET\r\n:5\r\n".to_vec(),
        ),
        ("an endless line", endless.clone()),
        (
            "an endless length",
            [b"*".to_vec(), endless.clone()].concat(),
        ),
        (
            "an endless argument's length",
            [b"*1\r\n$".to_vec(), endless].concat(),
        ),
        ("an open quotation", b"SET 'a\r\n".to_vec()),
        ("a quotation in a word", b"SET \"a\"b c\r\n".to_vec()),
    ];
    for (what, bytes) in wrong {
        let mut stream = scene.open();
        // It may close before all is sent.
        let _ = stream.write_all(&bytes);
        let reply = until_closed(&mut stream);
        assert!(
            reply.starts_with(b"-ERR Protocol error") && reply.ends_with(b"\r\n"),
            "{what}: answered \"{}\"",
            reply.escape_ascii()
        );
        scene.others_are_served();
    }
    scene.end();
}

#[test]
fn truncated_requests_and_half_closed_connections_are_let_go() {
    let scene = Scene::start(&["1.1.0"]);
    let request = encoded(&["SET", "truncated", "a value"]);
    for end in 0..=request.len() {
        let mut stream = scene.open();
        stream.write_all(&request[..end]).expect("sent");
        stream.shutdown(Shutdown::Write).expect("half-closed");
        let reply = until_closed(&mut stream);
        let whole: &[u8] = if end == request.len() {
            b"+OK\r\n"
        } else {
            b""
        };
        assert_eq!(
            reply,
            whole,
            "after {end} bytes: \"{}\"",
            reply.escape_ascii()
        );
    }
    // A thousand requests, and nothing more: all are answered.
    let mut stream = scene.open();
    stream
        .write_all(&encoded(&["PING"]).repeat(1_000))
        .expect("sent");
    stream.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(until_closed(&mut stream), b"+PONG\r\n".repeat(1_000));
    scene.end();
}

/// Pinned random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 8
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }
}

#[test]
fn nonsense_harms_nobody_else() {
    let scene = Scene::start(&["1.1.0"]);
    let mut random = Random(0x5eed_0001);
    let words: [&[u8]; 16] = [
        b"*",
        b"$",
        b"\r\n",
        b"1",
        b"3",
        b"-1",
        b"GET",
        b"SET",
        b"fuzz",
        b"HELLO",
        b"3",
        b"\0",
        b"*2\r\n$3\r\nGET\r\n$4\r\nfuzz\r\n",
        b"SCAN 0 COUNT 10\r\n",
        b"\xff\xfe",
        b"MGET",
    ];
    for round in 0..600 {
        let mut bytes = Vec::new();
        if round % 2 == 0 {
            for _ in 0..random.below(40) {
                bytes.extend_from_slice(words[random.below(words.len())]);
            }
        } else {
            // Sound requests with some bytes changed, lost or doubled.
            for _ in 0..=random.below(5) {
                let key = format!("fuzz:{}", random.below(20));
                bytes.extend(encoded(&["SET", &key, "value", "EX", "100"]));
                bytes.extend(encoded(&["MGET", &key, "fuzz"]));
            }
            for _ in 0..=random.below(4) {
                let at = random.below(bytes.len());
                match random.below(3) {
                    0 => bytes[at] = random.next() as u8,
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
        }
        let mut stream = scene.open();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let reply = until_closed(&mut stream);
        // Whatever comes back are whole replies.
        let mut rest = &reply[..];
        while !rest.is_empty() {
            match parse_reply(rest) {
                Ok(Some((_, length))) => rest = &rest[length..],
                other => panic!(
                    "round {round}: \"{}\" answered \"{}\": {other:?}",
                    bytes.escape_ascii(),
                    reply.escape_ascii()
                ),
            }
        }
        if round % 100 == 0 {
            scene.others_are_served();
        }
    }
    scene.end();
}

#[test]
fn clients_that_never_read_do_not_fill_the_memory() {
    /// What one of them may make the server hold, with room to spare for what is around it.
    const EACH: u64 = 400 << 20;
    const CLIENTS: u64 = 2;
    let scene = Scene::start(&["1.1.0"]);
    let mut stream = scene.open();
    let value = vec![b'v'; 1 << 20];
    stream
        .write_all(&encoded(&[&b"SET"[..], b"big", &value]))
        .expect("sent");
    assert!(receive(&mut stream, &mut Vec::new()).is_ok());
    let before = scene.node.memory().expect("memory");

    // Each asks for two gigabytes, and reads nothing.
    let asked = encoded(&["GET", "big"]).repeat(2_000);
    let clients: Vec<TcpStream> = (0..CLIENTS)
        .map(|_| {
            let mut stream = scene.open();
            stream
                .set_write_timeout(Some(Duration::from_millis(500)))
                .expect("a timeout");
            // The server may stop reading, or close.
            let _ = stream.write_all(&asked);
            stream
        })
        .collect();
    let mut most = 0;
    for _ in 0..10 {
        scene.others_are_served();
        most = most.max(scene.node.memory().expect("memory"));
    }
    let growth = most.saturating_sub(before);
    println!("memory grew by {} MiB", growth >> 20);
    assert!(
        growth < CLIENTS * EACH,
        "memory grew by {} MiB",
        growth >> 20
    );
    drop(clients);

    // One that sends the start of a huge request, and no more.
    let announced: Vec<TcpStream> = (0..20)
        .map(|_| {
            let mut stream = scene.open();
            stream
                .write_all(b"*3\r\n$3\r\nSET\r\n$4\r\nhuge\r\n$536870912\r\nabc")
                .expect("sent");
            stream
        })
        .collect();
    scene.others_are_served();
    let growth = scene.node.memory().expect("memory").saturating_sub(most);
    assert!(
        growth < 64 << 20,
        "announced bytes took {} MiB",
        growth >> 20
    );
    drop(announced);
    scene.end();
}

#[test]
fn thousands_of_connections_come_and_go() {
    let scene = Scene::start(&["1.1.0"]);
    let descriptors = || {
        let path = format!("/proc/{}/fd", scene.node.pid());
        std::fs::read_dir(path).expect("descriptors").count()
    };
    let before = descriptors();
    for number in 0..3_000 {
        let mut stream = scene.open();
        match number % 3 {
            0 => {}
            1 => stream.write_all(b"*2\r\n$3\r\nGE").expect("sent"),
            _ => stream
                .write_all(&encoded(&["GET", "nothing"]))
                .expect("sent"),
        }
    }
    // Many at once, and all are served.
    let mut many: Vec<TcpStream> = (0..500).map(|_| scene.open()).collect();
    for stream in &mut many {
        stream.write_all(&encoded(&["PING"])).expect("sent");
    }
    for stream in &mut many {
        assert_eq!(
            receive(stream, &mut Vec::new()),
            Value::Simple(b"PONG".to_vec())
        );
    }
    drop(many);
    let until = Instant::now() + Duration::from_secs(30);
    while descriptors() > before {
        assert!(
            Instant::now() < until,
            "{} descriptors stay open",
            descriptors() - before
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    scene.end();
}

#[test]
fn slow_senders_are_served_and_keep_nobody_waiting() {
    let scene = Scene::start(&["1.1.0"]);
    let mut slow: Vec<TcpStream> = (0..20).map(|_| scene.open()).collect();
    let requests: Vec<Vec<u8>> = (0..20)
        .map(|number| encoded(&["SET", &format!("slow:{number}"), "byte by byte"]))
        .collect();
    let longest = requests.iter().map(Vec::len).max().unwrap_or_default();
    for at in 0..longest {
        for (stream, request) in slow.iter_mut().zip(&requests) {
            if let Some(byte) = request.get(at) {
                stream.write_all(&[*byte]).expect("sent");
            }
        }
        if at % 10 == 0 {
            scene.others_are_served();
        }
    }
    for stream in &mut slow {
        assert!(receive(stream, &mut Vec::new()).is_ok());
    }
    scene.end();
}

#[test]
fn a_request_begun_before_an_upgrade_is_completed_after_it() {
    let scene = Scene::start(&["1.0.0", "1.1.0"]);
    let output = Output::new(MessageFormat::Human);
    let first = encoded(&["SET", "begun", "before"]);
    let second = encoded(&["GET", "begun"]);
    // Cut at any place: in the length, in the name, in an argument, between requests.
    let both = [first.clone(), second].concat();
    let mut cut: Vec<(usize, TcpStream)> = (0..both.len())
        .map(|end| {
            let mut stream = scene.open();
            stream.write_all(&both[..end]).expect("sent");
            (end, stream)
        })
        .collect();
    scene.others_are_served();
    control::apply(scene.node.directory(), &release("1.1.0"), None, &output).expect("upgraded");
    scene.others_are_served();
    for (end, stream) in &mut cut {
        stream.write_all(&both[*end..]).expect("sent");
        let mut input = Vec::new();
        assert!(receive(stream, &mut input).is_ok(), "cut at {end}");
        let value = receive(stream, &mut input);
        assert_eq!(value, Value::Bulk(b"before".to_vec()), "cut at {end}");
    }
    // And on the way back, with the connections that have lived through all.
    for (end, stream) in &mut cut {
        stream.write_all(&both[..*end]).expect("sent");
    }
    scene.others_are_served();
    control::rollback(scene.node.directory(), false, &output).expect("back");
    for (end, stream) in &mut cut {
        stream.write_all(&both[*end..]).expect("sent");
        let mut input = Vec::new();
        assert!(receive(stream, &mut input).is_ok(), "cut at {end}");
        let value = receive(stream, &mut input);
        assert_eq!(value, Value::Bulk(b"before".to_vec()), "cut at {end}");
    }
    scene.end();
}
