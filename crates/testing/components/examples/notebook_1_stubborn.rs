//! The notebook, 1.0.0, whose `quiesce` refuses: an old version that does not want to go.
#![deny(unsafe_code)]

use neurath::Error;
use neurath_test_components::{Faults, Result, notebook_1_0};

/// What is wrong.
#[derive(Debug)]
pub struct Stubborn;

impl Faults for Stubborn {
    fn quiesce() -> Result<()> {
        Err(Error::new("I would rather not"))
    }
}

notebook_1_0!(Stubborn, "1.0.0");
neurath::component!(Notebook, name = "notebook", version = "1.0.0");
