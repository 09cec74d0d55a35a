//! The states of a whole node, and what leads from one to another. Pure: the node asks it what is
//! legal, `status` shows that, and a test walks all of it.
//!
//! `docs/states.md` and `docs/states.svg` are made from this.

use serde::{Deserialize, Serialize};

use crate::catalog;

/// Where a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "schemas", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Phase {
    /// No process; the permanent release is the current one.
    Stopped,
    /// No process; the current release is not confirmed.
    StoppedUnconfirmed,
    /// No process, and none will start: the journal is not what was written.
    HistoryEdited,
    /// As that, and the current release is not confirmed.
    HistoryEditedUnconfirmed,
    /// The process comes up.
    Starting,
    /// The process comes up, and leaves the release that was not confirmed.
    StartingBack,
    /// The permanent release serves, and nothing else happens.
    Idle,
    /// A release is taken in or removed, or a key; the permanent release serves.
    Handling,
    /// An upgrade is before its commit point: it can be forgotten.
    Applying,
    /// The new release serves, and waits for its confirmation.
    Unconfirmed,
    /// The new release serves; the way back was tried and failed, and a person must say what to do.
    Stuck,
    /// The confirmation is written.
    Confirming,
    /// The way back is before its commit point: it can be forgotten.
    GoingBack,
}

/// What a person can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Command {
    /// `neurath node start`
    Start,
    /// `neurath node stop`
    Stop,
    /// `neurath node restart`: another program, or the same anew, in the same process.
    Restart,
    /// `neurath node reboot-old`: stop, and come up in a release that ran before.
    RebootOld,
    /// `neurath relup apply`
    Apply,
    /// `neurath relup confirm`
    Confirm,
    /// `neurath relup rollback`
    Rollback,
    /// `neurath relup rollback --lose-writes`
    RollbackLosingWrites,
    /// `neurath relup resume`: go on with what was interrupted or has failed.
    Resume,
    /// `neurath relup abort`: give up what is in flight.
    Abort,
    /// `neurath release unpack`, `set-unpacked` and `remove`, `neurath node trust`.
    Handle,
    /// `neurath relup log --set-aside`
    SetAside,
}

/// What happens without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Event {
    /// What was going on has ended as it should.
    Done,
    /// What was going on has failed, and was undone.
    Failed,
    /// The window for the confirmation is over.
    WindowOver,
    /// The process ended: killed, or given up by the supervisor.
    Died,
    /// Somebody changed the journal of a node that does not run.
    Edited,
}

/// What leads from one phase to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// Somebody asks.
    Command(Command),
    /// It happens.
    Event(Event),
}

impl Phase {
    /// All of them.
    pub const ALL: [Phase; 13] = [
        Phase::Stopped,
        Phase::StoppedUnconfirmed,
        Phase::HistoryEdited,
        Phase::HistoryEditedUnconfirmed,
        Phase::Starting,
        Phase::StartingBack,
        Phase::Idle,
        Phase::Handling,
        Phase::Applying,
        Phase::Unconfirmed,
        Phase::Stuck,
        Phase::Confirming,
        Phase::GoingBack,
    ];

    /// The phase of a running node in which nothing is under way.
    pub fn resting(state: &catalog::State) -> Phase {
        match (&state.previous, state.unconfirmed_since_ms) {
            (None, _) => Phase::Idle,
            (Some(_), Some(_)) => Phase::Unconfirmed,
            (Some(_), None) => Phase::Stuck,
        }
    }

