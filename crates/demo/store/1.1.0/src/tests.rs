//! Commands against their answers, and the state through the conversions and back.

use kv_commands::{Command, Context, KvVersion, encode_request};
use kv_resp::Protocol;
use kv_testing::{Instance, schema};

use super::*;

fn store() -> Instance<Store> {
    Instance::new(schema!(Store), "{}")
}

/// A command's words, as the gateway sends them.
fn encode(words: &[&[u8]], now_ms: u64) -> Vec<u8> {
    let context = Context {
        version: KvVersion::V1_1,
        now_ms: now_ms as i64,
    };
    let command = Command::parse(words, &context).expect("a command");
    let mut bytes = Vec::new();
    assert!(
        encode_request(&command, Protocol::Resp2, &mut bytes),
        "{words:?}"
    );
    bytes
}

fn ask(store: &mut Instance<Store>, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    let answer = store
        .request(&encode(&words, store.now_ms))
        .expect("an answer");
    String::from_utf8(answer).expect("text")
}

/// Each line's answer.
fn talk(store: &mut Instance<Store>, lines: &[(&str, &str)]) {
    for (line, answer) in lines {
        assert_eq!(ask(store, line), *answer, "{line}");
    }
    store.check_state().expect("a sound state");
}

#[test]
fn strings() {
    let store = &mut store();
    talk(
        store,
        &[
            ("get a", "$-1\r\n"),
            ("set a 1", "+OK\r\n"),
            ("get a", "$1\r\n1\r\n"),
            ("set a 2 nx", "$-1\r\n"),
            ("set a 2 xx get", "$1\r\n1\r\n"),
            ("set b 2 xx", "$-1\r\n"),
            ("set b 9 nx get", "$-1\r\n"),
            ("getset b 10", "$1\r\n9\r\n"),
            ("setnx b 11", ":0\r\n"),
            ("setnx c longer-than-twenty-bytes-it-is", ":1\r\n"),
            ("append c !", ":31\r\n"),
            ("append d new", ":3\r\n"),
            ("strlen c", ":31\r\n"),
            ("strlen nothing", ":0\r\n"),
            ("incr b", ":11\r\n"),
            ("decrby b 20", ":-9\r\n"),
            ("incrby fresh 7", ":7\r\n"),
            ("incr c", "-ERR value is not an integer or out of range\r\n"),
            ("mget a nothing b", "*3\r\n$1\r\n2\r\n$-1\r\n$2\r\n-9\r\n"),
            ("msetnx x 1 a 2", ":0\r\n"),
            ("msetnx x 1 y 2", ":1\r\n"),
            ("mset x 3 x 4 z 5", "+OK\r\n"),
            ("get x", "$1\r\n4\r\n"),
            ("exists x x nothing", ":2\r\n"),
            ("type x", "+string\r\n"),
            ("type nothing", "+none\r\n"),
            ("getdel x", "$1\r\n4\r\n"),
            ("getdel x", "$-1\r\n"),
            ("del y z z nothing", ":2\r\n"),
            ("dbsize", ":5\r\n"),
        ],
    );
    store.log.committed = true;
    ask(store, "get c");
    assert!(!store.log.committed, "a GET changed something");
}

#[test]
fn keys() {
    let store = &mut store();
    assert_eq!(ask(store, "randomkey"), "$-1\r\n");
    assert_eq!(ask(store, "scan 0"), "*2\r\n$1\r\n0\r\n*0\r\n");
    for i in 0..200 {
        ask(store, &format!("set key:{i} {i}"));
    }
    let mut found = std::collections::BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let answer = ask(
            store,
            &format!("scan {cursor} count 7 match key:* type string"),
        );
        let mut lines = answer.split("\r\n");
        cursor = lines.nth(2).expect("a cursor").to_owned();
        found.extend(
            lines
                .filter(|line| line.starts_with("key:"))
                .map(str::to_owned),
        );
        if cursor == "0" {
            break;
        }
    }
    assert_eq!(found.len(), 200);
    assert!(ask(store, "scan 0 count 1000 type list").ends_with("*0\r\n"));
    assert_eq!(ask(store, "keys key:7?").matches("key:7").count(), 10);
    assert!(ask(store, "keys *").starts_with("*200\r\n"));
    for _ in 0..20 {
        store.now_ms += 1;
        assert!(ask(store, "randomkey").contains("key:"));
    }
    ask(store, "set long expiring px 5");
    let info = Info(b"# Server\r\nx:1\r\n", true).ask(store);
    assert!(
        info.contains("x:1\r\n\r\n# Store") && info.contains("keys=201,expires=1"),
        "{info}"
    );
    assert_eq!(Info(b"x:1\r\n", false).ask(store), "$5\r\nx:1\r\n\r\n");
}

