//! A node whose program is replaced in its process keeps every connection, and refuses none: clients only wait.

mod support;

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Verdict};
use neurath_node::protocol::Status;
use neurath_verify::Running;
use support::load::{Client, Newcomers, assert_clean, load, served};
use support::{
    Lines, assert_all_ended, assert_no_orphans, catalog, ended, full_status, journal, ok,
    wait_until,
};

fn descriptors(pid: u32) -> usize {
    let all = std::fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors");
    all.count()
}

fn status(directory: &Path) -> Status {
    full_status(directory)
}

/// How every restart has ended, by the journal.
fn ends(directory: &Path) -> Vec<Verdict> {
    let records = journal(directory);
    let restarts = records
        .iter()
        .filter(|one| one.operation_id.starts_with("restart"));
    let ends = restarts.filter_map(|one| match &one.kind {
        Kind::Ended { verdict, .. } => Some(*verdict),
        _ => None,
    });
    ends.collect()
}

#[test]
fn nothing_is_lost_closed_or_refused_over_restarts() {
    let stage = neurath_suite::kv(&["1.1.0"]);
    let node = stage.start("1.1.0").expect("a node");
    let (directory, address) = (node.directory(), node.address());
    let loads = [load(address, 1, 1), load(address, 16, 2)];
    let newcomers = Newcomers::start(address);
    let mut client = Client::open(address);
    assert_eq!(client.ask("HELLO 3").chars().next(), Some('%'));
    let before = status(directory);
    let mut counts = Vec::new();
    for _ in 0..6 {
        loads.iter().for_each(|load| served(load, 300));
        // Half a request, and the other half to the next program.
        client.send("*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$5\r\nwh");
        ok(directory, &["node", "restart"]);
        client.send("ole\r\n");
        while client.line() != "+OK" {}
        counts.push(descriptors(node.pid()));
    }
    loads.iter().for_each(|load| served(load, 300));
    assert_eq!(client.ask("GET half"), "$5");
    assert_eq!(client.line(), "whole");
    // The connection is still one that has said `HELLO 3`.
    assert_eq!(client.ask("GET nothing"), "_");
    let after = status(directory);
    assert_eq!(after.pid, node.pid(), "the process is the same");
    assert_eq!(after.listen, before.listen);
    assert!(after.uptime_ms > before.uptime_ms);
    newcomers.finish();
    loads.into_iter().for_each(assert_clean);
    assert_eq!(ends(directory), [Verdict::Done; 6]);
    assert_all_ended(&journal(directory));
    assert!(
        counts.iter().max() <= counts.iter().min().map(|least| least + 8).as_ref(),
        "{counts:?}"
    );
    node.check().expect("the node lives");
    // The keepers are gone, and so are their sockets.
    wait_until("their sockets go", || {
        !directory.join("handover.sock").exists()
    });
    node.stop().expect("an orderly stop");
}

/// A node whose next program meets with something.
fn stricken(
    stage: &Stage,
    variable: &str,
    point: &str,
    within: &str,
) -> (NodeCommand, NodeProcess) {
    let mut command = stage.command("1.1.0");
    command.environment = vec![(variable.into(), point.into())];
    command.more = vec!["--take-over-within".into(), within.into()];
    let node = NodeProcess::start(&command).expect("a node");
    (command, node)
}

/// The old node serves on with everything, in whichever process.
fn assert_goes_on(directory: &Path, load: Running, client: &mut Client) {
    served(&load, 300);
    assert_clean(load);
    assert_eq!(client.ask("GET key"), "$5");
    assert_eq!(client.line(), "value");
    assert_eq!(ends(directory), [Verdict::Failed]);
    assert_all_ended(&journal(directory));
    assert_no_orphans(directory);
}

