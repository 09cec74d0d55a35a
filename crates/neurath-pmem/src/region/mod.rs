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
mod error;
pub mod format;
mod media;
mod ops;
mod space;
mod write_set;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::OnceLock;

use neurath_abi::Ref;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

pub use error::{FormatError, OpenError, RegionError};
pub use media::{MappedFile, Mapping, Media};
pub use space::RAW;
pub(crate) use space::object_size;

use crate::dummy::Handle;
use crate::migrate::{MigrateError, Source};
use crate::schema::{Fingerprint, SchemaDesc};
use crate::tx::Tx;
use ablation::{Without, without};
use format::{
    CHUNK_LEN, HEADER_AT, HEADER_COPY_AT, HEAP_AT, Header, LOG_AT, LOG_LEN, PAGE, RECORD_ALIGN,
    RECORD_HEADER_LEN, RECORD_MAX, ROOT_AT, RecordHeader, RegionState, SCHEMA_AT, SUPERBLOCK_AT,
    SegmentEntry, Superblock,
};
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
    failed: bool,
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

/// Who opens a region: the boot and the process. Simulated media look the same everywhere.
fn opener(media: &impl Media) -> ([u8; 16], u32) {
    if media.simulated() {
        return ([9; 16], 1);
    }
    (boot_id(), std::process::id())
}

fn random_uuid() -> std::io::Result<[u8; 16]> {
    let mut uuid = [0; 16];
    rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty())?;
    Ok(uuid)
}

/// Opens a region's file and takes its lock, which dies with the process.
fn open_locked(path: &Path, create: bool) -> Result<File, OpenError> {
    let io = |action| {
        move |source| OpenError::Io {
            action,
            path: path.into(),
            source,
        }
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(create)
        .mode(0o600)
        .open(path)
        .map_err(io(if create { "create" } else { "open" }))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Busy { path: path.into() }),
        Err(error) => Err(io("lock")(error.into())),
    }
}

impl Region<MappedFile> {
    /// Makes a region without a root in a new file.
    ///
    /// # Errors
    ///
    /// If there is such a file, or the file system refuses, or the limit is out of range.
    pub fn create(
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
    ) -> Result<Region, OpenError> {
        let media = Self::new_media(path, options)?;
        let region = Self::format(media, options, schema).map_err(|error| {
            // What was begun is of no use to anybody.
            drop(std::fs::remove_file(path));
            OpenError::Format {
                path: path.into(),
                source: error,
            }
        })?;
        Ok(region)
    }

    fn new_media(path: &Path, options: &RegionOptions) -> Result<MappedFile, OpenError> {
        let file = open_locked(path, true)?;
        let made = MappedFile::new(file, path, options.limit).and_then(|mut media| {
            let initial = options.initial.clamp(HEAP_AT + CHUNK_LEN, media.limit());
            match media.grow(initial.next_multiple_of(PAGE).min(media.limit())) {
                Ok(()) => Ok(media),
                Err(source) => Err(OpenError::Io {
                    action: "reserve room for",
                    path: path.into(),
                    source,
                }),
            }
        });
        if made.is_err() {
            drop(std::fs::remove_file(path));
        }
        made
    }

    /// Opens a region that `component`'s `instance` owns, and completes or forgets what
    /// a crash interrupted.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why not. The file is as it was then.
    pub fn open(
        path: &Path,
        component: &str,
        instance: u32,
        schema: Option<Fingerprint>,
        limit: u64,
    ) -> Result<Region, OpenError> {
        let file = open_locked(path, false)?;
        let media = MappedFile::new(file, path, limit)?;
        let format = |source| OpenError::Format {
            path: path.into(),
            source,
        };
        let found = Found::read(&media).map_err(format)?;
        let header = &found.header;
        if header.component != component || header.instance != instance {
            let name = |component: &str, instance| format!("{component}.{instance}");
            return Err(OpenError::Owner {
                path: path.into(),
                found: name(&header.component, header.instance),
                wanted: name(component, instance),
            });
        }
        if let Some(wanted) = schema.filter(|&wanted| wanted != header.fingerprint) {
            return Err(OpenError::Schema {
                path: path.into(),
                found: header.fingerprint,
                wanted,
            });
        }
        let superblock = &found.superblock;
        if superblock.state == RegionState::Open && superblock.boot_id != boot_id() {
            return Err(OpenError::PowerLost { path: path.into() });
        }
        if superblock.state == RegionState::Building {
            let field = "a superblock's state (the region was never finished)";
            return Err(format(FormatError::Field { field, value: 0 }));
        }
        Self::recover(media, found).map_err(format)
    }

