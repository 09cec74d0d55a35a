//! The status of a node: what its parts say, kept for the time in which they are at work.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, TryLockError};
use std::time::{Duration, Instant};

use super::core::Core;
use super::{Shared, lock, requests, resets, serve};
use crate::catalog::{RegionEntry, State};
use crate::control::Asker;
use crate::handover::NodeDescription;
use crate::health::Window;
use crate::lifecycle::{Command as LegalCommand, Phase};
use crate::protocol::{ComponentStatus, InFlight, KnownRelease, Progress, Status, StepNow};
use crate::shard::figures::Figures;
use crate::shard::{Instance, Shard, now_ms};

/// How long the status waits for somebody who has the core, and whose work it does not tell of: who looks after the node,
/// or makes a plan.
const SOON: Duration = Duration::from_secs(1);

impl Shared {
    /// The core, unless an operation is under way that the status tells of.
    fn core_soon(&self) -> Option<MutexGuard<'_, Core>> {
        let until = Instant::now() + SOON;
        loop {
            match self.core.try_lock() {
                Ok(core) => return Some(core),
                Err(TryLockError::Poisoned(_)) => return None,
                Err(TryLockError::WouldBlock) => {}
            }
            if lock(&self.flight).is_some() || Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn status(&self) -> Status {
        if let Some(core) = self.core_soon() {
            let status = status(&core, &self.figures);
            *lock(&self.board) = status;
        }
        let board = lock(&self.board).clone();
        Status {
            connections: self.figures.connections.load(Ordering::Relaxed),
            uptime_ms: self.figures.uptime_us() / 1000,
            ..in_flight(board, lock(&self.flight).clone())
        }
    }
}

impl Shared {
    /// Does the work of an operation for whoever asks, whose steps the status tells of until it has ended.
    pub(super) fn in_flight<R>(
        &self,
        core: &mut Core,
        asker: Option<&Asker>,
        progress: &mut dyn FnMut(Progress),
        work: impl FnOnce(&mut Core, &mut dyn FnMut(Progress)) -> R,
    ) -> R {
        core.asker = asker.cloned();
        let result = work(core, &mut |step: Progress| {
            if let Some(flight) = &mut *lock(&self.flight) {
                flight.step = Some(step.clone());
            }
            progress(step);
        });
        core.asker = None;
        *lock(&self.flight) = None;
        let status = status(core, &self.figures);
        *lock(&self.board) = status;
        result
    }
}

impl Core {
    /// Says in the status which step of an upgrade is carried out now.
    pub(crate) fn is_at(&self, step: &str, index: u32, of: u32) {
        if let Some(flight) = &mut *lock(&self.flight) {
            flight.now = Some(StepNow {
                step: step.to_owned(),
                index,
                of,
                since_ms: now_ms(),
            });
        }
    }
}

/// The instances that the catalog names, while their event loop does not say more.
fn named(state: &State) -> Vec<ComponentStatus> {
    let of = |entry: &RegionEntry| ComponentStatus {
        component: entry.component.clone(),
        instance: entry.instance,
        version: entry.version.clone(),
        state: ComponentStatus::SILENT.into(),
        region_bytes: 0,
        durability: String::new(),
        detection: Vec::new(),
        generation: entry.generation,
        sweep: None,
        restarts: 0,
        last_failure: None,
    };
    state.regions.iter().map(of).collect()
}

/// What the event loop knows of an instance.
fn of_instance(shard: &Shard, instance: &Instance) -> ComponentStatus {
    let history = shard
        .supervisor
        .history(&instance.component, instance.number);
    ComponentStatus {
        component: instance.component.clone(),
        instance: instance.number,
        version: instance.library.description().version.clone(),
        state: match instance.ended {
            None => "running".into(),
            Some(_) => ComponentStatus::ENDED.into(),
        },
        region_bytes: instance.region_figures().0,
        durability: instance.region.durability().to_string(),
        detection: instance.region.detection().steps.clone(),
        generation: instance.generation,
        sweep: instance.region.sweep_status().map(Into::into),
        restarts: history.restarts,
        last_failure: history.last,
    }
}

/// What the core knows of itself.
pub(super) fn status(core: &Core, figures: &Figures) -> Status {
    let seen = core.running.as_ref().and_then(|running| {
        running.look(Duration::from_millis(500), |shard| {
            let instances = shard.instances.iter();
            let components = instances.map(|one| of_instance(shard, one)).collect();
            let figures: Vec<_> = shard
                .instances
                .iter()
                .map(|one| {
                    let stats = one.region.stats();
                    let figures = (stats.sequence, stats.live_bytes);
                    ((one.component.clone(), one.number), figures)
                })
                .collect();
            (components, shard.bound(), figures)
        })
    });
    let state = core.catalog.state();
    // A loop that is at work for long is no reason to say that nothing runs.
    let (components, listen, held) = seen.unwrap_or_else(|| (named(state), Vec::new(), Vec::new()));
    let of = |component: &str, instance: u32| {
        let mut all = held.iter();
        let found = all.find(|((name, number), _)| name == component && *number == instance);
        found.map(|(_, figures)| *figures)
    };
    let phase = Phase::resting(state);
    let window = core.package.release().confirm.window.as_millis();
    let window = u64::try_from(window).unwrap_or(u64::MAX);
    let known = state.releases.iter().filter_map(|one| {
        Some(KnownRelease {
            release: one.release.clone(),
            status: state.status(&one.release)?,
        })
    });
    Status {
        release: state.current.clone(),
        permanent: state.permanent.clone(),
        unconfirmed: state.previous.is_some(),
        components,
        connections: figures.connections.load(Ordering::Relaxed),
        uptime_ms: figures.uptime_us() / 1000,
        pid: std::process::id(),
        listen,
        retained: core.retained(),
        node: core.version(),
        abi: Some(NodeDescription::of(&core.version()).abi),
        phase: Some(phase),
        in_flight: None,
        next: lines(phase, core.journal.interrupted().is_some()),
        confirm_by_ms: state
            .unconfirmed_since_ms
            .map(|since| since.saturating_add(window)),
        interrupted: core.journal.interrupted().cloned(),
        trust: serve::trust(&core.directory),
        health: core.window.as_ref().map_or_else(Vec::new, Window::lines),
        releases: known.collect(),
        deleted_by_confirm: requests::deleted_by_confirm(state),
        journal: core.journal.trouble(),
        snapshots: resets::snapshots(&core.directory, state),
        reset: resets::at_stake(state, of),
        stuck: core.stuck_because.clone().filter(|_| phase == Phase::Stuck),
    }
}

/// What can be asked for, as command lines.
fn lines(phase: Phase, interrupted: bool) -> Vec<String> {
    // Without an upgrade that was interrupted, an idle node has nothing to go on with.
    let useful =
        |one: &LegalCommand| *one != LegalCommand::Resume || interrupted || phase != Phase::Idle;
    let commands = phase.commands().into_iter().filter(useful);
    commands.map(|one| one.line().to_owned()).collect()
}

/// The last status that was seen, while something is under way.
fn in_flight(board: Status, flight: Option<InFlight>) -> Status {
    let Some(flight) = flight else { return board };
    Status {
        phase: Some(flight.phase),
        next: lines(flight.phase, false),
        in_flight: Some(flight),
        ..board
    }
}
