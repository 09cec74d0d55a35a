//! Conversions that another component's library has: `via`.
//!
//! A component can be upgraded whose authors wrote no `code_change`. Whoever releases it adds a library that has
//! one, as a component with `start = "load"`: it runs nothing.

use std::sync::Arc;

use neurath_manifest::Step;
use semver::Version;

use super::{Upgrade, UpgradeError, release_id};
use crate::loader::Library;
use crate::release::ReleasePackage;

/// The libraries that the conversions of a component are in, by the names that its steps give.
#[derive(Debug, Default)]
pub(super) struct Vias(Vec<(String, Arc<Library>)>);

impl Vias {
    /// The library of this name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Library>> {
        let mut all = self.0.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, library)| library)
    }
}

/// What the `code_change` of a component names; nothing if it names none.
pub(super) fn names<'a>(steps: &'a [Step], component: &str) -> Vec<&'a str> {
    let found = steps.iter().find_map(|step| match step {
        Step::CodeChange {
            component: name,
            via,
            hops,
            ..
        } if name == component => Some((via, hops)),
        _ => None,
    });
    let Some((via, hops)) = found else {
        return Vec::new();
    };
    let all = via
        .iter()
        .chain(hops.iter().filter_map(|hop| hop.via.as_ref()));
    all.map(String::as_str).collect()
}

/// The `via` of a component's one `code_change`.
pub(super) fn whole<'a>(steps: &'a [Step], component: &str) -> Option<&'a str> {
    steps.iter().find_map(|step| match step {
        Step::CodeChange {
            component: name,
            via,
            ..
        } if name == component => via.as_deref(),
        _ => None,
    })
}

impl Upgrade<'_> {
    /// The libraries that the conversions of a component are in.
    pub(super) fn vias(&mut self, component: &str) -> Result<Vias, UpgradeError> {
        let goal = self.goal;
        let mut all = Vias::default();
        for name in names(&goal.steps, component) {
            if all.get(name).is_none() {
                let library = self.via(name)?;
                all.0.push((name.to_owned(), library));
            }
        }
        Ok(all)
    }

    /// The newer of both releases.
    pub(super) fn newer_release(&self) -> &Arc<ReleasePackage> {
        let (to, from) = (&self.goal.package, &self.core.package);
        match is_newer(&to.release().version, &from.release().version) {
            true => to,
            false => from,
        }
    }

    /// The library of a component in the newer of both releases: one that is open, or opened now.
    pub(super) fn via(&mut self, name: &str) -> Result<Arc<Library>, UpgradeError> {
        let newer = self.newer_release().clone();
        let version = newer.component(name).map(|found| found.version.to_string());
        let version = version.ok_or_else(|| {
            UpgradeError::Script(format!(
                "the code_change of another component is to be that of `{name}`, which is not in {}",
                release_id(&newer)
            ))
        })?;
        let mut open = self.core.loaded.clone();
        open.extend(self.parts.iter().map(|part| part.library.clone()));
        open.extend(self.between.iter().cloned());
        open.extend(self.look(|instances| {
            let libraries = instances.iter().map(|one| one.library.clone());
            libraries.collect::<Vec<_>>()
        })?);
        let known = |library: &Arc<Library>| {
            let about = library.description();
            about.name == name && about.version == version
        };
        if let Some(library) = open.into_iter().find(known) {
            return Ok(library);
        }
        let library = self.core.open_library(&newer, name, &version)?;
        self.between.push(library.clone());
        Ok(library)
    }
}

/// Whether a release is newer than another: by their numbers, not by their letters.
fn is_newer(one: &Version, other: &Version) -> bool {
    one > other
}

#[cfg(test)]
mod tests {
    use super::is_newer;

    #[test]
    fn the_tenth_release_is_newer_than_the_ninth() {
        let version = |text: &str| text.parse().unwrap();
        assert!(is_newer(&version("1.10.0"), &version("1.9.0")));
        assert!(!is_newer(&version("1.9.0"), &version("1.10.0")));
    }
}
