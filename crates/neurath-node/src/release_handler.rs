//! What a node does with releases that do not run: takes them in, checks them, removes them; and which
//! keys it trusts. Named after OTP's.
//!
//! A release is known once the catalog has it, with the hash of what was verified. Whatever is loaded
//! later is checked against that hash, and against the keys, again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalog::{Catalog, CatalogError, ReleaseEntry, ReleaseId, ReleaseStatus, State};
use crate::directory::{DirectoryError, NodeDirectory, fsync_dir, replace_file};
use crate::fault;
use crate::journal::{Journal, JournalError, Kind, Verdict};
use crate::node::delete_snapshot;
use crate::package::{self, PackageError, Seal};
use crate::protocol::code;
use crate::release::{self, ReleaseError, ReleasePackage};
use crate::trust::{TrustError, TrustedKeys, check_epoch, check_numbers};

/// Why something was not done with a release. Nothing has changed then, unless said otherwise.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HandlerError {
    /// The node does not know the release.
    #[error(
        "{0} is not unpacked in this node; `neurath release unpack` takes a package in, and `neurath release set-unpacked` a folder in releases/"
    )]
    NotUnpacked(ReleaseId),
    /// What is in the folder is not what was unpacked.
    #[error(
        "{release} was changed after it was unpacked: its manifest has the hash {found}, not {expected}; remove it and unpack it again"
    )]
    Changed {
        /// The release.
        release: ReleaseId,
        /// The hash now.
        found: String,
        /// The hash then.
        expected: String,
    },
    /// The release runs, or is what the node goes back to.
    #[error("{release} is the {status} release{}; it cannot be removed: leave it first, by `neurath relup apply` of another one and `neurath relup confirm`", or_way_back(*way_back))]
    InUse {
        /// The release.
        release: ReleaseId,
        /// What it is.
        status: ReleaseStatus,
        /// Whether it is the way back of the current one.
        way_back: bool,
    },
    /// The way back of the current release may lead through it.
    #[error(
        "the way back of the current release may lead through {0}: confirm the release by `neurath relup confirm`, or go back by `neurath relup rollback`, first"
    )]
    OnTheWayBack(ReleaseId),
    /// A folder that has the name of another release.
    #[error("the folder {folder} holds {holds}; give it that name, or put {folder} there")]
    Misnamed {
        /// Its name, that of a release.
        folder: ReleaseId,
        /// What is in it.
        holds: ReleaseId,
    },
    /// Without this key, or with this one alone, a release that is needed would not be trusted.
    #[error(
        "{release} is in use, and would not be trusted any more: {source}. Unpack a package of the same release that a trusted key has signed first"
    )]
    Distrusts {
        /// The release.
        release: ReleaseId,
        /// Why not.
        source: Box<TrustError>,
    },
    /// No such snapshot.
    #[error("no snapshot is called {name}; there are: {}", or_none(.known))]
    NoSnapshot {
        /// The name.
        name: String,
        /// The snapshots there are.
        known: Vec<String>,
    },
    /// The snapshot is what the current release goes back to.
    #[error(
        "the way back of the current release needs the snapshot {0}; confirm the release by `neurath relup confirm`, or go back, first"
    )]
    SnapshotInUse(String),
    /// No such key.
    #[error("no trusted key is called {name}; there are: {}", or_none(.keys))]
    NoKey {
        /// The name.
        name: String,
        /// The keys there are.
        keys: Vec<String>,
    },
    /// A text that is no key.
    #[error(
        "{name}: {problem}; give the file that `neurath release keygen` or minisign made, which ends in .pub"
    )]
    BadKey {
        /// The name.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Keys, signatures, sequence numbers, epochs.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The package cannot be used.
    #[error(transparent)]
    Package(#[from] PackageError),
    /// The release cannot be used.
    #[error(transparent)]
    Release(#[from] ReleaseError),
    /// The catalog could not be written.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// The journal could not be written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A name that cannot be part of a path.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn or_none(names: &[String]) -> String {
    match names {
        [] => "none".to_owned(),
        names => names.join(", "),
    }
}

fn or_way_back(way_back: bool) -> &'static str {
    if way_back {
        ", or the way back of it"
    } else {
        ""
    }
}

impl HandlerError {
    /// What is wrong, without a line of what a manifest says: for logs and the journal.
    pub fn brief(&self) -> String {
        match self {
            Self::Release(ReleaseError::Content(found))
            | Self::Package(PackageError::Release(ReleaseError::Content(found))) => found.brief(),
            other => other.to_string(),
        }
    }

    /// The exit code of the command line, see [`code`].
    pub fn code(&self) -> u8 {
        match self {
            Self::Trust(_) | Self::Distrusts { .. } => code::SIGNATURE,
            Self::Package(PackageError::Trust(_)) => code::SIGNATURE,
            Self::NotUnpacked(_)
            | Self::NoKey { .. }
            | Self::BadKey { .. }
            | Self::NoSnapshot { .. } => code::USAGE,
            Self::Changed { .. } | Self::Misnamed { .. } | Self::Package(_) | Self::Release(_) => {
                code::LINT
            }
            Self::Directory(DirectoryError::Name { what: "key", .. }) => code::USAGE,
            Self::InUse { .. } | Self::OnTheWayBack(_) | Self::SnapshotInUse(_) => code::BUSY,
            Self::Journal(error) if error.is_edited() => code::HISTORY,
            _ => code::OPERATOR,
        }
    }
}

/// A release that a node has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct ReleaseInfo {
    /// Which.
    pub release: ReleaseId,
    /// What it is to the node; nothing for a folder that the node does not know.
    pub status: Option<ReleaseStatus>,
    /// BLAKE3 hash of its manifest, if it was unpacked.
    pub manifest: Option<String>,
    /// The sequence number of its package, if it came in one.
    pub sequence: Option<u64>,
    /// The epoch of its package.
    pub epoch: u64,
    /// The trusted key that has signed it.
    pub signer: Option<String>,
    /// What keeps it from being used.
    pub problem: Option<String>,
}

