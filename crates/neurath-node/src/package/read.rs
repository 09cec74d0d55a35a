//! From a package to a release in its place.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use flate2::bufread::GzDecoder;
use tar::{Entries, Entry, EntryType};

use super::statement::format_of;
use super::{MAX_STATEMENT, PackageError, SIGNATURE, STATEMENT, Seal, Statement, io_error};
use crate::fault;
use crate::release::{self, FileEntry, MANIFEST, ReleasePackage};
use crate::trust::TrustError;

/// The largest end of an archive: one record of zeros, as `tar` pads to.
const MAX_END: u64 = 10 << 10;

/// A release that was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// The release, in its place.
    pub release: ReleasePackage,
    /// What its package stated.
    pub seal: Seal,
}

/// Unpacks a package into `folder`, as `folder/NAME-VERSION`, in one step: it is there as a whole and
/// verified, or not at all. The same release in the place is left as it is, and gets the seal.
///
/// # Errors
///
/// [`PackageError`]; nothing of the package stays.
pub fn unpack(package: &Path, folder: &Path) -> Result<Unpacked, PackageError> {
    unpack_if(package, folder, |_| Ok(()))
}

/// As [`unpack`], if `admit` takes the package: it is asked once the statement is read, before
/// anything else of the package is looked at or written.
///
/// # Errors
///
/// As [`unpack`], and what `admit` says.
pub fn unpack_if(
    package: &Path,
    folder: &Path,
    admit: impl FnOnce(&Seal) -> Result<(), TrustError>,
) -> Result<Unpacked, PackageError> {
    let flags = libc::O_NONBLOCK;
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(package)
        .map_err(io_error(package))?;
    let about = file.metadata().map_err(io_error(package))?;
    if !about.is_file() {
        return Err(PackageError::NotAPackage {
            path: package.to_owned(),
            problem: "it is not a regular file".to_owned(),
        });
    }
    let ended = Rc::new(Cell::new(false));
    let source = Source {
        gzip: GzDecoder::new(BufReader::with_capacity(1 << 16, file)),
        ended: ended.clone(),
    };
    let mut archive = tar::Archive::new(source);
    let mut reader = Reader {
        path: package,
        // Raw: no extension is followed, each is an entry of a kind that is refused.
        entries: archive.entries().map_err(io_error(package))?.raw(true),
        ended,
        seen: BTreeSet::new(),
    };
    let (seal, first) = reader.seal()?;
    admit(&seal)?;
    std::fs::create_dir_all(folder).map_err(io_error(folder))?;
    let part = release::part_path(folder, &seal.statement().release());
    let result = reader
        .release(first, seal.statement(), &part)
        .and_then(|()| end(package, archive.into_inner()))
        .and_then(|()| {
            fault::point("package.unpack.written");
            Ok(release::place(&part, folder, Some(&seal))?)
        });
    // There no more if it has been moved.
    let _ = std::fs::remove_dir_all(&part);
    let release = result?;
    fault::point("package.unpack.placed");
    Ok(Unpacked { release, seal })
}

/// Decompressed bytes, and whether they have ended.
struct Source {
    gzip: GzDecoder<BufReader<File>>,
    ended: Rc<Cell<bool>>,
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.gzip.read(buffer)?;
        if count == 0 && !buffer.is_empty() {
            self.ended.set(true);
        }
        Ok(count)
    }
}

/// Checks that nothing but an archive's end follows, and nothing after that.
fn end(path: &Path, mut source: Source) -> Result<(), PackageError> {
    let mut rest = Vec::new();
    let read = (&mut source).take(MAX_END + 1).read_to_end(&mut rest);
    read.map_err(|error| classify(path, None, error, false))?;
    let trailing = || PackageError::Trailing {
        path: path.to_owned(),
    };
    if rest.len() as u64 > MAX_END || rest.iter().any(|byte| *byte != 0) {
        return Err(trailing());
    }
    let mut file = source.gzip.into_inner();
    match file.fill_buf() {
        Ok([]) => Ok(()),
        Ok(_) => Err(trailing()),
        Err(error) => Err(io_error(path)(error)),
    }
}

