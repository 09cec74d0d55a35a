//! The catalog: the one file whose change commits an upgrade.
//!
//! The file `catalog` has two slots. A commit writes the whole new [`State`] into the slot that does not hold the
//! current one and syncs it; until that sync the other slot is untouched, so that a torn write leaves the state
//! before. The format is described byte by byte in `docs/catalog-format.md`.

mod migrated;
mod releases;
mod snapshots;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use thiserror::Error;
use xxhash_rust::xxh3::xxh3_64;

use crate::fault;
use crate::trust::Seen;
pub use migrated::Migrated;
pub use releases::{Mark, ReleaseEntry, ReleaseStatus};
pub use snapshots::{ResetEntry, SNAPSHOT_LIMIT, SnapshotEntry};

/// Name of the catalog file inside a node directory.
pub const FILE_NAME: &str = "catalog";
/// The first bytes of each slot.
pub const MAGIC: [u8; 8] = *b"NEURCAT\n";
/// The version of the format that this code writes.
pub const FORMAT: u32 = 6;
/// The earliest version that this code reads.
const OLDEST_FORMAT: u32 = 1;
/// Bytes of one slot.
pub const SLOT_BYTES: usize = 64 * 1024;
/// Bytes before the payload: magic, format, zero, generation, length.
pub const HEADER_BYTES: usize = 32;
/// Bytes of the checksum after the payload.
pub const CHECKSUM_BYTES: usize = 8;
/// The longest payload that fits a slot.
pub const PAYLOAD_LIMIT: usize = SLOT_BYTES - HEADER_BYTES - CHECKSUM_BYTES;

/// Name and version of a release.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReleaseId {
    /// Name of the release, as in its manifest.
    pub name: String,
    /// Version of the release, as in its manifest.
    pub version: String,
}

impl ReleaseId {
    /// A release by name and version.
    pub fn new(name: impl Into<String>, version: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            version: version.into(),
        }
    }
}

impl std::fmt::Display for ReleaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.name, self.version)
    }
}

/// One region file of a release: which instance's state lies where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionEntry {
    /// The component whose state it is.
    pub component: String,
    /// Number of the instance, from 0.
    pub instance: u32,
    /// Generation of the region: a conversion writes a new one beside the old one.
    pub generation: u64,
    /// File name inside `regions/`.
    pub file: String,
    /// Fingerprint of the schema that the region holds.
    pub fingerprint: String,
    /// Version of the component that the region belongs to.
    pub version: String,
}

impl RegionEntry {
    /// Whether it is the region of this instance of this component.
    pub(crate) fn is_of(&self, component: &str, instance: u32) -> bool {
        self.instance == instance && self.component == component
    }
}

/// A region that is being converted segment by segment: what a node that starts again needs to go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepEntry {
    /// The component whose state it is.
    pub component: String,
    /// Number of the instance.
    pub instance: u32,
    /// Fingerprint of the schema before; that of the present one is the region's.
    pub from: String,
    /// The conversions, one after the other.
    pub links: Vec<SweepLink>,
    /// When they began (milliseconds since 1970): what each of them is told.
    pub now_ms: u64,
}

/// One conversion of all objects of a region.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepLink {
    /// Fingerprint of the schema that it leads to.
    pub to: String,
    /// The libraries of the component whose conversions it uses, the first that has one first.
    pub libraries: Vec<SweepLibrary>,
    /// The instruction's table, JSON.
    pub extra: String,
}

/// A library of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepLibrary {
    /// A release that has it.
    pub release: ReleaseId,
    /// The component's version.
    pub version: String,
}

/// What the node goes back to while the current release is unconfirmed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Previous {
    /// The release before the current one.
    pub release: ReleaseId,
    /// The regions of that release.
    pub regions: Vec<RegionEntry>,
    /// The plan that led to the current release.
    pub plan_id: String,
    /// Whose state the upgrade has thrown away. Since format 6.
    #[serde(default)]
    pub reset: Vec<ResetEntry>,
}

