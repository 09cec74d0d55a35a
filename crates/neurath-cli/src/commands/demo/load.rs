//! The load of the demo: a client that checks every reply, and `redis-benchmark` beside it.

use anyhow::bail;

use crate::output::Output;
use crate::processes::Process;
use crate::redis;
use crate::testing::NodeProcess;
use neurath_verify::{Options, Report, Running, Verifier, Window};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long the client waits for a reply. On a busy machine one may come late, and was not lost.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the load may take for two pipelines on each connection.
const SETTLED: Duration = Duration::from_secs(60);

pub struct Load {
    expiry: Arc<AtomicBool>,
    verifier: Running,
    benchmark: Option<Process>,
}

impl Load {
    pub fn start(node: &NodeProcess, output: &Output) -> anyhow::Result<Self> {
        let options = Options {
            address: node.address().to_owned(),
            timeout: PATIENCE,
            ..Options::default()
        };
        let expiry = Arc::clone(&options.expiry);
        let verifier = Verifier::new(options).start();
        let benchmark = if redis::installed("redis-benchmark").is_some() {
            // Without random keys: it must not write over those that are checked.
            let load = redis::Load {
                address: node.address(),
                clients: 8,
                pipeline: 4,
                tests: "set,get,incr",
                key_space: None,
            };
            Some(load.start()?)
        } else {
            output.progress(
                "redis-benchmark is not installed: the verifying client is the only load",
            );
            None
        };
        Ok(Self {
            expiry,
            verifier,
            benchmark,
        })
    }

    pub fn has_benchmark(&self) -> bool {
        self.benchmark.is_some()
    }

    /// Whether the verifying client may set and ask for expiry.
    pub fn expiry(&self, on: bool) {
        self.expiry.store(on, Ordering::Relaxed);
    }

    /// Waits until what the verifying client has chosen by now is answered: of each connection the pipeline that is under
    /// way, and the next one.
    pub fn settle(&self, node: &NodeProcess) -> anyhow::Result<()> {
        let pipeline = Options::default().pipeline as u64;
        let before = self.verifier.live().requests_of_each();
        let until = Instant::now() + SETTLED;
        loop {
            let now = self.verifier.live().requests_of_each();
            let mut each = now.iter().zip(&before);
            if each.all(|(now, before)| *now > before + pipeline) {
                return Ok(());
            }
            if Instant::now() >= until {
                bail!("the load stands still: {now:?}");
            }
            self.run_for(Duration::from_millis(5), node)?;
        }
    }

    /// What the verifying client saw since this was last asked.
    pub fn window(&self) -> Window {
        self.verifier.live().take_window()
    }

    /// Lets it run, and looks whether the node is still there.
    pub fn run_for(&self, time: Duration, node: &NodeProcess) -> anyhow::Result<()> {
        let until = Instant::now() + time;
        loop {
            node.check()?;
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(Duration::from_millis(50)));
        }
    }

    /// Stops it. The verifying client reads all its keys back, and reports; the text says what
    /// became of `redis-benchmark`, if it did not run to the end.
    pub fn finish(self) -> (Report, Option<String>) {
        let ended = self
            .benchmark
            .as_ref()
            .and_then(|process| process.ended().ok().flatten());
        let problem =
            ended.map(|status| format!("redis-benchmark did not run to the end ({status})"));
        drop(self.benchmark);
        (self.verifier.finish(), problem)
    }
}
