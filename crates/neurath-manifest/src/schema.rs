//! JSON Schemas of the files, made from the key tables that the reader uses.

use crate::keys::{
    APPLY_COMMAND, APPLY_HOOK, APPUP, CHECKS, COMPONENT, File, Key, Kind, RELEASE, RELUP, Shape,
    shapes,
};
use serde_json::{Map, Value, json};

use crate::reader::ENTRY_LIMIT;
use crate::scalar::{REQUIREMENT_LIMIT, VERSION_LIMIT};

/// The parts of a semantic version.
const NUMBER: &str = "(0|[1-9][0-9]{0,19})";
const PRE: &str = "(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?";
const BUILD: &str = "(\\+[0-9A-Za-z-]+(\\.[0-9A-Za-z-]+)*)?";

fn version() -> String {
    format!("^{NUMBER}\\.{NUMBER}\\.{NUMBER}{PRE}{BUILD}$")
}

fn requirement() -> String {
    let part = format!("({NUMBER}|[*xX])");
    let full = format!("{NUMBER}\\.{NUMBER}\\.{NUMBER}{PRE}{BUILD}");
    let one = format!(" *((=|>|>=|<|<=|~|\\^)? *)({full}|{NUMBER}(\\.{part}){{0,2}}) *");
    format!("^( *[*xX] *|{one}(,{one}){{0,31}})$")
}

/// The schema of every kind of file: its name and its text, which ends with a newline.
pub fn all() -> Vec<(&'static str, String)> {
    [
        ("component", COMPONENT),
        ("appup", APPUP),
        ("release", RELEASE),
        ("relup", RELUP),
    ]
    .into_iter()
    .map(|(name, file)| (name, document(name, file)))
    .collect()
}

fn document(name: &str, file: File) -> String {
    let mut schema = Map::new();
    schema.insert(
        "$schema".into(),
        json!("https://json-schema.org/draft/2020-12/schema"),
    );
    schema.insert("title".into(), json!(format!("Neurath {name}")));
    schema.extend(table(file.keys));
    let mut text = serde_json::to_string_pretty(&Value::Object(schema)).unwrap_or_default();
    text.push('\n');
    text
}

fn table(keys: &[Key]) -> Map<String, Value> {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = kind(&key.kind);
        schema.insert("description".into(), json!(key.doc));
        properties.insert(key.name.into(), Value::Object(schema));
    }
    let required: Vec<&str> = keys
        .iter()
        .filter(|key| key.required)
        .map(|key| key.name)
        .collect();
    object(
        json!({ "type": "object", "properties": properties, "required": required, "additionalProperties": false }),
    )
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn kind(kind_: &Kind) -> Map<String, Value> {
    object(match kind_ {
        Kind::Text => json!({ "type": "string" }),
        Kind::Reason => json!({ "type": "string", "pattern": "\\S" }),
        Kind::Library => json!({
            "type": "string",
            "pattern": "^[a-z][a-z0-9_-]{0,63}(/[a-z][a-z0-9_-]{0,63})?$"
        }),
        Kind::Name => json!({ "type": "string", "pattern": "^[a-z][a-z0-9_-]{0,63}$" }),
        Kind::Version => {
            json!({ "type": "string", "maxLength": VERSION_LIMIT, "pattern": version() })
        }
        Kind::Requirement => {
            json!({ "type": "string", "maxLength": REQUIREMENT_LIMIT, "pattern": requirement() })
        }
        Kind::Duration => json!({ "type": "string", "pattern": "^[0-9]{1,20} *(ms|s|m|h)$" }),
        Kind::Size => json!({ "anyOf": [
            { "type": "string", "pattern": "^[0-9]{1,20} *(B|KiB|MiB|GiB|TiB)$" },
            { "type": "integer", "minimum": 0, "maximum": 1_u64 << 47 },
        ] }),
        Kind::Integer { min, max } => json!({ "type": "integer", "minimum": min, "maximum": max }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::True => json!({ "const": true }),
        Kind::OneOf(allowed) => json!({ "enum": allowed }),
        Kind::Free => json!({ "type": "object" }),
        Kind::List { of, empty } => json!({
            "type": "array",
            "items": kind(of),
            "minItems": usize::from(!*empty),
            "maxItems": ENTRY_LIMIT,
        }),
        Kind::Names { empty } => json!({
            "type": "array",
            "items": kind(&Kind::Name),
            "minItems": usize::from(!*empty),
            "maxItems": ENTRY_LIMIT,
            "uniqueItems": true,
        }),
        Kind::Map { of, empty } => json!({
            "type": "object",
            "propertyNames": kind(&Kind::Name),
            "additionalProperties": kind(of),
            "minProperties": usize::from(!*empty),
            "maxProperties": ENTRY_LIMIT,
        }),
        Kind::Codes(of) => json!({
            "type": "object",
            "propertyNames": { "type": "string", "pattern": "^[A-Z][0-9]{3}$" },
            "additionalProperties": kind(of),
            "maxProperties": ENTRY_LIMIT,
        }),
        Kind::Table(keys) => return table(keys),
        Kind::Apply => json!({ "oneOf": [table(APPLY_HOOK), table(APPLY_COMMAND)] }),
        Kind::Check => {
            json!({ "oneOf": CHECKS.iter().map(|keys| table(keys)).collect::<Vec<_>>() })
        }
        Kind::Either(text, other) => json!({ "anyOf": [kind(text), kind(other)] }),
        Kind::Step(steps) => json!({ "oneOf": shapes(*steps).map(step).collect::<Vec<_>>() }),
    })
}

fn step(shape: &Shape) -> Map<String, Value> {
    let mut schema = table(shape.keys);
    if shape.keys.iter().any(|key| key.name == "hops") {
        // Each hop has its own.
        let without = json!({ "hops": { "properties": { "extra": false, "via": false } } });
        schema.insert("dependentSchemas".into(), without);
    }
    schema.insert("description".into(), json!(shape.doc));
    schema
}
