//! What a node knows of its meetings: votes and decisions, without clocks or files of its own.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Heard, Trip, Visit, Went};
use crate::catalog::ReleaseId;

/// A vote that was not repeated for this long does not count: whoever gave it may be gone.
const LAPSE: Duration = Duration::from_secs(2);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// The one that this node decides.
    open: Option<Open>,
    /// The last one that was decided with no, and why.
    over: Option<(String, String)>,
    /// The last one from which this node went on.
    went: Option<Went>,
    /// Whether there may be one that was forgotten.
    forgetful: bool,
}

#[derive(Debug)]
struct Open {
    meeting: String,
    point: String,
    /// This node first.
    nodes: Vec<String>,
    trip: Trip,
    votes: BTreeMap<String, (Trip, Instant)>,
}

impl Table {
    pub(super) fn new(went: Option<Went>) -> Table {
        Table {
            went,
            ..Table::default()
        }
    }

    /// One of a node whose record cannot be read.
    pub(super) fn forgetful() -> Table {
        Table {
            forgetful: true,
            ..Table::default()
        }
    }

    /// Begins a meeting, which this node decides.
    pub(super) fn open(&mut self, meeting: String, point: &str, nodes: &[String], trip: Trip) {
        self.open = Some(Open {
            meeting,
            point: point.to_owned(),
            nodes: nodes.to_vec(),
            trip,
            votes: BTreeMap::new(),
        });
    }

    /// Answers a node that is at a meeting point. `me` is this node's name.
    pub(super) fn hear(
        &mut self,
        me: &str,
        current: Option<&ReleaseId>,
        visit: &Visit,
        now: Instant,
    ) -> Heard {
        if visit.host != me {
            let why = format!("{} is meant, and this is {me}", visit.host);
            return Heard::No { why };
        }
        if let Some(went) = &self.went
            && (visit.meeting.as_ref() == Some(&went.meeting) || joins(went, me, current, visit))
        {
            return Heard::Go(went.clone());
        }
        if visit.nodes.first().map(String::as_str) != Some(me) {
            return Heard::Wait { meeting: None };
        }
        let open = self.open.as_mut().filter(|open| open.point == visit.point);
        match (open, &visit.meeting) {
            (Some(open), _) if open.nodes != visit.nodes => Heard::No {
                why: format!(
                    "{} meets {} there, and {me} meets {}",
                    visit.guest,
                    visit.nodes.join(", "),
                    open.nodes.join(", ")
                ),
            },
            (Some(open), None) => Heard::Wait {
                meeting: Some(open.meeting.clone()),
            },
            (Some(open), Some(meeting)) if *meeting == open.meeting => {
                if visit.leaves {
                    return self.left_by(&visit.guest, now);
                }
                let vote = (visit.trip.clone(), now);
                open.votes.insert(visit.guest.clone(), vote);
                Heard::Wait {
                    meeting: Some(meeting.clone()),
                }
            }
            (_, Some(_)) if self.forgetful => Heard::Wait { meeting: None },
            (_, Some(meeting)) => Heard::No {
                why: match &self.over {
                    Some((over, why)) if over == meeting => why.clone(),
                    _ => format!("{me} has decided nothing, and was there anew"),
                },
            },
            (None, None) => Heard::Wait { meeting: None },
        }
    }

    /// The time of one who waits is over: that decides it.
    fn left_by(&mut self, guest: &str, now: Instant) -> Heard {
        let mut missing = self.missing(now);
        missing.retain(|name| name != guest);
        let why = match missing.as_slice() {
            [] => format!("the time of {guest} was over first"),
            missing => format!(
                "the time of {guest} was over, and not there: {}",
                missing.join(", ")
            ),
        };
        self.close(why.clone());
        Heard::No { why }
    }

