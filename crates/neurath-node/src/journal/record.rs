//! What a line of the journal says, and what the lines together tell.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{START, STOP};
use crate::catalog::ReleaseId;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Record {
    /// Running number of the line over all files, from 1.
    pub sequence: u64,
    /// When it was written (milliseconds since 1970).
    pub time_ms: u64,
    /// The operation that it belongs to.
    pub operation_id: String,
    /// Who asked for the operation.
    pub who: String,
    /// What happened.
    pub kind: Kind,
}

/// What a [`Record`] records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub enum Kind {
    /// An operation began.
    Started {
        /// What it is: `apply`, `confirm`, `rollback`, [`START`], [`STOP`], ….
        operation: String,
        /// The plan it carries out.
        plan_id: Option<String>,
        /// The release before.
        from: Option<ReleaseId>,
        /// The release it leads to.
        to: Option<ReleaseId>,
    },
    /// A step of an operation ended.
    Step {
        /// Its place in the plan, from 0.
        index: u32,
        /// Its name.
        name: String,
        /// How long it took.
        micros: u64,
        /// How it ended.
        verdict: Verdict,
    },
    /// An operation ended.
    Ended {
        /// How it ended.
        verdict: Verdict,
        /// In words, for a person.
        text: String,
    },
}

/// How a step or an operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub enum Verdict {
    /// As asked.
    Done,
    /// It failed.
    Failed,
    /// It failed and was taken back: the old release is healthy.
    Undone,
    /// It was not carried out.
    Skipped,
    /// It could not be told whether it went well; nothing was committed.
    Inconclusive,
    /// A person must look.
    OperatorNeeded,
    /// The node ended in the midst of it.
    Interrupted,
}

/// An upgrade that the end of the node interrupted, and that nothing has followed since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
pub struct Interrupted {
    /// The release that it led to.
    pub release: ReleaseId,
    /// The plan that it carried out.
    pub plan_id: Option<String>,
}

/// What the records tell of the node as a whole.
#[derive(Debug, Clone, Default)]
pub(super) struct Tale {
    /// Whether a node started and did not stop.
    pub(super) running: bool,
    /// The last start, by its operation.
    start: Option<String>,
    /// The last upgrade, by its operation, while nothing has followed it.
    upgrade: Option<(String, Interrupted)>,
    pub(super) interrupted: Option<Interrupted>,
}

impl Tale {
    pub(super) fn note(&mut self, record: &Record) {
        match &record.kind {
            Kind::Started {
                operation,
                plan_id,
                to,
                ..
            } => match operation.as_str() {
                START => {
                    self.running = true;
                    self.start = Some(record.operation_id.clone());
                }
                STOP => self.running = false,
                "apply" | "rollback" | "confirm" | "reboot-old" => {
                    self.interrupted = None;
                    self.upgrade = None;
                    if operation == "apply"
                        && let Some(release) = to
                    {
                        let upgrade = Interrupted {
                            release: release.clone(),
                            plan_id: plan_id.clone(),
                        };
                        self.upgrade = Some((record.operation_id.clone(), upgrade));
                    }
                }
                _ => {}
            },
            Kind::Ended { verdict, .. } => {
                if *verdict == Verdict::Failed && self.start.as_ref() == Some(&record.operation_id)
                {
                    self.running = false;
                }
                if let Some((_, upgrade)) = self
                    .upgrade
                    .take_if(|(operation, _)| *operation == record.operation_id)
                    && *verdict == Verdict::Interrupted
                {
                    self.interrupted = Some(upgrade);
                }
            }
            Kind::Step { .. } => {}
        }
    }
}

/// An operation that has a `Started` and no `Ended`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// The operation.
    pub operation_id: String,
    /// Its `Started` record.
    pub started: Record,
    /// The last step that it recorded.
    pub last_step: Option<Record>,
}

/// A torn end that was cut off at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Torn {
    /// The file.
    pub file: PathBuf,
    /// The line in that file, from 1.
    pub line: u64,
    /// How many bytes were cut off.
    pub bytes: u64,
}

impl std::fmt::Display for Torn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { file, line, bytes } = self;
        write!(
            f,
            "{}: line {line} was torn: {bytes} bytes that were never synced are cut off",
            file.display()
        )
    }
}

/// Keeps the operations that have begun and not ended, by the number of their first record.
pub(super) fn note(unfinished: &mut BTreeMap<u64, Unfinished>, record: &Record) {
    let key = unfinished
        .iter()
        .find(|(_, open)| open.operation_id == record.operation_id)
        .map(|(key, _)| *key);
    match (&record.kind, key) {
        (Kind::Started { .. }, None) => {
            let operation_id = record.operation_id.clone();
            let opened = Unfinished {
                operation_id,
                started: record.clone(),
                last_step: None,
            };
            unfinished.insert(record.sequence, opened);
        }
        (Kind::Step { .. }, Some(key)) => {
            if let Some(open) = unfinished.get_mut(&key) {
                open.last_step = Some(record.clone());
            }
        }
        (Kind::Ended { .. }, Some(key)) => {
            unfinished.remove(&key);
        }
        _ => {}
    }
}
