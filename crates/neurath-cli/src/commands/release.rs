//! `neurath release …`

use crate::build::{self, Which};
use crate::cli::{Folders, Release};
use crate::manifests::Project;
use crate::numbers;
use crate::output::Output;
use crate::table::Table;
use neurath_node::release::ReleasePackage;
use serde_json::json;
use std::path::Path;

pub fn run(command: &Release, output: &Output) -> anyhow::Result<()> {
    match command {
        Release::Build {
            name,
            version,
            all: _,
            folders,
            out,
            replace,
        } => {
            let which = match (name, version) {
                (Some(name), Some(version)) => Which::These(name, std::slice::from_ref(version)),
                _ => Which::All,
            };
            build_releases(folders, which, out, *replace, output)
        }
        Release::List { folders, out } => list(folders, out, output),
    }
}

fn build_releases(
    folders: &Folders,
    which: Which<'_>,
    out: &Path,
    replace: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let mut table = Table::new(&["release", "files>", "size>", "hash", "folder"]);
    for package in build::build(folders, which, out, replace, output)? {
        let size = package.files().map(|file| file.size).sum();
        let files = package.files().count();
        let hash = package.hash().to_hex();
        table.row([
            format!("{}-{}", package.name(), package.version()),
            files.to_string(),
            numbers::bytes(size),
            hash[..16].to_owned(),
            package.dir().display().to_string(),
        ]);
        output.json(&json!({
            "kind": "built",
            "name": package.name(),
            "version": package.version(),
            "folder": package.dir(),
            "hash": hash.as_str(),
            "files": files,
            "bytes": size,
        }));
    }
    output.text(&table.render());
    Ok(())
}

fn list(folders: &Folders, out: &Path, output: &Output) -> anyhow::Result<()> {
    let project = Project::read(folders)?;
    let mut table = Table::new(&["release", "components", "upgraded from", "built"]);
    for ((name, version), file) in &project.releases {
        let components: Vec<String> = file
            .value
            .components
            .iter()
            .map(|one| format!("{} {}", one.name, one.version))
            .collect();
        let relup = project.relups.get(&(name.clone(), version.clone()));
        let bases: Vec<String> = relup
            .map(|relup| {
                relup
                    .value
                    .up
                    .iter()
                    .map(|entry| entry.base.to_string())
                    .collect()
            })
            .unwrap_or_default();
        let place = out.join(format!("{name}-{version}"));
        let built = place.exists().then(|| ReleasePackage::open(&place));
        let state = match &built {
            None => String::from("no"),
            Some(Ok(package)) => package.hash().to_hex()[..16].to_owned(),
            Some(Err(error)) => format!("damaged: {error}"),
        };
        output.json(&json!({
            "kind": "release",
            "name": name,
            "version": version.to_string(),
            "components": components,
            "bases": bases,
            "built": built.as_ref().is_some_and(Result::is_ok),
            "damaged": built.and_then(Result::err).map(|error| error.to_string()),
        }));
        table.row([
            format!("{name}-{version}"),
            components.join(", "),
            bases.join(", "),
            state,
        ]);
    }
    output.text(&table.render());
    Ok(())
}
