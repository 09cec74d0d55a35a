//! The notebook, 1.1.0, which leaves a mark as soon as it is mapped: its code runs before anybody has
//! called it, as that of any library can.

use std::io::Write as _;

use neurath_test_components::{Sound, notebook_component_1_1};

/// Appends a line to the file that `NEURATH_TEST_MARK` names.
extern "C" fn leave() {
    if let Some(path) = std::env::var_os("NEURATH_TEST_MARK") {
        let file = std::fs::File::options()
            .create(true)
            .append(true)
            .open(path);
        let _ = file.and_then(|mut file| file.write_all(b"mapped\n"));
    }
}

// SAFETY: what is in this section is called with no arguments that `leave` would look at, once, when
// the library is mapped.
#[used]
#[unsafe(link_section = ".init_array")]
static LEAVE: extern "C" fn() = leave;

notebook_component_1_1!(Sound);
