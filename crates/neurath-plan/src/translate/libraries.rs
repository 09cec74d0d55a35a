//! Which libraries a script makes ready.

use super::{Origin, Writer};
use crate::instructions::Member;
use crate::plan::Direction;
use neurath_manifest::{PurgeKind, Step};
use semver::Version;
use std::collections::HashSet;

impl<'a> Writer<'a> {
    /// Every library that the script needs, each once: those between two versions before the last.
    pub(super) fn libraries(&self) -> Vec<Origin> {
        let (mut steps, mut known) = (Vec::new(), HashSet::new());
        let mut add = |origin: Origin| {
            if let Step::LoadObjectCode {
                component, version, ..
            } = &origin.step
                && known.insert((component.clone(), version.clone()))
            {
                steps.push(origin);
            }
        };
        let mut groups: Vec<usize> = (0..self.groups.len()).collect();
        groups.sort_by_key(|group| self.group_place(*group));
        let order = self.dependencies_first(&groups);
        let order: Vec<&Member<'_>> = match self.direction {
            Direction::Up => order,
            Direction::Down => order.into_iter().rev().collect(),
        };
        for member in order {
            let Some(to) = member.to.filter(|_| self.has_code(member)) else {
                continue;
            };
            let calls = member.calls.iter().filter(|_| self.converts(member));
            for call in calls {
                let (component, version) = match call.via {
                    Some(via) => match self.newer_version(via) {
                        Some(version) => (via, version),
                        None => continue,
                    },
                    None => (member.component, call.newer()),
                };
                // The old library is open, and the new one comes below.
                if call.via.is_some() || (Some(version) != member.from && version != to) {
                    add(made_ready(component, version, None));
                }
            }
            if member.from != Some(to) {
                add(made_ready(member.component, to, member.pre_purge));
            }
        }
        self.loads.iter().cloned().for_each(add);
        steps
    }

    /// The version of a component in the newer release.
    fn newer_version(&self, name: &str) -> Option<&'a Version> {
        let part = match self.direction {
            Direction::Up => self.sides.new_one(name),
            Direction::Down => self.sides.old(name),
        };
        part.map(|part| &part.version)
    }

    /// Where a group was written: the order of groups on the way up is the order of the list, and down its reverse.
    fn group_place(&self, group: usize) -> usize {
        match self.direction {
            Direction::Up => group,
            Direction::Down => self.groups.len() - group,
        }
    }
}

fn made_ready(component: &str, version: &Version, pre_purge: Option<PurgeKind>) -> Origin {
    Origin::made(Step::LoadObjectCode {
        component: component.into(),
        version: version.clone(),
        pre_purge,
    })
}
