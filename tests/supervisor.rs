//! A handler that panics loses its message, and nothing else; one that panics all the time takes what depends on it
//! along, leaves a release that is not confirmed, and at last ends the node, with a word on why.

mod support;

use std::path::Path;

use neurath_cli::cli::Folders;
use neurath_cli::control;
use neurath_cli::processes::TemporaryFolder;
use neurath_cli::stage::Stage;
use neurath_cli::testing::{NodeProcess, free_port};
use neurath_node::catalog::ReleaseId;
use neurath_node::journal::{Kind, Verdict};
use neurath_node::protocol::{ComponentStatus, Status};
use support::{Lines, ended, full_status, journal, quiet, status_once, wait_until};

/// Restarts that are made within a period.
const INTENSITY: usize = 20;

#[test]
fn only_the_message_that_panics_is_lost() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let mut others: Vec<Lines> = (0..5).map(|_| Lines::open(node.address())).collect();
    for number in 0..20 {
        let client = &mut others[number % 5];
        assert_eq!(
            client.ask(&format!("add note {number}")),
            number.to_string()
        );
    }
    for round in 0..3 {
        let mut client = Lines::open(node.address());
        assert_eq!(client.ask("count"), "20");
        client.send(&format!("panic round {round}"));
        let answer = client.receive().expect("an answer, not a silence");
        assert!(answer.starts_with("-ERR the component failed"), "{answer}");
        // It is told from an answer: the connection is closed behind it.
        assert_eq!(client.receive(), None);
        for other in &mut others {
            assert_eq!(
                other.ask("count"),
                "20",
                "the note that was half added is not there"
            );
            assert_eq!(other.ask("get 20"), "error: there is no such note");
            assert_eq!(other.ask("get 7"), "note 7");
        }
    }
    // A message behind the one that panics, in the same bytes: not served, not half served.
    let mut client = Lines::open(node.address());
    client.send("add lost\npanic\nadd lost too");
    while client.receive().is_some() {}
    assert_eq!(
        others[0].ask("count"),
        "20",
        "the transaction of the whole message is undone"
    );
    // New connections are taken, writes go on, and it is all in the file.
    assert_eq!(Lines::open(node.address()).ask("add note 20"), "20");
    node.check().expect("the node lives");
    assert_eq!(component(node.directory(), "notebook").state, "running");
    node.kill();
    drop(node);
    let node = NodeProcess::start(&command).expect("the node starts again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("count"), "21");
    assert_eq!(client.ask("get 20"), "note 20");
}

#[test]
fn one_that_panics_all_the_time_ends_the_node() {
    let stage = support::book_edited("notebook_1", "notebook_2", |folder| {
        let path = folder.join("releases/book/1.0.0.toml");
        let text = std::fs::read_to_string(&path).expect("the release");
        // However long a slow machine takes for so many.
        std::fs::write(path, format!("{text}\n[supervision]\nperiod = \"10m\"\n"))
            .expect("the release is written");
    });
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add kept"), "0");
    // As many as are allowed, and one more.
    for _ in 0..INTENSITY {
        let mut one = Lines::open(node.address());
        one.send("panic");
        one.receive().expect("an answer");
    }
    assert_eq!(client.ask("get 0"), "kept", "so many restarts are borne");
    let mut last = Lines::open(node.address());
    last.send("panic for good");
    let how = format!("{}\n{}", ended(&node), node.log_end());
    for word in ["gave up", "notebook", "failed 21 times", "for good"] {
        assert!(how.contains(word), "{word}: {how}");
    }
    assert!(how.contains("exit status: 50"), "{how}");
    drop(node);
    // The state is as before.
    let node = NodeProcess::start(&command).expect("the node starts again");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("count"), "1");
    assert_eq!(client.ask("get 0"), "kept");
}

/// Sends what panics, on a connection of its own.
fn panics(address: &str, text: &str) {
    let mut one = Lines::open(address);
    one.send(&format!("panic {text}"));
    while one.receive().is_some() {}
}

