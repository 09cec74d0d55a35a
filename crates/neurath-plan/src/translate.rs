//! From members and items to one script around one point of no return. The order is in the crate's documentation.

mod libraries;

use crate::codes;
use crate::instructions::{Action, Call, Item, Member, Place, Scripts, What};
use crate::plan::Direction;
use crate::sides::Sides;
use neurath_manifest::{Diagnostic, Hop, Located, ModType, Source, Span, StartType, Step};
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// A step, and where in an appup it was written, if it was.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) step: Step,
    pub(crate) place: Option<(Source, Span)>,
}

impl Origin {
    /// A step that the planner made.
    pub(crate) fn made(step: Step) -> Self {
        Self { step, place: None }
    }

    fn written(step: &Step, place: Option<Place<'_>>) -> Self {
        Self {
            step: step.clone(),
            place: place.map(|(source, span)| (source.clone(), span.clone())),
        }
    }

    /// The steps of a relup, each with its place.
    pub(crate) fn of_script(source: &Source, script: &[Located<Step>]) -> Vec<Self> {
        let place = |span: &Span| Some((source.clone(), span.clone()));
        script
            .iter()
            .map(|step| Self {
                step: step.value.clone(),
                place: place(&step.span),
            })
            .collect()
    }
}

/// Makes the script. `groups` has the members that change together, each group dependencies first.
/// `new_node` says that the releases want different nodes.
pub(crate) fn translate(
    sides: &Sides<'_>,
    scripts: &Scripts<'_>,
    groups: &[Vec<&str>],
    new_node: bool,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Origin> {
    let mut writer = Writer::new(sides, scripts, groups);
    writer.walk(problems);
    let mut script = Vec::new();
    let up = sides.direction() == Direction::Up;
    let first = up && (new_node || writer.new_node);
    let last = writer.restart || (!up && (new_node || writer.new_node));
    if first {
        script.push(Origin::made(Step::RestartNewNode));
    }
    script.extend(writer.libraries());
    script.extend(writer.before);
    script.push(Origin::made(Step::PointOfNoReturn));
    script.extend(writer.after);
    if last {
        script.push(Origin::made(Step::RestartNode));
    }
    script
}

/// Groups of one run: nothing that an author wrote stands between them.
type Run = Vec<usize>;

struct Writer<'a> {
    sides: &'a Sides<'a>,
    scripts: &'a Scripts<'a>,
    groups: &'a [Vec<&'a str>],
    direction: Direction,
    /// The group of every member.
    group_of: HashMap<&'a str, usize>,
    /// The state steps of every group, and whether each stands before the conversions.
    state: Vec<Vec<(bool, Origin)>>,
    /// The groups that are written, in order.
    done: Vec<usize>,
    written: Vec<bool>,
    run: Run,
    /// The user's `load_object_code` steps.
    loads: Vec<Origin>,
    before: Vec<Origin>,
    after: Vec<Origin>,
    new_node: bool,
    restart: bool,
}

