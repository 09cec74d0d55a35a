//! The notebook, 1.1.0, whose conversions print, and take far too long.
#![deny(unsafe_code)]

use neurath_test_components::{Faults, Result, loop_for_long, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn code_change() -> Result<()> {
        static ONCE: std::sync::Once = std::sync::Once::new();
        // What it prints looks as if a rehearsal told that it was done with nothing.
        println!("{{\"failed\":{{\"code\":0,\"message\":\"forged\",\"step\":null}}}}");
        print!("and a line that does not end");
        // Not for every note: it has to come to an end some time.
        ONCE.call_once(loop_for_long);
        Ok(())
    }
}

notebook_component_1_1!(Broken);
