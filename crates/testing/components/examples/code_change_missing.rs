//! The notebook, 1.1.0, without the conversions that its layout needs.
#![deny(unsafe_code)]

use neurath_test_components::{Sound, notebook_1_1};

notebook_1_1!(Sound, "1.1.0");
neurath::component!(Notebook, name = "notebook", version = "1.1.0");
