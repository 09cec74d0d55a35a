//! Part of the demo.
