//! Regions: the state of a component's instance in a memory-mapped file.
//!
//! A region holds objects of described types. A component reads and changes them in
//! transactions ([`Tx`]), one a message; the node that owns the region commits or
//! aborts them ([`region::Region`]). Collections live in [`collections`], the types'
//! descriptions in [`schema`], the conversion of a region to other types in [`migrate`].
//!
//! The same source serves both sides: a component's library links the client side
//! (`Tx`, collections, schemas), which reaches the owner's only through the functions
//! in a [`neurath_abi::RegionSlot`].

#[cfg(any(test, feature = "campaign"))]
// So that `#[derive(Pmem)]` names the same paths inside and outside of this crate.
extern crate self as neurath_pmem;

#[cfg(any(test, feature = "campaign"))]
pub mod campaign;
pub mod collections;
mod dummy;
#[cfg(any(test, feature = "campaign"))]
mod failure;
#[cfg(any(test, feature = "campaign"))]
pub mod fuzz;
pub mod history;
pub mod inspect;
pub mod migrate;
mod parcel;
pub mod region;
pub mod schema;
mod tx;
mod types;

pub use collections::{Bytes, Map, OrderedMap, Vector};
pub use dummy::Handle;
pub use neurath_abi::Ref;
#[doc(hidden)]
pub use neurath_pmem_derive::ComponentPmem;
pub use neurath_pmem_derive::Pmem;
pub use parcel::Parcel;
pub use tx::{Tx, TxError};
pub use types::{P, Pmem, as_bytes, from_bytes};

/// The trait without the derive of its name, for the SDK, which has another one.
#[doc(hidden)]
pub mod traits {
    pub use crate::types::Pmem;
}

/// The example of a collection in the documentation compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/collections.md")]
struct Collections;
