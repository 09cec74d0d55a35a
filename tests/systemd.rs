//! What a node tells the service manager that has started it.

mod support;

use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Command, Stdio};

use neurath_cli::testing::NodeProcess;
use support::{PATIENCE, wait_until};

struct Manager(UnixDatagram);

impl Manager {
    fn hears(&self) -> String {
        let mut bytes = [0; 256];
        let length = self.0.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..length]).into_owned()
    }
}

#[test]
fn readiness_life_and_end_are_told() {
    let stage = neurath_suite::kv(&["1.0.0"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).expect("a socket"));
    manager
        .0
        .set_read_timeout(Some(PATIENCE))
        .expect("a timeout");
    let mut command = stage.command("1.0.0");
    let of = |name: &str, value: OsString| (OsString::from(name), value);
    command.environment = vec![
        of("NOTIFY_SOCKET", path.into_os_string()),
        of("WATCHDOG_USEC", "300000".into()),
    ];
    let node = NodeProcess::start(&command).expect("a node");
    assert_eq!(manager.hears(), "READY=1\nSTATUS=kv-1.0.0 serves");
    for _ in 0..5 {
        assert_eq!(manager.hears(), "WATCHDOG=1");
    }
    let pid = node.pid().to_string();
    // As systemd does.
    let told = Command::new("kill").args(["-TERM", &pid]).status();
    assert!(told.expect("kill").success());
    wait_until("the end is told", || manager.hears() == "STOPPING=1");
    wait_until("the node ends", || node.check().is_err());
}

#[test]
fn a_program_that_is_replaced_is_told_by_its_process() {
    let stage = neurath_suite::kv(&["1.0.0"]);
    let folder = tempfile::tempdir().expect("a folder");
    // One whose program is replaced, and one where that fails: the keeper is the node from then on.
    for (number, fails) in [false, true].into_iter().enumerate() {
        let path = folder.path().join(format!("notify-{number}"));
        let manager = Manager(UnixDatagram::bind(&path).expect("a socket"));
        let patience = Some(PATIENCE);
        manager.0.set_read_timeout(patience).expect("a timeout");
        let mut command = stage.command("1.0.0");
        let of = |name: &str, value: OsString| (OsString::from(name), value);
        command.environment = vec![of("NOTIFY_SOCKET", path.into_os_string())];
        if fails {
            let point = of("NEURATH_FAULT_KILL_AT", "handover.up".into());
            command.environment.push(point);
        }
        let node = NodeProcess::start(&command).expect("a node");
        let serves = "READY=1\nSTATUS=kv-1.0.0 serves";
        assert_eq!(manager.hears(), serves);
        let asked = support::ask(node.directory(), &["node", "restart"]);
        let code = asked.status.code();
        let expected = if fails { 40 } else { 0 };
        assert_eq!(code, Some(expected), "{}", support::stderr(&asked));
        let told = manager.hears();
        let keeper = told.strip_prefix("MAINPID=").expect("the keeper's number");
        assert_ne!(keeper, node.pid().to_string());
        let mut rest = [manager.hears(), String::new()];
        if !fails {
            rest[1] = manager.hears();
            // The program and the keeper speak at the same time.
            rest.sort();
            assert_eq!(rest[0], format!("MAINPID={}", node.pid()));
            assert_eq!(rest[1], serves);
        } else {
            assert_eq!(rest[0], serves);
            let status = neurath_cli::control::status(node.directory());
            assert_eq!(status.expect("a status").pid.to_string(), keeper);
        }
        support::ok(node.directory(), &["node", "stop"]);
        assert_eq!(manager.hears(), "STOPPING=1");
    }
}

/// Lines for the journal have their level in front.
#[test]
fn lines_for_the_journal_have_a_level() {
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).expect("a file");
    let of_file = file.metadata().expect("what the system says of it");
    let stream = format!("{}:{}", of_file.dev(), of_file.ino());
    let stage = neurath_suite::kv(&["1.0.0"]);
    let mut node = Command::new(neurath_suite::program())
        .args(["node", "start", "--foreground", "--release", "kv-1.0.0"])
        .arg("--dir")
        .arg(folder.path().join("node"))
        .arg("--from")
        .arg(stage.built())
        .env("JOURNAL_STREAM", stream)
        .stdin(Stdio::null())
        .stderr(file)
        .spawn()
        .expect("a node");
    let text = || std::fs::read_to_string(&log).expect("the log");
    wait_until("the node serves", || text().contains("the node serves"));
    node.kill().expect("it is killed");
    node.wait().expect("it ends");
    for line in text().lines() {
        let level = line.get(..3).unwrap_or_default();
        assert!(["<3>", "<4>", "<6>"].contains(&level), "{line}");
    }
}
