//! What a node does when it is asked to.

use std::sync::Arc;

use neurath_manifest::{PurgeKind, Relup, Step};
use neurath_plan::{Catalogue, Lints, Plan};
use semver::Version;

use super::core::Core;
use crate::catalog::{ReleaseId, State};
use crate::facts;
use crate::fault;
use crate::journal::{Kind, Verdict};
use crate::protocol::{Outcome, Planned, Progress, Response, Upgraded, code};
use crate::release::ReleasePackage;
use crate::upgrade::{Goal, Upgrade, UpgradeError, Way, steps};

/// Why a request cannot be met, with the exit code for it.
pub(super) struct Refusal {
    code: u8,
    text: String,
}

impl Refusal {
    pub(super) fn new(code: u8, text: impl Into<String>) -> Refusal {
        Refusal {
            code,
            text: text.into(),
        }
    }

    pub(super) fn response(self) -> Response {
        Response::failed(self.code, self.text)
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<UpgradeError> for Refusal {
    fn from(error: UpgradeError) -> Refusal {
        let code = match &error {
            UpgradeError::Lost { .. } | UpgradeError::Later(_) => code::OPERATOR,
            _ => code::UPGRADE_FAILED,
        };
        Refusal::new(code, error.to_string())
    }
}

/// The plan from the current release to another. On the way back lints are only reported: nothing but an error may
/// stand in its way.
pub(super) fn plan(core: &Core, to: &ReleasePackage, lints: Lints) -> Result<Plan, Refusal> {
    let from = core.package.release();
    let target = to.release();
    let mut catalogue = Catalogue::new();
    for package in [&*core.package, to] {
        add(&mut catalogue, package);
    }
    for name in to.components().keys() {
        let versions = [&*core.package, to].map(|package| package.component(name));
        if let [Some(old), Some(new)] = versions
            && old.version != new.version
        {
            for package in [&*core.package, to] {
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
    let planned = planned.map_err(|problems| Refusal::new(code::LINT, problems.render()))?;
    for finding in &planned.findings {
        tracing::warn!("{}", finding.render());
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
        .and_then(|relup| script(relup, from.version.clone(), target.version.clone()))
        .filter(|script| *script != plan.steps);
    if let Some(script) = reviewed {
        let found = neurath_plan::prove(&catalogue, from, target, &script);
        if !found.is_empty() {
            return Err(Refusal::new(code::LINT, found.render()));
        }
        plan.steps = script;
    }
    if let Some(text) = steps::refusal(&plan.steps) {
        return Err(Refusal::new(code::LINT, text));
    }
    Ok(plan)
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
    let refused = |text: String| Refusal::new(code::LINT, text);
    let bytes = package
        .library_bytes(name)
        .map_err(|error| refused(error.to_string()))?;
    let file = package.dir().join(name);
    // A file that is no component is refused when it is to be loaded, and that is recorded.
    if let Err(error) = facts::add(catalogue, (name, &component.version), &file, &bytes) {
        tracing::warn!(component = name, %error, "nothing is known of the state");
    }
    Ok(())
}

/// The script of a relup between two versions.
fn script(relup: &Relup, from: Version, to: Version) -> Option<Vec<Step>> {
    let entry = if to >= from {
        relup.up_from(&from)
    } else {
        relup.down_to(&to)
    };
    Some(entry?.steps().cloned().collect())
}

fn add(catalogue: &mut Catalogue, package: &ReleasePackage) {
    let hash = |file: &str| {
        let text = package.text(file).unwrap_or_default();
        blake3::hash(text.as_bytes()).to_hex().to_string()
    };
    let release = package.release();
    let place = (release.name.as_str(), &release.version);
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

/// A plan as the client is shown it.
fn shown(core: &Core, plan: &Plan, to: &ReleasePackage) -> Planned {
    Planned {
        plan_id: plan.id(),
        from: core.current(),
        to: core.id_of(to),
        steps: plan.steps.iter().map(ToString::to_string).collect(),
        plan: plan.to_json(),
    }
}

/// The package of a release that can be gone to.
fn target(core: &Core, release: &ReleaseId) -> Result<Arc<ReleasePackage>, Refusal> {
    if *release == core.current() {
        let text = format!("{release} is the current release already");
        return Err(Refusal::new(code::USAGE, text));
    }
    let package = core.open_package(release)?;
    if !package.release().confirm.checks.is_empty() {
        // Zero checks run would be a success that means nothing.
        let text = format!(
            "{release} names health checks for its confirmation, which this node does not run \
             yet; remove `checks` from its release file, and confirm it yourself"
        );
        return Err(Refusal::new(code::LINT, text));
    }
    Ok(package)
}

/// Says what an upgrade would do.
pub(super) fn planned(core: &Core, release: &ReleaseId) -> Result<Outcome, Refusal> {
    let to = target(core, release)?;
    let plan = plan(core, &to, Lints::Enforce)?;
    Ok(Outcome::Planned(shown(core, &plan, &to)))
}

/// Goes to another release.
pub(super) fn apply(
    core: &mut Core,
    release: &ReleaseId,
    plan_id: Option<&str>,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Upgraded, Refusal> {
    let package = target(core, release)?;
    if core.catalog.state().previous.is_some() {
        let current = core.current();
        let text = format!("{current} is not confirmed yet; confirm it or go back first");
        return Err(Refusal::new(code::BUSY, text));
    }
    let plan = plan(core, &package, Lints::Enforce)?;
    let id = plan.id();
    if let Some(reviewed) = plan_id.filter(|reviewed| *reviewed != id) {
        return Err(Refusal::new(
            code::STALE,
            format!(
                "plan {reviewed} was made for another state of the node; the plan is {id} now: \
                 review it again"
            ),
        ));
    }
    let goal = Goal {
        package,
        steps: plan.steps,
        plan_id: id,
        operation: operation(core, "apply"),
        who: who.to_owned(),
        way: Way::Forward,
    };
    match Upgrade::new(core, &goal, progress).run() {
        // An upgrade is done when all of its script is.
        Err(UpgradeError::Later(cause)) => Err(go_back(core, &cause, who, progress)),
        done => Ok(done?),
    }
}

/// Goes back from a release that serves, since its script has failed.
fn go_back(
    core: &mut Core,
    cause: &UpgradeError,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Refusal {
    match rollback(core, false, who, progress) {
        Ok(back) => Refusal::new(
            code::UPGRADE_FAILED,
            format!("{cause}; the node went back to {}", back.to),
        ),
        Err(refusal) => Refusal::new(
            code::OPERATOR,
            format!("{cause}; and the node could not go back: {refusal}"),
        ),
    }
}

/// Goes back to the release before.
pub(super) fn rollback(
    core: &mut Core,
    lose_writes: bool,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Upgraded, Refusal> {
    let Some(previous) = core.catalog.state().previous.clone() else {
        let text = format!("{} is confirmed: there is no way back kept", core.current());
        return Err(Refusal::new(code::USAGE, text));
    };
    let package = core.open_package(&previous.release)?;
    let operation = operation(core, "rollback");
    let (steps, plan_id, way) = if lose_writes {
        let steps = steps_back(core, &package);
        (
            steps,
            format!("back-with-loss-{}", previous.plan_id),
            Way::BackWithLoss(previous.regions),
        )
    } else {
        let plan = plan(core, &package, Lints::Report).map_err(|refusal| {
            Refusal::new(
                refusal.code,
                format!(
                    "there is no way back to {} that keeps the writes made since:\n{refusal}\n\
                     Add the way down, or go back without them by `--lose-writes`.",
                    previous.release
                ),
            )
        })?;
        let id = plan.id();
        (plan.steps, id, Way::Back)
    };
    let goal = Goal {
        package,
        steps,
        plan_id,
        operation,
        who: who.to_owned(),
        way,
    };
    Ok(Upgrade::new(core, &goal, progress).run()?)
}

/// A script that only exchanges code, for a way back to the old regions.
fn steps_back(core: &Core, to: &Arc<ReleasePackage>) -> Vec<Step> {
    let changed: Vec<(String, Version, Version)> = to
        .release()
        .components
        .iter()
        .filter_map(|component| {
            let now = core.package.release().component(&component.name)?;
            (now.version != component.version).then(|| {
                (
                    component.name.clone(),
                    component.version.clone(),
                    now.version.clone(),
                )
            })
        })
        .collect();
    let names: Vec<String> = changed.iter().map(|(name, ..)| name.clone()).collect();
    let runs = |of: &ReleasePackage, name: &str| {
        let component = of.release().component(name);
        component.is_some_and(|component| component.start.runs())
    };
    let only_in = |of: &ReleasePackage, other: &ReleasePackage| -> Vec<(String, Version)> {
        let components = of.release().components.iter();
        components
            .filter(|one| runs(of, &one.name) && !runs(other, &one.name))
            .map(|one| (one.name.clone(), one.version.clone()))
            .collect()
    };
    let (come, go) = (only_in(to, &core.package), only_in(&core.package, to));
    let mut steps = Vec::new();
    let back = changed.iter().map(|(name, version, _)| (name, version));
    for (component, version) in back.chain(come.iter().map(|(name, version)| (name, version))) {
        steps.push(Step::LoadObjectCode {
            component: component.clone(),
            version: version.clone(),
            pre_purge: None,
        });
    }
    steps.push(Step::PointOfNoReturn);
    steps.push(Step::Suspend {
        components: names.clone(),
        timeout: None,
    });
    for (component, version) in go {
        let components = vec![component.clone()];
        steps.push(Step::Stop { components });
        steps.push(Step::Remove { component, version });
    }
    for (component, version, _) in &changed {
        let (component, version) = (component.clone(), version.clone());
        steps.push(Step::Load { component, version });
    }
    if !come.is_empty() {
        let components = come.into_iter().map(|(name, _)| name).collect();
        steps.push(Step::Start { components });
    }
    steps.push(Step::Resume { components: names });
    for (component, _, version) in changed {
        steps.push(Step::Purge {
            component,
            version,
            kind: PurgeKind::Soft,
        });
    }
    steps
}

/// Makes the current release the permanent one.
pub(super) fn confirm(core: &mut Core, who: &str) -> Result<Outcome, Refusal> {
    let state = core.catalog.state().clone();
    if state.previous.is_none() {
        let text = format!("{} is confirmed already", core.current());
        return Err(Refusal::new(code::USAGE, text));
    }
    let release = core.current();
    let operation = operation(core, "confirm");
    let started = Kind::Started {
        operation: "confirm".into(),
        plan_id: None,
        from: state.permanent.clone(),
        to: Some(release.clone()),
    };
    core.journal
        .append(&operation, who, started)
        .map_err(UpgradeError::from)?;
    let next = State {
        permanent: Some(release.clone()),
        previous: None,
        unconfirmed_since_ms: None,
        sequence: state.sequence + 1,
        ..state
    };
    core.catalog.commit(next).map_err(UpgradeError::from)?;
    fault::point("confirm.committed");
    let warm = std::mem::take(&mut core.warm);
    let unloaded = core.close_libraries(warm);
    core.remove_orphans();
    fault::point("confirm.settled");
    core.end(
        &operation,
        who,
        Verdict::Done,
        format!("{release} is permanent"),
    );
    Ok(Outcome::Confirmed {
        release,
        unloaded,
        retained: core.retained(),
    })
}

/// A name for an operation.
fn operation(core: &Core, what: &str) -> String {
    format!("{what}-{}", core.journal.sequence() + 1)
}
