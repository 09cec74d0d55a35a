//! Another component than the notebook, which serves the same.
#![deny(unsafe_code)]

use neurath_test_components::{Sound, notebook_1_0};

notebook_1_0!(Sound, "1.0.0");
neurath::component!(Notebook, name = "shelf", version = "1.0.0");
