//! The running node: loader, event loops, sockets, upgrade executor, catalog, journal.
