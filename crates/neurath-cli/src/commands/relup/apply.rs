//! Carrying an upgrade out on a node, confirming it, and going back.

use crate::cli::Resets;
use crate::control;
use crate::exit::CommandError;
use crate::numbers;
use crate::output::Output;
use crate::stale::{Stale, read_plan};
use crate::table::Table;
use neurath_node::client::Client;
use neurath_node::protocol::{Planned, Retained, Upgraded};
use neurath_plan::Plan;
use serde_json::json;
use std::path::Path;

pub(super) fn apply(
    dir: &Path,
    planned: Planned,
    reviewed: Option<&Path>,
    resets: &Resets,
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    let reviewed = reviewed.map(read_plan).transpose()?;
    let current = Plan::from_json(&planned.plan)?;
    if let Some(reviewed) = &reviewed
        && let Some(stale) = Stale::between(reviewed, &current)
    {
        return Err(CommandError::Stale(Box::new(stale)).into());
    }
    if !execute {
        output.text(&current.to_text());
        for name in &planned.reset {
            output.text(&format!(
                "THROWS AWAY the state of {name}: it is done only if it is named, by --reset {name}"
            ));
        }
        output.progress("nothing was done; --execute does it");
        output.json(&json!({ "kind": "planned", "planned": planned }));
        return Ok(());
    }
    let upgraded =
        control::apply_resetting(dir, &planned.to, Some(planned.plan_id), resets, output)?;
    finished(&upgraded, output)
}

pub(super) fn confirm(dir: &Path, output: &Output) -> anyhow::Result<()> {
    let confirmed = control::confirm(dir, output)?;
    output.text(&format!("{} is permanent", confirmed.release));
    for one in &confirmed.deleted {
        output.text(&format!("deleted: the state of {one}"));
    }
    unloading(&confirmed.unloaded, &confirmed.retained, output);
    output.json(&json!({ "kind": "confirmed", "confirmed": confirmed }));
    Ok(())
}

pub(super) fn rollback(
    dir: &Path,
    lose_writes: bool,
    reset: &[String],
    execute: bool,
    output: &Output,
) -> anyhow::Result<()> {
    if lose_writes && Client::connect(dir).is_err() {
        return match execute {
            true => super::in_flight::forget(dir, output),
            false => super::in_flight::would_forget(dir, output),
        };
    }
    if execute {
        let went = match lose_writes {
            true => control::rollback(dir, true, output)?,
            false => control::rollback_resetting(dir, reset, output)?,
        };
        return finished(&went, output);
    }
    let status = control::status(dir)?;
    let would = match (&status.release, &status.permanent) {
        (Some(release), Some(permanent)) if status.unconfirmed => {
            if !lose_writes {
                // What would be refused is refused here as well.
                control::plan(dir, permanent)?;
            }
            let writes = if lose_writes {
                ", and writes made since may be lost"
            } else {
                ""
            };
            format!("{release} would go back to {permanent}{writes}; --execute does it")
        }
        (Some(release), _) => format!("{release} is confirmed: there is nothing to go back to"),
        (None, _) => String::from("the node has no release"),
    };
    output.text(&would);
    for one in &status.reset {
        output.text(&one.to_string());
    }
    output.json(&json!({
        "kind": "rollback",
        "release": status.release,
        "permanent": status.permanent,
        "unconfirmed": status.unconfirmed,
        "reset": status.reset,
    }));
    Ok(())
}

pub(super) fn finished(upgraded: &Upgraded, output: &Output) -> anyhow::Result<()> {
    let mut table = Table::new(&["step", "time>"]);
    for step in &upgraded.steps {
        table.row([step.name.clone(), numbers::micros(step.micros)]);
    }
    table.row([
        "messages waited".to_owned(),
        numbers::micros(upgraded.stop_us),
    ]);
    table.row(["all of it".to_owned(), numbers::micros(upgraded.total_us)]);
    output.text(&format!(
        "{} -> {}\n\n{}",
        upgraded.from,
        upgraded.to,
        table.render()
    ));
    for one in &upgraded.thrown_away {
        output.text(&one.to_string());
    }
    unloading(&upgraded.unloaded, &upgraded.retained, output);
    output.json(&json!({ "kind": "upgraded", "upgraded": upgraded }));
    Ok(())
}

fn unloading(unloaded: &[String], retained: &[Retained], output: &Output) {
    if !unloaded.is_empty() {
        output.text(&format!("unloaded: {}", unloaded.join(", ")));
    }
    for one in retained {
        output.text(&format!("still in use: {one}"));
    }
}
