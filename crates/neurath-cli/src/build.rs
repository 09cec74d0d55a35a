//! From sources to a release that a node can install.

use crate::cargo;
use crate::cli::Folders;
use crate::exit::CommandError;
use crate::manifests::{Key, Project};
use crate::output::Output;
use crate::reproducible::Flags;
use anyhow::{Context as _, bail};
use neurath_manifest::{Release, Relup, Severity};
use neurath_node::facts;
use neurath_node::handover::NodeDescription;
use neurath_node::loader::{self, Description};
use neurath_node::release::{ComponentSources, NodeSources, ReleasePackage, Sources};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is built.
#[derive(Debug, Clone, Copy)]
pub enum Which<'a> {
    /// Every release of the project.
    All,
    /// These versions of a release.
    These(&'a str, &'a [Version]),
}

/// Compiles the components of releases, checks what the libraries say of themselves and that every
/// relup holds for them, and assembles the releases in the folder `out`. `replace` removes another
/// build of the same release there.
///
/// # Errors
///
/// Whatever is wrong with a file, a library, or a relup.
pub fn build(
    folders: &Folders,
    which: Which<'_>,
    out: &Path,
    replace: bool,
    output: &Output,
) -> anyhow::Result<Vec<ReleasePackage>> {
    let mut project = Project::read(folders)?;
    let wanted: Vec<Key> = match which {
        Which::All => project.releases.keys().cloned().collect(),
        Which::These(name, versions) => {
            for version in versions {
                project.release(name, version)?;
            }
            versions
                .iter()
                .map(|version| (name.to_owned(), version.clone()))
                .collect()
        }
    };
    // Before anything is compiled, which takes its time.
    for (name, version) in &wanted {
        let release = &project.release(name, version)?.value;
        neurath_plan::check_release(&project.catalogue, release)?;
    }
    let files = compile(&project, &wanted, output)?;
    let mut programs = BTreeMap::new();
    for (key, file) in &files {
        let facts = facts::of(&describe(key, file)?)
            .with_context(|| format!("the schema of {} {}", key.0, key.1))?;
        project.catalogue.add_facts((&key.0, &key.1), facts);
    }
    let mut built = Vec::new();
    for (name, version) in &wanted {
        let mut sources = sources(&project, name, version, &files, output)?;
        let release = &project.release(name, version)?.value;
        sources.node = node(release, &mut programs, output)?;
        let place = out.join(format!("{name}-{version}"));
        if replace && place.exists() {
            std::fs::remove_dir_all(&place)
                .with_context(|| format!("cannot remove {}", place.display()))?;
        }
        let package = ReleasePackage::assemble(out, &sources)?;
        output.progress(&format!("assembled {}", package.dir().display()));
        built.push(package);
    }
    Ok(built)
}

fn components(release: &Release) -> impl Iterator<Item = Key> + '_ {
    release
        .components
        .iter()
        .map(|one| (one.name.clone(), one.version.clone()))
}

/// Compiles what the releases need, and what the releases need that they are upgraded from:
/// whether state can be carried over is seen only with both.
fn compile(
    project: &Project,
    wanted: &[Key],
    output: &Output,
) -> anyhow::Result<BTreeMap<Key, PathBuf>> {
    let mut needed = BTreeSet::new();
    for (name, version) in wanted {
        needed.extend(components(&project.release(name, version)?.value));
        let older = project.older(name, version);
        for base in older {
            needed.extend(components(&project.release(name, &base)?.value));
        }
    }
    let mut libraries = BTreeMap::new();
    for key in needed {
        let Some(manifest) = project.components.get(&key) else {
            let message = format!("a release wants {} {}, which has no manifest", key.0, key.1);
            return Err(CommandError::Usage(message).into());
        };
        libraries.insert(key, manifest.value.library.clone());
    }
    output.progress(&format!("compiling {} components", libraries.len()));
    let built = cargo::build_libraries(Path::new("."), &libraries.values().cloned().collect())?;
    let flags = Flags::of(Path::new("."))?;
    let mut files = BTreeMap::new();
    for (key, library) in libraries {
        let file = built
            .get(&library)
            .with_context(|| format!("{library} was not built"))?;
        if let Some(folder) = flags.named_in(file)? {
            output.progress(&format!(
                "warning: {library} names the folder {}: built elsewhere it has other bytes. Do \
                 not set `target.….rustflags` in cargo's configuration, nor a path by `env!`",
                folder.display()
            ));
        }
        files.insert(key, std::path::absolute(file)?);
    }
    Ok(files)
}

