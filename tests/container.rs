//! A node in a namespace of processes, as a container is: it is process 1 there, the leader of its session is
//! outside, and the numbers of processes inside are not those outside.

mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};

use neurath_cli::control;
use neurath_cli::testing::NodeCommand;
use support::load::Client;
use support::{ok, wait_until};

/// What starts a program in a namespace of its own; nothing where the system lets nobody make one.
fn namespace() -> Option<Command> {
    let ways: [&[&str]; 2] = [&[], &["--user", "--map-root-user"]];
    ways.into_iter().find_map(|more| {
        let unshare = || {
            let mut command = Command::new("unshare");
            command.args(more);
            command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
            command
        };
        let tried = unshare().arg("true").stderr(Stdio::null()).status();
        tried.is_ok_and(|end| end.success()).then(unshare)
    })
}

/// Ends the namespace, and the node with it.
struct Namespace(Child);

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(mut command: Command, start: &NodeCommand, more: &[&str]) -> Namespace {
    command.arg(&start.program).args(&start.arguments);
    command.args(["node", "start", "--foreground"]).args(more);
    command.arg("--dir").arg(&start.directory);
    command.arg("--from").arg(&start.from);
    let release = start.release.as_ref().expect("a release");
    command.args(["--release", release]);
    command.stdin(Stdio::null());
    Namespace(command.spawn().expect("a process"))
}

fn address(directory: &Path) -> Option<String> {
    control::status(directory).ok()?.listen.first().cloned()
}

#[test]
fn a_node_is_process_one_and_seen_from_outside() {
    if namespace().is_none() {
        println!("not tried: nobody may make a namespace of processes here");
        return;
    }
    let stage = neurath_suite::kv(&["1.0.0"]);
    for more in [&["--detach"] as &[&str], &[]] {
        let command = stage.command("1.0.0");
        let directory = command.directory.clone();
        std::fs::create_dir_all(&directory).expect("a folder");
        let unshare = namespace().expect("it was to be had");
        let mut namespace = start(unshare, &command, more);
        let mut found = None;
        wait_until("the node serves", || {
            found = address(&directory);
            found.is_some()
        });
        assert_eq!(control::status(&directory).expect("a status").pid, 1);
        let address = found.expect("an address");
        let mut client = Client::open(&address);
        assert_eq!(client.ask("SET key value"), "+OK");
        ok(&directory, &["node", "restart"]);
        assert_eq!(client.ask("GET key"), "$5");
        assert_eq!(client.line(), "value");
        ok(&directory, &["node", "stop"]);
        let end = namespace.0.wait().expect("its end");
        assert_eq!(end.code(), Some(0), "{more:?}");
    }
}
