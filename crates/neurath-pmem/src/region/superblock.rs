//! Superblocks: a region is made, grows, and changes its state.

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use super::error::{FormatError, RegionError};
use super::format::{
    self, HEADER_AT, HEADER_COPY_AT, Header, Log, RegionState, SCHEMA_AT, SUPERBLOCK_AT, Superblock,
};
use super::media::{Backend, Durability, Media};
use super::space::Space;
use super::{Inner, Region, RegionOptions, boot_id};
use crate::schema::SchemaDesc;

/// Who opens a region: the boot and the process. Simulated media look the same everywhere.
fn opener(media: &impl Media) -> ([u8; 16], u32) {
    if media.simulated() {
        return ([9; 16], 1);
    }
    (boot_id(), std::process::id())
}

/// What the media's fences survive.
pub(super) fn durability(media: &impl Media) -> Durability {
    match media.backend() {
        Backend::Process => Durability::Process,
        _ => Durability::Power,
    }
}

fn random_uuid() -> io::Result<[u8; 16]> {
    let mut uuid = [0; 16];
    rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty())?;
    Ok(uuid)
}

impl<M: Media> Region<M> {
    /// Writes an empty region into new media.
    #[cfg(any(test, feature = "campaign"))]
    pub(crate) fn format(
        media: M,
        options: &RegionOptions,
        log: Log,
        schema: &[u8],
    ) -> Result<Region<M>, RegionError> {
        Self::format_as(RegionState::Open, media, options, log, schema)
    }

    /// The same in a state: one that is being built does not look otherwise at any time.
    pub(crate) fn format_as(
        state: RegionState,
        mut media: M,
        options: &RegionOptions,
        log: Log,
        schema: &[u8],
    ) -> Result<Region<M>, RegionError> {
        // A region in the making is to have a history: its header is stored once.
        let history = state == RegionState::Building;
        let header = new_header(&mut media, options, log, schema, history)?;
        let superblock = Superblock {
            generation: 0,
            state,
            boot_id: opener(&media).0,
            pid: opener(&media).1,
            durability: durability(&media),
            length: media.len(),
            checkpoint: 0,
            lap: 0,
        };
        let space = Space::load(&media, &header, media.len())?;
        let mut inner = Inner::new(media, header, superblock, 1, space, 0);
        inner.write_superblock(state).map_err(RegionError::Sync)?;
        Ok(Region::from_inner(inner))
    }
}

/// Writes the header, its copy and the schema of a new region.
fn new_header(
    media: &mut impl Media,
    options: &RegionOptions,
    log: Log,
    schema: &[u8],
    history: bool,
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
        features: format::FEATURES,
        log,
        history,
        sweep: None,
    };
    let bytes = header.encode();
    media.store(SCHEMA_AT, schema);
    media.flush(SCHEMA_AT, schema.len() as u64);
    // Without a superblock this is no region, and the first one comes after a fence.
    for at in [HEADER_COPY_AT, HEADER_AT] {
        media.store(at, &bytes);
        media.flush(at, bytes.len() as u64);
    }
    Ok(header)
}

impl<M: Media> Inner<M> {
    /// Fills the older slot, then the newer counts. Everything committed is in its place by
    /// then, and flushed.
    pub(super) fn write_superblock(&mut self, state: RegionState) -> io::Result<()> {
        let written = self.try_write_superblock(state);
        self.failed |= written.is_err();
        written
    }

    fn try_write_superblock(&mut self, state: RegionState) -> io::Result<()> {
        let lap = self.journal.as_ref().map_or(0, |journal| journal.lap());
        self.superblock = Superblock {
            generation: self.superblock.generation + 1,
            state,
            boot_id: opener(&self.media).0,
            pid: opener(&self.media).1,
            durability: durability(&self.media),
            length: self.superblock.length,
            checkpoint: self.sequence,
            lap,
        };
        self.superblock_slot = 1 - self.superblock_slot;
        self.media.fence()?;
        self.put_superblock()
    }

    /// Writes the superblock that says open over the other one as well, which says closed, and
    /// waits for both: that one would count again if both were being written when the machine
    /// goes down, by two growths.
    pub(super) fn forget_closed(&mut self) -> io::Result<()> {
        self.write_superblock(RegionState::Open)?;
        self.media.sync()
    }

    /// Stores the superblock, and waits for it.
    pub(super) fn put_superblock(&mut self) -> io::Result<()> {
        let bytes = self.superblock.encode(&self.header);
        let at = SUPERBLOCK_AT[self.superblock_slot];
        self.media.store(at, &bytes);
        self.media.persist(at, bytes.len() as u64)
    }

    /// Claims more of the file, first from the file system, then in the superblock.
    pub(super) fn grow(
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
        }
        // The superblock never claims bytes that may not be there after a crash. When a process
        // dies, the file stays as long as it was made.
        if media.backend() != Backend::Process {
            media.sync().map_err(RegionError::Sync)?;
        }
        superblock.generation += 1;
        superblock.length = length;
        *slot = 1 - *slot;
        let bytes = superblock.encode(header);
        media.store(SUPERBLOCK_AT[*slot], &bytes);
        media
            .persist(SUPERBLOCK_AT[*slot], bytes.len() as u64)
            .map_err(RegionError::Sync)
    }
}
