//! A campaign of crashes: workloads run on media that remember each store, and every state
//! that a crash could have left is recovered, compared with what was committed, recovered
//! again, used, emptied, and now and then made to crash again.
//!
//! `docs/crash-testing.md` says what is assumed of a medium and what is asserted. The same
//! seed makes the same images everywhere, whatever the number of threads.

mod conversions;
mod copies;
mod explore;
mod faults;
pub(crate) mod fresh;
mod images;
mod killed;
pub(crate) mod memory;
mod models;
mod mutants;
mod newest;
mod oracle;
mod record;
mod replay;
pub(crate) mod sim;
mod sites;
pub(crate) mod state;
mod sweeps;
pub(crate) mod trace;
pub(crate) mod two_versions;
pub(crate) mod workloads;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use replay::{Done, Job, Way};

/// How much is done.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// At least so many images.
    pub images: u64,
    /// What the images are made from.
    pub seed: u64,
    /// Threads that work at it.
    pub threads: usize,
}

/// What came of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Images that were looked at, without those made to crash again.
    pub images: u64,
    /// Images and faults that were not survived.
    pub violations: u64,
    /// Places of the region's code that order stores.
    pub sites: u64,
    /// Those whose suppression is noticed.
    pub sites_caught: u64,
    /// Wrong variants of the protocol.
    pub mutants: u64,
    /// Those that are noticed.
    pub mutants_caught: u64,
    /// The first violations, each beginning with its `seed:event:image`.
    pub first_failures: Vec<String>,
    /// What was not noticed.
    pub uncaught: Vec<String>,
}

impl Report {
    /// Whether everything was survived, and everything wrong noticed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations == 0
            && self.sites == self.sites_caught
            && self.mutants == self.mutants_caught
    }
}

/// The failures that a report lists.
const LISTED: usize = 20;

thread_local! {
    static QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Keeps what panics on this thread say to itself: they are caught, and counted.
fn quiet(yes: bool) {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                before(info);
            }
        }));
    });
    QUIET.set(yes);
}

/// Runs a campaign. `progress` is told what is being done.
pub fn run(options: &Options, progress: &(dyn Fn(&str) + Sync)) -> Report {
    let mut report = Report::default();
    let faults = faults::all(options.seed);
    report.violations += faults.len() as u64;
    report.first_failures.extend(faults);
    report.first_failures.truncate(LISTED);
    progress("faults done");
    meta(options, &mut report, progress);
    progress(&format!(
        "{} of {} sites and {} of {} mutants noticed",
        report.sites_caught, report.sites, report.mutants_caught, report.mutants
    ));
    if options.images > 0 {
        swept(options, &mut report, progress);
    }
    let swept = report.images;
    let left = Options {
        images: options.images.saturating_sub(swept),
        ..*options
    };
    crashes(&left, &mut report, progress);
    report
}

/// Conversions segment by segment: a part of the images, which no job has.
fn swept(options: &Options, report: &mut Report, progress: &(dyn Fn(&str) + Sync)) {
    let models = sweeps::MODELS.len() as u64;
    let of =
        |number: u64| sweeps::cut_off_everywhere(number as usize, sim::mix(options.seed, number));
    for (_, done) in in_parallel(options.threads, models, of) {
        match done {
            Ok(images) => report.images += images,
            Err(error) => {
                report.violations += 1;
                report.first_failures.push(format!("a sweep: {error}"));
            }
        }
    }
    report.first_failures.truncate(LISTED);
    progress(&format!("{} images of sweeps", report.images));
}

