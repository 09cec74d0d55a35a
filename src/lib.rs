//! What the acceptance tests in `tests/` share: built releases, and nodes that run them.

use std::path::PathBuf;

use neurath_cli::cli::Folders;
use neurath_cli::output::Output;
use neurath_cli::processes::TemporaryFolder;
use neurath_cli::stage::Stage;

/// The `neurath` command as the tests run it: with fault points, and otherwise the same.
///
/// # Panics
///
/// Outside of `cargo test`.
pub fn program() -> PathBuf {
    let test = std::env::current_exe().expect("the test's own path");
    let folder = test
        .parent()
        .and_then(|deps| deps.parent())
        .expect("target/PROFILE/deps");
    folder.join("suite-node")
}

/// A node program of another version than [`program`]'s, with fault points as well.
///
/// # Panics
///
/// Outside of `cargo test`.
pub fn second_program() -> PathBuf {
    program().with_file_name("suite-node-2")
}

fn output() -> Output {
    Output::new(neurath_cli::output::MessageFormat::Human)
}

/// Built versions of the key-value server, on a port of their own.
///
/// # Panics
///
/// If they cannot be built.
pub fn kv(versions: &[&str]) -> Stage {
    Stage::new(&Folders::default(), versions, &output())
        .expect("kv is built")
        .run_by(program())
}

/// The notebook of `crates/testing/components`: 1.0.0 from the example `old`, 1.1.0 from `new`.
///
/// # Panics
///
/// If they cannot be built.
pub fn book(old: &str, new: &str) -> Stage {
    let folder = TemporaryFolder::new().expect("a folder");
    let address = format!(
        "127.0.0.1:{}",
        neurath_cli::testing::free_port().expect("a port")
    );
    neurath_test_components::project(folder.path(), old, new, &address).expect("manifests");
    let folders = Folders {
        manifests: folder.path().join("manifests"),
        releases: folder.path().join("releases"),
    };
    let stage = Stage::of(folder, &folders, "book", &["1.0.0", "1.1.0"], &output());
    stage.expect("the notebook is built").run_by(program())
}

/// The same, the store's commits in each version surviving what is said: `process` or `power`.
///
/// # Panics
///
/// If they cannot be built.
pub fn kv_surviving(versions: &[(&str, &str)]) -> Stage {
    Stage::surviving(&Folders::default(), &["store"], versions, None, &output())
        .expect("kv is built")
        .run_by(program())
}
