//! A server that lies is found out, and one that merely fails isn't called a liar.

use kv_resp::{Args, Progress, Protocol, Writer, parse};
use neurath_verify::{FindingKind, Options, Report, Running, Turns, Verifier, check_fill, fill};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Lie {
    None,
    /// Says OK to one SET and doesn't do it.
    DropSet {
        number: u64,
    },
    /// Says OK to all SETs of keys with this ending from this one on and doesn't do them.
    DropSetsOf {
        ending: u8,
        from: u64,
    },
    /// Answers one GET of a key that is there with something else. Of one that is not, the next true answer would be a loss
    /// besides.
    WrongGet {
        number: u64,
    },
    /// Does a DEL's opposite: nothing, though it says that it did.
    KeepDeleted {
        every: u64,
    },
    /// Adds nothing in an INCR, but says it did.
    DropIncr {
        every: u64,
    },
    /// Does a write and closes without answering.
    CloseAfter {
        every: u64,
    },
    /// Closes without doing or answering it.
    CloseBefore {
        every: u64,
    },
    /// Waits before one answer.
    Slow {
        number: u64,
    },
    /// Carries out what comes after some writes only when its client has long given it up.
    Late {
        every: u64,
    },
    /// Answers writes with errors.
    Errors {
        every: u64,
    },
}

#[derive(Default)]
struct Store {
    keys: HashMap<Vec<u8>, Vec<u8>>,
    sets: u64,
    gets: u64,
    dels: u64,
    incrs: u64,
    writes: u64,
    requests: u64,
}

fn number(bytes: &[u8]) -> i64 {
    std::str::from_utf8(bytes)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

/// Answers one request; `false` when the connection is to be closed.
fn answer(argv: &[&[u8]], store: &mut Store, lie: Lie, out: &mut Vec<u8>) -> bool {
    let mut w = Writer::new(out, Protocol::Resp2);
    let length = |length: usize| i64::try_from(length).expect("small");
    let key = argv[1].to_vec();
    let writes = !matches!(argv[0], b"GET" | b"MGET" | b"EXISTS");
    if writes {
        store.writes += 1;
        match lie {
            Lie::CloseBefore { every } if store.writes.is_multiple_of(every) => return false,
            Lie::Errors { every } if store.writes.is_multiple_of(every) => {
                w.error("ERR busy");
                return true;
            }
            _ => {}
        }
    }
    match argv[0] {
        b"SET" => {
            store.sets += 1;
            let dropped = match lie {
                Lie::DropSet { number } => store.sets == number,
                Lie::DropSetsOf { ending, from } => {
                    store.sets >= from && key.last() == Some(&ending)
                }
                _ => false,
            };
            if !dropped {
                store.keys.insert(key, argv[2].to_vec());
            }
            w.ok();
        }
        b"GET" => {
            let is_there = store.keys.contains_key(&key);
            store.gets += u64::from(is_there);
            match lie {
                Lie::WrongGet { number } if is_there && store.gets == number => {
                    w.bulk(b"something else");
                }
                _ => w.optional_bulk(store.keys.get(&key).map(Vec::as_slice)),
            }
        }
        b"MGET" => {
            w.array(argv.len() - 1);
            for key in &argv[1..] {
                w.optional_bulk(store.keys.get(*key).map(Vec::as_slice));
            }
        }
        b"DEL" => {
            store.dels += 1;
            let keep =
                matches!(lie, Lie::KeepDeleted { every } if store.dels.is_multiple_of(every));
            let was = store.keys.contains_key(&key);
            if !keep {
                store.keys.remove(&key);
            }
            w.integer(i64::from(was));
        }
        b"EXISTS" => w.integer(i64::from(store.keys.contains_key(&key))),
        b"INCR" => {
            store.incrs += 1;
            let new = store.keys.get(&key).map_or(0, |old| number(old)) + 1;
            if !matches!(lie, Lie::DropIncr { every } if store.incrs.is_multiple_of(every)) {
                store.keys.insert(key, new.to_string().into_bytes());
            }
            w.integer(new);
        }
        b"APPEND" => {
            let value = store.keys.entry(key).or_default();
            value.extend_from_slice(argv[2]);
            w.integer(length(value.len()));
        }
        _ => w.error("ERR unknown command"),
    }
    !matches!(lie, Lie::CloseAfter { every } if writes && store.writes.is_multiple_of(every))
}

fn serve(mut stream: TcpStream, store: &Mutex<Store>, lie: Lie) {
    let mut input = Vec::new();
    let mut args = Args::new();
    let mut piece = [0; 16 * 1024];
    while let Ok(length @ 1..) = stream.read(&mut piece) {
        input.extend_from_slice(&piece[..length]);
        let mut out = Vec::new();
        let mut at = 0;
        while let Progress::Complete { consumed } = parse(&input[at..], &mut args).expect("valid") {
            if let Lie::Late { every } = lie {
                let mut store = store.lock().expect("not poisoned");
                store.requests += 1;
                let late = store.requests.is_multiple_of(every);
                drop(store);
                if late {
                    std::thread::sleep(Duration::from_millis(250));
                }
            }
            let mut store = store.lock().expect("not poisoned");
            let before = out.len();
            let go_on =
                args.with_slices(&input[at..], |argv| answer(argv, &mut store, lie, &mut out));
            if !go_on {
                out.truncate(before);
                let _ = stream.write_all(&out);
                return;
            }
            if matches!(lie, Lie::Slow { number } if store.writes == number) {
                store.writes += 1;
                std::thread::sleep(Duration::from_millis(300));
            }
            at += consumed;
        }
        input.drain(..at);
        if stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// A server that lies in this way; it runs until the test's process ends.
fn start(lie: Lie) -> String {
    start_with(lie, Arc::default())
}

/// The same, with this store.
fn start_with(lie: Lie, store: Arc<Mutex<Store>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let store = store.clone();
            std::thread::spawn(move || serve(stream, &store, lie));
        }
    });
    address
}

