//! The notebook, 1.1.0, with the state of 1.0.0, whose notes can move to another component and back.
#![deny(unsafe_code)]

use neurath_test_components::{Sound, notebook_1_0, notebook_moves};

notebook_1_0!(Sound, "1.1.0");
notebook_moves!("notebook");
neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.1.0",
    moves = [notes_out, notes_in]
);
