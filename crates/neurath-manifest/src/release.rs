//! The release: `releases/<release>/<version>.toml`.

use crate::diagnostic::Diagnostics;
use crate::health::HealthCheck;
use crate::keys::RELEASE;
use crate::lint::{LintSetting, settings};
use crate::reader::{Reader, read};
use crate::record::{Record, Val};
use crate::source::{Source, Span};
use semver::Version;
use std::collections::HashMap;
use std::time::Duration;

/// A named, versioned set of components, and the node that runs them.
#[derive(Debug, Clone)]
pub struct Release {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The version of the node that runs it.
    pub node: Version,
    /// The package whose program is that node; the node that is there runs it where none is named.
    pub node_program: Option<String>,
    /// Where the node's version is written.
    pub node_span: Span,
    /// The components in the order in which they are listed, which settles ties in plans.
    pub components: Vec<ReleaseComponent>,
    /// Where each component is in that list, as it was read.
    by_name: HashMap<String, usize>,
    /// When it becomes permanent.
    pub confirm: Confirm,
    /// How often components that fail are started again.
    pub supervision: Supervision,
    /// Levels of lints.
    pub lints: Vec<LintSetting>,
    /// The file it was read from.
    pub source: Source,
}

/// A component of a release.
#[derive(Debug, Clone)]
pub struct ReleaseComponent {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// How it is started.
    pub start: StartType,
    /// Its configuration, to be laid over the defaults of its manifest.
    pub config: toml::Table,
    /// Where its configuration is written, or else its name.
    pub config_span: Span,
    /// Where its name is written.
    pub span: Span,
}

/// How a component is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StartType {
    /// Started; the node does not run without it.
    #[default]
    Permanent,
    /// Started; the node runs on if it ends by itself, and not if it fails.
    Transient,
    /// Started; the node runs on if it ends.
    Temporary,
    /// Its library is opened, nothing is started.
    Load,
    /// Nothing is done.
    None,
}

impl StartType {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Transient => "transient",
            Self::Temporary => "temporary",
            Self::Load => "load",
            Self::None => "none",
        }
    }

    /// Whether something runs: an event loop and a region, not only a library, or nothing.
    pub fn runs(self) -> bool {
        matches!(self, Self::Permanent | Self::Transient | Self::Temporary)
    }

    pub(crate) fn from_key(text: Option<String>) -> Self {
        match text.as_deref() {
            Some("transient") => Self::Transient,
            Some("temporary") => Self::Temporary,
            Some("load") => Self::Load,
            Some("none") => Self::None,
            _ => Self::Permanent,
        }
    }
}

/// How often components that fail are started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Supervision {
    /// So often an instance is started again within the period; once more, and what depends on it is started
    /// again with it.
    pub intensity: u32,
    /// The time in which that is counted.
    pub period: Duration,
    /// So often that is done within as many periods and one; once more, and the node ends.
    pub escalations: u32,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            intensity: 20,
            period: Duration::from_secs(10),
            escalations: 3,
        }
    }
}

/// When a new release becomes permanent by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirm {
    /// How long it must hold.
    pub window: Duration,
    /// How often each check is made.
    pub interval: Duration,
    /// So many failures of one check, one after the other, send the node back.
    pub failures: u32,
    /// So many starts of the node go back from the release before one of them comes up; then a person decides.
    pub starts: u32,
    /// The health checks that must hold for the window.
    pub checks: Vec<HealthCheck>,
}

impl Default for Confirm {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(60),
            interval: Duration::from_secs(1),
            failures: 2,
            starts: 10,
            checks: Vec::new(),
        }
    }
}

impl Release {
    /// Reads a release; `file` is only what diagnostics call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        read(file, text, RELEASE, build)
    }

    /// The component of this name.
    pub fn component(&self, name: &str) -> Option<&ReleaseComponent> {
        let part = self.components.get(*self.by_name.get(name)?)?;
        debug_assert_eq!(part.name, name, "the list was changed after it was read");
        Some(part)
    }
}

fn build(record: &Record, reader: &mut Reader) -> Option<Release> {
    let mut components = Vec::new();
    for (name, value) in record.map("components") {
        let Val::Table(table) = &value.value else {
            continue;
        };
        let Some(version) = table.version("version") else {
            continue;
        };
        components.push(ReleaseComponent {
            name: name.value.clone(),
            version,
            start: StartType::from_key(table.text("start")),
            config: table.free("config").unwrap_or_default(),
            config_span: table.span("config").unwrap_or_else(|| name.span.clone()),
            span: name.span.clone(),
        });
    }
    let default = Confirm::default();
    let confirm = match record.table("confirm") {
        None => default,
        Some(table) => Confirm {
            window: table.duration("window").unwrap_or(default.window),
            interval: table.duration("interval").unwrap_or(default.interval),
            failures: small(table, "failures").unwrap_or(default.failures),
            starts: small(table, "starts").unwrap_or(default.starts),
            checks: table
                .tables("checks")
                .filter_map(|(check, span)| {
                    let built = HealthCheck::build(check, span, reader)?;
                    built.judge_component(&components, span, reader);
                    Some(built)
                })
                .collect(),
        },
    };
    let usual = Supervision::default();
    let supervision = record
        .table("supervision")
        .map_or(usual, |table| Supervision {
            intensity: small(table, "intensity").unwrap_or(usual.intensity),
            period: table.duration("period").unwrap_or(usual.period),
            escalations: small(table, "escalations").unwrap_or(usual.escalations),
        });
    let names = components.iter().map(|part| part.name.clone());
    Some(Release {
        by_name: names.zip(0..).collect(),
        name: record.text("name")?,
        version: record.version("version")?,
        node: record.version("node")?,
        node_program: record.text("node_program"),
        node_span: record.span("node")?,
        components,
        confirm,
        supervision,
        lints: settings(record),
        source: reader.source.clone(),
    })
}

/// A number whose bounds the table of keys has.
fn small(table: &Record, key: &str) -> Option<u32> {
    table.number(key).and_then(|one| u32::try_from(one).ok())
}
