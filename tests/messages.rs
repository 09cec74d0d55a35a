//! What commands about a node write as JSON is what the committed schemas say: each kind of object, by real commands on
//! a real node.

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use support::schema::judge;
use support::{ask, neurath, stderr};

/// The kinds that are met here.
const KINDS: [&str; 27] = [
    "abort",
    "confirmed",
    "failed",
    "keys",
    "log",
    "metrics",
    "packed",
    "planned",
    "reboot",
    "record",
    "rehearsed",
    "release_checked",
    "releases",
    "remove",
    "restarted",
    "resume",
    "rollback",
    "set_aside",
    "started",
    "status",
    "stopped",
    "trust",
    "trusted",
    "unpack",
    "unpacked",
    "upgraded",
    "verified",
];

/// Holds objects against their schemas.
#[derive(Default)]
struct Judge {
    seen: BTreeSet<String>,
}

impl Judge {
    #[track_caller]
    fn take(&mut self, output: &Output, done: bool) {
        assert_eq!(output.status.success(), done, "{}", stderr(output));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(!text.is_empty(), "nothing was written: {}", stderr(output));
        for line in text.lines() {
            let value: Value = serde_json::from_str(line).expect(line);
            let kind = value["kind"].as_str().expect("a kind").to_owned();
            assert_eq!(kind == "failed", !done, "{line}");
            if !done {
                let code = output.status.code().map(i64::from);
                assert_eq!(value["code"].as_i64(), code, "{line}");
            }
            judge(&kind, &value);
            self.seen.insert(kind);
        }
    }
}

#[test]
fn what_commands_write_is_what_their_schemas_say() {
    let stage = neurath_suite::book("notebook_1", "notebook_2");
    let folder = tempfile::tempdir().expect("a folder");
    let directory = folder.path().join("node");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let built = stage.built().display().to_string();
    let mut judge = Judge::default();
    let about = |words: &[&str]| ask(&directory, &[words, &["--json"]].concat());
    let _ended = Ended(&directory);

    let start = ["node", "start", "--from", &built, "--release", "book-1.0.0"];
    judge.take(&about(&start), true);
    judge.take(&about(&["node", "status"]), true);
    judge.take(&about(&["node", "metrics"]), true);
    let pack = [
        "release",
        "pack",
        "book-1.1.0",
        "--unsigned",
        "--sequence",
        "1",
        "--from",
        &built,
        "--out",
    ];
    let package = path("package");
    let pack = [&pack[..], &[&package, "--json"]].concat();
    judge.take(&neurath(&pack), true);
    judge.take(&neurath(&["release", "verify", &package, "--json"]), true);
    judge.take(&about(&["release", "unpack", &package]), true);
    judge.take(&about(&["release", "unpack", &package, "--execute"]), true);
    judge.take(&about(&["release", "which"]), true);
    judge.take(&about(&["release", "check", "book-1.1.0"]), true);
    judge.take(&about(&["release", "check", "book-1.0.0"]), true);
    judge.take(&about(&["relup", "apply", "book-1.1.0"]), true);
    judge.take(&about(&["relup", "rehearse", "book-1.1.0"]), true);
    judge.take(&about(&["relup", "apply", "book-1.1.0", "--execute"]), true);
    judge.take(&about(&["node", "status"]), true);
    judge.take(&about(&["relup", "rollback"]), true);
    judge.take(&about(&["relup", "rollback", "--execute"]), true);
    judge.take(&about(&["relup", "apply", "book-1.1.0", "--execute"]), true);
    judge.take(&about(&["relup", "abort"]), true);
    judge.take(&about(&["relup", "resume"]), true);
    judge.take(&about(&["relup", "confirm"]), true);
    judge.take(&about(&["node", "restart"]), true);
    judge.take(&about(&["node", "reboot-old", "book-1.0.0"]), true);
    // Errors of several kinds: nothing of that name, not legal now, of no use.
    judge.take(&about(&["relup", "apply", "book-9.9.9"]), false);
    judge.take(&about(&["relup", "confirm"]), false);
    judge.take(
        &about(&["release", "remove", "book-1.1.0", "--execute"]),
        false,
    );
    judge.take(&about(&["release", "remove", "book-1.0.0"]), true);
    judge.take(
        &about(&["release", "remove", "book-1.0.0", "--execute"]),
        true,
    );
    judge.take(&about(&["relup", "log"]), true);
    let key = path("key");
    let keygen = ["release", "keygen", &key, "--no-password", "--json"];
    judge.take(&neurath(&keygen), true);
    let public = format!("{key}.pub");
    judge.take(&about(&["node", "trust", &public]), true);
    judge.take(&about(&["node", "trust", &public, "--execute"]), false);
    // With a signature on what runs it is taken.
    let signed = path("signed");
    let pack = [
        "release",
        "pack",
        "book-1.1.0",
        "--sequence",
        "2",
        "--key",
        &key,
    ];
    let pack = [&pack[..], &["--from", &built, "--out", &signed, "--json"]].concat();
    judge.take(&neurath(&pack), true);
    let verify = ["release", "verify", &signed, "--trust", &public, "--json"];
    judge.take(&neurath(&verify), true);
    judge.take(&about(&["release", "unpack", &signed, "--execute"]), true);
    judge.take(&about(&["node", "trust", &public, "--execute"]), true);
    judge.take(&about(&["node", "stop"]), true);
    judge.take(&about(&["release", "which"]), true);
    judge.take(&about(&["relup", "log", "--set-aside"]), true);
    let seen: Vec<&str> = judge.seen.iter().map(String::as_str).collect();
    assert_eq!(seen, KINDS);
}

/// Ends the node in a directory, whatever happens.
struct Ended<'a>(&'a Path);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        ask(self.0, &["node", "stop"]);
    }
}
