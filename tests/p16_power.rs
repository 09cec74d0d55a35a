//! Promise: where durability is `power`, an acknowledged write is on the medium. A kill is harder on
//! such a region than on others, as what its pages hold in memory dies with the process: what is
//! there afterwards was written, or read back from the log.
//!
//! The nodes are in the build's own folder, which is on a disk where the sources are. On a file
//! system that is memory the durability cannot be had, which is a test as well.

mod support;

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neurath_cli::control;
use neurath_cli::output::{MessageFormat, Output};
use neurath_cli::stage::{Stage, release};
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_verify::{Live, Options, Report, Verifier};
use support::{folder_on_disk, full_status};
use tempfile::TempDir;

fn output() -> Output {
    Output::new(MessageFormat::Human)
}

fn command(place: &TempDir, stage: &Stage, version: &str) -> NodeCommand {
    let first = release(version).to_string();
    let directory = place.path().join("node");
    NodeCommand::new(
        &neurath_suite::program(),
        &directory,
        Some(&first),
        stage.built(),
    )
}

struct Load {
    keys: u64,
    live: Live,
    stop: Arc<AtomicBool>,
    verifier: JoinHandle<Report>,
}

impl Load {
    fn start(address: &str, pipeline: usize, seed: u64) -> Self {
        let options = Options {
            address: address.to_owned(),
            connections: 4,
            pipeline,
            keys: 800,
            seed,
            value_len: 0..=300,
            reconnect: true,
            timeout: Duration::from_secs(20),
            ..Options::default()
        };
        let (stop, keys) = (Arc::clone(&options.stop), options.keys);
        let verifier = Verifier::new(options);
        Self {
            keys,
            live: verifier.live(),
            stop,
            verifier: verifier.spawn(),
        }
    }

