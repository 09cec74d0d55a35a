//! P13: adjacent appups suffice. From 1.0 to 1.2 and back the state goes through the conversions of
//! 1.1 and of 1.2, in one upgrade; and nothing that was written is lost.

mod support;

use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::stage::Stage;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use support::{Lines, assert_all_ended, assert_no_orphans, catalog, journal, quiet};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

fn stage() -> Stage {
    support::book_of_three("notebook_2")
}

fn text(number: usize) -> String {
    format!("note {number} {}", "x".repeat(number % 90 + 1))
}

fn add(client: &mut Lines, numbers: std::ops::Range<usize>) {
    for number in numbers {
        let asked = format!("add {}", text(number));
        assert_eq!(client.ask(&asked), number.to_string());
    }
}

#[track_caller]
fn assert_notes(client: &mut Lines, count: usize, version: &str) {
    assert_eq!(client.ask("version"), version);
    assert_eq!(client.ask("count"), count.to_string());
    for number in 0..count {
        assert_eq!(client.ask(&format!("get {number}")), text(number));
    }
}

#[test]
fn two_versions_at_once_up_and_back_and_down() {
    let stage = stage();
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory().to_path_buf();
    for version in ["1.1.0", "1.2.0"] {
        control::install(&directory, &release(version), stage.built()).expect("installed");
    }
    let mut client = Lines::open(node.address());
    add(&mut client, 0..300);

    // The plan tells of the way.
    let planned = control::plan(&directory, &release("1.2.0")).expect("a plan");
    let route = &planned.plan["routes"][0]["versions"];
    assert_eq!(*route, serde_json::json!(["1.0.0", "1.1.0", "1.2.0"]));

    let done = control::apply(&directory, &release("1.2.0"), None, &quiet()).expect("upgraded");
    assert_eq!((done.from, done.to), (release("1.0.0"), release("1.2.0")));
    assert_notes(&mut client, 300, "1.2.0");
    add(&mut client, 300..400);

    // Not confirmed: back by the same way, with what was written since.
    let back = control::rollback(&directory, false, &quiet()).expect("back");
    assert_eq!((back.from, back.to), (release("1.2.0"), release("1.0.0")));
    assert_notes(&mut client, 400, "1.0.0");
    assert_no_orphans(&directory);
    add(&mut client, 400..450);

    // As it was before, without a conversion: what was written since is lost, as was asked for.
    control::apply(&directory, &release("1.2.0"), None, &quiet()).expect("upgraded again");
    assert_eq!(client.ask("add lost"), "450");
    let back = control::rollback(&directory, true, &quiet()).expect("back, with loss");
    assert_eq!((back.from, back.to), (release("1.2.0"), release("1.0.0")));
    assert_notes(&mut client, 450, "1.0.0");
    assert_no_orphans(&directory);

    // Up again, confirmed, and down by a plan of its own.
    control::apply(&directory, &release("1.2.0"), None, &quiet()).expect("upgraded again");
    assert_notes(&mut client, 450, "1.2.0");
    control::confirm(&directory, &quiet()).expect("confirmed");
    assert_no_orphans(&directory);
    control::apply(&directory, &release("1.0.0"), None, &quiet()).expect("down");
    assert_notes(&mut client, 450, "1.0.0");
    control::confirm(&directory, &quiet()).expect("confirmed");
    assert_no_orphans(&directory);
    assert_eq!(catalog(&directory).permanent, Some(release("1.0.0")));
    assert_all_ended(&journal(&directory));
    node.stop().expect("stopped");
}

#[test]
fn a_node_that_restarts_goes_back_through_the_version_between() {
    let stage = stage();
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_path_buf();
    for version in ["1.1.0", "1.2.0"] {
        control::install(&directory, &release(version), stage.built()).expect("installed");
    }
    let mut client = Lines::open(node.address());
    add(&mut client, 0..100);
    control::apply(&directory, &release("1.2.0"), None, &quiet()).expect("upgraded");
    add(&mut client, 100..150);
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("the node again");
    assert_notes(&mut Lines::open(node.address()), 150, "1.0.0");
    assert_no_orphans(&directory);
    node.stop().expect("stopped");
}

#[test]
fn without_the_release_between_it_is_refused_before_anything_happens() {
    let stage = stage();
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory().to_path_buf();
    control::install(&directory, &release("1.2.0"), stage.built()).expect("installed");
    let mut client = Lines::open(node.address());
    add(&mut client, 0..10);
    let before = journal(&directory).len();
    let refused = control::apply(&directory, &release("1.2.0"), None, &quiet());
    let error = refused.expect_err("1.1.0 is missing");
    assert_eq!(code_of(&error), 20, "{error:#}");
    assert!(format!("{error:#}").contains("P004"), "{error:#}");
    assert_eq!(journal(&directory).len(), before);
    assert_notes(&mut client, 10, "1.0.0");
    node.stop().expect("stopped");
}
