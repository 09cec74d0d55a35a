//! The commands, one a module.

mod bench_plan;
mod bench_regions;
mod bench_serve;
mod bench_start;
mod bench_upgrade;
mod crash;
mod dax;
mod demo;
mod fuzz;
mod node;
mod release;
mod relup;
mod soak;
mod state;

use crate::cli::{Bench, Cli, Command, Crash, Fuzz};
use crate::output::Output;

/// Carries out a command.
pub fn run(cli: Cli, output: &Output) -> anyhow::Result<()> {
    match cli.command {
        Command::Release(command) => release::run(&command, output),
        Command::Node(command) => node::run(command, output),
        Command::Relup(command) => relup::run(&command, output),
        Command::State(command) => state::run(&command, output),
        Command::Soak(soak) => soak::run(&soak, output),
        Command::Demo(demo) => demo::run(&demo, output),
        Command::Bench(Bench::Serve {
            seconds,
            durability,
            folders,
        }) => bench_serve::run(seconds, durability, &folders, output),
        Command::Bench(Bench::Upgrade(upgrade)) => bench_upgrade::run(&upgrade, output),
        Command::Bench(Bench::Start(start)) => bench_start::run(&start, output),
        Command::Bench(Bench::Regions(regions)) => bench_regions::run(&regions, output),
        Command::Bench(Bench::Plan(plan)) => bench_plan::run(&plan, output),
        Command::Crash(Crash::Regions(regions)) => crash::regions(&regions, output),
        Command::Crash(Crash::Upgrade(upgrade)) => crash::upgrade(&upgrade, output),
        Command::Dax(options) => dax::run(&options, output),
        Command::Fuzz(Fuzz::Regions(regions)) => fuzz::regions(&regions, output),
        Command::Fuzz(Fuzz::Manifests(manifests)) => fuzz::manifests(&manifests, output),
    }
}
