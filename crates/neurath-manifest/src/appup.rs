//! The appup: `manifests/<component>/<version>.appup.toml`, how one component gets here from earlier versions, and back.

use crate::diagnostic::Diagnostics;
use crate::keys::APPUP;
use crate::lint::{LintSetting, settings};
use crate::reader::{Reader, read};
use crate::record::Record;
use crate::release::StartType;
use crate::source::{Located, Source, Span};
use crate::step::{PurgeKind, Step, Strategy};
use semver::{Version, VersionReq};
use std::time::Duration;

/// How one component gets from earlier versions to this one, and back.
#[derive(Debug, Clone)]
pub struct Appup {
    /// The component, if the file says so.
    pub name: Option<String>,
    /// The version that this leads to, if the file says so.
    pub version: Option<Version>,
    /// From earlier versions to this one; the first match wins.
    pub up: Vec<AppupEntry>,
    /// From this version back to earlier ones; the first match wins.
    pub down: Vec<AppupEntry>,
    /// Levels of lints, for what is found about this component.
    pub lints: Vec<LintSetting>,
    /// The file it was read from.
    pub source: Source,
}

/// What to do for the versions of a requirement.
#[derive(Debug, Clone)]
pub struct AppupEntry {
    /// The versions at the other end.
    pub requirement: VersionReq,
    /// Where the requirement is written.
    pub span: Span,
    /// What to do, in order.
    pub instructions: Vec<Located<Instruction>>,
    /// Why there is no way back that undoes every instruction, if it is marked so. Only `[[up]]` entries are.
    pub irreversible: Option<String>,
}

/// One instruction of an appup.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// Suspend, load, `code_change` if asked for, resume.
    Update(Update),
    /// Code only: no state change.
    Load(LoadCode),
    /// Add a component.
    AddComponent {
        /// The component.
        component: String,
        /// How it is started; as the release says if none.
        start: Option<StartType>,
    },
    /// Remove a component.
    RemoveComponent {
        /// The component.
        component: String,
    },
    /// Restart a component.
    RestartComponent {
        /// The component.
        component: String,
        /// How it is started; as the release says if none.
        start: Option<StartType>,
    },
    /// A low-level step; also those that are the same at both levels (`move_state`, `apply`, `restart_new_node`,
    /// `restart_node`, `reset_node`).
    Low(Step),
}

/// The options of `update`.
#[derive(Debug, Clone, PartialEq)]
pub struct Update {
    /// The component.
    pub component: String,
    /// Whether `code_change` is called.
    pub change: Change,
    /// Where `code_change` stands on the way down.
    pub mod_type: ModType,
    /// How long the instances may take to suspend.
    pub timeout: Option<Duration>,
    /// Changed after these components.
    pub depends_on: Vec<String>,
    /// What to do about code of an earlier upgrade that is still in use.
    pub pre_purge: Option<PurgeKind>,
    /// How the old version is purged after it.
    pub post_purge: PurgeKind,
    /// How the state is converted.
    pub strategy: Strategy,
    /// Another component of the release, whose library has the `code_change`.
    pub via: Option<String>,
}

/// The options of the high-level `load`.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadCode {
    /// The component.
    pub component: String,
    /// How long the instances may take to suspend.
    pub timeout: Option<Duration>,
    /// Changed after these components.
    pub depends_on: Vec<String>,
    /// What to do about code of an earlier upgrade that is still in use.
    pub pre_purge: Option<PurgeKind>,
    /// How the old version is purged after it.
    pub post_purge: PurgeKind,
}

/// Whether an update calls `code_change`.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// It does not.
    Soft,
    /// It does, with this table as `extra`.
    Advanced(toml::Table),
}

/// Where `code_change` stands on the way down, as OTP has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ModType {
    /// Before `load`: the newer code, which is still in place, knows the way back.
    #[default]
    Dynamic,
    /// After `load`.
    Static,
}

impl Instruction {
    /// The key that names the instruction in a file.
    pub fn verb(&self) -> &'static str {
        match self {
            Self::Update(_) => "update",
            Self::Load(_) => "load",
            Self::AddComponent { .. } => "add_component",
            Self::RemoveComponent { .. } => "remove_component",
            Self::RestartComponent { .. } => "restart_component",
            Self::Low(step) => step.verb(),
        }
    }
}

impl Appup {
    /// Reads an appup; `file` is only what diagnostics call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        read(file, text, APPUP, build)
    }

    /// The first entry that leads up from this version.
    pub fn up_from(&self, version: &Version) -> Option<&AppupEntry> {
        self.up
            .iter()
            .find(|entry| entry.requirement.matches(version))
    }

    /// The first entry that leads down to this version.
    pub fn down_to(&self, version: &Version) -> Option<&AppupEntry> {
        self.down
            .iter()
            .find(|entry| entry.requirement.matches(version))
    }
}

fn build(record: &Record, reader: &mut Reader) -> Option<Appup> {
    Some(Appup {
        name: record.text("name"),
        version: record.version("version"),
        up: entries(record, "up", "from", reader),
        down: entries(record, "down", "to", reader),
        lints: settings(record),
        source: reader.source.clone(),
    })
}

fn entries(record: &Record, list: &str, other_end: &str, reader: &mut Reader) -> Vec<AppupEntry> {
    let mut entries = Vec::new();
    for (table, _) in record.tables(list) {
        let mut instructions = Vec::new();
        for (step, span) in table.tables("instructions") {
            if let Some(instruction) = instruction(step, span, reader) {
                instructions.push(Located::new(instruction, span.clone()));
            }
        }
        if let (Some(requirement), Some(span)) =
            (table.requirement(other_end), table.span(other_end))
        {
            entries.push(AppupEntry {
                requirement,
                span,
                instructions,
                irreversible: table.text("irreversible"),
            });
        }
    }
    entries
}

fn instruction(record: &Record, span: &Span, reader: &mut Reader) -> Option<Instruction> {
    if record.low {
        return Step::build(record, span, reader).map(Instruction::Low);
    }
    let component = record.text(record.verb)?;
    let start = || {
        let text = record.text("type");
        text.map(|text| StartType::from_key(Some(text)))
    };
    let pre_purge = record
        .text("pre_purge")
        .map(|text| PurgeKind::from_key(Some(text)));
    let post_purge = PurgeKind::from_key(record.text("post_purge"));
    let (timeout, depends_on) = (record.duration("timeout"), record.texts("depends_on"));
    Some(match record.verb {
        "update" => Instruction::Update(Update {
            component,
            change: match record.table("change") {
                Some(table) => Change::Advanced(table.free("advanced")?),
                None => Change::Soft,
            },
            mod_type: match record.text("mod_type").as_deref() {
                Some("static") => ModType::Static,
                _ => ModType::Dynamic,
            },
            timeout,
            depends_on,
            pre_purge,
            post_purge,
            strategy: Strategy::from_key(record.text("strategy")),
            via: record.text("via"),
        }),
        "load" => Instruction::Load(LoadCode {
            component,
            timeout,
            depends_on,
            pre_purge,
            post_purge,
        }),
        "add_component" => Instruction::AddComponent {
            component,
            start: start(),
        },
        "remove_component" => Instruction::RemoveComponent { component },
        "restart_component" => Instruction::RestartComponent {
            component,
            start: start(),
        },
        _ => return None,
    })
}
