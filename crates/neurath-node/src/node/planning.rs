//! From the packages that a node has to a plan: files, and what the libraries say of their states.

use std::sync::Arc;

use neurath_manifest::{Diagnostics, Relup, Step};
use neurath_plan::{Catalogue, Lints, Plan, Planned, codes};
use semver::Version;

use super::core::Core;
use super::requests::Refusal;
use super::served;
use crate::facts;
use crate::protocol::code;
use crate::release::ReleasePackage;

/// A plan, and the packages of releases between whose libraries it needs.
pub(super) struct Found {
    pub(super) plan: Plan,
    pub(super) between: Vec<Arc<ReleasePackage>>,
}

/// The plan from the current release to another. On the way back lints are only reported:
/// nothing but an error may stand in its way.
pub(super) fn plan(core: &Core, to: &ReleasePackage, lints: Lints) -> Result<Found, Refusal> {
    let from = core.package.release();
    let target = to.release();
    let packages = [&*core.package, to];
    let (mut catalogue, mut planned) = attempt(core, to, &packages, lints)?;
    let mut between = Vec::new();
    let mut left_out = String::new();
    // The way may lead through versions that other releases of the node have.
    if let Err(problems) = &planned
        && problems
            .iter()
            .any(|one| [codes::NO_APPUP, codes::NOT_COVERED].contains(&one.code))
    {
        (between, left_out) = others(core, to);
        let all = packages.into_iter().chain(between.iter().map(|one| &**one));
        let all: Vec<&ReleasePackage> = all.collect();
        (catalogue, planned) = attempt(core, to, &all, lints)?;
    }
    let planned = planned.map_err(|found| {
        let (text, brief) = (found.render(), found.brief());
        Refusal::with_brief(code::LINT, text + &left_out, brief + &left_out)
    })?;
    for finding in &planned.findings {
        // Without the lines of the files: they may hold configuration that no log may.
        tracing::warn!("{}", finding.brief());
    }
    let mut plan = planned.plan;
    // The reviewed script is what counts, where there is one.
    let newer = if target.version >= from.version {
        to
    } else {
        &core.package
    };
    let reviewed = newer
        .relup()
        .and_then(|relup| script(relup, &from.version, &target.version))
        .filter(|script| *script != plan.steps);
    if let Some(script) = reviewed {
        let found = neurath_plan::prove(&catalogue, from, target, &script);
        if !found.is_empty() {
            return Err(Refusal::with_brief(
                code::LINT,
                found.render(),
                found.brief(),
            ));
        }
        plan.steps = script;
    }
    served::check(core, to, &catalogue, (&plan.steps, lints))?;
    Ok(Found { plan, between })
}

/// Plans with what these packages have, the two ends first.
fn attempt(
    core: &Core,
    to: &ReleasePackage,
    packages: &[&ReleasePackage],
    lints: Lints,
) -> Result<(Catalogue, Result<Planned, Diagnostics>), Refusal> {
    let (from, target) = (core.package.release(), to.release());
    let mut catalogue = Catalogue::new();
    for package in packages {
        add(&mut catalogue, package);
    }
    for name in to.components().keys() {
        let versions = [&*core.package, to].map(|package| package.component(name));
        if let [Some(old), Some(new)] = versions
            && old.version != new.version
        {
            for package in packages {
                add_facts(&mut catalogue, package, name)?;
            }
        }
    }
    let planned = neurath_plan::plan_with(
        &catalogue,
        (&from.name, &from.version),
        (&target.name, &target.version),
        lints,
    );
    Ok((catalogue, planned))
}

/// The other releases of the same name that the node has, sorted: whole, trusted, and of an epoch that is not
/// over, as the one that is asked for. Those that may not be loaded are left out; the text names them, for the case that
/// there is no way without them.
fn others(core: &Core, to: &ReleasePackage) -> (Vec<Arc<ReleasePackage>>, String) {
    let ends = [core.current(), to.id()];
    let known = core.catalog.state().releases.iter();
    let mut names: Vec<_> = known
        .map(|one| one.release.clone())
        .filter(|one| one.name == to.name() && !ends.contains(one))
        .collect();
    names.sort();
    let mut left_out = String::new();
    let mut opened = Vec::new();
    for release in names {
        match core.open_package(&release) {
            Ok(package) => opened.push(package),
            Err(error) => {
                let why = error.brief();
                tracing::warn!(why, %release, "left out of the plan");
                left_out.push_str(&format!("\nno way leads through {release}: {why}"));
            }
        }
    }
    (opened, left_out)
}

/// Adds what the library of a package says of its state.
fn add_facts(
    catalogue: &mut Catalogue,
    package: &ReleasePackage,
    name: &str,
) -> Result<(), Refusal> {
    let Some(component) = package.component(name) else {
        return Ok(());
    };
    if catalogue.facts(name, &component.version).is_some() {
        return Ok(());
    }
    let bytes = package
        .library_bytes(name)
        .map_err(|error| Refusal::new(code::LINT, error.to_string()))?;
    let file = package.dir().join(name);
    // A file that is no component is refused when it is to be loaded, and that is recorded.
    if let Err(error) = facts::add(catalogue, (name, &component.version), &file, &bytes) {
        tracing::warn!(component = name, %error, "nothing is known of the state");
    }
    Ok(())
}

/// The script of a relup between two versions.
fn script(relup: &Relup, from: &Version, to: &Version) -> Option<Vec<Step>> {
    let entry = if to >= from {
        relup.up_from(from)
    } else {
        relup.down_to(to)
    };
    Some(entry?.steps().cloned().collect())
}

/// Adds the files of a package. What is there already stays: the ends come first.
fn add(catalogue: &mut Catalogue, package: &ReleasePackage) {
    let hash = |file: &str| {
        let text = package.text(file).unwrap_or_default();
        blake3::hash(text.as_bytes()).to_hex().to_string()
    };
    let release = package.release();
    let place = (release.name.as_str(), &release.version);
    if catalogue.release(place.0, place.1).is_some() {
        return;
    }
    catalogue.add_release(place, release.clone(), &hash("release.toml"));
    for (name, component) in package.components() {
        let place = (name.as_str(), &component.version);
        if catalogue.component(place.0, place.1).is_some() {
            continue;
        }
        let file = format!("components/{name}-{}.toml", component.version);
        catalogue.add_component(place, component.clone(), &hash(&file));
        if let Some(appup) = package.appup(name) {
            let file = format!("appups/{name}-{}.appup.toml", component.version);
            catalogue.add_appup(place, appup.clone(), &hash(&file));
        }
    }
}
