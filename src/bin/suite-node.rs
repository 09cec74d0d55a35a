//! The `neurath` command with fault points, for the tests that kill it at each of them.

fn main() -> std::process::ExitCode {
    neurath_cli::main()
}
