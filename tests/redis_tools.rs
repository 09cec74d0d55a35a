//! Promise: Redis's own tools work with the server, and what both know is answered byte for byte
//! as Redis 7.0 answers it.
//!
//! Without an installed Redis there is nothing to compare with: the tests say so and end, and
//! fail where `CI=true`.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use kv_resp::{Value, encode_command, split_inline};
use neurath_cli::redis::{Load, Persistence, RedisServer, installed};
use neurath_cli::resp::Connection;
use neurath_cli::testing::NodeProcess;

/// Whether Redis and its tools are there; else the test is to end.
fn redis_is_there() -> bool {
    let missing: Vec<&str> = ["redis-server", "redis-cli", "redis-benchmark"]
        .into_iter()
        .filter(|program| installed(program).is_none())
        .collect();
    if missing.is_empty() {
        return true;
    }
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(
        !ci,
        "{} must be installed where CI=true",
        missing.join(", ")
    );
    println!("skipped: {} is not installed", missing.join(", "));
    false
}

/// A connection whose replies are looked at as bytes.
struct Raw {
    stream: TcpStream,
    asked: u32,
}

impl Raw {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("connected");
        let patience = Some(Duration::from_secs(60));
        stream.set_read_timeout(patience).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Self { stream, asked: 0 }
    }

    /// All bytes that come in answer to these.
    fn exchange(&mut self, request: &[u8]) -> Vec<u8> {
        self.asked += 1;
        let mark = format!("mark-{}-end", self.asked);
        let mut writer = self.stream.try_clone().expect("a second handle");
        let mut bytes = request.to_vec();
        encode_command(&mut bytes, &["ECHO", &mark]);
        let sender = std::thread::spawn(move || writer.write_all(&bytes));
        let end = format!("${}\r\n{mark}\r\n", mark.len()).into_bytes();
        let mut reply = Vec::new();
        let mut piece = vec![0; 1 << 20];
        while !reply.ends_with(&end) {
            let length = self.stream.read(&mut piece).unwrap_or_else(|error| {
                panic!("{error} after {}", show(request));
            });
            assert!(
                length > 0,
                "closed after {}; it answered {}",
                show(request),
                show(&reply)
            );
            reply.extend_from_slice(&piece[..length]);
        }
        sender.join().expect("sent").expect("sent");
        reply.truncate(reply.len() - end.len());
        reply
    }

    /// All bytes until the other side closes.
    fn until_closed(mut self, request: &[u8]) -> Vec<u8> {
        self.stream.write_all(request).expect("sent");
        let mut reply = Vec::new();
        // A reset after the answer is a way of closing, too.
        if let Err(error) = self.stream.read_to_end(&mut reply) {
            let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
            assert!(reset, "{}: not closed: {error}", show(request));
        }
        reply
    }
}

fn show(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(300)];
    format!("\"{}\" ({} bytes)", start.escape_ascii(), bytes.len())
}

fn encoded<A: AsRef<[u8]>>(argv: &[A]) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_command(&mut bytes, argv);
    bytes
}

/// A node and a Redis, and a connection to each.
struct Both {
    node: NodeProcess,
    redis: RedisServer,
    ours: Raw,
    theirs: Raw,
    // Kept for the libraries in its folder.
    _stage: neurath_cli::stage::Stage,
}

impl Both {
    fn start() -> Self {
        let stage = neurath_suite::kv(&["1.1.0"]);
        let node = stage.start("1.1.0").expect("a node");
        let redis = RedisServer::start(Persistence::None).expect("a Redis");
        let (ours, theirs) = (Raw::open(node.address()), Raw::open(redis.address()));
        Self {
            node,
            redis,
            ours,
            theirs,
            _stage: stage,
        }
    }

    fn same(&mut self, request: &[u8]) {
        let theirs = self.theirs.exchange(request);
        let ours = self.ours.exchange(request);
        assert!(
            ours == theirs,
            "{}:\n  ours   {}\n  theirs {}",
            show(request),
            show(&ours),
            show(&theirs)
        );
    }

    fn same_lines(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let argv = split_inline(line.as_bytes()).expect("quotes match");
            self.same(&encoded(&argv));
        }
    }

    /// Both speak another protocol from now on; what HELLO tells of the server differs.
    fn hello(&mut self, number: &str) {
        for raw in [&mut self.ours, &mut self.theirs] {
            let reply = raw.exchange(&encoded(&["HELLO", number]));
            let start: &[u8] = if number == "3" { b"%7\r\n" } else { b"*14\r\n" };
            assert!(reply.starts_with(start), "{}", show(&reply));
        }
    }
}

