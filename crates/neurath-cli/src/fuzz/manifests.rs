//! Fuzzing of the parsers of all files, of the planner, and of plan files.

use super::{Random, Verdict, mutated};
use crate::manifests::{Project, SourceFile};
use crate::projects::{self, Files, RELEASE, VERSIONS};
use anyhow::{Context as _, bail};
use neurath_manifest::{Appup, Component, Diagnostics, Release, Relup, Severity};
use neurath_plan::{Plan, check_relup, relup_to_toml};
use semver::Version;
use std::path::Path;

/// Texts to begin with.
#[derive(Debug, Clone)]
pub struct Corpus {
    texts: Vec<String>,
}

impl Corpus {
    /// Reads every file below a folder, in the order of their names.
    ///
    /// # Errors
    ///
    /// If the folder cannot be read, or has no file.
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let mut texts = Vec::new();
        read_below(folder, &mut texts)?;
        if texts.is_empty() {
            bail!("there is no corpus in {}", folder.display());
        }
        Ok(Self { texts })
    }
}

fn read_below(folder: &Path, texts: &mut Vec<String>) -> anyhow::Result<()> {
    let unread = || {
        format!(
            "cannot read {}: name the corpus with --corpus",
            folder.display()
        )
    };
    let mut paths = Vec::new();
    for entry in folder.read_dir().with_context(unread)? {
        paths.push(entry.with_context(unread)?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            read_below(&path, texts)?;
        } else if path.extension().is_some_and(|ending| ending == "toml") {
            let text = std::fs::read(&path).with_context(unread)?;
            texts.push(String::from_utf8_lossy(&text).into_owned());
        }
    }
    Ok(())
}

/// Tries one case.
///
/// # Errors
///
/// Which rule was broken. A panic is one, too, but not caught here.
pub fn case(corpus: &Corpus, seed: u64, number: u64) -> Result<Verdict, String> {
    let mut random = Random::of(seed, number);
    match number % 4 {
        0 | 1 => text(&mutated(&mut random, &corpus.texts)),
        2 => project(projects::any(&mut random), &mut random),
        _ => {
            let mut files = projects::any(&mut random);
            let at = random.below(files.len());
            let texts: Vec<String> = files.iter().map(|(_, text)| text.clone()).collect();
            files[at].1 = mutated(&mut random, &texts[at..=at]);
            project(files, &mut random)
        }
    }
}

/// What a case is made from, to be looked at.
#[must_use]
pub fn input(corpus: &Corpus, seed: u64, number: u64) -> String {
    let mut random = Random::of(seed, number);
    match number % 4 {
        0 | 1 => mutated(&mut random, &corpus.texts),
        kind => {
            let mut files = projects::any(&mut random);
            if kind == 3 {
                let at = random.below(files.len());
                let texts: Vec<String> = files.iter().map(|(_, text)| text.clone()).collect();
                files[at].1 = mutated(&mut random, &texts[at..=at]);
            }
            files
                .iter()
                .map(|(path, text)| format!("# {path}\n{text}\n"))
                .collect()
        }
    }
}

/// Any text is read as every kind of file, and as a plan.
fn text(text: &str) -> Result<Verdict, String> {
    let mut taken = false;
    taken |= refusal("component", Component::parse("f", text).err())?;
    taken |= refusal("appup", Appup::parse("f", text).err())?;
    taken |= refusal("release", Release::parse("f", text).err())?;
    let relup = Relup::parse("f", text);
    if let Ok(relup) = &relup {
        let written = relup.to_toml();
        let again = Relup::parse("f", &written).map(|relup| relup.to_toml());
        if again.as_ref() != Ok(&written) {
            return Err("a relup does not come back as it was written".into());
        }
    }
    taken |= refusal("relup", relup.err())?;
    Ok(if taken {
        Verdict::Accepted
    } else {
        Verdict::Refused
    })
}

