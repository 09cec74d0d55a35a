//! A script is walked through before anybody runs it, on the model of a node.

use crate::catalogue::Catalogue;
use crate::changes::Change;
use crate::codes;
use crate::model::{Fault, Model};
use crate::proof;
use crate::sides::Sides;
use crate::translate::Origin;
use neurath_manifest::{Diagnostic, Diagnostics, Durability, Release, Step, Strategy};
use semver::Version;
use std::collections::HashSet;

/// Proves a script, whoever made it: walks it through on the model of a node, and checks what becomes of states.
/// What is wrong with it, or nothing.
pub fn prove(catalogue: &Catalogue, from: &Release, to: &Release, script: &[Step]) -> Diagnostics {
    let origins: Vec<Origin> = script.iter().cloned().map(Origin::made).collect();
    let mut problems = Vec::new();
    simulate(catalogue, from, to, &origins, &mut problems);
    problems.into()
}

/// Walks the script from one release to the other, and keeps what is wrong with it.
pub(crate) fn simulate(
    catalogue: &Catalogue,
    from: &Release,
    to: &Release,
    script: &[Origin],
    problems: &mut Vec<Diagnostic>,
) {
    let mut model = Model::new(catalogue, from, to);
    for (index, origin) in script.iter().enumerate() {
        for fault in model.step(&origin.step) {
            let message = format!(
                "step {}, `{}`: {}",
                index + 1,
                origin.step.verb(),
                fault.message
            );
            let diagnostic = Diagnostic::error(fault.code, message).help(fault.help);
            problems.push(match &origin.place {
                Some((source, span)) => diagnostic.at(source, span.clone(), ""),
                None => diagnostic.in_file(&to.source),
            });
        }
    }
    let at_end = |code: &'static str, message: String| {
        let place = script.last().and_then(|origin| origin.place.as_ref());
        match place {
            Some((source, span)) => {
                Diagnostic::error(code, message).at(source, span.clone(), "the last step")
            }
            None => Diagnostic::error(code, message).in_file(&to.source),
        }
    };
    for Fault {
        code,
        message,
        help,
    } in model.end()
    {
        problems.push(at_end(code, message).help(help));
    }
    // On the way down the node sees to it by itself.
    let restarts = |one: &Origin| matches!(one.step, Step::RestartNewNode | Step::RestartNode);
    if to.version > from.version && to.node != from.node && !script.iter().any(restarts) {
        let message = format!(
            "at the end the node is {} still, and {} {} is for {}",
            from.node, to.name, to.version, to.node
        );
        let help = "begin with `restart_new_node`, or end with `restart_node`";
        problems.push(at_end(codes::WRONG_END, message).help(help));
    }
    let sides = Sides::new(from, to);
    states(catalogue, &sides, script, problems, &at_end);
    stepwise(catalogue, &sides, script, problems);
}

/// A state that is converted segment by segment stays in its file, while it is served: what makes another file of it
/// cannot be had together with that, nor can the conversions of a library that is open for the upgrade only.
fn stepwise(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    script: &[Origin],
    problems: &mut Vec<Diagnostic>,
) {
    let moves = |name: &str| {
        script.iter().find_map(|origin| match &origin.step {
            Step::MoveState {
                name: state,
                from,
                to,
                ..
            } if from.iter().chain(to).any(|one| one == name) => Some(state.as_str()),
            _ => None,
        })
    };
    let named = |durability| match durability {
        Durability::Process => "process",
        Durability::Power => "power",
    };
    let durability = |name: &str, version: &Version| {
        let component = catalogue.component(name, version)?;
        Some(component.region.durability)
    };
    for (index, origin) in script.iter().enumerate() {
        let Step::CodeChange {
            component,
            from,
            to,
            strategy: Strategy::Incremental,
            via,
            hops,
            ..
        } = &origin.step
        else {
            continue;
        };
        let step = format!("step {}, `{}`", index + 1, origin.step.verb());
        let mut report = |code, message: String, help: &str| {
            let diagnostic = Diagnostic::error(code, message).help(help);
            problems.push(match &origin.place {
                Some((source, span)) => diagnostic.at(source, span.clone(), ""),
                None => diagnostic.in_file(&sides.to.source),
            });
        };
        let mut vias = via
            .iter()
            .chain(hops.iter().filter_map(|hop| hop.via.as_ref()));
        if let Some(other) = vias.find(|other| *other != component) {
            let message = format!(
                "{step}: {component} is to be converted segment by segment, after the upgrade, and its conversions are \
                 those of {other} (`via`), whose library is not kept open for so long"
            );
            let help = format!(
                "write `strategy = \"eager\"`, or give the library of {component} the `code_change`"
            );
            report(codes::VIA_NOT_KEPT, message, &help);
        }
        let ends = (durability(component, from), durability(component, to));
        let why = match (moves(component), ends) {
            (Some(state), _) => {
                format!("its state has a part in `move_state = \"{state}\"`")
            }
            (None, (Some(old), Some(new))) if old != new => format!(
                "its durability changes from `{}` to `{}`",
                named(old),
                named(new)
            ),
            _ => continue,
        };
        let message = format!(
            "{step}: {component} is to be converted segment by segment, in its own file, and {why}, which makes another one"
        );
        let help = "write `strategy = \"eager\"`, or make it two releases";
        report(codes::ANOTHER_FILE, message, help);
    }
}

/// Every state that changed was converted by a `code_change` that covers it, or thrown away.
fn states(
    catalogue: &Catalogue,
    sides: &Sides<'_>,
    script: &[Origin],
    problems: &mut Vec<Diagnostic>,
    at_end: &dyn Fn(&'static str, String) -> Diagnostic,
) {
    let mut settled: HashSet<&str> = HashSet::new();
    for origin in script {
        match &origin.step {
            Step::ResetNode { components, .. } => {
                settled.extend(components.iter().map(String::as_str));
            }
            Step::CodeChange {
                component,
                from,
                to,
                via,
                hops,
                ..
            } => {
                settled.insert(component);
                let mut call = |from: &Version, to: &Version, via: Option<&str>| {
                    let found = proof::comparison(catalogue, sides, component, (from, to), via);
                    let gaps = found.map(|found| found.gaps).unwrap_or_default();
                    if !gaps.is_empty() {
                        let change = Change {
                            component,
                            from,
                            to,
                            span: &(0..0),
                        };
                        problems.push(proof::not_covered(catalogue, &change, &gaps, at_end));
                    }
                };
                if hops.is_empty() {
                    call(from, to, via.as_deref());
                }
                for hop in hops {
                    call(&hop.from, &hop.to, hop.via.as_deref());
                }
            }
            _ => {}
        }
    }
    for change in crate::changes::between(sides) {
        let name = change.component;
        let changed = proof::state_changes(catalogue, name, change.from, change.to) == Some(true);
        if changed && !settled.contains(name) && sides.ran(name) && sides.will_run(name) {
            problems.push(proof::not_asked_for(&change, at_end));
        }
    }
}

/// A fault of the model, told of a step.
impl Fault {
    /// Whether it is about versions that do not fit together.
    pub fn mixes(&self) -> bool {
        matches!(self.code, codes::MIXED_VERSIONS | codes::NOT_TOGETHER)
    }
}
