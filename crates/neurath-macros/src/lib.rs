//! The attribute macros of the component SDK.
