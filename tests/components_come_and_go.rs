//! Components are added and removed by an upgrade and by the way back, commands are run in the
//! midst of it, and whatever fails leaves the old release serving.

mod support;

use std::net::{TcpListener, TcpStream};
use std::path::Path;

use neurath_cli::cli::Folders;
use neurath_cli::control;
use neurath_cli::exit::code_of;
use neurath_cli::processes::TemporaryFolder;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeProcess, free_port};
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::Kind;
use neurath_node::protocol::code;
use support::{
    Lines, assert_all_ended, assert_no_orphans, catalog, full_status, journal, mapped, quiet,
};

fn release(version: &str) -> ReleaseId {
    ReleaseId::new("book", version)
}

fn write(folder: &Path, path: &str, text: &str) {
    let path = folder.join(path);
    std::fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
    std::fs::write(path, text).expect("the file is written");
}

/// Addresses of the notebook and of the counter.
struct Addresses {
    notebook: String,
    counter: String,
}

/// Writes the files of a notebook and a counter; the lines of a release that name them.
fn files(folder: &Path, new: &str) -> (Addresses, String, String) {
    let address = || format!("127.0.0.1:{}", free_port().expect("a port"));
    let (notebook, counter) = (address(), address());
    neurath_test_components::project(folder, "notebook_1", new, &notebook).expect("manifests");
    write(
        folder,
        "manifests/counter/1.0.0.toml",
        "name = \"counter\"\nversion = \"1.0.0\"\nlibrary = \"neurath/counter_1\"\n\
         [region]\ninitial_size = \"1MiB\"\nlimit = \"64MiB\"\ndurability = \"process\"\n",
    );
    let note =
        format!("notebook = {{ version = \"1.0.0\", config = {{ listen = \"{notebook}\" }} }}\n");
    let count =
        format!("counter = {{ version = \"1.0.0\", config = {{ listen = \"{counter}\" }} }}\n");
    (Addresses { notebook, counter }, note, count)
}

fn built(folder: TemporaryFolder, versions: &[&str]) -> Stage {
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let stage = Stage::of(folder, &folders, "book", versions, &quiet());
    stage.expect("it is built").run_by(neurath_suite::program())
}

/// 1.0.0 has a notebook; `components` says what the releases 1.1.0 and 1.2.0 have, given the lines of both.
fn stage_of(components: impl Fn(&str, &str, &str) -> String) -> (Stage, Addresses) {
    let folder = TemporaryFolder::new().expect("a folder");
    let (addresses, note, count) = files(folder.path(), "notebook_2");
    for version in ["1.1.0", "1.2.0"] {
        let components = components(version, &note, &count);
        let text = format!(
            "name = \"book\"\nversion = \"{version}\"\nnode = \"0.1.0\"\n\
             [components]\n{components}[confirm]\nwindow = \"600s\"\n\
             [lints]\nD101 = {{ level = \"allow\", reason = \"the test removes it\" }}\n"
        );
        let path = format!("releases/book/{version}.toml");
        write(folder.path(), &path, &text);
    }
    (built(folder, &["1.0.0", "1.1.0", "1.2.0"]), addresses)
}

/// 1.0.0 has a notebook, 1.1.0 a counter beside it, 1.2.0 the counter alone.
fn stage() -> (Stage, Addresses) {
    stage_of(|version, note, count| match version {
        "1.1.0" => format!("{note}{count}"),
        _ => count.to_owned(),
    })
}

/// Both in both versions; 1.1.0 of the notebook is the example `new`.
fn stage_with(edit: impl FnOnce(&Path), new: &str) -> (Stage, Addresses) {
    let folder = TemporaryFolder::new().expect("a folder");
    let (addresses, _, count) = files(folder.path(), new);
    write(folder.path(), "counter.part", &count);
    edit(folder.path());
    (built(folder, &["1.0.0", "1.1.0"]), addresses)
}

#[track_caller]
fn assert_components(node: &NodeProcess, expected: &[&str]) {
    let status = full_status(node.directory());
    let names: Vec<&str> = status.components.iter().map(|c| &*c.component).collect();
    assert_eq!(names, expected);
    let state = catalog(node.directory());
    let mut regions: Vec<&str> = state.regions.iter().map(|r| &*r.component).collect();
    regions.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(regions, expected, "the regions in the catalog");
    assert_no_orphans(node.directory());
}

