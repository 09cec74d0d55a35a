//! Plans and graphs as text for people.

use super::bytes;
use super::consequences::{CodeChanged, Consequences, Effect, Stop, WayBack};
use super::graph::{ComponentGraph, GraphChange};
use super::step_text::{Phase, operands, phases};
use crate::plan::Plan;
use neurath_manifest::Step;
use neurath_manifest::scalar::format_duration;
use std::collections::HashSet;
use std::fmt::Write as _;

/// A plan, read as its consequences.
pub(crate) fn plan(plan: &Plan, consequences: &Consequences) -> String {
    let mut out = format!(
        "{} {} -> {} ({})\n",
        plan.name,
        plan.from,
        plan.to,
        plan.direction.as_str()
    );
    section(&mut out, "What stops", stops(consequences));
    section(&mut out, "What changes", changes(consequences));
    out.push_str("\nWhat bytes change\n");
    out.push_str(&bytes::of(plan, consequences));
    section(&mut out, "What can be undone", undone(plan, consequences));
    section(&mut out, "The steps", Vec::new());
    let mut phase = None;
    for ((number, step), at) in plan.steps.iter().enumerate().zip(phases(&plan.steps)) {
        if phase != Some(at) && at != Phase::Ready {
            let _ = writeln!(out, "      -- {}", at.title());
        }
        phase = Some(at);
        let line = format!("{:>4}  {:<20}{}", number + 1, step.verb(), operands(step));
        let _ = writeln!(out, "{}", line.trim_end());
    }
    section(&mut out, "Made from", Vec::new());
    for (file, hash) in &plan.inputs {
        let _ = writeln!(out, "  {file}  {hash}");
    }
    let _ = writeln!(out, "\nplan {}", plan.id());
    out
}

/// A title, and under it lines whose first words stand in a column.
fn section(out: &mut String, title: &str, lines: Vec<(String, String)>) {
    let _ = writeln!(out, "\n{title}");
    let width = lines.iter().map(|(head, _)| head.chars().count()).max();
    let width = width.unwrap_or(0).min(24);
    for (head, rest) in lines {
        let _ = writeln!(out, "  {}", format!("{head:<width$}  {rest}").trim_end());
    }
}

fn stops(consequences: &Consequences) -> Vec<(String, String)> {
    let mut lines = waits(&consequences.stops);
    for effect in &consequences.effects {
        match effect {
            Effect::Reset {
                step, components, ..
            } => lines.push((
                components.join(", "),
                format!("goes on WITHOUT ITS STATE: it is thrown away at step {step}"),
            )),
            Effect::Configured {
                component,
                told_within: Some(time),
                ..
            } => lines.push((
                component.clone(),
                format!(
                    "messages wait while config_change is called: at most {}, or all is undone",
                    format_duration(*time)
                ),
            )),
            Effect::NodeRestarted { step, .. } => lines.push((
                "everything".into(),
                format!("messages wait at step {step} while the node is replaced"),
            )),
            _ => {}
        }
    }
    if lines.is_empty() {
        lines.push(("nothing".into(), String::new()));
    }
    lines
}

/// The times in which components do not answer; those of the same time in one line.
fn waits(stops: &[Stop]) -> Vec<(String, String)> {
    let mut lines: Vec<(Vec<&str>, String)> = Vec::new();
    for stop in stops {
        let until = match stop.to_step {
            Some(to) => format!("from step {} to step {to}", stop.from_step),
            None => format!("from step {} on, for good", stop.from_step),
        };
        let what = match stop.at_most {
            Some(time) => format!(
                "messages wait {until}: at most {}, or all is undone",
                format_duration(time)
            ),
            None => format!("does not run {until}: its messages are refused"),
        };
        match lines.last_mut() {
            Some((components, said)) if *said == what => components.push(&stop.component),
            _ => lines.push((vec![&stop.component], what)),
        }
    }
    lines
        .into_iter()
        .map(|(components, what)| (components.join(", "), what))
        .collect()
}

fn changes(consequences: &Consequences) -> Vec<(String, String)> {
    let reset = reset(consequences);
    let mut lines: Vec<(String, String)> = consequences
        .changed
        .iter()
        .map(|one| {
            let reset = reset.contains(one.component.as_str());
            (one.component.clone(), code_changed(one, reset))
        })
        .collect();
    for effect in &consequences.effects {
        lines.push(match effect {
            Effect::Added(component) => (component.clone(), "is added and started".into()),
            Effect::Removed(component) => (component.clone(), "is stopped and removed".into()),
            Effect::Restarted(component) => {
                (component.clone(), "is stopped and started again".into())
            }
            Effect::Moved { name, from, to } => (
                from.join(", "),
                format!("gives state to {} (`{name}`), all of it or none", to.join(", ")),
            ),
            Effect::Reset {
                step,
                components,
                keep_snapshot,
            } => (
                components.join(", "),
                format!(
                    "starts from nothing: the state is thrown away at step {step}{}",
                    kept(*keep_snapshot)
                ),
            ),
            Effect::Configured {
                component,
                keys,
                told_within,
            } => {
                let how = match told_within {
                    Some(_) => "runs on, and config_change tells it; if it refuses, all is undone",
                    None => "gets it when it is initialised",
                };
                (component.clone(), format!("another configuration ({keys}): {how}"))
            }
            Effect::Settings(keys) => (
                "the release".into(),
                format!("other settings, from the commit on: {}", keys.join(", ")),
            ),
            Effect::Called { what, outside: true } => {
                ("the system".into(), format!("runs the command `{what}`"))
            }
            Effect::Called { what, .. } => {
                ("a hook".into(), format!("is called: {what}; if it fails, all is undone"))
            }
            Effect::Waited { nodes, deadline } => (
                "other nodes".into(),
                format!(
                    "are waited for, at most {}: {}",
                    format_duration(*deadline),
                    nodes.join(", ")
                ),
            ),
            Effect::NodeRestarted { goes_on: true, .. } => (
                "the node".into(),
                "is replaced, and the new one goes on with the script; regions and connections stay".into(),
            ),
            Effect::NodeRestarted { goes_on: false, .. } => {
                ("the node".into(), "is replaced at the end; regions and connections stay".into())
            }
        });
    }
    if lines.is_empty() {
        lines.push(("nothing".into(), String::new()));
    }
    lines
}

