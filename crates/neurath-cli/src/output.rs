//! Results on stdout, progress on stderr.

use serde_json::Value;
use std::io::{self, IsTerminal as _, Write as _};

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum MessageFormat {
    /// For people.
    #[default]
    Human,
    /// One JSON object a line.
    Json,
}

/// Where a command writes.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    json: bool,
    colour: bool,
}

impl Output {
    /// For this format; coloured on a terminal, unless `NO_COLOR` is set.
    #[must_use]
    pub fn new(format: MessageFormat) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            json: format == MessageFormat::Json,
            colour: !refused && io::stderr().is_terminal(),
        }
    }

    /// Whether results are JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.json
    }

    /// Whether stderr takes colours.
    #[must_use]
    pub fn colour(&self) -> bool {
        self.colour
    }

    /// Writes a result for people; nothing where results are JSON.
    pub fn text(&self, text: &str) {
        if !self.json {
            line(text);
        }
    }

    /// Writes a result as one line; nothing where results are for people.
    pub fn json(&self, value: &Value) {
        if self.json {
            line(&value.to_string());
        }
    }

    /// Says what is being done.
    pub fn progress(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let _ = if self.colour {
            writeln!(stderr, "\x1b[2m{text}\x1b[0m")
        } else {
            writeln!(stderr, "{text}")
        };
    }

    /// Says what went wrong.
    pub fn error(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        let text = text.trim_end();
        // A rendered diagnostic says itself that it is an error.
        let head = if text.starts_with("error") || text.contains("\x1b[") {
            ""
        } else {
            "error: "
        };
        let _ = writeln!(stderr, "{head}{text}");
    }
}

fn line(text: &str) {
    // Nobody reads on: no reason to stop what is being done to a node.
    let _ = writeln!(io::stdout().lock(), "{}", text.trim_end());
}
