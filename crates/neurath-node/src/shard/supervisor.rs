//! What becomes of an instance that has failed. Pure: the shard does it, in `supervise.rs`.
//!
//! As in OTP an instance is started again, unless it is `temporary`; too often within a time, and whatever
//! depends on it is started again with it; and if that does not help either, the node ends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use neurath_manifest::{StartType, Supervision};

use crate::release::ReleasePackage;

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// The instance is started again.
    Restart,
    /// It stays away, and the node runs on.
    LeaveOut,
    /// The component is started again together with these, which depend on it: the nearest first.
    Escalate(Vec<String>),
    /// The node cannot go on with it: why.
    GiveUp(String),
}

/// What is known of an instance since the node's program has started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct History {
    /// How often it was started again.
    pub(crate) restarts: u64,
    /// Why, the last time.
    pub(crate) last: Option<String>,
    recent: VecDeque<Instant>,
}

#[derive(Debug)]
struct Member {
    start: StartType,
    /// What depends on it, if only by way of a third: the nearest first.
    dependants: Vec<String>,
    /// Its place among all, those that it depends on before it.
    rank: usize,
    escalations: VecDeque<Instant>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Supervisor {
    limits: Supervision,
    members: BTreeMap<String, Member>,
    histories: BTreeMap<(String, u32), History>,
    /// How often a component and what depends on it were started again together.
    pub(crate) escalations: u64,
    /// What has happened since it was last asked for: by instance, how often, and why the last time.
    news: BTreeMap<String, (u64, String)>,
}

impl Supervisor {
    /// For the components of a release.
    pub(crate) fn of_release(package: &ReleasePackage) -> Supervisor {
        let release = package.release();
        let components = release.components.iter().map(|one| {
            let needs = package.component(&one.name).map_or_else(Vec::new, |found| {
                let needs = found.depends_on.iter();
                needs.map(|need| need.component.clone()).collect()
            });
            (one.name.clone(), one.start, needs)
        });
        Supervisor::new(release.supervision, components.collect())
    }

    /// Components with how they are started and what they depend on.
    fn new(limits: Supervision, components: Vec<(String, StartType, Vec<String>)>) -> Supervisor {
        let order = in_order(&components);
        let rank = |name: &str| order.iter().position(|one| *one == name).unwrap_or(0);
        let members = components.iter().map(|(name, start, _)| {
            let mut dependants = reach(name, &components);
            dependants.sort_by_key(|one| rank(one));
            let member = Member {
                start: *start,
                dependants,
                rank: rank(name),
                escalations: VecDeque::new(),
            };
            (name.clone(), member)
        });
        Supervisor {
            limits,
            members: members.collect(),
            ..Supervisor::default()
        }
    }

    /// Another release runs, whose supervisor `next` is: what is counted for the limits begins anew, what was counted
    /// for people stays.
    pub(crate) fn succeed(&mut self, next: Supervisor) {
        let before = std::mem::replace(self, next);
        self.escalations = before.escalations;
        self.news = before.news;
        self.histories = before.histories;
        for history in self.histories.values_mut() {
            history.recent.clear();
        }
    }

    /// What is known of an instance.
    pub(crate) fn history(&self, component: &str, number: u32) -> History {
        let known = self.histories.get(&(component.to_owned(), number));
        known.cloned().unwrap_or_default()
    }

    /// The place of a component in the order in which they are started.
    pub(crate) fn rank(&self, component: &str) -> usize {
        self.members.get(component).map_or(0, |one| one.rank)
    }

    /// Whether a component that ends stays away, whatever it has ended of.
    pub(crate) fn is_temporary(&self, component: &str) -> bool {
        let member = self.members.get(component);
        member.is_some_and(|one| one.start == StartType::Temporary)
    }

    /// Takes what has happened since this was last called: an instance, how often, why the last time.
    pub(crate) fn take_news(&mut self) -> BTreeMap<String, (u64, String)> {
        std::mem::take(&mut self.news)
    }

    /// An instance that has not failed is started again, as one of a component that has is.
    pub(crate) fn restarted_with(&mut self, (component, number): (&str, u32), failed: &str) {
        let key = (component.to_owned(), number);
        let history = self.histories.entry(key).or_default();
        history.restarts += 1;
        history.last = Some(match component == failed {
            true => format!("another instance of {failed} has failed too often"),
            false => format!("{failed}, which it depends on, has failed too often"),
        });
    }

