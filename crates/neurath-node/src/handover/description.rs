//! What a node program says of itself: in a release, and when it is tried.

use serde::{Deserialize, Serialize};

use super::record;

/// A node program's word on itself. `node/program.json` in a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeDescription {
    /// The version that releases name as `node`.
    pub version: String,
    /// The lowest and the highest version of the component ABI that it serves.
    pub abi: (u32, u32),
    /// The newest format of the hand-over record that it reads.
    pub handover: u32,
    /// The newest format of the catalog that it reads.
    pub catalog: u32,
}

impl NodeDescription {
    /// This code, in a program of this version.
    pub fn of(version: &str) -> NodeDescription {
        NodeDescription {
            version: version.to_owned(),
            abi: (neurath_abi::ABI_VERSION, neurath_abi::ABI_VERSION),
            handover: record::FORMAT,
            catalog: crate::catalog::FORMAT,
        }
    }

    /// Whether it serves components of this version of the ABI.
    pub fn serves(&self, abi: u32) -> bool {
        (self.abi.0..=self.abi.1).contains(&abi)
    }

    /// As it is in a release.
    pub fn to_json(&self) -> String {
        // Numbers and a text: it cannot fail.
        let mut text = serde_json::to_string_pretty(self).unwrap_or_default();
        text.push('\n');
        text
    }

    /// Reads what [`NodeDescription::to_json`] has written.
    ///
    /// # Errors
    ///
    /// It is none.
    pub fn from_json(text: &str) -> Result<NodeDescription, serde_json::Error> {
        serde_json::from_str(text)
    }
}