/// Everything that one commit changes at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// The release that runs.
    pub current: Option<ReleaseId>,
    /// The release that a restart comes back to: confirmed, or the first one.
    pub permanent: Option<ReleaseId>,
    /// The regions of the current release.
    pub regions: Vec<RegionEntry>,
    /// The way back, kept while the current release is unconfirmed.
    pub previous: Option<Previous>,
    /// Since when the current release waits for confirmation (milliseconds since 1970).
    pub unconfirmed_since_ms: Option<u64>,
    /// The number that the next new region generation gets; never reused.
    pub next_generation: u64,
    /// Running number of the last operation that committed.
    pub sequence: u64,
    /// The releases that are unpacked. Since format 2.
    #[serde(default)]
    pub releases: Vec<ReleaseEntry>,
    /// What was seen of the packages of each release name. Since format 2.
    #[serde(default)]
    pub seen: BTreeMap<String, Seen>,
    /// Where the journal was. Since format 2.
    #[serde(default)]
    pub journal: Option<Mark>,
    /// What undoes the hooks and commands that the upgrade in flight has called, in the order of the calls:
    /// `apply` steps as in a relup. Since format 3.
    #[serde(default)]
    pub undo: Vec<serde_json::Value>,
    /// The regions that are converted segment by segment. Since format 4.
    #[serde(default)]
    pub sweeps: Vec<SweepEntry>,
    /// The program that ran the release which another node has taken over from, while there is a way back to it.
    /// Since format 5.
    #[serde(default)]
    pub program_before: Option<ProgramBefore>,
    /// What is kept of states that upgrades have thrown away. Since format 6.
    #[serde(default)]
    pub snapshots: Vec<SnapshotEntry>,
    /// How many starts of the node have begun to go back from the current release, and of which none has come up yet.
    /// Since format 6.
    #[serde(default)]
    pub starts: u32,
    /// The migrations that this state committed and that stand in no region's file yet, or did not when it was
    /// written: a node that starts records them. Since format 6.
    #[serde(default)]
    pub migrations: Vec<Migrated>,
}

/// A node's program that is kept in `libraries/` for the way back to a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramBefore {
    /// The release that it ran.
    pub release: ReleaseId,
    /// Its BLAKE3 hash, 64 lower-case hex digits.
    pub blake3: String,
}

impl State {
    /// The entry of an instance in the current release.
    pub fn region(&self, component: &str, instance: u32) -> Option<&RegionEntry> {
        self.regions
            .iter()
            .find(|region| region.is_of(component, instance))
    }

    /// Whether a region file is named by the current release, by the way back, or as a snapshot; any other file is an
    /// orphan.
    pub fn names_region_file(&self, file: &str) -> bool {
        let of_release = self.regions.iter().any(|region| region.file == file);
        of_release || self.goes_back_to(file) || self.snapshot(file).is_some()
    }
}

/// What is wrong with one slot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SlotFault {
    /// The file ends inside the slot.
    #[error("`{field}`: the file ends before byte {needed} of the slot, which has {found}")]
    Short {
        /// The field that is cut off.
        field: &'static str,
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// The first bytes are not those of a catalog slot.
    #[error("`magic`: not the first bytes of a catalog slot")]
    Magic,
    /// The zero bytes of the header are not zero.
    #[error("`reserved`: {0:#x} where zero belongs")]
    Reserved(u32),
    /// A format number of which this code knows nothing, over a damaged slot.
    #[error("`format`: {0} where {FORMAT} belongs")]
    Format(u32),
    /// The length does not fit the slot.
    #[error("`length`: {0} bytes, above the limit of {PAYLOAD_LIMIT}")]
    Length(u64),
    /// The content does not match its checksum.
    #[error("`checksum`: {stored:#018x} stored, {computed:#018x} computed")]
    Checksum {
        /// What the slot says.
        stored: u64,
        /// What its bytes give.
        computed: u64,
    },
    /// The payload matches its checksum and is no [`State`].
    #[error("`payload`: {0}")]
    Payload(String),
}

/// A damaged slot that [`Catalog::open`] passed over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedSlot {
    /// 0 or 1.
    pub slot: usize,
    /// The generation that its header claims, where it can be read; proves nothing.
    pub claimed_generation: Option<u64>,
    /// What is wrong with it.
    pub fault: SlotFault,
}

