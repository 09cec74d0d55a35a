//! The notebook, 1.1.0, whose conversions end the process.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn code_change() -> Result<()> {
        std::process::abort()
    }
}

notebook_component_1_1!(Broken);
