//! The directory of a node: its folders, its paths and its lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;
use rustix::io::Errno;
use thiserror::Error;

use crate::catalog::ReleaseId;
use crate::fault;

/// The folders of a node directory.
pub const FOLDERS: [&str; 4] = ["journal", "releases", "regions", "libraries"];
/// The lock file.
pub const LOCK: &str = "lock";
/// Name of the log of a node in the background: its standard error, opened by whoever starts it.
pub const LOG: &str = "node.log";
/// The control socket.
pub const CONTROL_SOCKET: &str = "control.sock";

/// The folder with the keys that the node trusts; missing where there are none.
pub const TRUSTED_KEYS: &str = "trusted-keys";

/// Files beside the folders that belong to a node.
const FILES: [&str; 11] = [
    LOCK,
    TRUSTED_KEYS,
    crate::catalog::FILE_NAME,
    "catalog.new",
    CONTROL_SOCKET,
    "control.sock.new",
    crate::handover::keeper::SOCKET,
    crate::meeting::NEIGHBOURS,
    crate::meeting::RECORD,
    crate::meeting::RECORD_PART,
    LOG,
];

/// Why a node directory cannot be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DirectoryError {
    /// A node runs in it.
    #[error("{}: a node runs here{}; stop it with `neurath node stop`, or use another directory", path.display(), of_pid(*pid))]
    Busy {
        /// The directory.
        path: PathBuf,
        /// The process that holds the lock, as it wrote itself; for information only.
        pid: Option<u32>,
    },
    /// It is no node directory.
    #[error("{}: not a node directory, `{missing}` is missing; make one with `neurath node start`", path.display())]
    NotANode {
        /// The directory.
        path: PathBuf,
        /// What is missing.
        missing: &'static str,
    },
    /// It holds a node already.
    #[error("{}: holds a node already; open it, or use another directory", path.display())]
    Exists {
        /// The directory.
        path: PathBuf,
    },
    /// It holds something that is no node's.
    #[error("{}: holds `{found}`, which is no node's; use an empty directory", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
        /// The first foreign entry.
        found: String,
    },
    /// A name that cannot be part of a path.
    #[error("`{name}` cannot be the name of a {what}: {reason}; {}", mend(what))]
    Name {
        /// What it names.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The operating system refused a step.
    #[error("{}: cannot {step}: {source}; see to its owner, its mode and the file system", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Where a name comes from, and is to be corrected.
fn mend(what: &str) -> &'static str {
    match what {
        "key" => "give it another one by `--name`",
        _ => "correct it in the manifest",
    }
}

fn of_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

/// The directory of a node, held under its lock for as long as this lives, or until it is given up.
///
/// The lock is the kernel's (`flock`): it ends with the process, however that ends, and there is nothing to clear.
/// A child that was forked and did not `exec` holds it too.
#[derive(Debug)]
pub struct NodeDirectory {
    path: PathBuf,
    lock: File,
}

