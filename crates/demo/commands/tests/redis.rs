//! Side by side with a real Redis: the same requests, the same errors in the same words.

use kv_commands::{Command, Context, KvVersion, glob_match};
use kv_resp::{Value, encode_command, parse_reply, split_inline};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

struct Redis {
    process: Child,
    socket: PathBuf,
    connection: UnixStream,
    input: Vec<u8>,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

impl Redis {
    fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kv-commands-{}-{number}.sock", std::process::id());
        let socket = std::env::temp_dir().join(name);
        let process = Process::new("redis-server")
            .args(["--port", "0", "--unixsocket"])
            .arg(&socket)
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        for _ in 0..2_400 {
            if let Ok(connection) = UnixStream::connect(&socket) {
                return Some(Self {
                    process,
                    socket,
                    connection,
                    input: Vec::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        panic!("redis-server doesn't answer");
    }

    fn ask<A: AsRef<[u8]>>(&mut self, argv: &[A]) -> Value {
        let mut out = Vec::new();
        encode_command(&mut out, argv);
        self.connection.write_all(&out).expect("sent");
        loop {
            if let Some((value, used)) = parse_reply(&self.input).expect("a reply") {
                self.input.drain(..used);
                return value;
            }
            let mut piece = [0; 4096];
            let length = self.connection.read(&mut piece).expect("received");
            assert!(length > 0, "closed");
            self.input.extend_from_slice(&piece[..length]);
        }
    }
}

const LINES: &str = "
foo a b c
Foo
'' a
'a\\nb' c
ping a b
ping
ping hi
echo
get
get k
GET k x
set k
set k v
set k v ex 0
set k v ex -1
set k v ex abc
set k v foo
set k v nx xx
set k v xx nx
set k v nx nx
set k v ex 10 px 10
set k v ex 10 ex 20
set k v ex 0 ex 20
set k v keepttl ex 10
set k v ex 10 keepttl
set k v ex
set k v ex 9223372036854775807
set k v px 9223372036854775807
set k v pxat 9223372036854775807
set k v exat 9223372036854775807
set k v exat 1999999999 get
set k v keepttl
set k v get nx
setnx k
setex k 0 v
setex k abc v
setex k 9223372036854775807 v
setex k 9223372036854775 v
setex k 10
psetex k -1 v
psetex k 100000 v
getset k
getdel
getex k ex 0
getex k foo
getex k persist ex 10
getex k ex 10 persist
getex k ex 10 px 10
getex k ex
getex k px abc
getex k exat -1
getex k persist persist
getex k ex 100
append k
append k x
strlen k v
mget
mset a
mset a b c
msetnx a b c
mset a b
del
unlink
exists
type
incr a b
incrby n abc
incrby n 01
incrby n +1
incrby n -0
incrby n ''
incrby n 9223372036854775808
incrby n 5
decrby n -9223372036854775808
decrby n 3
expire k abc
expire k abc foo
expire k 10 foo
expire k 10 nx xx
expire k 10 gt lt
expire k 10 gt nx
expire k 10 xx gt
expire k 9223372036854775807
expire k 9223372036854775
expire k -9223372036854775808
expire k 1000
expire k
pexpire k 9223372036854775807
pexpire k 1000000
pexpireat k 9223372036854775807
expireat k 9223372036854775807
expireat k 1999999999
ttl
pttl a b
expiretime k
pexpiretime k
persist k x
keys
keys a b
scan
scan abc
scan -1
scan -
scan ''
scan 18446744073709551615
scan 18446744073709551616
scan 0 count 0
scan 0 count abc
scan 0 count 5
scan 0 foo
scan 0 foo bar
scan 0 match
scan 0 match *
scan 0 type foo
scan 0 count 5 match
randomkey x
dbsize x
time x
flushall foo
flushall sync x
flushdb async
select 99
select abc
select
select 0
hello
hello 4
hello abc
hello 3 foo
hello 2 auth a
hello 2 auth a b
hello 2 auth default x
hello 2 setname 'a b'
hello 2 setname
hello 2 setname me
auth a
auth a b
auth a b c
client
client foo
client setname
client setname 'a b'
client setname ''
client getname x
client getname
client id
client id x
client info
client no-evict on
client no-evict maybe
config
config foo
config get
config get save appendonly
config set save
config set foo bar
command foo
command count
command count x
command list filterby foo bar
command list filterby pattern g*
command info get nosuch
info
info server memory
reset x
quit x y
";

#[test]
fn errors_are_the_same_as_those_of_redis() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    let long = "a".repeat(200);
    let extra = [
        format!("foo {long} b"),
        format!("{long} b"),
        format!("foo {0} {0}", &long[..90]),
    ];
    let lines = LINES
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned);
    for line in extra.into_iter().chain(lines) {
        let argv = split_inline(line.as_bytes()).expect("quotes match");
        // The errors compared depend on the request only, except that GETEX is to find its key.
        if line.starts_with("getex") {
            redis.ask(&["set", "k", "v"]);
        }
        let theirs = redis.ask(&argv);
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_millis();
        let context = Context {
            version: KvVersion::V1_1,
            now_ms: i64::try_from(now_ms).expect("before the end of time"),
        };
        let ours = Command::parse(&argv, &context);
        let ours_text = ours.as_ref().err().map(ToString::to_string);
        let theirs_text = theirs
            .as_error()
            .map(|text| String::from_utf8_lossy(text).into_owned());
        assert_eq!(ours_text, theirs_text, "{line}");
    }
}

#[test]
fn without_expiry_its_commands_are_unknown() {
    let context = Context {
        version: KvVersion::V1_0,
        now_ms: 0,
    };
    for (line, text) in [
        (
            "EXPIRE k 10",
            "ERR unknown command 'EXPIRE', with args beginning with: 'k' '10' ",
        ),
        (
            "ttl k",
            "ERR unknown command 'ttl', with args beginning with: 'k' ",
        ),
        ("SET k v EX 10", "ERR syntax error"),
        ("SET k v KEEPTTL", "ERR syntax error"),
    ] {
        let argv = split_inline(line.as_bytes()).expect("quotes match");
        let argv: Vec<&[u8]> = argv.iter().map(Vec::as_slice).collect();
        let error = Command::parse(&argv, &context).expect_err(line);
        assert_eq!(error.to_string(), text);
    }
}

#[test]
fn patterns_match_as_in_redis() {
    let Some(mut redis) = Redis::start() else {
        return;
    };
    // A fixed sequence of patterns and texts from a small alphabet.
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).expect("31 bits") % below
    };
    for _ in 0..3000 {
        let alphabet = b"aabbc-***??[]^\\";
        let pattern: Vec<u8> = (0..random(9))
            .map(|_| alphabet[random(alphabet.len())])
            .collect();
        let letters = b"aabbc-]^\\";
        let text: Vec<u8> = (0..random(7))
            .map(|_| letters[random(letters.len())])
            .collect();
        redis.ask(&["flushall"]);
        redis.ask(&[&b"set"[..], &text, b"v"]);
        let found =
            redis.ask(&[&b"keys"[..], &pattern]) == Value::Array(vec![Value::Bulk(text.clone())]);
        assert_eq!(
            glob_match(&pattern, &text),
            found,
            "{} {}",
            pattern.escape_ascii(),
            text.escape_ascii()
        );
    }
}
