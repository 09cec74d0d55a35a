//! `[lints]`: how much a finding matters here, and why.

use crate::record::{Record, Val};
use crate::source::Span;

/// How much a finding matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LintLevel {
    /// It is not reported.
    Allow,
    /// It is reported; the result stands.
    Warn,
    /// There is no result until it is mended or allowed.
    Deny,
}

impl LintLevel {
    /// As in the file.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// One line of `[lints]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LintSetting {
    /// The code of the lint: a capital letter and three digits.
    pub code: String,
    /// The level that it has here.
    pub level: LintLevel,
    /// Why. Never empty.
    pub reason: String,
    /// The components it holds for; all if none is named.
    pub components: Vec<String>,
    /// Where the code is written.
    pub span: Span,
}

impl LintSetting {
    /// Whether it holds for a finding with this code about this component.
    pub fn holds(&self, code: &str, component: Option<&str>) -> bool {
        self.code == code
            && (self.components.is_empty()
                || component.is_some_and(|name| self.components.iter().any(|one| one == name)))
    }
}

/// The settings of a file.
pub(crate) fn settings(record: &Record) -> Vec<LintSetting> {
    let mut settings = Vec::new();
    for (code, value) in record.map("lints") {
        let Val::Table(table) = &value.value else {
            continue;
        };
        let (Some(level), Some(reason)) = (table.text("level"), table.text("reason")) else {
            continue;
        };
        settings.push(LintSetting {
            code: code.value.clone(),
            level: match level.as_str() {
                "allow" => LintLevel::Allow,
                "warn" => LintLevel::Warn,
                _ => LintLevel::Deny,
            },
            reason,
            components: table.texts("components"),
            span: code.span.clone(),
        });
    }
    settings
}
