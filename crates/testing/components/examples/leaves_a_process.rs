//! The notebook, 1.1.0, whose conversions start a process in a session of its own, whose parent ends at once, and
//! then do what they are told to.
#![deny(unsafe_code)]

use std::process::Command;
use std::sync::Once;

use neurath::Error;
use neurath_test_components::{Faults, Result, loop_for_long, notebook_component_1_1};

/// What is wrong.
#[derive(Debug)]
pub struct Broken;

impl Faults for Broken {
    fn code_change() -> Result<()> {
        static ONCE: Once = Once::new();
        let mut done = Ok(());
        ONCE.call_once(|| done = leave());
        done
    }
}

/// The process writes its number into the file that `NEURATH_TEST_LEFT` names.
fn leave() -> Result<()> {
    let script = "echo $$ > \"$NEURATH_TEST_LEFT\"; exec sleep 600";
    let mut command = Command::new("setsid");
    command.args(["--fork", "sh", "-c", script]);
    let started = command.status().map_err(|e| Error::new(e.to_string()))?;
    if !started.success() {
        return Err(Error::new("no process could be started"));
    }
    let written = |path: &String| std::fs::read(path).is_ok_and(|text| text.ends_with(b"\n"));
    let left = std::env::var("NEURATH_TEST_LEFT").map_err(|e| Error::new(e.to_string()))?;
    while !written(&left) {
        std::thread::yield_now();
    }
    match std::env::var("NEURATH_TEST_THEN").as_deref() {
        Ok("loop") => loop_for_long(),
        Ok("abort") => std::process::abort(),
        _ => {}
    }
    Ok(())
}

notebook_component_1_1!(Broken);