/// Reads what a library says of itself; it is not loaded.
fn describe((name, version): &Key, file: &Path) -> anyhow::Result<Description> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let found = loader::describe(file, &bytes)
        .with_context(|| format!("the library of {name} {version}"))?;
    if found.name != *name || found.version != version.to_string() {
        bail!(
            "{} says that it is {} {}, and its manifest is that of {name} {version}: name the right \
             library in the manifest, or set the version in the component",
            file.display(),
            found.name,
            found.version
        );
    }
    Ok(found)
}

/// Refuses a relup that does not hold, and tells of what should be looked at.
fn check(project: &Project, relup: &Relup, output: &Output) -> anyhow::Result<()> {
    let (errors, warnings): (Vec<_>, Vec<_>) =
        neurath_plan::check_relup(&project.catalogue, relup)?
            .into_iter()
            .partition(|one| one.severity == Severity::Error);
    for warning in warnings {
        output.progress(&warning.render());
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(CommandError::Refused(errors.into()).into()),
    }
}

fn sources(
    project: &Project,
    name: &str,
    version: &Version,
    files: &BTreeMap<Key, PathBuf>,
    output: &Output,
) -> anyhow::Result<Sources> {
    let release = project.release(name, version)?;
    let relup = match project.relups.get(&(name.to_owned(), version.clone())) {
        Some(file) => {
            check(project, &file.value, output)?;
            Some(file.source())
        }
        None if project.older(name, version).is_empty() => None,
        None => {
            output.progress(&format!("{name} {version} has no relup: planning one"));
            let made = project.relup(name, version, &[])?;
            for base in project.left_out(&made) {
                output.progress(&format!(
                    "{name} {base} is left out: there is no way from it, or none back"
                ));
            }
            check(project, &made, output)?;
            Some((format!("{name} {version}, planned"), made.to_toml()))
        }
    };
    let mut parts = Vec::new();
    for key in components(&release.value) {
        let manifest = &project.components[&key];
        parts.push(ComponentSources {
            manifest: manifest.source(),
            appup: project.appups.get(&key).map(crate::manifests::File::source),
            library: files[&key].clone(),
        });
    }
    Ok(Sources {
        release: release.source(),
        relup,
        components: parts,
        node: None,
    })
}

/// The node program that a release names, compiled once for all of them.
fn node(
    release: &Release,
    programs: &mut BTreeMap<String, NodeSources>,
    output: &Output,
) -> anyhow::Result<Option<NodeSources>> {
    let Some(package) = &release.node_program else {
        if let Some(text) = has_no_program(release, crate::version()) {
            output.progress(&format!("warning: {text}"));
        }
        return Ok(None);
    };
    if let Some(known) = programs.get(package) {
        return Ok(Some(known.clone()));
    }
    output.progress(&format!("compiling the node program {package}"));
    let program = cargo::build_program(Path::new("."), package, package, &[])?;
    let built = describe_node(&program)?;
    programs.insert(package.clone(), built.clone());
    Ok(Some(built))
}

/// What is to be known of a release without a node program that is for another node than this one of version `own`.
fn has_no_program(release: &Release, own: &str) -> Option<String> {
    let (name, version, wanted) = (&release.name, &release.version, release.node.to_string());
    (wanted != own).then(|| {
        format!(
            "{name} {version} is for node {wanted}, and has no program of it; this is node {own}. Only a node that is \
             {wanted} already serves it: name the package of that program as `node_program`, or set `node = \"{own}\"`"
        )
    })
}

/// A node program, with what it says of itself.
///
/// # Errors
///
/// It cannot be run, or is none.
pub fn describe_node(program: &Path) -> anyhow::Result<NodeSources> {
    let described = Command::new(program).args(["node", "describe"]).output();
    let described = described.with_context(|| format!("cannot run {}", program.display()))?;
    let text = String::from_utf8_lossy(&described.stdout);
    let description = NodeDescription::from_json(&text).with_context(|| {
        format!(
            "{} is no node program: `node describe` should say what it is",
            program.display()
        )
    })?;
    Ok(NodeSources {
        program: program.to_owned(),
        description,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_release_for_a_node_that_nobody_brings_is_told_of() {
        let text = "name = \"kv\"\nversion = \"2.0.0\"\nnode = \"9.0.0\"\n[components]\n\
                    store = { version = \"1.0.0\" }\n[confirm]\nwindow = \"60s\"\n";
        let release = Release::parse("release.toml", text).expect("a release");
        let told = has_no_program(&release, "0.1.0").expect("a warning");
        assert!(told.contains("kv 2.0.0 is for node 9.0.0"), "{told}");
        assert_eq!(has_no_program(&release, "9.0.0"), None);
    }
}