    /// Who is not there, of those that the open meeting needs.
    pub(super) fn missing(&self, now: Instant) -> Vec<String> {
        let Some(open) = &self.open else {
            return Vec::new();
        };
        let there = |name: &String| {
            let vote = open.votes.get(name);
            vote.is_some_and(|(_, at)| now.saturating_duration_since(*at) < LAPSE)
        };
        let others = open.nodes.iter().skip(1);
        others.filter(|name| !there(name)).cloned().collect()
    }

    /// The open meeting's outcome, if all are there.
    pub(super) fn all_there(&self, now: Instant) -> Option<Went> {
        let open = self.open.as_ref()?;
        if !self.missing(now).is_empty() {
            return None;
        }
        let votes = open.votes.iter();
        let mut trips: BTreeMap<String, Trip> = votes
            .filter(|(name, _)| open.nodes.contains(name))
            .map(|(name, (trip, _))| (name.clone(), trip.clone()))
            .collect();
        trips.extend(open.nodes.first().map(|me| (me.clone(), open.trip.clone())));
        Some(Went {
            meeting: open.meeting.clone(),
            point: open.point.clone(),
            trips,
        })
    }

    /// Whether the meeting that this node decides is open.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Why the last one that this node decided did not go on.
    pub(super) fn why(&self) -> String {
        let over = self.over.as_ref();
        over.map_or_else(String::new, |(_, why)| why.clone())
    }

    /// The decision is no.
    pub(super) fn close(&mut self, why: String) {
        if let Some(open) = self.open.take() {
            self.over = Some((open.meeting, why));
        }
    }

    /// The decision is yes, and is recorded.
    pub(super) fn went(&mut self, went: Went) {
        self.open = None;
        self.forgetful = false;
        self.went = Some(went);
    }
}

