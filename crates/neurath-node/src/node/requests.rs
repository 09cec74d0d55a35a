//! What a node does when it is asked to.

use std::sync::Arc;

use neurath_manifest::{PurgeKind, Step};
use neurath_plan::{Lints, Plan};
use semver::Version;

use super::core::Core;
use super::planning::{Found, plan};
use crate::catalog::{ReleaseId, State};
use crate::fault;
use crate::journal::{Kind, Verdict};
use crate::protocol::{Outcome, Planned, Progress, Response, Upgraded, code};
use crate::release::ReleasePackage;
use crate::upgrade::{Goal, Upgrade, UpgradeError, Way};

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
    let Found { plan, .. } = plan(core, &to, Lints::Enforce)?;
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
    let Found { plan, between } = plan(core, &package, Lints::Enforce)?;
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
        between,
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
    let (steps, plan_id, way, between) = if lose_writes {
        let steps = steps_back(core, &package);
        (
            steps,
            format!("back-with-loss-{}", previous.plan_id),
            Way::BackWithLoss(previous.regions),
            Vec::new(),
        )
    } else {
        let found = plan(core, &package, Lints::Report).map_err(|refusal| {
            Refusal::new(
                refusal.code,
                format!(
                    "there is no way back to {} that keeps the writes made since:\n{refusal}\n\
                     Add the way down, or go back without them by `--lose-writes`.",
                    previous.release
                ),
            )
        })?;
        let id = found.plan.id();
        (found.plan.steps, id, Way::Back, found.between)
    };
    let goal = Goal {
        package,
        between,
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
