//! Running cargo.

use crate::reproducible::Flags;
use anyhow::{Context as _, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The library of a component, as its manifest names it: a package, or `PACKAGE/EXAMPLE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted<'a> {
    package: &'a str,
    example: Option<&'a str>,
}

impl<'a> Wanted<'a> {
    fn of(library: &'a str) -> Self {
        match library.split_once('/') {
            Some((package, example)) => Self {
                package,
                example: Some(example),
            },
            None => Self {
                package: library,
                example: None,
            },
        }
    }

    /// Whether this is the artefact that is meant. Cargo writes `-` as `_` in some versions.
    fn is(&self, artefact: &Artefact) -> bool {
        let plain = |name: &str| name.replace('-', "_");
        let kind = if self.example.is_some() {
            "example"
        } else {
            "cdylib"
        };
        plain(package_name(&artefact.package_id)) == plain(self.package)
            && artefact.target.kind.iter().any(|found| found == kind)
            && artefact
                .target
                .crate_types
                .iter()
                .any(|found| found == "cdylib")
            && self
                .example
                .is_none_or(|name| plain(name) == plain(&artefact.target.name))
    }
}

#[derive(Debug, Deserialize)]
struct Artefact {
    package_id: String,
    target: Target,
    filenames: Vec<PathBuf>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
    crate_types: Vec<String>,
}

/// The name in a package id: `path+file:///a/name#1.0.0`, `…#name@1.0.0`, or `name 1.0.0 (…)`.
fn package_name(id: &str) -> &str {
    let Some((place, rest)) = id.rsplit_once('#') else {
        return id.split(' ').next().unwrap_or(id);
    };
    match rest.split_once('@') {
        Some((name, _)) => name,
        None if rest.starts_with(|first: char| first.is_ascii_digit()) => {
            place.rsplit('/').next().unwrap_or(place)
        }
        None => rest,
    }
}

fn artefacts(stdout: &str) -> impl Iterator<Item = Artefact> + '_ {
    #[derive(Deserialize)]
    struct Head<'a> {
        reason: &'a str,
    }
    stdout
        .lines()
        .filter(|line| {
            serde_json::from_str::<Head<'_>>(line)
                .is_ok_and(|head| head.reason == "compiler-artifact")
        })
        .filter_map(|line| serde_json::from_str(line).ok())
}

/// Compiles libraries, in one go, and says where each of them is. The same sources give the same
/// bytes, in whatever folder they are.
///
/// # Errors
///
/// If one does not compile, or is not a `cdylib`.
pub fn build_libraries(
    folder: &Path,
    libraries: &BTreeSet<String>,
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut built = BTreeMap::new();
    let flags = Flags::of(folder)?;
    let (examples, packages): (Vec<_>, Vec<_>) = libraries
        .iter()
        .map(|library| (library, Wanted::of(library)))
        .partition(|(_, wanted)| wanted.example.is_some());
    // An example would keep the libraries of other packages from being built.
    for group in [packages, examples] {
        if group.is_empty() {
            continue;
        }
        let mut arguments: BTreeSet<[&str; 2]> = BTreeSet::new();
        for (_, wanted) in &group {
            arguments.insert(["--package", wanted.package]);
            if let Some(example) = wanted.example {
                arguments.insert(["--example", example]);
            }
        }
        let arguments: Vec<_> = arguments.into_iter().flatten().collect();
        let stdout = build(folder, &arguments, Some(&flags))?;
        let found: Vec<Artefact> = artefacts(&stdout).collect();
        for (library, wanted) in group {
            let file = found
                .iter()
                .filter(|artefact| wanted.is(artefact))
                .flat_map(|artefact| &artefact.filenames)
                .find(|file| file.extension().is_some_and(|extension| extension == "so"));
            let Some(file) = file else {
                bail!(
                    "`{library}` gave no shared library: its Cargo.toml needs \
                     `crate-type = [\"cdylib\"]`"
                );
            };
            built.insert(library.clone(), file.clone());
        }
    }
    Ok(built)
}

