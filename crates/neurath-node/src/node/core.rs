//! What a node holds, and the small things that starting, upgrading and stopping share.

use std::collections::BTreeSet;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use neurath_pmem::region::{Region, RegionOptions};
use neurath_pmem::schema::Fingerprint;

use crate::catalog::{Catalog, RegionEntry, ReleaseId};
use crate::control::Asker;
use crate::directory::{NodeDirectory, is_made_by_a_node};
use crate::handover::Launch;
use crate::health::Window;
use crate::journal::{Journal, Kind, Verdict};
use crate::libraries::Libraries;
use crate::loader::{self, Library, Unloading};
use crate::meeting::Meetings;
use crate::protocol::{InFlight, Retained};
use crate::release::ReleasePackage;
use crate::release_handler::{ReleaseHandler, open_for_use};
use crate::shard::figures::Figures;
use crate::shard::{ShardThread, Taken};
use crate::upgrade::{UpgradeError, region_options, release_id};

/// Why a library is kept that a thread left behind still runs.
const UNRETURNED: &str = "a call of it has not returned";

/// See the module.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) directory: NodeDirectory,
    pub(crate) catalog: Catalog,
    pub(crate) journal: Journal,
    pub(crate) libraries: Libraries,
    /// The current release.
    pub(crate) package: Arc<ReleasePackage>,
    /// The shard, while it runs.
    pub(crate) running: Option<ShardThread>,
    /// The shard, before it runs for the first time.
    pub(crate) standing: Option<Taken>,
    /// Whether the shard is to stand still after an upgrade: the node is starting.
    pub(crate) hold: bool,
    /// Whether what runs has failed, or has not begun to run: it is left by way of its conversions alone, and none of
    /// its other functions is called.
    pub(crate) untrusted: bool,
    /// Whether the node only rehearses an upgrade: nothing outside of its directory is touched.
    pub(crate) rehearsal: bool,
    /// The window of the current release, while it is not confirmed.
    pub(crate) window: Option<Window>,
    /// Libraries of the current release that are open, and run nothing (`start = "load"`).
    pub(crate) loaded: Vec<Arc<Library>>,
    /// Libraries kept for the way back.
    pub(crate) warm: Vec<Arc<Library>>,
    /// Libraries whose conversions a state still needs, with the component and the instance.
    pub(crate) sweeping: Vec<(String, u32, Arc<Library>)>,
    /// Those that were needed so, and may be closed.
    pub(crate) swept: Vec<Arc<Library>>,
    /// Libraries that could not be closed, as somebody still uses them.
    pub(crate) stuck: Vec<Arc<Library>>,
    /// Why the last way back that was to be taken by itself was not.
    pub(crate) stuck_because: Option<String>,
    pub(crate) next_generation: u64,
    pub(crate) figures: Arc<Figures>,
    /// How the node's program was started; none where the node runs in another's.
    pub(crate) launch: Option<Launch>,
    /// The control socket, for a node that takes over.
    pub(crate) control: Option<OwnedFd>,
    /// Whoever waits for the end of what is under way.
    pub(crate) asker: Option<Asker>,
    /// What was decided with other nodes.
    pub(crate) meetings: Meetings,
    /// Set by whoever wants the upgrade that runs to be given up.
    pub(crate) abort: Arc<AtomicBool>,
    /// What is under way, as the status tells it.
    pub(crate) flight: Arc<Mutex<Option<InFlight>>>,
    /// Set when the node is to stop.
    pub(crate) ending: Arc<AtomicBool>,
    /// What the event loop has told of failures, and no record has yet.
    pub(crate) unrecorded: Arc<Mutex<Vec<String>>>,
}

impl Core {
    /// The keeper of the releases that do not run.
    pub(crate) fn handler<'a>(&'a mut self, who: &'a str) -> ReleaseHandler<'a> {
        ReleaseHandler::new(&self.directory, &mut self.catalog, &mut self.journal, who)
    }

    /// Records something that begins and ends at once, or whose beginning alone can fail.
    pub(crate) fn begin(
        &mut self,
        operation: &str,
        who: &str,
    ) -> Result<String, crate::journal::JournalError> {
        let id = self.journal.next_operation(operation);
        let started = Kind::Started {
            operation: operation.to_owned(),
            plan_id: None,
            from: None,
            to: self.catalog.state().current.clone(),
        };
        self.journal.append(&id, who, started)?;
        Ok(id)
    }

    /// The version of the node that this program is.
    pub(crate) fn version(&self) -> String {
        version_of(self.launch.as_ref())
    }

    /// The current release.
    pub(crate) fn current(&self) -> ReleaseId {
        release_id(&self.package)
    }

    pub(crate) fn id_of(&self, package: &ReleasePackage) -> ReleaseId {
        release_id(package)
    }

