//! The relup: `releases/<release>/<version>.relup.toml`, the low-level scripts between releases.

use crate::codes;
use crate::diagnostic::Diagnostics;
use crate::keys::RELUP;
use crate::reader::{Reader, read};
use crate::record::Record;
use crate::source::{Located, Source, Span};
use crate::step::Step;
use crate::toml_text::quoted;
use semver::Version;
use std::collections::HashSet;

/// The scripts that lead to a release from earlier ones, and back.
#[derive(Debug, Clone)]
pub struct Relup {
    /// Name of the release.
    pub name: String,
    /// The release version that this leads to.
    pub version: Version,
    /// Whether the scripts were written by hand, and are not to be compared with the planner's.
    pub handwritten: bool,
    /// From earlier releases to this one.
    pub up: Vec<RelupEntry>,
    /// From this release back to earlier ones.
    pub down: Vec<RelupEntry>,
    /// The file it was read from; empty for a generated one.
    pub source: Source,
}

/// One script.
#[derive(Debug, Clone)]
pub struct RelupEntry {
    /// The release version at the other end.
    pub base: Version,
    /// Where that is written.
    pub span: Span,
    /// The steps, in order.
    pub script: Vec<Located<Step>>,
}

impl RelupEntry {
    /// The steps without their places.
    pub fn steps(&self) -> impl Iterator<Item = &Step> {
        self.script.iter().map(|step| &step.value)
    }
}

impl Relup {
    /// Reads a relup; `file` is only what diagnostics call it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Diagnostics> {
        read(file, text, RELUP, build)
    }

    /// The script from this release version up to the relup's.
    pub fn up_from(&self, version: &Version) -> Option<&RelupEntry> {
        self.up.iter().find(|entry| entry.base == *version)
    }

    /// The script from the relup's release version down to this one.
    pub fn down_to(&self, version: &Version) -> Option<&RelupEntry> {
        self.down.iter().find(|entry| entry.base == *version)
    }

    /// The relup as a file. The same relup gives the same text, byte for byte.
    pub fn to_toml(&self) -> String {
        self.to_toml_with(&[], |_, _| ScriptComments::default())
    }

    /// The same with comments: `head` at the top, and for each entry what `comments` gives; it is told whether the
    /// entry leads up.
    pub fn to_toml_with(
        &self,
        head: &[String],
        comments: impl Fn(&RelupEntry, bool) -> ScriptComments,
    ) -> String {
        let mut out = String::new();
        for line in head {
            comment(&mut out, "", line);
        }
        if !head.is_empty() {
            out.push('\n');
        }
        out.push_str(&format!(
            "name = {}\nversion = {}\n",
            quoted(&self.name),
            quoted(&self.version.to_string())
        ));
        if self.handwritten {
            out.push_str("handwritten = true\n");
        }
        for (list, other_end, entries) in [("up", "from", &self.up), ("down", "to", &self.down)] {
            for entry in entries {
                let said = comments(entry, list == "up");
                out.push('\n');
                for line in &said.head {
                    comment(&mut out, "", line);
                }
                out.push_str(&format!(
                    "[[{list}]]\n{other_end} = {}\nscript = [\n",
                    quoted(&entry.base.to_string())
                ));
                for (number, step) in entry.steps().enumerate() {
                    if let Some(line) = said.steps.get(number).and_then(Option::as_ref) {
                        comment(&mut out, "    ", line);
                    }
                    out.push_str(&format!("    {step},\n"));
                }
                out.push_str("]\n");
            }
        }
        out
    }
}

/// Comments of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScriptComments {
    /// Lines before the entry.
    pub head: Vec<String>,
    /// A line before each step that has one.
    pub steps: Vec<Option<String>>,
}

/// Writes a comment, in lines that are not too long; control characters would end it.
fn comment(out: &mut String, indent: &str, text: &str) {
    let mut line = String::new();
    let clean = text.replace(|c: char| c.is_control(), " ");
    for word in clean.split_whitespace() {
        if !line.is_empty() && line.chars().count() + word.chars().count() > 96 {
            out.push_str(&format!("{indent}# {line}\n"));
            line.clear();
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    out.push_str(&format!("{indent}# {line}\n"));
}

fn build(record: &Record, reader: &mut Reader) -> Option<Relup> {
    Some(Relup {
        name: record.text("name")?,
        version: record.version("version")?,
        handwritten: record.bool("handwritten").unwrap_or(false),
        up: entries(record, "up", "from", reader),
        down: entries(record, "down", "to", reader),
        source: reader.source.clone(),
    })
}

fn entries(record: &Record, list: &str, other_end: &str, reader: &mut Reader) -> Vec<RelupEntry> {
    let mut entries: Vec<RelupEntry> = Vec::new();
    let mut bases = HashSet::new();
    for (table, _) in record.tables(list) {
        let mut script = Vec::new();
        for (step, span) in table.tables("script") {
            if let Some(step) = Step::build(step, span, reader) {
                script.push(Located::new(step, span.clone()));
            }
        }
        let (Some(base), Some(span)) = (table.version(other_end), table.span(other_end)) else {
            continue;
        };
        if !bases.insert(base.clone()) {
            let message = format!("there are two `{list}` scripts for {base}");
            reader.report(
                codes::DUPLICATE,
                &span,
                message,
                "given before",
                "remove one of the two",
            );
        }
        entries.push(RelupEntry { base, span, script });
    }
    entries
}
