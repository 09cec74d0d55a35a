//! The notebook, 1.0.0, each of whose instances ends its work only when all four of them are about to.
#![deny(unsafe_code)]

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use neurath::Error;
use neurath_test_components::{Faults, Result, notebook_1_0};

/// How many there are.
const INSTANCES: u32 = 4;
/// Longer than they need if they run at the same time.
const PATIENCE: Duration = Duration::from_secs(4);

static ABOUT_TO: Mutex<u32> = Mutex::new(0);
static ONE_MORE: Condvar = Condvar::new();

/// They wait for each other.
#[derive(Debug)]
pub struct Meets;

impl Faults for Meets {
    fn quiesce() -> Result<()> {
        let mut about_to = ABOUT_TO.lock().unwrap_or_else(PoisonError::into_inner);
        *about_to += 1;
        ONE_MORE.notify_all();
        let waited = ONE_MORE.wait_timeout_while(about_to, PATIENCE, |n| *n < INSTANCES);
        let (about_to, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match *about_to {
            INSTANCES.. => Ok(()),
            few => Err(Error::new(format!("{few} of {INSTANCES} are about to"))),
        }
    }
}

notebook_1_0!(Meets, "1.0.0");
neurath::component!(Notebook, name = "notebook", version = "1.0.0");
