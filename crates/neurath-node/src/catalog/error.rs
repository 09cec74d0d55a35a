//! Why the catalog could not be made, read or changed.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::slot::{FORMAT, PAYLOAD_LIMIT, SlotFault};

/// Why the catalog could not be made, read or changed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The operating system refused a step.
    #[error("{}: cannot {step}: {source}; see to the file system, then start the node again", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// There is no catalog.
    #[error("{}: no catalog here; make a node directory with `neurath node start` or restore the file from a backup", path.display())]
    Missing {
        /// The file that is not there.
        path: PathBuf,
    },
    /// There is a catalog already.
    #[error("{}: a catalog exists already; open it, or remove the node directory to begin anew", path.display())]
    Exists {
        /// The file that is there.
        path: PathBuf,
    },
    /// Neither slot can be used.
    #[error("{}: both slots are damaged: slot 0: {first}; slot 1: {second}; restore the file from a backup, no state was changed", path.display())]
    BothSlots {
        /// The file.
        path: PathBuf,
        /// What is wrong with slot 0.
        first: SlotFault,
        /// What is wrong with slot 1.
        second: SlotFault,
    },
    /// A newer node wrote the file.
    #[error("{}: slot {slot}, `format`: {found}, and this node knows {FORMAT}; start the newer node that wrote it", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// 0 or 1.
        slot: usize,
        /// The format found.
        found: u32,
    },
    /// Both slots claim the same generation and differ.
    #[error("{}: `generation`: both slots say {generation} and differ; two nodes wrote here: restore the file from a backup", path.display())]
    Ambiguous {
        /// The file.
        path: PathBuf,
        /// The generation both claim.
        generation: u64,
    },
    /// The generations are used up.
    #[error("{}: `generation`: no number is left after {generation}; restore the file from a backup", path.display())]
    GenerationsUsedUp {
        /// The file.
        path: PathBuf,
        /// The last generation.
        generation: u64,
    },
    /// The new state does not fit a slot. Nothing was written.
    #[error("{}: a state of {bytes} bytes does not fit the {PAYLOAD_LIMIT} of a slot; confirm the current release first, or run fewer instances", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes of the payload.
        bytes: usize,
    },
    /// Something was committed since the draft of a state was made. Nothing was written.
    #[error("{}: a draft of generation {generation} was overtaken by another commit; nothing was changed: ask again", path.display())]
    Overtaken {
        /// The file.
        path: PathBuf,
        /// The number that the draft would have had.
        generation: u64,
    },
    /// The new state could not be made JSON. Nothing was written.
    #[error("{}: the state cannot be written as JSON: {source}; nothing was changed", path.display())]
    Encode {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The commit failed and was taken back: the state before holds, in memory and on disk.
    #[error("{}: not committed, cannot {step}: {source}; the state before holds: see to the file system and try again", path.display())]
    NotCommitted {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The commit failed and could not be taken back: either state may be found at the next start.
    #[error("{}: cannot {step} ({source}), nor take it back ({undo}); stop the node and see to the file system: the next start finds one of the two states whole", path.display())]
    Undecided {
        /// The file.
        path: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the system said.
        source: io::Error,
        /// What the system said about taking it back.
        undo: io::Error,
    },
    /// A flip is in force, and could not be made durable.
    #[error("{}: the change is in force, and cannot be made durable: {source}; see to the file system, then restart the node", path.display())]
    Unsettled {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An earlier commit ended [`CatalogError::Undecided`].
    #[error("{}: an earlier commit could not be decided; stop the node, see to the file system and start it again", path.display())]
    Poisoned {
        /// The file.
        path: PathBuf,
    },
}