struct Info<'a>(&'a [u8], bool);

impl Info<'_> {
    fn ask(&self, store: &mut Instance<Store>) -> String {
        let request = kv_commands::Request::Info {
            text: self.0,
            keyspace: self.1,
        };
        let mut bytes = Vec::new();
        request.encode(Protocol::Resp2, &mut bytes);
        String::from_utf8(store.request(&bytes).expect("an answer")).expect("text")
    }
}

#[test]
fn expiry() {
    let store = &mut store();
    talk(
        store,
        &[
            ("set a 1 px 1500", "+OK\r\n"),
            ("ttl a", ":2\r\n"),
            ("pttl a", ":1500\r\n"),
            ("set a 2 keepttl", "+OK\r\n"),
            ("pttl a", ":1500\r\n"),
            ("append a 2", ":2\r\n"),
            ("pttl a", ":1500\r\n"),
            ("set a 3", "+OK\r\n"),
            ("ttl a", ":-1\r\n"),
            ("ttl nothing", ":-2\r\n"),
            ("expire a 10 xx", ":0\r\n"),
            ("expire a 10", ":1\r\n"),
            ("expire a 5 gt", ":0\r\n"),
            ("expire a 5 lt", ":1\r\n"),
            ("persist a", ":1\r\n"),
            ("persist a", ":0\r\n"),
            ("getex a px 700", "$1\r\n3\r\n"),
            ("pttl a", ":700\r\n"),
            ("getex a persist", "$1\r\n3\r\n"),
            ("ttl a", ":-1\r\n"),
            ("setex b 1 x", "+OK\r\n"),
            ("expire a -1", ":1\r\n"),
            ("exists a b", ":1\r\n"),
        ],
    );
    store.now_ms += 1000;
    // Gone for whoever asks, and counted until the timer has removed it.
    talk(
        store,
        &[
            ("get b", "$-1\r\n"),
            ("dbsize", ":1\r\n"),
            ("keys *", "*0\r\n"),
        ],
    );
    store.timer(1).expect("the timer");
    talk(store, &[("dbsize", ":0\r\n")]);
    ask(store, "set c 1 px 10");
    store.now_ms += 20;
    talk(store, &[("setnx c 2", ":1\r\n"), ("ttl c", ":-1\r\n")]);
    store.store.with(|state: &mut Store, _| {
        assert_eq!((state.entries.len(), state.expiring.len()), (1, 0));
        Ok(())
    });
}

#[test]
fn the_time_of_access_is_written_once_a_minute() {
    let store = &mut store();
    ask(store, "set a 1");
    for (step, written) in [(59_999, false), (1, true), (30_000, false), (30_000, true)] {
        store.now_ms += step;
        ask(store, "get a");
        assert_eq!(store.log.committed, written);
    }
}

/// Five thousand keys, a third of which expire.
fn fill(store: &mut Instance<Store>) {
    let value = "v".repeat(40);
    for from in (0..5000).step_by(100) {
        let mut line = "mset".to_owned();
        for i in from..from + 100 {
            line += &format!(" key:{i} {value}{i}");
        }
        ask(store, &line);
    }
    for i in (0..5000).step_by(3) {
        ask(store, &format!("expire key:{i} {}", 10 + i));
    }
}

#[test]
fn flushall_frees_in_steps() {
    let store = &mut store();
    let objects = |store: &Instance<Store>| store.store.region.stats().live_objects;
    let empty = objects(store);
    for _ in 0..2 {
        fill(store);
        talk(
            store,
            &[
                ("flushall", "+OK\r\n"),
                ("dbsize", ":0\r\n"),
                ("get key:1", "$-1\r\n"),
                ("set key:1 again", "+OK\r\n"),
            ],
        );
        let refused = ask(store, "flushall");
        assert!(refused.starts_with("-ERR the last FLUSHALL"), "{refused}");
        for _ in 0..20 {
            store.timer(1).expect("the timer");
        }
        assert_eq!(store.log.timers.get(&1), Some(&100));
        talk(
            store,
            &[("get key:1", "$5\r\nagain\r\n"), ("del key:1", ":1\r\n")],
        );
        store.store.with(|state: &mut Store, _| {
            assert!(state.garbage.is_empty() && state.expiring_garbage.is_empty());
            assert!(state.expiring.is_empty());
            Ok(())
        });
        // The empty map keeps its one page.
        assert!(
            objects(store) <= empty + 4,
            "{} objects, {empty} at first",
            objects(store)
        );
    }
}

#[test]
fn expired_keys_go_before_a_suspension() {
    let store = &mut store();
    fill(store);
    store.now_ms += 10_000_000;
    store.quiesce().expect("quiesce");
    assert_eq!(ask(store, "dbsize"), ":3333\r\n");
    store.check_state().expect("a sound state");
}

