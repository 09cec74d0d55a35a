//! A node whose regions cannot grow any further says so, serves on what needs no room, and has
//! lost nothing when there is room again. A limit on the size of files stands for the full disk:
//! the system refuses the growth in both cases.

mod support;

use neurath_cli::testing::{NodeCommand, NodeProcess};
use support::{Lines, catalog};

/// In blocks of 512 bytes. A region of the store begins with less than that.
const LIMIT: u64 = (72 << 20) / 512;

fn set(client: &mut Lines, number: u64) -> String {
    client.ask(&format!(
        "SET key:{number} {number}{}\r",
        "x".repeat(16_000)
    ))
}

#[track_caller]
fn assert_there(client: &mut Lines, number: u64) {
    assert!(client.ask(&format!("GET key:{number}\r")).starts_with('$'));
    let value = client.receive().expect("a value");
    assert_eq!(value, format!("{number}{}", "x".repeat(16_000)));
}

#[test]
fn a_node_whose_disk_is_full_serves_on_and_loses_nothing() {
    let stage = neurath_suite::kv(&["1.0.0"]);
    let command = stage.command("1.0.0");
    let program = command.program.clone().into_os_string();
    let limited = NodeCommand {
        program: "sh".into(),
        arguments: vec![
            "-c".into(),
            format!("ulimit -f {LIMIT} && exec \"$0\" \"$@\"").into(),
            program,
        ],
        ..command.clone()
    };
    let node = NodeProcess::start(&limited).expect("a node");
    let mut client = Lines::open(node.address());
    let mut count = 0;
    let refused = loop {
        match set(&mut client, count) {
            answer if answer == "+OK" => count += 1,
            answer => break answer,
        }
        assert!(count < 10_000, "the limit is not kept");
    };
    assert!(refused.starts_with('-'), "{refused}");
    assert!(count > 1000, "refused after {count}");
    for number in 0..count {
        assert_there(&mut client, number);
    }
    // It has grown to the end, not only in large steps.
    let state = catalog(node.directory());
    let region = state.regions.iter().find(|one| one.component == "store");
    let file = node
        .directory()
        .join("regions")
        .join(&region.expect("a region").file);
    let len = std::fs::metadata(file).expect("a file").len();
    assert!(len + (128 << 10) > LIMIT * 512, "{len} bytes");
    // It is refused again, and what needs no more room is done.
    assert_eq!(set(&mut client, count), refused);
    assert_eq!(client.ask("SET key:0 short\r"), "+OK");
    for number in 1..5 {
        assert_eq!(client.ask(&format!("DEL key:{number}\r")), ":1");
    }
    assert_eq!(set(&mut client, count), "+OK");
    drop(client);
    // As by a power cut: what a growth that failed has left does no harm.
    node.kill();
    drop(node);

    let node = NodeProcess::start(&command).expect("a node");
    let mut client = Lines::open(node.address());
    for number in 5..=count {
        assert_there(&mut client, number);
    }
    for number in count + 1..count + 300 {
        assert_eq!(set(&mut client, number), "+OK");
    }
    drop(client);
    node.stop().expect("stopped");
}
