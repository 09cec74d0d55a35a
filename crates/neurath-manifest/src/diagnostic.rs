//! What is wrong with an input, where, and what to do next.

use crate::source::{Source, Span};
use serde_json::{Value, json};
use std::fmt;

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing can be made of the input until this is mended.
    Error,
    /// Worth a look; the result stands.
    Warning,
}

impl Severity {
    /// `error` or `warning`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A place in a file, with what there is to say of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub source: Source,
    /// The bytes meant; `None` for the whole file.
    pub span: Option<Span>,
    /// What stands beside the underlined text; may be empty.
    pub label: String,
    /// Whether the text may be shown; else only its line and column are: it may hold a secret.
    pub shown: bool,
}

/// One problem: a stable code, the place, the cause and the next thing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Stable: `M…` for what the reader finds, `P…` for what the planner finds.
    pub code: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What is wrong, in one sentence.
    pub message: String,
    /// Where; `None` when no file is concerned.
    pub place: Option<Place>,
    /// Other places that have a part in it.
    pub related: Vec<Place>,
    /// The next thing to do.
    pub help: Option<String>,
}

impl Diagnostic {
    /// An error without a place.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            place: None,
            related: Vec::new(),
            help: None,
        }
    }

    /// The same, as a warning.
    #[must_use]
    pub fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    /// Sets the place.
    #[must_use]
    pub fn at(mut self, source: &Source, span: Span, label: impl Into<String>) -> Self {
        self.place = Some(Place {
            source: source.clone(),
            span: Some(span),
            label: label.into(),
            shown: true,
        });
        self
    }

    /// Sets the place, whose text is not shown: it may hold a secret.
    #[must_use]
    pub fn at_unshown(self, source: &Source, span: Span) -> Self {
        let mut placed = self.at(source, span, "");
        if let Some(place) = &mut placed.place {
            place.shown = false;
        }
        placed
    }

    /// Sets the place to a whole file.
    #[must_use]
    pub fn in_file(mut self, source: &Source) -> Self {
        self.place = Some(Place {
            source: source.clone(),
            span: None,
            label: String::new(),
            shown: true,
        });
        self
    }

    /// Adds another place that has a part in it.
    #[must_use]
    pub fn related(
        mut self,
        source: &Source,
        span: Option<Span>,
        label: impl Into<String>,
    ) -> Self {
        self.related.push(Place {
            source: source.clone(),
            span,
            label: label.into(),
            shown: true,
        });
        self
    }

    /// Sets the next thing to do.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The file that the diagnostic is about.
    pub fn file(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.source.file())
    }

    /// The bytes meant in that file.
    pub fn span(&self) -> Option<Span> {
        self.place.as_ref().and_then(|place| place.span.clone())
    }

    /// Code, message and file, without a line of what the file says: for logs that others may read.
    pub fn brief(&self) -> String {
        match self.file() {
            Some(file) => format!("{}: {} ({file})", self.code, self.message),
            None => format!("{}: {}", self.code, self.message),
        }
    }

    /// As text in the manner of rustc, without colour.
    pub fn render(&self) -> String {
        crate::render::render(self, false)
    }

    /// As text in the manner of rustc, with terminal colours.
    pub fn render_coloured(&self) -> String {
        crate::render::render(self, true)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({
            "code": self.code,
            "severity": self.severity.as_str(),
            "message": self.message,
            "place": self.place.as_ref().map(Place::to_json),
            "related": self.related.iter().map(Place::to_json).collect::<Vec<_>>(),
            "help": self.help,
        })
    }
}

impl Place {
    fn to_json(&self) -> Value {
        let span = self.span.as_ref().map(|span| {
            let (line, column) = self.source.line_column(span.start);
            json!({ "start": span.start, "end": span.end, "line": line, "column": column })
        });
        json!({ "file": self.source.file(), "span": span, "label": self.label })
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render())
    }
}

/// All that was found, in the order of finding.
#[derive(Debug, Clone, Default, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.render())]
pub struct Diagnostics(Vec<Diagnostic>);

impl Diagnostics {
    /// Codes, messages and files, without a line of what the files say: for logs that others may
    /// read.
    pub fn brief(&self) -> String {
        let all: Vec<String> = self.iter().map(Diagnostic::brief).collect();
        all.join("; ")
    }

    /// The diagnostics, in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.0.iter()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The codes, in order.
    pub fn codes(&self) -> Vec<&'static str> {
        self.0.iter().map(|one| one.code).collect()
    }

    /// All as text, an empty line between two.
    pub fn render(&self) -> String {
        self.0
            .iter()
            .map(Diagnostic::render)
            .collect::<Vec<_>>()
            .join("\n\n")
    }

    /// All as text, with terminal colours.
    pub fn render_coloured(&self) -> String {
        self.0
            .iter()
            .map(Diagnostic::render_coloured)
            .collect::<Vec<_>>()
            .join("\n\n")
    }

    /// All as a JSON array.
    pub fn to_json(&self) -> Value {
        Value::Array(self.0.iter().map(Diagnostic::to_json).collect())
    }
}

impl From<Vec<Diagnostic>> for Diagnostics {
    fn from(all: Vec<Diagnostic>) -> Self {
        Self(all)
    }
}

impl From<Diagnostic> for Diagnostics {
    fn from(one: Diagnostic) -> Self {
        Self(vec![one])
    }
}

impl IntoIterator for Diagnostics {
    type Item = Diagnostic;
    type IntoIter = std::vec::IntoIter<Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}
