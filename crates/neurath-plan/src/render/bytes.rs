//! What a plan does to the bytes of states, as text: which types and fields, and how large they were and become.

use super::consequences::{CodeChanged, Consequences, Effect};
use super::text::{kept, reset};
use crate::layout::{Part, PartChange, PartFate, StateChange, TypeChange};
use crate::plan::Plan;
use std::collections::HashMap;
use std::fmt::Write as _;

/// Lines that are indented by two.
pub(super) fn of(plan: &Plan, consequences: &Consequences) -> String {
    let mut out = String::new();
    let mut same: Vec<&str> = Vec::new();
    let mut unknown: Vec<&str> = Vec::new();
    let reset = reset(consequences);
    let states: HashMap<&str, &StateChange> = plan
        .states
        .iter()
        .map(|state| (state.component.as_str(), state))
        .collect();
    for one in &consequences.changed {
        let name = one.component.as_str();
        let state = states.get(name);
        match (state, &one.schemas) {
            _ if reset.contains(name) => {}
            (Some(state), _) => converted(&mut out, one, state),
            (None, Some((old, new))) if old == new && one.state => {
                let _ = writeln!(
                    out,
                    "  {name}: values only: the types stay as they are, and code_change makes new values"
                );
            }
            (None, Some((old, new))) if old == new => same.push(name),
            (None, _) => unknown.push(name),
        }
    }
    for effect in &consequences.effects {
        if let Some(line) = touched(effect) {
            let _ = writeln!(out, "  {line}");
        }
    }
    if !same.is_empty() {
        let _ = writeln!(
            out,
            "  {}: none: the types of the state are the same",
            same.join(", ")
        );
    }
    if !unknown.is_empty() {
        let _ = writeln!(
            out,
            "  {}: not known and not proved: the libraries were not at hand, only the manifests",
            unknown.join(", ")
        );
    }
    if out.is_empty() {
        out.push_str("  none\n");
    }
    out
}

/// What an effect does to the bytes of a state.
fn touched(effect: &Effect) -> Option<String> {
    Some(match effect {
        Effect::Reset {
            step,
            components,
            keep_snapshot,
        } => format!(
            "{}: ALL of them are thrown away at step {step}{}",
            components.join(", "),
            kept(*keep_snapshot)
        ),
        Effect::Moved { name, from, to } => {
            format!(
                "{}: what `{name}` takes goes to {}",
                from.join(", "),
                to.join(", ")
            )
        }
        Effect::Added(component) => format!("{component}: new regions are made"),
        Effect::Removed(component) => {
            format!("{component}: ALL of its regions are deleted once the release is confirmed")
        }
        _ => return None,
    })
}

fn converted(out: &mut String, one: &CodeChanged, state: &StateChange) {
    let regions = match one.instances {
        Some(1) => "the region".to_string(),
        Some(count) => format!("each of {count} regions"),
        None => "every region".to_string(),
    };
    let _ = writeln!(
        out,
        "  {}: {regions}, from the types of {} to those of {}",
        state.component, state.from, state.to
    );
    for ty in &state.types {
        let _ = writeln!(out, "    {}: {}", ty.path, sizes(ty));
        let width = ty.parts.iter().map(|part| part.name.chars().count()).max();
        let width = width.unwrap_or(0).min(24);
        for part in &ty.parts {
            let _ = writeln!(out, "      {}", described(part, width));
        }
    }
}

/// `Entry, 16 -> 40 bytes`; without the name where the path ends in it.
fn sizes(ty: &TypeChange) -> String {
    let (old, new) = (&ty.old, &ty.new);
    let named = ty.path.trim_end_matches(']').ends_with(&new.name);
    if named && old.name == new.name && old.size != new.size {
        return format!("{} -> {} bytes", old.size, new.size);
    }
    match (old.name == new.name, old.size == new.size) {
        (true, true) => format!("{}, {} bytes as before", new.name, new.size),
        (true, false) => format!("{}, {} -> {} bytes", new.name, old.size, new.size),
        _ => format!(
            "{}, {} bytes -> {}, {} bytes",
            old.name, old.size, new.name, new.size
        ),
    }
}

/// `+ expires  Option, 16 bytes at 24`
fn described(part: &PartChange, width: usize) -> String {
    let (sign, text) = match (&part.old, &part.new) {
        (None, Some(new)) => ('+', whole(new)),
        (Some(old), None) => ('-', whole(old)),
        (Some(old), Some(new)) if part.fate() == PartFate::Moved => {
            let what = new
                .ty
                .as_ref()
                .map_or("tag".into(), |ty| format!("{} at", ty.name));
            ('>', format!("{what} {} -> {}", old.at, new.at))
        }
        (Some(old), Some(new)) => ('~', format!("{} -> {}", whole(old), whole(new))),
        (None, None) => (' ', String::new()),
    };
    format!("{sign} {:<width$}  {text}", part.name)
}

fn whole(part: &Part) -> String {
    match &part.ty {
        Some(ty) => format!("{}, {} bytes at {}", ty.name, ty.size, part.at),
        None => format!("tag {}", part.at),
    }
}
