//! `nodes.toml` in a node's directory: its name, and where the others are reached.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file's name.
pub const FILE_NAME: &str = "nodes.toml";
/// The longest such file, in bytes.
const LIMIT: u64 = 1024 * 1024;

/// Why it cannot be told who is meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NeighboursError {
    /// There is none.
    #[error(
        "this node has no name, and knows no others: write {}, with `name = \"THIS ONE\"` and, under \
         `[nodes]`, `OTHER = \"FOLDER WITH ITS control.sock\"`",
        path.display()
    )]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It cannot be read.
    #[error("{}: {source}; see to the file", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is not understood.
    #[error("{}: {problem}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// A node is not in it.
    #[error("{}: no node is called `{name}`; add it under `[nodes]`", path.display())]
    Unknown {
        /// The file.
        path: PathBuf,
        /// Who is meant.
        name: String,
    },
}

/// A node's name, and where others are.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Neighbours {
    /// What the others call this node.
    pub(super) name: String,
    /// The folder with the control socket of each of the others.
    #[serde(default)]
    nodes: BTreeMap<String, PathBuf>,
    #[serde(skip)]
    path: PathBuf,
}

impl Neighbours {
    /// Those of the node in a directory.
    pub(super) fn read(directory: &Path) -> Result<Neighbours, NeighboursError> {
        let path = directory.join(FILE_NAME);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => NeighboursError::Missing { path: path.clone() },
            _ => NeighboursError::Io {
                path: path.clone(),
                source,
            },
        };
        let bytes = std::fs::metadata(&path).map_err(failed)?.len();
        if bytes > LIMIT {
            let problem = format!("{bytes} bytes, and {LIMIT} are the most");
            return Err(NeighboursError::Syntax { path, problem });
        }
        let text = std::fs::read_to_string(&path).map_err(failed)?;
        match toml::from_str::<Neighbours>(&text) {
            Ok(found) if !found.name.is_empty() => Ok(Neighbours { path, ..found }),
            Ok(_) => Err(NeighboursError::Syntax {
                path,
                problem: "`name` is empty".into(),
            }),
            Err(error) => Err(NeighboursError::Syntax {
                path,
                problem: error.to_string(),
            }),
        }
    }

    /// The folder with a node's control socket.
    pub(super) fn folder(&self, name: &str) -> Result<&Path, NeighboursError> {
        let found = self.nodes.get(name).map(PathBuf::as_path);
        found.ok_or_else(|| NeighboursError::Unknown {
            path: self.path.clone(),
            name: name.to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Neighbours, NeighboursError> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE_NAME), text).unwrap();
        Neighbours::read(folder.path())
    }

    #[test]
    fn names_lead_to_folders() {
        let found = read("name = \"east\"\n[nodes]\nwest = \"/run/west\"\n").unwrap();
        assert_eq!(found.name, "east");
        assert_eq!(found.folder("west").unwrap(), Path::new("/run/west"));
        let unknown = found.folder("north").unwrap_err().to_string();
        assert!(
            unknown.contains("`north`") && unknown.contains(FILE_NAME),
            "{unknown}"
        );
    }

    #[test]
    fn what_is_not_understood_is_told() {
        for (text, word) in [
            ("nodes = 1", "nodes"),
            ("[nodes]\n", "name"),
            ("name = \"\"", "empty"),
            ("name = \"a\"\nport = 1", "port"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let missing = Neighbours::read(folder.path()).unwrap_err().to_string();
        assert!(
            missing.contains("write ") && missing.contains(FILE_NAME),
            "{missing}"
        );
    }
}
