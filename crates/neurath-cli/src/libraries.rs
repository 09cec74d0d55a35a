//! What built libraries say of the states, for commands that otherwise read manifests only.

use crate::cli::{Built, Folders};
use crate::manifests::Project;
use crate::output::Output;
use anyhow::Context as _;
use neurath_node::facts;
use neurath_node::release::ReleasePackage;
use std::path::Path;

/// The project in these folders, with what is known of its libraries.
///
/// # Errors
///
/// All that is wrong with a file of the project, or a folder that cannot be listed. A built release
/// that cannot be read is left out, and said.
pub fn project(folders: &Folders, built: &Built, output: &Output) -> anyhow::Result<Project> {
    let mut project = Project::read(folders)?;
    if !built.folder.is_dir() {
        return Ok(project);
    }
    let unread = || format!("cannot list {}", built.folder.display());
    let entries = built.folder.read_dir().with_context(unread)?;
    let mut places = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(unread)?;
    places.sort();
    for place in places
        .iter()
        .filter(|place| place.join("release.toml").is_file())
    {
        if let Err(error) = add(&mut project, place) {
            output.progress(&format!("{} is left out: {error:#}", place.display()));
        }
    }
    Ok(project)
}

/// Adds what the libraries of a built release say. What is known already stays.
fn add(project: &mut Project, place: &Path) -> anyhow::Result<()> {
    let package = ReleasePackage::open(place)?;
    for (name, component) in package.components() {
        let key = (name.clone(), component.version.clone());
        let version = &component.version;
        let wanted = project.components.contains_key(&key);
        if !wanted || project.catalogue.facts(name, version).is_some() {
            continue;
        }
        let bytes = package.library_bytes(name)?;
        let file = place.join(name);
        facts::add(&mut project.catalogue, (name, version), &file, &bytes)
            .with_context(|| format!("the library of {name} {version}"))?;
    }
    Ok(())
}
