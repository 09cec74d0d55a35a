//! What a system does to a node: a disk that is full, one that may only be read, permissions that are
//! missing, a slot of the catalog that was half written. Each is an error that says where and what, nothing is
//! lost, and when it is mended the node goes on.
//!
//! A cut journal: `tests/p8_edited_history_is_found.rs`. Regions that cannot grow: `tests/full_disk.rs`.

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::{HEADER_BYTES, ReleaseId, SLOT_BYTES};
use neurath_node::protocol::code;
use support::play::Play;
use support::{Lines, assert_all_ended, assert_no_orphans, catalog, copy, journal, quiet, stderr};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// A stopped node with a note and both releases.
fn prepared() -> Play {
    let play = Play {
        stage: neurath_suite::book("notebook_1", "notebook_2"),
        folder: tempfile::tempdir().expect("a folder"),
    };
    let node = NodeProcess::start(&play.command("prepared")).expect("a node");
    play.stage.install(node.directory()).expect("installed");
    assert_eq!(Lines::open(node.address()).ask("add one"), "0");
    node.stop().expect("stopped");
    play
}

/// The notes are there, and an upgrade and the way back work.
#[track_caller]
fn assert_well(command: &NodeCommand) {
    let node = NodeProcess::start(command).expect("the node starts");
    let directory = node.directory();
    assert_eq!(Lines::open(node.address()).ask("get 0"), "one");
    control::apply(directory, &release("1.1.0"), None, &quiet()).expect("upgraded");
    control::rollback(directory, false, &quiet()).expect("back");
    assert_eq!(Lines::open(node.address()).ask("get 0"), "one");
    assert_no_orphans(directory);
    assert_all_ended(&journal(directory));
    node.stop().expect("stopped");
}

/// A node in a namespace of its own, where a script has done something to its folders before. Nothing
/// where the system does not give such namespaces to this user: the test says so and passes.
fn in_namespace(command: &NodeCommand, script: &str) -> Option<NodeCommand> {
    let own = ["--user", "--map-root-user", "--mount"];
    let tried = Command::new("unshare")
        .args(own)
        .args(["sh", "-c", "mount -t tmpfs none /mnt"])
        .status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this system gives no mount namespaces to this user (unshare --user)");
        return None;
    }
    let mut arguments: Vec<std::ffi::OsString> = own.map(Into::into).to_vec();
    let script = format!(
        "set -e; D='{}'; {script}; exec \"$0\" \"$@\"",
        command.directory.display()
    );
    arguments.extend(["sh".into(), "-c".into(), script.into()]);
    arguments.push(command.program.clone().into_os_string());
    Some(NodeCommand {
        program: "unshare".into(),
        arguments,
        ..command.clone()
    })
}

/// Puts a folder of a node on a disk of its own, beside which there is room for ballast.
fn small_disk(folder: &str, size: &str) -> String {
    format!(
        "mkdir -p \"$D.disk\"; mount -t tmpfs -o size={size} none \"$D.disk\"; \
         mkdir -p \"$D.disk/it\"; cp -a \"$D/{folder}/.\" \"$D.disk/it/\"; \
         mount --bind \"$D.disk/it\" \"$D/{folder}\""
    )
}

/// The disk as the node sees it.
fn disk_of(node: &NodeProcess) -> PathBuf {
    let name = format!("{}.disk", node.directory().display());
    PathBuf::from(format!("/proc/{}/root{name}", node.pid()))
}

/// Fills what is left of it.
fn fill(disk: &Path) {
    use std::io::Write as _;
    let mut ballast = std::fs::File::create(disk.join("ballast")).expect("the ballast");
    for size in [1 << 16, 1 << 12, 1] {
        let piece = vec![b'x'; size];
        while ballast.write_all(&piece).is_ok() {}
    }
}

/// No room for the new regions: the upgrade is refused, what runs goes on, and with room again it works.
#[test]
fn a_full_disk_is_named_and_nothing_is_lost() {
    let play = prepared();
    let command = play.copied("prepared", "regions");
    let Some(command) = in_namespace(&command, &small_disk("regions", "24m")) else {
        return;
    };
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory();
    let mut client = Lines::open(node.address());
    let disk = disk_of(&node);
    fill(&disk);
    let refused = control::apply(directory, &release("1.1.0"), None, &quiet());
    let error = refused.expect_err("there is no room");
    let said = format!("{error:#}");
    assert!(
        [code::UPGRADE_FAILED, code::OPERATOR].contains(&code_of(&error)),
        "{said}"
    );
    assert!(said.contains("No space left"), "{said}");
    assert!(said.contains("regions"), "{said}");
    assert_eq!(
        (client.ask("version"), client.ask("get 0")),
        ("1.0.0".into(), "one".into())
    );
    assert_eq!(catalog(directory).current, Some(release("1.0.0")));
    // A full disk ends: so does what it kept from being done.
    std::fs::remove_file(disk.join("ballast")).expect("room");
    let done = control::apply(directory, &release("1.1.0"), None, &quiet());
    done.unwrap_or_else(|error| panic!("with room again: {error:#}"));
    assert_eq!(
        (client.ask("version"), client.ask("get 0")),
        ("1.1.0".into(), "one".into())
    );
    node.kill();
}

