//! Named durable steps, so that a test can kill the node at each of them.
//!
//! Every place that makes something durable (a write, a sync, a rename) calls [`point`] before and after.
//! Without the feature `fault-points` that is nothing at all. With it, two variables of the environment act:
//!
//! - `NEURATH_FAULT_LOG=path`: each point appends a line `NUMBER NAME` to that file;
//! - `NEURATH_FAULT_KILL=n`: the process is killed with `SIGKILL` at the n-th point, counted from 1 over all
//!   points and threads of the process.
//!
//! A test runs the operation once with the log to learn how many points there are, then once for each of them.

/// Passes the durable step `name`. Does nothing unless the feature `fault-points` is on.
#[cfg(not(feature = "fault-points"))]
#[inline(always)]
pub fn point(_name: &'static str) {}

/// Passes the durable step `name`: counts it, logs it, and kills the process where the environment says so.
#[cfg(feature = "fault-points")]
pub fn point(name: &'static str) {
    enabled::point(name);
}

/// Whether this build has fault points (the feature `fault-points`).
pub const fn enabled() -> bool {
    cfg!(feature = "fault-points")
}

#[cfg(feature = "fault-points")]
mod enabled {
    use std::io::Write as _;
    use std::path::PathBuf;
    use std::sync::{Mutex, OnceLock, PoisonError};

    struct Settings {
        log: Option<PathBuf>,
        kill: Option<u64>,
    }

    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    static PASSED: Mutex<u64> = Mutex::new(0);

    fn settings() -> &'static Settings {
        SETTINGS.get_or_init(|| Settings {
            log: std::env::var_os("NEURATH_FAULT_LOG").map(PathBuf::from),
            kill: std::env::var("NEURATH_FAULT_KILL").ok().map(|text| {
                text.trim().parse().unwrap_or_else(|_| {
                    panic!("NEURATH_FAULT_KILL={text}: not a number; set it to the running number of a point")
                })
            }),
        })
    }

    pub(super) fn point(name: &'static str) {
        let settings = settings();
        if settings.log.is_none() && settings.kill.is_none() {
            return;
        }
        // The lock is held over the log line and the kill, so that number, order and effect agree.
        let mut passed = PASSED.lock().unwrap_or_else(PoisonError::into_inner);
        *passed += 1;
        if let Some(path) = &settings.log {
            let line = format!("{} {name}\n", *passed);
            let written = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(path)
                .and_then(|mut file| file.write_all(line.as_bytes()));
            if let Err(error) = written {
                panic!("NEURATH_FAULT_LOG={}: {error}", path.display());
            }
        }
        if settings.kill == Some(*passed) {
            let killed = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // A delivered SIGKILL lets nothing more of this process run.
            loop {
                if killed.is_err() {
                    std::process::abort();
                }
                std::thread::park();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    /// Run in a child by [`points_are_counted_logged_and_kill`]; on its own it passes three points and ends.
    #[test]
    fn three_points() {
        super::point("test.one");
        super::point("test.two");
        super::point("test.three");
    }

    #[cfg(feature = "fault-points")]
    #[test]
    fn points_are_counted_logged_and_kill() {
        use std::os::unix::process::ExitStatusExt as _;
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "fault::tests::three_points"]).env("NEURATH_FAULT_LOG", &log);
        assert!(command.output().unwrap().status.success());
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "1 test.one\n2 test.two\n3 test.three\n");
        std::fs::remove_file(&log).unwrap();
        let killed = command.env("NEURATH_FAULT_KILL", "2").output().unwrap();
        assert_eq!(killed.status.signal(), Some(9));
        assert_eq!(std::fs::read_to_string(&log).unwrap(), "1 test.one\n2 test.two\n");
    }
}
