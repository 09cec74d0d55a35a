//! The notebook, 1.1.0, whose `init` refuses when it is called for the third time.
#![deny(unsafe_code)]

use std::sync::atomic::{AtomicU32, Ordering};

use neurath_test_components::{Faults, Result, notebook_component_1_1};

static CALLS: AtomicU32 = AtomicU32::new(0);

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn init() -> Result<()> {
        match CALLS.fetch_add(1, Ordering::Relaxed) {
            2 => Err(neurath::Error::new("an init that refuses the third time")),
            _ => Ok(()),
        }
    }
}

notebook_component_1_1!(Broken);
