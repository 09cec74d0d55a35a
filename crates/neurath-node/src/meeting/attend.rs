//! A node at a meeting point: it asks and is asked until it is decided.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use neurath_manifest::scalar::format_duration;

use super::neighbours::Neighbours;
use super::{Heard, MeetingError, Meetings, Trip, Visit, Went, record};
use crate::client::Client;
use crate::fault;
use crate::protocol::{Outcome, Request, Response};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Between two rounds of asking those who do not decide.
const ROUND: Duration = Duration::from_millis(500);
/// How long a node has for an answer.
const ANSWER: Duration = Duration::from_secs(1);

/// What brings a node to a meeting point.
#[derive(Debug)]
pub(crate) struct Arrived<'a> {
    /// The meeting point.
    pub(crate) point: &'a str,
    /// Who else is to come.
    pub(crate) nodes: &'a [String],
    /// How long it waits.
    pub(crate) deadline: Duration,
    /// Where it goes.
    pub(crate) trip: Trip,
    /// Set when it is to be given up.
    pub(crate) abort: &'a AtomicBool,
}

/// Waits until it is decided whether all go on. `waits_for` hears of whom it waits for, each time that changes.
///
/// # Errors
///
/// [`MeetingError`]: none goes on, or this node alone does not.
pub(crate) fn meet(
    meetings: &Meetings,
    arrived: &Arrived<'_>,
    waits_for: &mut dyn FnMut(&str),
) -> Result<(), MeetingError> {
    let neighbours = Neighbours::read(&meetings.directory)?;
    let me = neighbours.name.clone();
    let mut all: BTreeSet<&String> = arrived.nodes.iter().collect();
    all.insert(&me);
    let all: Vec<String> = all.into_iter().cloned().collect();
    for other in all.iter().filter(|name| **name != me) {
        neighbours.folder(other)?;
    }
    let mut attendance = Attendance {
        meetings,
        arrived,
        neighbours,
        me,
        all,
        until: Instant::now() + arrived.deadline,
        asked: None,
        told: String::new(),
        waits_for,
    };
    if attendance.all[0] == attendance.me {
        attendance.decide()
    } else {
        attendance.hear()
    }
}

/// What no other meeting is called.
fn unique() -> Result<String, MeetingError> {
    let mut bytes = [0; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    filled.map_err(|error| MeetingError::Name(error.into()))?;
    Ok(format!("{:016x}", u64::from_le_bytes(bytes)))
}

struct Attendance<'a> {
    meetings: &'a Meetings,
    arrived: &'a Arrived<'a>,
    neighbours: Neighbours,
    me: String,
    /// Everybody, in order: the first one decides.
    all: Vec<String>,
    until: Instant,
    /// When those who do not decide were asked.
    asked: Option<Instant>,
    /// Who was said to be waited for.
    told: String,
    waits_for: &'a mut dyn FnMut(&str),
}

