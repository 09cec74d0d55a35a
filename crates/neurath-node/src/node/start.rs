//! How a node comes up: from nothing, from an orderly stop, from a kill at any moment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neurath_manifest::StartType;
use neurath_pmem::Handle;
use neurath_pmem::region::Region;
use neurath_pmem::schema::hex;

use super::core::{Core, config_json, instances_of, mailbox_of, version_of};
use super::{NodeOptions, StartError, lost_state, starts};
use crate::catalog::{Catalog, RegionEntry, ReleaseId, State};
use crate::directory::{NodeDirectory, is_made_by_a_node, region_file_name};
use crate::fault;
use crate::handover::{Arrival, ProgramError};
use crate::journal::{Journal, JournalError, Kind, START as START_OPERATION, Verdict};
use crate::libraries::Libraries;
use crate::loader::{Function, Library};
use crate::mapping::Gate;
use crate::meeting::Meetings;
use crate::release::{self, ReleasePackage};
use crate::release_handler::{HandlerError, ReleaseHandler, entry_of, open_for_use};
use crate::shard::effects::Listening;
use crate::shard::figures::Figures;
use crate::shard::inherited::Inherited;
use crate::shard::peers::Peers;
use crate::shard::supervisor::Supervisor;
use crate::shard::{Instance, Taken};
use crate::upgrade::{FIXED, Outside, UpgradeError, history, stepwise, undo_interrupted};
use crate::worker::Worker;

/// How long a component's `create` or `init` may take when a node starts.
const START: Duration = Duration::from_secs(60);

/// Brings everything up; the shard stands still yet. Also gives the operation that this is in the
/// journal, which has begun and not ended.
pub(super) fn start(options: &NodeOptions, rehearsal: bool) -> Result<(Core, String), StartError> {
    let directory = NodeDirectory::open_or_create(&options.directory)?;
    let mut catalog = match Catalog::open(directory.path()) {
        Err(crate::catalog::CatalogError::Missing { .. }) => Catalog::create(directory.path())?,
        opened => opened?,
    };
    for damaged in catalog.damaged() {
        tracing::warn!(?damaged, "the catalog has a damaged slot");
    }
    let mark = catalog.state().journal.clone();
    let mut journal = Journal::open_marked(directory.journal(), mark.as_ref())?;
    let to = catalog
        .state()
        .current
        .as_ref()
        .or(options.release.as_ref());
    let operation = open_journal(&mut journal, to)?;
    let libraries = Libraries::new(directory.libraries()).map_err(UpgradeError::from)?;
    release::remove_parts(&directory.releases()).map_err(UpgradeError::from)?;
    super::remove_old_rehearsals(&options.directory);
    adopt(&directory, &mut catalog)?;
    let current = match &catalog.state().current {
        // What the options say is for a new node: an installed one has what it was told to have.
        Some(current) => current.clone(),
        None => {
            let release = options.release.clone().ok_or(StartError::NoRelease)?;
            install(options, &directory, &mut catalog, &mut journal, &release)?;
            fault::point("start.installed");
            has_its_node(options, &directory, &catalog, &release)?;
            first_release(&directory, &libraries, &mut catalog, &release)?;
            release
        }
    };
    let mut core = core_of(directory, catalog, journal, libraries, &current, options)?;
    (core.hold, core.rehearsal) = (true, rehearsal);
    core.remove_orphans();
    starts::count(&mut core, options)?;
    bring_up(&mut core, options, None)?;
    undo_interrupted(&mut core, &this_process())?;
    Ok((core, operation))
}

/// A node in which nothing runs yet.
fn core_of(
    directory: NodeDirectory,
    catalog: Catalog,
    journal: Journal,
    libraries: Libraries,
    current: &ReleaseId,
    options: &NodeOptions,
) -> Result<Core, StartError> {
    let package = open_for_use(&directory, catalog.state(), current);
    let package = package.map_err(UpgradeError::from)?;
    let next_generation = catalog.state().next_generation;
    Ok(Core {
        meetings: Meetings::of(directory.path().to_owned()),
        directory,
        catalog,
        journal,
        libraries,
        package,
        running: None,
        standing: None,
        hold: false,
        untrusted: false,
        rehearsal: false,
        window: None,
        loaded: Vec::new(),
        warm: Vec::new(),
        sweeping: Vec::new(),
        swept: Vec::new(),
        stuck: Vec::new(),
        stuck_because: None,
        next_generation,
        figures: Arc::new(Figures::new()),
        launch: options.launch.clone(),
        control: None,
        asker: None,
        abort: Arc::default(),
        flight: Arc::default(),
        ending: Arc::default(),
        unrecorded: Arc::default(),
    })
}

