//! Whether the campaign would notice: the protocol with a part or an order left out.

use super::images::Effort;
use super::replay::{Job, KINDS, Way, carry_out};
use super::sim::{suppress, take_visited};
use super::sites::Site;
use crate::region::ablation::{Without, leave_out};

/// All wrong variants of the protocol.
pub(crate) const MUTANTS: [Without; 17] = [
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
];

/// What a job's first violation says, with its place.
fn first(job: &Job, way: &Way) -> Option<String> {
    let found = carry_out(job, way).violations.into_iter().next()?;
    let place = format!("{:#x}:{}:{}", job.seed, found.event, found.image);
    Some(format!("{place} {:?} {}", job.survives, found.error))
}

fn hunt(seed: u64, way: &Way) -> Option<String> {
    [Effort::QUICK, Effort::SHARP]
        .into_iter()
        .find_map(|effort| {
            let way = Way { effort, ..*way };
            (0..KINDS).find_map(|number| first(&Job::nth(seed, number), &way))
        })
}

/// What is noticed without a part.
pub(crate) fn mutant(part: Without, seed: u64) -> Option<String> {
    leave_out(Some(part));
    let way = Way {
        without: Some(part),
        stop: true,
        ..Way::WHOLE
    };
    let found = hunt(seed, &way);
    leave_out(None);
    found
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
        // The copies are no part of a job.
        "snapshot.rs" => super::copies::cut_off(seed).err(),
        _ => hunt(seed, &way),
    };
    suppress(None);
    take_visited().contains(&site).then_some(found)?
}
