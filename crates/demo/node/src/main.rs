//! The node of kv 2.0.0. It is the node of this source tree under a version of its own, so that there is another node to
//! restart into.

fn main() -> std::process::ExitCode {
    neurath_cli::main_of_node(env!("CARGO_PKG_VERSION"))
}
