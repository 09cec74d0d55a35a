//! Components that come, stop, start again and go.

use neurath_manifest::Step;

use super::history::Stage;
use super::part::{Course, NewState, Part};
use super::{Upgrade, UpgradeError, Way};
use crate::catalog::RegionEntry;
use crate::fault;
use crate::loader::Library;
use crate::node::{config_json, create_region};
use std::sync::Arc;

/// What a step of a script makes of the instances of a component; none if it leaves them as they are.
pub(super) fn course_of(step: &Step, component: &str) -> Option<Course> {
    let is_in = |names: &[String]| names.iter().any(|name| name == component);
    match step {
        Step::Load { component: one, .. } if one == component => Some(Course::Switched),
        Step::Stop { components } if is_in(components) => Some(Course::Stopped),
        Step::Start { components } if is_in(components) => Some(Course::Started),
        Step::Remove { component: one, .. } if one == component => Some(Course::Removed),
        _ => None,
    }
}

impl Upgrade<'_> {
    /// Takes note of an instance of a component that does not run yet. If the script starts it, its region is
    /// made now, while the others serve.
    pub(super) fn newcomer(
        &mut self,
        (component, number): (&str, u32),
        library: Arc<Library>,
    ) -> Result<Part, UpgradeError> {
        let config = config_json(&self.goal.package, component)?;
        let mut part = Part::new((component, number), None, library, config);
        let starts = |step: &Step| course_of(step, component) == Some(Course::Started);
        if self.goal.steps.iter().any(starts) {
            let entry = match self.left_behind(component, number) {
                Some(entry) if self.takes(component) => return self.take_over(part, &entry),
                Some(entry) => entry,
                None => self.make_region(&part)?,
            };
            let fingerprint = part.library.description().fingerprint;
            let mut region =
                self.core
                    .open_region(&self.goal.package, &entry, Some(fingerprint))?;
            let gets = self.history_of_newcomer(&part, &entry);
            let recorded = region.record_migrations(&gets);
            recorded.map_err(|error| UpgradeError::Script(error.to_string()))?;
            part.state = NewState::Made(Box::new(region));
            part.entry = Some(entry);
        }
        Ok(part)
    }

    /// On the way back: the state that an instance had when the upgrade removed it.
    pub(super) fn left_behind(&self, component: &str, number: u32) -> Option<RegionEntry> {
        let regions = match &self.goal.way {
            Way::Forward => return None,
            Way::Back => &self.core.catalog.state().previous.as_ref()?.regions,
            Way::BackWithLoss(regions) => regions,
        };
        let mine = |entry: &&RegionEntry| entry.is_of(component, number);
        regions.iter().find(mine).cloned()
    }

    /// Makes the region of an instance that comes.
    pub(super) fn make_region(&mut self, part: &Part) -> Result<RegionEntry, UpgradeError> {
        let (entry, _) = self.new_generation((&part.component, part.number), &part.library)?;
        create_region(
            &self.core.directory,
            &self.goal.package,
            (&part.component, part.number),
            &entry.file,
            part.library.clone(),
        )?;
        fault::point("upgrade.region-made");
        Ok(entry)
    }

    /// Stops components: they end their work, and do no more.
    pub(super) fn stop(&mut self, components: &[String]) -> Result<(), UpgradeError> {
        self.suspend(components, None)?;
        for component in components {
            self.hold(component)?;
            self.take_course(component, Course::Stopped)?;
        }
        Ok(())
    }

    /// Takes a component's code out of use.
    pub(super) fn remove(&mut self, component: &str) -> Result<(), UpgradeError> {
        let mut loaded = self.core.loaded.iter();
        if let Some(library) = loaded.find(|one| one.description().name == component) {
            // It runs nothing: only its library is open.
            let part = Part::new((component, 0), None, library.clone(), "{}".into());
            self.parts.push(part);
        } else {
            self.hold(component)?;
        }
        self.take_course(component, Course::Removed)
    }

    /// Makes parts of a component that runs, if the script has none for it yet: then its code
    /// stays the same.
    pub(super) fn hold(&mut self, component: &str) -> Result<(), UpgradeError> {
        if self.parts.iter().any(|part| part.component == component) {
            return Ok(());
        }
        let name = component.to_owned();
        let seen = self.look(move |instances| {
            let mine = instances.iter().enumerate();
            let mine = mine.filter(|(_, one)| one.component == name);
            let seen = mine.map(|(at, one)| {
                let code = (one.library.clone(), one.generation);
                (at, one.number, code, one.config.clone())
            });
            seen.collect::<Vec<_>>()
        })?;
        if seen.is_empty() {
            let what = format!("`{component}` does not run");
            return Err(UpgradeError::Script(what));
        }
        let stays = self.goal.package.component(component).is_some();
        for (at, number, (library, generation), mut config) in seen {
            if stays {
                config = config_json(&self.goal.package, component)?;
            }
            let before = Some((Stage::of(&library), generation));
            let mut part = Part::new((component, number), Some(at), library, config);
            part.before = before;
            self.parts.push(part);
        }
        Ok(())
    }
}
