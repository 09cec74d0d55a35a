//! What `node start` does with what it is told, and how it says that a node does not come up.

mod support;

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use neurath_cli::testing::{NodeCommand, NodeProcess};
use neurath_node::catalog::ReleaseId;
use support::{Lines, ask, book_edited, catalog, neurath, ok, stderr};

/// `node start` of this directory, in the background.
fn start(command: &NodeCommand, from: &Path) -> (Option<i32>, String) {
    let (dir, from) = (command.directory.display(), from.display());
    let line = format!("node start --dir {dir} --from {from} --release book-1.0.0");
    let output = neurath(&line.split(' ').collect::<Vec<_>>());
    (output.status.code(), stderr(&output))
}

/// As a unit file says it at every start, years after the node was made.
#[test]
fn the_release_that_is_named_is_for_a_new_node() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let mut command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = &command.directory;
    stage.install(directory).expect("installed");
    ok(directory, &["relup", "apply", "book-1.1.0", "--execute"]);
    ok(directory, &["relup", "confirm"]);
    ok(directory, &["release", "remove", "book-1.0.0", "--execute"]);
    node.stop().expect("an orderly stop");
    let removed = ReleaseId::new("book", "1.0.0");
    for from in [stage.built().to_owned(), "nowhere".into()] {
        command.from = from;
        let node = NodeProcess::start(&command).expect("it starts with what it has");
        assert_eq!(Lines::open(node.address()).ask("version"), "1.1.0");
        assert_eq!(catalog(directory).entry(&removed), None);
        assert!(!directory.join("releases/book-1.0.0").exists());
        node.stop().expect("an orderly stop");
    }
}

#[test]
fn a_start_that_fails_says_why_with_its_own_code() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    for from in ["nowhere", "tests"] {
        let (code, told) = start(&command, Path::new(from));
        assert_eq!(code, Some(50), "{told}");
        let wanted = format!("release book-1.0.0 is not in {from};");
        assert!(told.contains(&wanted), "{told}");
        assert_eq!(told.matches("is not in").count(), 1, "{told}");
    }
    let node = NodeProcess::start(&command).expect("a node");
    node.stop().expect("an orderly stop");
    // The history is edited.
    let journal = command.directory.join("journal/00000001.jsonl");
    let mut bytes = std::fs::read(&journal).expect("the journal");
    bytes[20] ^= 1;
    let file = std::fs::File::options().write(true).open(&journal);
    let written = file.and_then(|file| file.write_all_at(&bytes[20..21], 20));
    written.expect("it is written");
    let (code, told) = start(&command, stage.built());
    assert_eq!(code, Some(22), "{told}");
    assert!(!told.contains("is not in"), "an earlier start's: {told}");
}

#[test]
fn a_release_for_another_node_that_brings_none_is_not_started() {
    let stage = book_edited("notebook_1", "notebook_2", |folder| {
        for version in ["1.0.0", "1.1.0"] {
            let path = folder.join(format!("releases/book/{version}.toml"));
            let text = std::fs::read_to_string(&path).expect("the release");
            let other = text.replace("node = \"0.1.0\"", "node = \"9.0.0\"");
            assert_ne!(other, text);
            std::fs::write(path, other).expect("written");
        }
    });
    let command = stage.command("1.0.0");
    let (code, told) = start(&command, stage.built());
    assert_eq!(code, Some(20), "{told}");
    assert!(
        told.contains("wants node 9.0.0, and this one is 0.1.0"),
        "{told}"
    );
    assert!(told.contains("`node_program`"), "{told}");
    assert_eq!(catalog(&command.directory).current, None);
}

/// Refused before anything stops, with the code of what is wrong with it.
#[test]
fn a_reboot_into_a_release_that_is_not_trusted_any_more() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory();
    ok(directory, &["relup", "apply", "book-1.1.0", "--execute"]);
    ok(directory, &["relup", "confirm"]);
    let keys = directory.join("trusted-keys");
    std::fs::create_dir_all(&keys).expect("a folder");
    std::fs::write(keys.join("bad.pub"), "garbage").expect("written");
    let asked = ask(
        directory,
        &["node", "reboot-old", "book-1.0.0", "--execute"],
    );
    let told = stderr(&asked);
    assert_eq!(asked.status.code(), Some(23), "{told}");
    assert!(told.contains("cannot be rebooted into"), "{told}");
    node.check().expect("the node lives");
}
