//! Flowcharts for Mermaid.

use super::graph::{ComponentGraph, GraphChange};
use super::step_text::{Phase, operands, phases};
use crate::plan::Plan;
use std::collections::HashMap;
use std::fmt::Write as _;

/// The steps, in boxes by their phase.
pub(crate) fn plan(plan: &Plan) -> String {
    let mut out = format!(
        "---\ntitle: {}\n---\nflowchart TD\n",
        quoted(&format!("{} {} to {}", plan.name, plan.from, plan.to))
    );
    let phases = phases(&plan.steps);
    let mut open: Option<Phase> = None;
    for (number, (step, phase)) in plan.steps.iter().zip(&phases).enumerate() {
        if open != Some(*phase) {
            if open.is_some() {
                out.push_str("    end\n");
            }
            let _ = writeln!(
                out,
                "    subgraph {}[{}]",
                id(*phase),
                quoted(phase.title())
            );
            open = Some(*phase);
        }
        let label = format!("{} {}\n{}", number + 1, step.verb(), operands(step));
        let _ = writeln!(out, "        s{}[{}]", number + 1, quoted(label.trim_end()));
    }
    if open.is_some() {
        out.push_str("    end\n");
    }
    for number in 1..plan.steps.len() {
        let _ = writeln!(out, "    s{number} --> s{}", number + 1);
    }
    out
}

/// The components, with an arrow to each that is needed.
pub(crate) fn graph(graph: &ComponentGraph) -> String {
    let mut out = format!(
        "---\ntitle: {}\n---\nflowchart TD\n",
        quoted(&format!("{} {}", graph.name, graph.version))
    );
    let ids: HashMap<&str, usize> = graph
        .nodes
        .iter()
        .enumerate()
        .map(|(at, node)| (node.component.as_str(), at))
        .collect();
    for (at, node) in graph.nodes.iter().enumerate() {
        let label = format!("{}\n{}", node.component, node.versions());
        let class = match node.change {
            GraphChange::Same => "",
            change => change.as_str(),
        };
        let separator = if class.is_empty() { "" } else { ":::" };
        let _ = writeln!(out, "    c{at}[{}]{separator}{class}", quoted(&label));
    }
    for (at, node) in graph.nodes.iter().enumerate() {
        for dependency in &node.depends_on {
            if let Some(other) = ids.get(dependency.component.as_str()) {
                let _ = writeln!(
                    out,
                    "    c{at} -->|{}| c{other}",
                    quoted(&dependency.requirement)
                );
            }
        }
    }
    for (class, style) in [
        ("changed", "fill:#bfdcf0,stroke:#2b6c9e,color:#1c2530"),
        ("added", "fill:#cfe8d5,stroke:#2f7d4f,color:#1c2530"),
        ("removed", "fill:#f6d5d2,stroke:#b3261e,color:#1c2530"),
    ] {
        if graph.nodes.iter().any(|node| node.change.as_str() == class) {
            let _ = writeln!(out, "    classDef {class} {style}");
        }
    }
    out
}

fn id(phase: Phase) -> &'static str {
    match phase {
        Phase::Ready => "ready",
        Phase::Switch => "switch_over",
        Phase::Clear => "clear",
    }
}

/// A label; what Mermaid would read as its own is written by its number.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\n' => out.push_str("<br/>"),
            '"' | '<' | '>' | '&' | '#' | '`' | '\\' => {
                let _ = write!(out, "#{};", u32::from(c));
            }
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
