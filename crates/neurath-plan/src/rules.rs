//! What must hold of a release before anything is planned.

use crate::catalogue::Catalogue;
use crate::codes;
use crate::graph::Dependencies;
use crate::sides::Sides;
use neurath_manifest::{Component, Dependency, Diagnostic, Diagnostics, Release, ReleaseComponent};

/// Every component version of a release has its manifest.
pub(crate) fn manifests(catalogue: &Catalogue, release: &Release, problems: &mut Vec<Diagnostic>) {
    for part in &release.components {
        if catalogue.component(&part.name, &part.version).is_none() {
            let message = format!(
                "there is no manifest for {} {}, which is in {} {}",
                part.name, part.version, release.name, release.version
            );
            let diagnostic = Diagnostic::error(codes::NO_MANIFEST, message)
                .at(&release.source, part.span.clone(), "this component")
                .help(format!(
                    "write manifests/{}/{}.toml, or name another version",
                    part.name, part.version
                ));
            problems.push(diagnostic);
        }
    }
}

/// The configuration of each component of a release fits the schema in its manifest.
pub(crate) fn configurations(
    catalogue: &Catalogue,
    release: &Release,
    problems: &mut Vec<Diagnostic>,
) {
    for part in &release.components {
        let Some(component) = catalogue.component(&part.name, &part.version) else {
            continue;
        };
        for problem in component.config_problems(&part.config) {
            let message = format!("{} {}: {problem}", part.name, part.version);
            let diagnostic = Diagnostic::error(codes::CONFIGURATION, message);
            problems.push(if problem.in_release() {
                diagnostic
                    .at_unshown(&release.source, part.config_span.clone())
                    .related(&component.source, None, "has the `config_schema`")
                    .help("write it as the schema says, or release a version with another schema")
            } else {
                diagnostic
                    .in_file(&component.source)
                    .help("mend the defaults in `config`, or the `config_schema`")
            });
        }
    }
}

/// All that must hold of a release by itself: its manifests are there, its configurations fit, its dependencies are met.
/// Whoever plans a way to it sees the same; a release that nothing leads to is looked at by nobody else.
///
/// # Errors
///
/// All that is wrong.
pub fn check_release(catalogue: &Catalogue, release: &Release) -> Result<(), Diagnostics> {
    let mut problems = Vec::new();
    manifests(catalogue, release, &mut problems);
    configurations(catalogue, release, &mut problems);
    dependencies(catalogue, &Sides::new(release, release), &mut problems);
    match problems.is_empty() {
        true => Ok(()),
        false => Err(problems.into()),
    }
}

/// A component that runs in both releases has as many instances in both: what one of them holds would
/// otherwise be nobody's.
pub(crate) fn instances(catalogue: &Catalogue, sides: &Sides<'_>, problems: &mut Vec<Diagnostic>) {
    for part in &sides.to.components {
        let name = part.name.as_str();
        let (Some(before), true) = (sides.old(name), sides.ran(name) && sides.will_run(name))
        else {
            continue;
        };
        let manifests = [before, part].map(|one| catalogue.component(name, &one.version));
        if let [Some(old), Some(new)] = manifests
            && old.instances != new.instances
        {
            let message = format!(
                "{name} {} has {} instances, and {name} {} has {}",
                old.version, old.instances, new.version, new.instances
            );
            problems.push(
                Diagnostic::error(codes::OTHER_INSTANCES, message)
                    .in_file(&new.source)
                    .related(&old.source, None, "as many as there are")
                    .help(format!(
                        "write `instances = {}`; for another number, add a component of another name, and \
                         let this one go",
                        old.instances
                    )),
            );
        }
    }
}

