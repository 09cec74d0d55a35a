//! The files of a release, and the manifest that accounts for them.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{FORMAT, FileEntry, ReleaseError};
use crate::fault;
use crate::package::Seal;

pub(crate) const MANIFEST: &str = "MANIFEST.json";
pub(super) const MANIFEST_HASH: &str = "MANIFEST.blake3";
pub(super) const RELEASE: &str = "release.toml";
pub(super) const RELUP: &str = "relup.toml";
/// The node's program, and what it says of itself.
pub(super) const PROGRAM: &str = "node/program";
pub(super) const PROGRAM_DESCRIPTION: &str = "node/program.json";
/// What an installed release keeps of its package.
pub(super) const SEAL: &str = "SEAL.json";
/// The files that a manifest does not list.
const OWN: [&str; 3] = [MANIFEST, MANIFEST_HASH, SEAL];
const FOLDERS: [&str; 4] = ["components", "appups", "lib", "node"];
pub(crate) const MAX_MANIFEST: u64 = 4 << 20;
const MAX_TEXT: u64 = 16 << 20;
const MAX_LIBRARY: u64 = 1 << 30;
const MAX_FILES: usize = 10_000;

/// The contents of `MANIFEST.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub format: u32,
    pub name: String,
    pub version: String,
    pub files: Vec<FileEntry>,
}

/// What a file to be written consists of.
pub(super) enum Body {
    Text(String),
    Library(PathBuf),
}

pub(super) fn io_error(path: &Path) -> impl FnOnce(io::Error) -> ReleaseError + '_ {
    move |source| ReleaseError::Io {
        path: path.to_owned(),
        source,
    }
}

pub(super) fn damaged(path: &Path, problem: impl Into<String>) -> ReleaseError {
    ReleaseError::Damaged {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// Whether a path is one that a release can have: the folder's own files, or a plain name in
/// one of the folders for components, or the node's.
pub(super) fn is_release_path(path: &str) -> bool {
    if [RELEASE, RELUP, PROGRAM, PROGRAM_DESCRIPTION].contains(&path) {
        return true;
    }
    let Some((folder, name)) = path.split_once('/') else {
        return false;
    };
    let end = match folder {
        "components" => ".toml",
        "appups" => ".appup.toml",
        "lib" => ".so",
        _ => return false,
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.+".contains(c);
    name.strip_suffix(end)
        .is_some_and(|stem| !stem.is_empty() && !stem.starts_with('.') && stem.chars().all(plain))
        && name.len() <= 255
}

/// Whether a file of a release is code, and no text.
pub(super) fn is_code(path: &str) -> bool {
    path.starts_with("lib/") || path == PROGRAM
}

fn limit(path: &str) -> u64 {
    if is_code(path) { MAX_LIBRARY } else { MAX_TEXT }
}

/// Opens a regular file; a link is refused.
fn open_plain(path: &Path) -> Result<(File, u64), ReleaseError> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(damaged(path, "it is a symbolic link"));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(damaged(path, "it is missing"));
        }
        Err(error) => return Err(io_error(path)(error)),
    };
    let about = file.metadata().map_err(io_error(path))?;
    match about.is_file() {
        true => Ok((file, about.len())),
        false => Err(damaged(path, "it is not a regular file")),
    }
}

fn read_small(path: &Path, limit: u64) -> Result<Vec<u8>, ReleaseError> {
    let (file, size) = open_plain(path)?;
    if size > limit {
        return Err(damaged(path, format!("it is larger than {limit} bytes")));
    }
    let mut bytes = Vec::new();
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(io_error(path))?;
    Ok(bytes)
}

/// Copies a file to `to`, and refuses it if it is not as its entry says.
pub(super) fn read_verified(
    path: &Path,
    entry: &FileEntry,
    to: &mut dyn Write,
) -> Result<(), ReleaseError> {
    let (file, _) = open_plain(path)?;
    let (size, hash) =
        copy_hashed(&mut file.take(entry.size.saturating_add(1)), to).map_err(io_error(path))?;
    if size != entry.size {
        return Err(damaged(
            path,
            format!("its size is not {} bytes", entry.size),
        ));
    }
    if hash.to_hex().as_str() != entry.blake3 {
        return Err(damaged(
            path,
            format!("its hash is {hash}, not {}", entry.blake3),
        ));
    }
    Ok(())
}

