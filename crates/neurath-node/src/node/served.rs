//! Whether the node that a plan leads to serves the components that it meets.

use neurath_manifest::Step;
use neurath_plan::{Catalogue, Lints};

use super::core::Core;
use super::requests::Refusal;
use crate::catalog::ReleaseId;
use crate::handover::{LeaveError, NodeDescription, ProgramError};
use crate::loader::{self, LoadError};
use crate::protocol::code;
use crate::release::ReleasePackage;

/// Refuses a plan to a node that is not there, or that does not serve a component's version of the ABI; and one to a
/// release that wants another node than the one that runs, and never restarts into it. On the way back (`Lints::Report`)
/// that restart is made in any case.
pub(super) fn check(
    core: &Core,
    to: &ReleasePackage,
    catalogue: &Catalogue,
    (steps, lints): (&[Step], Lints),
) -> Result<(), Refusal> {
    let own = NodeDescription::of(&core.version());
    if steps.first() != Some(&Step::RestartNewNode) {
        let at_the_end = steps.last() == Some(&Step::RestartNode);
        let wanted = to.release().node.to_string();
        if wanted != own.version && lints == Lints::Enforce && !core.rehearsal {
            match (at_the_end, to.node()) {
                (false, _) => return Err(never_gets_there(&to.id(), &wanted, &own.version)),
                (true, Some(node)) => serves_all(node, to)?,
                (true, None) if to.release().version > core.package.release().version => {
                    return Err(missing(to, own.version));
                }
                // A release that ran before: whoever reboots into it has the node that it is for.
                (true, None) => {}
            }
        }
        let known = to.components().values();
        return known
            .filter_map(|one| Some((one, catalogue.abi(&one.name, &one.version)?)))
            .try_for_each(|(one, abi)| serves(&own, &one.name, &one.version.to_string(), abi));
    }
    if core.launch.is_none() && !core.rehearsal {
        return Err(Refusal::new(code::LINT, LeaveError::Embedded.to_string()));
    }
    let node = match to.node() {
        Some(node) => node.clone(),
        None if to.release().node.to_string() == own.version => own,
        None => return Err(missing(to, own.version)),
    };
    // It runs the components of the release before as well, until the script has changed them.
    serves_all(&node, &core.package)?;
    serves_all(&node, to)
}

/// The node that a release wants is not in it.
fn missing(to: &ReleasePackage, found: String) -> Refusal {
    let missing = ProgramError::Missing {
        release: to.id(),
        wanted: to.release().node.to_string(),
        found,
    };
    Refusal::new(code::LINT, missing.to_string())
}

/// The script would serve a release on a node that it is not for.
fn never_gets_there(to: &ReleaseId, wanted: &str, found: &str) -> Refusal {
    let text = format!(
        "{to} wants node {wanted}, this one is {found}, and the script never restarts into it: begin it with \
         `restart_new_node`, or end it with `restart_node`; `neurath relup generate` writes the one where it belongs"
    );
    Refusal::new(code::LINT, text)
}

/// Refuses a node that does not serve a component of a release.
fn serves_all(node: &NodeDescription, package: &ReleasePackage) -> Result<(), Refusal> {
    for (name, component) in package.components() {
        let bytes = package.library_bytes(name);
        let bytes = bytes.map_err(|error| Refusal::new(code::LINT, error.to_string()))?;
        let abi = match loader::describe(&package.dir().join(name), &bytes) {
            Ok(_) => neurath_abi::ABI_VERSION,
            Err(LoadError::Abi { found, .. }) => found,
            // Refused when it is to be loaded, and that is recorded.
            Err(_) => continue,
        };
        serves(node, name, &component.version.to_string(), abi)?;
    }
    Ok(())
}

fn serves(node: &NodeDescription, component: &str, version: &str, abi: u32) -> Result<(), Refusal> {
    if node.serves(abi) {
        return Ok(());
    }
    let (from, to) = node.abi;
    let text = format!(
        "{component} {version} speaks version {abi} of the component ABI, and node {} serves {from} to {to}: build it with \
         the SDK of that node, or name a node that serves it",
        node.version
    );
    Err(Refusal::new(code::LINT, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_node_does_not_serve_is_named() {
        let node = NodeDescription {
            abi: (2, 3),
            ..NodeDescription::of("0.2.0")
        };
        assert!(
            serves(&node, "store", "1.0.0", 2).is_ok()
                && serves(&node, "store", "1.0.0", 3).is_ok()
        );
        for abi in [1, 4] {
            let refusal = serves(&node, "store", "1.0.0", abi)
                .map(drop)
                .map_err(|r| r.to_string());
            let text = refusal.expect_err("outside");
            assert!(
                text.contains("store 1.0.0") && text.contains("serves 2 to 3"),
                "{text}"
            );
        }
    }
}
