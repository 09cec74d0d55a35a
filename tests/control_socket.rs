//! The control socket of a real node is its user's alone; and what is secret is in no log.

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use neurath_cli::control;
use neurath_cli::testing::NodeProcess;
use neurath_node::catalog::ReleaseId;
use support::{Lines, neurath, quiet};

fn mode(path: &Path) -> u32 {
    path.metadata().expect("its mode").permissions().mode() & 0o777
}

#[test]
fn the_socket_is_for_the_nodes_user_and_understands_its_protocol_alone() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let node = stage.start("1.0.0").expect("a node");
    let directory = node.directory().to_owned();
    let socket = directory.join("control.sock");
    assert_eq!(mode(&socket), 0o600);
    for folder in ["", "journal", "releases", "regions", "libraries"] {
        assert_eq!(mode(&directory.join(folder)), 0o700, "{folder}");
    }
    assert_eq!(mode(&directory.join("catalog")), 0o600);
    assert_eq!(mode(&directory.join("journal/00000001.jsonl")), 0o600);
    let frame = |json: &str| {
        let mut bytes = (json.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes
    };
    let hostile = [
        vec![0xff; 64],
        frame("not json"),
        frame(r#"{"version":9,"body":"status"}"#),
        frame(r#"{"version":1,"body":"format_the_disk"}"#),
        frame(r#"{"version":1,"body":{"unpack":{"package":"/x","allow_older":false,"more":1}}}"#),
        frame(&"[".repeat(100_000)),
    ];
    for bytes in hostile {
        let mut stream = UnixStream::connect(&socket).expect("a connection");
        stream.write_all(&bytes).expect("it is sent");
        let mut answer = Vec::new();
        // The end may be a reset: what was not read of the request is thrown away.
        let _ = stream.read_to_end(&mut answer);
        let answer = String::from_utf8_lossy(answer.get(4..).unwrap_or_default());
        assert!(answer.contains("\"code\":2"), "{answer}");
    }
    control::status(&directory).expect("the node answers as before");
    node.check().expect("the node lives");
}

/// The configuration of a component may hold what nobody else must know.
#[test]
fn secrets_are_in_no_log() {
    const SECRET: &str = "hunter2-in-the-configuration";
    let stage = support::book_edited("notebook_1", "notebook_2", |folder| {
        for version in ["1.0.0", "1.1.0"] {
            let path = folder.join(format!("releases/book/{version}.toml"));
            let text = std::fs::read_to_string(&path).expect("the release");
            let with = text.replace("listen = ", &format!("password = \"{SECRET}\", listen = "));
            assert_ne!(with, text);
            std::fs::write(&path, with).expect("the release is written");
        }
    });
    let mut command = stage.command("1.0.0");
    command
        .environment
        .push(("NEURATH_LOG".into(), "trace".into()));
    let node = NodeProcess::start(&command).expect("a node");
    let directory = node.directory().to_owned();
    stage.install(&directory).expect("installed");
    let note = "a message that is nobody's business";
    let mut client = Lines::open(node.address());
    assert_eq!(client.ask(&format!("add {note}")), "0");
    let to = ReleaseId::new("book", "1.1.0");
    control::apply(&directory, &to, None, &quiet()).expect("the upgrade");
    control::rollback(&directory, false, &quiet()).expect("the way back");
    control::apply(&directory, &ReleaseId::new("book", "9.9.9"), None, &quiet()).expect_err("none");
    let place = directory.display().to_string();
    let mut said = String::new();
    for words in [
        &["node", "status", "--json"][..],
        &["node", "metrics"],
        &["release", "which", "--json"],
        &["release", "check", "book-1.1.0", "--json"],
        &["relup", "log", "--json"],
        &["relup", "log", "--steps"],
    ] {
        let output = neurath(&[words, &["--dir", &place]].concat());
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        said.push_str(&String::from_utf8_lossy(&output.stdout));
        said.push_str(&String::from_utf8_lossy(&output.stderr));
    }
    node.stop().expect("an orderly stop");
    said.push_str(&std::fs::read_to_string(directory.join("node.log")).expect("the log"));
    for entry in std::fs::read_dir(directory.join("journal")).expect("the journal") {
        let path = entry.expect("an entry").path();
        said.push_str(&std::fs::read_to_string(path).expect("a file of the journal"));
    }
    assert!(said.contains("book-1.1.0") && said.len() > 5000, "{said}");
    for secret in [SECRET, note] {
        let at = said
            .find(secret)
            .map(|at| &said[at.saturating_sub(300)..at + 40]);
        assert_eq!(at, None, "{secret}");
    }
}
