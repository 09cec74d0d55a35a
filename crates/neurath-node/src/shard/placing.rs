//! Instances that come to a shard and leave it, while it stands still.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::peers::Peers;
use super::{CALLER, Instance, Listener, Shard};

impl Shard {
    /// Learns who is there.
    pub(super) fn name_instances(&mut self) {
        self.peers = Arc::new(Peers::of(&self.instances));
        let names = self.instances.iter().map(|one| self.peers.name(one));
        self.names = names.collect();
    }

    /// The places of a component's instances.
    pub(crate) fn places_of(&self, component: &str) -> Vec<usize> {
        let mine = |at: &usize| self.instances[*at].component == component;
        (0..self.instances.len()).filter(mine).collect()
    }

    /// Gives an instance a place; tells which.
    pub(crate) fn add(&mut self, instance: Instance) -> usize {
        self.instances.push(instance);
        self.name_instances();
        self.instances.len() - 1
    }

    /// Takes an instance from its place. Its listeners and connections are closed, its timers are
    /// forgotten, and whoever waits for an answer of it is told that it is gone.
    pub(crate) fn remove(&mut self, at: usize) -> Instance {
        let instance = self.instances.remove(at);
        self.name_instances();
        let gone = format!("-ERR the component {} is gone\r\n", instance.component);
        let mut kept = std::mem::take(&mut self.mailbox);
        kept.retain(|envelope| {
            let stays = envelope.to != at;
            if !stays && envelope.token.target & CALLER == 0 {
                self.reply(envelope.token, gone.as_bytes());
            } else if !stays && let Some(caller) = self.callers.remove(&envelope.token.target) {
                // A caller that went away needs no answer.
                let _ = caller.send(Err(format!("{} is gone", instance.component)));
            }
            stays
        });
        for envelope in &mut kept {
            shift(&mut envelope.to, at);
        }
        self.mailbox = kept;
        self.timers.remove(at);
        self.remove_listeners(at);
        self.remove_connections(at);
        instance
    }

    /// Closes the sockets that an instance listens on.
    pub(super) fn close_listeners(&mut self, at: usize) {
        self.keep_listeners(at, |_| false);
    }

    /// Closes the sockets that an instance listens on, but those at addresses that are to be kept. The others keep their
    /// places, by which the poll set knows them. Connections that came by a socket which is closed stay.
    pub(crate) fn keep_listeners(&mut self, at: usize, keep: impl Fn(&str) -> bool) {
        let mut closed = false;
        for listener in &mut self.listeners {
            let goes = |one: &&mut Listener| one.owner == at && !keep(&one.address);
            let Some(there) = listener.as_mut().filter(goes) else {
                continue;
            };
            tracing::info!(bound = there.bound, "listens no more");
            closed = true;
            if let Err(error) = self.poll.registry().deregister(&mut there.socket) {
                tracing::debug!(%error, "cannot stop watching a listener");
            }
            *listener = None;
            self.figures.listened.fetch_add(1, Ordering::Relaxed);
        }
        if closed {
            // The first port is the one that `INFO` tells.
            let first = self.listeners.iter().flatten().next();
            let port = first.and_then(|one| one.bound.rsplit(':').next()?.parse().ok());
            self.figures
                .port
                .store(port.unwrap_or(0), Ordering::Relaxed);
        }
    }

    fn remove_listeners(&mut self, at: usize) {
        self.close_listeners(at);
        for listener in self.listeners.iter_mut().flatten() {
            shift(&mut listener.owner, at);
        }
    }

    fn remove_connections(&mut self, at: usize) {
        for slot in 0..self.connections.slots.len() {
            let Some(connection) = &mut self.connections.slots[slot] else {
                continue;
            };
            if connection.owner != at {
                shift(&mut connection.owner, at);
                continue;
            }
            // What it was answered already goes out, if the socket takes it.
            connection.flush();
            if let Err(error) = self.poll.registry().deregister(&mut connection.stream) {
                tracing::debug!(%error, "cannot stop watching a connection");
            }
            self.connections.slots[slot] = None;
            self.connections.free.push(slot);
            self.figures.connections.fetch_sub(1, Ordering::Relaxed);
        }
        self.let_in();
    }
}

/// The place of an instance, once the one at `removed` has gone.
fn shift(place: &mut usize, removed: usize) {
    if *place > removed {
        *place -= 1;
    }
}
