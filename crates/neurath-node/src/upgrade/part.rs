//! What an upgrade holds of one instance of a component: the new library, and the new state in the making.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use neurath_pmem::history::History;
use neurath_pmem::migrate::{Building, MigrateError, Row, Source};
use neurath_pmem::region::{Region, RegionOptions};

use super::chain::{Later, Link};
use super::error::UpgradeError;
use super::history::Stage;
use super::reset::Renewed;
use super::stepwise::{Prepared, convert_row};
use crate::catalog::{RegionEntry, SweepEntry};
use crate::loader::{Function, Library};
use crate::shard::effects::Effects;
use crate::shard::now_ms;
use crate::worker::{Begun, WorkError, Worker};

/// What the conversion of a whole state comes to.
type Converted = Result<Region, MigrateError>;

/// Where a conversion is: a library, and its number there.
pub(super) type Place = (Arc<Library>, usize);

/// See the module.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) component: String,
    /// The number of the instance.
    pub(super) number: u32,
    /// The version it leads to.
    pub(super) version: String,
    /// The place on the shard of the instance that runs; none if it is to come.
    pub(super) at: Option<usize>,
    /// What that one is of, and the generation of its region.
    pub(super) before: Option<(Stage, u64)>,
    pub(super) library: Arc<Library>,
    /// The instance's configuration in the new release, JSON.
    pub(super) config: String,
    /// The new generation's place in the catalog, if the state changes.
    pub(super) entry: Option<RegionEntry>,
    /// The new generation in the making.
    pub(super) state: NewState,
    /// Where each conversion of the first link is, and its table.
    pub(super) conversions: Vec<Place>,
    pub(super) extra: Option<String>,
    /// The file of the generation that the first link makes.
    pub(super) path: Option<PathBuf>,
    /// The links after it, if the state goes through versions between.
    pub(super) later: Vec<Later>,
    /// Whether the new generation, if there is one, differs in its durability only.
    pub(super) same_schema: bool,
    /// Whether the state is that which the component had when the upgrade removed it.
    pub(super) left_behind: bool,
    /// If the script throws its state away: what comes in its place.
    pub(super) renewed: Option<Renewed>,
    /// What the script makes of the instance.
    pub(super) course: Course,
    /// Whether the old version was terminated.
    pub(super) terminated: bool,
    /// The hooks of the new version that the script calls before the switch, with their arguments.
    pub(super) hooks: Vec<(Function, String)>,
    /// What the new version's `init` and its hooks have asked for.
    pub(super) started: Option<Vec<Effects>>,
}

/// What the script has made of an instance so far. It is done at the switch, all at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Course {
    /// Nothing yet: its new code is only made ready.
    Ready,
    /// Its code is switched, and it goes on, or comes when it is started.
    Switched,
    /// It is stopped, and neither started again nor removed yet.
    Stopped,
    /// It is started: it comes, or it goes on after a stop.
    Started,
    /// It goes.
    Removed,
}

/// What becomes of the instance's state.
#[derive(Debug)]
pub(super) enum NewState {
    /// It is kept: the schema is the same, or the instance goes.
    Kept,
    /// Its new generation's file is ready to be filled.
    Prepared(Box<Building>),
    /// The new generation.
    Made(Box<Region>),
    /// It is to be converted segment by segment, in its file.
    Stepwise(Prepared),
    /// That has begun: the region is of the new version, and the file says nothing of it yet.
    Begun(SweepEntry, Vec<Arc<Library>>),
    /// It is with a conversion that did not come back.
    Lost,
}

impl Part {
    /// An instance of which nothing is done yet.
    pub(super) fn new(
        (component, number): (&str, u32),
        at: Option<usize>,
        library: Arc<Library>,
        config: String,
    ) -> Part {
        Part {
            component: component.to_owned(),
            number,
            version: library.description().version.clone(),
            at,
            before: None,
            library,
            config,
            entry: None,
            state: NewState::Kept,
            conversions: Vec::new(),
            extra: None,
            path: None,
            later: Vec::new(),
            same_schema: false,
            left_behind: false,
            renewed: None,
            course: Course::Ready,
            terminated: false,
            hooks: Vec::new(),
            started: None,
        }
    }

