//! The notebook, 1.1.0, whose conversion back to 1.0 refuses every note.
#![deny(unsafe_code)]

use neurath_test_components::{Result, Sound, code_change, notebook_1_1};

notebook_1_1!(Sound, "1.1.0");

/// Refuses.
#[code_change(to = "1.0")]
pub fn note_down(_: Note) -> Result<v1_0::Note> {
    Err(neurath::Error::new("a conversion back that refuses"))
}

neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.1.0",
    code_change = [note_from_1_0, notebook_from_1_0, note_down, notebook_to_1_0]
);
