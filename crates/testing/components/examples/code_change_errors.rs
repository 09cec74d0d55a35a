//! The notebook, 1.1.0, whose conversions refuse.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn code_change() -> Result<()> {
        Err(neurath::Error::new("a conversion that refuses"))
    }
}

notebook_component_1_1!(Broken);
