//! The graph of a release's components, and what changes in it between two releases.

use crate::catalogue::Catalogue;
use crate::graph::Dependencies;
use semver::Version;
use serde_json::{Value, json};

/// The components of a release with what they depend on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentGraph {
    /// Name of the release.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The release that it is compared with, if any.
    pub base: Option<Version>,
    /// The components, those that depend on others before them; ties in the order of the release.
    pub nodes: Vec<GraphNode>,
}

/// A component in a graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphNode {
    /// Its name.
    pub component: String,
    /// Its version in the base release, if it is there.
    pub from: Option<Version>,
    /// Its version in the release, if it is there.
    pub to: Option<Version>,
    /// What becomes of it.
    pub change: GraphChange,
    /// What it needs: as the release has it, or as the base has it if it is removed.
    pub depends_on: Vec<GraphDependency>,
}

/// What a component needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphDependency {
    /// The other component.
    pub component: String,
    /// The versions of it that will do.
    pub requirement: String,
}

/// What becomes of a component between two releases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphChange {
    /// Nothing; also where there is no base.
    Same,
    /// It gets another version.
    Changed,
    /// It is not in the base.
    Added,
    /// It is only in the base.
    Removed,
}

impl GraphChange {
    /// `same`, `changed`, `added` or `removed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Same => "same",
            Self::Changed => "changed",
            Self::Added => "added",
            Self::Removed => "removed",
        }
    }
}

impl GraphNode {
    /// Its versions in words: one, or both with an arrow.
    pub(crate) fn versions(&self) -> String {
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
            (Some(only), _) | (None, Some(only)) => only.to_string(),
            (None, None) => String::new(),
        }
    }
}

impl ComponentGraph {
    /// The graph of a release, compared with another version of it. `None` if one of the two is not in the catalogue.
    pub fn of(
        catalogue: &Catalogue,
        release: (&str, &Version),
        base: Option<&Version>,
    ) -> Option<Self> {
        let new = catalogue.release(release.0, release.1)?;
        let old = match base {
            Some(base) => Some(catalogue.release(release.0, base)?),
            None => None,
        };
        let gone = old.iter().flat_map(|old| &old.components);
        let gone = gone.filter(|part| new.component(&part.name).is_none());
        let parts: Vec<_> = new.components.iter().chain(gone).collect();
        let mut order = Dependencies::new(parts.iter().map(|part| part.name.as_str()));
        let mut nodes = std::collections::HashMap::new();
        for part in parts {
            let manifest = catalogue.component(&part.name, &part.version);
            let depends_on: Vec<GraphDependency> = manifest
                .iter()
                .flat_map(|manifest| &manifest.depends_on)
                .map(|one| GraphDependency {
                    component: one.component.clone(),
                    requirement: one.requirement.to_string(),
                })
                .collect();
            for dependency in &depends_on {
                order.add(&part.name, &dependency.component);
            }
            let version = |release: &neurath_manifest::Release| {
                release
                    .component(&part.name)
                    .map(|part| part.version.clone())
            };
            let (from, to) = (old.and_then(version), version(new));
            let change = match (&from, &to) {
                (Some(from), Some(to)) if from != to => GraphChange::Changed,
                (Some(_), None) => GraphChange::Removed,
                (None, Some(_)) if old.is_some() => GraphChange::Added,
                _ => GraphChange::Same,
            };
            let node = GraphNode {
                component: part.name.clone(),
                from,
                to,
                change,
                depends_on,
            };
            nodes.insert(part.name.as_str(), node);
        }
        let mut ordered = order.dependencies_first();
        ordered.reverse();
        Some(Self {
            name: release.0.to_string(),
            version: release.1.clone(),
            base: base.cloned(),
            nodes: ordered
                .iter()
                .filter_map(|name| nodes.remove(&**name))
                .collect(),
        })
    }

    /// The graph as JSON.
    pub fn to_json(&self) -> Value {
        let node = |node: &GraphNode| {
            let needs = |one: &GraphDependency| json!({ "component": one.component, "requirement": one.requirement });
            json!({
                "component": node.component,
                "from": node.from.as_ref().map(Version::to_string),
                "to": node.to.as_ref().map(Version::to_string),
                "change": node.change.as_str(),
                "depends_on": node.depends_on.iter().map(needs).collect::<Vec<_>>(),
            })
        };
        json!({
            "name": self.name,
            "version": self.version.to_string(),
            "base": self.base.as_ref().map(Version::to_string),
            "components": self.nodes.iter().map(node).collect::<Vec<_>>(),
        })
    }
}
