//! The instructions of all appups that have a part in a plan, checked one by one.

use crate::changes::Change;
use crate::codes;
use neurath_manifest::{
    self as manifest, Diagnostic, Instruction, PurgeKind, Release, Source, Span, Step, Strategy,
};
use std::time::Duration;

/// An instruction with its place.
#[derive(Debug, Clone)]
pub(crate) struct Placed<'a> {
    /// Which appup it comes from: the number of the script.
    pub(crate) script: usize,
    pub(crate) instruction: &'a Instruction,
    pub(crate) source: &'a Source,
    pub(crate) span: &'a Span,
}

/// What `update` and the high-level `load` have in common.
#[derive(Debug, Clone)]
pub(crate) struct Member<'a> {
    pub(crate) component: &'a str,
    /// The table for `code_change`, if it is called.
    pub(crate) advanced: Option<&'a toml::Table>,
    pub(crate) timeout: Option<Duration>,
    pub(crate) depends_on: &'a [String],
    pub(crate) pre_purge: Option<PurgeKind>,
    pub(crate) post_purge: PurgeKind,
}

impl<'a> Placed<'a> {
    /// The instruction as a member of the group that changes together, if it is one.
    pub(crate) fn member(&self) -> Option<Member<'a>> {
        match self.instruction {
            Instruction::Update(update) => Some(Member {
                component: &update.component,
                advanced: match &update.change {
                    manifest::Change::Advanced(extra) => Some(extra),
                    manifest::Change::Soft => None,
                },
                timeout: update.timeout,
                depends_on: &update.depends_on,
                pre_purge: update.pre_purge,
                post_purge: update.post_purge,
            }),
            Instruction::Load(load) => Some(Member {
                component: &load.component,
                advanced: None,
                timeout: load.timeout,
                depends_on: &load.depends_on,
                pre_purge: load.pre_purge,
                post_purge: load.post_purge,
            }),
            _ => None,
        }
    }

    pub(crate) fn error(&self, code: &'static str, message: String, label: &str) -> Diagnostic {
        Diagnostic::error(code, message).at(self.source, self.span.clone(), label)
    }
}

/// Whether the node of this version executes such a step.
pub(crate) fn executable(step: &Step) -> bool {
    matches!(
        step,
        Step::LoadObjectCode { .. }
            | Step::PointOfNoReturn
            | Step::Suspend { .. }
            | Step::Load { .. }
            | Step::CodeChange { .. }
            | Step::Purge { .. }
            | Step::Resume { .. }
    )
}

/// Checks every instruction by itself and against the components that change.
pub(crate) fn check(
    placed: &[Placed<'_>],
    changes: &[Change<'_>],
    release: &Release,
    problems: &mut Vec<Diagnostic>,
) {
    for (index, one) in placed.iter().enumerate() {
        unsupported(one, problems);
        for name in named(one) {
            known(one, name, release, problems);
        }
        let Some(member) = one.member() else { continue };
        if release.component(member.component).is_some()
            && !changes
                .iter()
                .any(|change| change.component == member.component)
        {
            let message = format!(
                "`{}` of {}, which does not change",
                one.instruction.verb(),
                member.component
            );
            problems.push(
                one.error(codes::UNCHANGED, message, "not changed by this release")
                    .help("remove the instruction"),
            );
        }
        let earlier = placed[..index].iter().find(|other| {
            other
                .member()
                .is_some_and(|other| other.component == member.component)
        });
        if let Some(earlier) = earlier {
            let message = format!("there are two instructions for {}", member.component);
            problems.push(
                one.error(codes::SEVERAL_INSTRUCTIONS, message, "the second")
                    .related(earlier.source, Some(earlier.span.clone()), "the first")
                    .help("remove one of the two"),
            );
        }
    }
}

/// Every change has an instruction that makes it.
pub(crate) fn check_complete(
    change: &Change<'_>,
    place: (&Source, &Span),
    placed: &[Placed<'_>],
    problems: &mut Vec<Diagnostic>,
) {
    let makes = |one: &Placed<'_>| match one.instruction {
        Instruction::Low(Step::Load { component, .. }) => component == change.component,
        // What is refused as not supported is not called missing, too.
        Instruction::AddComponent { component, .. }
        | Instruction::RemoveComponent { component }
        | Instruction::RestartComponent { component, .. } => component == change.component,
        Instruction::Low(step) => {
            !executable(step) && step.components().contains(&change.component)
        }
        _ => one
            .member()
            .is_some_and(|member| member.component == change.component),
    };
    if !placed.iter().any(makes) {
        let name = change.component;
        let message = format!(
            "{name} changes from {} to {}, and no instruction changes it",
            change.from, change.to
        );
        problems.push(
            Diagnostic::error(codes::NO_INSTRUCTION, message)
                .at(place.0, place.1.clone(), "covers this change")
                .help(format!("add {{ load = \"{name}\" }} if only code changed, or {{ update = \"{name}\", change = {{ advanced = {{}} }} }}")),
        );
    }
}

/// The components that an instruction names.
fn named<'a>(one: &Placed<'a>) -> Vec<&'a str> {
    match one.instruction {
        Instruction::AddComponent { .. }
        | Instruction::RemoveComponent { .. }
        | Instruction::RestartComponent { .. } => Vec::new(),
        Instruction::Low(step) => step.components(),
        Instruction::Update(_) | Instruction::Load(_) => one
            .member()
            .map(|member| {
                std::iter::once(member.component)
                    .chain(member.depends_on.iter().map(String::as_str))
                    .collect()
            })
            .unwrap_or_default(),
    }
}

fn known(one: &Placed<'_>, name: &str, release: &Release, problems: &mut Vec<Diagnostic>) {
    if release.component(name).is_none() {
        let message = format!(
            "`{}` names {name}, which is not in {} {}",
            one.instruction.verb(),
            release.name,
            release.version
        );
        let help = "name a component of the release, or add it to the release";
        problems.push(
            one.error(codes::UNKNOWN_COMPONENT, message, "no such component")
                .help(help),
        );
    }
}

fn unsupported(one: &Placed<'_>, problems: &mut Vec<Diagnostic>) {
    let verb = one.instruction.verb();
    let mut refuse = |what: String, help: &str| {
        let message = format!("{what} is not supported in this version yet");
        problems.push(
            one.error(codes::UNSUPPORTED, message, "not supported yet")
                .help(help),
        );
    };
    match one.instruction {
        Instruction::AddComponent { .. }
        | Instruction::RemoveComponent { .. }
        | Instruction::RestartComponent { .. } => {
            refuse(format!("`{verb}`"), "use `update` and `load`");
        }
        Instruction::Low(step) if !executable(step) => {
            refuse(format!("`{verb}`"), "use `update` and `load`")
        }
        Instruction::Update(update) => {
            if update.strategy == Strategy::Incremental {
                refuse(
                    "`strategy = \"incremental\"`".into(),
                    "leave `strategy` out: the state is converted while suspended",
                );
            }
            if update.via.is_some() {
                refuse(
                    "`via`".into(),
                    "write the code_change in the component's own library",
                );
            }
        }
        _ => {}
    }
    if one
        .member()
        .is_some_and(|member| member.pre_purge.is_some())
    {
        refuse("`pre_purge`".into(), "leave `pre_purge` out");
    }
}