#[test]
fn a_program_that_dies_or_hangs_is_replaced_by_the_one_before() {
    let stage = neurath_suite::kv(&["1.1.0"]);
    let cases = [
        ("NEURATH_FAULT_KILL_AT", "handover.kept", "60s"),
        ("NEURATH_FAULT_KILL_AT", "handover.left", "60s"),
        ("NEURATH_FAULT_KILL_AT", "handover.closed", "60s"),
        ("NEURATH_FAULT_KILL_AT", "handover.taken", "60s"),
        ("NEURATH_FAULT_KILL_AT", "handover.up", "60s"),
        ("NEURATH_FAULT_KILL_AT", "handover.ready", "60s"),
        ("NEURATH_FAULT_HANG_AT", "handover.taken", "8s"),
        ("NEURATH_FAULT_HANG_AT", "handover.up", "8s"),
    ];
    for (variable, point, within) in cases {
        println!("{variable}={point}");
        let (command, node) = stricken(&stage, variable, point, within);
        let directory = &command.directory;
        let mut client = Client::open(node.address());
        assert_eq!(client.ask("SET key value"), "+OK");
        let load = load(node.address(), 4, 7);
        served(&load, 300);
        let asked = support::ask(directory, &["node", "restart"]);
        assert_ne!(asked.status.code(), Some(0), "{point}");
        assert_goes_on(directory, load, &mut client);
        let pid = status(directory).pid;
        assert_ne!(pid, node.pid(), "{point}: the process was killed");
        ok(directory, &["node", "stop"]);
        wait_until("its end", || !Path::new(&format!("/proc/{pid}")).exists());
        assert_eq!(catalog(directory).previous, None);
    }
}

#[test]
fn whoever_asked_is_answered_by_the_node_that_serves() {
    let stage = neurath_suite::kv(&["1.1.0"]);
    let (command, node) = stricken(&stage, "NEURATH_FAULT_KILL_AT", "handover.up", "60s");
    let asked = support::ask(&command.directory, &["node", "restart"]);
    let told = support::stderr(&asked);
    assert_eq!(asked.status.code(), Some(40), "{told}");
    assert!(told.contains("ended before it served"), "{told}");
    assert!(told.contains("serves on, with everything"), "{told}");
    drop(node);
}

#[test]
fn a_node_that_dies_with_its_keeper_starts_again() {
    let stage = neurath_suite::kv(&["1.1.0"]);
    for point in ["handover.keeper", "handover.served"] {
        let (mut command, node) = stricken(&stage, "NEURATH_FAULT_KILL_AT", point, "60s");
        let mut client = Client::open(node.address());
        assert_eq!(client.ask("SET key value"), "+OK");
        let asked = support::ask(&command.directory, &["node", "restart"]);
        assert_ne!(asked.status.code(), Some(0), "{point}");
        wait_until("its end", || node.check().is_err());
        drop(node);
        command.environment.clear();
        let again = NodeProcess::start(&command).expect("it starts again");
        let mut client = Client::open(again.address());
        assert_eq!(client.ask("GET key"), "$5");
        assert_eq!(ends(&command.directory), [Verdict::Interrupted]);
        again.stop().expect("an orderly stop");
    }
}

/// Changes one byte of a file, or back, in its place.
fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).expect("a file");
    let file = std::fs::File::options().write(true).open(path);
    bytes[20] ^= 1;
    let written = file.and_then(|file| file.write_all_at(&bytes[20..21], 20));
    written.expect("it is written");
}

/// Another program would find the same files, and so would the keeper: nobody would be left to serve.
#[test]
fn what_the_next_program_could_not_open_is_found_before_anything_stops() {
    let stage = neurath_suite::kv(&["1.1.0"]);
    let node = stage.start("1.1.0").expect("a node");
    let directory = node.directory();
    let mut client = Client::open(node.address());
    assert_eq!(client.ask("SET key value"), "+OK");
    let release = directory.join("releases/kv-1.1.0");
    let libraries = std::fs::read_dir(release.join("lib")).expect("its libraries");
    let library = libraries.map(|one| one.expect("a library").path()).next();
    let refused = |code: i32, said: &str| {
        let asked = support::ask(directory, &["node", "restart"]);
        let told = support::stderr(&asked);
        assert_eq!(asked.status.code(), Some(code), "{told}");
        assert!(told.contains(said), "{told}");
        assert!(told.contains("nothing was stopped"), "{told}");
        assert_eq!(status(directory).pid, node.pid());
        node.check().expect("the node lives");
    };
    let files = [
        (release.join("release.toml"), 20, "release.toml"),
        (library.expect("a library"), 20, ".so"),
        (directory.join("journal/00000001.jsonl"), 22, "journal"),
    ];
    for (path, code, said) in files {
        flip(&path);
        refused(code, said);
        assert_eq!(client.ask("GET key"), "$5");
        assert_eq!(client.line(), "value");
        flip(&path);
    }
    let keys = directory.join("trusted-keys");
    std::fs::create_dir_all(&keys).expect("a folder");
    std::fs::write(keys.join("bad.pub"), "garbage").expect("written");
    refused(23, "not signed");
    std::fs::remove_file(keys.join("bad.pub")).expect("removed");
    ok(directory, &["node", "restart"]);
    assert_eq!(client.ask("GET key"), "$5");
    assert_eq!(client.line(), "value");
    assert!(!ends(directory).contains(&Verdict::Interrupted));
    assert_all_ended(&journal(directory));
    node.stop().expect("an orderly stop");
}