impl NodeDirectory {
    /// Makes a node directory (mode 0700) at `path`, which is missing or empty, and takes its lock.
    ///
    /// What an interrupted attempt left is completed. The catalog is the caller's to make: it ends the making.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, DirectoryError> {
        let path = path.as_ref();
        make_folder(path)?;
        let path = absolute(path)?;
        if let Some(found) = foreign_entry(&path)? {
            return Err(DirectoryError::NotEmpty { path, found });
        }
        let lock = lock(&path)?;
        if path
            .join(crate::catalog::FILE_NAME)
            .symlink_metadata()
            .is_ok()
        {
            return Err(DirectoryError::Exists { path });
        }
        fault::point("directory.create.before");
        for folder in FOLDERS {
            make_folder(&path.join(folder))?;
        }
        fault::point("directory.create.before-sync");
        let parent = path.parent().unwrap_or(&path);
        for folder in [path.as_path(), parent] {
            match fsync_dir(folder) {
                // The parent may be somebody else's: not to be read.
                Err(error)
                    if folder == parent && error.kind() == io::ErrorKind::PermissionDenied => {}
                Err(source) => {
                    return Err(DirectoryError::Io {
                        path: folder.to_owned(),
                        step: "sync it",
                        source,
                    });
                }
                Ok(()) => {}
            }
        }
        fault::point("directory.create.after-sync");
        Ok(Self { path, lock })
    }

    /// Opens the node directory at `path` and takes its lock.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DirectoryError> {
        let path = absolute(path.as_ref())?;
        for folder in FOLDERS {
            if !path.join(folder).is_dir() {
                return Err(DirectoryError::NotANode {
                    path,
                    missing: folder,
                });
            }
        }
        let lock = lock(&path)?;
        Ok(Self { path, lock })
    }

    /// Opens the node directory at `path`, or makes it where there is none (or only an interrupted beginning).
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self, DirectoryError> {
        let path = path.as_ref();
        if path
            .join(crate::catalog::FILE_NAME)
            .symlink_metadata()
            .is_ok()
        {
            Self::open(path)
        } else {
            Self::create(path)
        }
    }

    /// Opens the node directory at `path` whose lock the node before in this process has taken.
    pub(crate) fn adopt(path: &Path, lock: OwnedFd) -> Result<Self, DirectoryError> {
        let path = absolute(path)?;
        let lock = File::from(lock);
        // Of the same open file it is the same lock; of another one it is somebody else's.
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(_) => return Err(DirectoryError::Busy { path, pid: None }),
        }
        let named = std::fs::symlink_metadata(path.join(LOCK));
        let held = lock.metadata();
        match (named, held) {
            (Ok(named), Ok(held)) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {
                write_holder(&lock).map_err(|source| DirectoryError::Io {
                    path: path.join(LOCK),
                    step: "write the process number into the lock",
                    source,
                })?;
                Ok(Self { path, lock })
            }
            _ => Err(DirectoryError::NotANode {
                path,
                missing: LOCK,
            }),
        }
    }

    /// The lock's descriptor, which a node that takes over goes on with.
    pub(crate) fn lock_descriptor(&self) -> BorrowedFd<'_> {
        self.lock.as_fd()
    }

    /// Gives the lock up before this is dropped. Nothing may be written in the directory after that.
    pub(crate) fn unlock(&self) {
        if let Err(error) = rustix::fs::flock(&self.lock, FlockOperation::Unlock) {
            tracing::warn!(%error, path = %self.path.display(), "the directory stays locked");
        }
    }

    /// The directory, absolute.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// `journal/`
    pub fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// `releases/`
    pub fn releases(&self) -> PathBuf {
        self.path.join("releases")
    }

    /// `trusted-keys/`
    pub fn trusted_keys(&self) -> PathBuf {
        self.path.join(TRUSTED_KEYS)
    }

    /// `regions/`
    pub fn regions(&self) -> PathBuf {
        self.path.join("regions")
    }

    /// `libraries/`: the private store of loaded libraries.
    pub fn libraries(&self) -> PathBuf {
        self.path.join("libraries")
    }

    /// `control.sock`
    pub fn control_socket(&self) -> PathBuf {
        self.path.join(CONTROL_SOCKET)
    }

    /// `releases/NAME-VERSION`
    pub fn release_path(&self, release: &ReleaseId) -> Result<PathBuf, DirectoryError> {
        check_name("release", &release.name)?;
        check_name("release version", &release.version)?;
        Ok(self.releases().join(release.to_string()))
    }

    /// `regions/COMPONENT.INSTANCE.GENERATION`
    pub fn region_path(
        &self,
        component: &str,
        instance: u32,
        generation: u64,
    ) -> Result<PathBuf, DirectoryError> {
        Ok(self
            .regions()
            .join(region_file_name(component, instance, generation)?))
    }

    /// The path of a region by its file name, as the catalog has it.
    pub fn region_file(&self, file: &str) -> Result<PathBuf, DirectoryError> {
        check_name("region file", file)?;
        Ok(self.regions().join(file))
    }

    /// `libraries/COMPONENT-HASH.so`
    pub fn library_path(&self, component: &str, hash: &str) -> Result<PathBuf, DirectoryError> {
        check_name("component", component)?;
        check_name("library hash", hash)?;
        Ok(self.libraries().join(format!("{component}-{hash}.so")))
    }
}