/// Why the catalog could not be made, read or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The operating system refused a step.
    #[error("{}: cannot {step}: {source}; see to the file system, then start the node again", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no catalog.
    #[error("{}: no catalog here; make a node directory with `neurath node start` or restore the file from a backup", path.display())]
    Missing {
        /// The file that is not there.
        path: PathBuf,
    },
    /// There is a catalog already.
    #[error("{}: a catalog exists already; open it, or remove the node directory to begin anew", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// Neither slot can be used.
    #[error("{}: both slots are damaged: slot 0: {first}; slot 1: {second}; restore the file from a backup, no state was changed", path.display())]
    BothSlots {
        /// The file.
        path: PathBuf,
        /// What is wrong with slot 0.
        first: SlotFault,
        /// What is wrong with slot 1.
        second: SlotFault,
    },
    /// A newer node wrote the file.
    #[error("{}: slot {slot}, `format`: {found}, and this node knows {FORMAT}; start the newer node that wrote it", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// 0 or 1.
        slot: usize,
        /// The format found.
        found: u32,
    },
    /// Both slots claim the same generation and differ.
    #[error("{}: `generation`: both slots say {generation} and differ; two nodes wrote here: restore the file from a backup", path.display())]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The generation both claim.
        generation: u64,
    },
    /// The generations are used up.
    #[error("{}: `generation`: no number is left after {generation}; restore the file from a backup", path.display())]
    GenerationsUsedUp {
        /// The file.
        path: PathBuf,
        /// The last generation.
        generation: u64,
    },
    /// The new state does not fit a slot. Nothing was written.
    #[error("{}: a state of {bytes} bytes does not fit the {PAYLOAD_LIMIT} of a slot; confirm the current release first, or run fewer instances", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the payload.
        bytes: usize,
    },
    /// The new state could not be made JSON. Nothing was written.
    #[error("{}: the state cannot be written as JSON: {source}; nothing was changed", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The commit failed and was taken back: the state before holds, in memory and on disk.
    #[error("{}: not committed, cannot {step}: {source}; the state before holds: see to the file system and try again", path.display())]
    NotCommitted {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The commit failed and could not be taken back: either state may be found at the next start.
    #[error("{}: cannot {step} ({source}), nor take it back ({undo}); stop the node and see to the file system: the next start finds one of the two states whole", path.display())]
    Undecided {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
        /// What the system said about taking it back.
        undo: io::Error,
    },
    /// A flip is in force, and could not be made durable.
    #[error("{}: the change is in force, and cannot be made durable: {source}; see to the file system, then restart the node", path.display())]
    Unsettled {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier commit ended [`CatalogError::Undecided`].
    #[error("{}: an earlier commit could not be decided; stop the node, see to the file system and start it again", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
}

/// The open catalog of a node. Opened under the lock of [`crate::directory::NodeDirectory`], by one process.
#[derive(Debug)]
pub struct Catalog {
    path: PathBuf,
    file: File,
    state: State,
    slot: usize,
    generation: u64,
    damaged: Vec<DamagedSlot>,
    poisoned: bool,
    /// Whether the last flip is not durable yet.
    unsettled: bool,
}

enum Slot {
    Valid { generation: u64, state: Box<State> },
    Damaged(DamagedSlot),
    Newer(u32),
}

impl Catalog {
    /// Makes the catalog of a new node in the directory `dir`, holding the empty [`State`].
    ///
    /// It appears whole or not at all: written beside, synced, then renamed.
    pub fn create(dir: impl AsRef<Path>) -> Result<Self, CatalogError> {
        let dir = dir.as_ref();
        let path = dir.join(FILE_NAME);
        let new = dir.join("catalog.new");
        let failed = |step| {
            move |source| CatalogError::Io {
                path: dir.join(FILE_NAME),
                step,
                source,
            }
        };
        if path.symlink_metadata().is_ok() {
            return Err(CatalogError::Exists { path });
        }
        let state = State::default();
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        for (slot, generation) in [(0, 1), (1, 2)] {
            let encoded = encode(&path, generation, &state)?;
            bytes[slot * SLOT_BYTES..][..encoded.len()].copy_from_slice(&encoded);
        }
        // What an interrupted attempt left.
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("clear catalog.new")(error));
            }
            _ => {}
        }
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&new)
            .map_err(failed("make catalog.new"))?;
        fault::point("catalog.create.before-write");
        file.write_all_at(&bytes, 0)
            .map_err(failed("write catalog.new"))?;
        fault::point("catalog.create.before-sync");
        file.sync_all().map_err(failed("sync catalog.new"))?;
        fault::point("catalog.create.before-rename");
        std::fs::rename(&new, &path).map_err(failed("rename catalog.new"))?;
        fault::point("catalog.create.after-rename");
        crate::directory::fsync_dir(dir).map_err(failed("sync the directory"))?;
        fault::point("catalog.create.after-sync");
        Ok(Self {
            path,
            file,
            state,
            slot: 1,
            generation: 2,
            damaged: Vec::new(),
            poisoned: false,
            unsettled: false,
        })
    }

    /// Opens the catalog in the directory `dir`: the valid slot of the highest generation holds.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, CatalogError> {
        let path = dir.as_ref().join(FILE_NAME);
        let file = match OpenOptions::new().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(CatalogError::Missing { path });
            }
            Err(source) => {
                return Err(CatalogError::Io {
                    path,
                    step: "open it",
                    source,
                });
            }
        };
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(CatalogError::Io {
                        path,
                        step: "read it",
                        source,
                    });
                }
            }
        }
        bytes.truncate(filled);
        let (slot, generation, state, damaged) = choose(&path, &bytes)?;
        Ok(Self {
            path,
            file,
            state,
            slot,
            generation,
            damaged,
            poisoned: false,
            unsettled: false,
        })
    }

    /// The committed state.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// The number of the committed state: one more at each commit.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The slots that were passed over at opening (at most one): a torn commit, or damage. Worth a line in the log.
    pub fn damaged(&self) -> &[DamagedSlot] {
        &self.damaged
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Commits `state`: one flip. When this returns `Ok`, it is durable; until then the state before is.
    ///
    /// An error other than [`CatalogError::Undecided`] (and the [`CatalogError::Poisoned`] that follows it) means
    /// that the state before holds, in memory and on disk.
    pub fn commit(&mut self, state: State) -> Result<(), CatalogError> {
        self.write(state, true)
    }

    /// Commits `state` as far as the death of this process goes: one flip, in the page cache. It
    /// holds at once, and for whoever opens the catalog after this process has died; a loss of power
    /// may bring the state before back until [`Catalog::settle`] has made it durable.
    ///
    /// For states whose regions promise no more than that: then no client waits for the medium.
    ///
    /// # Errors
    ///
    /// As [`Catalog::commit`].
    pub fn flip(&mut self, state: State) -> Result<(), CatalogError> {
        self.settle()?;
        self.write(state, false)
    }

    /// Makes a flip durable; does nothing if it is.
    ///
    /// # Errors
    ///
    /// [`CatalogError::Unsettled`]: the state is in force, and may not survive a loss of power.
    pub fn settle(&mut self) -> Result<(), CatalogError> {
        if !self.unsettled {
            return Ok(());
        }
        fault::point("catalog.settle.before-sync");
        if let Err(source) = self.file.sync_data() {
            self.poisoned = true;
            return Err(CatalogError::Unsettled {
                path: self.path.clone(),
                source,
            });
        }
        self.unsettled = false;
        fault::point("catalog.settle.after-sync");
        Ok(())
    }

    fn write(&mut self, mut state: State, sync: bool) -> Result<(), CatalogError> {
        state.settle_releases();
        if self.poisoned {
            return Err(CatalogError::Poisoned {
                path: self.path.clone(),
            });
        }
        let generation =
            self.generation
                .checked_add(1)
                .ok_or_else(|| CatalogError::GenerationsUsedUp {
                    path: self.path.clone(),
                    generation: self.generation,
                })?;
        let bytes = encode(&self.path, generation, &state)?;
        let slot = 1 - self.slot;
        let offset = (slot * SLOT_BYTES) as u64;
        fault::point("catalog.flip.before-write");
        let written = self
            .file
            .write_all_at(&bytes, offset)
            .map_err(|error| ("write the slot", error))
            .and_then(|()| {
                if !sync {
                    return Ok(());
                }
                fault::point("catalog.flip.before-sync");
                self.file
                    .sync_data()
                    .map_err(|error| ("sync the slot", error))
            });
        if let Err((step, source)) = written {
            // The slot may be whole on disk all the same. It must not be found there later: wipe its header.
            let path = self.path.clone();
            let undone = self
                .file
                .write_all_at(&[0; HEADER_BYTES], offset)
                .and_then(|()| self.file.sync_data());
            return Err(match undone {
                Ok(()) => CatalogError::NotCommitted { path, step, source },
                Err(undo) => {
                    self.poisoned = true;
                    CatalogError::Undecided {
                        path,
                        step,
                        source,
                        undo,
                    }
                }
            });
        }
        fault::point("catalog.flip.after-sync");
        self.unsettled = !sync;
        self.state = state;
        self.slot = slot;
        self.generation = generation;
        self.damaged.clear();
        Ok(())
    }
}

