//! A component whose authors wrote no `code_change` is upgraded by that of another library, up, back and down.

mod support;

use std::path::Path;

use neurath_cli::control;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use support::{Lines, assert_all_ended, assert_no_orphans, book_edited, journal, mapped, quiet};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

/// 1.1.0 of the notebook has no conversion; the release brings a library that has it.
fn stage() -> Stage {
    book_edited("notebook_1", "code_change_missing", |folder| {
        let write = |path: &str, text: &str| {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
            std::fs::write(path, text).expect("the file is written");
        };
        let edit = |path: &str, from: &str, to: &str| {
            let text = std::fs::read_to_string(folder.join(path)).expect(path);
            assert!(text.contains(from), "{path}: {text}");
            write(path, &text.replace(from, to));
        };
        write(
            "manifests/changes/1.0.0.toml",
            "name = \"changes\"\nversion = \"1.0.0\"\nlibrary = \"neurath-test-components/changes\"\n\
             [region]\ninitial_size = \"1MiB\"\nlimit = \"64MiB\"\ndurability = \"process\"\n",
        );
        edit(
            "manifests/notebook/1.1.0.appup.toml",
            "change = { advanced = {} } }",
            "change = { advanced = {} }, via = \"changes\" }",
        );
        edit(
            "releases/book/1.1.0.toml",
            "[components]\n",
            "[components]\nchanges = { version = \"1.0.0\", start = \"load\" }\n",
        );
    })
}

fn add(client: &mut Lines, numbers: std::ops::Range<usize>) {
    for number in numbers {
        assert_eq!(
            client.ask(&format!("add note {number}")),
            number.to_string()
        );
    }
}

#[track_caller]
fn assert_notes(client: &mut Lines, count: usize, version: &str) {
    assert_eq!(client.ask("version"), version);
    assert_eq!(client.ask("count"), count.to_string());
    for number in 0..count {
        assert_eq!(
            client.ask(&format!("get {number}")),
            format!("note {number}")
        );
    }
}

fn apply(directory: &Path, version: &str) {
    control::apply(directory, &release(version), None, &quiet()).expect(version);
}

#[test]
fn another_library_converts_the_state_up_back_and_down() {
    let stage = stage();
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory().to_owned();
    let mut client = Lines::open(node.address());
    add(&mut client, 0..50);
    apply(&directory, "1.1.0");
    assert_notes(&mut client, 50, "1.1.0");
    add(&mut client, 50..60);
    control::rollback(&directory, false, &quiet()).expect("the way back");
    assert_notes(&mut client, 60, "1.0.0");
    assert_eq!(mapped(&node), 1, "only the notebook is open");

    apply(&directory, "1.1.0");
    control::confirm(&directory, &quiet()).expect("confirmed");
    assert_notes(&mut client, 60, "1.1.0");
    assert_eq!(mapped(&node), 2);
    // The library is open after a restart, too, and knows the way down.
    node.stop().expect("it stops");
    let mut command = stage.command("1.0.0");
    command.directory = directory.clone();
    let node = NodeProcess::start(&command).expect("it starts again");
    let mut client = Lines::open(node.address());
    add(&mut client, 60..70);
    apply(&directory, "1.0.0");
    assert_notes(&mut client, 70, "1.0.0");
    control::confirm(&directory, &quiet()).expect("confirmed");
    assert_eq!(mapped(&node), 1);
    assert_no_orphans(&directory);
    assert_all_ended(&journal(&directory));
}
