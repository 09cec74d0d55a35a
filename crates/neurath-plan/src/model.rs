//! A model of a node while a script runs: which code each component has, what it does, whose state it holds.
//!
//! [`Model::step`] carries one step out and says what is wrong with it; [`Model::end`] says what is wrong with where the
//! script has led. The planner proves its plans by it, `relup check` those that were written by hand, and a run that was
//! recorded can be replayed on it. The model knows one commit: the first `resume` or `start` after the point of no return
//! makes the new release the current one, so everything must have changed by then.

mod commit;
mod moves;
mod state;

use crate::catalogue::Catalogue;
use crate::codes;
use crate::sides::Sides;
use neurath_manifest::{ApplyTarget, Release, ReleaseComponent, StartType, Step};
use semver::Version;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What a component's instances do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Activity {
    /// They serve.
    Running,
    /// They are there, and get no message.
    Suspended,
    /// There are none: they were stopped, or never started.
    Stopped,
}

/// One component of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The version of the code that its messages reach; `None` if no code is in use.
    pub code: Option<Version>,
    /// The version whose state its regions hold; `None` if there are none.
    pub state: Option<Version>,
    /// What its instances do.
    pub activity: Activity,
}

/// Something that is wrong with a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// The next thing to do.
    pub help: String,
}

/// A node on its way from one release to another.
#[derive(Debug)]
pub struct Model<'a> {
    catalogue: &'a Catalogue,
    sides: Sides<'a>,
    parts: BTreeMap<&'a str, Part>,
    /// Who depends on a component, in either release.
    dependants: HashMap<&'a str, Vec<&'a str>>,
    ready: BTreeSet<(String, Version)>,
    /// What of that no release has, and no conversion has used yet.
    spare: BTreeSet<(String, Version)>,
    steps: usize,
    past_the_point: bool,
    committed: bool,
    restarted: bool,
    mixed: BTreeSet<(&'a str, &'a str)>,
}

impl<'a> Model<'a> {
    /// A node that runs the release `from`, and is to run the release `to`.
    pub fn new(catalogue: &'a Catalogue, from: &'a Release, to: &'a Release) -> Self {
        // Of one that is not started at all, nothing is there.
        let there = |part: &&ReleaseComponent| part.start != StartType::None;
        let parts = from.components.iter().filter(there).map(|part| {
            let runs = part.start.runs();
            let state = Part {
                code: Some(part.version.clone()),
                state: runs.then(|| part.version.clone()),
                activity: if runs {
                    Activity::Running
                } else {
                    Activity::Stopped
                },
            };
            (part.name.as_str(), state)
        });
        let mut dependants: HashMap<&'a str, Vec<&'a str>> = HashMap::new();
        for part in from.components.iter().chain(&to.components) {
            if let Some(component) = catalogue.component(&part.name, &part.version) {
                for dependency in &component.depends_on {
                    let known = dependants.entry(&dependency.component).or_default();
                    if known.last() != Some(&part.name.as_str()) {
                        known.push(&part.name);
                    }
                }
            }
        }
        Self {
            catalogue,
            parts: parts.collect(),
            sides: Sides::new(from, to),
            dependants,
            ready: BTreeSet::new(),
            spare: BTreeSet::new(),
            steps: 0,
            past_the_point: false,
            committed: false,
            restarted: false,
            mixed: BTreeSet::new(),
        }
    }

