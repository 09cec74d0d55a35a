//! The catalog: the one file whose change commits an upgrade.
//!
//! The file `catalog` has two slots. A commit writes the whole new [`State`] into the slot that does not hold the
//! current one and syncs it; until that sync the other slot is untouched, so that a torn write leaves the state
//! before. The format is described byte by byte in `docs/catalog-format.md`.

mod error;
mod instances;
mod migrated;
mod releases;
mod slot;
mod snapshots;
mod state;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::fault;
pub use error::CatalogError;
pub use instances::{TooManyInstances, have_room};
pub use migrated::Migrated;
pub use releases::{Mark, ReleaseEntry, ReleaseStatus};
pub use slot::{
    CHECKSUM_BYTES, DamagedSlot, FORMAT, HEADER_BYTES, MAGIC, PAYLOAD_LIMIT, SLOT_BYTES, SlotFault,
};
use slot::{choose, encode};
pub use snapshots::{ResetEntry, SNAPSHOT_LIMIT, SnapshotEntry};
pub use state::{
    Previous, ProgramBefore, RegionEntry, ReleaseId, State, SweepEntry, SweepLibrary, SweepLink,
};

/// Name of the catalog file inside a node directory.
pub const FILE_NAME: &str = "catalog";

/// A state on its way into the catalog: its slot's bytes are made, and nothing is written. See [`Catalog::draft`].
#[derive(Debug)]
pub struct Draft {
    state: State,
    bytes: Vec<u8>,
    /// The number that it will have.
    generation: u64,
}

impl Draft {
    /// The state.
    pub fn state(&self) -> &State {
        &self.state
    }
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
        let draft = self.draft(state)?;
        self.write(draft, true).map(drop)
    }

    /// Makes all of a commit of `state` but the writing, for a [`Catalog::flip`] that clients wait for.
    ///
    /// # Errors
    ///
    /// If the state cannot be written into a slot.
    pub fn draft(&self, mut state: State) -> Result<Draft, CatalogError> {
        state.settle_releases();
        let generation =
            self.generation
                .checked_add(1)
                .ok_or_else(|| CatalogError::GenerationsUsedUp {
                    path: self.path.clone(),
                    generation: self.generation,
                })?;
        let bytes = encode(&self.path, generation, &state)?;
        Ok(Draft {
            state,
            bytes,
            generation,
        })
    }

    /// Writes what the draft's slot holds once more, so that its pages are at hand, and the file system has done what
    /// it does at the first write to a page: that takes tens of microseconds, which a flip would wait for. The file
    /// does not change.
    pub fn touch(&self, draft: &Draft) {
        let offset = (self.other_slot() * SLOT_BYTES) as u64;
        let mut bytes = vec![0; draft.bytes.len()];
        // What is wrong with the file the flip will tell.
        if self.file.read_exact_at(&mut bytes, offset).is_ok() {
            let _ = self.file.write_all_at(&bytes, offset);
        }
    }

    /// The slot that does not hold the state.
    fn other_slot(&self) -> usize {
        1 - self.slot
    }

    /// Whether nothing was committed since the draft was made.
    pub fn precedes(&self, draft: &Draft) -> bool {
        self.generation.checked_add(1) == Some(draft.generation)
    }

    /// Commits a draft as far as the death of this process goes: one flip, in the page cache. It
    /// holds at once, and for whoever opens the catalog after this process has died; a loss of power
    /// may bring the state before back until [`Catalog::settle`] has made it durable.
    ///
    /// For states whose regions promise no more than that: then no client waits for the medium. Gives back the
    /// state before, which is a thousand small pieces of memory, so that it is dropped when nobody waits.
    ///
    /// # Errors
    ///
    /// As [`Catalog::commit`]; [`CatalogError::Overtaken`] if something was committed since the draft was made.
    pub fn flip(&mut self, draft: Draft) -> Result<State, CatalogError> {
        self.settle()?;
        self.write(draft, false)
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

    fn write(&mut self, draft: Draft, sync: bool) -> Result<State, CatalogError> {
        if self.poisoned {
            return Err(CatalogError::Poisoned {
                path: self.path.clone(),
            });
        }
        if !self.precedes(&draft) {
            return Err(CatalogError::Overtaken {
                path: self.path.clone(),
                generation: draft.generation,
            });
        }
        let Draft {
            state,
            bytes,
            generation,
        } = draft;
        let slot = self.other_slot();
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
        self.slot = slot;
        self.generation = generation;
        self.damaged.clear();
        Ok(std::mem::replace(&mut self.state, state))
    }
}
