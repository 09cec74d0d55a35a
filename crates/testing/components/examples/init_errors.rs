//! The notebook, 1.1.0, whose `init` refuses.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn init() -> Result<()> {
        Err(neurath::Error::new("an init that refuses"))
    }
}

notebook_component_1_1!(Broken);