/// Compiles a program of a package, with these features, and says where it is.
///
/// # Errors
///
/// If it does not compile, or there is none of this name.
pub fn build_program(
    folder: &Path,
    package: &str,
    program: &str,
    features: &[&str],
) -> anyhow::Result<PathBuf> {
    let features = features.join(",");
    let mut arguments = vec!["--package", package, "--bin", program];
    if !features.is_empty() {
        arguments.extend(["--features", &features]);
    }
    let stdout = build(folder, &arguments, None)?;
    let found = artefacts(&stdout)
        .filter(|artefact| artefact.target.name == program)
        .find_map(|artefact| artefact.executable);
    found.with_context(|| format!("package {package} has no program {program}"))
}

/// Compiles tests of a package, and says where each of these programs is: `lib` is the library's
/// own, the others are files in `tests/`.
///
/// # Errors
///
/// If one does not compile, or is not there.
pub fn build_tests(
    folder: &Path,
    package: &str,
    tests: &[&str],
) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut arguments = vec!["--no-run", "--package", package];
    for test in tests {
        match *test {
            "lib" => arguments.push("--lib"),
            name => arguments.extend(["--test", name]),
        }
    }
    let stdout = release("test", folder, &arguments, None)?;
    let mut found = BTreeMap::new();
    for artefact in artefacts(&stdout) {
        let library = !artefact.target.kind.iter().any(|kind| kind == "test");
        let name = if library {
            "lib"
        } else {
            &artefact.target.name
        };
        if let Some(program) = artefact.executable
            && tests.contains(&name)
        {
            found.insert(name.to_owned(), program);
        }
    }
    match tests.iter().find(|test| !found.contains_key(**test)) {
        Some(test) => bail!("package {package} has no tests `{test}`"),
        None => Ok(found),
    }
}

fn build(folder: &Path, arguments: &[&str], flags: Option<&Flags>) -> anyhow::Result<String> {
    release("build", folder, arguments, flags)
}

/// Runs a command of cargo's with `--release`; its errors go to stderr as ever.
fn release(
    what: &str,
    folder: &Path,
    arguments: &[&str],
    flags: Option<&Flags>,
) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    if let Some(flags) = flags {
        flags.apply(&mut command);
    }
    let output = command
        .current_dir(folder)
        .args([
            what,
            "--release",
            "--message-format=json-render-diagnostics",
        ])
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", cargo.display()))?;
    if !output.status.success() {
        bail!(
            "`cargo {what} --release {}` failed ({})",
            arguments.join(" "),
            output.status
        );
    }
    String::from_utf8(output.stdout).context("cargo wrote something that is not text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_package_ids() {
        assert_eq!(
            package_name("path+file:///w/demo/store-1-0-0#kv-store-1-0-0@0.1.0"),
            "kv-store-1-0-0"
        );
        assert_eq!(
            package_name("path+file:///w/demo/kv-store#0.1.0"),
            "kv-store"
        );
        assert_eq!(
            package_name("registry+https://x/index#serde@1.0.0"),
            "serde"
        );
        assert_eq!(package_name("kv-store 0.1.0 (path+file:///w)"), "kv-store");
    }

    #[test]
    fn artefacts_are_told_apart() {
        let out = concat!(
            r#"{"reason":"build-script-executed","package_id":"x"}"#,
            "\n",
            "not json\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/a#kv-a@1.0.0","target":{"name":"kv_a","kind":["cdylib"],"crate_types":["cdylib"]},"filenames":["/t/libkv_a.so"],"fresh":true}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/a#kv-a@1.0.0","target":{"name":"bad","kind":["example"],"crate_types":["cdylib"]},"filenames":["/t/examples/libbad.so"]}"#,
            "\n",
            r#"{"reason":"compiler-artifact","package_id":"path+file:///w/b#kv-b@1.0.0","target":{"name":"kv_b","kind":["lib"],"crate_types":["lib"]},"filenames":["/t/libkv_b.rlib"]}"#,
            "\n",
        );
        let all: Vec<Artefact> = artefacts(out).collect();
        assert_eq!(all.len(), 3);
        let found = |library| all.iter().position(|one| Wanted::of(library).is(one));
        assert_eq!(found("kv-a"), Some(0));
        assert_eq!(found("kv-a/bad"), Some(1));
        assert_eq!(found("kv-b"), None);
        assert_eq!(found("kv-a/other"), None);
    }
}
