//! `neurath relup …`

mod apply;
mod author;
mod in_flight;
mod log;
mod rehearse;
mod rehearse_watch;

use crate::cli::{Relup, Target};
use crate::control;
use crate::exit::CommandError;
use crate::output::Output;

pub fn run(command: &Relup, output: &Output) -> anyhow::Result<()> {
    match command {
        Relup::Generate(generate) => author::generate(generate, output),
        Relup::Plan(plan) => author::plan(plan, output),
        Relup::Check(check) => author::check(check, output),
        Relup::Graph(graph) => author::graph(graph, output),
        Relup::Rehearse(command) => rehearse::run(command, output),
        Relup::RehearseCopy(command) => rehearse::in_copy(command),
        Relup::RehearseWatch { folder, arguments } => rehearse_watch::run(folder, arguments),
        Relup::Apply {
            target,
            node,
            from,
            plan,
            allow_older,
            resets,
            execute,
        } => {
            let planned = match target {
                Target::Release(_) if *allow_older => {
                    let message = "--allow-older is for a package; a release that the node has can be gone to as it is";
                    return Err(CommandError::Usage(message.into()).into());
                }
                Target::Release(release) => {
                    if *execute {
                        control::install(&node.dir, release, from)?;
                    }
                    control::plan_built(&node.dir, release, from)?
                }
                Target::Package(file) => {
                    let (dir, older) = (&node.dir, *allow_older);
                    match super::release::installed::unpacked(dir, file, older, *execute, output)? {
                        Some(release) => control::plan(&node.dir, &release)?,
                        None => return Ok(()),
                    }
                }
            };
            let plan = plan.as_deref();
            apply::apply(&node.dir, planned, plan, resets, *execute, output)
        }
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
