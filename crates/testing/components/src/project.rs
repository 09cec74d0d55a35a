//! The manifests of a pair of libraries.

use std::path::Path;

/// The sound library of 1.0.0.
pub const OLD: &str = "notebook_1";
/// The sound library of 1.1.0.
pub const NEW: &str = "notebook_2";

/// The address in the files.
const ADDRESS: &str = "127.0.0.1:7480";

/// A file of the project, and its text.
macro_rules! file {
    ($path:literal) => {
        ($path, include_str!(concat!("../", $path)))
    };
}

const FILES: [(&str, &str); 5] = [
    file!("manifests/notebook/1.0.0.toml"),
    file!("manifests/notebook/1.1.0.toml"),
    file!("manifests/notebook/1.1.0.appup.toml"),
    file!("releases/book/1.0.0.toml"),
    file!("releases/book/1.1.0.toml"),
];

/// Writes this package's manifests and releases into `folder`, with the example `old` in place
/// of the sound library of 1.0.0, `new` in place of that of 1.1.0, and `address` as where
/// the notebook listens.
///
/// # Errors
///
/// The file system's.
pub fn project(folder: &Path, old: &str, new: &str, address: &str) -> std::io::Result<()> {
    let library = |name: &str| format!("library = \"neurath-test-components/{name}\"");
    for (path, text) in FILES {
        let text = text
            .replace(&library(OLD), &library(old))
            .replace(&library(NEW), &library(new))
            .replace(ADDRESS, address);
        let path = folder.join(path);
        if let Some(above) = path.parent() {
            std::fs::create_dir_all(above)?;
        }
        std::fs::write(path, text)?;
    }
    Ok(())
}
