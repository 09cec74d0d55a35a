//! The notebook, 1.1.0, with hooks.
#![deny(unsafe_code)]

use neurath_test_components::{Sound, dawdle, note, notebook_1_1};

notebook_1_1!(Sound, "1.1.0");
neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.1.0",
    code_change = [
        note_from_1_0,
        notebook_from_1_0,
        note_to_1_0,
        notebook_to_1_0
    ],
    hooks = [note, dawdle]
);
