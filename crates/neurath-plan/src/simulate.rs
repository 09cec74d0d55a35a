//! A script is walked through before anybody runs it: every step can stand where it stands, no versions meet that do not
//! fit, and it ends in the release that it leads to.

use crate::catalogue::Catalogue;
use crate::changes::{self, Change};
use crate::codes;
use crate::instructions::executable;
use crate::proof;
use crate::translate::Origin;
use neurath_manifest::{Diagnostic, Release, Step};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet};

/// Walks the script from one release to the other.
pub(crate) fn simulate(
    catalogue: &Catalogue,
    from: &Release,
    to: &Release,
    script: &[Origin],
    problems: &mut Vec<Diagnostic>,
) {
    let running = from
        .components
        .iter()
        .map(|part| (part.name.as_str(), &part.version))
        .collect();
    let mut walk = Walk {
        catalogue,
        from,
        to,
        changes: changes::between(from, to),
        running,
        suspended: BTreeSet::new(),
        ready: BTreeSet::new(),
        changed_state: BTreeSet::new(),
        past_the_point: false,
        mixed: BTreeSet::new(),
        problems,
    };
    for (index, origin) in script.iter().enumerate() {
        walk.step(index, origin);
    }
    walk.end(script);
}

struct Walk<'a> {
    catalogue: &'a Catalogue,
    from: &'a Release,
    to: &'a Release,
    changes: Vec<Change<'a>>,
    running: BTreeMap<&'a str, &'a Version>,
    suspended: BTreeSet<&'a str>,
    ready: BTreeSet<(&'a str, &'a Version)>,
    changed_state: BTreeSet<&'a str>,
    past_the_point: bool,
    mixed: BTreeSet<(&'a str, &'a str)>,
    problems: &'a mut Vec<Diagnostic>,
}

impl<'a> Walk<'a> {
    fn report(
        &mut self,
        index: usize,
        origin: &Origin,
        code: &'static str,
        message: &str,
        help: &str,
    ) {
        let message = format!("step {}, `{}`: {message}", index + 1, origin.step.verb());
        let mut diagnostic = Diagnostic::error(code, message).help(help);
        diagnostic = match &origin.place {
            Some((source, span)) => diagnostic.at(source, span.clone(), ""),
            None => diagnostic.in_file(&self.to.source),
        };
        self.problems.push(diagnostic);
    }

    fn misplaced(&mut self, index: usize, origin: &Origin, message: &str, help: &str) {
        self.report(index, origin, codes::MISPLACED, message, help);
    }

    fn step(&mut self, index: usize, origin: &'a Origin) {
        let step = &origin.step;
        if !executable(step) {
            self.report(
                index,
                origin,
                codes::UNSUPPORTED,
                "not supported in this version yet",
                "use the steps that `update` and `load` are made of",
            );
            return;
        }
        let unknown: Vec<&str> = step
            .components()
            .into_iter()
            .filter(|name| !self.running.contains_key(name))
            .collect();
        if !unknown.is_empty() {
            let message = format!(
                "{} is not in {} {}",
                unknown.join(", "),
                self.from.name,
                self.from.version
            );
            self.report(
                index,
                origin,
                codes::UNKNOWN_COMPONENT,
                &message,
                "name a component of the release",
            );
            return;
        }
        let before_the_point = matches!(step, Step::LoadObjectCode { .. } | Step::PointOfNoReturn);
        if self.past_the_point == before_the_point {
            let (message, help) = match (step, before_the_point) {
                (Step::PointOfNoReturn, _) => {
                    ("there are two points of no return", "remove one of the two")
                }
                (_, true) => (
                    "it stands after the point of no return",
                    "move it before: there it can fail without a trace",
                ),
                (_, false) => (
                    "it stands before the point of no return",
                    "move it after the point of no return",
                ),
            };
            self.misplaced(index, origin, message, help);
        }
        match step {
            Step::LoadObjectCode {
                component, version, ..
            } => {
                self.wanted(index, origin, component, version);
                self.ready.insert((component, version));
            }
            Step::PointOfNoReturn => self.past_the_point = true,
            Step::Suspend { components, .. } => {
                for name in components {
                    if !self.suspended.insert(name) {
                        self.misplaced(
                            index,
                            origin,
                            &format!("{name} is suspended already"),
                            "suspend it once",
                        );
                    }
                }
            }
            Step::Load { component, version } => {
                if !self.ready.contains(&(component.as_str(), version)) {
                    let message = format!("{component} {version} was not made ready");
                    self.misplaced(
                        index,
                        origin,
                        &message,
                        "add a load_object_code of it before the point of no return",
                    );
                }
                self.needs_suspension(index, origin, component);
                self.wanted(index, origin, component, version);
                self.running.insert(component, version);
            }
            Step::CodeChange {
                component,
                from,
                to,
                ..
            } => self.code_change(index, origin, component, from, to),
            Step::Purge {
                component, version, ..
            } => self.purge(index, origin, component, version),
            Step::Resume { components } => {
                for name in components {
                    if !self.suspended.remove(name.as_str()) {
                        self.misplaced(
                            index,
                            origin,
                            &format!("{name} is not suspended"),
                            "suspend it first, and resume it once",
                        );
                    }
                }
                self.fits(index, origin);
            }
            _ => {}
        }
    }