#[test]
fn the_timer_keeps_up() {
    let store = &mut store();
    fill(store);
    store.now_ms += 10_000_000;
    for _ in 0..20 {
        store.timer(1).expect("the timer");
    }
    assert_eq!(ask(store, "dbsize"), ":3333\r\n");
}

#[test]
fn up_and_down_again() {
    let mut old = Instance::<Store>::new(schema!(Store), "{}");
    fill(&mut old);
    // To 1.0, whose state has no expiry, and up again: every key is there.
    let mut down = old.into_store().migrate(
        schema!(v1_0::Store),
        &[
            __NEURATH_MIGRATION_entry_to_1_0,
            __NEURATH_MIGRATION_store_to_1_0,
        ],
        5,
    );
    down.with(|state: &mut v1_0::Store, tx| {
        assert_eq!(state.entries.len(), 5000);
        let entry = state.entries.get(tx, b"key:4999")?.expect("it is there");
        assert!(entry.value.get(tx)?.ends_with(b"v4999"));
        // What the old version writes is there afterwards.
        let value = Bytes::new(tx, b"of 1.0")?;
        state
            .entries
            .insert(tx, b"made in 1.0", &v1_0::Entry { value })?;
        Ok(())
    });
    let up = down.migrate(
        schema!(Store),
        &[
            __NEURATH_MIGRATION_store_from_1_0,
            __NEURATH_MIGRATION_entry_from_1_0,
        ],
        7,
    );
    let mut new = Instance::<Store>::over(up, "{}");
    new.init().expect("init");
    new.check_state().expect("a sound state");
    for i in 0..5000 {
        let value = format!("{}{i}", "v".repeat(40));
        let answer = ask(&mut new, &format!("get key:{i}"));
        assert_eq!(answer, format!("${}\r\n{value}\r\n", value.len()));
    }
    let now = new.now_ms;
    let words: [&[u8]; 2] = [b"get", b"made in 1.0"];
    assert_eq!(
        new.request(&encode(&words, now)).expect("an answer"),
        b"$6\r\nof 1.0\r\n"
    );
    talk(
        &mut new,
        &[
            ("dbsize", ":5001\r\n"),
            ("ttl key:0", ":-1\r\n"),
            ("expire key:0 10", ":1\r\n"),
        ],
    );
    new.store.with(|state: &mut Store, tx| {
        let entry = state.entries.get(tx, b"made in 1.0")?.expect("it is there");
        // The GET above wrote it: the conversion's time was long ago.
        assert_eq!(entry.accessed, now);
        let untouched = state.entries.get(tx, b"key:0")?.expect("it is there");
        assert_eq!(untouched.expires, now + 10_000);
        Ok(())
    });
}

#[test]
fn a_full_region_says_so() {
    let mut store = Instance::<Store>::with_limit(schema!(Store), "{}", 8 << 20);
    let value = vec![b'x'; 300_000];
    let mut refused = None;
    for i in 0..100 {
        let key = format!("key:{i}");
        let words = [&b"set"[..], key.as_bytes(), &value];
        let now = store.now_ms;
        if let Err(error) = store.request(&encode(&words, now)) {
            refused = Some((i, error));
            break;
        }
    }
    let (count, error) = refused.expect("it is full");
    assert!(error.starts_with("OOM "), "{error}");
    assert_eq!(ask(&mut store, "dbsize"), format!(":{count}\r\n"));
    // What is freed can be used, a few transactions later.
    talk(&mut store, &[("del key:0 key:1", ":2\r\n")]);
    for i in 0..5 {
        ask(&mut store, &format!("set small {i}"));
    }
    let now = store.now_ms;
    let words = [&b"set"[..], b"again", &value];
    assert_eq!(
        store.request(&encode(&words, now)).expect("room"),
        b"+OK\r\n"
    );
}

#[test]
fn too_large_a_change_changes_nothing() {
    let mut store = store();
    let names: Vec<String> = (0..60_000).map(|i| format!("key:{i}")).collect();
    let mut words: Vec<&[u8]> = vec![b"mset"];
    names
        .iter()
        .for_each(|name| words.extend([name.as_bytes(), b"1"]));
    let now = store.now_ms;
    store.request(&encode(&words, now)).expect_err("too large");
    talk(&mut store, &[("dbsize", ":0\r\n"), ("set a 1", "+OK\r\n")]);
}

#[test]
fn requests_of_others_are_refused() {
    let mut store = store();
    let answer = store.request(b"\x09\x02\x01\x01a").expect("an answer");
    assert!(answer.starts_with(b"-ERR the request needs message format 9"));
    let answer = store.request(b"").expect("an answer");
    assert!(answer.starts_with(b"-ERR "));
}