/// A release that can be loaded: whole, as it was unpacked, trusted, and of an epoch that is not over.
///
/// # Errors
///
/// [`HandlerError`].
pub fn open_for_use(
    directory: &NodeDirectory,
    state: &State,
    release: &ReleaseId,
) -> Result<Arc<ReleasePackage>, HandlerError> {
    let entry = state
        .entry(release)
        .ok_or_else(|| HandlerError::NotUnpacked(release.clone()))?;
    let package = ReleasePackage::open(&directory.release_path(release)?)?;
    let found = package.hash().to_hex().to_string();
    if found != entry.manifest {
        return Err(HandlerError::Changed {
            release: release.clone(),
            found,
            expected: entry.manifest.clone(),
        });
    }
    let keys = TrustedKeys::read(&directory.trusted_keys())?;
    keys.check(release, package.seal())?;
    check_epoch(release, package.seal(), state.seen.get(&release.name))?;
    Ok(Arc::new(package))
}

/// A built release that the node could take in: whole, and trusted.
///
/// # Errors
///
/// [`HandlerError`].
pub fn open_built(
    directory: &NodeDirectory,
    state: &State,
    folder: &Path,
) -> Result<Arc<ReleasePackage>, HandlerError> {
    let package = ReleasePackage::open(folder)?;
    admit(directory, state, &package)?;
    Ok(Arc::new(package))
}

/// Whether a release may come in, by its seal.
fn admit(
    directory: &NodeDirectory,
    state: &State,
    package: &ReleasePackage,
) -> Result<(), HandlerError> {
    let keys = TrustedKeys::read(&directory.trusted_keys())?;
    let release = package.id();
    keys.check(&release, package.seal())?;
    let seen = state.seen.get(&release.name);
    match package.seal() {
        Some(seal) => check_numbers(seal, seen, true)?,
        None => check_epoch(&release, None, seen)?,
    }
    let manifest = package.hash().to_hex();
    Ok(same_if_needed(state, &release, manifest.as_str())?)
}

/// A node's directory, opened for changes of its releases and keys.
#[derive(Debug)]
pub struct ReleaseHandler<'a> {
    directory: &'a NodeDirectory,
    catalog: &'a mut Catalog,
    journal: &'a mut Journal,
    who: &'a str,
}

impl<'a> ReleaseHandler<'a> {
    /// For these, on behalf of `who`.
    pub fn new(
        directory: &'a NodeDirectory,
        catalog: &'a mut Catalog,
        journal: &'a mut Journal,
        who: &'a str,
    ) -> Self {
        Self {
            directory,
            catalog,
            journal,
            who,
        }
    }

