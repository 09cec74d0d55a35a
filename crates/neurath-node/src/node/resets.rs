//! States that are thrown away on purpose: who has to be named before, what is said of it, and what is kept.

use std::fs::{self, File};
use std::io;

use neurath_manifest::Step;

use super::core::{Core, instances_of};
use super::requests::Refusal;
use crate::catalog::{ResetEntry, SNAPSHOT_LIMIT, State};
use crate::directory::NodeDirectory;
use crate::protocol::{KeptSnapshot, ResetState, code};
use crate::release::ReleasePackage;
use crate::upgrade::UpgradeError;

/// Who has asked for the way back.
#[derive(Clone, Copy, Debug)]
pub(super) enum Asked<'a> {
    /// Nobody: it is what becomes of a release that is not confirmed.
    ByItself,
    /// Somebody, who names the components whose state is thrown away.
    Naming(&'a [String]),
    /// Somebody, by a command that has no way to name them.
    NamingNothing,
}

/// The components whose state the steps throw away, each once.
pub(super) fn thrown_away(steps: &[Step]) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for step in steps {
        if let Step::ResetNode { components, .. } = step {
            for component in components {
                if !found.contains(component) {
                    found.push(component.clone());
                }
            }
        }
    }
    found
}

/// The options that name these components.
fn options(names: &[String]) -> String {
    let options = names.iter().map(|name| format!("--reset {name}"));
    options.collect::<Vec<_>>().join(" ")
}

/// Refuses steps that throw states away which nobody has named, and names of others. `what` is what is asked for.
pub(super) fn are_named(steps: &[Step], names: &[String], what: &str) -> Result<(), Refusal> {
    let thrown = thrown_away(steps);
    let others: Vec<String> = names
        .iter()
        .filter(|name| !thrown.contains(name))
        .cloned()
        .collect();
    if !others.is_empty() {
        let thrown = match thrown.as_slice() {
            [] => "no state".to_owned(),
            thrown => format!("the state of {}", thrown.join(", ")),
        };
        let text = format!(
            "{what} throws away {thrown}, and not that of {}; nothing was done: leave `{}` out",
            others.join(", "),
            options(&others)
        );
        return Err(Refusal::new(code::USAGE, text));
    }
    let missing: Vec<String> = thrown
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{what} throws away the state of {}, which was not named; nothing was done: if that is meant, say so by `{}`",
        missing.join(", "),
        options(&missing)
    );
    Err(Refusal::new(code::USAGE, text))
}

/// Refuses a script that throws states away where the command has no way to name them.
pub(super) fn throws_nothing_away(steps: &[Step], what: &str) -> Result<(), Refusal> {
    let thrown = thrown_away(steps);
    if thrown.is_empty() {
        return Ok(());
    }
    let text = format!(
        "{what} throws away the state of {}, and this command cannot name it; nothing was done: if that is meant, \
         `neurath relup rollback {}`",
        thrown.join(", "),
        options(&thrown)
    );
    Err(Refusal::new(code::USAGE, text))
}

/// Lets no snapshot be kept.
pub(super) fn keep_none(steps: &mut [Step]) {
    for step in steps {
        if let Step::ResetNode { keep_snapshot, .. } = step {
            *keep_snapshot = false;
        }
    }
}

/// How many snapshots more would be kept than there may be.
fn too_many(state: &State, package: &ReleasePackage, steps: &[Step]) -> usize {
    let instances = steps.iter().map(|step| match step {
        Step::ResetNode {
            components,
            keep_snapshot: true,
        } => {
            let each = components.iter().map(|name| instances_of(package, name));
            each.sum::<u32>() as usize
        }
        _ => 0,
    });
    (state.snapshots.len() + instances.sum::<usize>()).saturating_sub(SNAPSHOT_LIMIT)
}

/// Refuses steps that would keep more snapshots than there may be.
pub(super) fn have_room(core: &Core, steps: &[Step]) -> Result<(), Refusal> {
    let more = too_many(core.catalog.state(), &core.package, steps);
    if more == 0 {
        return Ok(());
    }
    let text = format!(
        "{more} snapshots more would be kept than the {SNAPSHOT_LIMIT} that there may be; nothing was done: remove some \
         by `neurath state remove-snapshot`, or keep none by `--no-snapshot`"
    );
    Err(Refusal::new(code::BUSY, text))
}

/// Keeps no snapshot on a way back that nobody can be told of, if there would be too many.
pub(super) fn make_room(core: &Core, steps: &mut [Step]) {
    if too_many(core.catalog.state(), &core.package, steps) > 0 {
        tracing::warn!(
            limit = SNAPSHOT_LIMIT,
            "no snapshot is kept: there are too many"
        );
        keep_none(steps);
    }
}