/// What an error of reading means.
fn classify(path: &Path, entry: Option<&str>, error: io::Error, ended: bool) -> PackageError {
    let (path, entry) = (path.to_owned(), entry.map(str::to_owned));
    if error.raw_os_error().is_some() {
        return PackageError::Io {
            path,
            source: error,
        };
    }
    if ended || error.kind() == io::ErrorKind::UnexpectedEof {
        return PackageError::Cut { path, entry };
    }
    let problem = error.to_string();
    match entry {
        None => PackageError::NotAPackage { path, problem },
        entry => PackageError::Damaged {
            path,
            entry,
            problem,
        },
    }
}

struct Reader<'a> {
    path: &'a Path,
    entries: Entries<'a, Source>,
    ended: Rc<Cell<bool>>,
    seen: BTreeSet<String>,
}

impl<'a> Reader<'a> {
    /// The statement with its signature, and the entry that follows them.
    fn seal(&mut self) -> Result<(Seal, Next<'a>), PackageError> {
        let first = self.next(None)?;
        let Some(first) = first.filter(|entry| entry.name == STATEMENT) else {
            return Err(PackageError::NotAPackage {
                path: self.path.to_owned(),
                problem: format!("it does not begin with {STATEMENT}"),
            });
        };
        let text = self.text(first, MAX_STATEMENT)?;
        if let Some(found) = format_of(&text) {
            return Err(PackageError::Format {
                path: self.path.to_owned(),
                found,
            });
        }
        let mut next = self.expect(MANIFEST)?;
        let signature = if next.name == SIGNATURE {
            let signature = self.text(next, MAX_STATEMENT)?;
            next = self.expect(MANIFEST)?;
            Some(signature)
        } else {
            None
        };
        let seal = Seal::new(text, signature).map_err(|problem| PackageError::Statement {
            path: self.path.to_owned(),
            problem,
        })?;
        Ok((seal, next))
    }

    /// Writes the release into the folder `part`, each file checked as it is written.
    fn release(
        &mut self,
        manifest: Next<'a>,
        statement: &Statement,
        part: &Path,
    ) -> Result<(), PackageError> {
        if manifest.name != MANIFEST {
            return Err(self.unexpected(manifest.name, MANIFEST));
        }
        let expected = FileEntry {
            path: MANIFEST.to_owned(),
            size: statement.manifest_size,
            blake3: statement.manifest.clone(),
        };
        if expected.size > release::MAX_MANIFEST {
            return Err(self.too_large(MANIFEST, release::MAX_MANIFEST));
        }
        let mut bytes = Vec::new();
        self.copy(manifest, &expected, &mut bytes)?;
        let files = release::listed(self.path, &bytes, &statement.release())?;
        let total: u64 = files.iter().map(|file| file.size).sum();
        if (total, files.len() as u64) != (statement.bytes, statement.files) {
            return Err(PackageError::Statement {
                path: self.path.to_owned(),
                problem: format!(
                    "it declares {} files of {} bytes, and the manifest lists {} of {total}",
                    statement.files,
                    statement.bytes,
                    files.len()
                ),
            });
        }
        release::begin_part(part, &bytes)?;
        for file in &files {
            let next = self.expect(&file.path)?;
            if next.name != file.path {
                return Err(self.unexpected(next.name, &file.path));
            }
            let mut out = release::create_in_part(part, &file.path)?;
            self.copy(next, file, &mut out)?;
            out.sync_all().map_err(io_error(part))?;
            fault::point("package.unpack.file");
        }
        if let Some(next) = self.next(None)? {
            return Err(self.unexpected(next.name, "the end of the package"));
        }
        Ok(())
    }

