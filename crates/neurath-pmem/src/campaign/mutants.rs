//! Whether the campaign would notice: the protocol with a part or an order left out.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::images::Effort;
use super::models::Survives;
use super::record::record;
use super::replay::{Job, Way, carry_out};
use super::sim::{mix, suppress, undisturbed, was_suppressed};
use super::sites::Site;
use super::{conversions, copies, sweeps};
use crate::region::ablation::{Without, leave_out};
use crate::region::{Backend, Region};

/// So often a workload is looked at, if it is in vain.
const ROUNDS: u64 = 8;

/// So many of the shortest workloads are looked at before anything else is.
const SHORTEST: usize = 6;

/// All wrong variants of the protocol.
pub(crate) const MUTANTS: [Without; 24] = [
    Without::Quarantine,
    Without::SecondQuarantine,
    Without::SecondRecord,
    Without::NoThirdRecord,
    Without::Checkpoint,
    Without::CommitFence,
    Without::RecordFirst,
    Without::ManySlots,
    Without::FreshHash,
    Without::Laps,
    Without::LogFirst,
    Without::HalfFree,
    Without::LapsLeftOut,
    Without::RecordSum,
    Without::ApplyBeforeFence,
    Without::LateFence,
    Without::EveryRecord,
    Without::RecordFlush,
    Without::PlaceFlush,
    Without::FlushRounding,
    Without::TornNumber,
    Without::NamedAfterFence,
    Without::NamedFirst,
    Without::NamedRecord,
];

/// A small workload under one model, and the sites that it comes by.
struct Visit {
    number: u64,
    workload: &'static str,
    survives: Survives,
    sites: BTreeSet<Site>,
    /// How long it takes, more or less.
    events: usize,
}

/// All of them, the shortest first.
fn visits() -> &'static [Visit] {
    static VISITS: LazyLock<Vec<Visit>> =
        LazyLock::new(|| undisturbed(|| (0..).map_while(visit).collect()));
    &VISITS
}

fn visit(number: u64) -> Option<Visit> {
    let job = Job::small(number)?;
    let recording = record(&job.workload, None, job.survives);
    // Every image is recovered, this one as well, if there is a region already.
    let mut sites = recording.media.visited();
    if let Ok(region) = Region::recover_media(recording.media) {
        sites.extend(region.media().visited());
    }
    let (survives, events) = (job.survives, recording.trace.events.len());
    Some(Visit {
        number,
        workload: job.workload.name,
        survives,
        sites,
        events,
    })
}

/// The small workloads that `concern` what is left out, the shortest first.
fn concerned(concerns: impl Fn(&Visit) -> bool) -> Vec<&'static Visit> {
    let mut visits: Vec<&Visit> = visits().iter().filter(|visit| concerns(visit)).collect();
    visits.sort_by_key(|visit| visit.events);
    visits
}

/// What the first violation says, with its place, of these small workloads, in one round: a quick
/// look at each, or a thorough one.
fn round(seed: u64, round: u64, way: &Way, visits: &[&Visit]) -> Option<String> {
    let effort = if round.is_multiple_of(2) {
        Effort::QUICK
    } else {
        Effort::SHARP
    };
    let way = Way { effort, ..*way };
    let mut jobs = visits
        .iter()
        .map(|visit| Job::nth(mix(seed, round), visit.number));
    jobs.find_map(|job| first(&job, &way))
}

/// The same in as many rounds as it takes.
fn hunt(seed: u64, way: &Way, visits: &[&Visit]) -> Option<String> {
    (0..ROUNDS).find_map(|number| round(seed, number, way, visits))
}

/// What is noticed by something else than a job, as often as it takes.
fn again_and_again(seed: u64, look: impl Fn(u64) -> Result<(), String>) -> Option<String> {
    (0..ROUNDS).find_map(|round| look(mix(seed, round)).err())
}

/// What a job's first violation says, with its place.
fn first(job: &Job, way: &Way) -> Option<String> {
    let found = carry_out(job, way).violations.into_iter().next()?;
    let place = format!("{:#x}:{}:{}", job.seed, found.event, found.image);
    Some(format!("{place} {:?} {}", job.survives, found.error))
}

/// Those that show a part which all others show late, if at all: they are looked at first.
fn most_likely(part: Without, visits: &[&'static Visit]) -> Vec<&'static Visit> {
    let name = match part {
        Without::Laps | Without::LapsLeftOut => "growth",
        Without::LogFirst => "a journal's half within one wait",
        _ => return Vec::new(),
    };
    let likely = visits.iter().filter(|visit| visit.workload == name);
    likely.copied().collect()
}

/// What is noticed without a part.
pub(crate) fn mutant(part: Without, seed: u64) -> Option<String> {
    leave_out(Some(part));
    let way = Way {
        without: Some(part),
        stop: true,
        ..Way::WHOLE
    };
    let journal = |visit: &Visit| visit.survives.backend() == Backend::Page;
    let found = match part {
        // It shows where something is damaged, not where something crashes.
        Without::NamedRecord => super::faults::damage(seed, Backend::Process).err(),
        _ => {
            let visits = concerned(|visit| part.concerns(journal(visit)));
            let most = most_likely(part, &visits);
            round(seed, 1, &way, &most).or_else(|| hunt(seed, &way, &visits))
        }
    };
    leave_out(None);
    found
}

/// What shows of a site that jobs come by: in the shortest of them, in sweeps, whose header a
/// recovery reads, in all of them, or in conversions.
fn in_jobs(site: Site, seed: u64, way: &Way) -> Option<String> {
    // Where the order of the program is kept, nothing is missed.
    let visits =
        concerned(|visit| visit.survives != Survives::Prefix && visit.sites.contains(&site));
    round(seed, 0, way, &visits[..visits.len().min(SHORTEST)])
        .or_else(|| (site.file == "recovery.rs").then(|| sweeps::cut_off(seed).err())?)
        .or_else(|| hunt(seed, way, &visits))
        .or_else(|| again_and_again(seed, conversions::cut_off))
}

/// What is noticed when a site orders nothing.
pub(crate) fn site(site: Site, seed: u64) -> Option<String> {
    suppress(Some(site));
    let way = Way {
        stop: true,
        ..Way::WHOLE
    };
    let found = match site.file {
        // Copies and conversions are no part of a job.
        "snapshot.rs" => again_and_again(seed, copies::cut_off),
        "migrate.rs" => again_and_again(seed, conversions::cut_off),
        "sweep.rs" => again_and_again(seed, sweeps::cut_off),
        // What a conversion tells is stored where one is made, and where one is begun.
        "history.rs" => again_and_again(seed, |seed| {
            conversions::cut_off(seed)?;
            sweeps::cut_off(seed)
        }),
        _ => in_jobs(site, seed, &way),
    };
    let came_by = was_suppressed();
    suppress(None);
    came_by.then_some(found)?
}
