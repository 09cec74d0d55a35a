//! Which packages a node takes: keys, signatures, sequence numbers, epochs.
//!
//! A node with a trusted key takes what one of its keys has signed, and nothing else. A node
//! without any takes everything: that is for development, and its status says so.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::catalog::ReleaseId;
use crate::package::Seal;

/// The ending of a key's file.
const ENDING: &str = "pub";
/// The largest file of a key, in bytes.
const MAX_KEY: u64 = 4096;

/// Why a release is not trusted.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TrustError {
    /// It is not signed, and must be.
    #[error(
        "{release} is not signed, and this node takes signed releases alone; pack it with a key \
         that the node trusts: {}",
        names(keys)
    )]
    Unsigned {
        /// The release.
        release: ReleaseId,
        /// The names of the trusted keys.
        keys: Vec<String>,
    },
    /// Its signature cannot be read.
    #[error("the signature of {release} cannot be read: {problem}; pack it again")]
    Unreadable {
        /// The release.
        release: ReleaseId,
        /// What is wrong.
        problem: String,
    },
    /// None of the trusted keys has signed it.
    #[error(
        "no trusted key has signed {release}: trusted are {}; pack it with one of those keys, or \
         let the node trust the other one, if you know whose it is",
        names(keys)
    )]
    NotTrusted {
        /// The release.
        release: ReleaseId,
        /// The names of the trusted keys.
        keys: Vec<String>,
    },
    /// It is older than one that was seen.
    #[error(
        "{release} has the sequence number {found}, and {seen} was seen already: it is an older \
         package; take a newer one, or say `--allow-older` if an older one is wanted"
    )]
    Sequence {
        /// The release.
        release: ReleaseId,
        /// Its number.
        found: u64,
        /// The highest that was seen.
        seen: u64,
    },
    /// Two packages with one number.
    #[error(
        "{release} has the sequence number {found}, which another package has already: give each \
         package a number of its own"
    )]
    Twice {
        /// The release.
        release: ReleaseId,
        /// Its number.
        found: u64,
    },
    /// Another release of the same name and version is in use.
    #[error(
        "{release} is in use with other contents: a release never changes; give the new one a new \
         version"
    )]
    Other {
        /// The release.
        release: ReleaseId,
    },
    /// It is of an epoch that is over.
    #[error(
        "{release} is of epoch {found}, and this node is in epoch {floor}: no release of an earlier \
         epoch runs here any more; take one of epoch {floor} or later"
    )]
    Epoch {
        /// The release.
        release: ReleaseId,
        /// Its epoch.
        found: u64,
        /// The earliest that is taken.
        floor: u64,
    },
    /// The keys cannot be read.
    #[error("{path}: the trusted keys cannot be read: {problem}; nothing is taken until they can", path = path.display())]
    Keys {
        /// The folder or file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

fn names(keys: &[String]) -> String {
    if keys.is_empty() {
        return "none that can be read".to_owned();
    }
    keys.join(", ")
}

/// The keys that a node trusts: the files `*.pub` of a folder, in the format of minisign.
#[derive(Debug, Default)]
pub struct TrustedKeys {
    keys: BTreeMap<String, PublicKey>,
    unreadable: BTreeMap<String, String>,
}

impl TrustedKeys {
    /// Reads the keys in a folder; there are none if it is missing. A file that is no key does not
    /// keep the others from being used, but a node where it is the only one takes nothing.
    ///
    /// # Errors
    ///
    /// [`TrustError::Keys`]: whether there are keys cannot be told, and so nothing is trusted.
    pub fn read(folder: &Path) -> Result<TrustedKeys, TrustError> {
        let failed = |error: io::Error| TrustError::Keys {
            path: folder.to_owned(),
            problem: error.to_string(),
        };
        let mut found = TrustedKeys::default();
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(failed(error)),
        };
        for entry in entries {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|ending| ending != ENDING) {
                continue;
            }
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            match read_key(&path) {
                Ok(key) => drop(found.keys.insert(name.into_owned(), key)),
                Err(problem) => drop(found.unreadable.insert(name.into_owned(), problem)),
            }
        }
        Ok(found)
    }

    /// Adds a key under a name.
    pub fn add(&mut self, name: &str, key: PublicKey) {
        self.keys.insert(name.to_owned(), key);
    }

    /// Takes a key away.
    pub fn remove(&mut self, name: &str) {
        self.keys.remove(name);
        self.unreadable.remove(name);
    }

    /// Whether signatures are asked for.
    pub fn are_configured(&self) -> bool {
        !self.keys.is_empty() || !self.unreadable.is_empty()
    }

    /// The names of the keys.
    pub fn names(&self) -> Vec<String> {
        self.keys.keys().cloned().collect()
    }

    /// The files that are no keys, and what is wrong with each.
    pub fn unreadable(&self) -> &BTreeMap<String, String> {
        &self.unreadable
    }

    /// The name of the key that has signed a release; nothing if no keys are configured.
    ///
    /// # Errors
    ///
    /// Keys are configured, and none of them has signed it.
    pub fn check(
        &self,
        release: &ReleaseId,
        seal: Option<&Seal>,
    ) -> Result<Option<String>, TrustError> {
        if !self.are_configured() {
            return Ok(None);
        }
        let Some((seal, text)) = seal.and_then(|seal| Some((seal, seal.signature()?))) else {
            return Err(TrustError::Unsigned {
                release: release.clone(),
                keys: self.names(),
            });
        };
        let signature = Signature::decode(text).map_err(|error| TrustError::Unreadable {
            release: release.clone(),
            problem: error.to_string(),
        })?;
        let bytes = seal.text().as_bytes();
        let signer = self
            .keys
            .iter()
            .find(|(_, key)| key.verify(bytes, &signature, false).is_ok());
        match signer {
            Some((name, _)) => Ok(Some(name.clone())),
            None => Err(TrustError::NotTrusted {
                release: release.clone(),
                keys: self.names(),
            }),
        }
    }
}

