//! What a service manager is told of the node: systemd's `sd_notify`, and the levels of its journal.
//!
//! A message is a datagram to the socket that `NOTIFY_SOCKET` names: `sd_notify(3)`. A node that hangs is
//! found by its missing `WATCHDOG=1`: it is sent only when the event loop has come to the end of a message.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;
use neurath_node::node::NodeHandle;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How often it is looked whether a socket has come or gone.
const LOOK: Duration = Duration::from_millis(200);

/// A service manager that waits for messages.
#[derive(Debug, Clone)]
pub struct ServiceManager {
    socket: Arc<UnixDatagram>,
    address: SocketAddr,
    /// How often it wants to hear of the node.
    watchdog: Option<Duration>,
}

impl ServiceManager {
    /// The one that has started this process, if it wants messages. `stands_in`: it was started in the place of the
    /// process that the service manager means.
    #[must_use]
    pub fn from_environment(stands_in: bool) -> Option<ServiceManager> {
        let of = |name: &str| std::env::var_os(name);
        let socket = of("NOTIFY_SOCKET")?;
        let meant = of("WATCHDOG_PID").filter(|_| !stands_in);
        let watchdog = watchdog(of("WATCHDOG_USEC"), meant);
        match ServiceManager::at(&socket, watchdog) {
            Ok(manager) => Some(manager),
            Err(error) => {
                tracing::warn!(%error, "the service manager cannot be told anything");
                None
            }
        }
    }

    fn at(socket: &OsStr, watchdog: Option<Duration>) -> io::Result<ServiceManager> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            _ => SocketAddr::from_pathname(socket)?,
        };
        Ok(ServiceManager {
            socket: Arc::new(UnixDatagram::unbound()?),
            address,
            watchdog,
        })
    }

    /// Sends a message. One that does not arrive is only logged: the node has other things to do.
    pub fn tell(&self, message: &str) {
        if let Err(error) = self.socket.send_to_addr(message.as_bytes(), &self.address) {
            tracing::warn!(%error, message, "the service manager was not told");
        }
    }

    /// Gives it the sockets where clients reach the node, so that they wait, and are not refused, while no node
    /// runs.
    fn keep(&self, sockets: &[(String, OwnedFd)]) {
        for (address, socket) in sockets {
            let message = format!("FDSTORE=1\nFDNAME={}", store_name(address));
            let descriptors = [socket.as_fd()];
            if let Err(error) = self.send(message.as_bytes(), &descriptors) {
                tracing::warn!(%error, address, "the service manager was not given the socket");
            }
        }
    }

    /// Sends a message, and descriptors with it.
    fn send(&self, message: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        ancillary.push(SendAncillaryMessage::ScmRights(descriptors));
        let address = match self.address.as_abstract_name() {
            Some(name) => SocketAddrUnix::new_abstract_name(name)?,
            None => SocketAddrUnix::new(self.address.as_pathname().unwrap_or(Path::new("")))?,
        };
        let bytes = [IoSlice::new(message)];
        let flags = SendFlags::NOSIGNAL;
        sendmsg_addr(&self.socket, &address, &bytes, &mut ancillary, flags)?;
        Ok(())
    }

    /// Keeps the service manager's sockets the same as the node's.
    fn keep_sockets(&self, node: &NodeHandle, kept: Vec<String>) {
        let mut known = node.sockets_changed();
        let mut kept = self.keep_once(node, kept);
        let (manager, node) = (self.clone(), node.clone());
        let keeper = std::thread::Builder::new().name("neurath-sockets".into());
        let keeping = keeper.spawn(move || {
            loop {
                std::thread::sleep(LOOK);
                let now = node.sockets_changed();
                if now != known {
                    known = now;
                    kept = manager.keep_once(&node, kept);
                }
            }
        });
        if let Err(error) = keeping {
            tracing::warn!(%error, "the service manager keeps the sockets that there are now");
        }
    }

    /// Gives it what there is, and lets it forget what there is no more; gives what is kept.
    fn keep_once(&self, node: &NodeHandle, kept: Vec<String>) -> Vec<String> {
        match node.sockets(LOOK * 10) {
            Ok(Some(sockets)) => {
                self.keep(&sockets);
                let now: Vec<String> = sockets.into_iter().map(|(address, _)| address).collect();
                for gone in kept.iter().filter(|address| !now.contains(address)) {
                    let name = store_name(gone);
                    self.tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"));
                }
                now
            }
            Ok(None) => kept,
            Err(error) => {
                tracing::warn!(%error, "the service manager does not get the sockets");
                kept
            }
        }
    }

    /// Says that the node serves, and from then on, as often as is wanted, that it still does. `kept`: the
    /// addresses of the sockets that it has handed over.
    pub fn serves(&self, node: &NodeHandle, kept: Vec<String>) {
        self.keep_sockets(node, kept);
        let status = node.status();
        let release = status.release.map(|release| release.to_string());
        let release = release.unwrap_or_default();
        self.tell(&format!("READY=1\nSTATUS={release} serves"));
        let Some(interval) = self.watchdog else {
            return;
        };
        let (manager, node) = (self.clone(), node.clone());
        let watch = std::thread::Builder::new().name("neurath-watchdog".into());
        let watching = watch.spawn(move || {
            loop {
                if node.answers(interval) {
                    manager.tell("WATCHDOG=1");
                }
                std::thread::sleep(interval);
            }
        });
        if let Err(error) = watching {
            tracing::warn!(%error, "the service manager will not hear of the node");
        }
    }
}

