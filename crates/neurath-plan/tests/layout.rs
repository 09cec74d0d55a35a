//! Which bytes of a state change: in the plan, in its file, and as it is read.

mod common;

use common::{appup, catalogue, manifest, number, release, version};
use neurath_plan::layout::{PartFate, type_changes};
use neurath_plan::schema::{CodeChange, FieldDesc, TypeDesc, TypeKind, VariantDesc};
use neurath_plan::{ComponentFacts, Consequences, Plan, plan};

/// A type with a fingerprint of its own.
fn ty(name: &str, size: u32, kind: TypeKind) -> TypeDesc {
    let fingerprint = format!("{name} {size} {kind:?}");
    TypeDesc {
        name: name.into(),
        size,
        fingerprint: blake3::hash(fingerprint.as_bytes()).to_hex().to_string(),
        kind,
    }
}

fn field(name: &str, offset: u32, ty: TypeDesc) -> FieldDesc {
    FieldDesc {
        name: name.into(),
        offset,
        ty,
    }
}

fn primitive(name: &str, size: u32) -> TypeDesc {
    ty(name, size, TypeKind::Primitive)
}

fn bytes() -> TypeDesc {
    let kind = TypeKind::Collection {
        fields: Vec::new(),
        objects: Vec::new(),
    };
    ty("Bytes", 16, kind)
}

/// `Map<Bytes, value>`, whose nodes hold the values.
fn map(value: TypeDesc) -> TypeDesc {
    let size = 32 + value.size;
    let node = TypeKind::Struct(vec![
        field("next", 0, primitive("u64", 8)),
        field("hash", 8, primitive("u64", 8)),
        field("key", 16, bytes()),
        field("value", 32, value),
    ]);
    let kind = TypeKind::Collection {
        fields: vec![number("len", 0)],
        objects: vec![ty("MapNode", size, node)],
    };
    ty("Map", 24, kind)
}

fn state(entry: TypeDesc, kind: TypeDesc, last: (&str, TypeDesc)) -> TypeDesc {
    let after = 24 + kind.size;
    let size = after + last.1.size;
    let fields = vec![
        field("entries", 0, map(entry)),
        field("kind", 24, kind),
        field(last.0, after, last.1),
    ];
    ty("Store", size, TypeKind::Struct(fields))
}

fn old() -> TypeDesc {
    let entry = TypeKind::Struct(vec![
        field("value", 0, bytes()),
        field("hits", 16, primitive("u32", 4)),
        field("old", 20, primitive("u32", 4)),
    ]);
    let kind = TypeKind::Enum {
        tag_size: 4,
        variants: vec![
            VariantDesc {
                name: "Word".into(),
                tag: 0,
                fields: vec![field("length", 4, primitive("u32", 4))],
            },
            VariantDesc {
                name: "Gone".into(),
                tag: 1,
                fields: Vec::new(),
            },
        ],
    };
    let levels = TypeKind::Array {
        element: Box::new(primitive("u32", 4)),
        len: 2,
    };
    let levels = ty("Array", 8, levels);
    state(
        ty("Entry", 24, entry),
        ty("Kind", 8, kind),
        ("levels", levels),
    )
}

fn new() -> TypeDesc {
    let entry = TypeKind::Struct(vec![
        field("expires", 0, primitive("u64", 8)),
        field("value", 8, bytes()),
        field("hits", 24, primitive("u64", 8)),
    ]);
    let kind = TypeKind::Enum {
        tag_size: 4,
        variants: vec![
            VariantDesc {
                name: "Word".into(),
                tag: 2,
                fields: vec![field("length", 8, primitive("u64", 8))],
            },
            VariantDesc {
                name: "Number".into(),
                tag: 3,
                fields: Vec::new(),
            },
        ],
    };
    let levels = TypeKind::Array {
        element: Box::new(primitive("u32", 4)),
        len: 4,
    };
    let levels = ty("Array", 16, levels);
    state(
        ty("Entry", 32, entry),
        ty("Kind", 16, kind),
        ("levels", levels),
    )
}

