//! Promise: an acknowledged write is not lost, and no reply is wrong: neither while the server is
//! upgraded, rolled back and confirmed under load, nor when it is killed at any moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use neurath_cli::control;
use neurath_cli::output::{MessageFormat, Output};
use neurath_cli::stage::release;
use neurath_cli::testing::NodeProcess;
use neurath_verify::{Live, Options, Report, Verifier};

fn output() -> Output {
    Output::new(MessageFormat::Human)
}

struct Load {
    what: String,
    pipeline: u64,
    keys: u64,
    live: Live,
    stop: Arc<AtomicBool>,
    expiry: Arc<AtomicBool>,
    verifier: JoinHandle<Report>,
}

impl Load {
    fn start(address: &str, pipeline: usize, seed: u64, reconnect: bool) -> Self {
        let options = Options {
            address: address.to_owned(),
            connections: 3,
            pipeline,
            keys: 3_000,
            seed,
            value_len: 0..=300,
            reconnect,
            timeout: Duration::from_secs(20),
            ..Options::default()
        };
        let (stop, expiry) = (Arc::clone(&options.stop), Arc::clone(&options.expiry));
        let keys = options.keys;
        let verifier = Verifier::new(options);
        let live = verifier.live();
        Self {
            what: format!("pipeline {pipeline}, seed {seed}"),
            pipeline: pipeline as u64,
            keys,
            live,
            stop,
            expiry,
            verifier: verifier.spawn(),
        }
    }

    fn finish(self) -> (String, u64, Report) {
        self.stop.store(true, Ordering::Relaxed);
        let report = self.verifier.join().expect("the verifying client panicked");
        (self.what, self.keys, report)
    }
}

