//! What comes of a plan: what stops, what changes, what lasts, and how far it can be undone.

use super::lanes::{Serving, lanes};
use super::step_text::PAUSE;
use crate::catalogue::Catalogue;
use crate::plan::Plan;
use crate::planner::plan;
use neurath_manifest::{ApplyTarget, Step, Strategy};
use semver::Version;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// A time in which a component does not answer. Steps are counted from one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stop {
    /// The component.
    pub component: String,
    /// The step that begins it.
    pub from_step: usize,
    /// The step that ends it; `None`: it does not come back.
    pub to_step: Option<usize>,
    /// How long messages wait at most, or the upgrade is undone; `None` where the component is not running, and no
    /// message waits.
    pub at_most: Option<Duration>,
}

/// A component whose code changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeChanged {
    /// The component.
    pub component: String,
    /// The versions on the way, the first and the last among them.
    pub versions: Vec<Version>,
    /// Whether its state is converted by `code_change`.
    pub state: bool,
    /// Whether that is done while it serves, in place of while messages wait.
    pub incremental: bool,
    /// The schemas of the state before and after, where they are known.
    pub schemas: Option<(String, String)>,
    /// How many instances it has, where the manifests are known.
    pub instances: Option<u32>,
}

/// Something else that a plan does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A component that was not there is started.
    Added(String),
    /// A component is gone afterwards.
    Removed(String),
    /// A component is stopped and started again.
    Restarted(String),
    /// State goes from regions to others.
    Moved {
        /// Name of the move.
        name: String,
        /// The components that give.
        from: Vec<String>,
        /// The components that take.
        to: Vec<String>,
    },
    /// State is thrown away and made anew.
    Reset {
        /// The step, counted from one.
        step: usize,
        /// Whose.
        components: Vec<String>,
        /// Whether a snapshot of it is kept.
        keep_snapshot: bool,
    },
    /// A component that runs before and after gets another configuration.
    Configured {
        /// Whose.
        component: String,
        /// Its keys, and what becomes of them.
        keys: String,
        /// How long messages wait at most while `config_change` tells a component that runs on, or all is undone;
        /// `None`: it gets it when it is initialised.
        told_within: Option<Duration>,
    },
    /// The release has other settings of its own.
    Settings(Vec<String>),
    /// Something is called that the node cannot look into.
    Called {
        /// The hook of a component, or a command.
        what: String,
        /// Whether it is a command outside of the node.
        outside: bool,
    },
    /// Other nodes are waited for.
    Waited {
        /// The other nodes.
        nodes: Vec<String>,
        /// How long at most.
        deadline: Duration,
    },
    /// The node itself is replaced.
    NodeRestarted {
        /// The step, counted from one.
        step: usize,
        /// Whether the script goes on in the new one.
        goes_on: bool,
    },
}

/// Something that no way back mends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lasting {
    /// The step, counted from one.
    pub step: usize,
    /// What is lost, or cannot be taken back.
    pub what: String,
}

/// Whether there is a way back once the release is current.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WayBack {
    /// Not known: it takes the manifests to say.
    Unknown,
    /// A script leads back, and keeps the writes made since.
    Script,
    /// None does: going back loses the writes made since.
    None,
}

/// What comes of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consequences {
    /// When which component does not answer, in the order of the steps.
    pub stops: Vec<Stop>,
    /// Whose code changes.
    pub changed: Vec<CodeChanged>,
    /// What else is done, in the order of the steps.
    pub effects: Vec<Effect>,
    /// The point of no return, counted from one: until then nothing that runs has been touched.
    pub point_of_no_return: Option<usize>,
    /// The first step after which messages are served by what is new, counted from one: until then everything is undone.
    pub serves_again: Option<usize>,
    /// What no way back mends.
    pub lasting: Vec<Lasting>,
    /// Whether there is a way back after that.
    pub way_back: WayBack,
}

