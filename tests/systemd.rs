//! What a node tells the service manager that has started it.

mod support;

use std::ffi::OsString;
use std::io::{IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use command_fds::{CommandFdExt as _, FdMapping};
use neurath_cli::testing::{NodeCommand, NodeProcess};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use support::{PATIENCE, wait_until};

struct Manager(UnixDatagram);

impl Manager {
    /// The next message that is not about sockets.
    fn hears(&self) -> String {
        loop {
            let (message, _) = self.takes();
            if !message.starts_with("FDSTORE") {
                return message;
            }
        }
    }

    /// The next message, and what comes with it.
    fn takes(&self) -> (String, Vec<OwnedFd>) {
        let mut bytes = [0; 256];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let flags = RecvFlags::CMSG_CLOEXEC;
        let received = recvmsg(&self.0, &mut parts, &mut ancillary, flags).expect("a message");
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                descriptors.extend(rights);
            }
        }
        let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
        (text, descriptors)
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

/// A node that is given this socket as systemd does it: by number, in the environment of the process that is
/// meant. It ends with the standard input of the child.
fn activated(command: &NodeCommand, socket: OwnedFd, log: Stdio) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", "LISTEN_PID=$$ exec \"$0\" \"$@\""]);
    shell.arg(&command.program).args(&command.arguments);
    shell.args(["node", "start", "--foreground", "--tied", "--dir"]);
    shell
        .arg(&command.directory)
        .arg("--from")
        .arg(&command.from);
    if let Some(release) = &command.release {
        shell.args(["--release", release]);
    }
    let environment = command.environment.iter();
    shell.envs(environment.map(|(name, value)| (name, value)));
    shell
        .env("LISTEN_FDS", "1")
        .stdin(Stdio::piped())
        .stderr(log);
    let mapping = FdMapping {
        parent_fd: socket,
        child_fd: 3,
    };
    shell.fd_mappings(vec![mapping]).expect("one mapping");
    shell.spawn().expect("the shell is run")
}

/// Nobody would see that clients wait at an address for good.
#[test]
fn a_socket_that_no_component_asks_for_is_logged() {
    let stage = neurath_suite::kv(&["1.0.0"]);
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = stage.command("1.0.0");
    command.directory = folder.path().join("node");
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a socket");
    let address = socket.local_addr().expect("its address").to_string();
    let log = folder.path().join("log");
    let file = std::fs::File::create(&log).expect("a file");
    let mut child = activated(&command, socket.into(), file.into());
    let text = || std::fs::read_to_string(&log).expect("the log");
    wait_until("it is logged", || {
        let text = text();
        let mut lines = text.lines();
        lines.any(|line| line.contains("WARN") && line.contains(&address))
    });
    drop(child.stdin.take());
    child.wait().expect("it ends");
}

/// As after a crash: systemd has what a node gave it to keep, and hands it over to the next one.
#[test]
fn clients_wait_while_no_node_runs() {
    let stage = neurath_suite::kv(&["1.0.0"]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).expect("a socket"));
    let patience = Some(PATIENCE);
    manager.0.set_read_timeout(patience).expect("a timeout");
    let mut command = stage.command("1.0.0");
    command.directory = folder.path().join("node");
    let variable = (OsString::from("NOTIFY_SOCKET"), path.into_os_string());
    command.environment.push(variable);
    let node = NodeProcess::start(&command).expect("a node");
    let address = node.address().to_owned();
    let (message, mut descriptors) = manager.takes();
    let named = address.replace(':', "_");
    let stored = format!("FDSTORE=1\nFDNAME=listen-{named}");
    assert_eq!(message, stored);
    let socket = descriptors.pop().expect("the socket");
    assert!(manager.hears().starts_with("READY=1"));
    let mut client = TcpStream::connect(&address).expect("a connection");
    client.write_all(b"SET key value\r\n").expect("it is sent");
    assert_eq!(line(&client), "+OK");
    node.kill();
    drop(node);

    // Nobody serves, and nobody is refused.
    let mut waits = TcpStream::connect(&address).expect("a connection to no node");
    waits.write_all(b"GET key\r\n").expect("it is sent");
    let mut child = activated(&command, socket, Stdio::inherit());
    assert_eq!(line(&waits), "$5");
    assert_eq!(line(&waits), "value");
    assert_eq!(manager.takes().0, stored);
    assert!(manager.hears().starts_with("READY=1"));
    let status = support::full_status(&command.directory);
    assert_eq!(status.pid, child.id());
    assert_eq!(status.listen, std::slice::from_ref(&address));
    drop(child.stdin.take());
    child.wait().expect("it ends");
    // The socket went with the last process that had it.
    // But for a moment: whoever starts a program just then has it until that begins.
    wait_until("nobody listens", || TcpStream::connect(&address).is_err());
}

/// The next line of an answer.
fn line(mut stream: &TcpStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        text.push(byte[0]);
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
