//! libpmemobj, in a process of its own: a small driver in C, compiled when it is needed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, bail};

/// The names of what must be installed.
const PACKAGES: &str = "libpmemobj-dev and gcc";

/// How it makes durable what it has stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum How {
    /// By barriers alone: for the death of the process, and where caches survive (eADR).
    Fences,
    /// By writing cache lines, as on persistent memory.
    Lines,
    /// By `msync`, as on an ordinary file.
    Msync,
}

/// The compiled driver.
pub struct Driver {
    program: PathBuf,
}

impl Driver {
    /// Compiles it in `folder`.
    ///
    /// # Errors
    ///
    /// What is not installed.
    pub fn compile(folder: &Path) -> Result<Driver, String> {
        let source = folder.join("pmdk.c");
        let program = folder.join("pmdk");
        std::fs::write(&source, include_str!("pmdk.c")).map_err(|error| error.to_string())?;
        let output = Command::new("cc")
            .args(["-O2", "-o"])
            .args([&program, &source])
            .arg("-lpmemobj")
            .output();
        match output {
            Ok(output) if output.status.success() => Ok(Driver { program }),
            Ok(output) => {
                let text = String::from_utf8_lossy(&output.stderr);
                let first = text.lines().find(|line| line.contains("error"));
                let first = first.unwrap_or("the C compiler failed").trim();
                Err(format!("needs {PACKAGES}: {first}"))
            }
            Err(error) => Err(format!("needs {PACKAGES}: cc: {error}")),
        }
    }

    /// Starts it, with its best settings for what its commits are to survive.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(&self, how: How) -> anyhow::Result<Pmdk> {
        let mut command = Command::new(&self.program);
        let settings: &[(&str, &str)] = match how {
            How::Fences => &[("PMEM_IS_PMEM_FORCE", "1"), ("PMEM_NO_FLUSH", "1")],
            How::Lines => &[("PMEM_IS_PMEM_FORCE", "1")],
            How::Msync => &[("PMEM_IS_PMEM_FORCE", "0")],
        };
        command.envs(settings.iter().copied());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the driver of libpmemobj")?;
        let input = child.stdin.take().context("its standard input")?;
        let output = child.stdout.take().context("its standard output")?;
        Ok(Pmdk {
            child,
            input,
            output: BufReader::new(output),
        })
    }
}

/// A running driver.
pub struct Pmdk {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Pmdk {
    /// Has a command carried out; gives the answer.
    ///
    /// # Errors
    ///
    /// What libpmemobj says, or that the driver has ended.
    pub fn ask(&mut self, command: &str) -> anyhow::Result<f64> {
        writeln!(self.input, "{command}").context("the driver of libpmemobj has ended")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        match line.trim().parse() {
            Ok(value) => Ok(value),
            Err(_) => bail!("libpmemobj, {command}: {}", line.trim()),
        }
    }

    /// Ends it with its pool open.
    ///
    /// # Errors
    ///
    /// If it cannot be waited for.
    pub fn die(mut self) -> anyhow::Result<()> {
        writeln!(self.input, "die")?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Pmdk {
    fn drop(&mut self) {
        // Ended already, if it was told to die.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