impl Attendance<'_> {
    /// The node that decides.
    fn decide(&mut self) -> Result<(), MeetingError> {
        let meeting = format!("{}-{}", self.me, unique()?);
        let (point, trip) = (self.arrived.point, self.arrived.trip.clone());
        self.meetings.table().open(meeting, point, &self.all, trip);
        loop {
            // It may have fallen back from a meeting whose other nodes went on.
            if let Some(went) = self.ask_around(None) {
                self.meetings.table().close("it went on before".into());
                return self.go_on(went);
            }
            if self.say_yes()? {
                return Ok(());
            }
            let missing = self.meetings.table().missing(Instant::now()).join(", ");
            let mut table = self.meetings.table();
            if !table.is_open() {
                let why = table.why();
                return Err(self.no(why));
            }
            if self.arrived.abort.load(Ordering::Relaxed) {
                table.close(format!("it was given up at {}", self.me));
            } else if Instant::now() >= self.until {
                let deadline = format_duration(self.arrived.deadline);
                table.close(format!("not there within {deadline}: {missing}"));
            }
            drop(table);
            self.tell(missing);
            std::thread::sleep(LOOK);
        }
    }

    /// Decides that all go on, if all are there. Nobody is answered while it is being recorded.
    fn say_yes(&self) -> Result<bool, MeetingError> {
        let mut table = self.meetings.table();
        let Some(went) = table.all_there(Instant::now()) else {
            return Ok(false);
        };
        fault::point("meeting.deciding");
        match record::write(&self.meetings.directory, &went) {
            Ok(()) => {
                fault::point("meeting.recorded");
                table.went(went);
                Ok(true)
            }
            Err(error) => {
                record::take_back(&self.meetings.directory, &went);
                table.close(format!("{} cannot record it: {error}", self.me));
                Err(error.into())
            }
        }
    }

    /// One of the others.
    fn hear(&mut self) -> Result<(), MeetingError> {
        let host = self.all[0].clone();
        let mut meeting: Option<String> = None;
        loop {
            let given_up = self.arrived.abort.load(Ordering::Relaxed);
            let leaves = given_up || Instant::now() >= self.until;
            let mut heard = self.ask(&host, meeting.clone(), leaves);
            if !matches!(heard, Ok(Heard::Go(_) | Heard::No { .. }))
                && let Some(went) = self.ask_around(meeting.as_deref())
            {
                heard = Ok(Heard::Go(went));
            }
            let last = match heard {
                Ok(Heard::Go(went)) if given_up => return Err(self.deserted(&went)),
                Ok(Heard::Go(went)) => return self.go_on(went),
                Ok(Heard::No { why }) => return Err(self.no(why)),
                Ok(Heard::Wait { meeting: Some(now) }) if meeting.is_none() => {
                    // The next word is the vote, or that there will be none.
                    meeting = Some(now);
                    fault::point("meeting.voting");
                    continue;
                }
                Ok(Heard::Wait { meeting: None }) => "it was not at this place".to_owned(),
                Ok(Heard::Wait { .. }) => "it was waiting, too".to_owned(),
                Err(why) => why,
            };
            // Without a vote, none goes on. With one, only the decision lets it go, or a person.
            let point = || self.arrived.point.to_owned();
            if given_up {
                return Err(MeetingError::GivenUp {
                    point: point(),
                    host,
                    last,
                });
            }
            if leaves && meeting.is_none() {
                return Err(MeetingError::NoHost {
                    point: point(),
                    host,
                    deadline: format_duration(self.arrived.deadline),
                    last,
                });
            }
            self.tell(match leaves {
                true => format!("the decision of {host} ({last})"),
                false => host.clone(),
            });
            std::thread::sleep(LOOK);
        }
    }

    /// Asks those who do not decide whether they know of a yes. Not each time: most know nothing.
    fn ask_around(&mut self, meeting: Option<&str>) -> Option<Went> {
        if self.asked.is_some_and(|at| at.elapsed() < ROUND) {
            return None;
        }
        let mut found = None;
        for at in 1..self.all.len() {
            let name = self.all[at].clone();
            if name != self.me
                && let Ok(Heard::Go(went)) = self.ask(&name, meeting.map(str::to_owned), false)
            {
                found = Some(went);
                break;
            }
        }
        self.asked = Some(Instant::now());
        found
    }

    fn ask(&self, host: &str, meeting: Option<String>, leaves: bool) -> Result<Heard, String> {
        let visit = Visit {
            host: host.to_owned(),
            guest: self.me.clone(),
            point: self.arrived.point.to_owned(),
            nodes: self.all.clone(),
            trip: self.arrived.trip.clone(),
            meeting,
            leaves,
        };
        let folder = self.neighbours.folder(host).map_err(|e| e.to_string())?;
        // Not one connection for all: a node has few of them for its clients.
        let client = Client::connect(folder).map_err(|error| error.to_string())?;
        let answer = client
            .with_timeout(ANSWER)
            .request(&Request::Meet(visit), |_| ());
        match answer.map_err(|error| error.to_string())? {
            Response::Done(outcome) => match *outcome {
                Outcome::Met(heard) => Ok(heard),
                other => Err(format!("it answered {other:?}")),
            },
            Response::Failed(failure) => Err(failure.message),
        }
    }

    /// Goes on with the others: recorded first, as others may ask this node.
    fn go_on(&self, went: Went) -> Result<(), MeetingError> {
        record::write(&self.meetings.directory, &went)?;
        self.meetings.table().went(went);
        fault::point("meeting.learned");
        Ok(())
    }

    fn tell(&mut self, whom: String) {
        if self.told != whom {
            tracing::info!(point = self.arrived.point, %whom, "waiting at a meeting point");
            (self.waits_for)(&whom);
            self.told = whom;
        }
    }

    fn no(&self, why: String) -> MeetingError {
        let point = self.arrived.point.to_owned();
        MeetingError::No { point, why }
    }

    fn deserted(&self, went: &Went) -> MeetingError {
        let others = went.trips.keys().filter(|name| **name != self.me);
        MeetingError::Deserted {
            point: self.arrived.point.to_owned(),
            others: others.cloned().collect::<Vec<_>>().join(", "),
        }
    }
}
