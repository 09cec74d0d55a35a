//! A configuration goes with its release: what runs on is told of a change, within the upgrade, and again when
//! the upgrade is undone or the node goes back.

mod support;

use std::path::Path;

use kv_resp::Value;
use neurath_cli::cli::Folders;
use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::processes::TemporaryFolder;
use neurath_cli::resp::Connection;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeProcess, free_port};
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::Kind;
use neurath_node::protocol::{Request, code};
use support::{Lines, assert_all_ended, assert_no_orphans, catalog, journal, quiet};

fn write(folder: &Path, path: &str, text: &str) {
    std::fs::write(folder.join(path), text).expect("the file is written");
}

fn release_file(version: &str, address: &str, config: &str) -> String {
    format!(
        "name = \"book\"\nversion = \"{version}\"\nnode = \"0.1.0\"\n[components]\n\
         notebook = {{ version = \"1.0.0\", config = {{ listen = \"{address}\"{config} }} }}\n\
         [confirm]\nwindow = \"600s\"\n"
    )
}

/// Releases 1.0.0 to 1.0.2 of one notebook; `edit` is given the project's folder and the address to listen at.
fn releases(edit: impl FnOnce(&Path, &str)) -> Stage {
    let folder = TemporaryFolder::new().expect("a folder");
    let address = format!("127.0.0.1:{}", free_port().expect("a port"));
    neurath_test_components::project(folder.path(), "notebook_1", "notebook_2", &address)
        .expect("manifests");
    edit(folder.path(), &address);
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let versions = ["1.0.0", "1.0.1", "1.0.2"];
    let stage = Stage::of(folder, &folders, "book", &versions, &quiet());
    stage.expect("it is built").run_by(neurath_suite::program())
}

/// They differ in its configuration only: no limit, one of 3, and one that it refuses.
fn book() -> Stage {
    releases(|folder, address| {
        let path = folder.join("manifests/notebook/1.0.0.toml");
        let text = std::fs::read_to_string(path).expect("the manifest");
        let schema = "config_schema = { listen = \"string\", limit = { type = \"integer\", optional = true } }\n";
        let text = text.replacen("instances = 1\n", schema, 1);
        write(folder, "manifests/notebook/1.0.0.toml", &text);
        for (version, config) in [("1.0.1", ", limit = 3"), ("1.0.2", ", limit = 13")] {
            let text = release_file(version, address, config);
            write(folder, &format!("releases/book/{version}.toml"), &text);
        }
    })
}

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

#[test]
fn what_runs_on_is_told_and_told_back() {
    let stage = book();
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add first"), "0");
    let before = catalog(node.directory()).regions;

    control::apply(node.directory(), &release("1.0.1"), None, &quiet()).expect("upgraded");
    assert_eq!(client.ask("get 1"), "changed ; new limit; removed");
    assert_eq!(client.ask("add third"), "2", "on the same connection");
    assert_eq!(client.ask("add fourth"), "error: the notebook is full");
    assert_eq!(catalog(node.directory()).regions, before, "the state stays");
    let told = journal(node.directory());
    let told = told.iter().any(
        |one| matches!(&one.kind, Kind::Step { name, .. } if name == "config_change notebook"),
    );
    assert!(told, "it is a step of the journal");

    control::rollback(node.directory(), false, &quiet()).expect("and back");
    assert_eq!(client.ask("get 3"), "changed ; new ; removed limit");
    assert_eq!(client.ask("add fifth"), "4", "there is no limit any more");

    // Also for who only finds it at a start.
    control::apply(node.directory(), &release("1.0.1"), None, &quiet()).expect("again");
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    let mut again = stage.command("1.0.0");
    again.directory = node.directory().to_owned();
    node.stop().expect("it stops");
    let node = NodeProcess::start(&again).expect("it starts again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add sixth"), "error: the notebook is full");
    assert_all_ended(&journal(node.directory()));
}

