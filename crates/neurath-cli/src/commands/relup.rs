//! `neurath relup …`

use crate::cli::{Folders, Relup};
use crate::control;
use crate::exit::CommandError;
use crate::manifests::Project;
use crate::numbers;
use crate::output::Output;
use crate::table::Table;
use anyhow::Context as _;
use neurath_manifest::Severity;
use neurath_node::catalog::ReleaseId;
use neurath_node::protocol::{Retained, Upgraded};
use neurath_plan::Plan;
use semver::Version;
use serde_json::{Value, json};
use std::path::Path;

pub fn run(command: &Relup, output: &Output) -> anyhow::Result<()> {
    match command {
        Relup::Generate {
            name,
            version,
            bases,
            folders,
            execute,
        } => generate(folders, name, version, bases, *execute, output),
        Relup::Plan {
            name,
            from,
            to,
            folders,
            out,
        } => plan(folders, name, from, to, out.as_deref(), output),
        Relup::Check {
            name,
            version,
            folders,
        } => check(folders, name, version, output),
        Relup::Apply {
            release,
            node,
            from,
            plan,
            execute,
        } => {
            control::install(&node.dir, release, from)?;
            apply(&node.dir, release, plan.as_deref(), *execute, output)
        }
        Relup::Confirm(node) => confirm(&node.dir, output),
        Relup::Rollback {
            node,
            lose_writes,
            execute,
        } => rollback(&node.dir, *lose_writes, *execute, output),
    }
}

fn generate(
    folders: &Folders,
    name: &str,
    version: &Version,
    bases: &[Version],
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let project = Project::read(folders)?;
    project.release(name, version)?;
    if bases.is_empty() && project.older(name, version).is_empty() {
        let message = format!("{name} {version} has no older release to be upgraded from");
        return Err(CommandError::Usage(message).into());
    }
    let text = project.relup(name, version, bases)?.to_toml();
    let path = folders
        .releases
        .join(name)
        .join(format!("{version}.relup.toml"));
    let previous = project.relups.get(&(name.to_owned(), version.clone()));
    if execute {
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
        "written": execute,
        "changed": previous.is_none_or(|file| file.text != text),
        "text": text,
    }));
    Ok(())
}

fn plan(
    folders: &Folders,
    name: &str,
    from: &Version,
    to: &Version,
    out: Option<&Path>,
    output: &Output,
) -> anyhow::Result<()> {
    let project = Project::read(folders)?;
    project.release(name, from)?;
    project.release(name, to)?;
    let plan = project.plan(name, from, to)?;
    if let Some(path) = out {
        let text = format!("{:#}\n", plan.to_json());
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
        output.progress(&format!("wrote {}", path.display()));
    }
    output.text(&plan.to_text());
    output.json(&json!({ "kind": "plan", "plan": plan.to_json() }));
    Ok(())
}

