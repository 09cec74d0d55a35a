//! The private store of libraries: verified copies, each under a path that this process has
//! never opened before.
//!
//! The system's loader answers a path (and an inode) it knows with the code it has, and a
//! file that is changed in place crashes the code that is mapped from it. So a library is
//! loaded from a copy that only the node can reach, and no two loads share one.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use thiserror::Error;

/// Why a library was not placed.
#[derive(Debug, Error)]
pub enum PlaceError {
    /// The bytes are not those of the release.
    #[error(
        "the library of {component} has the hash {found}, not {expected} as its release says: \
         the release was changed after it was built; build or copy it again"
    )]
    Hash {
        /// The component.
        component: String,
        /// The hash of the bytes.
        found: blake3::Hash,
        /// The hash they should have.
        expected: blake3::Hash,
    },
    /// The component's name cannot be part of a file's name.
    #[error("{0:?} is not a component name")]
    Name(String),
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// How the file of a node's program begins. No component's library does: their names end with `.so`.
const PROGRAM: &str = "node-";

/// The store. One process at a time: the lock of the node's folder sees to that.
#[derive(Debug)]
pub struct Libraries {
    dir: PathBuf,
    next: AtomicU64,
}

impl Libraries {
    /// Opens the store in `dir`, makes it if need be, and removes what an earlier process
    /// has left there.
    ///
    /// # Errors
    ///
    /// The folder cannot be made, read or cleared.
    pub fn new(dir: impl AsRef<Path>) -> Result<Libraries, PlaceError> {
        let dir = dir.as_ref();
        let failed = |source| PlaceError::Io {
            path: dir.to_owned(),
            source,
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(failed)?;
        let dir = dir.canonicalize().map_err(failed)?;
        for entry in fs::read_dir(&dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path
                .extension()
                .is_some_and(|end| end == "so" || end == "part")
            {
                remove_file(&path)?;
            }
        }
        Ok(Libraries {
            dir,
            next: AtomicU64::new(1),
        })
    }

    /// Writes `bytes` to `<component>-<hash16>-<n>.so`, if their hash is `expected`, and
    /// gives the path. `n` is another each time.
    ///
    /// # Errors
    ///
    /// Other bytes than expected, or the system refused. Nothing is left behind.
    pub fn place(
        &self,
        component: &str,
        bytes: &[u8],
        expected: &blake3::Hash,
    ) -> Result<PathBuf, PlaceError> {
        if neurath_manifest::scalar::check_name(component).is_err() {
            return Err(PlaceError::Name(component.to_owned()));
        }
        let found = blake3::hash(bytes);
        if found != *expected {
            let component = component.to_owned();
            return Err(PlaceError::Hash {
                component,
                found,
                expected: *expected,
            });
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self
            .dir
            .join(format!("{component}-{}-{number}.so", &found.to_hex()[..16]));
        let part = path.with_extension("part");
        let written = write_new(&part, bytes).and_then(|()| fs::rename(&part, &path));
        match written {
            Ok(()) => Ok(path),
            Err(source) => {
                let _ = fs::remove_file(&part);
                let _ = fs::remove_file(&path);
                Err(PlaceError::Io { path, source })
            }
        }
    }

    /// Writes a node's program to `node-<hash>`, if its hash is `expected`, and gives the path. It stays from one
    /// process to the next.
    ///
    /// # Errors
    ///
    /// Other bytes than expected, or the system refused.
    pub fn place_program(
        &self,
        bytes: &[u8],
        expected: &blake3::Hash,
    ) -> Result<PathBuf, PlaceError> {
        let found = blake3::hash(bytes);
        if found != *expected {
            let component = "the node".to_owned();
            return Err(PlaceError::Hash {
                component,
                found,
                expected: *expected,
            });
        }
        let path = self.program(expected);
        // The name alone proves nothing.
        if fs::read(&path).is_ok_and(|there| blake3::hash(&there) == found) {
            return Ok(path);
        }
        let part = path.with_extension("part");
        let written = write_new(&part, bytes)
            .and_then(|()| fs::set_permissions(&part, fs::Permissions::from_mode(0o500)))
            .and_then(|()| fs::rename(&part, &path))
            .and_then(|()| crate::directory::fsync_dir(&self.dir));
        match written {
            Ok(()) => Ok(path),
            Err(source) => {
                let _ = fs::remove_file(&part);
                Err(PlaceError::Io { path, source })
            }
        }
    }

    /// Where the program with this hash is, if it was placed.
    pub fn program(&self, hash: &blake3::Hash) -> PathBuf {
        self.dir.join(format!("{PROGRAM}{}", hash.to_hex()))
    }

    /// Removes all programs but those with these hashes. One that runs is not harmed.
    pub fn remove_programs(&self, kept: &[blake3::Hash]) {
        let kept: Vec<PathBuf> = kept.iter().map(|hash| self.program(hash)).collect();
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for file in files {
            let name = file.file_name();
            let name = name.to_string_lossy();
            let is_program = name.starts_with(PROGRAM) && !name.ends_with(".so");
            if is_program && !kept.contains(&file.path()) {
                // It costs room, and nothing else.
                if let Err(error) = fs::remove_file(file.path()) {
                    tracing::warn!(%error, "the program of an earlier node stays");
                }
            }
        }
    }

    /// As [`Libraries::place`], for the bytes of a file: they are read once, and what is
    /// hashed is what is written.
    ///
    /// # Errors
    ///
    /// As there, or the file cannot be read.
    pub fn place_file(
        &self,
        component: &str,
        file: &Path,
        expected: &blake3::Hash,
    ) -> Result<PathBuf, PlaceError> {
        let bytes = fs::read(file).map_err(|source| PlaceError::Io {
            path: file.to_owned(),
            source,
        })?;
        self.place(component, &bytes, expected)
    }

    /// Removes the file of a library that is unloaded. One that is retained keeps its file,
    /// so that its backtraces can be read.
    ///
    /// # Errors
    ///
    /// The path is none that this store has given, or the system refused.
    pub fn remove(&self, path: &Path) -> Result<(), PlaceError> {
        if path.parent() != Some(&self.dir) {
            let source = io::Error::other("it is no library of this store");
            return Err(PlaceError::Io {
                path: path.to_owned(),
                source,
            });
        }
        remove_file(path)
    }

    /// The store's folder, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o400)
        .open(path)?;
    // Not synced: the next process clears the store, whatever is left of it.
    file.write_all(bytes)
}

fn remove_file(path: &Path) -> Result<(), PlaceError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(PlaceError::Io {
            path: path.to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn places_the_same_library_under_another_path_each_time() {
        let dir = tempfile::tempdir().unwrap();
        let libraries = Libraries::new(dir.path().join("loaded")).unwrap();
        let hash = blake3::hash(b"code");
        let first = libraries.place("kv_store", b"code", &hash).unwrap();
        let second = libraries.place("kv_store", b"code", &hash).unwrap();
        assert_ne!(first, second);
        assert_eq!(fs::read(&second).unwrap(), b"code");
        assert_eq!(
            fs::metadata(&first).unwrap().permissions().mode() & 0o777,
            0o400
        );
        let name = first.file_name().unwrap().to_string_lossy().into_owned();
        assert_eq!(name, format!("kv_store-{}-1.so", &hash.to_hex()[..16]));
        libraries.remove(&first).unwrap();
        assert!(!first.exists() && second.exists());
        assert!(libraries.remove(Path::new("/etc/passwd")).is_err());
        Libraries::new(libraries.dir()).unwrap();
        assert!(!second.exists(), "a new process begins with an empty store");
    }

    #[test]
    fn refuses_other_bytes_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let libraries = Libraries::new(dir.path()).unwrap();
        let source = dir.path().join("source");
        fs::write(&source, "changed").unwrap();
        let error = libraries
            .place_file("kv", &source, &blake3::hash(b"code"))
            .unwrap_err();
        assert!(matches!(error, PlaceError::Hash { .. }));
        let error = libraries
            .place("../kv", b"code", &blake3::hash(b"code"))
            .unwrap_err();
        assert!(matches!(error, PlaceError::Name(_)));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
