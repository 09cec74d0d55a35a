//! The commands that make, review and check relups: what they write, their JSON, their exit codes.
//!
//! `--message-format json` is a contract: each object is held against its schema in `schemas/`, and against the one
//! that was written when the contract was made, in `fixtures/messages/`. A key that was there is never lost.

use neurath_node::release::{ComponentSources, ReleasePackage, Sources};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A copy of the demo's files.
struct Project(tempfile::TempDir);

impl Project {
    fn new() -> Self {
        let this = Self(tempfile::tempdir().expect("a folder"));
        for folder in ["manifests/gateway", "manifests/store", "releases/kv"] {
            fs::create_dir_all(this.path(folder)).expect("a folder");
            for entry in fs::read_dir(root().join(folder)).expect("the demo's files") {
                let entry = entry.expect("an entry");
                fs::copy(entry.path(), this.path(folder).join(entry.file_name())).expect("copied");
            }
        }
        this
    }

    fn path(&self, file: &str) -> PathBuf {
        self.0.path().join(file)
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).expect("a file");
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replace(from, to)).expect("written");
    }

    /// Runs `neurath relup …`: its exit code, and what it wrote to stdout and stderr.
    fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        self.command("relup", arguments)
    }

    fn command(&self, command: &str, arguments: &[&str]) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_neurath"))
            .arg(command)
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .expect("started");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        (
            output.status.code().expect("a code"),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// The same with `--json`: the exit code and the one object, which its schema takes.
    fn json(&self, arguments: &[&str]) -> (i32, Value) {
        let (code, out, _) = self.run(&[&["--message-format", "json"], arguments].concat());
        let value: Value = serde_json::from_str(out.trim()).unwrap_or_else(|_| panic!("{out}"));
        let kind = value["kind"].as_str().expect("a kind");
        let path = root().join(format!("crates/neurath-cli/schemas/{kind}.json"));
        let text = fs::read_to_string(path).expect("a schema");
        let schema = serde_json::from_str(&text).expect("JSON");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler
            .add_resource("it.json", schema)
            .expect("a resource");
        let index = compiler.compile("it.json", &mut schemas).expect("a schema");
        if let Err(error) = schemas.validate(&value, index) {
            panic!("{kind}: {error}\n{value:#}");
        }
        keeps_its_keys(kind, &value);
        (code, value)
    }
}

/// All keys of a value, by their place; elements of arrays count as one.
fn keys(value: &Value, at: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, inner) in map {
                let place = format!("{at}/{key}");
                keys(inner, &place, found);
                found.insert(place);
            }
        }
        Value::Array(all) => all
            .iter()
            .for_each(|inner| keys(inner, &format!("{at}/*"), found)),
        _ => {}
    }
}

