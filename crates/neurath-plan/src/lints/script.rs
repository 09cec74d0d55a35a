//! Lints of a script, whoever wrote it: what it destroys, loses, or may wait for.

use super::Finding;
use crate::catalogue::Catalogue;
use crate::codes;
use crate::plan::Direction;
use crate::proof;
use crate::settings::{does_nothing, same};
use crate::sides::Sides;
use crate::translate::Origin;
use neurath_manifest::{Diagnostic, Step};
use semver::Version;
use std::collections::HashSet;
use std::time::Duration;

/// A wait for other nodes that is longer is worth a look.
const LONG_DEADLINE: Duration = Duration::from_secs(600);
/// A pause that may be longer is worth a look.
const LONG_PAUSE: Duration = Duration::from_secs(60);

pub(super) fn find(catalogue: &Catalogue, sides: &Sides<'_>, script: &[Origin]) -> Vec<Finding> {
    let mut finder = Finder {
        sides,
        findings: Vec::new(),
        given: HashSet::new(),
    };
    for origin in script {
        if let Step::MoveState { from, .. } = &origin.step {
            finder.given.extend(from.iter().map(String::as_str));
        }
    }
    for origin in script {
        finder.step(catalogue, origin);
    }
    if does_nothing(script.iter().map(|origin| &origin.step))
        && sides.is_up()
        && same(catalogue, sides)
    {
        finder.findings.push(same_release(sides));
    }
    finder.findings
}

/// Said where the releases are written: a node says it only when somebody waits for the upgrade.
fn same_release(sides: &Sides<'_>) -> Finding {
    let (from, to) = (sides.from, sides.to);
    let message = format!(
        "{} {} is the same as {}: components, configuration and settings",
        to.name, to.version, from.version
    );
    let diagnostic = Diagnostic::error(codes::CHANGES_NOTHING, message)
        .in_file(&to.source)
        .related(&from.source, None, "")
        .help(format!(
            "a node that runs {} refuses to go to {} (exit code 41): change what it was meant to change",
            from.version, to.version
        ));
    Finding {
        component: None,
        diagnostic,
    }
}

struct Finder<'a> {
    sides: &'a Sides<'a>,
    findings: Vec<Finding>,
    /// The components whose state is given to others.
    given: HashSet<&'a str>,
}

impl<'a> Finder<'a> {
    fn add(
        &mut self,
        origin: &Origin,
        component: Option<&str>,
        code: &'static str,
        message: String,
        help: &str,
    ) {
        let part = component.and_then(|name| self.sides.old(name).or(self.sides.new_one(name)));
        let diagnostic = Diagnostic::error(code, message).help(help);
        let diagnostic = match (&origin.place, part) {
            (Some((source, span)), _) => diagnostic.at(source, span.clone(), ""),
            (None, Some(part)) => {
                let of_old = component.is_some_and(|name| self.sides.old(name).is_some());
                let release = if of_old {
                    self.sides.from
                } else {
                    self.sides.to
                };
                diagnostic.at(&release.source, part.span.clone(), "")
            }
            (None, None) => diagnostic.in_file(&self.sides.to.source),
        };
        self.findings.push(Finding {
            component: component.map(str::to_string),
            diagnostic,
        });
    }

    fn step(&mut self, catalogue: &Catalogue, origin: &'a Origin) {
        match &origin.step {
            Step::Remove { component, version } if self.sides.ran(component) => {
                let moved = if self.given.contains(component.as_str()) {
                    ", but for what move_state gives to others"
                } else {
                    ""
                };
                self.add(
                    origin,
                    Some(component),
                    codes::REMOVES_STATE,
                    format!("{component} {version} is removed, and its regions with it{moved}"),
                    "move its state to another component first, if it is still wanted",
                );
            }
            Step::ResetNode {
                components,
                keep_snapshot,
            } => {
                for name in components {
                    self.add(
                        origin,
                        Some(name),
                        codes::RESETS_STATE,
                        format!("the regions of {name} are thrown away and made anew"),
                        "write a code_change, if the state is still wanted",
                    );
                    if !keep_snapshot {
                        self.add(
                            origin,
                            Some(name),
                            codes::NO_SNAPSHOT,
                            format!("no snapshot of {name} is kept: nothing brings the state back"),
                            "leave `keep_snapshot` out",
                        );
                    }
                }
            }
            Step::CodeChange {
                component,
                from,
                to,
                via,
                hops,
                ..
            } => {
                if hops.is_empty() {
                    self.losses(catalogue, origin, component, (from, to), via.as_deref());
                }
                for hop in hops {
                    let ends = (&hop.from, &hop.to);
                    self.losses(catalogue, origin, component, ends, hop.via.as_deref());
                }
            }
            Step::SyncNodes { id, deadline, .. } if *deadline > LONG_DEADLINE => self.add(
                origin,
                None,
                codes::LONG_DEADLINE,
                format!(
                    "`{id}` may wait {} seconds for other nodes",
                    deadline.as_secs()
                ),
                "a node that does not come within minutes is not coming",
            ),
            Step::Suspend {
                components,
                timeout: Some(timeout),
            } if *timeout > LONG_PAUSE => self.add(
                origin,
                components.first().map(String::as_str),
                codes::LONG_PAUSE,
                format!(
                    "{} may be suspended for {} seconds, and messages wait as long",
                    components.join(", "),
                    timeout.as_secs()
                ),
                "lower `timeout`: an upgrade that takes longer is undone, and nothing is lost",
            ),
            _ => {}
        }
    }

    /// What a conversion loses, or may not hold.
    fn losses(
        &mut self,
        catalogue: &Catalogue,
        origin: &Origin,
        component: &str,
        (from, to): (&Version, &Version),
        via: Option<&str>,
    ) {
        let found = proof::comparison(catalogue, self.sides, component, (from, to), via);
        let Some(found) = found else { return };
        let (code, help) = match Direction::between(from, to) {
            Direction::Up => (
                codes::LOSES_FIELD,
                "keep the field, or move what it holds elsewhere",
            ),
            Direction::Down => (
                codes::LOSES_ON_THE_WAY_DOWN,
                "whoever goes back goes without it: say so",
            ),
        };
        if !found.lost.is_empty() {
            let message = format!(
                "the state of {component} {to} has no place for {}, which that of {from} has",
                found.lost.join(", ")
            );
            self.add(origin, Some(component), code, message, help);
        }
        for narrowed in &found.narrowed {
            let message =
                format!("{component} {from} -> {to}: {narrowed} may not hold every value");
            let help = "have the code_change return a `Result`, and refuse what does not fit";
            self.add(origin, Some(component), codes::NARROWED, message, help);
        }
    }
}
