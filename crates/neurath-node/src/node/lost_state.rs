//! What a node does at its start about states that did not survive the end of the machine.
//!
//! Durability `process` promises to survive the death of the process. A region that was open when the
//! machine went down may hold its last changes in any mixture, so it is not served unless somebody
//! says so by the component's name: either what is there is accepted, after a check of all levels, or
//! the component begins with an empty state, and what is there is set aside.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use neurath_pmem::inspect::{self, PowerLossError};
use neurath_pmem::region::{OpenError, Region};

use super::core::Core;
use super::start::{create_region, this_process};
use super::{NodeOptions, StartError};
use crate::catalog::{RegionEntry, State};
use crate::directory::{fsync_dir, region_file_name};
use crate::fault;
use crate::journal::Verdict;
use crate::loader::Library;
use crate::release::ReleasePackage;
use crate::upgrade::UpgradeError;

/// Refuses names of components that have no state in the release.
pub(super) fn names_are_known(options: &NodeOptions, state: &State) -> Result<(), StartError> {
    let named = options.accept_power_loss.iter().chain(&options.reset_state);
    for name in named {
        if state.region(name, 0).is_none() {
            let known = state.regions.iter().map(|one| one.component.as_str());
            let mut known: Vec<&str> = known.collect();
            known.dedup();
            return Err(StartError::NoState {
                component: name.clone(),
                known: known.join(", "),
            });
        }
    }
    Ok(())
}

/// Opens the region of a component that is started, and gives the entry that the catalog has of it then.
pub(super) fn open(
    core: &mut Core,
    package: &ReleasePackage,
    entry: RegionEntry,
    library: &Arc<Library>,
    options: &NodeOptions,
) -> Result<(Region, RegionEntry), StartError> {
    // That of a state which is just being converted may be the one before.
    let is_swept = core.catalog.state().sweep(&entry.component, entry.instance);
    let fingerprint = match is_swept {
        Some(_) => None,
        None => Some(library.description().fingerprint),
    };
    let is_named = |names: &[String]| names.contains(&entry.component);
    let reset = is_named(&options.reset_state);
    let error = match core.open_region(package, &entry, fingerprint) {
        Ok(region) => {
            if reset {
                let component = &entry.component;
                tracing::warn!(component, "its state opens: it is kept, and not reset");
            }
            return Ok((region, entry));
        }
        Err(UpgradeError::Region(error)) => error,
        Err(other) => return Err(other.into()),
    };
    let lost_power = matches!(error, OpenError::PowerLost { .. });
    let mut damage = error.to_string();
    if lost_power && is_named(&options.accept_power_loss) {
        match accept(core, package, &entry, library) {
            Ok(region) => return Ok((region, entry)),
            Err(StartError::Damaged { text, .. }) => damage = text,
            Err(other) => return Err(other),
        }
    } else if lost_power && !reset {
        return Err(power_lost(core));
    }
    if !is_lost(&error) {
        return Err(UpgradeError::Region(error).into());
    }
    if reset {
        return reset_state(core, package, entry, library, &damage);
    }
    Err(StartError::Damaged {
        component: entry.component.clone(),
        text: damage,
        file: core.directory.regions().join(&entry.file),
        directory: core.directory.path().to_owned(),
    })
}