/// Only the journal finds no room: nothing new is begun, what leads out of it is recorded to its end, and with room
/// again all is as before.
#[test]
fn a_journal_without_room_begins_nothing_new_and_records_what_leads_out() {
    let play = prepared();
    let command = play.copied("prepared", "journal");
    // What the node keeps behind the journal's end, and little more.
    let Some(command) = in_namespace(&command, &small_disk("journal", "320k")) else {
        return;
    };
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory();
    let mut client = Lines::open(node.address());
    let disk = disk_of(&node);
    let ballast = disk.join("ballast");
    let trouble = || control::status(directory).expect("a status").journal;
    let upgrade = |version: &str| control::apply(directory, &release(version), None, &quiet());
    let assert_refused = |version: &str| {
        let before = journal_in(&disk).len();
        let error = upgrade(version).map(drop).expect_err("there is no room");
        let said = format!("{error:#}");
        assert_eq!(code_of(&error), code::UPGRADE_FAILED, "{said}");
        for word in ["no room to record `apply`", "No space left", "journal"] {
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(journal_in(&disk).len(), before, "something was begun");
        let trouble = trouble().expect("it is in the status");
        assert!(trouble.contains("no room"), "{trouble}");
    };
    assert_eq!(trouble(), None);

    // Not confirmed yet when the disk is full: it can be confirmed.
    upgrade("1.1.0").expect("upgraded");
    fill(&disk);
    control::confirm(directory, &quiet()).expect("confirmed");
    assert_refused("1.0.0");
    assert_eq!(client.ask("add two"), "1");

    // The node notices by itself that there is room again.
    std::fs::remove_file(&ballast).expect("room");
    support::wait_until("the node sees the room", || trouble().is_none());
    upgrade("1.0.0").expect("with room again");

    // Nor is the way back barred.
    fill(&disk);
    control::rollback(directory, false, &quiet()).expect("back");
    assert_eq!(client.ask("version"), "1.1.0");
    assert_refused("1.0.0");
    assert_eq!(client.ask("get 1"), "two");
    // Each end is there: only the start of the node goes on.
    assert_all_ended(&journal_in(&disk));
    std::fs::remove_file(&ballast).expect("room");
    upgrade("1.0.0").expect("with room again");
    assert_eq!(client.ask("get 1"), "two");
    node.kill();
}

/// The records of a journal that has a disk of its own.
fn journal_in(disk: &Path) -> Vec<neurath_node::journal::Record> {
    neurath_node::journal::read_all(disk.join("it")).expect("the journal")
}

/// A release that finds no room leaves nothing, and is taken in when there is room.
#[test]
fn a_package_that_finds_no_room_leaves_nothing() {
    let play = prepared();
    let package = play.path("book.neurath.tar.gz").display().to_string();
    let built = play.stage.built().display().to_string();
    let words = [
        "release",
        "pack",
        "book-1.1.0",
        "--unsigned",
        "--sequence",
        "1",
        "--from",
        &built,
    ];
    let packed = support::neurath(&[&words[..], &["--out", &package]].concat());
    assert!(packed.status.success(), "{}", stderr(&packed));
    let command = play.copied("prepared", "releases");
    support::ok(
        &command.directory,
        &["release", "remove", "book-1.1.0", "--execute"],
    );
    let Some(command) = in_namespace(&command, &small_disk("releases", "64m")) else {
        return;
    };
    let node = NodeProcess::start(&command).expect("a node");
    let disk = disk_of(&node);
    fill(&disk);
    let unpack = || -> Output {
        support::ask(
            node.directory(),
            &["release", "unpack", &package, "--execute"],
        )
    };
    let refused = unpack();
    let said = stderr(&refused);
    assert!(
        !refused.status.success() && said.contains("No space left"),
        "{said}"
    );
    let left: Vec<_> = std::fs::read_dir(disk.join("it"))
        .expect("the releases")
        .map(|one| one.expect("an entry").file_name())
        .collect();
    assert_eq!(left, ["book-1.0.0"], "something stays");
    std::fs::remove_file(disk.join("ballast")).expect("room");
    let done = unpack();
    assert!(done.status.success(), "{}", stderr(&done));
    node.kill();
}

/// A node on a file system that may only be read does not start, and says so.
#[test]
fn a_file_system_that_may_only_be_read_is_named() {
    let play = prepared();
    for folder in ["", "regions", "journal"] {
        let command = play.copied("prepared", "read-only");
        let script = format!(
            "mount --bind \"$D/{folder}\" \"$D/{folder}\"; mount -o remount,bind,ro \"$D/{folder}\""
        );
        let Some(limited) = in_namespace(&command, &script) else {
            return;
        };
        let error = NodeProcess::start(&limited)
            .map(drop)
            .expect_err("it cannot write");
        let said = format!("{error:#}");
        assert!(said.contains("Read-only file system"), "{folder}: {said}");
        assert!(
            said.contains(&*command.directory.join(folder).display().to_string()),
            "{folder}: {said}"
        );
        assert_well(&command);
    }
}

/// Files and folders that the node's user may not use are named, and with the permission all is there.
#[test]
fn a_missing_permission_is_named() {
    let play = prepared();
    let nobody = 65_534;
    for name in ["catalog", "journal", "regions", "releases"] {
        let command = play.copied("prepared", "forbidden");
        let path = command.directory.join(name);
        let mut limited = command.clone();
        if is_roots(&play.path("prepared")) {
            // Permissions mean nothing to root: the node is run by somebody else, whose the rest is.
            let own = Command::new("sh")
                .args([
                    "-c",
                    "chmod 755 \"$1\" && chown -R \"$3\" \"$2\" && chown root \"$2/$4\"",
                    "sh",
                ])
                .arg(play.folder.path())
                .arg(&command.directory)
                .arg(nobody.to_string())
                .arg(name)
                .status();
            assert!(own.is_ok_and(|status| status.success()));
            limited.arguments = vec![
                format!("--reuid={nobody}").into(),
                "--clear-groups".into(),
                command.program.clone().into_os_string(),
            ];
            limited.program = "setpriv".into();
            let runs = Command::new("setpriv")
                .args(&limited.arguments)
                .arg("--version")
                .output();
            if !runs.is_ok_and(|output| output.status.success()) {
                eprintln!(
                    "skipped: no other user may run {}",
                    command.program.display()
                );
                return;
            }
        }
        let mode = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode));
        let before = std::fs::metadata(&path)
            .expect("it is there")
            .permissions()
            .mode();
        mode(0o000).expect("forbidden");
        let error = NodeProcess::start(&limited)
            .map(drop)
            .expect_err("it may not");
        let said = format!("{error:#}");
        mode(before).expect("allowed");
        assert!(said.contains("Permission denied"), "{name}: {said}");
        assert!(said.contains(name), "{name}: {said}");
        let own = Command::new("chown")
            .arg("-R")
            .arg("0")
            .arg(&command.directory)
            .status();
        assert!(own.is_ok());
        assert_well(&command);
    }
}

