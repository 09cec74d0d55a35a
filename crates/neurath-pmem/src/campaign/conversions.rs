//! Conversions that a crash cuts off: none looks finished that is not, and what is finished stays.
//!
//! A conversion fills a region that nobody uses, on all cores: what is recorded is each segment as
//! it was filled, and everything else store by store.

use super::copies::headers_first;
use super::fresh::{fresh, log_of, new_file};
use super::images::{Effort, cuts, images, put, put_prefix};
use super::models::{Pending, Survives, carry_out};
use super::sim::{Random, Sim, mix};
use super::state::{Model, SCHEMA, contents, run};
use super::trace::{Event, Trace};
use super::workloads::random_workload;
use crate::history::{History, nth};
use crate::migrate::{Building, MigrationPlan, Source};
use crate::region::format::{CHUNK_LEN, LOG_AT, RegionState};
use crate::region::{
    Backend, Durability, Found, Mapping, Media, Region, RegionOptions, make_filling_last,
};
use crate::schema::SchemaDesc;

/// A conversion's medium: what happened to it until everything was filled, and what happened then.
struct Made {
    filled: Trace,
    finished: Trace,
    /// What the new generation holds.
    model: Model,
}

/// Where a conversion is made, and what survives of its two parts.
struct Way {
    built: Backend,
    used: Backend,
    survives: [Survives; 2],
}

const WAYS: [Way; 4] = [
    Way {
        built: Backend::Process,
        used: Backend::Process,
        survives: [Survives::Prefix; 2],
    },
    Way {
        built: Backend::Line,
        used: Backend::Line,
        survives: [Survives::Lines; 2],
    },
    Way {
        built: Backend::Line,
        used: Backend::Line,
        survives: [Survives::Chunks; 2],
    },
    // A page-wise region is filled by way of the page cache.
    Way {
        built: Backend::Process,
        used: Backend::Page,
        survives: [Survives::Closing, Survives::Pages],
    },
];

/// A region to convert, and what it holds.
fn old(seed: u64) -> Result<(Source, Model), String> {
    let mut region = fresh(Backend::Process);
    for transaction in random_workload(seed, 12) {
        run(&mut region, &transaction)?;
    }
    let model = contents(&mut region)?;
    let media = region.media();
    let mapping =
        Mapping::of_bytes(media.bytes(0, media.len())).map_err(|error| error.to_string())?;
    Ok((Source::new(&region, mapping), model))
}

/// Converts a region.
fn made(seed: u64, way: &Way) -> Result<Made, String> {
    let text = |error: &dyn std::fmt::Display| format!("the conversion: {error}");
    let (source, model) = old(seed)?;
    let schema = SchemaDesc::decode(&SCHEMA).map_err(|error| text(&error))?;
    let plan = MigrationPlan::new(&schema, &schema, &[]).map_err(|error| text(&error))?;
    let (log, durability) = (log_of(way.used), durability(way));
    let mut media = Sim::new(0, way.built);
    let length = match durability {
        // The length is waited for, whatever fills the file.
        Durability::Power => new_file(&mut media, LOG_AT + log.len() + CHUNK_LEN, way.used),
        Durability::Process => new_file(&mut media, LOG_AT + log.len() + CHUNK_LEN, way.built),
    };
    length.map_err(|error| text(&error))?;
    let options = RegionOptions {
        durability,
        ..RegionOptions::new("test", 0, media.limit())
    };
    let region = Region::format_as(RegionState::Building, media, &options, log, &SCHEMA);
    let mut building = Building::of(plan, region.map_err(|error| text(&error))?, &options);
    let convert = |_, _: crate::migrate::Row<'_>| Err("nothing is converted".into());
    building
        .fill(&source, "", 0, &convert)
        .map_err(|error| text(&error))?;
    building.set_history(&told());
    let mut media = building.into_region().into_media();
    make_filling_last(&mut media, durability).map_err(|error| text(&error))?;
    let filled = media.mark();
    if way.used == Backend::Page {
        media = media.by_pages();
    }
    let region = Region::recover_media(media).map_err(|error| text(&error))?;
    let mut media = region.into_media();
    let finished = media.take_back(filled);
    let filled = media.take_back(0);
    Ok(Made {
        filled,
        finished,
        model,
    })
}

