//! The derive macro for types that live in a region.