/// Ends what the end of a process has interrupted: whoever has the directory's lock is the only one.
pub(super) fn end_interrupted(journal: &mut Journal) -> Result<(), JournalError> {
    journal.end_interrupted(|unfinished| {
        let id = &unfinished.operation_id;
        format!("the process that did it ended in the midst of {id}")
    })?;
    Ok(())
}

/// Ends what the end of the process before has interrupted, and records that a node starts.
fn open_journal(journal: &mut Journal, to: Option<&ReleaseId>) -> Result<String, StartError> {
    if let Some(torn) = journal.torn() {
        tracing::warn!(?torn, "the journal's last line was torn");
    }
    if journal.left_running() {
        tracing::warn!("the node before was not stopped in order");
    }
    end_interrupted(journal)?;
    let operation = journal.next_operation(START_OPERATION);
    let started = Kind::Started {
        operation: START_OPERATION.into(),
        plan_id: None,
        from: None,
        to: to.cloned(),
    };
    journal.append(&operation, &this_process(), started)?;
    Ok(operation)
}

/// Notes why a start has failed, if it has come as far as beginning in the journal. The process that did it may be
/// gone when somebody asks.
pub(super) fn note_failure(path: &Path, error: &StartError) {
    // Whoever has the lock is the one that starts.
    let Ok(directory) = NodeDirectory::open(path) else {
        return;
    };
    let Ok(catalog) = Catalog::open(directory.path()) else {
        return;
    };
    let Ok(mut journal) =
        Journal::open_marked(directory.journal(), catalog.state().journal.as_ref())
    else {
        return;
    };
    let who = this_process();
    let begun = journal.unfinished().into_iter().find(|one| {
        let is_start = matches!(&one.started.kind, Kind::Started { operation, .. } if operation == START_OPERATION);
        is_start && one.started.who == who
    });
    let Some(begun) = begun else { return };
    if let Err(error) = journal.end(&begun.operation_id, &who, Verdict::Failed, error.brief()) {
        tracing::error!(%error, "the failed start could not be recorded");
    }
}

/// Who does what a node does at its start.
pub(super) fn this_process() -> String {
    format!("process {}", std::process::id())
}

/// Takes in what a node before format 2 of the catalog had: every release in its folder was its own.
fn adopt(directory: &NodeDirectory, catalog: &mut Catalog) -> Result<(), StartError> {
    let mut state = catalog.state().clone();
    if state.current.is_none() || !state.releases.is_empty() {
        return Ok(());
    }
    let folders = std::fs::read_dir(directory.releases());
    for folder in folders.into_iter().flatten().flatten() {
        match ReleasePackage::open(&folder.path()) {
            Ok(package) => state.take_in(entry_of(&package)),
            Err(error) => {
                let why = HandlerError::from(error).brief();
                tracing::warn!(why, "a folder in releases/ is no release");
            }
        }
    }
    Ok(catalog.commit(state)?)
}

/// Copies a new node's release into its own releases, if it is not there.
fn install(
    options: &NodeOptions,
    directory: &NodeDirectory,
    catalog: &mut Catalog,
    journal: &mut Journal,
    release: &ReleaseId,
) -> Result<(), StartError> {
    let dest = directory.release_path(release)?;
    if dest.exists() && catalog.state().entry(release).is_some() {
        return Ok(());
    }
    let who = this_process();
    let mut handler = ReleaseHandler::new(directory, catalog, journal, &who);
    let installed = if dest.exists() {
        handler.set_unpacked(release)
    } else {
        let place = options
            .release_source
            .clone()
            .unwrap_or_else(|| directory.releases());
        let source = place.join(release.to_string());
        if !source.exists() {
            return Err(StartError::Missing {
                release: release.clone(),
                place,
            });
        }
        handler.install(&source)
    };
    installed
        .map(drop)
        .map_err(|error| UpgradeError::from(error).into())
}

/// Refuses a new node with a release that is for another one, and brings no program of it.
fn has_its_node(
    options: &NodeOptions,
    directory: &NodeDirectory,
    catalog: &Catalog,
    release: &ReleaseId,
) -> Result<(), StartError> {
    let package = open_for_use(directory, catalog.state(), release);
    let package = package.map_err(UpgradeError::from)?;
    let wanted = package.release().node.to_string();
    let found = version_of(options.launch.as_ref());
    if wanted == found || package.node().is_some() {
        return Ok(());
    }
    let missing = ProgramError::Missing {
        release: release.clone(),
        wanted,
        found,
    };
    Err(missing.into())
}

