//! What a release changes without a step of its script: the configuration of what runs before and after, and its own
//! settings.

use crate::catalogue::Catalogue;
use crate::sides::Sides;
use neurath_manifest::Step;
use serde_json::{Value, json};

/// The configuration of a component that runs before and after, and differs. Its keys alone: a value may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reconfigured {
    /// The component.
    pub component: String,
    /// The keys that it did not have.
    pub new: Vec<String>,
    /// The keys with another value.
    pub changed: Vec<String>,
    /// The keys that it has no more.
    pub removed: Vec<String>,
}

impl Reconfigured {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "component": self.component,
            "new": self.new,
            "changed": self.changed,
            "removed": self.removed,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Option<Self> {
        Some(Self {
            component: value["component"].as_str()?.to_owned(),
            new: texts(&value["new"])?,
            changed: texts(&value["changed"])?,
            removed: texts(&value["removed"])?,
        })
    }

    /// The keys, with what becomes of them.
    pub(crate) fn keys(&self) -> String {
        let of = |keys: &[String], what: &str| {
            let quoted: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
            (!keys.is_empty()).then(|| format!("{what} {}", quoted.join(", ")))
        };
        let parts = [
            of(&self.new, "new"),
            of(&self.changed, "changed"),
            of(&self.removed, "gone"),
        ];
        parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }
}

/// The strings of a JSON array.
pub(crate) fn texts(value: &Value) -> Option<Vec<String>> {
    let values = value.as_array()?.iter();
    values.map(|one| one.as_str().map(str::to_owned)).collect()
}

/// The configurations that differ, in the listing order of the newer release.
pub(crate) fn configurations(catalogue: &Catalogue, sides: &Sides<'_>) -> Vec<Reconfigured> {
    let of = |name: &str| {
        if !(sides.ran(name) && sides.will_run(name)) {
            return None;
        }
        let [before, after] = [sides.old(name)?, sides.new_one(name)?].map(|part| {
            let manifest = catalogue.component(name, &part.version);
            manifest.map(|manifest| manifest.configured(&part.config))
        });
        let (before, after) = (before?, after?);
        let keys = |of: &toml::Table, wanted: &dyn Fn(&str, &toml::Value) -> bool| {
            let found = of.iter().filter(|(key, value)| wanted(key, value));
            found.map(|(key, _)| key.clone()).collect::<Vec<_>>()
        };
        let found = Reconfigured {
            component: name.to_owned(),
            new: keys(&after, &|key, _| !before.contains_key(key)),
            changed: keys(&after, &|key, value| {
                before.get(key).is_some_and(|old| old != value)
            }),
            removed: keys(&before, &|key, _| !after.contains_key(key)),
        };
        (before != after).then_some(found)
    };
    sides.listing().filter_map(of).collect()
}

/// The release's own settings that differ, by their keys: they count from the commit on.
pub(crate) fn of_release(sides: &Sides<'_>) -> Vec<String> {
    let mut found = Vec::new();
    if sides.from.confirm != sides.to.confirm {
        found.push("confirm".to_owned());
    }
    if sides.from.supervision != sides.to.supervision {
        found.push("supervision".to_owned());
    }
    for name in sides.listing() {
        let starts = [sides.old(name), sides.new_one(name)].map(|part| part.map(|part| part.start));
        if starts[0] != starts[1] {
            found.push(format!("components.{name}"));
        }
    }
    found
}

/// Whether no step of a script gives a component other code or another state, or stops it.
pub fn runs_on(script: &[Step], name: &str) -> bool {
    !script.iter().any(|step| match step {
        Step::Load { component, .. }
        | Step::CodeChange { component, .. }
        | Step::Remove { component, .. } => component == name,
        Step::Stop { components }
        | Step::Start { components }
        | Step::ResetNode { components, .. } => components.iter().any(|one| one == name),
        _ => false,
    })
}

/// Whether a script has no step that does something.
pub(crate) fn does_nothing<'a>(mut steps: impl Iterator<Item = &'a Step>) -> bool {
    steps.all(|step| matches!(step, Step::PointOfNoReturn | Step::SyncNodes { .. }))
}

/// Whether both releases have the same components in the same versions, with the same configuration and settings.
pub(crate) fn same(catalogue: &Catalogue, sides: &Sides<'_>) -> bool {
    let mut all = sides.listing();
    let version = |name: &str| {
        let sides = [sides.old(name), sides.new_one(name)];
        sides.map(|part| part.map(|part| &part.version))
    };
    all.all(|name| version(name)[0] == version(name)[1])
        && sides.from.node == sides.to.node
        && configurations(catalogue, sides).is_empty()
        && of_release(sides).is_empty()
}
