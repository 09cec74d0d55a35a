//! The migrations that an upgrade makes, recorded in the regions that go through them.
//!
//! A new generation has them before anything refers to it, so that the flip commits them with the state. Where a
//! state stays in its file, the flip's catalog names them, and they are recorded when messages are served again; a
//! node that starts does the same. So none is made without being recorded, and none is recorded twice.

use neurath_pmem::history::{History, Migration, Strategy};
use neurath_pmem::region::Region;
use neurath_pmem::schema::Fingerprint;
use semver::Version;

use super::flip::{Fate, StateFate};
use super::part::{Course, Part};
use super::{SUSPEND, Upgrade, Way, chain, via};
use crate::catalog::{Migrated, RegionEntry};
use crate::loader::Library;
use crate::node::Core;
use crate::shard::{Instance, now_ms};

/// A version of a component, and the schema of its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) version: String,
    pub(super) schema: Fingerprint,
}

impl Stage {
    /// That of the code of a library.
    pub(super) fn of(library: &Library) -> Stage {
        let about = library.description();
        Stage {
            version: about.version.clone(),
            schema: about.fingerprint,
        }
    }
}

impl Upgrade<'_> {
    /// What the new generation of a part is to tell: the history of the state that it is made from, and what is
    /// done to it now.
    pub(super) fn history_of(&self, part: &Part, old: &Region, version: &str) -> History {
        let before = Stage {
            version: version.to_owned(),
            schema: old.fingerprint(),
        };
        let generation = part.entry.as_ref().map_or(0, |entry| entry.generation);
        let mut history = old.history();
        history.add(&self.migrations(part, &before, (Strategy::Eager, generation), now_ms()));
        history
    }

    /// The same for a part whose instance stands still.
    pub(super) fn history_at(&self, at: usize) -> History {
        let part = &self.parts[at];
        let standing = part
            .at
            .and_then(|place| self.taken.as_ref()?.shard.instances.get(place));
        standing.map_or_else(History::default, |old| {
            let version = &old.library.description().version;
            self.history_of(part, &old.region, version)
        })
    }

    /// What an instance that comes is to tell, if a move gives it state.
    pub(super) fn history_of_newcomer(&self, part: &Part, entry: &RegionEntry) -> Vec<Migration> {
        let none = Stage {
            version: String::new(),
            schema: Fingerprint::default(),
        };
        let last = self.last_stage(part);
        self.moved(part, [&none, &last], entry.generation, now_ms())
    }

    /// What the flip commits for states that stay in their files.
    pub(super) fn migrated(&self, fates: &[Fate], now: u64) -> Vec<Migrated> {
        let mut all = Vec::new();
        for (part, fate) in self.parts.iter().zip(fates) {
            let strategy = match (fate.state, fate.course) {
                (_, Course::Removed) => continue,
                (StateFate::Kept, _) => Strategy::Keep,
                (StateFate::Swept, _) => Strategy::Incremental,
                (StateFate::Made, _) => continue,
            };
            let Some((before, generation)) = &part.before else {
                continue;
            };
            for one in self.migrations(part, before, (strategy, *generation), now) {
                Migrated::new(&part.component, part.number, &one).add_to(&mut all);
            }
        }
        all
    }

    /// The migrations of a part's state, one after the other.
    fn migrations(
        &self,
        part: &Part,
        before: &Stage,
        (strategy, generation): (Strategy, u64),
        at_ms: u64,
    ) -> Vec<Migration> {
        let steps = &self.goal.steps;
        let last = self.last_stage(part);
        let hops = chain::hops(steps, &part.component);
        let mut all = Vec::new();
        let mut at = before.clone();
        for (number, hop) in hops.iter().enumerate() {
            let to = match number + 1 == hops.len() {
                true => last.clone(),
                false => self.stage(part, &hop.to, &at),
            };
            let newer = std::cmp::max(&hop.from, &hop.to).to_string();
            let library = self.library_name(&part.component, hop.via.as_deref(), &newer);
            all.push(self.migration([&at, &to], library, (strategy, generation), at_ms));
            at = to;
        }
        if hops.is_empty() && at.version != last.version {
            let via = via::whole(steps, &part.component);
            let newer = newer_of(&at.version, &last.version);
            let library = self.library_name(&part.component, via, newer);
            all.push(self.migration([&at, &last], library, (strategy, generation), at_ms));
        }
        all.extend(self.moved(part, [&last, &last], generation, at_ms));
        all
    }

    /// One of them: a `code_change`, or a `load` if nothing is converted.
    fn migration(
        &self,
        [from, to]: [&Stage; 2],
        library: String,
        (strategy, generation): (Strategy, u64),
        at_ms: u64,
    ) -> Migration {
        let same = from.schema == to.schema;
        Migration {
            from_version: from.version.clone(),
            to_version: to.version.clone(),
            from_schema: from.schema,
            to_schema: to.schema,
            name: if same { "load" } else { "code_change" }.into(),
            library: if same { String::new() } else { library },
            strategy: if same { Strategy::Keep } else { strategy },
            back: self.goal.way != Way::Forward,
            release: self.core.id_of(&self.goal.package).to_string(),
            at_ms,
            generation,
            operation: self.goal.operation.clone(),
        }
    }

    /// The moves that a part's state gives or takes in.
    fn moved(&self, part: &Part, ends: [&Stage; 2], generation: u64, at_ms: u64) -> Vec<Migration> {
        let version = &ends[1].version;
        let moves = self.moves_of(&part.component).into_iter();
        let made = moves.map(|name| Migration {
            name: format!("move_state {name}"),
            library: format!("{} {version}", part.component),
            strategy: Strategy::Move,
            ..self.migration(ends, String::new(), (Strategy::Move, generation), at_ms)
        });
        made.collect()
    }

    fn last_stage(&self, part: &Part) -> Stage {
        Stage::of(&part.library)
    }

    /// The state of a version between; where its library was not needed, that of the version `before` it.
    fn stage(&self, part: &Part, version: &Version, before: &Stage) -> Stage {
        let version = version.to_string();
        let mut between = self.between.iter().map(|library| library.description());
        let known = between.find(|about| about.name == part.component && about.version == version);
        Stage {
            schema: known.map_or(before.schema, |about| about.fingerprint),
            version,
        }
    }

    /// What a library is called whose conversions are used.
    fn library_name(&self, component: &str, via: Option<&str>, newer: &str) -> String {
        let Some(via) = via else {
            return format!("{component} {newer}");
        };
        let found = self.newer_release().component(via);
        found.map_or_else(
            || via.to_owned(),
            |found| format!("{via} {}", found.version),
        )
    }
}

