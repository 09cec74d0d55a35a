//! `meeting.json` in a node's directory: the last meeting from which it went on.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Went;
use crate::directory::replace_file;

/// The record.
pub(crate) const FILE_NAME: &str = "meeting.json";
/// The record while it is written.
pub(crate) const PART_NAME: &str = "meeting.json.part";
/// The version of the format that this code writes.
const VERSION: u32 = 1;
/// The longest record, in bytes.
const LIMIT: u64 = 1024 * 1024;

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    version: u32,
    went: T,
}

/// Why the record cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The system refused.
    #[error("{}: {source}; see to the directory", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// It is of a newer format.
    #[error("{}: format {version}, and this node knows {VERSION}; use a newer one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        version: u32,
    },
    /// It is damaged.
    #[error("{}: {problem}; move it away if no other node waits for what it says", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What is recorded, if anything is.
pub(super) fn read(directory: &Path) -> Result<Option<Went>, RecordError> {
    let path = directory.join(FILE_NAME);
    let failed = |source| RecordError::Io {
        path: path.clone(),
        source,
    };
    let damaged = |problem: String| RecordError::Damaged {
        path: path.clone(),
        problem,
    };
    let file = match std::fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > LIMIT {
        return Err(damaged(format!("it is longer than {LIMIT} bytes")));
    }
    let found: Versioned<serde_json::Value> =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if found.version > VERSION {
        let version = found.version;
        return Err(RecordError::Newer { path, version });
    }
    let went = serde_json::from_value(found.went).map_err(|error| damaged(error.to_string()))?;
    Ok(Some(went))
}

/// Records a meeting: it is on the disk when this returns, whole or not at all.
pub(super) fn write(directory: &Path, went: &Went) -> Result<(), RecordError> {
    let record = Versioned {
        version: VERSION,
        went,
    };
    let written = serde_json::to_vec(&record)
        .map_err(io::Error::from)
        .and_then(|bytes| replace_file(directory, PART_NAME, FILE_NAME, &bytes));
    written.map_err(|source| RecordError::Io {
        path: directory.join(FILE_NAME),
        source,
    })
}

/// Sees to it that a meeting whose recording failed is not found. What cannot be removed was not to be written either.
pub(super) fn take_back(directory: &Path, went: &Went) {
    let recorded = read(directory).is_ok_and(|found| found.as_ref() == Some(went));
    if recorded && let Err(error) = std::fs::remove_file(directory.join(FILE_NAME)) {
        tracing::error!(%error, "a meeting that was given up is recorded as if it were not");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ReleaseId;
    use crate::meeting::Trip;

    /// What this format looks like, for ever.
    const FIXTURE: &str = r#"{"version":1,"went":{"meeting":"east-1","point":"all","trips":{"east":{"from":{"name":"kv","version":"1.0.0"},"to":{"name":"kv","version":"1.1.0"}}}}}"#;

    fn went() -> Went {
        let trip = Trip {
            from: ReleaseId::new("kv", "1.0.0"),
            to: ReleaseId::new("kv", "1.1.0"),
        };
        Went {
            meeting: "east-1".into(),
            point: "all".into(),
            trips: [("east".to_owned(), trip)].into(),
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), None);
        write(folder.path(), &went()).unwrap();
        assert_eq!(read(folder.path()).unwrap(), Some(went()));
        let text = std::fs::read_to_string(folder.path().join(FILE_NAME)).unwrap();
        assert_eq!(text, FIXTURE);
    }

    #[test]
    fn damage_and_newer_formats_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        for length in 0..FIXTURE.len() {
            std::fs::write(&path, &FIXTURE[..length]).unwrap();
            let error = read(folder.path()).unwrap_err();
            assert!(matches!(error, RecordError::Damaged { .. }), "{length}");
        }
        std::fs::write(&path, r#"{"version":2,"went":7}"#).unwrap();
        let error = read(folder.path()).unwrap_err();
        assert!(matches!(error, RecordError::Newer { version: 2, .. }));
    }
}
