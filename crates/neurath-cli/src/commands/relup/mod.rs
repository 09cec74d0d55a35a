//! `neurath relup …`

mod apply;
mod author;
mod in_flight;
mod log;
mod rehearse;

use crate::cli::{Relup, Target};
use crate::control;
use crate::output::Output;

pub fn run(command: &Relup, output: &Output) -> anyhow::Result<()> {
    match command {
        Relup::Generate(generate) => author::generate(generate, output),
        Relup::Plan(plan) => author::plan(plan, output),
        Relup::Check(check) => author::check(check, output),
        Relup::Graph(graph) => author::graph(graph, output),
        Relup::Rehearse(command) => rehearse::run(command, output),
        Relup::RehearseCopy(command) => rehearse::in_copy(command),
        Relup::Apply {
            target: Target::Release(release),
            node,
            from,
            plan,
            resets,
            execute,
        } => {
            if *execute {
                control::install(&node.dir, release, from)?;
            }
            let planned = control::plan_built(&node.dir, release, from)?;
            apply::apply(
                &node.dir,
                planned,
                plan.as_deref(),
                resets,
                *execute,
                output,
            )
        }
        Relup::Apply {
            target: Target::Package(file),
            node,
            plan,
            resets,
            execute,
            ..
        } => match super::release::installed::unpacked(&node.dir, file, *execute, output)? {
            Some(release) => {
                let planned = control::plan(&node.dir, &release)?;
                apply::apply(
                    &node.dir,
                    planned,
                    plan.as_deref(),
                    resets,
                    *execute,
                    output,
                )
            }
            None => Ok(()),
        },
        Relup::Resume { node, execute } => in_flight::resume(&node.dir, *execute, output),
        Relup::Abort { node, execute } => in_flight::abort(&node.dir, *execute, output),
        Relup::Log {
            node,
            set_aside: true,
            execute,
            ..
        } => log::set_aside(&node.dir, *execute, output),
        Relup::Log {
            node, steps, trace, ..
        } => log::show(&node.dir, *steps, trace.as_deref(), output),
        Relup::Confirm(node) => apply::confirm(&node.dir, output),
        Relup::Rollback {
            node,
            lose_writes,
            reset,
            execute,
        } => apply::rollback(&node.dir, *lose_writes, reset, *execute, output),
    }
}
