//! Superblocks: a region is made, grows, and changes its state.

use xxhash_rust::xxh3::xxh3_64;

use super::error::{FormatError, RegionError};
use super::format::{
    self, HEADER_AT, HEADER_COPY_AT, Header, RegionState, SCHEMA_AT, SUPERBLOCK_AT, Superblock,
};
use super::media::Media;
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

fn random_uuid() -> std::io::Result<[u8; 16]> {
    let mut uuid = [0; 16];
    rustix::rand::getrandom(&mut uuid, rustix::rand::GetRandomFlags::empty())?;
    Ok(uuid)
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
        let space = Space::load(&media, &header, media.len())?;
        let mut inner = Inner::new(media, header, superblock, 1, space, 0);
        inner.write_superblock(RegionState::Open);
        Ok(Region::from_inner(inner))
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
        features: format::FEATURES,
    };
    media.store(SCHEMA_AT, schema);
    media.store(HEADER_COPY_AT, &header.encode());
    // Without a superblock this is no region, and the first one comes after a fence.
    media.store(HEADER_AT, &header.encode());
    Ok(header)
}

impl<M: Media> Inner<M> {
    /// Fills the older slot, then the newer counts.
    pub(super) fn write_superblock(&mut self, state: RegionState) {
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
}
