//! The running node: loader, event loops, sockets, upgrade executor, catalog, journal.

pub mod catalog;
pub mod client;
mod command;
pub mod control;
pub mod descriptors;
pub mod directory;
pub mod facts;
pub mod fault;
mod file_bytes;
pub mod handover;
mod health;
pub mod journal;
pub mod libraries;
pub mod lifecycle;
pub mod loader;
pub mod mapping;
pub mod meeting;
pub mod memory;
pub mod node;
pub mod package;
pub mod peer;
pub mod protocol;
pub mod release;
pub mod release_handler;
mod shard;
pub mod signals;
pub mod trust;
mod upgrade;
mod waiting;
mod worker;

pub use upgrade::{CallFailed, UpgradeError};