impl Consequences {
    /// What a plan alone says.
    pub fn of(plan: &Plan) -> Self {
        let mut stops = Vec::new();
        let mut effects: BTreeMap<(usize, usize), Effect> = BTreeMap::new();
        for (rank, lane) in lanes(plan).into_iter().enumerate() {
            let component = || lane.component.to_string();
            let absent = |at: usize| {
                lane.segments
                    .get(at)
                    .is_some_and(|one| one.serving == Serving::Absent)
            };
            let last = lane.segments.len() - 1;
            if absent(0) && !absent(last) {
                let step = lane.segments[0].ended.unwrap_or(0);
                effects.insert((step, rank), Effect::Added(component()));
            }
            if absent(last) && last > 0 && !absent(0) {
                let step = lane.segments[last].begun.unwrap_or(0);
                effects.insert((step, rank), Effect::Removed(component()));
            }
            for (from, to, serving) in away(&lane.segments) {
                if serving == Serving::Absent && to.is_some() {
                    effects.insert((from, rank), Effect::Restarted(component()));
                }
                stops.push(Stop {
                    component: component(),
                    from_step: from + 1,
                    to_step: to.map(|to| to + 1),
                    at_most: (serving == Serving::Waits).then(|| timeout(&plan.steps[from])),
                });
            }
        }
        stops.sort_by_key(|stop| stop.from_step);
        for (number, step) in plan.steps.iter().enumerate() {
            if let Some(effect) = effect(number + 1, step) {
                effects.insert((number, usize::MAX), effect);
            }
        }
        let serves = |step: &Step| matches!(step, Step::Resume { .. } | Step::Start { .. });
        let point = |step: &Step| matches!(step, Step::PointOfNoReturn);
        let place = |is: &dyn Fn(&Step) -> bool| plan.steps.iter().position(is).map(|at| at + 1);
        Self {
            stops,
            changed: changed(plan),
            effects: effects.into_values().chain(configured(plan)).collect(),
            point_of_no_return: place(&point),
            serves_again: place(&serves),
            lasting: lasting(&plan.steps),
            way_back: WayBack::Unknown,
        }
    }

    /// The same, with what the manifests tell besides: the instances, and whether a script leads back.
    #[must_use]
    pub fn with(mut self, planned: &Plan, catalogue: &Catalogue) -> Self {
        for one in &mut self.changed {
            let last = one.versions.last();
            let manifest = last.and_then(|version| catalogue.component(&one.component, version));
            one.instances = manifest.map(|manifest| manifest.instances);
        }
        let (from, to) = (
            (planned.name.as_str(), &planned.from),
            (planned.name.as_str(), &planned.to),
        );
        self.way_back = match plan(catalogue, to, from) {
            Ok(_) => WayBack::Script,
            Err(_) => WayBack::None,
        };
        self
    }

    /// As JSON: durations in milliseconds, steps counted from one.
    pub fn to_json(&self) -> Value {
        let stops = self.stops.iter().map(|stop| {
            json!({
                "component": stop.component,
                "from_step": stop.from_step,
                "to_step": stop.to_step,
                "at_most_ms": stop.at_most.map(millis),
            })
        });
        let changed = self.changed.iter().map(|one| {
            json!({
                "component": one.component,
                "versions": one.versions.iter().map(Version::to_string).collect::<Vec<_>>(),
                "state": one.state,
                "incremental": one.incremental,
                "schemas": one.schemas.as_ref().map(|(old, new)| json!([old, new])),
                "instances": one.instances,
            })
        });
        let lasting = self
            .lasting
            .iter()
            .map(|one| json!({ "step": one.step, "what": one.what }));
        json!({
            "stops": stops.collect::<Vec<_>>(),
            "changed": changed.collect::<Vec<_>>(),
            "effects": self.effects.iter().map(Effect::to_json).collect::<Vec<_>>(),
            "point_of_no_return": self.point_of_no_return,
            "serves_again": self.serves_again,
            "lasting": lasting.collect::<Vec<_>>(),
            "way_back": match self.way_back {
                WayBack::Unknown => "unknown",
                WayBack::Script => "script",
                WayBack::None => "none",
            },
        })
    }
}