    /// Unpacks a package: everything of it is verified before the release is there.
    ///
    /// # Errors
    ///
    /// It cannot be used, is not trusted, or is older than one that was seen (unless `allow_older`).
    pub fn unpack(&mut self, file: &Path, allow_older: bool) -> Result<ReleaseInfo, HandlerError> {
        let keys = TrustedKeys::read(&self.directory.trusted_keys())?;
        let subject = format!("unpack {}", file.display());
        self.recorded("unpack", &subject, None, |this| {
            release::remove_parts(&this.directory.releases())?;
            let state = this.catalog.state();
            let admit = |seal: &Seal| {
                let release = seal.statement().release();
                keys.check(&release, Some(seal))?;
                check_numbers(seal, state.seen.get(&release.name), allow_older)?;
                same_if_needed(state, &release, &seal.statement().manifest)
            };
            let unpacked = package::unpack_if(file, &this.directory.releases(), admit)?;
            this.take_in(&unpacked.release)
        })
    }

    /// Copies a built release in, if it is trusted.
    ///
    /// # Errors
    ///
    /// It cannot be used or is not trusted.
    pub fn install(&mut self, folder: &Path) -> Result<ReleaseInfo, HandlerError> {
        let built = ReleasePackage::open(folder)?;
        let release = built.id();
        self.recorded(
            "install",
            &format!("install {release}"),
            Some(&release),
            |this| {
                this.admit(&built)?;
                release::remove_parts(&this.directory.releases())?;
                let copy = built.install(&this.directory.releases())?;
                fault::point("release.install.placed");
                this.take_in(&copy)
            },
        )
    }

    /// Takes in a release whose folder was put into `releases/` by other means.
    ///
    /// # Errors
    ///
    /// It is not there, cannot be used or is not trusted.
    pub fn set_unpacked(&mut self, release: &ReleaseId) -> Result<ReleaseInfo, HandlerError> {
        let folder = self.directory.release_path(release)?;
        let subject = format!("set {release} unpacked");
        self.recorded("set-unpacked", &subject, Some(release), |this| {
            let package = ReleasePackage::open(&folder)?;
            if package.id() != *release {
                return Err(HandlerError::Misnamed {
                    folder: release.clone(),
                    holds: package.id(),
                });
            }
            this.admit(&package)?;
            this.take_in(&package)
        })
    }

    /// Removes a release that is not in use; whether it was there. Other releases lose nothing: each has
    /// all its files in its own folder.
    ///
    /// # Errors
    ///
    /// It is in use, or the system refused: then it can be removed again.
    pub fn remove(&mut self, release: &ReleaseId) -> Result<bool, HandlerError> {
        let state = self.catalog.state();
        if state.is_on_the_way_back(release) {
            return Err(HandlerError::OnTheWayBack(release.clone()));
        }
        if state.needs(release) {
            let status = state.status(release).unwrap_or(ReleaseStatus::Permanent);
            return Err(HandlerError::InUse {
                release: release.clone(),
                status,
                way_back: status == ReleaseStatus::Old || state.previous.is_some(),
            });
        }
        let place = self.directory.release_path(release)?;
        if state.entry(release).is_none() && place.symlink_metadata().is_err() {
            return Ok(false);
        }
        self.recorded(
            "remove",
            &format!("remove {release}"),
            Some(release),
            |this| {
                release::remove_parts(&this.directory.releases())?;
                // From its place first: a release that is known and not there can be removed again, one that
                // is there and not known would stay for ever.
                release::remove(&this.directory.releases(), release)?;
                let mut state = this.catalog.state().clone();
                state.releases.retain(|one| one.release != *release);
                this.commit(state)
            },
        )?;
        Ok(true)
    }

    /// Deletes a snapshot of a state that was thrown away; the bytes of its file.
    ///
    /// # Errors
    ///
    /// There is none of this name, the way back needs it, or the system refused.
    pub fn remove_snapshot(&mut self, name: &str) -> Result<u64, HandlerError> {
        let state = self.catalog.state();
        if state.snapshot(name).is_none() {
            let known = state.snapshots.iter().map(|one| one.region.file.clone());
            return Err(HandlerError::NoSnapshot {
                name: name.to_owned(),
                known: known.collect(),
            });
        }
        if state.goes_back_to(name) {
            return Err(HandlerError::SnapshotInUse(name.to_owned()));
        }
        let subject = format!("remove the snapshot {name}");
        self.recorded("remove-snapshot", &subject, None, |this| {
            // From the catalog first: a file that it does not name is removed by the next start.
            let mut state = this.catalog.state().clone();
            state.snapshots.retain(|one| one.region.file != name);
            this.commit(state)?;
            let deleted = delete_snapshot(this.directory, name);
            deleted.map_err(|source| HandlerError::Io {
                path: this.directory.regions().join(name),
                source,
            })
        })
    }

