//! What must hold of a release before anything is planned.

use crate::catalogue::Catalogue;
use crate::codes;
use crate::graph::Dependencies;
use neurath_manifest::{Diagnostic, Release};

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

/// Dependencies are there, meet their requirements, and have no circle.
pub(crate) fn dependencies(
    catalogue: &Catalogue,
    release: &Release,
    problems: &mut Vec<Diagnostic>,
) {
    let mut graph = Dependencies::new(release.components.iter().map(|part| part.name.as_str()));
    for part in &release.components {
        let Some(component) = catalogue.component(&part.name, &part.version) else {
            continue;
        };
        for dependency in &component.depends_on {
            graph.add(&part.name, &dependency.component);
            let needs = format!(
                "{} {} needs {} {}",
                part.name, part.version, dependency.component, dependency.requirement
            );
            match release.component(&dependency.component) {
                None => problems.push(
                    Diagnostic::error(
                        codes::NOT_IN_RELEASE,
                        format!(
                            "{needs}, which {} {} has not",
                            release.name, release.version
                        ),
                    )
                    .at(
                        &component.source,
                        dependency.span.clone(),
                        "not in the release",
                    )
                    .related(&release.source, Some(part.span.clone()), "needed by this")
                    .help(format!(
                        "add `{}` to [components] of the release, or remove the dependency",
                        dependency.component
                    )),
                ),
                Some(found) if !dependency.requirement.matches(&found.version) => problems.push(
                    Diagnostic::error(
                        codes::REQUIREMENT,
                        format!(
                            "{needs}, but {} {} has {}",
                            release.name, release.version, found.version
                        ),
                    )
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
                    )),
                ),
                Some(_) => {}
            }
        }
    }
    for circle in graph.circles() {
        let message = format!(
            "these components depend on each other in a circle: {}",
            circle.join(", ")
        );
        let mut diagnostic = Diagnostic::error(codes::CYCLE, message);
        let mut first = true;
        for name in &circle {
            let Some(component) = release
                .component(name)
                .and_then(|part| catalogue.component(name, &part.version))
            else {
                continue;
            };
            for dependency in component
                .depends_on
                .iter()
                .filter(|one| circle.contains(&one.component))
            {
                let label = format!("{name} needs {}", dependency.component);
                diagnostic = if first {
                    diagnostic.at(&component.source, dependency.span.clone(), label)
                } else {
                    diagnostic.related(&component.source, Some(dependency.span.clone()), label)
                };
                first = false;
            }
        }
        problems.push(
            diagnostic
                .help("remove one of these dependencies: none of them could be started first"),
        );
    }
}

/// What this version cannot do between two releases: other nodes, components that come or go.
pub(crate) fn supported(from: &Release, to: &Release, problems: &mut Vec<Diagnostic>) {
    if from.node != to.node {
        problems.push(
            Diagnostic::error(
                codes::NODE_VERSION,
                format!(
                    "the node changes from {} to {}: not supported in this version yet",
                    from.node, to.node
                ),
            )
            .at(
                &to.source,
                to.node_span.clone(),
                format!("this is {}", to.node),
            )
            .related(
                &from.source,
                Some(from.node_span.clone()),
                format!("this is {}", from.node),
            )
            .help("name the same node in both releases, and restart into a new node by hand"),
        );
    }
    let comings = to
        .components
        .iter()
        .filter(|part| from.component(&part.name).is_none())
        .map(|part| (part, to, "added"));
    let goings = from
        .components
        .iter()
        .filter(|part| to.component(&part.name).is_none())
        .map(|part| (part, from, "removed"));
    for (part, release, what) in comings.chain(goings) {
        let message = format!(
            "{} is {what} between {} {} and {}: not supported in this version yet",
            part.name, from.name, from.version, to.version
        );
        problems.push(
            Diagnostic::error(codes::UNSUPPORTED, message)
                .at(&release.source, part.span.clone(), format!("{what} here"))
                .help("keep the same components in both releases"),
        );
    }
}
