//! Objects that commands write, held against their committed schemas.

use serde_json::Value;

/// Fails unless an object of this kind is as its schema says, and has no key that the schema does not know.
#[track_caller]
pub fn judge(kind: &str, value: &Value) {
    let path = format!("crates/neurath-cli/schemas/{kind}.json");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let schema: Value = serde_json::from_str(&text).expect("JSON");
    // No key that the schema does not know: each is to be in the contract.
    let known = schema["properties"].as_object().expect("keys");
    for key in value.as_object().expect("an object").keys() {
        assert!(known.contains_key(key), "`{key}` is not in {path}");
    }
    let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
    compiler
        .add_resource("it.json", schema)
        .expect("a resource");
    let index = compiler.compile("it.json", &mut schemas).expect("a schema");
    if let Err(error) = schemas.validate(value, index) {
        panic!("{error}\n{value:#}");
    }
    // And it is no schema that takes everything.
    let mut other = value.clone();
    other["kind"] = "another".into();
    assert!(schemas.validate(&other, index).is_err(), "{path}");
}
