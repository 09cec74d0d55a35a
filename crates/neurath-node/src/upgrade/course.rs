//! Components that come, stop, start again and go.

use neurath_pmem::schema::hex;

use super::part::{Course, NewState, Part};
use super::{Upgrade, UpgradeError, Way};
use crate::catalog::RegionEntry;
use crate::directory::region_file_name;
use crate::fault;
use crate::loader::Library;
use crate::node::{config_json, create_region};
use std::sync::Arc;

impl Upgrade<'_> {
    /// Takes note of a component that does not run yet. If the script starts it, its region is
    /// made now, while the others serve.
    pub(super) fn newcomer(
        &mut self,
        component: &str,
        library: Arc<Library>,
    ) -> Result<Part, UpgradeError> {
        let config = config_json(&self.goal.package, component)?;
        let mut part = Part::new(component, None, library, config);
        let starts = |step: &neurath_manifest::Step| match step {
            neurath_manifest::Step::Start { components } => {
                components.iter().any(|name| name == component)
            }
            _ => false,
        };
        if self.goal.steps.iter().any(starts) {
            let entry = match self.left_behind(component) {
                Some(entry) => entry,
                None => self.make_region(&part)?,
            };
            let fingerprint = part.library.description().fingerprint;
            let region = self
                .core
                .open_region(&self.goal.package, &entry, fingerprint)?;
            part.state = NewState::Made(Box::new(region));
            part.entry = Some(entry);
        }
        Ok(part)
    }

    /// On the way back: the state that a component had when the upgrade removed it.
    fn left_behind(&self, component: &str) -> Option<RegionEntry> {
        let regions = match &self.goal.way {
            Way::Forward => return None,
            Way::Back => &self.core.catalog.state().previous.as_ref()?.regions,
            Way::BackWithLoss(regions) => regions,
        };
        let mine = |entry: &&RegionEntry| entry.component == component;
        regions.iter().find(mine).cloned()
    }

    /// Makes the region of a component that comes.
    fn make_region(&mut self, part: &Part) -> Result<RegionEntry, UpgradeError> {
        let generation = self.core.next_generation();
        let file = region_file_name(&part.component, 0, generation)?;
        create_region(
            &self.core.directory,
            &self.goal.package,
            &part.component,
            &file,
            part.library.clone(),
        )?;
        fault::point("upgrade.region-made");
        Ok(RegionEntry {
            component: part.component.clone(),
            instance: 0,
            generation,
            file,
            fingerprint: hex(part.library.description().fingerprint),
            version: part.version.clone(),
        })
    }

    /// Stops components: they end their work, and do no more.
    pub(super) fn stop(&mut self, components: &[String]) -> Result<(), UpgradeError> {
        self.suspend(components, None)?;
        for component in components {
            self.part_of(component)?.course = Course::Stopped;
        }
        Ok(())
    }

    /// Takes a component's code out of use.
    pub(super) fn remove(&mut self, component: &str) -> Result<(), UpgradeError> {
        let mut loaded = self.core.loaded.iter();
        if let Some(library) = loaded.find(|one| one.description().name == component) {
            // It runs nothing: only its library is open.
            let mut part = Part::new(component, None, library.clone(), "{}".into());
            part.course = Course::Removed;
            self.parts.push(part);
            return Ok(());
        }
        self.part_of(component)?.course = Course::Removed;
        Ok(())
    }

    /// The part of a component that runs, made if the script has none for it yet: then its code
    /// stays the same.
    fn part_of(&mut self, component: &str) -> Result<&mut Part, UpgradeError> {
        if let Some(at) = self.parts.iter().position(|p| p.component == component) {
            return Ok(&mut self.parts[at]);
        }
        let name = component.to_owned();
        let seen = self.look(move |instances| {
            let at = instances.iter().position(|one| one.component == name)?;
            let one = &instances[at];
            Some((at, one.library.clone(), one.config.clone()))
        })?;
        let Some((at, library, config)) = seen else {
            let what = format!("`{component}` does not run");
            return Err(UpgradeError::Script(what));
        };
        let stays = self.goal.package.component(component).is_some();
        let config = if stays {
            config_json(&self.goal.package, component)?
        } else {
            config
        };
        self.parts
            .push(Part::new(component, Some(at), library, config));
        let last = self.parts.len() - 1;
        Ok(&mut self.parts[last])
    }
}
