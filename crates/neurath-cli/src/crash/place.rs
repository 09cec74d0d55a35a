//! Where a node is killed.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use super::story::Story;
use crate::control;
use neurath_node::protocol::Request;

/// Something that a node is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Apply,
    Rollback,
    Confirm,
}

impl Ask {
    /// Asks the node in this directory, and waits for its answer.
    pub(super) fn of(self, directory: &Path, story: &Story) -> anyhow::Result<()> {
        let reset = || story.reset.iter().map(|name| (*name).to_owned()).collect();
        let request = match self {
            Ask::Apply => Request::Apply {
                release: story.new_release(),
                plan_id: None,
                execute: true,
                reset: reset(),
                no_snapshot: false,
            },
            Ask::Rollback => Request::Rollback {
                lose_writes: false,
                reset: reset(),
            },
            Ask::Confirm => Request::Confirm,
        };
        control::ask(directory, &request, |_| ()).map(drop)
    }
}

/// Things asked in turn; the node is killed in the last.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    pub(super) asks: &'static [Ask],
}

/// All of them.
pub(super) static PHASES: [Phase; 3] = [
    Phase {
        name: "apply",
        asks: &[Ask::Apply],
    },
    Phase {
        name: "rollback",
        asks: &[Ask::Apply, Ask::Rollback],
    },
    Phase {
        name: "confirm",
        asks: &[Ask::Apply, Ask::Confirm],
    },
];

/// When a process is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kill {
    /// At this point, from 1.
    Point(usize),
    /// After this time.
    After(Duration),
}

impl fmt::Display for Kill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kill::Point(number) => write!(f, "{number}"),
            Kill::After(time) => write!(f, "after {time:?}"),
        }
    }
}

/// A place at which a node is killed: `STORY:PHASE:POINT`, or `STORY:PHASE:POINT:POINT` if the start
/// that follows is killed as well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Which releases.
    pub story: String,
    /// What is asked.
    pub phase: String,
    /// The point of it, from 1.
    pub point: usize,
    /// The point of the start after it.
    pub start: Option<usize>,
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            String::from("give STORY:PHASE:POINT or STORY:PHASE:POINT:POINT, such as kv:apply:12")
        };
        let number = |text: &str| text.parse().map_err(|_| wrong());
        let parts: Vec<&str> = text.split(':').collect();
        let (story, phase, point, start) = match parts[..] {
            [story, phase, point] => (story, phase, point, None),
            [story, phase, point, start] => (story, phase, point, Some(number(start)?)),
            _ => return Err(wrong()),
        };
        Ok(Self {
            story: story.into(),
            phase: phase.into(),
            point: number(point)?,
            start,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read() {
        let place: Place = "kv:apply:12:3".parse().unwrap();
        assert_eq!((place.point, place.start), (12, Some(3)));
        assert_eq!("kv:apply:12".parse::<Place>().unwrap().start, None);
        for wrong in ["", "kv", "kv:apply", "kv:apply:x", "kv:apply:1:2:3"] {
            assert!(wrong.parse::<Place>().is_err(), "{wrong}");
        }
    }
}
