//! What a node is to do once it has taken over: the operation in whose midst the node was replaced.

use serde::{Deserialize, Serialize};

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
    },
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