    /// Keeps the region's memory mapped for as long as the result lives.
    pub fn mapping(&self) -> Mapping {
        self.inner().media.mapping()
    }

    /// The region as a conversion reads it: nothing may change it meanwhile.
    pub fn source(&self) -> Source {
        Source::new(self)
    }
}

/// What stands in a file, read and checked, nothing changed yet.
pub(crate) struct Found {
    header: Header,
    superblock: Superblock,
    slot: usize,
}

impl Found {
    fn read(media: &dyn Media) -> Result<Found, FormatError> {
        format::require(media.len(), HEAP_AT, "a region")?;
        let header = match Header::parse(media.bytes(HEADER_AT, PAGE)) {
            Ok(header) => header,
            // A damaged header has a copy; one of another kind or version counts.
            Err(error @ FormatError::Checksum { .. }) | Err(error @ FormatError::Magic) => {
                Header::parse(media.bytes(HEADER_COPY_AT, PAGE)).map_err(|_| error)?
            }
            Err(error) => return Err(error),
        };
        let schema = media.bytes(SCHEMA_AT, header.schema_len.into());
        if xxh3_64(schema) != header.schema_hash {
            return Err(FormatError::Checksum {
                what: "the schema".into(),
            });
        }
        if SchemaDesc::decode(schema)?.fingerprint != header.fingerprint {
            return Err(FormatError::Checksum {
                what: "the schema's fingerprint".into(),
            });
        }
        let slots = SUPERBLOCK_AT.map(|at| media.bytes(at, PAGE));
        let (superblock, slot) = Superblock::choose(slots, &header)?;
        format::require(media.len(), superblock.length, "what the superblock claims")?;
        Ok(Found {
            header,
            superblock,
            slot,
        })
    }
}

#[cfg(any(test, feature = "campaign"))]
impl Found {
    /// Whether the region was closed in order.
    pub(crate) fn is_clean(media: &dyn Media) -> Result<bool, FormatError> {
        Ok(Found::read(media)?.superblock.state == RegionState::Clean)
    }
}

/// For a conversion, which fills a region that nobody uses yet.
impl Region<MappedFile> {
    pub(crate) fn building<R>(&mut self, fill: impl FnOnce(&mut MappedFile) -> R) -> R {
        fill(&mut self.inner().media)
    }

    /// Says in the file what becomes of the region.
    pub(crate) fn mark(&mut self, state: RegionState) {
        self.inner().write_superblock(state);
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
        let grown = Inner::grow(media, superblock, superblock_slot, header, end);
        grown.map_err(|error| match error {
            RegionError::Grow { bytes, source } => MigrateError::Room { bytes, source },
            other => MigrateError::Failed(other.to_string()),
        })
    }

    /// Reads the tables anew, as an opening does.
    pub(crate) fn reload(self) -> Result<Region, FormatError> {
        let inner = self.inner();
        inner.space = Space::load(&inner.media, inner.header.seed(), inner.superblock.length)?;
        Ok(self)
    }
}

impl<M: Media> Region<M> {
    /// Writes an empty region into new media.
    pub(crate) fn format(
        mut media: M,
        options: &RegionOptions,
        schema: &[u8],
    ) -> Result<Region<M>, FormatError> {
        let header = new_header(&mut media, options, schema)?;
        let superblock = Superblock {
            generation: 0,
            state: RegionState::Open,
            boot_id: opener(&media).0,
            pid: opener(&media).1,
            length: media.len(),
            checkpoint: 0,
        };
        let space = Space::load(&media, header.seed(), media.len())?;
        let mut inner = Inner::new(media, header, superblock, 1, space, 0);
        inner.write_superblock(RegionState::Open);
        Ok(Region::from_inner(inner))
    }