    /// Its name in documents and results.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Stopped => "stopped",
            Phase::StoppedUnconfirmed => "stopped, unconfirmed",
            Phase::HistoryEdited => "history edited",
            Phase::HistoryEditedUnconfirmed => "edited, unconfirmed",
            Phase::Starting => "starting",
            Phase::StartingBack => "starting, going back",
            Phase::Idle => "idle",
            Phase::Handling => "handling releases",
            Phase::Applying => "applying",
            Phase::Unconfirmed => "unconfirmed",
            Phase::Stuck => "stuck",
            Phase::Confirming => "confirming",
            Phase::GoingBack => "going back",
        }
    }

    /// Whether it ends by itself, one way or the other.
    pub fn is_passing(self) -> bool {
        matches!(
            self,
            Phase::Starting
                | Phase::StartingBack
                | Phase::Handling
                | Phase::Applying
                | Phase::Confirming
                | Phase::GoingBack
        )
    }

    /// Where a cause leads from here; nothing if it cannot be.
    pub fn after(self, cause: Cause) -> Option<Phase> {
        match cause {
            Cause::Command(command) => self.asked(command),
            Cause::Event(event) => self.happened(event),
        }
    }

    fn asked(self, command: Command) -> Option<Phase> {
        Some(match (self, command) {
            (Phase::Stopped, Command::Start | Command::RebootOld) => Phase::Starting,
            (Phase::StoppedUnconfirmed, Command::Start) => Phase::StartingBack,
            (Phase::Stopped, Command::Handle) => Phase::Stopped,
            (Phase::StoppedUnconfirmed, Command::Handle) => Phase::StoppedUnconfirmed,
            // The regions of the release before have not been touched: to name them suffices.
            (Phase::StoppedUnconfirmed, Command::RollbackLosingWrites) => Phase::Stopped,
            (Phase::HistoryEdited, Command::SetAside) => Phase::Stopped,
            (Phase::HistoryEditedUnconfirmed, Command::SetAside) => Phase::StoppedUnconfirmed,
            (Phase::Idle, Command::Apply | Command::Resume) => Phase::Applying,
            (Phase::Idle, Command::Stop) => Phase::Stopped,
            (Phase::Idle, Command::RebootOld | Command::Restart) => Phase::Starting,
            (Phase::Idle, Command::Handle) => Phase::Handling,
            (Phase::Applying, Command::Abort) => Phase::Idle,
            (Phase::Unconfirmed | Phase::Stuck, Command::Confirm) => Phase::Confirming,
            (
                Phase::Unconfirmed | Phase::Stuck,
                Command::Rollback | Command::RollbackLosingWrites | Command::Abort,
            )
            | (Phase::Stuck, Command::Resume) => Phase::GoingBack,
            (Phase::Unconfirmed | Phase::Stuck, Command::Stop) => Phase::StoppedUnconfirmed,
            // Taken in beside the way back, which stays.
            (Phase::Unconfirmed, Command::Handle) => Phase::Unconfirmed,
            (Phase::Stuck, Command::Handle) => Phase::Stuck,
            // The window begins anew when the next program serves.
            (Phase::Unconfirmed, Command::Restart) => Phase::Unconfirmed,
            // Whoever gives up the way back has to say what else: no window asks for it again.
            (Phase::GoingBack, Command::Abort) => Phase::Stuck,
            _ => return None,
        })
    }

    fn happened(self, event: Event) -> Option<Phase> {
        Some(match (self, event) {
            (Phase::Starting | Phase::StartingBack | Phase::Handling, Event::Done) => Phase::Idle,
            (Phase::Starting, Event::Failed) => Phase::Stopped,
            (Phase::StartingBack, Event::Failed) => Phase::Stuck,
            (Phase::Handling, Event::Failed) => Phase::Idle,
            (Phase::Applying, Event::Done) => Phase::Unconfirmed,
            (Phase::Applying, Event::Failed) => Phase::Idle,
            (Phase::Unconfirmed, Event::WindowOver) => Phase::GoingBack,
            (Phase::Confirming | Phase::GoingBack, Event::Done) => Phase::Idle,
            (Phase::Confirming, Event::Failed) => Phase::Unconfirmed,
            (Phase::GoingBack, Event::Failed) => Phase::Stuck,
            (Phase::Idle | Phase::Starting | Phase::Handling | Phase::Applying, Event::Died) => {
                Phase::Stopped
            }
            (
                Phase::Unconfirmed
                | Phase::Stuck
                | Phase::Confirming
                | Phase::GoingBack
                | Phase::StartingBack,
                Event::Died,
            ) => Phase::StoppedUnconfirmed,
            (Phase::Stopped, Event::Edited) => Phase::HistoryEdited,
            (Phase::StoppedUnconfirmed, Event::Edited) => Phase::HistoryEditedUnconfirmed,
            _ => return None,
        })
    }

    /// What can be asked for here.
    pub fn commands(self) -> Vec<Command> {
        let legal = |command: &Command| self.asked(*command).is_some();
        Command::ALL.into_iter().filter(legal).collect()
    }

    /// Why a command is not legal here, and what is instead: for the person who has asked.
    pub fn refusal(self, command: Command) -> Option<String> {
        if self.asked(command).is_some() {
            return None;
        }
        let now = match (self, command) {
            (Phase::Idle, Command::Confirm) => "the current release is confirmed already",
            (Phase::Idle, Command::Rollback | Command::RollbackLosingWrites) => {
                "the current release is confirmed: there is no way back kept"
            }
            (Phase::Idle, Command::Abort) => "nothing is under way: there is nothing to give up",
            (Phase::Unconfirmed, Command::Resume) => {
                "nothing was interrupted: the current release waits for its confirmation"
            }
            (
                Phase::Unconfirmed | Phase::Stuck,
                Command::Apply | Command::RebootOld | Command::Restart,
            ) => "the current release is not confirmed yet; confirm it or go back first",
            _ => self.name(),
        };
        // At rest it leads somewhere only where something was interrupted, which the status says.
        let leads_nowhere = |one: &Command| self == Phase::Idle && *one == Command::Resume;
        let legal: Vec<String> = self
            .commands()
            .iter()
            .filter(|one| !leads_nowhere(one))
            .map(|one| one.line().into())
            .collect();
        Some(format!("{now}; possible now: {}", legal.join(", ")))
    }
}

