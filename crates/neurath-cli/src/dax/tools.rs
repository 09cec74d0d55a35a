//! The programs of other makers that the lane needs, and what to install where one is missing.

use crate::exit::CommandError;
use std::path::{Path, PathBuf};

/// A program, and Debian's package with it.
struct Tool {
    name: &'static str,
    package: &'static str,
}

const TOOLS: [Tool; 6] = [
    Tool {
        name: "qemu-system-x86_64",
        package: "qemu-system-x86",
    },
    Tool {
        name: "busybox",
        package: "busybox-static",
    },
    Tool {
        name: "ndctl",
        package: "ndctl",
    },
    Tool {
        name: "mkfs.ext4",
        package: "e2fsprogs",
    },
    Tool {
        name: "mkfs.xfs",
        package: "xfsprogs",
    },
    Tool {
        name: "ldd",
        package: "libc-bin",
    },
];

/// Where the programs are.
#[derive(Debug)]
pub struct Tools {
    /// Runs the machine.
    pub qemu: PathBuf,
    /// The shell in the machine; it needs no library.
    pub busybox: PathBuf,
    /// What is copied into the machine with its libraries: `ndctl`, and what makes file systems.
    pub inside: Vec<PathBuf>,
}

impl Tools {
    /// Looks for all of them.
    ///
    /// # Errors
    ///
    /// With everything that is missing, and how to install it.
    pub fn find() -> Result<Self, CommandError> {
        Self::find_by(installed)
    }

    fn find_by(installed: impl Fn(&str) -> Option<PathBuf>) -> Result<Self, CommandError> {
        let found = TOOLS.map(|tool| installed(tool.name));
        let missing: Vec<&Tool> = TOOLS
            .iter()
            .zip(&found)
            .filter(|(_, found)| found.is_none())
            .map(|(tool, _)| tool)
            .collect();
        match found {
            [
                Some(qemu),
                Some(busybox),
                Some(ndctl),
                Some(ext4),
                Some(xfs),
                Some(_),
            ] => Ok(Self {
                qemu,
                busybox,
                inside: vec![ndctl, ext4, xfs],
            }),
            _ => Err(CommandError::Found(lacking(&missing))),
        }
    }
}

fn lacking(missing: &[&Tool]) -> String {
    let list = |of: fn(&Tool) -> &'static str| {
        let names: Vec<&str> = missing.iter().map(|tool| of(tool)).collect();
        names
    };
    format!(
        "the machine cannot be made: not installed are {}; apt-get install {}",
        list(|tool| tool.name).join(", "),
        list(|tool| tool.package).join(" ")
    )
}

/// A program by its name, also of those for the administrator.
fn installed(program: &str) -> Option<PathBuf> {
    crate::redis::installed(program).or_else(|| {
        ["/usr/sbin", "/sbin"]
            .iter()
            .map(|folder| Path::new(folder).join(program))
            .find(|file| file.is_file())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_missing_is_told_at_once() {
        let error = Tools::find_by(|name| name.starts_with("mkfs").then(|| PathBuf::from(name)));
        let text = error.expect_err("not all is there").to_string();
        for word in [
            "qemu-system-x86_64",
            "apt-get install qemu-system-x86 busybox-static ndctl",
        ] {
            assert!(text.contains(word), "{text}");
        }
        assert!(!text.contains("xfsprogs"), "{text}");
        assert!(Tools::find_by(|name| Some(PathBuf::from(name))).is_ok());
    }
}