/// Whether there is no refusal; one that there is has to say something, in every form.
fn refusal(what: &str, found: Option<Diagnostics>) -> Result<bool, String> {
    let Some(found) = found else { return Ok(true) };
    if found.is_empty() {
        return Err(format!("a {what} is refused without a word"));
    }
    let shown = [
        found.render(),
        found.render_coloured(),
        found.to_json().to_string(),
    ];
    match shown.iter().map(String::len).max() {
        Some(longest) if longest > 8 << 20 => {
            Err(format!("what is said of a {what} has {longest} bytes"))
        }
        _ => Ok(false),
    }
}

/// A project is planned up and down, from its files in two orders.
fn project(files: Files, random: &mut Random) -> Result<Verdict, String> {
    let mut shuffled = files.clone();
    random.shuffle(&mut shuffled);
    let (read, other) = (parse(&files), parse(&shuffled));
    let project = match (read, other) {
        (Ok(project), Ok(_)) => project,
        (Err(found), Err(_)) => return refusal("project", Some(found)).map(|_| Verdict::Refused),
        _ => return Err("the order of the files decides whether they can be read".into()),
    };
    let shuffled = parse(&shuffled).map_err(|found| found.render())?;
    let [old, new] = VERSIONS.map(Version::parse);
    let (Ok(old), Ok(new)) = (old, new) else {
        return Err("the versions are not versions".into());
    };
    let mut verdict = Verdict::Refused;
    for (from, to) in [(&old, &new), (&new, &old), (&new, &new)] {
        let planned = project.plan(RELEASE, from, to);
        if planned != shuffled.plan(RELEASE, from, to) {
            return Err(format!(
                "{from} -> {to}: the order of the files changes the plan"
            ));
        }
        match planned {
            Ok(plan) => {
                verdict = Verdict::Accepted;
                let shown = [
                    plan.to_text(),
                    plan.to_mermaid(),
                    plan.to_dot(),
                    plan.to_svg(),
                ];
                if shown.iter().any(String::is_empty) {
                    return Err("a plan is shown as nothing".into());
                }
                plan_file(&plan, random)?;
            }
            Err(found) => drop(refusal("plan", Some(found))?),
        }
    }
    if let Ok(relup) = project.relup(RELEASE, &new, std::slice::from_ref(&old)) {
        let written = relup.to_toml();
        let again = Relup::parse("f", &written).map_err(|found| found.render())?;
        if again.to_toml() != written {
            return Err("a generated relup does not come back as it was written".into());
        }
        let commented = Relup::parse("f", &relup_to_toml(&relup)).map(|relup| relup.to_toml());
        if commented.as_ref() != Ok(&written) {
            return Err("a commented relup says something else".into());
        }
        let found = check_relup(&project.catalogue, &again).map_err(|found| found.render())?;
        if let Some(error) = found.iter().find(|one| one.severity == Severity::Error) {
            return Err(format!("a generated relup is refused: {}", error.render()));
        }
    }
    Ok(verdict)
}

fn parse(files: &Files) -> Result<Project, Diagnostics> {
    let sources = files
        .iter()
        .filter_map(|(path, text)| SourceFile::at(Path::new(path), text.clone()));
    Project::of(sources)
}

/// A plan comes back from its file; from a damaged one, an error does, or another good plan.
fn plan_file(plan: &Plan, random: &mut Random) -> Result<(), String> {
    let written = plan.to_json();
    if Plan::from_json(&written).as_ref() != Ok(plan) {
        return Err("a plan does not come back from its file".into());
    }
    let damaged = mutated(random, &[format!("{written:#}")]);
    if let Ok(value) = serde_json::from_str::<serde_json::Value>(&damaged)
        && let Ok(other) = Plan::from_json(&value)
        && other.id() != plan.id()
        && value["id"] == written["id"]
    {
        return Err("an altered plan has the id of the one that it was".into());
    }
    Ok(())
}
