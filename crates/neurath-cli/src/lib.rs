//! Every command of Neurath: `neurath X`, which is also `cargo xtask X`.
//!
//! What a command gives goes to stdout, what it is doing to stderr. It is dry wherever it would
//! change a node or a file that is under version control, unless `--execute` is given.
#![forbid(unsafe_code)]

pub mod build;
pub mod cargo;
pub mod cli;
mod commands;
pub mod control;
pub mod crash;
pub mod dax;
pub mod erlang;
pub mod exit;
pub mod fuzz;
pub mod history;
pub mod libraries;
pub mod manifests;
pub mod node_process;
pub mod numbers;
pub mod output;
pub mod processes;
pub mod projects;
pub mod redis;
pub mod reproducible;
pub mod resp;
pub mod service_manager;
pub mod signing;
pub mod stage;
pub mod stale;
pub mod state_json;
pub mod table;
pub mod testing;

use clap::Parser as _;
use std::process::ExitCode;

/// Parses the arguments of this process, and carries them out.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            let code = if error.use_stderr() {
                exit::USAGE
            } else {
                exit::DONE
            };
            return ExitCode::from(code);
        }
    };
    let output = output::Output::new(cli.message_format());
    let result = commands::run(cli, &output);
    processes::end_all();
    ExitCode::from(exit::report(result, &output))
}
