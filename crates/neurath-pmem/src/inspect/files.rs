//! The same with files: what is read is locked, and what is written is written beside, made
//! durable and put in place at once.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::FlockOperation;

use super::image::{Bytes, Image};
use super::levels::{self, HEADER_USED, SUPERBLOCK_USED};
use super::report::{Level, Report};
use super::{
    CheckOptions, Contents, ContentsError, DataLimits, Inspection, checked, contents, sums,
};
use crate::history::{self, Slot};
use crate::region::applied::APPLIED_AT;
use crate::region::format::{
    HEADER_AT, HEADER_COPY_AT, Header, LOG_AT, Log, PAGE, RegionState, SUPERBLOCK_AT, Superblock,
};
use crate::region::history::HISTORY_AT;
use crate::region::{FormatError, Media, Medium, SnapshotError, SnapshotSource, open_regular};

/// Why a file was not looked at, or not written.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Somebody has the region open.
    #[error(
        "{} is in use by a node: make a snapshot through the node (`state snapshot --dir`) and \
         look at that, or stop the node", path.display()
    )]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// It is no region that can be read.
    #[error("{}: {source}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: FormatError,
    },
    /// There is such a file already.
    #[error("{} is there already, and is not overwritten", path.display())]
    Exists {
        /// Which file.
        path: PathBuf,
    },
    /// The region has errors, and what was asked for needs one without.
    #[error("{} has errors, {} in all; see its check", path.display(), report.errors)]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What the check found.
        report: Box<Report>,
    },
    /// A region that is in use could not be copied.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The snapshot is another instance's.
    #[error("the snapshot is of {found}, and {} is the region of {wanted}", path.display())]
    Owner {
        /// The region's file.
        path: PathBuf,
        /// Whose the snapshot is.
        found: String,
        /// Whose the region is.
        wanted: String,
    },
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> InspectError {
    let path = path.to_owned();
    move |source| InspectError::Io {
        action,
        path,
        source,
    }
}

