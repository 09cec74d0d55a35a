//! A region: one instance's state in a file.
//!
//! The owner's side: making, opening, committing. What a component does with a region
//! is [`crate::Tx`], which reaches it through the functions of `ops.rs`.
//!
//! A transaction is redo: it changes private copies, and [`Region::commit`] writes one
//! record into the log, fences once, and then applies it. Until then nothing that lasts
//! has changed; afterwards a recovery completes what a crash left undone. `docs/on-media-format.md`
//! argues why replaying the last two records is enough.

pub(crate) mod ablation;
mod access;
pub(crate) mod applied;
mod commit;
mod dirty;
mod error;
pub mod format;
pub(crate) mod history;
mod holes;
pub(crate) mod journal;
mod look;
mod media;
mod open;
mod ops;
mod recovery;
mod ring;
mod snapshot;
mod space;
mod superblock;
pub(crate) mod sweep;
mod tee;
mod watch;
mod write_set;

#[cfg(test)]
mod changes_tests;
#[cfg(test)]
mod dropped_tests;
#[cfg(test)]
mod history_tests;
#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod room_tests;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::ptr::NonNull;
use std::sync::OnceLock;

use neurath_abi::{Ref, SegmentView};

pub use error::{FormatError, OpenError, RegionError};
pub use look::look_at;
pub(crate) use media::CopyOfFile;
pub use media::{Backend, Detection, Durability, MappedFile, Mapping, Media, Medium, detect};
#[cfg(any(test, feature = "campaign"))]
pub(crate) use open::Found;
pub(crate) use open::{least_heap, open_regular};
#[cfg(any(test, feature = "campaign"))]
pub(crate) use open::{make_filling_last, make_length_last};
pub(crate) use recovery::replay;
#[cfg(any(test, feature = "campaign"))]
pub(crate) use snapshot::Copy;
pub use snapshot::{SnapshotCopy, SnapshotError, SnapshotSource};
pub use space::RAW;
pub(crate) use space::object_size;
pub use sweep::{SweepStatus, Swept};
pub(crate) use watch::{Watch, Watched};

use crate::dummy::Handle;
use crate::migrate::{MigrateError, Source};
use crate::schema::Fingerprint;
use crate::tx::Tx;
use format::{Header, Log, PAGE, ROOT_AT, RegionState, SegmentEntry, Superblock};
use journal::Journal;
use space::Space;
use write_set::WriteSet;

/// What a new region is to be.
#[derive(Clone, Debug)]
pub struct RegionOptions {
    /// The component's name, at most 64 bytes.
    pub component: String,
    /// The instance's number.
    pub instance: u32,
    /// Bytes to make ready at once.
    pub initial: u64,
    /// Bytes that the file may ever have.
    pub limit: u64,
    /// What a committed transaction is to survive.
    pub durability: Durability,
}

impl RegionOptions {
    /// A region that grows from nothing, of durability `process`.
    #[must_use]
    pub fn new(component: &str, instance: u32, limit: u64) -> RegionOptions {
        RegionOptions {
            component: component.to_owned(),
            instance,
            initial: 0,
            limit,
            durability: Durability::Process,
        }
    }
}

/// How much is in a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of objects that live.
    pub live_bytes: u64,
    /// Objects that live.
    pub live_objects: u64,
    /// Transactions committed since the region was made.
    pub sequence: u64,
}

/// A region, open for its one writer.
pub struct Region<M: Media = MappedFile> {
    /// Made by `Box::into_raw`: a component's calls reach it through a copy of the
    /// pointer, so no `Box` may claim to be the only way there.
    inner: NonNull<Inner<M>>,
}

// SAFETY: the pointer is the only owner's; what it leads to can be sent (a mapping,
// memory, numbers). The copy in a handle is used only during calls that the owner
// makes, on the thread it makes them on.
unsafe impl<M: Media> Send for Region<M> {}

