//! Collections that live in a region.
//!
//! Their headers are plain values inside an object; what they hold are objects of its
//! own. A header changed by an operation must be written back: [`crate::Tx::update`]
//! and the SDK's `Context::with` do so.

mod bytes;
mod map;
pub(crate) mod order;
mod ordered_map;
mod vector;

pub use bytes::Bytes;
pub use map::{Map, MapKey, Slot};
pub use ordered_map::{Direction, OrderedKey, OrderedMap};
pub use vector::Vector;

#[cfg(any(test, feature = "campaign"))]
pub(crate) use map::FIXED_KEY;

#[cfg(test)]
mod tests;
