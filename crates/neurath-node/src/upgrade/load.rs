//! Step 1: the new version's library beside the old one, and what each instance of it needs.

use std::path::PathBuf;
use std::sync::Arc;

use neurath_pmem::migrate::Source;
use neurath_pmem::region::{Durability, Region, RegionOptions};
use neurath_pmem::schema::hex;

use super::chain::{self, Ends, Later, Link};
use super::history::Stage;
use super::part::{NewState, Part};
use super::{Upgrade, UpgradeError, Way, stepwise, via};
use crate::catalog::RegionEntry;
use crate::directory::region_file_name;
use crate::fault;
use crate::loader::Library;
use crate::node::{config_json, instances_of};
use crate::release::ReleasePackage;
use crate::shard::Instance;

/// An instance, as it is before an upgrade.
struct Seen {
    /// Its place on the shard.
    at: usize,
    number: u32,
    library: Arc<Library>,
    /// The generation of its region.
    generation: u64,
    /// The encoded schema of its region.
    schema: Vec<u8>,
    /// None if it is converted segment by segment, or to be, or stays as it is.
    source: Option<Source>,
    durability: Durability,
    /// The schema before, if it is still being converted.
    before: Option<Vec<u8>>,
}

impl Seen {
    /// `stays` says of its region whether the state may stay as it is, and `source` how it is seen otherwise.
    fn new(
        at: usize,
        instance: &mut Instance,
        stepwise: bool,
        stays: impl Fn(&Region) -> bool,
        source: fn(&mut Region) -> Source,
    ) -> Seen {
        let region = &mut instance.region;
        let before = region.schema_before();
        // It lists all segments: not while messages wait for no reason.
        let listed = !stepwise && before.is_none() && !stays(region);
        let source = listed.then(|| source(region));
        Seen {
            at,
            number: instance.number,
            library: instance.library.clone(),
            generation: instance.generation,
            schema: region.schema(),
            source,
            durability: region.durability(),
            before,
        }
    }
}

