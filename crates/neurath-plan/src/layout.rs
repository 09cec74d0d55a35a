//! What bytes of a state change between two versions: types that grow or shrink, fields that come, go, move or become of
//! another type. From the descriptors of both libraries; no library is loaded.

use crate::schema::{FieldDesc, TypeDesc, TypeKind, VariantDesc};
use crate::stub;
use semver::Version;
use serde_json::{Value, json};
use std::collections::HashSet;

/// What becomes of the state of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateChange {
    /// The component.
    pub component: String,
    /// The version whose state is taken.
    pub from: Version,
    /// The version whose state is given.
    pub to: Version,
    /// The types that differ, each once, from the root on.
    pub types: Vec<TypeChange>,
}

/// What becomes of the values of a type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeChange {
    /// Where such values are, from the root: `Store.entries[MapNode].value`.
    pub path: String,
    /// The type before.
    pub old: Layout,
    /// The type after.
    pub new: Layout,
    /// What of it differs, in the order of the new type; what is gone comes last.
    pub parts: Vec<PartChange>,
}

/// A type's name and size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// Its name, as Rust has it: `Map<Bytes, Entry>`.
    pub name: String,
    /// Bytes of a value; what it refers to is not counted.
    pub size: u32,
}

/// A field or a variant that differs. What is there on one side only came, or is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartChange {
    /// Its name; a variant's begins with `::`, and its fields follow it: `::Word.length`.
    pub name: String,
    /// What it was.
    pub old: Option<Part>,
    /// What it becomes.
    pub new: Option<Part>,
}

/// A field, or a variant of an enum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The type of a field; `None` for a variant.
    pub ty: Option<Layout>,
    /// The offset of a field in bytes, or the tag of a variant.
    pub at: u64,
}

/// What happened to a field or a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PartFate {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// It lies elsewhere, or has another tag.
    Moved,
    /// It has another type or size, and may lie elsewhere.
    Retyped,
}

impl PartFate {
    /// `added`, `removed`, `moved` or `retyped`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Removed => "removed",
            Self::Moved => "moved",
            Self::Retyped => "retyped",
        }
    }
}

impl PartChange {
    /// What happened to it.
    pub fn fate(&self) -> PartFate {
        match (&self.old, &self.new) {
            (None, _) => PartFate::Added,
            (_, None) => PartFate::Removed,
            (Some(old), Some(new)) if old.ty == new.ty => PartFate::Moved,
            _ => PartFate::Retyped,
        }
    }
}

/// The types that differ between two states.
pub fn type_changes(old: &TypeDesc, new: &TypeDesc) -> Vec<TypeChange> {
    let mut walk = Walk {
        seen: HashSet::new(),
        found: Vec::new(),
    };
    walk.object(old, new, old.name.clone());
    walk.found
}

struct Walk<'a> {
    seen: HashSet<(&'a str, &'a str)>,
    found: Vec<TypeChange>,
}

impl<'a> Walk<'a> {
    /// Looks at a value that lies by itself, and at all that it leads to.
    fn object(&mut self, old: &'a TypeDesc, new: &'a TypeDesc, path: String) {
        self.pair(old, new, path, true);
    }

    /// The same for a value that may lie in another: what has no parts of its own is told there.
    fn pair(&mut self, old: &'a TypeDesc, new: &'a TypeDesc, path: String, object: bool) {
        let pair = (old.fingerprint.as_str(), new.fingerprint.as_str());
        if pair.0 == pair.1 || !self.seen.insert(pair) {
            return;
        }
        let parts = parts(old, new);
        let (before, after) = (layout(old), layout(new));
        let compound = matches!(new.kind, TypeKind::Struct(_) | TypeKind::Enum { .. });
        if (before != after && (object || compound)) || !parts.is_empty() {
            self.found.push(TypeChange {
                path: path.clone(),
                old: before,
                new: after,
                parts,
            });
        }
        match (&old.kind, &new.kind) {
            (TypeKind::Struct(a), TypeKind::Struct(b)) => self.fields(a, b, &path),
            (TypeKind::Enum { variants: a, .. }, TypeKind::Enum { variants: b, .. }) => {
                for (a, b) in both(a, b, |variant| &variant.name) {
                    self.fields(&a.fields, &b.fields, &format!("{path}::{}", a.name));
                }
            }
            (TypeKind::Array { element: a, .. }, TypeKind::Array { element: b, .. }) => {
                self.pair(a, b, format!("{path}[..]"), false);
            }
            (TypeKind::Reference(a), TypeKind::Reference(b)) => {
                self.object(a, b, format!("{path}[{}]", a.name));
            }
            (TypeKind::Collection { objects: a, .. }, TypeKind::Collection { objects: b, .. }) => {
                for (a, b) in both(a, b, |object| &object.name) {
                    self.object(a, b, format!("{path}[{}]", a.name));
                }
            }
            _ => {}
        }
    }

    fn fields(&mut self, a: &'a [FieldDesc], b: &'a [FieldDesc], path: &str) {
        for (a, b) in both(a, b, |field| &field.name) {
            self.pair(&a.ty, &b.ty, format!("{path}.{}", a.name), false);
        }
    }
}