fn encode(path: &Path, generation: u64, state: &State) -> Result<Vec<u8>, CatalogError> {
    let payload = serde_json::to_vec(state).map_err(|source| CatalogError::Encode {
        path: path.to_owned(),
        source,
    })?;
    if payload.len() > PAYLOAD_LIMIT {
        return Err(CatalogError::TooLarge {
            path: path.to_owned(),
            bytes: payload.len(),
        });
    }
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len() + CHECKSUM_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&0u32.to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes.extend_from_slice(&xxh3_64(&bytes).to_le_bytes());
    Ok(bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Reads slot number `slot` out of as many of its bytes as the file has.
fn decode(slot: usize, bytes: &[u8]) -> Slot {
    let claimed_generation = u64_at(bytes, 16);
    let damaged = |fault| {
        Slot::Damaged(DamagedSlot {
            slot,
            claimed_generation,
            fault,
        })
    };
    let short = |field, needed| {
        damaged(SlotFault::Short {
            field,
            needed,
            found: bytes.len(),
        })
    };
    match bytes.get(..MAGIC.len()) {
        None => return short("magic", MAGIC.len()),
        Some(magic) if magic != MAGIC => return damaged(SlotFault::Magic),
        Some(_) => {}
    }
    let Some(format) = u32_at(bytes, 8) else {
        return short("format", 12);
    };
    let Some(reserved) = u32_at(bytes, 12) else {
        return short("reserved", 16);
    };
    let Some(generation) = claimed_generation else {
        return short("generation", 24);
    };
    let Some(length) = u64_at(bytes, 24) else {
        return short("length", HEADER_BYTES);
    };
    if length > PAYLOAD_LIMIT as u64 {
        return damaged(SlotFault::Length(length));
    }
    let end = HEADER_BYTES + length as usize;
    let Some(payload) = bytes.get(HEADER_BYTES..end) else {
        return short("payload", end);
    };
    let Some(stored) = u64_at(bytes, end) else {
        return short("checksum", end + CHECKSUM_BYTES);
    };
    let computed = xxh3_64(&bytes[..end]);
    if stored != computed {
        return damaged(SlotFault::Checksum { stored, computed });
    }
    // From here on the bytes are as somebody wrote them. A later format is not damage: falling back to the older
    // slot would undo what the newer node committed.
    if format > FORMAT {
        return Slot::Newer(format);
    }
    if format < OLDEST_FORMAT {
        return damaged(SlotFault::Format(format));
    }
    if reserved != 0 {
        return damaged(SlotFault::Reserved(reserved));
    }
    match serde_json::from_slice(payload) {
        Ok(state) => Slot::Valid {
            generation,
            state: Box::new(state),
        },
        Err(error) => damaged(SlotFault::Payload(error.to_string())),
    }
}

fn choose(
    path: &Path,
    bytes: &[u8],
) -> Result<(usize, u64, State, Vec<DamagedSlot>), CatalogError> {
    let path = path.to_owned();
    let split = bytes.len().min(SLOT_BYTES);
    let (first, second) = bytes.split_at(split);
    match (decode(0, first), decode(1, second)) {
        (Slot::Newer(found), _) => Err(CatalogError::NewerFormat {
            path,
            slot: 0,
            found,
        }),
        (_, Slot::Newer(found)) => Err(CatalogError::NewerFormat {
            path,
            slot: 1,
            found,
        }),
        (Slot::Damaged(first), Slot::Damaged(second)) => Err(CatalogError::BothSlots {
            path,
            first: first.fault,
            second: second.fault,
        }),
        (Slot::Valid { generation, state }, Slot::Damaged(damaged)) => {
            Ok((0, generation, *state, vec![damaged]))
        }
        (Slot::Damaged(damaged), Slot::Valid { generation, state }) => {
            Ok((1, generation, *state, vec![damaged]))
        }
        (
            Slot::Valid { generation, state },
            Slot::Valid {
                generation: other,
                state: other_state,
            },
        ) => {
            if generation == other && state != other_state {
                return Err(CatalogError::Ambiguous { path, generation });
            }
            if generation >= other {
                Ok((0, generation, *state, Vec::new()))
            } else {
                Ok((1, other, *other_state, Vec::new()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(sequence: u64) -> State {
        let region = |component: &str, instance, generation| RegionEntry {
            component: component.to_owned(),
            instance,
            generation,
            file: format!("{component}.{instance}.{generation}"),
            fingerprint: "9f3c5a7e".to_owned(),
            version: "1.1.0".to_owned(),
        };
        State {
            current: Some(ReleaseId::new("shop", "1.1.0")),
            permanent: Some(ReleaseId::new("shop", "1.0.0")),
            regions: vec![region("store", 0, 4), region("store", 1, 5)],
            previous: Some(Previous {
                release: ReleaseId::new("shop", "1.0.0"),
                regions: vec![region("store", 0, 2), region("store", 1, 3)],
                plan_id: "3b1f".to_owned(),
                reset: Vec::new(),
            }),
            unconfirmed_since_ms: Some(1_700_000_000_000),
            next_generation: 6,
            sequence,
            ..State::default()
        }
    }

    /// A state with all that format 2 has.
    fn full_2(sequence: u64) -> State {
        let entry = |version: &str, ran| ReleaseEntry {
            release: ReleaseId::new("shop", version),
            manifest: "77".repeat(32),
            sequence: 3,
            epoch: 1,
            ran,
        };
        let mut state = State {
            releases: vec![entry("1.0.0", true), entry("1.2.0", false)],
            journal: Some(Mark {
                sequence: 40,
                chain: "55".repeat(32),
            }),
            ..sample(sequence)
        };
        state.take_in(entry("1.1.0", true));
        state.settle_releases();
        state
    }

    /// A state with all that format 6 has.
    fn full(sequence: u64) -> State {
        let mut state = full_5(sequence);
        let previous = state.previous.as_mut().unwrap();
        previous.reset.push(ResetEntry {
            component: "store".to_owned(),
            instance: 1,
            sequence: 2,
        });
        let region = previous.regions[1].clone();
        state.snapshots.push(SnapshotEntry {
            region,
            release: ReleaseId::new("shop", "1.0.0"),
            made_ms: 1_700_000_000_456,
        });
        state.starts = 2;
        state.migrations.push(Migrated {
            component: "store".to_owned(),
            instances: vec![(0, 4), (1, 5)],
            from_version: "1.0.0".to_owned(),
            to_version: "1.1.0".to_owned(),
            from_schema: "5d02a9c1".to_owned(),
            to_schema: "9f3c5a7e".to_owned(),
            name: "code_change".to_owned(),
            library: "store 1.1.0".to_owned(),
            strategy: "incremental".to_owned(),
            back: false,
            release: "shop-1.1.0".to_owned(),
            at_ms: 1_700_000_000_456,
            operation: "apply-7".to_owned(),
        });
        state
    }

    /// A state with all that format 5 has.
    fn full_5(sequence: u64) -> State {
        State {
            program_before: Some(ProgramBefore {
                release: ReleaseId::new("shop", "1.0.0"),
                blake3: "33".repeat(32),
            }),
            ..full_4(sequence)
        }
    }

    /// A state with all that format 3 has.
    fn full_3(sequence: u64) -> State {
        let undo = serde_json::json!({ "apply": { "component": "store", "hook": "thaw" } });
        State {
            undo: vec![undo],
            ..full_2(sequence)
        }
    }

    /// A state with all that format 4 has.
    fn full_4(sequence: u64) -> State {
        let library = |release: &str, version: &str| SweepLibrary {
            release: ReleaseId::new("shop", release),
            version: version.to_owned(),
        };
        let link = |to: &str, libraries| SweepLink {
            to: to.to_owned(),
            libraries,
            extra: "{\"ttl\":60}".to_owned(),
        };
        State {
            sweeps: vec![SweepEntry {
                component: "store".to_owned(),
                instance: 1,
                from: "5d02a9c1".to_owned(),
                links: vec![
                    link("77aa01fe", vec![library("1.0.5", "1.0.5")]),
                    link(
                        "9f3c5a7e",
                        vec![library("1.1.0", "1.1.0"), library("1.0.5", "1.0.5")],
                    ),
                ],
                now_ms: 1_700_000_000_123,
            }],
            ..full_3(sequence)
        }
    }

    #[test]
    fn a_commit_is_found_at_the_next_opening() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::create(folder.path()).unwrap();
        assert_eq!(catalog.state(), &State::default());
        assert!(matches!(
            Catalog::create(folder.path()),
            Err(CatalogError::Exists { .. })
        ));
        for sequence in 1..20 {
            catalog.commit(sample(sequence)).unwrap();
            let opened = Catalog::open(folder.path()).unwrap();
            assert_eq!(opened.state(), &sample(sequence));
            assert_eq!(opened.generation(), catalog.generation());
            assert!(opened.damaged().is_empty());
        }
        assert_eq!(
            std::fs::metadata(catalog.path()).unwrap().len(),
            2 * SLOT_BYTES as u64
        );
        assert!(catalog.state().names_region_file("store.1.3"));
        assert!(!catalog.state().names_region_file("store.1.1"));
        assert_eq!(catalog.state().region("store", 1).unwrap().generation, 5);
    }

    fn choose_state(bytes: &[u8]) -> Result<State, CatalogError> {
        choose(Path::new("catalog"), bytes).map(|chosen| chosen.2)
    }

    fn two_commits() -> (Vec<u8>, usize, usize) {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::create(folder.path()).unwrap();
        catalog.commit(sample(1)).unwrap();
        catalog.commit(sample(2)).unwrap();
        let used = encode(Path::new(""), 0, &sample(2)).unwrap().len();
        (std::fs::read(catalog.path()).unwrap(), catalog.slot, used)
    }

    #[test]
    fn every_damaged_byte_of_the_newest_slot_gives_the_older_state() {
        let (mut bytes, newest, used) = two_commits();
        let start = newest * SLOT_BYTES;
        for at in 0..bytes.len() {
            // All bits where something is stored; one pattern in the rest of the slots, which nothing reads.
            let masks: &[u8] = if at % SLOT_BYTES < used {
                &[1, 2, 4, 8, 16, 32, 64, 128, 255]
            } else {
                &[255]
            };
            if at % SLOT_BYTES >= used && at % 997 != 0 {
                continue;
            }
            for mask in masks {
                bytes[at] ^= mask;
                let expected = if (start..start + used).contains(&at) {
                    sample(1)
                } else {
                    sample(2)
                };
                assert_eq!(
                    choose_state(&bytes).unwrap(),
                    expected,
                    "byte {at} mask {mask}"
                );
                bytes[at] ^= mask;
            }
        }
    }

    #[test]
    fn damage_in_both_slots_is_an_error_that_names_the_fields() {
        let (bytes, _, used) = two_commits();
        for at in 0..used {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x20;
            bytes[SLOT_BYTES + used - 1 - at] ^= 0x04;
            let error = choose_state(&bytes).unwrap_err();
            assert!(matches!(error, CatalogError::BothSlots { .. }), "{error}");
            let text = error.to_string();
            assert!(
                text.contains("slot 0: `") && text.contains("slot 1: `"),
                "{text}"
            );
        }
    }

    #[test]
    fn every_truncation_gives_a_committed_state_or_an_error() {
        for commits in [2, 3] {
            let folder = tempfile::tempdir().unwrap();
            let mut catalog = Catalog::create(folder.path()).unwrap();
            for sequence in 1..=commits {
                catalog.commit(sample(sequence)).unwrap();
            }
            let bytes = std::fs::read(catalog.path()).unwrap();
            let used = encode(Path::new(""), 0, &sample(2)).unwrap().len();
            for length in 0..bytes.len() {
                if length % SLOT_BYTES > used && length % 997 != 0 {
                    continue;
                }
                let result = choose_state(&bytes[..length]);
                if length < used {
                    assert!(
                        matches!(result, Err(CatalogError::BothSlots { .. })),
                        "{length}"
                    );
                } else {
                    let in_first = if catalog.slot == 0 {
                        commits
                    } else {
                        commits - 1
                    };
                    let expected = if length < SLOT_BYTES + used {
                        in_first
                    } else {
                        commits
                    };
                    assert_eq!(result.unwrap(), sample(expected), "{length}");
                }
            }
        }
    }

    #[test]
    fn a_torn_commit_falls_back_and_the_next_one_heals() {
        let (bytes, newest, used) = two_commits();
        let folder = tempfile::tempdir().unwrap();
        for torn in (0..used).step_by(37) {
            let mut bytes = bytes.clone();
            bytes[newest * SLOT_BYTES..][torn..used].fill(0);
            std::fs::write(folder.path().join(FILE_NAME), &bytes).unwrap();
            let mut catalog = Catalog::open(folder.path()).unwrap();
            assert_eq!(catalog.state(), &sample(1));
            assert_eq!(catalog.damaged().len(), 1);
            assert_eq!(catalog.damaged()[0].slot, newest);
            catalog.commit(sample(3)).unwrap();
            let opened = Catalog::open(folder.path()).unwrap();
            assert_eq!(opened.state(), &sample(3));
            assert!(opened.damaged().is_empty());
        }
    }

    #[test]
    fn a_file_of_a_newer_format_is_refused_and_never_undone() {
        let (mut bytes, newest, used) = two_commits();
        let slot = &mut bytes[newest * SLOT_BYTES..][..used];
        slot[8] = FORMAT as u8 + 1;
        let checksum = xxh3_64(&slot[..used - CHECKSUM_BYTES]);
        slot[used - CHECKSUM_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        assert!(matches!(
            choose_state(&bytes),
            Err(CatalogError::NewerFormat { found, .. }) if found == FORMAT + 1
        ));
    }

    #[test]
    fn what_does_not_fit_is_refused_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::create(folder.path()).unwrap();
        catalog.commit(sample(1)).unwrap();
        let mut large = sample(2);
        large.regions = vec![large.regions[0].clone(); 2000];
        assert!(matches!(
            catalog.commit(large),
            Err(CatalogError::TooLarge { .. })
        ));
        assert_eq!(catalog.state(), &sample(1));
        assert_eq!(Catalog::open(folder.path()).unwrap().state(), &sample(1));
    }

    #[test]
    fn a_failed_write_is_an_error_and_the_state_before_holds() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::create(folder.path()).unwrap();
        catalog.commit(sample(1)).unwrap();
        // A handle that cannot write stands for a file system that refuses.
        catalog.file = File::open(catalog.path()).unwrap();
        assert!(matches!(
            catalog.commit(sample(2)),
            Err(CatalogError::Undecided { .. })
        ));
        assert!(matches!(
            catalog.commit(sample(2)),
            Err(CatalogError::Poisoned { .. })
        ));
        assert_eq!(catalog.state(), &sample(1));
        assert_eq!(Catalog::open(folder.path()).unwrap().state(), &sample(1));
    }

    #[test]
    fn a_missing_catalog_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(matches!(
            Catalog::open(folder.path()),
            Err(CatalogError::Missing { .. })
        ));
    }

    fn opened_fixture(name: &str) -> (Catalog, Vec<u8>, tempfile::TempDir) {
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures")
            .join(name);
        let bytes = std::fs::read(fixture.join(FILE_NAME)).unwrap();
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join(FILE_NAME), &bytes).unwrap();
        (Catalog::open(copy.path()).unwrap(), bytes, copy)
    }

    /// Format 1: it must be read for ever.
    #[test]
    fn the_fixture_of_format_1_is_read_and_goes_on() {
        let (mut opened, _, folder) = opened_fixture("catalog-1");
        assert_eq!(opened.state(), &sample(2));
        assert_eq!(opened.generation(), 4);
        opened.commit(full(3)).unwrap();
        let again = Catalog::open(folder.path()).unwrap();
        assert_eq!(again.state(), &full(3));
        assert!(again.damaged().is_empty());
    }

    /// Format 2: it must be read for ever.
    #[test]
    fn the_fixture_of_format_2_is_read_and_goes_on() {
        let (mut opened, _, folder) = opened_fixture("catalog-2");
        assert_eq!(opened.state(), &full_2(2));
        opened.commit(full(3)).unwrap();
        let again = Catalog::open(folder.path()).unwrap();
        assert_eq!(again.state(), &full(3));
        assert!(again.damaged().is_empty());
    }

    /// Format 3: it must be read for ever.
    #[test]
    fn the_fixture_of_format_3_is_read_and_goes_on() {
        let (mut opened, _, folder) = opened_fixture("catalog-3");
        assert_eq!(opened.state(), &full_3(2));
        opened.commit(full(3)).unwrap();
        let again = Catalog::open(folder.path()).unwrap();
        assert_eq!(again.state(), &full(3));
        assert!(again.damaged().is_empty());
    }

    /// Format 4: it must be read for ever.
    #[test]
    fn the_fixture_of_format_4_is_read_and_goes_on() {
        let (mut opened, _, folder) = opened_fixture("catalog-4");
        assert_eq!(opened.state(), &full_4(2));
        opened.commit(full(3)).unwrap();
        let again = Catalog::open(folder.path()).unwrap();
        assert_eq!(again.state(), &full(3));
        assert!(again.damaged().is_empty());
    }

    /// Format 5: it must be read for ever.
    #[test]
    fn the_fixture_of_format_5_is_read_and_goes_on() {
        let (mut opened, _, folder) = opened_fixture("catalog-5");
        assert_eq!(opened.state(), &full_5(2));
        opened.commit(full(3)).unwrap();
        let again = Catalog::open(folder.path()).unwrap();
        assert_eq!(again.state(), &full(3));
        assert!(again.damaged().is_empty());
    }

    /// Format 6 as committed: it must be read for ever. `NEURATH_WRITE_FIXTURES=1` made it, once.
    #[test]
    fn the_fixture_of_format_6_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::create(folder.path()).unwrap();
        catalog.commit(full(1)).unwrap();
        catalog.commit(full(2)).unwrap();
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/catalog-6");
        if std::env::var_os("NEURATH_WRITE_FIXTURES").is_some() && !fixture.exists() {
            std::fs::create_dir_all(&fixture).unwrap();
            std::fs::copy(catalog.path(), fixture.join(FILE_NAME)).unwrap();
        }
        let (opened, bytes, _folder) = opened_fixture("catalog-6");
        assert_eq!(opened.state(), &full(2));
        assert_eq!(
            bytes,
            std::fs::read(catalog.path()).unwrap(),
            "format 6 is no longer written as it was"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), second in any::<bool>()) {
            let (mut file, _, _) = two_commits();
            let at = if second { SLOT_BYTES } else { 0 };
            file[at + 8..at + 8 + bytes.len()].copy_from_slice(&bytes);
            let _ = choose_state(&file);
            let _ = choose_state(&bytes);
        }
    }
}
