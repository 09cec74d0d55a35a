//! What the acceptance tests in `tests/` share.
