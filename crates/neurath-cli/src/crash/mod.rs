//! The crash campaign of nodes: real processes are killed at every durable step of an upgrade, of
//! the way back and of a confirmation, then again in the start after it, and at random times; all
//! under clients that know what was acknowledged.
//!
//! A *point* is a durable step (`neurath_node::fault`): the node numbers those that it passes and is
//! killed with `SIGKILL` at a given one. A *place* is a point of one thing that is asked of a node,
//! and perhaps a point of the start that follows. What must hold after each kill is in `check`.

mod case;
mod check;
mod clients;
mod place;
mod set;
mod story;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::cli::Folders;
use case::{Case, Outcome};
pub use place::Place;
use place::{Kill, PHASES};
use set::{Points, Set};
use story::{STORIES, Story};

/// How a campaign is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// What random times, chosen places and the clients' requests come from.
    pub seed: u64,
    /// How many times more a node is killed at a random time.
    pub kills: u64,
    /// At most so many points of each phase and of each course of a start; all of them without.
    pub most: Option<usize>,
    /// Kill the start after *every* point at each of its own, not only the first of those whose
    /// starts pass the same points.
    pub every_start: bool,
    /// This place alone.
    pub only: Option<Place>,
    /// How many nodes at the same time.
    pub threads: usize,
    /// The project of the key-value server.
    pub folders: Folders,
    /// The command that runs a node; it must have fault points.
    pub program: PathBuf,
}

/// What a campaign has found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Places at which nodes were killed.
    pub points: u64,
    /// Processes that were killed, at points and at random times.
    pub kills: u64,
    /// Of these, how many times the old release was found in the dead node's catalog.
    pub old: u64,
    /// How many times the new one.
    pub new: u64,
    /// What did not hold.
    pub violations: u64,
    /// Acknowledged writes that were not there.
    pub lost: u64,
    /// Answers that nothing explains.
    pub wrong: u64,
    /// Requests that were answered.
    pub requests: u64,
    /// Different courses that starts after a kill have taken.
    pub courses: u64,
    /// Each violation in words, the place first.
    pub failures: Vec<String>,
}

impl Report {
    /// Whether everything held, and anything was tried.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.violations == 0 && self.lost == 0 && self.wrong == 0 && self.kills > 0
    }

    fn add(&mut self, outcome: &Outcome) {
        self.kills += outcome.kills;
        self.points += u64::from(outcome.case.is_enumerated());
        self.old += outcome.found.iter().filter(|new| !**new).count() as u64;
        self.new += outcome.found.iter().filter(|new| **new).count() as u64;
        self.violations += outcome.violations.len() as u64;
        self.lost += outcome.lost;
        self.wrong += outcome.wrong;
        self.requests += outcome.requests;
        let place = outcome.case.place(&STORIES[outcome.case.story]);
        let said = outcome.violations.iter();
        self.failures
            .extend(said.map(|text| format!("{place}: {text}")));
    }
}

/// Runs a campaign; `progress` is told what is being done.
///
/// # Errors
///
/// If it cannot be made: the releases cannot be built, a node cannot be prepared, or there is no such
/// place. What a node does wrong is in the report.
pub fn run(options: &Options, progress: &(dyn Fn(&str) + Sync)) -> anyhow::Result<Report> {
    let threads = if options.only.is_some() {
        1
    } else {
        options.threads.max(1)
    };
    let mut workers = Vec::new();
    for number in 1..=threads {
        progress(&format!("preparing nodes: {number} of {threads}"));
        let needed = |story: &&Story| {
            let only = options.only.as_ref();
            only.is_none_or(|only| only.story == story.name)
        };
        let sets: anyhow::Result<Sets> = STORIES
            .iter()
            .filter(needed)
            .map(|story| {
                let set = Set::new(story, options).context(format!("preparing {}", story.name));
                Ok((story.name, set?))
            })
            .collect();
        workers.push(sets?);
    }
    let points = enumerate(&workers[0])?;
    let campaign = Campaign {
        options,
        points: &points,
        progress,
    };
    campaign.run(&workers)
}

/// The points of each phase of each story.
fn enumerate(sets: &Sets) -> anyhow::Result<Vec<Vec<Points>>> {
    let of = |story: &Story| match sets.get(story.name) {
        Some(set) => (0..PHASES.len()).map(|phase| set.points(phase)).collect(),
        None => Ok(Vec::new()),
    };
    STORIES.iter().map(of).collect()
}

