//! A verifying RESP client: it writes and reads random keys, keeps a model of what each key
//! must hold, checks every reply against it, counts every acknowledged write and at the end
//! reads every key back.
//!
//! Use [`Verifier`] for a running load and [`fill`] with [`check_fill`] for many keys at rest.
#![forbid(unsafe_code)]

mod connection;
mod fill;
mod model;
mod operation;
mod report;
mod turns;
mod verifier;

pub use fill::{check_fill, fill, fill_key, fill_value};
pub use report::{Finding, FindingKind, Live, Report, Totals, Window};
pub use turns::Turns;
pub use verifier::{Options, Running, Verifier};