/// Requests that a connection sends at a time.
const PIPELINE: usize = 4;

fn options(lie: Lie) -> Options {
    Options {
        address: start(lie),
        connections: 2,
        pipeline: PIPELINE,
        keys: 40,
        timeout: Duration::from_secs(60),
        ..Options::default()
    }
}

/// Waits until it is so.
fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !so() {
        assert!(Instant::now() < until, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until it was served so many more requests.
fn served(load: &Running, more: u64) {
    let goal = load.live().totals().requests + more;
    wait_until("the load goes on", || load.live().totals().requests >= goal);
}

/// Waits until each connection has begun anew with what it sends.
fn each_served(load: &Running) {
    let before = load.live().requests_of_each();
    let more = 2 * PIPELINE as u64 + 1;
    wait_until("each connection goes on", || {
        let now = load.live().requests_of_each();
        let mut each = now.iter().zip(&before);
        each.all(|(now, before)| now - before >= more)
    });
}

fn run(lie: Lie) -> Report {
    let load = Verifier::new(options(lie)).start();
    served(&load, 5_000);
    load.finish()
}

#[test]
fn the_truth_is_believed() {
    let report = run(Lie::None);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.checked_keys, 40);
}

#[test]
fn dropped_writes_are_lost() {
    for lie in [
        Lie::DropSetsOf {
            ending: b'5',
            from: 20,
        },
        Lie::KeepDeleted { every: 10 },
        Lie::DropIncr { every: 10 },
    ] {
        let report = run(lie);
        assert!(report.lost > 0, "{lie:?}: {report}");
        assert!(
            report
                .samples
                .iter()
                .any(|finding| finding.kind == FindingKind::Lost)
        );
        assert_eq!(report.errors, 0, "{lie:?}: {report}");
    }
}

#[test]
fn one_dropped_write_of_many_is_found() {
    let address = start(Lie::DropSet { number: 777 });
    let filled = fill(&address, 2_000, 32, 2);
    assert!(filled.is_clean(), "{filled}");
    let checked = check_fill(&address, 2_000, 32, 2);
    assert_eq!(
        (checked.lost, checked.wrong, checked.errors),
        (1, 0, 0),
        "{checked}"
    );
}

#[test]
fn one_wrong_value_is_found() {
    let report = run(Lie::WrongGet { number: 100 });
    assert!(report.wrong >= 1, "{report}");
    assert_eq!((report.lost, report.errors), (0, 0), "{report}");
}

#[test]
fn a_broken_connection_loses_nothing() {
    for lie in [
        Lie::CloseAfter { every: 97 },
        Lie::CloseBefore { every: 97 },
    ] {
        let report = run(lie);
        assert_eq!((report.lost, report.wrong), (0, 0), "{lie:?}: {report}");
        assert!(
            report.errors > 0 && report.reconnects > 0,
            "{lie:?}: {report}"
        );
        assert_eq!(report.checked_keys, 40);
        let once = Verifier::new(Options {
            reconnect: false,
            duration: Some(Duration::from_millis(600)),
            ..options(lie)
        })
        .run();
        assert_eq!((once.lost, once.wrong), (0, 0), "{lie:?}: {once}");
    }
}

#[test]
fn a_write_that_is_carried_out_after_its_client_has_gone_is_no_loss() {
    let lie = Lie::Late { every: 150 };
    let load = Verifier::new(Options {
        timeout: Duration::from_millis(60),
        keys: 10,
        ..options(lie)
    })
    .start();
    wait_until("one was late", || load.live().totals().late > 0);
    served(&load, 1_000);
    let report = load.finish();
    assert_eq!((report.lost, report.wrong), (0, 0), "{report}");
    assert!(report.late > 0, "nothing was late: {report}");
    let late = |kind| kind == FindingKind::Late;
    assert!(report.samples.iter().any(|finding| late(finding.kind)));
}

#[test]
fn an_error_is_an_error_and_no_loss() {
    let report = run(Lie::Errors { every: 50 });
    assert_eq!((report.lost, report.wrong), (0, 0), "{report}");
    assert!(report.errors > 0);
    assert!(report.samples[0].text.contains("ERR busy"), "{report}");
}

#[test]
fn a_pause_is_in_the_window_in_which_it_was() {
    let load = Verifier::new(Options {
        connections: 1,
        ..options(Lie::Slow { number: 200 })
    })
    .start();
    // Of windows that come one after the other, it is in those in which it was, and in no later one.
    let window = |so: &dyn Fn(Duration) -> bool| {
        std::thread::sleep(Duration::from_millis(100));
        let window = load.live().take_window();
        window.requests > 0 && so(window.worst)
    };
    let pause = Duration::from_millis(290);
    wait_until("the pause", || window(&|worst| worst >= pause));
    wait_until("its end", || window(&|worst| worst < pause));
    let report = load.finish();
    assert!(report.is_clean(), "{report}");
    assert!(report.worst_request >= pause);
}

/// A load on a server whose store `exchange` changes in its midst, once it is announced, or not.
fn exchanged(exchange: impl Fn(&Running, &Turns, &Mutex<Store>)) -> Report {
    let store = Arc::new(Mutex::new(Store::default()));
    let turns = Turns::default();
    let load = Verifier::new(Options {
        address: start_with(Lie::None, store.clone()),
        turns: turns.clone(),
        ..options(Lie::None)
    })
    .start();
    served(&load, 2_000);
    exchange(&load, &turns, &store);
    served(&load, 2_000);
    load.finish()
}

fn take_all(store: &Mutex<Store>) -> HashMap<Vec<u8>, Vec<u8>> {
    std::mem::take(&mut store.lock().expect("not poisoned").keys)
}

#[test]
fn a_state_that_is_exchanged_on_purpose_is_followed_there_and_back() {
    let soon = || std::thread::sleep(Duration::from_millis(5));
    let report = exchanged(|load, turns, store| {
        turns.to_nothing();
        soon();
        let before = take_all(store);
        soon();
        turns.end();
        // Whoever missed the one turn would know nothing of what comes back in the next.
        each_served(load);
        turns.back();
        soon();
        store.lock().expect("not poisoned").keys = before;
        soon();
        turns.end();
    });
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.checked_keys, 40);
}

#[test]
fn what_is_not_wholly_exchanged_or_not_announced_is_found() {
    let silent = exchanged(|_, _, store| drop(take_all(store)));
    assert!(silent.lost > 0, "{silent}");
    let half = exchanged(|_, turns, store| {
        // Nothing is answered meanwhile: what is on its way then could be either.
        let mut store = store.lock().expect("not poisoned");
        turns.to_nothing();
        // Every other key stays.
        let mut each = 0;
        store.keys.retain(|_, _| {
            each += 1;
            each % 2 == 0
        });
        turns.end();
    });
    assert!(half.lost + half.wrong > 0, "{half}");
    let not = exchanged(|_, turns, store| {
        let _nothing_is_answered = store.lock().expect("not poisoned");
        turns.to_nothing();
        turns.end();
    });
    assert!(not.wrong > 0, "{not}");
}
