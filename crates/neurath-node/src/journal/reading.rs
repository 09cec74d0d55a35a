//! How the lines of a journal are read, each held against the one before.

use std::collections::BTreeMap;
use std::path::Path;

use super::error::{JournalError, io_error};
use super::files::files;
use super::record::{Kind, Record, Tale, Unfinished, note};
use super::{BEFORE_CHAIN, BEFORE_RECORD, CHAIN_HEX, ROOT};
use crate::catalog::Mark;

/// Reads all records of the journal in `folder`, oldest first, changing nothing: also beside a running node.
///
/// A torn end (or a line that is just being written) is left out.
pub fn read_all(folder: impl AsRef<Path>) -> Result<Vec<Record>, JournalError> {
    read_marked(folder, None)
}

/// As [`read_all`], and checks that the record of a mark is still there.
pub fn read_marked(
    folder: impl AsRef<Path>,
    mark: Option<&Mark>,
) -> Result<Vec<Record>, JournalError> {
    let files = files(folder.as_ref())?;
    let mut read = Reading::new(mark);
    let mut records = Vec::new();
    for (position, (_, path)) in files.iter().enumerate() {
        let bytes = std::fs::read(path).map_err(io_error(path, "read it"))?;
        read.file(path, &bytes, position + 1 == files.len(), |record| {
            records.push(record)
        })?;
    }
    read.check_mark(folder.as_ref())?;
    Ok(records)
}

/// The chain over one more record.
pub(super) fn link(previous: &blake3::Hash, json: &[u8]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    hasher.update(previous.as_bytes());
    hasher.update(json);
    hasher.finalize()
}
/// The state of reading the files one after the other.
pub(super) struct Reading {
    pub(super) chain: blake3::Hash,
    pub(super) sequence: u64,
    pub(super) unfinished: BTreeMap<u64, Unfinished>,
    pub(super) newline_missing: bool,
    pub(super) tale: Tale,
    mark: Option<Mark>,
    /// Whether the mark's record was met.
    met: bool,
}

impl Reading {
    pub(super) fn new(mark: Option<&Mark>) -> Self {
        Self {
            chain: blake3::hash(ROOT),
            sequence: 0,
            unfinished: BTreeMap::new(),
            newline_missing: false,
            tale: Tale::default(),
            mark: mark.cloned(),
            met: false,
        }
    }

    /// Takes a record that continues the chain.
    fn take(&mut self, chain: blake3::Hash, record: &Record) {
        self.chain = chain;
        self.sequence = record.sequence;
        note(&mut self.unfinished, record);
        self.tale.note(record);
        let hex = chain.to_hex();
        let is_mark = |mark: &Mark| (mark.sequence, mark.chain.as_str()) == (record.sequence, &hex);
        self.met |= self.mark.as_ref().is_some_and(is_mark);
    }

    pub(super) fn check_mark(&self, folder: &Path) -> Result<(), JournalError> {
        let folder = folder.to_owned();
        match &self.mark {
            Some(mark) if !self.met && self.sequence < mark.sequence => {
                Err(JournalError::Shortened {
                    folder,
                    found: self.sequence,
                    expected: mark.sequence,
                })
            }
            Some(mark) if !self.met => Err(JournalError::Rewritten {
                folder,
                sequence: mark.sequence,
            }),
            _ => Ok(()),
        }
    }

    /// Reads one file and gives the offset up to which it is whole.
    pub(super) fn file(
        &mut self,
        path: &Path,
        bytes: &[u8],
        last: bool,
        mut each: impl FnMut(Record),
    ) -> Result<usize, JournalError> {
        let mut start = 0;
        let mut line = 0;
        while start < bytes.len() {
            line += 1;
            let newline = bytes[start..].iter().position(|byte| *byte == b'\n');
            let end = newline.map_or(bytes.len(), |at| start + at);
            match self.line(&bytes[start..end]) {
                Ok((chain, record)) if newline.is_some() || last => {
                    self.take(chain, &record);
                    self.newline_missing = newline.is_none();
                    each(record);
                }
                Err(_) if last && is_torn(bytes, start) => return Ok(start),
                Ok(_) => {
                    let reason = "the line has no end, and another file follows".to_owned();
                    return Err(JournalError::Broken {
                        file: path.to_owned(),
                        line,
                        reason,
                    });
                }
                Err(reason) => {
                    return Err(JournalError::Broken {
                        file: path.to_owned(),
                        line,
                        reason,
                    });
                }
            }
            start = end + usize::from(newline.is_some());
        }
        Ok(start)
    }

    fn line(&self, line: &[u8]) -> Result<(blake3::Hash, Record), String> {
        let (chain, json) = split(line).ok_or("not a line of a journal")?;
        let computed = link(&self.chain, json);
        if chain != computed.to_hex().as_bytes() {
            return Err("`chain` does not continue the line before".to_owned());
        }
        let record: Record = serde_json::from_slice(json).map_err(|error| {
            format!("`record` cannot be read ({error}); a newer node may have written it")
        })?;
        if record.sequence != self.sequence + 1 {
            return Err(format!(
                "`sequence` is {} where {} belongs",
                record.sequence,
                self.sequence + 1
            ));
        }
        Ok((computed, record))
    }
}

fn split(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let rest = line.strip_prefix(BEFORE_CHAIN)?;
    let (chain, rest) = rest.split_at_checked(CHAIN_HEX)?;
    Some((chain, rest.strip_prefix(BEFORE_RECORD)?.strip_suffix(b"}")?))
}

/// The unit in which a disk writes or does not.
pub(super) const SECTOR: usize = 512;

/// Whether what begins with a bad line at `start` is the torn end of the last file, and not edited history.
///
/// A write that was cut off leaves a last line without end, or zeros up to a sector's end where sectors were never
/// written (a line has none of itself). Behind a synced record nothing before it can be torn.
fn is_torn(bytes: &[u8], start: usize) -> bool {
    let mut lines = bytes[start..].split(|byte| *byte == b'\n');
    let first = lines.next().unwrap_or_default();
    if start + first.len() == bytes.len() {
        return true;
    }
    let Some(hole) = first.iter().position(|byte| *byte == 0) else {
        return false;
    };
    let hole_end = bytes[start + hole..]
        .iter()
        .position(|byte| *byte != 0)
        .map_or(bytes.len(), |at| start + hole + at);
    hole_end.is_multiple_of(SECTOR)
        && lines.all(|line| {
            let record =
                split(line).and_then(|(_, json)| serde_json::from_slice::<Record>(json).ok());
            record.is_none_or(|record| matches!(record.kind, Kind::Step { .. }))
        })
}