/// Keeps nodes from opening a region.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes a region's lock: for reading, which others may do meanwhile, or alone.
    ///
    /// # Errors
    ///
    /// If there is no such file, or it is something else than a file, or a node has it open.
    pub fn take(path: &Path, alone: bool) -> Result<Lock, InspectError> {
        let file = open_regular(OpenOptions::new().read(true), path).map_err(io("open", path))?;
        let operation = if alone {
            FlockOperation::NonBlockingLockExclusive
        } else {
            FlockOperation::NonBlockingLockShared
        };
        match rustix::fs::flock(&file, operation) {
            Ok(()) => Ok(Lock { file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(InspectError::Busy { path: path.into() }),
            Err(error) => Err(io("lock", path)(error.into())),
        }
    }

    /// What is in the file.
    fn read(&self, path: &Path) -> Result<Bytes, InspectError> {
        let meta = self.file.metadata().map_err(io("look at", path))?;
        Bytes::of(&self.file, meta.len()).map_err(io("read", path))
    }
}

/// Reads a region's file, which no node has open.
fn read(path: &Path) -> Result<(Bytes, Lock), InspectError> {
    let lock = Lock::take(path, false)?;
    let bytes = lock.read(path)?;
    Ok((bytes, lock))
}

/// Checks a region's file, up to a level. The file does not change.
///
/// # Errors
///
/// If it cannot be read.
pub fn check_file(path: &Path, level: Level) -> Result<Report, InspectError> {
    let options = CheckOptions {
        level,
        ..CheckOptions::here()
    };
    check_file_as(path, options)
}

/// The same with what is known beside the file.
pub(super) fn check_file_as(path: &Path, options: CheckOptions) -> Result<Report, InspectError> {
    let (bytes, _lock) = read(path)?;
    Ok(checked(bytes, options).0)
}

/// What a region's file holds, wherever in it: to compare it with another. The file does not change.
///
/// # Errors
///
/// If it cannot be read.
pub fn contents_file(path: &Path) -> Result<Result<Contents, ContentsError>, InspectError> {
    let (bytes, _lock) = read(path)?;
    Ok(contents::contents(bytes))
}

/// Describes a region's file. The file does not change.
///
/// # Errors
///
/// If it cannot be read, or is no region.
pub fn inspect_file(path: &Path, data: Option<DataLimits>) -> Result<Inspection, InspectError> {
    let (bytes, lock) = read(path)?;
    let found = super::data::inspect(bytes, data).map_err(|source| InspectError::Format {
        path: path.into(),
        source,
    })?;
    // For a mapping as a node makes it. Who may only read the file learns what can be read.
    let writable = OpenOptions::new().read(true).write(true).open(path);
    let medium = Medium::of(writable.as_ref().unwrap_or(&lock.file));
    Ok(Inspection {
        medium: Some(medium),
        ..found
    })
}

/// The region as an orderly close would leave it: recovered, with all its checksums; what
/// follows its length does not count.
fn settled(mut image: Image) -> Bytes {
    if image.superblock.state != RegionState::Clean {
        sums::store_missing(&mut image);
        let superblock = Superblock {
            generation: image.superblock.generation + 1,
            state: RegionState::Clean,
            checkpoint: image.sequence,
            // No record that is in the log counts any more.
            lap: match image.header.log {
                Log::Ring => 0,
                Log::Journal(_) => image.superblock.lap + 2,
            },
            ..image.superblock
        };
        let at = SUPERBLOCK_AT[1 - image.slot];
        image.bytes.zero(at, PAGE);
        image.bytes.store(at, &superblock.encode(&image.header));
    }
    image.bytes
}

static BESIDE: AtomicU64 = AtomicU64::new(0);

/// A file beside `target` that goes away again unless it is put in place.
struct Beside {
    path: PathBuf,
    target: PathBuf,
    done: bool,
}

impl Beside {
    /// A name for it, if nothing has the target's.
    fn new(target: &Path) -> Result<Beside, InspectError> {
        if target.symlink_metadata().is_ok() {
            let path = target.into();
            return Err(InspectError::Exists { path });
        }
        Ok(Self::named(target))
    }

    fn named(target: &Path) -> Beside {
        let mut name = target.file_name().unwrap_or_default().to_owned();
        // Two that copy to one place at a time do not meet.
        let number = BESIDE.fetch_add(1, Ordering::Relaxed);
        name.push(format!(".{}-{number}.tmp", std::process::id()));
        Beside {
            path: target.with_file_name(name),
            target: target.into(),
            done: false,
        }
    }

    /// Writes the bytes and makes them durable.
    fn write(target: &Path, bytes: &[u8]) -> Result<Beside, InspectError> {
        let beside = Self::named(target);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&beside.path)
            .map_err(io("create", &beside.path))?;
        file.write_all(bytes).map_err(io("write", &beside.path))?;
        file.sync_all().map_err(io("write", &beside.path))?;
        Ok(beside)
    }

    /// Gives it its name, if nothing has that name.
    fn place(mut self) -> Result<(), InspectError> {
        match std::fs::hard_link(&self.path, &self.target) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                let path = self.target.clone();
                return Err(InspectError::Exists { path });
            }
            Err(error) => return Err(io("create", &self.target)(error)),
        }
        std::fs::remove_file(&self.path).map_err(io("remove", &self.path))?;
        self.done = true;
        sync_folder(&self.target)
    }

    /// Gives it the name of a file that is there, which has another name already.
    fn replace(mut self) -> Result<(), InspectError> {
        std::fs::rename(&self.path, &self.target).map_err(io("replace", &self.target))?;
        self.done = true;
        sync_folder(&self.target)
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        if !self.done {
            // What was begun is of no use to anybody.
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn sync_folder(path: &Path) -> Result<(), InspectError> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io("make durable", folder))
}

