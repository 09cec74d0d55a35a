//! directory.
