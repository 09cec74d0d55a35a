//! The same sources give the same library, in whatever folder they are built.

use neurath_cli::cargo::build_libraries;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A library that names places of its own sources, of a package beside it, and of the standard
/// library's generic code.
const LIBRARY: &str = r#"
#[derive(Debug)]
pub struct Place(pub Vec<u64>);

#[unsafe(no_mangle)]
pub extern "C" fn library(at: usize) -> u64 {
    let place = Place((0..at as u64).map(beside::twice).collect());
    if at == 7 {
        panic!("{place:?} of {}", file!());
    }
    place.0.get(at).copied().unwrap() + place.0[at / 2]
}
"#;

fn project(folder: &Path) {
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        fs::write(path, text).expect("the file is written");
    };
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"library\", \"beside\"]\nresolver = \"3\"\n\
         [profile.release]\ndebug = \"line-tables-only\"\n",
    );
    write(
        "library/Cargo.toml",
        "[package]\nname = \"library\"\nversion = \"1.0.0\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nbeside = { path = \"../beside\" }\n",
    );
    write("library/src/lib.rs", LIBRARY);
    write(
        "beside/Cargo.toml",
        "[package]\nname = \"beside\"\nversion = \"1.0.0\"\nedition = \"2024\"\n",
    );
    write(
        "beside/src/lib.rs",
        "pub fn twice(n: u64) -> u64 {\n    n.checked_mul(2).expect(\"small\")\n}\n",
    );
}

fn built(folder: &Path) -> Vec<u8> {
    project(folder);
    let wanted = BTreeSet::from(["library".to_owned()]);
    let files = build_libraries(folder, &wanted).expect("it builds");
    fs::read(&files["library"]).expect("the library")
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes
        .windows(text.len())
        .any(|part| part == text.as_bytes())
}

#[test]
fn a_library_does_not_depend_on_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let first = built(&folder.path().join("a"));
    let second = built(&folder.path().join("another/much/longer/way"));
    assert!(contains(&first, "library/src/lib.rs"), "places are named");
    let folder = folder.path().to_str().expect("UTF-8");
    assert!(!contains(&first, folder), "the folder is not");
    assert!(
        first == second,
        "{} and {} bytes, which differ",
        first.len(),
        second.len()
    );
}

/// The same with the real thing: the whole project twice, and every release of it.
///
/// `cargo test -p neurath-cli --test reproducible -- --ignored`
#[test]
#[ignore = "builds the project twice from nothing: minutes"]
fn releases_do_not_depend_on_their_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().expect("a folder");
    let hashes = ["a", "another/much/longer/way"].map(|name| {
        let copy = folder.path().join(name);
        fs::create_dir_all(&copy).expect("the folder is made");
        for part in [
            "Cargo.toml",
            "Cargo.lock",
            "crates",
            "manifests",
            "releases",
            "src",
            "tests",
            "xtask",
            ".cargo",
            "README.md",
            "docs",
            "rustfmt.toml",
        ] {
            let mut command = Command::new("cp");
            command.arg("-r").arg(root.join(part)).arg(&copy);
            assert!(command.status().expect("cp").success(), "{part}");
        }
        hashes(&copy)
    });
    assert!(hashes[0].len() >= 3, "{hashes:?}");
    assert_eq!(hashes[0], hashes[1]);
}

/// The files with the hashes of all releases of a project, built there.
fn hashes(project: &Path) -> Vec<(PathBuf, String)> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_neurath"));
    command.current_dir(project);
    let status = command.args(["release", "build", "--all"]).status();
    assert!(status.expect("the command is run").success());
    let mut found: Vec<_> = fs::read_dir(project.join("target/neurath/releases"))
        .expect("the releases")
        .map(|entry| {
            let path = entry.expect("an entry").path();
            let hash = fs::read_to_string(path.join("MANIFEST.blake3")).expect("the hash");
            (PathBuf::from(path.file_name().expect("a name")), hash)
        })
        .collect();
    found.sort();
    found
}
