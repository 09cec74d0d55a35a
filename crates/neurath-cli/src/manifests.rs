//! The files of a project: manifests, appups, releases and relups, read from their folders.

mod read;

use crate::cli::Folders;
use crate::exit::CommandError;
use neurath_manifest::{Appup, Component, Diagnostic, Diagnostics, Release, Relup};
use neurath_plan::{Catalogue, Lints, Plan, Planned};
use semver::Version;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// A name and a version.
pub type Key = (String, Version);

/// A file that was read.
#[derive(Debug, Clone)]
pub struct File<T> {
    /// Its path as messages show it.
    pub path: String,
    /// Its text.
    pub text: String,
    /// What it says, which the catalogue holds as well.
    pub value: Arc<T>,
    /// The hash of its text.
    pub hash: String,
}

impl<T> File<T> {
    /// Path and text, as a release package takes them.
    #[must_use]
    pub fn source(&self) -> (String, String) {
        (self.path.clone(), self.text.clone())
    }
}

/// All files of a project.
#[derive(Debug, Clone, Default)]
pub struct Project {
    /// Manifests by component and version.
    pub components: BTreeMap<Key, File<Component>>,
    /// Appups by component and the newer version.
    pub appups: BTreeMap<Key, File<Appup>>,
    /// Releases.
    pub releases: BTreeMap<Key, File<Release>>,
    /// Relups by release and its version.
    pub relups: BTreeMap<Key, File<Relup>>,
    /// What the planner knows of all that.
    pub catalogue: Catalogue,
}

impl Project {
    /// Reads the files of both folders.
    ///
    /// # Errors
    ///
    /// All that is wrong with any file, or a folder that cannot be read.
    pub fn read(folders: &Folders) -> anyhow::Result<Self> {
        let sources = [
            (Folder::Manifests, folders.manifests.as_path()),
            (Folder::Releases, folders.releases.as_path()),
        ];
        Ok(Self::with(read::all(&sources)?).map_err(CommandError::Refused)?)
    }

    /// The project of these files.
    ///
    /// # Errors
    ///
    /// All that is wrong with any file.
    pub fn of(sources: impl IntoIterator<Item = SourceFile>) -> Result<Self, Diagnostics> {
        Self::with(sources.into_iter().map(SourceFile::parsed).collect())
    }

    /// The project of these files, which have been read.
    fn with(files: Vec<Parsed>) -> Result<Self, Diagnostics> {
        let mut project = Self::default();
        let mut problems = Vec::new();
        for file in files {
            match file {
                Parsed::Component(key, file) => drop(project.components.insert(key, file)),
                Parsed::Appup(key, file) => drop(project.appups.insert(key, file)),
                Parsed::Release(key, file) => drop(project.releases.insert(key, file)),
                Parsed::Relup(key, file) => drop(project.relups.insert(key, file)),
                Parsed::Bad(found) => problems.extend(found),
            }
        }
        if !problems.is_empty() {
            return Err(problems.into());
        }
        let catalogue = &mut project.catalogue;
        for ((name, version), file) in &project.components {
            catalogue.add_component((name, version), Arc::clone(&file.value), &file.hash);
        }
        for ((name, version), file) in &project.appups {
            catalogue.add_appup((name, version), Arc::clone(&file.value), &file.hash);
        }
        for ((name, version), file) in &project.releases {
            catalogue.add_release((name, version), Arc::clone(&file.value), &file.hash);
        }
        Ok(project)
    }

    /// A release of the project.
    ///
    /// # Errors
    ///
    /// If there is none of this name and version; the others are named.
    pub fn release(&self, name: &str, version: &Version) -> Result<&File<Release>, CommandError> {
        let key = (name.to_owned(), version.clone());
        self.releases.get(&key).ok_or_else(|| {
            let all: Vec<String> = self
                .releases
                .keys()
                .map(|(name, version)| format!("{name} {version}"))
                .collect();
            CommandError::Usage(format!(
                "there is no release {name} {version}; there are: {}",
                if all.is_empty() {
                    "none".to_owned()
                } else {
                    all.join(", ")
                }
            ))
        })
    }

