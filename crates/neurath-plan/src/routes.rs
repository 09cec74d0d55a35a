//! How a component gets from one version to another: by one appup entry, or through versions between the two.

use crate::catalogue::Catalogue;
use crate::changes::Change;
use crate::codes;
use crate::plan::Direction;
use neurath_manifest::{AppupEntry, Diagnostic, Release, Source};
use semver::Version;
use std::collections::{BTreeMap, VecDeque};

/// One appup entry of the way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Leg<'a> {
    pub(crate) from: &'a Version,
    pub(crate) to: &'a Version,
    pub(crate) entry: &'a AppupEntry,
    pub(crate) source: &'a Source,
}

/// The appup entry that leads from one version straight to another: that of the newer one, the first match.
pub(crate) fn leg<'a>(
    catalogue: &'a Catalogue,
    component: &str,
    from: &'a Version,
    to: &'a Version,
) -> Option<Leg<'a>> {
    let appup = catalogue.appup(component, from.max(to))?;
    let entry = match Direction::between(from, to) {
        Direction::Up => appup.up_from(from),
        Direction::Down => appup.down_to(to),
    }?;
    Some(Leg {
        from,
        to,
        entry,
        source: &appup.source,
    })
}

/// The way of a change. An entry for the whole of it is taken where there is one; else the way with the fewest entries
/// through versions between the two, of several the one with the longest first hop.
pub(crate) fn find<'a>(
    catalogue: &'a Catalogue,
    change: &Change<'a>,
    release: &Release,
    problems: &mut Vec<Diagnostic>,
) -> Option<Vec<Leg<'a>>> {
    let (name, from, to) = (change.component, change.from, change.to);
    if let Some(leg) = leg(catalogue, name, from, to) {
        return Some(vec![leg]);
    }
    let found = compose(catalogue, name, from, to);
    if found.is_none() {
        problems.push(no_way(catalogue, change, release));
    }
    found
}

/// Breadth first over the versions between the two.
fn compose<'a>(
    catalogue: &'a Catalogue,
    name: &str,
    from: &'a Version,
    to: &'a Version,
) -> Option<Vec<Leg<'a>>> {
    let (low, high) = (from.min(to), from.max(to));
    let mut versions: Vec<&'a Version> = catalogue
        .versions(name)
        .filter(|version| low < *version && *version < high)
        .collect();
    versions.push(to);
    versions.sort();
    if to > from {
        // The longest hop is tried first.
        versions.reverse();
    }
    let mut came_by: BTreeMap<&'a Version, Leg<'a>> = BTreeMap::new();
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        for next in &versions {
            let forward = (at < *next) == (from < to) && at != *next;
            if !forward || came_by.contains_key(next) {
                continue;
            }
            if let Some(leg) = leg(catalogue, name, at, next) {
                came_by.insert(next, leg);
                queue.push_back(next);
            }
        }
        if came_by.contains_key(to) {
            break;
        }
    }
    let mut legs = Vec::new();
    let mut at = to;
    while at != from {
        let leg = *came_by.get(at)?;
        legs.push(leg);
        at = leg.from;
    }
    legs.reverse();
    Some(legs)
}

fn no_way(catalogue: &Catalogue, change: &Change<'_>, release: &Release) -> Diagnostic {
    let (name, newer) = (change.component, change.newer());
    let Some(appup) = catalogue.appup(name, newer) else {
        let message = format!(
            "{name} changes from {} to {}, and {name} {newer} has no appup",
            change.from, change.to
        );
        return Diagnostic::error(codes::NO_APPUP, message)
            .at(&release.source, change.span.clone(), "changes here")
            .help(format!("write manifests/{name}/{newer}.appup.toml; `{{ load = \"{name}\" }}` will do if only code changed"));
    };
    let (list, word, other) = match change.direction() {
        Direction::Up => (&appup.up, "[[up]] from", change.from),
        Direction::Down => (&appup.down, "[[down]] to", change.to),
    };
    let message = format!("the appup of {name} {newer} has no {word} that covers {other}");
    let mut diagnostic = Diagnostic::error(codes::NOT_COVERED, message).in_file(&appup.source);
    for (number, entry) in list.iter().enumerate() {
        diagnostic = if number == 0 {
            diagnostic.at(&appup.source, entry.span.clone(), "does not cover it")
        } else {
            diagnostic.related(&appup.source, Some(entry.span.clone()), "neither does this")
        };
    }
    diagnostic.help(format!(
        "add an entry `{word} = \"={other}\"`, or the appups of versions between the two"
    ))
}
