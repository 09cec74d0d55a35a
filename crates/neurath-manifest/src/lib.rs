//! The files of Neurath: component manifests, appups, releases and relups.
//!
//! All are TOML. Each kind is a type with a `parse(file, text)`, which either gives the value or *all* that is
//! wrong with the text, as [`Diagnostics`]: a stable code, the place underlined, the cause, and the next thing to do.
//!
//! This crate is pure: text and values in, values and diagnostics out. It touches no file, clock or thread.

#![forbid(unsafe_code)]

mod appup;
mod canonical;
pub mod codes;
mod component;
mod config;
mod diagnostic;
mod free;
mod health;
mod keys;
mod lint;
mod reader;
mod record;
mod release;
mod relup;
mod render;
pub mod scalar;
pub mod schema;
mod source;
mod step;
mod suggest;
mod toml_text;
mod words;

pub use appup::{Appup, AppupEntry, Change, Instruction, LoadCode, ModType, Update};
pub use canonical::canonical;
pub use component::{Component, Dependency, Durability, Region};
pub use config::{ConfigKey, ConfigProblem, ConfigType};
pub use diagnostic::{Diagnostic, Diagnostics, Place, Severity};
pub use health::{HealthCheck, Probe};
pub use lint::{LintLevel, LintSetting};
pub use release::{Confirm, Release, ReleaseComponent, StartType, Supervision};
pub use relup::{Relup, RelupEntry, ScriptComments};
pub use source::{Located, Source, Span};
pub use step::{ApplyTarget, Hop, PurgeKind, Step, Strategy};