#[test]
fn what_a_component_refuses_is_undone() {
    let stage = book();
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add first"), "0");
    let refused = control::apply(node.directory(), &release("1.0.2"), None, &quiet());
    let refused = refused.expect_err("the notebook takes no such limit");
    assert_eq!(code_of(&refused), code::UPGRADE_FAILED, "{refused:#}");
    let said = format!("{refused:#}");
    assert!(
        said.contains("config_change of notebook 1.0.0 failed: thirteen is no limit"),
        "{said}"
    );
    // What it wrote then is dropped; it is told that the key is gone again.
    assert_eq!(client.ask("get 1"), "changed ; new ; removed limit");
    assert_eq!(client.ask("count"), "2");
    assert_eq!(catalog(node.directory()).current, Some(release("1.0.0")));
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
}

/// They differ in nothing, and in a setting of their own.
fn settings() -> Stage {
    releases(|folder, address| {
        for (version, more) in [
            ("1.0.0", ""),
            ("1.0.1", ""),
            ("1.0.2", "[supervision]\nintensity = 3\n"),
        ] {
            let text = release_file(version, address, "") + more;
            write(folder, &format!("releases/book/{version}.toml"), &text);
        }
    })
}

/// An upgrade, with the steps that are told of as it goes.
fn applied(node: &NodeProcess, version: &str) -> Vec<(u32, u32, String)> {
    let mut told = Vec::new();
    let request = Request::apply(release(version));
    let done = control::ask(node.directory(), &request, |step| {
        told.push((step.index, step.of, step.step))
    });
    done.expect("upgraded");
    told
}

#[test]
fn a_release_that_changes_nothing_is_refused_and_one_of_other_settings_is_not() {
    let stage = settings();
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add first"), "0");
    let records = journal(node.directory()).len();
    for refused in [
        control::plan(node.directory(), &release("1.0.1")).map(drop),
        control::apply(node.directory(), &release("1.0.1"), None, &quiet()).map(drop),
    ] {
        let refused = refused.expect_err("there is nothing to do");
        assert_eq!(code_of(&refused), code::INCONCLUSIVE, "{refused:#}");
        let said = format!("{refused:#}");
        assert!(
            said.contains("book-1.0.1 is the same as book-1.0.0"),
            "{said}"
        );
    }
    assert_eq!(journal(node.directory()).len(), records, "nothing was done");
    assert_eq!(catalog(node.directory()).current, Some(release("1.0.0")));

    for lose_writes in [false, true] {
        let told = applied(&node, "1.0.2");
        assert_eq!(told, [(0, 1, "point_of_no_return".to_owned())]);
        assert_eq!(catalog(node.directory()).current, Some(release("1.0.2")));
        assert_eq!(client.ask("count"), "1");
        control::rollback(node.directory(), lose_writes, &quiet()).expect("and back");
        assert_eq!(catalog(node.directory()).current, Some(release("1.0.0")));
        assert_eq!(client.ask("count"), "1", "on the same connection");
    }
    applied(&node, "1.0.2");
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    assert_no_orphans(node.directory());
    assert_all_ended(&journal(node.directory()));
}

#[test]
fn each_step_that_is_told_of_has_its_number() {
    let stage = book();
    let node = stage.start("1.0.0").expect("a node");
    let told = applied(&node, "1.0.1");
    let expected = [
        (0, 2, "point_of_no_return".to_owned()),
        (1, 2, "config_change notebook".to_owned()),
    ];
    assert_eq!(told, expected);
}