    /// A number for a new generation, never used before.
    pub(crate) fn next_generation(&mut self) -> u64 {
        self.next_generation += 1;
        self.next_generation - 1
    }

    /// A release's package, from the node's own releases, checked again.
    pub(crate) fn open_package(&self, id: &ReleaseId) -> Result<Arc<ReleasePackage>, UpgradeError> {
        Ok(open_for_use(&self.directory, self.catalog.state(), id)?)
    }

    /// The library of a component of a release: one that is still open, or a new load.
    pub(crate) fn open_library(
        &self,
        package: &ReleasePackage,
        component: &str,
        version: &str,
    ) -> Result<Arc<Library>, UpgradeError> {
        let named = package
            .component(component)
            .map(|manifest| manifest.version.to_string());
        if named.as_deref() != Some(version) {
            return Err(UpgradeError::Script(format!(
                "release {} has no {component} {version}",
                release_id(package)
            )));
        }
        let bytes = package.library_bytes(component)?;
        let hash = blake3::hash(&bytes);
        let warm = self.warm.iter().find(|library| {
            let known = library.description();
            known.name == component
                && known.version == version
                && library.path().file_name().is_some_and(|name| {
                    // The name in the private store begins with the bytes' hash.
                    name.to_string_lossy().contains(&hash.to_hex()[..16])
                })
        });
        if let Some(library) = warm {
            return Ok(library.clone());
        }
        let path = self.libraries.place(component, &bytes, &hash)?;
        drop(bytes);
        let library = Library::open(&path).map_err(|source| {
            self.remove_library(&path);
            UpgradeError::Load {
                component: component.into(),
                version: version.into(),
                source,
            }
        })?;
        let found = library.description();
        if found.name != component || found.version != version {
            let found = format!("{} {}", found.name, found.version);
            self.close_library(library);
            return Err(UpgradeError::Identity {
                component: component.into(),
                version: version.into(),
                found,
            });
        }
        Ok(Arc::new(library))
    }

    fn remove_library(&self, path: &std::path::Path) {
        if let Err(error) = self.libraries.remove(path) {
            tracing::warn!(%error, "a library's file stays");
        }
    }

    fn close_library(&self, library: Library) -> Unloading {
        let path = library.path().to_owned();
        let outcome = library.close();
        if outcome == Unloading::Unloaded {
            self.remove_library(&path);
        }
        outcome
    }

    /// Closes libraries that nothing calls any more; names those that are gone. Those that
    /// are kept for the way back are left alone.
    pub(crate) fn close_libraries(&mut self, libraries: Vec<Arc<Library>>) -> Vec<String> {
        // Several instances share one.
        let distinct = distinct(libraries);
        let mut unloaded = Vec::new();
        for library in distinct {
            let kept = self.warm.iter();
            let mut kept = kept.chain(self.sweeping.iter().map(|(.., library)| library));
            if kept.any(|kept| Arc::ptr_eq(kept, &library)) {
                continue;
            }
            let description = library.description();
            let name = format!("{} {}", description.name, description.version);
            match Arc::try_unwrap(library) {
                Ok(library) => match self.close_library(library) {
                    Unloading::Unloaded => unloaded.push(name),
                    Unloading::Retained(reason) => {
                        tracing::warn!(library = name, reason, "a library stays in memory");
                    }
                },
                Err(library) => {
                    let reason = UNRETURNED;
                    tracing::warn!(library = name, reason, "a library stays in memory");
                    self.stuck.push(library);
                }
            }
        }
        unloaded
    }

    /// Keeps libraries open until the conversion of an instance's state has ended.
    pub(crate) fn keep_for_sweep(
        &mut self,
        (component, number): (&str, u32),
        libraries: Vec<Arc<Library>>,
    ) {
        self.end_of_sweep(component, number);
        let named = libraries.into_iter();
        let named = named.map(|one| (component.to_owned(), number, one));
        self.sweeping.extend(named);
    }

    /// The conversion of an instance's state has ended.
    pub(crate) fn end_of_sweep(&mut self, component: &str, number: u32) {
        let mine =
            |(of, instance, _): &mut (String, u32, _)| *of == component && *instance == number;
        let ended = self.sweeping.extract_if(.., mine);
        self.swept.extend(ended.map(|(.., library)| library));
    }

    /// Closes libraries whose last call has returned since.
    pub(crate) fn purge(&mut self) {
        let free = |library: &mut Arc<Library>| Arc::strong_count(library) == 1;
        let free: Vec<_> = self.stuck.extract_if(.., free).collect();
        for name in self.close_libraries(free) {
            tracing::info!(library = name, "unloaded, after its last call has returned");
        }
    }

