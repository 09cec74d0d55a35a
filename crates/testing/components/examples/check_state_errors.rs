//! The notebook, 1.1.0, which does not like the state it has made.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn check_state() -> Result<()> {
        Err(neurath::Error::new("a state that makes no sense"))
    }
}

notebook_component_1_1!(Broken);
