//! The committed schemas of what commands about a node write as JSON are made from the types. Real output is held
//! against them in `tests/messages.rs` of the project.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use neurath_node::catalog::ReleaseId;
use neurath_node::journal::Record;
use neurath_node::node::Rehearsal;
use neurath_node::package::Statement;
use neurath_node::protocol::{Copied, Planned, ResetState, Retained, Trust, Upgraded};
use neurath_node::release_handler::ReleaseInfo;
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// The object of one kind: its keys, each with its type, and whether it is always there.
struct Object {
    kind: &'static str,
    of: &'static str,
    generator: SchemaGenerator,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Object {
    fn new(kind: &'static str, of: &'static str) -> Self {
        let properties = Map::from_iter([("kind".to_owned(), json!({ "const": kind }))]);
        Self {
            kind,
            of,
            generator: SchemaSettings::draft2020_12().into_generator(),
            properties,
            required: vec!["kind"],
        }
    }

    fn key<T: JsonSchema>(mut self, name: &'static str, what: &str) -> Self {
        self.required.push(name);
        self.perhaps::<T>(name, what)
    }

    fn perhaps<T: JsonSchema>(mut self, name: &'static str, what: &str) -> Self {
        let mut schema = self.generator.subschema_for::<T>();
        if !what.is_empty() {
            schema.insert("description".into(), what.into());
        }
        self.properties.insert(name.into(), schema.to_value());
        self
    }

    fn schema(mut self) -> (&'static str, Value) {
        let mut schema = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": self.of,
            "type": "object",
            "properties": self.properties,
            "required": self.required,
        });
        let definitions = self.generator.take_definitions(true);
        if !definitions.is_empty() {
            schema["$defs"] = definitions.into();
        }
        (self.kind, schema)
    }
}

/// Every kind that a command about a node writes, but the status, plans and failures, which have files of their own.
fn fresh() -> Vec<(&'static str, Value)> {
    let done = "Whether it was done; false without --execute.";
    [
        Object::new("releases", "release which")
            .key::<Vec<ReleaseInfo>>("releases", "")
            .key::<Trust>("trust", ""),
        Object::new("release_checked", "release check")
            .key::<ReleaseInfo>("release", "")
            .key::<Option<Planned>>("planned", "The way there; null for the current release."),
        Object::new("unpacked", "release unpack, release set-unpacked")
            .key::<ReleaseInfo>("release", ""),
        Object::new("unpack", "release unpack, without --execute")
            .key::<ReleaseId>("release", "")
            .key::<bool>("done", done),
        Object::new("remove", "release remove")
            .key::<ReleaseId>("release", "")
            .key::<bool>("done", done)
            .perhaps::<bool>(
                "was_there",
                "With --execute: whether there was such a release.",
            )
            .perhaps::<Value>("status", "Without --execute: what it is to the node."),
        Object::new("planned", "relup apply, without --execute").key::<Planned>("planned", ""),
        Object::new("upgraded", "relup apply, rollback, resume and abort")
            .key::<Upgraded>("upgraded", ""),
        Object::new("confirmed", "relup confirm").key::<Confirmed>("confirmed", ""),
        Object::new("rollback", "relup rollback, without --execute")
            .key::<Option<ReleaseId>>("release", "The current release.")
            .key::<Option<ReleaseId>>("permanent", "Where it would go back to.")
            .key::<bool>("unconfirmed", "Whether there is anything to go back from.")
            .perhaps::<Vec<ResetState>>(
                "reset",
                "The states that it would throw away: each component must be named.",
            ),
        Object::new("record", "relup log, one for each record").key::<Record>("record", ""),
        Object::new("log", "relup log, at last")
            .key::<u64>("records", "How many there are.")
            .key::<Value>("operations", "")
            .key::<Option<ReleaseId>>("current", "Where the history leads.")
            .key::<Option<ReleaseId>>("permanent", "")
            .key::<bool>("unconfirmed", "")
            .key::<bool>("agrees", "Whether that is what the catalog says."),
        Object::new("metrics", "node metrics")
            .key::<String>("text", "In the text format of Prometheus."),
        Object::new("started", "node start")
            .key::<String>("release", "")
            .key::<u32>("pid", "")
            .key::<Vec<String>>("listen", ""),
        Object::new("stopped", "node stop"),
        Object::new("trust", "node trust and distrust, without --execute")
            .key::<String>("name", "")
            .key::<bool>("done", done),
        Object::new("trusted", "node trust and distrust")
            .key::<Vec<String>>("keys", "The names of the keys that are trusted now."),
        Object::new("restarted", "node restart")
            .key::<u64>("stop_us", "How long clients waited, in microseconds."),
        Object::new("reboot", "node reboot-old")
            .key::<ReleaseId>("release", "")
            .key::<bool>("done", done)
            .perhaps::<u32>("pid", "With --execute: the process that runs it."),
        Object::new("resume", "relup resume, without --execute")
            .key::<String>("would", "What would be done, for people."),
        Object::new("abort", "relup abort, without --execute")
            .key::<String>("would", "What would be done, for people."),
        Object::new("aborted", "relup abort, before the release was gone to")
            .key::<ReleaseId>("release", "The one that serves."),
        Object::new("rolled_back", "relup rollback of a node that does not run")
            .key::<ReleaseId>("release", "The one that the next start runs."),
        Object::new("set_aside", "relup log --set-aside")
            .key::<bool>("done", done)
            .perhaps::<String>("folder", "With --execute: where the history before is."),
        Object::new("rehearsed", "relup rehearse")
            .key::<Rehearsal>("rehearsal", "")
            .key::<Copied>("copied", "")
            .key::<RehearsalLimits>("limits", "What the rehearsal was allowed."),
        Object::new("keys", "release keygen")
            .key::<String>("secret", "The file of the secret key.")
            .key::<String>("public", "The file for nodes that are to trust it."),
        Object::new("packed", "release pack")
            .key::<String>("file", "")
            .key::<u64>("bytes", "Size of the package.")
            .key::<bool>("signed", "")
            .key::<Statement>("statement", ""),
        Object::new("verified", "release verify")
            .key::<ReleaseId>("release", "")
            .key::<String>("hash", "BLAKE3 hash of its manifest.")
            .key::<Option<Statement>>("statement", "What its package says; null of a folder.")
            .key::<bool>("signed", "Whether it has a signature.")
            .key::<Option<String>>("signer", "The key of --trust that has signed it."),
        Object::new("built", "release build, one for each release")
            .key::<String>("name", "")
            .key::<String>("version", "")
            .key::<String>("folder", "")
            .key::<String>("hash", "BLAKE3 hash of its manifest.")
            .key::<u64>("files", "")
            .key::<u64>("bytes", ""),
        Object::new("release", "release list, one for each release")
            .key::<String>("name", "")
            .key::<String>("version", "")
            .key::<Vec<String>>("components", "Name and version of each.")
            .key::<Vec<String>>("bases", "The versions that its relup is upgraded from.")
            .key::<bool>("built", "")
            .key::<Option<String>>("damaged", "What is wrong with what was built."),
        Object::new("state-remove-snapshot", "state remove-snapshot")
            .key::<String>("name", "")
            .key::<u64>("bytes", "Size of the snapshot.")
            .key::<bool>("done", done),
    ]
    .map(Object::schema)
    .into()
}

