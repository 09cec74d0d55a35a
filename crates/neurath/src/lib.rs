//! What the author of a component depends on.
