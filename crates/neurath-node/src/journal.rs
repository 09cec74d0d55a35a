//! The journal: every operation of a node, who asked for it, each step's time and verdict.
//!
//! Append-only JSON lines in `journal/`. Each line carries a hash over the line before and itself, so that a line
//! that was edited, removed or slipped in is found at the next opening, by its number. The format is described in
//! `docs/journal-format.md`.

mod error;
mod files;
mod reading;
mod record;
mod replay;
mod room;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::catalog::Mark;
use crate::fault;
pub use error::JournalError;
use error::io_error;
pub use files::set_aside;
use files::{file_name, files, make_file};
use reading::{Reading, link};
pub use reading::{read_all, read_marked};
pub use record::{Interrupted, Kind, Record, Torn, Unfinished, Verdict};
use record::{Tale, note};
pub use replay::{Replayed, replay};
use room::Room;

/// A journal file that has grown beyond this is followed by a new one.
pub const FILE_LIMIT: u64 = 4 * 1024 * 1024;
/// The longest line, in bytes.
pub const LINE_LIMIT: usize = 256 * 1024;

/// The operation that a node's coming up is.
pub const START: &str = "start";
/// The operation that a node's orderly end is.
pub const STOP: &str = "stop";

/// What the chain of the first line continues.
const ROOT: &[u8] = b"neurath journal 1";
const BEFORE_CHAIN: &[u8] = b"{\"chain\":\"";
const BEFORE_RECORD: &[u8] = b"\",\"record\":";
const CHAIN_HEX: usize = 64;

/// The open journal of a node. Opened under the lock of [`crate::directory::NodeDirectory`], by one process.
#[derive(Debug)]
pub struct Journal {
    folder: PathBuf,
    number: u64,
    path: PathBuf,
    file: File,
    length: u64,
    chain: blake3::Hash,
    sequence: u64,
    unfinished: BTreeMap<u64, Unfinished>,
    torn: Option<Torn>,
    tale: Tale,
    poisoned: bool,
    file_limit: u64,
    room: Room,
    /// Ends of operations that could not be recorded when they came, oldest first.
    owed: Vec<Owed>,
}

/// An end that is to be recorded yet.
#[derive(Debug)]
struct Owed {
    time_ms: u64,
    operation_id: String,
    who: String,
    kind: Kind,
}

