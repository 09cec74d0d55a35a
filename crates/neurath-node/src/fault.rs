//! Named durable steps, so that a test can kill the node at each of them.
//!
//! Every place that makes something durable (a write, a sync, a rename) calls [`point`] before and after.
//! Without the feature `fault-points` that is nothing at all. With it, variables of the environment act:
//!
//! - `NEURATH_FAULT_LOG=path`: each point appends a line `NUMBER NAME` to that file;
//! - `NEURATH_FAULT_KILL=n`: the process is killed with `SIGKILL` at the n-th point, counted from 1 over all
//!   points and threads of the process;
//! - `NEURATH_FAULT_KILL_AT=name`, `NEURATH_FAULT_HANG_AT=name`: it is killed at the point of that name, or the
//!   thread that comes there never goes on.
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
        kill_at: Option<String>,
        hang_at: Option<String>,
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
            kill_at: std::env::var("NEURATH_FAULT_KILL_AT").ok(),
            hang_at: std::env::var("NEURATH_FAULT_HANG_AT").ok(),
        })
    }

    pub(super) fn point(name: &'static str) {
        let settings = settings();
        if settings.hang_at.as_deref() == Some(name) {
            loop {
                std::thread::park();
            }
        }
        let kills_here = settings.kill_at.as_deref() == Some(name);
        if settings.log.is_none() && settings.kill.is_none() && !kills_here {
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
        if kills_here || settings.kill == Some(*passed) {
            let killed = rustix::process::kill_process(
                rustix::process::getpid(),
                rustix::process::Signal::KILL,
            );
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
        command
            .args(["--exact", "fault::tests::three_points"])
            .env("NEURATH_FAULT_LOG", &log);
        assert!(command.output().unwrap().status.success());
        assert_eq!(
            std::fs::read_to_string(&log).unwrap(),
            "1 test.one\n2 test.two\n3 test.three\n"
        );
        std::fs::remove_file(&log).unwrap();
        let killed = command.env("NEURATH_FAULT_KILL", "2").output().unwrap();
        assert_eq!(killed.status.signal(), Some(9));
        assert_eq!(
            std::fs::read_to_string(&log).unwrap(),
            "1 test.one\n2 test.two\n"
        );
    }

    /// The work that [`killed_at_every_point_the_records_are_whole`] kills: nothing when run on its own.
    #[test]
    fn a_node_directory_is_made_and_used() {
        use crate::catalog::{Catalog, State};
        use crate::directory::NodeDirectory;
        use crate::journal::{Journal, Kind, Verdict};
        let Some(path) = std::env::var_os("NEURATH_TEST_DIRECTORY") else {
            return;
        };
        let node = NodeDirectory::open_or_create(path).unwrap();
        let mut catalog = match Catalog::open(node.path()) {
            Ok(catalog) => catalog,
            Err(_) => Catalog::create(node.path()).unwrap(),
        };
        let mut journal = Journal::open(node.journal()).unwrap();
        let _server = crate::control::ControlServer::bind(&node).unwrap();
        journal.end_interrupted(|_| String::new()).unwrap();
        for _ in 0..2 {
            let sequence = catalog.state().sequence + 1;
            let id = format!("op-{sequence}");
            let started = Kind::Started {
                operation: "apply".to_owned(),
                plan_id: None,
                from: None,
                to: None,
            };
            journal.append(&id, "test", started).unwrap();
            let mut state = State {
                sequence,
                ..State::default()
            };
            state.next_generation = sequence * 10;
            catalog.commit(state).unwrap();
            let ended = Kind::Ended {
                verdict: Verdict::Done,
                text: String::new(),
            };
            journal.append(&id, "test", ended).unwrap();
        }
    }

    #[cfg(feature = "fault-points")]
    #[test]
    fn killed_at_every_point_the_records_are_whole() {
        use std::os::unix::process::ExitStatusExt as _;
        let run = |path: &std::path::Path, kill: Option<u32>| {
            let mut command = std::process::Command::new(std::env::current_exe().unwrap());
            command
                .args(["--exact", "fault::tests::a_node_directory_is_made_and_used"])
                .env("NEURATH_TEST_DIRECTORY", path);
            if let Some(kill) = kill {
                command.env("NEURATH_FAULT_KILL", kill.to_string());
            }
            command.output().unwrap().status
        };
        let mut kills = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("node");
            let status = run(&path, Some(kills + 1));
            if status.success() {
                break;
            }
            assert_eq!(status.signal(), Some(9), "kill {}", kills + 1);
            kills += 1;
            let before = crate::catalog::Catalog::open(&path).map_or(0, |catalog| {
                assert_eq!(
                    catalog.state().next_generation,
                    catalog.state().sequence * 10
                );
                catalog.state().sequence
            });
            assert!(run(&path, None).success(), "after kill {kills}");
            let catalog = crate::catalog::Catalog::open(&path).unwrap();
            assert_eq!(catalog.state().sequence, before + 2, "kill {kills}");
            let journal = crate::journal::Journal::open(path.join("journal")).unwrap();
            assert!(journal.unfinished().is_empty(), "kill {kills}");
        }
        assert!(kills > 20, "{kills} points");
    }
}
