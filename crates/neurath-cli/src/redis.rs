//! Redis and its tools, where they are installed.

use crate::processes::{Process, TemporaryFolder};
use crate::resp::Connection;
use crate::testing::free_port;
use anyhow::{Context as _, bail};
use kv_resp::Value;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The path of an installed program.
#[must_use]
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}

/// Why something with Redis cannot be done, if so.
#[must_use]
pub fn missing() -> Option<String> {
    let missing: Vec<&str> = ["redis-server", "redis-benchmark"]
        .into_iter()
        .filter(|program| installed(program).is_none())
        .collect();
    (!missing.is_empty()).then(|| format!("{} is not installed", missing.join(" and ")))
}

/// What a Redis server's answers promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// Nothing: it has no file.
    None,
    /// That what they tell of is on the disk (`appendfsync always`).
    Always,
    /// That it is in a file once it was saved.
    Dump,
}

/// How long saving and loading may take.
const LONG: Duration = Duration::from_secs(300);

/// A Redis server. It ends when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    address: String,
    persistence: Persistence,
    folder: TemporaryFolder,
}

impl RedisServer {
    /// Starts it on a free port, with its files in a temporary folder.
    ///
    /// # Errors
    ///
    /// If it is not installed, or does not answer.
    pub fn start(persistence: Persistence) -> anyhow::Result<Self> {
        let folder = TemporaryFolder::new()?;
        let address = format!("127.0.0.1:{}", free_port()?);
        let process = Self::process(&address, persistence, &folder)?;
        let server = Self {
            process,
            address,
            persistence,
            folder,
        };
        server.answers(&["PING"], Duration::from_secs(60))?;
        Ok(server)
    }

    fn process(
        address: &str,
        persistence: Persistence,
        folder: &TemporaryFolder,
    ) -> anyhow::Result<Process> {
        let program = installed("redis-server").context("redis-server is not installed")?;
        let port = address.rsplit_once(':').map_or("", |(_, port)| port);
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", port, "--save", ""]);
        command.args(match persistence {
            Persistence::None | Persistence::Dump => &["--appendonly", "no"][..],
            Persistence::Always => &["--appendonly", "yes", "--appendfsync", "always"],
        });
        command
            .args(["--daemonize", "no", "--dir"])
            .arg(folder.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Process::start("redis-server", &mut command)?)
    }

    /// Waits for an answer that is no error.
    fn answers(&self, request: &[&str], within: Duration) -> anyhow::Result<()> {
        let until = Instant::now() + within;
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("redis-server ended at its start ({status})");
            }
            let answer = Connection::open(&self.address).and_then(|mut one| one.ask(request));
            match answer {
                Ok(Value::Error(error)) if Instant::now() >= until => {
                    bail!("{}", String::from_utf8_lossy(&error))
                }
                Ok(Value::Error(_)) => {}
                Ok(_) => return Ok(()),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => {}
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Saves what it has, kills it and starts it anew; how long it takes from the start until it answers this
    /// request, and how long the saving took.
    ///
    /// # Errors
    ///
    /// If it does not save, or not come up.
    pub fn start_again(&mut self, request: &[&str]) -> anyhow::Result<(Duration, Duration)> {
        let began = Instant::now();
        let mut asked = Connection::open(&self.address)?;
        // Much state takes its time.
        asked.wait_for(LONG)?;
        if let Value::Error(error) = asked.ask(&["SAVE"])? {
            bail!("SAVE: {}", String::from_utf8_lossy(&error));
        }
        let saved = began.elapsed();
        self.process.kill();
        let began = Instant::now();
        self.process = Self::process(&self.address, self.persistence, &self.folder)?;
        self.answers(request, LONG)?;
        Ok((began.elapsed(), saved))
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }
}

/// A load made with `redis-benchmark`.
#[derive(Debug, Clone, Copy)]
pub struct Load<'a> {
    /// Host and port.
    pub address: &'a str,
    /// Connections.
    pub clients: u32,
    /// Requests at once on each.
    pub pipeline: u32,
    /// Tests, such as `set,get`.
    pub tests: &'a str,
    /// How many different keys there are; one without.
    pub key_space: Option<u32>,
}

impl Load<'_> {
    fn command(&self) -> anyhow::Result<Command> {
        let program = installed("redis-benchmark").context("redis-benchmark is not installed")?;
        let (host, port) = self
            .address
            .rsplit_once(':')
            .context("an address without a port")?;
        let mut command = Command::new(program);
        command.args(["-h", host, "-p", port, "-t", self.tests]);
        command.args([
            "-c",
            &self.clients.to_string(),
            "-P",
            &self.pipeline.to_string(),
        ]);
        if let Some(keys) = self.key_space {
            command.args(["-r", &keys.to_string()]);
        }
        command.stdin(Stdio::null());
        Ok(command)
    }

    /// Runs until the result is dropped.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn start(&self) -> anyhow::Result<Process> {
        let mut command = self.command()?;
        command
            .args(["-l", "-q", "-n", "100000"])
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Ok(Process::start("redis-benchmark", &mut command)?)
    }

    /// Sends so many requests for each test, and gives the requests a second of each.
    ///
    /// # Errors
    ///
    /// If it fails, or the server answers with an error.
    pub fn measure(&self, requests: u64) -> anyhow::Result<Vec<(String, f64)>> {
        let mut command = self.command()?;
        command.args(["--csv", "-n", &requests.to_string()]);
        let output = command.output()?;
        let stdout = String::from_utf8_lossy(&output.stdout);
        let rates = rates(&stdout);
        if !output.status.success() || rates.len() != self.tests.split(',').count() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!(
                "redis-benchmark failed ({}): {stdout}{stderr}",
                output.status
            );
        }
        Ok(rates)
    }
}

/// Reads `"SET","55555.55",…`; a heading is left out.
fn rates(csv: &str) -> Vec<(String, f64)> {
    let row = |line: &str| {
        let mut cells = line.trim().split(',').map(|cell| cell.trim_matches('"'));
        let name = cells.next()?;
        Some((name.to_owned(), cells.next()?.parse().ok()?))
    };
    csv.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        let new = "\"test\",\"rps\",\"avg_latency_ms\"\n\"SET\",\"1111111.12\",\"0.664\"\n\"GET\",\"5.5\",\"1\"\n";
        assert_eq!(
            rates(new),
            [("SET".to_owned(), 1_111_111.12), ("GET".to_owned(), 5.5)]
        );
        assert_eq!(rates("\"SET\",\"55.5\"\n"), [("SET".to_owned(), 55.5)]);
        assert!(rates("WARNING: no CONFIG\n").is_empty());
    }

    #[test]
    fn programs_are_found() {
        assert!(installed("sh").is_some());
        assert!(installed("no-such-program-anywhere").is_none());
    }
}
