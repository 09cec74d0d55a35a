//! From the appups of all changes to one list of items: what changes each component, and what its author wrote besides.

use crate::catalogue::Catalogue;
use crate::changes::{self, Change};
use crate::codes;
use crate::routes::{self, Leg};
use crate::sides::Sides;
use neurath_manifest::{
    self as manifest, Diagnostic, Instruction, ModType, PurgeKind, ReleaseComponent, Source, Span,
    StartType, Step, Strategy,
};
use semver::Version;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// Where something is written.
pub(crate) type Place<'a> = (&'a Source, &'a Span);

/// What happens to a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// It changes while it is suspended.
    Change,
    /// It comes.
    Add,
    /// It goes.
    Remove,
    /// It is stopped and started again, in another version or in the same.
    Restart,
}

/// One call of `code_change`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Call<'a> {
    pub(crate) from: &'a Version,
    pub(crate) to: &'a Version,
    pub(crate) extra: &'a toml::Table,
    pub(crate) via: Option<&'a str>,
}

impl<'a> Call<'a> {
    /// The newer of the two versions: its library has the function, unless another one has it.
    pub(crate) fn newer(&self) -> &'a Version {
        self.from.max(self.to)
    }
}

/// One component in the plan.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub(crate) component: &'a str,
    pub(crate) action: Action,
    pub(crate) from: Option<&'a Version>,
    pub(crate) to: Option<&'a Version>,
    /// The calls of `code_change`, in order.
    pub(crate) calls: Vec<Call<'a>>,
    pub(crate) strategy: Strategy,
    pub(crate) mod_type: ModType,
    pub(crate) timeout: Option<Duration>,
    pub(crate) depends_on: Vec<&'a str>,
    pub(crate) pre_purge: Option<PurgeKind>,
    pub(crate) post_purge: PurgeKind,
    /// Where the instruction is written; `None` if the releases alone ask for it.
    pub(crate) place: Option<Place<'a>>,
}

impl<'a> Member<'a> {
    pub(crate) fn new(component: &'a str, action: Action) -> Self {
        Self {
            component,
            action,
            from: None,
            to: None,
            calls: Vec::new(),
            strategy: Strategy::Eager,
            mod_type: ModType::Dynamic,
            timeout: None,
            depends_on: Vec::new(),
            pre_purge: None,
            post_purge: PurgeKind::Soft,
            place: None,
        }
    }

    /// Whether the version changes.
    pub(crate) fn moves(&self) -> bool {
        self.from.is_some() && self.to.is_some() && self.from != self.to
    }

    pub(crate) fn error(&self, code: &'static str, message: String, label: &str) -> Diagnostic {
        let diagnostic = Diagnostic::error(code, message);
        match self.place {
            Some((source, span)) => diagnostic.at(source, span.clone(), label),
            None => diagnostic,
        }
    }
}

/// One item of the merged scripts.
#[derive(Debug, Clone)]
pub(crate) struct Item<'a> {
    /// Which script it comes from.
    pub(crate) script: usize,
    pub(crate) what: What<'a>,
    pub(crate) place: Option<Place<'a>>,
}

/// What an item is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum What<'a> {
    /// A member, by its number.
    Member(usize),
    /// A step that works on the state of components while they stand still: it goes into their group.
    State(&'a Step),
    /// A low-level step, which stays where it is.
    Low(&'a Step),
}

/// All members, and the merged scripts.
#[derive(Debug, Default)]
pub(crate) struct Scripts<'a> {
    pub(crate) members: Vec<Member<'a>>,
    /// The members' numbers by component.
    pub(crate) by_name: HashMap<&'a str, usize>,
    /// The items of every script; scripts in the order in which they were added.
    pub(crate) items: Vec<Item<'a>>,
    scripts: usize,
}

impl<'a> Scripts<'a> {
    pub(crate) fn member(&self, component: &str) -> Option<&Member<'a>> {
        self.by_name
            .get(component)
            .map(|number| &self.members[*number])
    }

    /// Adds a member to the present script, or says that there is one for the component already.
    fn push(&mut self, member: Member<'a>, problems: &mut Vec<Diagnostic>) {
        if let Some(earlier) = self.member(member.component) {
            let message = format!("there are two instructions for {}", member.component);
            let mut diagnostic = member.error(codes::SEVERAL_INSTRUCTIONS, message, "the second");
            if let Some((source, span)) = earlier.place {
                diagnostic = diagnostic.related(source, Some(span.clone()), "the first");
            }
            problems.push(diagnostic.help("remove one of the two"));
            return;
        }
        self.by_name.insert(member.component, self.members.len());
        self.items.push(Item {
            script: self.scripts,
            what: What::Member(self.members.len()),
            place: member.place,
        });
        self.members.push(member);
    }
}

