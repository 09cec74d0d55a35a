//! `strategy = "incremental"`: a state that is converted segment by segment, while it is served.
//!
//! At the switch only the region's header changes, and with it which version the region is of. What a
//! message needs is converted for it; the event loop does the rest between messages
//! (`shard/sweep.rs`). Until that has ended the catalog names the conversions, so that a node
//! that starts again goes on, and their libraries and releases stay. The way back in the midst
//! of it is the same thing turned round, whatever its script says of the strategy.

use std::sync::Arc;
use std::time::Duration;

use neurath_manifest::{Step, Strategy};
use neurath_pmem::migrate::{Row, Stepwise, StepwiseLink};
use neurath_pmem::region::{Region, Swept};
use neurath_pmem::schema::{SchemaDesc, hex};

use super::chain::{Ends, Link};
use super::error::UpgradeError;
use super::part::Place;
use super::via::Vias;
use super::{SUSPEND, Upgrade, json_of};
use crate::catalog::{RegionEntry, State, SweepEntry, SweepLibrary, SweepLink};
use crate::journal::Verdict;
use crate::loader::{Batch, Library};
use crate::node::{Core, distinct};
use crate::shard::{Seat, now_ms};

/// A conversion that is ready to begin, and what the catalog says of it.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) way: Box<Stepwise>,
    pub(super) entry: SweepEntry,
    /// The libraries whose conversions it calls.
    pub(super) libraries: Vec<Arc<Library>>,
}

/// Whether the script converts a component's state segment by segment.
pub(super) fn asked_for(steps: &[Step], name: &str) -> bool {
    steps.iter().any(|step| {
        matches!(step, Step::CodeChange { component, strategy: Strategy::Incremental, .. }
            if component == name)
    })
}

/// Calls one conversion of a library.
pub(super) fn convert_row(place: &Place, row: Row<'_>) -> Result<(), String> {
    let (library, number) = place;
    let Row {
        old,
        old_stride,
        new,
        new_stride,
        count,
        live,
        extra,
        now_ms,
    } = row;
    let batch = Batch {
        old,
        old_stride,
        new,
        new_stride,
        count,
        live,
        extra,
        now_ms,
    };
    library.convert(*number, batch).map_err(|error| error.text)
}

/// The way along some links, from the encoded schema `from`.
fn way(
    component: &str,
    from: &[u8],
    links: Vec<(Link, String)>,
    now_ms: u64,
) -> Result<Stepwise, UpgradeError> {
    let to = links.last().map(|(link, _)| link.schema.clone());
    let to = to.unwrap_or_else(|| from.to_vec());
    let mut places: Vec<Vec<Place>> = Vec::new();
    let mut plans = Vec::new();
    for (link, extra) in links {
        places.push(link.conversions);
        let plan = link.plan;
        plans.push(StepwiseLink { plan, extra });
    }
    let convert = move |link: usize, index: usize, row: Row<'_>| {
        let place = places.get(link).and_then(|places| places.get(index));
        convert_row(place.ok_or("there is no such conversion")?, row)
    };
    Stepwise::new(from, &to, plans, now_ms, Box::new(convert))
        .map_err(|source| refused(component, source))
}

fn refused(component: &str, source: neurath_pmem::migrate::StepwiseError) -> UpgradeError {
    UpgradeError::Stepwise {
        component: component.to_owned(),
        source,
    }
}

