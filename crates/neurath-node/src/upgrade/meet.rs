//! `sync_nodes`: the upgrade waits until all nodes are at the same place.

use neurath_manifest::Step;

use super::{Upgrade, UpgradeError, Way};
use crate::meeting::{self, Arrived, Trip};
use crate::protocol::Progress;

impl Upgrade<'_> {
    /// Waits for the other nodes, while this one serves as before.
    ///
    /// A way back waits for nobody: it has to be there also when the others are not. Nor does a rehearsal.
    pub(super) fn sync_nodes(&mut self, step: &Step) -> Result<(), UpgradeError> {
        let Step::SyncNodes {
            id,
            nodes,
            deadline,
        } = step
        else {
            unreachable!("it is this step")
        };
        if self.goal.way != Way::Forward || self.core.hold || self.core.rehearsal {
            tracing::info!(point = %id, "a meeting point is passed by");
            return Ok(());
        }
        let index = self.goal.steps.iter().position(|one| one == step);
        let of = self.count();
        let progress = &mut *self.progress;
        let mut waits_for = |whom: &str| {
            progress(Progress {
                step: format!("{} {id}, waiting for {whom}", step.verb()),
                index: index.unwrap_or(0) as u32,
                of,
                micros: 0,
            });
        };
        let arrived = Arrived {
            point: id,
            nodes,
            deadline: *deadline,
            trip: Trip {
                from: self.core.current(),
                to: self.core.id_of(&self.goal.package),
            },
            abort: &self.core.abort,
        };
        Ok(meeting::meet(
            &self.core.meetings,
            &arrived,
            &mut waits_for,
        )?)
    }
}
