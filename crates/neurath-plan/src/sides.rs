//! The two releases of a plan, looked up by component.

use crate::plan::Direction;
use neurath_manifest::{Release, ReleaseComponent, StartType};
use std::collections::HashMap;

/// The release that is left, and the one that is wanted.
#[derive(Debug)]
pub(crate) struct Sides<'a> {
    pub(crate) from: &'a Release,
    pub(crate) to: &'a Release,
    old: HashMap<&'a str, &'a ReleaseComponent>,
    new: HashMap<&'a str, &'a ReleaseComponent>,
}

/// The components of a release by name.
pub(crate) fn by_name(release: &Release) -> HashMap<&str, &ReleaseComponent> {
    let parts = release.components.iter();
    parts.map(|part| (part.name.as_str(), part)).collect()
}

impl<'a> Sides<'a> {
    pub(crate) fn new(from: &'a Release, to: &'a Release) -> Self {
        Self {
            from,
            to,
            old: by_name(from),
            new: by_name(to),
        }
    }

    /// The component in the release that is left.
    pub(crate) fn old(&self, name: &str) -> Option<&'a ReleaseComponent> {
        self.old.get(name).copied()
    }

    /// The component in the release that is wanted.
    pub(crate) fn new_one(&self, name: &str) -> Option<&'a ReleaseComponent> {
        self.new.get(name).copied()
    }

    pub(crate) fn direction(&self) -> Direction {
        Direction::between(&self.from.version, &self.to.version)
    }

    /// Whether it leads to a newer release.
    pub(crate) fn is_up(&self) -> bool {
        self.to.version > self.from.version
    }

    /// The newer release: its listing order settles ties both ways, so that down mirrors up.
    pub(crate) fn newer(&self) -> &'a Release {
        match self.direction() {
            Direction::Up => self.to,
            Direction::Down => self.from,
        }
    }

    /// Every component of both, each once: those of the newer release first, in its order.
    pub(crate) fn listing(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let (first, second, other) = match self.direction() {
            Direction::Up => (self.to, self.from, &self.new),
            Direction::Down => (self.from, self.to, &self.old),
        };
        let known: std::collections::HashSet<&'a str> = other.keys().copied().collect();
        let more = second.components.iter().map(|part| part.name.as_str());
        first
            .components
            .iter()
            .map(|part| part.name.as_str())
            .chain(more.filter(move |name| !known.contains(name)))
    }

    /// Whether the component's instances run in the release that is left.
    pub(crate) fn ran(&self, name: &str) -> bool {
        self.old(name).is_some_and(|part| part.start.runs())
    }

    /// Whether the component's instances run in the release that is wanted.
    pub(crate) fn will_run(&self, name: &str) -> bool {
        self.new_one(name).is_some_and(|part| part.start.runs())
    }

    /// How the component is started in the release that is wanted.
    pub(crate) fn start(&self, name: &str) -> StartType {
        self.new_one(name)
            .map_or(StartType::None, |part| part.start)
    }
}