/// Makes the regions of a node's first release.
fn first_release(
    directory: &NodeDirectory,
    libraries: &Libraries,
    catalog: &mut Catalog,
    release: &ReleaseId,
) -> Result<(), StartError> {
    let package = open_for_use(directory, catalog.state(), release);
    let package = package.map_err(UpgradeError::from)?;
    // What an earlier attempt has left is nobody's: the catalog names no region yet.
    let leftovers = std::fs::read_dir(directory.regions());
    let made = |file: &std::fs::DirEntry| is_made_by_a_node(&file.file_name().to_string_lossy());
    for file in leftovers.into_iter().flatten().flatten().filter(made) {
        if let Err(error) = std::fs::remove_file(file.path()) {
            tracing::warn!(%error, "a leftover region stays");
        }
    }
    let mut regions: Vec<RegionEntry> = Vec::new();
    let runs = package
        .release()
        .components
        .iter()
        .filter(|c| c.start.runs());
    for component in runs {
        let name = component.name.clone();
        let version = component.version.to_string();
        let bytes = package.library_bytes(&name).map_err(UpgradeError::from)?;
        let path = libraries.place(&name, &bytes, &blake3::hash(&bytes));
        let path = path.map_err(UpgradeError::from)?;
        let library = Library::open(&path).map_err(|source| UpgradeError::Load {
            component: name.clone(),
            version: version.clone(),
            source,
        })?;
        let library = Arc::new(library);
        let fingerprint = hex(library.description().fingerprint);
        for instance in 0..instances_of(&package, &name) {
            let generation = regions.len() as u64 + 1;
            let file = region_file_name(&name, instance, generation)?;
            let library = library.clone();
            create_region(directory, &package, (&name, instance), &file, library)?;
            fault::point("start.region-made");
            regions.push(RegionEntry {
                component: name.clone(),
                instance,
                generation,
                file,
                fingerprint: fingerprint.clone(),
                version: version.clone(),
            });
        }
        if let Ok(library) = Arc::try_unwrap(library) {
            library.close();
        }
    }
    let next_generation = regions.len() as u64 + 1;
    let known = catalog.state().clone();
    catalog.commit(State {
        current: Some(release.clone()),
        permanent: Some(release.clone()),
        regions,
        previous: None,
        unconfirmed_since_ms: None,
        next_generation,
        sequence: known.sequence + 1,
        ..known
    })?;
    Ok(())
}

/// Makes the region of one instance, and lets the component make its state in it.
pub(crate) fn create_region(
    directory: &NodeDirectory,
    package: &ReleasePackage,
    (component, number): (&str, u32),
    file: &str,
    library: Arc<Library>,
) -> Result<(), UpgradeError> {
    let manifest = package.component(component).ok_or_else(|| {
        UpgradeError::Script(format!("the release has no manifest of {component}"))
    })?;
    let config = config_json(package, component)?;
    let options = crate::upgrade::region_options(manifest, number);
    let schema = library.description().schema.clone();
    let path = directory.region_file(file)?;
    let mut region = Region::create(&path, &options, &schema)?;
    let handle = Handle::new();
    region.attach(&handle);
    let gate = Gate::open(&handle, &mut region);
    let outside = Outside {
        component: component.to_owned(),
        number,
        library,
        config,
        peers: Arc::new(Peers::of_release(package)),
        // What `create` asks for is dropped.
        listening: Listening::Nowhere,
        inherited: Inherited::default(),
        figures: Arc::new(Figures::new()),
        region: (0, 0),
        setting: FIXED,
    };
    let created = outside.call(&mut Worker::default(), Function::Create, &gate, START);
    gate.end(&mut region);
    let (outcome, _) = created?;
    region.set_root(outcome.root);
    // The catalog is about to name it.
    region
        .commit()
        .and_then(|_| region.make_durable())
        .map_err(|error| UpgradeError::Script(error.to_string()))?;
    Ok(())
}

