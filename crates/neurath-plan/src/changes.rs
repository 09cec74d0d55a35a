//! Which components change between two releases.

use crate::plan::Direction;
use crate::sides::Sides;
use neurath_manifest::{ReleaseComponent, Span};
use semver::Version;

/// A component that is in both releases in different versions.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) component: &'a str,
    pub(crate) from: &'a Version,
    pub(crate) to: &'a Version,
    /// Where the target release names it.
    pub(crate) span: &'a Span,
}

impl<'a> Change<'a> {
    /// The component's own direction, which need not be the release's.
    pub(crate) fn direction(&self) -> Direction {
        Direction::between(self.from, self.to)
    }

    /// The newer of the two versions: its appup and its library know the way.
    pub(crate) fn newer(&self) -> &'a Version {
        self.from.max(self.to)
    }
}

/// The components that change, in listing order.
pub(crate) fn between<'a>(sides: &Sides<'a>) -> Vec<Change<'a>> {
    let changed = sides.listing().filter_map(|name| {
        let (old, new) = (sides.old(name)?, sides.new_one(name)?);
        let change = Change {
            component: &new.name,
            from: &old.version,
            to: &new.version,
            span: &new.span,
        };
        (old.version != new.version).then_some(change)
    });
    changed.collect()
}

/// The components that only the wanted release has, in listing order.
pub(crate) fn added<'a>(sides: &Sides<'a>) -> Vec<&'a ReleaseComponent> {
    let new = sides.listing().filter_map(|name| {
        sides
            .new_one(name)
            .filter(|part| sides.old(&part.name).is_none())
    });
    new.collect()
}

/// The components that only the release that is left has, in listing order.
pub(crate) fn removed<'a>(sides: &Sides<'a>) -> Vec<&'a ReleaseComponent> {
    let old = sides.listing().filter_map(|name| {
        sides
            .old(name)
            .filter(|part| sides.new_one(&part.name).is_none())
    });
    old.collect()
}
