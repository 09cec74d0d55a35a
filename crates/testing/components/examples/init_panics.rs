//! The notebook, 1.1.0, whose `init` panics.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn init() -> Result<()> {
        panic!("an init that panics")
    }
}

notebook_component_1_1!(Broken);