impl Upgrade<'_> {
    /// Makes a conversion ready that begins at the switch.
    pub(super) fn prepare_stepwise(
        &mut self,
        (at, component, instance): (usize, &str, u32),
        from: &[u8],
        libraries: [&Arc<Library>; 2],
        links: Vec<Link>,
    ) -> Result<Prepared, UpgradeError> {
        for library in libraries {
            let known = library.description();
            if !known.reads_through {
                return Err(UpgradeError::Script(format!(
                    "the library of {} {} was built with an SDK that cannot work on a state that is converted \
                     segment by segment; build it again, or write `strategy = \"eager\"`",
                    known.name, known.version
                )));
            }
        }
        let mut used = links.iter().flat_map(|link| &link.conversions);
        if let Some((via, _)) = used.find(|(one, _)| one.description().name != component) {
            return Err(UpgradeError::Script(format!(
                "the conversions of {component} are those of `{}` (`via`), which is not kept open for as long as they \
                 are needed: write `strategy = \"eager\"`",
                via.description().name
            )));
        }
        let extra = self.extra_of(component)?;
        let now_ms = now_ms();
        let mut entry = SweepEntry {
            component: component.to_owned(),
            instance,
            from: hex(decode(component, from)?.fingerprint),
            links: Vec::new(),
            now_ms,
        };
        let mut used: Vec<Arc<Library>> = Vec::new();
        let mut all = Vec::new();
        for link in links {
            let libraries = distinct(link.conversions.iter().map(|(one, _)| one.clone()));
            let named = libraries.iter().map(|one| self.release_with(one));
            let extra = link.extra.clone().unwrap_or_else(|| extra.clone());
            entry.links.push(SweepLink {
                to: hex(link.plan.fingerprint()),
                libraries: named.collect::<Result<_, _>>()?,
                extra: extra.clone(),
            });
            used.extend(libraries);
            all.push((link, extra));
        }
        let way = way(component, from, all, now_ms)?;
        let (way, fits) = self.look(move |instances| {
            let fits = instances[at].region.check_conversion_fits(&way);
            (way, fits)
        })?;
        fits.map_err(|source| refused(component, source))?;
        Ok(Prepared {
            way: Box::new(way),
            entry,
            libraries: used,
        })
    }

    /// The table of a component's `code_change`, JSON.
    fn extra_of(&self, name: &str) -> Result<String, UpgradeError> {
        let found = self.goal.steps.iter().find_map(|step| match step {
            Step::CodeChange {
                component, extra, ..
            } if component == name => extra.as_ref(),
            _ => None,
        });
        json_of(found)
    }

    /// A release that has this library.
    fn release_with(&self, library: &Library) -> Result<SweepLibrary, UpgradeError> {
        let known = library.description();
        let packages = [&self.goal.package, &self.core.package].into_iter();
        let mut packages = packages.chain(&self.goal.between);
        let package = packages.find(|package| {
            let found = package.component(&known.name);
            found.is_some_and(|found| found.version.to_string() == known.version)
        });
        let package = package.ok_or_else(|| {
            let what = format!(
                "no release of this upgrade has {} {}",
                known.name, known.version
            );
            UpgradeError::Script(what)
        })?;
        Ok(SweepLibrary {
            release: self.core.id_of(package),
            version: known.version.clone(),
        })
    }
}

fn decode(component: &str, schema: &[u8]) -> Result<SchemaDesc, UpgradeError> {
    SchemaDesc::decode(schema).map_err(|error| UpgradeError::Schema {
        component: component.to_owned(),
        text: error.to_string(),
    })
}

/// Goes on with the conversion of a region that was opened, if there is one.
///
/// # Errors
///
/// If its conversions are not there, or not those that it was begun with.
pub(crate) fn go_on(
    core: &mut Core,
    entry: &RegionEntry,
    library: &Arc<Library>,
    region: &mut Region,
) -> Result<(), UpgradeError> {
    let component = &entry.component;
    let present = library.description().fingerprint;
    let sweep = core.catalog.state().sweep(component, entry.instance);
    let Some(sweep) = sweep.cloned() else {
        if region.is_swept() {
            return Err(UpgradeError::Script(format!(
                "the state of {component} is still converted segment by segment, and the catalog does not name its \
                 conversions: it comes from another node; restore a snapshot that was taken before or after"
            )));
        }
        return Ok(());
    };
    let entered = region.fingerprint() == present;
    if entered && !region.is_swept() {
        // It has ended, and the catalog does not know yet.
        return Ok(());
    }
    let from = match (entered, region.schema_before()) {
        (true, Some(before)) => before,
        _ => region.schema(),
    };
    let found = hex(decode(component, &from)?.fingerprint);
    if found != sweep.from {
        return Err(UpgradeError::Script(format!(
            "the state of {component} is of schema {found}, and its conversion begins with {}",
            sweep.from
        )));
    }
    let (way, libraries) = reopened(core, &sweep, &from, library)?;
    let begun = match entered {
        true => region.resume_conversion(way),
        false => region.begin_conversion(way),
    };
    begun.map_err(|source| refused(component, source))?;
    region
        .enter_conversion()
        .map_err(|error| UpgradeError::Script(format!("the state of {component}: {error}")))?;
    core.keep_for_sweep((component, entry.instance), libraries);
    tracing::info!(component, "the conversion of the state goes on");
    Ok(())
}