/// Suppresses each site, and tries each mutant.
fn meta(options: &Options, report: &mut Report, progress: &(dyn Fn(&str) + Sync)) {
    let sites: Vec<_> = sites::all().into_iter().collect();
    let caught = in_parallel(options.threads, sites.len() as u64, |number| {
        let found = mutants::site(sites[number as usize], options.seed);
        tell(progress, &sites[number as usize].to_string(), found)
    });
    report.sites = sites.len() as u64;
    for (number, caught) in caught {
        if caught {
            report.sites_caught += 1;
        } else {
            report.uncaught.push(sites[number as usize].to_string());
        }
    }
    let mutants = mutants::MUTANTS;
    let caught = in_parallel(options.threads, mutants.len() as u64, |number| {
        let found = mutants::mutant(mutants[number as usize], options.seed);
        tell(progress, &format!("{:?}", mutants[number as usize]), found)
    });
    report.mutants = mutants.len() as u64;
    for (number, caught) in caught {
        if caught {
            report.mutants_caught += 1;
        } else {
            let mutant = format!("{:?}", mutants[number as usize]);
            report.uncaught.push(mutant);
        }
    }
}

/// Says what was noticed without something; whether anything was.
fn tell(progress: &(dyn Fn(&str) + Sync), what: &str, found: Option<String>) -> bool {
    let said = found.as_deref().unwrap_or("not noticed");
    let said: String = said.chars().take(160).collect();
    progress(&format!("without {what}: {said}"));
    found.is_some()
}

fn in_parallel<R: Send>(
    threads: usize,
    count: u64,
    work: impl Fn(u64) -> R + Sync,
) -> BTreeMap<u64, R> {
    let (next, results) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                quiet(true);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        break;
                    }
                    let result = work(number);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.insert(number, result);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// What is counted while jobs end out of their order.
#[derive(Default)]
struct Tally {
    /// Done jobs whose turn has not come.
    waiting: BTreeMap<u64, (u64, Done)>,
    turn: u64,
    images: u64,
    violations: u64,
    failures: Vec<String>,
    told: u64,
}

impl Tally {
    /// Counts jobs in their order, so that the sum does not depend on the threads.
    fn add(&mut self, number: u64, seed: u64, done: Done, wanted: u64) {
        self.waiting.insert(number, (seed, done));
        while self.images < wanted
            && let Some((seed, done)) = self.waiting.remove(&self.turn)
        {
            self.turn += 1;
            self.images += done.images;
            self.violations += done.violations.len() as u64;
            for found in done.violations {
                if self.failures.len() < LISTED {
                    let place = format!("{seed:#x}:{}:{}", found.event, found.image);
                    self.failures.push(format!("{place} {}", found.error));
                }
            }
        }
    }
}

fn crashes(options: &Options, report: &mut Report, progress: &(dyn Fn(&str) + Sync)) {
    let (next, tally) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..options.threads.max(1) {
            scope.spawn(|| {
                quiet(true);
                let lock = || tally.lock().unwrap_or_else(PoisonError::into_inner);
                while lock().images < options.images {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let job = Job::nth(options.seed, number);
                    let done = replay::carry_out(&job, &Way::WHOLE);
                    let mut tally = lock();
                    tally.add(number, job.seed, done, options.images);
                    if tally.images / 100_000 > tally.told {
                        tally.told = tally.images / 100_000;
                        let (images, violations) = (tally.images, tally.violations);
                        progress(&format!("{images} images, {violations} violations"));
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.images += tally.images;
    report.violations += tally.violations;
    report.first_failures.extend(tally.failures);
    report.first_failures.truncate(LISTED);
}

/// One image again.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// The workload, and what survives of its stores.
    pub what: String,
    /// Whether there is such an image.
    pub found: bool,
    /// Why it is a violation, if it is one.
    pub violation: Option<String>,
}

/// Makes and checks one image, alone, as a campaign's failure names it.
#[must_use]
pub fn replay(seed: u64, event: usize, image: usize) -> Replayed {
    let job = Job::of(seed);
    let way = Way {
        only: Some((event, image)),
        ..Way::WHOLE
    };
    quiet(true);
    let done = replay::carry_out(&job, &way);
    quiet(false);
    let mut found = done.violations.into_iter();
    Replayed {
        what: format!("{:?}, {:?}", job.survives, job.workload),
        found: done.images > 0,
        violation: found.next().map(|violation| violation.error),
    }
}
