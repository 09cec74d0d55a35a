//! What `neurath state …` writes is what its schemas say, and its exit codes.

use neurath_pmem::inspect::{self, Code, DataLimits};
use neurath_pmem::region::{Region, RegionOptions};
use neurath_pmem::schema::{encode, encoded_len};
use neurath_pmem::{Bytes, Map, P, Pmem, Tx};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    names: Map<Bytes, Bytes>,
    count: u64,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);

/// One test after the other: a command that is about to run has, for a moment, what this process has open, and with
/// it the lock of a region.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A region; with an object that nothing refers to, if wanted.
fn region(path: &Path, leak: bool) -> Region {
    let options = RegionOptions::new("store", 1, 16 << 20);
    let mut region = Region::create(path, &options, &SCHEMA).expect("made");
    let change = |tx: &mut Tx<'_>| -> anyhow::Result<P<State>> {
        let mut names = Map::EMPTY;
        for name in ["one", "two", "three", "a name that is longer than others"] {
            let value = Bytes::new(tx, &[0xff; 30])?;
            names.insert(tx, name.as_bytes(), &value)?;
        }
        if leak {
            tx.alloc_bytes(&[1; 50])?;
        }
        Ok(tx.alloc(&State { names, count: 4 })?)
    };
    let root = region.transact(change).expect("a root");
    region.set_root(root.to_ref());
    region.commit().expect("committed");
    region
}

/// Whether a value is what a schema says. Knows the keywords that the schemas here use, and
/// fails at any other.
fn conforms(value: &Value, schema: &Value, root: &Value, at: &str) -> Result<(), String> {
    let fault = |why: String| Err(format!("{at}: {why}"));
    let Value::Object(rules) = schema else {
        return fault("a schema is an object".into());
    };
    for (keyword, rule) in rules {
        let holds = match keyword.as_str() {
            "$schema" | "title" | "description" | "$defs" => true,
            "$ref" => {
                let name = rule.as_str().and_then(|text| text.strip_prefix('#'));
                let Some(target) = name.and_then(|name| root.pointer(name)) else {
                    return fault(format!("no {rule}"));
                };
                conforms(value, target, root, at)?;
                true
            }
            "type" => {
                let names = match rule {
                    Value::Array(names) => names.clone(),
                    name => vec![name.clone()],
                };
                names.iter().any(|name| match name.as_str() {
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_u64() || value.is_i64(),
                    Some("boolean") => value.is_boolean(),
                    Some("null") => value.is_null(),
                    Some("array") => value.is_array(),
                    Some("object") => value.is_object(),
                    _ => false,
                })
            }
            "const" => value == rule,
            "enum" => rule.as_array().is_some_and(|known| known.contains(value)),
            "minimum" => value.as_i64() >= rule.as_i64() || value.is_u64(),
            "minItems" => value.as_array().map(|list| list.len() as u64) >= rule.as_u64(),
            "maxItems" => value.as_array().map(|list| list.len() as u64) <= rule.as_u64(),
            "pattern" => {
                let digits = rule.as_str().and_then(|text| {
                    let text = text.strip_prefix("^[0-9a-f]{")?;
                    text.strip_suffix("}$")?.parse().ok()
                });
                value.as_str().is_some_and(|text| {
                    Some(text.len()) == digits && text.bytes().all(|c| c.is_ascii_hexdigit())
                })
            }
            "anyOf" => rule
                .as_array()
                .is_some_and(|any| any.iter().any(|one| conforms(value, one, root, at).is_ok())),
            "items" => {
                for (i, item) in value.as_array().into_iter().flatten().enumerate() {
                    conforms(item, rule, root, &format!("{at}/{i}"))?;
                }
                true
            }
            "properties" => {
                for (name, rule) in rule.as_object().into_iter().flatten() {
                    if let Some(value) = value.get(name) {
                        conforms(value, rule, root, &format!("{at}/{name}"))?;
                    }
                }
                true
            }
            "required" => rule
                .as_array()
                .into_iter()
                .flatten()
                .all(|name| name.as_str().is_some_and(|name| value.get(name).is_some())),
            "additionalProperties" => {
                value.as_object().into_iter().flatten().all(|(name, _)| {
                    rule == &json!(false) && schema["properties"].get(name).is_some()
                })
            }
            _ => return fault(format!("the test does not know {keyword}")),
        };
        if !holds {
            return fault(format!("{keyword} {rule} does not hold for {value}"));
        }
    }
    Ok(())
}

