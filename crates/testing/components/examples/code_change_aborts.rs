//! The notebook, 1.1.0, whose conversions end the process.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn code_change() -> Result<()> {
        std::process::abort()
    }
}

notebook_1_1!(Broken, "1.1.0");
neurath::component!(
    Notebook,
    name = "notebook",
    version = "1.1.0",
    code_change = [
        note_from_1_0,
        notebook_from_1_0,
        note_to_1_0,
        notebook_to_1_0
    ]
);