/// The file name of a region: `COMPONENT.INSTANCE.GENERATION`.
pub fn region_file_name(
    component: &str,
    instance: u32,
    generation: u64,
) -> Result<String, DirectoryError> {
    check_name("component", component)?;
    Ok(format!("{component}.{instance}.{generation}"))
}

/// Whether a file in `regions/` is one that a node makes by itself, or one that a tool had begun. Any other is
/// somebody's: what `state restore` or `--reset-state` has kept, a snapshot, a mended copy.
pub(crate) fn is_made_by_a_node(file: &str) -> bool {
    let mut parts = file.rsplitn(3, '.');
    let numbers = [parts.next(), parts.next()];
    let is_number = |part: &Option<&str>| part.is_some_and(|part| part.parse::<u64>().is_ok());
    file.ends_with(".tmp") || numbers.iter().all(is_number) && parts.next().is_some()
}

/// Refuses a name that would lead elsewhere when made part of a path.
pub fn check_name(what: &'static str, name: &str) -> Result<(), DirectoryError> {
    let reason = if name.is_empty() {
        "it is empty"
    } else if name.len() > 128 {
        "it is longer than 128 bytes"
    } else if name.starts_with('.') {
        "it begins with a dot"
    } else if name.contains('/') || name.contains('\\') {
        "it holds a path separator"
    } else if name.chars().any(char::is_control) {
        "it holds a control character"
    } else {
        return Ok(());
    };
    Err(DirectoryError::Name {
        what,
        name: name.to_owned(),
        reason,
    })
}

/// Makes the entries of a directory durable: what was created, renamed or removed in it.
pub fn fsync_dir(path: impl AsRef<Path>) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Writes a file of a folder, in place of one that is there: on the disk when this returns, whole or not at all.
/// `part` is its name until then.
pub(crate) fn replace_file(folder: &Path, part: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
    let part = folder.join(part);
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&part, folder.join(name))?;
    fsync_dir(folder)
}

fn absolute(path: &Path) -> Result<PathBuf, DirectoryError> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(DirectoryError::NotANode {
            path: path.to_owned(),
            missing: "the directory itself",
        }),
        Err(source) => Err(DirectoryError::Io {
            path: path.to_owned(),
            step: "find it",
            source,
        }),
    }
}

fn make_folder(path: &Path) -> Result<(), DirectoryError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(source) => Err(DirectoryError::Io {
            path: path.to_owned(),
            step: "make the folder",
            source,
        }),
    }
}