/// What must be answered the same in any protocol, from an empty database on.
const LINES: &str = r#"
ping
PiNg hello
ping ''
ping a b
echo "a\x00b\r\n"
echo
dbsize
get k
set k v
get k
set k ''
get k
strlen k
set k v2 nx
set new v nx
set none v xx
set k v3 xx
set k v4 get
set fresh v get
set fresh2 v nx get
set k v5 xx get
set k v nx xx
set k v ex 0
set k v ex -5
set k v ex abc
set k v ex
set k v px 0
set k v ex 10 px 10
set k v keepttl ex 10
set k v foo
set k
set k v exat 4000000000
expiretime k
pexpiretime k
set k w keepttl
expiretime k
set k w
expiretime k
set k w pxat 4000000000123
pexpiretime k
expiretime k
persist k
persist k
persist none
ttl k
ttl none
pttl k
pttl none
expiretime none
pexpiretime none
expireat k 4000000000
expireat k 4000000000 nx
expireat k 4100000000 gt
expireat k 4000000000 gt
expireat k 4000000000 lt
expireat k 4000000000 xx
expireat none 4000000000
expireat k 4000000000 nx gt
expireat k 4000000000 gt lt
expireat k 4000000000 foo
expireat k abc
pexpireat k 4000000000123
expiretime k
expire k abc
expire k 9223372036854775807
expire none 100
pexpire none 100
expire k -1
get k
exists k
expireat fresh 1
exists fresh
setex s 1000 v
get s
setex s 0 v
setex s abc v
setex s
psetex s 100000 w
get s
psetex s -1 w
setnx s x
setnx s2 x
setnx s2
get s
getset s y
getset s3 y
getset s
getdel s
getdel s
getex s2
getex s2 exat 4000000000
expiretime s2
getex s2 persist
ttl s2
getex s2 ex 0
getex s2 foo
getex s2 persist ex 10
getex none ex 10
append a hello
append a ' world'
append a ''
get a
append a
strlen a
strlen none
strlen
incr n
incr n
decr n
incrby n 10
decrby n 3
incrby n abc
incrby n ''
incrby n ' 1'
incrby n 01
incrby n -0
incrby n +5
incrby n 9223372036854775807
decrby n -9223372036854775808
set n 9223372036854775807
incr n
incrby n 1
set n -9223372036854775808
decr n
decrby n 1
set n ' 5'
incr n
set n 5.0
incr n
incr a
decr
mset x 1 y 2 z 3
mset x 1 y
mset
mget x y z none x
mget
msetnx x 5 w 5
msetnx w 5 q 6
msetnx w
get w
exists x y z none x x
exists
type x
type none
type
touch
del x y none x
del x
del
unlink z none
unlink
dbsize
keys none*
keys a
keys [
keys
scan abc
scan 0 count 0
scan 0 count abc
scan 0 foo
scan 0 match
scan
select 0
select abc
select
nosuchcommand
nosuchcommand a b c
'a\nb' c
'' a
config foo
config get
client foo
client getname
client setname me
client getname
client setname 'a b'
client setname ''
client getname
client info extra
client
command foo
auth a
auth a b c
hello 4
hello abc
hello 3 foo
object
flushdb foo
time x
dbsize x
randomkey x
set ttl v ex 9223372036854775807
set ttl v px 9223372036854775807
set ttl v exat 9223372036854775807
pexpire a 9223372036854775807
setex k 9223372036854775807 v
flushall
dbsize
randomkey
keys *
mget a b
flushdb
flushall async
flushall sync
flushall foo
set k v
flushdb
get k
"#;

#[test]
fn commands_are_answered_as_redis_answers_them() {
    if !redis_is_there() {
        return;
    }
    let mut both = Both::start();
    // Commands that only one of both has are left out.
    let has = |line: &&str| !["touch", "object"].contains(&line.trim());
    let lines: Vec<&str> = LINES.lines().filter(has).collect();
    let lines = lines.join("\n");
    both.same_lines(&lines);
    both.hello("3");
    both.same_lines(&lines);
    both.hello("2");
    both.same_lines("get none\nset k v get\nmget k none");
    both.same(&encoded(&["RESET"]));

    // All in one piece.
    let mut pipeline = Vec::new();
    for line in lines.lines().filter(|line| !line.trim().is_empty()) {
        encode_command(
            &mut pipeline,
            &split_inline(line.as_bytes()).expect("quotes match"),
        );
    }
    both.same(&pipeline);

    // As lines.
    both.same(b"PING\r\n");
    both.same(b"SET  inline   'a b'\r\nGET inline\nget \"inline\"\r\n\r\n\r\nPING\r\n");
    both.same(b"SET inline \"\\x00\\xff\\n\"\r\nGET inline\r\nSTRLEN inline\r\n");
    both.same(b"MGET a b\r\n*1\r\n$4\r\nPING\r\n*0\r\n*-1\r\nECHO x\r\n");

    // Keys and values of any bytes and many lengths.
    let every: Vec<u8> = (0..=255).collect();
    for length in [
        0,
        1,
        15,
        16,
        17,
        63,
        64,
        65,
        255,
        256,
        4095,
        4096,
        4097,
        65_535,
        65_536,
        1 << 20,
    ] {
        let value: Vec<u8> = every
            .iter()
            .copied()
            .cycle()
            .skip(length % 7)
            .take(length)
            .collect();
        let key = [&every[..], b"\r\n", length.to_string().as_bytes()].concat();
        both.same(&encoded(&[&b"SET"[..], &key, &value]));
        both.same(&encoded(&[&b"GET"[..], &key]));
        both.same(&encoded(&[&b"STRLEN"[..], &key]));
        both.same(&encoded(&[
            &b"SET"[..],
            &value[..length.min(70_000)],
            b"long key",
        ]));
        both.same(&encoded(&[&b"GET"[..], &value[..length.min(70_000)]]));
    }
    let big: Vec<u8> = every.iter().copied().cycle().take(5 << 20).collect();
    both.same(&encoded(&[&b"SET"[..], b"big", &big]));
    both.same(&encoded(&[&b"GET"[..], b"big"]));
    both.same(&encoded(&[&b"APPEND"[..], b"big", &big[..1000]]));
    both.same(&encoded(&[&b"STRLEN"[..], b"big"]));
    both.same(&encoded(&[&b"MGET"[..], b"big", b"none", b"big"]));
    both.same(&encoded(&[&b"GETDEL"[..], b"big"]));
    both.same(&encoded(&[&b"EXISTS"[..], b"big"]));
    both.same(&encoded(&["DBSIZE"]));

    // What ends a connection.
    let ends: [&[u8]; 9] = [
        b"QUIT\r\n",
        b"*1\r\n$4\r\nQUIT\r\n*1\r\n$4\r\nPING\r\n",
        b"PING\r\n*1\r\nPING\r\n",
        b"*abc\r\n",
        b"*2147483648\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n$abc\r\n",
        b"*1\r\n$536870913\r\n",
        b"SET 'a\r\n",
    ];
    for request in ends {
        let ours = Raw::open(both.node.address()).until_closed(request);
        let theirs = Raw::open(both.redis.address()).until_closed(request);
        assert_eq!(show(&ours), show(&theirs), "{}", show(request));
    }
    both.node.stop().expect("the node ends well");
}

/// Runs redis-cli, and gives what it says.
fn cli(address: &str, arguments: &[&str], input: &[u8]) -> String {
    let (host, port) = address.rsplit_once(':').expect("a port");
    let mut command = Command::new("redis-cli");
    command.args(["-h", host, "-p", port]).args(arguments);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("redis-cli");
    let mut stdin = child.stdin.take().expect("its input");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // It need not read what it has no use for.
            let _ = stdin.write_all(input);
        });
        child.wait_with_output().expect("redis-cli ends")
    });
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{}{stderr}", String::from_utf8_lossy(&output.stdout))
}

