//! Lints of what was written: appup entries that cannot be reached or undone, changes that nothing carries out.

use super::Finding;
use crate::catalogue::Catalogue;
use crate::codes;
use crate::instructions::Way;
use crate::plan::Direction;
use crate::routes::{self, Leg};
use crate::sides::Sides;
use neurath_manifest::{Appup, AppupEntry, Diagnostic, Instruction, Located, Step};
use semver::Version;
use std::collections::HashMap;

pub(super) fn find(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    ways: &[Way<'_>],
    restarted: &dyn Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    unnoticed(sides, restarted, &mut findings);
    for (change, legs) in ways {
        let name = change.component;
        for leg in legs {
            let newer = leg.from.max(leg.to);
            if let Some(appup) = catalogue.appup(name, newer) {
                overlaps(catalogue, name, appup, newer, &mut findings);
            }
            if Direction::between(leg.from, leg.to) == Direction::Up {
                reversible(catalogue, name, leg, &mut findings);
            }
        }
    }
    findings
}

fn finding(name: &str, diagnostic: Diagnostic) -> Finding {
    Finding {
        component: Some(name.to_string()),
        diagnostic,
    }
}

/// What a release says otherwise of a component of the same version: no instruction is looked for.
fn unnoticed(sides: &Sides<'_>, restarted: &dyn Fn(&str) -> bool, findings: &mut Vec<Finding>) {
    for new in &sides.to.components {
        let name = &new.name;
        let Some(old) = sides.old(name).filter(|old| old.version == new.version) else {
            continue;
        };
        if restarted(name) {
            continue;
        }
        if old.start != new.start {
            let message = format!(
                "{name} {} is {} now, and was {}, and nothing starts or stops it",
                new.version,
                new.start.as_str(),
                old.start.as_str()
            );
            let diagnostic = Diagnostic::error(codes::START_TYPE_CHANGED, message)
                .at(&sides.to.source, new.span.clone(), new.start.as_str())
                .related(&sides.from.source, Some(old.span.clone()), old.start.as_str())
                .help(format!("release a new version of {name}, or restart it by {{ restart_component = \"{name}\" }} in another component's appup"));
            findings.push(finding(name, diagnostic));
        }
    }
}

/// Entries that cover what an earlier one covers: the first match is taken.
fn overlaps(
    catalogue: &Catalogue,
    name: &str,
    appup: &Appup,
    newer: &Version,
    findings: &mut Vec<Finding>,
) {
    let mut known: Option<Vec<&Version>> = None;
    for entries in [&appup.up, &appup.down] {
        if entries.len() < 2 {
            continue;
        }
        let known = known.get_or_insert_with(|| {
            let versions = catalogue.versions(name);
            versions.filter(|version| *version < newer).collect()
        });
        let mut taken: HashMap<&Version, &AppupEntry> = HashMap::new();
        for (index, entry) in entries.iter().enumerate() {
            let covers: Vec<&Version> = known
                .iter()
                .copied()
                .filter(|version| entry.requirement.matches(version))
                .collect();
            let shared: Vec<&Version> = covers
                .iter()
                .copied()
                .filter(|version| taken.contains_key(version))
                .collect();
            let same = entries[..index]
                .iter()
                .find(|other| other.requirement == entry.requirement);
            let earlier = same.or_else(|| shared.first().map(|version| taken[version]));
            if let Some(earlier) = earlier {
                let never = same.is_some() || shared.len() == covers.len();
                let (code, message, help) = if never {
                    (
                        codes::UNREACHABLE,
                        format!(
                            "this entry of {name} {newer} is never taken: those before it cover all that it covers"
                        ),
                        "remove it, or move it before the other one",
                    )
                } else {
                    let shared: Vec<String> =
                        shared.iter().map(|version| version.to_string()).collect();
                    (
                        codes::OVERLAPPING,
                        format!(
                            "two entries of {name} {newer} cover {}: the first is taken",
                            shared.join(", ")
                        ),
                        "make the requirements exclude each other",
                    )
                };
                let diagnostic = Diagnostic::error(code, message)
                    .at(&appup.source, entry.span.clone(), "this one")
                    .related(&appup.source, Some(earlier.span.clone()), "an earlier one")
                    .help(help);
                findings.push(finding(name, diagnostic));
            }
            for version in covers {
                taken.entry(version).or_insert(entry);
            }
        }
    }
}

/// An entry up has its entry down, and each undoes the other.
fn reversible(catalogue: &Catalogue, name: &str, leg: &Leg<'_>, findings: &mut Vec<Finding>) {
    if leg.entry.irreversible.is_some() {
        return;
    }
    let Some(back) = routes::leg(catalogue, name, leg.to, leg.from) else {
        let message = format!("{name} has no way down from {} to {}", leg.to, leg.from);
        let diagnostic = Diagnostic::error(codes::NO_WAY_DOWN, message)
            .at(leg.source, leg.entry.span.clone(), "nothing undoes this")
            .help("add the `[[down]]` entry, or mark this one: `irreversible = \"…\"`");
        findings.push(finding(name, diagnostic));
        return;
    };
    let mut undone: HashMap<String, usize> = HashMap::new();
    for one in &back.entry.instructions {
        if let Some(key) = key(&one.value) {
            *undone.entry(key).or_default() += 1;
        }
    }
    for one in &leg.entry.instructions {
        let Some(key) = inverse(&one.value) else {
            continue;
        };
        match undone.get_mut(&key) {
            Some(count) if *count > 0 => *count -= 1,
            _ => {
                let message = format!(
                    "the way down of {name} from {} to {} does not undo this `{}`",
                    leg.to,
                    leg.from,
                    one.value.verb()
                );
                let diagnostic = Diagnostic::error(codes::NO_INVERSE, message)
                    .at(leg.source, one.span.clone(), "not undone")
                    .related(back.source, Some(back.entry.span.clone()), "the way down")
                    .help("add its inverse there, or mark the entry up: `irreversible = \"…\"`");
                findings.push(finding(name, diagnostic));
            }
        }
    }
    not_mirrored(name, leg, &back, undone, findings);
}

/// What is left of the way down undoes nothing.
fn not_mirrored(
    name: &str,
    leg: &Leg<'_>,
    back: &Leg<'_>,
    mut left: HashMap<String, usize>,
    findings: &mut Vec<Finding>,
) {
    // The last of several equal ones is that which is left.
    let extra = |one: &&Located<Instruction>| {
        key(&one.value)
            .and_then(|key| left.get_mut(&key))
            .is_some_and(|count| {
                let found = *count > 0;
                *count = count.saturating_sub(1);
                found
            })
    };
    for one in back.entry.instructions.iter().rev().filter(extra) {
        let message = format!(
            "this `{}` on the way down of {name} undoes nothing of the way up",
            one.value.verb()
        );
        let diagnostic = Diagnostic::error(codes::NOT_MIRRORED, message)
            .at(back.source, one.span.clone(), "undoes nothing")
            .related(leg.source, Some(leg.entry.span.clone()), "the way up")
            .help("remove it, or add what it undoes to the way up");
        findings.push(finding(name, diagnostic));
    }
}

/// What an instruction of a way down undoes is compared by; `None` for what needs no undoing.
fn key(instruction: &Instruction) -> Option<String> {
    Some(match instruction {
        Instruction::Update(update) => format!("change {}", update.component),
        Instruction::Load(load) => format!("change {}", load.component),
        Instruction::AddComponent { component, .. } => format!("add {component}"),
        Instruction::RemoveComponent { component } => format!("remove {component}"),
        Instruction::RestartComponent { component, .. } => format!("restart {component}"),
        Instruction::Low(step) => match step {
            Step::LoadObjectCode { .. } | Step::PointOfNoReturn | Step::Purge { .. } => {
                return None;
            }
            Step::Load { component, .. } => format!("change {component}"),
            Step::CodeChange {
                component,
                from,
                to,
                ..
            } => {
                format!("code_change {component} {from} {to}")
            }
            Step::MoveState { from, to, .. } => {
                format!("move_state {} {}", from.join(" "), to.join(" "))
            }
            Step::RestartNewNode | Step::RestartNode => "restart node".into(),
            Step::Suspend { components, .. }
            | Step::Resume { components }
            | Step::Stop { components }
            | Step::Start { components } => format!("{} {}", step.verb(), components.join(" ")),
            other => other.verb().into(),
        },
    })
}

/// The key of what undoes an instruction; `None` for what needs no undoing.
fn inverse(instruction: &Instruction) -> Option<String> {
    Some(match instruction {
        Instruction::AddComponent { component, .. } => format!("remove {component}"),
        Instruction::RemoveComponent { component } => format!("add {component}"),
        Instruction::Low(Step::CodeChange {
            component,
            from,
            to,
            ..
        }) => {
            format!("code_change {component} {to} {from}")
        }
        Instruction::Low(Step::MoveState { from, to, .. }) => {
            format!("move_state {} {}", to.join(" "), from.join(" "))
        }
        Instruction::Low(Step::Remove { component, .. }) => format!("change {component}"),
        // Nothing brings a state back that was thrown away.
        Instruction::Low(Step::ResetNode { .. }) => "the state before".into(),
        Instruction::Low(
            Step::Suspend { components, .. }
            | Step::Resume { components }
            | Step::Stop { components }
            | Step::Start { components },
        ) => {
            let verb = instruction.verb();
            format!("{verb} {}", components.join(" "))
        }
        other => return key(other),
    })
}
