//! One workload under one model, whole or one image of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::explore::{Explorer, Start, Violation, said};
use super::images::Effort;
use super::models::Survives;
use super::oracle::Seen;
use super::record::{Recording, record};
use super::sim::{Random, mix};
use super::workloads::{Begin, SEQUENCES, Workload, random_workload, sequence, small};
use crate::region::ablation::Without;

/// What its number makes a job.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    pub(crate) seed: u64,
    pub(crate) survives: Survives,
    pub(crate) workload: Workload,
}

/// Kinds of jobs: so many numbers in a row have all models and all small workloads.
pub(crate) const KINDS: u64 = 170;

impl Job {
    /// The `number`-th job of a campaign.
    pub(crate) fn nth(seed: u64, number: u64) -> Job {
        let own = mix(seed, number);
        Job::of(own - own % KINDS + number % KINDS)
    }

    /// The `number`-th job with a small workload, whatever its seed.
    pub(crate) fn small(number: u64) -> Option<Job> {
        let models = Survives::ALL.len() as u64;
        let job = Job::of(number);
        (number / models < small().len() as u64).then_some(job)
    }

    /// The job with this seed, which says everything.
    pub(crate) fn of(seed: u64) -> Job {
        let kind = (seed % KINDS) as usize;
        let survives = Survives::ALL[kind % Survives::ALL.len()];
        let mut known = small();
        let at = kind / Survives::ALL.len();
        let workload = if at < known.len() {
            known.swap_remove(at)
        } else {
            let mut random = Random(seed);
            if random.chance(3) {
                let workload = sequence(random.below(SEQUENCES));
                return Job {
                    seed,
                    survives,
                    workload,
                };
            }
            let len = 3 + random.below(12);
            Workload {
                name: "random",
                transactions: random_workload(random.next(), len),
                begin: Begin::Empty,
            }
        };
        Job {
            seed,
            survives,
            workload,
        }
    }
}

/// So many times more an image may crash: in its recovery, and in that one's.
const DEPTH: u32 = 2;

/// How a job is done.
#[derive(Clone, Copy)]
pub(crate) struct Way {
    pub(crate) effort: Effort,
    pub(crate) without: Option<Without>,
    pub(crate) only: Option<(usize, usize)>,
    /// Ends at the first violation.
    pub(crate) stop: bool,
}

impl Way {
    pub(crate) const WHOLE: Way = Way {
        effort: Effort::FULL,
        without: None,
        only: None,
        stop: false,
    };
}

/// What came of a job.
pub(crate) struct Done {
    pub(crate) images: u64,
    pub(crate) violations: Vec<Violation>,
}

pub(crate) fn carry_out(job: &Job, way: &Way) -> Done {
    let recorded = || record(&job.workload, way.without, job.survives);
    let mut explorer = Explorer {
        survives: job.survives,
        effort: way.effort,
        seed: job.seed,
        only: way.only,
        rebuild: Some(&|| recorded().media),
        stop: way.stop,
        images: 0,
        violations: Vec::new(),
        seen: Seen::default(),
        start: Start::default(),
    };
    let whole = catch_unwind(AssertUnwindSafe(|| {
        let Recording {
            media,
            trace,
            history,
        } = recorded();
        // An error is that of the first violation, which is noted.
        let _ = explorer.explore(
            &mut Some(media),
            (&trace, trace.events.len()),
            &history,
            DEPTH,
        );
    }));
    if let Err(panic) = whole {
        explorer.violations.push(Violation {
            event: 0,
            image: 0,
            error: format!("outside of an image: {}", said(&*panic)),
        });
    }
    Done {
        images: explorer.images,
        violations: explorer.violations,
    }
}