#[test]
fn components_come_and_go_with_their_state_and_their_sockets() {
    let (stage, at) = stage();
    let node = stage.start("1.0.0").expect("a node");
    let mut notes = Lines::open(&at.notebook);
    assert_eq!(notes.ask("add first"), "0");
    assert!(TcpStream::connect(&at.counter).is_err());

    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("the counter comes");
    assert_components(&node, &["notebook", "counter"]);
    let mut counts = Lines::open(&at.counter);
    assert_eq!(counts.ask("x"), "1");
    assert_eq!(counts.ask("x"), "2");
    assert_eq!(notes.ask("add second"), "1");

    control::rollback(node.directory(), false, &quiet()).expect("the counter goes");
    assert_components(&node, &["notebook"]);
    assert_eq!(counts.receive(), None, "its connections are closed");
    assert!(TcpStream::connect(&at.counter).is_err(), "and its listener");
    assert_eq!(notes.ask("count"), "2");

    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("it comes again");
    let mut counts = Lines::open(&at.counter);
    assert_eq!(counts.ask("x"), "1", "its state is a new one");
    control::confirm(node.directory(), &quiet()).expect("confirmed");

    control::apply(node.directory(), &release("1.2.0"), None, &quiet()).expect("the notebook goes");
    assert_components(&node, &["counter"]);
    assert_eq!(notes.receive(), None);
    assert_eq!(
        counts.ask("x"),
        "2",
        "who stays keeps connections and state"
    );

    control::rollback(node.directory(), false, &quiet()).expect("the notebook is back");
    assert_components(&node, &["counter", "notebook"]);
    let mut notes = Lines::open(&at.notebook);
    assert_eq!(notes.ask("get 1"), "second", "with the state it had");
    assert_eq!(counts.ask("x"), "3");

    // And a restart brings up what the catalog names.
    let mut again = stage.command("1.0.0");
    again.directory = node.directory().to_owned();
    control::confirm(node.directory(), &quiet()).expect_err("the way back confirms itself");
    node.stop().expect("it stops");
    let node = NodeProcess::start(&again).expect("it starts again");
    assert_eq!(Lines::open(&at.notebook).ask("count"), "2");
    assert_eq!(Lines::open(&at.counter).ask("x"), "4");
    assert_all_ended(&journal(node.directory()));
}

#[test]
fn a_component_that_cannot_start_leaves_the_old_release() {
    let (stage, at) = stage();
    let node = stage.start("1.0.0").expect("a node");
    let mut notes = Lines::open(&at.notebook);
    assert_eq!(notes.ask("add first"), "0");
    let taken = TcpListener::bind(&at.counter).expect("the counter's address is taken");
    let refused = control::apply(node.directory(), &release("1.1.0"), None, &quiet());
    let refused = refused.expect_err("the counter cannot listen");
    assert_eq!(code_of(&refused), code::UPGRADE_FAILED, "{refused:#}");
    assert_components(&node, &["notebook"]);
    assert_eq!(notes.ask("count"), "1");
    drop(taken);
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("now it can");
    assert_eq!(Lines::open(&at.counter).ask("x"), "1");
    assert_eq!(notes.ask("count"), "1");
}

/// The notebook, whose way up runs this command before or after the update.
fn with_command(before: bool, words: &str) -> Stage {
    support::book_edited("notebook_1", "notebook_2", |folder| {
        let path = folder.join("manifests/notebook/1.1.0.appup.toml");
        let text = std::fs::read_to_string(&path).expect("the appup");
        let update = "{ update = \"notebook\", change = { advanced = {} } }";
        let apply = format!("{{ apply = {{ command = {words} }} }}");
        let both = if before {
            format!("{apply}, {update}")
        } else {
            format!("{update}, {apply}")
        };
        let edited = text.replacen(update, &both, 1);
        assert_ne!(edited, text);
        std::fs::write(&path, edited).expect("the appup is written");
    })
}

#[test]
fn commands_are_run_and_their_failure_undoes_the_upgrade() {
    for before in [true, false] {
        let touch = r#"["sh", "-c", "touch ran"]"#;
        let stage = with_command(before, touch);
        let node = stage.start("1.0.0").expect("a node");
        control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("upgraded");
        assert!(
            node.directory().join("ran").exists(),
            "in the node's directory"
        );
        assert_eq!(Lines::open(node.address()).ask("version"), "1.1.0");

        let fails = r#"["sh", "-c", "echo no such table >&2; false"]"#;
        let stage = with_command(before, fails);
        let node = stage.start("1.0.0").expect("a node");
        let mut client = Lines::open(node.address());
        assert_eq!(client.ask("add note 0"), "0");
        let refused = control::apply(node.directory(), &release("1.1.0"), None, &quiet());
        let refused = refused.expect_err("its command fails");
        assert_eq!(code_of(&refused), code::UPGRADE_FAILED, "{refused:#}");
        assert!(
            format!("{refused:#}").contains("no such table"),
            "{refused:#}"
        );
        assert_eq!(client.ask("version"), "1.0.0");
        assert_eq!(client.ask("get 0"), "note 0");
        assert_eq!(catalog(node.directory()).current, Some(release("1.0.0")));
        assert_no_orphans(node.directory());
        assert_all_ended(&journal(node.directory()));
    }
}