impl Effect {
    fn to_json(&self) -> Value {
        match self {
            Self::Added(component) => json!({ "added": component }),
            Self::Removed(component) => json!({ "removed": component }),
            Self::Restarted(component) => json!({ "restarted": component }),
            Self::Moved { name, from, to } => json!({ "moved": name, "from": from, "to": to }),
            Self::Reset {
                step,
                components,
                keep_snapshot,
            } => json!({ "reset": components, "snapshot": keep_snapshot, "step": step }),
            Self::Configured {
                component,
                keys,
                told_within,
            } => {
                let within = told_within.map(millis);
                json!({ "configured": component, "keys": keys, "config_change_at_most_ms": within })
            }
            Self::Settings(keys) => json!({ "settings": keys }),
            Self::Called { what, outside } => json!({ "called": what, "outside": outside }),
            Self::Waited { nodes, deadline } => {
                json!({ "waited": nodes, "deadline_ms": millis(*deadline) })
            }
            Self::NodeRestarted { step, goes_on } => {
                json!({ "node_restarted": true, "goes_on": goes_on, "step": step })
            }
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// What a release changes without a step of its own.
fn configured(plan: &Plan) -> Vec<Effect> {
    let limits = plan.steps.iter().filter_map(|step| match step {
        Step::Suspend { .. } => Some(timeout(step)),
        _ => None,
    });
    let pause = limits.max().unwrap_or(PAUSE);
    let told: Vec<&str> = plan.told().map(|one| one.component.as_str()).collect();
    let mut found: Vec<Effect> = plan
        .configurations
        .iter()
        .map(|one| Effect::Configured {
            component: one.component.clone(),
            keys: one.keys(),
            told_within: told.contains(&one.component.as_str()).then_some(pause),
        })
        .collect();
    if !plan.settings.is_empty() {
        found.push(Effect::Settings(plan.settings.clone()));
    }
    found
}

/// The stretches of a lane in which a component that was there does not answer, with the step that begins and the one
/// that ends each. Where messages waited first, it counts as waiting.
fn away(segments: &[super::lanes::Segment]) -> Vec<(usize, Option<usize>, Serving)> {
    let mut found: Vec<(usize, Option<usize>, Serving)> = Vec::new();
    for segment in segments {
        let Some(begun) = segment.begun else { continue };
        if segment.serving == Serving::Serves {
            continue;
        }
        match found.last_mut() {
            Some((_, ended, _)) if *ended == Some(begun) => *ended = segment.ended,
            _ => found.push((begun, segment.ended, segment.serving)),
        }
    }
    found
}

fn timeout(step: &Step) -> Duration {
    match step {
        Step::Suspend {
            timeout: Some(timeout),
            ..
        } => *timeout,
        _ => PAUSE,
    }
}

fn changed(plan: &Plan) -> Vec<CodeChanged> {
    let schema = |component: &str, version: &Version| {
        let name = format!("schema of {component} {version}");
        let at = plan
            .inputs
            .binary_search_by(|(file, _)| file.as_str().cmp(&name));
        Some(plan.inputs[at.ok()?].1.clone())
    };
    let mut by_component = BTreeMap::new();
    for step in &plan.steps {
        if let Step::CodeChange {
            component,
            strategy,
            ..
        } = step
        {
            by_component.insert(component.as_str(), *strategy);
        }
    }
    let of = |route: &crate::plan::Route| {
        let strategy = by_component.get(route.component.as_str());
        let (first, last) = (route.versions.first(), route.versions.last());
        CodeChanged {
            component: route.component.clone(),
            versions: route.versions.clone(),
            state: strategy.is_some(),
            incremental: strategy == Some(&Strategy::Incremental),
            schemas: first
                .and_then(|first| schema(&route.component, first))
                .zip(last.and_then(|last| schema(&route.component, last))),
            instances: None,
        }
    };
    plan.routes.iter().map(of).collect()
}

fn effect(number: usize, step: &Step) -> Option<Effect> {
    Some(match step {
        Step::MoveState { name, from, to, .. } => Effect::Moved {
            name: name.clone(),
            from: from.clone(),
            to: to.clone(),
        },
        Step::SyncNodes {
            nodes, deadline, ..
        } => Effect::Waited {
            nodes: nodes.clone(),
            deadline: *deadline,
        },
        Step::Apply {
            target: ApplyTarget::Hook {
                component, hook, ..
            },
            ..
        } => Effect::Called {
            what: format!("{component} {hook}"),
            outside: false,
        },
        Step::Apply {
            target: ApplyTarget::Command(words),
            ..
        } => Effect::Called {
            what: words.join(" "),
            outside: true,
        },
        Step::ResetNode {
            components,
            keep_snapshot,
        } => Effect::Reset {
            step: number,
            components: components.clone(),
            keep_snapshot: *keep_snapshot,
        },
        Step::RestartNewNode | Step::RestartNode => Effect::NodeRestarted {
            step: number,
            goes_on: matches!(step, Step::RestartNewNode),
        },
        _ => return None,
    })
}

fn lasting(steps: &[Step]) -> Vec<Lasting> {
    let mut found = Vec::new();
    for (number, step) in steps.iter().enumerate() {
        let what = match step {
            Step::ResetNode {
                components,
                keep_snapshot,
            } => {
                let names = components.join(", ");
                match keep_snapshot {
                    true => format!(
                        "the state of {names}, once the release is confirmed: it is thrown away, and only a snapshot \
                         of it is kept"
                    ),
                    false => format!(
                        "the state of {names}, once the release is confirmed: it is thrown away, and no snapshot of it \
                         is kept"
                    ),
                }
            }
            Step::Apply {
                target: ApplyTarget::Command(words),
                ..
            } => {
                format!(
                    "what the command `{}` does outside of the node",
                    words.join(" ")
                )
            }
            _ => continue,
        };
        found.push(Lasting {
            step: number + 1,
            what,
        });
    }
    found
}
