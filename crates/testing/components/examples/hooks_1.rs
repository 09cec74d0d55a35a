//! The notebook, 1.0.0, with hooks.
#![deny(unsafe_code)]

use neurath_test_components::{Sound, dawdle, note, notebook_1_0};

notebook_1_0!(Sound, "1.0.0");
neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.0.0",
    hooks = [note, dawdle]
);