impl Upgrade<'_> {
    /// Step 1: loads the new version beside the old one.
    pub(super) fn load_object_code(
        &mut self,
        component: &str,
        version: &str,
    ) -> Result<(), UpgradeError> {
        let goal = self.goal;
        if goal.has_other(component, version) {
            return self.open_between(component, version);
        }
        if goal.package.component(component).is_none() {
            // On the way to a release without it only its conversions are called.
            return self.via(component).map(drop);
        }
        let library = self.open_once(component, version)?;
        fault::point("upgrade.library-open");
        let name = component.to_owned();
        let stepwise = stepwise::asked_for(&goal.steps, component);
        let (stays, source) = (self.may_stay(component, &library), self.source());
        let seen: Vec<Seen> = self.look(move |instances| {
            let mine = instances.iter_mut().enumerate();
            let mine = mine.filter(|(_, instance)| instance.component == name);
            mine.map(|(at, instance)| Seen::new(at, instance, stepwise, &stays, source))
                .collect()
        })?;
        if seen.is_empty() {
            for number in 0..instances_of(&goal.package, component) {
                let part = self.newcomer((component, number), library.clone())?;
                self.parts.push(part);
            }
        }
        for one in seen {
            let part = self.successor(component, library.clone(), one)?;
            self.parts.push(part);
        }
        Ok(())
    }

    /// Says of a region whether no conversion leads from it to the new version, so that its state stays in its file.
    fn may_stay(
        &self,
        component: &str,
        library: &Library,
    ) -> impl Fn(&Region) -> bool + Send + use<> {
        let direct = chain::hops(&self.goal.steps, component).len() <= 1;
        let moves = self.is_in_a_move(component);
        let manifest = self.goal.package.component(component);
        let durability = manifest.map(|manifest| region_options(manifest, 0).durability);
        let fingerprint = library.description().fingerprint;
        move |region| {
            direct
                && !moves
                && region.fingerprint() == fingerprint
                && durability == Some(region.durability())
        }
    }

    /// Opens the library of a component in the release that is led to, unless a conversion has needed it before.
    fn open_once(&mut self, component: &str, version: &str) -> Result<Arc<Library>, UpgradeError> {
        let open = self.between.iter().position(|library| {
            let about = library.description();
            about.name == component && about.version == version
        });
        match open {
            Some(at) => Ok(self.between.remove(at)),
            None => self
                .core
                .open_library(&self.goal.package, component, version),
        }
    }

    /// What the new version of a component makes of one of its instances.
    fn successor(
        &mut self,
        component: &str,
        library: Arc<Library>,
        seen: Seen,
    ) -> Result<Part, UpgradeError> {
        let goal = self.goal;
        let number = seen.number;
        let config = config_json(&goal.package, component)?;
        let mut part = Part::new((component, number), Some(seen.at), library.clone(), config);
        part.before = Some((Stage::of(&seen.library), seen.generation));
        if self.renew(&mut part)? {
            return Ok(part);
        }
        let options = self.core.region_options(&goal.package, component, number)?;
        let vias = self.vias(component)?;
        let ends = Ends {
            component,
            vias: &vias,
            whole: via::whole(&goal.steps, component),
            old: &seen.library,
            new: &library,
            between: &self.between,
            // Another durability needs another log, and so another file; and what a move writes is to
            // be forgotten if the upgrade is undone.
            again: options.durability != seen.durability || self.is_in_a_move(component),
            back: goal.way == Way::Back,
        };
        let hops = chain::hops(&goal.steps, component);
        let again = ends.again;
        let links = match goal.way {
            // The state before comes back as it was, also where nothing converts the present one.
            Way::BackWithLoss(_) => Vec::new(),
            _ => ends.links(&seen.schema, hops)?,
        };
        let mut links = links.into_iter();
        let mut first = links.next();
        // In the midst of a conversion the way back is the same one turned round.
        let asked = stepwise::asked_for(&goal.steps, component);
        let turns = seen
            .before
            .as_ref()
            .is_some_and(|before| *before == library.description().schema);
        if seen.source.is_none() && !asked && !turns && first.is_some() {
            let what = stepwise::waits_for_sweep(self.core).unwrap_or_default();
            return Err(UpgradeError::Script(what));
        }
        let stepwise = (asked || turns) && first.is_some();
        if stepwise && again {
            return Err(UpgradeError::Script(format!(
                "the durability of `{component}` changes, or its state has a part in a `move_state`: both make \
                 another file, and a state is converted segment by segment in its own; write \
                 `strategy = \"eager\"`"
            )));
        }
        let fingerprint = library.description().fingerprint;
        part.same_schema = seen.library.description().fingerprint == fingerprint;
        if let Way::BackWithLoss(regions) = &goal.way {
            self.state_before(&mut part, regions, &seen)?;
        } else if let (Some(first), Some(source)) = (first.take_if(|_| !stepwise), &seen.source) {
            self.prepare_generations(&mut part, (first, source), links, &options)?;
        } else if let Some(first) = first {
            let ends = [&seen.library, &part.library];
            let links = std::iter::once(first).chain(links).collect();
            let of = (seen.at, component, number);
            let prepared = self.prepare_stepwise(of, &seen.schema, ends, links)?;
            part.entry = self.same_file(&part);
            part.state = NewState::Stepwise(prepared);
        }
        Ok(part)
    }

    /// Takes the state that an instance had before, without the writes made since.
    fn state_before(
        &self,
        part: &mut Part,
        regions: &[RegionEntry],
        seen: &Seen,
    ) -> Result<(), UpgradeError> {
        let (component, number) = (&part.component, part.number);
        let mine = |entry: &&RegionEntry| entry.is_of(component, number);
        let Some(before) = regions.iter().find(mine) else {
            return Ok(());
        };
        let about = part.library.description();
        let now = self.core.catalog.state().region(component, number);
        if now.is_none_or(|now| now.file != before.file) {
            let package = &self.goal.package;
            let region = (self.core).open_region(package, before, Some(about.fingerprint))?;
            part.state = NewState::Made(Box::new(region));
            part.entry = Some(before.clone());
        } else if seen.schema != about.schema {
            let what = format!("the state of `{component}` before is not there any more");
            return Err(UpgradeError::Script(what));
        }
        Ok(())
    }

    /// Makes ready what the state is converted into while messages wait: a generation for each conversion on its way.
    fn prepare_generations(
        &mut self,
        part: &mut Part,
        (first, source): (Link, &Source),
        rest: impl Iterator<Item = Link>,
        options: &RegionOptions,
    ) -> Result<(), UpgradeError> {
        let component = part.component.clone();
        let of = (component.as_str(), part.number);
        let (mut entry, path) = self.new_generation(of, &part.library)?;
        part.prepare(first, source, &path, options)?;
        for link in rest {
            let path;
            (entry, path) = self.new_generation(of, &part.library)?;
            let options = options.clone();
            part.later.push(Later {
                link,
                path,
                options,
            });
        }
        fault::point("upgrade.region-prepared");
        part.entry = Some(entry);
        Ok(())
    }

    /// A place for a new generation of an instance's state: in the catalog, and of its file.
    pub(super) fn new_generation(
        &mut self,
        (component, instance): (&str, u32),
        library: &Library,
    ) -> Result<(RegionEntry, PathBuf), UpgradeError> {
        let generation = self.core.next_generation();
        let file = region_file_name(component, instance, generation)?;
        let path = self.core.directory.region_file(&file)?;
        let about = library.description();
        let entry = RegionEntry {
            component: component.to_owned(),
            instance,
            generation,
            file,
            fingerprint: hex(about.fingerprint),
            version: about.version.clone(),
        };
        Ok((entry, path))
    }

    /// The place in the catalog of a state that stays in its file and gets another schema.
    fn same_file(&self, part: &Part) -> Option<RegionEntry> {
        let now = self
            .core
            .catalog
            .state()
            .region(&part.component, part.number)?;
        Some(RegionEntry {
            fingerprint: hex(part.library.description().fingerprint),
            version: part.version.clone(),
            ..now.clone()
        })
    }

    /// Opens the library of a version between: of it only the conversions are called.
    fn open_between(&mut self, component: &str, version: &str) -> Result<(), UpgradeError> {
        let goal = self.goal;
        let has = |package: &&Arc<ReleasePackage>| {
            let found = package.component(component);
            found.is_some_and(|found| found.version.to_string() == version)
        };
        let package = goal.between.iter().find(has).ok_or_else(|| {
            UpgradeError::Script(format!(
                "no release of this node has `{component} {version}`, whose code_change is needed: \
                 install one"
            ))
        })?;
        let library = self.core.open_library(package, component, version)?;
        fault::point("upgrade.library-open");
        self.between.push(library);
        Ok(())
    }
}

/// The region's options from a component's manifest.
pub(crate) fn region_options(
    component: &neurath_manifest::Component,
    instance: u32,
) -> RegionOptions {
    RegionOptions {
        component: component.name.clone(),
        instance,
        initial: component.region.initial_size,
        limit: component.region.limit,
        durability: match component.region.durability {
            neurath_manifest::Durability::Process => Durability::Process,
            neurath_manifest::Durability::Power => Durability::Power,
        },
    }
}
