//! The `neurath` command.

fn main() -> std::process::ExitCode {
    neurath_cli::main()
}
