//! Sample files, good and bad: the reader and the JSON Schemas agree on each of them, and on what becomes of
//! them when they are damaged.
//!
//! A bad sample says in its first line with which codes it is refused. Where the schema cannot refuse it, the second
//! line says why.

use neurath_manifest::{Appup, Component, Diagnostics, Release, Relup, codes, schema};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const KINDS: [&str; 4] = ["component", "appup", "release", "relup"];

/// What only the reader can see: it compares keys, and it counts.
const READERS_OWN: &[&str] = &[
    codes::DUPLICATE,
    codes::REGION_SIZES,
    codes::SELF_DEPENDENCY,
    codes::TOO_LARGE,
    codes::OUT_OF_RANGE,
    codes::BAD_SIZE,
    codes::BAD_DURATION,
    codes::BAD_VERSION,
    codes::BAD_REQUIREMENT,
    codes::CHECK_NEVER_HOLDS,
];

struct Sample {
    path: PathBuf,
    good: bool,
    text: String,
}

fn samples(kind: &str) -> Vec<Sample> {
    let mut found = Vec::new();
    for (folder, good) in [("good", true), ("bad", false)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("corpus")
            .join(kind)
            .join(folder);
        for entry in folder.read_dir().expect("the corpus") {
            let path = entry.expect("an entry").path();
            let text = std::fs::read_to_string(&path).expect("a sample");
            found.push(Sample { path, good, text });
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 10, "the corpus of {kind} was not found");
    found
}

fn parse(kind: &str, text: &str) -> Result<(), Diagnostics> {
    match kind {
        "component" => Component::parse(kind, text).map(drop),
        "appup" => Appup::parse(kind, text).map(drop),
        "release" => Release::parse(kind, text).map(drop),
        _ => Relup::parse(kind, text).map(drop),
    }
}

/// A schema that is checked against draft 2020-12, and ready to be used.
struct Validator {
    schemas: boon::Schemas,
    index: boon::SchemaIndex,
}

impl Validator {
    fn of(kind: &str) -> Self {
        let (_, text) = schema::all()
            .into_iter()
            .find(|(name, _)| *name == kind)
            .expect("a schema");
        let value = serde_json::from_str(&text).expect("JSON");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        compiler.add_resource("it.json", value).expect("a resource");
        let index = compiler
            .compile("it.json", &mut schemas)
            .expect("a schema of draft 2020-12");
        Self { schemas, index }
    }

    fn is_valid(&self, value: &Value) -> bool {
        self.schemas.validate(value, self.index).is_ok()
    }
}

/// The text as an editor gives it to a schema; `None` if it is no TOML.
fn as_json(text: &str) -> Option<Value> {
    let table: toml::Table = text.parse().ok()?;
    Some(value(&toml::Value::Table(table)))
}

fn value(from: &toml::Value) -> Value {
    match from {
        toml::Value::String(text) => json!(text),
        toml::Value::Integer(number) => json!(number),
        toml::Value::Float(number) if number.is_finite() => json!(number),
        // JSON has neither dates nor these numbers; no key takes a null.
        toml::Value::Float(_) | toml::Value::Datetime(_) => Value::Null,
        toml::Value::Boolean(yes) => json!(yes),
        toml::Value::Array(all) => all.iter().map(value).collect(),
        toml::Value::Table(table) => {
            let pair = |(key, inner): (&String, &toml::Value)| (key.clone(), value(inner));
            Value::Object(table.iter().map(pair).collect())
        }
    }
}

/// The line `# WHAT: …` of a sample.
fn said<'a>(sample: &'a Sample, what: &str) -> Option<&'a str> {
    let head = format!("# {what}: ");
    sample
        .text
        .lines()
        .take(2)
        .find_map(|line| line.strip_prefix(head.as_str()))
}

#[test]
fn reader_and_schema_agree_on_every_sample() {
    let mut refused = BTreeSet::new();
    for kind in KINDS {
        let validator = Validator::of(kind);
        for sample in samples(kind) {
            let at = sample.path.display();
            let by_schema = as_json(&sample.text).map(|json| validator.is_valid(&json));
            match parse(kind, &sample.text) {
                Ok(()) => {
                    assert!(sample.good, "{at}: the reader takes it");
                    assert_eq!(by_schema, Some(true), "{at}: the schema does not");
                }
                Err(found) => {
                    assert!(!sample.good, "{at}: the reader refuses it\n{found}");
                    let codes: BTreeSet<&str> = found.codes().into_iter().collect();
                    let wanted: BTreeSet<&str> = said(&sample, "refused")
                        .expect("the codes")
                        .split(' ')
                        .collect();
                    assert_eq!(codes, wanted, "{at}\n{found}");
                    refused.extend(codes.iter().map(ToString::to_string));
                    match said(&sample, "schema") {
                        Some("no TOML") => assert_eq!(by_schema, None, "{at}"),
                        Some(_) => assert_eq!(by_schema, Some(true), "{at}: it can say so"),
                        None => assert_eq!(by_schema, Some(false), "{at}: the schema takes it"),
                    }
                }
            }
        }
    }
    for (code, _) in codes::ALL {
        assert!(refused.contains(*code), "no sample is refused with {code}");
    }
}

/// What the reader takes, the schema takes; what the reader refuses for its shape, the schema refuses.
#[test]
fn reader_and_schema_agree_on_damaged_samples() {
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |below: usize| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        usize::try_from(seed % below as u64).expect("small")
    };
    let pieces = [
        "\"store\"",
        "\"1.0.0\"",
        "\"^1.1\"",
        "\"5s\"",
        "\"64MiB\"",
        "{}",
        "[]",
        "true",
        "1",
        "1.5",
        "\"soft\"",
        "{ load = \"a\" }",
        "[\"a\"]",
        "{ version = \"1.0.0\" }",
        "\"\"",
        "\"power\"",
    ];
    let (mut taken, mut refused) = (0, 0);
    for kind in KINDS {
        let validator = Validator::of(kind);
        let samples = samples(kind);
        for _ in 0..4000 {
            let mut text = samples[next(samples.len())].text.clone();
            if text.len() > 2000 || text.is_empty() {
                continue;
            }
            for _ in 0..=next(2) {
                let lines: Vec<&str> = text.lines().collect();
                let at = next(lines.len());
                let line = lines[at];
                let changed = match (next(4), line.split_once(" = ")) {
                    (0, _) => String::new(),
                    (1, _) => format!("{line}\n{line}"),
                    (2, Some((key, _))) => format!("{key} = {}", pieces[next(pieces.len())]),
                    (_, Some((_, value))) => {
                        let (other, _) = lines[next(lines.len())]
                            .split_once(" = ")
                            .unwrap_or(("x", ""));
                        format!("{other} = {value}")
                    }
                    _ => line.replace('1', "0"),
                };
                let mut lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
                lines[at] = changed;
                text = lines.join("\n");
                if text.trim().is_empty() {
                    break;
                }
            }
            let Some(json) = as_json(&text) else { continue };
            let by_schema = validator.is_valid(&json);
            match parse(kind, &text) {
                Ok(()) => {
                    taken += 1;
                    assert!(by_schema, "only the {kind} schema refuses\n{text}");
                }
                Err(found) if found.codes().iter().all(|code| READERS_OWN.contains(code)) => {}
                Err(found) => {
                    refused += 1;
                    assert!(
                        !by_schema,
                        "only the reader refuses this {kind}\n{text}\n{found}"
                    );
                }
            }
        }
    }
    assert!(
        taken > 500 && refused > 500,
        "{taken} taken, {refused} refused"
    );
}