/// A changed component with its way.
pub(crate) type Way<'a> = (Change<'a>, Vec<Leg<'a>>);

/// The ways of all changes; those that have none are left out, and named.
pub(crate) fn ways<'a>(
    catalogue: &'a Catalogue,
    sides: &Sides<'a>,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Way<'a>> {
    let changes = changes::between(sides).into_iter();
    changes
        .filter_map(|change| {
            Some((
                change,
                routes::find(catalogue, &change, sides.to, problems)?,
            ))
        })
        .collect()
}

/// Makes the members and the items. `rank` is the order of scripts: where each component stands.
pub(crate) fn collect<'a>(
    sides: &Sides<'a>,
    ways: &[Way<'a>],
    rank: &HashMap<&'a str, usize>,
    problems: &mut Vec<Diagnostic>,
) -> Scripts<'a> {
    enum Script<'a, 'b> {
        Way(&'b Way<'a>),
        Add(&'a ReleaseComponent),
        Remove(&'a ReleaseComponent),
    }
    let mut order: Vec<(Option<&usize>, Script<'_, '_>)> = Vec::new();
    for way in ways {
        order.push((rank.get(way.0.component), Script::Way(way)));
    }
    for part in changes::added(sides) {
        order.push((rank.get(part.name.as_str()), Script::Add(part)));
    }
    for part in changes::removed(sides) {
        order.push((rank.get(part.name.as_str()), Script::Remove(part)));
    }
    order.sort_by_key(|(rank, _)| *rank);
    let written: HashSet<&str> = ways.iter().flat_map(named_by_instructions).collect();
    let mut scripts = Scripts::default();
    for (_, script) in order {
        match script {
            Script::Way((change, legs)) => match legs.as_slice() {
                [leg] => single(sides, leg, &mut scripts, problems),
                legs => composed(change, legs, &mut scripts, problems),
            },
            Script::Add(part) if !written.contains(part.name.as_str()) => {
                scripts.push(adding(part, None), problems);
            }
            Script::Remove(part) if !written.contains(part.name.as_str()) => {
                scripts.push(removing(part, None), problems);
            }
            Script::Add(_) | Script::Remove(_) => {}
        }
        scripts.scripts += 1;
    }
    complete(ways, &mut scripts, problems);
    scripts
}

/// The components that the scripts add or remove in so many words.
fn named_by_instructions<'a>((_, legs): &Way<'a>) -> Vec<&'a str> {
    let instructions = legs.iter().flat_map(|leg| &leg.entry.instructions);
    let named = instructions.filter_map(|one| match &one.value {
        Instruction::AddComponent { component, .. }
        | Instruction::RemoveComponent { component } => Some(component.as_str()),
        _ => None,
    });
    named.collect()
}

fn adding<'a>(part: &'a ReleaseComponent, place: Option<Place<'a>>) -> Member<'a> {
    Member {
        to: Some(&part.version),
        place,
        ..Member::new(&part.name, Action::Add)
    }
}

fn removing<'a>(part: &'a ReleaseComponent, place: Option<Place<'a>>) -> Member<'a> {
    Member {
        from: Some(&part.version),
        place,
        ..Member::new(&part.name, Action::Remove)
    }
}

/// The items of one appup entry.
fn single<'a>(
    sides: &Sides<'a>,
    leg: &Leg<'a>,
    scripts: &mut Scripts<'a>,
    problems: &mut Vec<Diagnostic>,
) {
    for one in &leg.entry.instructions {
        let place = (leg.source, &one.span);
        if let Instruction::Low(step) = &one.value {
            for name in step.components() {
                known(sides, &one.value, place, name, problems);
            }
            let what = match step {
                Step::MoveState { .. } | Step::ResetNode { .. } => What::State(step),
                _ => What::Low(step),
            };
            scripts.items.push(Item {
                script: scripts.scripts,
                what,
                place: Some(place),
            });
        } else if let Some(member) = member(sides, &one.value, place, problems) {
            scripts.push(member, problems);
        }
    }
}

