//! The planner: rules, ways, instructions, proof, translation, simulation, lints, in this order.

use crate::catalogue::{Catalogue, Input};
use crate::changes::Change;
use crate::codes;
use crate::graph::Dependencies;
use crate::instructions::{self, Action, Item, Member, Scripts, Way, What};
use crate::layout::{StateChange, type_changes};
use crate::plan::{Direction, Plan, Route};
use crate::sides::Sides;
use crate::translate::Origin;
use crate::{lints, proof, rules, settings, simulate, translate};
use neurath_manifest::{Diagnostic, Diagnostics, Release, Severity, Step};
use semver::Version;
use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

/// What is done about lints that are denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lints {
    /// There is no plan until they are mended or allowed.
    #[default]
    Enforce,
    /// They are reported as warnings: for a way back, which must not depend on them.
    Report,
}

/// A plan, and what should be looked at before it is applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The plan.
    pub plan: Plan,
    /// Warnings, in the order of finding.
    pub findings: Vec<Diagnostic>,
}

/// Plans the way from one release to another, up or down, or says all that stands in its way. Warnings are dropped: see
/// [`plan_with`].
///
/// A component that changes to a newer version follows the `[[up]]` entry of that version's appup, one that changes to an
/// older version the `[[down]]` entry of the version that it leaves. The order is in the crate's documentation.
///
/// # Errors
///
/// All that stands in the way, lints that are denied among it.
pub fn plan(
    catalogue: &Catalogue,
    from: (&str, &Version),
    to: (&str, &Version),
) -> Result<Plan, Diagnostics> {
    plan_with(catalogue, from, to, Lints::Enforce).map(|planned| planned.plan)
}

