//! P5: what was reviewed is what is applied. A plan that is written to a file, reviewed and handed to
//! `relup apply` is carried out as it is, or refused with 21 and not begun: when a file that it was made from is another
//! one now, when a library is another one, and when the plan itself was edited.

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use neurath_cli::testing::NodeProcess;
use serde_json::Value;
use support::{Lines, catalog, journal, neurath};

const STALE: i32 = 21;

/// The notebook's project, a node that runs 1.0.0 of it, and 1.1.0 installed.
struct Desk {
    stage: neurath_cli::stage::Stage,
    node: NodeProcess,
}

impl Desk {
    fn new() -> Self {
        let stage = neurath_suite::book("notebook_1", "notebook_2");
        let node = stage.start("1.0.0").expect("a node");
        assert_eq!(Lines::open(node.address()).ask("add one"), "0");
        Self { stage, node }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.stage.built().parent().expect("a folder").join(file)
    }

    fn edit(&self, file: &str, from: &str, to: &str) -> String {
        let text = fs::read_to_string(self.path(file)).expect("a file");
        assert!(text.contains(from), "{file}: {text}");
        fs::write(self.path(file), text.replace(from, to)).expect("written");
        text
    }

    /// Reviews the way up, and writes it to a file.
    fn plan(&self, out: &str) -> Output {
        let folder = |name: &str| self.path(name).display().to_string();
        let (manifests, releases) = (folder("manifests"), folder("releases"));
        let (built, out) = (folder("built"), folder(out));
        let output = neurath(&[
            "relup",
            "plan",
            "book",
            "1.0.0",
            "1.1.0",
            "--manifests",
            &manifests,
            "--releases",
            &releases,
            "--built",
            &built,
            "--out",
            &out,
        ]);
        assert!(output.status.success(), "{}", said(&output));
        output
    }

    fn apply(&self, plan: &str, more: &[&str]) -> Output {
        let directory = self.node.directory().display().to_string();
        let plan = self.path(plan).display().to_string();
        let fixed = [
            "--json",
            "relup",
            "apply",
            "book-1.1.0",
            "--dir",
            &directory,
            "--plan",
            &plan,
        ];
        neurath(&[&fixed[..], more].concat())
    }

    /// Applying is refused as stale, and nothing has begun.
    #[track_caller]
    fn refused(&self, plan: &str, what: &str) -> Value {
        let directory = self.node.directory();
        let before = (
            catalog(directory),
            journal(directory).len(),
            regions(directory),
        );
        let output = self.apply(plan, &["--execute"]);
        assert_eq!(
            output.status.code(),
            Some(STALE),
            "{what}: {}",
            said(&output)
        );
        let after = (
            catalog(directory),
            journal(directory).len(),
            regions(directory),
        );
        assert_eq!(format!("{before:?}"), format!("{after:?}"), "{what}");
        assert_eq!(
            Lines::open(self.node.address()).ask("get 0"),
            "one",
            "{what}"
        );
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)))
    }
}

fn said(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

fn regions(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory.join("regions")).expect("regions");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}

#[test]
fn what_was_reviewed_is_applied_or_nothing_is() {
    let desk = Desk::new();
    let shown = desk.plan("good.plan");
    let text = String::from_utf8(shown.stdout).expect("text");
    assert!(text.contains("What bytes change"), "{text}");
    assert!(
        !text.contains("not known"),
        "the libraries were not read: {text}"
    );

    // A file of the project is not the one that the release was built from.
    let appup = "manifests/notebook/1.1.0.appup.toml";
    let before = desk.edit(
        appup,
        "advanced = {} }",
        "advanced = {} }, timeout = \"2s\"",
    );
    desk.plan("appup.plan");
    fs::write(desk.path(appup), &before).expect("written");
    let found = desk.refused("appup.plan", "another appup");
    let moved = &found["stale"]["moved"][0];
    assert!(
        moved["file"]
            .as_str()
            .is_some_and(|file| file.ends_with("1.1.0.appup.toml")),
        "{found}"
    );
    assert_eq!(
        moved["to"],
        blake3::hash(before.as_bytes()).to_hex().as_str()
    );
    assert!(
        found["stale"]["step"]["reviewed"]
            .as_str()
            .is_some_and(|step| step.contains("2s")),
        "{found}"
    );

    // One byte of a manifest, which changes no step.
    let manifest = "manifests/notebook/1.1.0.toml";
    let before = desk.edit(manifest, "name = ", "name =  ");
    desk.plan("manifest.plan");
    fs::write(desk.path(manifest), &before).expect("written");
    let found = desk.refused("manifest.plan", "another manifest");
    assert_eq!(found["stale"]["step"], Value::Null, "{found}");

    // The plan was edited, in a step and in what it says of the bytes.
    let good = fs::read_to_string(desk.path("good.plan")).expect("a plan");
    for (what, from, to) in [
        ("a step", "\"soft\"", "\"brutal\""),
        ("a size", "\"size\": 8", "\"size\": 9"),
    ] {
        assert!(good.contains(from), "{what}: {good}");
        fs::write(desk.path("edited.plan"), good.replace(from, to)).expect("written");
        let found = desk.refused("edited.plan", what);
        assert!(
            found["message"]
                .as_str()
                .is_some_and(|text| text.contains("altered")),
            "{found}"
        );
    }

    // The plan as it was reviewed: shown first, then carried out.
    let dry = desk.apply("good.plan", &[]);
    assert!(dry.status.success(), "{}", said(&dry));
    assert_eq!(Lines::open(desk.node.address()).ask("get 0"), "one");
    let done = desk.apply("good.plan", &["--execute"]);
    assert!(done.status.success(), "{}", said(&done));
    let state = catalog(desk.node.directory());
    assert_eq!(
        state.current.as_ref().map(ToString::to_string).as_deref(),
        Some("book-1.1.0")
    );
    desk.node.stop().expect("an orderly stop");
}