    /// Decides on an instance that has failed.
    pub(crate) fn failed(
        &mut self,
        (component, number): (&str, u32),
        why: &str,
        now: Instant,
    ) -> Decision {
        let Supervision {
            intensity,
            period,
            escalations,
        } = self.limits;
        let key = (component.to_owned(), number);
        let history = self.histories.entry(key).or_default();
        history.last = Some(why.to_owned());
        let told = self.news.entry(format!("{component}.{number}"));
        let told = told.or_default();
        *told = (told.0 + 1, why.to_owned());
        let Some(member) = self.members.get_mut(component) else {
            return Decision::GiveUp(format!(
                "{component}, which is in no release, failed: {why}"
            ));
        };
        if member.start == StartType::Temporary {
            return Decision::LeaveOut;
        }
        if count(&mut history.recent, now, period) <= intensity as usize {
            history.restarts += 1;
            return Decision::Restart;
        }
        let times = history.recent.len();
        history.recent.clear();
        let text = format!(
            "{component} failed {times} times within {}, the last time: {why}",
            neurath_manifest::scalar::format_duration(period)
        );
        if member.dependants.is_empty() {
            return Decision::GiveUp(text);
        }
        let longer = period.saturating_mul(escalations.saturating_add(1));
        if count(&mut member.escalations, now, longer) > escalations as usize {
            return Decision::GiveUp(format!(
                "{text}; to start it again with what depends on it ({}) has not helped",
                member.dependants.join(", ")
            ));
        }
        history.restarts += 1;
        self.escalations += 1;
        Decision::Escalate(member.dependants.clone())
    }
}

/// Notes something that happens now; how often it did within the period.
fn count(times: &mut VecDeque<Instant>, now: Instant, period: Duration) -> usize {
    while times.front().is_some_and(|first| now - *first > period) {
        times.pop_front();
    }
    times.push_back(now);
    times.len()
}

/// What depends on a component, if only by way of a third.
fn reach(name: &str, components: &[(String, StartType, Vec<String>)]) -> Vec<String> {
    let mut found = BTreeSet::new();
    let mut next = vec![name];
    while let Some(one) = next.pop() {
        for (other, _, needs) in components {
            if other != name && needs.iter().any(|need| need == one) && found.insert(other.clone())
            {
                next.push(other);
            }
        }
    }
    found.into_iter().collect()
}

/// Components, what they depend on before them; those that depend on each other as they are listed.
fn in_order(components: &[(String, StartType, Vec<String>)]) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    let mut left: Vec<&(String, StartType, Vec<String>)> = components.iter().collect();
    while !left.is_empty() {
        let waits = |(name, _, needs): &(String, StartType, Vec<String>)| {
            let mut needs = needs.iter().filter(|need| *need != name);
            needs.any(|need| left.iter().any(|(other, ..)| other == need))
        };
        let next = left.iter().position(|one| !waits(one)).unwrap_or(0);
        order.push(&left.remove(next).0);
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Supervision = Supervision {
        intensity: 2,
        period: Duration::from_secs(10),
        escalations: 1,
    };

    /// `d` needs `c`, which needs `b`, which needs `a`; `t` needs `a`, and is temporary.
    fn supervisor() -> Supervisor {
        let one = |name: &str, start, needs: &[&str]| {
            let needs = needs.iter().map(|need| (*need).to_owned()).collect();
            (name.to_owned(), start, needs)
        };
        let all = vec![
            one("t", StartType::Temporary, &["a"]),
            one("d", StartType::Transient, &["c"]),
            one("c", StartType::Permanent, &["b"]),
            one("b", StartType::Permanent, &["a"]),
            one("a", StartType::Permanent, &[]),
        ];
        Supervisor::new(LIMITS, all)
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn an_instance_is_started_again_so_often_and_then_with_its_dependants() {
        let (mut one, now) = (supervisor(), Instant::now());
        let mut fail = |seconds| one.failed(("a", 0), "x", now + Duration::from_secs(seconds));
        assert_eq!(fail(0), Decision::Restart);
        assert_eq!(fail(1), Decision::Restart);
        // The first is out of the period.
        assert_eq!(fail(11), Decision::Restart);
        assert_eq!(fail(11), Decision::Escalate(names(&["t", "b", "c", "d"])));
        // It is counted anew then.
        assert_eq!(fail(11), Decision::Restart);
        assert_eq!(fail(11), Decision::Restart);
        let Decision::GiveUp(why) = fail(11) else {
            panic!("it has escalated once already")
        };
        assert!(why.contains("a failed 3 times within 10s"), "{why}");
        assert!(why.contains("t, b, c, d"), "{why}");
        assert_eq!(one.history("a", 0).restarts, 6);
        assert_eq!(one.escalations, 1);
        assert_eq!(one.take_news()["a.0"], (7, "x".to_owned()));
        assert!(one.take_news().is_empty());
    }

    #[test]
    fn what_nothing_depends_on_ends_the_node() {
        let (mut one, now) = (supervisor(), Instant::now());
        for _ in 0..2 {
            assert_eq!(one.failed(("d", 0), "x", now), Decision::Restart);
        }
        assert!(matches!(
            one.failed(("d", 0), "x", now),
            Decision::GiveUp(_)
        ));
        // Each instance is counted for itself.
        assert_eq!(one.failed(("d", 1), "x", now), Decision::Restart);
    }

    #[test]
    fn a_temporary_one_stays_away() {
        let mut one = supervisor();
        assert_eq!(
            one.failed(("t", 0), "x", Instant::now()),
            Decision::LeaveOut
        );
        assert!(one.is_temporary("t") && !one.is_temporary("d"));
        assert_eq!(one.history("t", 0).restarts, 0);
    }

    #[test]
    fn what_is_needed_starts_first() {
        let one = supervisor();
        let mut all = ["t", "d", "c", "b", "a"];
        all.sort_by_key(|name| one.rank(name));
        assert_eq!(all, ["a", "t", "b", "c", "d"]);
        // A ring has an order as well.
        let ring =
            |name: &str, need: &str| (name.to_owned(), StartType::Permanent, vec![need.to_owned()]);
        let ring = vec![ring("x", "y"), ring("y", "x")];
        assert_eq!(in_order(&ring), ["x", "y"]);
        assert_eq!(reach("x", &ring), names(&["y"]));
    }
}
