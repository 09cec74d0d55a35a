//! The requests of the control socket: what is legal now, and who does it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::requests::{self, Refusal, Wanted};
use super::resets::Asked;
use super::{Shared, copy, lock, snapshot};
use crate::catalog::Catalog;
use crate::control::Asker;
use crate::directory::NodeDirectory;
use crate::journal::{Journal, Kind, Verdict};
use crate::lifecycle::{Command, Phase};
use crate::protocol::{InFlight, Outcome, Progress, Request, Response, Trust, code};
use crate::release_handler::{self, HandlerError, ReleaseHandler, info, which};
use crate::shard::now_ms;
use crate::trust::TrustedKeys;

/// Why a node that does not run cannot forget what was written since an upgrade that has converted a state in its file.
pub const BEFORE_IS_CONVERTED: &str = "the state of the release before is not there any more: it was converted segment \
    by segment, in its file. Start the node: it goes back by itself, and keeps the writes";
/// How long a client that gives an upgrade up waits for its end.
const ABORT: Duration = Duration::from_secs(60);

/// The command that a request is, and what the node does while it is carried out.
fn command(request: &Request) -> Option<(Command, Phase)> {
    Some(match request {
        Request::Apply { execute: true, .. } => (Command::Apply, Phase::Applying),
        Request::Confirm => (Command::Confirm, Phase::Confirming),
        Request::Rollback {
            lose_writes: false, ..
        } => (Command::Rollback, Phase::GoingBack),
        Request::Rollback {
            lose_writes: true, ..
        } => (Command::RollbackLosingWrites, Phase::GoingBack),
        Request::Resume => (Command::Resume, Phase::Applying),
        Request::Abort => (Command::Abort, Phase::GoingBack),
        Request::Restart => (Command::Restart, Phase::Starting),
        Request::Unpack { .. }
        | Request::Install { .. }
        | Request::SetUnpacked { .. }
        | Request::Remove { .. }
        | Request::RemoveSnapshot { .. }
        | Request::Trust { .. }
        | Request::Distrust { .. } => (Command::Handle, Phase::Handling),
        _ => return None,
    })
}

impl Shared {
    pub(super) fn serve(
        &self,
        who: &str,
        asker: Option<&Asker>,
        request: Request,
        progress: &mut dyn FnMut(Progress),
    ) -> Response {
        match request {
            Request::Status => return Response::done(Outcome::Status(Box::new(self.status()))),
            Request::Metrics => {
                let text = super::metrics::text(&self.status(), &self.figures);
                return Response::done(Outcome::Metrics { text });
            }
            // It changes nothing: an upgrade may run beside it.
            Request::Snapshot {
                component,
                instance,
                out,
            } => {
                return match snapshot::make(&self.mailbox, &component, instance, &out) {
                    Ok(made) => Response::done(Outcome::Snapshot(made)),
                    Err(refusal) => refusal.response(),
                };
            }
            Request::Copy { out } => {
                return match copy::make(self, &self.directory, &out) {
                    Ok(copied) => Response::done(Outcome::Copied(copied)),
                    Err(refusal) => refusal.response(),
                };
            }
            Request::Meet(visit) => {
                let current = lock(&self.board).release.clone();
                return match self.meetings.hear(&visit, current.as_ref()) {
                    Ok(heard) => Response::done(Outcome::Met(heard)),
                    Err(error) => Response::failed(code::USAGE, error.to_string()),
                };
            }
            Request::Stop => {
                self.ask_to_stop(who);
                return Response::done(Outcome::Stopping);
            }
            _ => {}
        }
        let _operation = match self.begin() {
            Some(operation) => operation,
            None if request == Request::Abort => match self.abort_running() {
                Ok(operation) => operation,
                Err(response) => return response,
            },
            None => return Response::failed(code::BUSY, "another operation runs; ask again later"),
        };
        let was_running = self.abort.swap(false, Ordering::Relaxed);
        let mut core = lock(&self.core);
        if *lock(&self.stopping) {
            return Response::failed(code::BUSY, "the node is ending; start it again");
        }
        let resting = Phase::resting(core.catalog.state());
        if request == Request::Abort && was_running && resting == Phase::Idle {
            let release = core.current();
            return Response::done(Outcome::Aborted { release });
        }
        if let Some((command, phase)) = command(&request) {
            // Going where one is already is refused for what it is.
            let nowhere = command == Command::Apply && release_of(&request) == Some(core.current());
            if resting.refusal(command).is_some() && !nowhere {
                return requests::illegal(resting, command).response();
            }
            *lock(&self.flight) = Some(InFlight {
                phase,
                release: release_of(&request).or_else(|| core.catalog.state().current.clone()),
                who: who.to_owned(),
                since_ms: now_ms(),
                step: None,
                now: None,
            });
        }
        let result = self.in_flight(&mut core, asker, progress, |core, told| {
            carry_out(core, request, who, told)
        });
        match result {
            Ok(outcome) => Response::done(outcome),
            Err(refusal) => refusal.response(),
        }
    }

