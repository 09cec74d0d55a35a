//! What becomes of the states of components.

use super::{Activity, Fault, Model, fault};
use crate::codes;
use crate::schema::ComponentFacts;
use semver::Version;

impl<'a> Model<'a> {
    fn facts(&self, name: &str, version: &Version) -> Option<&'a ComponentFacts> {
        self.catalogue.facts(name, version)
    }

    /// Whether two versions have the same state, as far as is known.
    fn same_state(&self, name: &str, one: &Version, other: &Version) -> bool {
        one == other
            || match (self.facts(name, one), self.facts(name, other)) {
                (Some(one), Some(other)) => one.state.fingerprint == other.state.fingerprint,
                _ => false,
            }
    }

    pub(super) fn code_change(
        &mut self,
        name: &str,
        (from, to): (&Version, &Version),
        hops: &[(&Version, &Version, Option<&String>)],
        faults: &mut Vec<Fault>,
    ) {
        if self.activity(name) == Activity::Running {
            faults.push(fault(
                codes::NOT_SUSPENDED,
                format!("{name} is not suspended"),
                "suspend it before, and resume it after",
            ));
        }
        self.not_committed(name, faults);
        self.wanted(name, to, faults);
        let held = self.parts.get(name).and_then(|part| part.state.clone());
        if held.as_ref() != Some(from) {
            let (message, help) = if held.as_ref() == Some(to) {
                (
                    format!("the state of {name} was changed before"),
                    "remove one of the two",
                )
            } else {
                (
                    format!("the state there is not that of {name} {from}"),
                    "name the version that the release it starts from has",
                )
            };
            faults.push(fault(codes::MISPLACED, message, help));
        }
        let mut at = from.clone();
        for (hop_from, hop_to, via) in hops {
            if !self.continues(name, &at, hop_from) {
                faults.push(fault(
                    codes::MISPLACED,
                    format!(
                        "the hop from {hop_from} does not begin where the one before ends, at {at}"
                    ),
                    "give the hops in order, each from where the last one ends",
                ));
            }
            let newer = hop_from.max(hop_to);
            match via {
                Some(via) => self.spare.retain(|(name, _)| name != *via),
                None => {
                    self.spare.remove(&(name.to_string(), (*newer).clone()));
                }
            }
            let open = via.is_some()
                || self.ready.contains(&(name.to_string(), (*newer).clone()))
                || self
                    .sides
                    .old(name)
                    .is_some_and(|part| part.version == **newer);
            if !open {
                faults.push(fault(
                    codes::MISPLACED,
                    format!("{name} {newer}, whose library has the conversion, was not made ready"),
                    "add a load_object_code of it before the point of no return",
                ));
            }
            at = (*hop_to).clone();
        }
        if !self.continues(name, &at, to) {
            faults.push(fault(
                codes::MISPLACED,
                format!("the last hop ends at {at}, and not at {to}"),
                "add the hops that are missing",
            ));
        }
        if let Some(part) = self.part(name) {
            part.state = Some(to.clone());
        }
    }

    /// Whether a hop from `next` can follow one that ends at `at`: versions between, and those at the ends, may leave
    /// the state as it is. Where a library is not at hand it is not told.
    fn continues(&self, name: &str, at: &Version, next: &Version) -> bool {
        at == next
            || self.same_state(name, at, next)
            || self.facts(name, at).is_none()
            || self.facts(name, next).is_none()
    }

    pub(super) fn reset(&mut self, components: &[String], faults: &mut Vec<Fault>) {
        for name in components {
            self.stands_still(name, faults);
            self.not_committed(name, faults);
            let code = self.code(name).cloned();
            if let Some(part) = self.part(name) {
                part.state = code;
            }
        }
    }
}
