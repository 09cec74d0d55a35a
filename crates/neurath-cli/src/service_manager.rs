//! What a service manager is told of the node: systemd's `sd_notify`, and the levels of its journal.
//!
//! A message is a datagram to the socket that `NOTIFY_SOCKET` names: `sd_notify(3)`. A node that hangs is
//! found by its missing `WATCHDOG=1`: it is sent only when the event loop has come to the end of a message.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use neurath_node::node::NodeHandle;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::{Format, Full, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

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

    /// Says that the node serves, and from then on, as often as is wanted, that it still does.
    pub fn serves(&self, node: &NodeHandle) {
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