fn must_be_sound(
    path: &Path,
    bytes: Bytes,
    options: CheckOptions,
) -> Result<(Image, Report), InspectError> {
    match checked(bytes, options) {
        (report, Some(image)) if report.is_sound() => Ok((image, report)),
        (report, _) => Err(InspectError::Damaged {
            path: path.into(),
            report: Box::new(report),
        }),
    }
}

/// A snapshot that was made.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// What the check of the region found.
    pub report: Report,
    /// Bytes of the snapshot.
    pub bytes: u64,
    /// Whose state it is.
    pub owner: String,
    /// The last transaction in it.
    pub sequence: u64,
}

fn owner(header: &Header) -> String {
    format!("{}.{}", header.component, header.instance)
}

/// Copies a region that no node has open, as its recovery and an orderly close would leave it.
///
/// # Errors
///
/// If the region has errors, or there is such a file already.
pub fn snapshot_file(region: &Path, target: &Path) -> Result<Snapshot, InspectError> {
    if target.symlink_metadata().is_ok() {
        let path = target.into();
        return Err(InspectError::Exists { path });
    }
    let (bytes, _lock) = read(region)?;
    let (image, report) = must_be_sound(region, bytes, CheckOptions::here())?;
    let (bytes, sequence) = (image.superblock.length, image.sequence);
    let owner = owner(&image.header);
    let copy = settled(image);
    let beside = Beside::write(target, copy.first(bytes))?;
    drop(copy);
    // What was written is read again: a copy that cannot be restored is worse than none.
    look_at_copy(&beside)?;
    beside.place()?;
    Ok(Snapshot {
        report,
        bytes,
        owner,
        sequence,
    })
}

fn look_at_copy(beside: &Beside) -> Result<(Image, Report), InspectError> {
    let file = File::open(&beside.path).map_err(io("open", &beside.path))?;
    let len = file.metadata().map_err(io("look at", &beside.path))?.len();
    let bytes = Bytes::of(&file, len).map_err(io("map", &beside.path))?;
    must_be_sound(&beside.target, bytes, CheckOptions::here())
}

/// Copies a region that is in use, at some commit since `source` was made. The copy is as an
/// orderly close would leave it, and checked. It has its name only once it is whole.
///
/// # Errors
///
/// If the copy cannot be written, or has errors, or there is such a file already.
pub fn snapshot_live(source: SnapshotSource, target: &Path) -> Result<Snapshot, InspectError> {
    let beside = Beside::new(target)?;
    let owner = source.owner();
    let sequence = source.copy_to(&beside.path)?;
    let (image, report) = look_at_copy(&beside)?;
    let bytes = image.superblock.length;
    beside.place()?;
    Ok(Snapshot {
        report,
        bytes,
        owner,
        sequence,
    })
}

/// What a restore did, or would do.
#[derive(Clone, Debug)]
pub struct Restore {
    /// What the check of the snapshot found.
    pub report: Report,
    /// Bytes of the region.
    pub bytes: u64,
    /// Whose state it is.
    pub owner: String,
    /// Where the region that was there before is kept.
    pub kept: Option<PathBuf>,
    /// Whether it was done.
    pub executed: bool,
}

/// Puts a snapshot in the place of a region. One that is there is kept under another name.
///
/// # Errors
///
/// If the snapshot has errors or is another instance's, or a node has the region open.
pub fn restore_file(
    snapshot: &Path,
    region: &Path,
    execute: bool,
) -> Result<Restore, InspectError> {
    let (bytes, _lock) = read(snapshot)?;
    let (image, report) = must_be_sound(snapshot, bytes, CheckOptions::here())?;
    let mut kept = None;
    let mut _alone = None;
    if region.symlink_metadata().is_ok() {
        let old = _alone.insert(Lock::take(region, true)?).read(region)?;
        // What is damaged may be anybody's.
        let wanted = (old.len() >= LOG_AT)
            .then(|| levels::headers(&old, &mut Report::default()))
            .flatten();
        if let Some(wanted) = wanted
            && owner(&wanted) != owner(&image.header)
        {
            return Err(InspectError::Owner {
                path: region.into(),
                found: owner(&image.header),
                wanted: owner(&wanted),
            });
        }
        kept = Some(free_name(region));
    }
    let (length, owner) = (image.superblock.length, owner(&image.header));
    let copy = settled(image);
    if execute {
        let beside = Beside::write(region, copy.first(length))?;
        match &kept {
            Some(kept) => {
                std::fs::hard_link(region, kept).map_err(io("keep", region))?;
                beside.replace()?;
            }
            None => beside.place()?,
        }
    }
    Ok(Restore {
        report,
        bytes: length,
        owner,
        kept,
        executed: execute,
    })
}

