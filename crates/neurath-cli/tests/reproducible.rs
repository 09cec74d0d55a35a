//! The same sources give the same library, in whatever folder they are built.

use neurath_cli::cargo::build_libraries;
use neurath_pmem::Pmem;
use neurath_pmem::schema::{SchemaDesc, encode, encoded_len};
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

#[derive(Clone, Copy, Debug, Pmem)]
#[repr(C)]
struct State {
    count: u64,
}

const SCHEMA: [u8; encoded_len(State::SCHEMA)] = encode(State::SCHEMA);

/// A project with one component, which needs nothing but the boundary's types, and one release.
fn small_project(folder: &Path) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let write = |path: &str, text: &str| {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder is made");
        fs::write(path, text).expect("the file is written");
    };
    let copy = |from: &str, to: &str| {
        let mut command = Command::new("cp");
        command.arg("-r").arg(root.join(from)).arg(folder.join(to));
        assert!(command.status().expect("cp").success(), "{from}");
    };
    write(
        "Cargo.toml",
        "[workspace]\nmembers = [\"fixture\", \"abi\"]\nresolver = \"3\"\n\
         [profile.release]\ndebug = \"line-tables-only\"\n",
    );
    write(
        "fixture/Cargo.toml",
        "[package]\nname = \"fixture\"\nversion = \"1.2.3\"\nedition = \"2024\"\n\
         [lib]\ncrate-type = [\"cdylib\"]\n[dependencies]\nneurath-abi = { path = \"../abi\" }\n",
    );
    write(
        "abi/Cargo.toml",
        "[package]\nname = \"neurath-abi\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
    );
    // The fixture's own schema is none that can be read.
    let known = SchemaDesc::decode(&SCHEMA).expect("a schema");
    let source = root.join("testing/loader-fixtures/src/lib.rs");
    let source = fs::read_to_string(source).expect("the fixture");
    let with_schema = source
        .replace("b\"SCHEMA-BYTES\"", &format!("&{SCHEMA:?}"))
        .replace(
            "fingerprint: [7; 16]",
            &format!("fingerprint: {:?}", known.fingerprint),
        );
    assert!(with_schema.matches(&format!("{SCHEMA:?}")).count() == 1);
    write("fixture/src/lib.rs", &with_schema);
    copy("neurath-abi/src", "abi/src");
    write(
        "manifests/fixture/1.2.3.toml",
        "name = \"fixture\"\nversion = \"1.2.3\"\nlibrary = \"fixture\"\n\
         [region]\ninitial_size = \"1MiB\"\nlimit = \"64MiB\"\ndurability = \"process\"\n",
    );
    write(
        "releases/small/1.0.0.toml",
        "name = \"small\"\nversion = \"1.0.0\"\nnode = \"0.1.0\"\n[components]\nfixture = { version = \"1.2.3\" }\n\
         [confirm]\nwindow = \"60s\"\n",
    );
}

/// Every file of a folder, by its path in it.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("inside").to_owned();
                found.push((name, fs::read(path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

/// A whole release, from the sources to the package: the same bytes, wherever it is built.
#[test]
fn a_release_and_its_package_do_not_depend_on_their_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let built = ["a", "another/much/longer/way"].map(|name| {
        let project = folder.path().join(name);
        small_project(&project);
        let run = |arguments: &[&str]| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_neurath"));
            let output = command.current_dir(&project).args(arguments).output();
            let output = output.expect("the command is run");
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(output.status.success(), "{arguments:?}: {said}");
        };
        run(&["release", "build", "--all"]);
        run(&[
            "release",
            "pack",
            "small-1.0.0",
            "--unsigned",
            "--sequence",
            "1",
            "--out",
            "package",
        ]);
        let package = fs::read(project.join("package")).expect("the package");
        (tree(&project.join("target/neurath/releases")), package)
    });
    let [(first, package), (second, other)] = built;
    let names = |tree: &[(PathBuf, Vec<u8>)]| {
        let names = tree.iter().map(|(name, _)| name.clone());
        names.collect::<Vec<_>>()
    };
    assert!(first.len() > 3, "{:?}", names(&first));
    assert_eq!(names(&first), names(&second));
    for ((name, one), (_, two)) in first.iter().zip(&second) {
        assert!(one == two, "{} differs", name.display());
    }
    assert!(package == other, "the packages differ");
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