impl<'a> Writer<'a> {
    fn new(sides: &'a Sides<'a>, scripts: &'a Scripts<'a>, groups: &'a [Vec<&'a str>]) -> Self {
        let mut group_of = HashMap::new();
        for (number, group) in groups.iter().enumerate() {
            group_of.extend(group.iter().map(|name| (*name, number)));
        }
        Self {
            sides,
            scripts,
            groups,
            direction: sides.direction(),
            group_of,
            state: vec![Vec::new(); groups.len()],
            done: Vec::new(),
            written: vec![false; groups.len()],
            run: Vec::new(),
            loads: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            new_node: false,
            restart: false,
        }
    }

    fn walk(&mut self, problems: &mut Vec<Diagnostic>) {
        let items = &self.scripts.items;
        let points = self.points(problems);
        self.state_steps();
        // What comes after the first member of the last group comes after all changes.
        let mut seen = vec![false; self.groups.len()];
        let first = |item: &Item<'_>| {
            let group = self.group(item);
            group.is_some_and(|group| !std::mem::replace(&mut seen[group], true))
        };
        let firsts: Vec<bool> = items.iter().map(first).collect();
        let last = firsts
            .iter()
            .rposition(|first| *first)
            .map_or(0, |at| at + 1);
        if last == 0 {
            self.finish();
        }
        for (index, item) in items.iter().enumerate() {
            if let Some(group) = self.group(item) {
                if !self.written[group] {
                    self.written[group] = true;
                    self.run.push(group);
                    self.done.push(group);
                }
            } else if let What::Low(step) = item.what {
                self.low(index, item, step, &points, problems);
            } else if let What::State(step) = item.what {
                // None of its components changes: there is no group to put it into.
                self.flush();
                self.after.push(Origin::written(step, item.place));
            }
            if index + 1 == last {
                self.finish();
            }
        }
    }

    /// The group that an item belongs to.
    fn group(&self, item: &Item<'_>) -> Option<usize> {
        match item.what {
            What::Member(number) => {
                let name = self.scripts.members[number].component;
                self.group_of.get(name).copied()
            }
            What::State(step) => step
                .components()
                .into_iter()
                .find_map(|name| self.group_of.get(name).copied()),
            What::Low(_) => None,
        }
    }

    /// Where the point of no return of every script stands that has one; what must not stand before it is reported.
    fn points(&self, problems: &mut Vec<Diagnostic>) -> HashMap<usize, usize> {
        let mut points: HashMap<usize, usize> = HashMap::new();
        for (index, item) in self.scripts.items.iter().enumerate() {
            if !matches!(item.what, What::Low(Step::PointOfNoReturn)) {
                continue;
            }
            if points.insert(item.script, index).is_some() {
                problems.push(error(
                    item.place,
                    codes::MISPLACED,
                    "there are two points of no return in one script".into(),
                    "the second",
                    "only load_object_code, apply and sync_nodes stand before it, and it stands once",
                ));
            }
        }
        for (index, item) in self.scripts.items.iter().enumerate() {
            let before = points.get(&item.script).is_some_and(|point| index < *point);
            let verb = match item.what {
                What::Low(
                    Step::LoadObjectCode { .. }
                    | Step::Apply { .. }
                    | Step::SyncNodes { .. }
                    | Step::PointOfNoReturn
                    | Step::RestartNewNode
                    | Step::RestartNode,
                ) => continue,
                What::Low(step) | What::State(step) => step.verb(),
                What::Member(number) => match self.scripts.members[number].place {
                    Some(_) => "update",
                    None => continue,
                },
            };
            if before {
                problems.push(error(
                    item.place,
                    codes::MISPLACED,
                    format!("`{verb}` cannot stand before the point of no return"),
                    "stands before it",
                    "only load_object_code, apply and sync_nodes stand before it",
                ));
            }
        }
        points
    }

    /// Gives every state step to its group. One that is written before the members of its script stands before their
    /// conversions, else after them.
    fn state_steps(&mut self) {
        let items = &self.scripts.items;
        let mut seen: HashSet<usize> = HashSet::new();
        for item in items {
            match item.what {
                What::Member(_) => {
                    seen.insert(item.script);
                }
                What::State(step) => {
                    if let Some(group) = self.group(item) {
                        let early =
                            !seen.contains(&item.script) && !matches!(step, Step::ResetNode { .. });
                        self.state[group].push((early, Origin::written(step, item.place)));
                    }
                }
                What::Low(_) => {}
            }
        }
    }

    /// A step that its author wrote stays where it is, except for what must stand before the point of no return.
    fn low(
        &mut self,
        index: usize,
        item: &Item<'a>,
        step: &Step,
        points: &HashMap<usize, usize>,
        problems: &mut Vec<Diagnostic>,
    ) {
        let origin = Origin::written(step, item.place);
        match step {
            Step::LoadObjectCode { .. } => self.loads.push(origin),
            Step::PointOfNoReturn => {}
            Step::RestartNewNode => self.new_node = true,
            Step::RestartNode => self.restart = true,
            _ if self.early(index, item, step, points) => self.before.push(origin),
            Step::SyncNodes { .. } => problems.push(error(
                item.place,
                codes::SYNC_TOO_LATE,
                "`sync_nodes` stands after the point of no return: if another node fails there, this one cannot go back".into(),
                "too late",
                "write it before everything else of the script, or before a { point_of_no_return = true }",
            )),
            _ => {
                self.hoisting(index, item, step, problems);
                self.flush();
                self.after.push(origin);
            }
        }
    }

    /// Whether a step stands before the point of no return: the author's own, or for `sync_nodes` the planner's.
    fn early(
        &self,
        index: usize,
        item: &Item<'_>,
        step: &Step,
        points: &HashMap<usize, usize>,
    ) -> bool {
        match points.get(&item.script) {
            Some(point) => index < *point,
            None if matches!(step, Step::SyncNodes { .. }) => {
                let same = self.scripts.items[..index].iter().rev();
                same.take_while(|other| other.script == item.script)
                    .all(|other| {
                        matches!(
                            other.what,
                            What::Low(Step::LoadObjectCode { .. } | Step::SyncNodes { .. })
                        )
                    })
            }
            None => false,
        }
    }

    /// A group is written whole at its first member. What its author wrote between two of its members of one script
    /// would be passed by the later one: that is refused.
    fn hoisting(&self, index: usize, item: &Item<'_>, step: &Step, problems: &mut Vec<Diagnostic>) {
        let later = self.scripts.items[index + 1..]
            .iter()
            .take_while(|other| other.script == item.script)
            .find(|other| self.group(other).is_some_and(|group| self.written[group]));
        let Some(later) = later else { return };
        let name = match later.what {
            What::Member(number) => self.scripts.members[number].component,
            What::State(step) | What::Low(step) => step.verb(),
        };
        let message = format!(
            "the instruction for {name} would have to be carried across this `{}`",
            step.verb()
        );
        let mut diagnostic = error(
            item.place,
            codes::HOISTED,
            message,
            "written between two instructions that change together",
            "write this step before or after all of them, or write the whole script in low-level steps",
        );
        if let Some((source, span)) = later.place {
            diagnostic =
                diagnostic.related(source, Some(span.clone()), "this belongs with those before");
        }
        problems.push(diagnostic);
    }

    fn member(&self, name: &str) -> &'a Member<'a> {
        let scripts = self.scripts;
        &scripts.members[scripts.by_name[name]]
    }

    /// The members of groups in the order of writing, dependencies first.
    fn dependencies_first(&self, groups: &[usize]) -> Vec<&'a Member<'a>> {
        let mut groups = groups.to_vec();
        if self.direction == Direction::Down {
            groups.reverse();
        }
        let names = groups.into_iter().flat_map(|group| &self.groups[group]);
        names.map(|name| self.member(name)).collect()
    }

    /// Writes the run: all of it stops, then each group changes.
    fn flush(&mut self) {
        let run = std::mem::take(&mut self.run);
        if run.is_empty() {
            return;
        }
        for member in self.dependencies_first(&run).into_iter().rev() {
            self.stand_still(member);
        }
        for group in run {
            self.change(group);
        }
    }

    /// Suspends or stops what runs.
    fn stand_still(&mut self, member: &Member<'_>) {
        let name = member.component;
        if !self.sides.ran(name) {
            return;
        }
        if member.action == Action::Change && self.sides.will_run(name) {
            match self.after.last_mut() {
                Some(Origin {
                    step:
                        Step::Suspend {
                            components,
                            timeout,
                        },
                    place: None,
                }) if *timeout == member.timeout => components.push(name.into()),
                _ => self.push(suspend(name, member.timeout)),
            }
        } else {
            match self.after.last_mut() {
                Some(Origin {
                    step: Step::Stop { components },
                    place: None,
                }) => components.push(name.into()),
                _ => self.push(Step::Stop {
                    components: vec![name.into()],
                }),
            }
        }
    }

    fn push(&mut self, step: Step) {
        self.after.push(Origin::made(step));
    }

    /// The up/down matrix for one group.
    fn change(&mut self, group: usize) {
        let members: Vec<&Member<'_>> = self.groups[group]
            .iter()
            .map(|name| self.member(name))
            .collect();
        let state = std::mem::take(&mut self.state[group]);
        let (early, late): (Vec<_>, Vec<_>) = state.into_iter().partition(|(early, _)| *early);
        self.after.extend(early.into_iter().map(|(_, step)| step));
        match self.direction {
            Direction::Up => {
                for member in &members {
                    self.switch(member);
                }
                for member in members.iter().rev() {
                    self.code_change(member, |_| true);
                }
            }
            Direction::Down => {
                for member in members.iter().rev() {
                    self.code_change(member, |kind| kind == ModType::Dynamic);
                }
                for member in members.iter().rev() {
                    self.switch(member);
                }
                for member in members.iter().rev() {
                    self.code_change(member, |kind| kind == ModType::Static);
                }
            }
        }
        self.after.extend(late.into_iter().map(|(_, step)| step));
    }

    /// `load` or `remove`.
    fn switch(&mut self, member: &Member<'_>) {
        let component = member.component.to_string();
        let step = match (member.action, member.from, member.to) {
            (Action::Remove, Some(version), _) if self.had_code(member) => Step::Remove {
                component,
                version: version.clone(),
            },
            (Action::Remove, ..) => return,
            (_, from, Some(version)) if from != Some(version) && self.has_code(member) => {
                Step::Load {
                    component,
                    version: version.clone(),
                }
            }
            _ => return,
        };
        self.push(step);
    }

    fn code_change(&mut self, member: &Member<'_>, when: impl Fn(ModType) -> bool) {
        let (Some(from), Some(to)) = (member.from, member.to) else {
            return;
        };
        if member.calls.is_empty() || !when(member.mod_type) || !self.converts(member) {
            return;
        }
        let extra = |call: &Call<'_>| (!call.extra.is_empty()).then(|| call.extra.clone());
        let via = |call: &Call<'_>| call.via.map(str::to_string);
        let one = match member.calls.as_slice() {
            [call] if call.from == from && call.to == to => Some(call),
            _ => None,
        };
        let hops = match one {
            Some(_) => Vec::new(),
            None => member
                .calls
                .iter()
                .map(|call| Hop {
                    from: call.from.clone(),
                    to: call.to.clone(),
                    extra: extra(call),
                    via: via(call),
                })
                .collect(),
        };
        self.push(Step::CodeChange {
            component: member.component.into(),
            from: from.clone(),
            to: to.clone(),
            extra: one.and_then(extra),
            strategy: member.strategy,
            via: one.and_then(via),
            hops,
        });
    }

    /// Whether a state is converted: what did not run has none, and what will not run keeps its own.
    fn converts(&self, member: &Member<'_>) -> bool {
        self.sides.ran(member.component) && self.sides.will_run(member.component)
    }

    /// Whether the wanted release has the component's library open.
    fn has_code(&self, member: &Member<'_>) -> bool {
        self.sides.start(member.component) != StartType::None
    }

    /// Whether the release that is left has it open.
    fn had_code(&self, member: &Member<'_>) -> bool {
        let old = self.sides.old(member.component);
        old.is_some_and(|part| part.start != StartType::None)
    }

    /// After the last change: everything serves again, in one commit, and the old code is purged.
    fn finish(&mut self) {
        self.flush();
        let done = std::mem::take(&mut self.done);
        let order = self.dependencies_first(&done);
        for member in &order {
            self.serve(member);
        }
        let purged: Vec<&Member<'_>> = match self.direction {
            Direction::Up => order,
            Direction::Down => order.into_iter().rev().collect(),
        };
        for member in purged {
            if let Some(version) = member.from.filter(|_| self.had_code(member))
                && member.to != Some(version)
            {
                self.push(Step::Purge {
                    component: member.component.into(),
                    version: version.clone(),
                    kind: member.post_purge,
                });
            }
        }
    }

    /// Resumes what was suspended, and starts what was stopped or is new.
    fn serve(&mut self, member: &Member<'_>) {
        let name = member.component;
        if !self.sides.will_run(name) {
            return;
        }
        let name = name.to_string();
        if member.action == Action::Change && self.sides.ran(&name) {
            match self.after.last_mut() {
                Some(Origin {
                    step: Step::Resume { components },
                    place: None,
                }) => components.push(name),
                _ => self.push(Step::Resume {
                    components: vec![name],
                }),
            }
        } else {
            match self.after.last_mut() {
                Some(Origin {
                    step: Step::Start { components },
                    place: None,
                }) => components.push(name),
                _ => self.push(Step::Start {
                    components: vec![name],
                }),
            }
        }
    }
}

fn suspend(name: &str, timeout: Option<Duration>) -> Step {
    Step::Suspend {
        components: vec![name.into()],
        timeout,
    }
}

fn error(
    place: Option<Place<'_>>,
    code: &'static str,
    message: String,
    label: &str,
    help: &str,
) -> Diagnostic {
    let diagnostic = Diagnostic::error(code, message).help(help);
    match place {
        Some((source, span)) => diagnostic.at(source, span.clone(), label),
        None => diagnostic,
    }
}
