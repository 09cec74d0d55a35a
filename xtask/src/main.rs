//! `cargo xtask X` is `neurath X`.

fn main() -> std::process::ExitCode {
    neurath_cli::main()
}
