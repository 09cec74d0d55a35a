//! The notebook, 1.1.0: a note knows when it was written.
#![deny(unsafe_code)]

use neurath_test_components::{Sound, notebook_component_1_1};

notebook_component_1_1!(Sound);
