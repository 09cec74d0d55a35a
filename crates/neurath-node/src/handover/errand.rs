//! What a node is to do once it has taken over: the operation in whose midst the node was replaced.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::ReleaseId;
use crate::protocol::{Failure, Outcome, Response, Upgraded};

/// See the module.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Errand {
    /// `node restart`: nothing but to say that it is done.
    Restart {
        /// The operation in the journal.
        operation: String,
        /// Who has asked for it.
        who: String,
        /// When clients began to wait, in microseconds since 1970.
        since_us: u64,
        /// For a release that is to be confirmed: what its checks said before it ran.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        window: Option<Vec<Result<(), String>>>,
    },
    /// `restart_new_node`: the rest of the script.
    Script(Box<Script>),
    /// `restart_node`, or the way back to a node after a failure: all is done but the answer.
    Answer {
        /// What is answered if the node comes up.
        answer: Answer,
        /// For a release that is to be confirmed: what its checks said before it ran.
        window: Option<Vec<Result<(), String>>>,
        /// When the script was done, and when clients began to wait for this program, in microseconds since 1970.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        times_us: Option<(u64, u64)>,
    },
}

/// An answer that waits for the next node. [`Response`] as it is written.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Nobody waits.
    Nobody,
    /// The upgrade or the way back is done.
    Upgraded(Upgraded),
    /// It failed, and was undone.
    Failed(Failure),
}

impl Answer {
    /// As the one who asked reads it.
    pub(crate) fn response(self) -> Option<Response> {
        match self {
            Answer::Nobody => None,
            Answer::Upgraded(upgraded) => Some(Response::done(Outcome::Upgraded(upgraded))),
            Answer::Failed(failure) => Some(Response::Failed(failure)),
        }
    }
}

/// A script that is half done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Script {
    /// The operation in the journal, which has begun.
    pub operation: String,
    /// Who has asked for it.
    pub who: String,
    /// The plan's id.
    pub plan_id: String,
    /// Where it leads.
    pub to: ReleaseId,
    /// Releases between, whose libraries are needed.
    pub between: Vec<ReleaseId>,
    /// All steps, as in a relup.
    pub steps: Vec<Value>,
    /// What the checks of the new release said before it ran.
    pub before: Vec<Result<(), String>>,
    /// When clients began to wait, in microseconds since 1970.
    pub since_us: u64,
    /// When the operation began, in microseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_us: Option<u64>,
}

impl Errand {
    pub(super) fn to_json(&self) -> String {
        // Texts and numbers only: it cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn from_json(text: &str) -> Result<Errand, serde_json::Error> {
        serde_json::from_str(text)
    }
}