/// The same, with what should be looked at.
///
/// # Errors
///
/// As for [`plan`]; with [`Lints::Report`] a lint is never among it.
pub fn plan_with(
    catalogue: &Catalogue,
    from: (&str, &Version),
    to: (&str, &Version),
    lints: Lints,
) -> Result<Planned, Diagnostics> {
    let mut problems = catalogue.problems.clone();
    let (old, new) = releases(catalogue, from, to, &mut problems)?;
    let sides = Sides::new(&old.value, &new.value);
    check_releases(catalogue, &sides, &mut problems);
    let ways = instructions::ways(catalogue, &sides, &mut problems);
    let mut graph = by_manifests(catalogue, &sides);
    let mut scripts = instructions::collect(&sides, &ways, &ranks(&graph, &sides), &mut problems);
    restart_dependants(&graph, &sides, &mut scripts);
    let reset = reset_by(&scripts);
    proof::check(
        catalogue,
        &sides,
        &ways,
        &scripts,
        &|name| reset.contains(name),
        &mut problems,
    );
    lints::check_settings(catalogue, &sides, &ways, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let groups = groups(&mut graph, &sides, &scripts);
    let new_node = new_node(catalogue, &sides);
    let script = translate::translate(&sides, &scripts, &groups, new_node, &mut problems);
    if problems.is_empty() {
        simulate::simulate(catalogue, sides.from, sides.to, &script, &mut problems);
    }
    let restarted = |name: &str| {
        scripts
            .member(name)
            .is_some_and(|member| member.action == Action::Restart)
    };
    let mut findings = lints::of_appups(catalogue, &sides, &ways, &restarted);
    findings.extend(lints::of_script(catalogue, &sides, &script));
    let findings = lints::with_levels(catalogue, &sides, findings);
    let findings = settle(findings, lints, &mut problems);
    if !problems.is_empty() {
        return Err(problems.into());
    }
    let plan = Plan {
        states: states(catalogue, &ways, &reset),
        ..finished(catalogue, &sides, [old, new], &ways, script)
    };
    Ok(Planned { plan, findings })
}

/// What is denied stands in the way, or is a warning where lints are only reported.
fn settle(
    findings: Vec<Diagnostic>,
    lints: Lints,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Diagnostic> {
    let (denied, mut warned): (Vec<_>, Vec<_>) = findings
        .into_iter()
        .partition(|one| one.severity == Severity::Error);
    match lints {
        Lints::Enforce => problems.extend(denied),
        Lints::Report => warned.extend(denied.into_iter().map(Diagnostic::warning)),
    }
    warned
}

fn finished(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    releases: [&Input<Release>; 2],
    ways: &[Way<'_>],
    script: Vec<Origin>,
) -> Plan {
    let routes = ways.iter().map(|(change, legs)| Route {
        component: change.component.to_string(),
        versions: std::iter::once(change.from)
            .chain(legs.iter().map(|leg| leg.to))
            .cloned()
            .collect(),
    });
    Plan {
        name: sides.to.name.clone(),
        from: sides.from.version.clone(),
        to: sides.to.version.clone(),
        direction: sides.direction(),
        routes: routes.collect(),
        steps: script.into_iter().map(|origin| origin.step).collect(),
        states: Vec::new(),
        configurations: settings::configurations(catalogue, sides),
        settings: settings::of_release(sides),
        inputs: inputs(catalogue, releases, ways),
    }
}

/// What becomes of the states that are kept and whose type changes.
fn states(catalogue: &Catalogue, ways: &[Way<'_>], reset: &HashSet<&str>) -> Vec<StateChange> {
    let of = |change: &Change<'_>| {
        let name = change.component;
        let old = &catalogue.facts(name, change.from)?.state;
        let new = &catalogue.facts(name, change.to)?.state;
        let changes = old.fingerprint != new.fingerprint && !reset.contains(name);
        changes.then(|| StateChange {
            component: name.to_string(),
            from: change.from.clone(),
            to: change.to.clone(),
            types: type_changes(old, new),
        })
    };
    ways.iter().filter_map(|(change, _)| of(change)).collect()
}

/// Both releases, of one name.
fn releases<'a>(
    catalogue: &'a Catalogue,
    from: (&str, &Version),
    to: (&str, &Version),
    problems: &mut Vec<Diagnostic>,
) -> Result<(&'a Input<Release>, &'a Input<Release>), Diagnostics> {
    let old = release(catalogue, from, problems);
    let new = release(catalogue, to, problems);
    let (Some(old), Some(new)) = (old, new) else {
        return Err(std::mem::take(problems).into());
    };
    if old.value.name != new.value.name {
        let message = format!(
            "there is no way from {} to {}: they are different releases",
            old.value.name, new.value.name
        );
        problems.push(
            Diagnostic::error(codes::OTHER_RELEASE, message)
                .in_file(&new.value.source)
                .help("name two versions of one release"),
        );
        return Err(std::mem::take(problems).into());
    }
    Ok((old, new))
}

/// The rules for both releases. The one that is left need not be whole, or there would be no way out of it.
pub(crate) fn check_releases(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    problems: &mut Vec<Diagnostic>,
) {
    rules::manifests(catalogue, sides.from, problems);
    if sides.from.version != sides.to.version {
        rules::manifests(catalogue, sides.to, problems);
    }
    rules::configurations(catalogue, sides.to, problems);
    rules::instances(catalogue, sides, problems);
    rules::dependencies(catalogue, sides, problems);
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

/// The graph of what the manifests of both releases say.
fn by_manifests<'a>(catalogue: &'a Catalogue, sides: &Sides<'a>) -> Dependencies<'a> {
    let mut graph = Dependencies::new(sides.listing());
    for name in sides.listing() {
        for part in [sides.old(name), sides.new_one(name)].into_iter().flatten() {
            let component = catalogue.component(&part.name, &part.version);
            for dependency in component.iter().flat_map(|component| &component.depends_on) {
                graph.add(&part.name, &dependency.component);
            }
        }
    }
    graph
}

/// Where the script of each component stands: those of dependencies first on the way up, and last on the way down.
fn ranks<'a>(graph: &Dependencies<'a>, sides: &Sides<'a>) -> HashMap<&'a str, usize> {
    let order = graph.dependencies_first();
    let last = order.len();
    let ranked = order.into_iter().enumerate().map(|(rank, name)| {
        let rank = match sides.direction() {
            Direction::Up => rank,
            Direction::Down => last - rank,
        };
        (name, rank)
    });
    ranked.collect()
}

/// What depends on a component that is restarted is stopped before it, and started again after it.
fn restart_dependants<'a>(graph: &Dependencies<'a>, sides: &Sides<'a>, scripts: &mut Scripts<'a>) {
    let mut queue: VecDeque<(&'a str, usize)> = scripts
        .items
        .iter()
        .filter_map(|item| match item.what {
            What::Member(number) => {
                let member = &scripts.members[number];
                (member.action == Action::Restart).then_some((member.component, item.script))
            }
            _ => None,
        })
        .collect();
    let mut added = Vec::new();
    while let Some((name, script)) = queue.pop_front() {
        for dependant in graph.dependants(name) {
            let (Some(old), Some(new)) = (sides.old(dependant), sides.new_one(dependant)) else {
                continue;
            };
            let runs = old.start.runs() && new.start.runs();
            if !runs || old.version != new.version || scripts.by_name.contains_key(dependant) {
                continue;
            }
            scripts.by_name.insert(dependant, scripts.members.len());
            added.push(Item {
                script,
                what: What::Member(scripts.members.len()),
                place: None,
            });
            scripts.members.push(Member {
                from: Some(&old.version),
                to: Some(&new.version),
                ..Member::new(dependant, Action::Restart)
            });
            queue.push_back((dependant, script));
        }
    }
    scripts.items.extend(added);
    scripts.items.sort_by_key(|item| item.script);
}

/// The components whose regions are thrown away.
fn reset_by<'a>(scripts: &Scripts<'a>) -> HashSet<&'a str> {
    let steps = scripts.items.iter().filter_map(|item| match item.what {
        What::State(Step::ResetNode { components, .. }) => Some(components),
        _ => None,
    });
    steps.flatten().map(String::as_str).collect()
}

/// The groups that change together, each dependencies first, in the order of the way up.
fn groups<'a>(
    graph: &mut Dependencies<'a>,
    sides: &Sides<'a>,
    scripts: &Scripts<'a>,
) -> Vec<Vec<&'a str>> {
    for member in &scripts.members {
        for dependency in &member.depends_on {
            graph.add_wish(member.component, dependency);
        }
    }
    for item in &scripts.items {
        match item.what {
            // Who takes comes after who gives; and all of them stand still together.
            What::State(Step::MoveState { from, to, .. }) => {
                for giver in from {
                    for taker in to {
                        graph.add_wish(taker, giver);
                    }
                }
            }
            What::State(step) => {
                for pair in step.components().windows(2) {
                    if let [one, other] = pair {
                        graph.add_wish(other, one);
                    }
                }
            }
            _ => {}
        }
    }
    let mut order: Vec<(usize, usize)> = Vec::new();
    for item in &scripts.items {
        if let What::Member(number) = item.what {
            order.push((item.script, number));
        }
    }
    if sides.direction() == Direction::Down {
        order.sort_by_key(|(script, _)| Reverse(*script));
    }
    let mut position = vec![None; sides.listing().count()];
    for (at, (_, number)) in order.into_iter().enumerate() {
        if let Some(node) = graph.number(scripts.members[number].component) {
            position[node] = Some(at);
        }
    }
    graph.groups(&position)
}