    /// Old libraries that are still in memory, and who uses them.
    pub(crate) fn retained(&self) -> Vec<Retained> {
        let stuck = self.stuck.iter().map(|library| Retained {
            component: library.description().name.clone(),
            version: library.description().version.clone(),
            library: library.path().display().to_string(),
            reason: UNRETURNED.into(),
        });
        let closed = loader::lingering().into_iter().map(|one| Retained {
            component: one.component,
            version: one.version,
            library: one.path.display().to_string(),
            reason: one.reason,
        });
        stuck.chain(closed).collect()
    }

    /// What a component's region is to be.
    pub(crate) fn region_options(
        &self,
        package: &ReleasePackage,
        component: &str,
        instance: u32,
    ) -> Result<RegionOptions, UpgradeError> {
        let manifest = package.component(component).ok_or_else(|| {
            UpgradeError::Script(format!(
                "release {} has no {component}",
                release_id(package)
            ))
        })?;
        Ok(region_options(manifest, instance))
    }

    /// Opens a region of the catalog's.
    pub(crate) fn open_region(
        &self,
        package: &ReleasePackage,
        entry: &RegionEntry,
        fingerprint: Option<Fingerprint>,
    ) -> Result<Region, UpgradeError> {
        let path = self.directory.region_file(&entry.file)?;
        let options = self.region_options(package, &entry.component, entry.instance)?;
        let region = Region::open(&path, &options, fingerprint)?;
        tracing::info!(
            component = entry.component,
            durability = %region.durability(),
            found = %region.detection(),
            "the region is open"
        );
        Ok(region)
    }

    /// Deletes region files that neither the current release nor the way back names: what an
    /// upgrade was making when it failed, or what a confirmed one has left behind. Files that no node
    /// makes stay.
    pub(crate) fn remove_orphans(&self) {
        let state = self.catalog.state();
        let files = match std::fs::read_dir(self.directory.regions()) {
            Ok(files) => files,
            Err(error) => return tracing::warn!(%error, "cannot look for old regions"),
        };
        let orphans: BTreeSet<PathBuf> = files
            .flatten()
            .filter(|file| {
                let name = file.file_name();
                let name = name.to_string_lossy();
                is_made_by_a_node(&name) && !state.names_region_file(&name)
            })
            .map(|file| file.path())
            .collect();
        for path in orphans {
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(%error, path = %path.display(), "an old region stays");
            }
        }
    }

    /// Records the end of an operation.
    pub(crate) fn end(&mut self, operation: &str, who: &str, verdict: Verdict, text: String) {
        self.figures.count_end(operation, verdict);
        if let Err(error) = self.journal.end(operation, who, verdict, text) {
            tracing::error!(%error, "an operation's end could not be recorded yet");
        }
    }
}

/// Each library once.
pub(crate) fn distinct(libraries: impl IntoIterator<Item = Arc<Library>>) -> Vec<Arc<Library>> {
    let mut found: Vec<Arc<Library>> = Vec::new();
    for library in libraries {
        if !found.iter().any(|known| Arc::ptr_eq(known, &library)) {
            found.push(library);
        }
    }
    found
}

/// A component's configuration in a release, JSON: its own defaults, and what the release sets. Checked
/// against the schema of its manifest.
pub(crate) fn config_json(
    package: &ReleasePackage,
    component: &str,
) -> Result<String, UpgradeError> {
    let set = package.release().component(component);
    let set = set.map(|set| set.config.clone()).unwrap_or_default();
    let config = match package.component(component) {
        Some(manifest) => {
            let problems = manifest.config_problems(&set);
            if !problems.is_empty() {
                let problems = problems.iter().map(ToString::to_string);
                return Err(UpgradeError::Configuration {
                    component: component.to_owned(),
                    version: manifest.version.to_string(),
                    release: release_id(package),
                    problems: problems.collect::<Vec<_>>().join("; "),
                });
            }
            manifest.configured(&set)
        }
        None => set,
    };
    serde_json::to_string(&config).map_err(|error| UpgradeError::Script(error.to_string()))
}

/// How many instances of a component a release has.
pub(crate) fn instances_of(package: &ReleasePackage, component: &str) -> u32 {
    package
        .component(component)
        .map_or(1, |manifest| manifest.instances)
}

/// How many messages may wait for an instance of a component in a release.
pub(crate) fn mailbox_of(package: &ReleasePackage, component: &str) -> usize {
    package
        .component(component)
        .map_or(usize::MAX, |manifest| manifest.mailbox as usize)
}

/// The version of the node that a program is which was started like this.
pub(crate) fn version_of(launch: Option<&Launch>) -> String {
    launch.map_or_else(
        || env!("CARGO_PKG_VERSION").into(),
        |one| one.version.clone(),
    )
}
