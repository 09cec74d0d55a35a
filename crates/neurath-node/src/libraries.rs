//! libraries.