/// Waits until every load has been served so many more requests, as long as that takes.
fn served(loads: &[Load], more: u64, node: &NodeProcess) {
    let goals: Vec<u64> = loads
        .iter()
        .map(|load| load.live.totals().requests + more)
        .collect();
    let until = Instant::now() + Duration::from_secs(60);
    while loads
        .iter()
        .zip(&goals)
        .any(|(load, goal)| load.live.totals().requests < *goal)
    {
        node.check().expect("the node lives");
        let totals: Vec<_> = loads.iter().map(|load| load.live.totals()).collect();
        assert!(Instant::now() < until, "the load stands still: {totals:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Lets the requests that were chosen before a switch be answered: of each connection the pipeline that is under way, and
/// the next one.
fn settle(loads: &[Load], node: &NodeProcess) {
    let until = Instant::now() + Duration::from_secs(60);
    for load in loads {
        let before = load.live.requests_of_each();
        let settled = |(now, before): (&u64, &u64)| *now > before + load.pipeline;
        while !load
            .live
            .requests_of_each()
            .iter()
            .zip(&before)
            .all(settled)
        {
            node.check().expect("the node lives");
            assert!(Instant::now() < until, "{}: it stands still", load.what);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn check_release(node: &NodeProcess, version: &str, unconfirmed: bool) {
    let status = control::status(node.directory()).expect("a status");
    assert_eq!(status.release, Some(release(version)));
    assert_eq!(status.unconfirmed, unconfirmed);
}

#[test]
fn nothing_is_lost_or_wrong_through_every_kind_of_change() {
    let stage = neurath_suite::kv(&["1.0.0", "1.1.0", "1.1.1"]);
    let node = stage.start("1.0.0").expect("a node");
    let address = node.address().to_owned();
    // What expires when is forgotten on the way back, and its model does not know: the first two
    // use expiry before it only, the others after it only.
    let before = [
        Load::start(&address, 1, 1, false),
        Load::start(&address, 16, 2, false),
    ];
    let after = [
        Load::start(&address, 1, 3, false),
        Load::start(&address, 16, 4, false),
    ];
    let expiry = |loads: &[Load], on: bool| {
        for load in loads {
            load.expiry.store(on, Ordering::Relaxed);
        }
        settle(loads, &node);
    };
    let all_served = || {
        served(&before, 2_000, &node);
        served(&after, 2_000, &node);
    };
    all_served();

    let up = control::apply(node.directory(), &release("1.1.0"), None, &output()).expect("up");
    assert_eq!(up.to, release("1.1.0"));
    check_release(&node, "1.1.0", true);
    expiry(&before, true);
    all_served();
    expiry(&before, false);

    let back = control::rollback(node.directory(), false, &output()).expect("back");
    assert_eq!(back.to, release("1.0.0"));
    check_release(&node, "1.0.0", false);
    all_served();

    control::apply(node.directory(), &release("1.1.0"), None, &output()).expect("up again");
    expiry(&after, true);
    all_served();
    control::confirm(node.directory(), &output()).expect("confirmed");
    check_release(&node, "1.1.0", false);
    all_served();

    control::apply(node.directory(), &release("1.1.1"), None, &output()).expect("new code");
    check_release(&node, "1.1.1", true);
    all_served();
    control::rollback(node.directory(), false, &output()).expect("old code");
    check_release(&node, "1.1.0", false);
    all_served();
    control::apply(node.directory(), &release("1.1.1"), None, &output()).expect("new code");
    all_served();
    control::confirm(node.directory(), &output()).expect("confirmed");
    check_release(&node, "1.1.1", false);
    all_served();

    for load in before.into_iter().chain(after) {
        let (what, keys, report) = load.finish();
        assert!(report.is_clean(), "{what}: {report}");
        assert_eq!(
            report.reconnects, 0,
            "{what}: a connection was broken: {report}"
        );
        assert_eq!(report.checked_keys, keys, "{what}: {report}");
        assert!(report.acknowledged_writes > 0, "{what}: {report}");
    }
    node.stop().expect("the node ends well");
}

/// Random numbers that another run can have again.
struct Random(AtomicU64);

impl Random {
    fn new() -> Self {
        let seed = match std::env::var("NEURATH_SEED") {
            Ok(text) => text.parse().expect("NEURATH_SEED is a number"),
            Err(_) => {
                let now = SystemTime::now()
                    .duration_since(UNIX_EPOCH)
                    .expect("after 1970");
                now.as_micros() as u64 | 1
            }
        };
        println!("NEURATH_SEED={seed} cargo test -p neurath-suite --test p16_no_write_lost");
        Self(AtomicU64::new(seed))
    }

    fn below(&self, limit: u64) -> u64 {
        let mut x = self.0.load(Ordering::Relaxed).max(1);
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.0.store(x, Ordering::Relaxed);
        (x >> 11) % limit
    }

    fn pause(&self, most_ms: u64) {
        std::thread::sleep(Duration::from_micros(self.below(most_ms * 1_000)));
    }
}

/// What is under way when the node is killed.
#[derive(Debug, Clone, Copy, PartialEq)]
enum During {
    Serving,
    Apply(&'static str),
    Rollback,
    Confirm,
}

#[test]
fn nothing_acknowledged_is_lost_when_the_node_is_killed_at_any_moment() {
    let random = Random::new();
    let stage = neurath_suite::kv(&["1.0.0", "1.1.0", "1.1.1"]);
    let command = stage.command("1.0.0");
    let mut node = NodeProcess::start(&command).expect("a node");
    stage.install(node.directory()).expect("installed");
    let address = node.address().to_owned();
    let loads = [
        Load::start(&address, 1, 5, true),
        Load::start(&address, 16, 6, true),
    ];
    served(&loads, 2_000, &node);

    use During::{Apply, Confirm, Rollback, Serving};
    let kills = [
        Serving,
        Apply("1.1.0"),
        Apply("1.1.0"),
        Rollback,
        Apply("1.1.0"),
        Confirm,
        Serving,
        Apply("1.1.1"),
        Confirm,
        Serving,
    ];
    let mut permanent = release("1.0.0");
    for (number, during) in kills.into_iter().enumerate() {
        let directory = node.directory().to_owned();
        let status = control::status(&directory).expect("a status");
        let current = status.release.expect("a release");
        // The way back and the confirmation need an upgrade that is not confirmed.
        if matches!(during, Rollback | Confirm) && !status.unconfirmed {
            let next = if permanent == release("1.0.0") {
                "1.1.0"
            } else {
                "1.1.1"
            };
            if permanent != release("1.1.1") {
                control::apply(&directory, &release(next), None, &output()).expect("upgraded");
            }
        }
        let before = control::status(&directory).expect("a status");
        let asked = std::thread::spawn(move || {
            let outcome = match during {
                Serving => return,
                Apply(version) => {
                    control::apply(&directory, &release(version), None, &output()).map(|_| ())
                }
                Rollback => control::rollback(&directory, false, &output()).map(|_| ()),
                Confirm => control::confirm(&directory, &output()).map(|_| ()),
            };
            // It may have ended before the node did, be refused, or be cut off.
            println!("{during:?}: {outcome:?}");
        });
        let most = if during == Serving { 300 } else { 150 };
        random.pause(most);
        node.kill();
        asked.join().expect("the control client panicked");
        drop(node);
        node = NodeProcess::start(&command)
            .unwrap_or_else(|error| panic!("kill {number}, in {during:?}: {error:#}"));
        assert_eq!(node.address(), address);
        let after = control::status(node.directory()).expect("a status");
        println!(
            "kill {number}, in {during:?}: {current} → {:?}",
            after.release
        );
        permanent = after.permanent.clone().expect("a permanent release");
        // What runs is a whole release: that of before, or that which was asked for.
        let mut allowed = vec![before.release.clone(), before.permanent.clone()];
        if let Apply(version) = during {
            allowed.push(Some(release(version)));
        }
        assert!(
            allowed.contains(&after.release),
            "kill {number}, in {during:?}: {after:?}"
        );
        served(&loads, 1_000, &node);
    }

    for load in loads {
        let (what, keys, report) = load.finish();
        assert_eq!((report.lost, report.wrong), (0, 0), "{what}: {report}");
        assert_eq!(report.checked_keys, keys, "{what}: {report}");
        assert!(
            report.reconnects > 0,
            "{what}: it was never disconnected: {report}"
        );
        for finding in &report.samples {
            let text = finding.to_string();
            let expected = text.contains("a connection broke") || text.contains("no connection");
            assert!(expected, "{what}: {text}");
        }
    }
    node.stop().expect("the node ends well");
}
