//! The planner: rules, changes, instructions, proof, translation, simulation, in this order.

use crate::catalogue::{Catalogue, Input};
use crate::changes::{self, Change};
use crate::codes;
use crate::graph::Dependencies;
use crate::instructions::{self, Placed};
use crate::plan::{Direction, Plan, Route};
use crate::{proof, rules, simulate, translate};
use neurath_manifest::{AppupEntry, Diagnostic, Diagnostics, Release, Source};
use semver::Version;
use std::collections::BTreeMap;

/// Plans the way from one release to another, up or down, or says all that stands in its way.
///
/// A component that changes to a newer version follows the `[[up]]` entry of that version's appup, one that changes to an
/// older version the `[[down]]` entry of the version that it leaves. The order is in the crate's documentation.
pub fn plan(
    catalogue: &Catalogue,
    from: (&str, &Version),
    to: (&str, &Version),
) -> Result<Plan, Diagnostics> {
    let mut problems = catalogue.problems.clone();
    let (old, new) = (
        release(catalogue, from, &mut problems),
        release(catalogue, to, &mut problems),
    );
    let (Some(old), Some(new)) = (old, new) else {
        return Err(problems.into());
    };
    let (from, to) = (&old.value, &new.value);
    if from.name != to.name {
        let message = format!(
            "there is no way from {} to {}: they are different releases",
            from.name, to.name
        );
        problems.push(
            Diagnostic::error(codes::OTHER_RELEASE, message)
                .in_file(&to.source)
                .help("name two versions of one release"),
        );
        return Err(problems.into());
    }
    let direction = Direction::between(&from.version, &to.version);
    check_releases(catalogue, from, to, &mut problems);
    let changes = changes::between(from, to);
    let entries = changes
        .iter()
        .map(|change| changes::entry(catalogue, change, to, &mut problems))
        .collect::<Vec<_>>();
    let scripts: Vec<_> = changes
        .iter()
        .zip(entries)
        .filter_map(|(change, entry)| Some((change, entry?)))
        .collect();

    let order = order(catalogue, from, to, &scripts);
    let placed = in_order(&scripts, &order, direction);
    instructions::check(&placed, &changes, to, &mut problems);
    for (change, (entry, source)) in &scripts {
        instructions::check_complete(change, (source, &entry.span), &placed, &mut problems);
        proof::check(catalogue, change, &placed, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let script = translate::translate(&placed, &changes, &order, direction, &mut problems);
    if problems.is_empty() {
        simulate::simulate(catalogue, from, to, &script, &mut problems);
    }
    if !problems.is_empty() {
        return Err(problems.into());
    }
    Ok(Plan {
        name: to.name.clone(),
        from: from.version.clone(),
        to: to.version.clone(),
        direction,
        routes: changes
            .iter()
            .map(|change| Route {
                component: change.component.to_string(),
                versions: vec![change.from.clone(), change.to.clone()],
            })
            .collect(),
        steps: script.into_iter().map(|origin| origin.step).collect(),
        inputs: inputs(catalogue, [old, new], &changes),
    })
}

/// The rules for both releases. The one that is left need not be whole, or there would be no way out of it.
pub(crate) fn check_releases(
    catalogue: &Catalogue,
    from: &Release,
    to: &Release,
    problems: &mut Vec<Diagnostic>,
) {
    rules::manifests(catalogue, from, problems);
    if from.version != to.version {
        rules::manifests(catalogue, to, problems);
    }
    rules::dependencies(catalogue, to, problems);
    rules::supported(from, to, problems);
}

fn release<'a>(
    catalogue: &'a Catalogue,
    which: (&str, &Version),
    problems: &mut Vec<Diagnostic>,
) -> Option<&'a Input<Release>> {
    let found = catalogue.release_input(which.0, which.1);
    if found.is_none() {
        let message = format!("there is no release {} {}", which.0, which.1);
        let known: Vec<String> = catalogue
            .releases()
            .map(|release| format!("{} {}", release.name, release.version))
            .collect();
        let help = if known.is_empty() {
            format!("write releases/{}/{}.toml", which.0, which.1)
        } else {
            format!(
                "write releases/{}/{}.toml, or name one of {}",
                which.0,
                which.1,
                known.join(", ")
            )
        };
        problems.push(Diagnostic::error(codes::NO_RELEASE, message).help(help));
    }
    found
}

type Script<'a> = (&'a Change<'a>, (&'a AppupEntry, &'a Source));

/// All components of both releases, dependencies first.
fn order(
    catalogue: &Catalogue,
    from: &Release,
    to: &Release,
    scripts: &[Script<'_>],
) -> Vec<String> {
    let parts = || to.components.iter().chain(&from.components);
    let mut graph = Dependencies::new(parts().map(|part| part.name.as_str()));
    for part in parts() {
        for dependency in catalogue
            .component(&part.name, &part.version)
            .iter()
            .flat_map(|component| &component.depends_on)
        {
            graph.add(&part.name, &dependency.component);
        }
    }
    // What manifests say holds also where instructions say the opposite.
    graph.settle();
    for (number, (_, (entry, source))) in scripts.iter().enumerate() {
        for placed in placed(number, entry, source) {
            if let Some(member) = placed.member() {
                for dependency in member
                    .depends_on
                    .iter()
                    .filter(|name| *name != member.component)
                {
                    graph.add(member.component, dependency);
                }
            }
        }
    }
    graph.dependencies_first()
}

/// The instructions of all scripts, those of dependencies first on the way up, and last on the way down.
fn in_order<'a>(scripts: &[Script<'a>], order: &[String], direction: Direction) -> Vec<Placed<'a>> {
    let rank: BTreeMap<&str, usize> = order
        .iter()
        .enumerate()
        .map(|(rank, name)| (name.as_str(), rank))
        .collect();
    let mut sorted: Vec<&Script<'a>> = scripts.iter().collect();
    sorted.sort_by_key(|(change, _)| rank.get(change.component));
    if direction == Direction::Down {
        sorted.reverse();
    }
    sorted
        .into_iter()
        .enumerate()
        .flat_map(|(number, (_, (entry, source)))| placed(number, entry, source))
        .collect()
}

fn placed<'a>(
    script: usize,
    entry: &'a AppupEntry,
    source: &'a Source,
) -> impl Iterator<Item = Placed<'a>> {
    let instructions = entry.instructions.iter();
    instructions.map(move |one| Placed {
        script,
        instruction: &one.value,
        source,
        span: &one.span,
    })
}

/// The files that had a part in the plan, sorted by name, each once; and the schemas, where they are known.
fn inputs(
    catalogue: &Catalogue,
    releases: [&Input<Release>; 2],
    changes: &[Change<'_>],
) -> Vec<(String, String)> {
    let mut inputs = BTreeMap::new();
    for release in releases {
        inputs.insert(
            release.value.source.file().to_string(),
            release.hash.clone(),
        );
        for part in &release.value.components {
            if let Some(component) = catalogue.component_input(&part.name, &part.version) {
                inputs.insert(
                    component.value.source.file().to_string(),
                    component.hash.clone(),
                );
            }
        }
    }
    for change in changes {
        if let Some(appup) = catalogue.appup_input(change.component, change.newer()) {
            inputs.insert(appup.value.source.file().to_string(), appup.hash.clone());
        }
        for version in [change.from, change.to] {
            if let Some(facts) = catalogue.facts(change.component, version) {
                inputs.insert(
                    format!("schema of {} {version}", change.component),
                    facts.state_fingerprint.clone(),
                );
            }
        }
    }
    inputs.into_iter().collect()
}
