//! Health checks: what must hold after an upgrade before a release becomes permanent.

use crate::codes;
use crate::keys::CHECKS;
use crate::reader::Reader;
use crate::record::Record;
use crate::release::ReleaseComponent;
use crate::source::Span;
use crate::words::list;
use std::fmt;
use std::time::Duration;

/// One health check of a release.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// What is looked at.
    pub probe: Probe,
    /// How long one look may take.
    pub timeout: Duration,
}

/// What a health check looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probe {
    /// A command with its arguments; it must end with 0.
    Command(Vec<String>),
    /// An address that must accept a connection.
    Tcp(String),
    /// An address that must answer a RESP request.
    Resp {
        /// `host:port`.
        address: String,
        /// The request's words.
        send: Vec<String>,
        /// What the answer must be; any answer but an error if none.
        expect: Option<String>,
    },
    /// A component whose own `check_state` must hold.
    Component(String),
}

impl fmt::Display for Probe {
    /// As a person would name it: `resp 127.0.0.1:7379 PING`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(words) => write!(f, "command {}", words.join(" ")),
            Self::Tcp(address) => write!(f, "tcp {address}"),
            Self::Resp { address, send, .. } => write!(f, "resp {address} {}", send.join(" ")),
            Self::Component(component) => write!(f, "component {component}"),
        }
    }
}

/// Default of `timeout`.
const TIMEOUT: Duration = Duration::from_secs(1);

impl HealthCheck {
    pub(crate) fn build(record: &Record, span: &Span, reader: &mut Reader) -> Option<Self> {
        let kinds = || CHECKS.iter().map(|keys| keys[0].name);
        let given: Vec<&str> = kinds().filter(|name| record.has(name)).collect();
        let mut refuse = |message: String, help: &str| {
            reader.report(codes::CHECK_TARGET, span, message, "", help);
            None
        };
        let [kind] = given[..] else {
            let message = format!("a health check has exactly one of {}", list(kinds()));
            return refuse(
                message,
                "write { resp = \"127.0.0.1:7379\" }, and one table each",
            );
        };
        if kind != "resp" && (record.has("send") || record.has("expect")) {
            let message = format!("`send` and `expect` do not go with `{kind}`");
            return refuse(message, "they belong to a `resp` check");
        }
        let probe = match kind {
            "command" => Probe::Command(record.texts("command")),
            "tcp" => Probe::Tcp(record.text("tcp")?),
            "resp" => Probe::Resp {
                address: record.text("resp")?,
                send: match record.texts("send") {
                    words if words.is_empty() => vec!["PING".into()],
                    words => words,
                },
                expect: record.text("expect"),
            },
            _ => Probe::Component(record.text("component")?),
        };
        let timeout = record.duration("timeout").unwrap_or(TIMEOUT);
        let mut never = |key: &str, message: String, help: &str| {
            let span = record.span(key).unwrap_or_else(|| span.clone());
            reader.report(codes::CHECK_NEVER_HOLDS, &span, message, "", help);
        };
        if let Probe::Tcp(address) | Probe::Resp { address, .. } = &probe
            && let Err(why) = can_be_reached(address)
        {
            let message = format!("nothing can be reached at `{address}`: {why}");
            never(kind, message, "write host:port, as in 127.0.0.1:7379");
        }
        if timeout.is_zero() {
            let message = "a health check that has no time never holds".to_owned();
            never("timeout", message, "write a longer one, as in \"1s\"");
        }
        Some(Self { probe, timeout })
    }

    /// Reports a check of a component that does not run in its release.
    pub(crate) fn judge_component(
        &self,
        components: &[ReleaseComponent],
        span: &Span,
        reader: &mut Reader,
    ) {
        let Probe::Component(name) = &self.probe else {
            return;
        };
        let found = components.iter().find(|one| one.name == *name);
        let why = match found {
            Some(one) if one.start.runs() => return,
            Some(_) => "is only loaded, and answers nothing",
            None => "is not in the release",
        };
        let message = format!("a health check asks `{name}`, which {why}");
        let running = components.iter().filter(|one| one.start.runs());
        let help = format!("it can ask {}", list(running.map(|one| one.name.as_str())));
        reader.report(codes::CHECK_NEVER_HOLDS, span, message, "", &help);
    }
}

/// Whether a connection can be asked for: `host:port`, each of them something.
fn can_be_reached(address: &str) -> Result<(), &'static str> {
    let (host, port) = address.rsplit_once(':').ok_or("it has no port")?;
    let blank = |one: char| one.is_whitespace() || one.is_control();
    if host.is_empty() || host.contains(blank) {
        return Err("it has no host");
    }
    let digits = !port.is_empty() && port.bytes().all(|one| one.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(1..) if digits => Ok(()),
        _ => Err("its port is no number from 1 to 65535"),
    }
}
