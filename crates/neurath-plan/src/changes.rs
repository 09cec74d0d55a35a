//! Which components change between two releases, and what their appups say of it.

use crate::catalogue::Catalogue;
use crate::codes;
use crate::plan::Direction;
use neurath_manifest::{AppupEntry, Diagnostic, Release, Source, Span};
use semver::Version;

/// A component that is in both releases in different versions.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    pub(crate) component: &'a str,
    pub(crate) from: &'a Version,
    pub(crate) to: &'a Version,
    /// Where the target release names it.
    pub(crate) span: &'a Span,
}

impl Change<'_> {
    /// The component's own direction, which need not be the release's.
    pub(crate) fn direction(&self) -> Direction {
        Direction::between(self.from, self.to)
    }

    /// The newer of the two versions: its appup and its library know the way.
    pub(crate) fn newer(&self) -> &Version {
        self.from.max(self.to)
    }
}

/// The components that change, in the listing order of the target release.
pub(crate) fn between<'a>(from: &'a Release, to: &'a Release) -> Vec<Change<'a>> {
    let changed = to.components.iter().filter_map(|new| {
        let old = from.component(&new.name)?;
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

/// The entry of the newer version's appup that covers a change; the first match wins.
pub(crate) fn entry<'a>(
    catalogue: &'a Catalogue,
    change: &Change<'_>,
    release: &Release,
    problems: &mut Vec<Diagnostic>,
) -> Option<(&'a AppupEntry, &'a Source)> {
    let (name, newer) = (change.component, change.newer());
    let Some(appup) = catalogue.appup(name, newer) else {
        let message = format!(
            "{name} changes from {} to {}, and {name} {newer} has no appup",
            change.from, change.to
        );
        let label = "changes here";
        problems.push(
            Diagnostic::error(codes::NO_APPUP, message)
                .at(&release.source, change.span.clone(), label)
                .help(format!("write manifests/{name}/{newer}.appup.toml; `{{ load = \"{name}\" }}` will do if only code changed")),
        );
        return None;
    };
    let (found, list, word, other) = match change.direction() {
        Direction::Up => (
            appup.up_from(change.from),
            &appup.up,
            "[[up]] from",
            change.from,
        ),
        Direction::Down => (
            appup.down_to(change.to),
            &appup.down,
            "[[down]] to",
            change.to,
        ),
    };
    if found.is_none() {
        let message = format!("the appup of {name} {newer} has no {word} that covers {other}");
        let mut diagnostic = Diagnostic::error(codes::NOT_COVERED, message).in_file(&appup.source);
        for (number, entry) in list.iter().enumerate() {
            diagnostic = if number == 0 {
                diagnostic.at(&appup.source, entry.span.clone(), "does not cover it")
            } else {
                diagnostic.related(&appup.source, Some(entry.span.clone()), "neither does this")
            };
        }
        problems.push(diagnostic.help(format!(
            "add an entry `{word} = \"={other}\"`, or go by way of a release between the two"
        )));
    }
    found.map(|entry| (entry, &appup.source))
}
