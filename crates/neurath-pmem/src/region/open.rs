//! How a region comes from a file: made, or opened and judged.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use super::error::{FormatError, OpenError};
use super::format::{
    self, CHUNK_LEN, HEADER_AT, HEADER_COPY_AT, Header, LOG_AT, LOG_LEN, Log, PAGE, RegionState,
    SUPERBLOCK_AT, Superblock,
};
use super::media::{self, Backend, Durability, MappedFile, Media};
use super::{Region, RegionOptions, boot_id};
use crate::schema::{Fingerprint, SchemaDesc};

/// Opens what is a regular file. A pipe without a writer is not waited for, and of a device nothing
/// is read.
pub(crate) fn open_regular(options: &OpenOptions, path: &Path) -> std::io::Result<File> {
    let file = options
        .clone()
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(std::io::Error::other("it is not a regular file")),
    }
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
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create_new(create)
        .mode(0o600);
    let file = open_regular(&options, path).map_err(io(if create { "create" } else { "open" }))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(OpenError::Busy { path: path.into() }),
        Err(error) => Err(io("lock")(error.into())),
    }
}

/// How long a journal is for a region of so many bytes at most: enough for some tens of
/// thousands of small commits, and no more than an eighth.
fn journal_len(limit: u64) -> u64 {
    (limit / 8).clamp(512 << 10, 32 << 20) / (2 * PAGE) * (2 * PAGE)
}

/// Where the heap of a region with these options begins, at most.
pub(crate) fn least_heap(options: &RegionOptions) -> u64 {
    let log = match options.durability {
        Durability::Process => LOG_LEN,
        Durability::Power => LOG_LEN.max(journal_len(options.limit)),
    };
    LOG_AT + log
}

/// Makes a new file's length last, before anything refers to it.
pub(crate) fn make_length_last(media: &mut impl Media) -> std::io::Result<()> {
    media.sync()
}

/// Makes a new file's name last.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)?.sync_all()
}

impl Region<MappedFile> {
    /// Makes a region without a root in a new file.
    ///
    /// # Errors
    ///
    /// If there is such a file, or the file system refuses, or the limit is out of range, or
    /// the durability cannot be had there.
    pub fn create(
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
    ) -> Result<Region, OpenError> {
        Self::create_with(path, options, schema, RegionState::Open, |backend| backend)
    }

    /// The same for a region that is filled before anybody uses it: what is stored reaches the
    /// file by itself, and is made durable as a whole by [`Region::finish_building`].
    pub(crate) fn create_building(
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
    ) -> Result<Region, OpenError> {
        Self::create_with(
            path,
            options,
            schema,
            RegionState::Building,
            |backend| match backend {
                Backend::Page => Backend::Process,
                other => other,
            },
        )
    }

    /// Makes a region that is kept as on persistent memory, wherever the file is: each commit
    /// writes its cache lines and waits ([`Backend::Line`]), or only waits ([`Backend::Byte`]).
    /// It survives the death of the process and nothing else. For measurements.
    ///
    /// # Errors
    ///
    /// As for [`Region::create`].
    #[cfg(feature = "measure")]
    pub fn create_as(
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
        backend: Backend,
    ) -> Result<Region, OpenError> {
        let options = RegionOptions {
            durability: Durability::Process,
            ..options.clone()
        };
        Self::create_with(path, &options, schema, RegionState::Open, |_| backend)
    }

    /// A new file that a copy of a region is written to.
    pub(super) fn new_media(path: &Path, length: u64, limit: u64) -> Result<MappedFile, OpenError> {
        let file = open_locked(path, true)?;
        let made = MappedFile::new(file, path, limit, Durability::Process, Ok);
        let made = made.and_then(|mut media| {
            media.grow(length).map_err(|source| OpenError::Io {
                action: "reserve room for",
                path: path.into(),
                source,
            })?;
            Ok(media)
        });
        if made.is_err() {
            drop(std::fs::remove_file(path));
        }
        made
    }

