//! How a region comes from a file: made, or opened and judged.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::error::{FormatError, OpenError};
use super::format::{
    self, CHUNK_LEN, HEADER_AT, HEADER_COPY_AT, HEAP_AT, Header, PAGE, RegionState, SCHEMA_AT,
    SUPERBLOCK_AT, Superblock,
};
use super::media::{MappedFile, Media};
use super::{Region, RegionOptions, boot_id};
use crate::schema::{Fingerprint, SchemaDesc};

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

    pub(super) fn new_media(path: &Path, options: &RegionOptions) -> Result<MappedFile, OpenError> {
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
}

/// What stands in a file, read and checked, nothing changed yet.
pub(crate) struct Found {
    pub(super) header: Header,
    pub(super) superblock: Superblock,
    pub(super) slot: usize,
}

impl Found {
    pub(super) fn read(media: &dyn Media) -> Result<Found, FormatError> {
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