    /// Begins a conversion that goes on after the switch; whether it is such a one.
    pub(super) fn begin_stepwise(&mut self, region: &mut Region) -> Result<bool, UpgradeError> {
        let prepared = match std::mem::replace(&mut self.state, NewState::Kept) {
            NewState::Stepwise(prepared) => prepared,
            other => {
                self.state = other;
                return Ok(false);
            }
        };
        let Prepared {
            way,
            entry,
            libraries,
        } = prepared;
        region
            .begin_conversion(*way)
            .map_err(|source| UpgradeError::Stepwise {
                component: self.component.clone(),
                source,
            })?;
        self.state = NewState::Begun(entry, libraries);
        Ok(true)
    }

    /// Runs `code_change` over the whole state, on a throwaway thread.
    pub(super) fn convert(
        &mut self,
        worker: &mut Worker,
        old: &Region,
        history: History,
        extra: String,
        deadline: Duration,
    ) -> Result<(), UpgradeError> {
        match self.begin_convert(worker, old, history, extra)? {
            Some(begun) => self.end_convert(worker, begun, deadline),
            None => Ok(()),
        }
    }

    /// Lets a throwaway thread begin with that; nothing if the state stays as it is.
    pub(super) fn begin_convert(
        &mut self,
        worker: &mut Worker,
        old: &Region,
        history: History,
        extra: String,
    ) -> Result<Option<Begun<Converted>>, UpgradeError> {
        let mut building = match std::mem::replace(&mut self.state, NewState::Lost) {
            NewState::Prepared(building) => building,
            // A code_change of a state that stays as it is has nothing to do.
            other => {
                self.state = other;
                return Ok(None);
            }
        };
        let source = old.source();
        let conversions = self.conversions.clone();
        let first = self.extra.clone().unwrap_or_else(|| extra.clone());
        let (later, first_path) = (std::mem::take(&mut self.later), self.path.take());
        let begun = worker.begin("code_change", move || {
            fill(&mut building, &source, &conversions, &first)?;
            if later.is_empty() {
                building.set_history(&history);
            }
            let mut region = building.finish()?;
            let mut file = first_path;
            let mut left = later.len();
            for Later {
                link,
                path,
                options,
            } in later
            {
                let source = region.source();
                let mut next = link.plan.prepare(&source, &path, &options, &link.schema)?;
                let extra = link.extra.as_deref().unwrap_or(&extra);
                fill(&mut next, &source, &link.conversions, extra)?;
                left -= 1;
                if left == 0 {
                    next.set_history(&history);
                }
                region = next.finish()?;
                // What stays is removed with the other orphans.
                if let Some(before) = file.replace(path) {
                    drop(std::fs::remove_file(before));
                }
            }
            Ok(region)
        });
        begun.map(Some).map_err(|source| self.overdue(source))
    }

    /// Waits for what was begun.
    pub(super) fn end_convert(
        &mut self,
        worker: &mut Worker,
        begun: Begun<Converted>,
        deadline: Duration,
    ) -> Result<(), UpgradeError> {
        match worker.end(begun, deadline) {
            Ok(Ok(region)) => {
                self.state = NewState::Made(Box::new(region));
                Ok(())
            }
            Ok(Err(source)) => Err(UpgradeError::Convert {
                component: self.component.clone(),
                version: self.version.clone(),
                source,
            }),
            Err(source) => Err(self.overdue(source)),
        }
    }

    fn overdue(&self, source: WorkError) -> UpgradeError {
        UpgradeError::Overdue {
            component: self.component.clone(),
            version: self.version.clone(),
            source,
        }
    }

    /// Makes the first new generation's file ready, while the old version still serves.
    pub(super) fn prepare(
        &mut self,
        link: Link,
        source: &Source,
        path: &std::path::Path,
        options: &RegionOptions,
    ) -> Result<(), UpgradeError> {
        let building = link.plan.prepare(source, path, options, &link.schema);
        let building = building.map_err(|source: MigrateError| UpgradeError::Convert {
            component: self.component.clone(),
            version: self.version.clone(),
            source,
        })?;
        self.conversions = link.conversions;
        self.extra = link.extra;
        self.path = Some(path.to_owned());
        self.state = NewState::Prepared(Box::new(building));
        Ok(())
    }
}

/// Converts every object by the functions of the libraries.
fn fill(
    building: &mut Building,
    source: &Source,
    conversions: &[Place],
    extra: &str,
) -> Result<(), MigrateError> {
    let convert = |index: usize, row: Row<'_>| convert_row(&conversions[index], row);
    building.fill(source, extra, now_ms(), &convert)
}
