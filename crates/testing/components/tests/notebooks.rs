//! The notebooks without a node, and their files.

use std::path::Path;

use kv_testing::{Instance, schema};
use neurath_manifest::{Appup, Component, Release};
use neurath_test_components::{NEW, OLD, Sound, project};

mod old {
    use super::Sound;
    neurath_test_components::notebook_1_0!(Sound, "1.0.0");
}

mod new {
    use super::Sound;
    neurath_test_components::notebook_1_1!(Sound, "1.1.0");
}

const CONFIG: &str = r#"{"listen": "127.0.0.1:0"}"#;

fn talk<S: neurath::Component>(notebook: &mut Instance<S>, lines: &str, answers: &str) {
    assert_eq!(
        notebook.data(1, lines.as_bytes()),
        Ok(lines.rfind('\n').map_or(0, |at| at + 1))
    );
    let all: Vec<u8> = notebook
        .log
        .replies
        .iter()
        .flat_map(|(_, reply)| reply.clone())
        .collect();
    assert_eq!(String::from_utf8_lossy(&all), answers);
    notebook.check_state().expect("a sound state");
}

#[test]
fn notes_outlive_the_conversions() {
    let mut notebook = Instance::<old::Notebook>::new(schema!(old::Notebook), CONFIG);
    talk(
        &mut notebook,
        "add one\nadd a note of more than twenty bytes\r\ncount\nget",
        "0\n1\n2\n",
    );
    talk(
        &mut notebook,
        "get 5\nversion\nx\n",
        "error: there is no such note\n1.0.0\nerror: there are add, count, get, panic, version and wait\n",
    );
    let up = [
        new::__NEURATH_MIGRATION_note_from_1_0,
        new::__NEURATH_MIGRATION_notebook_from_1_0,
    ];
    let store = notebook
        .into_store()
        .migrate(schema!(new::Notebook), &up, 1);
    let mut notebook = Instance::<new::Notebook>::over(store, CONFIG);
    talk(
        &mut notebook,
        "get 1\nadd three\nversion\n",
        "a note of more than twenty bytes\n2\n1.1.0\n",
    );
    let down = [
        new::__NEURATH_MIGRATION_note_to_1_0,
        new::__NEURATH_MIGRATION_notebook_to_1_0,
    ];
    let store = notebook
        .into_store()
        .migrate(schema!(old::Notebook), &down, 1);
    let mut notebook = Instance::<old::Notebook>::over(store, CONFIG);
    talk(&mut notebook, "get 0\nget 2\ncount\n", "one\nthree\n3\n");
}

#[test]
fn the_files_are_sound() {
    let dir = tempfile::tempdir().expect("a directory");
    project(dir.path(), OLD, "init_panics", "127.0.0.1:1234").expect("written");
    let read =
        |path: &str| std::fs::read_to_string(dir.path().join(Path::new(path))).expect("a file");
    for (version, library) in [("1.0.0", OLD), ("1.1.0", "init_panics")] {
        let path = format!("manifests/notebook/{version}.toml");
        let text = read(&path);
        let line = format!("library = \"neurath-test-components/{library}\"");
        assert!(text.contains(&line), "{text}");
        let text = text.replace("neurath-test-components/", "");
        let component = Component::parse(&path, &text).expect("a manifest");
        assert_eq!(component.library, library);
        let path = format!("releases/book/{version}.toml");
        let text = read(&path);
        Release::parse(&path, &text).expect("a release");
        assert!(text.contains("127.0.0.1:1234") && !text.contains("7480"));
    }
    assert_ne!(OLD, NEW);
    let path = "manifests/notebook/1.1.0.appup.toml";
    Appup::parse(path, &read(path)).expect("an appup");
}