impl Command {
    /// All of them.
    pub const ALL: [Command; 12] = [
        Command::Confirm,
        Command::Rollback,
        Command::RollbackLosingWrites,
        Command::Resume,
        Command::Abort,
        Command::Apply,
        Command::Handle,
        Command::Start,
        Command::Stop,
        Command::Restart,
        Command::RebootOld,
        Command::SetAside,
    ];

    /// What to type for it, without what it is about.
    pub fn line(self) -> &'static str {
        match self {
            Command::Start => "neurath node start",
            Command::Stop => "neurath node stop",
            Command::RebootOld => "neurath node reboot-old",
            Command::Restart => "neurath node restart",
            Command::Apply => "neurath relup apply",
            Command::Confirm => "neurath relup confirm",
            Command::Rollback => "neurath relup rollback",
            Command::RollbackLosingWrites => "neurath relup rollback --lose-writes",
            Command::Resume => "neurath relup resume",
            Command::Abort => "neurath relup abort",
            Command::Handle => "neurath release unpack",
            Command::SetAside => "neurath relup log --set-aside",
        }
    }

    /// Its name on an arrow.
    fn label(self) -> &'static str {
        match self {
            Command::Start => "start",
            Command::Stop => "stop",
            Command::RebootOld => "reboot-old",
            Command::Restart => "restart",
            Command::Apply => "apply",
            Command::Confirm => "confirm",
            Command::Rollback => "rollback",
            Command::RollbackLosingWrites => "rollback --lose-writes",
            Command::Resume => "resume",
            Command::Abort => "abort",
            Command::Handle => "unpack, remove, trust",
            Command::SetAside => "log --set-aside",
        }
    }
}

impl Cause {
    /// All of them.
    pub fn all() -> impl Iterator<Item = Cause> {
        let events = [
            Event::Done,
            Event::Failed,
            Event::WindowOver,
            Event::Died,
            Event::Edited,
        ];
        let commands = Command::ALL.into_iter().map(Cause::Command);
        commands.chain(events.into_iter().map(Cause::Event))
    }

    /// Its name on an arrow. What happens by itself is set apart from what is asked for.
    pub fn label(self) -> &'static str {
        match self {
            Cause::Command(command) => command.label(),
            Cause::Event(Event::Done) => "(done)",
            Cause::Event(Event::Failed) => "(failed)",
            Cause::Event(Event::WindowOver) => "(window over)",
            Cause::Event(Event::Died) => "(process died)",
            Cause::Event(Event::Edited) => "(journal edited)",
        }
    }
}

/// Every arrow of the graph, in a fixed order.
pub fn arrows() -> Vec<(Phase, Cause, Phase)> {
    let from = |phase: Phase| {
        Cause::all().filter_map(move |cause| Some((phase, cause, phase.after(cause)?)))
    };
    Phase::ALL.into_iter().flat_map(from).collect()
}

pub mod picture;
#[cfg(test)]
mod tests;