    /// Waits until so many more requests were served.
    fn served(&self, more: u64, node: &NodeProcess) {
        let goal = self.live.totals().requests + more;
        let until = Instant::now() + Duration::from_secs(60);
        while self.live.totals().requests < goal {
            node.check().expect("the node lives");
            assert!(Instant::now() < until, "{:?}", self.live.totals());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let report = self.verifier.join().expect("the client panicked");
        assert_eq!((report.lost, report.wrong), (0, 0), "{report}");
        assert_eq!(report.checked_keys, self.keys, "{report}");
        assert!(report.acknowledged_writes > 0, "{report}");
    }
}

/// What the store's commits survive; and how that was found.
fn durability(node: &NodeProcess) -> (String, Vec<String>) {
    let status = full_status(node.directory());
    let mut components = status.components.into_iter();
    let store = components.find(|one| one.component == "store");
    let store = store.expect("a store");
    (store.durability, store.detection)
}

/// Starts a node; `None` where the build's folder is on a file system that is memory.
fn start(command: &NodeCommand) -> Option<NodeProcess> {
    match NodeProcess::start(command) {
        Ok(node) => Some(node),
        Err(error) if format!("{error:#}").contains("empty after a loss of power") => {
            println!("not tested: {error:#}");
            None
        }
        Err(error) => panic!("{error:#}"),
    }
}

#[test]
fn nothing_acknowledged_is_lost_by_kills_and_upgrades() {
    let stage = neurath_suite::kv_surviving(&[("1.0.0", "power"), ("1.1.0", "power")]);
    let place = folder_on_disk();
    let command = command(&place, &stage, "1.0.0");
    let Some(mut node) = start(&command) else {
        return;
    };
    stage.install(node.directory()).expect("installed");
    let (survives, found) = durability(&node);
    assert_eq!(survives, "power");
    assert!(
        found.last().is_some_and(|last| last.starts_with("backend")),
        "{found:?}"
    );
    let loads = [
        Load::start(node.address(), 1, 1),
        Load::start(node.address(), 16, 2),
    ];
    for round in 0..8 {
        loads.iter().for_each(|load| load.served(150, &node));
        let directory = node.directory().to_owned();
        let upgrade = (round % 2 == 1).then(|| {
            std::thread::spawn(move || {
                let done = control::apply(&directory, &release("1.1.0"), None, &output());
                println!("apply: {:?}", done.map(|done| done.stop_us));
            })
        });
        if upgrade.is_some() {
            // Somewhere in the upgrade, another place each time.
            std::thread::sleep(Duration::from_millis(20 * round));
        }
        node.kill();
        upgrade
            .into_iter()
            .for_each(|asked| asked.join().expect("joined"));
        drop(node);
        node = NodeProcess::start(&command).expect("it starts again");
        assert_eq!(durability(&node).0, "power");
    }
    loads.iter().for_each(|load| load.served(150, &node));
    control::apply(node.directory(), &release("1.1.0"), None, &output()).expect("upgraded");
    loads.iter().for_each(|load| load.served(150, &node));
    node.kill();
    drop(node);
    // Not confirmed: back to 1.0.0, by a conversion, before anything is served.
    let node = NodeProcess::start(&command).expect("it starts again");
    let status = control::status(node.directory()).expect("a status");
    assert_eq!(status.release, Some(release("1.0.0")));
    loads.iter().for_each(|load| load.served(150, &node));
    loads.into_iter().for_each(Load::finish);
    node.stop().expect("the node ends well");
}

#[test]
fn an_upgrade_changes_the_durability_and_the_way_back_changes_it_again() {
    let versions = [
        ("1.0.0", "process"),
        ("1.1.0", "power"),
        ("1.1.1", "process"),
    ];
    let stage = neurath_suite::kv_surviving(&versions);
    let place = folder_on_disk();
    let node = start(&command(&place, &stage, "1.0.0")).expect("`process` is to be had everywhere");
    stage.install(node.directory()).expect("installed");
    let load = Load::start(node.address(), 4, 3);
    load.served(300, &node);
    assert_eq!(durability(&node).0, "process");
    let apply =
        |version: &str| control::apply(node.directory(), &release(version), None, &output());
    if let Err(error) = apply("1.1.0") {
        assert!(
            format!("{error:#}").contains("empty after a loss of power"),
            "{error:#}"
        );
        load.served(300, &node);
        load.finish();
        return;
    }
    assert_eq!(durability(&node).0, "power");
    load.served(300, &node);
    control::confirm(node.directory(), &output()).expect("confirmed");
    // The schema is the same: the durability alone makes another file.
    apply("1.1.1").expect("upgraded");
    assert_eq!(durability(&node).0, "process");
    load.served(300, &node);
    control::rollback(node.directory(), false, &output()).expect("back");
    assert_eq!(durability(&node).0, "power");
    load.served(300, &node);
    load.finish();
    node.stop().expect("the node ends well");
}

#[test]
fn a_medium_that_is_memory_is_refused_by_name() {
    let Ok(memory) = tempfile::tempdir_in("/dev/shm") else {
        println!("not tested: there is no /dev/shm");
        return;
    };
    let stage = neurath_suite::kv_surviving(&[("1.0.0", "power")]);
    let program = neurath_suite::program();
    let first = release("1.0.0").to_string();
    let command = NodeCommand::new(&program, memory.path(), Some(&first), stage.built());
    let error = NodeProcess::start(&command).expect_err("it is refused");
    let text = format!("{error:#}");
    assert!(text.contains("durability `power` cannot be had"), "{text}");
    assert!(text.contains("tmpfs is memory"), "{text}");
}

#[test]
fn a_write_that_fails_ends_the_node_and_acknowledges_nothing() {
    let stage = neurath_suite::kv_surviving(&[("1.0.0", "power")]);
    let place = folder_on_disk();
    let command = command(&place, &stage, "1.0.0");
    let Some(node) = start(&command) else {
        return;
    };
    let load = Load::start(node.address(), 4, 4);
    load.served(200, &node);
    // From here on no file may be written to beyond its first 64 KiB: an error of the system's
    // own, where a disk would have one.
    let limited = Command::new("prlimit")
        .args(["--pid", &node.pid().to_string(), "--fsize=65536:65536"])
        .status();
    match limited {
        Ok(status) if status.success() => {}
        other => {
            println!("not tested: prlimit: {other:?}");
            load.finish();
            return;
        }
    }
    let until = Instant::now() + Duration::from_secs(30);
    while node.check().is_ok() {
        assert!(
            Instant::now() < until,
            "the node goes on without its medium"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let error = format!("{:#}", node.check().expect_err("it has ended"));
    drop(node);
    let node = NodeProcess::start(&command).expect("it starts again");
    load.served(200, &node);
    load.finish();
    assert!(
        error.contains("the state of store.0: cannot make a change durable"),
        "{error}"
    );
    node.stop().expect("the node ends well");
}
