//! Making, reviewing and checking relups and plans: only files are read.

use crate::cli::{Format, RelupCheck, RelupGenerate, RelupGraph, RelupPlan};
use crate::exit::CommandError;
use crate::history;
use crate::libraries;
use crate::manifests::Project;
use crate::output::Output;
use crate::stale::{Stale, read_plan};
use anyhow::Context as _;
use neurath_manifest::Severity;
use neurath_plan::{ComponentGraph, Consequences, relup_to_toml};
use serde_json::{Value, json};
use std::path::Path;

/// `neurath relup generate`
pub(super) fn generate(command: &RelupGenerate, output: &Output) -> anyhow::Result<()> {
    let (name, version) = (&command.name, &command.version);
    let project = libraries::project(&command.folders, &command.built, output)?;
    project.release(name, version)?;
    if command.bases.is_empty() && project.older(name, version).is_empty() {
        let message = format!("{name} {version} has no older release to be upgraded from");
        return Err(CommandError::Usage(message).into());
    }
    let made = project.relup(name, version, &command.bases)?;
    let left_out = match command.bases.is_empty() {
        true => project.left_out(&made),
        false => Vec::new(),
    };
    for base in &left_out {
        output.progress(&format!(
            "{name} {base} is left out: there is no way from it, or none back; \
             `relup generate {name} {version} --base {base}` says why"
        ));
    }
    let text = relup_to_toml(&made);
    let folder = command.folders.releases.join(name);
    let path = folder.join(format!("{version}.relup.toml"));
    let previous = project.relups.get(&(name.clone(), version.clone()));
    if command.execute {
        if previous.is_some_and(|file| file.value.handwritten) {
            let message = format!("{} is written by hand: remove it first", path.display());
            return Err(CommandError::Usage(message).into());
        }
        std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        output.progress(&format!("wrote {}", path.display()));
    } else {
        let state = match previous {
            Some(file) if file.text == text => "would not change",
            Some(_) => "would change",
            None => "would be new",
        };
        output.progress(&format!("{} {state}; --execute writes it", path.display()));
        output.text(&text);
    }
    output.json(&json!({
        "kind": "relup",
        "file": path,
        "written": command.execute,
        "changed": previous.is_none_or(|file| file.text != text),
        "left_out": left_out.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "text": text,
    }));
    Ok(())
}

/// `neurath relup plan`
pub(super) fn plan(command: &RelupPlan, output: &Output) -> anyhow::Result<()> {
    let project = libraries::project(&command.folders, &command.built, output)?;
    project.release(&command.name, &command.from)?;
    project.release(&command.name, &command.to)?;
    let planned = project.planned(&command.name, &command.from, &command.to)?;
    for finding in &planned.findings {
        output.progress(&finding.render());
    }
    let plan = planned.plan;
    if let Some(path) = &command.out {
        write(path, &format!("{:#}\n", plan.to_json()), output)?;
    }
    let consequences = Consequences::of(&plan).with(&plan, &project.catalogue);
    let text = match command.format {
        Format::Text => plan.to_text_with(&consequences),
        Format::Json => format!("{:#}\n", plan.to_json()),
        Format::Mermaid => plan.to_mermaid(),
        Format::Dot => plan.to_dot(),
        Format::Svg => plan.to_svg(),
    };
    output.text(&text);
    output.json(&json!({
        "kind": "plan",
        "plan": plan.to_json(),
        "consequences": consequences.to_json(),
        "format": command.format.as_str(),
        "rendering": text,
        "findings": planned.findings.iter().map(|one| one.to_json()).collect::<Vec<_>>(),
    }));
    Ok(())
}

/// `neurath relup graph`
pub(super) fn graph(command: &RelupGraph, output: &Output) -> anyhow::Result<()> {
    let project = Project::read(&command.folders)?;
    let (name, version) = (&command.name, &command.version);
    project.release(name, version)?;
    if let Some(base) = &command.from {
        project.release(name, base)?;
    }
    let graph = ComponentGraph::of(&project.catalogue, (name, version), command.from.as_ref())
        .context("the releases are not in the catalogue")?;
    let text = match command.format {
        Format::Text => graph.to_text(),
        Format::Json => format!("{:#}\n", graph.to_json()),
        Format::Mermaid => graph.to_mermaid(),
        Format::Dot => graph.to_dot(),
        Format::Svg => graph.to_svg(),
    };
    output.text(&text);
    output.json(&json!({
        "kind": "graph",
        "graph": graph.to_json(),
        "format": command.format.as_str(),
        "rendering": text,
    }));
    Ok(())
}

fn write(path: &Path, text: &str, output: &Output) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    output.progress(&format!("wrote {}", path.display()));
    Ok(())
}

/// `neurath relup check`
pub(super) fn check(command: &RelupCheck, output: &Output) -> anyhow::Result<()> {
    let (name, version) = (&command.name, &command.version);
    let project = libraries::project(&command.folders, &command.built, output)?;
    project.release(name, version)?;
    if let Some(folder) = &command.released {
        history::check(&project, folder)?;
    }
    if let Some(path) = &command.plan {
        let reviewed = read_plan(path)?;
        let current = project.plan(&reviewed.name, &reviewed.from, &reviewed.to)?;
        if let Some(stale) = Stale::between(&reviewed, &current) {
            return Err(CommandError::Stale(Box::new(stale)).into());
        }
    }
    let Some(relup) = project.relups.get(&(name.clone(), version.clone())) else {
        let message = format!("{name} {version} has no relup; `neurath relup generate` makes one");
        return Err(CommandError::Usage(message).into());
    };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        neurath_plan::check_relup(&project.catalogue, &relup.value)?
            .into_iter()
            .partition(|one| one.severity == Severity::Error);
    for warning in &warnings {
        output.progress(&warning.render());
    }
    if !errors.is_empty() {
        return Err(CommandError::Refused(errors.into()).into());
    }
    output.text(&format!("{} holds", relup.path));
    let warnings: Vec<Value> = warnings.iter().map(|one| one.to_json()).collect();
    output.json(&json!({ "kind": "checked", "file": relup.path, "warnings": warnings }));
    Ok(())
}
