//! Whether the files of what was released are still what they were.
//!
//! Files are compared by what they say, not by how it is written: comments, blanks and line ends
//! may change. A relup may get scripts for more bases; those that were released must stay.

use crate::exit::CommandError;
use crate::manifests::{Key, Project};
use anyhow::Context as _;
use neurath_manifest::{Relup, RelupEntry, canonical};
use neurath_node::release::ReleasePackage;
use semver::Version;
use serde_json::{Value, json};
use std::fmt;
use std::path::{Path, PathBuf};

/// What was edited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edited {
    /// Every file that is not what was released.
    pub files: Vec<EditedFile>,
}

/// A file that is not what was released.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditedFile {
    /// The release that it is in.
    pub release: String,
    /// Its place in the built release.
    pub file: String,
    /// The hash of what it said, and of what the project's file says; `None`: the project has none.
    pub hashes: (String, Option<String>),
}

impl Edited {
    /// As JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let file = |one: &EditedFile| {
            json!({
                "release": one.release,
                "file": one.file,
                "released": one.hashes.0,
                "now": one.hashes.1,
            })
        };
        self.files.iter().map(file).collect()
    }
}

impl fmt::Display for Edited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what was released was edited since:")?;
        for one in &self.files {
            let (released, now) = &one.hashes;
            let now = now.as_deref().unwrap_or("(not there)");
            write!(
                f,
                "\n  {} in {}: {released} -> {now}",
                one.file, one.release
            )?;
        }
        write!(
            f,
            "\nput the files back, and make the change in a new version; nodes that run the old one \
             plan from what was released"
        )
    }
}

/// Compares a project with every built release in a folder.
///
/// # Errors
///
/// If a file was edited, all are named; if a built release cannot be read, or there is none.
pub fn check(project: &Project, folder: &Path) -> anyhow::Result<()> {
    let unread = || format!("cannot read {}", folder.display());
    let mut packages: Vec<PathBuf> = Vec::new();
    for entry in folder.read_dir().with_context(unread)? {
        let path = entry.with_context(unread)?.path();
        if path.is_dir() {
            packages.push(path);
        }
    }
    packages.sort();
    if packages.is_empty() {
        let message = format!("{} has no built release to compare with", folder.display());
        return Err(CommandError::Usage(message).into());
    }
    let mut edited = Edited::default();
    for path in packages {
        let package = ReleasePackage::open(&path)
            .with_context(|| format!("cannot read the release in {}", path.display()))?;
        compare(project, &package, &mut edited);
    }
    if edited.files.is_empty() {
        return Ok(());
    }
    Err(CommandError::Edited(edited).into())
}

fn compare(project: &Project, package: &ReleasePackage, edited: &mut Edited) {
    let release = package.release();
    let mut report = |file: &str, released: &str, now: Option<&str>| {
        if now.map(canonical) != Some(canonical(released)) {
            edited.files.push(EditedFile {
                release: format!("{} {}", release.name, release.version),
                file: file.to_owned(),
                hashes: (hash(released), now.map(hash)),
            });
        }
    };
    let key: Key = (release.name.clone(), release.version.clone());
    let own = |name: &str, version: &Version| -> Key { (name.to_owned(), version.clone()) };
    for part in &release.components {
        let stem = format!("{}-{}", part.name, part.version);
        let place = own(&part.name, &part.version);
        let manifest = project
            .components
            .get(&place)
            .map(|file| file.text.as_str());
        let file = format!("components/{stem}.toml");
        report(&file, package.text(&file).unwrap_or_default(), manifest);
        let file = format!("appups/{stem}.appup.toml");
        if let Some(released) = package.text(&file) {
            let appup = project.appups.get(&place).map(|file| file.text.as_str());
            report(&file, released, appup);
        }
    }
    let now = project.releases.get(&key).map(|file| file.text.as_str());
    report(
        "release.toml",
        package.text("release.toml").unwrap_or_default(),
        now,
    );
    if let (Some(released), Some(now)) = (package.relup(), project.relups.get(&key))
        && !keeps(released, &now.value)
    {
        let text = package.text("relup.toml").unwrap_or_default();
        report("relup.toml", text, Some(&now.text));
    }
}

/// Whether a relup has every script of another one.
fn keeps(released: &Relup, now: &Relup) -> bool {
    let same = |one: &RelupEntry, other: Option<&RelupEntry>| {
        other.is_some_and(|other| one.steps().eq(other.steps()))
    };
    released
        .up
        .iter()
        .all(|one| same(one, now.up_from(&one.base)))
        && released
            .down
            .iter()
            .all(|one| same(one, now.down_to(&one.base)))
}

/// The hash of what a file says. Its first line names the way it is made, so that another one can
/// be told from it.
fn hash(text: &str) -> String {
    let said = canonical(text).unwrap_or_else(|| text.to_owned());
    let hash = blake3::hash(format!("neurath canonical 1\n{said}").as_bytes());
    hash.to_hex().to_string()
}
