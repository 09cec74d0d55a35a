//! What the author of a component depends on.
//!
//! A component is a `cdylib` with a state type that implements [`Component`] and
//! [`component!`]. The node calls it with one message at a time; everything it changes while
//! it serves one is a transaction, and what it sends or answers leaves when that is
//! committed. `docs/guide.md` walks through one.

mod component;
mod context;
#[doc(hidden)]
pub mod entry;
mod error;
mod instances;
mod migration;
mod moves;
mod narrowed;

#[doc(hidden)]
pub use neurath_abi as abi;
#[doc(hidden)]
pub use neurath_pmem as pmem;

pub use component::{Component, ConfigChange, Message};
pub use context::Context;
pub use error::{Error, Result};
pub use instances::instance_of;
pub use migration::Extra;
pub use moves::Moving;
pub use neurath_abi::{InfoKey, LogLevel, Token};
pub use neurath_macros::{CodeChange, code_change, component, move_in, move_out};
/// `#[derive(Pmem)]`, for a crate that depends on this one.
pub use neurath_pmem::ComponentPmem as Pmem;
pub use neurath_pmem::traits::Pmem;
pub use neurath_pmem::{Bytes, Map, OrderedMap, P, Parcel, Tx, TxError, Vector};
