//! A state of durability `process` that was open when the machine went down may hold its last changes in any
//! mixture. The node does not serve it, and says each command that leads on; each of them does. A region whose
//! superblock has the id of another boot stands for a machine that went down.

mod support;

use std::path::{Path, PathBuf};

use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::journal::{Kind, Verdict};
use neurath_pmem::region::format::{Header, PAGE, SUPERBLOCK_AT, Superblock};
use support::play::Play;
use support::{Lines, assert_all_ended, catalog, journal, neurath, stderr};

/// A node with two notes, whose machine went down.
fn lost() -> Play {
    let play = Play {
        stage: neurath_suite::book("notebook_1", "notebook_2"),
        folder: tempfile::tempdir().expect("a folder"),
    };
    let node = NodeProcess::start(&play.command("lost")).expect("a node");
    let mut lines = Lines::open(node.address());
    assert_eq!(lines.ask("add one"), "0");
    assert_eq!(lines.ask("add two"), "1");
    let snapshot = play.path("snapshot").display().to_string();
    support::ok(
        node.directory(),
        &["state", "snapshot", "notebook", &snapshot],
    );
    assert_eq!(lines.ask("add three"), "2");
    node.kill();
    drop(node);
    let region = region(&play.path("lost"));
    let mut bytes = std::fs::read(&region).expect("a region");
    let header = Header::parse(&bytes).expect("a header");
    for at in SUPERBLOCK_AT {
        let slot = &mut bytes[at as usize..(at + PAGE) as usize];
        let mut superblock = Superblock::parse(slot, &header).expect("a superblock");
        superblock.boot_id = [7; 16];
        let encoded = superblock.encode(&header);
        slot[..encoded.len()].copy_from_slice(&encoded);
    }
    std::fs::write(region, bytes).expect("written");
    play
}

/// The file of the only region.
fn region(directory: &Path) -> PathBuf {
    let state = catalog(directory);
    let [entry] = state.regions.as_slice() else {
        panic!("one region: {state:?}");
    };
    directory.join("regions").join(&entry.file)
}

fn files(directory: &Path) -> Vec<String> {
    let files = std::fs::read_dir(directory.join("regions")).expect("a folder");
    let name = |file: std::io::Result<std::fs::DirEntry>| {
        let name = file.expect("a file").file_name();
        name.to_string_lossy().into_owned()
    };
    let mut files: Vec<String> = files.map(name).collect();
    files.sort();
    files
}

fn flag(flag: &str, component: &str) -> Vec<std::ffi::OsString> {
    vec![flag.into(), component.into()]
}

#[track_caller]
fn refused(command: &NodeCommand) -> String {
    let error = NodeProcess::start(command).expect_err("it must not start");
    format!("{error:#}")
}

/// How the last operation of this name ended.
fn ended(directory: &Path, operation: &str) -> Option<(Verdict, String)> {
    let records = journal(directory);
    let of = |id: &str| id.starts_with(&format!("{operation}-"));
    records.iter().rev().find_map(|record| match &record.kind {
        Kind::Ended { verdict, text } if of(&record.operation_id) => Some((*verdict, text.clone())),
        _ => None,
    })
}

