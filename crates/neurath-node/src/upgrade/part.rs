//! What an upgrade holds of one component: the new library, and the new state in the making.

use std::sync::Arc;
use std::time::Duration;

use neurath_pmem::migrate::{Building, Conversion, MigrateError, MigrationPlan, Row};
use neurath_pmem::region::{Region, RegionOptions};
use neurath_pmem::schema::{SchemaDesc, hex};

use super::error::UpgradeError;
use crate::catalog::RegionEntry;
use crate::loader::{Batch, Library};
use crate::mapping::Gate;
use crate::shard::effects::Effects;
use crate::shard::now_ms;
use crate::worker::Worker;

/// Where a conversion is: a library, and its number there.
pub(super) type Place = (Arc<Library>, usize);

/// See the module.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) component: String,
    /// The version it leads to.
    pub(super) version: String,
    /// The place on the shard of the instance that runs; none if it is to come.
    pub(super) at: Option<usize>,
    pub(super) library: Arc<Library>,
    /// The instance's configuration in the new release, JSON.
    pub(super) config: String,
    /// The new generation's place in the catalog, if the state changes.
    pub(super) entry: Option<RegionEntry>,
    /// The new generation in the making.
    pub(super) state: NewState,
    /// Where each conversion of the plan is.
    pub(super) conversions: Vec<Place>,
    /// What the script makes of the instance.
    pub(super) course: Course,
    /// Whether the old version was terminated.
    pub(super) terminated: bool,
    /// What the new version's `init` has asked for, and the gate it used.
    pub(super) started: Option<(Effects, Gate)>,
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
    Prepared(Building),
    /// The new generation.
    Made(Box<Region>),
    /// It is with a conversion that did not come back.
    Lost,
}

/// Plans the conversion of a region's state for a library; `None` if nothing changes.
pub(super) fn plan_conversion(
    component: &str,
    region_schema: &[u8],
    old: &Arc<Library>,
    new: &Arc<Library>,
) -> Result<Option<(MigrationPlan, Vec<Place>)>, UpgradeError> {
    let version = new.description().version.clone();
    let decode = |bytes: &[u8]| {
        SchemaDesc::decode(bytes).map_err(|error| UpgradeError::Schema {
            component: component.to_owned(),
            text: error.to_string(),
        })
    };
    let (from, to) = (decode(region_schema)?, decode(&new.description().schema)?);
    if to.fingerprint != new.description().fingerprint {
        return Err(UpgradeError::Schema {
            component: component.to_owned(),
            text: format!("its fingerprint is not {}", hex(to.fingerprint)),
        });
    }
    if from.fingerprint == to.fingerprint {
        return Ok(None);
    }
    // The newer of the two libraries knows the way, there and back.
    let mut places = Vec::new();
    let mut known: Vec<Conversion> = Vec::new();
    for library in [new, old] {
        for (index, migration) in library.description().migrations.iter().enumerate() {
            let conversion = Conversion {
                from: migration.from,
                to: migration.to,
            };
            if !known.contains(&conversion) {
                known.push(conversion);
                places.push((library.clone(), index));
            }
        }
    }
    let plan =
        MigrationPlan::new(&from, &to, &known).map_err(|source| UpgradeError::Uncovered {
            component: component.to_owned(),
            version,
            source,
        })?;
    Ok(Some((plan, places)))
}

impl Part {
    /// Runs `code_change` over the whole state, on a throwaway thread.
    pub(super) fn convert(
        &mut self,
        worker: &mut Worker,
        old: &Region,
        extra: String,
        deadline: Duration,
    ) -> Result<(), UpgradeError> {
        let mut building = match std::mem::replace(&mut self.state, NewState::Lost) {
            NewState::Prepared(building) => building,
            // A code_change of a state that stays as it is has nothing to do.
            other => {
                self.state = other;
                return Ok(());
            }
        };
        let (component, version) = (self.component.clone(), self.version.clone());
        let source = old.source();
        let conversions = self.conversions.clone();
        let worked = worker.run("code_change", deadline, move || {
            let convert = |index: usize, row: Row<'_>| {
                let (library, number) = &conversions[index];
                let Row {
                    old,
                    old_stride,
                    new,
                    new_stride,
                    count,
                    live,
                    extra,
                    now_ms,
                } = row;
                let batch = Batch {
                    old,
                    old_stride,
                    new,
                    new_stride,
                    count,
                    live,
                    extra,
                    now_ms,
                };
                library.convert(*number, batch).map_err(|error| error.text)
            };
            building.fill(&source, &extra, now_ms(), &convert)?;
            building.finish()
        });
        match worked {
            Ok(Ok(region)) => {
                self.state = NewState::Made(Box::new(region));
                Ok(())
            }
            Ok(Err(source)) => Err(UpgradeError::Convert {
                component,
                version,
                source,
            }),
            Err(source) => Err(UpgradeError::Overdue {
                component,
                version,
                source,
            }),
        }
    }

    /// Makes the new generation's file ready, while the old version still serves.
    pub(super) fn prepare(
        &mut self,
        plan: MigrationPlan,
        source: &neurath_pmem::migrate::Source,
        path: &std::path::Path,
        options: &RegionOptions,
    ) -> Result<(), UpgradeError> {
        let schema = self.library.description().schema.clone();
        let building = plan.prepare(source, path, options, &schema);
        let building = building.map_err(|source: MigrateError| UpgradeError::Convert {
            component: self.component.clone(),
            version: self.version.clone(),
            source,
        })?;
        self.state = NewState::Prepared(building);
        Ok(())
    }
}
