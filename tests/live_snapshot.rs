//! A running node's state is copied under load: the copy is what it was at one moment, whole,
//! with all checksums; the load notices nothing, and a node goes on from the copy.

mod support;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use neurath_cli::stage::fill;
use neurath_cli::testing::NodeProcess;
use neurath_pmem::inspect::{Done, Level, check_file};
use neurath_verify::{Options, Verifier};
use support::{Lines, PATIENCE, catalog, neurath, stderr, wait_until};

/// `SET`s one number after the other, each under two names, and counts what was acknowledged.
fn count(address: &str, stop: &AtomicBool, acknowledged: &AtomicU64) {
    let mut client = Lines::open(address);
    for n in 1.. {
        for name in ["first", "second"] {
            assert_eq!(client.ask(&format!("SET {name} {n}\r")), "+OK");
        }
        acknowledged.store(n, Ordering::Release);
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn number(client: &mut Lines, name: &str) -> u64 {
    assert!(client.ask(&format!("GET {name}\r")).starts_with('$'));
    let value = client.receive().expect("a value");
    value.parse().expect("a number")
}

#[test]
fn a_snapshot_under_load_is_one_moment_of_the_state() {
    let stage = neurath_suite::kv(&["1.0.0"]);
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let dir = node.directory().to_owned();
    assert!(fill(node.address(), 20_000).expect("filled").is_clean());
    let options = Options {
        address: node.address().to_owned(),
        connections: 2,
        keys: 2_000,
        timeout: PATIENCE,
        ..Options::default()
    };
    let ended = Arc::clone(&options.stop);
    let verifier = Verifier::new(options);
    let live = verifier.live();
    let verifier = verifier.spawn();
    let (stop, acknowledged) = (Arc::default(), Arc::new(AtomicU64::new(0)));
    let counter = {
        let (address, stop) = (node.address().to_owned(), Arc::clone(&stop));
        let acknowledged = Arc::clone(&acknowledged);
        std::thread::spawn(move || count(&address, &stop, &acknowledged))
    };
    wait_until("the counting begins", || {
        acknowledged.load(Ordering::Acquire) > 10
    });

    let folder = tempfile::tempdir().expect("a folder");
    let mut copies: Vec<(PathBuf, u64, u64)> = Vec::new();
    let (mut served, until) = (false, Instant::now() + PATIENCE);
    for n in 0.. {
        // Whether the load is at it while a copy is made is up to the system's scheduler.
        if n >= 3 && (served || Instant::now() > until) {
            break;
        }
        let copy = folder.path().join(format!("copy-{n}"));
        let before = acknowledged.load(Ordering::Acquire);
        let (copied, node) = (copy.as_os_str(), dir.as_os_str());
        let name = if n == 0 { "store" } else { "store.0" };
        let arguments = ["state", "snapshot", name].map(AsRef::as_ref);
        let arguments = [&arguments[..], &[copied, "--dir".as_ref(), node]].concat();
        let begun = live.totals().requests;
        let done = neurath(&arguments);
        assert!(done.status.success(), "{}", stderr(&done));
        served |= live.totals().requests > begun;
        copies.push((copy.clone(), before, acknowledged.load(Ordering::Acquire)));
        let report = check_file(&copy, Level::L3).expect("read");
        assert!(report.is_clean(), "{report:#?}");
        assert_eq!(report.levels[Level::L3 as usize].done, Done::Complete);
        let again = neurath(&arguments);
        assert_eq!(again.status.code(), Some(2), "{}", stderr(&again));
    }
    assert!(served, "nothing is served while a copy is made");
    let nobody = neurath(&[
        "state".as_ref(),
        "snapshot".as_ref(),
        "nobody".as_ref(),
        folder.path().join("x").as_os_str(),
        "--dir".as_ref(),
        dir.as_os_str(),
    ]);
    assert_eq!(nobody.status.code(), Some(2), "{}", stderr(&nobody));
    assert!(stderr(&nobody).contains("nobody"), "{}", stderr(&nobody));
    stop.store(true, Ordering::Relaxed);
    counter.join().expect("every write is acknowledged");
    ended.store(true, Ordering::Relaxed);
    let report = verifier.join().expect("the client ends");
    assert!(report.is_clean(), "{report}");

    // Nothing else is left of the copies, and each of them serves.
    let left = std::fs::read_dir(folder.path()).expect("read").count();
    assert_eq!(left, copies.len());
    node.stop().expect("stopped");
    let state = catalog(&dir);
    let region = state.regions.iter().find(|one| one.component == "store");
    let file = dir.join("regions").join(&region.expect("a region").file);
    for (copy, before, after) in copies {
        let arguments = ["state".as_ref(), "restore".as_ref(), copy.as_os_str()];
        let arguments = [&arguments[..], &[file.as_os_str(), "--execute".as_ref()]].concat();
        let restored = neurath(&arguments);
        assert!(restored.status.success(), "{}", stderr(&restored));
        let node = NodeProcess::start(&command).expect("a node");
        let mut client = Lines::open(node.address());
        let (first, second) = (number(&mut client, "first"), number(&mut client, "second"));
        assert!(first == second || first == second + 1, "{first}, {second}");
        // The next two may have been on their way, without an answer yet.
        assert!(
            (before..=after + 1).contains(&first),
            "{before}, {first}, {after}"
        );
        node.stop().expect("stopped");
    }
}
