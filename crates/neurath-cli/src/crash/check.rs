//! What must hold of a node that was killed, by the promises' numbers.

use std::path::Path;

use anyhow::{Context as _, bail};
use neurath_node::catalog::{Catalog, ReleaseId, State};
use neurath_node::journal::{self, Kind, Record, Verdict};

use super::set::KEYS;
use super::story::{Addresses, Component, Story};
use crate::control;
use crate::stage;
use crate::testing::NodeProcess;

/// What a dead node's directory says.
#[derive(Debug)]
pub(super) struct Dead {
    /// Whether the catalog names the new release.
    pub(super) new: bool,
    /// Whether it waits for confirmation.
    pub(super) unconfirmed: bool,
}

impl Dead {
    /// Whether the next start must come up in the new release: it is the current one, and confirmed.
    pub(super) fn leads_to(&self) -> bool {
        self.new && !self.unconfirmed
    }
}

fn state(directory: &Path) -> anyhow::Result<State> {
    Ok(Catalog::open(directory)?.state().clone())
}

/// P1: the catalog of a dead node is readable, and names one whole release with all its regions.
pub(super) fn dead(story: &Story, directory: &Path) -> anyhow::Result<Dead> {
    let state = state(directory).context("P1: the dead node's catalog")?;
    let new = whole(story, &state)?;
    for region in &state.regions {
        let path = directory.join("regions").join(&region.file);
        if !path.is_file() {
            bail!("P1: the catalog names {}, which is not there", region.file);
        }
    }
    let unconfirmed = state.previous.is_some();
    if unconfirmed != (state.current != state.permanent) {
        bail!(
            "P2: current {:?}, permanent {:?}, and the way back {:?}",
            state.current,
            state.permanent,
            state.previous
        );
    }
    Ok(Dead { new, unconfirmed })
}

/// Whether a catalog names all of the new release, or all of the old one.
fn whole(story: &Story, state: &State) -> anyhow::Result<bool> {
    let new = match &state.current {
        Some(current) if *current == story.new_release() => true,
        Some(current) if *current == story.old_release() => false,
        other => bail!("P1: the current release is {other:?}"),
    };
    let expected = if new { story.new } else { story.old };
    let mut regions: Vec<(&str, &str)> = state
        .regions
        .iter()
        .map(|one| (&*one.component, &*one.version))
        .collect();
    regions.sort_unstable();
    if regions != expected {
        bail!("P1: the regions are {regions:?}, not {expected:?}");
    }
    Ok(new)
}

/// The release that a running node says it serves.
pub(super) fn serves(directory: &Path) -> Option<ReleaseId> {
    control::status(directory)
        .ok()
        .and_then(|status| status.release)
}

/// P1, P2, P14: a node that was started after a kill runs this release wholly, with nothing that
/// waits for confirmation and nothing left over.
pub(super) fn alive(story: &Story, node: &NodeProcess, new: bool) -> Vec<String> {
    let mut found = recorded(node.directory());
    if let Err(error) = serves_wholly(story, node, new) {
        found.push(format!("{error:#}"));
    }
    if let Err(error) = no_orphans(node.directory()) {
        found.push(format!("{error:#}"));
    }
    found
}

fn serves_wholly(story: &Story, node: &NodeProcess, new: bool) -> anyhow::Result<()> {
    let (release, expected): (_, &[Component]) = if new {
        (story.new_release(), story.new)
    } else {
        (story.old_release(), story.old)
    };
    let status = control::status(node.directory())?;
    if status.unconfirmed || status.permanent.as_ref() != Some(&release) {
        bail!("P2: {:?} is permanent, not {release}", status.permanent);
    }
    let mut components: Vec<(&str, &str)> = status
        .components
        .iter()
        .map(|one| (&*one.component, &*one.version))
        .collect();
    components.sort_unstable();
    if status.release.as_ref() != Some(&release) || components != expected {
        bail!("P1: {:?} serves, with {components:?}", status.release);
    }
    let state = state(node.directory())?;
    if whole(story, &state)? != new || state.previous.is_some() {
        bail!("P1: the catalog says {:?}", state.current);
    }
    for component in &status.components {
        let entry = state.region(&component.component, component.instance);
        if entry.is_none_or(|entry| entry.generation != component.generation) {
            bail!("P1: {} runs on another generation", component.component);
        }
    }
    Ok(())
}

/// P4: what lay in the node before is there.
pub(super) fn filled(at: &Addresses) -> Option<String> {
    let report = neurath_verify::check_fill(&at.gateway, KEYS, stage::VALUE_LEN, 1);
    let all = report.is_clean() && report.checked_keys == KEYS;
    (!all).then(|| format!("P4: what was there before the upgrade: {report}"))
}

/// P14: each operation of the journal has begun once and ended once, and the journal alone leads to
/// what the catalog says.
pub(super) fn recorded(directory: &Path) -> Vec<String> {
    let both = journal::read_all(directory.join("journal"))
        .map_err(anyhow::Error::from)
        .and_then(|records| Ok((records, state(directory)?)));
    let (records, state) = match both {
        Ok(both) => both,
        Err(error) => return vec![format!("P14: {error:#}")],
    };
    let mut found: Vec<String> = not_ended(&records);
    if !journal::replay(&records).agrees_with(&state) {
        found.push("P14: the history leads to something else than the catalog".into());
    }
    found
}

fn not_ended(records: &[Record]) -> Vec<String> {
    let mut open: Vec<&str> = Vec::new();
    let mut found = Vec::new();
    for record in records {
        let id = record.operation_id.as_str();
        match &record.kind {
            Kind::Started { .. } => open.push(id),
            Kind::Ended { verdict, text } => match open.iter().position(|one| *one == id) {
                Some(at) => {
                    open.remove(at);
                    if *verdict == Verdict::OperatorNeeded {
                        found.push(format!("P14: {id} needs an operator: {text}"));
                    }
                }
                None => found.push(format!("P14: {id} ends and never began")),
            },
            _ => {}
        }
    }
    found.extend(open.iter().map(|id| format!("P14: {id} never ended")));
    found
}

/// P1: the files in `regions/` are those that the catalog names.
fn no_orphans(directory: &Path) -> anyhow::Result<()> {
    let state = state(directory)?;
    let kept = state.snapshots.iter().map(|one| &one.region);
    let all = state.regions.iter().chain(kept);
    let mut named: Vec<String> = all.map(|one| one.file.clone()).collect();
    named.sort();
    let mut found = Vec::new();
    for file in std::fs::read_dir(directory.join("regions"))? {
        found.push(file?.file_name().to_string_lossy().into_owned());
    }
    found.sort();
    if found != named {
        bail!("P1: {found:?} are there, and the catalog names {named:?}");
    }
    Ok(())
}