    /// The versions of a release below this one, the oldest first.
    pub fn older(&self, name: &str, version: &Version) -> Vec<Version> {
        let own = self.releases.keys().filter(|(other, _)| other == name);
        own.map(|(_, version)| version.clone())
            .filter(|other| other < version)
            .collect()
    }

    /// Makes a relup. Without bases, from every older release that has a way up and down.
    ///
    /// # Errors
    ///
    /// A base has no way; without bases, none has.
    pub fn relup(
        &self,
        name: &str,
        version: &Version,
        bases: &[Version],
    ) -> Result<Relup, Diagnostics> {
        let make = |bases: &[Version]| {
            // Both ways are planned side by side.
            neurath_plan::generate_relup_by(&self.catalogue, (name, version), bases, |up, down| {
                std::thread::scope(|scope| {
                    let down = scope.spawn(down);
                    let up = up();
                    match down.join() {
                        Ok(down) => (up, down),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                })
            })
        };
        if !bases.is_empty() {
            return make(bases);
        }
        let older = self.older(name, version);
        let with_a_way: Vec<Version> = older
            .iter()
            .filter(|base| make(std::slice::from_ref(base)).is_ok())
            .cloned()
            .collect();
        match older.last() {
            // Says what stands in the way from the nearest one.
            Some(nearest) if with_a_way.is_empty() => make(std::slice::from_ref(nearest)),
            _ => make(&with_a_way),
        }
    }

    /// The older releases that a relup made without bases leaves out.
    #[must_use]
    pub fn left_out(&self, relup: &Relup) -> Vec<Version> {
        let mut older = self.older(&relup.name, &relup.version);
        older.retain(|base| relup.up.iter().all(|entry| entry.base != *base));
        older
    }

    /// Makes a plan.
    ///
    /// # Errors
    ///
    /// All that stands in its way.
    pub fn plan(&self, name: &str, from: &Version, to: &Version) -> Result<Plan, Diagnostics> {
        self.planned(name, from, to).map(|planned| planned.plan)
    }

    /// Makes a plan, and says what should be looked at before it is applied.
    ///
    /// # Errors
    ///
    /// All that stands in its way.
    pub fn planned(
        &self,
        name: &str,
        from: &Version,
        to: &Version,
    ) -> Result<Planned, Diagnostics> {
        neurath_plan::plan_with(&self.catalogue, (name, from), (name, to), Lints::Enforce)
    }
}

/// The hash of a file, as plans carry it.
#[must_use]
pub fn hash(text: &str) -> String {
    blake3::hash(text.as_bytes()).to_hex().to_string()
}

/// The text of one file of a project, and what its place says of it.
#[derive(Debug, Clone)]
pub struct SourceFile {
    folder: Folder,
    kind: Kind,
    key: Key,
    path: String,
    text: String,
}

impl SourceFile {
    /// A file `manifests/NAME/VERSION….toml` or `releases/NAME/VERSION….toml`; `None` at any
    /// other place.
    #[must_use]
    pub fn at(path: &Path, text: String) -> Option<Self> {
        let (name, version, kind) = place(path)?;
        let folder = match path.parent()?.parent()?.file_name()?.to_str()? {
            "manifests" => Folder::Manifests,
            "releases" => Folder::Releases,
            _ => return None,
        };
        Some(Self {
            folder,
            kind,
            key: (name, version),
            path: path.display().to_string(),
            text,
        })
    }