    /// Asks the operation that runs to give up, and waits for its end.
    fn abort_running(&self) -> Result<std::sync::MutexGuard<'_, ()>, Response> {
        let until = Instant::now() + ABORT;
        self.abort.store(true, Ordering::Relaxed);
        loop {
            if let Some(operation) = self.begin() {
                return Ok(operation);
            }
            if Instant::now() >= until {
                self.abort.store(false, Ordering::Relaxed);
                let text = format!("the operation has not ended within {ABORT:?}; see the status");
                return Err(Response::failed(code::BUSY, text));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn release_of(request: &Request) -> Option<crate::catalog::ReleaseId> {
    match request {
        Request::Apply { release, .. }
        | Request::SetUnpacked { release }
        | Request::Remove { release } => Some(release.clone()),
        _ => None,
    }
}

fn carry_out(
    core: &mut super::Core,
    request: Request,
    who: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome, Refusal> {
    match request {
        Request::Plan { release, folder } => requests::planned(core, &release, folder.as_deref()),
        Request::Apply {
            release,
            execute: false,
            ..
        } => requests::planned(core, &release, None),
        Request::Apply {
            release,
            plan_id,
            reset,
            no_snapshot,
            ..
        } => {
            let wanted = Wanted {
                plan_id: plan_id.as_deref(),
                reset: &reset,
                no_snapshot,
            };
            requests::apply(core, &release, wanted, who, progress).map(Outcome::Upgraded)
        }
        Request::Confirm => requests::confirm(core, who),
        Request::Restart => super::restarts::restart(core, who),
        Request::Rollback { lose_writes, reset } => {
            let asked = Asked::Naming(&reset);
            requests::rollback(core, lose_writes, asked, who, progress).map(Outcome::Upgraded)
        }
        Request::Resume => requests::resume(core, who, progress).map(Outcome::Upgraded),
        Request::Abort => {
            let asked = Asked::NamingNothing;
            requests::rollback(core, false, asked, who, progress).map(Outcome::Upgraded)
        }
        Request::Check { release } => {
            let planned = if release == core.current() {
                core.open_package(&release)?;
                None
            } else {
                match requests::planned(core, &release, None)? {
                    Outcome::Planned(planned) => Some(planned),
                    _ => None,
                }
            };
            let release = info(&core.directory, core.catalog.state(), &release)?;
            Ok(Outcome::Checked { release, planned })
        }
        Request::Releases => Ok(releases(&core.directory, &core.catalog)?),
        other => Ok(handle(&mut core.handler(who), other)?),
    }
}

fn releases(directory: &NodeDirectory, catalog: &Catalog) -> Result<Outcome, HandlerError> {
    Ok(Outcome::Releases {
        releases: which(directory, catalog.state())?,
        trust: trust(directory),
    })
}

/// Which packages a node takes. One whose keys cannot be read takes none.
pub(super) fn trust(directory: &NodeDirectory) -> Trust {
    match TrustedKeys::read(&directory.trusted_keys()) {
        Ok(keys) => Trust {
            signed_only: keys.are_configured(),
            keys: keys.names(),
            unreadable: keys.unreadable().clone(),
        },
        Err(error) => Trust {
            signed_only: true,
            keys: Vec::new(),
            unreadable: [(String::new(), error.to_string())].into(),
        },
    }
}

/// What is done with releases and keys, whether the node runs or not.
fn handle(handler: &mut ReleaseHandler<'_>, request: Request) -> Result<Outcome, HandlerError> {
    Ok(match request {
        Request::Unpack {
            package,
            allow_older,
        } => Outcome::Unpacked(handler.unpack(&package, allow_older)?),
        Request::Install { folder } => Outcome::Unpacked(handler.install(&folder)?),
        Request::SetUnpacked { release } => Outcome::Unpacked(handler.set_unpacked(&release)?),
        Request::Remove { release } => {
            let was_there = handler.remove(&release)?;
            Outcome::Removed { release, was_there }
        }
        Request::RemoveSnapshot { name } => {
            let bytes = handler.remove_snapshot(&name)?;
            Outcome::SnapshotRemoved { name, bytes }
        }
        Request::Trust { name, key } => Outcome::Trusted {
            keys: handler.trust(&name, &key)?,
        },
        Request::Distrust { name } => Outcome::Trusted {
            keys: handler.distrust(&name)?,
        },
        _ => unreachable!("the others are answered before"),
    })
}

/// Does in the directory of a node that does not run what can be done there: releases, keys, and the way
/// back without the writes made since.
///
/// # Errors
///
/// A node runs there, or the directory is none.
pub fn offline(
    directory: &Path,
    who: &str,
    request: Request,
) -> Result<Response, super::StartError> {
    let directory = NodeDirectory::open(directory)?;
    let mut catalog = Catalog::open(directory.path())?;
    let mark = catalog.state().journal.clone();
    let mut journal = Journal::open_marked(directory.journal(), mark.as_ref())?;
    let resting = match catalog.state().previous {
        None => Phase::Stopped,
        Some(_) => Phase::StoppedUnconfirmed,
    };
    if let Some((command, _)) = command(&request)
        && resting.refusal(command).is_some()
    {
        return Ok(requests::illegal(resting, command).response());
    }
    let is_handled = command(&request).is_some_and(|(one, _)| one == Command::Handle);
    if is_handled || matches!(request, Request::Rollback { .. }) {
        super::start::end_interrupted(&mut journal)?;
    }
    let done = match request {
        Request::Releases => releases(&directory, &catalog),
        Request::Check { release } => {
            release_handler::open_for_use(&directory, catalog.state(), &release)
                .and_then(|_| info(&directory, catalog.state(), &release))
                .map(|release| Outcome::Checked {
                    release,
                    planned: None,
                })
        }
        Request::Rollback { .. } if catalog.state().before_is_converted() => {
            return Ok(Response::failed(code::OPERATOR, BEFORE_IS_CONVERTED));
        }
        Request::Rollback { .. } => forget(&mut catalog, &mut journal, who),
        request if is_handled => {
            let mut handler = ReleaseHandler::new(&directory, &mut catalog, &mut journal, who);
            handle(&mut handler, request)
        }
        _ => {
            let text = "the node does not run; start it by `neurath node start`";
            return Ok(Response::failed(code::OPERATOR, text));
        }
    };
    Ok(match done {
        Ok(outcome) => Response::done(outcome),
        Err(error) => Response::failed(error.code(), error.to_string()),
    })
}

/// Names the release before and its regions, which nothing has touched, as the current ones again.
fn forget(
    catalog: &mut Catalog,
    journal: &mut Journal,
    who: &str,
) -> Result<Outcome, HandlerError> {
    let mut state = catalog.state().clone();
    let Some(previous) = state.previous.take() else {
        unreachable!("it is unconfirmed")
    };
    let operation = journal.next_operation("rollback");
    let started = Kind::Started {
        operation: "rollback".into(),
        plan_id: None,
        from: state.current.clone(),
        to: Some(previous.release.clone()),
    };
    journal.append(&operation, who, started)?;
    let release = previous.release.clone();
    state.current = Some(previous.release);
    state.regions = previous.regions;
    // Those that are states again.
    let regions = &state.regions;
    let is_state = |file: &str| regions.iter().any(|entry| entry.file == file);
    state.snapshots.retain(|one| !is_state(&one.region.file));
    state.unconfirmed_since_ms = None;
    state.starts = 0;
    state.sequence += 1;
    state.journal = journal.mark();
    catalog.commit(state)?;
    let ended = Kind::Ended {
        verdict: Verdict::Done,
        text: format!("{release} again, without the writes made since"),
    };
    journal.append(&operation, who, ended)?;
    Ok(Outcome::RolledBack { release })
}

/// Sets aside the journal of a node that does not run, and begins a new one.
///
/// # Errors
///
/// A node runs there, the directory is none, or the system refused.
pub fn set_aside(directory: &Path, who: &str) -> Result<std::path::PathBuf, super::StartError> {
    let directory = NodeDirectory::open(directory)?;
    let mut catalog = Catalog::open(directory.path())?;
    // Before the files are moved: a mark without a journal would keep the node from starting.
    let mut state = catalog.state().clone();
    state.journal = None;
    catalog.commit(state)?;
    let aside = crate::journal::set_aside(directory.journal())?;
    let mut journal = Journal::open(directory.journal())?;
    let started = Kind::Started {
        operation: "set-aside".into(),
        plan_id: None,
        from: catalog.state().permanent.clone(),
        to: catalog.state().current.clone(),
    };
    journal.append("set-aside-1", who, started)?;
    let ended = Kind::Ended {
        verdict: Verdict::Done,
        text: format!("the history before is in {}", aside.display()),
    };
    journal.append("set-aside-1", who, ended)?;
    let mut state = catalog.state().clone();
    state.journal = journal.mark();
    catalog.commit(state)?;
    Ok(aside)
}
