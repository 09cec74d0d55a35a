//! Planning: from releases, component manifests and appups to an ordered low-level script.
//!
//! [`plan`] gives the script between two releases or *all* that stands in its way, [`generate_relup`] makes a relup of
//! such scripts, and [`check_relup`] says whether a committed relup is still what the planner makes.
//!
//! # The order of a plan
//!
//! Let *P* be the changed components with dependencies first, and *D* its reverse, dependants first. The graph has an
//! edge for every `depends_on` of a component manifest, in its old and its new version, and for every `depends_on` of an
//! instruction. Unchanged components are part of it, so that what depends through them is ordered, too. Ties are settled
//! by the listing order of the target release; components that instructions tie into a circle stay together,
//! in the order that the manifests want.
//!
//! | step | up | down |
//! |---|---|---|
//! | `load_object_code` of every new version | P | D |
//! | `point_of_no_return` | | |
//! | `suspend` of all changed components, in one step unless their timeouts differ | D | D |
//! | for each changed component | P: `load`, then `code_change` if advanced | D: `code_change` if advanced, then `load` |
//! | `resume` of all of them, in one step | P | P |
//! | `purge` of every old version | P | D |
//!
//! On the way down `code_change` stands before `load`, as it does in OTP, because the newer library has the way back.
//!
//! Low-level steps in an appup stay where they are written, before or after that block. A `load_object_code` goes before
//! the point of no return, and is merged with an equal one. What would have to be carried across such a step is refused.
//!
//! The same input gives the same plan, byte for byte. This crate is pure: it touches no file, clock or thread.

#![forbid(unsafe_code)]

mod catalogue;
mod changes;
pub mod codes;
mod graph;
mod instructions;
mod plan;
mod planner;
mod proof;
mod relup;
mod rules;
mod simulate;
mod translate;

pub use catalogue::{Catalogue, ComponentFacts};
pub use plan::{Direction, Plan, PlanError, Route};
pub use planner::plan;
pub use relup::{check_relup, generate_relup};

pub use neurath_manifest::{Hop, PurgeKind, Step, Strategy};
