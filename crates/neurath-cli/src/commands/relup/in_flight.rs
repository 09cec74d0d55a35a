//! Going on with, and giving up, what is in flight.

use crate::control;
use crate::exit::CommandError;
use crate::output::Output;
use neurath_node::catalog::Catalog;
use neurath_node::node::BEFORE_IS_CONVERTED;
use neurath_node::protocol::{Failure, Outcome, Request, code};
use serde_json::json;
use std::path::Path;

pub fn resume(dir: &Path, execute: bool, output: &Output) -> anyhow::Result<()> {
    if execute {
        let outcome = control::ask_aloud(dir, &Request::Resume, output)?;
        return super::apply::finished(&control::upgraded(outcome)?, output);
    }
    let status = control::status(dir)?;
    let would = match (
        &status.interrupted,
        status.next.iter().any(|one| one.ends_with("resume")),
    ) {
        (Some(one), true) => format!("the upgrade to {} would be done again", one.release),
        (None, true) => String::from("the way back would be tried again"),
        (_, false) => String::from("nothing was interrupted"),
    };
    let there = status.next.iter().any(|one| one.ends_with("resume"));
    dry(&would, there, "resume", output);
    Ok(())
}

pub fn abort(dir: &Path, execute: bool, output: &Output) -> anyhow::Result<()> {
    if !execute {
        let status = control::status(dir)?;
        let would = match (&status.in_flight, status.unconfirmed) {
            (Some(flight), _) => format!("what is {} would be given up", flight.phase.name()),
            (None, true) => String::from("the release that is not confirmed would be left"),
            (None, false) => String::from("nothing is under way"),
        };
        let there = status.in_flight.is_some() || status.unconfirmed;
        dry(&would, there, "abort", output);
        return Ok(());
    }
    match control::ask_aloud(dir, &Request::Abort, output)? {
        Outcome::Aborted { release } => {
            output.text(&format!("given up: {release} serves"));
            output.json(&json!({ "kind": "aborted", "release": release }));
            Ok(())
        }
        outcome => super::apply::finished(&control::upgraded(outcome)?, output),
    }
}

/// The way back of a node that does not run, without the writes made since.
pub fn forget(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let request = Request::Rollback {
        lose_writes: true,
        reset: Vec::new(),
    };
    match control::ask_or_offline(dir, request)? {
        Outcome::RolledBack { release } => {
            output.text(&format!(
                "the next start runs {release}, as it was before the upgrade"
            ));
            output.json(&json!({ "kind": "rolled_back", "release": release }));
            Ok(())
        }
        other => control::unexpected(&other),
    }
}

/// Says what [`forget`] would do.
pub fn would_forget(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let catalog = Catalog::open(dir)?;
    let state = catalog.state();
    let (Some(release), Some(before)) = (&state.current, &state.previous) else {
        let message = "the node's release is confirmed: there is nothing to go back to";
        return Err(CommandError::Usage(message.into()).into());
    };
    if state.before_is_converted() {
        return Err(CommandError::Node(Failure {
            code: code::OPERATOR,
            message: BEFORE_IS_CONVERTED.into(),
            step: None,
        })
        .into());
    }
    output.text(&format!(
        "the next start would run {}, as it was before {release}: the writes made since are lost; --execute does it",
        before.release
    ));
    output.json(&json!({
        "kind": "rollback",
        "release": state.current,
        "permanent": state.permanent,
        "unconfirmed": true,
        "reset": [],
    }));
    Ok(())
}

/// Says what would be done, if there is something.
fn dry(would: &str, there_is: bool, what: &str, output: &Output) {
    output.text(&match there_is {
        true => format!("{would}; --execute does it"),
        false => would.to_owned(),
    });
    output.json(&json!({ "kind": what, "would": would }));
}
