//! The component manifest: `manifests/<component>/<version>.toml`.

use crate::codes;
use crate::config::{self, ConfigKey};
use crate::diagnostic::Diagnostics;
use crate::keys::COMPONENT;
use crate::reader::{Reader, read};
use crate::record::{Record, Val};
use crate::source::{Source, Span};
use semver::{Version, VersionReq};

/// Messages that may wait for an instance, if its manifest says nothing.
const MAILBOX: u64 = 65_536;

/// What a component is, in one version.
#[derive(Debug, Clone)]
pub struct Component {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The cargo package that is built into its library.
    pub library: String,
    /// How many instances it has, each with its own region.
    pub instances: u32,
    /// So many messages may wait for an instance.
    pub mailbox: u32,
    /// The region of each instance.
    pub region: Region,
    /// The components it needs, in the order in which they are written.
    pub depends_on: Vec<Dependency>,
    /// Defaults of the configuration.
    pub config: toml::Table,
    /// The keys that the configuration has, with their types; none if nothing is said of them.
    pub config_schema: Option<Vec<ConfigKey>>,
    /// The file it was read from.
    pub source: Source,
}

/// The region of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Bytes of a new region.
    pub initial_size: u64,
    /// The region never grows beyond this many bytes.
    pub limit: u64,
    /// What a write survives.
    pub durability: Durability,
}

/// What a write to a region survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the process.
    Process,
    /// A loss of power.
    Power,
}

/// Another component that is needed.
#[derive(Debug, Clone)]
pub struct Dependency {
    /// Its name.
    pub component: String,
    /// The versions that will do.
    pub requirement: VersionReq,
    /// Where this is written.
    pub span: Span,
}

impl Component {
    /// Reads a component manifest; `file` is only what diagnostics call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        read(file, text, COMPONENT, build)
    }
}

fn build(record: &Record, reader: &mut Reader) -> Option<Component> {
    let name = record.text("name");
    let mut depends_on = Vec::new();
    for (component, requirement) in record.map("depends_on") {
        if Some(&component.value) == name.as_ref() {
            let message = format!("`{}` depends on itself", component.value);
            reader.report(
                codes::SELF_DEPENDENCY,
                &component.span,
                message,
                "",
                "remove this line",
            );
        }
        if let Val::Requirement(requirement) = &requirement.value {
            let span = component.span.clone();
            depends_on.push(Dependency {
                component: component.value.clone(),
                requirement: requirement.clone(),
                span,
            });
        }
    }
    let region = record
        .table("region")
        .and_then(|table| region(table, reader));
    Some(Component {
        name: name?,
        version: record.version("version")?,
        library: record.text("library")?,
        instances: u32::try_from(record.number("instances").unwrap_or(1)).ok()?,
        mailbox: u32::try_from(record.number("mailbox").unwrap_or(MAILBOX)).ok()?,
        region: region?,
        depends_on,
        config: record.free("config").unwrap_or_default(),
        config_schema: config::schema(record),
        source: reader.source.clone(),
    })
}

fn region(record: &Record, reader: &mut Reader) -> Option<Region> {
    let (initial_size, limit) = (record.number("initial_size")?, record.number("limit")?);
    if limit < initial_size {
        let message = format!(
            "the region's limit of {limit} bytes is smaller than its initial size of {initial_size}"
        );
        let span = record.span("limit")?;
        reader.report(
            codes::REGION_SIZES,
            &span,
            message,
            "smaller than `initial_size`",
            "raise `limit`, or lower `initial_size`",
        );
    }
    let durability = match record.text("durability")?.as_str() {
        "power" => Durability::Power,
        _ => Durability::Process,
    };
    Some(Region {
        initial_size,
        limit,
        durability,
    })
}