/// A name that no file has.
fn free_name(path: &Path) -> PathBuf {
    let named = |number: u64| {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".before-restore-{number}"));
        path.with_file_name(name)
    };
    (1..)
        .map(named)
        .find(|path| path.symlink_metadata().is_err())
        .unwrap_or_else(|| named(0))
}

/// One thing that a repair does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RepairAction {
    /// Of which kind: `header`, `superblock`, `history`, `applied`, `padding`, `leaks` or
    /// `recovery`.
    pub kind: &'static str,
    /// For people: what is done, and what may be lost by it.
    pub message: String,
}

/// What a repair did, or would do.
#[derive(Clone, Debug)]
pub struct Repair {
    /// What the check found before.
    pub before: Report,
    /// What is done.
    pub actions: Vec<RepairAction>,
    /// What the check finds after.
    pub after: Report,
    /// Whether the copy was written. It is not if it still has errors, or nothing was to do.
    pub written: bool,
}

/// Mends what can be mended, in a copy. The region does not change.
///
/// # Errors
///
/// If the region cannot be read, or there is such a copy already.
pub fn repair_file(region: &Path, target: &Path, execute: bool) -> Result<Repair, InspectError> {
    if target.symlink_metadata().is_ok() {
        let path = target.into();
        return Err(InspectError::Exists { path });
    }
    let (bytes, _lock) = read(region)?;
    let (mut repair, repaired) = repair(bytes, CheckOptions::here());
    if execute && repair.after.is_sound() && !repair.actions.is_empty() {
        Beside::write(target, &repaired)?.place()?;
        repair.written = true;
    }
    Ok(repair)
}

/// Mends what can be mended.
pub(super) fn repair(bytes: impl Into<Bytes>, options: CheckOptions) -> (Repair, Vec<u8>) {
    let mut bytes = bytes.into();
    let before = checked(bytes.clone(), options).0;
    let mut actions = Vec::new();
    if bytes.len() >= LOG_AT {
        mend_pages(&mut bytes, &mut actions);
    }
    // From here on it is as good as its tables are.
    if let (report, Some(mut image)) = checked(bytes.clone(), options) {
        let leaked = image.leaked.take().unwrap_or_default();
        if report.is_sound() && !leaked.is_empty() {
            free(&mut image, &leaked);
            let took: u64 = report.leaks.iter().map(|leak| leak.bytes).sum();
            actions.push(RepairAction {
                kind: "leaks",
                message: format!(
                    "{} objects of {took} bytes that nothing refers to are freed",
                    leaked.len()
                ),
            });
        }
        if report.is_sound() && !actions.is_empty() {
            if image.superblock.state == RegionState::Open {
                actions.push(RepairAction {
                    kind: "recovery",
                    message: format!(
                        "the copy is recovered and closed: {} records of the log are replayed",
                        report.replayed
                    ),
                });
            }
            let length = image.superblock.length;
            bytes = settled(image).first(length).to_vec().into();
        }
    }
    let after = checked(bytes.clone(), options).0;
    let repair = Repair {
        before,
        actions,
        after,
        written: false,
    };
    (repair, bytes.into_vec())
}

