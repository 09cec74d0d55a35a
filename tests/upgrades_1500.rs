//! Promise: a node can be upgraded again and again without growing: no library, thread key, file,
//! descriptor or memory stays behind.
//!
//! By default a part of them; all 1,500 are done by
//! `NEURATH_UPGRADES=1500 cargo test -p neurath-suite --test upgrades_1500`.

use std::path::Path;
use std::time::{Duration, Instant};

use neurath_cli::control;
use neurath_cli::output::{MessageFormat, Output};
use neurath_cli::resp::Connection;
use neurath_cli::stage::release;
use neurath_cli::testing::NodeProcess;

/// How many upgrades and ways back there are together, unless `NEURATH_UPGRADES` says so.
const CHANGES: usize = 200;
/// After so many nothing is done for the first time any more.
const WARM: usize = 20;
/// The allocator has places of its own for threads, sixteen here, which come into use one by one: it is some hundred
/// changes until nothing grows any more, and up to 30 MiB were seen. One library kept for each change would be more.
const GROWTH: u64 = 40 << 20;

#[derive(Debug)]
struct Held {
    /// Mapped pieces of files with code.
    libraries: usize,
    descriptors: usize,
    region_files: usize,
    threads: usize,
}

impl Held {
    fn is_within(&self, other: &Self) -> bool {
        self.libraries <= other.libraries
            && self.descriptors <= other.descriptors
            && self.region_files <= other.region_files
            && self.threads <= other.threads
    }
}

fn entries(folder: &Path) -> usize {
    folder
        .read_dir()
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .count()
}

fn held(node: &NodeProcess) -> Held {
    let proc = Path::new("/proc").join(node.pid().to_string());
    let maps = std::fs::read_to_string(proc.join("maps")).expect("maps");
    let libraries = maps
        .lines()
        .filter(|line| line.contains(" r-xp ") && line.contains('/') && !line.contains("[v"))
        .count();
    Held {
        libraries,
        descriptors: entries(&proc.join("fd")),
        region_files: entries(&node.directory().join("regions")),
        threads: entries(&proc.join("task")),
    }
}

fn changes() -> usize {
    match std::env::var("NEURATH_UPGRADES") {
        Ok(text) => text.parse().expect("NEURATH_UPGRADES is a number"),
        Err(_) => CHANGES,
    }
}

#[test]
fn a_node_that_is_upgraded_again_and_again_does_not_grow() {
    let stage = neurath_suite::kv(&["1.0.0", "1.1.0"]);
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Connection::open(node.address()).expect("a client");
    let fill = neurath_cli::stage::fill(node.address(), 100).expect("filled");
    assert!(fill.is_clean(), "{fill}");
    let output = Output::new(MessageFormat::Json);

    let changes = changes().max(2 * WARM) / 2 * 2;
    let mut first = None;
    let mut unloaded = 0;
    for number in 0..changes {
        let changed = if number % 2 == 0 {
            control::apply(node.directory(), &release("1.1.0"), None, &output)
        } else {
            control::rollback(node.directory(), false, &output)
        };
        let changed = changed
            .unwrap_or_else(|error| panic!("change {number}: {error:#}\n{}", node.log_end()));
        assert!(
            changed.retained.is_empty(),
            "change {number}: {:?}",
            changed.retained
        );
        unloaded += changed.unloaded.len();
        // The same connection all the time.
        let count = client.ask(&["INCR", "changes"]).expect("an answer");
        assert_eq!(count, kv_resp::Value::Integer(number as i64 + 1));
        if (number + 1) % 250 == 0 {
            let bytes = node.memory().expect("memory");
            println!("after {}: {} KiB", number + 1, bytes >> 10);
        }
        if number + 1 == WARM {
            first = Some((held(&node), node.memory().expect("memory")));
        }
    }
    // The second library of each way back and forth.
    assert!(
        unloaded >= changes / 2,
        "only {unloaded} libraries were unloaded"
    );

    let (held_first, memory_first) = first.expect("warmed up");
    let (mut held_last, memory_last) = (held(&node), node.memory().expect("memory"));
    // What serves the last request of this test is let go in a moment.
    let until = Instant::now() + Duration::from_secs(60);
    while !held_last.is_within(&held_first) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(10));
        held_last = held(&node);
    }
    println!("after {WARM}: {held_first:?}, {memory_first} bytes");
    println!("after {changes}: {held_last:?}, {memory_last} bytes");
    assert!(
        held_last.is_within(&held_first),
        "a node grew from change {WARM} to {changes}: {held_first:?}, {held_last:?}"
    );
    assert!(
        memory_last < memory_first + GROWTH,
        "memory grew from {memory_first} to {memory_last} bytes"
    );
    let status = control::status(node.directory()).expect("a status");
    assert!(status.retained.is_empty(), "{:?}", status.retained);
    assert_eq!(status.release, Some(release("1.0.0")));

    // Still able to begin anew with all that was written: its journal and its catalog.
    let read_back = neurath_verify::check_fill(
        node.address(),
        100,
        neurath_cli::stage::VALUE_LEN,
        neurath_cli::stage::FILLERS,
    );
    assert!(read_back.is_clean(), "{read_back}");
    let directory = node.directory().to_owned();
    node.stop().expect("the node ends well");
    let records = neurath_node::journal::read_all(directory.join("journal"));
    let sequence = records.expect("a journal whose chain holds").len();
    assert!(
        sequence > changes,
        "the journal has only {sequence} records"
    );
}