/// What both have, paired by name, in the order of the second.
fn both<'a, T>(
    a: &'a [T],
    b: &'a [T],
    name: impl Fn(&T) -> &String,
) -> impl Iterator<Item = (&'a T, &'a T)> {
    b.iter().filter_map(move |b| {
        let found = a.iter().find(|a| name(a) == name(b));
        Some((found?, b))
    })
}

/// What of a type itself differs.
fn parts(old: &TypeDesc, new: &TypeDesc) -> Vec<PartChange> {
    let mut found = Vec::new();
    match (&old.kind, &new.kind) {
        (TypeKind::Struct(a), TypeKind::Struct(b)) => fields(a, b, "", &mut found),
        (TypeKind::Enum { variants: a, .. }, TypeKind::Enum { variants: b, .. }) => {
            variants(a, b, &mut found)
        }
        _ => {}
    }
    found
}

fn variants(a: &[VariantDesc], b: &[VariantDesc], found: &mut Vec<PartChange>) {
    let part = |variant: &VariantDesc| Part {
        ty: None,
        at: variant.tag,
    };
    for new in b {
        let old = a.iter().find(|old| old.name == new.name);
        let name = format!("::{}", new.name);
        if old.is_none_or(|old| old.tag != new.tag) {
            found.push(PartChange {
                name: name.clone(),
                old: old.map(part),
                new: Some(part(new)),
            });
        }
        if let Some(old) = old {
            fields(&old.fields, &new.fields, &format!("{name}."), found);
        }
    }
    for gone in a.iter().filter(|a| b.iter().all(|b| b.name != a.name)) {
        found.push(PartChange {
            name: format!("::{}", gone.name),
            old: Some(part(gone)),
            new: None,
        });
    }
}

fn fields(a: &[FieldDesc], b: &[FieldDesc], prefix: &str, found: &mut Vec<PartChange>) {
    let part = |field: &FieldDesc| Part {
        ty: Some(layout(&field.ty)),
        at: field.offset.into(),
    };
    for new in b {
        let old = a.iter().find(|old| old.name == new.name).map(part);
        let new_part = Some(part(new));
        if old != new_part {
            found.push(PartChange {
                name: format!("{prefix}{}", new.name),
                old,
                new: new_part,
            });
        }
    }
    for gone in a.iter().filter(|a| b.iter().all(|b| b.name != a.name)) {
        found.push(PartChange {
            name: format!("{prefix}{}", gone.name),
            old: Some(part(gone)),
            new: None,
        });
    }
}

fn layout(ty: &TypeDesc) -> Layout {
    Layout {
        name: stub::rust(ty, &HashSet::new()),
        size: ty.size,
    }
}

impl StateChange {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "component": self.component,
            "from": self.from.to_string(),
            "to": self.to.to_string(),
            "types": self.types.iter().map(TypeChange::to_json).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        let version = |key: &str| Version::parse(value[key].as_str()?).ok();
        let types = value["types"].as_array()?.iter();
        Some(Self {
            component: value["component"].as_str()?.to_string(),
            from: version("from")?,
            to: version("to")?,
            types: types.map(TypeChange::from_json).collect::<Option<_>>()?,
        })
    }
}

impl TypeChange {
    fn to_json(&self) -> Value {
        json!({
            "path": self.path,
            "old": self.old.to_json(),
            "new": self.new.to_json(),
            "parts": self.parts.iter().map(PartChange::to_json).collect::<Vec<_>>(),
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let parts = value["parts"].as_array()?.iter();
        Some(Self {
            path: value["path"].as_str()?.to_string(),
            old: Layout::from_json(&value["old"])?,
            new: Layout::from_json(&value["new"])?,
            parts: parts.map(PartChange::from_json).collect::<Option<_>>()?,
        })
    }
}

impl Layout {
    fn to_json(&self) -> Value {
        json!({ "type": self.name, "size": self.size })
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            name: value["type"].as_str()?.to_string(),
            size: u32::try_from(value["size"].as_u64()?).ok()?,
        })
    }
}

impl PartChange {
    fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "change": self.fate().as_str(),
            "old": self.old.as_ref().map(Part::to_json),
            "new": self.new.as_ref().map(Part::to_json),
        })
    }

    fn from_json(value: &Value) -> Option<Self> {
        let part = |key: &str| match &value[key] {
            Value::Null => Some(None),
            part => Part::from_json(part).map(Some),
        };
        let change = Self {
            name: value["name"].as_str()?.to_string(),
            old: part("old")?,
            new: part("new")?,
        };
        (value["change"].as_str()? == change.fate().as_str()).then_some(change)
    }
}

impl Part {
    fn to_json(&self) -> Value {
        match &self.ty {
            Some(ty) => json!({ "type": ty.name, "size": ty.size, "offset": self.at }),
            None => json!({ "tag": self.at }),
        }
    }

    fn from_json(value: &Value) -> Option<Self> {
        Some(match value["tag"].as_u64() {
            Some(tag) => Self { ty: None, at: tag },
            None => Self {
                ty: Some(Layout::from_json(value)?),
                at: value["offset"].as_u64()?,
            },
        })
    }
}