impl Journal {
    /// Opens the journal in `folder` (a node directory's `journal/`), checks the whole chain, and cuts off a torn end.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self, JournalError> {
        Self::open_marked(folder, None)
    }

    /// As [`Journal::open`], and checks that the record of a mark is still there.
    pub fn open_marked(
        folder: impl AsRef<Path>,
        mark: Option<&Mark>,
    ) -> Result<Self, JournalError> {
        let folder = folder.as_ref();
        let mut read = Reading::new(mark);
        let files = files(folder)?;
        let mut torn = None;
        let mut end = 0;
        for (position, (_, path)) in files.iter().enumerate() {
            let last = position + 1 == files.len();
            let bytes = std::fs::read(path).map_err(io_error(path, "read it"))?;
            end = read.file(path, &bytes, last, |_| ())?;
            if end < bytes.len() {
                torn = Some(Torn {
                    file: path.clone(),
                    line: 1 + bytes[..end].iter().filter(|byte| **byte == b'\n').count() as u64,
                    bytes: (bytes.len() - end) as u64,
                });
            }
        }
        read.check_mark(folder)?;
        let (number, path, file) = match files.into_iter().next_back() {
            Some((number, path)) => {
                let file = OpenOptions::new()
                    .read(true)
                    .write(true)
                    .open(&path)
                    .map_err(io_error(&path, "open it"))?;
                (number, path, file)
            }
            None => {
                let path = folder.join(file_name(1));
                let file = make_file(folder, &path)?;
                (1, path, file)
            }
        };
        let mut length = end as u64;
        if torn.is_some() {
            fault::point("journal.cut.before");
            file.set_len(length)
                .and_then(|()| file.sync_all())
                .map_err(io_error(&path, "cut off its torn end"))?;
            fault::point("journal.cut.after-sync");
        }
        if read.newline_missing {
            // The record is whole, only the end of its line is not there.
            file.write_all_at(b"\n", length)
                .and_then(|()| file.sync_data())
                .map_err(io_error(&path, "end its last line"))?;
            length += 1;
        }
        let mut room = Room::default();
        if let Err(error) = room.keep(&file, length) {
            tracing::warn!(%error, "no room can be kept for the journal");
        }
        Ok(Self {
            folder: folder.to_owned(),
            number,
            path,
            file,
            length,
            chain: read.chain,
            sequence: read.sequence,
            unfinished: read.unfinished,
            tale: read.tale,
            torn,
            poisoned: false,
            file_limit: FILE_LIMIT,
            room,
            owed: Vec::new(),
        })
    }

    /// What was cut off at opening. Worth a line in the log.
    pub fn torn(&self) -> Option<&Torn> {
        self.torn.as_ref()
    }

    /// Whether the node that wrote the last records started, and never said that it stopped.
    pub fn left_running(&self) -> bool {
        self.tale.running
    }

    /// The upgrade that was interrupted, if nothing has followed it: it can be asked for again.
    pub fn interrupted(&self) -> Option<&Interrupted> {
        self.tale.interrupted.as_ref()
    }

    /// The last record, for the catalog to know that it must be there.
    pub fn mark(&self) -> Option<Mark> {
        (self.sequence > 0).then(|| Mark {
            sequence: self.sequence,
            chain: self.chain.to_hex().to_string(),
        })
    }

    /// The number of the last record; 0 in an empty journal.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The operations that were started and have not ended, oldest first.
    ///
    /// Directly after [`Journal::open`] these are the ones that the end of the process before interrupted.
    pub fn unfinished(&self) -> Vec<Unfinished> {
        self.unfinished.values().cloned().collect()
    }

    /// Writes an `Ended` record with [`Verdict::Interrupted`] for each unfinished operation and gives them.
    ///
    /// `text` says for each what the node found: that the flip had happened, or not.
    pub fn end_interrupted(
        &mut self,
        text: impl Fn(&Unfinished) -> String,
    ) -> Result<Vec<Unfinished>, JournalError> {
        let unfinished = self.unfinished();
        for operation in &unfinished {
            let kind = Kind::Ended {
                verdict: Verdict::Interrupted,
                text: text(operation),
            };
            self.append(&operation.operation_id, &operation.started.who, kind)?;
        }
        Ok(unfinished)
    }

    /// Appends a record with the present time and gives its number.
    ///
    /// `Started` and `Ended` are synced before this returns. A `Step` is not: it is written while the node is stopped,
    /// survives the end of the process, and is synced with what follows it.
    pub fn append(
        &mut self,
        operation_id: &str,
        who: &str,
        kind: Kind,
    ) -> Result<u64, JournalError> {
        self.append_at(now_ms(), operation_id, who, kind)
    }

    /// A name for an operation that begins with the next record.
    pub fn next_operation(&self, what: &str) -> String {
        format!("{what}-{}", self.sequence + 1)
    }

    /// Appends the `Ended` record of an operation. One that cannot be written now is kept in memory, and written before
    /// anything else is, or by [`Journal::catch_up`].
    ///
    /// # Errors
    ///
    /// Why it could not be written now.
    pub fn end(
        &mut self,
        operation_id: &str,
        who: &str,
        verdict: Verdict,
        text: String,
    ) -> Result<(), JournalError> {
        let time_ms = now_ms();
        let kind = Kind::Ended { verdict, text };
        let appended = self.append_at(time_ms, operation_id, who, kind.clone());
        if appended.is_err() {
            self.owed.push(Owed {
                time_ms,
                operation_id: operation_id.to_owned(),
                who: who.to_owned(),
                kind,
            });
        }
        appended.map(drop)
    }

    /// Looks for room again, and writes what could not be written before. Does nothing where nothing is amiss.
    ///
    /// # Errors
    ///
    /// If there is still none.
    pub fn catch_up(&mut self) -> Result<(), JournalError> {
        self.pay()?;
        if self.room.lacking().is_some() {
            let path = self.path.clone();
            let kept = self.room.keep(&self.file, self.length);
            kept.map_err(io_error(&path, "keep room behind its end"))?;
        }
        Ok(())
    }

    /// What keeps the journal from taking more, if anything does: in words.
    pub fn trouble(&self) -> Option<String> {
        let folder = self.folder.display();
        if self.poisoned {
            let file = self.path.clone();
            return Some(JournalError::Poisoned { file }.to_string());
        }
        if let Some(owed) = self.owed.first() {
            return Some(format!(
                "{folder}: the end of {} is not recorded yet; see to the file system: the node tries again by itself",
                owed.operation_id
            ));
        }
        let lacking = self.room.lacking()?;
        Some(format!(
            "{folder}: there is no room to record another upgrade to its end ({lacking}); make room on that disk: until \
             then the node serves, goes back, is confirmed, stops and starts, and takes nothing new"
        ))
    }

    fn pay(&mut self) -> Result<(), JournalError> {
        while !self.owed.is_empty() {
            let Owed {
                time_ms,
                operation_id,
                who,
                kind,
            } = self.owed.remove(0);
            if let Err(error) = self.write(time_ms, &operation_id, &who, kind.clone()) {
                let back = Owed {
                    time_ms,
                    operation_id,
                    who,
                    kind,
                };
                self.owed.insert(0, back);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Sees to it that an operation that begins can be recorded to its end.
    fn make_room(&mut self, operation: &str) -> Result<(), JournalError> {
        let next = self.length >= self.file_limit;
        let kept = match next {
            // A new file only at the beginning of an operation, never while the node is stopped.
            true => self.next_file(),
            false => {
                let path = self.path.clone();
                let kept = self.room.keep(&self.file, self.length);
                kept.map_err(io_error(&path, "keep room behind its end"))
            }
        };
        match kept {
            Err(JournalError::Io { source, .. }) if !room::may_use_reserve(operation) => {
                Err(JournalError::NoRoom {
                    folder: self.folder.clone(),
                    operation: operation.to_owned(),
                    source,
                })
            }
            // It goes on in the file that there is, and in what is kept behind it.
            Err(JournalError::Io { .. }) | Ok(()) => Ok(()),
            Err(other) => Err(other),
        }
    }

    /// As [`Journal::append`], with a time given.
    pub fn append_at(
        &mut self,
        time_ms: u64,
        operation_id: &str,
        who: &str,
        kind: Kind,
    ) -> Result<u64, JournalError> {
        self.pay()?;
        if let Kind::Started { operation, .. } = &kind {
            self.make_room(operation)?;
        }
        self.write(time_ms, operation_id, who, kind)
    }

    fn write(
        &mut self,
        time_ms: u64,
        operation_id: &str,
        who: &str,
        kind: Kind,
    ) -> Result<u64, JournalError> {
        if self.poisoned {
            return Err(JournalError::Poisoned {
                file: self.path.clone(),
            });
        }
        let sync = !matches!(kind, Kind::Step { .. });
        let record = Record {
            sequence: self.sequence + 1,
            time_ms,
            operation_id: operation_id.to_owned(),
            who: who.to_owned(),
            kind,
        };
        let json = serde_json::to_vec(&record)?;
        let chain = link(&self.chain, &json);
        let mut line = Vec::with_capacity(json.len() + 96);
        line.extend_from_slice(BEFORE_CHAIN);
        line.extend_from_slice(chain.to_hex().as_bytes());
        line.extend_from_slice(BEFORE_RECORD);
        line.extend_from_slice(&json);
        line.extend_from_slice(b"}\n");
        if line.len() > LINE_LIMIT {
            return Err(JournalError::TooLong { bytes: line.len() });
        }
        fault::point("journal.append.before");
        let written = self
            .file
            .write_all_at(&line, self.length)
            .map_err(|error| ("append to it", error))
            .and_then(|()| {
                if sync {
                    fault::point("journal.append.before-sync");
                    self.file.sync_data().map_err(|error| ("sync it", error))?;
                }
                Ok(())
            });
        if let Err((step, source)) = written {
            // Half a line must not stay under the next one.
            if self
                .file
                .set_len(self.length)
                .and_then(|()| self.file.sync_all())
                .is_err()
            {
                self.poisoned = true;
            }
            self.room.is_cut();
            if let Err(error) = self.room.keep(&self.file, self.length) {
                tracing::warn!(%error, "no room can be kept for the journal");
            }
            return Err(JournalError::Io {
                path: self.path.clone(),
                step,
                source,
            });
        }
        fault::point("journal.append.after");
        self.length += line.len() as u64;
        self.chain = chain;
        self.sequence = record.sequence;
        note(&mut self.unfinished, &record);
        self.tale.note(&record);
        Ok(record.sequence)
    }

    /// Syncs the steps appended since the last `Started` or `Ended`.
    pub fn sync(&self) -> Result<(), JournalError> {
        fault::point("journal.sync.before");
        self.file
            .sync_data()
            .map_err(io_error(&self.path, "sync it"))?;
        fault::point("journal.sync.after");
        Ok(())
    }

    /// Reads all records again, oldest first, checking the chain.
    pub fn read_all(&self) -> Result<Vec<Record>, JournalError> {
        read_all(&self.folder)
    }

    fn next_file(&mut self) -> Result<(), JournalError> {
        self.file
            .sync_data()
            .map_err(io_error(&self.path, "sync it"))?;
        let number = self.number + 1;
        let path = self.folder.join(file_name(number));
        let file = make_file(&self.folder, &path)?;
        let mut room = Room::default();
        if let Err(source) = room.keep(&file, 0) {
            // An empty file that stays is read as one.
            drop(std::fs::remove_file(&path));
            // For the status as well.
            drop(self.room.keep(&self.file, self.length));
            let step = "keep room in it";
            return Err(JournalError::Io { path, step, source });
        }
        self.room = room;
        self.file = file;
        self.number = number;
        self.path = path;
        self.length = 0;
        Ok(())
    }
}

/// Milliseconds since 1970.
fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |time| time.as_millis() as u64)
}