/// Brings up the release of a node that this one takes over from, with all that it had. The shard stands still yet.
pub(super) fn arrive(options: &NodeOptions, arrival: &mut Arrival) -> Result<Core, StartError> {
    let handed = |error: &dyn std::fmt::Display| StartError::HandOver(error.to_string());
    let lock = arrival.descriptors.take(arrival.record.lock);
    let lock = lock.map_err(|error| handed(&error))?;
    let directory = NodeDirectory::adopt(&options.directory, lock)?;
    let catalog = Catalog::open(directory.path())?;
    let mark = catalog.state().journal.clone();
    let journal = Journal::open_marked(directory.journal(), mark.as_ref())?;
    let current = catalog.state().current.clone();
    let current = current.filter(|current| *current == arrival.record.release);
    let current = current.ok_or_else(|| {
        let release = &arrival.record.release;
        handed(&format_args!(
            "it is of {release}, which is not the current release"
        ))
    })?;
    fault::point(match arrival.because() {
        None => "handover.taken",
        Some(_) => "handover.taken-again",
    });
    let libraries = Libraries::new(directory.libraries()).map_err(UpgradeError::from)?;
    let mut core = core_of(directory, catalog, journal, libraries, &current, options)?;
    core.figures = Arc::new(Figures::going_on(&arrival.record.figures));
    core.remove_orphans();
    bring_up(&mut core, options, Some(&mut *arrival))?;
    if arrival.because().is_none() {
        fault::point("handover.up");
    }
    Ok(core)
}

/// Loads the current release's libraries, opens its regions, and starts its instances.
fn bring_up(
    core: &mut Core,
    options: &NodeOptions,
    arrival: Option<&mut Arrival>,
) -> Result<(), StartError> {
    let package = core.package.clone();
    lost_state::names_are_known(options, core.catalog.state())?;
    let mut instances = Vec::new();
    let runs = package
        .release()
        .components
        .iter()
        .filter(|c| c.start.runs());
    for component in runs {
        let name = &component.name;
        let library = core.open_library(&package, name, &component.version.to_string())?;
        let config = config_json(&package, name)?;
        for number in 0..instances_of(&package, name) {
            let entry = core.catalog.state().region(name, number).cloned();
            let entry = entry.ok_or_else(|| {
                UpgradeError::Script(format!("the catalog names no region of {name}.{number}"))
            })?;
            let (mut region, entry) = lost_state::open(core, &package, entry, &library, options)?;
            stepwise::go_on(core, &entry, &library, &mut region)?;
            history::complete(core, &entry, &mut region);
            let mut instance = Instance::new(
                name.clone(),
                number,
                library.clone(),
                region,
                entry.generation,
                config.clone(),
            );
            instance.mailbox = mailbox_of(&package, name);
            instances.push(instance);
        }
    }
    for component in &package.release().components {
        if component.start == StartType::Load {
            let version = component.version.to_string();
            let library = core.open_library(&package, &component.name, &version)?;
            core.loaded.push(library);
        }
    }
    let mut taken = Taken::new(instances, core.figures.clone()).map_err(StartError::EventLoop)?;
    taken.shard.rehearsed = core.rehearsal;
    taken.shard.inherited = Inherited::new(options.sockets.clone());
    if let Some(arrival) = arrival {
        let shard = std::mem::take(&mut arrival.record.shard);
        let adopted = taken.shard.adopt(shard, &mut arrival.descriptors);
        adopted.map_err(|error| StartError::HandOver(error.to_string()))?;
    }
    taken.shard.supervisor = Supervisor::of_release(&package);
    core.standing = Some(taken);
    // What is left at once is not begun.
    match core.untrusted {
        true => Ok(()),
        false => init_all(core),
    }
}

/// Calls `init` of all instances whose it was not called yet.
pub(super) fn init_all(core: &mut Core) -> Result<(), StartError> {
    let Some(taken) = &mut core.standing else {
        unreachable!("the shard stands still while the node starts")
    };
    let mut worker = Worker::default();
    for at in 0..taken.shard.instances.len() {
        if std::mem::replace(&mut taken.shard.instances[at].begun, true) {
            continue;
        }
        let listening = taken.shard.listening(Some(at));
        let outside = Outside::of(&taken.shard, at, listening, FIXED);
        let instance = &mut taken.shard.instances[at];
        let gate = Gate::open(instance.attached.handle(), &mut instance.region);
        let called = outside.call(&mut worker, Function::Init, &gate, START);
        gate.end(&mut instance.region);
        let mut effects = match called {
            Ok((_, effects)) => effects,
            // The node runs without it as well.
            Err(error) if taken.shard.supervisor.is_temporary(&instance.component) => {
                instance.region.abort();
                taken.shard.leave_out(at, &error.to_string());
                continue;
            }
            Err(error) => return Err(UpgradeError::from(error).into()),
        };
        instance
            .region
            .commit()
            .map_err(|e| UpgradeError::Script(e.to_string()))?;
        taken.shard.carry_out(at, &mut effects);
    }
    Ok(())
}