fn foreign_entry(path: &Path) -> Result<Option<String>, DirectoryError> {
    let failed = |source| DirectoryError::Io {
        path: path.to_owned(),
        step: "list it",
        source,
    };
    for entry in path.read_dir().map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let known = FOLDERS.iter().chain(&FILES).any(|known| name == **known);
        if !known {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

fn lock(directory: &Path) -> Result<File, DirectoryError> {
    let path = directory.join(LOCK);
    let failed = |step| {
        let path = path.clone();
        move |source| DirectoryError::Io { path, step, source }
    };
    loop {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(failed("open the lock"))?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => {
                let mut text = String::new();
                let pid = (&mut file)
                    .take(32)
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                return Err(DirectoryError::Busy {
                    path: directory.to_owned(),
                    pid,
                });
            }
            Err(Errno::INTR) => continue,
            Err(error) => return Err(failed("take the lock")(error.into())),
        }
        // Somebody may have removed the file since it was opened: a lock on a file without a name locks nobody out.
        let held = file.metadata().map_err(failed("look at the lock"))?;
        match std::fs::symlink_metadata(&path) {
            Ok(named) if (named.dev(), named.ino()) == (held.dev(), held.ino()) => {}
            _ => continue,
        }
        write_holder(&file).map_err(failed("write the process number into the lock"))?;
        return Ok(file);
    }
}

/// Writes into the lock which process holds it; for information only.
fn write_holder(lock: &File) -> io::Result<()> {
    let pid = format!("{}\n", std::process::id());
    lock.set_len(0)?;
    lock.write_all_at(pid.as_bytes(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Until its program begins, a process that another test starts has what this one has open, and so its locks.
    fn given_back(
        take: impl Fn() -> Result<NodeDirectory, DirectoryError>,
    ) -> Result<NodeDirectory, DirectoryError> {
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            match take() {
                Err(DirectoryError::Busy { .. }) if std::time::Instant::now() < until => {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                taken => return taken,
            }
        }
    }

    #[test]
    fn a_directory_is_made_locked_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node");
        assert!(matches!(
            NodeDirectory::open(&path),
            Err(DirectoryError::NotANode { .. })
        ));
        let node = NodeDirectory::create(&path).unwrap();
        for made in FOLDERS.map(|name| path.join(name)).iter().chain([&path]) {
            assert_eq!(made.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        }
        match NodeDirectory::open(&path) {
            Err(DirectoryError::Busy { pid, .. }) => assert_eq!(pid, Some(std::process::id())),
            other => panic!("{other:?}"),
        }
        drop(node);
        // Without a catalog the making has not ended: it may be repeated.
        drop(given_back(|| NodeDirectory::create(&path)).unwrap());
        crate::catalog::Catalog::create(&path).unwrap();
        assert!(matches!(
            given_back(|| NodeDirectory::create(&path)),
            Err(DirectoryError::Exists { .. })
        ));
        drop(given_back(|| NodeDirectory::open_or_create(&path)).unwrap());
        drop(given_back(|| NodeDirectory::open(&path)).unwrap());
    }

    #[test]
    fn a_lock_dies_with_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        drop(NodeDirectory::create(folder.path()).unwrap());
        let mut holder = match std::process::Command::new("flock")
            // It waits: this test has the lock itself at times.
            .arg("--no-fork")
            .arg(folder.path().join(LOCK))
            .args(["sleep", "60"])
            .spawn()
        {
            Ok(holder) => holder,
            Err(_) => return, // no util-linux here
        };
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while NodeDirectory::open(folder.path()).is_ok() && std::time::Instant::now() < until {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        assert!(matches!(
            NodeDirectory::open(folder.path()),
            Err(DirectoryError::Busy { .. })
        ));
        holder.kill().unwrap();
        holder.wait().unwrap();
        given_back(|| NodeDirectory::open(folder.path())).unwrap();
    }

    #[test]
    fn a_directory_of_something_else_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("thesis.tex"), "").unwrap();
        match NodeDirectory::create(folder.path()) {
            Err(DirectoryError::NotEmpty { found, .. }) => assert_eq!(found, "thesis.tex"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let node = NodeDirectory::create(folder.path()).unwrap();
        assert!(
            node.region_path("store", 1, 2)
                .unwrap()
                .ends_with("regions/store.1.2")
        );
        assert!(
            node.release_path(&ReleaseId::new("shop", "1.0.0"))
                .unwrap()
                .ends_with("releases/shop-1.0.0")
        );
        for name in [
            "",
            "..",
            "../x",
            "a/b",
            "/etc",
            "a\\b",
            "a\0b",
            ".hidden",
            &"x".repeat(200),
        ] {
            assert!(node.region_path(name, 0, 0).is_err(), "{name:?}");
            assert!(
                node.release_path(&ReleaseId::new(name, "1")).is_err(),
                "{name:?}"
            );
            assert!(
                node.release_path(&ReleaseId::new("shop", name)).is_err(),
                "{name:?}"
            );
            assert!(node.library_path(name, "00").is_err(), "{name:?}");
        }
    }
}
