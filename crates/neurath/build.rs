//! Tells the SDK which compiler builds it, so that a library can say so.

fn main() {
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".into());
    let version = std::process::Command::new(rustc).arg("--version").output();
    let version = version
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        .unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=NEURATH_COMPILER={}", version.trim());
    println!("cargo::rerun-if-changed=build.rs");
}
