//! The running node: loader, event loops, sockets, upgrade executor, catalog, journal.

pub mod catalog;
pub mod client;
pub mod control;
pub mod directory;
pub mod facts;
pub mod fault;
pub mod journal;
pub mod libraries;
pub mod loader;
pub mod mapping;
pub mod node;
pub mod protocol;
pub mod release;
mod shard;
mod upgrade;
mod worker;

pub use upgrade::{CallFailed, UpgradeError};
