//! What looks after a node while it serves: whether the event loop lives, and whether a release was confirmed in time.

use super::board::status;
use super::core::Core;
use super::resets::Asked;
use super::supervision::{self, After, Told};
use super::{Shared, WATCH, lock, requests};
use crate::health::{NOBODY, Verdict as Health};
use crate::journal::{Kind, Verdict};
use crate::shard::now_ms;
use crate::upgrade::stepwise;
use std::sync::TryLockError;

impl Shared {
    /// Looks after the node, until it is to stop: whether the shard runs, and whether a release
    /// was confirmed in time.
    pub(super) fn watch(&self) {
        let mut told = Told::default();
        while !self.wait_for_stop(WATCH) {
            // A core that is in use is an upgrade that runs.
            let mut core = match self.core.try_lock() {
                Ok(core) => core,
                Err(TryLockError::Poisoned(core)) => core.into_inner(),
                Err(TryLockError::WouldBlock) => continue,
            };
            if core
                .running
                .as_ref()
                .is_none_or(|running| running.is_finished())
            {
                // Whoever has begun something waits for the core, and finds the release before.
                match supervision::event_loop_ended(&mut core) {
                    After::WentBack => {
                        let status = status(&core, &self.figures);
                        *lock(&self.board) = status;
                        continue;
                    }
                    After::Ends(reason) => {
                        *lock(&self.gave_up) = Some(reason);
                        self.ask_to_stop("the supervisor");
                        return;
                    }
                }
            }
            supervision::record_failures(&mut core, &mut told);
            core.purge();
            // Whoever has begun something waits for the core.
            stepwise::settle_sweeps(&mut core, "the event loop");
            if core.journal.trouble().is_some() && core.journal.catch_up().is_ok() {
                tracing::info!("the journal takes records again");
            }
            if core.catalog.state().previous.is_none() {
                core.window = None;
            }
            // Who has begun something waits for the core, perhaps to confirm: they go first.
            let verdict = end_of_window(&core);
            if verdict != Health::Open
                && let Some(_operation) = self.begin()
            {
                conclude(&mut core, verdict);
                let status = status(&core, &self.figures);
                *lock(&self.board) = status;
            }
        }
    }
}

/// What is to be done with a release that is not confirmed.
fn end_of_window(core: &Core) -> Health {
    let state = core.catalog.state();
    let (Some(_), Some(since)) = (&state.previous, state.unconfirmed_since_ms) else {
        return Health::Open;
    };
    if let Some(window) = &core.window {
        return window.verdict();
    }
    // There is no clock of this process's that began with the release.
    let length = core.package.release().confirm.window.as_millis();
    if u128::from(now_ms().saturating_sub(since)) > length {
        Health::Inconclusive(NOBODY.into())
    } else {
        Health::Open
    }
}

/// Makes the release permanent, or leaves it.
fn conclude(core: &mut Core, verdict: Health) {
    match verdict {
        Health::Open => {}
        Health::Holds { samples } => {
            let who = format!("the health checks, which held {samples} times");
            match requests::confirm(core, &who) {
                Ok(_) => tracing::info!(release = %core.current(), samples, "confirmed"),
                Err(refusal) => {
                    let why = refusal.brief();
                    tracing::error!(why, "the release holds, and cannot be confirmed");
                    go_back(core, "a confirmation that failed");
                }
            }
        }
        Health::Inconclusive(why) if why == NOBODY => go_back(core, "the confirmation window"),
        Health::Inconclusive(why) => {
            go_back(core, &format!("the health checks, inconclusive: {why}"));
        }
        Health::Fails(why) => go_back(core, &format!("the health checks: {why}")),
    }
}

/// Leaves a release that nobody has confirmed.
pub(super) fn go_back(core: &mut Core, who: &str) {
    tracing::warn!(release = %core.current(), why = who, "not confirmed: going back");
    core.stuck_because = None;
    let recorded = core.journal.sequence();
    if let Err(refusal) = requests::rollback(core, false, Asked::ByItself, who, &mut |_| {}) {
        let why = refusal.brief().to_owned();
        tracing::error!(why, "the way back failed; the release stays unconfirmed");
        if core.journal.sequence() == recorded {
            record_refused(core, who, &why);
        }
        core.stuck_because = Some(why);
        // Not again at every look: a person must decide.
        requests::stop_window(core);
    }
}

/// Records a way back that was refused before it began.
fn record_refused(core: &mut Core, who: &str, why: &str) {
    let state = core.catalog.state();
    let to = state.previous.as_ref().map(|one| one.release.clone());
    let started = Kind::Started {
        operation: "rollback".into(),
        plan_id: None,
        from: state.current.clone(),
        to,
    };
    let operation = core.journal.next_operation("rollback");
    match core.journal.append(&operation, who, started) {
        Ok(_) => core.end(&operation, who, Verdict::Failed, why.to_owned()),
        Err(error) => tracing::error!(%error, "the refused way back could not be recorded"),
    }
}
