//! What a package says of itself, and what an installed release keeps of that.

use serde::{Deserialize, Serialize};

use super::{FORMAT, MAX_BYTES, MAX_STATEMENT};
use crate::catalog::ReleaseId;

/// What is signed: which release this is, by the hash of its manifest, and its place in time.
///
/// The manifest has the hash of every file. So the signature of a statement is one of everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The format of the package. The key also keeps anything else that a key has signed from being
    /// taken for a statement.
    pub neurath_package: u32,
    /// Name of the release.
    pub name: String,
    /// Version of the release.
    pub version: String,
    /// BLAKE3 hash of its `MANIFEST.json`, 64 lower-case hex digits.
    pub manifest: String,
    /// Size of its `MANIFEST.json`, in bytes.
    pub manifest_size: u64,
    /// How many files the manifest lists.
    pub files: u64,
    /// The sum of their sizes, in bytes.
    pub bytes: u64,
    /// One more for each package that is made of releases of this name, from 1.
    pub sequence: u64,
    /// No release of an earlier epoch is gone back to once one of this is permanent.
    pub epoch: u64,
}

impl Statement {
    /// Reads a statement; the error is what is wrong, in words.
    pub(super) fn read(text: &str) -> Result<Statement, String> {
        let statement: Statement = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let name = neurath_manifest::scalar::check_name(&statement.name);
        name.map_err(|_| format!("{:?} is no name of a release", statement.name))?;
        semver::Version::parse(&statement.version)
            .map_err(|error| format!("{:?} is no version: {error}", statement.version))?;
        blake3::Hash::from_hex(&statement.manifest)
            .map_err(|_| format!("{:?} is no BLAKE3 hash", statement.manifest))?;
        if statement.sequence == 0 {
            return Err("a sequence begins at 1".to_owned());
        }
        if statement.bytes > MAX_BYTES {
            return Err(format!(
                "it declares {} bytes, and a release has at most {MAX_BYTES}",
                statement.bytes
            ));
        }
        Ok(statement)
    }

    /// The statement as a file has it: the same for the same values.
    pub(super) fn to_text(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string_pretty(self)? + "\n")
    }

    /// Which release it is of.
    pub fn release(&self) -> ReleaseId {
        ReleaseId::new(&self.name, &self.version)
    }

    /// The comment that is signed with it, for people who look at the signature.
    pub fn comment(&self) -> String {
        format!(
            "neurath package {}-{} sequence {} epoch {}",
            self.name, self.version, self.sequence, self.epoch
        )
    }
}

/// The format of a package whose statement may be one of another time.
pub(super) fn format_of(text: &str) -> Option<u64> {
    #[derive(Deserialize)]
    struct Head {
        neurath_package: u64,
    }
    let head: Head = serde_json::from_str(text).ok()?;
    (head.neurath_package != u64::from(FORMAT)).then_some(head.neurath_package)
}

/// The statement and its signature, as they came: what an installed release keeps of its package, in
/// one file, so that they are exchanged as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    statement: Statement,
    text: String,
    signature: Option<String>,
}

/// The contents of `SEAL.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SealFile {
    format: u32,
    statement: String,
    signature: Option<String>,
}

impl Seal {
    pub(super) fn new(text: String, signature: Option<String>) -> Result<Seal, String> {
        Ok(Seal {
            statement: Statement::read(&text)?,
            text,
            signature,
        })
    }

    /// Reads the file of an installed release; the error is what is wrong, in words.
    pub(crate) fn read(json: &str) -> Result<Seal, String> {
        let file: SealFile = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if file.format != FORMAT {
            return Err(format!("its format is {}, not {FORMAT}", file.format));
        }
        Seal::new(file.statement, file.signature)
    }

    /// What [`Seal::read`] reads.
    pub(crate) fn to_json(&self) -> Result<String, serde_json::Error> {
        let file = SealFile {
            format: FORMAT,
            statement: self.text.clone(),
            signature: self.signature.clone(),
        };
        Ok(serde_json::to_string_pretty(&file)? + "\n")
    }

    /// The largest file, in bytes.
    pub(crate) const MAX_FILE: u64 = 4 * MAX_STATEMENT;

    /// What was stated.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// The signed bytes.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature, in the format of minisign, if there is one.
    pub fn signature(&self) -> Option<&str> {
        self.signature.as_deref()
    }
}