/// A shelf that depends on a notebook, in a release with these lines; the address of the shelf.
fn shelf(start: &str, supervision: &str) -> (Stage, String) {
    let folder = TemporaryFolder::new().expect("a folder");
    let (book, shelf) = (free_port().expect("a port"), free_port().expect("a port"));
    let address = format!("127.0.0.1:{book}");
    neurath_test_components::project(folder.path(), "notebook_1", "notebook_2", &address)
        .expect("manifests");
    let read = |path: &str| std::fs::read_to_string(folder.path().join(path)).expect(path);
    let write = |path: &str, text: String| {
        let path = folder.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    };
    let manifest = read("manifests/notebook/1.0.0.toml")
        .replace("\"notebook\"", "\"shelf\"")
        .replace("notebook_1", "shelf")
        .replace("[region]", "[depends_on]\nnotebook = \"^1.0\"\n\n[region]");
    write("manifests/shelf/1.0.0.toml", manifest);
    let address = format!("127.0.0.1:{shelf}");
    let release = read("releases/book/1.0.0.toml");
    let component = format!(
        "[components]\nshelf = {{ version = \"1.0.0\", start = \"{start}\", config = {{ listen = \"{address}\" }} }}\n"
    );
    let release = release.replace("[components]\n", &component);
    write(
        "releases/book/1.0.0.toml",
        format!("{release}\n{supervision}\n"),
    );
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let stage = Stage::of(folder, &folders, "book", &["1.0.0"], &quiet());
    let stage = stage.expect("it is built").run_by(neurath_suite::program());
    (stage, address)
}

#[track_caller]
fn component(directory: &Path, name: &str) -> ComponentStatus {
    of(&full_status(directory), name).clone()
}

#[track_caller]
fn of<'a>(status: &'a Status, name: &str) -> &'a ComponentStatus {
    let mut all = status.components.iter();
    all.find(|one| one.component == name).expect("a component")
}

/// What the supervisor has recorded.
fn recorded(directory: &Path) -> String {
    let records = journal(directory);
    let texts = records.iter().filter_map(|record| match &record.kind {
        Kind::Ended { text, .. } if record.operation_id.starts_with("supervise-") => {
            Some(text.clone())
        }
        _ => None,
    });
    texts.collect::<Vec<_>>().join("\n")
}

#[test]
fn one_that_fails_too_often_takes_along_what_depends_on_it() {
    let limits = "[supervision]\nintensity = 2\nperiod = \"10m\"\nescalations = 1";
    let (stage, shelf) = shelf("permanent", limits);
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_owned();
    let book = component_address(&directory, &shelf);
    let mut on_shelf = Lines::open(&shelf);
    assert_eq!(on_shelf.ask("add kept"), "0");
    for number in 0..2 {
        panics(&book, &number.to_string());
    }
    let restarts = |status: &Status| {
        (
            of(status, "notebook").restarts,
            of(status, "shelf").restarts,
        )
    };
    status_once(&directory, "it alone starts again", |status| {
        restarts(status) == (2, 0)
    });
    panics(&book, "once more");
    let status = status_once(&directory, "both start again", |status| {
        restarts(status) == (3, 1)
    });
    let why = of(&status, "shelf").last_failure.as_deref();
    let said = "notebook, which it depends on, has failed too often";
    assert_eq!(why, Some(said));
    let why = of(&status, "notebook").last_failure.as_deref();
    let why = why.expect("a reason");
    assert!(why.contains("asked to: once more"), "{why}");
    // Its connection is the node's, and its state is where it was.
    assert_eq!(on_shelf.ask("get 0"), "kept");
    wait_until("the history tells", || {
        recorded(&directory).contains("notebook.0 failed")
    });
    let metrics = || {
        let metrics = support::ask(&directory, &["node", "metrics"]);
        String::from_utf8(metrics.stdout).expect("text")
    };
    for line in [
        "neurath_component_restarts_total{component=\"notebook\",instance=\"0\"} 3",
        "neurath_component_running{component=\"shelf\",instance=\"0\"} 1",
        "neurath_component_failures_total 3",
    ] {
        wait_until(line, || metrics().lines().any(|one| one == line));
    }
    for _ in 0..3 {
        panics(&book, "for good");
    }
    let how = ended(&node);
    for word in [
        "exit status: 50",
        "what depends on it (shelf) has not helped",
    ] {
        assert!(how.contains(word), "{word}: {how}");
    }
    // In order: who has not failed was told of the end, and the history says why it came.
    let last = journal(&directory);
    let last = last.iter().rev().find_map(|record| match &record.kind {
        Kind::Ended { verdict, text } => Some((*verdict, text.clone())),
        _ => None,
    });
    let (verdict, text) = last.expect("an end");
    assert_eq!(verdict, Verdict::OperatorNeeded);
    assert!(
        text.contains("notebook failed 3 times within 10m"),
        "{text}"
    );
    drop(node);
    let node = NodeProcess::start(&command).expect("the node starts again");
    assert_eq!(Lines::open(&shelf).ask("get 0"), "kept");
    drop(node);
}

