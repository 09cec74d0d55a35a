//! `neurath relup …`

mod apply;
mod author;

use crate::cli::Relup;
use crate::control;
use crate::output::Output;

pub fn run(command: &Relup, output: &Output) -> anyhow::Result<()> {
    match command {
        Relup::Generate(generate) => author::generate(generate, output),
        Relup::Plan(plan) => author::plan(plan, output),
        Relup::Check(check) => author::check(check, output),
        Relup::Graph(graph) => author::graph(graph, output),
        Relup::Apply {
            release,
            node,
            from,
            plan,
            execute,
        } => {
            control::install(&node.dir, release, from)?;
            apply::apply(&node.dir, release, plan.as_deref(), *execute, output)
        }
        Relup::Confirm(node) => apply::confirm(&node.dir, output),
        Relup::Rollback {
            node,
            lose_writes,
            execute,
        } => apply::rollback(&node.dir, *lose_writes, *execute, output),
    }
}
