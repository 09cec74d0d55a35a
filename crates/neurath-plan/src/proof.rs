//! The schema proof: state that changed has a migration for exactly this pair of schemas.

use crate::catalogue::Catalogue;
use crate::changes::Change;
use crate::codes;
use crate::instructions::Placed;
use neurath_manifest::Diagnostic;

/// Whether the state's schema differs; `None` when it is not known of both versions.
pub(crate) fn state_changes(catalogue: &Catalogue, change: &Change<'_>) -> Option<bool> {
    let old = catalogue.facts(change.component, change.from)?;
    let new = catalogue.facts(change.component, change.to)?;
    Some(old.state_fingerprint != new.state_fingerprint)
}

/// Whether the newer library has a migration for exactly this pair.
pub(crate) fn covered(catalogue: &Catalogue, change: &Change<'_>) -> bool {
    let fingerprint = |version| {
        catalogue
            .facts(change.component, version)
            .map(|facts| &facts.state_fingerprint)
    };
    let (Some(old), Some(new)) = (fingerprint(change.from), fingerprint(change.to)) else {
        return true;
    };
    let newer = catalogue.facts(change.component, change.newer());
    newer.is_some_and(|facts| {
        facts
            .migrations
            .iter()
            .any(|(from, to)| from == old && to == new)
    })
}

/// Checks an instruction of an appup against what the built libraries say.
pub(crate) fn check(
    catalogue: &Catalogue,
    change: &Change<'_>,
    placed: &[Placed<'_>],
    problems: &mut Vec<Diagnostic>,
) {
    if state_changes(catalogue, change) != Some(true) {
        return;
    }
    for one in placed {
        let Some(member) = one
            .member()
            .filter(|member| member.component == change.component)
        else {
            continue;
        };
        if member.advanced.is_none() {
            problems.push(not_asked_for(change, |code, message| {
                one.error(code, message, "keeps the state as it is")
            }));
        } else if !covered(catalogue, change) {
            problems.push(not_covered(catalogue, change, |code, message| {
                one.error(code, message, "asks for code_change")
            }));
        }
    }
}

/// The state changed, and the script keeps it as it is.
pub(crate) fn not_asked_for(
    change: &Change<'_>,
    error: impl FnOnce(&'static str, String) -> Diagnostic,
) -> Diagnostic {
    let name = change.component;
    let message = format!(
        "the state of {name} changed between {} and {}, and no code_change is asked for",
        change.from, change.to
    );
    error(codes::STATE_CHANGED, message)
        .help(format!("write {{ update = \"{name}\", change = {{ advanced = {{}} }} }}, and the code_change in {name} {}", change.newer()))
}

/// The state changed, and no migration of the newer library covers it.
pub(crate) fn not_covered(
    catalogue: &Catalogue,
    change: &Change<'_>,
    error: impl FnOnce(&'static str, String) -> Diagnostic,
) -> Diagnostic {
    let (name, newer) = (change.component, change.newer());
    let fingerprint = |version| {
        catalogue
            .facts(name, version)
            .map_or("", |facts| facts.state_fingerprint.as_str())
    };
    let (old, new) = (fingerprint(change.from), fingerprint(change.to));
    let message = format!(
        "{name} {newer} has no code_change from the state of {} ({old}) to that of {} ({new})",
        change.from, change.to
    );
    let migrations = catalogue
        .facts(name, newer)
        .map_or(&[][..], |facts| facts.migrations.as_slice());
    let near = migrations
        .iter()
        .find(|(from, to)| from == old || to == new);
    let (attribute, other) = if newer == change.to {
        ("from", change.from)
    } else {
        ("to", change.to)
    };
    let help = match near {
        Some((from, to)) => format!(
            "its code_change from {from} to {to} is for another schema: bring it up to date"
        ),
        None => format!(
            "write a `#[code_change({attribute} = \"{}.{}\")]` in {name} {newer}",
            other.major, other.minor
        ),
    };
    error(codes::NO_MIGRATION, message).help(help)
}