fn free(image: &mut Image, leaked: &[(u64, u16)]) {
    let Some(tables) = &mut image.tables else {
        return;
    };
    for &(number, index) in leaked {
        if let Some(segment) = tables.get_mut(number) {
            segment.live[usize::from(index) / 64] &= !(1 << (index % 64));
            let at = segment.bitmap_at + u64::from(index) / 64 * 8;
            let word = image.bytes.word(at) & !(1 << (index % 64));
            image.bytes.store_word(at, word);
            // The checksum was that of what has leaked, too.
            image.bytes.store_word(segment.sum_at(), 0);
        }
    }
    sums::store_missing(image);
}

/// Forgets a history of migrations that cannot be read.
fn mend_histories(bytes: &mut Bytes, header: &Header, act: &mut impl FnMut(&'static str, String)) {
    if !header.history {
        return;
    }
    for (number, at) in HISTORY_AT.into_iter().enumerate() {
        if Slot::parse(bytes.bytes(at, history::LEN), header.seed()).is_err() {
            let found = crate::region::history::read(bytes, header);
            bytes.zero(at, history::LEN);
            // Whoever looks at it later is to know.
            let again = found.history.encode(found.number + 1, header.seed());
            bytes.store(at, &again);
            let message = format!(
                "history {number} is written anew after the other: migrations that only it knew \
                 are not recorded any more"
            );
            act("history", message);
        }
    }
}

/// Mends the header's page, its copy and the superblocks' pages.
fn mend_pages(bytes: &mut Bytes, actions: &mut Vec<RepairAction>) {
    let mut act = |kind, message: String| actions.push(RepairAction { kind, message });
    let Some(header) = levels::headers(bytes, &mut Report::default()) else {
        return;
    };
    if levels::schema(bytes, &header).is_err() {
        return;
    }
    let whole = header.encode();
    let pages = [
        (HEADER_AT, "the header is written anew from its copy"),
        (HEADER_COPY_AT, "the header's copy is written anew"),
    ];
    for (at, message) in pages {
        // Two headers that are whole and differ are not for a program to choose from.
        let broken = Header::parse(bytes.bytes(at, PAGE)).is_err();
        if broken && bytes.bytes(at, HEADER_USED) != whole {
            bytes.store(at, &whole);
            act("header", message.into());
        }
    }
    let Some((superblock, slot)) = levels::superblocks(bytes, &header, &mut Report::default())
    else {
        return;
    };
    let other = SUPERBLOCK_AT[1 - slot];
    let page = bytes.bytes(other, PAGE);
    let used = &page[..SUPERBLOCK_USED as usize];
    let unused = superblock.generation == 1 && used.iter().all(|&byte| byte == 0);
    if Superblock::parse(page, &header).is_err() && !unused {
        let next = Superblock {
            generation: superblock.generation + 1,
            ..superblock.clone()
        };
        bytes.zero(other, SUPERBLOCK_USED);
        bytes.store(other, &next.encode(&header));
        act(
            "superblock",
            format!(
                "superblock {} is written anew after superblock {slot}, of generation {}; if the \
                 damaged one was the newer, the region falls back to record {} of the log and \
                 {} bytes",
                1 - slot,
                superblock.generation,
                superblock.checkpoint,
                superblock.length
            ),
        );
    }
    if levels::applied_word(bytes, &header, &superblock).is_err() {
        bytes.store_word(APPLIED_AT, 0);
        let message = "the word that says which record of the log was applied is forgotten: the \
                       newest record that is whole counts as the last; if a newer one is damaged \
                       as well, older values come back";
        act("applied", message.into());
    }
    mend_histories(bytes, &header, &mut act);
    let after_superblocks = SUPERBLOCK_AT.map(|at| levels::after_superblock(at, &header));
    let after_superblocks = after_superblocks.into_iter().flatten();
    let after_headers = [HEADER_AT, HEADER_COPY_AT].map(levels::after_header);
    for (from, to) in after_headers.into_iter().flatten().chain(after_superblocks) {
        let rest = bytes.bytes(from, to - from);
        if rest.iter().any(|&byte| byte != 0) {
            bytes.zero(from, to - from);
            act("padding", format!("what follows byte {from} is made zero"));
        }
    }
}