/// What the new generation tells of the conversion.
fn told() -> History {
    let mut history = History::default();
    history.add(&[nth(1)]);
    history
}

fn durability(way: &Way) -> Durability {
    match way.used {
        Backend::Process => Durability::Process,
        _ => Durability::Power,
    }
}

/// Looks at what a crash has left; whether it looks finished.
fn look(disk: Sim, model: &Model) -> Result<bool, String> {
    let Ok(found) = Found::read(&disk) else {
        return Ok(false);
    };
    if found.superblock().state == RegionState::Building {
        return Ok(false);
    }
    let mut region = Region::recover_media(disk)
        .map_err(|error| format!("it looks finished, and does not open: {error}"))?;
    if let Some(number) = region.wrong_sum() {
        return Err(format!("the checksum of segment {number} does not hold"));
    }
    if region.history() != told() {
        return Err("it looks finished, and does not tell of it".into());
    }
    match contents(&mut region)? == *model {
        true => Ok(true),
        false => Err("it looks finished, and holds something else".into()),
    }
}

/// What a crash may have left until now, and what is sure.
struct Medium {
    pending: Pending,
    disk: Sim,
    used: Backend,
    random: Random,
}

impl Medium {
    /// Looks at each image of what is pending; how many look finished, and how many there are.
    fn look(&mut self, survives: Survives, model: &Model) -> Result<[usize; 2], String> {
        let Medium {
            pending,
            disk,
            used,
            random,
        } = self;
        let mut list = images(pending, survives, disk.len, &Effort::QUICK, random);
        list.extend((0..4).map(|_| headers_first(pending, survives, random)));
        let (mut finished, count) = (0, list.len());
        for image in list {
            let mut left = disk.copy();
            put(&image, pending, &mut left);
            left.forget();
            if *used == Backend::Page {
                left = left.by_pages();
            }
            finished += usize::from(look(left, model)?);
        }
        Ok([finished, count])
    }

    /// Crashes everywhere in what happened.
    fn walk(&mut self, trace: &Trace, survives: Survives, model: &Model) -> Result<(), String> {
        for (at, event) in trace.events.iter().enumerate() {
            let place = |error: String| format!("{error}; {survives:?}, event {at}");
            if survives == Survives::Prefix {
                if let Event::Store(span) = event {
                    for words in cuts(span.len / 8, &Effort::QUICK, &mut self.random) {
                        let mut left = self.disk.copy();
                        put_prefix(event, trace, words, &mut left);
                        left.forget();
                        look(left, model).map_err(place)?;
                    }
                }
                carry_out(event, trace, &mut self.disk);
                continue;
            }
            self.pending.note(event, trace, survives, &self.disk);
            if survives.settles(event) {
                self.look(survives, model).map_err(place)?;
                self.pending.settle(event, survives, &mut self.disk);
            }
        }
        Ok(())
    }
}

/// Crashes of a conversion, for each way that one is made.
pub(crate) fn cut_off(seed: u64) -> Result<(), String> {
    for (number, way) in WAYS.iter().enumerate() {
        let seed = mix(seed, number as u64);
        let made = made(seed, way)?;
        let mut medium = Medium {
            pending: Pending::default(),
            disk: Sim::new(0, way.built),
            used: way.used,
            random: Random(mix(seed, 1)),
        };
        let [first, second] = way.survives;
        medium.walk(&made.filled, first, &made.model)?;
        medium.walk(&made.finished, second, &made.model)?;
        // It was said to be finished: whatever is on its way, it is.
        let [finished, images] = medium.look(second, &made.model)?;
        if finished < images {
            return Err(format!("a conversion that was finished is not; {second:?}"));
        }
    }
    Ok(())
}