fn copy_hashed(from: &mut dyn Read, to: &mut dyn Write) -> io::Result<(u64, blake3::Hash)> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    let mut size = 0;
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok((size, hasher.finalize())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                to.write_all(&buffer[..count])?;
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

pub(super) fn read_manifest(dir: &Path) -> Result<(Manifest, blake3::Hash), ReleaseError> {
    let about = fs::symlink_metadata(dir).map_err(io_error(dir))?;
    if !about.is_dir() {
        return Err(damaged(dir, "it is not a folder"));
    }
    let path = dir.join(MANIFEST);
    let bytes = read_small(&path, MAX_MANIFEST)?;
    let hash_path = dir.join(MANIFEST_HASH);
    let hash = blake3::hash(&bytes);
    if read_small(&hash_path, 1024)? != format!("{hash}\n").into_bytes() {
        return Err(damaged(
            &path,
            format!("its hash is not what {MANIFEST_HASH} says"),
        ));
    }
    Ok((parse_manifest(&path, &bytes)?, hash))
}

pub(super) fn parse_manifest(path: &Path, bytes: &[u8]) -> Result<Manifest, ReleaseError> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    let bad = |error: serde_json::Error| damaged(path, error.to_string());
    let head: Head = serde_json::from_slice(bytes).map_err(bad)?;
    if head.format != FORMAT {
        return Err(ReleaseError::Format {
            path: path.to_owned(),
            found: head.format,
        });
    }
    serde_json::from_slice(bytes).map_err(bad)
}

/// The files of a manifest, none of which leads out of the release.
pub(super) fn entries(
    path: &Path,
    list: Vec<FileEntry>,
) -> Result<BTreeMap<String, FileEntry>, ReleaseError> {
    if list.len() > MAX_FILES {
        return Err(damaged(
            path,
            format!("it lists more than {MAX_FILES} files"),
        ));
    }
    let mut files = BTreeMap::new();
    for entry in list {
        let name = entry.path.clone();
        if !is_release_path(&name) {
            return Err(damaged(
                path,
                format!("{name:?} is no path of a release's file"),
            ));
        }
        if entry.size > limit(&name) {
            return Err(damaged(
                path,
                format!("{name} is larger than a release's file can be"),
            ));
        }
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if entry.blake3.len() != 64 || !entry.blake3.bytes().all(digit) {
            return Err(damaged(
                path,
                format!("the hash of {name} is not a BLAKE3 hash"),
            ));
        }
        if files.insert(name.clone(), entry).is_some() {
            return Err(damaged(path, format!("it lists {name} twice")));
        }
    }
    Ok(files)
}

/// Refuses what lies in the folder and is not listed.
pub(super) fn refuse_unknown(
    dir: &Path,
    files: &BTreeMap<String, FileEntry>,
) -> Result<(), ReleaseError> {
    let check = |folder: &Path, prefix: &str| {
        for entry in fs::read_dir(folder).map_err(io_error(folder))? {
            let entry = entry.map_err(io_error(folder))?;
            let kind = entry.file_type().map_err(io_error(folder))?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if prefix.is_empty() && name == ".SEAL.part" {
                // An exchange of the seal that was interrupted: the one before holds.
                continue;
            }
            let known = if kind.is_dir() {
                prefix.is_empty() && FOLDERS.contains(&name.as_str())
            } else {
                let own = prefix.is_empty() && OWN.contains(&name.as_str());
                own || files.contains_key(&format!("{prefix}{name}"))
            };
            if kind.is_symlink() {
                return Err(damaged(&entry.path(), "it is a symbolic link"));
            }
            if !known {
                return Err(damaged(
                    &entry.path(),
                    format!("{MANIFEST} does not list it"),
                ));
            }
        }
        Ok(())
    };
    check(dir, "")?;
    for name in FOLDERS {
        let folder = dir.join(name);
        if fs::exists(&folder).map_err(io_error(&folder))? {
            check(&folder, &format!("{name}/"))?;
        }
    }
    Ok(())
}

