//! Health checks: what must hold after an upgrade before a release becomes permanent.

use crate::codes;
use crate::keys::CHECKS;
use crate::reader::Reader;
use crate::record::Record;
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
        Some(Self {
            probe,
            timeout: record.duration("timeout").unwrap_or(TIMEOUT),
        })
    }
}