fn check(folders: &Folders, name: &str, version: &Version, output: &Output) -> anyhow::Result<()> {
    let project = Project::read(folders)?;
    project.release(name, version)?;
    let Some(relup) = project.relups.get(&(name.to_owned(), version.clone())) else {
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

fn apply(
    dir: &Path,
    release: &ReleaseId,
    reviewed: Option<&Path>,
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let reviewed = reviewed.map(read_plan).transpose()?;
    let planned = control::plan(dir, release)?;
    if let Some(reviewed) = &reviewed
        && !same_way(reviewed, &planned.plan)?
    {
        return Err(CommandError::Stale(format!(
            "the node would not carry out the plan that was reviewed, {}, but {}: review that one, \
             which this command shows without `--plan`",
            reviewed.id(),
            planned.plan_id
        ))
        .into());
    }
    if !execute {
        output.text(&Plan::from_json(&planned.plan)?.to_text());
        output.progress("nothing was done; --execute does it");
        output.json(&json!({ "kind": "planned", "planned": planned }));
        return Ok(());
    }
    let upgraded = control::apply(dir, release, Some(planned.plan_id), output)?;
    finished(&upgraded, output)
}

/// Whether a node would take the reviewed steps. The node's plan is made from other files, those of
/// its installed releases, so that its id may be another one.
fn same_way(reviewed: &Plan, of_node: &Value) -> anyhow::Result<bool> {
    let ours = reviewed.to_json();
    let part = |value: &Value| -> Value {
        json!([
            value["name"],
            value["from"],
            value["to"],
            value["direction"],
            value["steps"]
        ])
    };
    Ok(part(&ours) == part(of_node))
}

fn read_plan(path: &Path) -> anyhow::Result<Plan> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let unread = || format!("{} is not a plan", path.display());
    let value: Value = serde_json::from_str(&text).with_context(unread)?;
    Plan::from_json(&value).with_context(unread)
}

fn confirm(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let confirmed = control::confirm(dir, output)?;
    output.text(&format!("{} is permanent", confirmed.release));
    unloading(&confirmed.unloaded, &confirmed.retained, output);
    output.json(&json!({ "kind": "confirmed", "confirmed": confirmed }));
    Ok(())
}

fn rollback(dir: &Path, lose_writes: bool, execute: bool, output: &Output) -> anyhow::Result<()> {
    if execute {
        return finished(&control::rollback(dir, lose_writes, output)?, output);
    }
    let status = control::status(dir)?;
    let would = match (&status.release, &status.permanent) {
        (Some(release), Some(permanent)) if status.unconfirmed => {
            let writes = if lose_writes {
                ", and writes made since may be lost"
            } else {
                ""
            };
            format!("{release} would go back to {permanent}{writes}; --execute does it")
        }
        (Some(release), _) => format!("{release} is confirmed: there is nothing to go back to"),
        (None, _) => String::from("the node has no release"),
    };
    output.text(&would);
    output.json(&json!({
        "kind": "rollback",
        "release": status.release,
        "permanent": status.permanent,
        "unconfirmed": status.unconfirmed,
    }));
    Ok(())
}

fn finished(upgraded: &Upgraded, output: &Output) -> anyhow::Result<()> {
    let mut table = Table::new(&["step", "time>"]);
    for step in &upgraded.steps {
        table.row([step.name.clone(), numbers::micros(step.micros)]);
    }
    table.row([
        "messages waited".to_owned(),
        numbers::micros(upgraded.stop_us),
    ]);
    table.row(["all of it".to_owned(), numbers::micros(upgraded.total_us)]);
    output.text(&format!(
        "{} -> {}\n\n{}",
        upgraded.from,
        upgraded.to,
        table.render()
    ));
    unloading(&upgraded.unloaded, &upgraded.retained, output);
    output.json(&json!({ "kind": "upgraded", "upgraded": upgraded }));
    Ok(())
}

fn unloading(unloaded: &[String], retained: &[Retained], output: &Output) {
    if !unloaded.is_empty() {
        output.text(&format!("unloaded: {}", unloaded.join(", ")));
    }
    for one in retained {
        output.text(&format!("not unloaded: {}: {}", one.library, one.reason));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reviewed_plan_is_compared_by_its_steps() -> anyhow::Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let folders = Folders {
            manifests: root.join("manifests"),
            releases: root.join("releases"),
        };
        let project = Project::read(&folders)?;
        let (first, second) = (Version::new(1, 0, 0), Version::new(1, 1, 0));
        let plan = project.plan("kv", &first, &second)?;
        let mut of_node = plan.to_json();
        assert!(same_way(&plan, &of_node)?);
        of_node["id"] = json!("another");
        of_node["inputs"] = json!([]);
        assert!(same_way(&plan, &of_node)?);
        assert!(!same_way(
            &plan,
            &project.plan("kv", &second, &first)?.to_json()
        )?);
        Ok(())
    }
}
