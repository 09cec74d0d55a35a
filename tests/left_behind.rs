//! What a conversion of a whole state drops, and cannot be told by its type, goes while the node serves: after the
//! upgrade, after the way back, and after that of a node that was killed.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use neurath_pmem::inspect::{Level, Report, check_file};
use support::{Lines, catalog, quiet, wait_until};

const NOTES: usize = 3000;

fn add(client: &mut Lines, numbers: std::ops::Range<usize>) {
    for number in numbers {
        // Each has a block.
        let text = format!("add note {number} {}", "x".repeat(100 + number % 300));
        assert_eq!(client.ask(&text), number.to_string());
    }
}

/// Of the state as it is, by way of a copy.
fn checked(directory: &Path) -> Report {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("snapshot");
    control::snapshot(directory, "notebook", Some(0), &out).expect("a snapshot");
    check_file(&out, Level::L3).expect("a region")
}

#[test]
fn nothing_is_left_of_what_an_eager_conversion_drops() {
    let stage = support::book_edited("notebook_1", "notebook_forgets", |folder| {
        let path = folder.join("manifests/notebook/1.1.0.appup.toml");
        let text = std::fs::read_to_string(&path).expect("the appup");
        let lints = "[lints]\nD104 = { level = \"allow\", reason = \"the texts are to go\" }";
        std::fs::write(&path, format!("{text}\n{lints}\n")).expect("written");
    });
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_path_buf();
    let release = ReleaseId::new("book", "1.1.0");
    control::install(&directory, &release, stage.built()).expect("installed");
    let mut client = Lines::open(node.address());
    add(&mut client, 0..NOTES);

    control::apply(&directory, &release, None, &quiet()).expect("upgraded");
    add(&mut client, NOTES..NOTES + 20);
    wait_until("nothing is left", || checked(&directory).leaks.is_empty());
    // The last text is what the way back drops.
    control::rollback(&directory, false, &quiet()).expect("back");
    add(&mut client, NOTES + 20..NOTES + 520);
    wait_until("nothing is left", || checked(&directory).leaks.is_empty());

    // Killed before it has looked, and before the confirmation: it goes back, and looks then.
    control::apply(&directory, &release, None, &quiet()).expect("again");
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("version"), "1.0.0");
    wait_until("nothing is left", || checked(&directory).leaks.is_empty());
    add(&mut client, NOTES + 520..NOTES + 540);
    node.stop().expect("stopped");
    for entry in catalog(&directory).regions {
        let report = check_file(&directory.join("regions").join(entry.file), Level::L3);
        let report = report.expect("a region");
        assert!(report.is_clean(), "{report:?}");
    }
}