struct Inner<M: Media> {
    media: M,
    header: Header,
    superblock: Superblock,
    superblock_slot: usize,
    space: Space,
    set: WriteSet,
    handle: Option<Handle>,
    sequence: u64,
    log_at: u64,
    record: Vec<u8>,
    /// There only if the log is one.
    journal: Option<Box<Journal>>,
    /// What was stored may or may not last: no change is taken any more.
    failed: bool,
    /// While the region is copied.
    tee: Option<tee::Tee>,
    /// While what a conversion only copies is copied ahead of it.
    watch: Option<Box<Watch>>,
    /// While segments are converted one by one.
    sweep: Option<Box<sweep::Sweep>>,
    /// The types of which the conversion that made the region may have left objects behind.
    left: HashSet<u64>,
    /// The search for what a conversion has left behind.
    collection: Option<Box<sweep::Collection>>,
}

/// The kernel's boot id: another value means that the machine went down since.
pub(crate) fn boot_id() -> [u8; 16] {
    static BOOT_ID: OnceLock<[u8; 16]> = OnceLock::new();
    *BOOT_ID.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        u128::from_str_radix(&digits, 16)
            .unwrap_or_default()
            .to_be_bytes()
    })
}

impl Region<MappedFile> {
    /// Keeps the region's memory mapped for as long as the result lives.
    pub fn mapping(&self) -> Mapping {
        self.inner().media.mapping()
    }

    /// Copies so many views of segments at most for the next [`Region::lend_views`], if
    /// there is none of them yet; whether all are copied. It is kept, at a view for each segment.
    pub fn prepare_views(&mut self, most: usize) -> bool {
        self.inner().space.prepare_views(most)
    }

    /// The views of all segments as they are now, for another thread, and the number of this copy. If the one
    /// before was returned, only what has changed since was copied.
    pub fn lend_views(&mut self) -> (u64, Vec<SegmentView>) {
        self.inner().space.lend_views()
    }

    /// Returns a copy that nobody looks at any more, with the changes that the handle has shown since.
    pub fn return_views(&mut self, number: u64, views: Vec<SegmentView>) {
        self.inner().space.return_views(number, views);
    }

    /// How it was decided what a fence waits for, and what was decided.
    pub fn detection(&self) -> &Detection {
        self.inner().media.detection()
    }

    /// The region as a conversion reads it: nothing may change it meanwhile.
    pub fn source(&self) -> Source {
        let changed = self.inner().watch.take();
        Source::new(self, self.mapping()).with_changed(changed)
    }

    /// The region as a conversion is prepared for it, while it is in use: to be called between two transactions. From
    /// now on it is noted which pages are stored to, until [`Region::source`] gives that to the conversion, or
    /// what was prepared is dropped. A call before is forgotten.
    pub fn source_in_use(&mut self) -> Source {
        let watch = Watch::default();
        let watched = watch.watched().clone();
        self.inner().watch = Some(Box::new(watch));
        Source::new(self, self.mapping()).in_use(watched)
    }
}

/// For a conversion, which fills a region that nobody uses yet.
impl<M: Media> Region<M> {
    /// Lets `fill` store into it, and tells it the seed of its checksums.
    pub(crate) fn building<R>(&mut self, fill: impl FnOnce(&mut M, u64) -> R) -> R {
        let seed = self.inner().header.seed();
        fill(&mut self.inner().media, seed)
    }

    /// The first byte that chunks and segments may take.
    pub(crate) fn heap_at(&self) -> u64 {
        self.inner().header.heap_at()
    }

    /// Makes sure that the region may use `end` bytes.
    pub(crate) fn grow_to(&mut self, end: u64) -> Result<(), MigrateError> {
        let inner = self.inner();
        let limit = inner.media.limit();
        if end > limit {
            return Err(MigrateError::Limit { needed: end, limit });
        }
        if end <= inner.superblock.length {
            return Ok(());
        }
        let end = end.next_multiple_of(PAGE).min(limit);
        let Inner {
            media,
            header,
            superblock,
            superblock_slot,
            ..
        } = inner;
        let before = media.len();
        let grown = Inner::grow(media, superblock, superblock_slot, header, end);
        media.populate(before, media.len().saturating_sub(before));
        grown.map_err(|error| match error {
            RegionError::Grow { bytes, source } => MigrateError::Room { bytes, source },
            other => MigrateError::Failed(other.to_string()),
        })
    }
}