    fn create_with(
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
        state: RegionState,
        used: impl FnOnce(Backend) -> Backend,
    ) -> Result<Region, OpenError> {
        let file = open_locked(path, true)?;
        let made = Self::make(file, path, options, schema, state, used);
        if made.is_err() {
            // What was begun is of no use to anybody.
            drop(std::fs::remove_file(path));
        }
        made
    }

    fn make(
        file: File,
        path: &Path,
        options: &RegionOptions,
        schema: &[u8],
        state: RegionState,
        used: impl FnOnce(Backend) -> Backend,
    ) -> Result<Region, OpenError> {
        let io = |action| {
            move |source| OpenError::Io {
                action,
                path: path.into(),
                source,
            }
        };
        let mut log = Log::Ring;
        let limit = options.limit;
        let mut media = MappedFile::new(file, path, limit, options.durability, |found| {
            if found == Backend::Page {
                log = Log::Journal(journal_len(limit));
            }
            Ok(used(found))
        })?;
        let least = LOG_AT + log.len() + CHUNK_LEN;
        let initial = options.initial.clamp(least, media.limit().max(least));
        media
            .grow(initial.next_multiple_of(PAGE).min(media.limit()))
            .map_err(io("reserve room for"))?;
        if options.durability == Durability::Power {
            // A log that was written once is not given blocks when a client waits.
            media.write_out(LOG_AT, log.len());
            make_length_last(&mut media).map_err(io("make durable"))?;
            sync_folder(path).map_err(io("make durable the folder of"))?;
        }
        Self::format_as(state, media, options, log, schema).map_err(|error| error.into_open(path))
    }

    /// Opens a region that `options.component`'s `options.instance` owns, and completes or
    /// forgets what a crash interrupted. `options.initial` is of no account.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says why not. The file is as it was then.
    pub fn open(
        path: &Path,
        options: &RegionOptions,
        schema: Option<Fingerprint>,
    ) -> Result<Region, OpenError> {
        Self::open_if(path, options, schema, false)
    }