fn planned(from: &str, to: &str) -> (Plan, Consequences) {
    let mut files = vec![
        release("1.0.0", &[("store", "1.0.0")]),
        release("1.1.0", &[("store", "1.1.0")]),
        manifest("store", "1.0.0", &[]),
        manifest("store", "1.1.0", &[]),
        appup(
            "store",
            "1.1.0",
            "~1.0",
            "{ update = \"store\", change = { advanced = {} } }",
        ),
    ];
    // A field and a variant are lost on purpose.
    files[1]
        .1
        .push_str("\n[lints]\nD104 = { level = \"allow\", reason = \"a test\" }\n");
    let mut catalogue = catalogue(&files);
    // Every pair of types has its conversion, both ways.
    let mut conversions = Vec::new();
    let (all_old, all_new) = (old(), new());
    for a in all_old.all() {
        for b in all_new.all() {
            if a.name == b.name && a.fingerprint != b.fingerprint {
                for (from, to, backward) in [(a, b, false), (b, a, true)] {
                    conversions.push(CodeChange {
                        from: from.fingerprint.clone(),
                        to: to.fingerprint.clone(),
                        version: "1.0".into(),
                        backward,
                    });
                }
            }
        }
    }
    for (ver, state, code_changes) in [("1.0.0", old(), Vec::new()), ("1.1.0", new(), conversions)]
    {
        let facts = ComponentFacts {
            state,
            code_changes,
            moves: Vec::new(),
        };
        catalogue.add_facts(("store", &version(ver)), facts);
    }
    let plan = plan(&catalogue, ("app", &version(from)), ("app", &version(to)))
        .unwrap_or_else(|found| panic!("{found}"));
    let consequences = Consequences::of(&plan).with(&plan, &catalogue);
    (plan, consequences)
}

#[test]
fn a_plan_names_the_fields_that_change() {
    let (plan, consequences) = planned("1.0.0", "1.1.0");
    let text = plan.to_text_with(&consequences);
    let from = text.find("What bytes change").expect("the section");
    let to = text.find("What can be undone").expect("the next");
    insta::assert_snapshot!("bytes_text", &text[from..to]);
    let json = serde_json::to_string_pretty(&plan.to_json()["states"]).expect("json");
    insta::assert_snapshot!("bytes_json", json);
}

#[test]
fn the_way_back_is_the_other_way_round() {
    let (up, down) = (planned("1.0.0", "1.1.0").0, planned("1.1.0", "1.0.0").0);
    let (up, down) = (&up.states[0].types, &down.states[0].types);
    let mut turned = down.clone();
    for ty in &mut turned {
        std::mem::swap(&mut ty.old, &mut ty.new);
        for part in &mut ty.parts {
            std::mem::swap(&mut part.old, &mut part.new);
        }
        ty.parts.sort_by(|a, b| a.name.cmp(&b.name));
    }
    let mut up = up.clone();
    for ty in &mut up {
        ty.parts.sort_by(|a, b| a.name.cmp(&b.name));
    }
    assert_eq!(up, turned);
}

#[test]
fn every_fate_is_told() {
    let found = type_changes(&old(), &new());
    let fates: std::collections::BTreeSet<&str> = found
        .iter()
        .flat_map(|ty| &ty.parts)
        .map(|part| part.fate().as_str())
        .collect();
    assert_eq!(
        fates.into_iter().collect::<Vec<_>>(),
        ["added", "moved", "removed", "retyped"]
    );
    assert_eq!(PartFate::Added.as_str(), "added");
    assert_eq!(type_changes(&old(), &old()), []);
}

/// What is told of the bytes is part of the plan: a plan file that says something else was altered.
#[test]
fn the_bytes_are_bound_to_the_plan() {
    let (plan, _) = planned("1.0.0", "1.1.0");
    let mut file = plan.to_json();
    assert_eq!(Plan::from_json(&file).as_ref(), Ok(&plan));
    file["states"][0]["types"][0]["new"]["size"] = 1.into();
    assert_eq!(
        Plan::from_json(&file),
        Err(neurath_plan::PlanError::Altered)
    );
    file["states"][0]["types"] = "none".into();
    assert_eq!(
        Plan::from_json(&file),
        Err(neurath_plan::PlanError::Missing("states"))
    );
}
