//! How many clients there may be: so many that the node has the descriptors which it needs itself. Those beyond wait in the
//! queues of the listening sockets until others go.

use crate::descriptors;

/// Descriptors for the control socket and its clients, and for the files of an upgrade.
const RESERVED: u64 = 128;
/// Descriptors for each instance: its state, the next one, and those on the way there.
const FOR_AN_INSTANCE: u64 = 4;
/// So many clients there may be in any case.
const LEAST: u64 = 16;

/// See the module.
#[derive(Debug)]
pub(super) struct Room {
    most: u64,
    /// Whether clients wait who were not let in.
    full: bool,
}

impl Room {
    pub(super) fn beside(instances: usize) -> Room {
        Room::within(descriptors::limit(), instances as u64)
    }

    fn within(limit: u64, instances: u64) -> Room {
        let own = RESERVED + FOR_AN_INSTANCE * instances;
        Room {
            most: limit.saturating_sub(own).max(LEAST),
            full: false,
        }
    }

    /// Whether one more may come beside so many.
    pub(super) fn has_room(&mut self, connections: u64) -> bool {
        let has = connections < self.most;
        if !has && !self.full {
            let most = self.most;
            tracing::warn!(
                connections,
                most,
                "further clients wait until others go: raise the limit of descriptors"
            );
        }
        self.full |= !has;
        has
    }

    /// Notes that the system would not let one in.
    pub(super) fn is_full(&mut self) {
        self.full = true;
    }

    /// Whether clients wait for the place of one that has gone.
    pub(super) fn is_waited_for(&mut self) -> bool {
        std::mem::take(&mut self.full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_needs_itself_is_left() {
        let mut room = Room::within(1024, 3);
        assert!(room.has_room(883) && !room.is_waited_for());
        assert!(!room.has_room(884));
        assert!(room.is_waited_for() && !room.is_waited_for());
        assert!(Room::within(64, 3).has_room(15) && !Room::within(64, 3).has_room(16));
        assert!(Room::within(u64::MAX, 1024).has_room(1 << 40));
    }
}