    /// The same; with `accept` also if the machine went down while the region was open for the
    /// death of a process only. Whoever asks for that has checked what is there.
    pub(crate) fn open_if(
        path: &Path,
        options: &RegionOptions,
        schema: Option<Fingerprint>,
        accept: bool,
    ) -> Result<Region, OpenError> {
        let file = open_locked(path, false)?;
        let media = Self::map(file, path, options)?;
        let format = |source| OpenError::Format {
            path: path.into(),
            source,
        };
        let found = Found::read(&media).map_err(format)?;
        let header = &found.header;
        if header.component != options.component || header.instance != options.instance {
            let name = |component: &str, instance| format!("{component}.{instance}");
            return Err(OpenError::Owner {
                path: path.into(),
                found: name(&header.component, header.instance),
                wanted: name(&options.component, options.instance),
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
        if superblock.state == RegionState::Building {
            let field = "a superblock's state (the region was never finished)";
            return Err(format(FormatError::Field { field, value: 0 }));
        }
        if !accept && superblock.lost_power(header, boot_id()) {
            return Err(OpenError::PowerLost { path: path.into() });
        }
        Self::recover(media, found).map_err(|error| error.into_open(path))
    }

    /// Maps an existing region's file as its log needs it.
    fn map(file: File, path: &Path, options: &RegionOptions) -> Result<MappedFile, OpenError> {
        let journal = has_journal(&file);
        MappedFile::new(file, path, options.limit, options.durability, |found| {
            media::with_log(found, journal)
        })
    }

    /// Makes durable what [`Region::create_building`] and its filling have stored, and opens
    /// it for use. Where it is used as it was filled, it keeps its mapping: taking that away, and
    /// touching each page anew, takes a good part of the time that the filling takes.
    ///
    /// # Errors
    ///
    /// If it does not open: its tables are read back as from any file.
    pub(crate) fn finish_building(
        self,
        path: &Path,
        options: &RegionOptions,
    ) -> Result<Region, OpenError> {
        let io = |action| {
            move |source| OpenError::Io {
                action,
                path: path.into(),
                source,
            }
        };
        let inner = self.inner();
        make_filling_last(&mut inner.media, options.durability).map_err(io("make durable"))?;
        let media = match inner.header.log {
            Log::Ring => self.into_media(),
            Log::Journal(_) => {
                let file = inner.media.again().map_err(io("open again"))?;
                drop(self);
                Self::map(file, path, options)?
            }
        };
        let found = Found::read(&media).map_err(|source| OpenError::Format {
            path: path.into(),
            source,
        })?;
        Self::recover(media, found).map_err(|error| error.into_open(path))
    }
}

/// Makes durable what was stored where nothing flushes: a page-wise region is filled by way of the
/// page cache. On persistent memory all was flushed, and what ends the building waits for it.
pub(crate) fn make_filling_last(
    media: &mut impl Media,
    durability: Durability,
) -> std::io::Result<()> {
    match (durability, media.backend()) {
        (Durability::Power, Backend::Process) => media.sync(),
        _ => Ok(()),
    }
}

/// Whether a file's header says that its log is a journal. Whether the header is right is seen
/// when the region is read.
fn has_journal(file: &File) -> bool {
    [HEADER_AT, HEADER_COPY_AT].iter().any(|&at| {
        let mut page = [0; 512];
        let read = file.read_exact_at(&mut page, at);
        let header = read.ok().and_then(|()| Header::parse(&page).ok());
        header.is_some_and(|header| matches!(header.log, Log::Journal(_)))
    })
}

/// The fingerprint of an encoded schema.
fn fingerprint(schema: &[u8], media: &dyn Media) -> Result<Fingerprint, FormatError> {
    let decode = || Ok(SchemaDesc::decode(schema)?.fingerprint);
    #[cfg(any(test, feature = "campaign"))]
    if media.simulated() {
        return fingerprint_of_last(schema, decode);
    }
    let _ = media;
    decode()
}

/// Decodes a schema unless it is the last one again: on simulated media it nearly always is.
#[cfg(any(test, feature = "campaign"))]
fn fingerprint_of_last(
    schema: &[u8],
    decode: impl FnOnce() -> Result<Fingerprint, FormatError>,
) -> Result<Fingerprint, FormatError> {
    use std::cell::RefCell;
    thread_local! {
        static LAST: RefCell<Option<(Vec<u8>, Fingerprint)>> = const { RefCell::new(None) };
    }
    LAST.with_borrow_mut(|last| {
        if let Some((bytes, known)) = last
            && bytes == schema
        {
            return Ok(*known);
        }
        let known = decode()?;
        *last = Some((schema.to_vec(), known));
        Ok(known)
    })
}

/// What stands in a file, read and checked, nothing changed yet.
pub(crate) struct Found {
    pub(super) header: Header,
    pub(super) superblock: Superblock,
    pub(super) slot: usize,
}

impl Found {
    pub(crate) fn read(media: &dyn Media) -> Result<Found, FormatError> {
        format::require(media.len(), LOG_AT, "a region")?;
        let header = match Header::parse(media.bytes(HEADER_AT, PAGE)) {
            Ok(header) => header,
            // A damaged header has a copy; one of another kind or version counts.
            Err(error @ FormatError::Checksum { .. }) | Err(error @ FormatError::Magic) => {
                Header::parse(media.bytes(HEADER_COPY_AT, PAGE)).map_err(|_| error)?
            }
            Err(error) => return Err(error),
        };
        format::require(media.len(), header.heap_at(), "the log")?;
        let schema = media.bytes(header.schema_at(), header.schema_len.into());
        if xxh3_64(schema) != header.schema_hash {
            return Err(FormatError::Checksum {
                what: "the schema".into(),
            });
        }
        if fingerprint(schema, media)? != header.fingerprint {
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
    /// The header.
    pub(crate) fn header(&self) -> &Header {
        &self.header
    }

    /// The superblock that counts.
    pub(crate) fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// Whether a region's header and superblock are there.
    pub(crate) fn is_there(media: &dyn Media) -> bool {
        Found::read(media).is_ok()
    }

    /// Whether the region was closed in order.
    pub(crate) fn is_clean(media: &dyn Media) -> Result<bool, FormatError> {
        Ok(Found::read(media)?.superblock.state == RegionState::Clean)
    }
}
