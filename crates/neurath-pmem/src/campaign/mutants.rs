//! Whether the campaign would notice: the protocol with a part or an order left out.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::images::Effort;
use super::models::Survives;
use super::replay::{Job, Way, carry_out};
use super::sim::{mix, suppress, take_visited, undisturbed};
use super::sites::Site;
use super::workloads::record;
use super::{conversions, copies, sweeps};
use crate::region::ablation::{Without, leave_out};
use crate::region::{Backend, Region};

/// So often a workload is looked at, if it is in vain.
const ROUNDS: u64 = 8;

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
    take_visited();
    let recording = record(&job.workload, None, job.survives);
    // Every image is recovered, this one as well, if there is a region already.
    drop(Region::recover_media(recording.media));
    let sites = take_visited();
    let (survives, events) = (job.survives, recording.trace.events.len());
    Some(Visit {
        number,
        survives,
        sites,
        events,
    })
}

/// What the first violation says, with its place, of those small workloads that `concern` what
/// is left out: the quick look at each, and then the thorough one, as often as it takes.
fn hunt(seed: u64, way: &Way, concerns: impl Fn(&Visit) -> bool) -> Option<String> {
    let mut visits: Vec<&Visit> = visits().iter().filter(|visit| concerns(visit)).collect();
    visits.sort_by_key(|visit| visit.events);
    (0..ROUNDS).find_map(|round| {
        let effort = if round % 2 == 0 {
            Effort::QUICK
        } else {
            Effort::SHARP
        };
        let way = Way { effort, ..*way };
        let mut jobs = visits
            .iter()
            .map(|visit| Job::nth(mix(seed, round), visit.number));
        jobs.find_map(|job| first(&job, &way))
    })
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
        _ => hunt(seed, &way, |visit| part.concerns(journal(visit))),
    };
    leave_out(None);
    found
}

/// What sweeps show of a recovery, which reads their header.
fn sweeps(site: Site, seed: u64) -> Option<String> {
    (site.file == "recovery.rs").then(|| sweeps::cut_off(seed).err())?
}

/// What is noticed when a site orders nothing.
pub(crate) fn site(site: Site, seed: u64) -> Option<String> {
    suppress(Some(site));
    let way = Way {
        stop: true,
        ..Way::WHOLE
    };
    take_visited();
    let found = match site.file {
        // Copies and conversions are no part of a job.
        "snapshot.rs" => again_and_again(seed, copies::cut_off),
        "migrate.rs" => again_and_again(seed, conversions::cut_off),
        "sweep.rs" => again_and_again(seed, sweeps::cut_off),
        // What a conversion tells is stored where one is made, and where one is begun.
        "history.rs" => again_and_again(seed, sweeps::cut_off)
            .or_else(|| again_and_again(seed, conversions::cut_off)),
        // Where the order of the program is kept, nothing is missed.
        _ => sweeps(site, seed)
            .or_else(|| {
                hunt(seed, &way, |visit| {
                    visit.survives != Survives::Prefix && visit.sites.contains(&site)
                })
            })
            .or_else(|| again_and_again(seed, conversions::cut_off)),
    };
    suppress(None);
    take_visited().contains(&site).then_some(found)?
}