/// Instances whose state was thrown away by the upgrade to the current release, with no snapshot: the confirmation
/// deletes it.
pub(super) fn deleted_by_confirm(state: &State) -> impl Iterator<Item = String> + '_ {
    let reset = state.previous.iter().flat_map(|previous| &previous.reset);
    let lasts = |entry: &&ResetEntry| !is_kept(state, entry);
    reset
        .filter(lasts)
        .map(|one| format!("{}.{} before its reset", one.component, one.instance))
}

/// Whether a snapshot is kept of what the upgrade to the current release has thrown away.
fn is_kept(state: &State, reset: &ResetEntry) -> bool {
    let before = state.previous.iter().flat_map(|previous| &previous.regions);
    let mut before = before.filter(|one| one.is_of(&reset.component, reset.instance));
    before.any(|one| state.snapshot(&one.file).is_some())
}

/// The snapshots, for the status.
pub(super) fn snapshots(directory: &NodeDirectory, state: &State) -> Vec<KeptSnapshot> {
    let of = |one: &crate::catalog::SnapshotEntry| {
        let file = directory.regions().join(&one.region.file);
        KeptSnapshot {
            name: one.region.file.clone(),
            component: one.region.component.clone(),
            instance: one.region.instance,
            version: one.region.version.clone(),
            release: one.release.clone(),
            bytes: file.metadata().map_or(0, |about| about.len()),
            file: file.display().to_string(),
            made_ms: one.made_ms,
            way_back: state.goes_back_to(&one.region.file),
        }
    };
    state.snapshots.iter().map(of).collect()
}

/// What the way back of the current release would lose, for the status. `figures` are those of the instances that run:
/// transactions, and bytes that live.
pub(super) fn at_stake(
    state: &State,
    figures: impl Fn(&str, u32) -> Option<(u64, u64)>,
) -> Vec<ResetState> {
    let reset = state.previous.iter().flat_map(|previous| &previous.reset);
    let of = |one: &ResetEntry| {
        let figures = figures(&one.component, one.instance);
        ResetState {
            component: one.component.clone(),
            instance: one.instance,
            transactions: figures.map(|(now, _)| now.saturating_sub(one.sequence)),
            live_bytes: figures.map(|(_, bytes)| bytes),
            snapshot: is_kept(state, one),
        }
    };
    reset.map(of).collect()
}

/// Makes the snapshots durable that outlive the way back from here on: nothing else holds what is in them.
pub(super) fn make_durable(core: &Core) -> Result<(), UpgradeError> {
    let state = core.catalog.state();
    let kept = state.snapshots.iter();
    for one in kept.filter(|one| state.goes_back_to(&one.region.file)) {
        let path = core.directory.region_file(&one.region.file)?;
        let synced = File::open(&path).and_then(|file| file.sync_all());
        synced.map_err(|error| {
            let path = path.display();
            UpgradeError::Script(format!(
                "the snapshot {path} cannot be made durable: {error}"
            ))
        })?;
    }
    Ok(())
}

/// Deletes the file of a snapshot that the catalog names no more; its bytes.
pub(crate) fn delete(directory: &NodeDirectory, name: &str) -> io::Result<u64> {
    let path = directory.regions().join(name);
    let bytes = path.metadata().map_or(0, |about| about.len());
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reset(components: &[&str]) -> Step {
        Step::ResetNode {
            components: components.iter().map(|one| (*one).to_owned()).collect(),
            keep_snapshot: true,
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|one| (*one).to_owned()).collect()
    }

    #[test]
    fn all_that_is_thrown_away_must_be_named_and_nothing_else() {
        let steps = [reset(&["store", "stats"]), reset(&["store"])];
        let said = |given: &[&str]| are_named(&steps, &names(given), "the plan");
        assert_eq!(thrown_away(&steps), ["store", "stats"]);
        assert!(said(&["stats", "store"]).is_ok());
        for (given, word) in [
            (&[][..], "--reset store --reset stats"),
            (&["store"], "the state of stats"),
            (&["store", "stats", "gateway"], "not that of gateway"),
        ] {
            let text = said(given).expect_err(word).to_string();
            assert!(text.contains(word), "{text}");
            assert!(text.contains("nothing was done"), "{text}");
        }
        let none = are_named(&[], &names(&["store"]), "the plan").expect_err("none is");
        assert!(none.to_string().contains("no state"), "{none}");
    }

    #[test]
    fn no_snapshot_is_kept_if_none_is_wanted() {
        let mut steps = [Step::PointOfNoReturn, reset(&["store"])];
        keep_none(&mut steps);
        let kept = |step: &Step| {
            matches!(
                step,
                Step::ResetNode {
                    keep_snapshot: true,
                    ..
                }
            )
        };
        assert!(!steps.iter().any(kept));
    }
}