/// A high-level instruction as a member, checked against the releases.
fn member<'a>(
    sides: &Sides<'a>,
    instruction: &'a Instruction,
    place: Place<'a>,
    problems: &mut Vec<Diagnostic>,
) -> Option<Member<'a>> {
    let (component, action, start) = match instruction {
        Instruction::Update(update) => (&update.component, Action::Change, None),
        Instruction::Load(load) => (&load.component, Action::Change, None),
        Instruction::AddComponent { component, start } => (component, Action::Add, *start),
        Instruction::RemoveComponent { component } => (component, Action::Remove, None),
        Instruction::RestartComponent { component, start } => (component, Action::Restart, *start),
        Instruction::Low(_) => return None,
    };
    let mut member = Member {
        place: Some(place),
        ..Member::new(component, action)
    };
    if !known(sides, instruction, place, component, problems) {
        return None;
    }
    let (old, new) = (sides.old(component), sides.new_one(component));
    member.from = old.map(|part| &part.version);
    member.to = new.map(|part| &part.version);
    let (fits, what) = match action {
        Action::Change => (member.moves(), "which does not change"),
        Action::Add => (old.is_none(), "which is there already"),
        Action::Remove => (new.is_none(), "which the release has"),
        Action::Restart => (old.is_some() && new.is_some(), "which is not in both"),
    };
    if !fits {
        let message = format!("`{}` of {component}, {what}", instruction.verb());
        problems.push(
            member
                .error(codes::UNCHANGED, message, "not changed so by this release")
                .help("remove the instruction"),
        );
        return None;
    }
    start_type(instruction, &member, start, new, problems);
    options(&mut member, instruction);
    for name in &member.depends_on {
        known(sides, instruction, place, name, problems);
    }
    Some(member)
}

/// The start type of an instruction is that of the release, or a restart of the node would undo it.
fn start_type(
    instruction: &Instruction,
    member: &Member<'_>,
    start: Option<StartType>,
    part: Option<&ReleaseComponent>,
    problems: &mut Vec<Diagnostic>,
) {
    if let (Some(start), Some(part)) = (start, part)
        && start != part.start
    {
        let message = format!(
            "`{}` starts {} as {}, and the release as {}",
            instruction.verb(),
            member.component,
            start.as_str(),
            part.start.as_str()
        );
        problems.push(
            member
                .error(codes::START_TYPE, message, "another type")
                .help("leave `type` out: what the release says holds after a restart, too"),
        );
    }
}

/// Takes over the options of `update` and `load`.
fn options<'a>(member: &mut Member<'a>, instruction: &'a Instruction) {
    let depends_on = match instruction {
        Instruction::Update(update) => {
            if let (manifest::Change::Advanced(extra), Some(from), Some(to)) =
                (&update.change, member.from, member.to)
            {
                member.calls.push(Call {
                    from,
                    to,
                    extra,
                    via: update.via.as_deref(),
                });
            }
            member.strategy = update.strategy;
            member.mod_type = update.mod_type;
            member.timeout = update.timeout;
            member.pre_purge = update.pre_purge;
            member.post_purge = update.post_purge;
            &update.depends_on
        }
        Instruction::Load(load) => {
            member.timeout = load.timeout;
            member.pre_purge = load.pre_purge;
            member.post_purge = load.post_purge;
            &load.depends_on
        }
        _ => return,
    };
    member.depends_on = depends_on.iter().map(String::as_str).collect();
}

/// The member that several appup entries make together: every `code_change` in turn, under one suspension.
fn composed<'a>(
    change: &Change<'a>,
    legs: &[Leg<'a>],
    scripts: &mut Scripts<'a>,
    problems: &mut Vec<Diagnostic>,
) {
    let mut whole = Member {
        from: Some(change.from),
        to: Some(change.to),
        ..Member::new(change.component, Action::Change)
    };
    let mut eager = false;
    for leg in legs {
        for one in &leg.entry.instructions {
            let place = (leg.source, &one.span);
            let action = match &one.value {
                Instruction::Update(update) if update.component == change.component => {
                    Action::Change
                }
                Instruction::Load(load) if load.component == change.component => Action::Change,
                Instruction::RestartComponent { component, .. }
                    if component == change.component =>
                {
                    Action::Restart
                }
                Instruction::Low(Step::LoadObjectCode { .. } | Step::PointOfNoReturn) => continue,
                other => {
                    problems.push(not_composable(change, leg, other, place));
                    continue;
                }
            };
            let mut part = Member {
                from: Some(leg.from),
                to: Some(leg.to),
                ..Member::new(change.component, action)
            };
            options(&mut part, &one.value);
            eager |= !part.calls.is_empty() && part.strategy == Strategy::Eager;
            join(&mut whole, part);
            whole.place = Some(place);
        }
    }
    if eager {
        // One conversion that must be finished while suspended makes all of them so.
        whole.strategy = Strategy::Eager;
    }
    scripts.push(whole, problems);
}

