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