impl<M: Media> Region<M> {
    fn from_inner(inner: Inner<M>) -> Region<M> {
        Region {
            inner: NonNull::from(Box::leak(Box::new(inner))),
        }
    }

    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn media_mut(&mut self) -> &mut M {
        &mut self.inner().media
    }

    /// A segment whose checksum is there and does not hold.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn wrong_sum(&self) -> Option<u32> {
        let inner = self.inner();
        inner.space.wrong_sum(&inner.media)
    }

    /// The generation of the superblock that counts.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn generation(&self) -> u64 {
        self.inner().superblock.generation
    }

    /// The media, the region being left as by a process that died.
    pub(crate) fn into_media(mut self) -> M {
        self.detach();
        let inner = self.inner;
        std::mem::forget(self);
        // SAFETY: made by `Box::leak`; `drop`, which would free it too, no longer runs.
        unsafe { Box::from_raw(inner.as_ptr()) }.media
    }

    #[expect(
        clippy::mut_from_ref,
        reason = "the region is behind a pointer it shares"
    )]
    fn inner(&self) -> &mut Inner<M> {
        // SAFETY: the pointer came from a box and is freed in `drop` only. The region is
        // not `Sync`, every method makes one such reference and ends it, and a component's
        // call, which makes its own, never runs inside one.
        unsafe { &mut *self.inner.as_ptr() }
    }

    /// Closes the region in order: it opens again without a recovery, also after the
    /// machine went down.
    ///
    /// # Errors
    ///
    /// The file system's; the region is then left as by a process that died.
    pub fn close(mut self) -> std::io::Result<()> {
        self.close_in_order()
    }

    /// What [`Region::close`] does; the region must not be used any more.
    pub(crate) fn close_in_order(&mut self) -> std::io::Result<()> {
        self.abort();
        let inner = self.inner();
        if inner.failed {
            return Ok(());
        }
        let mut stored = Vec::new();
        inner
            .space
            .store_sums(&mut inner.media, &mut |at| stored.push(at));
        if let Some(journal) = &mut inner.journal {
            stored.iter().for_each(|&at| journal.mark(at, 8));
            return inner
                .checkpoint(RegionState::Clean, 1)
                .map_err(std::io::Error::other);
        }
        inner.media.sync()?;
        inner.write_superblock(RegionState::Clean)?;
        inner.media.sync()
    }

    /// Makes everything committed until now durable, where commits are made so together
    /// ([`Backend::Page`]). Elsewhere each commit is as durable as it gets, and nothing is done.
    ///
    /// # Errors
    ///
    /// [`RegionError::Sync`]: what was committed since the last call may or may not survive,
    /// and the region takes no more changes.
    pub fn make_durable(&mut self) -> Result<(), RegionError> {
        let inner = self.inner();
        if inner.journal.is_none() {
            return Ok(());
        }
        inner.flush_journal()
    }

    /// What a committed transaction survives, once [`Region::make_durable`] has returned.
    pub fn durability(&self) -> Durability {
        superblock::durability(&self.inner().media)
    }

    /// Writes everything committed to the medium, without closing.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn sync(&mut self) -> std::io::Result<()> {
        let inner = self.inner();
        if inner.journal.is_some() {
            return inner.flush_journal().map_err(std::io::Error::other);
        }
        inner.media.sync()
    }

    /// Lets `handle` reach this region, in place of what it reached before.
    pub fn attach(&mut self, handle: &Handle) {
        self.detach();
        handle.point_at(ops::table::<M>(), self.inner.as_ptr().cast());
        let inner = self.inner();
        inner.handle = Some(handle.clone());
        inner.refresh_handle();
    }

    /// Puts a dummy in the handle's place, and forgets an open transaction.
    pub fn detach(&mut self) {
        self.abort();
        if let Some(handle) = self.inner().handle.take() {
            handle.point_at_dummy();
        }
    }

    /// Makes the open transaction last; whether there was anything to do.
    ///
    /// # Errors
    ///
    /// [`RegionError`]; the transaction is then aborted.
    pub fn commit(&mut self) -> Result<bool, RegionError> {
        let committed = self.inner().commit();
        if committed.is_err() {
            self.abort();
        }
        committed
    }

    /// Forgets the open transaction.
    pub fn abort(&mut self) {
        self.inner().abort();
    }

    /// Runs a transaction from within this process, with a handle of its own.
    ///
    /// # Errors
    ///
    /// What `change` returns, the transaction being aborted; or why it could not be
    /// committed.
    pub fn transact<R, E: From<RegionError>>(
        &mut self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<R, E>,
    ) -> Result<R, E> {
        if self.inner().handle.is_none() {
            self.attach(&Handle::new());
        }
        // Stays as long as the region keeps its handle, which it does meanwhile.
        let Some(slot) = self.inner().handle.as_ref().map(Handle::slot) else {
            unreachable!("just attached")
        };
        // A panic must leave the state as an error does.
        struct Abort<'a, M: Media>(&'a mut Region<M>);
        impl<M: Media> Drop for Abort<'_, M> {
            fn drop(&mut self) {
                self.0.abort();
            }
        }
        let guard = Abort(self);
        // SAFETY: the slot is attached to this region, which is not used meanwhile.
        let result = change(&mut unsafe { Tx::new(slot) })?;
        guard.0.commit()?;
        Ok(result)
    }

    /// Makes `root` the root object, as a part of the open transaction.
    pub fn set_root(&mut self, root: Ref) {
        let inner = self.inner();
        inner.set.set_word(ROOT_AT, root.0);
        inner.refresh_handle();
    }

    /// The root object; null before there is one.
    pub fn root(&self) -> Ref {
        self.inner().root()
    }

    /// The fingerprint of the state.
    pub fn fingerprint(&self) -> Fingerprint {
        self.inner().header.fingerprint
    }

    /// The encoded schema of the state.
    pub fn schema(&self) -> Vec<u8> {
        self.inner().schema().to_vec()
    }

    /// How much is in the region.
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
        // Of a segment that is damaged nothing is counted: its use is an error of its own.
        let _ = inner.space.know_more(&inner.media, usize::MAX);
        Stats {
            file_bytes: inner.superblock.length,
            live_bytes: inner.space.live_bytes(),
            live_objects: inner.space.live_objects(),
            sequence: inner.sequence,
        }
    }

    /// The segments that are there, by number.
    pub(crate) fn segments(&self) -> Vec<(u32, SegmentEntry)> {
        self.inner().space.entries().collect()
    }

    pub(crate) fn media(&self) -> &M {
        &self.inner().media
    }
}