/// Lays the options of one leg over those of the others: what waits longest, and is most careful, wins.
fn join<'a>(whole: &mut Member<'a>, part: Member<'a>) {
    whole.calls.extend(part.calls);
    if part.action == Action::Restart {
        whole.action = Action::Restart;
    }
    if part.strategy == Strategy::Incremental {
        whole.strategy = Strategy::Incremental;
    }
    if part.mod_type == ModType::Static {
        whole.mod_type = ModType::Static;
    }
    whole.timeout = whole.timeout.max(part.timeout);
    for name in part.depends_on {
        if !whole.depends_on.contains(&name) {
            whole.depends_on.push(name);
        }
    }
    if whole.pre_purge != Some(PurgeKind::Soft) {
        whole.pre_purge = part.pre_purge.or(whole.pre_purge);
    }
    if part.post_purge == PurgeKind::Brutal {
        whole.post_purge = PurgeKind::Brutal;
    }
}

fn not_composable(
    change: &Change<'_>,
    leg: &Leg<'_>,
    instruction: &Instruction,
    place: Place<'_>,
) -> Diagnostic {
    let name = change.component;
    let message = format!(
        "{name} gets from {} to {} through {} and {}, and `{}` there cannot be composed: {name} {} would never run",
        change.from,
        change.to,
        leg.from,
        leg.to,
        instruction.verb(),
        leg.to
    );
    Diagnostic::error(codes::NOT_COMPOSABLE, message)
        .at(
            place.0,
            place.1.clone(),
            "only `update`, `load` and `restart_component` of the component itself are composed",
        )
        .help(format!(
            "write an entry for the whole way into the appup of {name} {}, or upgrade in two steps",
            change.newer()
        ))
}

/// Whether the component is in one of the releases.
fn known(
    sides: &Sides<'_>,
    instruction: &Instruction,
    place: Place<'_>,
    name: &str,
    problems: &mut Vec<Diagnostic>,
) -> bool {
    let known = sides.old(name).is_some() || sides.new_one(name).is_some();
    if !known {
        let message = format!(
            "`{}` names {name}, which is not in {} {}",
            instruction.verb(),
            sides.to.name,
            sides.to.version
        );
        let help = "name a component of the release, or add it to the release";
        problems.push(
            Diagnostic::error(codes::UNKNOWN_COMPONENT, message)
                .at(place.0, place.1.clone(), "no such component")
                .help(help),
        );
    }
    known
}

/// Every change has an instruction that makes it. A component whose regions are thrown away needs no other.
fn complete<'a>(ways: &[Way<'a>], scripts: &mut Scripts<'a>, problems: &mut Vec<Diagnostic>) {
    let mut loaded: HashSet<&str> = HashSet::new();
    let mut reset: HashMap<&str, (usize, Option<Place<'a>>)> = HashMap::new();
    for item in &scripts.items {
        match item.what {
            What::Low(Step::Load { component, .. }) => {
                loaded.insert(component);
            }
            What::State(Step::ResetNode { components, .. }) => {
                for name in components {
                    reset.insert(name, (item.script, item.place));
                }
            }
            _ => {}
        }
    }
    for (change, legs) in ways {
        let name = change.component;
        if scripts.by_name.contains_key(name) || loaded.contains(name) {
            continue;
        }
        if let Some((script, place)) = reset.get(name) {
            let member = Member {
                from: Some(change.from),
                to: Some(change.to),
                place: *place,
                ..Member::new(name, Action::Change)
            };
            let now = std::mem::replace(&mut scripts.scripts, *script);
            scripts.push(member, problems);
            scripts.scripts = now;
            continue;
        }
        let message = format!(
            "{name} changes from {} to {}, and no instruction changes it",
            change.from, change.to
        );
        let mut diagnostic = Diagnostic::error(codes::NO_INSTRUCTION, message);
        if let Some(leg) = legs.first() {
            diagnostic = diagnostic.at(leg.source, leg.entry.span.clone(), "covers this change");
        }
        problems.push(diagnostic.help(format!("add {{ load = \"{name}\" }} if only code changed, or {{ update = \"{name}\", change = {{ advanced = {{}} }} }}")));
    }
}
