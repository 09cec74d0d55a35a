//! A step in words.

use neurath_manifest::scalar::format_duration;
use neurath_manifest::{ApplyTarget, PurgeKind, Step, Strategy};
use std::time::Duration;

/// How long messages may wait where a `suspend` has no timeout of its own.
pub const PAUSE: Duration = Duration::from_secs(10);

/// What a step acts on.
pub(crate) fn operands(step: &Step) -> String {
    match step {
        Step::LoadObjectCode {
            component,
            version,
            pre_purge,
        } => match pre_purge {
            Some(PurgeKind::Soft) => format!("{component} {version} (if no older code is in use)"),
            _ => format!("{component} {version}"),
        },
        Step::Load { component, version } | Step::Remove { component, version } => {
            format!("{component} {version}")
        }
        Step::Suspend {
            components,
            timeout: Some(timeout),
        } => format!(
            "{} (within {})",
            components.join(", "),
            format_duration(*timeout)
        ),
        Step::Suspend {
            components,
            timeout: None,
        }
        | Step::Resume { components }
        | Step::Stop { components }
        | Step::Start { components } => components.join(", "),
        Step::ResetNode {
            components,
            keep_snapshot,
        } => {
            let kept = if *keep_snapshot {
                "snapshot kept"
            } else {
                "no snapshot"
            };
            format!("{} ({kept})", components.join(", "))
        }
        Step::CodeChange {
            component,
            from,
            to,
            strategy,
            via,
            hops,
            ..
        } => {
            let mut text = format!("{component} {from}");
            for hop in hops {
                text.push_str(&format!(" -> {}", hop.to));
                if let Some(via) = &hop.via {
                    text.push_str(&format!(" (in {via})"));
                }
            }
            if hops.is_empty() {
                text.push_str(&format!(" -> {to}"));
            }
            if let Some(via) = via {
                text.push_str(&format!(" (in {via})"));
            }
            if *strategy == Strategy::Incremental {
                text.push_str(" (incremental)");
            }
            text
        }
        Step::Purge {
            component,
            version,
            kind,
        } => format!("{component} {version} ({})", kind.as_str()),
        Step::MoveState { name, from, to, .. } => {
            format!("{name}: {} -> {}", from.join(", "), to.join(", "))
        }
        Step::SyncNodes {
            id,
            nodes,
            deadline,
        } => format!(
            "{id}: {} (within {})",
            nodes.join(", "),
            format_duration(*deadline)
        ),
        Step::Apply {
            target: ApplyTarget::Hook {
                component, hook, ..
            },
            ..
        } => format!("{component} {hook}"),
        Step::Apply {
            target: ApplyTarget::Command(words),
            ..
        } => words.join(" "),
        Step::PointOfNoReturn | Step::RestartNewNode | Step::RestartNode => String::new(),
    }
}

/// Where in a script a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the point of no return: it can fail without a trace.
    Ready,
    /// After it.
    Switch,
    /// After the last `resume` or `start`: what is left to clear away.
    Clear,
}

impl Phase {
    /// What is said of it.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Ready => "made ready: can fail without a trace",
            Self::Switch => "the switch: undone as a whole, or done as a whole",
            Self::Clear => "cleared away",
        }
    }
}

/// The phase of each step.
pub(crate) fn phases(steps: &[Step]) -> Vec<Phase> {
    let point = steps
        .iter()
        .position(|step| matches!(step, Step::PointOfNoReturn));
    let serves = |step: &Step| matches!(step, Step::Resume { .. } | Step::Start { .. });
    let last = steps.iter().rposition(serves);
    let of = |at: usize| match (point, last) {
        (Some(point), _) if at <= point => Phase::Ready,
        (_, Some(last)) if at > last => Phase::Clear,
        (None, _) => Phase::Ready,
        _ => Phase::Switch,
    };
    (0..steps.len()).map(of).collect()
}