/// At whatever moment of a restart it comes, also between the two programs.
#[test]
fn a_signal_to_stop_is_not_lost_while_the_program_is_replaced() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    for round in 0..16u64 {
        let node = NodeProcess::start(&command).expect("a node");
        if round == 0 {
            assert_eq!(Lines::open(node.address()).ask("add kept"), "0");
        }
        let directory = node.directory().to_owned();
        let restart = std::thread::spawn(move || support::ask(&directory, &["node", "restart"]));
        std::thread::sleep(Duration::from_millis(round * 6));
        let pid = i32::try_from(node.pid()).ok();
        let pid = pid.and_then(rustix::process::Pid::from_raw).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
        let how = ended(&node);
        assert!(how.contains("exit status: 0"), "round {round}: {how}");
        restart.join().expect("the command has ended");
    }
    // Each of them has ended in order.
    let stops = journal(&command.directory);
    let stops = stops.iter().filter(|one| {
        let done = matches!(
            &one.kind,
            Kind::Ended {
                verdict: Verdict::Done,
                ..
            }
        );
        done && one.operation_id.starts_with("stop-")
    });
    assert_eq!(stops.count(), 16);
    let node = NodeProcess::start(&command).expect("a node");
    assert_eq!(Lines::open(node.address()).ask("get 0"), "kept");
}

/// The release stays unconfirmed, and its window begins anew.
#[test]
fn a_release_that_is_not_confirmed_is_restarted_as_what_it_is() {
    let stage = support::book_edited("notebook_1", "notebook_2", |folder| {
        let path = folder.join("releases/book/1.1.0.toml");
        let text = std::fs::read_to_string(&path).expect("the release");
        let checks = "window = \"20s\"\ninterval = \"20ms\"\nchecks = [{ component = \"notebook\", timeout = \"60s\" }]";
        std::fs::write(path, text.replace("window = \"60s\"", checks)).expect("written");
    });
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_owned();
    stage.install(&directory).expect("installed");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add before"), "0");
    let to = ReleaseId::new("book", "1.1.0");
    let apply = || control::apply(&directory, &to, None, &support::quiet()).expect("the upgrade");
    apply();
    assert_eq!(client.ask("add since"), "1");
    let begun = status(&directory).confirm_by_ms.expect("a window");
    ok(&directory, &["node", "restart"]);
    let again = status(&directory);
    assert_eq!(again.pid, node.pid());
    assert!(again.unconfirmed && again.release.as_ref() == Some(&to));
    assert!(again.confirm_by_ms.expect("a window") > begun);
    assert_eq!(again.health.len(), 1, "{:?}", again.health);
    assert_eq!(client.ask("version"), "1.1.0");
    // The way back is open, and keeps the writes.
    ok(&directory, &["relup", "rollback", "--execute"]);
    assert_eq!(client.ask("version"), "1.0.0");
    assert_eq!(client.ask("get 1"), "since");
    // And so is the way on: the checks confirm it.
    apply();
    ok(&directory, &["node", "restart"]);
    wait_until("the checks confirm it", || {
        let status = status(&directory);
        !status.unconfirmed && status.permanent.as_ref() == Some(&to)
    });
    assert_eq!(client.ask("count"), "2");
    assert_all_ended(&journal(&directory));
    assert_no_orphans(&directory);
}