#[test]
fn a_state_that_was_lost_with_the_machine_is_served_only_by_name() {
    let play = lost();
    let mut command = play.copied("lost", "accepted");
    let directory = command.directory.clone();
    let before = std::fs::read(region(&directory)).expect("a region");
    let error = refused(&command);
    for word in [
        "the state of notebook was open with durability `process` when the machine went down",
        &format!(
            "neurath node start --dir {} --accept-power-loss notebook",
            directory.display()
        ),
        &format!(
            "neurath state restore SNAPSHOT {} --execute",
            region(&directory).display()
        ),
        &format!(
            "neurath node start --dir {} --reset-state notebook",
            directory.display()
        ),
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert_eq!(std::fs::read(region(&directory)).expect("a region"), before);

    // A name that has no state is not passed over in silence.
    command.more = flag("--accept-power-loss", "notebok");
    let error = refused(&command);
    assert!(error.contains("notebok has no state here"), "{error}");

    command.more = flag("--accept-power-loss", "notebook");
    let node = NodeProcess::start(&command).expect("accepted");
    let mut lines = Lines::open(node.address());
    assert_eq!(lines.ask("count"), "3");
    assert_eq!(lines.ask("add four"), "3");
    node.kill();
    drop(node);
    let (verdict, text) = ended(&directory, "accept-power-loss").expect("recorded");
    assert_eq!(verdict, Verdict::Done);
    assert!(text.contains("notebook.0"), "{text}");

    // It was accepted once: from then on the region is as any other.
    command.more.clear();
    let node = NodeProcess::start(&command).expect("as any other");
    assert_eq!(Lines::open(node.address()).ask("count"), "4");
    node.stop().expect("stopped");
}

#[test]
fn a_damaged_state_is_not_served_and_an_empty_one_only_by_name() {
    let play = lost();
    let mut command = play.copied("lost", "damaged");
    let directory = command.directory.clone();
    let file = region(&directory);
    // The last page that anything was written to never came to the medium.
    let mut bytes = std::fs::read(&file).expect("a region");
    let mut pages = bytes.chunks_mut(PAGE as usize);
    let last = pages.rfind(|page| page.iter().any(|&byte| byte != 0));
    last.expect("a page").fill(0);
    std::fs::write(&file, &bytes).expect("written");

    command.more = flag("--accept-power-loss", "notebook");
    let error = refused(&command);
    for word in [
        "the state of notebook is lost",
        "neurath state restore SNAPSHOT",
        "--reset-state notebook",
    ] {
        assert!(error.contains(word), "{word}: {error}");
    }
    assert_eq!(std::fs::read(&file).expect("a region"), bytes);
    let (verdict, _) = ended(&directory, "accept-power-loss").expect("recorded");
    assert_eq!(verdict, Verdict::Failed);

    // Both named: what is sound is accepted, what is not begins anew.
    command.more.extend(flag("--reset-state", "notebook"));
    let node = NodeProcess::start(&command).expect("begun anew");
    let mut lines = Lines::open(node.address());
    assert_eq!(lines.ask("count"), "0");
    assert_eq!(lines.ask("add new"), "0");
    drop(lines);
    let (verdict, text) = ended(&directory, "reset-state").expect("recorded");
    assert_eq!(verdict, Verdict::Done);
    let kept = format!("{}.set-aside-1", file.display());
    assert!(text.contains(&kept), "{text}");
    assert_eq!(std::fs::read(&kept).expect("kept"), bytes);
    node.stop().expect("stopped");

    assert_all_ended(&journal(&directory));

    // A state that opens is not touched, also if the flag stays in a unit's file; what was kept stays.
    let node = NodeProcess::start(&command).expect("started");
    assert_eq!(Lines::open(node.address()).ask("count"), "1");
    node.stop().expect("stopped");
    let name = |path: &Path| {
        path.file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned()
    };
    let mut expected = vec![name(&region(&directory)), name(Path::new(&kept))];
    expected.sort();
    assert_eq!(files(&directory), expected);
}

#[test]
fn a_snapshot_takes_the_place_of_what_was_lost() {
    let play = lost();
    let command = play.copied("lost", "restored");
    let file = region(&command.directory).display().to_string();
    let snapshot = play.path("snapshot").display().to_string();
    let output = neurath(&["state", "restore", &snapshot, &file, "--execute"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let node = NodeProcess::start(&command).expect("started");
    assert_eq!(Lines::open(node.address()).ask("count"), "2");
    node.stop().expect("stopped");
    // What was there is kept, as was promised.
    let kept = format!("{file}.before-restore-1");
    assert!(Path::new(&kept).exists(), "{:?}", files(&command.directory));
}