/// Writes the files of a release, and its manifest, into a new folder.
pub(super) fn fill(
    dir: &Path,
    name: &str,
    version: &str,
    bodies: &BTreeMap<String, Body>,
) -> Result<(), ReleaseError> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir(dir).map_err(io_error(dir))?;
    let mut files = Vec::new();
    for (path, body) in bodies {
        let target = dir.join(path);
        if !is_release_path(path) {
            return Err(damaged(&target, "it is no path of a release's file"));
        }
        let folder = target.parent().unwrap_or(dir);
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        let (size, hash) = match body {
            Body::Text(text) => write_file(&target, &mut text.as_bytes())?,
            Body::Library(source) => {
                let mut file = File::open(source).map_err(io_error(source))?;
                write_file(&target, &mut file)?
            }
        };
        files.push(FileEntry {
            path: path.clone(),
            size,
            blake3: hash.to_hex().to_string(),
        });
    }
    let manifest = Manifest {
        format: FORMAT,
        name: name.to_owned(),
        version: version.to_owned(),
        files,
    };
    let path = dir.join(MANIFEST);
    let mut text = serde_json::to_string_pretty(&manifest)
        .map_err(|error| io_error(&path)(io::Error::other(error)))?;
    text.push('\n');
    write_manifest(dir, text.as_bytes())
}

/// Writes the manifest of a new folder, and its hash.
fn write_manifest(dir: &Path, bytes: &[u8]) -> Result<(), ReleaseError> {
    let (_, hash) = write_file(&dir.join(MANIFEST), &mut &*bytes)?;
    write_file(
        &dir.join(MANIFEST_HASH),
        &mut format!("{hash}\n").as_bytes(),
    )?;
    Ok(())
}

/// Makes a new folder for a release, with this manifest.
pub(crate) fn begin_part(dir: &Path, manifest: &[u8]) -> Result<(), ReleaseError> {
    let _ = fs::remove_dir_all(dir);
    fs::create_dir(dir).map_err(io_error(dir))?;
    fault::point("release.part.made");
    write_manifest(dir, manifest)?;
    fault::point("release.part.begun");
    Ok(())
}

/// Makes a file of a release that [`begin_part`] began.
pub(crate) fn create_in_part(dir: &Path, path: &str) -> Result<File, ReleaseError> {
    let target = dir.join(path);
    if !is_release_path(path) {
        return Err(damaged(&target, "it is no path of a release's file"));
    }
    let folder = target.parent().unwrap_or(dir);
    fs::create_dir_all(folder).map_err(io_error(folder))?;
    create(&target).map_err(io_error(&target))
}

/// Makes all folders of a release durable.
pub(super) fn sync(dir: &Path) -> Result<(), ReleaseError> {
    for folder in FOLDERS.map(|name| dir.join(name)) {
        if folder.is_dir() {
            sync_folder(&folder)?;
        }
    }
    sync_folder(dir)
}

/// Puts the seal of a release's package into its folder, in place of one that is there.
pub(super) fn write_seal(dir: &Path, seal: &Seal) -> Result<(), ReleaseError> {
    let path = dir.join(SEAL);
    let part = dir.join(".SEAL.part");
    let text = seal
        .to_json()
        .map_err(|error| io_error(&path)(io::Error::other(error)))?;
    let _ = fs::remove_file(&part);
    write_file(&part, &mut text.as_bytes())?;
    fault::point("release.seal.before-rename");
    fs::rename(&part, &path).map_err(io_error(&path))?;
    fault::point("release.seal.after-rename");
    sync_folder(dir)
}

/// The seal in a release's folder, if it came from a package.
pub(super) fn read_seal(dir: &Path) -> Result<Option<Seal>, ReleaseError> {
    let path = dir.join(SEAL);
    if fs::symlink_metadata(&path).is_err() {
        return Ok(None);
    }
    let bytes = read_small(&path, Seal::MAX_FILE)?;
    let text = String::from_utf8(bytes).map_err(|_| damaged(&path, "it is not UTF-8"))?;
    let seal = Seal::read(&text).map_err(|problem| damaged(&path, problem))?;
    Ok(Some(seal))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o444)
        .open(path)
}

fn write_file(path: &Path, from: &mut dyn Read) -> Result<(u64, blake3::Hash), ReleaseError> {
    let mut work = || {
        let mut file = create(path)?;
        let written = copy_hashed(from, &mut file)?;
        file.sync_all()?;
        Ok(written)
    };
    work().map_err(io_error(path))
}

pub(super) fn sync_folder(path: &Path) -> Result<(), ReleaseError> {
    File::open(path)
        .and_then(|folder| folder.sync_all())
        .map_err(io_error(path))
}
