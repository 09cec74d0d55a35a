//! Whether the node that a plan leads to serves the components that it meets.

use neurath_manifest::Step;
use neurath_plan::Catalogue;

use super::core::Core;
use super::requests::Refusal;
use crate::handover::{LeaveError, NodeDescription, ProgramError};
use crate::loader::{self, LoadError};
use crate::protocol::code;
use crate::release::ReleasePackage;

/// Refuses a plan to a node that is not there, or that does not serve a component's version of the ABI.
pub(super) fn check(
    core: &Core,
    to: &ReleasePackage,
    catalogue: &Catalogue,
    steps: &[Step],
) -> Result<(), Refusal> {
    let own = NodeDescription::of(&core.version());
    if steps.first() != Some(&Step::RestartNewNode) {
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
        None => {
            let missing = ProgramError::Missing {
                release: to.id(),
                wanted: to.release().node.to_string(),
                found: own.version,
            };
            return Err(Refusal::new(code::LINT, missing.to_string()));
        }
    };
    // It runs the components of the release before as well, until the script has changed them.
    for package in [&*core.package, to] {
        for (name, component) in package.components() {
            let bytes = package.library_bytes(name);
            let bytes = bytes.map_err(|error| Refusal::new(code::LINT, error.to_string()))?;
            let abi = match loader::describe(&package.dir().join(name), &bytes) {
                Ok(_) => neurath_abi::ABI_VERSION,
                Err(LoadError::Abi { found, .. }) => found,
                // Refused when it is to be loaded, and that is recorded.
                Err(_) => continue,
            };
            serves(&node, name, &component.version.to_string(), abi)?;
        }
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