/// The first object of a kind is kept for ever: what has its shape must have all of its keys.
fn keeps_its_keys(kind: &str, value: &Value) {
    let path = root().join(format!("crates/neurath-cli/fixtures/messages/{kind}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()));
    let fixture: Value = serde_json::from_str(&text).expect("JSON");
    let (mut old, mut new) = (BTreeSet::new(), BTreeSet::new());
    let top = |value: &Value| -> Value {
        let map = value.as_object().expect("an object").keys();
        map.map(|key| (key.clone(), Value::Null))
            .collect::<serde_json::Map<_, _>>()
            .into()
    };
    keys(&top(&fixture), "", &mut old);
    keys(&top(value), "", &mut new);
    for nested in ["plan", "consequences", "graph"] {
        if !value[nested].is_null() {
            keys(&fixture[nested], nested, &mut old);
            keys(&value[nested], nested, &mut new);
        }
    }
    // Steps and lists depend on the plan; what is around them does not.
    let depends = |key: &&String| key.contains("/*");
    let lost: Vec<_> = old.difference(&new).filter(|key| !depends(key)).collect();
    assert!(lost.is_empty(), "{kind} lost {lost:?}");
}

/// Before anything is compiled; and what a configuration says may be a secret.
#[test]
fn a_configuration_that_does_not_fit_is_refused_when_the_release_is_built() {
    let project = Project::new();
    let address = "listen = \"127.0.0.1:7379\"";
    project.edit("releases/kv/1.0.0.toml", address, "listen = 73791");
    let (code, _, said) = project.command("release", &["build", "kv", "1.0.0"]);
    assert_eq!(code, 20, "{said}");
    assert!(said.contains("P034") && said.contains("`listen`"), "{said}");
    assert!(said.contains("releases/kv/1.0.0.toml:6"), "{said}");
    assert!(
        !said.contains("73791") && !said.contains("compiling"),
        "{said}"
    );
}

#[test]
fn what_was_written_first_is_taken_by_the_schemas_of_today() {
    let folder = root().join("crates/neurath-cli/fixtures/messages");
    let mut kinds = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("the fixtures") {
        let path = entry.expect("an entry").path();
        let value: Value =
            serde_json::from_str(&fs::read_to_string(&path).expect("a file")).expect("JSON");
        let kind = value["kind"].as_str().expect("a kind").to_owned();
        let schema = root().join(format!("crates/neurath-cli/schemas/{kind}.json"));
        let schema =
            serde_json::from_str(&fs::read_to_string(schema).expect("a schema")).expect("JSON");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler
            .add_resource("it.json", schema)
            .expect("a resource");
        let index = compiler.compile("it.json", &mut schemas).expect("a schema");
        assert!(
            schemas.validate(&value, index).is_ok(),
            "{}",
            path.display()
        );
        kinds.insert(kind);
    }
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        ["checked", "failed", "graph", "plan", "relup"]
    );
}

#[test]
fn a_plan_is_shown_in_every_format() {
    let project = Project::new();
    let way = ["plan", "kv", "1.0.0", "1.1.0"];
    let (code, text, _) = project.run(&way);
    assert_eq!(code, 0);
    assert!(
        text.contains("What stops") && text.contains("by the script back to 1.0.0"),
        "{text}"
    );
    for (format, begins) in [
        ("text", "kv 1.0.0 -> 1.1.0 (up)"),
        ("json", "{\n"),
        ("mermaid", "---\ntitle:"),
        ("dot", "digraph plan {"),
        ("svg", "<svg "),
    ] {
        let (code, shown, _) = project.run(&[&way[..], &["--format", format]].concat());
        assert_eq!(code, 0);
        assert!(shown.starts_with(begins), "{shown}");
        let (code, value) = project.json(&[&way[..], &["--format", format]].concat());
        assert_eq!((code, &value["format"]), (0, &json!(format)));
        assert_eq!(
            value["rendering"].as_str().map(str::trim_end),
            Some(shown.trim_end())
        );
        assert_eq!(value["consequences"]["way_back"], "script");
        assert_eq!(value["consequences"]["stops"][0]["at_most_ms"], 10_000);
    }
}

#[test]
fn a_graph_is_shown_in_every_format() {
    let project = Project::new();
    for (format, begins) in [
        ("text", "kv 1.1.0, from 1.0.0"),
        ("json", "{\n"),
        ("mermaid", "---\ntitle:"),
        ("dot", "digraph components {"),
        ("svg", "<svg "),
    ] {
        let way = [
            "graph", "kv", "1.1.0", "--from", "1.0.0", "--format", format,
        ];
        let (code, shown, _) = project.run(&way);
        assert_eq!(code, 0);
        assert!(shown.starts_with(begins), "{shown}");
        let (_, value) = project.json(&way);
        assert_eq!(
            value["graph"]["components"].as_array().map(Vec::len),
            Some(2)
        );
        assert_eq!(value["graph"]["components"][0]["component"], "gateway");
    }
}

#[test]
fn a_relup_is_made_and_checked() {
    let project = Project::new();
    let (code, value) = project.json(&["generate", "kv", "1.1.0"]);
    assert_eq!(
        (code, &value["written"], &value["changed"]),
        (0, &json!(false), &json!(false))
    );
    fs::remove_file(project.path("releases/kv/1.1.0.relup.toml")).expect("removed");
    assert_eq!(project.json(&["check", "kv", "1.1.0"]).0, 2);
    let (code, value) = project.json(&["generate", "kv", "1.1.0", "--execute"]);
    assert_eq!(
        (code, &value["written"], &value["changed"]),
        (0, &json!(true), &json!(true))
    );
    let written = fs::read_to_string(project.path("releases/kv/1.1.0.relup.toml")).expect("a file");
    assert_eq!(value["text"], written);
    assert!(written.starts_with("# kv 1.1.0: the scripts"), "{written}");
    let (code, value) = project.json(&["check", "kv", "1.1.0"]);
    assert_eq!((code, &value["warnings"]), (0, &json!([])));

    project.edit(
        "releases/kv/1.1.0.relup.toml",
        "    { resume = [\"store\", \"gateway\"] },\n",
        "",
    );
    let (code, value) = project.json(&["check", "kv", "1.1.0"]);
    assert_eq!(code, 20);
    let codes: Vec<&str> = value["diagnostics"]
        .as_array()
        .expect("diagnostics")
        .iter()
        .filter_map(|one| one["code"].as_str())
        .collect();
    assert!(
        codes.contains(&"P019") && codes.contains(&"P021"),
        "{codes:?}"
    );
    // One that is written by hand is held to the same rules.
    project.edit(
        "releases/kv/1.1.0.relup.toml",
        "version = \"1.1.0\"\n\n",
        "version = \"1.1.0\"\nhandwritten = true\n\n",
    );
    assert_eq!(project.json(&["check", "kv", "1.1.0"]).0, 20);
    assert_eq!(project.json(&["generate", "kv", "1.1.0", "--execute"]).0, 2);
}

/// An older release may have no way, and must not be missed in silence.
#[test]
fn it_is_said_which_older_releases_a_relup_leaves_out() {
    let project = Project::new();
    // From 1.0.0 by way of 1.1.0, and 1.1.1 changes no state.
    let (code, value) = project.json(&["generate", "kv", "1.1.1"]);
    assert_eq!((code, &value["left_out"]), (0, &json!([])));
    project.edit("manifests/store/1.1.0.appup.toml", "~1.0", "~0.9");
    let (code, value) = project.json(&["generate", "kv", "1.1.1"]);
    assert_eq!((code, &value["left_out"]), (0, &json!(["1.0.0"])));
    let (code, _, said) = project.run(&["generate", "kv", "1.1.1"]);
    assert_eq!(code, 0, "{said}");
    let why = "generate kv 1.1.1 --base 1.0.0";
    assert!(
        said.contains("kv 1.0.0 is left out") && said.contains(why),
        "{said}"
    );
    let named = |base| project.json(&["generate", "kv", "1.1.1", "--base", base]);
    assert_eq!(named("1.0.0").0, 20);
    let (code, value) = named("1.1.0");
    assert_eq!((code, &value["left_out"]), (0, &json!([])));
}

#[test]
fn what_is_wrong_with_the_command_or_a_file_has_its_code() {
    let project = Project::new();
    assert_eq!(project.json(&["plan", "kv", "1.0.0", "9.9.9"]).0, 2);
    assert_eq!(project.json(&["graph", "kv", "9.9.9"]).0, 2);
    assert_eq!(project.json(&["generate", "kv", "1.0.0"]).0, 2);
    assert_eq!(project.run(&["plan", "kv", "1.0.0"]).0, 2);
    assert_eq!(
        project
            .run(&["plan", "kv", "1.0.0", "1.1.0", "--format", "png"])
            .0,
        2
    );
    assert_eq!(
        project
            .json(&["check", "kv", "1.1.0", "--released", "releases/kv"])
            .0,
        2
    );
    project.edit(
        "manifests/store/1.1.0.toml",
        "instances = 1",
        "instnaces = 1",
    );
    let (code, value) = project.json(&["plan", "kv", "1.0.0", "1.1.0"]);
    assert_eq!((code, &value["code"]), (20, &json!(20)));
    let found = &value["diagnostics"][0];
    assert_eq!(
        (&found["code"], &found["place"]["span"]["line"]),
        (&json!("M002"), &json!(5))
    );
}

#[test]
fn a_stale_plan_is_refused_with_what_moved() {
    let project = Project::new();
    assert_eq!(
        project
            .run(&["plan", "kv", "1.0.0", "1.1.0", "--out", "up.plan"])
            .0,
        0
    );
    let check = ["check", "kv", "1.1.0", "--plan", "up.plan"];
    assert_eq!(project.json(&check).0, 0);

    // One byte of one input.
    let file = "manifests/store/1.1.0.toml";
    let before = fs::read_to_string(project.path(file)).expect("a file");
    fs::write(project.path(file), format!("{before}\n")).expect("written");
    let (code, value) = project.json(&check);
    assert_eq!(code, 21);
    let hash = |text: &str| blake3::hash(text.as_bytes()).to_hex().to_string();
    let moved =
        json!([{ "file": file, "from": hash(&before), "to": hash(&format!("{before}\n")) }]);
    assert_eq!(
        (&value["stale"]["moved"], &value["stale"]["step"]),
        (&moved, &Value::Null)
    );
    let (_, _, said) = project.run(&check);
    assert!(
        said.contains(&format!("{file}: {} -> ", hash(&before))),
        "{said}"
    );
    fs::write(project.path(file), &before).expect("written");

    // A change that makes another step.
    let file = "manifests/store/1.1.0.appup.toml";
    project.edit(
        file,
        "change = { advanced = {} }",
        "change = { advanced = {} }, timeout = \"2s\"",
    );
    let (code, value) = project.json(&check);
    assert_eq!(
        (code, &value["stale"]["moved"][0]["file"]),
        (21, &json!(file))
    );
    let step = &value["stale"]["step"];
    assert!(
        step["number"].as_u64().is_some_and(|number| number > 1),
        "{step}"
    );
}

/// Whatever is done to a plan file by hand, it is not the one that was reviewed.
#[test]
fn an_edited_plan_is_refused() {
    let project = Project::new();
    let make = ["plan", "kv", "1.0.0", "1.1.0", "--out", "up.plan"];
    assert_eq!(project.run(&make).0, 0);
    let check = ["check", "kv", "1.1.0", "--plan", "up.plan"];
    let written = fs::read_to_string(project.path("up.plan")).expect("a plan");
    let edits: [(&str, String); 6] = [
        (
            "another kind of purge",
            written.replace("\"soft\"", "\"brutal\""),
        ),
        ("another version", written.replace("\"1.1.0\"", "\"1.1.9\"")),
        (
            "no step of this kind",
            written.replace("\"resume\"", "\"resum\""),
        ),
        (
            "a key that is gone",
            written.replace("\"routes\"", "\"ways\""),
        ),
        ("cut off", written[..written.len() / 2].to_owned()),
        ("something else", String::from("# not a plan")),
    ];
    for (what, edited) in edits {
        assert_ne!(edited, written, "{what}");
        fs::write(project.path("up.plan"), edited).expect("written");
        let (code, value) = project.json(&check);
        assert_eq!((code, &value["code"]), (21, &json!(21)), "{what}");
        assert!(
            value["message"]
                .as_str()
                .is_some_and(|text| text.contains("not a plan as it was made")),
            "{what}: {value}"
        );
    }
    fs::write(project.path("up.plan"), written).expect("written");
    assert_eq!(project.json(&check).0, 0);
}

/// Assembles the release of the project as it is, with something in the place of the libraries.
fn released(project: &Project, version: &str) {
    let source = |file: String| {
        let text = fs::read_to_string(project.path(&file)).expect("a file");
        (file, text)
    };
    let library = project.path("lib.so");
    fs::write(&library, "the code").expect("written");
    let component = |name: &str| {
        let appup = format!("manifests/{name}/{version}.appup.toml");
        ComponentSources {
            manifest: source(format!("manifests/{name}/{version}.toml")),
            appup: project.path(&appup).is_file().then(|| source(appup)),
            library: library.clone(),
        }
    };
    let relup = format!("releases/kv/{version}.relup.toml");
    let sources = Sources {
        release: source(format!("releases/kv/{version}.toml")),
        relup: project.path(&relup).is_file().then(|| source(relup)),
        components: vec![component("gateway"), component("store")],
        node: None,
    };
    ReleasePackage::assemble(&project.path("built"), &sources).expect("assembled");
}

#[test]
fn a_file_that_was_edited_after_its_release_is_found() {
    let project = Project::new();
    released(&project, "1.0.0");
    released(&project, "1.1.0");
    let check = ["check", "kv", "1.1.0", "--released", "built"];
    assert_eq!(project.json(&check).0, 0);

    // How it is written may change.
    project.edit("manifests/store/1.0.0.toml", "\n", "\r\n");
    project.edit(
        "manifests/store/1.0.0.toml",
        "# Keys and values.",
        "# Something else.",
    );
    project.edit(
        "releases/kv/1.0.0.toml",
        "window = \"60s\"",
        "# one minute\nwindow = '60s'",
    );
    assert_eq!(project.json(&check).0, 0);

    // What it says may not, in any of its files; all are named at once.
    project.edit("manifests/store/1.0.0.toml", "16GiB", "17GiB");
    project.edit(
        "manifests/store/1.1.0.appup.toml",
        "advanced = {}",
        "advanced = { n = 1 }",
    );
    project.edit("releases/kv/1.1.0.toml", "60s", "61s");
    let (code, value) = project.json(&check);
    assert_eq!((code, &value["code"]), (22, &json!(22)));
    let files: Vec<&str> = value["edited"]
        .as_array()
        .expect("files")
        .iter()
        .filter_map(|one| one["file"].as_str())
        .collect();
    assert_eq!(
        files,
        [
            "components/store-1.0.0.toml",
            "appups/store-1.1.0.appup.toml",
            "release.toml"
        ]
    );
    fs::remove_file(project.path("manifests/gateway/1.0.0.toml")).expect("removed");
    let (code, value) = project.json(&check);
    assert_eq!(code, 22);
    assert_eq!(
        (&value["edited"][0]["file"], &value["edited"][0]["now"]),
        (&json!("components/gateway-1.0.0.toml"), &Value::Null)
    );
}

/// A relup may get scripts for more bases, and lose none.
#[test]
fn a_relup_keeps_the_scripts_that_were_released() {
    let project = Project::new();
    released(&project, "1.1.0");
    let check = ["check", "kv", "1.1.0", "--released", "built"];
    let file = "releases/kv/1.1.0.relup.toml";
    let text = fs::read_to_string(project.path(file)).expect("a file");
    let more =
        format!("{text}\n[[up]]\nfrom = \"0.9.0\"\nscript = [{{ point_of_no_return = true }}]\n");
    fs::write(project.path(file), more).expect("written");
    assert_ne!(project.json(&check).0, 22);
    fs::write(
        project.path(file),
        text.replace("kind = \"soft\"", "kind = \"brutal\""),
    )
    .expect("written");
    assert_eq!(project.json(&check).0, 22);
}
