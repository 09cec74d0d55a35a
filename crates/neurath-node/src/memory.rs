//! What a process holds of memory, as `/proc` tells it: the pages of mapped files with it.

use std::io;

/// What a process holds now (`VmRSS`), in bytes.
///
/// # Errors
///
/// If the system does not tell.
pub fn resident(pid: u32) -> io::Result<u64> {
    figure_of(pid, "VmRSS")
}

/// What a process has held at most (`VmHWM`), in bytes, since it began or [`reset_peak`].
///
/// # Errors
///
/// If the system does not tell.
pub fn peak(pid: u32) -> io::Result<u64> {
    figure_of(pid, "VmHWM")
}

/// Lets the system forget how much a process has held at most.
///
/// # Errors
///
/// If it does not.
pub fn reset_peak(pid: u32) -> io::Result<()> {
    let path = format!("/proc/{pid}/clear_refs");
    std::fs::write(&path, "5").map_err(|error| named(&path, &error))
}

fn figure_of(pid: u32, name: &str) -> io::Result<u64> {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).map_err(|error| named(&path, &error))?;
    figure(&text, name).ok_or_else(|| io::Error::other(format!("{path} has no {name}")))
}

fn named(path: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{path}: {error}"))
}

fn figure(status: &str, name: &str) -> Option<u64> {
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read() -> io::Result<()> {
        assert_eq!(
            figure("Name:\tx\nVmRSS:\t    1234 kB\n", "VmRSS"),
            Some(1234 * 1024)
        );
        assert_eq!(figure("Name:\tx\n", "VmRSS"), None);
        assert!(resident(std::process::id())? > 0);
        assert!(peak(std::process::id())? > 0);
        Ok(())
    }
}