    /// Lets the node trust a key, from now on with the others.
    ///
    /// # Errors
    ///
    /// It is no key, or a release that is needed would not be trusted.
    pub fn trust(&mut self, name: &str, key: &str) -> Result<Vec<String>, HandlerError> {
        let bad = |problem: String| HandlerError::BadKey {
            name: name.to_owned(),
            problem,
        };
        let parsed = minisign_verify::PublicKey::decode(key).map_err(|e| bad(e.to_string()))?;
        crate::directory::check_name("key", name)?;
        let mut keys = TrustedKeys::read(&self.directory.trusted_keys())?;
        keys.add(name, parsed);
        self.check_needed(&keys)?;
        let folder = self.directory.trusted_keys();
        self.recorded("trust", &format!("trust the key {name}"), None, |_| {
            let failed = |source| HandlerError::Io {
                path: folder.clone(),
                source,
            };
            write_key(&folder, name, key).map_err(failed)
        })?;
        Ok(keys.names())
    }

    /// Takes a key away.
    ///
    /// # Errors
    ///
    /// There is none, or a release that is needed would not be trusted.
    pub fn distrust(&mut self, name: &str) -> Result<Vec<String>, HandlerError> {
        let mut keys = TrustedKeys::read(&self.directory.trusted_keys())?;
        let known = keys.names();
        if !known.iter().any(|one| one == name) && !keys.unreadable().contains_key(name) {
            return Err(HandlerError::NoKey {
                name: name.to_owned(),
                keys: known,
            });
        }
        keys.remove(name);
        self.check_needed(&keys)?;
        let folder = self.directory.trusted_keys();
        self.recorded(
            "distrust",
            &format!("distrust the key {name}"),
            None,
            |_| {
                let path = folder.join(format!("{name}.pub"));
                let removed = fs::remove_file(&path).and_then(|()| fsync_dir(&folder));
                removed.map_err(|source| HandlerError::Io { path, source })
            },
        )?;
        Ok(keys.names())
    }

    /// Every release that is needed must stay one that can be loaded.
    fn check_needed(&self, keys: &TrustedKeys) -> Result<(), HandlerError> {
        let state = self.catalog.state();
        let known = state.releases.iter().map(|one| &one.release);
        for release in known.filter(|release| state.needs(release)) {
            let package = match ReleasePackage::open(&self.directory.release_path(release)?) {
                Ok(package) => package,
                // No way leads through what cannot be used.
                Err(_) if !state.may_run(release) => continue,
                Err(error) => return Err(error.into()),
            };
            keys.check(release, package.seal())
                .map_err(|source| HandlerError::Distrusts {
                    release: release.clone(),
                    source: Box::new(source),
                })?;
        }
        Ok(())
    }

    /// Whether a release may come in, by its seal.
    fn admit(&self, package: &ReleasePackage) -> Result<(), HandlerError> {
        admit(self.directory, self.catalog.state(), package)
    }

    /// Registers a release that is in its place.
    fn take_in(&mut self, package: &ReleasePackage) -> Result<ReleaseInfo, HandlerError> {
        let entry = entry_of(package);
        let mut state = self.catalog.state().clone();
        // Known already: nothing to be committed.
        if state.entry(&entry.release).is_none_or(|known| {
            let same = ReleaseEntry {
                ran: known.ran,
                ..entry.clone()
            };
            *known != same
        }) {
            state.take_in(entry.clone());
            self.commit(state)?;
        }
        info(self.directory, self.catalog.state(), &entry.release)
    }

    fn commit(&mut self, mut state: State) -> Result<(), HandlerError> {
        state.journal = self.journal.mark();
        state.sequence += 1;
        fault::point("release.commit.before");
        self.catalog.commit(state)?;
        fault::point("release.commit.after");
        Ok(())
    }

