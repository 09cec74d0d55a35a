//! Why a journal was not read or written.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::LINE_LIMIT;

/// Why the journal cannot be read or written.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A line does not continue the one before: history was edited, or the disk damaged.
    #[error("{}, line {line}: {reason}; the history was edited or damaged: keep the folder for inquiry and restore it from a backup, or set it aside by `neurath relup log --set-aside`", file.display())]
    Broken {
        /// The file.
        file: PathBuf,
        /// The line in that file, from 1.
        line: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A file of the sequence is missing.
    #[error("{}: journal file number {expected} is missing before number {found}; restore it from a backup", folder.display())]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The number that is missing.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// Lines that were written are not there any more.
    #[error("{}: the journal ends with record {found}, and record {expected} was written: its end was cut off; keep the folder for inquiry and restore it from a backup, or set it aside by `neurath relup log --set-aside`", folder.display())]
    Shortened {
        /// The folder.
        folder: PathBuf,
        /// The last record that is there.
        found: u64,
        /// The record that the catalog knows of.
        expected: u64,
    },
    /// A record is not the one that was written.
    #[error("{}: record {sequence} is not the one that was written: the history was written anew; keep the folder for inquiry and restore it from a backup, or set it aside by `neurath relup log --set-aside`", folder.display())]
    Rewritten {
        /// The folder.
        folder: PathBuf,
        /// The record.
        sequence: u64,
    },
    /// A record is longer than a line may be. Nothing was written.
    #[error(
        "a record of {bytes} bytes is longer than the {LINE_LIMIT} of a line; shorten its text"
    )]
    TooLong {
        /// Bytes of the line.
        bytes: usize,
    },
    /// A record could not be made JSON. Nothing was written.
    #[error("a record cannot be written as JSON: {0}; nothing was written")]
    Encode(#[from] serde_json::Error),
    /// An earlier append could not be taken back.
    #[error("{}: an earlier write failed and could not be taken back; see to the file system and start the node again", file.display())]
    Poisoned {
        /// The file.
        file: PathBuf,
    },
    /// There is no room to record an operation to its end. Nothing was begun.
    #[error("{}: there is no room to record `{operation}` to its end ({source}), and nothing was begun; make room on that disk, then try again: until then the node serves, goes back, is confirmed, stops and starts", folder.display())]
    NoRoom {
        /// The folder.
        folder: PathBuf,
        /// The operation.
        operation: String,
        /// What the system said.
        source: io::Error,
    },
    /// The operating system refused a step.
    #[error("{}: cannot {step}: {source}; see to the file system, then try again", path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl JournalError {
    /// Whether the history is not what was written, as far as that can be told from damage.
    pub fn is_edited(&self) -> bool {
        matches!(
            self,
            Self::Broken { .. }
                | Self::MissingFile { .. }
                | Self::Shortened { .. }
                | Self::Rewritten { .. }
        )
    }
}

pub(super) fn io_error(path: &Path, step: &'static str) -> impl FnOnce(io::Error) -> JournalError {
    let path = path.to_owned();
    move |source| JournalError::Io { path, step, source }
}