    fn from_inner(inner: Inner<M>) -> Region<M> {
        Region {
            inner: NonNull::from(Box::leak(Box::new(inner))),
        }
    }

    /// Replays what the log holds beyond the checkpoint, and opens.
    fn recover(mut media: M, found: Found) -> Result<Region<M>, FormatError> {
        let Found {
            header,
            superblock,
            slot,
        } = found;
        let sequence = replay(&mut media, &header, &superblock)?;
        let length = superblock.length;
        let space = Space::load(&media, header.seed(), length)?;
        let mut inner = Inner::new(media, header, superblock, slot, space, sequence);
        // What was replayed must not be replayed over what the new life writes.
        if !without(&inner.media, Without::Checkpoint) {
            inner.write_superblock(RegionState::Open);
        }
        Ok(Region::from_inner(inner))
    }

    /// Recovers whatever media hold, as [`Region::open`] does with a file.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn recover_media(media: M) -> Result<Region<M>, FormatError> {
        let found = Found::read(&media)?;
        Self::recover(media, found)
    }

    /// The media, to make them fail or to note what happened.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn media_mut(&mut self) -> &mut M {
        &mut self.inner().media
    }

    /// The generation of the superblock that counts.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn generation(&self) -> u64 {
        self.inner().superblock.generation
    }

    /// The media, the region being left as by a process that died.
    #[cfg(any(test, feature = "campaign"))]
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
        inner.media.sync()?;
        inner.write_superblock(RegionState::Clean);
        inner.media.sync()
    }

    /// Writes everything to the medium, without closing.
    ///
    /// # Errors
    ///
    /// The file system's.
    pub fn sync(&mut self) -> std::io::Result<()> {
        self.inner().media.sync()
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
        let Some(handle) = self.inner().handle.clone() else {
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
        let result = change(&mut unsafe { Tx::new(handle.slot()) })?;
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
        let inner = self.inner();
        inner
            .media
            .bytes(SCHEMA_AT, inner.header.schema_len.into())
            .to_vec()
    }

    /// How much is in the region.
    pub fn stats(&self) -> Stats {
        let inner = self.inner();
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

/// Writes the header, its copy and the schema of a new region.
pub(crate) fn new_header(
    media: &mut impl Media,
    options: &RegionOptions,
    schema: &[u8],
) -> Result<Header, FormatError> {
    let known = SchemaDesc::decode(schema)?;
    let too_long = |field, value: usize| FormatError::Field {
        field,
        value: value as u64,
    };
    if schema.len() as u64 > format::SCHEMA_MAX {
        return Err(too_long("the schema's length", schema.len()));
    }
    if options.component.len() > format::NAME_MAX {
        return Err(too_long(
            "the length of the component's name",
            options.component.len(),
        ));
    }
    let uuid = random_uuid().unwrap_or_default();
    let header = Header {
        uuid: if media.simulated() { [7; 16] } else { uuid },
        component: options.component.clone(),
        instance: options.instance,
        fingerprint: known.fingerprint,
        schema_len: schema.len() as u32,
        schema_hash: xxh3_64(schema),
    };
    media.store(SCHEMA_AT, schema);
    media.store(HEADER_COPY_AT, &header.encode());
    // Without a superblock this is no region, and the first one comes after a fence.
    media.store(HEADER_AT, &header.encode());
    Ok(header)
}

/// Replays the last two records beyond the checkpoint; gives the highest number used.
/// Looks at everything before it stores anything.
pub(crate) fn replay(
    media: &mut impl Media,
    header: &Header,
    superblock: &Superblock,
) -> Result<u64, FormatError> {
    let log = media.bytes(LOG_AT, LOG_LEN);
    let mut records = format::newest_records(
        log,
        header.seed(),
        if without(media, Without::NoThirdRecord) {
            4
        } else {
            3
        },
    );
    records.retain(|found| found.header.sequence > superblock.checkpoint);
    let bytes = |at: u64, len: u64| &log[at as usize..(at + len) as usize];
    // Its number is not given out again, as a torn record would be found a second time,
    // and might look whole once the next life has used the places of its new objects.
    let used = records.first().map_or(0, |found| found.header.sequence);
    let used = used.max(superblock.checkpoint);
    // Only the newest may be torn: its new objects may be missing.
    if let Some(newest) = records.first() {
        let words = newest.header.words as usize;
        let mut hasher = Xxh3::with_seed(header.seed());
        // They lie beside each other, so that they cannot be longer than the region.
        let mut left = superblock.length;
        for (offset, len) in format::record_pairs(bytes(newest.at, newest.len)).skip(words) {
            check_heap_range(offset, len, superblock.length)?;
            let too_long = FormatError::Field {
                field: "the length of new objects",
                value: len,
            };
            left = left.checked_sub(len).ok_or(too_long)?;
            hasher.update(media.bytes(offset, len));
        }
        if hasher.digest() != newest.header.fresh_hash && !without(media, Without::FreshHash) {
            records.remove(0);
        }
    }
    let Some(newest) = records.first().map(|found| found.header.sequence) else {
        return Ok(used);
    };
    records.truncate(if without(media, Without::NoThirdRecord) {
        3
    } else {
        2
    });
    if let [_, before] = &records[..]
        && before.header.sequence != newest - 1
    {
        records.truncate(1);
    }
    if records.len() == 1 && newest != superblock.checkpoint + 1 {
        return Err(FormatError::Checksum {
            what: format!("the log's record {}", newest - 1),
        });
    }
    if without(media, Without::SecondRecord) {
        records.truncate(1);
    }
    let mut stores = Vec::new();
    for found in records.iter().rev() {
        let words = found.header.words as usize;
        stores.extend(format::record_pairs(bytes(found.at, found.len)).take(words));
    }
    for &(offset, _) in &stores {
        let in_directory = (ROOT_AT..SCHEMA_AT).contains(&offset);
        if !in_directory {
            check_heap_range(offset, 8, superblock.length)?;
        }
        if !offset.is_multiple_of(8) {
            return Err(FormatError::Field {
                field: "a record's address",
                value: offset,
            });
        }
    }
    for (offset, value) in stores {
        media.store_word(offset, value);
    }
    // The superblock that ends the recovery comes after a fence.
    Ok(used)
}

fn check_heap_range(offset: u64, len: u64, length: u64) -> Result<(), FormatError> {
    let end = offset.checked_add(len).filter(|&end| end <= length);
    if offset < HEAP_AT || end.is_none() {
        return Err(FormatError::Field {
            field: "a record's address",
            value: offset,
        });
    }
    Ok(())
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
            failed: false,
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

    /// Fills the older slot, then the newer counts.
    fn write_superblock(&mut self, state: RegionState) {
        self.superblock = Superblock {
            generation: self.superblock.generation + 1,
            state,
            boot_id: opener(&self.media).0,
            pid: opener(&self.media).1,
            length: self.superblock.length,
            checkpoint: self.sequence,
        };
        self.superblock_slot = 1 - self.superblock_slot;
        self.media.fence();
        let bytes = self.superblock.encode(&self.header);
        self.media
            .store(SUPERBLOCK_AT[self.superblock_slot], &bytes);
        self.media.fence();
    }

    /// Claims more of the file, first from the file system, then in the superblock.
    fn grow(
        media: &mut M,
        superblock: &mut Superblock,
        slot: &mut usize,
        header: &Header,
        length: u64,
    ) -> Result<(), RegionError> {
        let before = media.len();
        // A crash may have left the file longer than the superblock claims.
        if length > before {
            let bytes = length - before;
            media
                .grow(length)
                .map_err(|source| RegionError::Grow { bytes, source })?;
            media.populate(before, bytes);
        }
        media.fence();
        superblock.generation += 1;
        superblock.length = length;
        *slot = 1 - *slot;
        media.store(SUPERBLOCK_AT[*slot], &superblock.encode(header));
        media.fence();
        Ok(())
    }

    fn alloc(&mut self, type_id: u64, size: u64) -> Result<Ref, RegionError> {
        if size > neurath_abi::MAX_OBJECT_SIZE {
            let limit = neurath_abi::MAX_OBJECT_SIZE;
            return Err(RegionError::TooLarge {
                needed: size,
                limit,
            });
        }
        // The object, its bit, its segment and the segment's chunk.
        self.check_record_len(3 + format::ENTRY_WORDS as u64)?;
        let Inner {
            media,
            header,
            superblock,
            superblock_slot,
            space,
            set,
            ..
        } = self;
        let mut grow =
            |media: &mut M, length| Self::grow(media, superblock, superblock_slot, header, length);
        let object = space.alloc(type_id, size, media, set, &mut grow)?;
        self.mark_dirty(object, 0, object_size(type_id, size));
        self.refresh_handle();
        Ok(object)
    }

    fn free(&mut self, object: Ref, type_id: u64) -> Result<(), RegionError> {
        let (offset, _) = self.space.find(object, type_id, &self.media, &self.set)?;
        self.check_record_len(1)?;
        self.set.drop_fresh(offset);
        self.space.free(object, &self.media, &mut self.set);
        Ok(())
    }

    /// The place of `len` bytes at `offset` of an object.
    fn place(
        &self,
        object: Ref,
        type_id: u64,
        offset: u64,
        len: u64,
    ) -> Result<(u64, u64), RegionError> {
        let (place, size) = self.space.find(object, type_id, &self.media, &self.set)?;
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok((place, size)),
            end => Err(RegionError::Range {
                offset,
                end: end.unwrap_or(u64::MAX),
                size,
            }),
        }
    }

    fn write(
        &mut self,
        object: Ref,
        type_id: u64,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), RegionError> {
        let len = bytes.len() as u64;
        let (place, size) = self.place(object, type_id, offset, len)?;
        if let Some(fresh) = self.set.find_fresh(place) {
            let range = offset as usize..(offset + len) as usize;
            self.set.fresh_bytes_mut(fresh)[range].copy_from_slice(bytes);
            return Ok(());
        }
        if !offset.is_multiple_of(8) || !len.is_multiple_of(8) {
            return Err(RegionError::Range {
                offset,
                end: offset + len,
                size,
            });
        }
        self.check_record_len(len / 8)?;
        let mut changed = false;
        for (i, word) in bytes.chunks_exact(8).enumerate() {
            let mut le = [0; 8];
            le.copy_from_slice(word);
            let (at, value) = (place + offset + i as u64 * 8, u64::from_le_bytes(le));
            if self.set.word(at).unwrap_or_else(|| self.media.word(at)) != value {
                self.set.set_word(at, value);
                changed = true;
            }
        }
        // What stays as it was can still be read where it is.
        if changed {
            self.mark_dirty(object, offset, len);
        }
        Ok(())
    }

    fn read(
        &self,
        object: Ref,
        type_id: u64,
        offset: u64,
        out: &mut [u8],
    ) -> Result<(), RegionError> {
        let (place, _) = self.place(object, type_id, offset, out.len() as u64)?;
        if let Some(fresh) = self.set.find_fresh(place) {
            let range = offset as usize..offset as usize + out.len();
            out.copy_from_slice(&self.set.fresh_bytes(fresh)[range]);
            return Ok(());
        }
        let start = place + offset;
        out.copy_from_slice(self.media.bytes(start, out.len() as u64));
        // Words that the transaction has changed, as far as they are asked for.
        let end = start + out.len() as u64;
        for at in ((start & !7)..end).step_by(8) {
            if let Some(value) = self.set.word(at) {
                for (i, byte) in value.to_le_bytes().into_iter().enumerate() {
                    if let Some(i) = (at + i as u64).checked_sub(start)
                        && let Some(out) = out.get_mut(i as usize)
                    {
                        *out = byte;
                    }
                }
            }
        }
        Ok(())
    }

    fn fresh(&self, object: Ref, type_id: u64) -> Result<Option<&[u8]>, RegionError> {
        let (place, _) = self.space.find(object, type_id, &self.media, &self.set)?;
        Ok(self
            .set
            .find_fresh(place)
            .map(|fresh| self.set.fresh_bytes(fresh)))
    }

    /// Refuses the transaction's next step if its record could become too long.
    fn check_record_len(&self, words: u64) -> Result<(), RegionError> {
        let needed = self.set.record_len() + words * 16;
        if needed > RECORD_MAX {
            return Err(RegionError::TooLarge {
                needed,
                limit: RECORD_MAX,
            });
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<bool, RegionError> {
        if self.set.is_empty() {
            return Ok(false);
        }
        if self.failed {
            return Err(RegionError::Sync(std::io::Error::other(
                "an earlier change failed",
            )));
        }
        let seed = self.header.seed();
        self.record.clear();
        self.record.resize(RECORD_HEADER_LEN as usize, 0);
        let mut words = 0;
        for &(offset, value) in self.set.words() {
            if self.media.word(offset) != value {
                self.record.extend_from_slice(&offset.to_le_bytes());
                self.record.extend_from_slice(&value.to_le_bytes());
                words += 1;
            }
        }
        // The root's word was added unchecked. A longer record would not be found again.
        let needed = format::record_len(words.into(), self.set.live_fresh().count() as u64);
        if needed > RECORD_MAX {
            return Err(RegionError::TooLarge {
                needed,
                limit: RECORD_MAX,
            });
        }
        // New objects go to their places: nothing refers to them yet.
        let mut fresh = 0;
        let mut hasher = None;
        for object in self.set.live_fresh() {
            let bytes = self.set.fresh_bytes(object);
            self.media.store(object.offset, bytes);
            hasher
                .get_or_insert_with(|| Xxh3::with_seed(seed))
                .update(bytes);
            self.record.extend_from_slice(&object.offset.to_le_bytes());
            self.record.extend_from_slice(&object.len.to_le_bytes());
            fresh += 1;
        }
        if words == 0 && fresh == 0 {
            self.abort();
            return Ok(false);
        }
        let fresh_hash = match hasher {
            Some(hasher) => hasher.digest(),
            None => Xxh3::with_seed(seed).digest(),
        };
        let header = RecordHeader {
            sequence: self.sequence + 1,
            words,
            fresh,
            fresh_hash,
        };
        let (head, payload) = self.record.split_at_mut(RECORD_HEADER_LEN as usize);
        head.copy_from_slice(&header.encode(payload, seed));

        let len = self.record.len() as u64;
        if self.log_at + len > LOG_LEN || without(&self.media, Without::ManySlots) {
            self.log_at = 0;
        }
        if without(&self.media, Without::RecordFirst) {
            self.apply(words as usize);
        }
        self.media.store(LOG_AT + self.log_at, &self.record);
        if !without(&self.media, Without::CommitFence) {
            self.media.fence();
        }
        // Committed. What follows, a recovery would do as well.
        self.log_at = (self.log_at + len).next_multiple_of(RECORD_ALIGN);
        self.sequence += 1;
        self.apply(words as usize);
        self.space.committed(self.sequence, &self.media);
        self.set.clear();
        self.clean_handle();
        Ok(true)
    }

    /// Stores the record's words at their places.
    fn apply(&mut self, words: usize) {
        for (offset, value) in format::record_pairs(&self.record).take(words) {
            self.media.store_word(offset, value);
        }
    }

    fn abort(&mut self) {
        if self.set.is_empty() {
            return;
        }
        self.set.clear();
        self.space.aborted(&self.media);
        self.clean_handle();
        self.refresh_handle();
    }

    fn clean_handle(&self) {
        if let Some(handle) = &self.handle {
            handle.clean();
        }
    }
}