/// A release was made the permanent one.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of use here")]
struct Confirmed {
    /// The release.
    release: ReleaseId,
    /// Libraries that were kept for the way back, and are unloaded now.
    unloaded: Vec<String>,
    /// Those that are not, and why.
    retained: Vec<Retained>,
    /// Instances that the release does not have, and whose state is deleted now.
    deleted: Vec<String>,
}

/// What a rehearsal may take.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "only its schema is of use here")]
struct RehearsalLimits {
    /// Bytes.
    memory: u64,
    /// Seconds.
    seconds: u64,
}

/// What is measured or tried on the machine at hand: no contract.
const TRIALS: [&str; 6] = [
    "bench_plan",
    "bench_serve",
    "dax",
    "demo",
    "fuzz_replay",
    "soak",
];

#[test]
fn every_kind_has_a_schema_and_is_on_the_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("../../docs/messages.md")).expect("the page");
    let mut kinds = BTreeSet::new();
    let mut folders = vec![root.join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a source");
            let after = text.split("\"kind\": \"").skip(1);
            kinds.extend(after.filter_map(|rest| Some(rest.split_once('"')?.0.to_owned())));
        }
    }
    assert!(kinds.len() > 30, "{kinds:?}");
    for kind in kinds {
        let schema = root.join(format!("schemas/{kind}.json"));
        let known = match TRIALS.contains(&kind.as_str()) {
            true => continue,
            false => page.contains(&format!("| `{kind}` |")) || kind.starts_with("state-"),
        };
        assert!(schema.exists() && known, "{kind}");
    }
}

#[test]
fn the_schemas_are_fresh() {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/messages.md");
    let page = std::fs::read_to_string(page).expect("the page");
    for (kind, schema) in fresh() {
        let path = folder.join(format!("{kind}.json"));
        let fresh = serde_json::to_string_pretty(&schema).expect("JSON") + "\n";
        if std::env::var_os("NEURATH_BLESS").is_some() {
            std::fs::write(&path, &fresh).expect("the schema is written");
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == fresh,
            "schemas/{kind}.json is stale: NEURATH_BLESS=1 cargo test -p neurath-cli"
        );
        assert!(
            page.contains(&format!("| `{kind}` |")) || kind.starts_with("state-"),
            "docs/messages.md has no `{kind}`"
        );
    }
}