    /// The next entry, where there must be one.
    fn expect(&mut self, expected: &str) -> Result<Next<'a>, PackageError> {
        self.next(Some(expected))?.ok_or_else(|| PackageError::Cut {
            path: self.path.to_owned(),
            entry: Some(expected.to_owned()),
        })
    }

    /// The next entry: a regular file with a plain name that was not there before.
    fn next(&mut self, expected: Option<&str>) -> Result<Option<Next<'a>>, PackageError> {
        let path = self.path.to_owned();
        let entry = match self.entries.next() {
            None => return Ok(None),
            Some(Ok(entry)) => entry,
            Some(Err(error)) => {
                return Err(classify(self.path, expected, error, self.ended.get()));
            }
        };
        let entry_name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let leads_out = entry_name.starts_with('/')
            || entry_name.contains('\\')
            || entry_name.split('/').any(|part| part == "..");
        if leads_out {
            return Err(PackageError::Escapes {
                path,
                entry: entry_name,
            });
        }
        if let Some(kind) = other_kind(entry.header().entry_type()) {
            return Err(PackageError::Kind {
                path,
                entry: entry_name,
                kind,
            });
        }
        if !self.seen.insert(entry_name.clone()) {
            return Err(PackageError::Duplicate {
                path,
                entry: entry_name,
            });
        }
        Ok(Some(Next {
            name: entry_name,
            entry,
        }))
    }

    /// A small text.
    fn text(&self, next: Next<'a>, limit: u64) -> Result<String, PackageError> {
        if next.entry.size() > limit {
            return Err(self.too_large(&next.name, limit));
        }
        let mut bytes = Vec::new();
        let (name, size) = (next.name, next.entry.size());
        let read = next.entry.take(limit).read_to_end(&mut bytes);
        read.map_err(|error| classify(self.path, Some(&name), error, self.ended.get()))?;
        if bytes.len() as u64 != size {
            return Err(PackageError::Cut {
                path: self.path.to_owned(),
                entry: Some(name),
            });
        }
        String::from_utf8(bytes).map_err(|_| PackageError::Damaged {
            path: self.path.to_owned(),
            entry: Some(name),
            problem: "it is not UTF-8".to_owned(),
        })
    }

    /// Copies an entry to `to`, no more than declared, and refuses it if it is not as declared.
    fn copy(
        &self,
        mut next: Next<'a>,
        expected: &FileEntry,
        to: &mut dyn io::Write,
    ) -> Result<(), PackageError> {
        let entry = Some(expected.path.clone());
        let path = self.path.to_owned();
        let found = next.entry.size();
        if found != expected.size {
            return Err(PackageError::Size {
                path,
                entry: expected.path.clone(),
                found,
                expected: expected.size,
            });
        }
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 1 << 16];
        let mut left = expected.size;
        while left > 0 {
            let most = buffer
                .len()
                .min(usize::try_from(left).unwrap_or(usize::MAX));
            let count = match next.entry.read(&mut buffer[..most]) {
                Ok(0) => return Err(PackageError::Cut { path, entry }),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    let name = Some(expected.path.as_str());
                    return Err(classify(self.path, name, error, self.ended.get()));
                }
            };
            hasher.update(&buffer[..count]);
            to.write_all(&buffer[..count])
                .map_err(io_error(Path::new(&expected.path)))?;
            left -= count as u64;
        }
        let found = hasher.finalize().to_hex().to_string();
        if found != expected.blake3 {
            return Err(PackageError::Hash {
                path,
                entry: expected.path.clone(),
                found,
                expected: expected.blake3.clone(),
            });
        }
        Ok(())
    }

    fn unexpected(&self, entry: String, expected: &str) -> PackageError {
        PackageError::Unexpected {
            path: self.path.to_owned(),
            entry,
            expected: expected.to_owned(),
        }
    }

    fn too_large(&self, what: &str, limit: u64) -> PackageError {
        PackageError::TooLarge {
            path: PathBuf::from(self.path),
            what: what.to_owned(),
            limit,
        }
    }
}

struct Next<'a> {
    name: String,
    entry: Entry<'a, Source>,
}

/// What an entry is that is no regular file.
fn other_kind(kind: EntryType) -> Option<&'static str> {
    Some(match kind {
        EntryType::Regular => return None,
        EntryType::Symlink => "symbolic link",
        EntryType::Link => "hard link",
        EntryType::Char | EntryType::Block => "device",
        EntryType::Fifo => "pipe",
        EntryType::Directory => "folder",
        EntryType::GNUSparse | EntryType::Continuous => "special file",
        EntryType::GNULongName | EntryType::GNULongLink => "long name",
        EntryType::XHeader | EntryType::XGlobalHeader => "extended head",
        _ => "thing of an unknown kind",
    })
}