fn schema(kind: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("schemas/{kind}.json"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|_| panic!("{}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Runs a command; its exit code and what it wrote. Each object is held against its schema.
fn run(arguments: &[&str]) -> (i32, Vec<Value>) {
    let output = Command::new(env!("CARGO_BIN_EXE_neurath"))
        .args(["--message-format", "json", "state"])
        .args(arguments)
        .output()
        .expect("started");
    let text = String::from_utf8(output.stdout).expect("text");
    let values: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    for value in &values {
        let kind = value["kind"].as_str().expect("a kind");
        if kind != "failed" {
            let schema = schema(kind);
            if let Err(why) = conforms(value, &schema, &schema, kind) {
                panic!("{why}\n{value:#}");
            }
        }
    }
    (output.status.code().expect("a code"), values)
}

fn place(dir: &tempfile::TempDir, name: &str) -> (PathBuf, String) {
    let path = dir.path().join(name);
    let text = path.display().to_string();
    (path, text)
}

#[test]
fn a_sound_region() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (path, file) = place(&dir, "region");
    let open = region(&path, false);
    let (code, said) = run(&["check", &file]);
    assert_eq!((code, &said[0]["code"]), (30, &json!(30)), "{said:?}");
    open.close().expect("closed");

    let (code, said) = run(&["check", &file]);
    assert_eq!(code, 0, "{said:?}");
    assert_eq!(said.len(), 1);
    assert_eq!(said[0]["report"]["clean"], json!(true));
    let level3 = &said[0]["report"]["levels"][3];
    assert_eq!(level3["done"], json!("complete"));

    // A text that a component stored: only its checksum shows the flipped bit.
    let good = std::fs::read(&path).expect("read");
    let long = b"a name that is longer than others";
    let at = good.windows(long.len()).position(|bytes| bytes == long);
    let at = at.expect("the name is in the file");
    // Its key's hash would show a change of the key: the value is that of another.
    let value = good.windows(30).position(|bytes| bytes == [0xff; 30]);
    for (at, deepest) in [(at, 2), (value.expect("a value"), 3)] {
        let mut damaged = good.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).expect("written");
        for level in 0..=3 {
            let (code, said) = run(&["check", &file, "--level", &level.to_string()]);
            assert_eq!(code, if level < deepest { 0 } else { 20 }, "{said:?}");
            let done = &said[0]["report"]["levels"][3]["done"];
            assert_eq!(*done == json!("not-asked"), level < 3);
        }
        assert_eq!(run(&["check", &file]).0, 20);
    }
    assert_eq!(run(&["check", &file, "--level", "4"]).0, 2);
    std::fs::write(&path, good).expect("written");

    let (code, said) = run(&["inspect", &file]);
    assert_eq!((code, said[0].get("data")), (0, None));
    let durability = &said[0]["durability"];
    assert_eq!(durability["demanded"], json!("process"));
    assert_eq!(durability["backend"], json!("process"));
    assert_eq!(durability["refusal"], json!(null));
    let steps = durability["medium"]["steps"].as_array();
    assert!(steps.is_some_and(|steps| steps.len() >= 2), "{durability}");
    let (_, said) = run(&["inspect", &file, "--data", "--limit", "2"]);
    let names = said[0]["data"]["names"].as_array().expect("a map");
    assert_eq!((names.len(), &names[2]), (3, &json!({ "more": 2 })));
    assert_eq!(names[0]["value"], json!({ "hex": "ff".repeat(30) }));
    assert_eq!(said[0]["data"]["count"], json!(4));

    let (_, snapshot) = place(&dir, "snapshot");
    assert_eq!(run(&["snapshot", &file, &snapshot]).0, 0);
    assert_eq!(run(&["snapshot", &file, &snapshot]).0, 1);
    let (code, said) = run(&["restore", &snapshot, &file]);
    assert_eq!((code, &said[0]["executed"]), (0, &json!(false)));
    let (code, said) = run(&["restore", &snapshot, &file, "--execute"]);
    assert_eq!((code, &said[0]["executed"]), (0, &json!(true)));
    let kept = said[0]["kept"].as_str().expect("a file");
    assert!(Path::new(kept).exists());
}

#[test]
fn a_leak_and_damage() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (path, file) = place(&dir, "region");
    // Closed: what a recovery would set anew is of no account while a region is open.
    region(&path, true).close().expect("closed");
    let (code, said) = run(&["check", &file]);
    assert_eq!(code, 20, "{said:?}");
    assert_eq!(said[0]["report"]["leaks"][0]["objects"], json!(1));
    let (code, said) = run(&["repair", &file]);
    assert_eq!((code, &said[0]["written"]), (0, &json!(false)));
    let (code, said) = run(&["repair", &file, "--execute"]);
    assert_eq!((code, &said[0]["written"]), (0, &json!(true)));
    assert_eq!(run(&["check", &format!("{file}.repaired")]).0, 0);

    let mut bytes = std::fs::read(&path).expect("read");
    bytes[16384] ^= 0x40;
    std::fs::write(&path, bytes).expect("written");
    assert_eq!(run(&["check", &file]).0, 20);
    assert_eq!(run(&["snapshot", &file, &format!("{file}.copy")]).0, 20);
    let (code, said) = run(&["repair", &file, "--out", &format!("{file}.mended")]);
    assert_eq!((code, &said[0]["after"]["sound"]), (20, &json!(false)));
    assert_eq!(run(&["inspect", &file, "--data"]).0, 0);
    std::fs::write(&path, b"NEUR").expect("written");
    assert_eq!(run(&["check", &file]).0, 20);
    assert_eq!(run(&["inspect", &file]).0, 20);
    assert_eq!(run(&["check", &format!("{file}.nothing")]).0, 1);
}