/// The newer of two versions of a component.
fn newer_of<'a>(a: &'a str, b: &'a str) -> &'a str {
    match (Version::parse(a), Version::parse(b)) {
        (Ok(first), Ok(second)) if first > second => a,
        _ => b,
    }
}

/// Records what the catalog names and a region that is opened does not tell yet.
pub(crate) fn complete(core: &Core, entry: &RegionEntry, region: &mut Region) {
    let of = (entry.component.as_str(), entry.instance);
    record_in(&core.catalog.state().migrations, of, region);
}

fn record_in(all: &[Migrated], (component, number): (&str, u32), region: &mut Region) {
    let mine = all.iter().filter_map(|one| one.of(component, number));
    let mine: Vec<Migration> = mine.collect();
    if let Err(error) = region.record_migrations(&mine) {
        tracing::error!(component, %error, "the migrations of the state could not be recorded");
    }
}

/// Records what the last flip has committed in the regions that stayed: between two messages.
pub(super) fn record(core: &mut Core) {
    let all = core.catalog.state().migrations.clone();
    if all.is_empty() {
        return;
    }
    let work = move |instances: &mut [Instance]| {
        for one in instances {
            record_in(&all, (&one.component, one.number), &mut one.region);
        }
    };
    if let Some(taken) = &mut core.standing {
        return work(&mut taken.shard.instances);
    }
    let running = core.running.as_ref();
    let done =
        running.and_then(|running| running.look(SUSPEND, move |shard| work(&mut shard.instances)));
    if done.is_none() {
        tracing::warn!("the event loop does not answer: the next start records the migrations");
    }
}
