//! Plans and component graphs as pictures and as texts: deterministic, and made of nothing but what they show.

mod bytes;
mod comments;
mod consequences;
mod dot;
mod graph;
mod graph_svg;
mod lanes;
mod mermaid;
mod plan_svg;
mod step_text;
mod svg;
mod text;

pub use comments::relup_to_toml;
pub use consequences::{CodeChanged, Consequences, Effect, Lasting, Stop, WayBack};
pub use graph::{ComponentGraph, GraphChange, GraphDependency, GraphNode};
pub use step_text::PAUSE;

use crate::plan::Plan;

impl Plan {
    /// The plan as text for people, read as its consequences: what stops and for how long at most, what changes, what
    /// can be undone. The same plan gives the same text, byte for byte.
    pub fn to_text(&self) -> String {
        text::plan(self, &Consequences::of(self))
    }

    /// The same with consequences that say more than the plan alone tells (see [`Consequences::with`]).
    pub fn to_text_with(&self, consequences: &Consequences) -> String {
        text::plan(self, consequences)
    }

    /// The steps as a flowchart for Mermaid.
    pub fn to_mermaid(&self) -> String {
        mermaid::plan(self)
    }

    /// The steps as a graph for Graphviz.
    pub fn to_dot(&self) -> String {
        dot::plan(self)
    }

    /// What each component does at each step, as a drawing.
    pub fn to_svg(&self) -> String {
        plan_svg::plan(self)
    }
}

impl ComponentGraph {
    /// The components as a table, dependencies last.
    pub fn to_text(&self) -> String {
        text::graph(self)
    }

    /// The components as a flowchart for Mermaid.
    pub fn to_mermaid(&self) -> String {
        mermaid::graph(self)
    }

    /// The components as a graph for Graphviz.
    pub fn to_dot(&self) -> String {
        dot::graph(self)
    }

    /// The components as a drawing, dependencies below what depends on them.
    pub fn to_svg(&self) -> String {
        graph_svg::graph(self)
    }
}
