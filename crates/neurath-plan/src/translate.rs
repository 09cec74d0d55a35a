//! From checked instructions to one script around one point of no return. The order is in the crate's documentation.

use crate::changes::Change;
use crate::codes;
use crate::instructions::{Member, Placed};
use crate::plan::Direction;
use neurath_manifest::{Diagnostic, Instruction, Located, Source, Span, Step, Strategy};

/// A step, and where in an appup it was written, if it was.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) step: Step,
    pub(crate) place: Option<(Source, Span)>,
}

/// Makes the script. `order` has all components, dependencies first.
pub(crate) fn translate(
    placed: &[Placed<'_>],
    changes: &[Change<'_>],
    order: &[String],
    direction: Direction,
    problems: &mut Vec<Diagnostic>,
) -> Vec<Origin> {
    let members: Vec<Member<'_>> = placed.iter().filter_map(Placed::member).collect();
    let find = |name: &String| {
        let member = members.iter().find(|member| member.component == name)?;
        Some((
            member,
            changes.iter().find(|change| change.component == name)?,
        ))
    };
    let group: Vec<_> = order.iter().filter_map(find).collect();
    let mut ready = Vec::new();
    for (_, change) in directed(&group, direction) {
        push_once(
            &mut ready,
            Origin {
                step: Step::LoadObjectCode {
                    component: change.component.into(),
                    version: change.to.clone(),
                    pre_purge: None,
                },
                place: None,
            },
        );
    }
    let (before, mut after) = (Vec::new(), Vec::new());
    let mut split = Split {
        before,
        in_group: false,
        after: &mut after,
        ready: &mut ready,
    };
    for (index, one) in placed.iter().enumerate() {
        match one.instruction {
            Instruction::Low(step) => split.low(placed, index, one, step, problems),
            _ => split.in_group |= one.member().is_some(),
        }
    }
    let before = split.before;
    let mut script = ready;
    script.push(Origin {
        step: Step::PointOfNoReturn,
        place: None,
    });
    script.extend(before);
    script.extend(
        group_steps(&group, direction)
            .into_iter()
            .map(|step| Origin { step, place: None }),
    );
    script.extend(after);
    script
}

/// Where low-level steps go: before the group's block or after it.
struct Split<'a> {
    before: Vec<Origin>,
    in_group: bool,
    after: &'a mut Vec<Origin>,
    ready: &'a mut Vec<Origin>,
}

impl Split<'_> {
    fn low(
        &mut self,
        placed: &[Placed<'_>],
        index: usize,
        one: &Placed<'_>,
        step: &Step,
        problems: &mut Vec<Diagnostic>,
    ) {
        let origin = Origin {
            step: step.clone(),
            place: Some((one.source.clone(), one.span.clone())),
        };
        let same_script = |other: &&Placed<'_>| other.script == one.script;
        let is_point = |other: &Placed<'_>| {
            matches!(other.instruction, Instruction::Low(Step::PointOfNoReturn))
        };
        match step {
            Step::LoadObjectCode { .. } => push_once(self.ready, origin),
            Step::PointOfNoReturn => {
                for early in placed[..index].iter().filter(same_script) {
                    let twice = is_point(early);
                    if !twice
                        && matches!(
                            early.instruction,
                            Instruction::Low(Step::LoadObjectCode { .. })
                        )
                    {
                        continue;
                    }
                    let (place, message) = if twice {
                        (
                            one,
                            "there are two points of no return in one script".to_string(),
                        )
                    } else {
                        (
                            early,
                            format!(
                                "`{}` cannot stand before the point of no return",
                                early.instruction.verb()
                            ),
                        )
                    };
                    problems.push(
                        place
                            .error(codes::MISPLACED, message, "")
                            .help("only load_object_code stands before it, and it stands once"),
                    );
                }
            }
            _ => {
                let later = placed[index..]
                    .iter()
                    .find(|other| other.member().is_some());
                if let (true, Some(later)) = (self.in_group, later) {
                    let message = format!(
                        "`{}` would have to be carried across this `{}`",
                        later.instruction.verb(),
                        step.verb()
                    );
                    problems.push(
                        one.error(codes::HOISTED, message, "written between two instructions that change together")
                            .related(later.source, Some(later.span.clone()), "this belongs with those before")
                            .help("write this step before or after all of them, or write the whole script in low-level steps"),
                    );
                }
                if self.in_group {
                    self.after.push(origin)
                } else {
                    self.before.push(origin)
                }
            }
        }
    }
}

type Group<'a> = [(&'a Member<'a>, &'a Change<'a>)];

/// Dependencies first on the way up, dependants first on the way down.
fn directed<'a, 'b>(
    group: &'b Group<'a>,
    direction: Direction,
) -> Vec<&'b (&'a Member<'a>, &'a Change<'a>)> {
    match direction {
        Direction::Up => group.iter().collect(),
        Direction::Down => group.iter().rev().collect(),
    }
}

fn group_steps(group: &Group<'_>, direction: Direction) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (member, _) in group.iter().rev() {
        match steps.last_mut() {
            Some(Step::Suspend {
                components,
                timeout,
            }) if *timeout == member.timeout => components.push(member.component.into()),
            _ => steps.push(Step::Suspend {
                components: vec![member.component.into()],
                timeout: member.timeout,
            }),
        }
    }
    for (member, change) in directed(group, direction) {
        let component = || change.component.to_string();
        let load = Step::Load {
            component: component(),
            version: change.to.clone(),
        };
        let code_change = member.advanced.map(|extra| Step::CodeChange {
            component: component(),
            from: change.from.clone(),
            to: change.to.clone(),
            extra: (!extra.is_empty()).then(|| extra.clone()),
            strategy: Strategy::Eager,
            via: None,
            hops: Vec::new(),
        });
        match change.direction() {
            Direction::Up => steps.extend([Some(load), code_change].into_iter().flatten()),
            Direction::Down => steps.extend([code_change, Some(load)].into_iter().flatten()),
        }
    }
    if !group.is_empty() {
        steps.push(Step::Resume {
            components: group
                .iter()
                .map(|(member, _)| member.component.to_string())
                .collect(),
        });
    }
    for (member, change) in directed(group, direction) {
        steps.push(Step::Purge {
            component: change.component.into(),
            version: change.from.clone(),
            kind: member.post_purge,
        });
    }
    steps
}

/// Adds a step unless an equal one is there.
fn push_once(steps: &mut Vec<Origin>, origin: Origin) {
    if !steps.iter().any(|other| other.step == origin.step) {
        steps.push(origin);
    }
}

impl Origin {
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