/// The conversions that the catalog names, from their libraries.
fn reopened(
    core: &Core,
    sweep: &SweepEntry,
    from: &[u8],
    running: &Arc<Library>,
) -> Result<(Stepwise, Vec<Arc<Library>>), UpgradeError> {
    let component = &sweep.component;
    let mut known: Vec<Arc<Library>> = vec![running.clone()];
    for named in sweep.links.iter().flat_map(|link| &link.libraries) {
        let is = |one: &Arc<Library>| one.description().version == named.version;
        if !known.iter().any(is) {
            let package = core.open_package(&named.release)?;
            known.push(core.open_library(&package, component, &named.version)?);
        }
    }
    let ends = Ends {
        component,
        vias: &Vias::default(),
        whole: None,
        old: running,
        new: running,
        between: &[],
        again: false,
        back: false,
    };
    let mut at = from.to_vec();
    let mut links = Vec::new();
    for link in &sweep.links {
        let is = |one: &&Arc<Library>| hex(one.description().fingerprint) == link.to;
        let to = known.iter().find(is).ok_or_else(|| {
            let what = format!("no library of {component} is of schema {}", link.to);
            UpgradeError::Script(what)
        })?;
        let of = |named: &SweepLibrary| {
            let mut all = known.iter();
            all.find(|one| one.description().version == named.version)
        };
        let libraries: Vec<_> = link.libraries.iter().filter_map(of).collect();
        let to = to.description().schema.clone();
        let made = ends.link(&at, &to, &libraries, None, false)?;
        let made = made.ok_or_else(|| {
            let what = format!("a conversion of {component} that changes nothing");
            UpgradeError::Script(what)
        })?;
        at = to;
        links.push((made, link.extra.clone()));
    }
    let way = way(component, from, links, sweep.now_ms)?;
    Ok((way, known))
}

/// Ends what the conversions that have ended were kept for. To be called by whoever may change
/// something; `who` is told in the journal.
pub(crate) fn settle_sweeps(core: &mut Core, who: &str) {
    if core.catalog.state().sweeps.is_empty() {
        return;
    }
    let seen = core.running.as_ref().and_then(|running| {
        running.look(SUSPEND, |shard| {
            let instances = shard.instances.iter();
            let swept = instances.filter(|instance| instance.region.is_swept());
            swept
                .map(|instance| (instance.component.clone(), instance.number))
                .collect::<Vec<_>>()
        })
    });
    let Some(swept) = seen else { return };
    let state = core.catalog.state().clone();
    let goes_on = |sweep: &SweepEntry| swept.contains(&(sweep.component.clone(), sweep.instance));
    let (sweeps, ended): (Vec<_>, Vec<_>) = state.sweeps.iter().cloned().partition(goes_on);
    if ended.is_empty() {
        return;
    }
    let names: Vec<String> = ended
        .iter()
        .map(|sweep| format!("{}.{}", sweep.component, sweep.instance))
        .collect();
    let state = State { sweeps, ..state };
    if let Err(error) = core.catalog.commit(state) {
        tracing::error!(%error, "the end of a conversion could not be noted");
        return;
    }
    for sweep in &ended {
        core.end_of_sweep(&sweep.component, sweep.instance);
    }
    let text = format!("the state of {} is converted", names.join(", "));
    tracing::info!(text);
    match core.begin("sweep", who) {
        Ok(operation) => core.end(&operation, who, Verdict::Done, text),
        Err(error) => tracing::error!(%error, "the end of a conversion could not be recorded"),
    }
    close_unused(core);
}

