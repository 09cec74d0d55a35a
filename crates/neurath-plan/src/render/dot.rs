//! Graphs for Graphviz.

use super::graph::{ComponentGraph, GraphChange};
use super::step_text::{Phase, operands, phases};
use crate::plan::Plan;
use std::collections::HashSet;
use std::fmt::Write as _;

const HEAD: &str = "    node [shape=box, style=\"rounded,filled\", fillcolor=\"#f3f4f6\", color=\"#566372\", \
                    fontname=\"sans-serif\", fontsize=11];\n    edge [color=\"#566372\", fontname=\"sans-serif\", fontsize=10];\n";

/// The steps, in clusters by their phase.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut out = format!(
        "digraph plan {{\n    label={};\n    labelloc=t;\n    fontname=\"sans-serif\";\n    rankdir=TB;\n{HEAD}",
        quoted(&format!("{} {} to {}", plan.name, plan.from, plan.to))
    );
    let mut open: Option<Phase> = None;
    let mut clusters = 0;
    for (number, (step, phase)) in plan.steps.iter().zip(phases(&plan.steps)).enumerate() {
        if open != Some(phase) {
            if open.is_some() {
                out.push_str("    }\n");
            }
            let title = quoted(phase.title());
            let _ = writeln!(
                out,
                "    subgraph cluster_{clusters} {{\n        label={title};\n        color=\"#9aa5b1\";"
            );
            clusters += 1;
            open = Some(phase);
        }
        let label = format!("{} {}\n{}", number + 1, step.verb(), operands(step));
        let _ = writeln!(
            out,
            "        s{} [label={}];",
            number + 1,
            quoted(label.trim_end())
        );
    }
    if open.is_some() {
        out.push_str("    }\n");
    }
    for number in 1..plan.steps.len() {
        let _ = writeln!(out, "    s{number} -> s{};", number + 1);
    }
    out.push_str("}\n");
    out
}

/// The components, with an arrow to each that is needed.
pub(crate) fn graph(graph: &ComponentGraph) -> String {
    let mut out = format!(
        "digraph components {{\n    label={};\n    labelloc=t;\n    fontname=\"sans-serif\";\n    rankdir=TB;\n{HEAD}",
        quoted(&format!("{} {}", graph.name, graph.version))
    );
    let known: HashSet<&str> = graph
        .nodes
        .iter()
        .map(|node| node.component.as_str())
        .collect();
    for node in &graph.nodes {
        let style = match node.change {
            GraphChange::Same => "",
            GraphChange::Changed => ", fillcolor=\"#bfdcf0\", color=\"#2b6c9e\"",
            GraphChange::Added => ", fillcolor=\"#cfe8d5\", color=\"#2f7d4f\"",
            GraphChange::Removed => {
                ", fillcolor=\"#f6d5d2\", color=\"#b3261e\", style=\"rounded,filled,dashed\""
            }
        };
        let label = quoted(&format!("{}\n{}", node.component, node.versions()));
        let _ = writeln!(
            out,
            "    {} [label={label}{style}];",
            quoted(&node.component)
        );
    }
    for node in &graph.nodes {
        for dependency in &node.depends_on {
            if known.contains(dependency.component.as_str()) {
                let _ = writeln!(
                    out,
                    "    {} -> {} [label={}];",
                    quoted(&node.component),
                    quoted(&dependency.component),
                    quoted(&dependency.requirement)
                );
            }
        }
    }
    out.push_str("}\n");
    out
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
