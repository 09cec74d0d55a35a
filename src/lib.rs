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
    let folder = TemporaryFolder::new().expect("a folder");
    let original = Folders::default();
    let manifests = folder.path().join("manifests");
    for component in std::fs::read_dir(&original.manifests).expect("manifests") {
        let component = component.expect("a folder");
        let to = manifests.join(component.file_name());
        std::fs::create_dir_all(&to).expect("made");
        for file in std::fs::read_dir(component.path()).expect("a component's manifests") {
            let file = file.expect("a file");
            let mut text = std::fs::read_to_string(file.path()).expect("text");
            for (version, durability) in versions {
                if component.file_name() == "store"
                    && file.file_name() == format!("{version}.toml").as_str()
                {
                    let process = "durability = \"process\"";
                    assert!(text.contains(process), "{text}");
                    text = text.replace(process, &format!("durability = \"{durability}\""));
                }
            }
            std::fs::write(to.join(file.file_name()), text).expect("written");
        }
    }
    let folders = Folders {
        manifests,
        releases: original.releases,
    };
    let names: Vec<&str> = versions.iter().map(|(version, _)| *version).collect();
    Stage::new(&folders, &names, &output())
        .expect("kv is built")
        .run_by(program())
}
