//! Against a real Redis nothing is found.

use neurath_verify::{Options, Report, Verifier, check_fill, fill};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

struct Redis {
    process: Child,
    address: String,
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts a Redis on a port of its own. Another process may take a port between its choice and
/// its use; the server then ends at once and another port is tried.
fn start() -> Option<Redis> {
    for _ in 0..10 {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("a port")
            .port();
        let process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(process) = process else {
            eprintln!("skipped: redis-server is not installed");
            return None;
        };
        let mut redis = Redis {
            process,
            address: format!("127.0.0.1:{port}"),
        };
        std::thread::sleep(Duration::from_millis(150));
        for _ in 0..200 {
            if redis.process.try_wait().expect("a state").is_some() {
                break;
            }
            let answers = TcpStream::connect(&redis.address)
                .is_ok_and(|stream| stream.local_addr().ok() != stream.peer_addr().ok());
            if answers {
                return Some(redis);
            }
            std::thread::sleep(Duration::from_millis(25));
        }
    }
    panic!("redis-server doesn't start");
}

fn assert_clean(report: &Report) {
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.samples, []);
}

#[test]
fn a_load_without_and_with_expiry() {
    let Some(redis) = start() else { return };
    let options = Options {
        address: redis.address.clone(),
        connections: 3,
        pipeline: 8,
        keys: 300,
        seed: 7,
        value_len: 0..=300,
        timeout: Duration::from_secs(60),
        ..Options::default()
    };
    let (expiry, stop) = (options.expiry.clone(), options.stop.clone());
    let verifier = Verifier::new(options);
    let live = verifier.live();
    let running = verifier.spawn();
    let until = Instant::now() + Duration::from_secs(60);
    while live.totals().requests < 1_000 {
        assert!(Instant::now() < until, "{:?}", live.totals());
        std::thread::sleep(Duration::from_millis(10));
    }
    let window = live.take_window();
    assert!(window.requests > 0 && window.worst > Duration::ZERO);
    assert!(window.p999 <= window.worst);
    expiry.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_millis(500));
    let before = live.totals().requests;
    stop.store(true, Ordering::Relaxed);
    let report = running.join().expect("no panic");
    assert_clean(&report);
    assert!(report.requests >= before && report.requests > window.requests);
    assert!(report.acknowledged_writes > 0 && report.acknowledged_writes < report.requests);
    assert_eq!(report.checked_keys, 300);
    assert!(report.p50 <= report.p99 && report.p99 <= report.p999);
    assert!(report.p999 <= report.worst_request);
}

#[test]
fn the_rate_is_kept() {
    let Some(redis) = start() else { return };
    let begun = Instant::now();
    let load = Verifier::new(Options {
        address: redis.address.clone(),
        connections: 2,
        pipeline: 4,
        keys: 20,
        rate: Some(1000),
        timeout: Duration::from_secs(60),
        ..Options::default()
    })
    .start();
    while load.live().totals().requests < 300 {
        assert!(begun.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(1));
    }
    let took = begun.elapsed();
    assert!(
        took >= Duration::from_millis(250),
        "300 requests in {took:?}"
    );
    assert_clean(&load.finish());
}

#[test]
fn filling_and_checking() {
    let Some(redis) = start() else { return };
    let filled = fill(&redis.address, 10_001, 64, 3);
    assert_clean(&filled);
    assert_eq!(filled.acknowledged_writes, 10_001);
    let checked = check_fill(&redis.address, 10_001, 64, 2);
    assert_clean(&checked);
    assert_eq!(checked.checked_keys, 10_001);
    // Keys that were never there, and other values.
    assert_eq!(check_fill(&redis.address, 10_003, 64, 2).lost, 2);
    assert_eq!(check_fill(&redis.address, 10, 65, 1).wrong, 10);
}

#[test]
fn a_server_that_dies_forgetting_everything_is_noticed() {
    let Some(redis) = start() else { return };
    let options = Options {
        address: redis.address.clone(),
        connections: 1,
        keys: 50,
        timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let verifier = Verifier::new(options.clone());
    let running = verifier.spawn();
    std::thread::sleep(Duration::from_millis(200));
    drop(redis);
    options.stop.store(true, Ordering::Relaxed);
    let report = running.join().expect("no panic");
    assert!(report.errors > 0, "{report}");
    assert!(report.checked_keys < 50);
    assert!(fill(&options.address, 10, 10, 1).errors > 0);
}
