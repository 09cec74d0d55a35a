//! Clients take the descriptors that are there for them, and none of those that the node needs itself.

mod support;

use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use support::{Lines, quiet, wait_until};

/// The limit that the node is started with, which it cannot raise.
const LIMIT: u64 = 256;

#[test]
fn a_node_full_of_idle_clients_is_asked_and_upgraded() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("node");
    let real = neurath_suite::program();
    let text = format!(
        "#!/bin/sh\nulimit -n {LIMIT}\nexec '{}' \"$@\"\n",
        real.display()
    );
    std::fs::write(&script, text).expect("written");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("its mode");
    let stage = neurath_suite::book("notebook_1", "notebook_2").run_by(script);
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    stage.install(directory).expect("installed");
    let mut first = Lines::open(node.address());
    assert_eq!(first.ask("add note"), "0");

    let open = || TcpStream::connect(node.address()).expect("the queue takes it");
    // More than are let in, and fewer than those and the queue.
    let idle: Vec<TcpStream> = (0..200).map(|_| open()).collect();
    let connections = || control::status(directory).expect("a status").connections;
    wait_until("many are let in", || connections() > LIMIT / 4);
    let to = ReleaseId::new("book", "1.1.0");
    control::apply(directory, &to, None, &quiet()).expect("upgraded");
    assert_eq!(first.ask("get 0"), "note");
    control::rollback(directory, false, &quiet()).expect("back");
    assert!(connections() < LIMIT - 100, "some descriptors are left");

    // Whoever waits is let in when others go.
    let mut last = Lines::open(node.address());
    last.send("version");
    drop(idle);
    assert_eq!(last.receive().as_deref(), Some("1.0.0"));
    wait_until("the idle ones are gone", || connections() == 2);
    node.stop().expect("stopped");
}
