//! The notebook, 1.1.0, whose `init` takes far too long.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, loop_for_long, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn init() -> Result<()> {
        loop_for_long();
        Ok(())
    }
}

notebook_component_1_1!(Broken);