    /// Does something that the journal tells of.
    fn recorded<T>(
        &mut self,
        operation: &str,
        subject: &str,
        release: Option<&ReleaseId>,
        work: impl FnOnce(&mut Self) -> Result<T, HandlerError>,
    ) -> Result<T, HandlerError> {
        let id = self.journal.next_operation(operation);
        let started = Kind::Started {
            operation: operation.to_owned(),
            plan_id: None,
            from: None,
            to: release.cloned(),
        };
        self.journal.append(&id, self.who, started)?;
        let done = work(self);
        let (verdict, text) = match &done {
            Ok(_) => (Verdict::Done, subject.to_owned()),
            Err(error) => (Verdict::Failed, format!("{subject}: {}", error.brief())),
        };
        // What was done is done: that it could not be recorded must not look like a failure of it.
        if let Err(error) = self.journal.end(&id, self.who, verdict, text) {
            tracing::error!(%error, "an operation's end could not be recorded yet");
        }
        done
    }
}

/// What the catalog keeps of a release.
pub(crate) fn entry_of(package: &ReleasePackage) -> ReleaseEntry {
    let statement = package.seal().map(Seal::statement);
    ReleaseEntry {
        release: package.id(),
        manifest: package.hash().to_hex().to_string(),
        sequence: statement.map_or(0, |one| one.sequence),
        epoch: statement.map_or(0, |one| one.epoch),
        ran: false,
    }
}

/// What a node knows of a release.
///
/// # Errors
///
/// The node does not know it.
pub fn info(
    directory: &NodeDirectory,
    state: &State,
    release: &ReleaseId,
) -> Result<ReleaseInfo, HandlerError> {
    let entry = state
        .entry(release)
        .ok_or_else(|| HandlerError::NotUnpacked(release.clone()))?;
    let opened = open_for_use(directory, state, release);
    let signer = opened.as_ref().ok().and_then(|package| {
        let keys = TrustedKeys::read(&directory.trusted_keys()).ok()?;
        keys.check(release, package.seal()).ok()?
    });
    Ok(ReleaseInfo {
        release: release.clone(),
        status: state.status(release),
        manifest: Some(entry.manifest.clone()),
        sequence: (entry.sequence > 0).then_some(entry.sequence),
        epoch: entry.epoch,
        signer,
        problem: opened.err().map(|error| error.to_string()),
    })
}

/// All releases that a node has, by name and version; with the folders that it does not know.
///
/// # Errors
///
/// The folder of releases cannot be read.
pub fn which(directory: &NodeDirectory, state: &State) -> Result<Vec<ReleaseInfo>, HandlerError> {
    let mut found = Vec::new();
    for entry in &state.releases {
        found.push(info(directory, state, &entry.release)?);
    }
    let folder = directory.releases();
    let failed = |source| HandlerError::Io {
        path: directory.releases(),
        source,
    };
    for entry in fs::read_dir(&folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let known = found.iter().any(|one| one.release.to_string() == name);
        if known || name.starts_with('.') {
            continue;
        }
        let (release, problem) = match ReleasePackage::open(&path) {
            Ok(package) if package.id().to_string() != name => (
                ReleaseId::new(name.clone(), ""),
                format!("the folder holds {0}; name it {0}", package.id()),
            ),
            Ok(package) => (
                package.id(),
                format!("it was not unpacked; `neurath release set-unpacked {name}` takes it in"),
            ),
            Err(error) => (ReleaseId::new(name.clone(), ""), error.to_string()),
        };
        found.push(ReleaseInfo {
            release,
            status: None,
            manifest: None,
            sequence: None,
            epoch: 0,
            signer: None,
            problem: Some(problem),
        });
    }
    found.sort_by(|a, b| {
        let version = |one: &ReleaseInfo| semver::Version::parse(&one.release.version).ok();
        (&a.release.name, version(a)).cmp(&(&b.release.name, version(b)))
    });
    Ok(found)
}

/// A release that is needed is not exchanged for another one of its name.
fn same_if_needed(state: &State, release: &ReleaseId, manifest: &str) -> Result<(), TrustError> {
    match state.entry(release) {
        Some(entry) if state.needs(release) && entry.manifest != manifest => {
            Err(TrustError::Other {
                release: release.clone(),
            })
        }
        _ => Ok(()),
    }
}

fn write_key(folder: &Path, name: &str, key: &str) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    let (part, path) = (format!(".{name}.part"), format!("{name}.pub"));
    replace_file(folder, &part, &path, key.as_bytes())
}
