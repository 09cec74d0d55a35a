//! The files of a journal's folder.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use super::error::{JournalError, io_error};
use crate::fault;

/// The name of the file of this number.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:08}.jsonl")
}

/// Makes a new file, whose name lasts.
pub(super) fn make_file(folder: &Path, path: &Path) -> Result<File, JournalError> {
    fault::point("journal.file.before-create");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(io_error(path, "make it"))?;
    fault::point("journal.file.before-sync");
    crate::directory::fsync_dir(folder).map_err(io_error(folder, "sync the folder"))?;
    fault::point("journal.file.after-sync");
    Ok(file)
}

/// The journal files of a folder in order; other files are left alone.
pub(super) fn files(folder: &Path) -> Result<Vec<(u64, PathBuf)>, JournalError> {
    let mut files = Vec::new();
    for entry in folder
        .read_dir()
        .map_err(io_error(folder, "list the journal folder"))?
    {
        let entry = entry.map_err(io_error(folder, "list the journal folder"))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_suffix(".jsonl"))
            .and_then(|stem| stem.parse().ok());
        if let Some(number) = number
            && name == *file_name(number)
        {
            files.push((number, entry.path()));
        }
    }
    files.sort_unstable();
    for (expected, (found, _)) in (1..).zip(&files) {
        if expected != *found {
            return Err(JournalError::MissingFile {
                folder: folder.to_owned(),
                expected,
                found: *found,
            });
        }
    }
    Ok(files)
}

/// Moves the files of a journal that cannot be read any more into a folder in its own, where they are
/// left alone, and gives that folder. The journal is empty then.
pub fn set_aside(folder: impl AsRef<Path>) -> Result<PathBuf, JournalError> {
    let folder = folder.as_ref();
    let aside = (1u32..)
        .map(|number| folder.join(format!("set-aside-{number}")))
        .find(|path| path.symlink_metadata().is_err())
        .unwrap_or_else(|| folder.join("set-aside"));
    std::fs::create_dir(&aside).map_err(io_error(&aside, "make the folder"))?;
    let entries = folder
        .read_dir()
        .map_err(io_error(folder, "list the journal folder"))?;
    for entry in entries {
        let path = entry
            .map_err(io_error(folder, "list the journal folder"))?
            .path();
        if let Some(name) = path.file_name()
            && path.extension().is_some_and(|ending| ending == "jsonl")
        {
            std::fs::rename(&path, aside.join(name)).map_err(io_error(&path, "move it"))?;
        }
    }
    crate::directory::fsync_dir(&aside).map_err(io_error(&aside, "sync the folder"))?;
    crate::directory::fsync_dir(folder).map_err(io_error(folder, "sync the folder"))?;
    Ok(aside)
}