/// Whether the releases need different nodes: by their versions, or by the ABI of their libraries.
fn new_node(catalogue: &Catalogue, sides: &Sides<'_>) -> bool {
    let abis = |release: &Release| -> BTreeSet<u32> {
        let facts = release
            .components
            .iter()
            .filter_map(|part| catalogue.abi(&part.name, &part.version));
        facts.collect()
    };
    let (old, new) = (abis(sides.from), abis(sides.to));
    sides.from.node != sides.to.node || (!old.is_empty() && !new.is_empty() && !new.is_subset(&old))
}

/// The files that had a part in the plan, sorted by name, each once; and the schemas, where they are known.
fn inputs(
    catalogue: &Catalogue,
    releases: [&Input<Release>; 2],
    ways: &[Way<'_>],
) -> Vec<(String, String)> {
    let mut files: Vec<(&str, &str)> = Vec::new();
    let mut schemas: Vec<(String, String)> = Vec::new();
    for release in releases {
        files.push((release.value.source.file(), &release.hash));
        for part in &release.value.components {
            if let Some(component) = catalogue.component_input(&part.name, &part.version) {
                files.push((component.value.source.file(), &component.hash));
            }
        }
    }
    for (change, legs) in ways {
        let name = change.component;
        for version in std::iter::once(change.from).chain(legs.iter().map(|leg| leg.to)) {
            if let Some(facts) = catalogue.facts(name, version) {
                let what = format!("schema of {name} {version}");
                schemas.push((what, facts.state.fingerprint.clone()));
            }
        }
        for leg in legs {
            if let Some(appup) = catalogue.appup_input(name, leg.from.max(leg.to)) {
                files.push((appup.value.source.file(), &appup.hash));
            }
        }
    }
    files.sort_unstable();
    files.dedup();
    let files = files.into_iter();
    let mut inputs: Vec<(String, String)> = files
        .map(|(file, hash)| (file.to_string(), hash.to_string()))
        .chain(schemas)
        .collect();
    inputs.sort();
    inputs.dedup_by(|one, other| one.0 == other.0);
    inputs
}