    fn purge(&mut self, index: usize, origin: &Origin, component: &str, version: &Version) {
        if self.running.get(component) == Some(&version) {
            let message = format!("{component} {version} is what runs");
            let help = "purge the old version, after the new one was loaded";
            self.misplaced(index, origin, &message, help);
        }
    }

    /// The version is the one that the target release has.
    fn wanted(&mut self, index: usize, origin: &Origin, component: &str, version: &Version) {
        let wanted = self.to.component(component).map(|part| &part.version);
        if wanted != Some(version) {
            let message = match wanted {
                Some(wanted) => format!(
                    "{} {} has {component} {wanted}, not {version}",
                    self.to.name, self.to.version
                ),
                None => format!("{} {} has no {component}", self.to.name, self.to.version),
            };
            self.misplaced(
                index,
                origin,
                &message,
                "name the version that the release has",
            );
        }
    }

    fn needs_suspension(&mut self, index: usize, origin: &Origin, component: &str) {
        if !self.suspended.contains(component) {
            let message = format!("{component} is not suspended");
            self.misplaced(
                index,
                origin,
                &message,
                "suspend it before, and resume it after",
            );
        }
    }

    fn code_change(
        &mut self,
        index: usize,
        origin: &'a Origin,
        component: &'a str,
        from: &Version,
        to: &Version,
    ) {
        self.needs_suspension(index, origin, component);
        self.wanted(index, origin, component, to);
        let before = self.from.component(component).map(|part| &part.version);
        if before != Some(from) {
            let message = format!("the state there is not that of {component} {from}");
            self.misplaced(
                index,
                origin,
                &message,
                "name the version that the release it starts from has",
            );
        }
        if !self.changed_state.insert(component) {
            self.misplaced(
                index,
                origin,
                &format!("the state of {component} was changed before"),
                "remove one of the two",
            );
        }
    }

    /// What runs now fits together. A suspended component exchanges no message, and is not looked at.
    fn fits(&mut self, index: usize, origin: &Origin) {
        let mut found = Vec::new();
        for (name, version) in self
            .running
            .iter()
            .filter(|(name, _)| !self.suspended.contains(*name))
        {
            let Some(component) = self.catalogue.component(name, version) else {
                continue;
            };
            for dependency in &component.depends_on {
                let Some((other, other_version)) =
                    self.running.get_key_value(dependency.component.as_str())
                else {
                    continue;
                };
                let fits =
                    self.suspended.contains(other) || dependency.requirement.matches(other_version);
                if !fits && !self.mixed.contains(&(*name, *other)) {
                    let message = format!(
                        "{name} {version} runs beside {other} {other_version}, but needs {}",
                        dependency.requirement
                    );
                    found.push(((*name, *other), message));
                }
            }
        }
        for (pair, message) in found {
            self.mixed.insert(pair);
            self.report(
                index,
                origin,
                codes::MIXED_VERSIONS,
                &message,
                "change both under one suspension: resume them in one step",
            );
        }
    }

    fn end(&mut self, script: &[Origin]) {
        let place = script.last();
        let mut errors = Vec::new();
        if !self.past_the_point {
            let help = "add { point_of_no_return = true } after the load_object_code steps";
            errors.push((
                codes::MISPLACED,
                "the script has no point of no return".to_string(),
                help.to_string(),
            ));
        }
        if !self.suspended.is_empty() {
            let names: Vec<&str> = self.suspended.iter().copied().collect();
            let message = format!("the script leaves {} suspended", names.join(", "));
            errors.push((
                codes::MISPLACED,
                message,
                "resume them at the end".to_string(),
            ));
        }
        for part in &self.to.components {
            let Some(version) = self.running.get(part.name.as_str()) else {
                continue;
            };
            if **version != part.version {
                let message = format!(
                    "the script ends with {} {version}, but {} {} has {}",
                    part.name, self.to.name, self.to.version, part.version
                );
                errors.push((
                    codes::WRONG_END,
                    message,
                    format!("load {} {}", part.name, part.version),
                ));
            }
        }
        let at_end = |code: &'static str, message: String| match place
            .and_then(|origin| origin.place.as_ref())
        {
            Some((source, span)) => {
                Diagnostic::error(code, message).at(source, span.clone(), "the last step")
            }
            None => Diagnostic::error(code, message).in_file(&self.to.source),
        };
        for (code, message, help) in errors {
            self.problems.push(at_end(code, message).help(help));
        }
        for change in &self.changes {
            if proof::state_changes(self.catalogue, change) != Some(true) {
                continue;
            }
            if !self.changed_state.contains(change.component) {
                self.problems.push(proof::not_asked_for(change, at_end));
            } else if !proof::covered(self.catalogue, change) {
                self.problems
                    .push(proof::not_covered(self.catalogue, change, at_end));
            }
        }
    }
}