/// Whoever asks it what has failed does not wait so long.
#[test]
fn a_failure_is_recorded_that_the_event_loop_tells_of_too_late() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = NodeProcess::start(&stage.command("1.0.0")).expect("a node");
    let mut other = Lines::open(node.address());
    panics(node.address(), "unheard");
    assert_eq!(other.ask("wait 1500"), "waited");
    wait_until("the history tells", || {
        recorded(node.directory()).contains("notebook.0 failed: it panicked: asked to: unheard")
    });
    node.stop().expect("an orderly stop");
}

/// The address of the notebook beside that of the shelf.
fn component_address(directory: &Path, shelf: &str) -> String {
    let listen = full_status(directory).listen;
    let mut others = listen.into_iter().filter(|one| one != shelf);
    others.next().expect("the notebook listens")
}

#[test]
fn a_temporary_component_stays_away_and_the_node_runs_on() {
    let (stage, shelf) = shelf("temporary", "");
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_owned();
    let book = component_address(&directory, &shelf);
    let mut other = Lines::open(&shelf);
    assert_eq!(other.ask("add kept"), "0");
    let mut one = Lines::open(&shelf);
    one.send("panic once");
    let answer = one.receive().expect("an answer");
    assert!(answer.contains("asked to: once"), "{answer}");
    assert_eq!(one.receive(), None);
    assert_eq!(other.receive(), None, "its connections are closed");
    wait_until("nobody listens there", || {
        std::net::TcpStream::connect(&shelf).is_err()
    });
    let status = status_once(&directory, "it has ended", |status| {
        of(status, "shelf").state == ComponentStatus::ENDED
    });
    let ended = of(&status, "shelf");
    assert_eq!(ended.restarts, 0);
    let why = ended.last_failure.as_deref();
    assert!(why.is_some_and(|why| why.contains("once")));
    let mut notebook = Lines::open(&book);
    assert_eq!(notebook.ask("add note"), "0");
    assert_eq!(component(&directory, "notebook").state, "running");
    node.stop().expect("an orderly stop");
    let node = NodeProcess::start(&command).expect("the node starts again");
    assert_eq!(component(&directory, "shelf").state, "running");
    assert_eq!(Lines::open(&shelf).ask("get 0"), "kept");
    drop(node);
}

#[test]
fn a_release_that_fails_too_often_before_it_is_confirmed_is_left() {
    let stage = support::book_edited("notebook_1", "notebook_2", |folder| {
        let path = folder.join("releases/book/1.1.0.toml");
        let text = std::fs::read_to_string(&path).expect("the release");
        std::fs::write(
            path,
            format!("{text}\n[supervision]\nintensity = 1\nperiod = \"10m\"\n"),
        )
        .expect("the release is written");
    });
    let command = stage.command("1.0.0");
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_owned();
    stage.install(&directory).expect("installed");
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask("add before"), "0");
    let to = ReleaseId::new("book", "1.1.0");
    control::apply(&directory, &to, None, &quiet()).expect("the upgrade");
    assert_eq!(client.ask("version"), "1.1.0");
    assert_eq!(client.ask("add since"), "1");
    panics(node.address(), "once");
    assert_eq!(client.ask("version"), "1.1.0");
    panics(node.address(), "twice");
    // The same process and the same connection, in the release before.
    assert_eq!(client.ask("version"), "1.0.0");
    assert_eq!(client.ask("count"), "2");
    assert_eq!(client.ask("get 1"), "since");
    node.check().expect("the node lives");
    wait_until("the node has cleaned up", || {
        let status = control::status(&directory).expect("a status");
        status.permanent == status.release && !status.unconfirmed
    });
    let back = journal(&directory);
    let back = back.iter().find(
        |one| matches!(&one.kind, Kind::Started { operation, .. } if operation == "rollback"),
    );
    let who = &back.expect("a way back").who;
    assert!(
        who.contains("the supervisor") && who.contains("twice"),
        "{who}"
    );
    // What was counted against the other release does not count against this one.
    for _ in 0..3 {
        panics(node.address(), "again");
    }
    assert_eq!(client.ask("version"), "1.0.0");
}