/// Nothing hangs at a pipe, reads a device to its end or puts a file in its place; and what
/// cannot be shown says why.
#[test]
fn what_is_no_region_is_refused_by_name() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a folder");
    let (sound, sound_text) = place(&dir, "sound");
    region(&sound, false).close().expect("closed");
    let (pipe, pipe_text) = place(&dir, "pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().expect("started");
    assert!(made.success());
    let (_, copy) = place(&dir, "copy");
    let folder = dir.path().display().to_string();
    for other in [&pipe_text, &folder, "/dev/zero", "/dev/null"] {
        for arguments in [
            &["check", other][..],
            &["inspect", other],
            &["repair", other],
            &["snapshot", other, &copy],
            &["restore", other, &copy],
            &["restore", &sound_text, other],
        ] {
            let (code, values) = run(arguments);
            let message = values[0]["message"].as_str().expect("a message");
            assert_eq!(code, 1, "{arguments:?}: {message}");
            let wanted = format!("cannot open {other}: it is not a regular file");
            assert_eq!(message, wanted, "{arguments:?}");
        }
    }

    let (short, short_text) = place(&dir, "short");
    std::fs::write(&short, [0; 100]).expect("written");
    let (code, values) = run(&["inspect", &short_text]);
    assert_eq!(code, 20);
    assert_eq!(
        values[0]["message"],
        format!(
            "{short_text}: the file has 100 bytes, and a region has at least 98304; `state check` \
             lists all that is wrong"
        )
    );
    let (_, missing) = place(&dir, "missing");
    let (code, values) = run(&["check", &missing]);
    assert_eq!(code, 1);
    assert_eq!(
        values[0]["message"],
        format!("cannot open {missing}: No such file or directory (os error 2)")
    );
}

#[test]
fn the_schemas_know_every_code() {
    let known: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    for kind in ["check", "snapshot", "restore", "repair"] {
        let schema = schema(&format!("state-{kind}"));
        let codes = schema.pointer("/$defs/report/properties/findings/items/properties/code/enum");
        assert_eq!(
            codes,
            Some(&json!(known)),
            "schemas/state-{kind}.json is stale"
        );
    }
}

#[test]
fn a_wrong_object_does_not_conform() {
    let _alone = alone();
    let dir = tempfile::tempdir().expect("a directory");
    let (path, _) = place(&dir, "region");
    drop(region(&path, false));
    let shown = inspect::inspect_file(&path, Some(DataLimits::default())).expect("read");
    let good = neurath_cli::state_json::inspection(&path, &shown);
    let schema = schema("state-inspect");
    assert_eq!(conforms(&good, &schema, &schema, ""), Ok(()));
    for (place, wrong) in [
        ("/chunks", json!("one")),
        ("/superblocks", json!([])),
        ("/superblocks/0/state", json!("odd")),
        ("/header/uuid", json!("0")),
        ("/types/0", json!({})),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(place).expect("a place") = wrong;
        assert!(conforms(&bad, &schema, &schema, "").is_err(), "{place}");
    }
    let mut more = good.clone();
    more["new"] = json!(1);
    assert!(conforms(&more, &schema, &schema, "").is_err());
}