/// Whether what this process makes is root's.
fn is_roots(made: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(made).expect("metadata").uid() == 0
}

/// The slot that a flip was writing is cut at many places: the node is in the release before, wholly. The whole slot
/// is the flip.
#[test]
fn a_torn_slot_of_the_catalog_is_the_release_before() {
    let play = prepared();
    let directory = play.path("torn");
    let command = play.copied("prepared", "torn");
    let before = std::fs::read(directory.join("catalog")).expect("the catalog");
    let node = NodeProcess::start(&command).expect("a node");
    control::apply(&directory, &release("1.1.0"), None, &quiet()).expect("upgraded");
    node.kill();
    drop(node);
    let after = std::fs::read(directory.join("catalog")).expect("the catalog");
    assert_eq!(
        (before.len(), after.len()),
        (2 * SLOT_BYTES, 2 * SLOT_BYTES)
    );
    assert!(
        catalog(&directory).previous.is_some(),
        "the flip was not the last"
    );
    // The newer slot is the one with the greater generation; it is what the flip has written.
    let torn = play.path("torn-state");
    copy(&directory, &torn);
    let newest = newest_slot(&torn, &after);
    for cut in [
        1,
        7,
        HEADER_BYTES - 1,
        HEADER_BYTES,
        HEADER_BYTES + 1,
        200,
        1000,
    ] {
        copy(&directory, &torn);
        let mut bytes = after.clone();
        let at = newest * SLOT_BYTES;
        bytes[at + cut..at + SLOT_BYTES].copy_from_slice(&before[at + cut..at + SLOT_BYTES]);
        std::fs::write(torn.join("catalog"), &bytes).expect("torn");
        let state = catalog(&torn);
        assert_eq!(state.current, Some(release("1.0.0")), "cut at {cut}");
        let mut command = command.clone();
        command.directory.clone_from(&torn);
        assert_well(&command);
    }
}

/// Which slot of a catalog holds, by damaging the other one.
fn newest_slot(directory: &Path, bytes: &[u8]) -> usize {
    let holds = |slot: usize| {
        let mut damaged = bytes.to_vec();
        damaged[slot * SLOT_BYTES + HEADER_BYTES] ^= 1;
        std::fs::write(directory.join("catalog"), damaged).expect("damaged");
        catalog(directory).current == Some(release("1.1.0"))
    };
    usize::from(holds(0))
}
