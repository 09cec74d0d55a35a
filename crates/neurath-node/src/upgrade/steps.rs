//! Which steps this node carries out. The planner knows more: a plan with another step is
//! refused before anything happens.

use neurath_manifest::Step;

/// What of a step this node cannot do; `None` if it carries the step out.
pub(crate) fn missing(step: &Step) -> Option<String> {
    match step {
        Step::LoadObjectCode { .. }
        | Step::PointOfNoReturn
        | Step::Suspend { .. }
        | Step::Load { .. }
        | Step::CodeChange { .. }
        | Step::Purge { .. }
        | Step::Resume { .. }
        | Step::Remove { .. }
        | Step::Stop { .. }
        | Step::Start { .. }
        | Step::MoveState { .. }
        | Step::SyncNodes { .. }
        | Step::Apply { .. }
        | Step::RestartNewNode
        | Step::RestartNode => None,
        Step::ResetNode { .. } => Some(format!("`{}`", step.verb())),
    }
}

/// What is told of a script that this node cannot carry out, step by step; `None` if it can.
pub(crate) fn refusal(steps: &[Step]) -> Option<String> {
    let lines: Vec<String> = steps
        .iter()
        .enumerate()
        .filter_map(|(index, step)| {
            let what = missing(step)?;
            Some(format!(
                "step {}, {step}: this node does not know {what} yet",
                index + 1
            ))
        })
        .collect();
    (!lines.is_empty()).then(|| {
        format!(
            "this node cannot carry the plan out; nothing was done:\n{}\nPlan the upgrade without \
             these steps, or apply it on a node that knows them.",
            lines.join("\n")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(text: &str) -> Vec<Step> {
        let text = format!(
            "name = \"kv\"\nversion = \"1.1.0\"\n[[up]]\nfrom = \"1.0.0\"\nscript = [\n{text}]\n"
        );
        let relup = neurath_manifest::Relup::parse("relup", &text);
        let relup = relup.unwrap_or_else(|found| panic!("{found}"));
        relup.up[0].steps().cloned().collect()
    }

    #[test]
    fn what_it_does_is_not_refused() {
        let steps = script(
            "{ restart_new_node = true },
             { sync_nodes = \"s\", nodes = [\"n\"], deadline = \"1s\" },
             { load_object_code = \"a\", version = \"1.1.0\", pre_purge = \"soft\" },
             { point_of_no_return = true },
             { suspend = [\"a\"] },
             { load = \"a\", version = \"1.1.0\" },
             { code_change = \"a\", from = \"1.0.0\", to = \"1.1.0\" },
             { code_change = \"a\", from = \"1.0.0\", to = \"1.1.0\", via = \"b\" },
             { code_change = \"b\", from = \"1.0.0\", to = \"1.1.0\", strategy = \"incremental\" },
             { move_state = \"m\", from = [\"a\"], to = [\"b\"] },
             { resume = [\"a\"] },
             { stop = [\"b\"] },
             { remove = \"b\", version = \"1.0.0\" },
             { start = [\"c\"] },
             { apply = { command = [\"true\"] } },
             { apply = { component = \"a\", hook = \"h\" } },
             { purge = \"a\", version = \"1.0.0\" },
             { restart_node = true },",
        );
        assert_eq!(refusal(&steps), None);
    }

    #[test]
    fn what_it_does_not_do_is_named() {
        let text = refusal(&script("{ reset_node = [\"a\"] },\n")).expect("it is refused");
        assert!(
            text.contains("step 1") && text.contains("`reset_node`"),
            "{text}"
        );
    }
}