/// A library that is only opened comes, is there after a restart, and goes; so does that of what ran.
#[test]
fn libraries_come_and_go_with_their_components() {
    let (stage, at) = stage_of(|version, note, count| match version {
        "1.1.0" => format!(
            "{note}{}",
            count.replace("{ version", "{ start = \"load\", version")
        ),
        _ => note.to_owned(),
    });
    let node = stage.start("1.0.0").expect("a node");
    assert_eq!(mapped(&node), 1);
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("it is opened");
    assert_eq!(mapped(&node), 2);
    assert_components(&node, &["notebook"]);
    assert!(TcpStream::connect(&at.counter).is_err(), "it runs nothing");
    control::rollback(node.directory(), false, &quiet()).expect("and back");
    assert_eq!(mapped(&node), 1);
    control::apply(node.directory(), &release("1.1.0"), None, &quiet()).expect("again");
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    let mut again = stage.command("1.0.0");
    again.directory = node.directory().to_owned();
    node.stop().expect("it stops");
    let node = NodeProcess::start(&again).expect("it starts again");
    assert_eq!(mapped(&node), 2, "it is open after a restart");
    control::apply(node.directory(), &release("1.2.0"), None, &quiet()).expect("it goes");
    assert_eq!(mapped(&node), 2, "it is kept for the way back");
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    assert_eq!(mapped(&node), 1);
    assert_eq!(
        control::status(node.directory())
            .expect("a status")
            .retained,
        []
    );
}

/// What ran and was removed is unloaded, too, when nothing leads back to it.
#[test]
fn the_code_of_what_was_removed_is_unloaded() {
    let (stage, at) = stage();
    let node = stage.start("1.1.0").expect("a node");
    assert_eq!(mapped(&node), 2);
    control::apply(node.directory(), &release("1.2.0"), None, &quiet()).expect("the notebook goes");
    assert_eq!(mapped(&node), 2);
    control::confirm(node.directory(), &quiet()).expect("confirmed");
    assert_eq!(mapped(&node), 1);
    assert_eq!(Lines::open(&at.counter).ask("x"), "1");
}

/// One that only starts again keeps its state, and its library is not taken for an old one if that fails.
#[test]
fn a_restart_keeps_the_state_up_and_down() {
    for fails in [false, true] {
        let (stage, at) = stage_with(
            |folder| {
                let path = folder.join("manifests/notebook/1.1.0.appup.toml");
                let text = std::fs::read_to_string(&path).expect("the appup");
                let update = "{ update = \"notebook\", change = { advanced = {} } }";
                let more = format!("{update}, {{ restart_component = \"counter\" }}");
                std::fs::write(path, text.replace(update, &more)).expect("it is written");
                for version in ["1.0.0", "1.1.0"] {
                    let path = folder.join(format!("releases/book/{version}.toml"));
                    let text = std::fs::read_to_string(&path).expect("the release");
                    let counter = folder.join("counter.part");
                    let counter = std::fs::read_to_string(counter).expect("the counter's line");
                    let both = text.replace("[components]\n", &format!("[components]\n{counter}"));
                    std::fs::write(path, both).expect("it is written");
                }
            },
            if fails { "init_errors" } else { "notebook_2" },
        );
        let node = stage.start("1.0.0").expect("a node");
        let mut counts = Lines::open(&at.counter);
        assert_eq!(counts.ask("x"), "1");
        let applied = control::apply(node.directory(), &release("1.1.0"), None, &quiet());
        assert_eq!(applied.is_err(), fails, "{applied:?}");
        assert_eq!(counts.ask("x"), "2", "on the same connection");
        let status = control::status(node.directory()).expect("a status");
        assert_eq!(status.retained, [], "nothing is taken for old");
        if !fails {
            control::rollback(node.directory(), false, &quiet()).expect("and back");
            assert_eq!(counts.ask("x"), "3");
            let records = journal(node.directory());
            let steps = |step: &str| {
                let is = |kind: &Kind| matches!(kind, Kind::Step { name, .. } if name == step);
                records.iter().filter(|one| is(&one.kind)).count()
            };
            assert_eq!((steps("stop counter"), steps("start counter")), (2, 2));
        }
        assert_eq!(mapped(&node), 2);
        assert_all_ended(&journal(node.directory()));
    }
}
