//! An archive: a notebook of another name, for notes that move to it and back.
#![deny(unsafe_code)]

use neurath_test_components::{Sound, notebook_1_0, notebook_moves};

notebook_1_0!(Sound, "1.0.0");
notebook_moves!("archive");
neurath::component!(
    Notebook,
    name = "archive",
    version = "1.0.0",
    moves = [notes_out, notes_in]
);
