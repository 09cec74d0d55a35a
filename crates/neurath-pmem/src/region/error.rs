//! What can go wrong with a region, and what to do about it.

use std::path::{Path, PathBuf};

use super::media::Durability;
use crate::schema::{Fingerprint, SchemaError, hex};

/// Why a file is not a region that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Too short to be one.
    #[error("the file has {found} bytes, and {needed} are needed for {what}; it was cut short")]
    Truncated {
        /// Bytes that are there.
        found: u64,
        /// Bytes that must be.
        needed: u64,
        /// For what.
        what: &'static str,
    },
    /// The first bytes are not a region's.
    #[error("the file does not begin as a region does; it is another kind of file")]
    Magic,
    /// The region was written by another version.
    #[error("the region has format {found}, and this program reads {known}; use a newer program")]
    Version {
        /// The format of the file.
        found: u32,
        /// The format of this program.
        known: u32,
    },
    /// It needs a feature that this version does not know.
    #[error("the region uses features {bits:#x} that this program does not know; use a newer one")]
    Feature {
        /// The unknown bits.
        bits: u64,
    },
    /// A checksum does not fit its contents.
    #[error("the checksum of {what} is wrong; the file is damaged: restore it from a snapshot")]
    Checksum {
        /// Of what.
        what: String,
    },
    /// A record that was committed and applied is not whole any more.
    #[error(
        "the log's record {record} was committed, and is damaged; replaying the one before would \
         bring older values back: restore the region from a snapshot"
    )]
    Applied {
        /// Its number.
        record: u64,
    },
    /// A field holds what it cannot hold.
    #[error("{field} is {value}, which cannot be; the file is damaged: restore it from a snapshot")]
    Field {
        /// The field.
        field: &'static str,
        /// Its value.
        value: u64,
    },
    /// A superblock of another region.
    #[error("a superblock belongs to another region; two files were mixed")]
    Foreign,
    /// The schema in it cannot be read.
    #[error("the region's schema: {0}")]
    Schema(#[from] SchemaError),
    /// A check of what comes first in the file finds nothing to go on with.
    #[error("{error}; `state check` lists all that is wrong")]
    Unreadable {
        /// The first error that it finds.
        error: String,
    },
}

/// Why a region cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not a usable region.
    #[error("{}: {source}", path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: FormatError,
    },
    /// Somebody else has it open.
    #[error("{} is in use by another process; stop that one first", path.display())]
    Busy {
        /// Which file.
        path: PathBuf,
    },
    /// It belongs to another component or instance.
    #[error(
        "{} belongs to {found}, not to {wanted}; give each instance its own file", path.display()
    )]
    Owner {
        /// Which file.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        wanted: String,
    },
    /// The state in it has another schema.
    #[error(
        "{} holds a state of schema {}, and {} was expected; migrate it", path.display(),
        hex(*found), hex(*wanted)
    )]
    Schema {
        /// Which file.
        path: PathBuf,
        /// The schema in the file.
        found: Fingerprint,
        /// The schema asked for.
        wanted: Fingerprint,
    },
    /// The machine died while the region was open for the death of a process only.
    #[error(
        "{} was open when the machine went down, with durability `process`: its last changes \
         may be there in any mixture; restore a snapshot, or accept the loss by its name",
        path.display()
    )]
    PowerLost {
        /// Which file.
        path: PathBuf,
    },
    /// A durability that cannot be had.
    #[error("durability `{durability}` cannot be had for {}: {reason}", path.display())]
    Durability {
        /// Which file.
        path: PathBuf,
        /// What was asked for.
        durability: Durability,
        /// Why not.
        reason: String,
    },
    /// The limit leaves no room.
    #[error(
        "a limit of {limit} bytes is too small or too large; a region takes from 4 MiB to 1 TiB"
    )]
    Limit {
        /// The limit asked for.
        limit: u64,
    },
}

/// Why a transaction could not be committed or a region not changed.
#[derive(Debug, thiserror::Error)]
pub enum RegionError {
    /// The region has reached its limit.
    #[error("the region has reached its limit of {limit} bytes; raise it in the manifest")]
    Limit {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The file could not grow.
    #[error("cannot grow the region's file by {bytes} bytes: {source}")]
    Grow {
        /// By how much.
        bytes: u64,
        /// Why not.
        source: std::io::Error,
    },
    /// The transaction is larger than a commit record.
    #[error("the transaction needs {needed} bytes in the log, and {limit} is the limit")]
    TooLarge {
        /// Bytes needed.
        needed: u64,
        /// Bytes that a record may have.
        limit: u64,
    },
    /// A reference to nothing, or to an object of another type.
    #[error("{segment}.{index} refers to no live object of the expected type")]
    BadRef {
        /// The segment's number.
        segment: u64,
        /// The index in it.
        index: u16,
    },
    /// A range outside an object, or not made of whole words.
    #[error("bytes {offset}..{end} are not whole words of an object of {size} bytes")]
    Range {
        /// First byte.
        offset: u64,
        /// After the last byte.
        end: u64,
        /// The object's size in bytes.
        size: u64,
    },
    /// Out of segment numbers.
    #[error("the region's {0} segments are all in use")]
    Segments(u64),
    /// What was written could not be made durable. The region takes no more changes.
    #[error(
        "cannot make a change durable: {0}; the region is closed for changes: restart the node"
    )]
    Sync(std::io::Error),
    /// An object could not be converted to the present schema.
    #[error("code_change of segment {segment} failed: {text}")]
    Convert {
        /// The segment's number.
        segment: u64,
        /// What the conversion said.
        text: String,
    },
    /// The region is in the midst of a sweep, and nobody has given it the conversions.
    #[error("the region is converted segment by segment, and its conversions are not loaded")]
    NoConversions,
    /// The file is damaged.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl RegionError {
    /// The same of a region that is made or opened.
    pub(super) fn into_open(self, path: &Path) -> OpenError {
        let path = path.into();
        match self {
            RegionError::Format(source) => OpenError::Format { path, source },
            RegionError::Sync(source) => OpenError::Io {
                action: "make durable",
                path,
                source,
            },
            RegionError::Grow { source, .. } => OpenError::Io {
                action: "reserve room for",
                path,
                source,
            },
            other => OpenError::Io {
                action: "use",
                path,
                source: std::io::Error::other(other.to_string()),
            },
        }
    }

    /// What every change is answered with after one that may or may not be durable.
    pub(super) fn failed_before() -> RegionError {
        RegionError::Sync(std::io::Error::other("an earlier change failed"))
    }
}
