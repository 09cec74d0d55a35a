//! Loads that check every answer, and take no lost or refused connection for granted.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use neurath_verify::{Options, Running, Turns, Verifier};

use super::{PATIENCE, wait_until};

/// The longest pipeline of these loads.
const PIPELINE: usize = 16;

/// A load that takes no lost connection for granted.
pub fn load(address: &str, pipeline: usize, seed: u64) -> Running {
    load_through(address, pipeline, seed, &Turns::default())
}

/// The same, of a server whose state is exchanged on purpose.
pub fn load_through(address: &str, pipeline: usize, seed: u64, turns: &Turns) -> Running {
    assert!(pipeline <= PIPELINE, "`served` counts on it");
    let options = Options {
        address: address.to_owned(),
        connections: 3,
        pipeline,
        keys: 1_000,
        seed,
        reconnect: false,
        timeout: PATIENCE,
        turns: turns.clone(),
        ..Options::default()
    };
    Verifier::new(options).start()
}

/// Waits until it was served so many more requests, and each of its connections the pipeline that was under way, and the
/// next one.
pub fn served(load: &Running, more: u64) {
    let goal = load.live().totals().requests + more;
    let before = load.live().requests_of_each();
    wait_until("the load goes on", || {
        let now = load.live().requests_of_each();
        let mut of_each = now.iter().zip(&before);
        load.live().totals().requests >= goal
            && of_each.all(|(now, before)| *now > before + PIPELINE as u64)
    });
}

#[track_caller]
pub fn assert_clean(load: Running) {
    let report = load.finish();
    assert!(report.is_clean(), "{report}");
}

/// Connects again and again; each has to be taken and answered.
pub struct Newcomers {
    stop: Arc<AtomicBool>,
    came: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<()>,
}

impl Newcomers {
    pub fn start(address: &str) -> Self {
        let (stop, came) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicU64::new(0)),
        );
        let (until, count, address) = (stop.clone(), came.clone(), address.to_owned());
        let thread = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                assert_eq!(Client::open(&address).ask("PING"), "+PONG");
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { stop, came, thread }
    }

    /// Waits until several have come.
    pub fn finish(self) {
        wait_until("others come", || {
            self.came.load(Ordering::Relaxed) > 20 || self.thread.is_finished()
        });
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a connection was refused");
    }
}

/// A client that sends lines and reads lines.
pub struct Client(TcpStream);

impl Client {
    pub fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self(stream)
    }

    pub fn send(&mut self, bytes: &str) {
        self.0.write_all(bytes.as_bytes()).expect("sent");
    }

    pub fn line(&mut self) -> String {
        let (mut line, mut byte) = (Vec::new(), [0]);
        while !line.ends_with(b"\r\n") {
            self.0.read_exact(&mut byte).expect("an answer");
            line.push(byte[0]);
        }
        String::from_utf8_lossy(&line).trim_end().to_owned()
    }

    pub fn ask(&mut self, line: &str) -> String {
        self.send(&format!("{line}\r\n"));
        self.line()
    }
}