/// The sockets that the service manager has handed over: those of a socket unit, and those that a node before has
/// given it to keep. Only for the process that it means. Takes them out of the environment, so that no program that
/// this one runs takes them for its own.
#[must_use]
pub fn sockets() -> Vec<TcpListener> {
    let mut handed_over = ListenFd::from_env();
    let mut found: Vec<TcpListener> = Vec::new();
    for number in 0..handed_over.len() {
        match handed_over.take_tcp_listener(number) {
            Ok(Some(socket)) => {
                let address = socket.local_addr().ok();
                // The same one comes twice if a socket unit has one that was given to keep as well.
                if !found.iter().any(|one| one.local_addr().ok() == address) {
                    found.push(socket);
                }
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(%error, number, "a socket that was handed over is not used")
            }
        }
    }
    found
}

/// What a socket is called by the service manager, which takes no colons.
fn store_name(address: &str) -> String {
    format!("listen-{}", address.replace(':', "_"))
}

/// How often to tell: three times in the time that the service manager waits. Nothing if another
/// process is meant.
fn watchdog(usec: Option<OsString>, pid: Option<OsString>) -> Option<Duration> {
    let number = |text: OsString| text.to_str()?.parse::<u64>().ok();
    if let Some(pid) = pid
        && number(pid) != Some(std::process::id().into())
    {
        return None;
    }
    let usec = number(usec?)?;
    (usec > 0).then(|| Duration::from_micros(usec / 3))
}

/// Whether standard error goes to systemd's journal: the variable names its device and inode.
#[must_use]
pub fn logs_to_journal() -> bool {
    let stream = std::env::var("JOURNAL_STREAM").unwrap_or_default();
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| stream == format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Lines as the journal reads them: with a level before each, and without the time, which it knows.
#[derive(Debug)]
pub struct JournalFormat(Format<Full, ()>);

impl Default for JournalFormat {
    fn default() -> JournalFormat {
        JournalFormat(
            tracing_subscriber::fmt::format()
                .without_time()
                .with_level(false)
                .with_ansi(false),
        )
    }
}

/// The levels of `sd-daemon(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        _ => 7,
    }
}

impl<S, N> FormatEvent<S, N> for JournalFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        write!(writer, "<{}>", priority(*event.metadata().level()))?;
        self.0.format_event(context, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_often_it_is_told() {
        let text = |text: &str| Some(OsString::from(text));
        let own = std::process::id().to_string();
        let third = Some(Duration::from_secs(10));
        assert_eq!(watchdog(text("30000000"), None), third);
        assert_eq!(watchdog(text("30000000"), text(&own)), third);
        assert_eq!(watchdog(text("30000000"), text("1")), None);
        assert_eq!(watchdog(None, None), None);
        for nonsense in ["", "0", "soon", "-1"] {
            assert_eq!(watchdog(text(nonsense), None), None, "{nonsense}");
        }
    }

    #[test]
    fn both_kinds_of_sockets_are_told() -> io::Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("notify");
        let name = format!("@neurath-test-{}", std::process::id());
        let abstract_name = SocketAddr::from_abstract_name(&name.as_bytes()[1..])?;
        let sockets = [
            (path.clone().into_os_string(), UnixDatagram::bind(&path)?),
            (name.into(), UnixDatagram::bind_addr(&abstract_name)?),
        ];
        for (address, socket) in sockets {
            ServiceManager::at(&address, None)?.tell("READY=1");
            let mut bytes = [0; 64];
            let length = socket.recv(&mut bytes)?;
            assert_eq!(&bytes[..length], b"READY=1");
        }
        // Nobody there: the node lives on.
        ServiceManager::at(OsStr::new("/nowhere/at/all"), None)?.tell("READY=1");
        Ok(())
    }
}
