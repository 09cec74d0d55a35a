//! The copy of a region that goes on being used.
//!
//! The region's bytes are copied while they change, and every transaction that is committed
//! meanwhile is noted (`tee.rs`). What a note says are absolute values: so the copy, whatever
//! mixture it was, is right once all notes have been carried out on it, in their order. A part
//! is copied first and the notes after it are carried out then, never the other way round: the
//! copied part holds all that was noted before it was copied, as a transaction is noted after
//! its words have been stored. What was being stored when the last part was copied is waited
//! for.
//!
//! The header and the superblock come last, after a sync of all that they vouch for: what a
//! crash leaves of a copy is no region.

use std::path::{Path, PathBuf};

use super::error::FormatError;
use super::format::{
    CHUNK_LEN, DIRECTORY_AT, HEADER_AT, HEADER_COPY_AT, Header, LOG_AT, PAGE, ROOT_AT, RegionState,
    SCHEMA_AT, SUPERBLOCK_AT, Superblock,
};
use super::history;
use super::media::{MappedFile, Mapping, Media};
use super::space::Space;
use super::tee::{Stopped, Taps, tee};
use super::{OpenError, Region};
use crate::history::History;

/// Bytes that a copy takes at a time.
const PART: u64 = 1 << 20;

/// Bytes of memory that the transactions which are committed meanwhile may take.
const ROOM: u64 = 128 << 20;

/// Why a region that is in use could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The copy's file.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// More was committed than could be kept in memory until it was written.
    #[error(
        "the region changed faster than {} could be written; try again with less load, or on a \
         faster disk", path.display()
    )]
    TooFast {
        /// Which file.
        path: PathBuf,
    },
    /// What was copied is no region.
    #[error("{}: {source}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// What the state is converted to, segment by segment, changed while it was copied.
    #[error(
        "a conversion of the state began or ended while {} was written; try again", path.display()
    )]
    Overtaken {
        /// Which file.
        path: PathBuf,
    },
    /// Somebody else copies it.
    #[error("a snapshot of the region is being made already; wait for it to end")]
    Busy,
}

/// What goes wrong while a copy is filled.
#[derive(Debug)]
pub(crate) enum CopyError {
    Stopped(Stopped),
    Io(std::io::Error),
    Format(FormatError),
}

impl From<Stopped> for CopyError {
    fn from(stopped: Stopped) -> CopyError {
        CopyError::Stopped(stopped)
    }
}

impl From<std::io::Error> for CopyError {
    fn from(error: std::io::Error) -> CopyError {
        CopyError::Io(error)
    }
}

/// What a copy needs to know of its region, whatever it lies on.
pub(crate) struct Begun {
    header: Header,
    superblock: Superblock,
    history: History,
    taps: Taps,
}

impl Begun {
    /// Bytes that the region takes now.
    pub(crate) fn length(&self) -> u64 {
        self.superblock.length
    }
}

impl<M: Media> Region<M> {
    /// From now on notes what is committed. `None` if somebody else has it noted.
    pub(crate) fn begin_copy(&mut self, room: u64) -> Option<Begun> {
        let inner = self.inner();
        if inner.tee.as_ref().is_some_and(|tee| !tee.is_over()) {
            return None;
        }
        let (tee, taps) = tee(room);
        inner.tee = Some(tee);
        Some(Begun {
            header: inner.header.clone(),
            history: history::read(&inner.media, &inner.header).history,
            superblock: Superblock {
                checkpoint: inner.sequence,
                ..inner.superblock.clone()
            },
            taps,
        })
    }
}

/// A copy that is being filled.
pub(crate) struct Copy<M: Media> {
    begun: Begun,
    target: M,
    next: u64,
}

impl<M: Media> Copy<M> {
    /// Begins a copy into an empty medium of the region's length.
    pub(crate) fn new(begun: Begun, target: M) -> Copy<M> {
        Copy {
            begun,
            target,
            next: ROOT_AT,
        }
    }

    /// Copies the next part by `copy`, which is given its place and its length, and carries out
    /// what was committed until then; whether there is more to copy.
    pub(crate) fn step(
        &mut self,
        copy: impl FnOnce(&mut M, u64, u64) -> std::io::Result<()>,
    ) -> Result<bool, CopyError> {
        let end = self.begun.length();
        if self.next < end {
            // The log stays empty: no record of it would be replayed.
            let stop = if self.next < LOG_AT { LOG_AT } else { end };
            let len = PART.min(stop - self.next);
            copy(&mut self.target, self.next, len)?;
            self.next += len;
            if self.next == LOG_AT {
                self.next = self.begun.header.heap_at();
            }
        }
        self.carry_out()?;
        Ok(self.next < end)
    }

    /// Carries out what was committed.
    fn carry_out(&mut self) -> Result<(), CopyError> {
        while let Some(teed) = self.begun.taps.take()? {
            if teed.length > self.target.len() {
                self.target.grow(teed.length)?;
            }
            let chunks = teed
                .words()
                .filter(|&(at, chunk)| (DIRECTORY_AT..SCHEMA_AT).contains(&at) && chunk != 0);
            // A chunk is made zero before the transaction that adds it.
            for (_, chunk) in chunks {
                self.target.zero(chunk, CHUNK_LEN);
            }
            for (at, bytes) in teed.fresh() {
                self.target.store(at, bytes);
            }
            for (at, value) in teed.words() {
                self.target.store_word(at, value);
            }
            self.begun.superblock.checkpoint = teed.sequence;
        }
        Ok(())
    }