    /// The components, as they are now.
    pub fn parts(&self) -> &BTreeMap<&'a str, Part> {
        &self.parts
    }

    /// Whether the new release is the current one.
    pub fn committed(&self) -> bool {
        self.committed
    }

    /// Carries a step out, as far as it can be, and says what is wrong with it.
    pub fn step(&mut self, step: &Step) -> Vec<Fault> {
        let mut faults = Vec::new();
        self.steps += 1;
        if self.restarted {
            faults.push(fault(
                codes::MISPLACED,
                "it stands after `restart_node`, and would never run".into(),
                "move `restart_node` to the end",
            ));
        }
        let unknown: Vec<&str> = step
            .components()
            .into_iter()
            .filter(|name| self.sides.old(name).is_none() && self.sides.new_one(name).is_none())
            .collect();
        if !unknown.is_empty() {
            let (name, version) = (&self.sides.from.name, &self.sides.from.version);
            faults.push(fault(
                codes::UNKNOWN_COMPONENT,
                format!("{} is not in {name} {version}", unknown.join(", ")),
                "name a component of the release",
            ));
            return faults;
        }
        self.place(step, &mut faults);
        self.act(step, &mut faults);
        faults
    }

    /// On which side of the point of no return a step stands.
    fn place(&self, step: &Step, faults: &mut Vec<Fault>) {
        let (message, help) = match step {
            Step::PointOfNoReturn if self.past_the_point => {
                ("there are two points of no return", "remove one of the two")
            }
            Step::LoadObjectCode { .. } if self.past_the_point => (
                "it stands after the point of no return",
                "move it before: there it can fail without a trace",
            ),
            Step::SyncNodes { .. } if self.past_the_point => {
                faults.push(fault(
                    codes::SYNC_TOO_LATE,
                    "it stands after the point of no return: if another node fails there, this one cannot go back".into(),
                    "move it before the point of no return",
                ));
                return;
            }
            Step::RestartNewNode if self.steps > 1 => (
                "it is not the first step",
                "move it to the beginning: the new node runs the whole script",
            ),
            Step::PointOfNoReturn
            | Step::LoadObjectCode { .. }
            | Step::SyncNodes { .. }
            | Step::Apply { .. }
            | Step::RestartNewNode => return,
            _ if !self.past_the_point => (
                "it stands before the point of no return",
                "move it after the point of no return",
            ),
            _ => return,
        };
        faults.push(fault(codes::MISPLACED, message.into(), help));
    }

    fn act(&mut self, step: &Step, faults: &mut Vec<Fault>) {
        match step {
            Step::LoadObjectCode {
                component, version, ..
            } => self.load_object_code(component, version, faults),
            Step::PointOfNoReturn => self.past_the_point = true,
            Step::Suspend { components, .. } => {
                for name in components {
                    self.halt(name, Activity::Suspended, faults);
                }
            }
            Step::Stop { components } => {
                for name in components {
                    self.halt(name, Activity::Stopped, faults);
                }
            }
            Step::Load { component, version } => self.load(component, version, faults),
            Step::Remove { component, version } => self.remove(component, version, faults),
            Step::CodeChange {
                component,
                from,
                to,
                hops,
                via,
                ..
            } => {
                let ends: Vec<(&Version, &Version, Option<&String>)> = if hops.is_empty() {
                    vec![(from, to, via.as_ref())]
                } else {
                    hops.iter()
                        .map(|hop| (&hop.from, &hop.to, hop.via.as_ref()))
                        .collect()
                };
                self.code_change(component, (from, to), &ends, faults);
            }
            Step::Purge {
                component, version, ..
            } => self.purge(component, version, faults),
            Step::Resume { components } => {
                self.serve(components, Activity::Suspended, faults);
            }
            Step::Start { components } => self.serve(components, Activity::Stopped, faults),
            Step::MoveState { name, from, to, .. } => self.move_state(name, from, to, faults),
            Step::ResetNode { components, .. } => self.reset(components, faults),
            Step::Apply { target, undo } => {
                let hooks = [Some(target), undo.as_ref()].into_iter().flatten();
                for component in hooks.filter_map(ApplyTarget::component) {
                    if self.code(component).is_none() {
                        faults.push(fault(
                            codes::MISPLACED,
                            format!("{component} has no code whose hook could be called"),
                            "call it while the component is there",
                        ));
                    }
                }
            }
            Step::RestartNode => self.restarted = true,
            Step::SyncNodes { .. } | Step::RestartNewNode => {}
        }
    }

    fn part(&mut self, name: &str) -> Option<&mut Part> {
        self.parts.get_mut(name)
    }

    fn code(&self, name: &str) -> Option<&Version> {
        self.parts.get(name)?.code.as_ref()
    }

    fn activity(&self, name: &str) -> Activity {
        self.parts
            .get(name)
            .map_or(Activity::Stopped, |part| part.activity)
    }

    fn load_object_code(&mut self, name: &str, version: &Version, faults: &mut Vec<Fault>) {
        let key = (name.to_string(), version.clone());
        // Beside the wanted version, a script may need the libraries of versions between, for their conversions.
        let wanted = self.sides.new_one(name).map(|part| &part.version);
        if wanted != Some(version) {
            if self.catalogue.component(name, version).is_some() {
                self.spare.insert(key.clone());
            } else {
                self.wanted(name, version, faults);
            }
        }
        self.ready.insert(key);
    }

    /// The version is the one that the target release has.
    fn wanted(&self, name: &str, version: &Version, faults: &mut Vec<Fault>) {
        let wanted = self.sides.new_one(name).map(|part| &part.version);
        if wanted != Some(version) {
            let to = self.sides.to;
            let message = match wanted {
                Some(wanted) => format!(
                    "{} {} has {name} {wanted}, not {version}",
                    to.name, to.version
                ),
                None => format!("{} {} has no {name}", to.name, to.version),
            };
            faults.push(fault(
                codes::MISPLACED,
                message,
                "name the version that the release has",
            ));
        }
    }

    /// Suspends or stops what runs.
    fn halt(&mut self, name: &str, into: Activity, faults: &mut Vec<Fault>) {
        let committed = self.committed;
        let runs = self.sides.ran(name) || self.sides.will_run(name);
        let word = if into == Activity::Suspended {
            "suspended"
        } else {
            "stopped"
        };
        match self.part(name) {
            Some(part) if part.activity == Activity::Running => {
                part.activity = into;
                if committed {
                    faults.push(fault(
                        codes::NOT_TOGETHER,
                        format!("{name} is {word} after others serve again"),
                        "suspend and stop everything before the first resume or start",
                    ));
                }
            }
            Some(part) if runs => {
                let now = if part.activity == Activity::Suspended {
                    "suspended"
                } else {
                    "stopped"
                };
                faults.push(fault(
                    codes::MISPLACED,
                    format!("{name} is {now} already"),
                    if now == "suspended" {
                        "suspend it once"
                    } else {
                        "stop it once"
                    },
                ));
            }
            _ => faults.push(fault(
                codes::MISPLACED,
                format!("{name} does not run"),
                "leave it out",
            )),
        }
    }

    fn stands_still(&self, name: &str, faults: &mut Vec<Fault>) {
        if self.activity(name) == Activity::Running {
            faults.push(fault(
                codes::MISPLACED,
                format!("{name} is not suspended"),
                "suspend it before, and resume it after",
            ));
        }
    }

    fn load(&mut self, name: &str, version: &Version, faults: &mut Vec<Fault>) {
        if !self.ready.contains(&(name.to_string(), version.clone())) {
            faults.push(fault(
                codes::MISPLACED,
                format!("{name} {version} was not made ready"),
                "add a load_object_code of it before the point of no return",
            ));
        }
        self.stands_still(name, faults);
        self.not_committed(name, faults);
        self.wanted(name, version, faults);
        let (key, is_new) = match self.sides.new_one(name).or(self.sides.old(name)) {
            Some(part) => (part.name.as_str(), self.sides.old(name).is_none()),
            None => return,
        };
        let part = self.parts.entry(key).or_insert(Part {
            code: None,
            state: None,
            activity: Activity::Stopped,
        });
        part.code = Some(version.clone());
        if is_new {
            part.state = None;
        }
    }

    fn not_committed(&self, name: &str, faults: &mut Vec<Fault>) {
        if self.committed {
            faults.push(fault(
                codes::NOT_TOGETHER,
                format!("{name} changes after others serve again"),
                "change everything before the first resume or start",
            ));
        }
    }

    fn remove(&mut self, name: &str, version: &Version, faults: &mut Vec<Fault>) {
        self.not_committed(name, faults);
        if self.code(name) != Some(version) {
            faults.push(fault(
                codes::MISPLACED,
                format!("{name} {version} is not what is there"),
                "name the version that runs",
            ));
        }
        if self.sides.new_one(name).is_some() {
            let to = self.sides.to;
            faults.push(fault(
                codes::MISPLACED,
                format!("{} {} has {name}", to.name, to.version),
                "leave it out",
            ));
        }
        if self.activity(name) != Activity::Stopped {
            faults.push(fault(
                codes::MISPLACED,
                format!("{name} is not stopped"),
                "stop it first",
            ));
        }
        self.parts.remove(name);
    }

    fn purge(&mut self, name: &str, version: &Version, faults: &mut Vec<Fault>) {
        if self.code(name) != Some(version) {
            return;
        }
        let wanted = self.sides.new_one(name);
        let unused = wanted.is_some_and(|part| part.start == StartType::None);
        match self.activity(name) {
            // Nothing of it is used in the release that is wanted.
            Activity::Stopped if unused => {
                self.parts.remove(name);
            }
            _ => faults.push(fault(
                codes::MISPLACED,
                format!("{name} {version} is what runs"),
                "purge the old version, after the new one was loaded",
            )),
        }
    }
}

fn fault(code: &'static str, message: String, help: &str) -> Fault {
    Fault {
        code,
        message,
        help: help.to_string(),
    }
}