    /// What the file says, or what is wrong with it.
    fn parsed(self) -> Parsed {
        match (self.folder, self.kind) {
            (Folder::Manifests, Kind::Plain) => self.read_as(Component::parse, Parsed::Component),
            (Folder::Manifests, Kind::Appup) => self.read_as(Appup::parse, Parsed::Appup),
            (Folder::Releases, Kind::Plain) => self.read_as(Release::parse, Parsed::Release),
            (Folder::Releases, Kind::Relup) => self.read_as(Relup::parse, Parsed::Relup),
            (Folder::Manifests, Kind::Relup) => self.misplaced("a relup", "releases"),
            (Folder::Releases, Kind::Appup) => self.misplaced("an appup", "manifests"),
        }
    }

    fn read_as<T>(
        self,
        parse: impl Fn(&str, &str) -> Result<T, Diagnostics>,
        parsed: impl Fn(Key, File<T>) -> Parsed,
    ) -> Parsed {
        match parse(&self.path, &self.text) {
            Ok(value) => {
                let file = File {
                    path: self.path,
                    hash: hash(&self.text),
                    text: self.text,
                    value: Arc::new(value),
                };
                parsed(self.key, file)
            }
            Err(found) => Parsed::Bad(found),
        }
    }

    fn misplaced(&self, what: &str, folder: &str) -> Parsed {
        let message = format!("{}: {what} belongs with the {folder}", self.path);
        let found = Diagnostic::error("misplaced-file", message).help("move the file there");
        Parsed::Bad(vec![found].into())
    }
}

/// A file that was read as what its place says.
#[derive(Debug)]
enum Parsed {
    Component(Key, File<Component>),
    Appup(Key, File<Appup>),
    Release(Key, File<Release>),
    Relup(Key, File<Relup>),
    Bad(Diagnostics),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Folder {
    Manifests,
    Releases,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Appup,
    Relup,
}

/// Reads `1.1.0.toml`, `1.1.0.appup.toml` and `1.1.0.relup.toml`.
fn kind_of(file: &str) -> Option<(Version, Kind)> {
    let stem = file.strip_suffix(".toml")?;
    let (version, kind) = if let Some(version) = stem.strip_suffix(".appup") {
        (version, Kind::Appup)
    } else if let Some(version) = stem.strip_suffix(".relup") {
        (version, Kind::Relup)
    } else {
        (stem, Kind::Plain)
    };
    Some((Version::parse(version).ok()?, kind))
}

/// Name, version and kind of `…/NAME/VERSION….toml`.
fn place(path: &Path) -> Option<(String, Version, Kind)> {
    let (version, kind) = kind_of(path.file_name()?.to_str()?)?;
    let name = path.parent()?.file_name()?.to_str()?;
    Some((name.to_owned(), version, kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names() {
        let of = |file: &str| kind_of(file).map(|(version, kind)| (version.to_string(), kind));
        assert_eq!(of("1.1.0.toml"), Some(("1.1.0".into(), Kind::Plain)));
        assert_eq!(
            of("1.1.0-rc.1.appup.toml"),
            Some(("1.1.0-rc.1".into(), Kind::Appup))
        );
        assert_eq!(of("1.1.0.relup.toml"), Some(("1.1.0".into(), Kind::Relup)));
        assert_eq!(of("README.md"), None);
        assert_eq!(of("notes.toml"), None);
    }

    #[test]
    fn the_projects_own_files() -> anyhow::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folders = Folders {
            manifests: root.join("manifests"),
            releases: root.join("releases"),
        };
        let project = Project::read(&folders)?;
        let (first, second) = (Version::new(1, 0, 0), Version::new(1, 1, 0));
        assert!(project.release("kv", &first).is_ok());
        assert!(project.release("kv", &Version::new(9, 9, 9)).is_err());
        assert_eq!(project.older("kv", &second), [first]);
        let made = project.relup("kv", &second, &[])?;
        let committed = project
            .relups
            .get(&("kv".to_owned(), second))
            .map(|file| file.text.as_str());
        let made = neurath_plan::relup_to_toml(&made);
        assert_eq!(Some(made.as_str()), committed);
        Ok(())
    }
}
