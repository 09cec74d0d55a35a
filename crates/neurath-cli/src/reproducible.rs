//! What makes two builds of the same sources give the same bytes, wherever they are done.
//!
//! A library holds paths of the machine that built it: in the places that panics name, and in
//! the tables that backtraces are read from. Each folder that can be in there gets one name that is
//! the same everywhere.

use anyhow::{Context as _, bail};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the folder of the project is called in a library.
const PROJECT: &str = "/project";

/// The compiler's flags for a build that does not depend on where it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flags {
    root: PathBuf,
    flags: Vec<String>,
}

impl Flags {
    /// The flags for a project that `folder` is in.
    ///
    /// # Errors
    ///
    /// If cargo or the compiler cannot be asked for their folders.
    pub fn of(folder: &Path) -> anyhow::Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let manifest = ask(
            folder,
            &cargo,
            &["locate-project", "--workspace", "--message-format=plain"],
        )?;
        let root = Path::new(manifest.trim())
            .parent()
            .context("cargo knows no folder of this project")?
            .to_owned();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let sysroot = ask(folder, &rustc, &["--print", "sysroot"])?;
        let about = ask(folder, &rustc, &["--version", "--verbose"])?;
        let commit = about
            .lines()
            .find_map(|line| line.strip_prefix("commit-hash: "))
            .unwrap_or("unknown");
        let mut names = vec![(root.clone(), PROJECT.to_owned())];
        if let Some(target) = std::env::var_os("CARGO_TARGET_DIR") {
            let target = std::path::absolute(root.join(target))?;
            names.push((target, format!("{PROJECT}/target")));
        }
        for registry in registries() {
            names.push((registry, "/registry".to_owned()));
        }
        // Where the standard library's sources are installed, the compiler names them by their path.
        let sources = Path::new(sysroot.trim()).join("lib/rustlib/src/rust");
        names.push((sources, format!("/rustc/{commit}")));
        let mut flags = Vec::new();
        for (path, name) in names {
            let path = path
                .to_str()
                .with_context(|| format!("{} is not UTF-8", path.display()))?;
            flags.push(format!("--remap-path-prefix={path}={name}"));
        }
        Ok(Self { root, flags })
    }

    /// Adds the flags to those that a run of cargo has by the environment or its configuration.
    pub fn apply(&self, command: &mut Command) {
        let from_environment = std::env::var("CARGO_ENCODED_RUSTFLAGS").or_else(|_| {
            std::env::var("RUSTFLAGS")
                .map(|flags| flags.split_whitespace().collect::<Vec<_>>().join("\u{1f}"))
        });
        match from_environment {
            // These would hide what is given as configuration.
            Ok(present) => {
                let mut all: Vec<&str> = present.split('\u{1f}').collect();
                all.retain(|flag| !flag.is_empty());
                all.extend(self.flags.iter().map(String::as_str));
                command.env("CARGO_ENCODED_RUSTFLAGS", all.join("\u{1f}"));
            }
            Err(_) => {
                let list: Vec<String> = self.flags.iter().map(|flag| quoted(flag)).collect();
                command.arg("--config");
                command.arg(format!("build.rustflags=[{}]", list.join(",")));
            }
        }
    }

    /// The folder of the project, if a file names it: then the flags were not heeded, and another
    /// folder gives other bytes.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub fn named_in(&self, file: &Path) -> anyhow::Result<Option<&Path>> {
        let bytes =
            std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let needle = self.root.as_os_str().as_encoded_bytes();
        // A root of `/` is in every path.
        let found = needle.len() > 1 && bytes.windows(needle.len()).any(|part| part == needle);
        Ok(found.then_some(&self.root))
    }
}

fn ask(folder: &Path, program: &OsString, arguments: &[&str]) -> anyhow::Result<String> {
    let shown = program.display();
    let output = Command::new(program)
        .current_dir(folder)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!(
            "`{shown} {}` failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    String::from_utf8(output.stdout).with_context(|| format!("{shown} wrote something else"))
}

/// The folders that sources from registries are unpacked to; each registry has one of its own.
fn registries() -> Vec<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cargo")));
    let Some(home) = home else { return Vec::new() };
    let mut found: Vec<PathBuf> = std::fs::read_dir(home.join("registry/src"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    found.sort();
    found
}

/// A text as TOML has it.
fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_stayed_is_found() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("library");
        let flags = Flags {
            root: "/somewhere/else".into(),
            flags: Vec::new(),
        };
        std::fs::write(&file, b"\0/project/src/lib.rs\0")?;
        assert_eq!(flags.named_in(&file)?, None);
        std::fs::write(&file, b"\0/somewhere/else/src/lib.rs\0")?;
        assert_eq!(flags.named_in(&file)?, Some(Path::new("/somewhere/else")));
        assert_eq!(quoted(r#"a"b\c"#), r#"'a"b\c'"#);
        Ok(())
    }
}
