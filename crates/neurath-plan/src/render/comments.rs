//! A relup as a file to be reviewed: what each part of a script does, and why it stands where it stands.

use super::step_text::PAUSE;
use crate::plan::Direction;
use neurath_manifest::scalar::format_duration;
use neurath_manifest::{Relup, RelupEntry, ScriptComments, Step, Strategy};
use semver::Version;
use std::collections::{HashMap, HashSet};

/// The relup as a file, commented. The same relup gives the same text, byte for byte.
pub fn relup_to_toml(relup: &Relup) -> String {
    let (name, version) = (&relup.name, &relup.version);
    let mut head = vec![format!(
        "{name} {version}: the scripts that lead here from other releases, and back."
    )];
    if !relup.handwritten {
        head.push(format!(
            "Made by `neurath relup generate {name} {version}` from the appups; to be reviewed like code."
        ));
        head.push("To change a script, change the appups. One that is written by hand says `handwritten = true`.".into());
    }
    relup.to_toml_with(&head, |entry, up| comments(relup, entry, up))
}

fn comments(relup: &Relup, entry: &RelupEntry, up: bool) -> ScriptComments {
    let steps: Vec<&Step> = entry.steps().collect();
    let (from, to) = if up {
        (&entry.base, &relup.version)
    } else {
        (&relup.version, &entry.base)
    };
    let direction = if up { Direction::Up } else { Direction::Down };
    ScriptComments {
        head: head(&steps, direction, from, to),
        steps: of_steps(&steps, direction),
    }
}

/// What the whole script does.
fn head(steps: &[&Step], direction: Direction, from: &Version, to: &Version) -> Vec<String> {
    let reset = names_of(steps, "reset_node");
    let mut lines = vec![match direction {
        Direction::Up => format!("Up from {from} to {to}."),
        Direction::Down if reset.is_empty() => {
            format!("Down from {from} to {to}, with the writes made since.")
        }
        Direction::Down => format!(
            "Down from {from} to {to}. The writes made since are kept, but for those of {}.",
            reset.join(", ")
        ),
    }];
    if !reset.is_empty() {
        lines.push(match direction {
            Direction::Up => format!("The state of {} is THROWN AWAY.", reset.join(", ")),
            Direction::Down => format!(
                "The state of {} is THROWN AWAY; until the release is confirmed, that from before it comes back.",
                reset.join(", ")
            ),
        });
    }
    let limits: Vec<_> = steps
        .iter()
        .filter_map(|step| match step {
            Step::Suspend { timeout, .. } => Some(timeout.unwrap_or(PAUSE)),
            _ => None,
        })
        .collect();
    if let Some(limit) = limits.iter().max() {
        lines.push(format!(
            "Messages wait at most {}; if that is not enough, all is undone.",
            format_duration(*limit)
        ));
    }
    lines
}

/// The components that steps of this name are about, each once.
fn names_of<'a>(steps: &[&'a Step], verb: &str) -> Vec<&'a str> {
    let mut found: Vec<&str> = Vec::new();
    for step in steps.iter().filter(|step| step.verb() == verb) {
        for name in step.components() {
            if !found.contains(&name) {
                found.push(name);
            }
        }
    }
    found
}

/// A comment before each step that begins something.
fn of_steps(steps: &[&Step], direction: Direction) -> Vec<Option<String>> {
    let converted: HashMap<&str, (usize, Strategy)> = steps
        .iter()
        .filter_map(|step| match step {
            Step::CodeChange {
                component,
                hops,
                strategy,
                ..
            } => Some((component.as_str(), (hops.len(), *strategy))),
            _ => None,
        })
        .collect();
    let named = |wanted: &str| -> HashSet<&str> { names_of(steps, wanted).into_iter().collect() };
    let (started, stopped, reset) = (named("start"), named("stop"), named("reset_node"));
    let mut begun: HashSet<&str> = HashSet::new();
    let mut before = "";
    let mut comments = Vec::with_capacity(steps.len());
    for step in steps {
        let verb = step.verb();
        comments.push(match step {
            Step::Load { component, .. } | Step::CodeChange { component, .. } => {
                let name = component.as_str();
                let comes = started.contains(name) && !stopped.contains(name);
                begun.insert(name).then(|| match comes {
                    true => format!("{name}: it comes, with a state of its own."),
                    false if reset.contains(name) => {
                        format!("{name}: other code; its state is not carried over.")
                    }
                    false => component_comment(name, converted.get(name), direction),
                })
            }
            _ if verb == before => None,
            step => block(step, direction),
        });
        before = verb;
    }
    comments
}

/// What happens to one component; `converted` has the hops and the strategy if its state changes.
fn component_comment(
    component: &str,
    converted: Option<&(usize, Strategy)>,
    direction: Direction,
) -> String {
    let Some((hops, strategy)) = converted else {
        return format!("{component}: other code; its state stays as it is.");
    };
    let mut text = match direction {
        Direction::Up => format!("{component}: the newer code, which then converts the state"),
        Direction::Down => format!(
            "{component}: the newer code knows the way back, so it converts the state before it goes"
        ),
    };
    if *hops > 1 {
        text.push_str(&format!(", in {hops} hops"));
    }
    if *strategy == Strategy::Incremental {
        text.push_str(", little by little while it serves");
    }
    text.push('.');
    text
}

/// What a run of equal steps is for.
fn block(step: &Step, direction: Direction) -> Option<String> {
    let text = match (step, direction) {
        (Step::LoadObjectCode { .. }, Direction::Up) => {
            "The libraries are made ready first, dependencies before what depends on them: whatever fails here fails without a trace."
        }
        (Step::LoadObjectCode { .. }, Direction::Down) => {
            "The libraries are made ready first: whatever fails here fails without a trace."
        }
        (Step::PointOfNoReturn, _) => {
            "Until here nothing that runs was touched. From here it is undone as a whole, or done as a whole."
        }
        (Step::Suspend { .. }, _) => {
            "Messages wait from here. What depends on others is suspended before them, so that it calls none that does not answer."
        }
        (Step::Resume { .. }, _) => {
            "Messages are served again, dependencies first: nothing calls a version that it does not know."
        }
        (Step::Purge { .. } | Step::Remove { .. }, _) => {
            "The code of the old versions is dropped; the node keeps what it needs to go back until the release is confirmed."
        }
        (Step::Stop { .. }, _) => "Stopped, those that depend on others before them.",
        (Step::Start { .. }, _) => "Started, dependencies first.",
        (Step::MoveState { .. }, _) => "State changes its owner: all of it, or none.",
        (Step::SyncNodes { .. }, _) => {
            "Other nodes must have come as far; if one has not by the deadline, nothing was touched."
        }
        (Step::Apply { .. }, _) => "Called by name; if it fails, the upgrade does.",
        (Step::RestartNewNode, _) => {
            "The node itself is replaced, and the new one runs the rest. Regions and connections stay."
        }
        (Step::RestartNode, _) => {
            "At the end, the node itself is replaced. Regions and connections stay."
        }
        (Step::ResetNode { .. }, _) => "State is thrown away here, and made anew.",
        (Step::Load { .. } | Step::CodeChange { .. }, _) => return None,
    };
    Some(text.to_string())
}
