//! Values that were read and found right, before they become types.

use crate::source::{Located, Span};
use semver::{Version, VersionReq};
use std::time::Duration;

/// A value of the kind its key asks for.
#[derive(Debug, Clone)]
pub(crate) enum Val {
    Text(String),
    Version(Version),
    Requirement(VersionReq),
    Duration(Duration),
    Number(u64),
    Bool(bool),
    Free(toml::Table),
    List(Vec<Located<Val>>),
    Map(Vec<(Located<String>, Located<Val>)>),
    Table(Record),
}

/// A table whose keys are known. For a step, `verb` is its instruction's key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Record {
    pub(crate) verb: &'static str,
    pub(crate) low: bool,
    pub(crate) fields: Vec<(&'static str, Located<Val>)>,
    /// The keys that are there, those whose values are not right, too.
    pub(crate) given: Vec<&'static str>,
}

impl Record {
    pub(crate) fn get(&self, key: &str) -> Option<&Located<Val>> {
        self.fields
            .iter()
            .find(|(name, _)| *name == key)
            .map(|(_, value)| value)
    }

    /// Whether the key is there, whatever its value is.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.given.contains(&key)
    }

    pub(crate) fn span(&self, key: &str) -> Option<Span> {
        self.get(key).map(|value| value.span.clone())
    }

    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match &self.get(key)?.value {
            Val::Text(text) => Some(text.clone()),
            _ => None,
        }
    }

    pub(crate) fn version(&self, key: &str) -> Option<Version> {
        match &self.get(key)?.value {
            Val::Version(version) => Some(version.clone()),
            _ => None,
        }
    }

    pub(crate) fn requirement(&self, key: &str) -> Option<VersionReq> {
        match &self.get(key)?.value {
            Val::Requirement(requirement) => Some(requirement.clone()),
            _ => None,
        }
    }

    pub(crate) fn duration(&self, key: &str) -> Option<Duration> {
        match &self.get(key)?.value {
            Val::Duration(duration) => Some(*duration),
            _ => None,
        }
    }

    pub(crate) fn number(&self, key: &str) -> Option<u64> {
        match &self.get(key)?.value {
            Val::Number(number) => Some(*number),
            _ => None,
        }
    }

    pub(crate) fn bool(&self, key: &str) -> Option<bool> {
        match &self.get(key)?.value {
            Val::Bool(value) => Some(*value),
            _ => None,
        }
    }

    pub(crate) fn free(&self, key: &str) -> Option<toml::Table> {
        match &self.get(key)?.value {
            Val::Free(table) => Some(table.clone()),
            _ => None,
        }
    }

    pub(crate) fn table(&self, key: &str) -> Option<&Record> {
        match &self.get(key)?.value {
            Val::Table(record) => Some(record),
            _ => None,
        }
    }

    /// The elements of an array; none when the key is missing.
    pub(crate) fn list(&self, key: &str) -> &[Located<Val>] {
        match self.get(key).map(|value| &value.value) {
            Some(Val::List(list)) => list,
            _ => &[],
        }
    }

    /// The elements of an array of tables, with their places.
    pub(crate) fn tables(&self, key: &str) -> impl Iterator<Item = (&Record, &Span)> {
        self.list(key)
            .iter()
            .filter_map(|element| match &element.value {
                Val::Table(record) => Some((record, &element.span)),
                _ => None,
            })
    }

    /// The elements of an array of strings.
    pub(crate) fn texts(&self, key: &str) -> Vec<String> {
        let text = |element: &Located<Val>| match &element.value {
            Val::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.list(key).iter().filter_map(text).collect()
    }

    /// The entries of a table from names to values.
    pub(crate) fn map(&self, key: &str) -> &[(Located<String>, Located<Val>)] {
        match self.get(key).map(|value| &value.value) {
            Some(Val::Map(map)) => map,
            _ => &[],
        }
    }
}