/// Closes libraries that were kept for conversions only. The event loop has called them, and so
/// goes on on another thread first.
fn close_unused(core: &mut Core) {
    let kept = std::mem::take(&mut core.swept);
    let in_use = core.running.as_ref().and_then(|running| {
        running.look(SUSPEND, |shard| {
            let instances = shard.instances.iter();
            instances
                .map(|instance| instance.library.clone())
                .collect::<Vec<_>>()
        })
    });
    let Some(in_use) = in_use else {
        core.swept = kept;
        return;
    };
    let others = in_use.iter().chain(&core.warm).chain(&core.loaded);
    let others: Vec<_> = others
        .chain(core.sweeping.iter().map(|(.., library)| library))
        .cloned()
        .collect();
    let unused: Vec<_> = kept
        .into_iter()
        .filter(|library| !others.iter().any(|one| Arc::ptr_eq(one, library)))
        .collect();
    drop((in_use, others));
    if unused.is_empty() {
        return;
    }
    match another_thread(core) {
        Ok(()) => {
            let unloaded = core.close_libraries(unused);
            tracing::info!(?unloaded, "libraries that only converted");
        }
        Err(error) => {
            tracing::warn!(%error, "libraries that only converted stay");
            core.swept.extend(unused);
        }
    }
}

/// Lets the shard go on on a thread that has called no library yet, and waits for the end of
/// the one before.
fn another_thread(core: &mut Core) -> Result<(), UpgradeError> {
    let suspend = |error: std::io::Error| UpgradeError::Suspend(error.to_string());
    let seat = Seat::new().map_err(suspend)?;
    let Some(running) = core.running.take() else {
        return Ok(());
    };
    let taken = match running.take(SUSPEND) {
        Ok(taken) => taken,
        Err(not) => {
            core.running = not.thread.map(|thread| *thread);
            return Err(not.error.into());
        }
    };
    let mut running = taken.run(seat).map_err(suspend)?;
    running.before.join();
    core.running = Some(running);
    Ok(())
}

/// What keeps a further upgrade waiting; none if nothing does.
pub(crate) fn waits_for_sweep(core: &Core) -> Option<String> {
    let sweeps = &core.catalog.state().sweeps;
    let first = sweeps.first()?;
    let (name, number) = (first.component.clone(), first.instance);
    let seen = core.running.as_ref().and_then(|running| {
        running.look(SUSPEND, move |shard| {
            let mut instances = shard.instances.iter();
            let found = instances.find(|one| one.component == name && one.number == number)?;
            found.region.sweep_status()
        })
    });
    let how_far = seen.flatten().map_or_else(String::new, |status| {
        let failure = status.failure.map_or_else(String::new, |(segment, text)| {
            format!("; code_change of its segment {segment} failed: {text}")
        });
        format!(
            " ({} of {} segments are done){failure}",
            status.passed, status.segments
        )
    });
    Some(format!(
        "the state of {} is still being converted{how_far}; nothing was done. Ask again when `neurath node \
         status` tells of no conversion any more, or go back",
        first.component
    ))
}

/// Converts all that is left at once, and frees what a conversion has left behind: in a rehearsal nobody waits for a
/// message.
///
/// # Errors
///
/// A conversion that fails.
pub(crate) fn sweep_at_once(core: &mut Core) -> Result<(), UpgradeError> {
    loop {
        let Some(running) = &core.running else {
            return Ok(());
        };
        let swept = running.look(SUSPEND, |shard| {
            let (mut waits, mut searches) = (false, false);
            for instance in &mut shard.instances {
                let done = instance.region.sweep(Duration::from_millis(50));
                waits |= matches!(done, Ok(Swept::Waits));
                let failure = instance
                    .region
                    .sweep_status()
                    .and_then(|status| status.failure);
                match (done, failure) {
                    (Err(error), _) => return Err(format!("{}: {error}", instance.component)),
                    (Ok(_), Some((segment, text))) => {
                        let component = &instance.component;
                        return Err(format!(
                            "code_change of {component}, segment {segment}: {text}"
                        ));
                    }
                    _ => {}
                }
                searches |= instance.region.may_have_left();
            }
            Ok((waits, searches))
        });
        let unanswered = || UpgradeError::Suspend("the event loop does not answer".into());
        let (waits, searches) = swept
            .ok_or_else(unanswered)?
            .map_err(UpgradeError::Script)?;
        if waits {
            std::thread::sleep(Duration::from_millis(1));
        }
        settle_sweeps(core, "the rehearsal");
        if core.catalog.state().sweeps.is_empty() && !searches {
            return Ok(());
        }
    }
}
