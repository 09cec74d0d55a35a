//! The committed schema of `node status --json` is made from the types, and the first status that was kept
//! is taken by the schema of today. A real node's status is held against it in `tests/status.rs` of the
//! project.

use std::path::{Path, PathBuf};

use neurath_node::protocol::{Status, Upgraded};
use serde_json::{Value, json};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The schema of the object: the status, with its kind. Keys are added, so others are let through.
fn fresh() -> Value {
    let mut schema = schemars::schema_for!(Status).to_value();
    schema["title"] = json!("neurath node status");
    schema["properties"]["kind"] = json!({ "const": "status" });
    let required = schema["required"].as_array_mut().expect("required keys");
    required.insert(0, json!("kind"));
    schema
}

#[test]
fn the_schema_is_fresh() {
    let path = root().join("schemas/status.json");
    let fresh = serde_json::to_string_pretty(&fresh()).expect("JSON") + "\n";
    if std::env::var_os("NEURATH_BLESS").is_some() {
        std::fs::write(&path, &fresh).expect("the schema is written");
        return;
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == fresh,
        "schemas/status.json is stale: NEURATH_BLESS=1 cargo test -p neurath-cli"
    );
}

#[test]
fn the_first_status_is_taken_and_read() {
    let path = root().join("fixtures/status-1.json");
    let text = std::fs::read_to_string(path).expect("the fixture");
    let first: Value = serde_json::from_str(&text).expect("JSON");
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler
        .add_resource("it.json", fresh())
        .expect("a resource");
    let index = compiler.compile("it.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(&first, index) {
        panic!("{error}");
    }
    let status: Status = serde_json::from_value(first).expect("a status");
    assert!(status.unconfirmed && !status.components.is_empty() && !status.next.is_empty());
    // And it is no schema that takes everything.
    assert!(
        schemas
            .validate(&json!({ "kind": "status" }), index)
            .is_err()
    );
    assert!(
        schemas
            .validate(&json!({ "kind": "other" }), index)
            .is_err()
    );
}

/// Whatever a node tells of itself and of an upgrade has to be on the page of the protocol.
#[test]
fn the_page_of_the_protocol_names_every_key() {
    let page = root().join("../../docs/control-protocol.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let upgraded = schemars::schema_for!(Upgraded).to_value();
    let status = fresh();
    for schema in [&status, &status["$defs"]["ComponentStatus"], &upgraded] {
        let keys = schema["properties"].as_object().expect("keys");
        for key in keys.keys().filter(|key| *key != "kind") {
            assert!(page.contains(&format!("\"{key}\"")), "{key}");
        }
    }
}