/// Whether this is a state that cannot be had any more, and no mistake of another kind: a file that is in use, of
/// another component, or on a medium that does not do, is not lost.
fn is_lost(error: &OpenError) -> bool {
    match error {
        OpenError::PowerLost { .. } | OpenError::Format { .. } => true,
        OpenError::Io { source, .. } => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// Names every state that was lost with the machine, so that all are dealt with in one start.
fn power_lost(core: &Core) -> StartError {
    let lost = |entry: &&RegionEntry| {
        let file = core.directory.regions().join(&entry.file);
        inspect::has_lost_power(&file).unwrap_or_default()
    };
    let entries: Vec<&RegionEntry> = core.catalog.state().regions.iter().filter(lost).collect();
    let mut components: Vec<String> = entries.iter().map(|one| one.component.clone()).collect();
    // Those of one component stand side by side, or are named twice.
    components.dedup();
    StartError::PowerLost {
        components,
        files: entries
            .iter()
            .map(|one| core.directory.regions().join(&one.file))
            .collect(),
        directory: core.directory.path().to_owned(),
    }
}

/// Opens what is there, if a check of all levels finds nothing wrong with it.
fn accept(
    core: &mut Core,
    package: &ReleasePackage,
    entry: &RegionEntry,
    library: &Library,
) -> Result<Region, StartError> {
    let who = this_process();
    let operation = core.begin("accept-power-loss", &who)?;
    let options = core.region_options(package, &entry.component, entry.instance)?;
    let path = core.directory.region_file(&entry.file);
    let path = path.map_err(UpgradeError::from)?;
    let fingerprint = library.description().fingerprint;
    let name = format!("{}.{}", entry.component, entry.instance);
    match inspect::open_after_power_loss(&path, &options, Some(fingerprint)) {
        Ok((region, report)) => {
            let leaked: u64 = report.leaks.iter().map(|leak| leak.objects).sum();
            let text = format!(
                "the state of {name} was open when the machine went down; a check of all levels found no \
                 error, {leaked} leaked objects, and it is served as it is"
            );
            tracing::warn!("{text}");
            core.end(&operation, &who, Verdict::Done, text);
            Ok(region)
        }
        Err(error) => {
            core.end(&operation, &who, Verdict::Failed, error.to_string());
            Err(match error {
                PowerLossError::Open(error) => UpgradeError::Region(error).into(),
                other => StartError::Damaged {
                    component: entry.component.clone(),
                    text: other.to_string(),
                    file: path,
                    directory: core.directory.path().to_owned(),
                },
            })
        }
    }
}

/// Sets the file aside, and lets the component make its state anew, as in a new node.
fn reset_state(
    core: &mut Core,
    package: &ReleasePackage,
    entry: RegionEntry,
    library: &Arc<Library>,
    why: &str,
) -> Result<(Region, RegionEntry), StartError> {
    let who = this_process();
    let operation = core.begin("reset-state", &who)?;
    match anew(core, package, &entry, library) {
        Ok((entry, kept)) => {
            let kept = kept.map_or_else(
                || "there was no file".to_owned(),
                |kept| format!("what was there is kept as {}", kept.display()),
            );
            let name = format!("{}.{}", entry.component, entry.instance);
            let text = format!("{name} begins with an empty state ({why}); {kept}");
            tracing::warn!("{text}");
            core.end(&operation, &who, Verdict::Done, text);
            let fingerprint = library.description().fingerprint;
            let region = core.open_region(package, &entry, Some(fingerprint))?;
            Ok((region, entry))
        }
        Err(error) => {
            core.end(&operation, &who, Verdict::Failed, error.brief());
            Err(error.into())
        }
    }
}

/// Makes the new region under a number of its own; the catalog's change is what decides.
fn anew(
    core: &mut Core,
    package: &ReleasePackage,
    entry: &RegionEntry,
    library: &Arc<Library>,
) -> Result<(RegionEntry, Option<PathBuf>), UpgradeError> {
    let generation = core.next_generation();
    let component = &entry.component;
    let file = region_file_name(component, entry.instance, generation)?;
    // An attempt that was cut off may have left it.
    let path = core.directory.region_file(&file)?;
    if path.exists() {
        std::fs::remove_file(&path).map_err(|error| cannot("remove", &path, &error))?;
    }
    let of = (component.as_str(), entry.instance);
    create_region(&core.directory, package, of, &file, library.clone())?;
    let old = core.directory.region_file(&entry.file)?;
    let kept = set_aside(&old).map_err(|error| cannot("keep", &old, &error))?;
    fault::point("reset-state.set-aside");
    let new = RegionEntry {
        generation,
        file,
        ..entry.clone()
    };
    let mut state = core.catalog.state().clone();
    for one in &mut state.regions {
        if one == entry {
            *one = new.clone();
        }
    }
    state.next_generation = core.next_generation;
    state
        .sweeps
        .retain(|sweep| sweep.component != *component || sweep.instance != entry.instance);
    core.catalog.commit(state)?;
    // The old name goes; what was there keeps the other one.
    core.remove_orphans();
    Ok((new, kept))
}

fn cannot(what: &str, path: &Path, error: &std::io::Error) -> UpgradeError {
    UpgradeError::Script(format!("cannot {what} {}: {error}", path.display()))
}

/// Gives a file a second name that no node removes; none if there is no file.
fn set_aside(old: &Path) -> std::io::Result<Option<PathBuf>> {
    for number in 1.. {
        let mut name = old.file_name().unwrap_or_default().to_owned();
        name.push(format!(".set-aside-{number}"));
        let kept = old.with_file_name(name);
        match std::fs::hard_link(old, &kept) {
            Ok(()) => {
                fsync_dir(old.parent().unwrap_or(Path::new(".")))?;
                return Ok(Some(kept));
            }
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => break,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