/// The nodes of a worker, by their stories' names.
type Sets = BTreeMap<&'static str, Set>;

struct Campaign<'a> {
    options: &'a Options,
    points: &'a [Vec<Points>],
    progress: &'a (dyn Fn(&str) + Sync),
}

impl Campaign<'_> {
    fn run(&self, workers: &[Sets]) -> anyhow::Result<Report> {
        let mut report = Report::default();
        if let Some(only) = &self.options.only {
            let case = self.only(only)?;
            let outcomes = self.all(workers, vec![case], "this place");
            outcomes.iter().for_each(|one| report.add(one));
            return Ok(report);
        }
        let first = self.all(workers, self.first_kills(), "points");
        let (again, courses) = self.second_kills(&first);
        report.courses = courses;
        let second = self.all(workers, again, "points of starts");
        let random = self.all(workers, self.random_kills(), "random times");
        for outcome in first.iter().chain(&second).chain(&random) {
            report.add(outcome);
        }
        self.check_both_sides(&first, &mut report);
        Ok(report)
    }

    /// A kill at each point of each phase.
    fn first_kills(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for (story, phases) in self.points.iter().enumerate() {
            for (phase, points) in phases.iter().enumerate() {
                let seed = mix(self.options.seed, (story * 16 + phase) as u64);
                for k in chosen(&points.names, self.options.most, seed) {
                    cases.push(self.case(story, phase, Kill::Point(k)));
                }
            }
        }
        cases
    }

    /// A kill at each point of each course that a start has taken; and how many courses there are.
    fn second_kills(&self, first: &[Outcome]) -> (Vec<Case>, u64) {
        let mut courses: BTreeMap<(usize, &[String]), Vec<&Case>> = BTreeMap::new();
        for outcome in first.iter().filter(|one| !one.course.is_empty()) {
            let course = (outcome.case.story, outcome.course.as_slice());
            courses.entry(course).or_default().push(&outcome.case);
        }
        let mut cases = Vec::new();
        for (number, ((_, course), from)) in courses.iter().enumerate() {
            let all = if self.options.every_start {
                from.len()
            } else {
                1
            };
            // Of the starts that begin alike, those of a short campaign would be all the same.
            let most = self.options.most.map(|most| (most / 3).max(1));
            let seed = mix(self.options.seed, number as u64 + 1000);
            for case in &from[..all] {
                for j in chosen(course, most, seed) {
                    let mut again = (*case).clone();
                    again.then = Some(Kill::Point(j));
                    cases.push(again);
                }
            }
        }
        (cases, courses.len() as u64)
    }

    /// Kills whenever it may be, every other one also in the start that follows.
    fn random_kills(&self) -> Vec<Case> {
        let stories = STORIES.len() as u64;
        let case = |number| {
            let random = mix(self.options.seed, number + (1 << 32));
            let story = (number % stories) as usize;
            let phase = (number / stories) as usize % PHASES.len();
            let long = self.points[story][phase].took;
            let at = long.mul_f64(1.1 * fraction(random));
            let mut case = self.case(story, phase, Kill::After(at));
            let start = Duration::from_millis(150).mul_f64(fraction(mix(random, 1)));
            case.then = (random & 1 == 0).then_some(Kill::After(start));
            case
        };
        (0..self.options.kills).map(case).collect()
    }

    fn case(&self, story: usize, phase: usize, kill: Kill) -> Case {
        let points = &self.points[story][phase];
        let expected = match kill {
            Kill::Point(k) => points.flip.map(|flip| k > flip),
            Kill::After(_) => None,
        };
        Case {
            story,
            phase,
            before: points.before,
            kill,
            expected,
            then: None,
            seed: self.options.seed,
        }
    }

    fn only(&self, place: &Place) -> anyhow::Result<Case> {
        let story = STORIES.iter().position(|story| story.name == place.story);
        let phase = PHASES.iter().position(|phase| phase.name == place.phase);
        let (Some(story), Some(phase)) = (story, phase) else {
            let stories: Vec<&str> = STORIES.iter().map(|story| story.name).collect();
            let phases: Vec<&str> = PHASES.iter().map(|phase| phase.name).collect();
            bail!(
                "there is no {}:{}; stories are {}, and phases {}",
                place.story,
                place.phase,
                stories.join(", "),
                phases.join(", ")
            );
        };
        let points = self.points[story][phase].names.len();
        if place.point == 0 || place.point > points {
            bail!(
                "{}:{} has the points 1 to {points}",
                place.story,
                place.phase
            );
        }
        let mut case = self.case(story, phase, Kill::Point(place.point));
        case.then = place.start.map(Kill::Point);
        Ok(case)
    }

    /// Carries these out, each worker one after the other; in the order that they were given.
    fn all(&self, workers: &[Sets], cases: Vec<Case>, what: &str) -> Vec<Outcome> {
        let many = cases.len();
        let queue: Mutex<VecDeque<(usize, Case)>> =
            Mutex::new(cases.into_iter().enumerate().collect());
        let done: Mutex<Vec<(usize, Outcome)>> = Mutex::default();
        thread::scope(|scope| {
            for sets in workers {
                let (queue, done) = (&queue, &done);
                scope.spawn(move || {
                    loop {
                        let next = locked(queue).pop_front();
                        let Some((number, case)) = next else { return };
                        let outcome = case.run(&sets[STORIES[case.story].name]);
                        for text in &outcome.violations {
                            let place = outcome.case.place(&STORIES[outcome.case.story]);
                            (self.progress)(&format!("{place}: {text}"));
                        }
                        let mut done = locked(done);
                        done.push((number, outcome));
                        if done.len().is_multiple_of(25) || done.len() == many {
                            (self.progress)(&format!("{} of {many} {what}", done.len()));
                        }
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(number, _)| *number);
        done.into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// A campaign whose kills all found the same release has not tried the commit point.
    fn check_both_sides(&self, first: &[Outcome], report: &mut Report) {
        for (story, about) in STORIES.iter().enumerate() {
            for (phase, of) in PHASES.iter().enumerate() {
                let of_it = |one: &&Outcome| one.case.story == story && one.case.phase == phase;
                let found: BTreeSet<bool> = first
                    .iter()
                    .filter(of_it)
                    .filter_map(|one| one.before_flip)
                    .collect();
                if found.len() < 2 {
                    report.violations += 1;
                    report.failures.push(format!(
                        "{}:{}: not killed on both sides of the commit point",
                        about.name, of.name
                    ));
                }
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Points of a phase, from 1: all, or so many; then each name at its first and last place goes before
/// the others, of which a spread is taken that depends on the seed.
fn chosen(names: &[String], most: Option<usize>, seed: u64) -> Vec<usize> {
    let Some(most) = most.filter(|most| *most < names.len()) else {
        return (1..=names.len()).collect();
    };
    // Those beside the flip come first: only they show that it is one step.
    let beside = |name: &str| name.starts_with("catalog.flip");
    let mut chosen: BTreeSet<usize> = (1..=names.len())
        .filter(|at| beside(&names[at - 1]))
        .take(most.div_ceil(2))
        .collect();
    let mut others: Vec<usize> = (1..=names.len())
        .filter(|at| !chosen.contains(at))
        .collect();
    let mut random = seed;
    while chosen.len() < most && !others.is_empty() {
        random = mix(random, others.len() as u64);
        let at = (random % others.len() as u64) as usize;
        chosen.insert(others.swap_remove(at));
    }
    // On both sides of it.
    chosen.insert(1);
    chosen.insert(names.len());
    chosen.into_iter().collect()
}

/// Another random number (splitmix64).
fn mix(seed: u64, number: u64) -> u64 {
    let mut z = seed.wrapping_add(number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number from 0 to 1.
fn fraction(random: u64) -> f64 {
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_points_are_chosen_on_both_sides_of_the_flip() {
        let mut names: Vec<String> = (0..50).map(|n| format!("p{n}")).collect();
        assert_eq!(chosen(&names, None, 1), (1..=50).collect::<Vec<_>>());
        names[20] = "catalog.flip.before-write".into();
        names[21] = "catalog.flip.before-sync".into();
        let few = chosen(&names, Some(8), 1);
        assert!((8..=10).contains(&few.len()), "{few:?}");
        for at in [1, 21, 22, 50] {
            assert!(few.contains(&at), "{few:?}");
        }
        assert_eq!(few, chosen(&names, Some(8), 1));
        assert_ne!(few, chosen(&names, Some(8), 2));
    }
}