/// Whether a guest comes late to a meeting whose nodes went on: it was there, has fallen back, and is on the same way
/// again, while this node is where that led.
fn joins(went: &Went, me: &str, current: Option<&ReleaseId>, visit: &Visit) -> bool {
    visit.meeting.is_none()
        && went.point == visit.point
        && went.trips.keys().eq(&visit.nodes)
        && went.trips.get(&visit.guest) == Some(&visit.trip)
        && went.trips.get(me).map(|trip| &trip.to) == current
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trip(to: &str) -> Trip {
        Trip {
            from: ReleaseId::new("kv", "1.0.0"),
            to: ReleaseId::new("kv", to),
        }
    }

    fn nodes() -> Vec<String> {
        ["east", "north", "west"].map(String::from).to_vec()
    }

    fn visit(guest: &str, meeting: Option<&str>) -> Visit {
        Visit {
            host: "east".into(),
            guest: guest.into(),
            point: "all".into(),
            nodes: nodes(),
            trip: trip("1.1.0"),
            meeting: meeting.map(String::from),
            leaves: false,
        }
    }

    fn opened() -> Table {
        let mut table = Table::default();
        table.open("m1".into(), "all", &nodes(), trip("1.1.0"));
        table
    }

    fn hear(table: &mut Table, visit: &Visit, now: Instant) -> Heard {
        table.hear("east", Some(&ReleaseId::new("kv", "1.0.0")), visit, now)
    }

    fn waits(meeting: Option<&str>) -> Heard {
        Heard::Wait {
            meeting: meeting.map(String::from),
        }
    }

    #[test]
    fn they_go_on_when_all_have_voted_and_are_still_there() {
        let now = Instant::now();
        let mut table = opened();
        assert_eq!(table.missing(now), ["north", "west"]);
        // To be there is no vote yet.
        assert_eq!(
            hear(&mut table, &visit("north", None), now),
            waits(Some("m1"))
        );
        assert_eq!(table.missing(now), ["north", "west"]);
        for guest in ["north", "west"] {
            let heard = hear(&mut table, &visit(guest, Some("m1")), now);
            assert_eq!(heard, waits(Some("m1")));
        }
        assert_eq!(table.missing(now), [""; 0]);
        let later = now + LAPSE;
        assert_eq!(table.missing(later), ["north", "west"]);
        hear(&mut table, &visit("north", Some("m1")), later);
        assert_eq!(table.all_there(later), None);
        hear(&mut table, &visit("west", Some("m1")), later);
        let went = table.all_there(later).expect("all are there");
        assert!(went.trips.keys().eq(&nodes()));
        table.went(went.clone());
        let heard = hear(&mut table, &visit("west", Some("m1")), later);
        assert_eq!(heard, Heard::Go(went.clone()));
        // A decision does not change.
        let leaves = Visit {
            leaves: true,
            ..visit("north", Some("m1"))
        };
        assert_eq!(hear(&mut table, &leaves, later), Heard::Go(went));
    }

    #[test]
    fn one_who_leaves_decides_for_all() {
        let now = Instant::now();
        let mut table = opened();
        hear(&mut table, &visit("north", Some("m1")), now);
        let leaves = Visit {
            leaves: true,
            ..visit("north", Some("m1"))
        };
        for visit in [leaves, visit("north", Some("m1"))] {
            let heard = hear(&mut table, &visit, now);
            let Heard::No { why } = heard else {
                panic!("{heard:?}")
            };
            assert_eq!(why, "the time of north was over, and not there: west");
        }
        assert_eq!(table.all_there(now), None);
    }

    #[test]
    fn a_vote_in_a_meeting_that_is_not_known_is_denied_and_never_counted() {
        let now = Instant::now();
        for mut table in [Table::default(), opened()] {
            let heard = hear(&mut table, &visit("north", Some("m0")), now);
            assert!(matches!(heard, Heard::No { .. }));
            assert!(table.missing(now).len() != 1);
        }
        let mut table = Table::forgetful();
        let heard = hear(&mut table, &visit("north", Some("m0")), now);
        assert_eq!(heard, waits(None), "it may have been yes");
    }

    #[test]
    fn who_is_meant_and_who_meets_must_agree() {
        let now = Instant::now();
        let mut table = opened();
        let other = Visit {
            nodes: vec!["east".into(), "west".into()],
            ..visit("west", None)
        };
        let mistaken = Visit {
            host: "south".into(),
            ..visit("west", None)
        };
        for (visit, name) in [(other, "north"), (mistaken, "south")] {
            let heard = hear(&mut table, &visit, now);
            assert!(matches!(heard, Heard::No { why } if why.contains(name)));
        }
    }

    #[test]
    fn who_fell_back_joins_those_who_are_where_it_led() {
        let now = Instant::now();
        let went = Went {
            meeting: "m1".into(),
            point: "all".into(),
            trips: nodes()
                .into_iter()
                .map(|name| (name, trip("1.1.0")))
                .collect(),
        };
        let (old, new) = (ReleaseId::new("kv", "1.0.0"), ReleaseId::new("kv", "1.1.0"));
        let mut table = Table::new(Some(went.clone()));
        let late = visit("west", None);
        assert_eq!(table.hear("east", Some(&new), &late, now), Heard::Go(went));
        // This node has gone back itself.
        assert_eq!(table.hear("east", Some(&old), &late, now), waits(None));
        let elsewhere = Visit {
            trip: trip("1.2.0"),
            ..late
        };
        assert_eq!(table.hear("east", Some(&new), &elsewhere, now), waits(None));
    }

    #[test]
    fn a_node_that_does_not_decide_tells_what_it_knows() {
        let now = Instant::now();
        let ask = |meeting| Visit {
            host: "west".into(),
            ..visit("north", meeting)
        };
        let mut table = Table::default();
        assert_eq!(table.hear("west", None, &ask(Some("m1")), now), waits(None));
        let went = Went {
            meeting: "m1".into(),
            point: "all".into(),
            trips: BTreeMap::new(),
        };
        table.went(went.clone());
        assert_eq!(
            table.hear("west", None, &ask(Some("m1")), now),
            Heard::Go(went)
        );
    }
}