/// The components whose state is thrown away.
pub(super) fn reset(consequences: &Consequences) -> HashSet<&str> {
    let all = consequences
        .effects
        .iter()
        .filter_map(|effect| match effect {
            Effect::Reset { components, .. } => Some(components),
            _ => None,
        });
    all.flatten().map(String::as_str).collect()
}

/// What is left of a state that is thrown away.
pub(super) fn kept(snapshot: bool) -> &'static str {
    match snapshot {
        true => "; a snapshot of it is kept",
        false => ", and no snapshot is kept",
    }
}

fn code_changed(one: &CodeChanged, reset: bool) -> String {
    let versions: Vec<String> = one.versions.iter().map(ToString::to_string).collect();
    let mut text = versions.join(" -> ");
    if reset {
        text.push_str("  code: its state is not carried over");
        return text;
    }
    if !one.state {
        text.push_str("  code only: its state stays as it is");
        return text;
    }
    text.push_str("  code and state: ");
    text.push_str(match &one.instances {
        Some(1) => "the region is converted by code_change",
        Some(_) => "every region is converted by code_change",
        None => "its state is converted by code_change",
    });
    if let Some(count) = one.instances.filter(|count| *count > 1) {
        let _ = write!(text, " ({count} instances)");
    }
    text.push_str(if one.incremental {
        ", little by little while it serves"
    } else {
        " while messages wait"
    });
    if one.versions.len() > 2 {
        let between: Vec<&str> = versions[1..versions.len() - 1]
            .iter()
            .map(String::as_str)
            .collect();
        let _ = write!(
            text,
            "; composed of {} appups by way of {}, as none covers it alone",
            one.versions.len() - 1,
            between.join(", ")
        );
    }
    text
}

fn undone(plan: &Plan, consequences: &Consequences) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let replaced = plan.steps.contains(&Step::RestartNewNode);
    let point = consequences.point_of_no_return;
    if let Some(point) = point.filter(|point| *point > 1 && !replaced) {
        lines.push((
            format!("until step {point}"),
            "everything, without a trace: nothing that runs is touched".into(),
        ));
    }
    if plan.changes_nothing() {
        lines.push(("afterwards".into(), "there is nothing to undo".into()));
        return lines;
    }
    lines.push((
        match consequences.serves_again {
            Some(step) => format!("until step {step}"),
            None => "until the commit".into(),
        },
        "everything: the old code and state are kept, and go on as if nothing had happened".into(),
    ));
    let back = match consequences.way_back {
        WayBack::Script => format!(
            "by the script back to {}, with the writes made since",
            plan.from
        ),
        WayBack::Unknown => format!(
            "by the script back to {}, with the writes made since, where there is one",
            plan.from
        ),
        WayBack::None => format!(
            "not without loss: no script leads back to {}, and the writes made since would be lost",
            plan.from
        ),
    };
    let reset = reset(consequences);
    let mut reset: Vec<&str> = reset.into_iter().collect();
    reset.sort_unstable();
    let back = match reset.as_slice() {
        [] => back,
        names => format!(
            "{back}; the state of {} from before comes back, and that made since is lost",
            names.join(", ")
        ),
    };
    let told: Vec<&str> = plan.told().map(|one| one.component.as_str()).collect();
    let back = match told.as_slice() {
        [] => back,
        names => format!(
            "{back}; config_change gives {} the configuration from before",
            names.join(", ")
        ),
    };
    lines.push(("until it is confirmed".into(), back));
    lines.push(("after that".into(), "only by another upgrade".into()));
    for one in &consequences.lasting {
        lines.push(("never".into(), format!("{} (step {})", one.what, one.step)));
    }
    lines
}

/// The components of a graph as a table.
pub(crate) fn graph(graph: &ComponentGraph) -> String {
    let mut out = format!("{} {}", graph.name, graph.version);
    if let Some(base) = &graph.base {
        let _ = write!(out, ", from {base}");
    }
    out.push_str("\n\n");
    let rows: Vec<[String; 3]> = graph
        .nodes
        .iter()
        .map(|node| {
            let change = match (&node.change, graph.base.is_some()) {
                (GraphChange::Same, true) => "  (does not change)",
                (GraphChange::Added, true) => "  (added)",
                (GraphChange::Removed, _) => "  (removed)",
                _ => "",
            };
            let needs: Vec<String> = node
                .depends_on
                .iter()
                .map(|one| format!("{} {}", one.component, one.requirement))
                .collect();
            let needs = match needs.is_empty() {
                true => String::new(),
                false => format!("needs {}", needs.join(", ")),
            };
            [
                node.component.clone(),
                format!("{}{change}", node.versions()),
                needs,
            ]
        })
        .collect();
    let width = |at: usize| {
        rows.iter()
            .map(|row| row[at].chars().count())
            .max()
            .unwrap_or(0)
    };
    let (first, second) = (width(0), width(1));
    for [component, versions, needs] in &rows {
        let line = format!("  {component:<first$}  {versions:<second$}  {needs}");
        let _ = writeln!(out, "{}", line.trim_end());
    }
    out
}