/// Reads the public key in a file; the error is what is wrong, in words.
///
/// # Errors
///
/// The file cannot be read, or is no key.
pub fn read_key(path: &Path) -> Result<PublicKey, String> {
    let about = fs::metadata(path).map_err(|error| error.to_string())?;
    if !about.is_file() || about.len() > MAX_KEY {
        return Err("it is no file of a public key".to_owned());
    }
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    PublicKey::decode(&text).map_err(|error| error.to_string())
}

/// What a node has seen of the packages of one release name. Outside of the releases, in the catalog, so
/// that it outlives them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    /// The highest sequence number.
    pub sequence: u64,
    /// The manifest hash of the package with that number.
    pub manifest: String,
    /// The epoch below which no release runs: that of the latest permanent release that had one.
    pub epoch: u64,
}

/// Whether a package may come in, by its numbers.
///
/// # Errors
///
/// It is older than what was seen (unless `allow_older`), or of an epoch that is over.
pub fn check_numbers(
    seal: &Seal,
    seen: Option<&Seen>,
    allow_older: bool,
) -> Result<(), TrustError> {
    let Some(seen) = seen else { return Ok(()) };
    let statement = seal.statement();
    let release = statement.release();
    check_epoch(&release, Some(seal), Some(seen))?;
    let found = statement.sequence;
    if found == seen.sequence && statement.manifest != seen.manifest {
        return Err(TrustError::Twice { release, found });
    }
    if found < seen.sequence && !allow_older {
        return Err(TrustError::Sequence {
            release,
            found,
            seen: seen.sequence,
        });
    }
    Ok(())
}

/// Whether a release may run, by its epoch. One that was built here is of epoch 0.
///
/// # Errors
///
/// [`TrustError::Epoch`].
pub fn check_epoch(
    release: &ReleaseId,
    seal: Option<&Seal>,
    seen: Option<&Seen>,
) -> Result<(), TrustError> {
    let found = seal.map_or(0, |seal| seal.statement().epoch);
    let floor = seen.map_or(0, |seen| seen.epoch);
    if found < floor {
        return Err(TrustError::Epoch {
            release: release.clone(),
            found,
            floor,
        });
    }
    Ok(())
}