    /// Ends the copy as an orderly close would; gives the last transaction in it.
    pub(crate) fn finish(mut self) -> Result<(M, u64), CopyError> {
        // A part may have been copied while a transaction was stored there.
        self.begun.taps.settle()?;
        self.carry_out()?;
        let Copy {
            begun:
                Begun {
                    header,
                    superblock,
                    history,
                    ..
                },
            mut target,
            ..
        } = self;
        let length = target.len() & !(PAGE - 1);
        let mut space = Space::load(&target, &header, length).map_err(CopyError::Format)?;
        space.store_sums(&mut target, &mut |_| {});
        target.sync()?;
        let superblock = Superblock {
            generation: superblock.generation + 1,
            state: RegionState::Clean,
            length,
            ..superblock
        };
        // The other slot as if it had come before: one alone would be a damaged region.
        let before = Superblock {
            generation: superblock.generation - 1,
            state: RegionState::Open,
            ..superblock.clone()
        };
        let older = (superblock.generation as usize + 1) % 2;
        target.store(SUPERBLOCK_AT[older], &before.encode(&header));
        target.store(SUPERBLOCK_AT[1 - older], &superblock.encode(&header));
        if header.history {
            history::store_first(&mut target, &header, &history);
        }
        // Without one of them, what is there is no region.
        target.store(HEADER_COPY_AT, &header.encode());
        target.store(HEADER_AT, &header.encode());
        target.sync()?;
        Ok((target, superblock.checkpoint))
    }
}

/// A region of a file, as a thread of its own copies it.
pub struct SnapshotSource {
    pub(super) begun: Begun,
    mapping: Mapping,
    limit: u64,
}

impl std::fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotSource")
            .field("owner", &self.owner())
            .finish_non_exhaustive()
    }
}

impl Region<MappedFile> {
    /// Begins a snapshot: the state at some commit from now on. To be called between two
    /// transactions; the copy is made on another thread, and what is committed until it is done
    /// takes memory, up to a bound.
    ///
    /// # Errors
    ///
    /// If there is one already.
    pub fn begin_snapshot(&mut self) -> Result<SnapshotSource, SnapshotError> {
        let begun = self.begin_copy(ROOM).ok_or(SnapshotError::Busy)?;
        Ok(SnapshotSource {
            begun,
            mapping: self.mapping(),
            limit: self.media().limit(),
        })
    }

    /// Notes nothing more for the snapshot that is being made: the state now is the one that it
    /// will hold. To be called between two transactions.
    pub fn end_snapshot(&mut self) {
        self.inner().tee = None;
    }
}

impl SnapshotSource {
    /// The component and the instance whose state it is.
    pub fn owner(&self) -> String {
        let header = &self.begun.header;
        format!("{}.{}", header.component, header.instance)
    }

    /// Bytes that the region takes now.
    pub fn length(&self) -> u64 {
        self.begun.length()
    }

    /// Makes the copy in a new file, as an orderly close would leave the region: with all
    /// checksums, and durable. Gives the number of the last transaction in it.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the file then is no region.
    pub fn copy_to(self, path: &Path) -> Result<u64, SnapshotError> {
        let mut copy = self.begin(path)?;
        while copy.step()? {}
        copy.finish()
    }

    /// Begins the copy in a new file: for several regions that are to be copied as they are at
    /// one and the same moment, step by step, until [`Region::end_snapshot`].
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the file then is no region.
    pub fn begin(self, path: &Path) -> Result<SnapshotCopy, SnapshotError> {
        let target = Region::new_media(path, self.begun.length(), self.limit)?;
        Ok(SnapshotCopy {
            copy: Copy::new(self.begun, target),
            mapping: self.mapping,
            path: path.to_owned(),
        })
    }
}

/// A copy that is being made in a file.
pub struct SnapshotCopy {
    copy: Copy<MappedFile>,
    mapping: Mapping,
    path: PathBuf,
}

impl std::fmt::Debug for SnapshotCopy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotCopy")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SnapshotCopy {
    /// Bytes of the copy.
    pub fn length(&self) -> u64 {
        self.copy.target.len()
    }

    /// Copies the next part, and carries out what was committed until then; whether there is more
    /// to copy. To be called again and again until the end, so that what is committed meanwhile
    /// takes little memory.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the file then is no region.
    pub fn step(&mut self) -> Result<bool, SnapshotError> {
        let SnapshotCopy {
            copy,
            mapping,
            path,
        } = self;
        let stepped = copy.step(|target, at, len| target.copy_from((mapping, at), at, len));
        stepped.map_err(|error| named(error, path))
    }

    /// Ends the copy, all of whose parts are copied; gives the number of the last transaction in
    /// it: the last before [`Region::end_snapshot`], where that was called.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`]; the file then is no region.
    pub fn finish(self) -> Result<u64, SnapshotError> {
        let SnapshotCopy { copy, path, .. } = self;
        let ended = copy.finish();
        ended
            .map(|(_, sequence)| sequence)
            .map_err(|error| named(error, &path))
    }
}

fn named(error: CopyError, path: &Path) -> SnapshotError {
    let path = path.to_owned();
    match error {
        CopyError::Stopped(Stopped::Overflow) => SnapshotError::TooFast { path },
        CopyError::Stopped(Stopped::Overtaken) => SnapshotError::Overtaken { path },
        CopyError::Io(source) => SnapshotError::Write { path, source },
        CopyError::Format(source) => SnapshotError::Format { path, source },
    }
}