/// The demo: a release that only says how many keys there may be.
#[test]
fn the_store_takes_a_limit_while_it_serves() {
    let folder = TemporaryFolder::new().expect("a folder");
    let original = Folders::default();
    for (from, to) in [
        (&original.manifests, "manifests"),
        (&original.releases, "releases"),
    ] {
        support::copy(from, &folder.path().join(to));
    }
    let path = folder.path().join("releases/kv/1.0.0.toml");
    let text = std::fs::read_to_string(path).expect("the release");
    let address = format!("127.0.0.1:{}", free_port().expect("a port"));
    let text = text.replace("127.0.0.1:7379", &address);
    write(folder.path(), "releases/kv/1.0.0.toml", &text);
    let text = text
        .replace("version = \"1.0.0\"\nnode", "version = \"1.0.1\"\nnode")
        .replace(
            "store = { version = \"1.0.0\",",
            "store = { version = \"1.0.0\", config = { max_keys = 2 },",
        );
    assert!(
        text.contains("1.0.1") && text.contains("max_keys"),
        "{text}"
    );
    write(folder.path(), "releases/kv/1.0.1.toml", &text);
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let stage = Stage::of(folder, &folders, "kv", &["1.0.0", "1.0.1"], &quiet());
    let stage = stage.expect("it is built").run_by(neurath_suite::program());
    let node = stage.start("1.0.0").expect("a node");
    let mut client = Connection::open(node.address()).expect("a connection");
    let mut ask = |words: &[&str]| client.ask(words).expect("an answer");
    for key in ["a", "b", "c"] {
        assert!(ask(&["SET", key, "1"]).is_ok());
    }
    let limited = ReleaseId::new("kv", "1.0.1");
    control::apply(node.directory(), &limited, None, &quiet()).expect("upgraded");
    assert!(ask(&["SET", "a", "2"]).is_ok(), "a key that is there");
    let full = ask(&["MSET", "b", "2", "d", "2"]);
    assert!(full.to_string().contains("OOM"), "{full}");
    assert_eq!(ask(&["DEL", "b", "c"]), Value::Integer(2));
    assert!(ask(&["SET", "d", "1"]).is_ok(), "there is room again");
    assert!(ask(&["INCR", "e"]).to_string().contains("OOM"));
    control::rollback(node.directory(), false, &quiet()).expect("and back");
    assert_eq!(ask(&["INCR", "e"]), Value::Integer(1));
    assert_eq!(ask(&["GET", "a"]), Value::Bulk(b"2".to_vec()));
}

/// Whether somebody listens there.
fn listens(address: &str) -> bool {
    std::net::TcpStream::connect(address).is_ok()
}

#[test]
fn an_address_that_is_not_asked_for_any_more_is_closed() {
    let other = format!("127.0.0.1:{}", free_port().expect("a port"));
    let stage = support::book_edited("notebook_1", "notebook_2", |folder| {
        let file = folder.join("releases/book/1.1.0.toml");
        let text = std::fs::read_to_string(&file).expect("the release");
        let (start, rest) = text.split_once("listen = \"").expect("its address");
        let (_, end) = rest.split_once('"').expect("its end");
        std::fs::write(&file, format!("{start}listen = \"{other}\"{end}")).expect("written");
    });
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let directory = node.directory();
    stage.install(directory).expect("installed");
    let first = node.address().to_owned();
    let mut client = Lines::open(&first);
    assert_eq!(client.ask("add before"), "0");
    control::apply(directory, &release("1.1.0"), None, &quiet()).expect("upgraded");
    assert!(listens(&other) && !listens(&first));
    assert_eq!(client.ask("get 0"), "before", "a connection stays");
    let status = support::full_status(directory);
    assert_eq!(status.listen, std::slice::from_ref(&other));
    control::rollback(directory, false, &quiet()).expect("back");
    assert!(listens(&first) && !listens(&other));
    assert_eq!(client.ask("version"), "1.0.0");
    control::apply(directory, &release("1.1.0"), None, &quiet()).expect("upgraded again");
    control::confirm(directory, &quiet()).expect("confirmed");
    control::restart(directory, &quiet()).expect("the program is replaced");
    assert!(listens(&other) && !listens(&first));
    assert_eq!(client.ask("get 0"), "before");
    node.stop().expect("stopped");
}
