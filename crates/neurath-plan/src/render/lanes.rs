//! What each component does while a script runs: one lane a component.

use crate::plan::Plan;
use neurath_manifest::Step;
use semver::Version;
use std::collections::HashMap;

/// Whether a component answers messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Serving {
    /// It does.
    Serves,
    /// They wait.
    Waits,
    /// It is not running: not added yet, stopped, or removed.
    Absent,
}

/// A part of a lane in which nothing changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// The step that began it; `None`: it was so before the script.
    pub(crate) begun: Option<usize>,
    /// The step that ended it; `None`: it is so after the script.
    pub(crate) ended: Option<usize>,
    /// What runs, where the plan says it.
    pub(crate) version: Option<Version>,
    pub(crate) serving: Serving,
}

/// A component with what it does.
#[derive(Debug, Clone)]
pub(crate) struct Lane<'a> {
    pub(crate) component: &'a str,
    pub(crate) segments: Vec<Segment>,
}

/// The lanes of all components that a plan touches: those that change first, then others in the order of the steps.
pub(crate) fn lanes(plan: &Plan) -> Vec<Lane<'_>> {
    let mut all = All::default();
    for route in &plan.routes {
        let at = all.lane(&route.component);
        all.open[at].version = route.versions.first().cloned();
    }
    for step in &plan.steps {
        for name in step.components() {
            let known = all.by_name.contains_key(name);
            let at = all.lane(name);
            // What is first heard of when it starts was not there before.
            let comes = matches!(step, Step::Start { .. } | Step::LoadObjectCode { .. });
            if !known && comes {
                all.open[at].serving = Serving::Absent;
            }
        }
    }
    for (number, step) in plan.steps.iter().enumerate() {
        match step {
            Step::Suspend { components, .. } => all.serve(components, number, Serving::Waits),
            Step::Resume { components } | Step::Start { components } => {
                all.serve(components, number, Serving::Serves);
            }
            Step::Stop { components } => all.serve(components, number, Serving::Absent),
            Step::Load { component, version } => {
                let at = all.lane(component);
                all.change(at, number, |open| open.version = Some(version.clone()));
            }
            Step::Remove { component, .. } => {
                let at = all.lane(component);
                all.change(at, number, |open| {
                    open.version = None;
                    open.serving = Serving::Absent;
                });
            }
            _ => {}
        }
    }
    all.closed()
}

#[derive(Default)]
struct All<'a> {
    by_name: HashMap<&'a str, usize>,
    lanes: Vec<Lane<'a>>,
    open: Vec<Segment>,
}

impl<'a> All<'a> {
    fn lane(&mut self, component: &'a str) -> usize {
        let next = self.lanes.len();
        let at = *self.by_name.entry(component).or_insert(next);
        if at == next {
            self.lanes.push(Lane {
                component,
                segments: Vec::new(),
            });
            self.open.push(Segment {
                begun: None,
                ended: None,
                version: None,
                serving: Serving::Serves,
            });
        }
        at
    }

    fn serve(&mut self, components: &'a [String], number: usize, serving: Serving) {
        for component in components {
            let at = self.lane(component);
            self.change(at, number, |open| open.serving = serving);
        }
    }

    fn change(&mut self, at: usize, number: usize, change: impl FnOnce(&mut Segment)) {
        let mut next = self.open[at].clone();
        change(&mut next);
        let open = &mut self.open[at];
        if (next.serving, &next.version) != (open.serving, &open.version) {
            open.ended = Some(number);
            next.begun = Some(number);
            next.ended = None;
            let before = std::mem::replace(open, next);
            self.lanes[at].segments.push(before);
        }
    }

    fn closed(mut self) -> Vec<Lane<'a>> {
        for (lane, open) in self.lanes.iter_mut().zip(self.open) {
            lane.segments.push(open);
        }
        self.lanes
    }
}
