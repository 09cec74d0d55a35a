//! The notebook, 1.1.0, which leaves a thread behind.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn init() -> Result<()> {
        std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(3600)));
        Ok(())
    }
}

notebook_component_1_1!(Broken);
