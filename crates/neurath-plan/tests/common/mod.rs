//! Catalogues for tests: from texts, and from the files of this repository.
#![allow(dead_code)]

pub mod seed;

use neurath_manifest::{Appup, Component, Diagnostics, Release};
use neurath_plan::schema::{CodeChange, FieldDesc, TypeDesc, TypeKind};
use neurath_plan::{Catalogue, ComponentFacts};
use semver::Version;
use std::path::{Path, PathBuf};

pub fn version(text: &str) -> Version {
    Version::parse(text).expect(text)
}

/// Adds one file, of the kind that its path says.
pub fn add(catalogue: &mut Catalogue, file: &str, text: &str) {
    add_parsed(catalogue, file, text).unwrap_or_else(|found| panic!("{found}"));
}

/// The same, for a file that may be bad.
pub fn add_parsed(catalogue: &mut Catalogue, file: &str, text: &str) -> Result<(), Diagnostics> {
    let mut parts = file.split('/');
    let (kind, name, last) = (
        parts.next().expect(file),
        parts.next().expect(file),
        parts.next().expect(file),
    );
    let stem = last.strip_suffix(".toml").expect(file);
    let hash = blake3::hash(text.as_bytes()).to_hex().to_string();
    match (kind, stem.strip_suffix(".appup")) {
        ("releases", None) => {
            catalogue.add_release((name, &version(stem)), Release::parse(file, text)?, &hash);
        }
        ("manifests", Some(stem)) => {
            catalogue.add_appup((name, &version(stem)), Appup::parse(file, text)?, &hash);
        }
        ("manifests", None) => {
            catalogue.add_component((name, &version(stem)), Component::parse(file, text)?, &hash);
        }
        _ => panic!("{file}"),
    }
    Ok(())
}

pub fn catalogue(files: &[(String, String)]) -> Catalogue {
    let mut catalogue = Catalogue::new();
    for (file, text) in files {
        add(&mut catalogue, file, text);
    }
    catalogue
}

pub fn manifest(name: &str, ver: &str, depends_on: &[(&str, &str)]) -> (String, String) {
    let mut text = format!(
        "name = \"{name}\"\nversion = \"{ver}\"\nlibrary = \"{name}\"\n\n\
         [region]\ninitial_size = \"1MiB\"\nlimit = \"1GiB\"\ndurability = \"process\"\n\n[depends_on]\n"
    );
    for (on, requirement) in depends_on {
        text.push_str(&format!("{on} = \"{requirement}\"\n"));
    }
    (format!("manifests/{name}/{ver}.toml"), text)
}

/// An appup with the same instructions both ways.
pub fn appup(name: &str, ver: &str, other: &str, instructions: &str) -> (String, String) {
    let mut text = String::new();
    for (list, key) in [("up", "from"), ("down", "to")] {
        text.push_str(&format!(
            "[[{list}]]\n{key} = \"{other}\"\ninstructions = [\n    {instructions},\n]\n\n"
        ));
    }
    if instructions.is_empty() {
        text = text.replace("    ,\n", "");
    }
    (format!("manifests/{name}/{ver}.appup.toml"), text)
}

pub fn release(ver: &str, components: &[(&str, &str)]) -> (String, String) {
    let mut text =
        format!("name = \"app\"\nversion = \"{ver}\"\nnode = \"0.1.0\"\n\n[components]\n");
    for (name, ver) in components {
        text.push_str(&format!("{name} = {{ version = \"{ver}\" }}\n"));
    }
    (format!("releases/app/{ver}.toml"), text)
}

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The releases, manifests and appups of the demo, as they are committed.
pub fn demo() -> Catalogue {
    let mut files = Vec::new();
    for folder in [
        "manifests/gateway",
        "manifests/stats",
        "manifests/store",
        "releases/kv",
    ] {
        for entry in std::fs::read_dir(root().join(folder)).expect(folder) {
            let name = entry
                .expect(folder)
                .file_name()
                .into_string()
                .expect("utf-8");
            if name.ends_with(".toml") && !name.ends_with(".relup.toml") {
                let file = format!("{folder}/{name}");
                let text = std::fs::read_to_string(root().join(&file)).expect("a file of the demo");
                files.push((file, text));
            }
        }
    }
    files.sort();
    catalogue(&files)
}

/// A number as a field.
pub fn number(name: &str, offset: u32) -> FieldDesc {
    let ty = TypeDesc {
        name: "u64".into(),
        size: 8,
        fingerprint: "u64".into(),
        kind: TypeKind::Primitive,
    };
    FieldDesc {
        name: name.into(),
        offset,
        ty,
    }
}

/// A state `Store` with this fingerprint: `aaaa` has one field, every other one more; with these conversions.
pub fn state(fingerprint: &str, migrations: &[(&str, &str)]) -> ComponentFacts {
    let mut fields = vec![number("count", 0)];
    if fingerprint != "aaaa" {
        fields.push(number(&format!("of_{fingerprint}"), 8));
    }
    let conversion = |(from, to): &(&str, &str)| CodeChange {
        from: (*from).into(),
        to: (*to).into(),
        version: "1.0".into(),
        backward: *from == fingerprint,
    };
    ComponentFacts {
        state: TypeDesc {
            name: "Store".into(),
            size: 8 * fields.len() as u32,
            fingerprint: fingerprint.into(),
            kind: TypeKind::Struct(fields),
        },
        code_changes: migrations.iter().map(conversion).collect(),
        moves: Vec::new(),
    }
}
