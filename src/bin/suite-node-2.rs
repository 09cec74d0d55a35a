//! As `suite-node`, but another node: what a release that names one restarts into.

fn main() -> std::process::ExitCode {
    neurath_cli::main_of_node("0.2.0")
}