#[test]
fn redis_cli_and_mass_insertion_work() {
    if !redis_is_there() {
        return;
    }
    let both = Both::start();
    let (ours, theirs) = (both.node.address(), both.redis.address());
    let calls: &[(&[&str], &[u8])] = &[
        (&["PING"], b""),
        (&["SET", "k", "a value"], b""),
        (&["--no-raw", "GET", "k"], b""),
        (&["--raw", "GET", "k"], b""),
        (&["--csv", "MGET", "k", "none"], b""),
        (&["-3", "--no-raw", "MGET", "k", "none"], b""),
        (&["-x", "SET", "from-input"], b"bytes of the input\x00\xff"),
        (&["--no-raw", "GET", "from-input"], b""),
        (&["-r", "5", "INCR", "n"], b""),
        (&["-n", "0", "GET", "n"], b""),
        (&["-e", "INCR", "k"], b""),
        (&["NOSUCH", "command"], b""),
        (
            &[],
            b"SET many lines\nGET many\nINCR many\nDEL many\nGET many\n",
        ),
        (&["DBSIZE"], b""),
    ];
    for (arguments, input) in calls {
        let (ours, theirs) = (cli(ours, arguments, input), cli(theirs, arguments, input));
        assert_eq!(ours, theirs, "redis-cli {arguments:?}");
    }

    let mut mass = Vec::new();
    for number in 0..20_000 {
        encode_command(
            &mut mass,
            &["SET", &format!("mass:{number}"), &format!("value {number}")],
        );
    }
    let said = cli(ours, &["--pipe"], &mass);
    assert!(said.contains("errors: 0, replies: 20000"), "{said}");
    let mut client = Connection::open(ours).expect("connected");
    for number in (0..20_000).step_by(1_117) {
        let reply = client
            .ask(&["GET", &format!("mass:{number}")])
            .expect("a reply");
        assert_eq!(reply, Value::Bulk(format!("value {number}").into_bytes()));
    }
    let said = cli(ours, &["--scan", "--pattern", "mass:1999*"], b"");
    let mut found: Vec<&str> = said.lines().collect();
    found.sort_unstable();
    let mut expected: Vec<String> = (0..20_000)
        .map(|number| format!("mass:{number}"))
        .filter(|key| key.starts_with("mass:1999"))
        .collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
    both.node.stop().expect("the node ends well");
}