impl<M: Media> Drop for Region<M> {
    fn drop(&mut self) {
        self.detach();
        // SAFETY: made by `Box::leak`, freed once, and the handle no longer leads here.
        drop(unsafe { Box::from_raw(self.inner.as_ptr()) });
    }
}

impl<M: Media> std::fmt::Debug for Region<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let header = &self.inner().header;
        write!(
            f,
            "Region({}.{}, {:?})",
            header.component,
            header.instance,
            self.stats()
        )
    }
}

impl<M: Media> Inner<M> {
    fn new(
        media: M,
        header: Header,
        superblock: Superblock,
        superblock_slot: usize,
        space: Space,
        sequence: u64,
    ) -> Inner<M> {
        let journal = match header.log {
            Log::Ring => None,
            Log::Journal(_) => Some(Box::new(Journal::new(&header, superblock.lap))),
        };
        Inner {
            media,
            header,
            superblock,
            superblock_slot,
            space,
            set: WriteSet::new(),
            handle: None,
            sequence,
            log_at: 0,
            record: Vec::new(),
            journal,
            failed: false,
            tee: None,
            watch: None,
            sweep: None,
            left: HashSet::new(),
            collection: None,
        }
    }

    fn root(&self) -> Ref {
        Ref(self
            .set
            .word(ROOT_AT)
            .unwrap_or_else(|| self.media.word(ROOT_AT)))
    }

    /// Tells the handle where the segments are now.
    fn refresh_handle(&self) {
        if let Some(handle) = &self.handle {
            handle.show(self.space.views(), self.root());
        }
    }

    fn mark_dirty(&self, object: Ref, offset: u64, len: u64) {
        if let Some(handle) = &self.handle {
            handle.mark_dirty(object, offset, len);
        }
    }
}
