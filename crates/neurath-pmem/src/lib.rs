//! Persistent-memory regions: format, allocator, transactions, collections, schemas.
