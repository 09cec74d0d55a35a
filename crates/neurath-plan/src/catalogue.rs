//! What is planned from.

use crate::codes;
use crate::schema::ComponentFacts;
use neurath_manifest::{Appup, Component, Diagnostic, Release, Source};
use semver::Version;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// An input with the hash of its file.
#[derive(Debug, Clone)]
pub(crate) struct Input<T> {
    pub(crate) value: Arc<T>,
    pub(crate) hash: String,
}

type Table<T> = HashMap<String, BTreeMap<Version, T>>;

/// All inputs of planning, by name and version. The caller reads the files, and gives the hash of each.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    releases: BTreeMap<String, BTreeMap<Version, Input<Release>>>,
    components: Table<Input<Component>>,
    appups: Table<Input<Appup>>,
    facts: Table<ComponentFacts>,
    abis: Table<u32>,
    pub(crate) problems: Vec<Diagnostic>,
}

impl Catalogue {
    /// A catalogue of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a release. `place` is the name and version that its file's path says; what the file itself says must be the same.
    pub fn add_release(
        &mut self,
        place: (&str, &Version),
        release: impl Into<Arc<Release>>,
        hash: &str,
    ) {
        let release = release.into();
        self.check_place(
            place,
            Some(&release.name),
            Some(&release.version),
            &release.source,
        );
        let source = release.source.clone();
        let versions = self.releases.entry(place.0.to_string()).or_default();
        let old = versions.insert(place.1.clone(), input(release, hash));
        self.check_duplicate(
            "releases",
            place,
            &source,
            old.map(|old| old.value.source.clone()),
        );
    }

    /// Adds a component manifest. `place` as in [`Catalogue::add_release`].
    pub fn add_component(
        &mut self,
        place: (&str, &Version),
        component: impl Into<Arc<Component>>,
        hash: &str,
    ) {
        let component = component.into();
        self.check_place(
            place,
            Some(&component.name),
            Some(&component.version),
            &component.source,
        );
        let source = component.source.clone();
        let old = insert(&mut self.components, place, input(component, hash));
        self.check_duplicate(
            "component manifests",
            place,
            &source,
            old.map(|old| old.value.source.clone()),
        );
    }

    /// Adds an appup. `place` is the component and the newer version, as its file's path says.
    pub fn add_appup(&mut self, place: (&str, &Version), appup: impl Into<Arc<Appup>>, hash: &str) {
        let appup = appup.into();
        self.check_place(
            place,
            appup.name.as_deref(),
            appup.version.as_ref(),
            &appup.source,
        );
        let source = appup.source.clone();
        let old = insert(&mut self.appups, place, input(appup, hash));
        self.check_duplicate(
            "appups",
            place,
            &source,
            old.map(|old| old.value.source.clone()),
        );
    }

    /// Adds what a built library says of its state. Without facts, nothing is proved about state.
    pub fn add_facts(&mut self, place: (&str, &Version), facts: ComponentFacts) {
        insert(&mut self.facts, place, facts);
    }

    /// Adds the number of the ABI that a library was built for.
    pub fn add_abi(&mut self, place: (&str, &Version), abi: u32) {
        insert(&mut self.abis, place, abi);
    }

    /// The ABI that this component version was built for, if it is known.
    pub fn abi(&self, name: &str, version: &Version) -> Option<u32> {
        self.abis.get(name)?.get(version).copied()
    }

    /// The release of this name and version.
    pub fn release(&self, name: &str, version: &Version) -> Option<&Release> {
        self.release_input(name, version).map(|input| &*input.value)
    }

    /// All releases, sorted by name and version.
    pub fn releases(&self) -> impl Iterator<Item = &Release> {
        let all = self.releases.values().flat_map(BTreeMap::values);
        all.map(|input| &*input.value)
    }

    /// The manifest of this component version.
    pub fn component(&self, name: &str, version: &Version) -> Option<&Component> {
        self.component_input(name, version)
            .map(|input| &*input.value)
    }

    /// The versions of a component that have a manifest, the lowest first.
    pub fn versions(&self, name: &str) -> impl Iterator<Item = &Version> {
        self.components
            .get(name)
            .into_iter()
            .flat_map(BTreeMap::keys)
    }

    /// The appup that leads to this component version.
    pub fn appup(&self, name: &str, version: &Version) -> Option<&Appup> {
        self.appup_input(name, version).map(|input| &*input.value)
    }

    /// What is known of this component version's state.
    pub fn facts(&self, name: &str, version: &Version) -> Option<&ComponentFacts> {
        self.facts.get(name)?.get(version)
    }

    pub(crate) fn release_input(&self, name: &str, version: &Version) -> Option<&Input<Release>> {
        self.releases.get(name)?.get(version)
    }

    pub(crate) fn component_input(
        &self,
        name: &str,
        version: &Version,
    ) -> Option<&Input<Component>> {
        self.components.get(name)?.get(version)
    }

    pub(crate) fn appup_input(&self, name: &str, version: &Version) -> Option<&Input<Appup>> {
        self.appups.get(name)?.get(version)
    }

    fn check_place(
        &mut self,
        place: (&str, &Version),
        name: Option<&str>,
        version: Option<&Version>,
        source: &Source,
    ) {
        let (says_name, says_version) = (name.unwrap_or(place.0), version.unwrap_or(place.1));
        if says_name != place.0 || says_version != place.1 {
            let message = format!(
                "the file says {says_name} {says_version}, but its place says {} {}",
                place.0, place.1
            );
            self.problems.push(
                Diagnostic::error(codes::NAME_MISMATCH, message)
                    .in_file(source)
                    .help("correct `name` and `version` in the file, or move it to its place"),
            );
        }
    }

    fn check_duplicate(
        &mut self,
        what: &str,
        place: (&str, &Version),
        new: &Source,
        old: Option<Source>,
    ) {
        if let Some(old) = old {
            let message = format!("there are two {what} for {} {}", place.0, place.1);
            let diagnostic = Diagnostic::error(codes::DUPLICATE, message)
                .in_file(new)
                .related(&old, None, "the other one");
            self.problems.push(diagnostic.help("remove one of the two"));
        }
    }
}

fn insert<T>(table: &mut Table<T>, place: (&str, &Version), value: T) -> Option<T> {
    let versions = match table.get_mut(place.0) {
        Some(versions) => versions,
        None => table.entry(place.0.to_string()).or_default(),
    };
    versions.insert(place.1.clone(), value)
}

fn input<T>(value: Arc<T>, hash: &str) -> Input<T> {
    Input {
        value,
        hash: hash.to_string(),
    }
}
