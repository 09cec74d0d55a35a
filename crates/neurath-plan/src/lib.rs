//! Planning: from releases, component manifests and appups to an ordered low-level script.
//!
//! [`plan`] gives the script between two releases or *all* that stands in its way, [`generate_relup`] makes a relup of
//! such scripts, and [`check_relup`] says whether a committed relup is still what the planner makes.
//!
//! # The order of a plan
//!
//! Let *P* be what changes with dependencies first, and *D* its reverse, dependants first. The graph has an edge for every
//! `depends_on` of a component manifest, in its old and its new version, and for every `depends_on` of an instruction.
//! Unchanged components are part of it, so that what depends through them is ordered, too. What edges tie together is a
//! group; groups come at their first member. Ties are settled by the order of the merged scripts, which is the listing
//! order of the newer release both ways, so that down mirrors up.
//!
//! | step | up | down |
//! |---|---|---|
//! | `restart_new_node`, if the node's version or its ABI changes | first | |
//! | `load_object_code` of every new version, and of those between | P | D |
//! | `point_of_no_return` | | |
//! | `suspend` or `stop`, in one step where they stand together and their timeouts are equal | D | D |
//! | each group: `load` and `remove` | P | D |
//! | each group: `code_change` | D, after `load` | D, before `load` if `dynamic`, after it if `static` |
//! | `resume` and `start`: the commit | P | P |
//! | `purge` of every old version | P | D |
//! | `restart_node` | last | last |
//!
//! Low-level steps in an appup stay where they are written, between groups or after all. What would have to be carried
//! across one of its own script is refused.
//!
//! The same input gives the same plan, byte for byte. This crate is pure: it touches no file, clock or thread.

#![forbid(unsafe_code)]

mod catalogue;
mod changes;
pub mod codes;
mod graph;
mod instructions;
pub mod layout;
mod lints;
pub mod model;
pub mod moves;
mod plan;
mod planner;
mod proof;
mod relup;
mod render;
mod routes;
mod rules;
pub mod schema;
#[cfg(test)]
#[path = "../tests/common/seed.rs"]
mod seed;
mod settings;
mod sides;
mod simulate;
mod stub;
mod translate;

pub use catalogue::Catalogue;
pub use plan::{Direction, Plan, PlanError, Route};
pub use planner::{Lints, Planned, plan, plan_with};
pub use proof::{Comparison, Gap, compare};
pub use relup::{OneWay, check_relup, generate_relup, generate_relup_by};
pub use render::{
    CodeChanged, ComponentGraph, Consequences, Effect, GraphChange, GraphDependency, GraphNode,
    Lasting, PAUSE, Stop, WayBack, relup_to_toml,
};
pub use rules::check_release;
pub use schema::ComponentFacts;
pub use settings::{Reconfigured, runs_on};
pub use simulate::prove;
pub use stub::code_change as code_change_stub;

pub use neurath_manifest::{Hop, PurgeKind, Step, Strategy};
