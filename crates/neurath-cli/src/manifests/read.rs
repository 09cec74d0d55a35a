//! Reading the files of a project, on all cores: most of the time goes by in the kernel and in the parser, and no file
//! needs another.

use super::{Folder, Parsed, SourceFile, place};
use anyhow::Context as _;
use std::fs::{DirEntry, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many folders a thread takes at a time; fewer than these are read without another thread.
const BLOCK: usize = 16;

/// Reads all files `FOLDER/NAME/FILE`; what they say comes in the order of their paths.
///
/// # Errors
///
/// A folder that cannot be listed, or a file that cannot be read.
pub(super) fn all(roots: &[(Folder, &Path)]) -> anyhow::Result<Vec<Parsed>> {
    let mut folders = Vec::new();
    for (kind, root) in roots {
        folders.extend(inner_folders(root)?.into_iter().map(|path| (*kind, path)));
    }
    let blocks: Vec<&[(Folder, PathBuf)]> = folders.chunks(BLOCK).collect();
    // From the end, where the releases are: their files are the largest.
    let next = AtomicUsize::new(blocks.len());
    let take = || {
        let taken = next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |at| at.checked_sub(1));
        taken.ok().map(|at| at - 1)
    };
    let work = || {
        let (mut done, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        while let Some(at) = take() {
            done.push((at, block(blocks[at], &mut buffer)));
        }
        done
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let others = cores.min(blocks.len()).saturating_sub(1);
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (0..others).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(found) => done.extend(found),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_by_key(|(at, _)| *at);
    let mut files = Vec::new();
    for (_, found) in done {
        files.extend(found?);
    }
    Ok(files)
}

/// The files of these folders.
fn block(folders: &[(Folder, PathBuf)], buffer: &mut [u8]) -> anyhow::Result<Vec<Parsed>> {
    let mut found = Vec::new();
    for (folder, path) in folders {
        for entry in list(path)? {
            let path = entry.path();
            let Some((name, version, kind)) = place(&path) else {
                continue;
            };
            let text =
                text(&path, buffer).with_context(|| format!("cannot read {}", path.display()))?;
            let file = SourceFile {
                folder: *folder,
                kind,
                key: (name, version),
                path: path.display().to_string(),
                text,
            };
            found.push(file.parsed());
        }
    }
    Ok(found)
}

/// The whole of a file. One buffer serves for all, and nobody asks for the size first: most are a few lines.
fn text(path: &Path, buffer: &mut [u8]) -> std::io::Result<String> {
    let mut file = File::open(path)?;
    let mut bytes = Vec::new();
    loop {
        match file.read(buffer) {
            Ok(0) => break,
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    String::from_utf8(bytes)
        .map_err(|_| std::io::Error::new(std::io::ErrorKind::InvalidData, "it is not UTF-8"))
}

/// The folders in a folder, sorted; hidden ones are left out.
fn inner_folders(root: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let is_folder = |entry: &DirEntry| match entry.file_type() {
        Ok(kind) if kind.is_symlink() => entry.path().is_dir(),
        Ok(kind) => kind.is_dir(),
        Err(_) => false,
    };
    let visible = |entry: &DirEntry| {
        let name = entry.file_name();
        name.to_str().is_some_and(|name| !name.starts_with('.'))
    };
    let entries = list(root)?.into_iter();
    let found = entries.filter(|entry| visible(entry) && is_folder(entry));
    Ok(found.map(|entry| entry.path()).collect())
}

/// What is in a folder, sorted by name.
fn list(folder: &Path) -> anyhow::Result<Vec<DirEntry>> {
    let unread = || {
        format!(
            "cannot list {}: run this in the folder of a project, or name the folder",
            folder.display()
        )
    };
    let entries = folder.read_dir().with_context(unread)?;
    let mut entries = entries
        .collect::<Result<Vec<_>, _>>()
        .with_context(unread)?;
    entries.sort_by_key(DirEntry::file_name);
    Ok(entries)
}
