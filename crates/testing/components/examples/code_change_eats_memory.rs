//! The notebook, 1.1.0, whose conversions take more and more memory.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

/// Bytes taken at a time, and how often: far more than a test's limit.
const PART: usize = 64 << 20;
const PARTS: usize = 64;

impl Faults for Broken {
    fn code_change() -> Result<()> {
        let mut taken: Vec<Vec<u8>> = Vec::new();
        for part in 0..PARTS {
            taken.push(vec![part as u8 + 1; PART]);
        }
        let last = taken.last().and_then(|part| part.last());
        Err(neurath::Error::new(format!("no limit: {last:?}")))
    }
}

notebook_component_1_1!(Broken);