#[test]
fn scan_finds_every_key_while_others_are_added() {
    // No tool of Redis is needed for this one.
    let stage = neurath_suite::kv(&["1.1.0"]);
    let node = stage.start("1.1.0").expect("a node");
    let mut raw = Raw::open(node.address());
    let mut mass = Vec::new();
    for number in 0..10_000 {
        encode_command(&mut mass, &["SET", &format!("old:{number}"), "v"]);
    }
    raw.exchange(&mass);
    let mut client = Connection::open(node.address()).expect("connected");
    let mut seen = vec![false; 10_000];
    let mut cursor = String::from("0");
    let mut added = 0;
    for round in 0.. {
        assert!(round < 100_000, "SCAN does not end");
        let reply = client
            .ask(&["SCAN", &cursor, "COUNT", "50"])
            .expect("a reply");
        let Value::Array(parts) = reply else {
            panic!("SCAN answered {reply}");
        };
        let [Value::Bulk(next), Value::Array(keys)] = parts.as_slice() else {
            panic!("SCAN answered {parts:?}");
        };
        for key in keys {
            let Value::Bulk(key) = key else {
                panic!("a key {key}");
            };
            let key = std::str::from_utf8(key).expect("text");
            match key.strip_prefix("old:") {
                Some(number) => seen[number.parse::<usize>().expect("a number")] = true,
                None => assert!(key.starts_with("new:"), "SCAN found {key}"),
            }
        }
        cursor = String::from_utf8(next.clone()).expect("a cursor");
        if cursor == "0" {
            break;
        }
        if added < 10_000 {
            let mut more = Vec::new();
            for _ in 0..100 {
                encode_command(&mut more, &["SET", &format!("new:{added}"), "v"]);
                added += 1;
            }
            raw.exchange(&more);
        }
    }
    assert!(added > 1_000, "SCAN was over before anything was added");
    let missed = seen.iter().filter(|seen| !**seen).count();
    assert_eq!(missed, 0, "SCAN missed keys that were there all the time");
    node.stop().expect("the node ends well");
}

#[test]
fn redis_benchmark_works() {
    if !redis_is_there() {
        return;
    }
    let stage = neurath_suite::kv(&["1.1.0"]);
    let node = stage.start("1.1.0").expect("a node");
    for pipeline in [1, 16] {
        let load = Load {
            address: node.address(),
            clients: 50,
            pipeline,
            tests: "ping_inline,ping_mbulk,set,get,incr,mset",
            key_space: Some(1_000),
        };
        let rates = load.measure(10_000).expect("redis-benchmark");
        assert!(rates.iter().all(|(_, rate)| *rate > 0.0), "{rates:?}");
    }
    node.check().expect("the node lives");
    let mut client = Connection::open(node.address()).expect("connected");
    let reply = client.ask(&["DBSIZE"]).expect("a reply");
    assert!(matches!(reply, Value::Integer(1_000..)), "{reply}");
    node.stop().expect("the node ends well");
}