/// Dependencies are there, meet their requirements, and have no circle, in the release that is wanted.
pub(crate) fn dependencies(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    problems: &mut Vec<Diagnostic>,
) {
    let release = sides.to;
    let mut graph = Dependencies::new(release.components.iter().map(|part| part.name.as_str()));
    for part in &release.components {
        let Some(component) = catalogue.component(&part.name, &part.version) else {
            continue;
        };
        for dependency in &component.depends_on {
            graph.add(&part.name, &dependency.component);
            match sides.new_one(&dependency.component) {
                None => problems.push(missing(sides, part, component, dependency)),
                Some(found) if !dependency.requirement.matches(&found.version) => {
                    problems.push(not_met(release, part, component, dependency, found));
                }
                Some(_) => {}
            }
        }
    }
    for circle in graph.circles() {
        problems.push(drawn(catalogue, sides, &circle));
    }
}

fn needs(part: &ReleaseComponent, dependency: &Dependency) -> String {
    format!(
        "{} {} needs {} {}",
        part.name, part.version, dependency.component, dependency.requirement
    )
}

/// What a component needs is not there, or goes.
fn missing(
    sides: &Sides<'_>,
    part: &ReleaseComponent,
    component: &Component,
    dependency: &Dependency,
) -> Diagnostic {
    let (release, needs) = (sides.to, needs(part, dependency));
    if let Some(gone) = sides.old(&dependency.component) {
        let message = format!(
            "{needs}, which {} {} removes",
            release.name, release.version
        );
        return Diagnostic::error(codes::STILL_NEEDED, message)
            .at(
                &component.source,
                dependency.span.clone(),
                "still needed here",
            )
            .related(&sides.from.source, Some(gone.span.clone()), "removed")
            .help(format!(
                "keep `{}` in the release, or release a version of {} that does not need it",
                dependency.component, part.name
            ));
    }
    let message = format!(
        "{needs}, which {} {} has not",
        release.name, release.version
    );
    Diagnostic::error(codes::NOT_IN_RELEASE, message)
        .at(
            &component.source,
            dependency.span.clone(),
            "not in the release",
        )
        .related(&release.source, Some(part.span.clone()), "needed by this")
        .help(format!(
            "add `{}` to [components] of the release, or remove the dependency",
            dependency.component
        ))
}

fn not_met(
    release: &Release,
    part: &ReleaseComponent,
    component: &Component,
    dependency: &Dependency,
    found: &ReleaseComponent,
) -> Diagnostic {
    let message = format!(
        "{}, but {} {} has {}",
        needs(part, dependency),
        release.name,
        release.version,
        found.version
    );
    Diagnostic::error(codes::REQUIREMENT, message)
        .at(
            &component.source,
            dependency.span.clone(),
            "this requirement",
        )
        .related(
            &release.source,
            Some(found.span.clone()),
            format!("this is {}", found.version),
        )
        .help(format!(
            "release a version of {} that fits, or change the requirement",
            dependency.component
        ))
}

/// A circle, with every arrow of it.
fn drawn(catalogue: &Catalogue, sides: &Sides<'_>, circle: &[&str]) -> Diagnostic {
    let first = circle.first().copied().unwrap_or_default();
    let path: Vec<&str> = circle.iter().copied().chain([first]).collect();
    let message = format!(
        "these components depend on each other in a circle: {}",
        path.join(" -> ")
    );
    let mut diagnostic = Diagnostic::error(codes::CYCLE, message);
    for (number, arrow) in path.windows(2).enumerate() {
        let [name, next] = arrow else { continue };
        let found = sides.new_one(name).and_then(|part| {
            let component = catalogue.component(name, &part.version)?;
            let mut all = component.depends_on.iter();
            Some((component, all.find(|one| one.component == *next)?))
        });
        let Some((component, dependency)) = found else {
            continue;
        };
        let label = format!("{name} needs {next}");
        diagnostic = if number == 0 {
            diagnostic.at(&component.source, dependency.span.clone(), label)
        } else {
            diagnostic.related(&component.source, Some(dependency.span.clone()), label)
        };
    }
    diagnostic.help("remove one of these dependencies: none of them could be started first")
}
