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
use std::sync::OnceLock;

/// The version of this program as a node.
static VERSION: OnceLock<&'static str> = OnceLock::new();

/// The version of this program as a node, which releases name as `node`.
#[must_use]
pub fn version() -> &'static str {
    VERSION.get().unwrap_or(&env!("CARGO_PKG_VERSION"))
}

/// As [`main`], for a node program with a version of its own: releases name that as `node`, and the program's package as
/// `node_program`.
#[must_use]
pub fn main_of_node(version: &'static str) -> ExitCode {
    // Only the first one counts, and nobody else sets it.
    let _ = VERSION.set(version);
    main()
}

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
